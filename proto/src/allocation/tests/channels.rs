//! Channels (RFC 8656 §12).

use super::{allocation, at, channel, effects, peer, peer6, roomy, v4};
use crate::address::PeerAddr;
use crate::allocation::{Allocation, ChannelBindError, Effect, Inbound, Lifetimes, Relays, Terms};
use crate::drops::DropReason;
use crate::stun::ErrorCode;

//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# A channel binding lasts for 10 minutes unless refreshed.
#[test]
fn a_channel_expires_after_ten_minutes() {
    let mut allocation = roomy(2, 2);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(10)).expect("there is room");
    for refreshed in [at(300), at(590)] {
        allocation.create_permissions(&[peer(1, 0)], refreshed).expect("there is room");
    }

    let last = at(610) - std::time::Duration::from_nanos(1);
    assert_eq!(Ok(peer(1, 9)), allocation.channel_peer(channel(0x4000), last));
    assert_eq!(Ok(Inbound::Channel(channel(0x4000))), allocation.from_peer(peer(1, 9), last));

    let over = allocation.channel_peer(channel(0x4000), at(610));
    assert_eq!(Err(DropReason::UnboundChannel), over);
    let inbound = allocation.from_peer(peer(1, 9), at(610));
    assert_eq!(Ok(Inbound::Indication(peer(1, 9))), inbound);
    assert_eq!(Some(at(610)), allocation.poll_timeout());
    let expired = Effect::ChannelExpired(channel(0x4000), peer(1, 9));
    assert_eq!(vec![expired], effects(&mut allocation, at(610)));
    assert_eq!(0, allocation.channel_count());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# Refreshing
//# the binding (by the server receiving a ChannelBind request rebinding
//# the channel to the same peer) resets the time-to-expiry timer back to
//# 10 minutes.
#[test]
fn binding_again_refreshes_channel_and_permission() {
    let mut allocation = roomy(2, 2);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(500)).expect("it is refreshed");

    assert_eq!(Ok(peer(1, 9)), allocation.channel_peer(channel(0x4000), at(1099)));
    assert!(allocation.channel_peer(channel(0x4000), at(1100)).is_err());
    assert!(allocation.from_peer(peer(1, 9), at(799)).is_ok());
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(800)));
    assert_eq!(1, allocation.channel_count());
}

#[test]
fn a_channel_brings_a_permission_for_the_permissions_lifetime_only() {
    let mut allocation = roomy(2, 2);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    assert_eq!(Ok(Inbound::Channel(channel(0x4000))), allocation.from_peer(peer(1, 9), at(299)));
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(300)));
    assert_eq!(vec![Effect::PermissionExpired(v4(1))], effects(&mut allocation, at(300)));
    // The way out needs the channel alone.
    assert_eq!(Ok(peer(1, 9)), allocation.channel_peer(channel(0x4000), at(300)));
    assert_eq!(1, allocation.channel_count());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# Thus, the same channel cannot be bound to two different
//# transport addresses, nor can the same transport address be bound to
//# two different channels.
#[test]
fn a_number_and_a_peer_belong_to_one_another() {
    let mut allocation = roomy(9, 9);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    let other_peer = allocation.bind_channel(channel(0x4000), peer(1, 10), at(1));
    let other_number = allocation.bind_channel(channel(0x4001), peer(1, 9), at(1));

    assert_eq!(Err(ChannelBindError::NumberInUse), other_peer);
    assert_eq!(Err(ChannelBindError::PeerInUse), other_number);
    for error in [ChannelBindError::NumberInUse, ChannelBindError::PeerInUse] {
        assert_eq!(ErrorCode::BadRequest, error.code());
    }
    // Another port is another peer.
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4001), peer(1, 10), at(1)));
    assert_eq!(Ok(peer(1, 10)), allocation.channel_peer(channel(0x4001), at(1)));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# To prevent race conditions, the client MUST wait 5
//# minutes after the channel binding expires before attempting to bind
//# the channel number to a different transport address or the transport
//# address to a different channel number.
#[test]
fn an_expired_pair_is_not_rebound_otherwise_for_five_minutes() {
    let mut allocation = roomy(9, 9);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    for now in [at(600), at(899)] {
        let other_peer = allocation.bind_channel(channel(0x4000), peer(2, 9), now);
        let other_number = allocation.bind_channel(channel(0x4001), peer(1, 9), now);
        assert_eq!(Err(ChannelBindError::NumberInUse), other_peer);
        assert_eq!(Err(ChannelBindError::PeerInUse), other_number);
        assert!(allocation.channel_peer(channel(0x4000), now).is_err());
    }
    assert_eq!(Some(at(900)), allocation.poll_timeout());

    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4000), peer(2, 9), at(900)));
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4001), peer(1, 9), at(900)));
    assert_eq!(Ok(peer(2, 9)), allocation.channel_peer(channel(0x4000), at(900)));
}

#[test]
fn an_expired_pair_is_bound_again_as_it_was_at_any_time() {
    let mut allocation = roomy(9, 9);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4000), peer(1, 9), at(700)));

    assert_eq!(Ok(peer(1, 9)), allocation.channel_peer(channel(0x4000), at(1299)));
    assert_eq!(1, allocation.channel_count());
}

#[test]
fn a_channel_to_the_other_family_is_a_mismatch() {
    let mut allocation = allocation();

    let refused = allocation.bind_channel(channel(0x4000), peer6(1, 9), at(0));

    assert_eq!(Err(ChannelBindError::PeerFamily), refused);
    assert_eq!(ErrorCode::PeerAddressFamilyMismatch, ChannelBindError::PeerFamily.code());
    // A number that is in use is a fault of the request before the family is one.
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    let refused = allocation.bind_channel(channel(0x4000), peer6(1, 9), at(0));
    assert_eq!(Err(ChannelBindError::NumberInUse), refused);
}

#[test]
fn a_channel_to_a_denied_peer_is_forbidden() {
    let mut allocation = allocation();
    for denied in ["127.0.0.1:9", "10.0.0.1:3478", "203.0.113.1:3478", "10.0.0.2:50000"] {
        let denied = PeerAddr(denied.parse().expect("an address"));

        let refused = allocation.bind_channel(channel(0x4000), denied, at(0));

        assert_eq!(Err(ErrorCode::Forbidden), refused.map_err(|error| error.code()), "{denied}");
    }
    assert_eq!((0, 0), (allocation.channel_count(), allocation.permission_count()));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
//= type=test
//# If the request is valid, but the server is unable to fulfill the
//# request due to some capacity limit or similar, the server replies
//# with a 508 (Insufficient Capacity) error.
#[test]
fn a_full_allocation_refreshes_its_channels_but_binds_no_more() {
    let mut allocation = roomy(9, 2);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    allocation.bind_channel(channel(0x4001), peer(2, 9), at(0)).expect("there is room");

    let full = allocation.bind_channel(channel(0x4002), peer(3, 9), at(1));

    assert_eq!(Err(ChannelBindError::ChannelsFull), full);
    assert_eq!(ErrorCode::InsufficientCapacity, ChannelBindError::ChannelsFull.code());
    assert_eq!(2, allocation.permission_count());
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4001), peer(2, 9), at(1)));
    // An expired channel makes room for another, though its number is not free yet.
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4002), peer(3, 9), at(600)));
}

#[test]
fn a_channel_needs_room_for_its_permission_unless_it_is_refreshed() {
    let mut allocation = roomy(1, 9);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    let full = allocation.bind_channel(channel(0x4001), peer(2, 9), at(1));
    assert_eq!(Err(ChannelBindError::PermissionsFull), full);
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4001), peer(1, 10), at(1)));

    // The permission of a channel has expired and another has taken the room.
    allocation.create_permissions(&[peer(3, 0)], at(301)).expect("there is room");
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4000), peer(1, 9), at(302)));
    assert!(allocation.from_peer(peer(1, 9), at(302)).is_ok());
}

#[test]
fn pairs_that_are_remembered_are_bounded() {
    let lifetimes = Lifetimes { channel: super::secs(10), ..Lifetimes::default() };
    let terms = Terms { lifetimes, permissions_max: 9, ..super::terms() };
    let relays = Relays { v4: Some(super::relay_v4()), v6: None };
    let mut allocation = Allocation::new(terms.into(), relays, super::secs(3600), at(0));

    // Two channels at a time, each pair for ten seconds, and five minutes of memory.
    let bind = |allocation: &mut Allocation, n: u8, now| {
        allocation.bind_channel(channel(0x4000 + u16::from(n)), peer(n, 9), at(now))
    };
    for (n, now) in [(0, 0), (1, 0), (2, 10), (3, 10)] {
        assert_eq!(Ok(()), bind(&mut allocation, n, now), "{n}");
    }

    assert_eq!(Err(ChannelBindError::ChannelsFull), bind(&mut allocation, 4, 20));
    assert_eq!(Ok(()), bind(&mut allocation, 0, 20));
    assert_eq!(Err(ChannelBindError::ChannelsFull), bind(&mut allocation, 4, 309));
    assert_eq!(Ok(()), bind(&mut allocation, 4, 310));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
//= type=test
//# On the server, the receipt of a
//# ChannelData message MUST NOT refresh either the channel binding or
//# the permission towards the peer.
#[test]
fn data_refreshes_no_channel() {
    let mut allocation = roomy(2, 2);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    for second in 0..600 {
        assert!(allocation.channel_peer(channel(0x4000), at(second)).is_ok());
    }

    assert!(allocation.channel_peer(channel(0x4000), at(600)).is_err());
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(300)));
}

#[test]
fn many_channels_are_found_and_expire_each_by_itself() {
    let mut allocation = roomy(1024, 1024);
    let pair = |n: u16| (channel(0x4000 + n), peer(u8::try_from(n % 200).unwrap_or(0), 1000 + n));
    for n in 0..1024_u16 {
        let (number, peer) = pair(n);
        allocation.bind_channel(number, peer, at(u64::from(n % 2))).expect("there is room");
    }

    let ended = effects(&mut allocation, at(600));

    let channels = ended.iter().filter(|ended| matches!(ended, Effect::ChannelExpired(..)));
    assert_eq!(512, channels.count());
    assert_eq!(512, allocation.channel_count());
    for n in 0..1024 {
        let (number, peer) = pair(n);
        let found = allocation.channel_peer(number, at(600));
        assert_eq!(if n % 2 == 0 { Err(DropReason::UnboundChannel) } else { Ok(peer) }, found);
    }
    // Those that are forgotten leave the others where they are found.
    allocation.handle_timeout(at(900));
    allocation.bind_channel(channel(0x4001), peer(1, 1001), at(900)).expect("it is remembered");
    assert_eq!(Ok(peer(1, 1001)), allocation.channel_peer(channel(0x4001), at(900)));
}
