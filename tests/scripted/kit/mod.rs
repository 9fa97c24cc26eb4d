//! What scripts are written with; `main.rs` tells how.

mod client;
mod keys;
mod log;
mod messages;
mod neighbours;
mod network;
mod policy;
mod store;
mod tcp;
mod time;
mod world;

pub(crate) use client::{Call, Client, Peer};
pub(crate) use keys::Keys;
pub(crate) use log::Log;
pub(crate) use messages::{
    Answer, Heard, User, channel_data, channel_number, message, request, send_indication, signed,
};
pub(crate) use neighbours::{Asked, Ear, directory, neighbour};
pub(crate) use network::{Network, Trap};
pub(crate) use policy::{config, policy};
pub(crate) use store::PlayedStore;
pub(crate) use tcp::End;
pub(crate) use time::{Deadline, after, after_turns, each_turn, secs, settle, virtual_time};
pub(crate) use world::{Setup, World, credentials, script, server_address};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sterna_proto::account::Account;

/// The realm of every server here.
pub(crate) const REALM: &str = "north.gov";

/// The users that the server knows.
pub(crate) const PASSWORDS: [(&str, &str); 2] = [("alice", "sesame"), ("bob", "tern")];

/// Where the server relays from. It listens on the first of them.
pub(crate) const RELAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const RELAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1));

/// A user of [`REALM`] without limits of its own.
pub(crate) fn account(name: &str) -> Arc<Account> {
    Arc::new(Account::lasting(REALM.into(), name.into()))
}

/// A relayed transport address of IPv4.
pub(crate) fn relayed_at(port: u16) -> SocketAddr {
    SocketAddr::new(RELAY_V4, port)
}
