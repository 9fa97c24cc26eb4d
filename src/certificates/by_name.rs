//! Chooses the certificate that a client is shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Name;
use super::pair::Pair;

/// Certificates by the name that the client asks for (SNI); the first one for all other clients.
pub(super) struct ByName {
    default: Arc<CertifiedKey>,
    /// Names, and domains behind `*.`; under each those certificates that were listed for it.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    /// `None` without any certificate.
    pub(super) fn new(pairs: &[Pair]) -> Option<ByName> {
        let default = pairs.first()?.certified.clone();
        let mut named: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for pair in pairs {
            for name in &pair.facts.names {
                if let Name::Dns(name) = name {
                    named.entry(name.clone()).or_default().push(pair.certified.clone());
                }
            }
        }
        Some(ByName { default, named })
    }

    /// The certificates for a name: those that have it, else those of `*.` and its domain
    /// (RFC 6125 §6.4.3: the asterisk stands for one label).
    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let by_wildcard = || {
            let (_, domain) = name.split_once('.')?;
            self.named.get(&format!("*.{domain}"))
        };
        self.named.get(&name).or_else(by_wildcard).map(Vec::as_slice).unwrap_or_default()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let listed = hello.server_name().map(|name| self.named(name)).unwrap_or_default();
        // For one name there can be an RSA certificate beside an ECDSA one.
        let schemes = hello.signature_schemes();
        let usable = listed.iter().find(|certified| certified.key.choose_scheme(schemes).is_some());
        Some(usable.unwrap_or(&self.default).clone())
    }
}

// Keys must not reach a log by way of `{:?}`.
impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByName(..)")
    }
}
