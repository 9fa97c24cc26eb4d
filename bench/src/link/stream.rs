//! Links over TCP and TLS.
//!
//! A burst of frames is one write, and over TLS one record or few, as a client sends that has
//! several streams or a video frame in several packets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use sterna_client::{ByteStream, Client, Framed, Retransmission, TlsOptions, TlsStream, Trust};

use super::{Link, bind_turn};
use crate::error::{BenchError, DuringExt};
use crate::mmsg::{Receiver, Sender};

/// A TURN client over a stream.
pub(crate) struct StreamLink<S> {
    client: Client<Framed<S>>,
    /// Frames that the socket had no room for yet, or a part of one.
    left: Vec<u8>,
}

impl<S: ByteStream> StreamLink<S> {
    pub(crate) fn new(client: Client<Framed<S>>) -> StreamLink<S> {
        StreamLink { client, left: Vec::new() }
    }

    /// Writes as much as the socket takes.
    fn write(&mut self) -> io::Result<()> {
        let stream = self.client.transport_mut().stream_mut();
        while !self.left.is_empty() {
            match stream.write(&self.left) {
                Ok(taken) => drop(self.left.drain(..taken)),
                Err(error) => return wait_for_room(error),
            }
        }
        stream.flush().or_else(wait_for_room)
    }
}

impl<S: ByteStream + Send> Link for StreamLink<S> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.client.transport().stream().tcp().as_fd()
    }

    fn bind_channel(&mut self, channel: u16, peer: SocketAddrV4) -> Result<(), BenchError> {
        bind_turn(&mut self.client, channel, peer)
    }

    fn start(&mut self) -> Result<(), BenchError> {
        self.client.transport().stream().tcp().set_nonblocking(true).during("non-blocking")
    }

    fn send(&mut self, frames: &mut Sender) -> Result<usize, BenchError> {
        self.flush()?;
        if !self.left.is_empty() {
            frames.forget();
            return Ok(0);
        }
        let count = frames.append_padded(&mut self.left);
        self.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        self.write().during("writing to the relay")
    }

    fn receive(
        &mut self,
        _receiver: &mut Receiver,
        each: &mut dyn FnMut(&[u8], Option<u64>),
    ) -> Result<(), BenchError> {
        let framed = self.client.transport_mut();
        // To the last byte: what a TLS library has read is not announced again by the socket.
        loop {
            while let Some(frame) = framed.next_message().during("reading from the relay")? {
                each(frame, None);
            }
            match framed.read_more() {
                Ok(()) => {}
                Err(error) => return wait_for_room(error).during("reading from the relay"),
            }
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), BenchError> {
        let tcp = self.client.transport().stream().tcp();
        tcp.set_nonblocking(false).during("blocking")?;
        self.flush()?;
        Ok(self.client.release()?)
    }
}

/// A full or empty socket is no error.
fn wait_for_room(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// A connection from a port of the system's choice on a given local address.
pub(crate) fn connect_tcp(local: Ipv4Addr, server: SocketAddrV4) -> Result<TcpStream, BenchError> {
    let doing = format!("connecting from {local} to {server}");
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).during(&doing)?;
    let from = SockaddrIn::from(SocketAddrV4::new(local, 0));
    bind(socket.as_raw_fd(), &from).during(&doing)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(server)).during(&doing)?;
    let tcp = TcpStream::from(socket);
    tcp.set_nodelay(true).during(&doing)?;
    Ok(tcp)
}

/// Shakes hands over a connection.
pub(crate) fn connect_tls(tcp: TcpStream, options: &TlsOptions) -> Result<TlsStream, BenchError> {
    Ok(TlsStream::connect(tcp, options, Retransmission::LOOPBACK.total())?)
}

/// One cipher and one key exchange, so that all servers do the same work. coturn as Debian has it
/// knows neither TLS 1.3 nor another key exchange than P-256.
pub(crate) fn tls_options() -> Result<TlsOptions, BenchError> {
    let mut provider = default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ];
    provider.kx_groups = vec![kx_group::SECP256R1];
    Ok(TlsOptions::with_provider("localhost", &Trust::Anyone, provider)?)
}
