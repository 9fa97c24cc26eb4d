//! Dual allocations: one relayed transport address of each family, each with its own time.

use super::{at, channel, dual, effects, peer, peer6, relay_v4, relay_v6, secs, v4, v6};
use crate::address::Family;
use crate::allocation::{Effect, Inbound, Refreshed, Relays};
use crate::drops::DropReason;
use crate::request::RefreshRequest;

fn refresh(lifetime: u64, family: Family) -> RefreshRequest {
    RefreshRequest { lifetime: Some(secs(lifetime)), family: Some(family) }
}

#[test]
fn each_family_is_relayed_by_its_own_address() {
    let mut allocation = dual();
    allocation.create_permissions(&[peer(1, 0), peer6(1, 0)], at(0)).expect("there is room");
    allocation.bind_channel(channel(0x4000), peer6(1, 9), at(0)).expect("there is room");

    assert_eq!(Relays { v4: Some(relay_v4()), v6: Some(relay_v6()) }, allocation.relays());
    assert_eq!(Some(relay_v6()), allocation.relays().of(Family::V6));
    assert_eq!(Ok(Inbound::Indication(peer(1, 9))), allocation.from_peer(peer(1, 9), at(1)));
    assert_eq!(Ok(Inbound::Channel(channel(0x4000))), allocation.from_peer(peer6(1, 9), at(1)));
    assert_eq!(2, allocation.permission_count());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-8.1
//= type=test
//# Deleting a single
//# allocation destroys any permissions or channels associated with that
//# particular allocation; it MUST NOT affect any permissions or channels
//# associated with allocations for the other address family.
#[test]
fn one_family_is_deleted_without_the_other() {
    let mut allocation = dual();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    allocation.bind_channel(channel(0x4001), peer6(1, 9), at(0)).expect("there is room");

    let deleted = allocation.refresh(&refresh(0, Family::V6), at(1));

    assert_eq!(Ok(Refreshed::RelayDeleted(Family::V6)), deleted);
    assert_eq!(Relays { v4: Some(relay_v4()), v6: None }, allocation.relays());
    assert_eq!((1, 1), (allocation.permission_count(), allocation.channel_count()));
    assert_eq!(Ok(peer(1, 9)), allocation.channel_peer(channel(0x4000), at(1)));
    let gone = allocation.channel_peer(channel(0x4001), at(1));
    assert_eq!(Err(DropReason::UnboundChannel), gone);
    assert_eq!(Err(DropReason::PeerFamily), allocation.from_peer(peer6(1, 9), at(1)));
    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, at(1)));

    assert!(allocation.refresh(&refresh(600, Family::V6), at(1)).is_err());
    assert_eq!(Ok(Refreshed::Deleted), allocation.refresh(&refresh(0, Family::V4), at(1)));
    assert!(!allocation.is_live(at(1)));
}

#[test]
fn a_refresh_that_names_no_family_is_for_both() {
    let mut allocation = dual();
    let both = RefreshRequest { lifetime: Some(secs(1000)), family: None };

    assert_eq!(Ok(Refreshed::Until(secs(1000))), allocation.refresh(&both, at(10)));
    assert_eq!(Some(at(1010)), allocation.poll_timeout());
    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, at(1009)));
    assert_eq!(
        vec![Effect::RelayExpired(Family::V4), Effect::Expired],
        effects(&mut allocation, at(1010))
    );

    let mut allocation = dual();
    let delete = RefreshRequest { lifetime: Some(secs(0)), family: None };
    assert_eq!(Ok(Refreshed::Deleted), allocation.refresh(&delete, at(10)));
    assert_eq!(Relays::default(), allocation.relays());
}

#[test]
fn the_families_expire_each_at_its_time() {
    let mut allocation = dual();
    allocation.create_permissions(&[peer(1, 0), peer6(1, 0)], at(590)).expect("there is room");

    allocation.refresh(&refresh(700, Family::V4), at(300)).expect("it is live");

    assert_eq!(secs(400), allocation.remaining(at(600)));
    // Before anything is swept, the half that is over relays nothing.
    assert_eq!(Err(DropReason::PeerFamily), allocation.from_peer(peer6(1, 9), at(600)));
    assert!(allocation.from_peer(peer(1, 9), at(600)).is_ok());
    assert_eq!(vec![Effect::RelayExpired(Family::V6)], effects(&mut allocation, at(600)));
    assert_eq!(1, allocation.permission_count());

    assert_eq!(vec![Effect::PermissionExpired(v4(1))], effects(&mut allocation, at(999)));
    assert_eq!(vec![Effect::Expired], effects(&mut allocation, at(1000)));
}

#[test]
fn a_late_sweep_reports_in_the_order_of_time() {
    let mut allocation = dual();
    allocation.create_permissions(&[peer6(1, 0)], at(100)).expect("there is room");
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("there is room");
    allocation.refresh(&refresh(900, Family::V4), at(300)).expect("it is live");
    allocation.bind_channel(channel(0x4000), peer(2, 9), at(320)).expect("there is room");

    let ended = effects(&mut allocation, at(5000));

    assert_eq!(
        vec![
            Effect::PermissionExpired(v4(1)),
            Effect::PermissionExpired(v6(1)),
            Effect::RelayExpired(Family::V6),
            Effect::PermissionExpired(v4(2)),
            Effect::ChannelExpired(channel(0x4000), peer(2, 9)),
            Effect::Expired,
        ],
        ended
    );
}
