//! The network, played: sockets that are queues, addresses that a foreign program holds, hosts that
//! hear what is sent to them. It loses nothing, so that what is missing was dropped by the server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use sterna_actors::peer_connection::PeerConnection;
use sterna_actors::socket::{BATCH, ReceiveBatch};
use sterna_actors::transport::{
    ClientTransport, Frame, HeaderFields, IcmpError, ListenSocket, Readiness, RelayListener,
    RelaySocket, RelaySockets, Sent, ToPeer,
};
use sterna_proto::address::{FiveTuple, PeerAddr, RelayedAddr, TransportProtocol};
use sterna_proto::stun::Icmp;

use super::tcp::Tcp;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fields: HeaderFields,
    pub(crate) dont_fragment: bool,
}

/// What goes wrong with the next call of one kind: the caller panics in the middle of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trap {
    /// Binding a relay socket.
    Bind,
    /// Reading the socket with this address.
    Read(SocketAddr),
    /// Reading the socket with this address once more, behind a whole batch.
    ReadOn(SocketAddr),
    /// Sending to this address.
    Send(SocketAddr),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Network(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// The server's open sockets, by address.
    sockets: BTreeMap<SocketAddr, Socket>,
    /// What clients and peers have not heard yet.
    hosts: BTreeMap<SocketAddr, VecDeque<Packet>>,
    held: BTreeSet<SocketAddr>,
    unavailable: BTreeSet<IpAddr>,
    jammed: BTreeSet<SocketAddr>,
    unreachable: BTreeSet<SocketAddr>,
    traps: BTreeSet<Trap>,
    /// Sockets of which the next read fails.
    pending_errors: BTreeSet<SocketAddr>,
    binds: usize,
    /// Clients that come by TCP.
    streams: BTreeSet<SocketAddr>,
    pub(super) tcp: Tcp,
}

/// What comes to a socket.
#[derive(Debug)]
enum Arrival {
    Packet(Packet),
    /// The connection of a client is gone; it had sent no more than what came before.
    Left(FiveTuple),
}

#[derive(Debug, Default)]
struct Socket {
    arrived: VecDeque<Arrival>,
    errors: VecDeque<IcmpError>,
    waker: Option<Waker>,
    reads: usize,
    was_full: bool,
}

impl Network {
    /// A datagram from a host. Where no socket is open it is lost.
    pub(crate) fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.send_with(from, to, bytes, HeaderFields::default());
    }

    pub(crate) fn send_with(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        fields: HeaderFields,
    ) {
        let packet = Packet { from, bytes: bytes.to_vec(), fields, dont_fragment: false };
        if let Some(socket) = self.inner().sockets.get_mut(&to) {
            socket.arrived.push_back(Arrival::Packet(packet));
            socket.wake();
        }
    }

    /// The connection of the client at `from` is gone.
    pub(crate) fn leaves(&self, five_tuple: FiveTuple) {
        if let Some(socket) = self.inner().sockets.get_mut(&five_tuple.server) {
            socket.arrived.push_back(Arrival::Left(five_tuple));
            socket.wake();
        }
    }

    /// An ICMP answer to a datagram that went from the relayed address to the peer.
    pub(crate) fn icmp(&self, relayed: SocketAddr, peer: SocketAddr, icmp: Icmp) {
        if let Some(socket) = self.inner().sockets.get_mut(&relayed) {
            socket.errors.push_back(IcmpError { peer: PeerAddr(peer), icmp });
            socket.wake();
        }
    }

    /// The next datagram that the host has not heard.
    pub(crate) fn heard_by(&self, host: SocketAddr) -> Option<Packet> {
        self.inner().hosts.get_mut(&host)?.pop_front()
    }

    /// How many datagrams the host has not heard.
    pub(crate) fn unheard_by(&self, host: SocketAddr) -> usize {
        self.inner().hosts.get(&host).map_or(0, VecDeque::len)
    }

    /// Nobody has been sent anything that the script has not listened to.
    pub(crate) fn is_silent(&self) {
        let mut inner = self.inner();
        inner.hosts.retain(|_, packets| !packets.is_empty());
        assert!(inner.hosts.is_empty(), "nobody listened to {:#?}", inner.hosts);
    }

    /// The relay sockets and listening sockets that are open.
    pub(crate) fn open(&self) -> Vec<SocketAddr> {
        self.inner().sockets.keys().copied().collect()
    }

    pub(crate) fn is_open(&self, address: SocketAddr) -> bool {
        self.inner().sockets.contains_key(&address)
    }

    /// How often somebody has bound a relay socket, or tried to.
    pub(crate) fn binds(&self) -> usize {
        self.inner().binds
    }

    /// How often the socket has been read, with success or in vain.
    pub(crate) fn reads(&self, socket: SocketAddr) -> usize {
        self.inner().sockets.get(&socket).map_or(0, |socket| socket.reads)
    }

    /// A foreign program holds the address.
    pub(crate) fn holds(&self, address: SocketAddr) {
        self.inner().held.insert(address);
    }

    /// The foreign program has let the address go.
    pub(crate) fn lets_go(&self, address: SocketAddr) {
        self.inner().held.remove(&address);
    }

    /// No socket can be bound to the IP address.
    pub(crate) fn lacks(&self, ip: IpAddr) {
        self.inner().unavailable.insert(ip);
    }

    /// There is no room for what is sent to the host.
    pub(crate) fn jams(&self, host: SocketAddr) {
        self.inner().jammed.insert(host);
    }

    /// There is no route to the host.
    pub(crate) fn cuts_off(&self, host: SocketAddr) {
        self.inner().unreachable.insert(host);
    }

    /// The next read of the socket fails, as after an ICMP answer; what waits behind it stays.
    pub(crate) fn disturbs(&self, socket: SocketAddr) {
        self.inner().pending_errors.insert(socket);
    }

    /// Whoever makes this call next panics in it.
    pub(crate) fn sets(&self, trap: Trap) {
        self.inner().traps.insert(trap);
    }

    /// Opens a socket for clients.
    pub(crate) fn listen(&self, local: SocketAddr) -> Box<dyn ListenSocket> {
        self.inner().sockets.insert(local, Socket::default());
        Box::new(PlayedListenSocket { network: self.clone(), local })
    }

    /// The way from the server to one client.
    pub(crate) fn transport(&self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        Rc::new(PlayedTransport { network: self.clone(), five_tuple })
    }

    /// The client comes by TCP from here on.
    pub(crate) fn comes_by_tcp(&self, client: SocketAddr) {
        self.inner().streams.insert(client);
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn spring(&self, trap: Trap) {
        // The lock is open again when the panic comes.
        let sprung = self.inner().traps.remove(&trap);
        assert!(!sprung, "sprung by the script: {trap:?}");
    }

    /// Whether the last read of the socket filled its batch.
    fn reads_on(&self, local: SocketAddr) -> bool {
        let mut inner = self.inner();
        inner.sockets.get_mut(&local).is_some_and(|socket| std::mem::take(&mut socket.was_full))
    }

    /// From the server: to another of its sockets, or to a host.
    fn deliver(&self, to: SocketAddr, packet: Packet) -> Sent {
        self.spring(Trap::Send(to));
        let mut inner = self.inner();
        if inner.jammed.contains(&to) {
            return Sent { no_room: 1, ..Sent::default() };
        }
        if inner.unreachable.contains(&to) {
            return Sent { failed: 1, ..Sent::default() };
        }
        let bytes = packet.bytes.len() as u64;
        match inner.sockets.get_mut(&to) {
            Some(socket) => {
                socket.arrived.push_back(Arrival::Packet(packet));
                socket.wake();
            }
            None => inner.hosts.entry(to).or_default().push_back(packet),
        }
        Sent { packets: 1, bytes, ..Sent::default() }
    }

    fn read(&self, local: SocketAddr, batch: &mut ReceiveBatch) -> io::Result<usize> {
        self.spring(Trap::Read(local));
        if self.reads_on(local) {
            self.spring(Trap::ReadOn(local));
        }
        batch.clear();
        let mut inner = self.inner();
        if inner.pending_errors.remove(&local) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let Inner { sockets, streams, .. } = &mut *inner;
        if let Some(socket) = sockets.get_mut(&local) {
            socket.reads += 1;
            while batch.len() < BATCH
                && let Some(packet) = socket.next_packet()
            {
                let has_room = match streams.contains(&packet.from) {
                    true => batch.push_message(by_tcp(packet.from, local), &packet.bytes),
                    false => batch.push(packet.from, packet.fields, &packet.bytes),
                };
                assert!(has_room, "it has room");
            }
            socket.was_full = batch.len() == BATCH;
        }
        Ok(batch.len())
    }
}

fn by_tcp(client: SocketAddr, server: SocketAddr) -> FiveTuple {
    FiveTuple { client, server, protocol: TransportProtocol::Tcp }
}

impl Socket {
    /// The next packet, unless a client has left before it came.
    fn next_packet(&mut self) -> Option<Packet> {
        let is_packet = |arrival: &mut Arrival| matches!(arrival, Arrival::Packet(_));
        match self.arrived.pop_front_if(is_packet)? {
            Arrival::Packet(packet) => Some(packet),
            Arrival::Left(_) => None,
        }
    }

    fn next_left(&mut self) -> Option<FiveTuple> {
        let has_left = |arrival: &mut Arrival| matches!(arrival, Arrival::Left(_));
        match self.arrived.pop_front_if(has_left)? {
            Arrival::Left(five_tuple) => Some(five_tuple),
            Arrival::Packet(_) => None,
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct PlayedListenSocket {
    network: Network,
    local: SocketAddr,
}

impl ListenSocket for PlayedListenSocket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        match self.network.read(self.local, batch) {
            Ok(0) => {
                if let Some(socket) = self.network.inner().sockets.get_mut(&self.local) {
                    socket.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            read => Poll::Ready(read),
        }
    }

    fn take_left(&mut self) -> Option<FiveTuple> {
        self.network.inner().sockets.get_mut(&self.local)?.next_left()
    }

    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        self.network.transport(five_tuple)
    }

    fn answer(&mut self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent {
        self.transport(five_tuple).send(&[Frame::control(bytes)])
    }
}

impl Drop for PlayedListenSocket {
    fn drop(&mut self) {
        self.network.inner().sockets.remove(&self.local);
    }
}

struct PlayedTransport {
    network: Network,
    five_tuple: FiveTuple,
}

impl ClientTransport for PlayedTransport {
    fn five_tuple(&self) -> FiveTuple {
        self.five_tuple
    }

    fn send(&self, frames: &[Frame<'_>]) -> Sent {
        let mut sent = Sent::default();
        for frame in frames {
            let mut bytes = Vec::new();
            frame.append_to(&mut bytes);
            let packet = Packet {
                from: self.five_tuple.server,
                bytes,
                fields: frame.fields,
                dont_fragment: false,
            };
            sent.add(self.network.deliver(self.five_tuple.client, packet));
        }
        sent
    }

    fn join(&self, peer: PeerConnection) -> Result<(), PeerConnection> {
        self.network.join(self.five_tuple.client, peer);
        Ok(())
    }
}

impl RelaySockets for Network {
    fn listen(&self, RelayedAddr(local): RelayedAddr) -> io::Result<Box<dyn RelayListener>> {
        self.listens_at(local)
    }

    fn bind(&self, RelayedAddr(local): RelayedAddr) -> io::Result<Box<dyn RelaySocket>> {
        self.inner().binds += 1;
        self.spring(Trap::Bind);
        let mut inner = self.inner();
        if inner.unavailable.contains(&local.ip()) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        // Like a kernel's, this network gives an address to one socket at a time.
        if inner.held.contains(&local) || inner.sockets.contains_key(&local) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.sockets.insert(local, Socket::default());
        Ok(Box::new(PlayedRelaySocket { network: self.clone(), local }))
    }
}

struct PlayedRelaySocket {
    network: Network,
    local: SocketAddr,
}

impl RelaySocket for PlayedRelaySocket {
    fn local(&self) -> RelayedAddr {
        RelayedAddr(self.local)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Readiness> {
        let mut inner = self.network.inner();
        let Some(socket) = inner.sockets.get_mut(&self.local) else { return Poll::Pending };
        let ready =
            Readiness { readable: !socket.arrived.is_empty(), errors: !socket.errors.is_empty() };
        if ready == Readiness::default() {
            socket.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(ready)
    }

    fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        match self.network.read(self.local, batch) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        }
    }

    fn send(&mut self, datagrams: &[ToPeer<'_>]) -> Sent {
        let mut sent = Sent::default();
        for datagram in datagrams {
            let packet = Packet {
                from: self.local,
                bytes: datagram.data.to_vec(),
                fields: datagram.fields,
                dont_fragment: datagram.dont_fragment,
            };
            sent.add(self.network.deliver(datagram.peer.0, packet));
        }
        sent
    }

    fn take_error(&mut self) -> Option<IcmpError> {
        self.network.inner().sockets.get_mut(&self.local)?.errors.pop_front()
    }
}

impl Drop for PlayedRelaySocket {
    fn drop(&mut self) {
        self.network.inner().sockets.remove(&self.local);
    }
}
