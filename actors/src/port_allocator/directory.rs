//! Who is behind a leased relayed transport address: how one allocation of this server finds
//! another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use actix::WeakRecipient;
use actix::dev::SendError;
use actix::prelude::*;
use sterna_proto::address::{RelayTransport, RelayedAddr};

use super::{PortAllocator, PortLease, pool_of};
use crate::allocation::PeerData;

/// Tell others that this allocation relays at a leased address. Said by the lease, see
/// [`PortLease::announce`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AnnounceRelay {
    address: SocketAddr,
    epoch: u64,
    relay: Announced,
}

/// Find the allocation that relays UDP at this address; `None` where no lease of it is known.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<NearRelay>")]
pub struct FindRelay {
    /// The relayed transport address, as relay sockets are bound to it.
    pub address: RelayedAddr,
}

/// The PortAllocator as allocations know it.
#[derive(Clone)]
pub struct RelayDirectory {
    /// Hears who relays where.
    pub announce: Recipient<AnnounceRelay>,
    /// Tells.
    pub find: Recipient<FindRelay>,
}

impl RelayDirectory {
    /// The directory of this allocator.
    pub fn of(allocator: &Addr<PortAllocator>) -> RelayDirectory {
        RelayDirectory {
            announce: allocator.clone().recipient(),
            find: allocator.clone().recipient(),
        }
    }
}

/// The way to another allocation of this server, for as long as its lease lasts.
#[derive(Debug)]
pub struct NearRelay {
    data: Recipient<PeerData>,
    door: Weak<Door>,
}

impl NearRelay {
    /// Whether the lease of the address has not ended.
    pub fn is_open(&self) -> bool {
        self.door.strong_count() > 0
    }

    /// Hands the data over without waiting.
    ///
    /// # Errors
    /// Gives it back: `Full` where too much waits there already, `Closed` where the lease or the
    /// allocation has ended.
    pub fn try_send(&self, mut data: PeerData) -> Result<(), SendError<PeerData>> {
        let place = match self.door.upgrade() {
            None => return Err(SendError::Closed(data)),
            Some(door) => door.place(data.datagrams()),
        };
        match place {
            None => Err(SendError::Full(data)),
            Some(place) => {
                data.wait_at(place);
                self.data.try_send(data)
            }
        }
    }
}

/// The door of a leased address to the other allocations of this server. It is the lease's alone:
/// when that ends the door is closed, however much still waits for the allocation.
#[derive(Debug, Default)]
pub struct Door {
    waiting: Arc<Waiting>,
}

impl Door {
    /// A place for so many datagrams, if there is room.
    fn place(&self, datagrams: usize) -> Option<Place> {
        let weight = MESSAGE_WEIGHT + datagrams;
        let before = self.waiting.0.fetch_add(weight, Ordering::Relaxed);
        let place = Place { waiting: self.waiting.clone(), weight };
        (before < WAITING_MAX).then_some(place)
    }
}

/// The weight of what waits.
#[derive(Debug, Default)]
struct Waiting(AtomicUsize);

/// What a message holds while it waits.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Waiting>,
    weight: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

/// The same, as the directory keeps it: it keeps nobody.
#[derive(Debug)]
struct Announced {
    data: WeakRecipient<PeerData>,
    door: Weak<Door>,
}

/// Who has announced itself at the ports of one address. A tree, since it gives back what a rush
/// has taken.
#[derive(Debug, Default)]
pub(super) struct Directory(BTreeMap<u16, Announced>);

impl Directory {
    fn find(&self, port: u16) -> Option<NearRelay> {
        let Announced { data, door } = self.0.get(&port)?;
        Some(NearRelay { data: data.upgrade()?, door: door.clone() })
    }

    pub(super) fn forget(&mut self, port: u16) {
        self.0.remove(&port);
    }
}

impl PortLease {
    /// Lets the other allocations of this server find the one that holds the lease: what they have
    /// for its address they hand to `data`. Only UDP is found so.
    pub fn announce(&mut self, directory: &RelayDirectory, data: WeakRecipient<PeerData>) {
        if self.transport != RelayTransport::Udp {
            return;
        }
        let door = self.door.insert(Arc::default());
        let relay = Announced { data, door: Arc::downgrade(door) };
        // Once for each lease, so that the number of leases bounds how many wait.
        directory.announce.do_send(AnnounceRelay {
            address: self.address.0,
            epoch: self.epoch,
            relay,
        });
    }
}

impl Handler<AnnounceRelay> for PortAllocator {
    type Result = ();

    // Within an epoch a lease announces itself before it ends, and its port is leased again after
    // that, so that none can take the place of a newer one.
    fn handle(&mut self, announced: AnnounceRelay, _: &mut Context<Self>) {
        if announced.epoch != self.epoch {
            return;
        }
        let AnnounceRelay { address, relay, .. } = announced;
        if let Some(pool) = pool_of(&mut self.pools, RelayTransport::Udp, address.ip()) {
            pool.directory.0.insert(address.port(), relay);
        }
    }
}

impl Handler<FindRelay> for PortAllocator {
    type Result = Option<NearRelay>;

    fn handle(&mut self, FindRelay { address }: FindRelay, _: &mut Context<Self>) -> Self::Result {
        let pool = pool_of(&mut self.pools, RelayTransport::Udp, address.0.ip())?;
        pool.directory.find(address.0.port())
    }
}

/// The weight that may wait behind one address before the next finds it full: as many datagrams as
/// the client's own may be delayed by, which take some two turns of the allocation.
const WAITING_MAX: usize = 512;

/// What a message weighs besides its datagrams. So at most thirty wait, and both families of an
/// allocation together are fewer than its mailbox holds: others cannot keep its own client out.
const MESSAGE_WEIGHT: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    /// An allocation that has its turn only when the test waits.
    struct Bob;

    impl Actor for Bob {
        type Context = Context<Self>;
    }

    impl Handler<PeerData> for Bob {
        type Result = ();

        fn handle(&mut self, _: PeerData, _: &mut Context<Self>) {}
    }

    fn message() -> PeerData {
        PeerData::new(RelayedAddr(([192, 0, 2, 1], 50_000).into()))
    }

    #[test]
    fn way_ends_with_the_lease_whatever_still_waits() {
        actix::System::new().block_on(async {
            let lease = Arc::new(Door::default());
            let relay = NearRelay { data: Bob.start().recipient(), door: Arc::downgrade(&lease) };
            assert!(relay.is_open() && relay.try_send(message()).is_ok());
            drop(lease);
            assert!(!relay.is_open());
            assert!(matches!(relay.try_send(message()), Err(SendError::Closed(_))));
        });
    }

    #[test]
    fn what_may_wait_is_bounded_by_its_datagrams_and_by_its_messages() {
        for (datagrams, expected) in [(1, 29), (16, 16), (64, 7), (256, 2), (10_000, 1)] {
            let door = Door::default();
            let mut waiting: Vec<Place> = std::iter::from_fn(|| door.place(datagrams)).collect();
            assert_eq!(expected, waiting.len(), "messages of {datagrams}");
            assert!(door.place(1).is_none());
            // Who has been refused has left nothing behind.
            waiting.clear();
            assert_eq!(0, door.waiting.0.load(Ordering::Relaxed));
        }
    }
}
