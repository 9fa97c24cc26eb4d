//! What carries the messages between client and server.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::ClientError;
use crate::framed::Framed;
use crate::tls::{TlsOptions, TlsStream};

/// A way to one server and back, for whole messages: STUN or ChannelData.
pub trait Transport: fmt::Debug {
    /// Sends one message. It blocks no longer than the transport was made for.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// Waits for the next message and writes it to `buffer`, without what does not fit. Returns how
    /// many bytes were written, or `None` when nothing came in time. A connection that the server
    /// ended is [`ErrorKind::UnexpectedEof`].
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>>;

    /// Whether a message that was sent arrives as long as the connection is there, so that none is
    /// sent twice.
    fn is_reliable(&self) -> bool;
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        (**self).send(message)
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        (**self).receive(buffer, timeout)
    }

    fn is_reliable(&self) -> bool {
        (**self).is_reliable()
    }
}

/// A blocking socket that is connected to the server.
impl Transport for UdpSocket {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        UdpSocket::send(self, message).map(drop)
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let deadline = Deadline::after(timeout);
        while let Some(remaining) = deadline.remaining() {
            self.set_read_timeout(Some(remaining))?;
            match self.recv(buffer) {
                Ok(len) => return Ok(Some(len)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(None),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(None)
    }

    fn is_reliable(&self) -> bool {
        false
    }
}

/// What the client speaks to the server.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// A stream in clear text.
    Tcp,
    /// A stream inside TLS.
    Tls(TlsOptions),
}

impl Protocol {
    /// Connects to the server from an address and port of the system's choice. Connecting, the TLS
    /// handshake and each later send take at most `timeout` each.
    pub fn connect(
        &self,
        server: SocketAddr,
        timeout: Duration,
    ) -> Result<Box<dyn Transport>, ClientError> {
        Ok(match self {
            Protocol::Udp => Box::new(connect_udp(server)?),
            Protocol::Tcp => Box::new(Framed::new(connect_tcp(server, timeout)?)),
            Protocol::Tls(options) => {
                let tcp = connect_tcp(server, timeout)?;
                Box::new(Framed::new(TlsStream::connect(tcp, options, timeout)?))
            }
        })
    }
}

pub(crate) fn connect_udp(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket)
}

fn connect_tcp(server: SocketAddr, timeout: Duration) -> Result<TcpStream, ClientError> {
    let not_connected = |source| ClientError::NotConnected { server, source };
    let tcp = TcpStream::connect_timeout(&server, timeout).map_err(not_connected)?;
    tcp.set_write_timeout(Some(timeout))?;
    // Each message is written whole, and no later one would make it leave sooner.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
