//! TCP peers, played: who answers calls, who calls, and both ends of what is connected.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use sterna_actors::peer_connection::{Duplex, PeerConnection, PeerStream};
use sterna_actors::transport::{Connecting, RelayListener};
use sterna_proto::address::{PeerAddr, RelayedAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Network, settle};

/// What there is of TCP in a network.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    /// The server's listening sockets.
    listening: BTreeMap<SocketAddr, Listening>,
    /// Peers that answer.
    answering: BTreeSet<SocketAddr>,
    /// Peers of whom nothing is heard.
    silent: BTreeSet<SocketAddr>,
    /// The peers' ends of the connections that they have answered.
    answered: BTreeMap<SocketAddr, VecDeque<(SocketAddr, End)>>,
    /// Connections that clients have gone over to.
    joined: BTreeMap<SocketAddr, PeerConnection>,
}

#[derive(Debug, Default)]
struct Listening {
    arrived: VecDeque<(SocketAddr, DuplexStream)>,
    waker: Option<Waker>,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End(DuplexStream);

impl End {
    pub(crate) async fn says(&mut self, data: &[u8]) {
        self.0.write_all(data).await.expect("the far end is open");
        settle().await;
    }

    pub(crate) async fn hears(&mut self, data: &[u8]) {
        let mut heard = vec![0; data.len()];
        self.0.read_exact(&mut heard).await.expect("as much arrives");
        assert_eq!(data, heard);
    }

    /// Ends what this side sends, and goes on listening.
    pub(crate) async fn says_no_more(&mut self) {
        self.0.shutdown().await.expect("the far end is open");
        settle().await;
    }

    /// The far end has closed the connection, and has said nothing before.
    pub(crate) async fn is_closed(&mut self) {
        let read = self.0.read(&mut [0; 64]).await;
        assert_eq!(0, read.expect("it ends in order"));
    }

    /// The connection stands: nothing is heard of its end.
    pub(crate) async fn stands(&mut self) {
        settle().await;
        let mut room = [0; 64];
        let mut reading = std::pin::pin!(self.0.read(&mut room));
        let polled = std::future::poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "{polled:?}");
    }
}

impl Network {
    /// The peer answers whoever connects.
    pub(crate) fn answers(&self, peer: SocketAddr) {
        self.inner().tcp.answering.insert(peer);
    }

    /// Nothing is heard of the peer, neither yes nor no.
    pub(crate) fn is_lost(&self, peer: SocketAddr) {
        self.inner().tcp.silent.insert(peer);
    }

    /// The peer's end of the next connection that it has answered, which comes from `relayed`.
    pub(crate) fn answered_by(&self, peer: SocketAddr, relayed: SocketAddr) -> End {
        let next = self.inner().tcp.answered.get_mut(&peer).and_then(VecDeque::pop_front);
        let (from, end) = next.expect("somebody has connected");
        assert_eq!(relayed, from);
        end
    }

    /// The peer connects to a relayed address; its end.
    pub(crate) async fn calls(&self, peer: SocketAddr, relayed: SocketAddr) -> End {
        let (here, there) = duplex(ROOM);
        {
            let mut inner = self.inner();
            let listening = inner.tcp.listening.get_mut(&relayed).expect("the relay listens");
            listening.arrived.push_back((peer, there));
            if let Some(waker) = listening.waker.take() {
                waker.wake();
            }
        }
        settle().await;
        End(here)
    }

    /// Whether the server listens for TCP peers there.
    pub(crate) fn is_listening(&self, relayed: SocketAddr) -> bool {
        self.inner().tcp.listening.contains_key(&relayed)
    }

    /// What the client's connection has gone over to; the client's end of it.
    pub(crate) fn joined_by(&self, client: SocketAddr) -> End {
        let peer = self.inner().tcp.joined.remove(&client).expect("the client has joined");
        let (here, there) = duplex(ROOM);
        actix_rt::spawn(async move { peer.relay(there).await });
        End(here)
    }

    pub(super) fn join(&self, client: SocketAddr, peer: PeerConnection) {
        self.inner().tcp.joined.insert(client, peer);
    }

    pub(super) fn listens_at(&self, local: SocketAddr) -> io::Result<Box<dyn RelayListener>> {
        let mut inner = self.inner();
        if inner.tcp.listening.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.tcp.listening.insert(local, Listening::default());
        Ok(Box::new(PlayedListener { network: self.clone(), local }))
    }
}

struct PlayedStream(DuplexStream);

impl PeerStream for PlayedStream {
    fn open(self: Box<Self>) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.0))
    }
}

struct PlayedListener {
    network: Network,
    local: SocketAddr,
}

impl RelayListener for PlayedListener {
    fn local(&self) -> RelayedAddr {
        RelayedAddr(self.local)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(PeerAddr, Box<dyn PeerStream>)> {
        let mut inner = self.network.inner();
        let Some(listening) = inner.tcp.listening.get_mut(&self.local) else {
            return Poll::Pending;
        };
        match listening.arrived.pop_front() {
            Some((peer, stream)) => Poll::Ready((PeerAddr(peer), Box::new(PlayedStream(stream)))),
            None => {
                listening.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn connect(&self, PeerAddr(peer): PeerAddr) -> Connecting {
        let (network, local) = (self.network.clone(), self.local);
        Box::pin(async move {
            let silent = network.inner().tcp.silent.contains(&peer);
            if silent {
                std::future::pending::<()>().await;
            }
            let mut inner = network.inner();
            if !inner.tcp.answering.contains(&peer) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (here, there) = duplex(ROOM);
            inner.tcp.answered.entry(peer).or_default().push_back((local, End(here)));
            Ok(Box::new(PlayedStream(there)) as Box<dyn PeerStream>)
        })
    }
}

impl Drop for PlayedListener {
    fn drop(&mut self) {
        self.network.inner().tcp.listening.remove(&self.local);
    }
}

/// What a connection holds in each direction.
const ROOM: usize = 4096;
