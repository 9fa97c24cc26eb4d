//! How long an allocation lasts (RFC 8656 §7.2 and §8.2).

use std::time::Duration;

use super::{allocation, at, channel, effects, peer, refresh, secs};
use crate::address::Family;
use crate::allocation::{
    Allocation, Effect, Lifetimes, RefreshError, Refreshed, Relay, Relays, Terms,
};
use crate::drops::DropReason;
use crate::request::RefreshRequest;
use crate::stun::ErrorCode;

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If this computed value is greater
//# than the default lifetime, then the server uses the computed lifetime
//# as the initial value of the time-to-expiry field.  Otherwise, the
//# server uses the default lifetime.
#[test]
fn a_lifetime_is_raised_to_the_default_and_cut_at_the_maximum() {
    for (requested, granted) in [
        (None, 600),
        (Some(0), 600),
        (Some(1), 600),
        (Some(600), 600),
        (Some(601), 601),
        (Some(3599), 3599),
        (Some(3600), 3600),
        (Some(3601), 3600),
        (Some(u64::from(u32::MAX)), 3600),
    ] {
        let requested = requested.map(Duration::from_secs);
        assert_eq!(secs(granted), Lifetimes::default().grant(requested), "{requested:?}");
    }
}

#[test]
fn an_allocation_expires_at_the_exact_moment() {
    let mut allocation = allocation();
    let last = at(600) - Duration::from_nanos(1);

    assert!(allocation.is_live(last));
    assert_eq!(Some(at(600)), allocation.poll_timeout());
    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, last));

    assert!(!allocation.is_live(at(600)));
    assert_eq!(vec![Effect::Expired], effects(&mut allocation, at(600)));
    assert_eq!(None, allocation.poll_timeout());
    assert_eq!(Relays::default(), allocation.relays());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-9
//= type=test
//# If an allocation expires,
//# all its permissions expire with it.
#[test]
fn what_outlives_an_allocation_ends_with_it_and_what_does_not_is_reported_first() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(100)).expect("there is room");
    allocation.bind_channel(channel(0x4000), peer(2, 9), at(500)).expect("there is room");

    let ended = effects(&mut allocation, at(10_000));

    assert_eq!(vec![Effect::PermissionExpired(peer(1, 0).0.ip()), Effect::Expired], ended);
    assert_eq!((0, 0), (allocation.permission_count(), allocation.channel_count()));
}

#[test]
fn an_allocation_that_is_over_serves_nobody_before_anything_is_swept() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(599)).expect("there is room");
    let over = at(600);

    assert_eq!(Err(DropReason::NoAllocation), allocation.channel_peer(channel(0x4000), over));
    assert_eq!(Err(DropReason::NoAllocation), allocation.channel_peer(channel(0x4001), over));
    assert_eq!(Err(DropReason::NoAllocation), allocation.indication_peer(peer(1, 9), over));
    assert_eq!(Err(DropReason::NoAllocation), allocation.from_peer(peer(1, 9), over));
    assert_eq!(Err(DropReason::NoAllocation), allocation.from_icmp(peer(1, 9), over));
    assert_eq!(Duration::ZERO, allocation.remaining(over));

    let mismatch = ErrorCode::AllocationMismatch;
    let refreshed = allocation.refresh(&refresh(None), over);
    assert_eq!(Err(mismatch), refreshed.map_err(|error| error.code()));
    let created = allocation.create_permissions(&[peer(1, 0)], over);
    assert_eq!(Err(mismatch), created.map_err(|error| error.code()));
    let bound = allocation.bind_channel(channel(0x4000), peer(1, 9), over);
    assert_eq!(Err(mismatch), bound.map_err(|error| error.code()));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
//= type=test
//# If the "desired lifetime" is non-zero, then the request succeeds
//# and the allocation's time-to-expiry is set to the "desired
//# lifetime".
#[test]
fn a_refresh_counts_from_when_it_comes() {
    let mut allocation = allocation();

    let refreshed = allocation.refresh(&refresh(Some(1200)), at(599));

    assert_eq!(Ok(Refreshed::Until(secs(1200))), refreshed);
    assert_eq!(secs(1200), allocation.remaining(at(599)));
    assert_eq!(Some(at(1799)), allocation.poll_timeout());
    assert!(allocation.is_live(at(1798)));
    assert!(!allocation.is_live(at(1799)));
}

#[test]
fn a_refresh_may_shorten_the_lifetime() {
    let mut allocation = allocation();
    let longer = allocation.refresh(&refresh(Some(3600)), at(0));
    let shorter = allocation.refresh(&refresh(Some(5)), at(1));

    assert_eq!(Ok(Refreshed::Until(secs(3600))), longer);
    assert_eq!(Ok(Refreshed::Until(secs(600))), shorter);
    assert_eq!(Some(at(601)), allocation.poll_timeout());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
//= type=test
//# If the "desired lifetime" is zero, then the request succeeds and
//# the allocation is deleted.
#[test]
fn a_refresh_of_zero_deletes_at_once() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(1)).expect("there is room");

    assert_eq!(Ok(Refreshed::Deleted), allocation.refresh(&refresh(Some(0)), at(1)));

    assert!(!allocation.is_live(at(1)));
    assert_eq!(None, allocation.poll_timeout());
    assert_eq!(Err(DropReason::NoAllocation), allocation.from_peer(peer(1, 9), at(1)));
    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, at(1000)));
    assert_eq!(Err(RefreshError::NoAllocation), allocation.refresh(&refresh(Some(0)), at(1)));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
//= type=test
//# If the server receives a Refresh Request with a REQUESTED-ADDRESS-
//# FAMILY attribute and the attribute value does not match the address
//# family of the allocation, the server MUST reply with a 443 (Peer
//# Address Family Mismatch) Refresh error response.
#[test]
fn a_refresh_of_the_other_family_is_a_mismatch() {
    let mut allocation = allocation();
    let of_v6 = RefreshRequest { lifetime: Some(secs(0)), family: Some(Family::V6) };
    let of_v4 = RefreshRequest { lifetime: Some(secs(700)), family: Some(Family::V4) };

    let mismatch = allocation.refresh(&of_v6, at(1));

    assert_eq!(Err(RefreshError::FamilyMismatch), mismatch);
    assert_eq!(ErrorCode::PeerAddressFamilyMismatch, RefreshError::FamilyMismatch.code());
    assert_eq!(Ok(Refreshed::Until(secs(700))), allocation.refresh(&of_v4, at(1)));
}

#[test]
fn the_terms_may_grant_other_lifetimes() {
    let lifetimes = Lifetimes {
        allocation: secs(60),
        allocation_max: secs(90),
        permission: secs(10),
        channel: secs(20),
    };
    let terms = Terms { lifetimes, ..super::terms() };
    let relays = Relays { v4: Some(Relay { ..super::relay_v4() }), v6: None };
    let mut allocation = Allocation::new(terms.into(), relays, secs(60), at(0));
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    let ended = effects(&mut allocation, at(59));
    let refreshed = allocation.refresh(&refresh(Some(100)), at(59));

    let ip = peer(1, 9).0.ip();
    let channel = Effect::ChannelExpired(channel(0x4000), peer(1, 9));
    assert_eq!(vec![Effect::PermissionExpired(ip), channel], ended);
    assert_eq!(Ok(Refreshed::Until(secs(90))), refreshed);
}
