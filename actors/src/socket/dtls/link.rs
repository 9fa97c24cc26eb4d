//! One client's DTLS session as its listener and its transports share it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use sterna_proto::address::FiveTuple;
use sterna_proto::drops::DropReason;

use super::hello::RANDOM;
use super::session::{Pipe, Session};
use crate::clock;
use crate::socket::BATCH;
use crate::socket::caps::{Caps, Unproved};
use crate::transport::{ClientTransport, Frame, Sent};

/// A client's session and the way its datagrams go.
pub(super) struct Link {
    /// `None` when it is over; transports may outlive it.
    session: RefCell<Option<Session>>,
    /// What the client's hello has drawn: the same hello again is no other client.
    pub(super) random: [u8; RANDOM],
    below: Rc<dyn ClientTransport>,
    pipe: Rc<RefCell<Pipe>>,
    /// Its place among the clients that have proved nothing; `None` while a transport lives.
    unproved: RefCell<Option<Unproved>>,
    caps: Rc<Caps>,
    transports: Cell<usize>,
    begun: Instant,
    /// When it ends, unless a transport lives.
    deadline: Cell<Instant>,
    patience: Duration,
}

impl Link {
    pub(super) fn new(
        session: Session,
        random: [u8; RANDOM],
        below: Rc<dyn ClientTransport>,
        pipe: Rc<RefCell<Pipe>>,
        unproved: Unproved,
        patience: Duration,
    ) -> Link {
        let begun = clock::now();
        Link {
            session: RefCell::new(Some(session)),
            random,
            below,
            pipe,
            caps: unproved.caps(),
            unproved: RefCell::new(Some(unproved)),
            transports: Cell::new(0),
            begun,
            deadline: Cell::new(begun + patience),
            patience,
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.session.borrow().as_ref().is_some_and(Session::is_established)
    }

    /// Whether it is a handshake in whose place no other may come yet.
    pub(super) fn has_just_begun(&self, now: Instant) -> bool {
        !self.is_established() && now < self.begun + HANDSHAKE_ALONE
    }

    /// Why its time is over, if it is; it only runs while the client has proved nothing.
    pub(super) fn overdue(&self, now: Instant) -> Option<DropReason> {
        if self.transports.get() > 0 {
            return None;
        }
        let unproved = self.unproved.borrow();
        let is_evicted = unproved.as_ref().is_some_and(Unproved::is_evicted);
        let is_late = self.deadline.get() <= now;
        let late = is_late.then_some(DropReason::SetupTimeout);
        if is_evicted { Some(DropReason::UnprovedFull) } else { late }
    }

    /// The client has asked for something, and gets its time anew.
    pub(super) fn heard(&self, now: Instant) {
        self.deadline.set(now + self.patience);
    }

    /// Lets the session work with the pipe, and sends what it has written. `None` when it is over.
    pub(super) fn work<T>(&self, work: impl FnOnce(&mut Session, &mut Pipe) -> T) -> Option<T> {
        let mut session = self.session.borrow_mut();
        let mut pipe = self.pipe.borrow_mut();
        let result = work(session.as_mut()?, &mut pipe);
        let datagrams: Frames<'_> = pipe.outgoing().map(Frame::control).collect();
        if !datagrams.is_empty() {
            // What is lost here is sent again, as what is lost on the way.
            self.below.send(&datagrams);
        }
        drop(datagrams);
        pipe.clear();
        Some(result)
    }

    /// Ends the session with a word to the client.
    pub(super) fn close(&self) {
        self.work(Session::close);
        self.session.take();
        self.unproved.take();
    }

    /// Sends frames, a record and a datagram for each.
    pub(super) fn send(&self, frames: &[Frame<'_>]) -> Sent {
        let mut sent = Sent::default();
        let mut session = self.session.borrow_mut();
        let Some(session) = session.as_mut() else {
            return Sent { failed: frames.len() as u32, ..sent };
        };
        let mut pipe = self.pipe.borrow_mut();
        for chunk in frames.chunks(BATCH) {
            let mut message = Vec::new();
            let is_sealed = |frame: &&Frame<'_>| {
                message.clear();
                frame.append_to(&mut message);
                session.seal(&mut pipe, &message)
            };
            let sealed: Frames<'_> = chunk.iter().filter(is_sealed).copied().collect();
            sent.failed += (chunk.len() - sealed.len()) as u32;
            let datagrams: Frames<'_> = sealed
                .iter()
                .zip(pipe.outgoing())
                .map(|(f, bytes)| Frame { header: &[], bytes, padding: 0, ..*f })
                .collect();
            let below = self.below.send(&datagrams);
            let overhead = datagrams.iter().zip(&sealed).map(|(d, f)| d.len() - f.len());
            // All records of a session are longer by the same.
            let overhead = overhead.max().unwrap_or(0) as u64 * u64::from(below.packets);
            sent.add(Sent { bytes: below.bytes.saturating_sub(overhead), ..below });
            drop(datagrams);
            pipe.clear();
        }
        sent
    }
}

/// The way back to one client of a [`DtlsListenSocket`](super::DtlsListenSocket).
pub(super) struct DtlsTransport {
    link: Option<Rc<Link>>,
    five_tuple: FiveTuple,
}

impl DtlsTransport {
    /// A transport over `link`, or over nothing where there is none.
    pub(super) fn over(link: Option<Rc<Link>>, five_tuple: FiveTuple) -> DtlsTransport {
        if let Some(link) = &link {
            link.transports.set(link.transports.get() + 1);
            link.unproved.take();
        }
        DtlsTransport { link, five_tuple }
    }
}

impl ClientTransport for DtlsTransport {
    fn five_tuple(&self) -> FiveTuple {
        self.five_tuple
    }

    fn send(&self, frames: &[Frame<'_>]) -> Sent {
        match &self.link {
            Some(link) => link.send(frames),
            None => Sent { failed: frames.len() as u32, ..Sent::default() },
        }
    }
}

impl Drop for DtlsTransport {
    fn drop(&mut self) {
        let Some(link) = &self.link else { return };
        let left = link.transports.get().saturating_sub(1);
        link.transports.set(left);
        let is_over = link.session.try_borrow().map_or(true, |session| session.is_none());
        if left == 0 && !is_over {
            link.heard(clock::now());
            let source = self.five_tuple.client.ip();
            link.unproved.replace(Some(link.caps.unproved_again(source)));
        }
    }
}

/// How long a handshake has its 5-tuple to itself. A client that was restarted in its handshake
/// sends its hello again after a second.
const HANDSHAKE_ALONE: Duration = Duration::from_millis(900);

/// The frames of one system call; the few of an ordinary wake need no heap.
type Frames<'a> = SmallVec<[Frame<'a>; 8]>;
