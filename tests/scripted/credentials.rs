//! Credentials that end, guesses that fail, and terms that change, in a server at work.

use std::net::SocketAddr;
use std::time::Duration;

use slog::Level;
use sterna_proto::account::{CredentialKind, ExpiryPolicy};
use sterna_proto::drops::DropReason;
use sterna_proto::peer_rules::{External, PeerLists, PeerRules, RelayAddresses};
use sterna_proto::stun::AttributeType;

use crate::kit::{
    Call, Client, Deadline, Keys, Setup, User, World, after, script, secs, server_address, settle,
    virtual_time,
};

/// Plays against a server whose one user, alice, has a credential of `lasts`.
fn play(
    credential: CredentialKind,
    expiry: ExpiryPolicy,
    lasts: Duration,
    script: impl AsyncFnOnce(&World, &Keys),
) {
    virtual_time(async move || {
        let keys = Keys::of(&User::named("alice"), credential, lasts);
        let find_keys = Some(keys.recipient());
        let world = World::start(Setup { find_keys, expiry, ..Setup::default() });
        script(&world, &keys).await;
        world.ends().await;
    });
}

#[test]
fn expired_credential_may_refresh_but_not_allocate() {
    play(CredentialKind::TimeLimited, ExpiryPolicy::Allocate, secs(100), async |world, keys| {
        let call = world.call().await;
        let mut alice = call.client.clone();
        after(secs(101)).await;

        assert_eq!(600, alice.refresh(600).await.granted().lifetime());
        call.goes_on().await;
        assert_eq!(1, keys.asked(), "nobody is looked up for that");
        world.client("alice").await.allocate().await.refused(401);
        // The client that ends its allocation does not get another.
        alice.refresh(0).await.granted();
        alice.allocate().await.refused(401);
        for line in world.log.takes("auth failed") {
            assert!(line.contains("username=<alice>") && line.ends_with("reason=<expired>"));
        }
    });
}

#[test]
fn where_the_policy_says_so_an_expired_credential_may_not_refresh() {
    play(CredentialKind::TimeLimited, ExpiryPolicy::Refresh, secs(100), async |world, keys| {
        let call = world.call().await;
        let mut alice = call.client.clone();
        let allocation = Deadline::after(secs(600) - secs(101));
        after(secs(101)).await;

        alice.refresh(600).await.refused(401);
        assert_eq!(2, keys.asked(), "it might have been made longer");
        call.goes_on().await;
        alice.permit(&call.peer).await.granted();
        after(secs(1)).await;
        assert_eq!(1, world.allocations().await);
        let _ = allocation;
        after(secs(600)).await;
        assert_eq!(0, world.allocations().await);
        world.log.expects(Level::Info, "allocation ended: allocation timeout");
        world.log.expects_failed_login("alice", call.client.address, "expired");
    });
}

#[test]
fn who_may_not_refresh_may_still_end_its_allocation() {
    for expiry in [ExpiryPolicy::Allocate, ExpiryPolicy::Refresh] {
        play(CredentialKind::TimeLimited, expiry, secs(100), async |world, _| {
            let mut alice = world.call().await.client;
            after(secs(200)).await;

            assert_eq!(0, alice.refresh(0).await.granted().lifetime());
            assert_eq!(0, world.allocations().await);
        });
    }
}

#[test]
fn strict_expiry_ends_the_allocation_at_that_moment() {
    play(CredentialKind::TimeLimited, ExpiryPolicy::Strict, secs(700), async |world, _| {
        let end = Deadline::after(secs(700));
        let call = world.call().await;
        let mut alice = call.client.clone();
        after(secs(290)).await;
        // A refresh gives what is left, and no more.
        let granted = alice.refresh(3600).await.granted().lifetime();
        assert!((400..=410).contains(&granted), "{granted}");
        alice.bind(Call::CHANNEL, &call.peer).await.granted();

        end.just_before().await;
        call.client.says(Call::CHANNEL, b"in time").await;
        call.peer.hears(call.relayed, b"in time");
        end.just_after().await;
        call.client.says(Call::CHANNEL, b"late").await;
        call.peer.hears_nothing();
        assert_eq!(0, world.allocations().await);
        world.log.expects(Level::Info, "allocation ended: credential expired");
        world.log.takes("auth failed");
    });
}

#[test]
fn token_bounds_the_lifetime_under_every_policy() {
    let expiries = [ExpiryPolicy::Allocate, ExpiryPolicy::Refresh, ExpiryPolicy::Strict];
    for expiry in expiries {
        play(CredentialKind::AccessToken, expiry, secs(250), async |world, keys| {
            let mut alice = world.client("alice").await;
            let granted = alice.allocate().await.granted().lifetime();
            assert!((249..=250).contains(&granted), "{granted}");

            // The next token is another key of the same user.
            after(secs(200)).await;
            let renewed = User::new("alice", "another token");
            keys.become_those_of(&renewed, CredentialKind::AccessToken, secs(300));
            alice.user = renewed;
            assert_eq!(300, alice.refresh(3600).await.granted().lifetime());

            // A session that takes the place of another knows the newer key as well.
            let asked = keys.asked();
            world.panic_in_session(&alice).await;
            alice.permit(&world.peer(1)).await.granted();
            assert_eq!(asked, keys.asked());

            after(secs(301)).await;
            assert_eq!(0, world.allocations().await);
            world.log.expects(Level::Info, "allocation ended: credential expired");
        });
    }
}

#[test]
fn policy_that_turns_strict_ends_what_has_expired() {
    play(CredentialKind::TimeLimited, ExpiryPolicy::Allocate, secs(100), async |world, _| {
        let setup = Setup { expiry: ExpiryPolicy::Strict, ..Setup::default() };
        let _call = world.call().await;
        after(secs(200)).await;
        assert_eq!(1, world.allocations().await);

        let now = sterna_actors::clock::now();
        world.lives_by(setup.session_terms(now), setup.allocation_terms()).await;

        assert_eq!(0, world.allocations().await);
        world.log.expects(Level::Info, "allocation ended: credential expired");
    });
}

#[test]
fn allocate_asks_whether_there_still_is_such_a_user() {
    play(CredentialKind::LongTerm, ExpiryPolicy::Allocate, secs(9999), async |world, keys| {
        let mut alice = world.client("alice").await;
        alice.allocate().await.granted();
        alice.refresh(600).await.granted();
        assert_eq!(1, keys.asked());
        alice.refresh(0).await.granted();

        // Somebody has taken the password away.
        keys.become_those_of(
            &User::new("alice", "of another"),
            CredentialKind::LongTerm,
            secs(9999),
        );
        alice.allocate().await.refused(401);
        world.log.expects_failed_login("alice", alice.address, "wrong_credentials");
    });
}

/// A client at an IP address of its own.
async fn from(world: &World, ip: [u8; 4], port: u16, user: User) -> Client {
    let address = SocketAddr::from((ip, port));
    let (network, server) = (world.network.clone(), server_address(0));
    let mut client = Client { network, address, server, user, nonce: String::new() };
    client.knocks().await;
    client
}

#[test]
fn flood_of_failed_logins_is_cheap_and_costs_nobody_else_anything() {
    let setup = Setup { failed_logins_per_minute: 20, sessions_max: 200, ..Setup::default() };
    setup.script(async |world| {
        // The same source has a call, which is up when the flood begins.
        let attacker = [203, 0, 113, 66];
        let alice = from(world, attacker, 1000, User::named("alice")).await;
        let call = Call::between(alice, world.peer(1)).await;
        let mut guesses = Vec::new();
        for port in 2000..2100 {
            let mallory = from(world, attacker, port, User::new("alice", "guess")).await;
            guesses.push((mallory.allocate_request(), mallory));
        }
        let mut bob = from(world, [203, 0, 113, 67], 1000, User::named("bob")).await;

        let mut answered = 0;
        for round in 0..1000 {
            for (guess, mallory) in &guesses {
                mallory.queues(guess);
            }
            settle().await;
            for (_, mallory) in &guesses {
                answered += usize::from(mallory.next().is_some());
            }
            if round == 500 {
                // Others log in, and who had logged in before notices nothing.
                bob.allocate().await.granted();
                call.goes_on().await;
                call.client.clone().refresh(600).await.granted();
                // The right password comes too late for the source, for a minute.
                let mut late = guesses[0].1.clone();
                late.user = User::named("alice");
                late.sends(&late.allocate_request()).await;
                late.hears_nothing();
            }
        }

        let dropped = world.dropped(DropReason::RateLimited).await;
        // A hundred come at once, before the first is known to have failed.
        assert!((20..=30).contains(&answered), "{answered} answered");
        assert!(dropped > 99_000, "{dropped} of 100,000 were dropped, {answered} answered");
        let lines = world.log.takes("auth failed");
        assert!((20..=30).contains(&lines.len()), "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.contains("client=<203.0.113.66:")));

        after(secs(60)).await;
        let mut late = guesses[0].1.clone();
        late.user = User::named("alice");
        late.knocks().await;
        late.allocate().await.granted();
    });
}

#[test]
fn who_is_in_cannot_guess_without_end_either() {
    let setup = Setup { failed_logins_per_minute: 5, ..Setup::default() };
    setup.script(async |world| {
        let call = world.call().await;
        let mut guessing = call.client.clone();
        guessing.user = User::new("bob", "guess");
        for _ in 0..5 {
            guessing.exchange(&guessing.refresh_request(600)).await.refused(401);
        }
        for _ in 0..10 {
            guessing.sends(&guessing.refresh_request(600)).await;
        }
        guessing.hears_nothing();
        assert_eq!(10, world.dropped(DropReason::RateLimited).await);
        // What it has got stays, and after a minute it may ask again.
        call.goes_on().await;
        after(secs(60)).await;
        call.client.clone().refresh(600).await.granted();
        call.goes_on().await;
        assert_eq!(5, world.log.takes("auth failed").len());
    });
}

#[test]
fn limit_on_failed_logins_is_one_for_all_listeners() {
    let setup = Setup { failed_logins_per_minute: 5, listeners: 3, ..Setup::default() };
    setup.script(async |world| {
        let mut answered = 0;
        for turn in 0..12_u8 {
            let mut mallory = world.client_of(turn % 3, "alice").await;
            mallory.address.set_ip([203, 0, 113, 66].into());
            mallory.user = User::new("alice", "guess");
            mallory.knocks().await;
            mallory.sends(&mallory.allocate_request()).await;
            answered += u32::from(mallory.next().is_some());
        }
        assert_eq!(5, answered);
        assert_eq!(5, world.log.takes("auth failed").len());
        for listener in 0..3 {
            world.client_of(listener, "alice").await.allocate().await.granted();
        }
    });
}

#[test]
fn who_proves_itself_again_is_believed_again() {
    let setup = Setup { failed_logins_per_minute: 5, ..Setup::default() };
    setup.script(async |world| {
        let call = world.call().await;
        let mut guessing = call.client.clone();
        guessing.user = User::new("bob", "guess");
        for _ in 0..5 {
            guessing.exchange(&guessing.refresh_request(600)).await.refused(401);
        }
        after(secs(60)).await;
        call.client.clone().refresh(600).await.granted();

        // Others at its address fail, and it does not notice.
        for port in 2000..2005 {
            let address = SocketAddr::new(call.client.address.ip(), port);
            let mut mallory = Client { address, ..call.client.clone() };
            mallory.user = User::new("alice", "guess");
            mallory.knocks().await;
            mallory.exchange(&mallory.allocate_request()).await.refused(401);
        }
        call.client.clone().refresh(600).await.granted();
        call.goes_on().await;
        assert_eq!(10, world.log.takes("auth failed").len());
    });
}

#[test]
fn many_who_log_in_at_once_are_not_taken_for_guesses() {
    let setup = Setup { failed_logins_per_minute: 5, ..Setup::default() };
    setup.script(async |world| {
        for port in 1000..1020 {
            let user = User::named("alice");
            let mut alice = from(world, [203, 0, 113, 66], port, user).await;
            alice.allocate().await.granted();
        }
        assert_eq!(0, world.dropped(DropReason::RateLimited).await);
    });
}

#[test]
fn without_a_limit_every_guess_is_answered_and_a_minutes_worth_logged() {
    script(async |world| {
        let mallory = from(world, [203, 0, 113, 66], 1000, User::new("alice", "guess")).await;
        for _ in 0..100 {
            mallory.exchange(&mallory.allocate_request()).await.refused(401);
        }
        assert_eq!(60, world.log.takes("auth failed").len());
    });
}

#[test]
fn user_name_cannot_forge_a_line_of_the_log() {
    script(async |world| {
        let name = "a> client=<192.0.2.7:1> reason=<wrong_credentials>\nauth failed: realm=<";
        let mallory = from(world, [203, 0, 113, 66], 1000, User::new(name, "guess")).await;
        mallory.exchange(&mallory.allocate_request()).await.refused(401);

        let [line] = &world.log.takes("auth failed")[..] else { panic!("one line") };
        assert_eq!(1, line.matches("client=<").count());
        assert!(line.contains("client=<203.0.113.66:1000> reason="), "{line}");
        assert!(!line.contains('\n'));
    });
}

/// Terms that refuse the networks of these peers, and answers that name the software.
fn renewed(deny: &str) -> (sterna_proto::session::SessionTerms, sterna_proto::allocation::Terms) {
    let setup = Setup::default();
    let mut session = setup.session_terms(sterna_actors::clock::now());
    session.software = Some("renewed".to_owned());
    let mut allocation = setup.allocation_terms();
    let relay = RelayAddresses { ips: setup.relays.clone(), ports: setup.ports.clone() };
    let deny = vec![deny.parse().expect("a network")];
    let lists = PeerLists { allow: Vec::new(), deny };
    allocation.rules = PeerRules::new(lists, vec![server_address(0)], relay, External::default());
    (session, allocation)
}

#[test]
fn reload_that_refuses_a_peer_stops_its_data_at_once() {
    script(async |world| {
        let call = world.call().await;
        let other = Call::between(world.client("bob").await, world.peer(2)).await;
        let mut alice = call.client.clone();
        let plain = alice.permit(&world.peer(3)).await.granted();
        assert!(!plain.has(AttributeType::SOFTWARE));

        let (session, allocation) = renewed("203.0.113.1/32");
        world.lives_by(session, allocation).await;

        call.client.says(Call::CHANNEL, b"out").await;
        call.peer.sends(call.relayed, b"in").await;
        call.client.sends_to(&call.peer, b"out").await;
        call.peer.hears_nothing();
        call.client.hears_nothing();
        other.goes_on().await;
        alice.bind(Call::CHANNEL, &call.peer).await.refused(403);
        // Living sessions answer by the terms of the moment.
        let refused = alice.permit(&call.peer).await.refused(403);
        assert!(refused.has(AttributeType::SOFTWARE));
        for _ in 0..2 {
            let line = world.log.expects(Level::Info, "peer refused: 203.0.113.1");
            assert_eq!("server: deny 203.0.113.1/32", line.field("rule"));
            assert_eq!("alice", line.field("username"));
        }
        let drops = world.allocation_counters(&call.client).await.drops;
        assert_eq!(1, drops.get(DropReason::UnboundChannel));
        assert_eq!(2, drops.get(DropReason::NoPermission));

        // So does a session that takes the place of another, and an allocation made from here on.
        world.panic_in_session(&call.client).await;
        assert!(alice.permit(&call.peer).await.refused(403).has(AttributeType::SOFTWARE));
        let mut late = world.client("bob").await;
        assert!(late.allocate().await.granted().has(AttributeType::SOFTWARE));
        late.permit(&call.peer).await.refused(403);
        late.permit(&world.peer(3)).await.granted();
    });
}

#[test]
fn allocation_that_was_gathered_by_older_terms_lives_by_the_newer() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        alice.queues(&alice.allocate_request());
        let (session, allocation) = renewed("203.0.113.1/32");
        // Both are on their way at the same moment.
        world.lives_by(session, allocation).await;
        alice.hears_answer().granted();

        alice.permit(&world.peer(1)).await.refused(403);
    });
}

#[test]
fn peers_rules_hold_in_the_realm_and_for_the_user() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        alice.allocate().await.granted();
        let setup = Setup::default();
        let mut allocation = setup.allocation_terms();
        let deny = vec!["203.0.113.1/32".parse().expect("a network")];
        let lists = PeerLists { allow: Vec::new(), deny };
        allocation.realm_peers.insert(crate::kit::REALM.into(), lists.into());

        let now = sterna_actors::clock::now();
        world.lives_by(setup.session_terms(now), allocation).await;

        alice.permit(&world.peer(1)).await.refused(403);
        let line = world.log.expects(Level::Info, "peer refused: 203.0.113.1");
        assert_eq!("realm: deny 203.0.113.1/32", line.field("rule"));
    });
}
