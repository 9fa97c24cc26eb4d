//! ConnectionBroker: which allocation has the TCP connection that a CONNECTION-ID names.
//!
//! - Owns: the names given out, each with the allocation that asked for it.
//! - Started by: the server, once: a client's connections may arrive on different arbiters.
//! - Hears from: AllocationActors that name connections; SessionActors that look for one; names
//!   that end, wherever they lived.
//! - Stops when: the server does.
//! - If it panics: healed in place. Entries are written whole, so the table stays; whoever had
//!   asked is told of a fault, and connections that are bound already do not notice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use actix::prelude::*;
use slog::Logger;
use sterna_proto::stun::ConnectionId;

use crate::allocation::TakePeerConnection;
use crate::supervision::{self, Spent};

/// Name a connection between an allocation and a peer. The name ends when it is dropped.
#[derive(Clone, Message)]
#[rtype(result = "Result<ConnectionName, NoNamesLeft>")]
pub struct NameConnection {
    /// The allocation, which hands the connection out to the client that binds it.
    pub allocation: Recipient<TakePeerConnection>,
}

/// There are as many connections as the server names (508).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNamesLeft;

/// Find the allocation that has the connection of this name.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<Recipient<TakePeerConnection>>")]
pub struct FindConnection(pub ConnectionId);

/// A name is not used any more: sent by its Drop.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct NameEnded(ConnectionId);

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// The name of a connection, which no other connection of this server has. It gives itself back.
#[derive(Debug)]
pub struct ConnectionName {
    id: ConnectionId,
    broker: Recipient<NameEnded>,
}

impl ConnectionName {
    /// The value of CONNECTION-ID.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// A name that nobody has to give out, for scripts that play the ConnectionBroker.
    pub fn played(id: ConnectionId, broker: Recipient<NameEnded>) -> ConnectionName {
        ConnectionName { id, broker }
    }
}

impl Drop for ConnectionName {
    fn drop(&mut self) {
        // With the broker gone nobody looks for names any more.
        self.broker.do_send(NameEnded(self.id));
    }
}

impl NameEnded {
    /// The name.
    pub fn id(&self) -> ConnectionId {
        self.0
    }
}

/// See the head of this file.
pub struct ConnectionBroker {
    allocations: HashMap<ConnectionId, Recipient<TakePeerConnection>>,
}

impl ConnectionBroker {
    /// Starts a broker that knows no connection yet.
    pub fn start(log: Logger, on_spent: impl FnOnce(Spent) + 'static) -> Addr<ConnectionBroker> {
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        let actor = ConnectionBroker { allocations: HashMap::new() };
        supervision::heal(supervision::CONNECTION_BROKER, log, context, actor, on_spent)
    }
}

impl Actor for ConnectionBroker {
    type Context = Context<Self>;
}

impl Supervised for ConnectionBroker {}

impl Handler<NameConnection> for ConnectionBroker {
    type Result = Result<ConnectionName, NoNamesLeft>;

    fn handle(&mut self, wanted: NameConnection, ctx: &mut Context<Self>) -> Self::Result {
        if self.allocations.len() >= NAMES_MAX {
            return Err(NoNamesLeft);
        }
        loop {
            //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
            //# The attribute's value MUST uniquely identify the
            //# peer data connection.
            // Unguessable, so that nobody binds a connection he was not told of.
            let id = ConnectionId(rand::random());
            if let Entry::Vacant(free) = self.allocations.entry(id) {
                free.insert(wanted.allocation);
                return Ok(ConnectionName { id, broker: ctx.address().recipient() });
            }
        }
    }
}

impl Handler<FindConnection> for ConnectionBroker {
    type Result = Option<Recipient<TakePeerConnection>>;

    fn handle(
        &mut self,
        FindConnection(id): FindConnection,
        _: &mut Context<Self>,
    ) -> Self::Result {
        self.allocations.get(&id).cloned()
    }
}

impl Handler<NameEnded> for ConnectionBroker {
    type Result = ();

    fn handle(&mut self, NameEnded(id): NameEnded, _: &mut Context<Self>) {
        self.allocations.remove(&id);
        if self.allocations.capacity() > KEEP_ROOM
            && self.allocations.capacity() / 4 > self.allocations.len()
        {
            self.allocations.shrink_to(2 * self.allocations.len());
        }
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for ConnectionBroker {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the ConnectionBroker");
    }
}

/// Questions that wait at once; further ones wait for room.
const MAILBOX: usize = 1024;

/// Names given out at once. At this number one random value in 4096 is taken, so that a free one is
/// found at once; each allocation has a limit of its own, far below.
const NAMES_MAX: usize = 1 << 20;

/// Room for this many names stays, however few there are.
const KEEP_ROOM: usize = 1024;
