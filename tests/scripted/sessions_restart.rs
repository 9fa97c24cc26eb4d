//! A SessionActor that panics is restarted, attached to its living allocation; one that keeps
//! panicking ends, and its allocation with it.

use std::time::Duration;

use slog::Level;
use sterna_actors::{listener, session};
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;

use crate::kit::{Call, Setup, Trap, User, after, channel_data, script, secs, settle};

#[test]
fn panic_in_a_session_loses_no_packet() {
    script(async |world| {
        let call = world.call().await;
        for panic in 0..3_u8 {
            let session = world.session_of(&call.client).await;
            for packet in 0..10 {
                call.queues(&[panic, packet]);
            }
            session.do_send(session::Panic);
            for packet in 10..20 {
                call.queues(&[panic, packet]);
            }
            settle().await;
            for packet in 0..20 {
                call.is_heard(&[panic, packet]);
            }
            // The pause before the third restart is not over, and media has not heard of it.
            for packet in 20..30 {
                call.speaks(&[panic, packet]).await;
            }
            after(PAUSE).await;
            world.log.expects(Level::Warning, "session panicked and is restarted");
        }

        let mut alice = call.client.clone();
        assert_eq!(700, alice.refresh(700).await.granted().lifetime());
        call.goes_on().await;
        let counters = world.allocation_counters(&call.client).await;
        assert!(counters.drops.is_empty(), "{}", counters.drops);
        assert!(world.counters().await.drops.is_empty());
    });
}

#[test]
fn restarted_session_serves_every_request() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_session(&call.client).await;

        let mut alice = call.client.clone();
        let other = world.peer(2);
        alice.permit(&other).await.granted();
        alice.bind(0x4002, &other).await.granted();
        alice.refresh(600).await.granted();
        alice.says(0x4002, b"to the other").await;
        other.hears(call.relayed, b"to the other");

        assert_eq!(0, alice.refresh(0).await.granted().lifetime());
        assert!(!world.network.is_open(call.relayed));
        alice.allocate().await.granted();
    });
}

#[test]
fn allocate_is_answered_identically_after_a_restart() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# The server MUST respond to retransmissions such that
    //# the following property is preserved
    script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.allocate_request();
        let answer = alice.exchange(&request).await.granted();
        after(secs(39)).await;

        world.panic_in_session(&alice).await;

        assert_eq!(answer, alice.exchange(&request).await);
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
        // It is remembered since it was given, not since the restart.
        after(secs(1)).await;
        alice.exchange(&request).await.refused(437);
    });
}

#[test]
fn restarted_session_knows_whose_it_is() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_session(&call.client).await;

        let mut bob = call.client.clone();
        bob.user = User::named("bob");
        bob.refresh(600).await.refused(441);

        let mut alice = call.client.clone();
        alice.allocate().await.refused(437);
        alice.refresh(600).await.granted();
        call.goes_on().await;
    });
}

#[test]
fn session_without_allocation_is_restarted_too() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        alice.refresh(600).await.refused(437);

        world.panic_in_session(&alice).await;

        assert_eq!(1, world.sessions().await);
        alice.allocate().await.granted();
    });
}

#[test]
fn panic_while_answering_leaves_the_answer_to_a_retransmission() {
    script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.allocate_request();
        world.network.sets(Trap::Send(alice.address));
        alice.sends(&request).await;
        alice.hears_nothing();
        world.log.expects(Level::Warning, "session panicked and is restarted");

        let relayed = alice.exchange(&request).await.granted().relayed();

        assert_eq!(1, world.network.binds());
        assert!(world.network.is_open(relayed));
    });
}

#[test]
fn restarts_take_longer_the_more_there_are() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_session(&call.client).await;
        world.panic_in_session(&call.client).await;

        // A second restart waits; meanwhile nobody serves requests, and the client tries again.
        let request = call.client.refresh_request(600);
        call.client.sends(&request).await;
        call.client.hears_nothing();
        assert_eq!(1, world.dropped(DropReason::NoSession).await);
        call.goes_on().await;
        after(PAUSE).await;
        call.client.exchange(&request).await.granted();
    });
}

#[test]
fn session_that_keeps_panicking_ends_with_its_allocation() {
    Setup { ports: 50_000..=50_000, ..Setup::default() }.script(async |world| {
        let call = world.call().await;
        for _ in 0..3 {
            world.panic_in_session(&call.client).await;
            after(PAUSE).await;
            call.goes_on().await;
        }
        world.session_of(&call.client).await.do_send(session::Panic);
        settle().await;

        let line = world.log.expects(Level::Error, "session and allocation end");
        assert_eq!("restarts did not help: session and allocation end", line.message);
        assert_eq!("000000000000000001", line.field("session"));
        assert_eq!("injected into a SessionActor", line.field("panic"));
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!("session failed", line.field("reason"));
        assert_eq!((0, 0), (world.sessions().await, world.allocations().await));
        assert!(!world.network.is_open(call.relayed));
        assert_eq!(1, world.free_ports().await);

        // The client is free to begin anew.
        let mut alice = call.client.clone();
        alice.refresh(600).await.refused(437);
        Call::between(alice, call.peer.clone()).await.goes_on().await;
    });
}

#[test]
fn panics_of_one_session_do_not_count_against_another() {
    script(async |world| {
        let call = world.call().await;
        let other = Call::between(world.client("bob").await, world.peer(2)).await;
        for _ in 0..3 {
            world.panic_in_session(&call.client).await;
            after(PAUSE).await;
        }
        world.panic_in_session(&other.client).await;

        call.goes_on().await;
        other.goes_on().await;
        let mut bob = other.client.clone();
        bob.refresh(600).await.granted();
    });
}

#[test]
fn panics_are_forgiven_after_ten_seconds() {
    script(async |world| {
        let call = world.call().await;
        for _ in 0..4 {
            for _ in 0..3 {
                world.panic_in_session(&call.client).await;
                after(PAUSE).await;
            }
            after(secs(10)).await;
        }

        call.goes_on().await;
        let mut alice = call.client.clone();
        alice.refresh(600).await.granted();
    });
}

#[test]
fn restart_that_waits_survives_a_panic_of_the_listener() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_session(&call.client).await;
        world.panic_in_session(&call.client).await;

        world.panic_in_listener().await;
        after(PAUSE).await;

        let mut alice = call.client.clone();
        alice.refresh(600).await.granted();
        call.goes_on().await;
    });
}

#[test]
fn session_and_listener_that_panic_together_both_go_on() {
    script(async |world| {
        let call = world.call().await;
        world.session_of(&call.client).await.do_send(session::Panic);
        world.listeners[0].do_send(listener::Panic);
        call.queues(b"in the middle");
        world.is_healed("ListenerActor").await;
        world.log.expects(Level::Warning, "session panicked and is restarted");

        call.is_heard(b"in the middle");
        let mut alice = call.client.clone();
        alice.refresh(600).await.granted();
    });
}

#[test]
fn allocation_that_expires_while_its_session_is_down_is_not_attached() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        alice.allocate().await.granted();
        after(secs(600) - Duration::from_millis(20)).await;
        world.panic_in_session(&alice).await;
        world.panic_in_session(&alice).await;
        after(PAUSE).await;

        assert_eq!(0, world.allocations().await);
        alice.refresh(600).await.refused(437);
        alice.allocate().await.granted();
    });
}

#[test]
fn requests_that_come_while_a_session_attaches_are_served() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-5
    //= type=test
    //# Success and error responses MUST carry the same
    //# transaction ID as their corresponding request.
    script(async |world| {
        let call = world.call().await;
        let mut requests = Vec::new();
        world.session_of(&call.client).await.do_send(session::Panic);
        settle().await;
        world.log.expects(Level::Warning, "session panicked and is restarted");
        for _ in 0..4 {
            let request = call.client.refresh_request(600);
            call.client.queues(&request);
            requests.push(request);
        }
        call.client.queues(&channel_data(Call::CHANNEL, b"between them"));
        settle().await;

        for request in requests {
            let answer = call.client.hears_answer().granted();
            assert_eq!(request[8..20], answer.0[8..20]);
            assert_eq!(Method::REFRESH, answer.message().method());
        }
        call.peer.hears(call.relayed, b"between them");
    });
}

/// Longer than any pause before a restart that its budget allows.
const PAUSE: Duration = Duration::from_millis(100);
