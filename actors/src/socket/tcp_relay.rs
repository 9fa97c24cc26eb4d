//! TCP at a relayed transport address, behind the interfaces of [`crate::transport`].

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use sterna_proto::address::{PeerAddr, RelayedAddr};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::accept::Acceptor;
use super::options::{self, RelayOptions};
use crate::peer_connection::PeerStream;
use crate::transport::{Connecting, RelayListener};

/// Listens at a relayed transport address, and connects from it.
pub(super) struct TcpRelayListener {
    acceptor: Acceptor,
    local: RelayedAddr,
    options: RelayOptions,
}

impl TcpRelayListener {
    pub(super) fn listen(
        address: RelayedAddr,
        options: &RelayOptions,
    ) -> io::Result<TcpRelayListener> {
        let socket = options::relay_listener(address, options)?;
        Ok(TcpRelayListener {
            acceptor: Acceptor::new(TcpListener::from_std(socket.into())?),
            local: address,
            options: options.clone(),
        })
    }
}

impl RelayListener for TcpRelayListener {
    fn local(&self) -> RelayedAddr {
        self.local
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(PeerAddr, Box<dyn PeerStream>)> {
        loop {
            // Peers wait in the backlog while nothing can be accepted; what is wrong with one of
            // them it will notice itself.
            if let Ok((stream, peer)) = std::task::ready!(self.acceptor.poll_accept(cx))
                && let Ok(stream) = unwatched(stream)
            {
                return Poll::Ready((PeerAddr(peer), stream));
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
