//! PortAllocator: leases, reservations, and what a panic leaves of them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use actix::{Addr, Recipient};
use sterna_actors::allocation::PeerData;
use sterna_actors::port_allocator::{
    ClaimReservation, FindRelay, LeasePort, NearRelay, NoPortsLeft, Panic, PortAllocator,
    PortLease, RESERVATIONS_MAX, RelayDirectory, UnknownToken,
};
use sterna_proto::address::{Family, RelayTransport, RelayedAddr};
use sterna_proto::port_pool::Parity;
use sterna_proto::stun::ReservationToken;

use crate::kit::{
    Deadline, Log, RELAY_V4, RELAY_V6, account, after, neighbour, relayed_at, secs, settle,
    virtual_time,
};

/// The actor, and the log it writes.
struct Ports {
    actor: Addr<PortAllocator>,
    log: Log,
}

fn play(ports: RangeInclusive<u16>, script: impl AsyncFnOnce(&Ports)) {
    play_at(vec![RELAY_V4], ports, script);
}

fn play_at(relays: Vec<IpAddr>, ports: RangeInclusive<u16>, script: impl AsyncFnOnce(&Ports)) {
    virtual_time(async move || {
        let log = Log::default();
        let spent = |spent| panic!("{spent}");
        let actor = PortAllocator::start(relays, ports, secs(30), log.logger(), spent);
        let ports = Ports { actor, log };
        script(&ports).await;
        ports.log.is_calm();
    });
}

impl Ports {
    async fn leases(&self) -> Result<PortLease, NoPortsLeft> {
        self.leases_with(Parity::Any).await
    }

    async fn leases_with(&self, parity: Parity) -> Result<PortLease, NoPortsLeft> {
        self.leases_at(RELAY_V4, Family::V4, parity).await
    }

    async fn leases_at(
        &self,
        prefer: IpAddr,
        family: Family,
        parity: Parity,
    ) -> Result<PortLease, NoPortsLeft> {
        let transport = RelayTransport::Udp;
        let wanted = LeasePort { transport, family, prefer, parity, user: account("alice") };
        self.actor.send(wanted).await.expect("the allocator is alive")
    }

    async fn reserves(&self, user: &str) -> Result<PortLease, NoPortsLeft> {
        let wanted = LeasePort {
            transport: RelayTransport::Udp,
            family: Family::V4,
            prefer: RELAY_V4,
            parity: Parity::EvenWithNext,
            user: account(user),
        };
        self.actor.send(wanted).await.expect("the allocator is alive")
    }

    async fn claims(&self, token: ReservationToken, user: &str) -> Result<PortLease, UnknownToken> {
        let claim = ClaimReservation { token, user: account(user) };
        self.actor.send(claim).await.expect("the allocator is alive")
    }

    /// The holder of the lease says that it relays.
    async fn are_told(&self, lease: &mut PortLease, relay: &Recipient<PeerData>) {
        lease.announce(&RelayDirectory::of(&self.actor), relay.downgrade());
        settle().await;
    }

    async fn finds(&self, address: RelayedAddr) -> Option<NearRelay> {
        self.actor.send(FindRelay { address }).await.expect("the allocator is alive")
    }

    async fn panics(&self) {
        self.actor.do_send(Panic);
        after(secs(1)).await;
        self.log.expects(slog::Level::Warning, "actor panicked and is healed in place");
    }
}

#[test]
fn lease_ends_when_it_is_dropped() {
    play(50_000..=50_000, async |ports| {
        let lease = ports.leases().await.expect("a port is free");
        assert_eq!(relayed_at(50_000), lease.address().0);
        assert_eq!(None, lease.reservation());
        assert!(ports.leases().await.is_err());

        drop(lease);
        assert!(ports.leases().await.is_ok());
    });
}

#[test]
fn each_port_is_leased_to_one_at_a_time() {
    play(50_000..=50_099, async |ports| {
        let mut leases = Vec::new();
        while let Ok(lease) = ports.leases().await {
            leases.push(lease);
        }
        let mut addresses: Vec<_> = leases.iter().map(PortLease::address).collect();
        addresses.sort_unstable();
        let all: Vec<_> = (50_000..=50_099).map(relayed_at).collect();
        assert_eq!(all, addresses.iter().map(|address| address.0).collect::<Vec<_>>());
    });
}

#[test]
fn ports_are_picked_unpredictably() {
    play(50_000..=50_999, async |ports| {
        let mut picked = Vec::new();
        for _ in 0..20 {
            let lease = ports.leases().await.expect("a port is free");
            picked.push(lease.address().0.port());
        }
        let mut sorted = picked.clone();
        sorted.sort_unstable();
        sorted.dedup();
        // Twenty draws of a thousand are all but surely neither in order nor all the same.
        assert!(sorted.len() > 10, "{picked:?}");
        assert_ne!(sorted, picked);
    });
}

#[test]
fn families_are_kept_apart() {
    play_at(vec![RELAY_V4, RELAY_V6], 50_000..=50_000, async |ports| {
        let v4 = ports.leases_at(RELAY_V6, Family::V4, Parity::Any).await.expect("one is free");
        let v6 = ports.leases_at(RELAY_V4, Family::V6, Parity::Any).await.expect("one is free");
        assert_eq!((RELAY_V4, RELAY_V6), (v4.address().0.ip(), v6.address().0.ip()));
        assert!(ports.leases_at(RELAY_V4, Family::V6, Parity::Any).await.is_err());
    });
}

#[test]
fn even_ports_are_even_and_run_out_alone() {
    play(50_001..=50_004, async |ports| {
        let even = [ports.leases_with(Parity::Even).await, ports.leases_with(Parity::Even).await];
        for lease in &even {
            let port = lease.as_ref().expect("two are free").address().0.port();
            assert_eq!(0, port % 2);
        }
        assert!(ports.leases_with(Parity::Even).await.is_err());
        assert!(ports.leases().await.is_ok());
    });
}

#[test]
fn pair_is_reserved_whole_or_not_at_all() {
    play(50_001..=50_004, async |ports| {
        let pair = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        assert_eq!(relayed_at(50_002), pair.address().0);
        assert!(pair.reservation().is_some());

        // An even port is left, but not the one above it.
        assert!(ports.leases_with(Parity::EvenWithNext).await.is_err());
        assert!(ports.leases_with(Parity::Even).await.is_ok());
    });
}

#[test]
fn reservation_is_claimed_once_by_its_user() {
    play(50_000..=50_001, async |ports| {
        let pair = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        let token = pair.reservation().expect("the next port is reserved");

        assert_eq!(Some(UnknownToken), ports.claims(token, "bob").await.err());
        let made_up = ReservationToken([0; 8]);
        assert_eq!(Some(UnknownToken), ports.claims(made_up, "alice").await.err());
        let lease = ports.claims(token, "alice").await.expect("it is hers");
        assert_eq!(relayed_at(50_001), lease.address().0);
        assert_eq!(Some(UnknownToken), ports.claims(token, "alice").await.err());

        drop(lease);
        assert_eq!(Some(UnknownToken), ports.claims(token, "alice").await.err());
        assert_eq!(relayed_at(50_001), ports.leases().await.expect("it is free").address().0);
    });
}

#[test]
fn reservation_lasts_thirty_seconds() {
    play(50_000..=50_003, async |ports| {
        let first = Deadline::after(secs(30));
        let pair = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        let token = pair.reservation().expect("the next port is reserved");
        after(secs(10)).await;
        let second = Deadline::after(secs(30));
        let other = ports.reserves("bob").await.expect("a pair is free");
        let other_token = other.reservation().expect("the next port is reserved");

        first.just_before().await;
        assert!(ports.leases().await.is_err());
        first.just_after().await;
        assert!(ports.claims(token, "alice").await.is_err());
        let lease = ports.leases().await.expect("the port of the first pair is free");
        assert!(ports.leases().await.is_err());

        second.just_before().await;
        drop(lease);
        let claimed = ports.claims(other_token, "bob").await.expect("it is still reserved");
        second.just_after().await;
        assert_eq!(claimed.address().0.port() % 2, 1);
        assert!(ports.leases().await.is_ok());
        assert!(ports.leases().await.is_ok());
    });
}

#[test]
fn user_holds_one_reservation_at_a_time() {
    play(50_000..=50_099, async |ports| {
        let mut tokens = Vec::new();
        for spelled in ["alice", "\"alice\"", "alice\0", "alice"].into_iter().cycle().take(60) {
            let pair = ports.reserves(spelled).await.expect("what she had reserved is free again");
            tokens.push((spelled, pair.reservation().expect("the next port is reserved")));
        }
        settle().await;

        let mut free = Vec::new();
        while let Ok(lease) = ports.leases().await {
            free.push(lease);
        }
        assert_eq!(99, free.len());
        let (last, earlier) = tokens.split_last().expect("there are sixty");
        for (spelled, token) in earlier {
            assert_eq!(Some(UnknownToken), ports.claims(*token, spelled).await.err());
        }
        assert!(ports.claims(last.1, last.0).await.is_ok());
    });
}

#[test]
fn reservations_of_all_users_are_bounded() {
    play(50_000..=59_999, async |ports| {
        for user in 0..RESERVATIONS_MAX {
            assert!(ports.reserves(&format!("user{user}")).await.is_ok(), "{user}");
        }

        assert_eq!(Some(NoPortsLeft), ports.reserves("alice").await.err());
        assert!(ports.leases_with(Parity::Even).await.is_ok(), "who reserves nothing has a port");
        let token = ports.reserves("user7").await.expect("it exchanges what it has").reservation();
        assert!(ports.claims(token.expect("the next port is reserved"), "user7").await.is_ok());
        assert!(ports.reserves("alice").await.is_ok());
    });
}

#[test]
fn port_held_elsewhere_is_left_alone_for_thirty_seconds() {
    play(50_000..=50_000, async |ports| {
        let busy = Deadline::after(secs(30));
        ports.leases().await.expect("a port is free").held_elsewhere();

        busy.just_before().await;
        assert!(ports.leases().await.is_err());
        busy.just_after().await;
        assert!(ports.leases().await.is_ok());
    });
}

#[test]
fn reservation_of_a_port_held_elsewhere_is_void() {
    play(50_000..=50_001, async |ports| {
        let pair = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        let token = pair.reservation().expect("the next port is reserved");
        pair.held_elsewhere();

        assert!(ports.claims(token, "alice").await.is_err());
        let odd = ports.leases().await.expect("the odd one is free");
        assert_eq!(relayed_at(50_001), odd.address().0);
        assert!(ports.leases().await.is_err());
    });
}

#[test]
fn lease_of_an_earlier_epoch_frees_nothing_leased_anew() {
    play(50_000..=50_000, async |ports| {
        let before = ports.leases().await.expect("a port is free");
        ports.panics().await;
        let anew = ports.leases().await.expect("all ports are free after a panic");
        assert_eq!(before.address(), anew.address());

        drop(before);
        assert!(ports.leases().await.is_err(), "the port is leased");

        drop(anew);
        assert!(ports.leases().await.is_ok());
    });
}

#[test]
fn lease_of_an_earlier_epoch_marks_nothing_busy() {
    play(50_000..=50_000, async |ports| {
        let before = ports.leases().await.expect("a port is free");
        ports.panics().await;
        before.held_elsewhere();

        assert!(ports.leases().await.is_ok());
    });
}

#[test]
fn who_relays_is_found_until_its_lease_ends() {
    play(50_000..=50_000, async |ports| {
        let (_ear, relay) = neighbour();
        let mut lease = ports.leases().await.expect("a port is free");
        let address = lease.address();
        assert!(ports.finds(address).await.is_none());
        ports.are_told(&mut lease, &relay).await;
        let found = ports.finds(address).await.expect("it has been announced");
        assert!(found.is_open());

        drop(lease);
        assert!(!found.is_open());
        assert!(ports.finds(address).await.is_none());
    });
}

#[test]
fn lease_of_an_earlier_epoch_does_not_end_what_is_announced_after_it() {
    play(50_000..=50_000, async |ports| {
        let (_ear, relay) = neighbour();
        let mut before = ports.leases().await.expect("a port is free");
        ports.are_told(&mut before, &relay).await;
        ports.panics().await;
        assert!(ports.finds(before.address()).await.is_none());
        let mut anew = ports.leases().await.expect("all ports are free after a panic");
        assert_eq!(before.address(), anew.address());
        ports.are_told(&mut anew, &relay).await;

        drop(before);
        let found = ports.finds(anew.address()).await.expect("the new one relays");
        assert!(found.is_open());
    });
}

#[test]
fn lease_of_an_earlier_epoch_announces_nothing() {
    play(50_000..=50_000, async |ports| {
        let (_ear, relay) = neighbour();
        let mut before = ports.leases().await.expect("a port is free");
        ports.panics().await;
        ports.are_told(&mut before, &relay).await;
        assert!(ports.finds(before.address()).await.is_none());
    });
}

#[test]
fn reservations_of_an_earlier_epoch_are_void() {
    play(50_000..=50_001, async |ports| {
        let pair = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        let token = pair.reservation().expect("the next port is reserved");
        ports.panics().await;

        assert!(ports.claims(token, "alice").await.is_err());
        let anew = ports.leases_with(Parity::EvenWithNext).await.expect("both are free");
        // The sweep of the first epoch's reservation is not the second one's.
        after(secs(28)).await;
        let token = anew.reservation().expect("the next port is reserved");
        let claimed = ports.claims(token, "alice").await;
        assert_eq!(relayed_at(50_001), claimed.expect("it is reserved").address().0);
    });
}

#[test]
fn reservations_are_swept_after_a_panic_as_well() {
    play(50_000..=50_001, async |ports| {
        let _first = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        ports.panics().await;
        let _pair = ports.leases_with(Parity::EvenWithNext).await.expect("a pair is free");
        after(secs(31)).await;

        assert_eq!(relayed_at(50_001), ports.leases().await.expect("it is free").address().0);
    });
}

#[test]
fn leases_given_back_while_the_allocator_is_down_are_heard_of() {
    play(50_000..=50_001, async |ports| {
        ports.panics().await;
        let lease = ports.leases().await.expect("a port is free");
        let other = ports.leases().await.expect("a port is free");
        // It dies with the end of a lease in its mailbox, which is then of an earlier epoch.
        ports.actor.do_send(Panic);
        drop(lease);
        settle().await;
        after(secs(1)).await;
        ports.log.expects(slog::Level::Warning, "actor panicked and is healed in place");

        drop(other);
        let both = [ports.leases().await, ports.leases().await];
        assert!(both.iter().all(Result::is_ok));
        assert!(ports.leases().await.is_err());
    });
}

#[test]
fn lease_may_outlive_its_allocator() {
    virtual_time(async || {
        let log = Log::default();
        let ports = 50_000..=50_000;
        let actor = PortAllocator::start(vec![RELAY_V4], ports, secs(30), log.logger(), drop);
        let wanted = LeasePort {
            transport: RelayTransport::Udp,
            family: Family::V4,
            prefer: RELAY_V4,
            parity: Parity::Any,
            user: account("alice"),
        };
        let lease = actor.send(wanted).await.expect("it is alive").expect("a port is free");
        for _ in 0..6 {
            actor.do_send(Panic);
        }
        after(secs(1)).await;
        log.expects(slog::Level::Error, "restarts did not help");
        assert!(!actor.connected());

        drop(lease);
        settle().await;
    });
}
