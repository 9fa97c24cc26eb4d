//! Transport addresses by the role they play (RFC 8656 §2), so that no two can be mixed up.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// The client's transport address as the server sees it: the source of its packets, which is what
/// XOR-MAPPED-ADDRESS reports (RFC 8656 §2, "Server-Reflexive Transport Address").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerReflexive(pub SocketAddr);

/// A transport address on the server at which peers reach one client (RFC 8656 §2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayedAddr(pub SocketAddr);

/// The transport address of a host with which a client talks through the relay (RFC 8656 §2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddr(pub SocketAddr);

macro_rules! show_as_address {
    ($($role:ident),*) => {$(
        impl fmt::Display for $role {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $role {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($role), "({})"), self.0)
            }
        }
    )*};
}
show_as_address!(ServerReflexive, RelayedAddr, PeerAddr);

/// The family of an IP address, as the address-family attributes of RFC 8656 name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, 0x01 on the wire.
    V4,
    /// IPv6, 0x02 on the wire.
    V6,
}

impl Family {
    /// The family of `ip` as written; an IPv4-mapped IPv6 address is IPv6.
    pub fn of(ip: IpAddr) -> Family {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The other of the two.
    pub fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// How a client reached the server: the transport protocol of its 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// Plain datagrams.
    Udp,
    /// Plain stream.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP.
    Dtls,
}

impl fmt::Display for TransportProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransportProtocol::Udp => "udp",
            TransportProtocol::Tcp => "tcp",
            TransportProtocol::Tls => "tls",
            TransportProtocol::Dtls => "dtls",
        })
    }
}

impl TransportProtocol {
    /// Whether messages come over a TCP connection, with or without TLS.
    pub fn is_stream(self) -> bool {
        match self {
            TransportProtocol::Tcp | TransportProtocol::Tls => true,
            TransportProtocol::Udp | TransportProtocol::Dtls => false,
        }
    }

    /// Whether the source of a message may be forged. Whoever has made a connection, or brought a
    /// DTLS cookie back, hears what is sent there.
    pub fn source_may_be_forged(self) -> bool {
        match self {
            TransportProtocol::Udp => true,
            TransportProtocol::Tcp | TransportProtocol::Tls | TransportProtocol::Dtls => false,
        }
    }
}

/// What an allocation relays: the transport protocol between server and peers, which is what
/// REQUESTED-TRANSPORT names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayTransport {
    /// Datagrams (RFC 8656).
    Udp,
    /// Connections (RFC 6062).
    Tcp,
}

impl fmt::Display for RelayTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RelayTransport::Udp => "udp",
            RelayTransport::Tcp => "tcp",
        })
    }
}

/// The 5-tuple that names a conversation: both transport addresses and the protocol between them
/// (RFC 8656 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiveTuple {
    /// The client's transport address as the server sees it.
    pub client: SocketAddr,
    /// The server's transport address that the client used.
    pub server: SocketAddr,
    /// The transport protocol between the two.
    pub protocol: TransportProtocol,
}

// One lookup per received packet hashes this: two integers per address instead of the field by
// field walk of the derived implementation.
impl Hash for FiveTuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_address(&self.client, state);
        hash_address(&self.server, state);
        state.write_u8(self.protocol as u8);
    }
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol, self.client, self.server)
    }
}

fn hash_address<H: Hasher>(address: &SocketAddr, state: &mut H) {
    match address.ip() {
        IpAddr::V4(ip) => {
            state.write_u64((u64::from(ip.to_bits()) << 16) | u64::from(address.port()));
        }
        IpAddr::V6(ip) => {
            state.write_u128(ip.to_bits());
            state.write_u16(address.port());
        }
    }
}
