//! What the actors know of the outside: a client's transport, a listening socket, relay sockets.
//!
//! Actors see these small interfaces and nothing behind them. The daemon puts UDP sockets there, a
//! script puts what the test plays, and neither SessionActor nor AllocationActor can tell.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use sterna_proto::address::{FiveTuple, PeerAddr, RelayedAddr};
use sterna_proto::relay_frames::FrameHeader;
use sterna_proto::stun::Icmp;

use crate::counters::DropCounters;
use crate::peer_connection::{PeerConnection, PeerStream};
use crate::socket::ReceiveBatch;

/// The fields of an IP header that a relay preserves (RFC 8656 §13 to §16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields {
    /// TTL or hop limit; `None` where the kernel did not tell, or for its default on the way out.
    pub hop_limit: Option<u8>,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
}

impl HeaderFields {
    /// The fields for the far side of the relay: the hop limit is one less, everything else stays.
    /// `None` when the datagram has come to the end of its hops.
    pub fn forwarded(self) -> Option<HeaderFields> {
        match self.hop_limit {
            None => Some(self),
            // A router forwards with one hop less and drops what has none left (RFC 7915 §4, to
            // which RFC 8656 §13 refers); that is also what ends a loop of relays.
            Some(0 | 1) => None,
            Some(hops) => Some(HeaderFields { hop_limit: Some(hops - 1), ..self }),
        }
    }
}

/// One message for a client: a whole STUN message or ChannelData message, without the padding that
/// streams want. It may lie in two places, so that data is sent from where it was received.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What stands before `bytes`; nothing where that is the whole message.
    pub header: &'a [u8],
    /// The data of the message, or all of it.
    pub bytes: &'a [u8],
    /// Zero bytes that stand behind, three at most.
    pub padding: usize,
    /// The header fields it is sent with, where the transport has datagrams.
    pub fields: HeaderFields,
    /// What becomes of it when the client does not keep up.
    pub kind: FrameKind,
}

/// What becomes of a frame when the client does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// It waits for its turn, however long that takes.
    Control,
    /// It makes room for later ones: old media is of no use to anybody.
    Media,
}

impl<'a> Frame<'a> {
    /// A message of the server's own, with the kernel's header fields.
    pub fn control(bytes: &'a [u8]) -> Frame<'a> {
        Frame { kind: FrameKind::Control, ..Frame::media(bytes, HeaderFields::default()) }
    }

    /// A message with what a peer has sent.
    pub fn media(bytes: &'a [u8], fields: HeaderFields) -> Frame<'a> {
        Frame { header: &[], bytes, padding: 0, fields, kind: FrameKind::Media }
    }

    /// What a peer has sent, behind the header that it goes to the client with.
    pub fn headed(header: &'a FrameHeader, bytes: &'a [u8], fields: HeaderFields) -> Frame<'a> {
        let padding = header.padding();
        Frame { header: header.as_ref(), padding, ..Frame::media(bytes, fields) }
    }

    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.header.len() + self.bytes.len() + self.padding
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the whole message.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.header);
        out.extend_from_slice(self.bytes);
        out.resize(out.len() + self.padding, 0);
    }
}

/// What became of frames or datagrams that were handed to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Taken by the kernel, or by the queue of a stream.
    pub packets: u32,
    /// Sends of datagrams that took them: the kernel may cut one send into several datagrams.
    pub sends: u32,
    /// Bytes of those.
    pub bytes: u64,
    /// Dropped because the socket's buffer or the stream's queue was full: these ones, or older
    /// ones in their favour.
    pub no_room: u32,
    /// Refused by the kernel for another reason: no route, too large, filtered.
    pub failed: u32,
}

impl Sent {
    /// Adds what became of further ones.
    pub fn add(&mut self, other: Sent) {
        self.packets += other.packets;
        self.sends += other.sends;
        self.bytes += other.bytes;
        self.no_room += other.no_room;
        self.failed += other.failed;
    }
}

/// The way back to one client. It outlives a restart of the client's session, and belongs to the
/// arbiter of the listener that made it.
pub trait ClientTransport {
    /// The conversation that this transport carries.
    fn five_tuple(&self) -> FiveTuple;

    /// Sends frames in order without blocking.
    fn send(&self, frames: &[Frame<'_>]) -> Sent;

    /// Makes the client's connection one end of a relayed TCP connection, behind all that was sent
    /// on it before (RFC 6062 §4.4).
    ///
    /// # Errors
    /// Gives the peer's connection back where the client has none, or it is gone.
    fn join(&self, peer: PeerConnection) -> Result<(), PeerConnection> {
        Err(peer)
    }
}

/// A socket on which clients arrive.
pub trait ListenSocket {
    /// The address it is bound to; the port is the real one.
    fn local(&self) -> SocketAddr;

    /// Fills `batch` with the messages that wait. Of a client that has left, nothing comes before
    /// [`ListenSocket::take_left`] has named it.
    ///
    /// # Errors
    /// What the kernel says of the socket; the next call may well succeed.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>>;

    /// The next client whose connection is gone. Datagrams have none that could go.
    fn take_left(&mut self) -> Option<FiveTuple> {
        None
    }

    /// What the socket itself has turned away since the last time, by reason.
    fn take_drops(&mut self) -> DropCounters {
        DropCounters::new()
    }

    /// The transport of the client that `five_tuple` names. While it lives, the client is one that
    /// has proved its address.
    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport>;

    /// Answers one message without keeping anything of the client.
    fn answer(&mut self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent;

    /// Connections there are, proved or not. Plain datagrams have none.
    fn connections(&self) -> usize {
        0
    }
}

/// One datagram for a peer.
#[derive(Clone, Copy, Debug)]
pub struct ToPeer<'a> {
    /// The peer, as the relay reaches it.
    pub peer: PeerAddr,
    /// The application data.
    pub data: &'a [u8],
    /// The header fields it is sent with.
    pub fields: HeaderFields,
    /// Whether the DF bit is set (the DONT-FRAGMENT attribute, RFC 8656 §11).
    pub dont_fragment: bool,
}

/// An ICMP message that the relay socket was told of (RFC 8656 §11.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The peer to which the datagram had been sent.
    pub peer: PeerAddr,
    /// Type, code and data as the ICMP attribute has them.
    pub icmp: Icmp,
}

/// What a relay socket is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Datagrams wait.
    pub readable: bool,
    /// ICMP errors wait.
    pub errors: bool,
}

/// A socket bound to a relayed transport address; it belongs to one allocation.
pub trait RelaySocket: Send {
    /// The relayed transport address it is bound to.
    fn local(&self) -> RelayedAddr;

    /// Waits until something can be read.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Readiness>;

    /// Fills `batch` with the datagrams that wait, without blocking, and says how many of its
    /// places were taken. Fewer than [`BATCH`](crate::socket::BATCH) means drained.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits, otherwise what the kernel says; the socket stays usable.
    fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<usize>;

    /// Sends datagrams in order without blocking. No failure ends the socket.
    fn send(&mut self, datagrams: &[ToPeer<'_>]) -> Sent;

    /// Takes the next ICMP error off the queue.
    fn take_error(&mut self) -> Option<IcmpError>;
}

/// A TCP socket that listens at a relayed transport address; it belongs to one allocation
/// (RFC 6062 §5.1).
pub trait RelayListener: Send {
    /// The relayed transport address it is bound to.
    fn local(&self) -> RelayedAddr;

    /// Waits for the next peer that connects. Nothing of what the peer sends is read.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(PeerAddr, Box<dyn PeerStream>)>;

    /// Connects from the relayed transport address to `peer`, however long that takes.
    fn connect(&self, peer: PeerAddr) -> Connecting;
}

/// A connection to a peer in the making. Dropping it gives up.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn PeerStream>>>>>;

/// Makes relay sockets.
pub trait RelaySockets: Send + Sync + fmt::Debug {
    /// Binds a socket to `address`.
    ///
    /// # Errors
    /// `AddrInUse` when a foreign program holds the port; anything else is the kernel's word.
    fn bind(&self, address: RelayedAddr) -> io::Result<Box<dyn RelaySocket>>;

    /// Listens for TCP peers at `address`.
    ///
    /// # Errors
    /// As for `bind`.
    fn listen(&self, address: RelayedAddr) -> io::Result<Box<dyn RelayListener>>;
}
