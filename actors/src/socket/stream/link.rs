//! What ties a connection to the transport of its client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use sterna_proto::address::FiveTuple;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{Class, peek_class};

use super::outbox::Outbox;
use super::shared::Shared;
use crate::peer_connection::PeerConnection;
use crate::socket::ended::Ended;
use crate::transport::{ClientTransport, Frame, FrameKind, Sent};

/// One connection as its client's transport sees it. The connection's future looks at it whenever
/// it is woken.
pub(super) struct Link {
    pub(super) five_tuple: FiveTuple,
    pub(super) outbox: RefCell<Outbox>,
    order: RefCell<Order>,
    /// Transports that live: while there is one, the client has proved its address.
    transports: Cell<usize>,
    /// The listener has got a message of this connection and will be told of its end.
    delivered: Cell<bool>,
    /// Requests the listener has got, less the answers to them.
    unanswered: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

/// What the connection is to do.
enum Order {
    /// Carry messages.
    Converse,
    /// Write what waits and go over to this peer.
    Join(PeerConnection),
    /// It has gone over: messages would disturb the data.
    Joined,
    /// End.
    Close(DropReason),
    /// It has ended.
    Gone,
}

impl Link {
    /// Queues frames, as far as the connection carries messages.
    fn send(&self, frames: &[Frame<'_>]) -> Sent {
        let failed = Sent { failed: frames.len() as u32, ..Sent::default() };
        if !matches!(*self.order.borrow(), Order::Converse) {
            return failed;
        }
        let answers = frames.iter().filter(|frame| is_answer(frame)).count() as u32;
        self.unanswered.set(self.unanswered.get().saturating_sub(answers));
        let pushed = self.outbox.borrow_mut().push(frames);
        let sent = pushed.unwrap_or_else(|_| {
            self.order.replace(Order::Close(DropReason::SlowReader));
            failed
        });
        self.wake();
        sent
    }

    fn join(&self, peer: PeerConnection) -> Result<(), PeerConnection> {
        let mut order = self.order.borrow_mut();
        if !matches!(*order, Order::Converse) {
            return Err(peer);
        }
        *order = Order::Join(peer);
        drop(order);
        self.wake();
        Ok(())
    }

    /// Tells the connection to end.
    fn close(&self, reason: DropReason) {
        self.order.replace(Order::Close(reason));
        self.wake();
    }

    /// Wakes the one behind `waker` whenever something has changed here.
    pub(super) fn watch(&self, waker: &Waker) {
        let mut own = self.waker.borrow_mut();
        match &mut *own {
            Some(own) => own.clone_from(waker),
            None => *own = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Why the connection has to end, if it has to.
    pub(super) fn to_close(&self) -> Option<Ended> {
        match *self.order.borrow() {
            Order::Close(reason) => Some(Ended::Refused(reason)),
            Order::Converse | Order::Join(_) | Order::Joined | Order::Gone => None,
        }
    }

    /// Whether the connection goes over to a peer: nothing more is read as messages.
    pub(super) fn is_joining(&self) -> bool {
        matches!(*self.order.borrow(), Order::Join(_) | Order::Joined)
    }

    /// The peer to go over to.
    pub(super) fn take_peer(&self) -> Option<PeerConnection> {
        let mut order = self.order.borrow_mut();
        match std::mem::replace(&mut *order, Order::Joined) {
            Order::Join(peer) => Some(peer),
            other => {
                *order = other;
                None
            }
        }
    }

    /// Whether a transport of this client lives, or it has gone over to a peer.
    pub(super) fn is_proved(&self) -> bool {
        self.transports.get() > 0 || self.is_joining()
    }

    /// The listener gets messages of this connection, so many requests among them.
    pub(super) fn note_delivered(&self, requests: u32) {
        self.delivered.set(true);
        self.unanswered.set(self.unanswered.get().saturating_add(requests));
    }

    /// Whether an answer may be due that has not come to the outbox.
    pub(super) fn awaits_answer(&self) -> bool {
        self.unanswered.get() > 0
    }
}

fn is_answer(frame: &Frame<'_>) -> bool {
    frame.kind == FrameKind::Control
        && matches!(peek_class(frame.bytes), Some(Class::Success | Class::Error))
}

/// The connections of a listener, by 5-tuple.
#[derive(Default)]
pub(super) struct Links(RefCell<ahash::HashMap<FiveTuple, Rc<Link>>>);

impl Links {
    /// The connection of this client.
    pub(super) fn get(&self, five_tuple: &FiveTuple) -> Option<Rc<Link>> {
        self.0.borrow().get(five_tuple).cloned()
    }

    /// Has every connection look at what it is to do.
    pub(super) fn wake_all(&self) {
        self.0.borrow().values().for_each(|link| link.wake());
    }
}

/// A connection's place among those of its listener. Whatever ends the connection drops this, and
/// the listener is told.
pub(super) struct Entered {
    link: Rc<Link>,
    shared: Rc<Shared>,
}

impl Entered {
    /// Enters a connection; an older one of the same 5-tuple has to go.
    pub(super) fn new(shared: Rc<Shared>, five_tuple: FiveTuple) -> Entered {
        let link = Rc::new(Link {
            five_tuple,
            outbox: RefCell::new(Outbox::new(shared.terms.limits.stream_buffer)),
            order: RefCell::new(Order::Converse),
            transports: Cell::new(0),
            delivered: Cell::new(false),
            unanswered: Cell::new(0),
            waker: RefCell::new(None),
        });
        let older = shared.links.0.borrow_mut().insert(five_tuple, link.clone());
        if let Some(older) = older {
            older.close(DropReason::ConnectionReplaced);
            shared.tell_left(&older);
        }
        Entered { link, shared }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.link.order.replace(Order::Gone);
        let mut links = self.shared.links.0.borrow_mut();
        let five_tuple = &self.link.five_tuple;
        if links.get(five_tuple).is_some_and(|link| Rc::ptr_eq(link, &self.link)) {
            links.remove(five_tuple);
        }
        if links.capacity() > LINKS_KEPT && links.capacity() / 4 > links.len() {
            let room = 2 * links.len();
            links.shrink_to(room);
        }
        drop(links);
        self.shared.tell_left(&self.link);
    }
}

impl Shared {
    /// Tells the listener that the connection is gone: once, behind its messages, and before those
    /// of a newer one.
    fn tell_left(&self, link: &Link) {
        if link.delivered.replace(false) {
            self.inbox.borrow_mut().push_left(link.five_tuple);
        }
    }

    /// Queues an answer for a client that has no transport.
    pub(super) fn answer(&self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent {
        match self.links.get(&five_tuple) {
            Some(link) => link.send(&[Frame::control(bytes)]),
            None => Sent { failed: 1, ..Sent::default() },
        }
    }

    /// The transport of the client at `five_tuple`; one that sends nothing where the connection has
    /// ended in the meantime.
    pub(super) fn transport(&self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        let link = self.links.get(&five_tuple);
        if let Some(link) = &link {
            link.transports.set(link.transports.get() + 1);
            link.wake();
        }
        Rc::new(StreamTransport { five_tuple, link })
    }
}

/// The way back to one client of a stream.
struct StreamTransport {
    five_tuple: FiveTuple,
    link: Option<Rc<Link>>,
}

impl ClientTransport for StreamTransport {
    fn five_tuple(&self) -> FiveTuple {
        self.five_tuple
    }

    fn send(&self, frames: &[Frame<'_>]) -> Sent {
        match &self.link {
            Some(link) => link.send(frames),
            None => Sent { failed: frames.len() as u32, ..Sent::default() },
        }
    }

    fn join(&self, peer: PeerConnection) -> Result<(), PeerConnection> {
        match &self.link {
            Some(link) => link.join(peer),
            None => Err(peer),
        }
    }
}

impl Drop for StreamTransport {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.transports.set(link.transports.get() - 1);
            link.wake();
        }
    }
}

/// Room for this many connections stays, however few there are.
const LINKS_KEPT: usize = 1024;
