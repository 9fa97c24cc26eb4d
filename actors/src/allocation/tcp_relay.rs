//! What an AllocationActor has for TCP peers: the listening sockets, the connections and the
//! messages about them (RFC 6062 §5).
//!
//! The core knows the connections by name and date; what is kept here follows it. An end that is
//! dropped closes its connection, whatever dropped it: time, a Refresh to zero, the client's
//! leaving, a panic.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::Either;
use slog::debug;
use smallvec::SmallVec;
use sterna_proto::account::Account;
use sterna_proto::address::{Family, PeerAddr};
use sterna_proto::allocation::{Allocation, ConnectError, ConnectionBindError};
use sterna_proto::quotas::{Direction, PerDirection};
use sterna_proto::relay_frames::connection_attempt;
use sterna_proto::stun::ConnectionId;
use tokio::sync::{oneshot, watch};

use super::{AllocationActor, transaction_id};
use crate::clock;
use crate::connection_broker::{ConnectionName, NameConnection, NoNamesLeft};
use crate::peer_connection::{Meter, PeerConnection, PeerStream};
use crate::transport::{Frame, RelayListener};
use crate::usage::{Traffic, Usage};

/// Connect to a peer (RFC 6062 §5.2). Answered when the peer is, within 30 s.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<ConnectionId, ConnectError>")]
pub struct Connect {
    /// The peer.
    pub peer: PeerAddr,
}

/// Hand out the connection that a client binds to one of its own (RFC 6062 §5.4).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<PeerConnection, ConnectionBindError>")]
pub struct TakePeerConnection {
    /// The connection.
    pub id: ConnectionId,
    /// Who asks; it has to be the owner of the allocation.
    pub user: Arc<Account>,
}

/// A connection that was handed out tells what it has carried since the last time.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ConnectionReport {
    /// The connection.
    pub id: ConnectionId,
    /// Reads from and writes to the client.
    pub client: Traffic,
    /// Reads from and writes to the peer.
    pub peer: Traffic,
    /// Both sides are closed.
    pub over: bool,
    /// What was drawn and has not been carried, if so.
    pub unused: PerDirection<u64>,
}

/// A connection asks how much it may carry. The error is how long to wait before asking again.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<u64, Duration>")]
pub struct DrawBytes {
    /// Which way.
    pub direction: Direction,
    /// What it could make use of.
    pub most: u64,
}

/// What the TCP part of an allocation is made of.
pub struct TcpSeed {
    /// A listening socket for each relayed transport address.
    pub listeners: SmallVec<[Box<dyn RelayListener>; 2]>,
    /// Names connections.
    pub name_connection: Recipient<NameConnection>,
}

/// See the head of this file.
pub(super) struct TcpRelay {
    listeners: SmallVec<[Box<dyn RelayListener>; 2]>,
    name_connection: Recipient<NameConnection>,
    ends: HashMap<ConnectionId, PeerEnd>,
}

/// What is held of a connection.
enum PeerEnd {
    /// The peer has not answered; dropped, the attempt is given up.
    Connecting { _given_up: oneshot::Sender<Infallible> },
    /// The client has not bound it. What the peer sends waits in the kernel, whose buffer is the
    /// bound; the client has no connection yet over which it could send.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //# The server MUST buffer any data received from the
    //# client.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
    //# The server MUST buffer any data received from the
    //# peer.
    Waiting { name: ConnectionName, stream: Box<dyn PeerStream> },
    /// It is at the client's connection; dropped, both are closed.
    Joined { _name: ConnectionName, is_paced: watch::Sender<bool> },
}

type Named = Result<Result<ConnectionName, NoNamesLeft>, MailboxError>;
type Made = (ConnectionName, io::Result<Box<dyn PeerStream>>);

impl TcpRelay {
    pub(super) fn new(seed: TcpSeed) -> TcpRelay {
        TcpRelay {
            listeners: seed.listeners,
            name_connection: seed.name_connection,
            ends: HashMap::new(),
        }
    }

    /// Closes what the core does not know any more.
    pub(super) fn follow(&mut self, core: &Allocation, keeps: impl Fn(SocketAddr) -> bool) {
        self.listeners.retain(|listener| keeps(listener.local().0));
        self.ends.retain(|&id, _| core.has_connection(id));
    }

    /// Tells the connections whether there is a limit on them.
    pub(super) fn pace(&self, paced: bool) {
        for end in self.ends.values() {
            if let PeerEnd::Joined { is_paced, .. } = end {
                is_paced.send_replace(paced);
            }
        }
    }

    fn name(&self, ctx: &mut Context<AllocationActor>) -> impl Future<Output = Named> + use<> {
        self.name_connection.send(NameConnection { allocation: ctx.address().recipient() })
    }

    /// Connects to `peer` from the relayed transport address of its family.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //# Otherwise, the server MUST initiate an outgoing TCP connection.
    fn connect(
        &mut self,
        peer: PeerAddr,
        name: ConnectionName,
    ) -> impl Future<Output = Made> + use<> {
        let family = Family::of(peer.0.ip());
        let listener = self.listeners.iter().find(|it| Family::of(it.local().0.ip()) == family);
        let making = listener.map(|listener| listener.connect(peer));
        let (given_up, until_given_up) = oneshot::channel();
        self.ends.insert(name.id(), PeerEnd::Connecting { _given_up: given_up });
        async move {
            let Some(making) = making else {
                return (name, Err(io::ErrorKind::AddrNotAvailable.into()));
            };
            let made = tokio::select! {
                made = making => made,
                _ = until_given_up => Err(io::ErrorKind::TimedOut.into()),
            };
            (name, made)
        }
    }

    fn wait(&mut self, name: ConnectionName, stream: Box<dyn PeerStream>) {
        self.ends.insert(name.id(), PeerEnd::Waiting { name, stream });
    }

    /// Takes out the stream of a connection that waits; what is left ends it when it is dropped.
    fn join(
        &mut self,
        id: ConnectionId,
        paced: bool,
    ) -> Option<(Box<dyn PeerStream>, watch::Receiver<bool>)> {
        match self.ends.remove(&id)? {
            PeerEnd::Waiting { name, stream } => {
                let (is_paced, told) = watch::channel(paced);
                self.ends.insert(id, PeerEnd::Joined { _name: name, is_paced });
                Some((stream, told))
            }
            other @ (PeerEnd::Connecting { .. } | PeerEnd::Joined { .. }) => {
                self.ends.insert(id, other);
                None
            }
        }
    }
}

impl Handler<Connect> for AllocationActor {
    type Result = ResponseActFuture<Self, Result<ConnectionId, ConnectError>>;

    fn handle(&mut self, Connect { peer }: Connect, ctx: &mut Context<Self>) -> Self::Result {
        let Some(tcp) = &self.tcp else {
            return Box::pin(actix::fut::ready(Err(ConnectError::NotTcp)));
        };
        let connecting = tcp.name(ctx).into_actor(self).then(move |name, actor, ctx| {
            let connecting = match actor.begin_connecting(peer, name, ctx) {
                Ok(connecting) => Either::Left(async { Ok(connecting.await) }),
                Err(error) => Either::Right(ready(Err(error))),
            };
            connecting.into_actor(actor)
        });
        Box::pin(connecting.map(|made, actor, ctx| actor.connected(made?, ctx)))
    }
}

impl Handler<TakePeerConnection> for AllocationActor {
    type Result = Result<PeerConnection, ConnectionBindError>;

    fn handle(&mut self, wanted: TakePeerConnection, ctx: &mut Context<Self>) -> Self::Result {
        //= https://www.rfc-editor.org/rfc/rfc6062#section-4.3
        //# Authentication of the client by the server MUST use the same method
        //# and credentials as for the control connection.
        //= https://www.rfc-editor.org/rfc/rfc6062#section-4.4
        //# Authentication of the client by the server MUST use the same method
        //# and credentials as for the control connection.
        if !wanted.user.is_same_holder(&self.owner.account) {
            return Err(ConnectionBindError::WrongUser);
        }
        self.core.bind_connection(wanted.id, clock::now())?;
        let paced = self.quota.is_limited();
        let joined = self.tcp.as_mut().and_then(|tcp| tcp.join(wanted.id, paced));
        let (stream, is_paced) = joined.ok_or(ConnectionBindError::NotPending)?;
        debug!(self.log, "connection bound"; "session" => %self.session, "id" => wanted.id.0);
        Ok(PeerConnection::of_allocation(stream, self.meter(wanted.id, ctx), is_paced))
    }
}

impl Handler<ConnectionReport> for AllocationActor {
    type Result = ();

    fn handle(&mut self, report: ConnectionReport, ctx: &mut Context<Self>) {
        self.usage.client.add(&report.client);
        self.usage.peer.add(&report.peer);
        self.report_usage();
        if report.over {
            self.quota.put_back(report.unused);
            debug!(self.log, "connection ended"; "session" => %self.session,
                "id" => report.id.0);
            self.core.connection_ended(report.id);
            self.flush(ctx);
        }
    }
}

impl Handler<DrawBytes> for AllocationActor {
    type Result = Result<u64, Duration>;

    fn handle(&mut self, wanted: DrawBytes, _: &mut Context<Self>) -> Self::Result {
        self.quota.draw(wanted.direction, wanted.most, clock::now())
    }
}

impl AllocationActor {
    fn begin_connecting(
        &mut self,
        peer: PeerAddr,
        name: Named,
        ctx: &mut Context<Self>,
    ) -> Result<impl Future<Output = Made> + use<>, ConnectError> {
        let name = name.map_err(|_| ConnectError::Fault)?.map_err(|_| ConnectError::Full)?;
        let begun = self.core.connect(peer, name.id(), clock::now());
        if let Err(ConnectError::Forbidden(rule)) = begun {
            self.log_refused_peer(&peer, rule);
        }
        let peer = begun?;
        self.arm_timer(ctx);
        let tcp = self.tcp.as_mut().ok_or(ConnectError::NotTcp)?;
        debug!(self.log, "connecting"; "session" => %self.session, "peer" => %peer,
            "id" => name.id().0);
        Ok(tcp.connect(peer, name))
    }

    fn connected(
        &mut self,
        (name, made): Made,
        ctx: &mut Context<Self>,
    ) -> Result<ConnectionId, ConnectError> {
        let id = name.id();
        let waits = match (made, &mut self.tcp) {
            (Ok(stream), Some(tcp)) if self.core.connected(id, clock::now()) => {
                tcp.wait(name, stream);
                Ok(id)
            }
            (Err(error), _) => {
                debug!(self.log, "not connected"; "session" => %self.session, "id" => id.0,
                    "cause" => %error);
                self.core.connection_ended(id);
                Err(ConnectError::Failed)
            }
            (Ok(_), _) => Err(ConnectError::Failed),
        };
        self.flush(ctx);
        waits
    }

    /// Takes the peers that have connected, within a bound; true when more may wait.
    pub(super) fn accept_peers(
        &mut self,
        ctx: &mut Context<Self>,
        task: &mut TaskContext<'_>,
    ) -> bool {
        let listeners = self.tcp.as_ref().map_or(0, |tcp| tcp.listeners.len());
        let mut more_wait = false;
        for index in 0..listeners {
            let mut accepted = 0;
            while let Some(tcp) = &mut self.tcp
                && let Some(listener) = tcp.listeners.get_mut(index)
                && let Poll::Ready((peer, stream)) = listener.poll_accept(task)
            {
                self.take_peer(peer, stream, ctx);
                accepted += 1;
                if accepted == ACCEPTED_AT_ONE_WAKE {
                    more_wait = true;
                    break;
                }
            }
        }
        more_wait
    }

    /// Names the connection of a peer that may have one, and drops any other, which closes it.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
    //# The server MUST accept the connection.
    fn take_peer(&mut self, peer: PeerAddr, stream: Box<dyn PeerStream>, ctx: &mut Context<Self>) {
        if let Err(reason) = self.core.check_accepted(peer, clock::now()) {
            return self.drops.count(reason);
        }
        let Some(tcp) = &self.tcp else { return };
        let named = tcp.name(ctx).into_actor(self);
        ctx.spawn(named.map(move |name, actor, ctx| actor.accepted(peer, stream, name, ctx)));
    }

    /// Tells the client of a peer that has connected.
    fn accepted(
        &mut self,
        peer: PeerAddr,
        stream: Box<dyn PeerStream>,
        name: Named,
        ctx: &mut Context<Self>,
    ) {
        // Without a name there is nothing to tell the client: the connection closes here.
        let Ok(Ok(name)) = name else { return };
        let id = name.id();
        let known_as = match self.core.accept(peer, id, clock::now()) {
            Ok(known_as) => known_as,
            Err(reason) => return self.drops.count(reason),
        };
        if let Some(tcp) = &mut self.tcp {
            tcp.wait(name, stream);
        }
        debug!(self.log, "peer connected"; "session" => %self.session, "peer" => %peer,
            "id" => id.0);
        let mut out = Vec::new();
        connection_attempt(&mut out, transaction_id(), known_as, id);
        self.send_to_client(&[Frame::control(&out)]);
        self.flush(ctx);
    }

    fn meter(&self, id: ConnectionId, ctx: &mut Context<Self>) -> Meter {
        Meter {
            id,
            allocation: ctx.address().recipient(),
            session: self.session,
            account: self.owner.account.clone(),
            log: self.log.clone(),
            untold: Usage::default(),
            draw: ctx.address().recipient(),
            allowance: [0; 2],
        }
    }
}

/// Peers taken from one listening socket at one wake.
const ACCEPTED_AT_ONE_WAKE: usize = 16;
