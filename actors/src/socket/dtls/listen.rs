//! [`DtlsListenSocket`]: plain datagrams pass, those of DTLS go through their client's session.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::ssl::SslContext;
use slog::{Logger, debug, error};
use sterna_proto::address::{FiveTuple, TransportProtocol};
use sterna_proto::drops::DropReason;
use sterna_proto::limiter::SourceLimiter;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::hello::{Cookies, Hello, hello_verify_request};
use super::link::{DtlsTransport, Link};
use super::session::{self, MESSAGE_MAX, Pipe, Session, Taken};
use crate::clock;
use crate::config::Limits;
use crate::counters::DropCounters;
use crate::socket::caps::Caps;
use crate::socket::ended::Ended;
use crate::socket::teller::Teller;
use crate::socket::{ReceiveBatch, Received, is_request};
use crate::tls::{Identity, TlsTerms};
use crate::transport::{ClientTransport, Frame, ListenSocket, Sent};

/// What OpenSSL says of a certificate and its key that it cannot serve DTLS with.
#[derive(Debug)]
pub struct IdentityError(ErrorStack);

impl IdentityError {
    /// Shows whether DTLS can be served with this certificate and key.
    ///
    /// # Errors
    /// What OpenSSL says: of the wrong form, too weak, not a pair.
    pub fn check(identity: &Identity) -> Result<(), IdentityError> {
        session::context(identity).map(drop).map_err(IdentityError)
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for IdentityError {}

/// A socket of datagrams that also serves clients of DTLS 1.2. Each record carries one whole STUN
/// or ChannelData message, as a datagram does (RFC 8656 §3.1); what is larger than a record is
/// counted as failed.
pub struct DtlsListenSocket {
    below: Box<dyn ListenSocket>,
    local: SocketAddr,
    certificate: Certificate,
    cookies: Cookies,
    /// The limit on answers to hellos.
    limiter: SourceLimiter,
    /// The limit on handshakes, whatever comes of them.
    handshake_limiter: SourceLimiter,
    /// Handshakes that may still begin before others have their turn.
    handshakes_left: usize,
    limits: Limits,
    links: ahash::HashMap<FiveTuple, Rc<Link>>,
    /// Those whose handshake is not over.
    handshakes: ahash::HashSet<FiveTuple>,
    caps: Rc<Caps>,
    pipe: Rc<RefCell<Pipe>>,
    /// Room for a record behind the first of its datagram.
    spare: Vec<u8>,
    /// Messages that came in one datagram with another, for the next call.
    waiting: VecDeque<(Received, Vec<u8>)>,
    left: VecDeque<FiveTuple>,
    timer: Pin<Box<Sleep>>,
    is_armed: bool,
    drops: DropCounters,
    teller: Teller,
    log: Logger,
}

impl DtlsListenSocket {
    /// Serves DTLS on `below` with what `terms` say at each new session. Needs a runtime with
    /// timers.
    pub fn new(
        below: Box<dyn ListenSocket>,
        terms: watch::Receiver<Arc<TlsTerms>>,
        limits: Limits,
        log: Logger,
    ) -> DtlsListenSocket {
        let now = clock::now();
        let teller = Teller::new(below.local(), log.clone());
        let answers = limits.unauthenticated_answers_per_second;
        DtlsListenSocket {
            local: below.local(),
            below,
            certificate: Certificate::new(terms, &log),
            cookies: Cookies::new(now),
            limiter: SourceLimiter::new(answers, rand::random(), now),
            handshake_limiter: SourceLimiter::new(HANDSHAKES_PER_SECOND, rand::random(), now),
            handshakes_left: 0,
            caps: Caps::new(&limits),
            limits,
            links: ahash::HashMap::default(),
            handshakes: ahash::HashSet::default(),
            pipe: Rc::default(),
            spare: vec![0; MESSAGE_MAX],
            waiting: VecDeque::new(),
            left: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            is_armed: false,
            drops: DropCounters::new(),
            teller,
            log,
        }
    }

    /// What is left of a datagram for the listener: all of it, its first message, or nothing.
    fn take(
        &mut self,
        received: &mut Received,
        room: &mut [u8],
        length: usize,
    ) -> Option<Range<usize>> {
        let datagram = room.get(..length)?;
        if !datagram.first().is_some_and(|byte| FIRST_BYTES.contains(byte)) {
            return Some(0..length);
        }
        received.protocol = TransportProtocol::Dtls;
        let five_tuple = received.five_tuple(self.local);
        let now = clock::now();
        if let Some(hello) = Hello::parse(datagram) {
            self.greet(&hello, datagram, five_tuple, now);
            return None;
        }
        let Some(link) = self.links.get(&five_tuple).cloned() else {
            // Silently discarded: whoever sends this has to begin with a hello.
            self.drops.count(DropReason::NoDtlsSession);
            return None;
        };
        self.decrypt(&link, received, room, length, now).map(|length| 0..length)
    }

    /// Gives a datagram to its session: the length of the first message, which is in `room` then.
    fn decrypt(
        &mut self,
        link: &Rc<Link>,
        received: &Received,
        room: &mut [u8],
        length: usize,
        now: Instant,
    ) -> Option<usize> {
        let (spare, waiting, drops) = (&mut self.spare, &mut self.waiting, &mut self.drops);
        let mut has_asked = false;
        let keep = |message: &[u8]| {
            has_asked |= is_request(message);
            match waiting.len() < WAITING_MAX {
                true => waiting.push_back((received.clone(), message.to_vec())),
                false => drops.count(DropReason::MailboxFull),
            }
        };
        let taken = link.work(|session, pipe| session.receive(pipe, length, room, spare, keep));
        let five_tuple = received.five_tuple(self.local);
        match taken? {
            Taken::Ignored => self.drops.count(DropReason::BadDtlsRecord),
            Taken::Read(first) => {
                if has_asked || first.and_then(|length| room.get(..length)).is_some_and(is_request)
                {
                    link.heard(now);
                }
                return first;
            }
            Taken::Closed => self.end(&five_tuple, &Ended::ByClient),
            Taken::Failed(why) => self.end(&five_tuple, &failed(link, why)),
        }
        None
    }

    /// Answers a hello without keeping anything, until it comes with a cookie.
    fn greet(&mut self, hello: &Hello<'_>, datagram: &[u8], five_tuple: FiveTuple, now: Instant) {
        if !hello.offers_dtls12() {
            return self.answer_stateless(five_tuple, &hello.refusal(), now);
        }
        if !self.cookies.verify(hello, five_tuple.client, now) {
            let cookie = self.cookies.mint(hello, five_tuple.client, now);
            return self.answer_stateless(five_tuple, &hello_verify_request(&cookie), now);
        }
        if let Some(link) = self.links.get(&five_tuple) {
            // The same hello again; what it asks for is sent again when that is due.
            if link.random == hello.random() {
                return;
            }
            if link.has_just_begun(now) {
                return self.drops.count(DropReason::HandshakesLimited);
            }
        }
        // A cookie is good for hours, and whoever sends what it was given for a thousand times has
        // sent a thousand datagrams, while each handshake costs keys and a signature.
        let may_begin =
            self.handshakes_left > 0 && self.handshake_limiter.allow(five_tuple.client.ip(), now);
        if !may_begin {
            return self.drops.count(DropReason::HandshakesLimited);
        }
        self.handshakes_left -= 1;
        if let Err(ended) = self.admit(hello, datagram, five_tuple) {
            self.note_end(&five_tuple, &ended);
        }
    }

    fn answer_stateless(&mut self, five_tuple: FiveTuple, bytes: &[u8], now: Instant) {
        if !self.limiter.allow(five_tuple.client.ip(), now) {
            return self.drops.count(DropReason::RateLimited);
        }
        let sent = self.below.answer(as_datagrams(five_tuple), bytes);
        self.drops.count_many(DropReason::SocketFull, u64::from(sent.no_room));
        self.drops.count_many(DropReason::SendFailed, u64::from(sent.failed));
    }

    /// Begins the session of a client that has shown where it is. One that was there before on the
    /// same 5-tuple is another's, or the client's of before it was restarted.
    fn admit(
        &mut self,
        hello: &Hello<'_>,
        datagram: &[u8],
        five_tuple: FiveTuple,
    ) -> Result<(), Ended> {
        let refused = Ended::Refused;
        if hello.message_seq() != 1 {
            return Err(refused(DropReason::BadDtlsRecord));
        }
        let is_full = self.links.len() >= self.limits.sessions_per_listener;
        if is_full && !self.links.contains_key(&five_tuple) {
            return Err(refused(DropReason::SessionsFull));
        }
        let unproved = self.caps.unproved(Some(five_tuple.client.ip()));
        let unproved = unproved.ok_or(refused(DropReason::UnprovedFull))?;
        let context = self.certificate.context(&self.log);
        let context = context.ok_or(refused(DropReason::TlsNotServed))?;
        let session = Session::begin(context, hello);
        let session = session.map_err(|why| tls_failed(why.to_string()))?;
        self.end(&five_tuple, &refused(DropReason::ConnectionReplaced));
        let below = self.below.transport(as_datagrams(five_tuple));
        let (pipe, patience) = (self.pipe.clone(), self.limits.connection_setup);
        let link = Link::new(session, hello.random(), below, pipe, unproved, patience);
        debug!(self.log, "DTLS handshake begun"; "five_tuple" => %five_tuple);
        if let Some(Err(why)) = link.work(|session, pipe| session.open(pipe, datagram)) {
            return Err(tls_failed(why));
        }
        self.links.insert(five_tuple, Rc::new(link));
        self.handshakes.insert(five_tuple);
        self.arm(HANDSHAKE_TICK);
        Ok(())
    }

    /// Ends a session, with a word to its client if the handshake is over.
    fn end(&mut self, five_tuple: &FiveTuple, ended: &Ended) {
        let Some(link) = self.links.remove(five_tuple) else { return };
        self.handshakes.remove(five_tuple);
        if link.is_established() {
            self.left.push_back(*five_tuple);
        }
        link.close();
        self.note_end(five_tuple, ended);
        if self.links.capacity() > KEEP_ROOM && self.links.capacity() / 4 > self.links.len() {
            self.links.shrink_to(2 * self.links.len());
        }
    }

    /// Counts and writes down how a session has ended, or why there is none.
    fn note_end(&mut self, five_tuple: &FiveTuple, ended: &Ended) {
        debug!(self.log, "DTLS session over"; "five_tuple" => %five_tuple, "reason" => %ended);
        if let Some(reason) = ended.reason() {
            self.drops.count(reason);
            self.teller.tell(format_args!("DTLS session refused"), ended);
        }
    }

    /// Has the timer fire at least this soon.
    fn arm(&mut self, within: Duration) {
        let at = tokio::time::Instant::from_std(clock::now() + within);
        if !self.is_armed || at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
            self.is_armed = true;
        }
    }

    /// Sends flights again where that is due, and ends what is overdue.
    fn tick(&mut self) {
        let now = clock::now();
        for five_tuple in std::mem::take(&mut self.handshakes) {
            let Some(link) = self.links.get(&five_tuple).cloned() else { continue };
            if link.is_established() {
                continue;
            }
            match link.work(Session::tick) {
                Some(Ok(())) => _ = self.handshakes.insert(five_tuple),
                Some(Err(why)) => self.end(&five_tuple, &tls_failed(why)),
                None => {}
            }
        }
        let overdue =
            |(five_tuple, link): (&FiveTuple, &Rc<Link>)| Some((*five_tuple, link.overdue(now)?));
        for (five_tuple, reason) in self.links.iter().filter_map(overdue).collect::<Vec<_>>() {
            self.end(&five_tuple, &Ended::Refused(reason));
        }
        match (self.handshakes.is_empty(), self.links.is_empty()) {
            (false, _) => self.arm(HANDSHAKE_TICK),
            (true, false) => self.arm(SESSION_TICK),
            (true, true) => {}
        }
    }

    /// Runs what is due; afterwards the task wakes for what is due next.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        while self.is_armed && self.timer.as_mut().poll(cx).is_ready() {
            self.is_armed = false;
            self.tick();
        }
    }

    /// Hands on what came in one datagram with what was handed on before.
    fn deliver_waiting(&mut self, batch: &mut ReceiveBatch) -> usize {
        while let Some((received, message)) = self.waiting.front() {
            if !batch.append(received, message) {
                break;
            }
            self.waiting.pop_front();
        }
        batch.len()
    }
}

impl ListenSocket for DtlsListenSocket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        if !self.waiting.is_empty() {
            batch.clear();
            return Poll::Ready(Ok(self.deliver_waiting(batch)));
        }
        self.poll_timer(cx);
        self.handshakes_left = HANDSHAKES_AT_ONCE;
        match self.below.poll_receive(cx, batch) {
            Poll::Ready(Ok(_)) => {
                batch.rewrite(|received, room, length| self.take(received, room, length));
                // A handshake that has just begun: the task has to wake for it.
                self.poll_timer(cx);
                Poll::Ready(Ok(batch.len()))
            }
            // Whoever has left is to be heard of.
            Poll::Pending if !self.left.is_empty() => {
                batch.clear();
                Poll::Ready(Ok(0))
            }
            pending_or_error => pending_or_error,
        }
    }

    fn take_left(&mut self) -> Option<FiveTuple> {
        if let Some(left) = self.below.take_left() {
            return Some(left);
        }
        // What waits has come before.
        if self.waiting.is_empty() { self.left.pop_front() } else { None }
    }

    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        if five_tuple.protocol != TransportProtocol::Dtls {
            return self.below.transport(five_tuple);
        }
        Rc::new(DtlsTransport::over(self.links.get(&five_tuple).cloned(), five_tuple))
    }

    fn answer(&mut self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent {
        if five_tuple.protocol != TransportProtocol::Dtls {
            return self.below.answer(five_tuple, bytes);
        }
        let Some(link) = self.links.get(&five_tuple) else {
            return Sent { failed: 1, ..Sent::default() };
        };
        link.send(&[Frame::control(bytes)])
    }

    fn connections(&self) -> usize {
        self.below.connections() + self.links.len()
    }

    fn take_drops(&mut self) -> DropCounters {
        let mut drops = std::mem::take(&mut self.drops);
        drops.add(&self.below.take_drops());
        drops
    }
}

impl Drop for DtlsListenSocket {
    fn drop(&mut self) {
        for link in self.links.values() {
            link.close();
        }
    }
}

/// How a session ends whose client sends what OpenSSL does not go on with.
fn failed(link: &Link, why: String) -> Ended {
    match link.is_established() {
        true => Ended::Broken(io::Error::other(why)),
        false => tls_failed(why),
    }
}

fn tls_failed(why: String) -> Ended {
    Ended::Faulty(DropReason::TlsFailed, why)
}

/// The conversation in which the records of a DTLS client travel.
fn as_datagrams(five_tuple: FiveTuple) -> FiveTuple {
    FiveTuple { protocol: TransportProtocol::Udp, ..five_tuple }
}

/// What sessions are begun with, renewed when the certificate is.
struct Certificate {
    terms: watch::Receiver<Arc<TlsTerms>>,
    context: Option<SslContext>,
}

impl Certificate {
    fn new(mut terms: watch::Receiver<Arc<TlsTerms>>, log: &Logger) -> Certificate {
        terms.mark_changed();
        let mut certificate = Certificate { terms, context: None };
        certificate.context(log);
        certificate
    }

    /// The context of a new session; `None` when there has been no good certificate yet.
    fn context(&mut self, log: &Logger) -> Option<&SslContext> {
        // An error says that nobody renews it any more.
        if self.terms.has_changed().unwrap_or(false) {
            match session::context(&self.terms.borrow_and_update().datagrams) {
                Ok(context) => self.context = Some(context),
                Err(cause) => {
                    error!(log, "certificate refused for DTLS; the one before is kept";
                        "cause" => %cause);
                }
            }
        }
        self.context.as_ref()
    }
}

/// First bytes that are DTLS (RFC 7983 §7).
const FIRST_BYTES: std::ops::RangeInclusive<u8> = 20..=63;

/// Handshakes that one source may begin in a second: fewer than a tenth of what a core can make,
/// and more than come from behind one address when nobody means harm.
const HANDSHAKES_PER_SECOND: u32 = 32;

/// Handshakes begun at one look at the socket, a few milliseconds. A client that is passed over
/// sends its hello again.
const HANDSHAKES_AT_ONCE: usize = 8;

/// How often handshakes are looked at: OpenSSL sends a flight again after a second, and later twice
/// as late each time.
const HANDSHAKE_TICK: Duration = Duration::from_millis(200);

/// How often sessions are looked at that have proved nothing.
const SESSION_TICK: Duration = Duration::from_secs(1);

/// Messages of one wake that came in one datagram with another; what is over is dropped.
const WAITING_MAX: usize = 1024;

/// Room for this many sessions stays, however few there are.
const KEEP_ROOM: usize = 1024;

#[cfg(test)]
mod tests;
