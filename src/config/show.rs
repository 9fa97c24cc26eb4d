//! Writes a resolved configuration as turn.yaml, without its secrets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::checked::{LogFormat, UserSecret};
use super::resolve::Resolved;
use crate::secret::SHOWN;

/// The resolved configuration as YAML: what an operator would write to get exactly this.
pub fn show(resolved: &Resolved, state_folder: &Path) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&Shown::of(resolved, state_folder))
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a str,
    listen: Vec<String>,
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
struct ShownRelay<'a> {
    addresses: &'a [IpAddr],
    external: BTreeMap<String, IpAddr>,
    ports: String,
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
    unauthenticated_answers_per_second: u32,
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
            listen: resolved.listen.iter().map(|address| format!("udp://{address}")).collect(),
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
            limits: ShownLimits {
                sessions_per_listener: config.limits.sessions_per_listener,
                permissions_per_allocation: config.limits.permissions_per_allocation,
                channels_per_allocation: config.limits.channels_per_allocation,
                unauthenticated_answers_per_second: config
                    .limits
                    .unauthenticated_answers_per_second,
            },
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

impl<'a> ShownRelay<'a> {
    fn of(resolved: &'a Resolved) -> ShownRelay<'a> {
        let relay = &resolved.config.relay;
        ShownRelay {
            addresses: &resolved.relay_addresses,
            external: relay.external.iter().map(|(from, to)| (from.to_string(), *to)).collect(),
            ports: format!("{}-{}", relay.ports.start(), relay.ports.end()),
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
    let seconds = |span: Duration| format!("{}s", span.as_secs());
    BTreeMap::from([
        ("allocation", seconds(lifetimes.allocation)),
        ("allocation_max", seconds(lifetimes.allocation_max)),
        ("permission", seconds(lifetimes.permission)),
        ("channel", seconds(lifetimes.channel)),
        ("nonce", seconds(lifetimes.nonce)),
        ("reservation", seconds(lifetimes.reservation)),
    ])
}
