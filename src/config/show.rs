//! Writes a resolved configuration as turn.yaml, without its secrets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use sterna_actors::config::Listen;

use super::checked::{Limits, LogFormat, UserSecret};
use super::resolve::Resolved;
use super::values::show_size;
use super::ways_in::{CertificateFiles, Tls};
use crate::secret::SHOWN;

/// The resolved configuration as YAML: what an operator would write to get exactly this.
pub fn show(resolved: &Resolved, state_folder: &Path) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&Shown::of(resolved, state_folder))
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a str,
    listen: Vec<ShownListen>,
    tls: ShownTls<'a>,
    workers: usize,
    relay: ShownRelay<'a>,
    auth: ShownAuth<'a>,
    lifetimes: BTreeMap<&'static str, String>,
    peers: BTreeMap<&'static str, Vec<String>>,
    limits: ShownLimits,
    stun: ShownStun<'a>,
    log: ShownLog,
    state_folder: &'a Path,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownListen {
    Url(String),
    BehindProxy { url: String, proxy_protocol: bool, trusted: Vec<String> },
}

#[derive(Serialize)]
struct ShownTls<'a> {
    certificates: Vec<ShownCertificate<'a>>,
    client_ca: &'a Path,
    self_signed: bool,
}

#[derive(Serialize)]
struct ShownCertificate<'a> {
    certificate: &'a Path,
    key: &'a Path,
}

#[derive(Serialize)]
struct ShownRelay<'a> {
    addresses: &'a [IpAddr],
    external: BTreeMap<String, IpAddr>,
    ports: String,
    tcp: bool,
    device: &'a str,
}

#[derive(Serialize)]
struct ShownAuth<'a> {
    users: BTreeMap<&'a str, ShownUser>,
    rest_secrets: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownUser {
    Password(&'static str),
    Keys {
        #[serde(skip_serializing_if = "Option::is_none")]
        md5_key: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256_key: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct ShownLimits {
    sessions_per_listener: usize,
    permissions_per_allocation: usize,
    channels_per_allocation: usize,
    connections_per_allocation: usize,
    unauthenticated_answers_per_second: u32,
    connections_per_listener: usize,
    unproved_connections_per_listener: usize,
    unproved_connections_per_source: usize,
    connection_setup: String,
    stream_buffer: String,
}

#[derive(Serialize)]
struct ShownStun<'a> {
    software: &'a str,
    rfc5766_channel_numbers: bool,
}

#[derive(Serialize)]
struct ShownLog {
    level: String,
    format: &'static str,
}

impl<'a> Shown<'a> {
    fn of(resolved: &'a Resolved, state_folder: &'a Path) -> Shown<'a> {
        let config = &resolved.config;
        Shown {
            realm: &config.realm,
            listen: resolved.listen.iter().map(ShownListen::from).collect(),
            tls: ShownTls::of(&config.tls),
            workers: resolved.workers,
            relay: ShownRelay::of(resolved),
            auth: ShownAuth {
                users: config
                    .auth
                    .users
                    .iter()
                    .map(|(name, user)| (name.as_str(), user.into()))
                    .collect(),
                rest_secrets: config.auth.rest_secrets.iter().map(|_| SHOWN).collect(),
            },
            lifetimes: lifetimes(resolved),
            peers: BTreeMap::from([
                ("allow", config.peers.allow.iter().map(ToString::to_string).collect()),
                ("deny", config.peers.deny.iter().map(ToString::to_string).collect()),
            ]),
            limits: ShownLimits::from(&config.limits),
            stun: ShownStun {
                software: config.stun.software.as_deref().unwrap_or_default(),
                rfc5766_channel_numbers: config.stun.rfc5766_channel_numbers,
            },
            log: ShownLog {
                level: config.log.level.as_str().to_lowercase(),
                format: match config.log.format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                },
            },
            state_folder,
        }
    }
}

impl From<&Listen> for ShownListen {
    fn from(listener: &Listen) -> Self {
        let url = listener.to_string();
        match &listener.proxy {
            None => ShownListen::Url(url),
            Some(trusted) => ShownListen::BehindProxy {
                url,
                proxy_protocol: true,
                trusted: trusted.iter().map(ToString::to_string).collect(),
            },
        }
    }
}

impl<'a> ShownTls<'a> {
    fn of(tls: &'a Tls) -> ShownTls<'a> {
        let shown = |files: &'a CertificateFiles| ShownCertificate {
            certificate: &files.certificate,
            key: &files.key,
        };
        ShownTls {
            certificates: tls.certificates.iter().map(shown).collect(),
            client_ca: tls.client_ca.as_deref().unwrap_or(Path::new("")),
            self_signed: tls.self_signed,
        }
    }
}

impl From<&Limits> for ShownLimits {
    fn from(limits: &Limits) -> Self {
        ShownLimits {
            sessions_per_listener: limits.sessions_per_listener,
            permissions_per_allocation: limits.permissions_per_allocation,
            channels_per_allocation: limits.channels_per_allocation,
            connections_per_allocation: limits.connections_per_allocation,
            unauthenticated_answers_per_second: limits.unauthenticated_answers_per_second,
            connections_per_listener: limits.connections_per_listener,
            unproved_connections_per_listener: limits.unproved_connections_per_listener,
            unproved_connections_per_source: limits.unproved_connections_per_source,
            connection_setup: seconds(limits.connection_setup),
            stream_buffer: show_size(limits.stream_buffer),
        }
    }
}

impl<'a> ShownRelay<'a> {
    fn of(resolved: &'a Resolved) -> ShownRelay<'a> {
        let relay = &resolved.config.relay;
        ShownRelay {
            addresses: &resolved.relay_addresses,
            external: relay.external.iter().map(|(from, to)| (from.to_string(), *to)).collect(),
            ports: format!("{}-{}", relay.ports.start(), relay.ports.end()),
            tcp: relay.tcp,
            device: relay.device.as_deref().unwrap_or_default(),
        }
    }
}

impl From<&UserSecret> for ShownUser {
    fn from(user: &UserSecret) -> Self {
        match user {
            UserSecret::Password(_) => ShownUser::Password(SHOWN),
            UserSecret::Keys { md5, sha256 } => ShownUser::Keys {
                md5_key: md5.as_ref().map(|_| SHOWN),
                sha256_key: sha256.as_ref().map(|_| SHOWN),
            },
        }
    }
}

fn lifetimes(resolved: &Resolved) -> BTreeMap<&'static str, String> {
    let lifetimes = &resolved.config.lifetimes;
    BTreeMap::from([
        ("allocation", seconds(lifetimes.allocation)),
        ("allocation_max", seconds(lifetimes.allocation_max)),
        ("permission", seconds(lifetimes.permission)),
        ("channel", seconds(lifetimes.channel)),
        ("nonce", seconds(lifetimes.nonce)),
        ("reservation", seconds(lifetimes.reservation)),
    ])
}

fn seconds(span: Duration) -> String {
    format!("{}s", span.as_secs())
}
