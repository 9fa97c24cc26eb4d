//! Permissions (RFC 8656 §9 and §10).

use super::{allocation, at, channel, effects, peer, peer6, refresh, roomy, v4};
use crate::address::PeerAddr;
use crate::allocation::{CreatePermissionError, Effect};
use crate::drops::DropReason;
use crate::peer_rules::Denied;
use crate::stun::ErrorCode;

//= https://www.rfc-editor.org/rfc/rfc8656#section-9
//= type=test
//# The Permission Lifetime MUST be 300 seconds (= 5 minutes).
#[test]
fn a_permission_expires_after_five_minutes() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(10)).expect("there is room");

    assert!(allocation.from_peer(peer(1, 9), at(309)).is_ok());
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(310)));

    assert_eq!(Some(at(310)), allocation.poll_timeout());
    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, at(309)));
    assert_eq!(vec![Effect::PermissionExpired(v4(1))], effects(&mut allocation, at(310)));
    assert_eq!(0, allocation.permission_count());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-9
//= type=test
//# If a permission for that IP address already exists, then the time-
//# to-expiry for that permission is reset to Permission Lifetime.
#[test]
fn a_permission_is_refreshed_by_either_request() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("there is room");
    allocation.create_permissions(&[peer(1, 7)], at(200)).expect("it is refreshed");
    assert_eq!(Ok(peer(1, 9)), allocation.indication_peer(peer(1, 9), at(499)));

    allocation.bind_channel(channel(0x4000), peer(1, 5), at(400)).expect("there is room");

    assert_eq!(Ok(peer(1, 9)), allocation.indication_peer(peer(1, 9), at(599)));
    assert_eq!(1, allocation.permission_count());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-9
//= type=test
//# Note that only addresses are compared and port numbers
//# are not considered.
#[test]
fn a_permission_covers_every_port_of_its_address_and_no_other_address() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 1000)], at(0)).expect("there is room");

    for port in [1, 1000, 65_535] {
        assert!(allocation.from_peer(peer(1, port), at(1)).is_ok(), "{port}");
        assert!(allocation.indication_peer(peer(1, port), at(1)).is_ok(), "{port}");
    }
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(2, 1000), at(1)));
    assert_eq!(Err(DropReason::NoPermission), allocation.indication_peer(peer(2, 1000), at(1)));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
//= type=test
//# Note that a Send
//# indication never causes the server to refresh the permission.
#[test]
fn data_refreshes_no_permission() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("there is room");

    assert!(allocation.indication_peer(peer(1, 9), at(299)).is_ok());
    assert!(allocation.from_peer(peer(1, 9), at(299)).is_ok());

    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(300)));
}

#[test]
fn an_address_named_twice_is_one_permission() {
    let mut allocation = roomy(2, 0);

    let created = allocation.create_permissions(&[peer(1, 1), peer(1, 2), peer(2, 1)], at(0));

    assert_eq!(Ok(()), created);
    assert_eq!(2, allocation.permission_count());
}

/// A request that fails leaves every permission as it was: none more, and none refreshed.
fn fails_as_a_whole(peers: &[PeerAddr], code: ErrorCode) {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("there is room");

    let refused = allocation.create_permissions(peers, at(100));

    assert_eq!(Err(code), refused.map_err(|error| error.code()), "{peers:?}");
    assert_eq!(1, allocation.permission_count(), "{peers:?}");
    assert!(allocation.from_peer(peer(1, 9), at(299)).is_ok(), "{peers:?}");
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(300)));
}

#[test]
fn a_request_with_one_bad_peer_creates_nothing() {
    let loopback = PeerAddr("127.0.0.1:1".parse().expect("an address"));

    fails_as_a_whole(&[peer(1, 0), peer(2, 0), peer6(3, 0)], ErrorCode::PeerAddressFamilyMismatch);
    fails_as_a_whole(&[peer(1, 0), loopback, peer(2, 0)], ErrorCode::Forbidden);
    // The family is looked at before the rules, the rules before the room.
    fails_as_a_whole(&[loopback, peer6(3, 0)], ErrorCode::PeerAddressFamilyMismatch);
    let many = [peer(2, 0), peer(3, 0), peer(4, 0), loopback];
    fails_as_a_whole(&many, ErrorCode::Forbidden);
    fails_as_a_whole(
        &[peer(1, 0), peer(2, 0), peer(3, 0), peer(4, 0)],
        ErrorCode::InsufficientCapacity,
    );
}

#[test]
fn a_refusal_says_which_rule_it_was() {
    let mut allocation = allocation();
    let metadata = PeerAddr("169.254.169.254:80".parse().expect("an address"));

    let refused = allocation.create_permissions(&[metadata], at(0));

    let rule = Denied::BuiltIn("link-local");
    let error = CreatePermissionError::Forbidden { peer: metadata.0.ip(), rule };
    assert_eq!(Err(error), refused);
    assert_eq!("peer refused by built-in: link-local", error.to_string());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
//= type=test
//# If the request is valid, but the server is unable to
//# satisfy the request due to some capacity limit or similar, then a 508
//# (Insufficient Capacity) error is returned.
#[test]
fn a_full_allocation_refreshes_but_adds_nothing() {
    let mut allocation = roomy(2, 2);
    allocation.create_permissions(&[peer(1, 0), peer(2, 0)], at(0)).expect("there is room");

    assert_eq!(
        Err(CreatePermissionError::Full),
        allocation.create_permissions(&[peer(3, 0)], at(1))
    );
    assert_eq!(Ok(()), allocation.create_permissions(&[peer(2, 0), peer(1, 0)], at(1)));

    // What has expired makes room, swept or not.
    assert_eq!(Ok(()), allocation.create_permissions(&[peer(3, 0), peer(4, 0)], at(301)));
    assert_eq!(2, allocation.permission_count());
}

#[test]
fn permissions_outlive_a_refresh_of_the_allocation() {
    let mut allocation = allocation();
    allocation.create_permissions(&[peer(1, 0)], at(550)).expect("there is room");
    allocation.refresh(&refresh(None), at(590)).expect("it is live");

    assert!(allocation.from_peer(peer(1, 9), at(849)).is_ok());
    assert_eq!(vec![Effect::PermissionExpired(v4(1))], effects(&mut allocation, at(850)));
}
