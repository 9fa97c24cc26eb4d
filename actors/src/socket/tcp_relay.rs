//! TCP at a relayed transport address, behind the interfaces of [`crate::transport`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use sterna_proto::address::{PeerAddr, RelayedAddr};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Sleep, sleep};

use super::options::{self, RelayOptions};
use crate::peer_connection::PeerStream;
use crate::transport::{Connecting, RelayListener};

/// Listens at a relayed transport address, and connects from it.
pub(super) struct TcpRelayListener {
    listener: TcpListener,
    local: RelayedAddr,
    options: RelayOptions,
    /// Until when nothing is accepted because the kernel had nothing to accept it with.
    pause: Option<Pin<Box<Sleep>>>,
}

impl TcpRelayListener {
    pub(super) fn listen(
        address: RelayedAddr,
        options: &RelayOptions,
    ) -> io::Result<TcpRelayListener> {
        let socket = options::relay_listener(address, options)?;
        Ok(TcpRelayListener {
            listener: TcpListener::from_std(socket.into())?,
            local: address,
            options: options.clone(),
            pause: None,
        })
    }
}

impl RelayListener for TcpRelayListener {
    fn local(&self) -> RelayedAddr {
        self.local
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(PeerAddr, Box<dyn PeerStream>)> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let accepted = std::task::ready!(self.listener.poll_accept(cx));
            match accepted.and_then(|(stream, peer)| Ok((peer, unwatched(stream)?))) {
                Ok((peer, stream)) => return Poll::Ready((PeerAddr(peer), stream)),
                Err(error) if is_of_one_peer(&error) => {}
                // No descriptor or no memory is left: the peers wait in the backlog for a while.
                Err(_) => self.pause = Some(Box::pin(sleep(PAUSE))),
            }
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //# The
    //# local endpoint is the relayed transport address associated with the
    //# allocation.  The remote endpoint is the one indicated by the XOR-
    //# PEER-ADDRESS attribute.
    fn connect(&self, PeerAddr(peer): PeerAddr) -> Connecting {
        let socket = options::relay_connection(self.local, &self.options);
        Box::pin(async move { unwatched(connected(socket?, peer).await?) })
    }
}

async fn connected(socket: socket2::Socket, peer: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(socket.into()).connect(peer).await
}

/// Small pieces of application data are passed on as they come.
fn unwatched(stream: TcpStream) -> io::Result<Box<dyn PeerStream>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream.into_std()?))
}

/// Whether the error says something about the connection and nothing about the listening socket;
/// Linux hands on what the network said of it (accept(2)).
fn is_of_one_peer(error: &io::Error) -> bool {
    let of_one_peer = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EPERM,
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| of_one_peer.contains(&code))
}

/// How long peers wait in the backlog while nothing can be accepted.
const PAUSE: Duration = Duration::from_secs(1);
