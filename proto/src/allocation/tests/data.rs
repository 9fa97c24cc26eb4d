//! Data, both ways (RFC 8656 §11 and §12), and addresses behind a 1:1 NAT.

use std::net::{SocketAddr, SocketAddrV6};

use super::{allocation, at, channel, dual, peer, peer6};
use crate::address::PeerAddr;
use crate::allocation::Inbound;
use crate::drops::DropReason;

fn named(text: &str) -> PeerAddr {
    PeerAddr(text.parse().expect("the test writes valid addresses"))
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
//= type=test
//# If no such
//# permission exists, the message is discarded.
#[test]
fn without_a_permission_nothing_passes_either_way() {
    let allocation = allocation();

    assert_eq!(Err(DropReason::NoPermission), allocation.indication_peer(peer(1, 9), at(0)));
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(0)));
    assert_eq!(Err(DropReason::NoPermission), allocation.from_icmp(peer(1, 9), at(0)));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
//= type=test
//# If the ChannelData message is received on a channel that is not bound
//# to any peer, then the message is silently discarded.
#[test]
fn data_on_an_unbound_channel_is_dropped() {
    let allocation = allocation();

    let dropped = allocation.channel_peer(channel(0x4000), at(0));

    assert_eq!(Err(DropReason::UnboundChannel), dropped);
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
//= type=test
//# The server, on the other hand, MUST
//# use the ChannelData message if a channel has been bound to the peer.
#[test]
fn a_bound_peer_is_heard_on_its_channel_and_its_neighbour_in_indications() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    assert_eq!(Ok(Inbound::Channel(channel(0x4000))), allocation.from_peer(peer(1, 9), at(1)));
    assert_eq!(Ok(Inbound::Indication(peer(1, 10))), allocation.from_peer(peer(1, 10), at(1)));
    // The client may mix both ways.
    assert_eq!(Ok(peer(1, 9)), allocation.indication_peer(peer(1, 9), at(1)));
}

#[test]
fn an_indication_to_port_zero_goes_nowhere() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("there is room");

    let dropped = allocation.indication_peer(peer(1, 0), at(1));

    assert_eq!(Err(DropReason::PeerPortZero), dropped);
}

#[test]
fn the_other_family_is_dropped_as_such() {
    let allocation = allocation();

    assert_eq!(Err(DropReason::PeerFamily), allocation.indication_peer(peer6(1, 9), at(0)));
    assert_eq!(Err(DropReason::PeerFamily), allocation.from_peer(peer6(1, 9), at(0)));
    assert_eq!(Err(DropReason::PeerFamily), allocation.from_icmp(peer6(1, 9), at(0)));
}

#[test]
fn a_permission_for_our_own_address_covers_relayed_ports_alone() {
    let mut allocation = allocation();
    allocation.create_permissions(&[named("10.0.0.1:0")], at(0)).expect("a relay address passes");

    let relayed = named("10.0.0.1:50001");
    assert_eq!(Ok(relayed), allocation.indication_peer(relayed, at(1)));
    assert!(allocation.from_peer(relayed, at(1)).is_ok());
    for refused in ["10.0.0.1:3478", "10.0.0.1:22"] {
        let refused = named(refused);
        assert_eq!(Err(DropReason::PeerDenied), allocation.indication_peer(refused, at(1)));
        assert_eq!(Err(DropReason::PeerDenied), allocation.from_peer(refused, at(1)));
    }
}

#[test]
fn our_public_address_is_reached_by_the_internal_one_and_heard_by_the_public_one() {
    let mut allocation = allocation();
    let (public, internal) = (named("203.0.113.1:50001"), named("10.0.0.1:50001"));
    allocation.create_permissions(&[public], at(0)).expect("a relayed address passes");

    assert_eq!(Ok(internal), allocation.indication_peer(public, at(1)));
    assert_eq!(Ok(Inbound::Indication(public)), allocation.from_peer(internal, at(1)));
    assert_eq!(Ok(public), allocation.from_icmp(internal, at(1)));

    allocation.bind_channel(channel(0x4000), public, at(1)).expect("there is room");
    assert_eq!(Ok(internal), allocation.channel_peer(channel(0x4000), at(1)));
    assert_eq!(Ok(Inbound::Channel(channel(0x4000))), allocation.from_peer(internal, at(1)));
    // By either name it is the same peer.
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4000), internal, at(1)));
    assert!(allocation.bind_channel(channel(0x4001), internal, at(1)).is_err());
    assert_eq!(1, allocation.permission_count());
}

#[test]
fn flow_label_and_scope_of_a_received_address_do_not_make_another_peer() {
    let mut allocation = dual();
    allocation.bind_channel(channel(0x4000), peer6(1, 9), at(0)).expect("there is room");
    let SocketAddr::V6(v6) = peer6(1, 9).0 else { unreachable!("it is IPv6") };

    let received = SocketAddrV6::new(*v6.ip(), v6.port(), 0xf10, 3);

    let inbound = allocation.from_peer(PeerAddr(received.into()), at(1));
    assert_eq!(Ok(Inbound::Channel(channel(0x4000))), inbound);
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
//= type=test
//# Instead, the server extracts
//# the destination IP address from the encapsulated IP header.
#[test]
fn icmp_is_judged_by_where_the_datagram_went_and_passes_no_channel() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    assert_eq!(Ok(peer(1, 9)), allocation.from_icmp(peer(1, 9), at(1)));
    assert_eq!(Ok(peer(1, 0)), allocation.from_icmp(peer(1, 0), at(1)));
    assert_eq!(Err(DropReason::NoPermission), allocation.from_icmp(peer(2, 9), at(1)));
}
