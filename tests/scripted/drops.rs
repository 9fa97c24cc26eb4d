//! What goes no further is counted by the reason why, and the log sums it up.

use sterna_actors::transport::HeaderFields;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AttributeType, Class, Data, Method, XorPeerAddress};

use crate::kit::{
    Call, Setup, World, after, channel_data, message, request, script, secs, send_indication,
};

/// What the allocation of the call has dropped, all told.
async fn allocation_drops(world: &World, call: &Call) -> Vec<(DropReason, u64)> {
    world.allocation_counters(&call.client).await.drops.iter().collect()
}

#[test]
fn each_packet_that_an_allocation_drops_has_one_reason() {
    script(async |world| {
        let peer = world.peer(1);
        let permitted = |data: &[u8]| send_indication(peer.0, data);
        let port_zero = std::net::SocketAddr::new(peer.0.ip(), 0);
        let unknown = AttributeType::new(0x7F01);
        let cases = [
            (DropReason::UnboundChannel, channel_data(0x4FFE, b"?")),
            (DropReason::MalformedChannelData, vec![0x40, 0x01, 0, 9, 1]),
            (DropReason::NoPermission, send_indication(world.peer(9).0, b"?")),
            (DropReason::PeerFamily, send_indication(world.peer_v6(1).0, b"?")),
            (DropReason::PeerPortZero, send_indication(port_zero, b"?")),
            (DropReason::MalformedIndication, message(Class::Indication, Method::SEND, |_| {})),
            (
                DropReason::UnknownAttribute,
                message(Class::Indication, Method::SEND, |writer| {
                    writer.attribute(&XorPeerAddress(peer.0)).attribute(&Data(b"?"));
                    writer.raw(unknown, b"?");
                }),
            ),
            (DropReason::UnexpectedClass, message(Class::Indication, Method::DATA, |_| {})),
            (DropReason::Malformed, permitted(b"cut off")[..30].to_vec()),
        ];
        for (reason, bytes) in cases {
            let call = world.call().await;
            call.client.sends(&bytes).await;

            assert_eq!(vec![(reason, 1)], allocation_drops(world, &call).await);
            call.client.hears_nothing();
            call.goes_on().await;
        }
    });
}

#[test]
fn each_packet_that_a_listener_drops_has_one_reason() {
    let mut bad_fingerprint = request(Method::BINDING, |writer| _ = writer.fingerprint());
    let last = bad_fingerprint.len() - 1;
    bad_fingerprint[last] ^= 1;
    let binding = || request(Method::BINDING, |_| {});
    let mut no_cookie = binding();
    no_cookie[4] ^= 1;
    let mut too_long = binding();
    too_long[3] = 4;
    let unknown = Method::from_number(0x0FF).expect("a number without a method");
    let cases = [
        (DropReason::NotStun, vec![]),
        (DropReason::NotStun, vec![0x80; 50]),
        (DropReason::NotStun, no_cookie),
        (DropReason::Malformed, too_long),
        (DropReason::Malformed, binding()[..19].to_vec()),
        (DropReason::BadFingerprint, bad_fingerprint),
        (DropReason::UnexpectedClass, message(Class::Success, Method::BINDING, |_| {})),
        (DropReason::UnexpectedClass, message(Class::Error, Method::ALLOCATE, |_| {})),
        (DropReason::UnknownMethod, request(unknown, |_| {})),
        (DropReason::NoSession, message(Class::Indication, Method::SEND, |_| {})),
        (DropReason::NoSession, channel_data(0x4000, b"?")),
    ];
    for (reason, bytes) in cases {
        script(async |world| {
            let stranger = world.client("alice").await;
            stranger.sends(&bytes).await;
            stranger.hears_nothing();

            let drops: Vec<(DropReason, u64)> = world.counters().await.drops.iter().collect();
            assert_eq!(vec![(reason, 1)], drops, "{bytes:02x?}");
            assert_eq!(0, world.sessions().await);
        });
    }
}

#[test]
fn datagram_at_the_end_of_its_hops_goes_no_further() {
    script(async |world| {
        let call = world.call().await;
        let hops = |hops| HeaderFields { hop_limit: Some(hops), traffic_class: 0xB8 };
        for arriving in [0, 1] {
            call.client.sends_with(hops(arriving), &channel_data(Call::CHANNEL, b"?")).await;
            call.peer.hears_nothing();
            world.network.send_with(call.peer.0, call.relayed, b"?", hops(arriving));
        }
        call.client.sends_with(hops(2), &channel_data(Call::CHANNEL, b"one hop left")).await;

        let packet = call.peer.next().expect("it arrives");
        assert_eq!(hops(1), packet.fields, "one hop less, and the class of the traffic stays");
        call.client.hears_nothing();
        assert_eq!(vec![(DropReason::TtlExpired, 4)], allocation_drops(world, &call).await);
    });
}

#[test]
fn socket_that_cannot_send_costs_the_packet_and_nothing_else() {
    script(async |world| {
        let call = world.call().await;
        let (jammed, cut_off) = (world.peer(2), world.peer(3));
        world.network.jams(jammed.0);
        world.network.cuts_off(cut_off.0);
        let mut alice = call.client.clone();
        alice.bind(0x4002, &jammed).await.granted();
        alice.bind(0x4003, &cut_off).await.granted();

        alice.says(0x4002, b"?").await;
        alice.says(0x4003, b"?").await;

        let drops = allocation_drops(world, &call).await;
        assert_eq!(vec![(DropReason::SendFailed, 1), (DropReason::SocketFull, 1)], drops);
        call.goes_on().await;
        let sent = world.allocation_counters(&alice).await.usage.peer.sent_packets;
        assert_eq!(2, sent, "what was not taken was not sent");
    });
}

#[test]
fn answer_that_cannot_be_sent_is_counted() {
    script(async |world| {
        let stranger = world.client("alice").await;
        world.network.jams(stranger.address);
        stranger.sends(&request(Method::BINDING, |_| {})).await;

        assert_eq!(1, world.dropped(DropReason::SocketFull).await);
    });
}

#[test]
fn peer_that_the_rules_refuse_is_refused_wherever_it_is_named() {
    script(async |world| {
        let call = world.call().await;
        let mut alice = call.client.clone();
        let inside = crate::kit::Peer(([10, 0, 0, 1], 80).into(), world.network.clone());
        let itself = crate::kit::Peer(alice.server, world.network.clone());
        alice.permit(&inside).await.refused(403);
        alice.bind(0x4002, &inside).await.refused(403);
        alice.bind(0x4002, &itself).await.refused(403);
        alice.sends_to(&inside, b"?").await;

        // The server's IP address may be permitted, since other clients are relayed at it.
        alice.permit(&itself).await.granted();
        alice.sends_to(&itself, b"?").await;

        inside.hears_nothing();
        let drops = allocation_drops(world, &call).await;
        assert_eq!(vec![(DropReason::NoPermission, 1), (DropReason::PeerDenied, 1)], drops);
    });
}

#[test]
fn drops_are_summed_up_in_the_log_each_minute() {
    script(async |world| {
        let stranger = world.client("alice").await;
        stranger.sends(&[0xFF]).await;
        stranger.says(0x4000, b"?").await;
        stranger.says(0x4000, b"?").await;
        after(secs(60)).await;

        let line = world.log.expects(slog::Level::Info, "packets dropped so far");
        assert_eq!(("1", "2"), (line.field("not_stun"), line.field("no_session")));

        // A minute in which nothing was dropped is not worth a line.
        after(secs(300)).await;
        assert!(world.log.takes("packets dropped so far").is_empty());
    });
}

#[test]
fn end_of_an_allocation_tells_what_it_dropped() {
    script(async |world| {
        let call = world.call().await;
        call.client.says(0x4FFE, b"?").await;
        world.peer(9).sends(call.relayed, b"?").await;
        call.client.clone().refresh(0).await.granted();

        let line = world.log.expects(slog::Level::Info, "allocation ended");
        assert_eq!(("1", "1"), (line.field("unbound_channel"), line.field("no_permission")));
    });
}

#[test]
fn ended_session_hands_its_counters_to_its_listener() {
    script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.allocate_request();
        for _ in 0..3 {
            alice.queues(&request);
        }
        crate::kit::settle().await;
        while alice.next().is_some() {}
        alice.clone().refresh(0).await.granted();
        let before = world.dropped(DropReason::Replayed).await;
        after(secs(61)).await;

        assert_eq!(0, before);
        assert_eq!(2, world.dropped(DropReason::Replayed).await);
    });
}

#[test]
fn full_listener_counts_whom_it_turns_away() {
    Setup { sessions_max: 0, ..Setup::default() }.script(async |world| {
        let alice = world.client("alice").await;
        alice.sends(&alice.allocate_request()).await;
        alice.hears_nothing();
        assert_eq!(1, world.dropped(DropReason::SessionsFull).await);
    });
}

#[test]
fn pending_error_of_a_socket_holds_nothing_up() {
    script(async |world| {
        let call = world.call().await;
        for _ in 0..10 {
            world.network.disturbs(call.client.server);
            world.network.disturbs(call.relayed);
            call.speaks(b"behind the error").await;
        }
        call.goes_on().await;
    });
}
