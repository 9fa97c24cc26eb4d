//! Whole servers with credential stores behind them.

use std::sync::Arc;

use actix::Addr;
use sterna_actors::authenticator::{time_limited_password, time_limited_password_sha256};
use sterna_actors::clock;
use sterna_actors::credential_store::{StoredRealm, StoredUser};
use sterna_actors::listener::ListenerActor;
use sterna_actors::policy::{Policy, UserSecret};
use sterna_actors::policy_keeper::{self, PolicyKeeper, PolicyNeighbours, ServerTerms};
use sterna_actors::store_actor::{self, RealmsRead, StoreNeighbours};
use sterna_proto::account::ExpiryPolicy;
use sterna_proto::drops::DropReason;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::QuotaLimits;

use crate::kit::{
    Call, Client, Peer, PlayedStore, REALM, Setup, User, World, after, config, credentials, policy,
    secs, settle,
};

fn script(store: &PlayedStore, play: impl AsyncFnOnce(&World)) {
    Setup { stores: vec![store.clone()], ..Setup::default() }.script(play);
}

async fn client_of(world: &World, user: &User) -> Client {
    let mut client = world.stranger(0, user.clone());
    client.knocks().await;
    client
}

/// A user with a credential that is good for so long.
fn minted(seconds: u64, password: impl Fn(&[u8], &str) -> Option<String>) -> User {
    let name = format!("{}:dave", (clock::unix_now() + secs(seconds)).as_secs());
    let password = password(SECRET, &name).expect("a secret of any length");
    User::new(name.leak(), &password)
}

const SECRET: &[u8] = b"the shared secret";

impl World {
    /// So many logins have failed, all for this reason.
    fn logins_have_failed(&self, times: usize, reason: &str) {
        let lines = self.log.takes("auth failed");
        assert_eq!(times, lines.len(), "{lines:?}");
        let reason = format!("reason=<{reason}>");
        assert!(lines.iter().all(|line| line.ends_with(&reason)), "{lines:?}");
    }
}

#[test]
fn a_cached_user_costs_no_round_trip() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    Setup { stores: vec![store.clone()], ..Setup::default() }.script(async |world| {
        let carol = User::new("carol", "lark");
        for round in 0..5 {
            let mut client = world.stranger(0, carol.clone());
            client.knocks().await;
            client.allocate().await.granted();
            let mut asked = store.was_asked().await;
            asked.retain(|what| what.starts_with("user"));
            let expected: &[&str] = if round == 0 { &["user carol"] } else { &[] };
            assert_eq!(expected, asked);
        }
    });
}

#[test]
fn a_user_who_is_removed_loses_its_sessions_within_a_second() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    Setup { stores: vec![store.clone()], ..Setup::default() }.script(async |world| {
        let mut carol = world.stranger(0, User::new("carol", "lark"));
        carol.knocks().await;
        carol.allocate().await.granted();
        let alice = world.call().await;
        after(secs(10)).await;
        assert_eq!(2, world.allocations().await);

        store.loses("carol");
        after(secs(1)).await;
        assert_eq!(1, world.allocations().await);
        alice.goes_on().await;
        // Nor does what is remembered let her in again.
        carol.refresh(600).await.refused(401);
        carol.allocate().await.refused(401);
        for line in world.log.takes("auth failed") {
            assert!(line.contains("username=<carol>"), "{line}");
        }
    });
}

#[test]
fn an_outage_answers_500_to_those_who_are_not_known() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    store.has("dave", "rook");
    script(&store, async |world| {
        let (carol, dave) = (User::new("carol", "lark"), User::new("dave", "rook"));
        let call = Call::between(client_of(world, &carol).await, world.peer(1)).await;
        store.goes_down();
        after(secs(120)).await;
        world.log.expects(slog::Level::Error, "credential store is down");

        client_of(world, &carol).await.allocate().await.granted();
        let waiting = client_of(world, &dave).await;
        waiting.sends(&waiting.allocate_request()).await;
        let _ = waiting.hears_unsigned_answer().refused(500);
        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
        // Nobody is told who is remembered, or written down in turn.yaml.
        for name in ["carol", "alice", "mallory"] {
            let guessing = client_of(world, &User::new(name, "wrong")).await;
            for _ in 0..2 {
                guessing.sends(&guessing.allocate_request()).await;
                let _ = guessing.hears_unsigned_answer().refused(500);
            }
        }
        client_of(world, &carol).await.allocate().await.granted();
        client_of(world, &User::named("alice")).await.allocate().await.granted();
        world.logins_have_failed(0, "wrong_credentials");

        store.comes_back();
        after(secs(2)).await;
        world.log.expects(slog::Level::Info, "credential store answers again");
        client_of(world, &dave).await.allocate().await.granted();
    });
}

/// At an IP address of its own.
async fn client_from(world: &World, ip: [u8; 4], user: &User) -> Client {
    let mut client = world.stranger(0, user.clone());
    client.address.set_ip(ip.into());
    client.knocks().await;
    client
}

#[test]
fn who_cannot_be_answered_is_limited_and_who_is_remembered_is_heard() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    store.has("dave", "rook");
    let stores = vec![store.clone()];
    let setup = Setup { stores, failed_logins_per_minute: 5, listeners: 2, ..Setup::default() };
    setup.script(async |world| {
        let (carol, dave) = (User::new("carol", "lark"), User::new("dave", "rook"));
        let (alice, crowd) = (User::named("alice"), [203, 0, 113, 66]);
        for user in [&carol, &alice] {
            client_from(world, crowd, user).await.allocate().await.granted();
        }
        store.goes_down();
        after(secs(120)).await;
        world.log.expects(slog::Level::Error, "credential store is down");
        let _ = store.was_asked().await;

        let mut answered = 0;
        for number in 0..50 {
            let name: &str = format!("stranger{number}").leak();
            let stranger = client_from(world, crowd, &User::new(name, "rook")).await;
            stranger.sends(&stranger.allocate_request()).await;
            answered += u32::from(stranger.next().is_some());
        }

        assert_eq!(5, answered);
        assert_eq!(45, world.dropped(DropReason::RateLimited).await);
        let mut asked = store.was_asked().await;
        asked.retain(|what| what.starts_with("user"));
        assert!(asked.len() <= 5, "{asked:?}");
        for user in [&carol, &alice] {
            client_from(world, crowd, user).await.allocate().await.granted();
        }
        let elsewhere = client_from(world, [203, 0, 113, 67], &dave).await;
        elsewhere.sends(&elsewhere.allocate_request()).await;
        let _ = elsewhere.hears_unsigned_answer().refused(500);
        // It is one limit for all listeners, and no failed login of anybody.
        let mut other = world.stranger(1, dave.clone());
        other.address.set_ip(crowd.into());
        other.knocks().await;
        other.sends(&other.allocate_request()).await;
        other.hears_nothing();
        world.logins_have_failed(0, "wrong_credentials");

        store.comes_back();
        after(secs(13)).await;
        client_from(world, crowd, &dave).await.allocate().await.granted();
    });
}

/// A PolicyKeeper of this world, which tells everybody what the store says of realms.
async fn keeps_policy(world: &World, store: &PlayedStore) -> Addr<PolicyKeeper> {
    let policy = Policy { stores: vec![store.as_store()], ..policy(credentials().realms) };
    let terms = ServerTerms::new(Arc::new(config(policy.clone())), &[]);
    let stored = RealmsRead::default();
    let keeper =
        PolicyKeeper::start(terms, policy, stored, world.log.logger(), |spent| panic!("{spent}"));
    let listener = |listener: &Addr<ListenerActor>| (None, listener.clone().recipient());
    keeper.do_send(policy_keeper::Introduce(PolicyNeighbours {
        listeners: world.listeners.iter().map(listener).collect(),
        authenticators: vec![world.authenticator.clone().recipient()],
        stores: Some(world.stores.clone().recipient()),
        quotas: Some(world.quotas.clone().recipient()),
    }));
    world.stores.do_send(store_actor::Introduce(StoreNeighbours {
        list_owners: world.quotas.clone().recipient(),
        revoke: world.quotas.clone().recipient(),
        authenticators: vec![world.authenticator.clone().recipient()],
        realms: keeper.clone().recipient(),
    }));
    settle().await;
    keeper
}

#[test]
fn nothing_is_granted_before_the_stores_have_told_what_their_realms_refuse() {
    let store = PlayedStore::new("db");
    store.has_realms(vec![StoredRealm {
        name: REALM.into(),
        origins: Vec::new(),
        quotas: QuotaLimits { allocations_per_user: Some(1), ..QuotaLimits::default() },
        peers: PeerLists {
            allow: Vec::new(),
            deny: vec!["203.0.113.1/32".parse().expect("a network")],
        },
    }]);
    store.goes_down();
    script(&store, async |world| {
        let _keeper = keeps_policy(world, &store).await;
        world.log.expects(slog::Level::Error, "credential store is down");
        let line = world.log.expects(slog::Level::Error, "no allocations before a store has told");
        assert_eq!("db", line.field("store"));
        // A user of turn.yaml, with the right password.
        let mut alice = client_of(world, &User::named("alice")).await;
        alice.allocate().await.refused(500);
        after(secs(60)).await;
        alice.allocate().await.refused(500);

        store.comes_back();
        after(secs(2)).await;
        world.log.expects(slog::Level::Info, "credential store answers again");
        world.log.expects(slog::Level::Info, "all stores have told their realms");
        alice.allocate().await.granted();
        alice.permit(&world.peer(1)).await.refused(403);
        alice.permit(&world.peer(2)).await.granted();
        client_of(world, &User::named("alice")).await.allocate().await.refused(486);
    });
}

#[test]
fn a_credential_that_expires_makes_no_other_allocation() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[SECRET]);
    script(&store, async |world| {
        for password in [time_limited_password, time_limited_password_sha256] {
            let user = minted(60, password);
            let call = Call::between(client_of(world, &user).await, world.peer(1)).await;
            after(secs(61)).await;
            call.goes_on().await;
            call.client.clone().refresh(600).await.granted();
            client_of(world, &user).await.allocate().await.refused(401);
            world.logins_have_failed(1, "expired");
        }
    });
}

#[test]
fn a_secret_that_is_removed_ends_what_it_let_in() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[SECRET, b"another"]);
    store.has("carol", "lark");
    script(&store, async |world| {
        let user = minted(3600, time_limited_password);
        let other = User::new("carol", "lark");
        client_of(world, &user).await.allocate().await.granted();
        let call = Call::between(client_of(world, &other).await, world.peer(1)).await;
        store.has_secrets(&[b"another"]);
        after(secs(1)).await;
        assert_eq!(1, world.allocations().await);
        call.goes_on().await;
        client_of(world, &user).await.allocate().await.refused(401);
        world.logins_have_failed(1, "wrong_credentials");
    });
}

#[test]
fn a_password_that_was_changed_is_good_at_once() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    script(&store, async |world| {
        client_of(world, &User::new("carol", "lark")).await.allocate().await.granted();
        after(secs(6)).await;
        store.has("carol", "wren");
        client_of(world, &User::new("carol", "wren")).await.allocate().await.granted();
    });
}

#[test]
fn a_user_whose_own_peers_change_comes_in_again_under_the_new_ones() {
    let store = PlayedStore::new("db");
    let networks = ["203.0.113.0/24", "198.51.100.0/24"].map(|net| net.parse().expect("a network"));
    let carol = |deny: &[_]| StoredUser {
        peers: Some(Arc::new(PeerLists { allow: Vec::new(), deny: deny.to_vec() })),
        ..StoredUser::lasting("carol", UserSecret::Password("lark".to_owned()))
    };
    store.keeps(carol(&networks));
    script(&store, async |world| {
        let user = User::new("carol", "lark");
        client_of(world, &user).await.allocate().await.granted();
        // Another order says the same.
        store.keeps(carol(&[networks[1], networks[0]]));
        after(secs(5)).await;
        assert_eq!(1, world.allocations().await);

        store.keeps(carol(&networks[1..]));
        after(secs(1)).await;
        assert_eq!(0, world.allocations().await);
        let mut again = client_of(world, &user).await;
        again.allocate().await.granted();
        again.permit(&Peer(([203, 0, 113, 9], 1).into(), world.network.clone())).await.granted();
        again
            .permit(&Peer(([198, 51, 100, 9], 1).into(), world.network.clone()))
            .await
            .refused(403);
    });
}

/// How long a refusal takes must not tell whom the server knows: whoever is refused has waited for
/// the stores, once in a while, and whoever asks again soon has not.
#[test]
fn refusals_ask_the_stores_alike_whoever_is_named() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    let names = ["alice", "carol", "mallory"];
    script(&store, async |world| {
        let mut carol = client_of(world, &User::new("carol", "lark")).await;
        carol.allocate().await.granted();
        let _ = store.was_asked().await;
        for (waited, questions) in [(0, 1), (1, 0), (10, 1)] {
            after(secs(waited)).await;
            for name in names {
                // What is known of carol is as old as when she came in.
                let expected = if (name, waited) == ("carol", 0) { 0 } else { questions };
                let mut stranger = client_of(world, &User::new(name, "a guess")).await;
                stranger.allocate().await.refused(401);
                let mut asked = store.was_asked().await;
                asked.retain(|what| *what == format!("user {name}"));
                assert_eq!(expected, asked.len(), "{name} after {waited} s");
            }
        }
        world.logins_have_failed(9, "wrong_credentials");
    });
}

#[test]
fn a_secret_that_cannot_be_read_refuses_nobody() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has_secrets(&[SECRET]);
    let setup = Setup { stores: vec![second.clone(), first.clone()], ..Setup::default() };
    setup.script(async |world| {
        settle().await;
        second.goes_down();
        let user = minted(3600, time_limited_password);
        client_of(world, &user).await.allocate().await.granted();
        let other = User::new(user.name, "signed with another");
        let waiting = client_of(world, &other).await;
        waiting.sends(&waiting.allocate_request()).await;
        let _ = waiting.hears_unsigned_answer().refused(500);
        world.log.expects(slog::Level::Error, "credential store is down");
    });
}

#[test]
fn another_key_ends_what_the_one_before_let_in() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    script(&store, async |world| {
        client_of(world, &User::new("carol", "lark")).await.allocate().await.granted();
        store.has("carol", "wren");
        after(secs(1)).await;
        assert_eq!(0, world.allocations().await);
        client_of(world, &User::new("carol", "wren")).await.allocate().await.granted();
    });
}

#[test]
fn an_end_that_is_brought_forward_ends_the_call_at_that_moment() {
    let store = PlayedStore::new("db");
    let carol = |seconds| StoredUser {
        expires: Some(clock::unix_now() + secs(seconds)),
        ..StoredUser::lasting("carol", UserSecret::Password("lark".to_owned()))
    };
    let expiry = ExpiryPolicy::Strict;
    let setup = || Setup { stores: vec![store.clone()], expiry, ..Setup::default() };
    setup().script(async |world| {
        store.keeps(carol(3600));
        let user = User::new("carol", "lark");
        let call = Call::between(client_of(world, &user).await, world.peer(1)).await;
        store.keeps(carol(10));
        after(secs(8)).await;
        call.goes_on().await;
        after(secs(3)).await;
        assert_eq!(0, world.allocations().await);
        client_of(world, &user).await.allocate().await.refused(401);
        world.logins_have_failed(1, "expired");
    });
}

#[test]
fn a_password_that_leaked_from_a_second_store_is_no_way_in_while_the_first_is_away() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has("carol", "changed");
    second.has("carol", "leaked");
    let setup = Setup { stores: vec![first.clone(), second.clone()], ..Setup::default() };
    setup.script(async |world| {
        let carol = User::new("carol", "changed");
        client_of(world, &carol).await.allocate().await.granted();
        first.goes_down();
        for _ in 0..3 {
            after(secs(40)).await;
            let leaked = User::new("carol", "leaked");
            client_of(world, &leaked).await.allocate().await.refused(500);
            client_of(world, &carol).await.allocate().await.granted();
        }
        world.log.expects(slog::Level::Error, "credential store is down");
        assert_eq!(4, world.allocations().await);
    });
}
