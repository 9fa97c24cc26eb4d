//! What a PolicyKeeper is started with.

use sterna_actors::ServerConfig;
use sterna_actors::config::{Limits, RelayConfig};
use sterna_actors::policy::{CacheTerms, Policy, Realm};
use sterna_proto::account::ExpiryPolicy;
use sterna_proto::allocation::Lifetimes;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::QuotaLimits;

use super::{RELAY_V4, secs};

/// These realms, and nothing else.
pub(crate) fn policy(realms: Vec<Realm>) -> Policy {
    Policy {
        realms,
        stores: Vec::new(),
        cache: CacheTerms { entries: 100, lifetime: secs(60), outage: secs(3600) },
        expiry: ExpiryPolicy::default(),
        oauth: None,
        peers: PeerLists::default(),
        quotas: QuotaLimits::default(),
    }
}

/// A server of one relay address, where `policy` holds.
pub(crate) fn config(policy: Policy) -> ServerConfig {
    ServerConfig {
        wake_interval: std::time::Duration::ZERO,
        listen: Vec::new(),
        tls: None,
        workers: 1,
        software: None,
        relay: RelayConfig {
            addresses: vec![RELAY_V4],
            external: Vec::new(),
            ports: 49_152..=65_535,
            tcp: true,
            device: None,
        },
        lifetimes: Lifetimes::default(),
        nonce_lifetime: secs(600),
        reservation: secs(30),
        limits: Limits {
            sessions_per_listener: 1000,
            permissions_per_allocation: 16,
            channels_per_allocation: 16,
            connections_per_allocation: 4,
            unauthenticated_answers_per_second: 0,
            failed_logins_per_minute: 0,
            connections_per_listener: 100,
            unproved_connections_per_listener: 100,
            unproved_connections_per_source: 100,
            connection_setup: secs(10),
            stream_buffer: 65_536,
        },
        rfc5766_channel_numbers: false,
        policy,
    }
}
