//! The relay under measurement: a TURN server, or the floor.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use clap::ValueEnum;
use sterna_client::{AllocateOptions, Client, ClientOptions, Credentials};
use sterna_proto::address::PeerAddr;
use sterna_proto::channel_data::ChannelNumber;

use crate::error::{BenchError, DuringExt};
use crate::floor;
use crate::floor_setup::Setup;

/// How the relay is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Kind {
    /// TURN over UDP.
    Turn,
    /// The floor's own setup datagrams.
    Floor,
}

/// Where the relay is and who we are to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is spoken to.
    pub kind: Kind,
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
        let socket = UdpSocket::bind((local, 0)).during(&format!("binding {local}"))?;
        socket.connect(self.server).during(&format!("connecting to {}", self.server))?;
        match self.kind {
            Kind::Turn => self.open_turn(socket),
            Kind::Floor => open_floor(socket),
        }
    }

    fn open_turn(&self, socket: UdpSocket) -> Result<Path, BenchError> {
        let options = ClientOptions {
            credentials: Some(Credentials::new(&self.user, &self.password)),
            ..ClientOptions::loopback()
        };
        let mut client = Client::over(socket, options)?;
        let allocated = client.allocate(&AllocateOptions::default())?;
        let relayed = v4(allocated.relayed.0)?;
        Ok(Path { link: Link::Turn(Box::new(client)), relayed })
    }
}

/// One allocation: a client's socket and its relayed transport address.
pub struct Path {
    link: Link,
    relayed: SocketAddrV4,
}

enum Link {
    Turn(Box<Client>),
    Floor(UdpSocket),
}

impl Path {
    /// The client's socket, connected to the relay.
    pub fn socket(&self) -> &UdpSocket {
        match &self.link {
            Link::Turn(client) => client.socket(),
            Link::Floor(socket) => socket,
        }
    }

    /// Where peers send to.
    pub fn relayed(&self) -> SocketAddrV4 {
        self.relayed
    }

    /// Binds a channel, and with it permits the peer.
    pub fn bind_channel(&mut self, channel: u16, peer: SocketAddrV4) -> Result<(), BenchError> {
        match &mut self.link {
            Link::Turn(client) => {
                let Some(number) = ChannelNumber::new(channel) else {
                    let problem = format!("{channel:#06x} is no channel number");
                    return Err(BenchError::Argument(problem));
                };
                client.bind_channel(number, PeerAddr(SocketAddr::V4(peer)))?;
            }
            Link::Floor(socket) => {
                floor::ask(socket, Setup::Bind { channel, peer })?;
            }
        }
        Ok(())
    }

    /// Gives the allocation back.
    pub fn close(self) -> Result<(), BenchError> {
        match self.link {
            Link::Turn(mut client) => client.release()?,
            Link::Floor(socket) => {
                floor::ask(&socket, Setup::Close)?;
            }
        }
        Ok(())
    }
}

fn open_floor(socket: UdpSocket) -> Result<Path, BenchError> {
    match floor::ask(&socket, Setup::Open)? {
        Setup::Opened { relayed } => Ok(Path { link: Link::Floor(socket), relayed }),
        _ => Err(BenchError::Floor("answered something else")),
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
