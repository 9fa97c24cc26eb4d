//! PROXY protocol version 2 in front of datagrams: each begins with a header that names its client.
//!
//! The header is taken off in place, and its source is the client from there on. What the server
//! sends goes to the proxy that the client's datagrams come from, without a header: a proxy keeps a
//! port for each of its clients, so it knows whose it is. Where that is, is remembered while the
//! client has a transport; otherwise the datagram at hand tells.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use ipnet::IpNet;
use slog::Logger;
use sterna_proto::address::FiveTuple;
use sterna_proto::drops::DropReason;

use super::ended::Ended;
use super::proxy::{self, BadHeader, Client, Header};
use super::teller::Teller;
use super::{BATCH, ReceiveBatch, Received};
use crate::counters::DropCounters;
use crate::transport::{ClientTransport, Frame, ListenSocket, Sent};

/// A socket of datagrams that all come through proxies.
pub struct ProxiedListenSocket {
    below: Box<dyn ListenSocket>,
    local: SocketAddr,
    trusted: Vec<IpNet>,
    /// Through which proxy the datagrams at hand have come.
    at_hand: Vec<(FiveTuple, SocketAddr)>,
    /// The ways back that transports use.
    ways: ahash::HashMap<FiveTuple, Weak<Way>>,
    /// With so many, those that no transport uses are looked for.
    ways_max: usize,
    drops: DropCounters,
    teller: Teller,
}

/// The way back to a client. All of its transports share it, so that they follow when the client
/// comes through another proxy, or another port of one.
struct Way(RefCell<Rc<dyn ClientTransport>>);

impl ProxiedListenSocket {
    /// Takes the headers off what arrives at `below` from `trusted` sources, and drops the rest.
    /// `log` gets lines about the rest, without addresses.
    pub fn new(
        below: Box<dyn ListenSocket>,
        trusted: Vec<IpNet>,
        log: Logger,
    ) -> ProxiedListenSocket {
        let local = below.local();
        ProxiedListenSocket {
            local,
            teller: Teller::new(local, log),
            below,
            trusted,
            at_hand: Vec::with_capacity(BATCH),
            ways: ahash::HashMap::default(),
            ways_max: WAYS_KEPT,
            drops: DropCounters::new(),
        }
    }

    /// What is behind the header, and whose it is; `None` when nobody may say that here.
    fn take(&mut self, received: &mut Received, datagram: &[u8]) -> Option<Range<usize>> {
        let proxy = received.from;
        // Silently discarded, both: an answer would go to whoever the liar names.
        if !self.trusts(proxy.ip()) {
            self.refuse(&Ended::Refused(DropReason::ProxyUntrusted));
            return None;
        }
        let (from, length) = match named(datagram, proxy) {
            Ok(named) => named,
            Err(fault) => {
                self.refuse(&Ended::Faulty(DropReason::ProxyHeader, fault.to_string()));
                return None;
            }
        };
        received.from = from;
        let five_tuple = received.five_tuple(self.local);
        self.at_hand.push((five_tuple, proxy));
        if let Some(way) = self.ways.get(&five_tuple).and_then(Weak::upgrade)
            && way.0.borrow().five_tuple().client != proxy
        {
            way.0.replace(self.below.transport(through(proxy, five_tuple)));
        }
        Some(length..datagram.len())
    }

    fn refuse(&mut self, ended: &Ended) {
        ended.reason().into_iter().for_each(|reason| self.drops.count(reason));
        self.teller.tell(format_args!("datagram refused"), ended);
    }

    fn trusts(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.trusted.iter().any(|net| net.contains(&source))
    }

    /// The proxy that the client's last datagram has come through.
    fn proxy_of(&self, five_tuple: &FiveTuple) -> Option<SocketAddr> {
        self.at_hand.iter().rev().find(|(of, _)| of == five_tuple).map(|(_, proxy)| *proxy)
    }

    fn way_of(&mut self, five_tuple: FiveTuple) -> Option<Rc<Way>> {
        if let Some(way) = self.ways.get(&five_tuple).and_then(Weak::upgrade) {
            return Some(way);
        }
        let proxy = self.proxy_of(&five_tuple)?;
        let way = self.below.transport(through(proxy, five_tuple));
        let way = Rc::new(Way(RefCell::new(way)));
        if self.ways.len() >= self.ways_max {
            self.ways.retain(|_, way| way.strong_count() > 0);
            self.ways.shrink_to(WAYS_KEPT.max(self.ways.len()));
            self.ways_max = WAYS_KEPT.max(2 * self.ways.len());
        }
        self.ways.insert(five_tuple, Rc::downgrade(&way));
        Some(way)
    }
}

impl ListenSocket for ProxiedListenSocket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        let polled = self.below.poll_receive(cx, batch);
        if let Poll::Ready(Ok(_)) = polled {
            self.at_hand.clear();
            batch.rewrite(|received, room, length| self.take(received, room.get(..length)?));
            return Poll::Ready(Ok(batch.len()));
        }
        polled
    }

    fn take_left(&mut self) -> Option<FiveTuple> {
        self.below.take_left()
    }

    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        Rc::new(ProxiedTransport { way: self.way_of(five_tuple), five_tuple })
    }

    fn answer(&mut self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent {
        match self.proxy_of(&five_tuple) {
            Some(proxy) => self.below.answer(through(proxy, five_tuple), bytes),
            None => Sent { failed: 1, ..Sent::default() },
        }
    }

    fn connections(&self) -> usize {
        self.below.connections()
    }

    fn take_drops(&mut self) -> DropCounters {
        let mut drops = std::mem::take(&mut self.drops);
        drops.add(&self.below.take_drops());
        drops
    }
}

/// The way back to one client of a [`ProxiedListenSocket`]; `None` where nobody knows it.
struct ProxiedTransport {
    way: Option<Rc<Way>>,
    five_tuple: FiveTuple,
}

impl ClientTransport for ProxiedTransport {
    fn five_tuple(&self) -> FiveTuple {
        self.five_tuple
    }

    fn send(&self, frames: &[Frame<'_>]) -> Sent {
        match &self.way {
            Some(way) => way.0.borrow().send(frames),
            None => Sent { failed: frames.len() as u32, ..Sent::default() },
        }
    }
}

/// The conversation of the proxy that stands for the client's.
fn through(proxy: SocketAddr, five_tuple: FiveTuple) -> FiveTuple {
    FiveTuple { client: proxy, ..five_tuple }
}

/// Who is answered for a datagram that `proxy` has sent, and how long its header is.
fn named(datagram: &[u8], proxy: SocketAddr) -> Result<(SocketAddr, usize), BadHeader> {
    let Header { client, length } = proxy::read_of_datagram(datagram)?;
    match client {
        Client::Itself => Ok((proxy, length)),
        Client::Named(client) => Ok((client, length)),
        // A connection has somebody to answer all the same; a datagram has not.
        Client::Unknown => Err(BadHeader::OtherKind),
    }
}

/// Room for this many ways stays, however few there are.
const WAYS_KEPT: usize = 64;
