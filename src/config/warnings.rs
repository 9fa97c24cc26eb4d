//! What an operator should look at although it is valid.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use slog::Level;
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;
use sterna_proto::peer_rules::{Denied, External, PeerLists, PeerRules, RelayAddresses};

use super::access::{Peers, User, UserSecret};
use super::checked::{Config, LogConfig};
use super::raw::RawConfig;
use crate::secret::Secret;

pub(super) fn of(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.realm == RawConfig::default().realm.text() {
        let realm = &config.realm;
        warnings.push(format!("realm: {realm} is the example; name your own domain"));
    }
    peers("peers", &config.peers, &mut warnings);
    for (name, realm) in &config.realms {
        peers(&format!("realms.{name}.peers"), &realm.peers, &mut warnings);
    }
    secrets(config, &mut warnings);
    listeners(config, &mut warnings);
    ways_in(config, &mut warnings);
    lifetimes(config, &mut warnings);
    log(&config.log, &mut warnings);
    warnings
}

fn peers(key: &str, peers: &Peers, warnings: &mut Vec<String>) {
    let built_in = built_in_rules();
    for network in &peers.allow {
        let kinds = opened(&built_in, network);
        if !kinds.is_empty() {
            let kinds = kinds.join(", ");
            warnings.push(format!(
                "{key}.allow: {network} lets clients reach addresses that are {kinds}"
            ));
        }
    }
}

/// The kinds of address in `network` that nobody could reach without it.
fn opened(built_in: &PeerRules, network: &IpNet) -> Vec<&'static str> {
    // Two networks that overlap lie one inside the other: either this one starts inside a denied
    // one, or an address of the denied one is inside this one.
    let inside = INSIDE_DENIED.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    let candidates = inside.filter(|ip| network.contains(ip)).chain([network.network()]);
    let mut kinds: Vec<_> = candidates
        .filter_map(|ip| match built_in.check_ip(ip) {
            Err(Denied::BuiltIn(kind)) => Some(kind),
            Err(Denied::Listed(..) | Denied::Own(_)) | Ok(()) => None,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn built_in_rules() -> PeerRules {
    let nothing = RelayAddresses { ips: Vec::new(), ports: 1..=1 };
    PeerRules::new(PeerLists::default(), Vec::new(), nothing, External::default())
}

fn secrets(config: &Config, warnings: &mut Vec<String>) {
    let auth = &config.auth;
    users("auth.users", &auth.users, warnings);
    short_secret("auth.rest_secrets", &auth.rest_secrets, warnings);
    for (name, realm) in &config.realms {
        let key = format!("realms.{}", name.escape_debug());
        users(&format!("{key}.users"), &realm.users, warnings);
        short_secret(&format!("{key}.rest_secrets"), &realm.rest_secrets, warnings);
    }
}

/// Warns of secrets of time-limited credentials that can be guessed.
pub(crate) fn short_secret(key: &str, secrets: &[Secret], warnings: &mut Vec<String>) {
    if secrets.iter().any(|secret| secret.expose().len() < SECRET_MIN) {
        warnings.push(format!(
            "{key}: one is shorter than {SECRET_MIN} bytes; whoever has a credential can try \
             guesses against it"
        ));
    }
}

fn users(key: &str, users: &BTreeMap<String, User>, warnings: &mut Vec<String>) {
    let md5_only = |(_, user): &(_, &User)| {
        matches!(user.secret, UserSecret::Keys { md5: Some(_), sha256: None })
    };
    if let Some((name, _)) = users.iter().find(md5_only) {
        warnings.push(format!(
            "{key}.{}: has an md5_key alone, so that no client is offered SHA-256",
            name.escape_debug()
        ));
    }
}

fn listeners(config: &Config, warnings: &mut Vec<String>) {
    let ports = &config.relay.ports;
    let leased = |l: &Listen| !l.protocol.is_stream() || config.relay.tcp;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for listener in config.listen.iter().filter(|l| leased(l)) {
        let address = listener.address;
        if !ports.contains(&address.port()) || addresses.contains(&address) {
            continue;
        }
        addresses.push(address);
        warnings.push(format!(
            "relay.ports: {}-{} holds the port of the listener {address}; that one is never leased",
            ports.start(),
            ports.end()
        ));
    }
}

fn ways_in(config: &Config, warnings: &mut Vec<String>) {
    let trusts_all = |l: &&Listen| {
        l.proxy.as_ref().is_some_and(|trusted| trusted.iter().any(|net| net.prefix_len() == 0))
    };
    if let Some(listener) = config.listen.iter().find(trusts_all) {
        warnings.push(format!(
            "listen: {listener} trusts every source; whoever reaches it can claim any address"
        ));
    }
    if config.tls.self_signed && !config.tls.certificates.is_empty() {
        warnings.push("tls.self_signed: has no effect beside tls.certificates".to_owned());
    }
    let asks_none = |l: &&Listen| l.protocol != TransportProtocol::Tls;
    if let Some(listener) = config.listen.iter().find(asks_none)
        && config.tls.client_ca.is_some()
    {
        warnings.push(format!(
            "tls.client_ca: clients of {listener} need no certificate; take it out if all have one"
        ));
    }
}

fn lifetimes(config: &Config, warnings: &mut Vec<String>) {
    // Clients refresh by the clock of the RFC, whatever the server does.
    let fixed = [
        ("permission", config.lifetimes.permission, 300),
        ("channel", config.lifetimes.channel, 600),
    ];
    for (key, given, rfc) in fixed {
        if given != Duration::from_secs(rfc) {
            warnings.push(format!(
                "lifetimes.{key}: RFC 8656 fixes it at {rfc}s, and clients refresh by that"
            ));
        }
    }
}

fn log(log: &LogConfig, warnings: &mut Vec<String>) {
    if log.level == Level::Trace && !cfg!(debug_assertions) {
        warnings.push(
            "log.level: a release build is compiled without trace; it shows debug".to_owned(),
        );
    }
}

/// An address inside each network that the built-in list denies.
const INSIDE_DENIED: [&str; 16] = [
    "0.0.0.1",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "64:ff9b:1::",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
];

/// Half the 32 bytes that the daemon makes for itself.
const SECRET_MIN: usize = 16;
