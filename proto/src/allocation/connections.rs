//! The TCP connections between a relayed transport address and peers, from the Connect request or
//! the peer's own call to their end (RFC 6062 §5).
//!
//! What is kept here is names and dates. Whoever owns the connections closes those whose names are
//! gone from here.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::{Allocation, ConnectError, ConnectionBindError, Dropped};
use crate::address::{Family, PeerAddr};
use crate::drops::DropReason;
use crate::stun::ConnectionId;

/// The connections of one allocation, by their names.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_id: HashMap<ConnectionId, Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    /// By its internal address.
    peer: PeerAddr,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The peer has until then to answer.
    Connecting(Instant),
    /// The client has until then to send ConnectionBind.
    Waiting(Instant),
    /// It is one with a connection of the client.
    Joined,
}

impl Connection {
    fn until(&self) -> Option<Instant> {
        match self.state {
            State::Connecting(until) | State::Waiting(until) => Some(until),
            State::Joined => None,
        }
    }

    fn is_live(&self, now: Instant) -> bool {
        self.until().is_none_or(|until| now < until)
    }
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn live(&mut self, id: ConnectionId, now: Instant) -> Option<&mut Connection> {
        self.by_id.get_mut(&id).filter(|connection| connection.is_live(now))
    }

    fn has_peer(&self, peer: PeerAddr) -> bool {
        self.by_id.values().any(|connection| connection.peer == peer)
    }

    /// Removes those that were not made or bound in time, and hands each to `removed`.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        mut removed: impl FnMut(ConnectionId, PeerAddr, Instant),
    ) {
        for (id, gone) in self.by_id.extract_if(|_, connection| !connection.is_live(now)) {
            removed(id, gone.peer, gone.until().unwrap_or(now));
        }
    }

    /// Removes those to peers that `refused` names, and hands each to `removed`.
    pub(super) fn refuse(
        &mut self,
        refused: impl Fn(PeerAddr) -> bool,
        mut removed: impl FnMut(ConnectionId, PeerAddr),
    ) {
        for (id, gone) in self.by_id.extract_if(|_, connection| refused(connection.peer)) {
            removed(id, gone.peer);
        }
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.by_id.retain(|_, connection| Family::of(connection.peer.0.ip()) != family);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Connection::until).min()
    }
}

impl Allocation {
    /// Begins a connection to `peer`, under the name `id`. Returns the address to connect to; what
    /// comes of it is told by [`Allocation::connected`] or [`Allocation::connection_ended`].
    ///
    /// No permission is asked for: those guard the way in, and who connects invites.
    ///
    /// # Errors
    /// Why no connection is to be made.
    pub fn connect(
        &mut self,
        peer: PeerAddr,
        id: ConnectionId,
        now: Instant,
    ) -> Result<PeerAddr, ConnectError> {
        self.sweep(now);
        if self.halves.is_empty() {
            return Err(ConnectError::NoAllocation);
        }
        let peer = self.terms.rules.external().internal(peer);
        let connections = self.connections.as_ref().ok_or(ConnectError::NotTcp)?;
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
        //# If the server is currently processing a Connect request for this
        //# allocation with the same XOR-PEER-ADDRESS, it MUST return a 446
        //# (Connection Already Exists) error.
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
        //# If the server has already successfully processed a Connect request
        //# for this allocation with the same XOR-PEER-ADDRESS, and the resulting
        //# client and peer data connections are either pending or active, it
        //# MUST return a 446 (Connection Already Exists) error.
        if connections.has_peer(peer) {
            return Err(ConnectError::Exists);
        }
        if self.halves.of(Family::of(peer.0.ip())).is_none() {
            return Err(ConnectError::PeerFamily);
        }
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
        //# If the new connection is forbidden by local policy, the server MUST
        //# reject the request with a 403 (Forbidden) error.
        self.check(peer).map_err(ConnectError::Forbidden)?;
        if connections.len() >= self.terms.connections_max {
            return Err(ConnectError::Full);
        }
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
        //# The timeout value MUST be at least 30 seconds.
        self.add_connection(id, peer, State::Connecting(now + CONNECT_WITHIN));
        Ok(peer)
    }

    /// The connection that [`Allocation::connect`] began stands. False if that came too late.
    pub fn connected(&mut self, id: ConnectionId, now: Instant) -> bool {
        let connection =
            self.connections.as_mut().and_then(|connections| connections.live(id, now));
        let Some(connection) = connection else { return false };
        connection.state = State::Waiting(now + BIND_WITHIN);
        self.rearm();
        true
    }

    /// Whether a connection that `peer` has made may stay, which [`Allocation::accept`] says again.
    ///
    /// # Errors
    /// Why it has to be closed.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
    //# If no permission for this peer has been installed for this
    //# allocation, the server MUST close the connection with the peer
    //# immediately after it has been accepted.
    pub fn check_accepted(&self, peer: PeerAddr, now: Instant) -> Result<(), Dropped> {
        self.live_half(peer, now)?;
        self.permitted(peer, now)?;
        self.check(peer).map_err(|_| DropReason::PeerDenied)?;
        match &self.connections {
            Some(connections) if connections.len() < self.terms.connections_max => Ok(()),
            Some(_) | None => Err(DropReason::PeerConnectionsFull),
        }
    }

    /// Takes up a connection that `peer` has made, under the name `id`. Returns the peer as the
    /// client knows it.
    ///
    /// # Errors
    /// Why it has to be closed.
    pub fn accept(
        &mut self,
        peer: PeerAddr,
        id: ConnectionId,
        now: Instant,
    ) -> Result<PeerAddr, Dropped> {
        self.sweep(now);
        self.check_accepted(peer, now)?;
        self.add_connection(id, peer, State::Waiting(now + BIND_WITHIN));
        Ok(self.terms.rules.external().known_as(peer))
    }

    /// Joins the connection with one of the client's.
    ///
    /// # Errors
    /// There is none that waits for it under this name.
    pub fn bind_connection(
        &mut self,
        id: ConnectionId,
        now: Instant,
    ) -> Result<(), ConnectionBindError> {
        let live = self.is_live(now);
        let connections = self.connections.as_mut().filter(|_| live);
        let connection = connections.and_then(|connections| connections.live(id, now));
        match connection {
            Some(connection) if matches!(connection.state, State::Waiting(_)) => {
                connection.state = State::Joined;
                self.rearm();
                Ok(())
            }
            Some(_) | None => Err(ConnectionBindError::NotPending),
        }
    }

    /// The connection could not be made, or is closed.
    pub fn connection_ended(&mut self, id: ConnectionId) {
        if let Some(connections) = &mut self.connections {
            connections.by_id.remove(&id);
            self.rearm();
        }
    }

    /// Whether the connection is to be kept.
    pub fn has_connection(&self, id: ConnectionId) -> bool {
        self.connections.as_ref().is_some_and(|connections| connections.by_id.contains_key(&id))
    }

    /// How many connections there are, in whatever state. Those whose time is over count until they
    /// are swept.
    pub fn connection_count(&self) -> usize {
        self.connections.as_ref().map_or(0, |connections| connections.len())
    }

    fn add_connection(&mut self, id: ConnectionId, peer: PeerAddr, state: State) {
        if let Some(connections) = &mut self.connections {
            let earlier = connections.by_id.insert(id, Connection { peer, state });
            assert!(earlier.is_none(), "a connection's name is unique");
        }
        self.rearm();
    }
}

/// How long a peer has to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// How long a client has to bind a connection.
//= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
//# If no ConnectionBind request associated with this peer data
//# connection is received after 30 seconds, the peer data connection
//# MUST be closed.
//= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
//# If no ConnectionBind request associated with this peer data
//# connection is received after 30 seconds, the peer data connection
//# MUST be closed.
const BIND_WITHIN: Duration = Duration::from_secs(30);
