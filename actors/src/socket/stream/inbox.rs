//! The messages of all connections of a listener, on their way to it.

use std::collections::VecDeque;
use std::task::Waker;

use sterna_proto::address::FiveTuple;

use crate::socket::ReceiveBatch;

/// Whole messages in the order in which they came, and among them the ends of connections. When it
/// is full, the connections wait, and so in the end do their clients.
#[derive(Default)]
pub(super) struct Inbox {
    entries: VecDeque<Entry>,
    /// The messages of the entries, one behind the other.
    bytes: Vec<u8>,
    messages: usize,
    waiting: Vec<Waker>,
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

    /// Wakes the one behind `waker` when there is room again.
    pub(super) fn wait(&mut self, waker: &Waker) {
        self.waiting.push(waker.clone());
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
        if start > 0 {
            self.waiting.drain(..).for_each(Waker::wake);
        }
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
}

/// Messages that wait at most: four batches, which is what the listener takes at one wake.
const MESSAGES_MAX: usize = 256;

/// Bytes that wait at most, some of the largest messages or four batches of ordinary ones.
const BYTES_MAX: usize = 1 << 20;

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

    #[test]
    fn full_inbox_wakes_those_who_wait_once_there_is_room() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (mut inbox, mut batch) = (Inbox::default(), ReceiveBatch::new());
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let pushed = (0..1000).take_while(|_| inbox.push(client(1), b"message")).count();
        assert_eq!(MESSAGES_MAX, pushed);
        inbox.wait(&woken.clone().into());

        assert_eq!(BATCH, drained(&mut inbox, &mut batch).len());
        assert_eq!(1, woken.0.load(Ordering::Relaxed));
        assert_eq!(BATCH, (0..1000).take_while(|_| inbox.push(client(1), b"message")).count());
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
