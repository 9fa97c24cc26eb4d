//! Writes a resolved configuration as turn.yaml, without its secrets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use sterna_actors::config::Listen;

use super::checked::{Limits, LogFormat};
use super::resolve::Resolved;
use super::show_access::{ShownAuth, ShownPeers, ShownQuotas, ShownRealm};
use super::values::show_size;
use super::ways_in::{CertificateFiles, Tls};

/// The resolved configuration as YAML: what an operator would write to get exactly this.
pub fn show(resolved: &Resolved, state_folder: &Path) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&Shown::of(resolved, state_folder))
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a str,
    realms: BTreeMap<&'a str, ShownRealm<'a>>,
    listen: Vec<ShownListen>,
    tls: ShownTls<'a>,
    workers: usize,
    wake_interval: String,
    relay: ShownRelay<'a>,
    auth: ShownAuth<'a>,
    lifetimes: BTreeMap<&'static str, String>,
    peers: ShownPeers,
    limits: ShownLimits,
    stun: ShownStun<'a>,
    log: ShownLog,
    state_folder: &'a Path,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownListen {
    Url(String),
    Map(ShownListenMap),
}

#[derive(Serialize)]
struct ShownListenMap {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted: Option<Vec<String>>,
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
struct ShownLimits {
    #[serde(flatten)]
    quotas: ShownQuotas,
    failed_logins_per_minute: u32,
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
            realms: config
                .realms
                .iter()
                .map(|(name, realm)| (name.as_str(), ShownRealm::from(realm)))
                .collect(),
            listen: resolved.listen.iter().map(ShownListen::from).collect(),
            tls: ShownTls::of(&config.tls),
            workers: resolved.workers,
            wake_interval: humantime::format_duration(config.wake_interval).to_string(),
            relay: ShownRelay::of(resolved),
            auth: ShownAuth::from(&config.auth),
            lifetimes: lifetimes(resolved),
            peers: ShownPeers::from(&config.peers),
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
        if listener.proxy.is_none() && listener.realm.is_none() {
            return ShownListen::Url(url);
        }
        let trusted = listener.proxy.as_ref();
        ShownListen::Map(ShownListenMap {
            url,
            realm: listener.realm.as_deref().map(str::to_owned),
            proxy_protocol: trusted.map(|_| true),
            trusted: trusted.map(|nets| nets.iter().map(ToString::to_string).collect()),
        })
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
            quotas: ShownQuotas::from(&limits.quotas),
            failed_logins_per_minute: limits.failed_logins_per_minute,
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

pub(super) fn seconds(span: Duration) -> String {
    format!("{}s", span.as_secs())
}
