//! What the actors need to know to serve: checked and typed, no `Option` that means "default".

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sterna_proto::address::TransportProtocol;
use sterna_proto::allocation::Lifetimes;
use tokio::sync::watch;

use crate::policy::Policy;
use crate::tls::TlsTerms;

/// Everything a [`Server`](crate::Server) is started with. It holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen; port 0 binds any free one.
    pub listen: Vec<Listen>,
    /// What TLS and DTLS clients are shown, renewed while the server runs; `None` serves neither.
    pub tls: Option<watch::Receiver<Arc<TlsTerms>>>,
    /// Arbiters, and so listening sockets per address. At least 1.
    pub workers: usize,
    /// How often a busy arbiter looks at its sockets at most; zero is no bound. Packets wait that
    /// long at most, and it wakes for several at once.
    pub wake_interval: Duration,
    /// The SOFTWARE attribute of authenticated answers; `None` sends none.
    pub software: Option<String>,
    /// Where relayed transport addresses come from.
    pub relay: RelayConfig,
    /// Lifetimes of allocations, permissions and channels.
    pub lifetimes: Lifetimes,
    /// How long a nonce is good for.
    pub nonce_lifetime: Duration,
    /// How long the second port of an EVEN-PORT pair is held (RFC 8656 §7.2: at least 30 s).
    pub reservation: Duration,
    /// The number on every table that clients fill.
    pub limits: Limits,
    /// Accept channel numbers up to 0x7FFE as RFC 5766 had them.
    pub rfc5766_channel_numbers: bool,
    /// Who may relay what. It can be replaced while the server runs.
    pub policy: Policy,
}

/// Where clients arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there. A TCP socket tells TLS from plain by the first bytes of a connection,
    /// and a UDP socket DTLS from plain by those of a datagram, wherever there is a certificate.
    pub protocol: TransportProtocol,
    /// The address; port 0 is any free one.
    pub address: SocketAddr,
    /// The sources whose PROXY protocol header is believed, on a listener that expects one of each
    /// client.
    pub proxy: Option<Vec<IpNet>>,
    /// The realm whose users are asked for here; `None` is the policy's first.
    pub realm: Option<Arc<str>>,
}

impl Listen {
    /// A listener that clients reach by themselves.
    pub fn direct(protocol: TransportProtocol, address: SocketAddr) -> Listen {
        Listen { protocol, address, proxy: None, realm: None }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol, self.address)
    }
}

/// Where relayed transport addresses come from.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Local addresses to relay from, taken in turn. Never empty.
    pub addresses: Vec<IpAddr>,
    /// `(private, public)` pairs of a 1:1 NAT: XOR-RELAYED-ADDRESS names the public one.
    pub external: Vec<(IpAddr, IpAddr)>,
    /// The ports to lease, on each address once for UDP and once for TCP.
    pub ports: RangeInclusive<u16>,
    /// Whether TCP is relayed for clients that come by TCP or TLS (RFC 6062).
    pub tcp: bool,
    /// The network device relay sockets are bound to.
    pub device: Option<String>,
}

/// The number on every table that clients fill.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sessions of one listening socket; a further client gets no answer to its first
    /// authenticated request.
    pub sessions_per_listener: usize,
    /// Permissions of one allocation; a further one is answered 508.
    pub permissions_per_allocation: usize,
    /// Channels of one allocation; a further one is answered 508.
    pub channels_per_allocation: usize,
    /// TCP connections of one allocation with its peers (RFC 6062). A further Connect is answered
    /// 508, a further peer's connection is closed.
    pub connections_per_allocation: usize,
    /// Unauthenticated answers (401, 438, Binding) to one source address in a second; what is over
    /// stays unanswered. 0 = no limit.
    pub unauthenticated_answers_per_second: u32,
    /// Failed logins of one source address in a minute, at all listeners together; what comes after
    /// them is dropped before its credential is looked at. Each listener counts what it lets try
    /// at once, and hears of what failed at the others as soon as they have told it. 0 = no limit.
    pub failed_logins_per_minute: u32,
    /// Connections of one TCP listening socket; a further one is closed at once.
    pub connections_per_listener: usize,
    /// Those of them whose client has proved nothing yet. Where all are taken, the oldest that has
    /// had its `connection_setup` makes room for one more. A UDP socket has as many such DTLS
    /// sessions besides; of all of its DTLS sessions there are `sessions_per_listener`.
    pub unproved_connections_per_listener: usize,
    /// Those of them from one source address.
    pub unproved_connections_per_source: usize,
    /// What a client has from the first byte to its first request, PROXY header, TLS or DTLS
    /// handshake included, and from each request to the next one until one of them is good. Also
    /// what a message may take from its first byte to its last.
    pub connection_setup: Duration,
    /// Bytes that wait for a client which does not keep up; beyond them its oldest media is
    /// dropped.
    pub stream_buffer: usize,
}
