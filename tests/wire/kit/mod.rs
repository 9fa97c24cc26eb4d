//! What the tests are made of: a server in process, a client of raw bytes, peers that see headers.
//!
//! Nothing here waits for time to pass. That something does not arrive is shown by what arrives
//! next: the answer to a request, or a datagram, that was sent after it on the same way.

mod answer;
mod call;
mod client;
#[cfg(feature = "dtls")]
mod dtls;
mod log;
mod peer;
mod ports;
mod random;
mod seal;
mod server;
mod sniffer;
mod stream;
mod tcp_call;
mod tls;

pub(crate) use answer::{Answer, Heard};
pub(crate) use call::Call;
pub(crate) use client::{
    Carrier, Client, Raw, UDP, User, channel_data, raws, request, transaction_id,
};
#[cfg(feature = "dtls")]
pub(crate) use dtls::{Certificates, Datagrams, Dtls, Issued};
pub(crate) use log::Lines;
pub(crate) use peer::{Arrived, Peer, burst, set_headers};
pub(crate) use ports::{closed, leave_ports, own_host};
pub(crate) use random::Random;
pub(crate) use seal::seal;
pub(crate) use server::{Serving, ask, config, inject, serve, set_users, tcp, udp, wait_until};
pub(crate) use sniffer::Sniffer;
pub(crate) use stream::Stream;
pub(crate) use tcp_call::{
    DataConnection, TcpCall, TcpPeer, bind_connection, connect, is_closed, read_some, tcp_config,
};
pub(crate) use tls::{Certificate, Hello, TlsStream};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The two loopback addresses, as hosts.
pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How long a test waits for what has to come. Only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Realm of every server here.
pub(crate) const REALM: &str = "north.example";

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

pub(crate) fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}
