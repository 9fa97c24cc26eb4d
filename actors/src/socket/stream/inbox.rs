//! The messages of all connections of a listener, on their way to it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use sterna_proto::address::FiveTuple;

use crate::socket::ReceiveBatch;

/// Whole messages in the order in which they came, and among them the ends of connections. When it
/// is full, the connections wait in line, and so in the end do their clients.
#[derive(Default)]
pub(super) struct Inbox {
    entries: VecDeque<Entry>,
    /// The messages of the entries, one behind the other.
    bytes: Vec<u8>,
    messages: usize,
    /// Connections that wait for a turn, by their places. The first is woken while there is room.
    line: BTreeMap<u64, Waker>,
    places_given: u64,
}

enum Entry {
    Message { from: FiveTuple, length: usize },
    Left(FiveTuple),
}

impl Inbox {
    /// Appends a message; false when there is no room.
    pub(super) fn push(&mut self, from: FiveTuple, message: &[u8]) -> bool {
        if self.messages >= MESSAGES_MAX || self.bytes.len() + message.len() > BYTES_MAX {
            return false;
        }
        self.bytes.extend_from_slice(message);
        self.messages += 1;
        self.entries.push_back(Entry::Message { from, length: message.len() });
        true
    }

    /// Says that the connection of this client has ended: there is one word for each connection,
    /// and so as much room as for connections.
    pub(super) fn push_left(&mut self, client: FiveTuple) {
        self.entries.push_back(Entry::Left(client));
    }

    /// Moves messages into `batch`, up to the first end of a connection. True when there is
    /// something to be done: messages came, or a client has left.
    pub(super) fn drain_into(&mut self, batch: &mut ReceiveBatch) -> bool {
        let mut start = 0;
        while let Some(&Entry::Message { from, length }) = self.entries.front() {
            let message = self.bytes.get(start..start + length).unwrap_or_default();
            if !batch.push_message(from, message) {
                break;
            }
            start += length;
            self.messages -= 1;
            self.entries.pop_front();
        }
        self.bytes.drain(..start);
        self.call_first();
        !batch.is_empty() || !self.entries.is_empty()
    }

    /// The client whose end comes next, before any further message.
    pub(super) fn take_left(&mut self) -> Option<FiveTuple> {
        match self.entries.front() {
            Some(&Entry::Left(client)) => {
                self.entries.pop_front();
                Some(client)
            }
            Some(Entry::Message { .. }) | None => None,
        }
    }

    /// Whether any message fits.
    fn has_room(&self) -> bool {
        self.messages < MESSAGES_MAX && self.bytes.len() + MESSAGE_MAX <= BYTES_MAX
    }

    fn call_first(&self) {
        if self.has_room()
            && let Some(waker) = self.line.values().next()
        {
            waker.wake_by_ref();
        }
    }
}

/// A connection's place in the line for turns. Whoever has had a turn and wants another stands
/// behind all others, so that no client keeps them from being heard, however much it sends.
pub(super) struct Place<'a> {
    inbox: &'a RefCell<Inbox>,
    number: Option<u64>,
}

impl Place<'_> {
    /// No place yet: a connection comes to the line when it has to wait.
    pub(super) fn new(inbox: &RefCell<Inbox>) -> Place<'_> {
        Place { inbox, number: None }
    }

    /// Whether this connection may deliver messages: there is room, and nobody waits before it. If
    /// not, it is woken when its turn comes.
    pub(super) fn begin_turn(&mut self, waker: &Waker) -> bool {
        let mut inbox = self.inbox.borrow_mut();
        let first = inbox.line.keys().next().copied();
        if inbox.has_room() && (first.is_none() || first == self.number) {
            return true;
        }
        self.stand(&mut inbox, waker);
        false
    }

    /// The turn is over; who has `more` to deliver leaves its waker for the next one.
    pub(super) fn end_turn(&mut self, more: Option<&Waker>) {
        self.leave();
        let Some(waker) = more else { return };
        let mut inbox = self.inbox.borrow_mut();
        if inbox.line.is_empty() && inbox.has_room() {
            waker.wake_by_ref();
        } else {
            self.stand(&mut inbox, waker);
        }
    }

    /// Leaves the line, and lets the next one come.
    pub(super) fn leave(&mut self) {
        if let Some(number) = self.number.take() {
            let mut inbox = self.inbox.borrow_mut();
            inbox.line.remove(&number);
            inbox.call_first();
        }
    }

    fn stand(&mut self, inbox: &mut Inbox, waker: &Waker) {
        let number = *self.number.get_or_insert_with(|| {
            inbox.places_given += 1;
            inbox.places_given
        });
        let own = inbox.line.entry(number).or_insert_with(|| waker.clone());
        own.clone_from(waker);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Messages that wait at most: four batches, which is what the listener takes at one wake.
const MESSAGES_MAX: usize = 256;

/// Bytes that wait at most, some of the largest messages or four batches of ordinary ones.
const BYTES_MAX: usize = 1 << 20;

/// Bytes of the largest message: what the length of a STUN header can say, and that header.
const MESSAGE_MAX: usize = 20 + 0xFFFC;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use sterna_proto::address::TransportProtocol;

    use super::*;
    use crate::socket::BATCH;

    fn client(port: u16) -> FiveTuple {
        FiveTuple {
            client: ([192, 0, 2, 1], port).into(),
            server: ([192, 0, 2, 9], 3478).into(),
            protocol: TransportProtocol::Tls,
        }
    }

    fn drained(inbox: &mut Inbox, batch: &mut ReceiveBatch) -> Vec<(u16, Vec<u8>)> {
        batch.clear();
        inbox.drain_into(batch);
        batch.iter().map(|(from, bytes)| (from.from.port(), bytes.to_vec())).collect()
    }

    #[test]
    fn messages_come_in_order_and_with_their_5_tuple() {
        let (mut inbox, mut batch) = (Inbox::default(), ReceiveBatch::new());
        assert!(inbox.push(client(1), b"first"));
        assert!(inbox.push(client(2), b""));
        assert!(inbox.push(client(1), b"third"));

        let expected = vec![(1, b"first".to_vec()), (2, vec![]), (1, b"third".to_vec())];
        assert_eq!(expected, drained(&mut inbox, &mut batch));
        let (received, _) = batch.iter().next().expect("there are three");
        assert_eq!(TransportProtocol::Tls, received.protocol);
        assert_eq!(Some(client(1).server.ip()), received.to);
        assert!(!inbox.drain_into(&mut ReceiveBatch::new()));
    }

    #[test]
    fn nothing_passes_the_end_of_a_connection() {
        let (mut inbox, mut batch) = (Inbox::default(), ReceiveBatch::new());
        inbox.push(client(1), b"of the older");
        inbox.push_left(client(1));
        inbox.push(client(1), b"of the newer");

        assert_eq!(None, inbox.take_left());
        assert_eq!(vec![(1, b"of the older".to_vec())], drained(&mut inbox, &mut batch));
        batch.clear();
        assert!(inbox.drain_into(&mut batch) && batch.is_empty(), "there is an end to be told");
        assert_eq!(Some(client(1)), inbox.take_left());
        assert_eq!(None, inbox.take_left());
        assert_eq!(vec![(1, b"of the newer".to_vec())], drained(&mut inbox, &mut batch));
    }

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn fill(inbox: &RefCell<Inbox>) -> usize {
        (0..1000).take_while(|_| inbox.borrow_mut().push(client(1), b"message")).count()
    }

    #[test]
    fn room_is_given_in_the_order_of_the_line() {
        let (inbox, mut batch) = (RefCell::new(Inbox::default()), ReceiveBatch::new());
        let counts: [Arc<Count>; 3] = Default::default();
        let wakers = counts.clone().map(Waker::from);
        let mut places = [(); 3].map(|()| Place::new(&inbox));
        assert!(places[0].begin_turn(&wakers[0]));
        assert_eq!(MESSAGES_MAX, fill(&inbox));
        places[0].end_turn(Some(&wakers[0]));
        assert!(!places[1].begin_turn(&wakers[1]));
        assert!(!places[2].begin_turn(&wakers[2]));

        // Whoever has come later waits although there is room: it is for the first.
        assert_eq!(BATCH, drained(&mut inbox.borrow_mut(), &mut batch).len());
        assert_eq!([1, 0, 0], counts.each_ref().map(|count| count.take()));
        assert!(!places[1].begin_turn(&wakers[1]));
        assert!(places[0].begin_turn(&wakers[0]));
        places[0].end_turn(Some(&wakers[0]));
        assert_eq!([0, 1, 0], counts.each_ref().map(|count| count.take()));
        // One that leaves the line, for whatever reason, makes way.
        places[1].leave();
        assert_eq!([0, 0, 1], counts.each_ref().map(|count| count.take()));
        assert!(places[2].begin_turn(&wakers[2]));
        assert_eq!(BATCH, fill(&inbox));
        places[2].end_turn(None);
        assert_eq!([0, 0, 0], counts.each_ref().map(|count| count.take()));
        drained(&mut inbox.borrow_mut(), &mut batch);
        assert_eq!([1, 0, 0], counts.each_ref().map(|count| count.take()));
    }

    #[test]
    fn who_is_alone_and_has_more_goes_on_at_once() {
        let inbox = RefCell::new(Inbox::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut place = Place::new(&inbox);
        assert!(place.begin_turn(&waker));
        place.end_turn(Some(&waker));
        assert_eq!(1, count.take());
        assert!(inbox.borrow().line.is_empty());
    }

    #[test]
    fn largest_message_fits_a_slot_of_the_batch() {
        let (mut inbox, mut batch) = (Inbox::default(), ReceiveBatch::new());
        let largest = vec![0; 20 + 0xFFFC];
        let pushed = (0..1000).take_while(|_| inbox.push(client(1), &largest)).count();
        assert_eq!(BYTES_MAX / largest.len(), pushed);
        assert_eq!(pushed, drained(&mut inbox, &mut batch).len());
    }
}
