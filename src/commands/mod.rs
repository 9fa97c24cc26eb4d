//! What the commands do.

pub(crate) mod check;
pub(crate) mod credential;
pub(crate) mod probe;
pub(crate) mod serve;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, Loaded, StateFolder};
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

/// Writes to standard output. A reader that has gone away wants no more, and that is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
