//! The relay under measurement: a TURN server, or the floor.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use clap::ValueEnum;
use nix::sys::socket::{setsockopt, sockopt};
use sterna_client::{AllocateOptions, ByteStream, Client, Framed};

use crate::error::{BenchError, DuringExt};
use crate::floor;
use crate::floor_setup::Setup;
use crate::link::{
    Datagrams, FloorLink, Link, StreamLink, UdpLink, client_options, connect_tcp, connect_tls,
    tls_options,
};

/// How the relay is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Kind {
    /// TURN.
    Turn,
    /// The floor's own setup datagrams.
    Floor,
}

/// What clients speak to the relay; peers speak UDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream in clear text.
    Tcp,
    /// A stream in TLS.
    Tls,
}

impl Transport {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// Where the relay is and who we are to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is spoken to.
    pub kind: Kind,
    /// What it is spoken to over.
    pub transport: Transport,
    /// Where it listens.
    pub server: SocketAddrV4,
    /// The user name of the long-term credential.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Target {
    /// Makes one allocation from a socket of its own on the given local address.
    pub fn open(&self, local: Ipv4Addr) -> Result<Path, BenchError> {
        match (self.kind, self.transport) {
            (Kind::Turn, Transport::Udp) => {
                let socket = self.udp_socket(local)?;
                let options = client_options(&self.user, &self.password);
                open_turn(Client::with(Datagrams(socket), options), UdpLink)
            }
            (Kind::Turn, Transport::Tcp) => {
                let tcp = connect_tcp(local, self.server)?;
                self.open_stream(tcp)
            }
            (Kind::Turn, Transport::Tls) => {
                let tcp = connect_tcp(local, self.server)?;
                self.open_stream(connect_tls(tcp, &tls_options()?)?)
            }
            (Kind::Floor, Transport::Udp) => open_floor(self.udp_socket(local)?),
            (Kind::Floor, Transport::Tcp | Transport::Tls) => {
                Err(BenchError::Argument("the floor speaks UDP alone".to_owned()))
            }
        }
    }

    fn udp_socket(&self, local: Ipv4Addr) -> Result<UdpSocket, BenchError> {
        let socket = UdpSocket::bind((local, 0)).during(&format!("binding {local}"))?;
        socket.connect(self.server).during(&format!("connecting to {}", self.server))?;
        grow_buffers(&socket);
        Ok(socket)
    }

    fn open_stream<S: ByteStream + Send + 'static>(&self, stream: S) -> Result<Path, BenchError> {
        let options = client_options(&self.user, &self.password);
        open_turn(Client::with(Framed::new(stream), options), StreamLink::new)
    }
}

fn open_turn<T, L>(mut client: Client<T>, link: fn(Client<T>) -> L) -> Result<Path, BenchError>
where
    T: sterna_client::Transport,
    L: Link + 'static,
{
    let allocated = client.allocate(&AllocateOptions::default())?;
    let relayed = v4(allocated.relayed.0)?;
    Ok(Path { link: Box::new(link(client)), relayed })
}

fn open_floor(socket: UdpSocket) -> Result<Path, BenchError> {
    match floor::ask(&socket, Setup::Open)? {
        Setup::Opened { relayed } => Ok(Path { link: Box::new(FloorLink(socket)), relayed }),
        _ => Err(BenchError::Floor("answered something else")),
    }
}

/// As far as the system lets us: with its default a socket would lose packets before the relay
/// does.
pub(crate) fn grow_buffers(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER);
    }
}

/// One allocation: a client's link to the relay and its relayed transport address.
pub struct Path {
    link: Box<dyn Link>,
    relayed: SocketAddrV4,
}

impl Path {
    /// The client's link to the relay.
    pub fn link(&mut self) -> &mut dyn Link {
        &mut *self.link
    }

    /// Where peers send to.
    pub fn relayed(&self) -> SocketAddrV4 {
        self.relayed
    }

    /// Binds a channel, and with it permits the peer.
    pub fn bind_channel(&mut self, channel: u16, peer: SocketAddrV4) -> Result<(), BenchError> {
        self.link.bind_channel(channel, peer)
    }

    /// Gives the allocation back.
    pub fn close(self) -> Result<(), BenchError> {
        self.link.close()
    }
}

/// The client addresses 127.0.0.2, 127.0.0.3 and so on: several, as limits per source are part of
/// every relay, and not the relay's own.
pub fn client_address(index: usize) -> Ipv4Addr {
    let last = u8::try_from(index % CLIENT_ADDRESSES).unwrap_or(0);
    Ipv4Addr::new(127, 0, 0, 2 + last)
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4, BenchError> {
    match address.ip() {
        IpAddr::V4(ip) => Ok(SocketAddrV4::new(ip, address.port())),
        IpAddr::V6(_) => Err(BenchError::Argument(format!(
            "the relay gave {address}, and the measurement speaks IPv4"
        ))),
    }
}

const CLIENT_ADDRESSES: usize = 250;

const SOCKET_BUFFER: usize = 8 << 20;
