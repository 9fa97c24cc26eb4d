//! The listening socket: accepts connections and owns them.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use slog::debug;
use socket2::Socket;
use sterna_proto::address::{FiveTuple, TransportProtocol};
use sterna_proto::drops::DropReason;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop::unconstrained;

use super::connection::Connection;
use super::shared::{Shared, StreamTerms};
use crate::counters::DropCounters;
use crate::socket::ReceiveBatch;
use crate::socket::accept::{Acceptor, NotAccepted};
use crate::socket::ended::Ended;
use crate::socket::options::{self, BindError, ListenOptions};
use crate::transport::{ClientTransport, ListenSocket, Sent};

/// A TCP socket on which clients arrive, in plain TCP or TLS.
pub struct StreamListenSocket {
    acceptor: Acceptor,
    connections: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    shared: Rc<Shared>,
}

impl StreamListenSocket {
    /// Binds a socket to `address` and listens there; what comes waits until the socket is watched.
    /// Needs no runtime, so that a bad address is found before anything else has started.
    ///
    /// # Errors
    /// The address, by the name of `protocol`, and what the kernel says of it.
    pub fn bind(
        protocol: TransportProtocol,
        address: SocketAddr,
        options: ListenOptions,
    ) -> Result<Socket, BindError> {
        let bound = options::listen_stream(address, options);
        bound.map_err(|cause| BindError { protocol, address, cause })
    }

    /// Puts a bound socket under the care of the runtime of this thread.
    ///
    /// # Errors
    /// When the runtime cannot watch it, or the kernel does not tell its address.
    pub fn watch(socket: Socket, terms: StreamTerms) -> io::Result<StreamListenSocket> {
        let listener = TcpListener::from_std(socket.into())?;
        let shared = Rc::new(Shared::new(listener.local_addr()?, terms));
        let connections = FuturesUnordered::new();
        Ok(StreamListenSocket { acceptor: Acceptor::new(listener), connections, shared })
    }

    fn accept(&mut self, cx: &mut Context<'_>) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.acceptor.poll_accept(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok((stream, from))) => self.admit(stream, from),
                Poll::Ready(Err(failed)) => self.note_not_accepted(&failed),
            }
        }
        // More may wait; those that came have their turn first.
        cx.waker().wake_by_ref();
    }

    fn admit(&mut self, stream: TcpStream, from: SocketAddr) {
        let shared = self.shared.clone();
        let refuse = |reason| shared.note_end(from, &Ended::Refused(reason));
        // A proxy speaks for many clients, which are counted once they have been named.
        let source = match &shared.terms.proxy {
            None => Some(from.ip()),
            Some(trusted) if trusted.iter().any(|net| net.contains(&from.ip())) => None,
            Some(_) => return refuse(DropReason::ProxyUntrusted),
        };
        let Some(connected) = shared.caps.connect() else {
            return refuse(DropReason::ConnectionsFull);
        };
        let Some(unproved) = shared.caps.unproved(source) else {
            return refuse(DropReason::UnprovedFull);
        };
        debug!(shared.terms.log, "connection accepted"; "client" => %from);
        let shared = shared.clone();
        let connection = Connection { stream, from, connected, unproved, shared };
        self.connections.push(Box::pin(connection.serve()));
    }

    /// Gives connections turns, first come, first served.
    ///
    /// Without tokio's budget for a task: connections share the listener's, a TLS record takes
    /// several reads of it, and whom it turns away is woken last in, first out, behind those that
    /// came since. A client could wait for a second while others were served again and again.
    fn serve_connections(&mut self, turns: usize, cx: &mut Context<'_>) {
        let StreamListenSocket { connections, shared, .. } = self;
        shared.turns.set(turns);
        let mut serve = unconstrained(poll_fn(|cx| {
            while let Poll::Ready(Some(())) = connections.poll_next_unpin(cx) {
                if shared.turns.get() == 0 {
                    cx.waker().wake_by_ref();
                    break;
                }
            }
            Poll::Ready(())
        }));
        let _ready = Pin::new(&mut serve).poll(cx);
    }

    fn note_not_accepted(&mut self, failed: &NotAccepted) {
        self.shared.count(DropReason::AcceptFailed);
        if failed.is_pausing {
            let what = format_args!("no connection can be accepted for a moment");
            self.shared.teller.tell(what, &failed.error);
        }
    }
}

#[cfg(test)]
impl StreamListenSocket {
    /// Has the next accept(2) fail.
    pub(super) fn inject(&mut self, code: i32) {
        self.acceptor.injected.push_back(code);
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// The next connection, which nobody serves.
    pub(super) async fn accept_one(&mut self) -> TcpStream {
        let accepted = poll_fn(|cx| self.acceptor.poll_accept(cx)).await;
        accepted.expect("a connection can be accepted").0
    }
}

impl ListenSocket for StreamListenSocket {
    fn local(&self) -> SocketAddr {
        self.shared.local
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        batch.clear();
        self.accept(cx);
        self.serve_connections(TURNS_AT_ONCE, cx);
        if self.shared.inbox.borrow_mut().drain_into(batch) {
            Poll::Ready(Ok(batch.len()))
        } else {
            Poll::Pending
        }
    }

    fn take_left(&mut self) -> Option<FiveTuple> {
        self.shared.inbox.borrow_mut().take_left()
    }

    fn take_drops(&mut self) -> DropCounters {
        self.shared.take_drops()
    }

    fn connections(&self) -> usize {
        self.shared.caps.connections()
    }

    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        self.shared.transport(five_tuple)
    }

    fn answer(&mut self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent {
        self.shared.answer(five_tuple, bytes)
    }
}

/// Connections are closed in order, and what waits for clients gets out, as far as the kernel takes
/// it at once: the last answers of a server that stops.
impl Drop for StreamListenSocket {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.shared.stopping.set(true);
        self.shared.links.wake_all();
        let mut cx = Context::from_waker(Waker::noop());
        // A runtime that is being torn down may refuse its timers by a panic, and this may run
        // while another one unwinds.
        let _ = catch_unwind(AssertUnwindSafe(|| self.serve_connections(usize::MAX, &mut cx)));
    }
}

/// Connections accepted before those that are there have their turn.
const ACCEPTS_AT_ONCE: usize = 32;

/// Turns of connections before the listener takes what they have delivered.
const TURNS_AT_ONCE: usize = 64;
