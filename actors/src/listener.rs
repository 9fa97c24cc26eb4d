//! ListenerActor: one listening socket and the clients that come in through it.
//!
//! - Owns: the socket; the table 5-tuple → session and, for data, → allocation.
//! - Started by: the server, one for each listening address on each arbiter.
//! - Hears from: its socket; its SessionActors; the watchers of its sessions and allocations.
//! - Stops when: it is told to, after its sessions have answered what was in flight.
//! - If it panics: healed in place. Socket and table stay, sessions and allocations go on.

mod counters;
mod ending;
mod logins;
mod terms;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use slog::{Logger, debug, error, warn};
use smallvec::SmallVec;
use sterna_proto::address::{FiveTuple, ServerReflexive};
use sterna_proto::drops::DropReason;
use sterna_proto::first_contact::FirstContact;
use sterna_proto::limiter::SourceLimiter;
use sterna_proto::login_limits::LoginLimits;
use sterna_proto::stun::{Class, Kind, Message, Method, peek_class, peek_kind};
use tokio::sync::oneshot;

use crate::allocation::{AllocationActor, AllocationSeed, ClientData, EndAllocation, EndReason};
use crate::clients::{Client, Clients};
use crate::clock;
use crate::config::Listen;
use crate::counters::{BatchLengths, DropCounters};
use crate::session::{
    AllocationEnded, AllocationHandle, ClientRequest, EndSession, SessionActor, SessionId,
    SessionNeighbours,
};
use crate::socket::{BATCH, ReceiveBatch};
use crate::supervision::{self, Ended, RestartWindow, Spent};
use crate::transport::{ClientTransport, HeaderFields, ListenSocket};

pub use counters::{ListenerCounters, ReadListener};
pub use ending::{EndClient, Shutdown};
pub use logins::{Elsewhere, Introduce, LoginFailed, LoginProved, LoginUnanswered};
pub use terms::SetTerms;

/// Start the allocation that a session has gathered, and send the client's data there from now on.
#[derive(Message)]
#[rtype(result = "Result<AllocationHandle, SessionGone>")]
pub struct StartAllocation {
    /// The session that asks.
    pub session: SessionId,
    /// What the allocation is made of.
    pub seed: AllocationSeed,
}

/// The session has ended in the meantime, or the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionGone;

/// A session has ended and tells what it dropped.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SessionDropped(pub DropCounters);

/// A child has ended: its watcher's word.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct ChildEnded {
    session: SessionId,
    child: Child,
    ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Session,
    /// The `n`th allocation of its session: the end of one says nothing about the next.
    Allocation(u64),
}

/// Find the actors of a client, for a test that makes one of them panic.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "Option<ClientActors>")]
pub struct FindClient(pub SocketAddr);

/// The actors of a client.
#[cfg(feature = "fault-injection")]
#[derive(Debug, MessageResponse)]
pub struct ClientActors {
    /// Its session.
    pub session: Addr<SessionActor>,
    /// Its allocation, if it has one.
    pub allocation: Option<Addr<AllocationActor>>,
}

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// What a ListenerActor is made of.
pub struct ListenerSeed {
    /// What is spoken there, with the real port, for the log.
    pub listen: Vec<Listen>,
    /// Its number among the server's listeners, the head of its sessions' ids.
    pub number: u16,
    /// The socket.
    pub socket: Box<dyn ListenSocket>,
    /// Room for received datagrams, shared by all actors of the arbiter.
    pub scratch: Rc<RefCell<ReceiveBatch>>,
    /// The limit on unauthenticated answers.
    pub limiter: SourceLimiter,
    /// The limits on logins that come to nothing.
    pub logins: LoginLimits,
    /// Sessions at once; a further client stays unanswered.
    pub sessions_max: usize,
}

/// See the head of this file.
pub struct ListenerActor {
    listen: Vec<Listen>,
    number: u16,
    socket: Box<dyn ListenSocket>,
    local: SocketAddr,
    scratch: Rc<RefCell<ReceiveBatch>>,
    limiter: SourceLimiter,
    logins: LoginLimits,
    /// The server's other listeners, which count the same logins.
    others: Vec<Recipient<Elsewhere>>,
    sessions_max: usize,
    neighbours: Arc<SessionNeighbours>,
    clients: Clients,
    sessions_started: u64,
    allocations_started: u64,
    groups: Vec<Group>,
    answer: Vec<u8>,
    batches: BatchLengths,
    batches_logged: BatchLengths,
    drops: DropCounters,
    drops_logged: DropCounters,
    closing: Option<oneshot::Sender<()>>,
    log: Logger,
}

/// The data of one client within one wake.
struct Group {
    client: usize,
    /// Bytes that have been counted and are not in `data` yet.
    bytes: usize,
    data: ClientData,
}

impl ListenerActor {
    /// Starts a listener; `neighbours` is made for its address, since its sessions talk back to it.
    pub fn start(
        seed: ListenerSeed,
        neighbours: impl FnOnce(&Addr<ListenerActor>) -> SessionNeighbours,
        log: Logger,
        on_spent: impl FnOnce(Spent) + 'static,
    ) -> Addr<ListenerActor> {
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        let actor = ListenerActor {
            listen: seed.listen,
            number: seed.number,
            local: seed.socket.local(),
            socket: seed.socket,
            scratch: seed.scratch,
            limiter: seed.limiter,
            logins: seed.logins,
            others: Vec::new(),
            sessions_max: seed.sessions_max,
            neighbours: Arc::new(neighbours(&context.address())),
            clients: Clients::default(),
            sessions_started: 0,
            allocations_started: 0,
            groups: Vec::with_capacity(BATCH),
            answer: Vec::new(),
            batches: BatchLengths::default(),
            batches_logged: BatchLengths::default(),
            drops: DropCounters::new(),
            drops_logged: DropCounters::new(),
            closing: None,
            log: log.clone(),
        };
        supervision::heal(supervision::LISTENER, log, context, actor, on_spent)
    }
}

impl Actor for ListenerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.closing.is_none() {
            ctx.spawn(ListenLoop);
        }
        ctx.run_interval(LOG_COUNTERS_EVERY, |actor, _| actor.log_counters());
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.log_counters();
    }
}

impl Supervised for ListenerActor {
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        // Entries are written whole, so the table is what it was; only the batch at hand is lost.
        self.groups.clear();
        let mut waiting = Vec::new();
        for client in self.clients.iter_mut() {
            client.group = None;
            // Sessions that waited for their restart waited in the context that is gone. Where the
            // word of a session's end still waits in the mailbox, it will be heard.
            if client.restart_due {
                waiting.push(client.id);
            }
        }
        for id in waiting {
            self.restart_session(id, ctx);
        }
        // `started` follows, which reads and logs again.
    }
}

/// Reads the listening socket, a batch at a wake.
struct ListenLoop;

impl ActorFuture<ListenerActor> for ListenLoop {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut ListenerActor,
        ctx: &mut Context<ListenerActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if actor.closing.is_some() {
            return Poll::Ready(());
        }
        let more_waits = actor.read_batches(ctx, task);
        actor.send_groups();
        // The actors that were given work have their turn before what is left here.
        if more_waits {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Handler<StartAllocation> for ListenerActor {
    type Result = Result<AllocationHandle, SessionGone>;

    fn handle(&mut self, wanted: StartAllocation, ctx: &mut Context<Self>) -> Self::Result {
        let session = wanted.session;
        let current = &self.neighbours.allocation_terms;
        let is_up_to_date = Arc::ptr_eq(wanted.seed.core.terms(), current);
        let terms = self.allocation_terms();
        let client = self.clients.of(session).and_then(|key| self.clients.get_mut(key));
        let client = client
            .filter(|client| self.closing.is_none() && client.ended.is_none())
            .ok_or(SessionGone)?;
        let actor = AllocationActor::new(
            session,
            wanted.seed,
            client.transport.clone(),
            self.scratch.clone(),
            self.log.clone(),
        );
        self.allocations_started += 1;
        let child = Child::Allocation(self.allocations_started);
        let address = supervision::watch(Context::new(), actor, tell_end(ctx, session, child));
        let handle = handle_of(&address);
        // Its session has gathered it by the terms of a moment ago.
        if !is_up_to_date {
            address.do_send(terms);
        }
        client.allocation = Some((self.allocations_started, address));
        Ok(handle)
    }
}

impl Handler<SessionDropped> for ListenerActor {
    type Result = ();

    fn handle(&mut self, SessionDropped(drops): SessionDropped, _: &mut Context<Self>) {
        self.drops.add(&drops);
    }
}

impl Handler<ChildEnded> for ListenerActor {
    type Result = ();

    fn handle(&mut self, child: ChildEnded, ctx: &mut Context<Self>) {
        let Some(key) = self.clients.of(child.session) else { return };
        match child.child {
            Child::Allocation(number) => self.allocation_ended(key, number, &child.ended),
            Child::Session => match child.ended {
                Ended::Finished => self.session_over(key),
                Ended::Panicked(panic) => self.session_panicked(key, &panic, ctx),
            },
        }
        self.finish_if_closed(ctx);
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<FindClient> for ListenerActor {
    type Result = Option<ClientActors>;

    fn handle(&mut self, FindClient(address): FindClient, _: &mut Context<Self>) -> Self::Result {
        let client = self.clients.iter().find(|client| client.five_tuple.client == address)?;
        Some(ClientActors {
            session: client.session.clone(),
            allocation: client.allocation.as_ref().map(|(_, allocation)| allocation.clone()),
        })
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for ListenerActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into a ListenerActor");
    }
}

// The way of a batch.
impl ListenerActor {
    /// Reads what waits on the socket, within a bound; true when more may wait.
    fn read_batches(&mut self, ctx: &mut Context<Self>, task: &mut TaskContext<'_>) -> bool {
        let scratch = self.scratch.clone();
        let mut batch = scratch.borrow_mut();
        let (mut batches, mut datagrams) = (0, 0);
        while batches < BATCHES_AT_ONE_WAKE && datagrams < BATCHES_AT_ONE_WAKE * BATCH {
            batches += 1;
            self.end_those_who_left();
            match self.socket.poll_receive(task, &mut batch) {
                Poll::Pending => return false,
                Poll::Ready(Ok(_)) => {
                    datagrams += batch.len();
                    self.batches.count(batch.len());
                    self.take_batch(&batch, ctx);
                }
                // An error that was pending on the socket; the datagrams behind it still wait.
                Poll::Ready(Err(_)) => {}
            }
        }
        true
    }

    fn end_those_who_left(&mut self) {
        while let Some(five_tuple) = self.socket.take_left() {
            if let Some(client) = self.clients.leave(&five_tuple) {
                client.session.do_send(EndSession);
            }
        }
    }

    /// Sorts a batch: requests are served one by one, data waits in a group for each client.
    fn take_batch(&mut self, batch: &ReceiveBatch, ctx: &mut Context<Self>) {
        let now = clock::now();
        let mut members: SmallVec<[Option<usize>; BATCH]> = SmallVec::new();
        for (received, bytes) in batch.iter() {
            members.push(self.sort(received.five_tuple(self.local), bytes, now, ctx));
        }
        batch.note_data(members.iter().flatten().count());
        for (group, (received, bytes)) in members.iter().zip(batch.iter()) {
            let group = group.and_then(|group| self.groups.get_mut(group));
            if let Some(group) = group {
                group.push(bytes, received.fields);
            }
        }
    }

    /// Serves a request at once; for data, says which group it belongs to.
    fn sort(
        &mut self,
        five_tuple: FiveTuple,
        bytes: &[u8],
        now: Instant,
        ctx: &mut Context<Self>,
    ) -> Option<usize> {
        match peek_kind(bytes) {
            Kind::ChannelData => self.group_of(five_tuple, bytes.len()),
            Kind::Stun if peek_class(bytes) == Some(Class::Indication) => {
                self.group_of(five_tuple, bytes.len())
            }
            Kind::Stun => {
                self.take_request(five_tuple, bytes, now, ctx);
                None
            }
            // Silently discarded: nothing here speaks that protocol.
            Kind::Other => {
                self.drops.count(DropReason::NotStun);
                None
            }
        }
    }

    /// The group that data of this client belongs to, with room for `length` more bytes.
    fn group_of(&mut self, five_tuple: FiveTuple, length: usize) -> Option<usize> {
        let Some(key) = self.clients.at(&five_tuple) else {
            self.drops.count(DropReason::NoSession);
            return None;
        };
        let client = self.clients.get_mut(key)?;
        if client.allocation.is_none() {
            self.drops.count(DropReason::NoAllocation);
            return None;
        }
        let index = *client.group.get_or_insert_with(|| {
            self.groups.push(Group { client: key, bytes: 0, data: ClientData::default() });
            self.groups.len() - 1
        });
        self.groups.get_mut(index)?.bytes += length;
        Some(index)
    }

    /// Hands each client's data to its allocation, in one message.
    fn send_groups(&mut self) {
        for group in self.groups.drain(..) {
            let Some(client) = self.clients.get_mut(group.client) else { continue };
            client.group = None;
            let Some((_, allocation)) = &client.allocation else { continue };
            let packets = group.data.len() as u64;
            match allocation.try_send(group.data) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    self.drops.count_many(DropReason::MailboxFull, packets);
                }
                Err(SendError::Closed(_)) => {
                    self.drops.count_many(DropReason::NoAllocation, packets);
                }
            }
        }
    }

    /// Answers what needs no session; gives the rest to the client's session, made here if need be.
    fn take_request(
        &mut self,
        five_tuple: FiveTuple,
        bytes: &[u8],
        now: Instant,
        ctx: &mut Context<Self>,
    ) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return self.drops.count(error.into()),
        };
        let needs_session = message.method() != Method::BINDING
            && message.class() == Class::Request
            && message.integrity_algorithm().is_some();
        if needs_session {
            let known = self.clients.at(&five_tuple);
            let client = known.and_then(|key| self.clients.get(key));
            // Ahead of all that costs something. Who has proved itself does not notice.
            if !client.is_some_and(|client| client.proved)
                && self.logins.shuts_out(
                    five_tuple.client.ip(),
                    || logins::claimed_in(&message),
                    now,
                )
            {
                return self.drops.count(DropReason::RateLimited);
            }
            if let Some(key) = known {
                return self.hand_to_session(key, bytes, now);
            }
        }
        self.answer.clear();
        let client = ServerReflexive(five_tuple.client);
        let guard = &self.neighbours.session_terms.guard;
        match guard.first_contact(&message, client, now, &mut self.answer) {
            FirstContact::Discard(reason) => self.drops.count(reason),
            FirstContact::Answered(_) => self.answer_stateless(five_tuple, now),
            FirstContact::Admit if self.clients.len() >= self.sessions_max => {
                self.drops.count(DropReason::SessionsFull);
            }
            FirstContact::Admit => {
                let key = self.start_session(five_tuple, ctx);
                self.hand_to_session(key, bytes, now);
            }
        }
    }

    fn answer_stateless(&mut self, five_tuple: FiveTuple, now: Instant) {
        // The limit keeps answers from those who have asked nothing. A stream's client would also
        // wait for ever: it sends nothing twice.
        if five_tuple.protocol.source_may_be_forged()
            && !self.limiter.allow(five_tuple.client.ip(), now)
        {
            return self.drops.count(DropReason::RateLimited);
        }
        let sent = self.socket.answer(five_tuple, &self.answer);
        self.drops.count_many(DropReason::SocketFull, u64::from(sent.no_room));
        self.drops.count_many(DropReason::SendFailed, u64::from(sent.failed));
    }

    fn hand_to_session(&mut self, key: usize, bytes: &[u8], now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match client.session.try_send(ClientRequest(Bytes::copy_from_slice(bytes))) {
            // It counts as failed at once: many that are asked about at the same time are no way
            // around the limit.
            Ok(()) if !client.proved => {
                let source = client.five_tuple.client.ip();
                client.on_trial += u32::from(self.logins.reserve(source, now));
            }
            Ok(()) => {}
            Err(SendError::Full(_)) => self.drops.count(DropReason::MailboxFull),
            // Between its end and the word of it; the client retransmits.
            Err(SendError::Closed(_)) => self.drops.count(DropReason::NoSession),
        }
    }
}

// Sessions and allocations, from start to end.
impl ListenerActor {
    fn start_session(&mut self, five_tuple: FiveTuple, ctx: &mut Context<Self>) -> usize {
        self.sessions_started += 1;
        let id = SessionId::new(self.number, self.sessions_started);
        let transport = self.socket.transport(five_tuple);
        debug!(self.log, "session started"; "session" => %id, "five_tuple" => %five_tuple);
        let session = self.spawn_session(id, transport.clone(), None, ctx);
        self.clients.insert(Client {
            id,
            five_tuple,
            transport,
            session,
            allocation: None,
            proved: false,
            on_trial: 0,
            restarts: RestartWindow::new(supervision::SESSION.budget),
            group: None,
            session_over: false,
            restart_due: false,
            left: false,
            ended: None,
        })
    }

    fn spawn_session(
        &self,
        id: SessionId,
        transport: Rc<dyn ClientTransport>,
        allocation: Option<AllocationHandle>,
        ctx: &mut Context<Self>,
    ) -> Addr<SessionActor> {
        let neighbours = self.neighbours.clone();
        let actor = SessionActor::new(id, transport, allocation, neighbours, self.log.clone());
        supervision::watch(Context::new(), actor, tell_end(ctx, id, Child::Session))
    }

    fn session_panicked(&mut self, key: usize, panic: &str, ctx: &mut Context<Self>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let id = client.id;
        match client.restarts.note_panic(clock::now()) {
            Some(wait) => {
                warn!(self.log, "session panicked and is restarted";
                    "session" => %id, "panic" => panic);
                if wait.is_zero() {
                    self.restart_session(id, ctx);
                } else {
                    client.restart_due = true;
                    ctx.run_later(wait, move |actor, ctx| actor.restart_session(id, ctx));
                }
            }
            None => {
                error!(self.log, "restarts did not help: session and allocation end";
                    "session" => %id, "panic" => panic);
                self.session_over(key);
            }
        }
    }

    /// Puts a session in the place of one that failed; the allocation has not noticed.
    fn restart_session(&mut self, id: SessionId, ctx: &mut Context<Self>) {
        let Some(key) = self.clients.of(id) else { return };
        let Some(client) = self.clients.get(key) else { return };
        let allocation = client.allocation.as_ref().map(|(_, allocation)| handle_of(allocation));
        let session = self.spawn_session(id, client.transport.clone(), allocation, ctx);
        if self.closing.is_some() || client.left || client.ended.is_some() {
            session.do_send(EndSession);
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.session = session;
            client.restart_due = false;
        }
    }

    fn allocation_ended(&mut self, key: usize, number: u64, ended: &Ended) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if let Ended::Panicked(panic) = ended {
            error!(self.log, "allocation panicked and is gone";
                "session" => %client.id, "panic" => panic);
        }
        if client.allocation.as_ref().is_some_and(|(current, _)| *current == number) {
            client.allocation = None;
            client.session.do_send(AllocationEnded);
            if client.session_over {
                self.clients.remove(key);
            }
        }
    }

    /// A session has ended for good: so does its allocation, and then the client is forgotten.
    fn session_over(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.session_over = true;
        // What it has not been told about was no failure: the nonce was stale, or the like.
        let on_trial = std::mem::take(&mut client.on_trial);
        self.logins.give_back(client.five_tuple.client.ip(), on_trial, clock::now());
        let Some((_, allocation)) = &client.allocation else { return self.clients.remove(key) };
        allocation.do_send(EndAllocation(match (client.ended, self.closing.is_some()) {
            (Some(reason), _) => reason,
            (None, true) => EndReason::Shutdown,
            (None, false) if client.left => EndReason::ClientLeft,
            (None, false) => EndReason::SessionFailed,
        }));
    }
}

impl Group {
    fn push(&mut self, bytes: &[u8], fields: HeaderFields) {
        self.data.reserve(std::mem::take(&mut self.bytes));
        self.data.push(bytes, fields);
    }
}

fn handle_of(allocation: &Addr<AllocationActor>) -> AllocationHandle {
    Arc::new(allocation.clone())
}

/// What the watcher of a child does at its end. The listener's mailbox survives a panic of the
/// listener, so the word is not lost.
fn tell_end(
    ctx: &mut Context<ListenerActor>,
    session: SessionId,
    child: Child,
) -> impl FnOnce(Ended) + 'static {
    let listener = ctx.address().downgrade();
    move |ended| {
        if let Some(listener) = listener.upgrade() {
            listener.do_send(ChildEnded { session, child, ended });
        }
    }
}

/// Control messages of sessions and watchers; they wait for room, nothing of them is dropped.
const MAILBOX: usize = 1024;

/// Batches read at one wake. Under load several clients' packets lie interleaved in the socket: the
/// more of them are read before they are handed on, the fewer messages and wakes each costs.
const BATCHES_AT_ONE_WAKE: usize = 4;

/// How often the counters are summed up in the log.
const LOG_COUNTERS_EVERY: Duration = Duration::from_secs(60);
