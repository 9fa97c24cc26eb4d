//! Who is behind a leased relayed transport address: how one allocation of this server finds
//! another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
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
        let Some(door) = self.door.upgrade() else { return Err(SendError::Closed(data)) };
        // Besides those that wait, the lease holds the door and this call does. Two that look at
        // the last place at once may both find it taken.
        if Arc::strong_count(&door) >= WAITING_MAX + 2 {
            return Err(SendError::Full(data));
        }
        data.wait_behind(door);
        self.data.try_send(data)
    }
}

/// The door of a leased address to the other allocations of this server. The lease holds it, and
/// so does what waits behind it, which is how that is counted. It is closed when nobody does: what
/// comes between the end of the lease and the last that waits finds an allocation without relay.
#[derive(Debug, Default)]
pub struct Door(());

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

/// Messages of other allocations that wait behind one address; what comes when it is full takes the
/// kernel's way. Both families of an allocation together are fewer than its mailbox holds, so that
/// others cannot keep its own client out.
pub const WAITING_MAX: usize = 30;
