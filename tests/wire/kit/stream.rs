//! A stream to the server, in the clear or under TLS.

use std::cell::{RefCell, RefMut};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use sterna_proto::channel_data::frame_len;
use sterna_proto::stun::{Kind, peek_kind};

use super::{Carrier, PATIENCE, V6, at, own_host};

/// See the head of this file.
pub(crate) struct Stream<S = TcpStream> {
    address: SocketAddr,
    under: RefCell<S>,
    /// What has come and is not a whole message yet.
    held: RefCell<Vec<u8>>,
}

impl Stream {
    /// A connection in the clear, from a host of its own where the family has several.
    pub(crate) fn to(server: SocketAddr) -> Stream {
        Stream::from_ip(if server.is_ipv4() { own_host() } else { V6 }, server)
    }

    pub(crate) fn from_ip(ip: IpAddr, server: SocketAddr) -> Stream {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None);
        let socket = socket.expect("a socket can be made");
        socket.bind(&at(ip, 0).into()).expect("a port is free");
        socket.connect(&server.into()).expect("the server is within reach");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("Nagle can be switched off");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let address = stream.local_addr().expect("the socket is bound");
        Stream { address, under: RefCell::new(stream), held: RefCell::default() }
    }

    /// The same connection with another layer on it.
    pub(crate) fn wrap<S>(
        self,
        layer: impl FnOnce(TcpStream) -> std::io::Result<S>,
    ) -> std::io::Result<Stream<S>> {
        let under = RefCell::new(layer(self.under.into_inner())?);
        Ok(Stream { address: self.address, under, held: self.held })
    }
}

impl<S: Read + Write> Stream<S> {
    pub(crate) fn under(&self) -> RefMut<'_, S> {
        self.under.borrow_mut()
    }

    /// Reads to the end of the connection.
    pub(crate) fn rest(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.under().read_to_end(&mut bytes) {
            Err(error) if !is_end(error.kind()) => panic!("it does not end: {error}"),
            _ => bytes,
        }
    }

    /// The connection as it is, and what has come behind the last message.
    pub(crate) fn into_raw(self) -> (Vec<u8>, S) {
        (self.held.into_inner(), self.under.into_inner())
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.try_write(bytes).expect("the server takes it");
    }

    /// The same, where the server may have closed the connection.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut under = self.under.borrow_mut();
        under.write_all(bytes)?;
        under.flush()
    }

    /// The next message with its padding; `None` when the server has closed the connection.
    pub(crate) fn next(&self) -> Option<Vec<u8>> {
        let mut held = self.held.borrow_mut();
        loop {
            let length = frame_len(&held).expect("the server sends messages");
            if let Some(length) = length.filter(|length| *length <= held.len()) {
                return Some(held.drain(..length).collect());
            }
            let mut room = vec![0; 65_536];
            let read = self.under.borrow_mut().read(&mut room);
            match read {
                Ok(0) => {
                    assert!(held.is_empty(), "the last message is whole");
                    return None;
                }
                Ok(length) => held.extend_from_slice(&room[..length]),
                Err(error) if is_end(error.kind()) => return None,
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    /// Waits until the server has closed the connection, and has said nothing before.
    pub(crate) fn is_closed(&self) -> bool {
        self.next().is_none()
    }
}

/// What a read says at the end of a connection that was not closed in order.
fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

impl<S: Read + Write> Carrier for Stream<S> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self, message: &[u8]) {
        let mut padded = message.to_vec();
        padded.resize(message.len().next_multiple_of(4), 0);
        self.write(&padded);
    }

    fn receive(&self) -> Vec<u8> {
        let mut message = self.next().expect("the connection stands");
        if peek_kind(&message) == Kind::ChannelData {
            let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
            assert_eq!((4 + length).next_multiple_of(4), message.len());
            assert!(message.drain(4 + length..).all(|padding| padding == 0));
        }
        message
    }
}
