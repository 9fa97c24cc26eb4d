//! `sterna credential`: mints a time-limited credential.

use std::process::ExitCode;

use anyhow::{Context, bail};
use sterna_actors::clock::unix_now;
use sterna_proto::credentials::opaque_string;

use super::{first_certificate, load, minting_secret, print};
use crate::cli::CredentialArgs;
use crate::config::{LoadError, Loaded, resolve};
use crate::credential::{RtcConfiguration, mint, urls};
use crate::machine::Machine;
use crate::state;

pub(crate) fn run(args: &CredentialArgs) -> anyhow::Result<ExitCode> {
    if opaque_string(&args.user).is_err() || args.user.len() > NAME_MAX {
        bail!("--user: {:?} is not a user name (RFC 8265, at most {NAME_MAX} bytes)", args.user);
    }
    let loaded = load(args.config.path.as_deref())?;
    let secret = match &args.secret_file {
        None => {
            let realm = args.realm.as_deref().unwrap_or(&loaded.config.realm);
            minting_secret(&loaded, realm)?
        }
        Some(path) => {
            let (secret, is_public) = state::secret_file(path).context("--secret-file")?;
            if is_public {
                let path = path.display();
                eprintln!(
                    "sterna: warning: {path}: every user of this machine may read it; chmod 600 it"
                );
            }
            secret
        }
    };
    let urls = if args.urls.is_empty() { listener_urls(loaded)? } else { args.urls.clone() };
    let credential = mint(&secret, args.algorithm, &args.user, unix_now(), args.ttl);
    print(&format!("{}\n", RtcConfiguration::new(urls, &credential).to_json()))
        .context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// The URLs of the configured listeners.
fn listener_urls(loaded: Loaded) -> anyhow::Result<Vec<String>> {
    let origin = loaded.origin.to_string();
    let machine = Machine::inspect().context("network interfaces")?;
    let resolved = resolve(loaded.config, &machine)
        .map_err(|fault| LoadError::Fault { origin: origin.clone(), fault })?;
    let direct = resolved.listen.iter().filter(|listener| listener.proxy.is_none());
    let mut listeners = Vec::new();
    for listener in direct {
        if listener.address.port() == 0 {
            bail!("{origin}: listen: {listener} has a port of any number; name it with --url");
        }
        listeners.extend(resolved.as_clients_see(listener, &machine));
    }
    let urls = urls(&listeners, first_certificate(&resolved).as_ref());
    if urls.is_empty() {
        bail!("{origin}: listen: no URL follows from it for browsers; name one with --url");
    }
    Ok(urls)
}

/// What of USERNAME's 508 bytes is left beside the time of expiry.
const NAME_MAX: usize = 480;
