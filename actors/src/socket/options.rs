//! How sockets are made: every option before `bind`, so that no packet meets a half-made socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use sterna_proto::address::{RelayedAddr, TransportProtocol};

/// Options of a listening socket.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Several sockets share the address, one per arbiter, and the kernel keeps each client on one.
    pub share_port: bool,
}

/// Options of every relay socket.
#[derive(Clone, Debug, Default)]
pub struct RelayOptions {
    /// The network device to bind to (SO_BINDTODEVICE).
    pub device: Option<String>,
}

impl RelayOptions {
    /// Makes a relay socket on any port of `address` and drops it: the address is this machine's,
    /// and the device exists and may be bound to.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn check(&self, address: IpAddr) -> io::Result<()> {
        relay(RelayedAddr(SocketAddr::new(address, 0)), self).map(drop)
    }
}

/// A listening socket that could not be made.
#[derive(Debug)]
pub struct BindError {
    /// What was to be spoken there.
    pub protocol: TransportProtocol,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the kernel says.
    pub cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}://{}: {}", self.protocol, self.address, self.cause)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

pub(super) fn listen(address: SocketAddr, options: ListenOptions) -> io::Result<Socket> {
    let socket = datagram_socket(address.ip(), LISTEN_BUFFER)?;
    if options.share_port {
        socket.set_reuse_port(true)?;
    }
    if address.ip().is_unspecified() {
        tell_destination(&socket, address.ip())?;
    }
    //= https://www.rfc-editor.org/rfc/rfc8656#section-14
    //# Alternate Behavior: As described in the Preferred Behavior, except
    //# always assume the incoming DF bit is 0.
    set_dont_fragment(&socket, address.ip(), false)?;
    // A kernel that does not know it would send a whole run as one datagram.
    getsockopt(&socket, sockopt::UdpGsoSegment).map_err(|_| {
        io::Error::new(io::ErrorKind::Unsupported, "this kernel has no UDP_SEGMENT: 4.18 has it")
    })?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// A TCP socket that listens. What is set here holds for each connection too: Linux gives the
/// options of the listening socket to those that it accepts.
pub(super) fn listen_stream(address: SocketAddr, options: ListenOptions) -> io::Result<Socket> {
    let domain = domain(address.ip());
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // Connections of before that are not quite over do not keep a server from starting; another
    // socket that listens does.
    socket.set_reuse_address(true)?;
    if options.share_port {
        socket.set_reuse_port(true)?;
    }
    // Messages are written whole, so that there is nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    // Media that waits in the kernel cannot make room for fresher one.
    socket.set_tcp_notsent_lowat(NOT_SENT_MAX)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

pub(super) fn relay(address: RelayedAddr, options: &RelayOptions) -> io::Result<Socket> {
    let socket = datagram_socket(address.0.ip(), RELAY_BUFFER)?;
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    // ICMP answers are queued with the address of the peer they are about, instead of failing a
    // send to somebody else.
    match address.0.ip() {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    set_dont_fragment(&socket, address.0.ip(), false)?;
    socket.bind(&SockAddr::from(address.0))?;
    Ok(socket)
}

/// A TCP socket that listens at `address`.
///
/// It is bound alone, so that nobody else's socket, not even that of another server of the same
/// user, shares the port; from then on it shares it with the connections that are made from it.
/// SO_REUSEADDR passes over what a former allocation's connections have left there.
pub(super) fn relay_listener(address: RelayedAddr, options: &RelayOptions) -> io::Result<Socket> {
    let socket = stream_socket(address, options)?;
    socket.bind(&SockAddr::from(address.0))?;
    socket.listen(RELAY_BACKLOG)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// A TCP socket bound to `address`, where [`relay_listener`] listens, to connect from.
pub(super) fn relay_connection(address: RelayedAddr, options: &RelayOptions) -> io::Result<Socket> {
    let socket = stream_socket(address, options)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(address.0))?;
    Ok(socket)
}

/// Finds out whoever goes without a word. Connections get it from the socket that accepts them.
fn keep_alive(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

fn stream_socket(address: RelayedAddr, options: &RelayOptions) -> io::Result<Socket> {
    let domain = Domain::for_address(address.0);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    keep_alive(&socket)?;
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    Ok(socket)
}

/// Sets or clears the DF bit of what the socket sends. Cleared means that the kernel fragments what
/// is too large, and pays no heed to a path MTU that others reported.
pub(super) fn set_dont_fragment(socket: &Socket, family: IpAddr, on: bool) -> nix::Result<()> {
    match family {
        IpAddr::V4(_) => {
            let mode = if on { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
            setsockopt(socket, Ipv4MtuDiscover, &mode)
        }
        IpAddr::V6(_) => {
            let mode = if on { libc::IPV6_PMTUDISC_DO } else { libc::IPV6_PMTUDISC_DONT };
            setsockopt(socket, Ipv6MtuDiscover, &mode)?;
            setsockopt(socket, sockopt::Ipv6DontFrag, &on)
        }
    }
}

/// Sets the hop limit of what the socket sends; `None` is the system's default.
pub(super) fn set_hop_limit(
    socket: &Socket,
    family: IpAddr,
    hop_limit: Option<u8>,
) -> nix::Result<()> {
    let value = hop_limit.map_or(-1, libc::c_int::from);
    match family {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Ttl, &value),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6Ttl, &value),
    }
}

/// Sets DSCP and ECN of what the socket sends.
pub(super) fn set_traffic_class(socket: &Socket, family: IpAddr, class: u8) -> nix::Result<()> {
    let value = libc::c_int::from(class);
    match family {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Tos, &value),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6TClass, &value),
    }
}

fn datagram_socket(family: IpAddr, buffer: usize) -> io::Result<Socket> {
    let domain = domain(family);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    enlarge_buffers(&socket, buffer);
    tell_header_fields(&socket, family)?;
    // Where the system cannot, each datagram comes by itself.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    Ok(socket)
}

fn domain(family: IpAddr) -> Domain {
    match family {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    }
}

/// Asks for buffers that hold a burst. Past the system's limit only with the right to; what the
/// kernel grants is what there is, and overflow is lost as on any queue of the network.
fn enlarge_buffers(socket: &Socket, bytes: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        let _ = socket.set_recv_buffer_size(bytes);
    }
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        let _ = socket.set_send_buffer_size(bytes);
    }
}

fn tell_header_fields(socket: &Socket, family: IpAddr) -> nix::Result<()> {
    match family {
        IpAddr::V4(_) => {
            setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(socket, sockopt::IpRecvTos, &true)
        }
        IpAddr::V6(_) => {
            setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(socket, sockopt::Ipv6RecvTClass, &true)
        }
    }
}

fn tell_destination(socket: &Socket, family: IpAddr) -> nix::Result<()> {
    match family {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true),
    }
}

// nix has no name of its own for these two.
sockopt_impl!(
    /// How path MTU discovery sets the DF bit of IPv4 datagrams.
    Ipv4MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// How path MTU discovery treats IPv6 datagrams.
    Ipv6MtuDiscover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int
);

/// Peers that have connected and are not accepted yet; that takes one wake of the allocation.
const RELAY_BACKLOG: i32 = 64;

/// All clients of an arbiter arrive here: room for some 20 ms of a busy core.
const LISTEN_BUFFER: usize = 4 << 20;

/// One client's peers arrive here: room for a burst of video frames.
const RELAY_BUFFER: usize = 256 << 10;

/// Connections that wait to be accepted; the system's own limit holds besides.
const BACKLOG: i32 = 4096;

/// A client or peer that has gone without a word is found out within two minutes, or as soon as
/// something sent to it stays unacknowledged for too long.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// How long the network may keep from us that a client or peer has got something.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Bytes in the kernel that have not left the machine.
const NOT_SENT_MAX: u32 = 128 << 10;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn peers_that_go_without_a_word_are_found_out() {
        let (options, any) = (RelayOptions::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = relay_listener(RelayedAddr(any), &options).expect("a port is free");
        let local = listener.local_addr().expect("it is bound").as_socket().expect("it is IPv4");
        let _peer = TcpStream::connect(local).expect("it listens");
        let (accepted, _) = listener.accept().expect("somebody has connected");
        let connected = relay_connection(RelayedAddr(local), &options).expect("they share it");
        for socket in [accepted, connected] {
            assert!(socket.keepalive().expect("the kernel tells"));
            assert_eq!(Duration::from_secs(60), socket.tcp_keepalive_time().expect("likewise"));
            let timeout = socket.tcp_user_timeout().expect("likewise");
            assert_eq!(Some(UNACKNOWLEDGED_MAX), timeout);
        }
    }
}
