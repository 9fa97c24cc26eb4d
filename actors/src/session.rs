//! SessionActor: one client's STUN conversation.
//!
//! - Owns: who the client is, the requests being served, the answers given.
//! - Started by: its ListenerActor, when a client has proved its address.
//! - Hears from: its ListenerActor (requests, the end of its allocation).
//! - Stops when: its client could not prove who it is, or has had no allocation for a while.
//! - If it panics: its listener starts another, attached to the living allocation.

mod gathering;

use std::fmt;
use std::future::Future;
use std::num::ParseIntError;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use slog::{Logger, debug, info};
use sterna_proto::allocation::{Allocation, ConnectionBindError, Refreshed, Terms};
use sterna_proto::drops::DropReason;
use sterna_proto::guard::Claim;
use sterna_proto::request::{AllocateRequest, ConnectRequest, Request};
use sterna_proto::session::{
    Outcome, Owner, Session, SessionEvent, SessionTerms, Step, StoresDown,
};
use sterna_proto::stun::{ConnectionId, ErrorCode};

use crate::allocation::{
    AllocationSeed, Attach, Attachment, BindChannel, Connect, CreatePermission, Refresh,
    TakePeerConnection,
};
use crate::authenticator::FindKeys;
use crate::clock;
use crate::connection_broker::{FindConnection, NameConnection};
use crate::counters::DropCounters;
use crate::listener::{
    EndClient, LoginFailed, LoginProved, LoginUnanswered, SessionDropped, StartAllocation,
};
use crate::peer_connection::PeerConnection;
use crate::port_allocator::{ClaimReservation, LeasePort, RelayDirectory};
use crate::quota_keeper::{LeaseQuota, QuotaLease};
use crate::transport::{ClientTransport, Frame, RelaySockets};
use crate::usage::OneLine;

use gathering::{Gathered, Gathering};

/// A request of the client, as it came off the wire.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ClientRequest(pub Bytes);

/// The session's allocation has ended, whatever ended it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AllocationEnded;

/// Live by other terms from the next request on.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetNeighbours(pub Arc<SessionNeighbours>);

/// End the session: the server stops, or has given it up.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct EndSession;

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// Names a session in logs: the listener's number and a count, as coturn's operators know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

impl SessionId {
    /// The `count`th session of the `listener`th listening socket.
    pub fn new(listener: u16, count: u64) -> SessionId {
        SessionId(u64::from(listener) * 1_000_000_000_000_000 + count % 1_000_000_000_000_000)
    }
}

// As the log writes it; the zeros at its head may be left out.
impl FromStr for SessionId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<SessionId, ParseIntError> {
        text.parse().map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:018}", self.0)
    }
}

/// The allocation of a session, as far as the session talks to it. A session asks it every few
/// minutes, so that a recipient is made for each question and none is kept.
pub trait Allocates: Send + Sync {
    /// Asks whose it is.
    fn attach(&self) -> Recipient<Attach>;
    /// Serves Refresh.
    fn refresh(&self) -> Recipient<Refresh>;
    /// Serves CreatePermission.
    fn create_permission(&self) -> Recipient<CreatePermission>;
    /// Serves ChannelBind.
    fn bind_channel(&self) -> Recipient<BindChannel>;
    /// Serves Connect.
    fn connect(&self) -> Recipient<Connect>;
}

impl<A> Allocates for Addr<A>
where
    A: Actor<Context = Context<A>>
        + Handler<Attach>
        + Handler<Refresh>
        + Handler<CreatePermission>
        + Handler<BindChannel>
        + Handler<Connect>,
{
    fn attach(&self) -> Recipient<Attach> {
        self.clone().recipient()
    }

    fn refresh(&self) -> Recipient<Refresh> {
        self.clone().recipient()
    }

    fn create_permission(&self) -> Recipient<CreatePermission> {
        self.clone().recipient()
    }

    fn bind_channel(&self) -> Recipient<BindChannel> {
        self.clone().recipient()
    }

    fn connect(&self) -> Recipient<Connect> {
        self.clone().recipient()
    }
}

/// Whoever answers as an allocation does.
pub type AllocationHandle = Arc<dyn Allocates>;

/// Whom a session asks, and what all sessions share.
#[derive(Clone)]
pub struct SessionNeighbours {
    /// Finds keys.
    pub find_keys: Recipient<FindKeys>,
    /// Leases a place among the allocations that there may be.
    pub lease_quota: Recipient<LeaseQuota>,
    /// Ends this session and its allocation.
    pub end_client: Recipient<EndClient>,
    /// Leases ports.
    pub lease_port: Recipient<LeasePort>,
    /// Hands out reserved ports.
    pub claim_reservation: Recipient<ClaimReservation>,
    /// Names the TCP connections of its allocation.
    pub name_connection: Recipient<NameConnection>,
    /// Finds those of other sessions' allocations.
    pub find_connection: Recipient<FindConnection>,
    /// Starts the allocation.
    pub start_allocation: Recipient<StartAllocation>,
    /// Is told of what was dropped.
    pub dropped: Recipient<SessionDropped>,
    /// Is told of a client that has not proved itself.
    pub login_failed: Recipient<LoginFailed>,
    /// Is told of one that could not, as the stores were away.
    pub login_unanswered: Recipient<LoginUnanswered>,
    /// Is told of one that has.
    pub login_proved: Recipient<LoginProved>,
    /// Knows which allocation is behind which relayed transport address.
    pub relay_directory: Arc<RelayDirectory>,
    /// Binds relay sockets.
    pub relay_sockets: Arc<dyn RelaySockets>,
    /// The realm, its nonces, what may be asked for.
    pub session_terms: Arc<SessionTerms>,
    /// Lifetimes, limits and peer rules of allocations.
    pub allocation_terms: Arc<Terms>,
}

/// See the head of this file.
pub struct SessionActor {
    id: SessionId,
    core: Session,
    client: Rc<dyn ClientTransport>,
    allocation: Option<AllocationHandle>,
    neighbours: Arc<SessionNeighbours>,
    drops: DropCounters,
    timer: Option<SpawnHandle>,
    /// The listener knows that the client has proved itself.
    proved: bool,
    ending: bool,
    log: Logger,
}

impl SessionActor {
    /// The session `id` of the client behind `client`; `allocation` is the one that a failed
    /// session has left.
    pub fn new(
        id: SessionId,
        client: Rc<dyn ClientTransport>,
        allocation: Option<AllocationHandle>,
        neighbours: Arc<SessionNeighbours>,
        log: Logger,
    ) -> SessionActor {
        let five_tuple = client.five_tuple();
        let terms = neighbours.session_terms.clone();
        SessionActor {
            id,
            core: Session::new(terms, five_tuple, clock::now()),
            client,
            allocation,
            neighbours,
            drops: DropCounters::new(),
            timer: None,
            proved: false,
            ending: false,
            log,
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        match &self.allocation {
            // Requests wait in the mailbox until it is known whose allocation this is.
            Some(allocation) => {
                let attachment = allocation.attach().send(Attach).into_actor(self);
                ctx.wait(attachment.map(|attachment, actor, ctx| actor.attach(attachment, ctx)));
            }
            None => self.arm_timer(ctx),
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        if !self.drops.is_empty() {
            self.neighbours.dropped.do_send(SessionDropped(self.drops.clone()));
        }
        debug!(self.log, "session ended"; "session" => %self.id);
    }
}

impl Handler<ClientRequest> for SessionActor {
    type Result = ();

    fn handle(&mut self, ClientRequest(bytes): ClientRequest, ctx: &mut Context<Self>) {
        let step = self.core.receive(bytes, clock::now());
        self.take(step, ctx);
    }
}

impl Handler<AllocationEnded> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: AllocationEnded, ctx: &mut Context<Self>) {
        self.forget_allocation();
        self.arm_timer(ctx);
    }
}

impl Handler<SetNeighbours> for SessionActor {
    type Result = ();

    fn handle(&mut self, SetNeighbours(neighbours): SetNeighbours, _: &mut Context<Self>) {
        self.core.set_terms(neighbours.session_terms.clone());
        self.neighbours = neighbours;
    }
}

impl Handler<EndSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: EndSession, ctx: &mut Context<Self>) {
        self.ending = true;
        self.stop_if_done(ctx);
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into a SessionActor");
    }
}

impl SessionActor {
    fn attach(&mut self, found: Result<Attachment, MailboxError>, ctx: &mut Context<Self>) {
        match found {
            Ok(Attachment { owner, answered }) => self.core.attach(owner, answered),
            // It has ended in the meantime; its watcher's word of that follows.
            Err(_) => self.allocation = None,
        }
        self.arm_timer(ctx);
    }

    /// Does what the core says, and what it says after that, until it waits.
    fn take(&mut self, first: Step, ctx: &mut Context<Self>) {
        let mut next = Some(first);
        while let Some(step) = next {
            self.tell_events();
            match step {
                Step::Reply(reply) => self.reply(&reply),
                Step::FindKeys(claim) => self.find_keys(claim, false, ctx),
                Step::FindKeysAfresh(claim) => self.find_keys(claim, true, ctx),
                Step::Perform(request) => self.perform(request, ctx),
                Step::Wait => {}
                Step::Drop(reason) => self.drops.count(reason),
            }
            next = self.core.next(clock::now());
        }
        self.stop_if_done(ctx);
        self.arm_timer(ctx);
    }

    /// Tells the log and the listener what the core has decided.
    fn tell_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                SessionEvent::Refused { code, why, .. } => self.log_refused(code, &why),
                SessionEvent::LoginFailed(failure) => {
                    // The listener may not believe it any more: the next proof is news again.
                    self.proved = false;
                    let client = self.client.five_tuple().client;
                    let failed = LoginFailed { session: self.id, client, failure };
                    self.neighbours.login_failed.do_send(failed);
                }
                SessionEvent::LoginUnanswered(user) => {
                    self.proved = false;
                    let client = self.client.five_tuple().client;
                    let unanswered = LoginUnanswered { session: self.id, client, user };
                    self.neighbours.login_unanswered.do_send(unanswered);
                }
            }
        }
        if self.core.take_proof() && !self.proved {
            self.proved = true;
            let user = self.core.claimed().cloned();
            self.neighbours.login_proved.do_send(LoginProved { session: self.id, user });
        }
    }

    fn reply(&mut self, reply: &[u8]) {
        let sent = self.client.send(&[Frame::control(reply)]);
        self.drops.count_many(DropReason::SocketFull, u64::from(sent.no_room));
        self.drops.count_many(DropReason::SendFailed, u64::from(sent.failed));
    }

    fn find_keys(&mut self, claim: Claim, afresh: bool, ctx: &mut Context<Self>) {
        let client = self.client.five_tuple().client.ip();
        let asked = self.neighbours.find_keys.send(FindKeys { claim, client, afresh });
        self.spawn(asked, ctx, |actor, found, ctx| {
            let step = actor.core.keys_found(found.unwrap_or(Err(StoresDown)), clock::now());
            actor.take(step, ctx);
            actor.stop_if_unproven(ctx);
        });
    }

    fn perform(&mut self, request: Request, ctx: &mut Context<Self>) {
        match (request, self.allocation.clone()) {
            (Request::Allocate(request), _) => self.allocate(request, ctx),
            (Request::ConnectionBind(request), _) => self.bind_connection(request.id, ctx),
            (Request::Connect(request), Some(allocation)) => {
                self.connect(request, &*allocation, ctx);
            }
            (_, None) => self.conclude(Outcome::Refused(ErrorCode::AllocationMismatch), ctx),
            (Request::Refresh(request), Some(allocation)) => {
                let Some(owner) = self.core.owner().cloned() else {
                    return self.conclude(Outcome::Refused(ErrorCode::ServerError), ctx);
                };
                let ends = self.allocation_ends(&owner);
                let asked = allocation.refresh().send(Refresh { request, owner, ends });
                self.spawn(asked, ctx, |actor, refreshed, ctx| {
                    // The next Allocate may follow before the listener hears of the end.
                    if let Ok(Ok(Refreshed::Deleted)) = refreshed {
                        actor.forget_allocation();
                    }
                    actor.conclude_asked(refreshed, ctx, |refreshed| match refreshed {
                        Ok(Refreshed::Until(lifetime)) => Outcome::Refreshed(lifetime),
                        Ok(Refreshed::Deleted | Refreshed::RelayDeleted(_)) => {
                            Outcome::Refreshed(Duration::ZERO)
                        }
                        Err(error) => Outcome::Refused(error.code()),
                    });
                });
            }
            (Request::CreatePermission(request), Some(allocation)) => {
                let wanted = CreatePermission { peers: request.peers };
                let asked = allocation.create_permission().send(wanted);
                self.spawn(asked, ctx, |actor, created, ctx| {
                    actor.conclude_asked(created, ctx, |created| match created {
                        Ok(()) => Outcome::PermissionsCreated,
                        Err(error) => Outcome::Refused(error.code()),
                    });
                });
            }
            (Request::ChannelBind(request), Some(allocation)) => {
                let (number, peer) = (request.number, request.peer);
                let asked = allocation.bind_channel().send(BindChannel { number, peer });
                self.spawn(asked, ctx, |actor, bound, ctx| {
                    actor.conclude_asked(bound, ctx, |bound| match bound {
                        Ok(()) => Outcome::ChannelBound,
                        Err(error) => Outcome::Refused(error.code()),
                    });
                });
            }
        }
    }

    /// Asks for a connection to a peer, and serves other requests while the peer is called.
    fn connect(
        &mut self,
        ConnectRequest { peer }: ConnectRequest,
        allocation: &dyn Allocates,
        ctx: &mut Context<Self>,
    ) {
        let Some(aside) = self.core.set_aside() else { return };
        let asked = allocation.connect().send(Connect { peer });
        self.spawn(asked, ctx, move |actor, connected, ctx| {
            let outcome = match connected {
                Ok(Ok(id)) => Outcome::Connected(id),
                Ok(Err(error)) => Outcome::Refused(error.code()),
                Err(_) => Outcome::Refused(ErrorCode::AllocationMismatch),
            };
            actor.log_refusal(&outcome);
            let reply = actor.core.resume(aside, &outcome, clock::now());
            actor.reply(&reply);
            actor.arm_timer(ctx);
        });
    }

    /// Fetches the peer's connection from the allocation that has it, and makes the client's
    /// connection its other end.
    fn bind_connection(&mut self, id: ConnectionId, ctx: &mut Context<Self>) {
        let Some(user) = self.core.owner().map(|owner| owner.account.clone()) else {
            return self.conclude(Outcome::Refused(ErrorCode::ServerError), ctx);
        };
        let found = self.neighbours.find_connection.send(FindConnection(id));
        let taken = async move {
            let found = found.await.map_err(|_| ErrorCode::ServerError)?;
            let not_pending = ConnectionBindError::NotPending.code();
            let allocation = found.ok_or(not_pending)?;
            let taken = allocation.send(TakePeerConnection { id, user }).await;
            // Its silence means that the allocation has ended.
            taken.map_err(|_| not_pending)?.map_err(|error| error.code())
        };
        self.spawn(taken, ctx, |actor, taken, ctx| match taken {
            Ok(peer) => actor.join(peer, ctx),
            Err(code) => actor.conclude(Outcome::Refused(code), ctx),
        });
    }

    /// Answers ConnectionBind. No message comes over this connection any more, so that the session
    /// is over; the connection lives on without it.
    fn join(&mut self, peer: PeerConnection, ctx: &mut Context<Self>) {
        let reply = self.core.compose(&Outcome::ConnectionBound);
        self.core.conclude(reply.clone(), clock::now());
        self.reply(&reply);
        if self.client.join(peer).is_err() {
            debug!(self.log, "the client has left before its data"; "session" => %self.id);
        }
        ctx.stop();
    }

    /// Leases a place, gathers ports and sockets, then asks the listener to start the allocation.
    fn allocate(&mut self, request: AllocateRequest, ctx: &mut Context<Self>) {
        let Some(owner) = self.core.owner().cloned() else {
            return self.conclude(Outcome::Refused(ErrorCode::ServerError), ctx);
        };
        let lifetime = self.neighbours.allocation_terms.lifetimes.grant(request.lifetime);
        let gathering = Gathering {
            neighbours: self.neighbours.clone(),
            transport: request.transport,
            prefer: self.client.five_tuple().server.ip(),
            user: owner.account.clone(),
        };
        let place = self.neighbours.lease_quota.send(LeaseQuota {
            session: self.id,
            owner: owner.clone(),
            client: self.client.five_tuple().client,
            end: self.neighbours.end_client.clone(),
        });
        //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
        //# At any point, the server MAY choose to reject the request with a
        //# 486 (Allocation Quota Reached) error if it feels the client is
        //# trying to exceed some locally defined allocation quota.
        let gathered = async move {
            let place = place.await.map_err(|_| ErrorCode::ServerError)?;
            let place = place.map_err(|_| ErrorCode::AllocationQuotaReached)?;
            Ok((place, gathering.gather(request).await?))
        };
        self.spawn(gathered, ctx, move |actor, gathered, ctx| match gathered {
            Ok((place, gathered)) => {
                actor.start_allocation(place, gathered, owner, lifetime, ctx);
            }
            Err(code) => actor.conclude(Outcome::Refused(code), ctx),
        });
    }

    fn start_allocation(
        &mut self,
        quota: QuotaLease,
        gathered: Gathered,
        owner: Owner,
        lifetime: Duration,
        ctx: &mut Context<Self>,
    ) {
        let now = clock::now();
        let ends = self.allocation_ends(&owner);
        let lifetime = match ends {
            Some(ends) => lifetime.min(ends.saturating_duration_since(now)),
            None => lifetime,
        };
        let terms = self.neighbours.allocation_terms.clone();
        let relays = gathered.relays(&terms);
        let outcome = Outcome::Allocated(gathered.allocated(&relays, lifetime));
        let reply = self.core.compose(&outcome);
        let Some(answered) = self.core.answered(reply.clone(), now) else {
            return self.conclude(Outcome::Refused(ErrorCode::ServerError), ctx);
        };
        let relay_ends = gathered.ends(&self.neighbours.name_connection);
        let core = match &relay_ends.tcp {
            None => Allocation::new(terms, relays, lifetime, now),
            Some(_) => Allocation::new_tcp(terms, relays, lifetime, now),
        };
        let seed = AllocationSeed {
            core: core.belonging_to(owner.account.clone(), ends),
            offer: self.neighbours.session_terms.offer,
            sockets: relay_ends.sockets,
            tcp: relay_ends.tcp,
            leases: relay_ends.leases,
            directory: self.neighbours.relay_directory.clone(),
            quota,
            owner,
            answered,
        };
        let asked =
            self.neighbours.start_allocation.send(StartAllocation { session: self.id, seed });
        self.spawn(asked, ctx, move |actor, started, ctx| match started {
            Ok(Ok(allocation)) => {
                actor.allocation = Some(allocation);
                actor.core.allocation_started();
                actor.conclude_with(reply, ctx);
            }
            Ok(Err(_)) | Err(_) => {
                actor.conclude(Outcome::Refused(ErrorCode::ServerError), ctx);
            }
        });
    }

    fn forget_allocation(&mut self) {
        self.allocation = None;
        self.core.allocation_ended(clock::now());
    }

    /// Concludes with what the allocation said; its silence means that it has ended.
    fn conclude_asked<T>(
        &mut self,
        said: Result<T, MailboxError>,
        ctx: &mut Context<Self>,
        outcome: impl FnOnce(T) -> Outcome,
    ) {
        let gone = Outcome::Refused(ErrorCode::AllocationMismatch);
        self.conclude(said.map_or(gone, outcome), ctx);
    }

    fn conclude(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        self.log_refusal(&outcome);
        let reply = self.core.compose(&outcome);
        self.conclude_with(reply, ctx);
    }

    /// When the credential of `owner` ends its allocation.
    fn allocation_ends(&self, owner: &Owner) -> Option<Instant> {
        owner.account.allocation_ends(self.neighbours.session_terms.expiry)
    }

    fn log_refusal(&self, outcome: &Outcome) {
        if let Outcome::Refused(code) = outcome {
            self.log_refused(*code, "");
        }
    }

    /// `why` says more than the code, where there is more to say.
    fn log_refused(&self, code: ErrorCode, why: &str) {
        let username = self.core.owner().map_or("", |owner| &owner.account.username);
        info!(self.log, "session {}: refused: {} {}", self.id, code.number(), code.reason();
            "session" => %self.id, "code" => code.number(), "why" => why,
            "username" => %OneLine(username));
    }

    fn conclude_with(&mut self, reply: Bytes, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.core.conclude(reply.clone(), now);
        self.reply(&reply);
        if let Some(step) = self.core.next(now) {
            self.take(step, ctx);
        }
        self.stop_if_done(ctx);
        self.arm_timer(ctx);
    }

    /// Waits for `asked` while further messages are handled, then goes on with `then`.
    fn spawn<F: Future + 'static>(
        &mut self,
        asked: F,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, F::Output, &mut Context<Self>) + 'static,
    ) {
        ctx.spawn(asked.into_actor(self).map(move |answer, actor, ctx| then(actor, answer, ctx)));
    }

    /// Ends a session that was told to, once its client has the answer it waits for.
    fn stop_if_done(&mut self, ctx: &mut Context<Self>) {
        if self.ending && !self.core.is_busy() {
            ctx.stop();
        }
    }

    /// A client that has proved nothing but its address is not worth remembering.
    fn stop_if_unproven(&mut self, ctx: &mut Context<Self>) {
        if self.core.owner().is_none() && self.core.poll_timeout().is_some() {
            ctx.stop();
        }
    }

    fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        if self.timer.is_some() {
            return;
        }
        // Where there is an allocation, what waits for its time is to forget the answers.
        let over = self.core.poll_timeout().or_else(|| self.core.answers_over());
        let Some(over) = over else { return };
        let wait = over.saturating_duration_since(clock::now());
        self.timer = Some(ctx.run_later(wait, move |actor, ctx| {
            actor.timer = None;
            actor.stop_if_over(clock::now(), ctx);
        }));
    }

    fn stop_if_over(&mut self, now: Instant, ctx: &mut Context<Self>) {
        match self.core.poll_timeout() {
            Some(over) if over <= now => ctx.stop(),
            Some(_) => self.arm_timer(ctx),
            // Armed again when something is answered, or the allocation ends.
            None => {
                self.core.forget_answers(now);
                self.arm_timer(ctx);
            }
        }
    }
}

/// Requests of one client that wait; its retransmissions stand in for what finds no room.
const MAILBOX: usize = 16;
