//! ICMP answers to what a client sent reach the client, if it has a permission for the peer.

use sterna_proto::drops::DropReason;
use sterna_proto::stun::Icmp;

use crate::kit::{Call, Deadline, script, secs, settle};

const PORT_UNREACHABLE: Icmp = Icmp { kind: 3, code: 3, data: 0 };
const FRAGMENTATION_NEEDED: Icmp = Icmp { kind: 3, code: 4, data: 1280 };

#[test]
fn icmp_reaches_the_client_as_a_data_indication() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
    //= type=test
    //# The Data indication MUST contain both an XOR-PEER-
    //# ADDRESS and an ICMP attribute.
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate().await.granted().relayed();
        let peer = world.peer(1);
        alice.permit(&peer).await.granted();

        for icmp in [PORT_UNREACHABLE, FRAGMENTATION_NEEDED] {
            world.network.icmp(relayed, peer.0, icmp);
            settle().await;
            alice.hears_icmp(&peer, icmp);
        }
    });
}

#[test]
fn icmp_is_a_data_indication_even_where_a_channel_is_bound() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //= type=test
    //# The server uses a Data indication to signal the XOR-PEER-ADDRESS and
    //# ICMP attributes to the client even if a channel has been bound to the
    //# peer.
    script(async |world| {
        let call = world.call().await;
        world.network.icmp(call.relayed, call.peer.0, PORT_UNREACHABLE);
        settle().await;
        call.client.hears_icmp(&call.peer, PORT_UNREACHABLE);

        // It ends nothing: the peer may come back.
        call.goes_on().await;
    });
}

#[test]
fn icmp_about_a_peer_without_permission_is_dropped() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
    //= type=test
    //# If no
    //# match is found, relaying is not permitted and the server silently
    //# discards the ICMP packet.
    script(async |world| {
        let call = world.call().await;
        world.network.icmp(call.relayed, world.peer(2).0, PORT_UNREACHABLE);
        settle().await;

        call.client.hears_nothing();
        let drops = world.allocation_counters(&call.client).await.drops;
        assert_eq!(1, drops.get(DropReason::NoPermission));
    });
}

#[test]
fn icmp_is_relayed_as_long_as_the_permission_lasts() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate().await.granted().relayed();
        let peer = world.peer(1);
        let permission = Deadline::after(secs(300));
        alice.permit(&peer).await.granted();

        permission.just_before().await;
        world.network.icmp(relayed, peer.0, PORT_UNREACHABLE);
        settle().await;
        alice.hears_icmp(&peer, PORT_UNREACHABLE);

        permission.just_after().await;
        world.network.icmp(relayed, peer.0, PORT_UNREACHABLE);
        settle().await;
        alice.hears_nothing();
    });
}

#[test]
fn icmp_does_not_hold_up_data() {
    script(async |world| {
        let call = world.call().await;
        for number in 0..100_u8 {
            world.network.icmp(call.relayed, call.peer.0, PORT_UNREACHABLE);
            call.peer.queues(call.relayed, &[number]);
        }
        settle().await;

        let (mut errors, mut data) = (0, Vec::new());
        while let Some(heard) = call.client.next() {
            match heard {
                crate::kit::Heard::Icmp(..) => errors += 1,
                crate::kit::Heard::Channel(Call::CHANNEL, bytes) => data.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(100, errors);
        assert_eq!((0..100).collect::<Vec<u8>>(), data);
    });
}
