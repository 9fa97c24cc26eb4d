//! TCP relaying in virtual time: the thirty seconds of either side, and who survives what.

use std::net::SocketAddr;

use sterna_proto::drops::DropReason;
use sterna_proto::stun::ConnectionId;

use crate::kit::{Client, Deadline, End, Peer, World, after, script, secs, settle};

/// Alice over TCP with a TCP allocation; where peers reach her.
async fn alice(world: &World) -> (Client, SocketAddr) {
    let mut alice = world.tcp_client("alice").await;
    let relayed = alice.allocate_tcp().await.granted().relayed();
    (alice, relayed)
}

/// Connects to a peer that answers.
async fn connects(world: &World, alice: &mut Client, peer: &Peer) -> ConnectionId {
    world.network.answers(peer.0);
    let answer = alice.connect(peer).await.granted();
    answer.read().expect("CONNECTION-ID is there")
}

/// Binds a connection over one of its own; the client's end.
async fn binds(world: &World, id: ConnectionId) -> End {
    let mut data = world.tcp_client("alice").await;
    let _ = data.bind_connection(id).await.granted();
    world.network.joined_by(data.address)
}

/// Connects to a peer that answers, and binds the connection; the client's end and the peer's.
async fn is_joined(
    world: &World,
    alice: &mut Client,
    relayed: SocketAddr,
    peer: &Peer,
) -> (End, End) {
    let id = connects(world, alice, peer).await;
    let at_peer = world.network.answered_by(peer.0, relayed);
    (binds(world, id).await, at_peer)
}

/// Data flows both ways.
async fn goes_on(client: &mut End, peer: &mut End) {
    client.says(b"out").await;
    peer.hears(b"out").await;
    peer.says(b"back").await;
    client.hears(b"back").await;
}

#[test]
fn a_peer_that_is_not_heard_of_is_given_up_after_thirty_seconds() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (peer, other) = (world.peer(1), world.peer(2));
        world.network.is_lost(peer.0);
        let answer = Deadline::after(secs(30));
        alice.sends(&alice.connect_request(&peer)).await;

        // Others are served meanwhile, and the peer is taken.
        assert_eq!(600, alice.refresh(600).await.granted().lifetime());
        let _ = alice.connect(&peer).await.refused(446);
        connects(world, &mut alice, &other).await;
        let mut at_other = world.network.answered_by(other.0, relayed);
        answer.just_before().await;
        alice.hears_nothing();
        at_other.stands().await;

        answer.just_after().await;
        let _ = alice.hears_answer().refused(447);
    });
}

#[test]
fn a_connection_waits_thirty_seconds_to_be_bound() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (one, two) = (world.peer(1), world.peer(2));
        let in_time = Deadline::after(secs(30));
        let first = connects(world, &mut alice, &one).await;
        let second = connects(world, &mut alice, &two).await;
        let mut at_one = world.network.answered_by(one.0, relayed);
        let mut at_two = world.network.answered_by(two.0, relayed);

        in_time.just_before().await;
        let mut data = binds(world, first).await;
        at_two.stands().await;
        in_time.just_after().await;
        at_two.is_closed().await;
        let mut late = world.tcp_client("alice").await;
        let _ = late.bind_connection(second).await.refused(400);

        goes_on(&mut data, &mut at_one).await;
    });
}

#[test]
fn a_peer_that_has_connected_waits_thirty_seconds_to_be_bound() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (one, two) = (world.peer(1), world.peer(2));
        alice.permit(&one).await.granted();
        alice.permit(&two).await.granted();
        let in_time = Deadline::after(secs(30));
        let mut at_one = world.network.calls(one.0, relayed).await;
        at_one.says(b"early").await;
        let first = alice.hears_attempt(&one);
        let mut at_two = world.network.calls(two.0, relayed).await;
        assert_ne!(first, alice.hears_attempt(&two));

        in_time.just_before().await;
        let mut data = binds(world, first).await;
        data.hears(b"early").await;
        in_time.just_after().await;
        at_two.is_closed().await;

        goes_on(&mut data, &mut at_one).await;
    });
}

#[test]
fn the_way_in_closes_with_the_permission_and_what_is_in_stays() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let peer = world.peer(1);
        let permission = Deadline::after(secs(300));
        alice.permit(&peer).await.granted();
        permission.just_before().await;
        let mut inside = world.network.calls(peer.0, relayed).await;
        let mut data = binds(world, alice.hears_attempt(&peer)).await;

        permission.just_after().await;
        let mut outside = world.network.calls((peer.0.ip(), 7001).into(), relayed).await;
        outside.is_closed().await;
        goes_on(&mut data, &mut inside).await;

        alice.hears_nothing();
        let drops = world.allocation_counters(&alice).await.drops;
        assert_eq!(1, drops.get(DropReason::NoPermission));
    });
}

#[test]
fn a_refresh_to_zero_closes_connections_in_every_state() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (bound, waiting, silent) = (world.peer(1), world.peer(2), world.peer(3));
        let (mut data, mut at_bound) = is_joined(world, &mut alice, relayed, &bound).await;
        goes_on(&mut data, &mut at_bound).await;
        connects(world, &mut alice, &waiting).await;
        let mut at_waiting = world.network.answered_by(waiting.0, relayed);
        world.network.is_lost(silent.0);
        alice.sends(&alice.connect_request(&silent)).await;

        alice.sends(&alice.refresh_request(0)).await;

        let answers = [alice.hears_answer().code(), alice.hears_answer().code()];
        assert!(matches!(answers, [0, 437] | [437, 0]), "{answers:?}");
        data.is_closed().await;
        at_bound.is_closed().await;
        at_waiting.is_closed().await;
        assert!(!world.network.is_listening(relayed));
        let usage = world.log.takes("peer usage:");
        assert!(usage.iter().any(|line| line.contains("rp=1, rb=4, sp=1, sb=3")), "{usage:?}");
    });
}

#[test]
fn an_allocation_that_expires_closes_its_connections() {
    script(async |world| {
        let expiry = Deadline::after(secs(600));
        let (mut alice, relayed) = alice(world).await;
        let peer = world.peer(1);
        let (mut data, mut at_peer) = is_joined(world, &mut alice, relayed, &peer).await;

        expiry.just_before().await;
        goes_on(&mut data, &mut at_peer).await;
        expiry.just_after().await;
        data.is_closed().await;
        at_peer.is_closed().await;
    });
}

#[test]
fn a_session_that_is_restarted_finds_its_connections() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (one, two) = (world.peer(1), world.peer(2));
        let id = connects(world, &mut alice, &one).await;
        let mut at_one = world.network.answered_by(one.0, relayed);
        alice.permit(&two).await.granted();

        world.panic_in_session(&alice).await;

        let mut data = binds(world, id).await;
        goes_on(&mut data, &mut at_one).await;
        let mut at_two = world.network.calls(two.0, relayed).await;
        let mut data = binds(world, alice.hears_attempt(&two)).await;
        goes_on(&mut data, &mut at_two).await;
    });
}

#[test]
fn a_panic_in_the_allocation_closes_its_connections_and_no_others() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (mut other, elsewhere) = self::alice(world).await;
        let (one, two) = (world.peer(1), world.peer(2));
        let (mut data, mut at_one) = is_joined(world, &mut alice, relayed, &one).await;
        let id = connects(world, &mut other, &two).await;
        let mut at_two = world.network.answered_by(two.0, elsewhere);
        let mut untouched = binds(world, id).await;

        world.panic_in_allocation(&alice).await;

        data.is_closed().await;
        at_one.is_closed().await;
        let _ = alice.connect(&one).await.refused(437);
        goes_on(&mut untouched, &mut at_two).await;
        let _ = alice.allocate_tcp().await.granted();
    });
}

#[test]
fn a_broker_that_is_healed_knows_what_it_knew() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let (one, two) = (world.peer(1), world.peer(2));
        let id = connects(world, &mut alice, &one).await;
        let mut at_one = world.network.answered_by(one.0, relayed);

        world.panic_in_connection_broker().await;

        let mut data = binds(world, id).await;
        goes_on(&mut data, &mut at_one).await;
        let id = connects(world, &mut alice, &two).await;
        let mut data = binds(world, id).await;
        goes_on(&mut data, &mut world.network.answered_by(two.0, relayed)).await;
    });
}

#[test]
fn connections_of_one_allocation_have_a_limit() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let mut ends = Vec::new();
        for number in 1..=4 {
            let peer = world.peer(number);
            connects(world, &mut alice, &peer).await;
            ends.push(world.network.answered_by(peer.0, relayed));
        }
        let fifth = world.peer(5);
        let _ = alice.connect(&fifth).await.refused(508);
        alice.permit(&fifth).await.granted();
        world.network.calls(fifth.0, relayed).await.is_closed().await;
        let drops = world.allocation_counters(&alice).await.drops;
        assert_eq!(1, drops.get(DropReason::PeerConnectionsFull));
    });
}

#[test]
fn what_a_connection_carries_is_the_allocations_usage() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let peer = world.peer(1);
        let (mut data, mut at_peer) = is_joined(world, &mut alice, relayed, &peer).await;
        let before = world.allocation_counters(&alice).await.usage;
        for _ in 0..3 {
            goes_on(&mut data, &mut at_peer).await;
        }

        drop(data);
        at_peer.is_closed().await;
        drop(at_peer);
        settle().await;

        let usage = world.allocation_counters(&alice).await.usage;
        assert_eq!((3, 12), (usage.peer.received_packets, usage.peer.received_bytes));
        assert_eq!((3, 9), (usage.peer.sent_packets, usage.peer.sent_bytes));
        let client = usage.client;
        assert_eq!(9, client.received_bytes - before.client.received_bytes);
        assert_eq!(12, client.sent_bytes - before.client.sent_bytes);
        // The peer may be connected to again.
        connects(world, &mut alice, &peer).await;
    });
}

//= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
//= type=test
//# When a client data connection is closed, the server MUST close the
//# corresponding peer data connection.
//= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
//= type=test
//# When a peer data connection is closed, the server MUST close the
//# corresponding client data connection.
#[test]
fn a_connection_whose_one_side_has_left_does_not_stay_for_a_silent_other() {
    script(async |world| {
        for (client_leaves, peer) in [(true, world.peer(1)), (false, world.peer(2))] {
            let (mut alice, relayed) = alice(world).await;
            let (mut data, mut at_peer) = is_joined(world, &mut alice, relayed, &peer).await;
            goes_on(&mut data, &mut at_peer).await;

            // The side that stays neither sends nor closes.
            let over = Deadline::after(secs(60));
            let _stays = if client_leaves {
                drop(data);
                at_peer
            } else {
                drop(at_peer);
                data
            };
            settle().await;
            over.just_before().await;
            let _ = alice.connect(&peer).await.refused(446);
            over.just_after().await;

            connects(world, &mut alice, &peer).await;
        }
    });
}

#[test]
fn a_side_that_has_said_all_hears_the_other_out() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let peer = world.peer(1);
        let (mut data, mut at_peer) = is_joined(world, &mut alice, relayed, &peer).await;

        data.says_no_more().await;
        at_peer.is_closed().await;
        for _ in 0..4 {
            after(secs(59)).await;
            at_peer.says(b"more").await;
            data.hears(b"more").await;
        }
        after(secs(61)).await;

        data.is_closed().await;
        connects(world, &mut alice, &peer).await;
    });
}

#[test]
fn a_connection_that_both_sides_keep_may_be_silent_for_long() {
    script(async |world| {
        let (mut alice, relayed) = alice(world).await;
        let peer = world.peer(1);
        let (mut data, mut at_peer) = is_joined(world, &mut alice, relayed, &peer).await;
        after(secs(590)).await;
        goes_on(&mut data, &mut at_peer).await;
    });
}
