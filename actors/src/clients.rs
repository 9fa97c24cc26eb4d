//! The clients of one listener, found by 5-tuple and by session.

use std::rc::Rc;

use actix::prelude::*;
use slab::Slab;
use sterna_proto::address::FiveTuple;

use crate::allocation::{AllocationActor, EndReason};
use crate::session::{SessionActor, SessionId};
use crate::supervision::RestartWindow;
use crate::transport::ClientTransport;

/// One client: its session and, while it has one, its allocation.
pub(crate) struct Client {
    pub(crate) id: SessionId,
    pub(crate) five_tuple: FiveTuple,
    pub(crate) transport: Rc<dyn ClientTransport>,
    pub(crate) session: Addr<SessionActor>,
    pub(crate) allocation: Option<(u64, Addr<AllocationActor>)>,
    /// It has proved who it is.
    pub(crate) proved: bool,
    /// So many of its requests count as failed logins until they have proved something.
    pub(crate) on_trial: u32,
    pub(crate) restarts: RestartWindow,
    /// Its place among the groups of the wake at hand.
    pub(crate) group: Option<usize>,
    /// The session has ended for good; the client goes when its allocation has ended too.
    pub(crate) session_over: bool,
    /// The session has panicked, and the pause before its restart is not over.
    pub(crate) restart_due: bool,
    /// Its connection is gone.
    pub(crate) left: bool,
    /// Why it was told to go, if it was.
    pub(crate) ended: Option<EndReason>,
}

/// The table of a listener. Its memory follows the clients it holds, down as well as up.
#[derive(Default)]
pub(crate) struct Clients {
    // Boxed, so that a slot that stays after a rush costs little.
    slots: Slab<Box<Client>>,
    by_five_tuple: ahash::HashMap<FiveTuple, usize>,
    by_session: ahash::HashMap<SessionId, usize>,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a client; the key is its name until it is removed.
    pub(crate) fn insert(&mut self, client: Client) -> usize {
        let (five_tuple, id) = (client.five_tuple, client.id);
        let key = self.slots.insert(Box::new(client));
        self.by_five_tuple.insert(five_tuple, key);
        self.by_session.insert(id, key);
        key
    }

    pub(crate) fn remove(&mut self, key: usize) {
        let Some(client) = self.slots.try_remove(key) else { return };
        if self.at(&client.five_tuple) == Some(key) {
            self.by_five_tuple.remove(&client.five_tuple);
        }
        self.by_session.remove(&client.id);
        self.give_back();
    }

    /// The client at this 5-tuple has left: what comes from there next is another's.
    pub(crate) fn leave(&mut self, five_tuple: &FiveTuple) -> Option<&mut Client> {
        let key = self.by_five_tuple.remove(five_tuple)?;
        let client = self.get_mut(key)?;
        client.left = true;
        Some(client)
    }

    pub(crate) fn get(&self, key: usize) -> Option<&Client> {
        self.slots.get(key).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut Client> {
        self.slots.get_mut(key).map(Box::as_mut)
    }

    /// The client that sends from this 5-tuple.
    pub(crate) fn at(&self, five_tuple: &FiveTuple) -> Option<usize> {
        self.by_five_tuple.get(five_tuple).copied()
    }

    /// The client of this session.
    pub(crate) fn of(&self, session: SessionId) -> Option<usize> {
        self.by_session.get(&session).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().map(|(_, client)| client.as_ref())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().map(|(_, client)| client.as_mut())
    }

    /// Shrinks what is mostly empty. It happens at a quarter and leaves twice the room needed, so
    /// the work is spread over at least as many removals as there are clients to move.
    fn give_back(&mut self) {
        let clients = self.slots.len();
        if self.by_five_tuple.capacity() > KEEP_ROOM && self.by_five_tuple.capacity() / 4 > clients
        {
            self.slots.shrink_to_fit();
            self.by_five_tuple.shrink_to(2 * clients);
            self.by_session.shrink_to(2 * clients);
        }
    }
}

/// Room for this many clients stays, however few there are.
const KEEP_ROOM: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sterna_proto::address::TransportProtocol;

    use super::*;
    use crate::supervision;
    use crate::transport::{Frame, Sent};

    struct Nowhere(FiveTuple);

    impl ClientTransport for Nowhere {
        fn five_tuple(&self) -> FiveTuple {
            self.0
        }

        fn send(&self, _: &[Frame<'_>]) -> Sent {
            Sent::default()
        }
    }

    fn five_tuple(number: u32) -> FiveTuple {
        FiveTuple {
            client: SocketAddr::from((number.to_be_bytes(), 5000)),
            server: SocketAddr::from(([192, 0, 2, 1], 3478)),
            protocol: TransportProtocol::Udp,
        }
    }

    fn client(number: u32) -> Client {
        Client {
            id: SessionId::new(0, u64::from(number)),
            five_tuple: five_tuple(number),
            transport: Rc::new(Nowhere(five_tuple(number))),
            session: Context::new().address(),
            allocation: None,
            proved: false,
            on_trial: 0,
            ended: None,
            restarts: RestartWindow::new(supervision::SESSION.budget),
            group: None,
            session_over: false,
            restart_due: false,
            left: false,
        }
    }

    #[test]
    fn client_is_found_both_ways_until_it_is_removed() {
        let mut clients = Clients::default();
        let key = clients.insert(client(7));
        assert_eq!(Some(key), clients.at(&five_tuple(7)));
        assert_eq!(Some(key), clients.of(SessionId::new(0, 7)));

        clients.remove(key);
        assert_eq!(None, clients.at(&five_tuple(7)));
        assert_eq!(None, clients.of(SessionId::new(0, 7)));
        assert!(clients.is_empty());
    }

    #[test]
    fn place_of_a_client_that_left_is_anothers() {
        let mut clients = Clients::default();
        let first = clients.insert(client(7));
        assert!(clients.leave(&five_tuple(7)).is_some_and(|client| client.left));
        assert_eq!(None, clients.at(&five_tuple(7)));
        assert_eq!(Some(first), clients.of(SessionId::new(0, 7)));

        let second = clients.insert(Client { id: SessionId::new(0, 8), ..client(7) });
        clients.remove(first);
        assert_eq!(Some(second), clients.at(&five_tuple(7)));
    }

    #[test]
    fn room_for_a_rush_is_given_back_after_it() {
        let mut clients = Clients::default();
        let keys: Vec<usize> = (0..20_000).map(|number| clients.insert(client(number))).collect();
        let rush = clients.by_five_tuple.capacity();
        for &key in &keys[10..] {
            clients.remove(key);
        }
        assert_eq!(10, clients.len());
        assert!(clients.by_five_tuple.capacity() < rush / 8);
        assert!(clients.by_session.capacity() < rush / 8);
        for (number, &key) in (0..).zip(&keys[..10]) {
            assert_eq!(Some(key), clients.at(&five_tuple(number)));
        }
    }
}
