//! How many allocations there may be: a place is leased before a port, and comes back exactly once
//! whoever fails on the way.

use slog::Level;
use sterna_actors::port_allocator::{LeasePort, PortLease};
use sterna_actors::quota_keeper::{
    self, EndOneSession, LeaseQuota, ListOwners, ListSessions, OwnerInUse, RevokeLeases,
    SessionSummary, SetQuotas,
};
use sterna_proto::address::RelayedAddr;
use sterna_proto::quotas::{QuotaLimits, QuotaTerms};

use crate::kit::{
    Call, Client, PlayedStore, REALM, Setup, User, World, after, after_turns, neighbour,
    relayed_at, script, secs, settle, virtual_time,
};

fn server(limits: QuotaLimits) -> QuotaTerms {
    QuotaTerms { server: limits, ..QuotaTerms::default() }
}

fn in_all(allocations: u32) -> QuotaTerms {
    server(QuotaLimits { allocations: Some(allocations), ..QuotaLimits::default() })
}

fn per_user(allocations: u32) -> QuotaTerms {
    server(QuotaLimits { allocations_per_user: Some(allocations), ..QuotaLimits::default() })
}

fn per_source(allocations: u32) -> QuotaTerms {
    server(QuotaLimits { allocations_per_source: Some(allocations), ..QuotaLimits::default() })
}

fn with(quotas: QuotaTerms) -> Setup {
    Setup { quotas, ..Setup::default() }
}

async fn sessions(world: &World) -> Vec<SessionSummary> {
    world.quotas.send(ListSessions).await.expect("it is alive")
}

async fn owners(world: &World) -> Vec<OwnerInUse> {
    world.quotas.send(ListOwners).await.expect("it is alive")
}

/// So many places are taken, as many as there are allocations.
async fn are_taken(world: &World, places: usize) {
    settle().await;
    assert_eq!((places, places), (sessions(world).await.len(), world.allocations().await));
}

/// The log says once which limit has refused whom.
fn is_refused_for(world: &World, limit: &str, user: &str) {
    let line = world.log.expects(Level::Info, "allocation quota reached");
    assert_eq!(
        (limit, REALM, user),
        (line.field("limit"), line.field("realm"), line.field("username"))
    );
    assert!(line.field("client").starts_with("198.51.100.1:"), "{line:?}");
    assert!(world.log.takes("allocation quota reached").is_empty());
}

#[test]
fn each_limit_refuses_with_486_and_is_named_in_the_log() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# At any point, the server MAY choose to reject the request with a
    //# 486 (Allocation Quota Reached) error if it feels the client is
    //# trying to exceed some locally defined allocation quota.
    let one = QuotaLimits { allocations: Some(1), ..QuotaLimits::default() };
    let of_realm = QuotaTerms { realms: [(REALM.into(), one)].into(), ..QuotaTerms::default() };
    let cases = [
        (in_all(1), "server", "bob"),
        (of_realm, "realm", "bob"),
        (per_user(1), "user", "alice"),
        (per_source(1), "source", "bob"),
    ];
    for (terms, limit, user) in cases {
        with(terms).script(async |world| {
            let mut first = world.client("alice").await;
            first.allocate().await.granted();

            let mut second = world.client(user).await;
            let _ = second.allocate().await.refused(486);
            is_refused_for(world, limit, user);

            are_taken(world, 1).await;
            first.refresh(0).await.granted();
            second.allocate().await.granted();
            are_taken(world, 1).await;
        });
    }
}

#[test]
fn a_limit_of_one_user_does_not_hold_for_another() {
    with(per_user(1)).script(async |world| {
        world.client("alice").await.allocate().await.granted();
        world.client("bob").await.allocate().await.granted();
        are_taken(world, 2).await;
    });
}

#[test]
fn spellings_that_the_http_service_takes_for_one_user_share_its_limit() {
    let hook = PlayedStore::looking_at_clients("https://hook.example");
    hook.has("carol", "lark");
    Setup { stores: vec![hook], ..with(per_user(1)) }.script(async |world| {
        let client = async |name| {
            let mut client = world.stranger(0, User::new(name, "lark"));
            client.knocks().await;
            client
        };
        client("Carol").await.allocate().await.granted();
        for name in ["CAROL", "carol", "Carol"] {
            client(name).await.allocate().await.refused(486);
        }
        assert_eq!(3, world.log.takes("allocation quota reached").len());
    });
}

#[test]
fn of_two_who_race_for_the_last_place_exactly_one_gets_it() {
    for turns in 0..12 {
        let setup = Setup { listeners: 2, ..with(in_all(1)) };
        setup.script(async |world| {
            let (one, two) = (world.client("alice").await, world.client_of(1, "bob").await);
            let (late, request) = (two.clone(), two.allocate_request());
            one.queues(&one.allocate_request());
            after_turns(turns, move || late.queues(&request));
            settle().await;

            let mut codes = [one.hears_answer().code(), two.hears_answer().code()];
            codes.sort_unstable();
            assert_eq!([0, 486], codes, "after {turns} turns");
            are_taken(world, 1).await;
        });
    }
}

#[test]
fn coming_from_another_port_or_with_the_same_request_again_gains_nothing() {
    with(per_user(2)).script(async |world| {
        let first = world.client("alice").await;
        let request = first.allocate_request();
        let answer = first.exchange(&request).await.granted();
        // A retransmission is the same allocation.
        assert_eq!(answer, first.exchange(&request).await);
        world.client("alice").await.allocate().await.granted();

        for _ in 0..5 {
            world.client("alice").await.allocate().await.refused(486);
        }
        are_taken(world, 2).await;
    });
}

#[test]
fn a_second_allocation_on_the_same_5_tuple_is_437_and_takes_no_place() {
    with(in_all(2)).script(async |world| {
        let mut alice = world.client("alice").await;
        alice.allocate().await.granted();
        alice.allocate().await.refused(437);
        are_taken(world, 1).await;
    });
}

#[test]
fn a_place_comes_back_when_there_is_no_port() {
    Setup { ports: 50_000..=50_000, ..with(in_all(2)) }.script(async |world| {
        world.client("alice").await.allocate().await.granted();
        for _ in 0..5 {
            world.client("bob").await.allocate().await.refused(508);
        }
        are_taken(world, 1).await;
    });
}

#[test]
fn a_place_comes_back_when_the_allocation_expires() {
    with(in_all(1)).script(async |world| {
        let mut alice = world.client("alice").await;
        alice.allocate_for(600).await.granted();
        after(secs(599)).await;
        world.client("bob").await.allocate().await.refused(486);
        after(secs(2)).await;
        world.client("bob").await.allocate().await.granted();
        are_taken(world, 1).await;
    });
}

#[test]
fn a_place_comes_back_once_when_the_allocation_panics() {
    with(in_all(1)).script(async |world| {
        let call = world.call().await;
        world.panic_in_allocation(&call.client).await;

        are_taken(world, 0).await;
        let mut bob = world.client("bob").await;
        bob.allocate().await.granted();
        call.client.clone().allocate().await.refused(486);
        are_taken(world, 1).await;
    });
}

#[test]
fn a_session_that_panics_keeps_the_place_of_its_allocation() {
    with(in_all(1)).script(async |world| {
        let call = world.call().await;
        world.panic_in_session(&call.client).await;

        call.goes_on().await;
        are_taken(world, 1).await;
        world.client("bob").await.allocate().await.refused(486);
        call.client.clone().refresh(0).await.granted();
        are_taken(world, 0).await;
    });
}

#[test]
fn a_session_that_panics_before_it_has_its_port_gives_the_place_back() {
    virtual_time(async || {
        let (mut ear, lease_port) = neighbour::<LeasePort>();
        let world = World::start(Setup { lease_port: Some(lease_port), ..with(in_all(1)) });
        let alice = world.client("alice").await;
        alice.sends(&alice.allocate_request()).await;
        let asked = ear.hears().await;
        assert_eq!((1, 0), (sessions(&world).await.len(), world.allocations().await));
        let bob = world.client("bob").await;
        bob.exchange(&bob.allocate_request()).await.refused(486);

        world.panic_in_session(&alice).await;

        are_taken(&world, 0).await;
        let (_ended, lease_ended) = neighbour();
        let address = RelayedAddr(relayed_at(50_000));
        asked.answers(Ok(PortLease::played(address, None, lease_ended))).await;
        are_taken(&world, 0).await;
        // And the place is free for the next.
        bob.sends(&bob.allocate_request()).await;
        assert_eq!(1, sessions(&world).await.len());
        drop(ear.hears().await);
        settle().await;
        bob.hears_answer().refused(500);
        are_taken(&world, 0).await;
        world.ends().await;
    });
}

#[test]
fn without_the_keeper_nobody_allocates() {
    virtual_time(async || {
        let (mut ear, lease_quota) = neighbour::<LeaseQuota>();
        let world = World::start(Setup { lease_quota: Some(lease_quota), ..Setup::default() });
        let alice = world.client("alice").await;
        alice.sends(&alice.allocate_request()).await;

        let asked = ear.hears().await;
        assert_eq!(alice.address, asked.message.client);
        drop(asked);
        settle().await;

        alice.hears_answer().refused(500);
        assert_eq!(0, world.network.binds(), "no port is taken before the place");
        world.ends().await;
    });
}

#[test]
fn a_keeper_that_panics_keeps_count() {
    with(in_all(2)).script(async |world| {
        let call = world.call().await;
        let mut bob = world.client("bob").await;
        bob.allocate().await.granted();

        for _ in 0..3 {
            world.panic_in_quota_keeper().await;
            are_taken(world, 2).await;
            world.client("bob").await.allocate().await.refused(486);
        }
        call.goes_on().await;

        bob.refresh(0).await.granted();
        are_taken(world, 1).await;
        world.client("bob").await.allocate().await.granted();
        world.client("bob").await.allocate().await.refused(486);
    });
}

#[test]
fn places_that_end_while_the_keeper_fails_come_back_once() {
    for turns in 0..8 {
        with(in_all(1)).script(async |world| {
            let call = world.call().await;
            let keeper = world.quotas.clone();
            call.client.queues(&call.client.refresh_request(0));
            after_turns(turns, move || keeper.do_send(quota_keeper::Panic));
            world.is_healed("QuotaKeeper").await;
            call.client.hears_answer().granted();

            are_taken(world, 0).await;
            world.client("bob").await.allocate().await.granted();
            world.client("bob").await.allocate().await.refused(486);
            are_taken(world, 1).await;
        });
    }
}

#[test]
fn limits_may_rise_and_fall_and_nobody_is_ended() {
    with(in_all(1)).script(async |world| {
        let call = world.call().await;
        let mut bob = world.client("bob").await;
        bob.allocate().await.refused(486);

        world.quotas.send(SetQuotas(in_all(2))).await.expect("it is alive");
        bob.allocate().await.granted();

        world.quotas.send(SetQuotas(in_all(0))).await.expect("it is alive");
        call.goes_on().await;
        bob.refresh(600).await.granted();
        are_taken(world, 2).await;
        bob.refresh(0).await.granted();
        bob.allocate().await.refused(486);

        world.quotas.send(SetQuotas(QuotaTerms::default())).await.expect("it is alive");
        bob.allocate().await.granted();
        are_taken(world, 2).await;
    });
}

#[test]
fn owners_are_listed_once_with_all_their_leases() {
    script(async |world| {
        for user in ["alice", "alice", "bob"] {
            world.client(user).await.allocate().await.granted();
        }

        let owners = owners(world).await;

        let counts: Vec<(&str, usize)> = owners
            .iter()
            .map(|owner| (&*owner.owner.account.username, owner.leases.len()))
            .collect();
        assert_eq!([("alice", 2), ("bob", 1)], counts[..]);
        assert_eq!(User::named("bob").key, owners[1].owner.key);
    });
}

/// The client's session is told to end, and with it its allocation; `end` says how.
fn is_ended(reason: &str, end: impl AsyncFn(&World, &Client)) {
    script(async |world| {
        let call = world.call().await;
        let other = Call::between(world.client("bob").await, world.peer(2)).await;

        end(world, &call.client).await;
        settle().await;

        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!(reason, line.field("reason"));
        assert!(world.log.takes("allocation ended").is_empty());
        assert!(!world.network.is_open(call.relayed));
        call.client.says(Call::CHANNEL, b"into the void").await;
        call.peer.hears_nothing();
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
        are_taken(world, 1).await;
        call.client.clone().refresh(600).await.refused(437);
        other.goes_on().await;
        // The place is free for whoever may have it.
        call.client.clone().allocate().await.granted();
    });
}

#[test]
fn revoked_leases_end_with_their_sessions() {
    is_ended("credential revoked", async |world, client| {
        let owners = owners(world).await;
        let user = client.user.name;
        let of_client = owners.iter().find(|owner| *owner.owner.account.username == *user);
        let leases = of_client.expect("it has an allocation").leases.clone();
        world.quotas.send(RevokeLeases(leases)).await.expect("it is alive");
    });
}

#[test]
fn an_operator_ends_a_session_by_its_number() {
    is_ended("ended by operator", async |world, client| {
        let all = sessions(world).await;
        let this = all.iter().find(|session| session.client == client.address);
        let this = this.expect("it is listed");
        assert_eq!(*client.user.name, *this.account.username);
        let ended = world.quotas.send(EndOneSession(this.session)).await;
        assert_eq!(Ok(true), ended.map_err(drop));
    });
}

#[test]
fn a_session_that_is_gone_cannot_be_ended() {
    script(async |world| {
        let call = world.call().await;
        let id = sessions(world).await[0].session;
        call.client.clone().refresh(0).await.granted();
        settle().await;

        let ended = world.quotas.send(EndOneSession(id)).await;

        assert_eq!(Ok(false), ended.map_err(drop));
        let leases = vec![quota_keeper::LeaseId(1), quota_keeper::LeaseId(99)];
        world.quotas.send(RevokeLeases(leases)).await.expect("it is alive");
        call.client.clone().allocate().await.granted();
    });
}

#[test]
fn sessions_are_listed_with_the_age_of_their_allocations() {
    script(async |world| {
        world.client("alice").await.allocate().await.granted();
        after(secs(100)).await;
        let age = sessions(world).await[0].age;
        assert!((secs(100)..secs(101)).contains(&age), "{age:?}");
    });
}

#[test]
fn a_session_ended_while_it_allocates_leaves_nothing() {
    for turns in 0..14 {
        with(in_all(1)).script(async |world| {
            let alice = world.client("alice").await;
            alice.queues(&alice.allocate_request());
            let keeper = world.quotas.clone();
            after_turns(turns, move || {
                let all = (1..=3).map(quota_keeper::LeaseId).collect();
                keeper.do_send(RevokeLeases(all));
            });
            settle().await;

            // It was too early, in the middle, or behind it.
            let code = alice.hears_answer().code();
            let places = sessions(world).await.len();
            assert!([0, 500].contains(&code), "{turns}: {code}");
            assert_eq!(places, world.allocations().await, "{turns}");
            after(secs(700)).await;
            are_taken(world, 0).await;
            world.client("bob").await.allocate().await.granted();
        });
    }
}

#[test]
fn without_limits_nobody_is_refused_and_the_log_is_silent_about_it() {
    script(async |world| {
        for _ in 0..50 {
            world.client("alice").await.allocate().await.granted();
        }
        are_taken(world, 50).await;
        assert!(world.log.takes("quota").is_empty());
    });
}
