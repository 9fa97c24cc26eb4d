//! The end of a server: no work is begun, what is in flight is answered, everything is given back.

use slog::Level;
use sterna_actors::port_allocator::{LeasePort, PortLease};
use sterna_proto::address::RelayedAddr;

use crate::kit::{Asked, Setup, World, neighbour, relayed_at, script, settle, virtual_time};

#[test]
fn shutdown_answers_what_is_in_flight_and_then_ends_all() {
    virtual_time(async || {
        let (mut ear, lease_port) = neighbour();
        let world = World::start(Setup { lease_port: Some(lease_port), ..Setup::default() });
        let alice = world.client("alice").await;
        let bob = world.client("bob").await;
        alice.sends(&alice.allocate_request()).await;
        let asked: Asked<LeasePort> = ear.hears().await;

        let mut done = world.shuts_down();
        bob.sends(&bob.allocate_request()).await;
        bob.hears_nothing();
        assert!(done[0].try_recv().is_err(), "alice still waits for her answer");
        assert_eq!(1, world.sessions().await);

        let (_ended, lease_ended) = neighbour();
        let address = RelayedAddr(relayed_at(50_000));
        asked.answers(Ok(PortLease::played(address, None, lease_ended))).await;

        // She is answered, though not with an allocation that would end at once.
        let answer = alice.hears_answer();
        assert_ne!(0, answer.code());
        assert_eq!(Ok(()), done[0].try_recv());
        assert!(world.network.open().is_empty());
        ear.hears_nothing().await;
        world.ends().await;
    });
}

#[test]
fn shutdown_ends_every_session_and_allocation() {
    Setup { listeners: 2, ports: 50_000..=50_003, ..Setup::default() }.script(async |world| {
        let call = world.call().await;
        let mut other = world.client_of(1, "bob").await;
        other.allocate().await.granted();
        let mut idle = world.client("alice").await;
        idle.refresh(600).await.refused(437);

        for done in world.shuts_down() {
            assert_eq!(Ok(()), done.await);
        }

        // At the very moment of the word, not some time later.
        assert!(world.network.open().is_empty());
        for _ in 0..2 {
            let line = world.log.expects(Level::Info, "allocation ended");
            assert_eq!("server shutdown", line.field("reason"));
            let line = world.log.expects(Level::Info, "listener closed");
            assert!(line.field("url").starts_with("udp://"), "{}", line.field("url"));
        }
        assert_eq!(4, world.free_ports().await);
        call.client.queues(b"nobody listens");
    });
}

#[test]
fn shutdown_does_not_wait_for_a_session_that_is_being_restarted() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_session(&call.client).await;
        world.panic_in_session(&call.client).await;

        let done = world.shuts_down().remove(0);
        assert_eq!(Ok(()), done.await);
        assert!(world.network.open().is_empty());
    });
}

#[test]
fn shutdown_of_a_listener_without_clients_is_done_at_once() {
    script(async |world| {
        let done = world.shuts_down().remove(0);
        settle().await;
        assert_eq!(Ok(()), done.await);
        assert!(world.network.open().is_empty());
    });
}
