//! A fault at each step of a request: wherever it strikes, the client's retransmission ends well
//! and nothing is left behind.

use std::time::Duration;

use sterna_actors::{allocation, authenticator, listener, port_allocator, quota_keeper, session};
use sterna_proto::quotas::{QuotaLimits, QuotaTerms};

use crate::kit::{Call, Client, Setup, World, after, after_turns, secs, settle};

/// More turns than any request takes from end to end.
const STEPS: usize = 18;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Session,
    Listener,
    PortAllocator,
    Authenticator,
    QuotaKeeper,
}

const FAULTS: [Fault; 5] = [
    Fault::Session,
    Fault::Listener,
    Fault::PortAllocator,
    Fault::Authenticator,
    Fault::QuotaKeeper,
];

/// Plays a script for each fault, at each step of what it tells.
fn at_each_step(script: impl AsyncFn(&World, Fault, usize)) {
    for fault in FAULTS {
        for step in 0..STEPS {
            let two = QuotaLimits { allocations: Some(2), ..QuotaLimits::default() };
            let quotas = QuotaTerms { server: two, ..QuotaTerms::default() };
            let setup = Setup { ports: 50_000..=50_002, quotas, ..Setup::default() };
            setup.script(async |world| script(world, fault, step).await);
        }
    }
}

/// The request has been sent; the fault strikes so many turns later.
async fn strikes(world: &World, client: &Client, fault: Fault, step: usize, request: &[u8]) {
    let session = world.session_of(client).await;
    let (listener, ports) = (world.listeners[0].clone(), world.ports.clone());
    let (authenticator, quotas) = (world.authenticator.clone(), world.quotas.clone());
    client.queues(request);
    after_turns(step, move || match fault {
        Fault::Session => session.do_send(session::Panic),
        Fault::Listener => listener.do_send(listener::Panic),
        Fault::PortAllocator => ports.do_send(port_allocator::Panic),
        Fault::Authenticator => authenticator.do_send(authenticator::Panic),
        Fault::QuotaKeeper => quotas.do_send(quota_keeper::Panic),
    });
    settle().await;
    let said = match fault {
        Fault::Session => "session panicked and is restarted",
        Fault::Listener | Fault::PortAllocator | Fault::Authenticator | Fault::QuotaKeeper => {
            "actor panicked and is healed in place"
        }
    };
    world.log.expects(slog::Level::Warning, said);
    // The answer, if the request was that far.
    while let Some(heard) = client.next() {
        assert!(matches!(heard, crate::kit::Heard::Answer(_)), "{heard:?}");
    }
}

/// A client that has a session and no allocation.
async fn known_client(world: &World) -> Client {
    let mut client = world.client("alice").await;
    client.refresh(600).await.refused(437);
    client
}

#[test]
fn allocate_ends_well_whatever_fails_meanwhile() {
    at_each_step(async |world, fault, step| {
        let alice = known_client(world).await;
        let request = alice.allocate_request();
        strikes(world, &alice, fault, step, &request).await;

        let answer = alice.exchange(&request).await.granted();

        assert_eq!(answer, alice.exchange(&request).await, "{fault:?} at {step}");
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
        assert_eq!(1, world.places().await);
        assert_eq!(vec![alice.server, answer.relayed()], sorted(world.network.open()));
        // A healed PortAllocator learns from `bind` which ports are taken.
        if fault != Fault::PortAllocator {
            assert_eq!(2, world.free_ports().await, "{fault:?} at {step}");
        }
        let call = Call { client: alice.clone(), peer: world.peer(1), relayed: answer.relayed() };
        alice.clone().bind(Call::CHANNEL, &call.peer).await.granted();
        call.goes_on().await;
    });
}

#[test]
fn refresh_to_zero_ends_well_whatever_fails_meanwhile() {
    at_each_step(async |world, fault, step| {
        let call = world.call().await;
        let request = call.client.refresh_request(0);
        strikes(world, &call.client, fault, step, &request).await;

        // A session that was restarted behind the deletion knows of no allocation.
        let answer = call.client.exchange(&request).await;
        assert!([0, 437].contains(&answer.code()), "{fault:?} at {step}: {}", answer.code());
        assert_eq!((1, 0), (world.sessions().await, world.allocations().await));
        assert_eq!(0, world.places().await);
        assert_eq!(vec![call.client.server], world.network.open());
        assert_eq!(3, world.free_ports().await, "{fault:?} at {step}");
        call.client.clone().allocate().await.granted();
    });
}

#[test]
fn channel_bind_ends_well_whatever_fails_meanwhile() {
    at_each_step(async |world, fault, step| {
        let call = world.call().await;
        let peer = world.peer(2);
        let request = call.client.bind_request(0x4002, &peer);
        strikes(world, &call.client, fault, step, &request).await;
        call.goes_on().await;

        let _ = call.client.exchange(&request).await.granted();
        call.client.says(0x4002, b"bound").await;
        peer.hears(call.relayed, b"bound");
        peer.sends(call.relayed, b"once").await;
        call.client.hears(0x4002, b"once");
    });
}

#[test]
fn refresh_to_zero_and_allocate_end_well_whatever_fails_meanwhile() {
    at_each_step(async |world, fault, step| {
        let call = world.call().await;
        let allocate = call.client.allocate_request();
        call.client.queues(&call.client.refresh_request(0));
        strikes(world, &call.client, fault, step, &allocate).await;
        after(Duration::from_millis(100)).await;

        // The second allocation stands, or the first still did when the client asked.
        let answer = call.client.exchange(&allocate).await;
        assert!([0, 437].contains(&answer.code()), "{fault:?} at {step}: {}", answer.code());
        let mut alice = call.client.clone();
        alice.refresh(600).await.granted();
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
        assert_eq!(1, world.places().await);
        assert_eq!(2, world.network.open().len(), "{fault:?} at {step}");
        alice.refresh(0).await.granted();
        assert_eq!((1, 0), (world.sessions().await, world.allocations().await));
        assert_eq!(0, world.places().await);
        after(secs(31)).await;
        assert_eq!(3, world.free_ports().await, "{fault:?} at {step}");
    });
}

#[test]
fn allocation_may_panic_at_each_step_of_a_request_to_it() {
    for step in 0..STEPS {
        Setup { ports: 50_000..=50_000, ..Setup::default() }.script(async |world| {
            let call = world.call().await;
            let allocation = world.allocation_of(&call.client).await;
            let request = call.client.refresh_request(600);
            call.client.queues(&request);
            after_turns(step, move || allocation.do_send(allocation::Panic));
            settle().await;
            world.log.expects(slog::Level::Error, "allocation panicked and is gone");
            let answer = call.client.hears_answer();
            assert!([0, 437].contains(&answer.code()), "at {step}");

            // The one port of the server is free again.
            assert_eq!((1, 0), (world.sessions().await, world.allocations().await));
            assert_eq!(0, world.places().await);
            Call::between(call.client.clone(), call.peer.clone()).await.goes_on().await;
        });
    }
}

#[test]
fn session_and_listener_may_panic_at_any_distance() {
    for distance in 0..STEPS {
        for session_first in [true, false] {
            crate::kit::script(async |world| {
                let call = world.call().await;
                let session = world.session_of(&call.client).await;
                let listener = world.listeners[0].clone();
                let (first, second) = if session_first { (0, distance) } else { (distance, 0) };
                after_turns(first, move || session.do_send(session::Panic));
                after_turns(second, move || listener.do_send(listener::Panic));
                call.queues(b"through it all");
                world.is_healed("ListenerActor").await;
                world.log.expects(slog::Level::Warning, "session panicked and is restarted");

                call.is_heard(b"through it all");
                call.client.clone().refresh(600).await.granted();
                call.goes_on().await;
            });
        }
    }
}

fn sorted(mut addresses: Vec<std::net::SocketAddr>) -> Vec<std::net::SocketAddr> {
    addresses.sort_unstable();
    addresses
}
