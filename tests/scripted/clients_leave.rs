//! A client whose connection is gone takes its session and its allocation with it.

use sterna_actors::session;
use sterna_proto::drops::DropReason;

use crate::kit::{Call, Client, World, after, channel_data, script, secs, settle};

/// The connection of the client is gone, and everybody has acted on it.
async fn leaves(world: &World, client: &Client) {
    world.network.leaves(client.five_tuple());
    settle().await;
}

#[test]
fn allocation_ends_with_its_clients_connection() {
    script(async |world| {
        let free = world.free_ports().await;
        let call = world.call().await;

        leaves(world, &call.client).await;
        assert_eq!((0, 0), (world.allocations().await, world.sessions().await));
        assert!(!world.network.is_open(call.relayed));
        assert_eq!(free, world.free_ports().await);
        let line = world.log.expects(slog::Level::Info, "allocation ended");
        assert_eq!("TCP connection closed by client (callback)", line.field("reason"));
    });
}

#[test]
fn what_a_client_sent_before_it_left_is_relayed() {
    script(async |world| {
        let call = world.call().await;
        call.client.queues(&channel_data(Call::CHANNEL, b"last words"));
        leaves(world, &call.client).await;
        call.peer.hears(call.relayed, b"last words");
    });
}

#[test]
fn next_client_at_the_same_address_is_served_anew() {
    script(async |world| {
        let call = world.call().await;
        let mut alice = call.client.clone();
        world.network.leaves(alice.five_tuple());
        // It comes in the same wake, while session and allocation of the former are ending.
        alice.queues(&channel_data(Call::CHANNEL, b"for the former"));
        let relayed = alice.allocate().await.granted().relayed();
        assert_ne!(call.relayed, relayed);
        assert_eq!((1, 1), (world.allocations().await, world.sessions().await));
        assert!(!world.network.is_open(call.relayed));
        assert!(world.network.is_open(relayed));
        assert_eq!(1, world.dropped(DropReason::NoSession).await);
    });
}

#[test]
fn client_that_leaves_takes_no_other_with_it() {
    script(async |world| {
        let (gone, stays) = (world.call().await, world.call().await);
        leaves(world, &gone.client).await;
        stays.goes_on().await;
        assert_eq!((1, 1), (world.allocations().await, world.sessions().await));
    });
}

#[test]
fn session_that_waits_for_its_restart_ends_when_its_client_has_left() {
    script(async |world| {
        let call = world.call().await;
        for _ in 0..2 {
            world.panic_in_session(&call.client).await;
        }
        leaves(world, &call.client).await;
        after(secs(10)).await;
        assert_eq!((0, 0), (world.allocations().await, world.sessions().await));
    });
}

#[test]
fn client_that_leaves_while_its_session_panics_is_forgotten() {
    script(async |world| {
        let call = world.call().await;
        world.session_of(&call.client).await.do_send(session::Panic);
        leaves(world, &call.client).await;
        world.log.expects(slog::Level::Warning, "session panicked and is restarted");
        after(secs(1)).await;
        assert_eq!((0, 0), (world.allocations().await, world.sessions().await));
    });
}

#[test]
fn client_that_leaves_is_forgotten_across_a_panic_of_the_listener() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_listener().await;
        leaves(world, &call.client).await;
        assert_eq!((0, 0), (world.allocations().await, world.sessions().await));
    });
}

#[test]
fn stranger_that_leaves_changes_nothing() {
    script(async |world| {
        let call = world.call().await;
        let stranger = world.client("bob").await;
        leaves(world, &stranger).await;
        leaves(world, &stranger).await;
        call.goes_on().await;
    });
}
