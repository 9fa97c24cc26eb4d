//! Makes of certificates what TLS and DTLS clients are shown.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sterna_actors::tls::{TlsTerms, stream_config};

use super::by_name::ByName;
use super::pair::{self, Pair};
use super::{Facts, FileText};
use crate::config::Fault;

/// The terms of `pairs`, and what the certificates say of themselves.
pub(super) fn of(
    pairs: Vec<Pair>,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<(TlsTerms, Vec<Facts>), Fault> {
    let none = || Fault::new("tls.certificates", "is empty");
    let by_name = ByName::new(&pairs).ok_or_else(none)?;
    let datagrams = pairs.first().ok_or_else(none)?.identity.clone();
    let asks_clients = authorities.is_some();
    let stream = stream_config(Arc::new(by_name), authorities)
        .map_err(|cause| Fault::new("tls", &cause.to_string()))?;
    let terms = TlsTerms { stream: Arc::new(stream), datagrams, asks_clients };
    Ok((terms, pairs.into_iter().map(|pair| pair.facts).collect()))
}

/// Reads the authorities that client certificates have to come from.
pub(super) fn authorities(
    path: &Path,
    text: &FileText,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let fault = |why: &str| Fault::new("tls.client_ca", &format!("{}: {why}", path.display()));
    let text = text.as_ref().map_err(|cause| fault(cause))?;
    let mut roots = RootCertStore::empty();
    for authority in pair::certificates(text).map_err(|why| fault(&why))? {
        roots.add(authority).map_err(|_| fault("a certificate in it does not parse"))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|cause| fault(&cause.to_string()))
}
