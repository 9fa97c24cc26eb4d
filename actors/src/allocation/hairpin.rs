//! Data for a peer that is another allocation of this server: one message for all that a batch has
//! of it, instead of two ways through the kernel.
//!
//! Both sides do what they do with their sockets: the sender has counted, limited and forwarded its
//! datagrams before it looks where they go, and the receiver takes them as if its relay socket had
//! received them. Whenever there is doubt, the kernel's way is taken, which is always right.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::dev::SendError;
use actix::prelude::*;
use smallvec::SmallVec;
use sterna_proto::address::{Family, PeerAddr, RelayedAddr};

use super::{AllocationActor, ClientData};
use crate::clock;
use crate::port_allocator::{FindRelay, NearRelay, Place};
use crate::socket::BATCH;
use crate::transport::{HeaderFields, ToPeer};

/// Relay what another allocation of this server has sent to this one's relayed transport address.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PeerData {
    /// The sender's relayed transport address: the source that a datagram would have had.
    from: RelayedAddr,
    /// Those of the sender's client may be in there as they came.
    bytes: Vec<u8>,
    datagrams: Vec<NearDatagram>,
    /// Held while it waits.
    place: Option<Place>,
}

#[derive(Clone, Debug)]
struct NearDatagram {
    payload: Range<usize>,
    fields: HeaderFields,
    /// For the kernel's way alone. This one has no path on which anything would be too large.
    dont_fragment: bool,
}

impl PeerData {
    /// An empty one from the relay at this address.
    pub(crate) fn new(from: RelayedAddr) -> PeerData {
        PeerData { from, bytes: Vec::new(), datagrams: Vec::new(), place: None }
    }

    /// How many datagrams it has.
    pub(crate) fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// Waits at this place from here on.
    pub(crate) fn wait_at(&mut self, place: Place) {
        self.place = Some(place);
    }

    fn push(&mut self, payload: &[u8], datagram: &NearDatagram) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.datagrams.push(NearDatagram { payload: start..self.bytes.len(), ..datagram.clone() });
    }

    fn payload_bytes(&self) -> u64 {
        self.datagrams.iter().map(|datagram| datagram.payload.len() as u64).sum()
    }

    fn iter(&self) -> impl Iterator<Item = (&NearDatagram, &[u8])> {
        self.datagrams
            .iter()
            .filter_map(|datagram| Some((datagram, self.bytes.get(datagram.payload.clone())?)))
    }

    /// As its receiver's relay socket would have received them. Between two sockets of one machine
    /// there is no router: the hop limit that was sent is the one that arrives.
    fn received(&self) -> impl Iterator<Item = (PeerAddr, HeaderFields, &[u8])> {
        let from = PeerAddr(self.from.0);
        self.iter().map(move |(NearDatagram { fields, .. }, payload)| {
            let hop_limit = fields.hop_limit.or(Some(KERNEL_HOP_LIMIT));
            (from, HeaderFields { hop_limit, ..*fields }, payload)
        })
    }

    /// As its sender's relay socket sends them.
    fn to(&self, peer: PeerAddr) -> SmallVec<[ToPeer<'_>; 8]> {
        let to_peer = |(datagram, data): (&NearDatagram, _)| ToPeer {
            peer,
            data,
            fields: datagram.fields,
            dont_fragment: datagram.dont_fragment,
        };
        self.iter().map(to_peer).collect()
    }
}

impl ClientData {
    /// Where in the bytes of all datagrams this slice of them lies.
    fn place_of(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        let place = start..start + part.len();
        (place.end <= self.bytes.len()).then_some(place)
    }
}

/// What of the client's data goes by message, in order.
#[derive(Debug, Default)]
pub(super) struct NearRun {
    datagrams: SmallVec<[(PeerAddr, NearDatagram); 8]>,
    /// The peer asked about last, since a run mostly has but one.
    last: Option<(PeerAddr, bool)>,
}

impl NearRun {
    /// Whether the datagram goes by message; `ask` tells it of another peer than the last.
    pub(super) fn is_near(&mut self, to: &ToPeer<'_>, ask: impl FnOnce() -> bool) -> bool {
        let is_near = match self.last {
            Some((peer, is_near)) if peer == to.peer => is_near,
            _ => ask(),
        };
        self.last = Some((to.peer, is_near));
        // What no datagram can carry is left to the kernel, which refuses it.
        is_near && to.data.len() <= DATAGRAM_MAX
    }

    /// Notes a datagram, whose payload is a part of `data`.
    pub(super) fn push(&mut self, to: &ToPeer<'_>, data: &ClientData) {
        let Some(payload) = data.place_of(to.data) else {
            return debug_assert!(false, "the payload is the client's");
        };
        let ToPeer { peer, fields, dont_fragment, .. } = *to;
        self.datagrams.push((peer, NearDatagram { payload, fields, dont_fragment }));
    }
}

/// What an allocation knows of peers whose IP address is one of this server's own.
#[derive(Debug, Default)]
pub(super) struct Routes(Vec<Route>);

#[derive(Debug)]
struct Route {
    peer: PeerAddr,
    state: RouteState,
    /// When it was used last, or asked for.
    at: Instant,
}

#[derive(Debug)]
enum RouteState {
    /// The PortAllocator has been asked.
    Asked,
    /// The kernel's way, for a while: it knows nobody there (another program's socket, or a port
    /// that nobody has), or too much waits there.
    Kernel,
    /// Another allocation, or this one itself.
    Known(NearRelay),
}

impl Route {
    fn is_over(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        match &self.state {
            // Answered by and by, or told that there will be no answer.
            RouteState::Asked => false,
            RouteState::Kernel => age >= KERNEL_FOR,
            RouteState::Known(relay) => age >= UNUSED_FOR || !relay.is_open(),
        }
    }
}

impl Routes {
    /// Whether the route is known. It is noted as asked for where `must_ask` says so.
    fn is_known(&mut self, peer: PeerAddr, now: Instant, must_ask: &mut bool) -> bool {
        let found = self.0.iter_mut().find(|route| route.peer == peer);
        match found {
            Some(route) if !route.is_over(now) => match route.state {
                RouteState::Known(_) => {
                    route.at = now;
                    return true;
                }
                RouteState::Asked | RouteState::Kernel => return false,
            },
            Some(route) => *route = Route { peer, state: RouteState::Asked, at: now },
            None => {
                if self.0.len() >= ROUTES_MAX {
                    self.sweep(now);
                }
                // A client that tries all our ports costs the PortAllocator no more than this.
                if self.0.len() >= ROUTES_MAX {
                    return false;
                }
                self.0.push(Route { peer, state: RouteState::Asked, at: now });
            }
        }
        *must_ask = true;
        false
    }

    /// Notes what the PortAllocator has said.
    fn learn(&mut self, peer: PeerAddr, found: Option<NearRelay>, now: Instant) {
        let Some(route) = self.0.iter_mut().find(|route| route.peer == peer) else { return };
        route.state = found.map_or(RouteState::Kernel, RouteState::Known);
        route.at = now;
    }

    /// Has the kernel's way taken for a while. All of it: what goes by turns this way and that
    /// would overtake itself at each.
    fn shun(&mut self, peer: PeerAddr, now: Instant) {
        self.learn(peer, None, now);
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.0.retain(|route| !route.is_over(now));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    fn forget(&mut self, peer: PeerAddr) {
        let is_known = |route: &Route| matches!(route.state, RouteState::Known(_));
        self.0.retain(|route| route.peer != peer || !is_known(route));
    }

    fn try_send(&self, peer: PeerAddr, data: PeerData) -> Result<(), SendError<PeerData>> {
        let route = self.0.iter().find(|route| route.peer == peer);
        match route.map(|route| &route.state) {
            Some(RouteState::Known(relay)) => relay.try_send(data),
            Some(RouteState::Kernel) => Err(SendError::Full(data)),
            Some(RouteState::Asked) | None => Err(SendError::Closed(data)),
        }
    }
}

impl Handler<PeerData> for AllocationActor {
    type Result = ();

    // Whether the relay of that family is still there, and who may send to it, is looked at as for
    // what a socket has received. What is refused is counted here and nobody hears of it.
    fn handle(&mut self, data: PeerData, ctx: &mut Context<Self>) {
        self.scratch.borrow().note_data(data.datagrams.len());
        let relayed = self.relay_to_client(data.received());
        self.report_usage();
        // Other threads may send as fast as this one handles it, and a mailbox is emptied in one
        // go: the others of this arbiter have their turn, as between two reads of a socket. What
        // was refused cost next to nothing, and its sender shall not delay others by it.
        self.near_in_turn += relayed.max(REFUSED_MESSAGE);
        if self.near_in_turn >= NEAR_IN_A_TURN {
            self.near_in_turn = 0;
            ctx.wait(NextTurn::default());
        }
    }
}

/// Done when the others of the arbiter have had their turn.
#[derive(Default)]
struct NextTurn {
    is_next: bool,
}

impl ActorFuture<AllocationActor> for NextTurn {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        _: &mut AllocationActor,
        _: &mut Context<AllocationActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if std::mem::replace(&mut self.is_next, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AllocationActor {
    /// Whether a way by message to `peer` is known. If there may be one, it is asked for, and until
    /// it is known the kernel's way is taken. What is under way there may arrive behind what
    /// follows by message, as datagrams may.
    pub(super) fn is_near(
        &mut self,
        peer: PeerAddr,
        now: Instant,
        ctx: &mut Context<AllocationActor>,
    ) -> bool {
        if !self.core.terms().rules.may_be_relayed(peer) {
            return false;
        }
        let mut must_ask = false;
        let is_known = self.routes.is_known(peer, now, &mut must_ask);
        if must_ask {
            let asked = self.directory.find.send(FindRelay { address: RelayedAddr(peer.0) });
            ctx.spawn(asked.into_actor(self).map(move |found, actor, _| {
                actor.routes.learn(peer, found.ok().flatten(), clock::now());
            }));
        }
        is_known
    }

    /// Hands on what goes by message. The client's bytes go as they are where all of it has one
    /// receiver; otherwise each gets a copy of its own.
    pub(super) fn send_near(&mut self, near: NearRun, data: ClientData) {
        let mut datagrams = near.datagrams;
        let Some(&(peer, _)) = datagrams.first() else { return };
        let is_one = datagrams.iter().all(|(other, _)| *other == peer);
        let fits =
            data.bytes.len() <= MESSAGE_BYTES_MAX && datagrams.len() <= MESSAGE_DATAGRAMS_MAX;
        if is_one && fits {
            let Some(mut message) = self.message_for(peer) else { return };
            message.bytes = data.bytes;
            message.datagrams = datagrams.into_iter().map(|(_, datagram)| datagram).collect();
            return self.send_message(peer, message);
        }
        // Stable, so that the order of each receiver's stays.
        datagrams.sort_by_key(|&(peer, _)| peer);
        for run in datagrams.chunk_by(|(a, _), (b, _)| a == b) {
            let Some(&(peer, _)) = run.first() else { continue };
            let Some(mut message) = self.message_for(peer) else { continue };
            for (_, datagram) in run {
                let Some(payload) = data.bytes.get(datagram.payload.clone()) else { continue };
                let is_full = message.datagrams.len() >= MESSAGE_DATAGRAMS_MAX
                    || message.bytes.len() + payload.len() > MESSAGE_BYTES_MAX;
                if is_full && !message.datagrams.is_empty() {
                    let next = PeerData::new(message.from);
                    self.send_message(peer, std::mem::replace(&mut message, next));
                }
                message.push(payload, datagram);
            }
            self.send_message(peer, message);
        }
    }

    /// An empty message from the relay of the peer's family.
    fn message_for(&self, peer: PeerAddr) -> Option<PeerData> {
        let relays = self.core.relays();
        let relay = match Family::of(peer.0.ip()) {
            Family::V4 => relays.v4,
            Family::V6 => relays.v6,
        };
        // The core has found data for this peer, and so it has the relay.
        relay.map(|relay| PeerData::new(relay.relayed))
    }

    fn send_message(&mut self, peer: PeerAddr, message: PeerData) {
        let (packets, bytes) = (message.datagrams.len() as u64, message.payload_bytes());
        match self.routes.try_send(peer, message) {
            Ok(()) => self.usage.peer.sent(packets, bytes),
            // The buffer of the peer's socket has room for it, or drops it.
            Err(SendError::Full(message)) => {
                self.routes.shun(peer, clock::now());
                self.send_run(&message.to(peer));
            }
            // Nobody is there, or somebody else: what the kernel does with it is right.
            Err(SendError::Closed(message)) => {
                self.routes.forget(peer);
                self.send_run(&message.to(peer));
            }
        }
    }
}

/// Peers at addresses of this server that an allocation knows about. Data for further ones takes
/// the kernel's way.
const ROUTES_MAX: usize = 32;

/// How long it is believed that nobody is behind an address, or that too much waits there. A stream
/// of packets to another program's socket costs a question as often as that.
const KERNEL_FOR: Duration = Duration::from_secs(2);

/// How long a route is believed without being used; it is taken out with the next request.
const UNUSED_FOR: Duration = Duration::from_secs(60);

/// Bytes of one message, what stands around payloads included; with `WAITING_MAX` it bounds what
/// waits for an allocation.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Datagrams of one message, for the same reason: small ones weigh less than what is noted of them.
const MESSAGE_DATAGRAMS_MAX: usize = 4 * BATCH;

/// What a message of which nothing was relayed counts for in a turn, in datagrams.
const REFUSED_MESSAGE: usize = 4;

/// Datagrams that are handled before the others of the arbiter have their turn.
const NEAR_IN_A_TURN: usize = 4 * BATCH;

/// The longest payload of a UDP datagram over IPv4, which is the shorter one.
const DATAGRAM_MAX: usize = 65_535 - 20 - 8;

/// What the kernel sends datagrams with whose sender chose nothing: what its `ip_default_ttl` and
/// `hop_limit` are unless somebody has changed them.
const KERNEL_HOP_LIMIT: u8 = 64;
