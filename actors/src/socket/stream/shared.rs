//! What all connections of one listening socket share.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use ipnet::IpNet;
use slog::{Logger, debug};
use sterna_proto::drops::DropReason;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::rustls;

use super::inbox::Inbox;
use super::link::Links;
use crate::config::Limits;
use crate::counters::DropCounters;
use crate::socket::caps::Caps;
use crate::socket::ended::Ended;
use crate::socket::teller::Teller;
use crate::tls::TlsTerms;

/// What a listening socket grants its connections.
#[derive(Clone)]
pub struct StreamTerms {
    /// The limits on connections and on what waits for a client.
    pub limits: Limits,
    /// The sources whose PROXY protocol header is believed, where each connection begins with one.
    pub proxy: Option<Vec<IpNet>>,
    /// Whether plain TCP is listened on by its name. Elsewhere it is served as long as TLS clients
    /// need no certificate.
    pub plain: bool,
    /// What TLS clients are shown, looked at for each of them; `None` serves none.
    pub tls: Option<watch::Receiver<Arc<TlsTerms>>>,
    /// Where connections are written of: addresses at debug level only.
    pub log: Logger,
}

/// See the head of this file. It belongs to one arbiter.
pub(super) struct Shared {
    pub(super) local: SocketAddr,
    pub(super) terms: StreamTerms,
    pub(super) caps: Rc<Caps>,
    pub(super) inbox: RefCell<Inbox>,
    pub(super) links: Links,
    pub(super) stopping: Cell<bool>,
    /// How many turns connections may still take before their listener has its own.
    pub(super) turns: Cell<usize>,
    /// Where every connection reads to: an idle one holds no room of its own.
    room: RefCell<Box<[u8]>>,
    drops: RefCell<DropCounters>,
    pub(super) teller: Teller,
}

impl Shared {
    pub(super) fn new(local: SocketAddr, terms: StreamTerms) -> Shared {
        Shared {
            local,
            caps: Caps::new(&terms.limits),
            teller: Teller::new(local, terms.log.clone()),
            terms,
            inbox: RefCell::default(),
            links: Links::default(),
            stopping: Cell::new(false),
            turns: Cell::new(0),
            room: RefCell::new(vec![0; READ_AT_ONCE].into_boxed_slice()),
            drops: RefCell::default(),
        }
    }

    /// Polls a connection, which takes a turn. When that was the last one, it wakes itself: a
    /// [`FuturesUnordered`](futures_util::stream::FuturesUnordered) polls nobody else once two of
    /// its futures have done so, and those that had no turn are the first of the next round.
    pub(super) fn take_turn<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.spend_turns(1);
        let polled = poll(cx);
        if polled.is_pending() && self.turns.get() == 0 {
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Says that what a connection does takes as long as this many turns.
    pub(super) fn spend_turns(&self, turns: usize) {
        self.turns.set(self.turns.get().saturating_sub(turns));
    }

    /// Reads what has come, once, and hands it to `take`.
    pub(super) fn poll_read<S: AsyncRead + Unpin, T>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<Result<T, Ended>> {
        let mut room = self.room.borrow_mut();
        let mut room = ReadBuf::new(&mut room);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        Poll::Ready(match room.filled() {
            [] => Err(Ended::ByClient),
            bytes => Ok(take(bytes)),
        })
    }

    /// Waits for more bytes and appends them.
    pub(super) async fn read_more<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        held: &mut BytesMut,
    ) -> Result<(), Ended> {
        poll_fn(|cx| self.poll_read(stream, cx, |bytes| held.extend_from_slice(bytes))).await
    }

    /// The terms of a TLS client that comes at this moment.
    pub(super) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.terms.tls.as_ref().map(|terms| terms.borrow().stream.clone())
    }

    /// Whether messages are taken that come in plain TCP.
    pub(super) fn serves_plain(&self) -> bool {
        let asks = |terms: &watch::Receiver<Arc<TlsTerms>>| terms.borrow().asks_clients;
        self.terms.plain || !self.terms.tls.as_ref().is_some_and(asks)
    }

    /// Counts and writes down how a connection has ended.
    pub(super) fn note_end(&self, from: SocketAddr, ended: &Ended) {
        debug!(self.terms.log, "connection closed"; "client" => %from, "reason" => %ended);
        if let Some(reason) = ended.reason() {
            self.count(reason);
            self.teller.tell(format_args!("connection refused"), ended);
        }
    }

    pub(super) fn count(&self, reason: DropReason) {
        self.drops.borrow_mut().count(reason);
    }

    /// What was counted since the last time.
    pub(super) fn take_drops(&self) -> DropCounters {
        self.drops.take()
    }
}

/// Bytes read at once.
const READ_AT_ONCE: usize = 64 << 10;
