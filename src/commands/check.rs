//! `sterna check`: reads and checks the configuration, and prints what it comes to on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use actix_rt::System;
use anyhow::Context;
use sterna_actors::clock::unix_now;
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;

use super::store::contents;
use super::{certificate_sources, load, print, state_folder};
use crate::certificates::Facts;
use crate::cli::{ConfigArg, UNUSABLE};
use crate::config::{DTLS, LoadError, Resolved, by_socket, resolve, show};
use crate::machine::Machine;
use crate::sources::Opened;

pub(crate) fn run(args: &ConfigArg) -> anyhow::Result<ExitCode> {
    let loaded = load(args.path.as_deref())?;
    let origin = loaded.origin.to_string();
    let machine = Machine::inspect().context("network interfaces")?;
    let fault = |fault| LoadError::Fault { origin: origin.clone(), fault };
    let resolved = resolve(loaded.config, &machine).map_err(fault)?;

    let mut warnings = loaded.warnings;
    warnings.extend(resolved.warnings.iter().cloned());
    // A configuration may be checked before it is brought to the machine that will serve with it.
    warnings.extend(resolved.check_relay_addresses().err().map(|fault| fault.to_string()));
    let folder = state_folder(&resolved.config.state_folder).unwrap_or_else(|error| {
        warnings.push(error.to_string());
        PathBuf::new()
    });
    let (stores, of_sources) = stores(&resolved, &folder, &origin)?;
    warnings.extend(of_sources);
    let certificates = certificates(&resolved)?.transpose().map_err(fault)?;
    let facts = certificates.as_deref().unwrap_or_default();
    let near = facts.iter().filter_map(|facts| facts.warning(unix_now()));
    warnings.extend(near.map(|warning| format!("tls.certificates: {warning}")));
    for warning in &warnings {
        eprintln!("sterna: warning: {warning}");
    }

    let mut text = format!("# {origin}\n");
    for variable in &loaded.variables {
        text.push_str(&format!("# {variable}\n"));
    }
    text.push_str(&show(&resolved, &folder).context("configuration as YAML")?);
    text.push_str(&sockets(&resolved));
    text.push_str(&stores);
    text.push_str(&ends(&resolved, certificates.as_deref()));
    print(&text).context("standard output")?;
    // The server would start, but no client would have it.
    let is_over = facts.iter().any(|facts| facts.is_expired(unix_now()));
    Ok(if is_over { ExitCode::from(UNUSABLE) } else { ExitCode::SUCCESS })
}

/// What is in the stores, each of which has to answer, and what there is to warn of.
fn stores(
    resolved: &Resolved,
    folder: &Path,
    origin: &str,
) -> anyhow::Result<(String, Vec<String>)> {
    let config = &resolved.config;
    let at = Some(folder).filter(|folder| !folder.as_os_str().is_empty());
    System::new().block_on(async {
        let opened = Opened::default().look(config, at).await;
        let warnings = opened.map_err(|error| error.at(origin))?.warnings;
        let mut text = String::new();
        for store in &config.auth.stores {
            let line = contents(store, at).await?;
            text.push_str(&format!("#   {line}\n"));
        }
        let text = if text.is_empty() { text } else { format!("# stores:\n{text}") };
        Ok((text, warnings))
    })
}

/// What the certificates say of themselves, where there are any yet.
fn certificates(
    resolved: &Resolved,
) -> anyhow::Result<Option<Result<Vec<Facts>, crate::config::Fault>>> {
    let Some(sources) = certificate_sources(resolved)? else { return Ok(None) };
    let is_to_be_made = resolved.config.tls.makes_certificate()
        && sources.pairs.iter().all(|files| !files.certificate.exists());
    if is_to_be_made {
        return Ok(None);
    }
    let loaded = sources.load(&sources.read());
    Ok(Some(loaded.map(|loaded| loaded.certificates)))
}

/// The listening sockets and what is understood at each.
fn sockets(resolved: &Resolved) -> String {
    let tls = &resolved.config.tls;
    let (has_certificate, asks_clients) = (tls.has_certificate(), tls.client_ca.is_some());
    let line = |socket: Listen| {
        let plain =
            |l: &Listen| l.address == socket.address && l.protocol == TransportProtocol::Tcp;
        let understood = match (socket.protocol.is_stream(), has_certificate) {
            (true, true) if asks_clients && !resolved.listen.iter().any(plain) => "TCP: tls",
            (true, true) => "TCP: tcp, tls",
            (true, false) => "TCP: tcp",
            (false, true) if DTLS && !asks_clients => "UDP: udp, dtls",
            (false, true | false) => "UDP: udp",
        };
        let behind = if socket.proxy.is_some() { ", behind the PROXY protocol" } else { "" };
        format!("#   {} {understood}{behind}\n", socket.address)
    };
    let lines: String = by_socket(&resolved.listen).into_iter().map(line).collect();
    format!("# sockets, each for every worker:\n{lines}")
}

/// For whom the certificates are, and until when.
fn ends(resolved: &Resolved, certificates: Option<&[Facts]>) -> String {
    let line = |facts: &Facts| {
        let path = facts.path.display();
        format!("#   {path}: {}: {}\n", facts.names(), facts.end(unix_now()))
    };
    match certificates {
        Some(certificates) => {
            let lines: String = certificates.iter().map(line).collect();
            format!("# certificates:\n{lines}")
        }
        None if resolved.config.tls.makes_certificate() => {
            "# certificates: one is made at the first start\n".to_owned()
        }
        None => String::new(),
    }
}
