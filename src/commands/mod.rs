//! What the commands do.

pub(crate) mod check;
pub(crate) mod credential;
pub(crate) mod probe;
pub(crate) mod serve;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;

use crate::certificates::{Facts, Sources, facts_at, kept_at};
use crate::config::{self, CertificateFiles, Loaded, Resolved, StateFolder};
use crate::secret::Secret;
use crate::state;

/// Reads the configuration with the process's environment over it.
fn load(path: Option<&Path>) -> anyhow::Result<Loaded> {
    Ok(config::load(path, env::vars_os())?)
}

fn state_folder(configured: &StateFolder) -> anyhow::Result<PathBuf> {
    state::folder(configured, |name| env::var_os(name))
        .context("state_folder: the environment names no folder for state; set an absolute path")
}

/// The secret that credentials are minted with: the configured one, or the one that a first run
/// kept.
fn minting_secret(loaded: &Loaded) -> anyhow::Result<Secret> {
    let auth = &loaded.config.auth;
    if let Some(secret) = auth.signing_secret() {
        return Ok(secret.clone());
    }
    let origin = &loaded.origin;
    if !auth.is_empty() {
        anyhow::bail!("{origin}: auth.rest_secrets: is empty; time-limited credentials need one");
    }
    let folder = state_folder(&loaded.config.state_folder)?;
    state::read_rest_secret(&folder)?.with_context(|| {
        let folder = folder.display();
        format!("{origin}: auth.rest_secrets: is empty, and no first run kept a secret in {folder}")
    })
}

/// The files of the certificates, where there are any or will be.
fn certificate_sources(resolved: &Resolved) -> anyhow::Result<Option<Sources>> {
    let tls = &resolved.config.tls;
    let pairs = match tls.makes_certificate() {
        false => tls.certificates.clone(),
        true => {
            let path = kept_at(&state_folder(&resolved.config.state_folder)?);
            vec![CertificateFiles { certificate: path.clone(), key: path }]
        }
    };
    let is_dtls = |listener: &Listen| listener.protocol == TransportProtocol::Dtls;
    let serves_dtls = resolved.listen.iter().any(is_dtls);
    let client_ca = tls.client_ca.clone();
    Ok((!pairs.is_empty()).then_some(Sources { pairs, client_ca, serves_dtls }))
}

/// What the certificate says of itself that is shown to clients which name none, where it can be
/// read.
fn first_certificate(resolved: &Resolved) -> Option<Facts> {
    let sources = certificate_sources(resolved).ok()??;
    facts_at(&sources.pairs.first()?.certificate)
}

/// Writes to standard output. A reader that has gone away wants no more, and that is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
