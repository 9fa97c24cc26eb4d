//! AllocationActor: one allocation, from its relay sockets to its client.
//!
//! - Owns: the relay sockets, the port leases, permissions, channels, lifetime, counters; for TCP
//!   peers what `allocation/tcp_relay.rs` says.
//! - Started by: its ListenerActor, when the SessionActor asks.
//! - Hears from: its ListenerActor (data of the client), its SessionActor (requests), its sockets;
//!   other allocations whose peer it is (`allocation/hairpin.rs`); the PortAllocator, which knows
//!   them; the sessions and connections of its client's data connections.
//! - Stops when: it expires, is refreshed to zero, or is told to end.
//! - If it panics: gone. Sockets, connections and leases go back by Drop, the client gets 437.

mod client_data;
mod hairpin;
mod tcp_relay;
mod terms;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, debug, info};
use smallvec::SmallVec;
use sterna_proto::address::{Family, PeerAddr};
use sterna_proto::allocation::{
    Allocation, ChannelBindError, CreatePermissionError, Effect, RefreshError, Refreshed,
};
use sterna_proto::channel_data::ChannelNumber;
use sterna_proto::drops::DropReason;
use sterna_proto::quotas::{Direction, GateTerms, Grant};
use sterna_proto::relay_frames::FrameHeader;
use sterna_proto::request::{Offer, RefreshRequest};
use sterna_proto::session::{Answered, Owner};
use sterna_proto::stun::TransactionId;

use crate::clock;
use crate::counters::DropCounters;
use crate::port_allocator::{PortLease, RelayDirectory};
use crate::quota_keeper::QuotaLease;
use crate::session::SessionId;
use crate::socket::{BATCH, ReceiveBatch};
use crate::transport::{
    ClientTransport, Frame, HeaderFields, IcmpError, Readiness, RelaySocket, Sent, ToPeer,
};
use crate::usage::{OneLine, Usage};

use hairpin::{NearRun, Routes};
use tcp_relay::TcpRelay;

pub use client_data::ClientData;
pub use hairpin::PeerData;
pub use tcp_relay::{Connect, ConnectionReport, DrawBytes, TakePeerConnection, TcpSeed};
pub use terms::SetTerms;

/// Tell a SessionActor that takes the place of a failed one whose allocation this is.
#[derive(Debug, Message)]
#[rtype(result = "Attachment")]
pub struct Attach;

/// What a restarted session has to know of its allocation.
#[derive(Clone, Debug, MessageResponse)]
pub struct Attachment {
    /// Whose allocation it is.
    pub owner: Owner,
    /// The answer to the Allocate request, for its retransmissions.
    pub answered: Answered,
}

/// Set a new lifetime, or end the allocation (RFC 8656 §8.2).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Refreshed, RefreshError>")]
pub struct Refresh {
    /// What the client asks for.
    pub request: RefreshRequest,
    /// The allocation's user, with the credential that has proved this request.
    pub owner: Owner,
    /// When that credential ends the allocation.
    pub ends: Option<Instant>,
}

/// Install or refresh permissions, all or none (RFC 8656 §10.2).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), CreatePermissionError>")]
pub struct CreatePermission {
    /// The peers; their ports do not matter.
    pub peers: SmallVec<[PeerAddr; 4]>,
}

/// Bind a channel, or refresh its binding (RFC 8656 §12.2).
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), ChannelBindError>")]
pub struct BindChannel {
    /// The channel number.
    pub number: ChannelNumber,
    /// The peer.
    pub peer: PeerAddr,
}

/// End the allocation: its session is over, or the server stops.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct EndAllocation(pub EndReason);

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its lifetime is over.
    Expired,
    /// The credential that it was made with is over.
    CredentialExpired,
    /// The client refreshed it to zero.
    Deleted,
    /// Its session failed too often.
    SessionFailed,
    /// The client's connection is gone.
    ClientLeft,
    /// The server stops.
    Shutdown,
    /// The credential it was made with has been taken away.
    Revoked,
    /// The operator has ended it.
    EndedByOperator,
    /// The actor failed.
    Failed,
}

impl EndReason {
    fn text(self) -> &'static str {
        match self {
            EndReason::Expired => "allocation timeout",
            EndReason::CredentialExpired => "credential expired",
            EndReason::Deleted => "deleted by client",
            EndReason::SessionFailed => "session failed",
            EndReason::ClientLeft => "TCP connection closed by client (callback)",
            EndReason::Shutdown => "server shutdown",
            EndReason::Revoked => "credential revoked",
            EndReason::EndedByOperator => "ended by operator",
            EndReason::Failed => "allocation failed",
        }
    }
}

/// Relay within these limits from here on: the QuotaKeeper's word.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct SetBandwidth(pub GateTerms);

/// The credit that was asked for.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct GrantCredit(pub Grant);

/// Tell what the allocation has carried and dropped.
#[derive(Debug, Message)]
#[rtype(result = "AllocationCounters")]
pub struct ReadAllocation;

/// What an allocation has carried and dropped.
#[derive(Clone, Debug, MessageResponse)]
pub struct AllocationCounters {
    /// Packets and bytes on both legs.
    pub usage: Usage,
    /// Reads of the relay sockets that have found something.
    pub reads: u64,
    /// Sends of datagrams, to client and peers: one send may be cut into several by the kernel.
    pub sends: u64,
    /// Packets that went no further.
    pub drops: DropCounters,
}

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// What an allocation is made of; its SessionActor has gathered it.
pub struct AllocationSeed {
    /// The protocol state.
    pub core: Allocation,
    /// What the client's indications may ask for.
    pub offer: Offer,
    /// A socket for each relayed transport address of UDP.
    pub sockets: SmallVec<[Box<dyn RelaySocket>; 1]>,
    /// What there is instead where TCP is relayed.
    pub tcp: Option<TcpSeed>,
    /// The leases of their ports.
    pub leases: Vec<PortLease>,
    /// Whom to tell where it relays, and to ask who relays elsewhere.
    pub directory: Arc<RelayDirectory>,
    /// The right to be there.
    pub quota: QuotaLease,
    /// Whose it is.
    pub owner: Owner,
    /// The answer to the Allocate request that made it.
    pub answered: Answered,
}

/// See the head of this file.
pub struct AllocationActor {
    session: SessionId,
    core: Allocation,
    offer: Offer,
    // Above the leases: a port is free to lease once its socket is closed.
    sockets: SmallVec<[Box<dyn RelaySocket>; 1]>,
    tcp: Option<Box<TcpRelay>>,
    leases: Vec<PortLease>,
    directory: Arc<RelayDirectory>,
    routes: Routes,
    /// Datagrams of other allocations since the arbiter's others had their turn.
    near_in_turn: usize,
    quota: QuotaLease,
    owner: Owner,
    answered: Answered,
    client: Rc<dyn ClientTransport>,
    scratch: Rc<RefCell<ReceiveBatch>>,
    usage: Usage,
    reads: u64,
    sends: u64,
    drops: DropCounters,
    timer: Option<(Instant, SpawnHandle)>,
    end: EndReason,
    log: Logger,
}

impl AllocationActor {
    /// The allocation of `session`, which answers through `client`; `scratch` is its arbiter's room
    /// for received datagrams.
    pub fn new(
        session: SessionId,
        seed: AllocationSeed,
        client: Rc<dyn ClientTransport>,
        scratch: Rc<RefCell<ReceiveBatch>>,
        log: Logger,
    ) -> AllocationActor {
        AllocationActor {
            session,
            core: seed.core,
            offer: seed.offer,
            sockets: seed.sockets,
            tcp: seed.tcp.map(|seed| Box::new(TcpRelay::new(seed))),
            leases: seed.leases,
            directory: seed.directory,
            routes: Routes::default(),
            near_in_turn: 0,
            quota: seed.quota,
            owner: seed.owner,
            answered: seed.answered,
            client,
            scratch,
            usage: Usage::default(),
            reads: 0,
            sends: 0,
            drops: DropCounters::new(),
            timer: None,
            // What stands if it ends without having said why.
            end: EndReason::Failed,
            log,
        }
    }
}

impl Actor for AllocationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        for lease in &mut self.leases {
            lease.announce(&self.directory, ctx.address().downgrade().recipient());
            info!(self.log, "session {}: relayed address {}", self.session, lease.address();
                "session" => %self.session, "relayed" => %lease.address(),
                "realm" => %OneLine(&self.owner.account.realm),
                "username" => %OneLine(&self.owner.account.username));
        }
        self.quota.attach(ctx.address().recipient(), ctx.address().recipient());
        ctx.spawn(SocketLoop);
        self.arm_timer(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.usage.report(&self.log, self.session, &self.owner.account);
        info!(self.log, "session {}: allocation ended: {}", self.session, self.end.text();
            "session" => %self.session, "reason" => self.end.text(), "reads" => self.reads,
            "sends" => self.sends, self.drops.clone());
    }
}

impl Handler<Attach> for AllocationActor {
    type Result = Attachment;

    fn handle(&mut self, _: Attach, _: &mut Context<Self>) -> Attachment {
        Attachment { owner: self.owner.clone(), answered: self.answered.clone() }
    }
}

impl Handler<Refresh> for AllocationActor {
    type Result = Result<Refreshed, RefreshError>;

    fn handle(&mut self, refresh: Refresh, ctx: &mut Context<Self>) -> Self::Result {
        self.owner = refresh.owner;
        self.core.end_by(refresh.ends);
        let refreshed = self.core.refresh(&refresh.request, clock::now());
        if let Ok(Refreshed::Deleted) = refreshed {
            self.stop(EndReason::Deleted, ctx);
        }
        self.flush(ctx);
        refreshed
    }
}

impl Handler<CreatePermission> for AllocationActor {
    type Result = Result<(), CreatePermissionError>;

    fn handle(&mut self, wanted: CreatePermission, ctx: &mut Context<Self>) -> Self::Result {
        let created = self.core.create_permissions(&wanted.peers, clock::now());
        if let Err(CreatePermissionError::Forbidden { peer, rule }) = created {
            self.log_refused_peer(&peer, rule);
        }
        self.flush(ctx);
        created
    }
}

impl Handler<BindChannel> for AllocationActor {
    type Result = Result<(), ChannelBindError>;

    fn handle(&mut self, wanted: BindChannel, ctx: &mut Context<Self>) -> Self::Result {
        let bound = self.core.bind_channel(wanted.number, wanted.peer, clock::now());
        if let Err(ChannelBindError::Forbidden(rule)) = bound {
            self.log_refused_peer(&wanted.peer, rule);
        }
        self.flush(ctx);
        bound
    }
}

impl Handler<ClientData> for AllocationActor {
    type Result = ();

    fn handle(&mut self, data: ClientData, ctx: &mut Context<Self>) {
        self.relay_to_peers(data, ctx);
        self.report_usage();
    }
}

impl Handler<EndAllocation> for AllocationActor {
    type Result = ();

    fn handle(&mut self, EndAllocation(reason): EndAllocation, ctx: &mut Context<Self>) {
        self.stop(reason, ctx);
    }
}

impl Handler<SetBandwidth> for AllocationActor {
    type Result = ();

    fn handle(&mut self, SetBandwidth(terms): SetBandwidth, _: &mut Context<Self>) {
        self.quota.set_terms(terms, clock::now());
        if let Some(tcp) = &self.tcp {
            tcp.pace(self.quota.is_limited());
        }
    }
}

impl Handler<GrantCredit> for AllocationActor {
    type Result = ();

    fn handle(&mut self, GrantCredit(grant): GrantCredit, _: &mut Context<Self>) {
        self.quota.grant(grant, clock::now());
    }
}

impl Handler<ReadAllocation> for AllocationActor {
    type Result = AllocationCounters;

    fn handle(&mut self, _: ReadAllocation, _: &mut Context<Self>) -> AllocationCounters {
        AllocationCounters {
            usage: self.usage.clone(),
            reads: self.reads,
            sends: self.sends,
            drops: self.drops.clone(),
        }
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for AllocationActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into an AllocationActor");
    }
}

/// Reads the relay sockets, a batch at a time.
struct SocketLoop;

impl ActorFuture<AllocationActor> for SocketLoop {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut AllocationActor,
        ctx: &mut Context<AllocationActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        // The mailbox has been emptied, or waits for the others.
        actor.near_in_turn = 0;
        for index in 0..actor.sockets.len() {
            for round in 0.. {
                let Some(socket) = actor.sockets.get_mut(index) else { break };
                let Poll::Ready(ready) = socket.poll_ready(task) else { break };
                let drained = actor.socket_ready(index, ready);
                // The others of this arbiter have their turn before what is left here.
                if !drained || round == ROUNDS_AT_ONE_WAKE {
                    task.waker().wake_by_ref();
                    break;
                }
            }
        }
        if actor.accept_peers(ctx, task) {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl AllocationActor {
    /// Sends the client's datagrams on to the peers they are for.
    fn relay_to_peers(&mut self, data: ClientData, ctx: &mut Context<Self>) {
        let (now, five_tuple) = (clock::now(), self.client.five_tuple());
        let mut outgoing: SmallVec<[ToPeer<'_>; 8]> = SmallVec::new();
        let mut near = NearRun::default();
        let mut over = 0;
        for (bytes, fields) in data.iter() {
            self.usage.client.received(1, bytes.len() as u64);
            let Some(fields) = fields.forwarded() else {
                self.drops.count(DropReason::TtlExpired);
                continue;
            };
            match self.core.from_client(bytes, &self.offer, now) {
                Ok(to) if !self.quota.pass(Direction::ToPeers, to.data.len(), now) => over += 1,
                Ok(to) => {
                    let dont_fragment = to.sets_df(&five_tuple);
                    let to = ToPeer { peer: to.peer, data: to.data, fields, dont_fragment };
                    match near.is_near(&to, || self.is_near(to.peer, now, ctx)) {
                        true => near.push(&to, &data),
                        false => outgoing.push(to),
                    }
                }
                Err(reason) => self.drops.count(reason),
            }
        }
        let family = |to: &ToPeer<'_>| Family::of(to.peer.0.ip());
        for run in outgoing.chunk_by(|a, b| family(a) == family(b)) {
            self.send_run(run);
        }
        drop(outgoing);
        self.send_near(near, data);
        self.count_over_bandwidth(over);
        self.quota.ask_ahead(now);
    }

    /// Sends datagrams for peers of one family from the relay socket of that family.
    fn send_run(&mut self, run: &[ToPeer<'_>]) {
        let is_v4 = run.first().is_some_and(|to| to.peer.0.is_ipv4());
        let socket = self.sockets.iter_mut().find(|socket| socket.local().0.is_ipv4() == is_v4);
        let sent = match socket {
            Some(socket) => socket.send(run),
            None => Sent { failed: run.len() as u32, ..Sent::default() },
        };
        self.usage.peer.sent(u64::from(sent.packets), sent.bytes);
        self.sends += u64::from(sent.sends);
        self.count_unsent(sent);
    }

    /// Takes what the `index`th socket is ready with; true when nothing is left.
    fn socket_ready(&mut self, index: usize, ready: Readiness) -> bool {
        let Some(socket) = self.sockets.get_mut(index) else {
            return true;
        };
        if ready.errors {
            let errors: SmallVec<[IcmpError; 4]> =
                std::iter::from_fn(|| socket.take_error()).take(ERRORS_AT_ONE_WAKE).collect();
            errors.iter().for_each(|error| self.relay_icmp(error));
        }
        let Some(socket) = self.sockets.get_mut(index).filter(|_| ready.readable) else {
            return !ready.errors;
        };
        let scratch = self.scratch.clone();
        let mut batch = scratch.borrow_mut();
        match socket.receive(&mut batch) {
            Ok(count) => {
                self.reads += 1;
                batch.note_data(batch.len());
                let datagrams = batch
                    .iter()
                    .map(|(received, data)| (PeerAddr(received.from), received.fields, data));
                self.relay_to_client(datagrams);
                self.report_usage();
                count < BATCH
            }
            // A pending error has been reported and is cleared; the datagrams behind it still wait.
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Sends what peers have sent on to the client, and says how many datagrams of it may pass.
    fn relay_to_client<'a>(
        &mut self,
        datagrams: impl Iterator<Item = (PeerAddr, HeaderFields, &'a [u8])>,
    ) -> usize {
        let now = clock::now();
        let mut over = 0;
        let mut framed: SmallVec<[(FrameHeader, &[u8], HeaderFields); BATCH]> = SmallVec::new();
        for (from, fields, data) in datagrams {
            let length = data.len();
            self.usage.peer.received(1, length as u64);
            let Some(fields) = fields.forwarded() else {
                self.drops.count(DropReason::TtlExpired);
                continue;
            };
            match self.core.header_for_client(from, length, transaction_id, now) {
                Ok(_) if !self.quota.pass(Direction::ToClient, length, now) => over += 1,
                Ok(header) => framed.push((header, data, fields)),
                Err(reason) => self.drops.count(reason),
            }
        }
        let frames: SmallVec<[Frame<'_>; BATCH]> = framed
            .iter()
            .map(|(header, data, fields)| Frame::headed(header, data, *fields))
            .collect();
        self.send_to_client(&frames);
        self.count_over_bandwidth(over);
        self.quota.ask_ahead(now);
        frames.len()
    }

    /// Tells the client of an ICMP answer to a datagram of its own.
    fn relay_icmp(&mut self, error: &IcmpError) {
        let mut out = Vec::new();
        let told = self.core.icmp_for_client(
            error.peer,
            error.icmp,
            transaction_id(),
            clock::now(),
            &mut out,
        );
        match told {
            Ok(()) => self.send_to_client(&[Frame::control(&out)]),
            Err(reason) => self.drops.count(reason),
        }
    }

    fn send_to_client(&mut self, frames: &[Frame<'_>]) {
        if frames.is_empty() {
            return;
        }
        let sent = self.client.send(frames);
        self.usage.client.sent(u64::from(sent.packets), sent.bytes);
        self.sends += u64::from(sent.sends);
        self.count_unsent(sent);
    }

    fn count_unsent(&mut self, sent: Sent) {
        self.drops.count_many(DropReason::SocketFull, u64::from(sent.no_room));
        self.drops.count_many(DropReason::SendFailed, u64::from(sent.failed));
    }

    fn count_over_bandwidth(&mut self, packets: u64) {
        self.drops.count_many(DropReason::BandwidthExceeded, packets);
        self.usage.over_bandwidth += packets;
    }

    fn report_usage(&mut self) {
        if self.usage.is_due() {
            self.usage.report(&self.log, self.session, &self.owner.account);
        }
    }

    /// A dual allocation can lose one family and live on with the other (RFC 8656 §8.2).
    fn close_ended_relays(&mut self) {
        let relays = self.core.relays();
        let keeps = |address: SocketAddr| match Family::of(address.ip()) {
            Family::V4 => relays.v4.is_some(),
            Family::V6 => relays.v6.is_some(),
        };
        self.sockets.retain(|socket| keeps(socket.local().0));
        if let Some(tcp) = &mut self.tcp {
            tcp.follow(&self.core, keeps);
        }
        self.leases.retain(|lease| keeps(lease.address().0));
    }

    /// Stops; what is said first is the reason.
    fn stop(&mut self, reason: EndReason, ctx: &mut Context<Self>) {
        if self.end == EndReason::Failed {
            self.end = reason;
        }
        ctx.stop();
    }

    /// Logs what the core has decided, and waits for what it waits for.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::PermissionExpired(ip) => {
                    debug!(self.log, "permission expired"; "session" => %self.session,
                        "peer" => %ip);
                }
                Effect::ChannelExpired(number, peer) => {
                    debug!(self.log, "channel expired"; "session" => %self.session,
                        "channel" => %number, "peer" => %peer);
                }
                Effect::ConnectionClosed(id, peer) => {
                    debug!(self.log, "connection closed"; "session" => %self.session,
                        "id" => id.0, "peer" => %peer);
                }
                Effect::RelayExpired(family) => {
                    debug!(self.log, "relayed address expired"; "session" => %self.session,
                        "family" => %family);
                }
                Effect::Expired => self.stop(EndReason::Expired, ctx),
                Effect::CredentialExpired => self.stop(EndReason::CredentialExpired, ctx),
            }
        }
        self.close_ended_relays();
        self.routes.sweep(clock::now());
        self.arm_timer(ctx);
    }

    /// One timer waits for the earliest of all expiries. Where that moves back, the timer stays: it
    /// fires, finds nothing, and is armed anew.
    fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(wanted) = self.core.poll_timeout() else { return };
        match self.timer {
            Some((armed, _)) if armed <= wanted => return,
            Some((_, handle)) => {
                ctx.cancel_future(handle);
            }
            None => {}
        }
        let after = wanted.saturating_duration_since(clock::now()).max(TIMER_RESOLUTION);
        let handle = ctx.run_later(after, |actor, ctx| {
            actor.timer = None;
            actor.core.handle_timeout(clock::now());
            actor.flush(ctx);
        });
        self.timer = Some((wanted, handle));
    }
}

fn transaction_id() -> TransactionId {
    TransactionId::from_bytes(rand::random())
}

/// Batches of the client's data that wait; what comes when it is full is dropped and counted.
const MAILBOX: usize = 64;

/// Batches read from one socket at one wake while they keep coming.
const ROUNDS_AT_ONE_WAKE: usize = 3;

/// ICMP answers relayed at one wake.
const ERRORS_AT_ONE_WAKE: usize = 16;

/// Timers fire on this raster, so waiting less would only wake in vain.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);
