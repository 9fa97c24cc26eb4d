//! Clients and peers of TCP allocations: control connection, data connections, peers that listen.

use std::io::{Cursor, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

use sterna_actors::ServerConfig;
use sterna_proto::stun::{AttributeType, ConnectionId, Method, RequestedTransport, XorPeerAddress};

use super::{Carrier, Client, Heard, PATIENCE, Stream, V4, V6, at, config, tcp};

/// A server for clients that come by TCP, relaying to and from loopback.
pub(crate) fn tcp_config() -> ServerConfig {
    ServerConfig { listen: vec![tcp(at(V4, 0)), tcp(at(V6, 0))], ..config() }
}

/// A client with a TCP allocation.
pub(crate) struct TcpCall {
    pub(crate) control: Client<Stream>,
    pub(crate) relayed: SocketAddr,
    pub(crate) server: SocketAddr,
}

impl TcpCall {
    /// An allocation of the family of `server`.
    pub(crate) fn through(server: SocketAddr) -> TcpCall {
        let mut control = Client::over(Stream::to(server));
        let family = if server.is_ipv4() { [1, 0, 0, 0] } else { [2, 0, 0, 0] };
        let answer = control.get(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::TCP);
            writer.raw(AttributeType::REQUESTED_ADDRESS_FAMILY, &family);
        });
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=test
        //# The RESERVATION-TOKEN attribute MUST NOT be present in the
        //# success response.
        assert!(!answer.has(AttributeType::RESERVATION_TOKEN));
        TcpCall { relayed: answer.relayed()[0], control, server }
    }

    /// Connects to a peer.
    pub(crate) fn connects(&mut self, peer: SocketAddr) -> ConnectionId {
        connect(&mut self.control, peer).expect("the peer is there")
    }

    /// Binds a connection over one of its own.
    pub(crate) fn binds(&self, id: ConnectionId) -> DataConnection {
        let mut client = Client::over(Stream::to(self.server));
        assert_eq!(0, bind_connection(&mut client, id));
        DataConnection::from(client.socket)
    }

    /// The next thing that the client hears is that this peer has connected.
    pub(crate) fn hears_of(&self, peer: SocketAddr) -> ConnectionId {
        match self.control.hear() {
            Heard::Attempt(from, id) if from == peer => id,
            other => panic!("no attempt of {peer} but {other:?}"),
        }
    }
}

/// Asks for a connection to a peer: its name, or the error code.
pub(crate) fn connect<C: Carrier>(
    client: &mut Client<C>,
    peer: SocketAddr,
) -> Result<ConnectionId, u16> {
    let answer = client.ask(Method::CONNECT, |writer| _ = writer.attribute(&XorPeerAddress(peer)));
    match answer.code() {
        0 => Ok(answer.read().expect("CONNECTION-ID is there")),
        code => Err(code),
    }
}

/// Asks to bind a connection; the error code, 0 for success.
pub(crate) fn bind_connection<C: Carrier>(client: &mut Client<C>, id: ConnectionId) -> u16 {
    client.ask(Method::CONNECTION_BIND, |writer| _ = writer.attribute(&id)).code()
}

/// The client's end of a relayed connection.
pub(crate) struct DataConnection {
    early: Cursor<Vec<u8>>,
    pub(crate) stream: TcpStream,
}

impl From<Stream> for DataConnection {
    fn from(stream: Stream) -> DataConnection {
        let (early, stream) = stream.into_raw();
        DataConnection { early: Cursor::new(early), stream }
    }
}

impl Read for DataConnection {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        match self.early.read(room)? {
            0 => self.stream.read(room),
            length => Ok(length),
        }
    }
}

impl Write for DataConnection {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl DataConnection {
    /// Says a word and hears it at the peer, and the other way round.
    pub(crate) fn goes_on(&mut self, peer: &mut TcpStream) {
        self.write_all(b"from here").expect("the server takes it");
        assert_eq!(*b"from here", read_some(peer));
        peer.write_all(b"and back").expect("the server takes it");
        assert_eq!(*b"and back", read_some(self));
    }

    /// Whether the server has closed it.
    pub(crate) fn is_closed(&mut self) -> bool {
        is_closed(self)
    }

    pub(crate) fn says_no_more(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection stands");
    }
}

/// A peer that listens.
pub(crate) struct TcpPeer(TcpListener);

impl TcpPeer {
    pub(crate) fn new(ip: IpAddr) -> TcpPeer {
        TcpPeer(TcpListener::bind(at(ip, 0)).expect("a port is free"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("the socket is bound")
    }

    /// The next connection, and where it comes from.
    pub(crate) fn accepts(&self) -> (TcpStream, SocketAddr) {
        let (stream, from) = self.0.accept().expect("somebody connects");
        patient(&stream);
        (stream, from)
    }

    /// A connection of a peer's own doing.
    pub(crate) fn calls(relayed: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(relayed).expect("the relay listens");
        patient(&stream);
        stream
    }
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
}

/// The next bytes, as many as asked for.
pub(crate) fn read_some<const N: usize>(from: &mut impl Read) -> [u8; N] {
    let mut room = [0; N];
    from.read_exact(&mut room).expect("it arrives");
    room
}

/// Whether the far end has closed the connection, in order or not.
pub(crate) fn is_closed(stream: &mut impl Read) -> bool {
    let mut room = [0; 64];
    match stream.read(&mut room) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}
