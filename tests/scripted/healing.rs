//! ListenerActor, PortAllocator and Authenticator are healed in place: nobody notices, until their
//! restarts are spent.

use std::time::Duration;

use slog::Level;
use sterna_actors::{allocation, authenticator, listener, port_allocator};
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{EvenPort, Method};

use crate::kit::{
    Call, Setup, Trap, World, after, after_turns, channel_data, request, script, secs, settle,
};

#[test]
fn panic_in_a_listener_leaves_sessions_leases_and_media_intact() {
    script(async |world| {
        let call = world.call().await;
        let other = Call::between(world.client("bob").await, world.peer(2)).await;
        call.queues(b"before");
        world.listeners[0].do_send(listener::Panic);
        call.queues(b"behind");
        world.is_healed("ListenerActor").await;

        call.is_heard(b"before");
        call.is_heard(b"behind");
        call.goes_on().await;
        other.goes_on().await;
        assert_eq!((2, 2), (world.sessions().await, world.allocations().await));
        assert_eq!(2, world.network.binds());
        call.client.clone().refresh(600).await.granted();
        world.client("alice").await.allocate().await.granted();
        assert!(world.counters().await.drops.is_empty());
    });
}

#[test]
fn request_on_its_way_survives_a_panic_in_the_listener() {
    script(async |world| {
        let alice = world.client("alice").await;
        alice.queues(&alice.allocate_request());
        // The session is looking for keys and ports by then, and will ask the listener to start.
        let listener = world.listeners[0].clone();
        after_turns(3, move || listener.do_send(listener::Panic));
        world.is_healed("ListenerActor").await;

        let relayed = alice.hears_answer().granted().relayed();
        assert!(world.network.is_open(relayed));
        let call = Call { client: alice.clone(), peer: world.peer(1), relayed };
        alice.clone().bind(Call::CHANNEL, &call.peer).await.granted();
        call.goes_on().await;
    });
}

#[test]
fn listener_that_panics_while_it_reads_goes_on_reading() {
    script(async |world| {
        let call = world.call().await;
        world.network.sets(Trap::Read(call.client.server));
        call.queues(b"not lost");
        world.is_healed("ListenerActor").await;

        call.is_heard(b"not lost");
        call.goes_on().await;
    });
}

#[test]
fn listener_that_panics_between_two_batches_loses_no_more_than_the_first() {
    script(async |world| {
        let call = world.call().await;
        let other = Call::between(world.client("bob").await, world.peer(2)).await;
        world.network.sets(Trap::ReadOn(call.client.server));
        for number in 0..100 {
            call.client.queues(&channel_data(Call::CHANNEL, &[number]));
            other.client.queues(&channel_data(Call::CHANNEL, &[number]));
        }
        world.is_healed("ListenerActor").await;

        for call in [&call, &other] {
            for number in 32..100 {
                call.peer.hears(call.relayed, &[number]);
            }
            call.goes_on().await;
        }
    });
}

#[test]
fn healed_listener_reads_its_socket_once_a_wake() {
    script(async |world| {
        let reads_of_one_datagram = async || {
            let call = world.call().await;
            let before = world.network.reads(call.client.server);
            call.client.says(Call::CHANNEL, b"one").await;
            call.peer.hears(call.relayed, b"one");
            world.network.reads(call.client.server) - before
        };
        let before = reads_of_one_datagram().await;
        world.panic_in_listener().await;
        world.panic_in_listener().await;
        after(PAUSE).await;

        assert_eq!(before, reads_of_one_datagram().await);
    });
}

#[test]
fn end_of_an_allocation_is_heard_by_a_listener_that_panics_meanwhile() {
    script(async |world| {
        let call = world.call().await;
        world.allocation_of(&call.client).await.do_send(allocation::Panic);
        world.listeners[0].do_send(listener::Panic);
        world.is_healed("ListenerActor").await;
        world.log.expects(Level::Error, "allocation panicked and is gone");

        assert_eq!(0, world.allocations().await);
        call.client.clone().refresh(600).await.refused(437);
        call.client.clone().allocate().await.granted();
    });
}

#[test]
fn healed_listener_still_limits_unproved_sources() {
    Setup { answers_per_second: 1, ..Setup::default() }.script(async |world| {
        let alice = world.client("alice").await;
        world.panic_in_listener().await;

        alice.sends(&request(Method::BINDING, |_| {})).await;
        alice.hears_nothing();
        assert_eq!(1, world.dropped(DropReason::RateLimited).await);
    });
}

#[test]
fn panic_in_the_port_allocator_leaves_allocations_alone() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_port_allocator().await;

        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
        assert_eq!(0, call.client.clone().refresh(0).await.granted().lifetime());
        Call::between(call.client.clone(), call.peer.clone()).await.goes_on().await;
    });
}

#[test]
fn port_in_use_is_not_given_out_twice_by_a_healed_port_allocator() {
    Setup { ports: 50_000..=50_003, ..Setup::default() }.script(async |world| {
        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = world.client("alice").await;
            client.allocate().await.granted();
            clients.push(client);
        }
        world.panic_in_port_allocator().await;

        // The healed allocator takes all four ports for free; `bind` knows better.
        for _ in 0..2 {
            world.client("bob").await.allocate().await.granted();
        }
        world.client("bob").await.allocate().await.refused(508);
        assert_eq!(4, world.allocations().await);

        // Leases of before free nothing, but the ports are found to be free in time.
        for client in &mut clients {
            client.refresh(0).await.granted();
        }
        after(secs(31)).await;
        for _ in 0..2 {
            world.client("bob").await.allocate().await.granted();
        }
    });
}

#[test]
fn reservation_is_void_after_a_panic_of_the_port_allocator() {
    Setup { ports: 50_000..=50_001, ..Setup::default() }.script(async |world| {
        let mut alice = world.client("alice").await;
        let reserve = EvenPort { reserve_next: true };
        let token =
            alice.allocate_with(|writer| _ = writer.attribute(&reserve)).await.granted().token();
        world.panic_in_port_allocator().await;

        let mut second = world.client("alice").await;
        second.allocate_with(|writer| _ = writer.attribute(&token)).await.refused(508);
        // The port that was reserved is one like any other.
        second.allocate().await.granted();
    });
}

#[test]
fn request_for_a_port_survives_a_panic_of_the_port_allocator() {
    script(async |world| {
        let alice = world.client("alice").await;
        alice.queues(&alice.allocate_request());
        world.ports.do_send(port_allocator::Panic);
        world.is_healed("PortAllocator").await;

        alice.hears_answer().granted();
    });
}

#[test]
fn panic_in_the_authenticator_is_not_noticed() {
    script(async |world| {
        let call = world.call().await;
        let bob = world.client("bob").await;
        bob.queues(&bob.allocate_request());
        world.authenticator.do_send(authenticator::Panic);
        call.queues(b"meanwhile");
        world.is_healed("Authenticator").await;

        bob.hears_answer().granted();
        call.is_heard(b"meanwhile");
        world.client("alice").await.allocate().await.granted();
    });
}

#[test]
fn listener_that_keeps_panicking_stops_the_server() {
    script(async |world| {
        for _ in 0..5 {
            world.panic_in_listener().await;
            after(PAUSE).await;
        }
        world.client("alice").await.allocate().await.granted();

        world.listeners[0].do_send(listener::Panic);
        settle().await;
        world.is_told_of_failing("ListenerActor");
    });
}

#[test]
fn port_allocator_that_keeps_panicking_stops_the_server() {
    script(async |world| {
        for _ in 0..5 {
            world.panic_in_port_allocator().await;
            after(PAUSE).await;
        }
        world.client("alice").await.allocate().await.granted();

        world.ports.do_send(port_allocator::Panic);
        settle().await;
        world.is_told_of_failing("PortAllocator");
        // A session that cannot get a port says so; it does not hang.
        world.client("alice").await.allocate().await.refused(500);
    });
}

#[test]
fn authenticator_that_keeps_panicking_stops_the_server() {
    script(async |world| {
        let call = world.call().await;
        for _ in 0..5 {
            world.panic_in_authenticator().await;
            after(PAUSE).await;
        }
        world.client("alice").await.allocate().await.granted();

        world.authenticator.do_send(authenticator::Panic);
        settle().await;
        world.is_told_of_failing("Authenticator");
        call.goes_on().await;
    });
}

#[test]
fn panics_that_wait_in_one_mailbox_count_one_by_one() {
    script(async |world| {
        for _ in 0..6 {
            world.ports.do_send(port_allocator::Panic);
        }
        after(secs(1)).await;
        for _ in 0..5 {
            world.is_healed("PortAllocator").await;
        }
        world.is_told_of_failing("PortAllocator");
    });
}

#[test]
fn restarts_are_forgiven_after_ten_seconds() {
    script(async |world| {
        let call = world.call().await;
        for _ in 0..3 {
            for _ in 0..5 {
                world.panic_in_listener().await;
                after(PAUSE).await;
            }
            after(secs(10)).await;
        }
        call.goes_on().await;
    });
}

#[test]
fn actors_that_panic_all_at_once_are_all_back() {
    script(async |world| {
        let call = world.call().await;
        panic_everywhere(world, &call).await;

        call.is_heard(b"in the middle of it");
        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
        world.client("bob").await.allocate().await.granted();
    });
}

async fn panic_everywhere(world: &World, call: &Call) {
    let session = world.session_of(&call.client).await;
    world.ports.do_send(port_allocator::Panic);
    world.authenticator.do_send(authenticator::Panic);
    world.listeners[0].do_send(listener::Panic);
    session.do_send(sterna_actors::session::Panic);
    call.client.queues(&channel_data(Call::CHANNEL, b"in the middle of it"));
    call.peer.queues(call.relayed, b"in the middle of it");
    settle().await;
    for _ in 0..3 {
        world.log.expects(Level::Warning, "actor panicked and is healed in place");
    }
    world.log.expects(Level::Warning, "session panicked and is restarted");
}

/// Longer than any pause before a restart that a budget allows.
const PAUSE: Duration = Duration::from_millis(100);
