//! An allocation by its features, each with the moment before and the moment after, and against a
//! model of it.

mod channels;
mod connections;
mod credentials;
mod data;
mod dual;
mod lifetime;
mod model;
mod permissions;
mod size;
mod terms;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Allocation, Effect, Lifetimes, Relay, Relays, Terms};
use crate::address::{PeerAddr, RelayedAddr};
use crate::channel_data::ChannelNumber;
use crate::peer_rules::{External, PeerLists, PeerRules, RelayAddresses};
use crate::request::RefreshRequest;
use crate::testing::epoch;

/// `seconds` after the allocation was made.
fn at(seconds: u64) -> Instant {
    epoch() + secs(seconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An IPv4 peer.
fn peer(host: u8, port: u16) -> PeerAddr {
    PeerAddr(SocketAddr::new(v4(host), port))
}

/// An IPv6 peer.
fn peer6(host: u8, port: u16) -> PeerAddr {
    PeerAddr(SocketAddr::new(v6(host), port))
}

fn v4(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, host))
}

fn v6(host: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)))
}

fn channel(number: u16) -> ChannelNumber {
    ChannelNumber::new(number).expect("the test names a channel")
}

fn address(text: &str) -> RelayedAddr {
    RelayedAddr(text.parse().expect("the test writes valid addresses"))
}

/// The server's addresses: IPv4 behind a 1:1 NAT, IPv6 not.
fn relay_v4() -> Relay {
    Relay { relayed: address("10.0.0.1:50000"), advertised: address("203.0.113.1:50000") }
}

fn relay_v6() -> Relay {
    Relay {
        relayed: address("[2001:db8:1::1]:50000"),
        advertised: address("[2001:db8:1::1]:50000"),
    }
}

fn rules(deny: &[IpNet]) -> PeerRules {
    let relays = [relay_v4(), relay_v6()].map(|relay| relay.relayed.0.ip());
    let relay = RelayAddresses { ips: relays.into(), ports: 50_000..=50_999 };
    let own = vec![SocketAddr::new(relay_v4().relayed.0.ip(), 3478)];
    let external = External::new(vec![(relay_v4().relayed.0.ip(), relay_v4().advertised.0.ip())]);
    let lists = PeerLists { allow: Vec::new(), deny: deny.to_vec() };
    PeerRules::new(lists, own, relay, external)
}

fn terms() -> Terms {
    Terms {
        lifetimes: Lifetimes::default(),
        permissions_max: 3,
        channels_max: 2,
        connections_max: 3,
        rules: rules(&[]),
        realm_peers: HashMap::new(),
    }
}

/// A single allocation of 600 s with an IPv4 relayed transport address.
fn allocation() -> Allocation {
    let relays = Relays { v4: Some(relay_v4()), v6: None };
    Allocation::new(Arc::new(terms()), relays, secs(600), at(0))
}

/// The same with room for `permissions` and `channels`, living long enough to see all of them
/// expire.
fn roomy(permissions: usize, channels: usize) -> Allocation {
    let terms = Terms { permissions_max: permissions, channels_max: channels, ..terms() };
    let relays = Relays { v4: Some(relay_v4()), v6: None };
    Allocation::new(Arc::new(terms), relays, secs(3600), at(0))
}

/// A dual allocation of 600 s.
fn dual() -> Allocation {
    let relays = Relays { v4: Some(relay_v4()), v6: Some(relay_v6()) };
    Allocation::new(Arc::new(terms()), relays, secs(600), at(0))
}

/// A single allocation of 600 s that relays TCP from an IPv4 address.
fn tcp() -> Allocation {
    let relays = Relays { v4: Some(relay_v4()), v6: None };
    Allocation::new_tcp(Arc::new(terms()), relays, secs(600), at(0))
}

/// A dual allocation of 600 s that relays TCP.
fn dual_tcp() -> Allocation {
    let relays = Relays { v4: Some(relay_v4()), v6: Some(relay_v6()) };
    Allocation::new_tcp(Arc::new(terms()), relays, secs(600), at(0))
}

fn refresh(lifetime: Option<u64>) -> RefreshRequest {
    RefreshRequest { lifetime: lifetime.map(secs), family: None }
}

/// What ends by `now`, in the order in which it does.
fn effects(allocation: &mut Allocation, now: Instant) -> Vec<Effect> {
    allocation.handle_timeout(now);
    std::iter::from_fn(|| allocation.poll_effect()).collect()
}
