//! What the commands do.

pub(crate) mod check;
pub(crate) mod credential;
pub(crate) mod probe;
pub(crate) mod realm;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod store;
mod table;
pub(crate) mod token_key;
pub(crate) mod user;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use actix_rt::System;
use anyhow::Context;
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;

use crate::certificates::{Facts, Sources, facts_at, kept_at};
use crate::config::{self, CertificateFiles, Loaded, Resolved, Sources as Origins, StateFolder};
use crate::secret::Secret;
use crate::sources::{Opened, takes_first_secret};
use crate::state;
use store::Failed;

/// Reads the configuration with the process's environment over it.
fn load(path: Option<&Path>) -> anyhow::Result<Loaded> {
    Ok(config::load(path, env::vars_os())?)
}

fn state_folder(configured: &StateFolder) -> anyhow::Result<PathBuf> {
    state::folder(configured, |name| env::var_os(name))
        .context("state_folder: the environment names no folder for state; set an absolute path")
}

/// The secret that credentials of `realm` are minted with: a configured one, one of a store, or the
/// one that a first run kept.
fn minting_secret(loaded: &Loaded, realm: &str) -> anyhow::Result<Secret> {
    let config = &loaded.config;
    if let Some(secret) = config.signing_secret(realm) {
        return Ok(secret.clone());
    }
    let origin = &loaded.origin;
    let folder = state_folder(&config.state_folder);
    if let Some(secret) = secret_of_sources(loaded, realm, folder.as_deref().ok())? {
        return Ok(secret);
    }
    let is_first_run = realm == config.realm
        && folder.as_ref().is_ok_and(|folder| takes_first_secret(config, folder));
    if !is_first_run {
        anyhow::bail!(
            "{origin}: auth.rest_secrets: is empty, and no store has a secret of {realm}; \
             time-limited credentials need one"
        );
    }
    let folder = folder?;
    state::read_rest_secret(&folder)?.with_context(|| {
        let folder = folder.display();
        format!("{origin}: auth.rest_secrets: is empty, and no first run kept a secret in {folder}")
    })
}

/// A secret of the file of secrets or of the first store that has one.
fn secret_of_sources(
    loaded: &Loaded,
    realm: &str,
    folder: Option<&Path>,
) -> anyhow::Result<Option<Secret>> {
    let (config, origin) = (&loaded.config, loaded.origin.to_string());
    System::new().block_on(async {
        let opened = Opened::default().look(config, folder).await;
        let Origins { stores, rest_secrets } = opened.map_err(|error| error.at(&origin))?.sources;
        if let Some(secret) = rest_secrets.into_iter().next().filter(|_| realm == config.realm) {
            return Ok(Some(secret));
        }
        for store in stores {
            let found = store.rest_secrets(realm.into()).await;
            let found = found.map_err(|error| Failed(format!("{}: {error}", store.label())))?;
            // The newest comes first; it is the one that is not about to be rotated out.
            let newest = found.into_iter().next();
            if let Some(secret) = newest.and_then(|bytes| String::from_utf8(bytes).ok()) {
                return Ok(Some(Secret::new(secret)));
            }
        }
        Ok(None)
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
