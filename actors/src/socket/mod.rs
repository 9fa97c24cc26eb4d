//! UDP sockets that move datagrams in batches together with the fields of their IP headers, and TCP
//! sockets whose connections deliver messages into the same batches.
//!
//! The only module with `unsafe`: `recvmmsg` and `sendmmsg` with control messages of each
//! datagram's own. nix shares one set of control messages over a whole `sendmmsg`, quinn-udp hides
//! TTL and DSCP, rustix has neither call; everything else here goes through nix and socket2.

#![allow(unsafe_code, reason = "the two batched system calls, see above")]

mod accept;
mod batch;
mod caps;
mod control;
#[cfg(feature = "dtls")]
mod dtls;
mod ended;
mod icmp;
mod names;
mod options;
mod outgoing;
mod proxied;
mod proxy;
mod relay;
mod stream;
mod tcp_relay;
mod teller;
mod udp;

pub use batch::{ReceiveBatch, Received};
#[cfg(feature = "dtls")]
pub use dtls::{DtlsListenSocket, IdentityError};
pub use options::{BindError, ListenOptions, RelayOptions};
pub use proxied::ProxiedListenSocket;
pub use relay::KernelRelaySockets;
pub use stream::{StreamListenSocket, StreamTerms};
pub use udp::UdpListenSocket;

use sterna_proto::stun::{Class, Kind, peek_class, peek_kind};

/// Whether a message asks for something: who sends others shows no interest in the server.
fn is_request(message: &[u8]) -> bool {
    peek_kind(message) == Kind::Stun && peek_class(message) == Some(Class::Request)
}

/// Slots of one read of one socket; what is left waits for the next turn, so that no socket starves
/// the others of its arbiter. Where the kernel has put datagrams together a slot has several.
pub const BATCH: usize = 64;
