//! PortAllocator: which relay port belongs to whom.
//!
//! - Owns: the free ports of every relay address and transport, the leases given out, the
//!   reservations; who is behind each lease, see `port_allocator/directory.rs`.
//! - Started by: the server, once.
//! - Hears from: SessionActors that allocate; leases that end, wherever they lived;
//!   AllocationActors that announce themselves and look for each other.
//! - Stops when: the server does.
//! - If it panics: healed in place with all ports free again; `bind` is the truth about a port, and
//!   leases of before are told from those of after by their epoch. Nobody is found then who has
//!   announced himself before.

mod directory;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, debug};
use sterna_proto::account::Account;
use sterna_proto::address::{Family, RelayTransport, RelayedAddr};
use sterna_proto::port_pool::{Parity, PortPool};
use sterna_proto::quotas::UserName;
use sterna_proto::stun::ReservationToken;

use crate::clock;
use crate::supervision::{self, Spent};

use directory::Directory;

pub use directory::{AnnounceRelay, Door, FindRelay, NearRelay, Place, RelayDirectory};

/// Lease a relay port. The lease ends when it is dropped.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<PortLease, NoPortsLeft>")]
pub struct LeasePort {
    /// What is relayed: the ports of UDP and of TCP have nothing to do with each other.
    pub transport: RelayTransport,
    /// The address family of the relayed transport address.
    pub family: Family,
    /// The relay address to take where it is one of ours and has a port left: the one the client
    /// reached the server at. The others are taken in turn.
    pub prefer: IpAddr,
    /// Any port, an even one, or an even one with its successor reserved.
    pub parity: Parity,
    /// Who may claim the reserved successor.
    pub user: Arc<Account>,
}

/// Every port of the family is taken, or nothing more can be reserved (508).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPortsLeft;

/// Claim a reserved port, once, before its time is over.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<PortLease, UnknownToken>")]
pub struct ClaimReservation {
    /// The token of the RESERVATION-TOKEN attribute.
    pub token: ReservationToken,
    /// The user who claims; it has to be the one who reserved.
    pub user: Arc<Account>,
}

/// No such reservation, or not this user's, or its time is over (508).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownToken;

/// A lease has ended: sent by its Drop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LeaseEnded {
    transport: RelayTransport,
    address: SocketAddr,
    epoch: u64,
    how: LeaseEnd,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseEnd {
    /// Nothing holds the port any more.
    Free,
    /// `bind` said that a foreign program holds it; the reservation made with it is void.
    HeldElsewhere { reservation: Option<ReservationToken> },
}

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// The right to a relayed transport address. It gives itself back.
#[derive(Debug)]
pub struct PortLease {
    transport: RelayTransport,
    address: RelayedAddr,
    reservation: Option<ReservationToken>,
    epoch: u64,
    how: LeaseEnd,
    /// Where other allocations come in, once announced.
    door: Option<Arc<Door>>,
    allocator: Arc<Recipient<LeaseEnded>>,
}

impl PortLease {
    /// The leased relayed transport address.
    pub fn address(&self) -> RelayedAddr {
        self.address
    }

    /// The token for the next higher port, where it was reserved with this one.
    pub fn reservation(&self) -> Option<ReservationToken> {
        self.reservation
    }

    /// Ends the lease of a port that turned out to be a foreign program's.
    pub fn held_elsewhere(mut self) {
        self.how = LeaseEnd::HeldElsewhere { reservation: self.reservation };
    }

    /// A lease that nobody has to give out, for scripts that play the PortAllocator.
    pub fn played(
        address: RelayedAddr,
        reservation: Option<ReservationToken>,
        allocator: Recipient<LeaseEnded>,
    ) -> PortLease {
        PortLease {
            transport: RelayTransport::Udp,
            address,
            reservation,
            epoch: 0,
            how: LeaseEnd::Free,
            door: None,
            allocator: Arc::new(allocator),
        }
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        // A port that cannot be returned because the allocator is gone is nobody's loss.
        self.allocator.do_send(LeaseEnded {
            transport: self.transport,
            address: self.address.0,
            epoch: self.epoch,
            how: self.how,
        });
    }
}

impl LeaseEnded {
    /// The address whose lease ended.
    pub fn address(&self) -> RelayedAddr {
        RelayedAddr(self.address)
    }
}

/// See the head of this file.
pub struct PortAllocator {
    addresses: Vec<IpAddr>,
    ports: RangeInclusive<u16>,
    hold_reservation: Duration,
    pools: Vec<Pool>,
    next: usize,
    /// One for each user at most: what is reserved counts against no quota.
    reservations: HashMap<UserName, Reservation>,
    /// Counts the rebuilds: a lease of an earlier epoch says nothing about the pools of this one.
    epoch: u64,
    /// The way back that all leases share, while there are any.
    way_back: Weak<Recipient<LeaseEnded>>,
    sweep_armed: bool,
    log: Logger,
}

struct Pool {
    transport: RelayTransport,
    address: IpAddr,
    ports: PortPool,
    directory: Directory,
}

struct Reservation {
    token: ReservationToken,
    lease: PortLease,
    user: Arc<Account>,
    expires: Instant,
}

impl PortAllocator {
    /// Starts the allocator of `ports` on each of `addresses`; reservations are held for
    /// `hold_reservation`.
    pub fn start(
        addresses: Vec<IpAddr>,
        ports: RangeInclusive<u16>,
        hold_reservation: Duration,
        log: Logger,
        on_spent: impl FnOnce(Spent) + 'static,
    ) -> Addr<PortAllocator> {
        let mut actor = PortAllocator {
            addresses,
            ports,
            hold_reservation,
            pools: Vec::new(),
            next: 0,
            reservations: HashMap::new(),
            epoch: 0,
            way_back: Weak::new(),
            sweep_armed: false,
            log: log.clone(),
        };
        actor.fill_pools();
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        supervision::heal(supervision::PORT_ALLOCATOR, log, context, actor, on_spent)
    }

    fn fill_pools(&mut self) {
        let ports = &self.ports;
        let pools = self.addresses.iter().flat_map(|&address| {
            [RelayTransport::Udp, RelayTransport::Tcp].map(|transport| Pool {
                transport,
                address,
                ports: PortPool::new(ports.clone()),
                directory: Directory::default(),
            })
        });
        self.pools = pools.collect();
    }
}

impl Actor for PortAllocator {
    type Context = Context<Self>;
}

impl Supervised for PortAllocator {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.epoch += 1;
        // Their leases are of the earlier epoch, so dropping them frees nothing twice.
        self.reservations.clear();
        self.sweep_armed = false;
        self.fill_pools();
    }
}

impl Handler<LeasePort> for PortAllocator {
    type Result = Result<PortLease, NoPortsLeft>;

    fn handle(&mut self, wanted: LeasePort, ctx: &mut Context<Self>) -> Self::Result {
        let reserves = match wanted.parity {
            Parity::Any | Parity::Even => None,
            Parity::EvenWithNext => Some(UserName::of(&wanted.user)),
        };
        if reserves.as_ref().is_some_and(|user| !self.may_reserve(user)) {
            return Err(NoPortsLeft);
        }
        let address = self.take(&wanted).ok_or(NoPortsLeft)?;
        let reservation = reserves.map(|user| self.reserve(user, &wanted, address, ctx));
        Ok(self.lease(wanted.transport, address, reservation, ctx))
    }
}

impl Handler<ClaimReservation> for PortAllocator {
    type Result = Result<PortLease, UnknownToken>;

    fn handle(&mut self, claim: ClaimReservation, _: &mut Context<Self>) -> Self::Result {
        let (now, user) = (clock::now(), UserName::of(&claim.user));
        let valid = self.reservations.get(&user).is_some_and(|held| {
            held.token == claim.token && held.user.is_same_holder(&claim.user) && now < held.expires
        });
        if !valid {
            return Err(UnknownToken);
        }
        self.reservations.remove(&user).map(|held| held.lease).ok_or(UnknownToken)
    }
}

impl Handler<LeaseEnded> for PortAllocator {
    type Result = ();

    fn handle(&mut self, ended: LeaseEnded, _: &mut Context<Self>) {
        if ended.epoch != self.epoch {
            return;
        }
        let pool = pool_of(&mut self.pools, ended.transport, ended.address.ip());
        let Some(pool) = pool else { return };
        pool.directory.forget(ended.address.port());
        match ended.how {
            LeaseEnd::Free => pool.ports.release(ended.address.port()),
            LeaseEnd::HeldElsewhere { reservation } => {
                debug!(self.log, "a foreign program holds a relay port";
                    "address" => %ended.address);
                pool.ports.mark_busy(ended.address.port(), clock::now() + HELD_ELSEWHERE_FOR);
                if let Some(token) = reservation {
                    self.reservations.retain(|_, held| held.token != token);
                }
            }
        }
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for PortAllocator {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the PortAllocator");
    }
}

impl PortAllocator {
    /// A port of the wanted family and parity: on the preferred relay address if it can be, else on
    /// the next one in turn that has one.
    fn take(&mut self, wanted: &LeasePort) -> Option<SocketAddr> {
        let now = clock::now();
        let count = self.pools.len();
        let preferred = self
            .pools
            .iter()
            .position(|pool| pool.transport == wanted.transport && pool.address == wanted.prefer);
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        let order: Vec<usize> = preferred.into_iter().chain(in_turn).collect();
        for index in order {
            let pool = &mut self.pools[index];
            if pool.transport != wanted.transport || Family::of(pool.address) != wanted.family {
                continue;
            }
            pool.ports.tick(now);
            if let Some(port) = pool.ports.take(wanted.parity, rand::random()) {
                if Some(index) != preferred {
                    self.next = (index + 1) % count;
                }
                return Some(SocketAddr::new(pool.address, port));
            }
        }
        None
    }

    fn lease(
        &mut self,
        transport: RelayTransport,
        address: SocketAddr,
        reservation: Option<ReservationToken>,
        ctx: &mut Context<Self>,
    ) -> PortLease {
        let allocator = self.way_back.upgrade().unwrap_or_else(|| {
            let way_back = Arc::new(ctx.address().recipient());
            self.way_back = Arc::downgrade(&way_back);
            way_back
        });
        PortLease {
            transport,
            address: RelayedAddr(address),
            reservation,
            epoch: self.epoch,
            how: LeaseEnd::Free,
            door: None,
            allocator,
        }
    }

    /// A user that holds a reservation may exchange it for another.
    fn may_reserve(&self, user: &UserName) -> bool {
        self.reservations.len() < RESERVATIONS_MAX || self.reservations.contains_key(user)
    }

    /// Holds the port above `even`, which the pool has taken with it, for whoever shows the token.
    /// What the user had reserved before is free again.
    fn reserve(
        &mut self,
        user: UserName,
        wanted: &LeasePort,
        even: SocketAddr,
        ctx: &mut Context<Self>,
    ) -> ReservationToken {
        let odd = SocketAddr::new(even.ip(), even.port() | 1);
        let lease = self.lease(wanted.transport, odd, None, ctx);
        let expires = clock::now() + self.hold_reservation;
        // Unguessable, since whoever shows it gets the port.
        let token = ReservationToken(rand::random());
        let account = wanted.user.clone();
        let reservation = Reservation { token, lease, user: account, expires };
        self.reservations.insert(user, reservation);
        if !self.sweep_armed {
            self.arm_sweep(self.hold_reservation, ctx);
        }
        token
    }

    fn arm_sweep(&mut self, after: Duration, ctx: &mut Context<Self>) {
        self.sweep_armed = true;
        ctx.run_later(after, |actor, ctx| actor.sweep(ctx));
    }

    /// Ends the reservations whose time is over, and waits for the next that will be.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.sweep_armed = false;
        self.reservations.retain(|_, held| now < held.expires);
        if let Some(next) = self.reservations.values().map(|held| held.expires).min() {
            self.arm_sweep(next - now, ctx);
        }
    }
}

fn pool_of(pools: &mut [Pool], transport: RelayTransport, address: IpAddr) -> Option<&mut Pool> {
    pools.iter_mut().find(|pool| pool.transport == transport && pool.address == address)
}

/// Leases asked for at once; a session waits for room in the mailbox, its client retransmits.
const MAILBOX: usize = 1024;

/// Ports held for somebody who has not come for them yet, of all users together.
pub const RESERVATIONS_MAX: usize = 1024;

/// How long a port that a foreign program held is left alone.
const HELD_ELSEWHERE_FOR: Duration = Duration::from_secs(30);
