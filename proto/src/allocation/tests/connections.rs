//! TCP connections with peers: who may have one, when, and until when (RFC 6062 §5).

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::address::Family;
use crate::allocation::{ChannelBindError, ConnectError, ConnectionBindError};
use crate::drops::DropReason;
use crate::request::RefreshRequest;
use crate::stun::{ConnectionId, ErrorCode};

const ONE: ConnectionId = ConnectionId(1);
const TWO: ConnectionId = ConnectionId(2);

/// The moment before `seconds`.
fn before(seconds: u64) -> std::time::Instant {
    at(seconds) - Duration::from_nanos(1)
}

//= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
//= type=test
//# The timeout value MUST be at least 30 seconds.
#[test]
fn a_peer_has_thirty_seconds_to_answer() {
    for (answers_at, in_time) in [(before(40), true), (at(40), false)] {
        let mut allocation = tcp();
        assert_eq!(Ok(peer(1, 80)), allocation.connect(peer(1, 80), ONE, at(10)));
        assert_eq!(Some(at(40)), allocation.poll_timeout());

        assert_eq!(in_time, allocation.connected(ONE, answers_at));
    }
    let mut allocation = tcp();
    allocation.connect(peer(1, 80), ONE, at(10)).expect("allowed");
    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, before(40)));
    assert!(allocation.has_connection(ONE));
    let over = vec![Effect::ConnectionClosed(ONE, peer(1, 80))];
    assert_eq!(over, effects(&mut allocation, at(40)));
    assert!(!allocation.has_connection(ONE));
    assert_eq!(Some(at(600)), allocation.poll_timeout());
}

#[test]
fn a_client_has_thirty_seconds_to_bind() {
    let mut waiting = tcp();
    waiting.connect(peer(1, 80), ONE, at(0)).expect("allowed");
    assert!(waiting.connected(ONE, at(5)));
    waiting.create_permissions(&[peer(2, 0)], at(0)).expect("allowed");
    assert_eq!(Ok(peer(2, 80)), waiting.accept(peer(2, 80), TWO, at(6)));
    assert_eq!(Vec::<Effect>::new(), effects(&mut waiting, before(35)));
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# If no ConnectionBind request associated with this peer data
    //# connection is received after 30 seconds, the peer data connection
    //# MUST be closed.
    let over = vec![Effect::ConnectionClosed(ONE, peer(1, 80))];
    assert_eq!(over, effects(&mut waiting, at(35)));
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
    //= type=test
    //# If no ConnectionBind request associated with this peer data
    //# connection is received after 30 seconds, the peer data connection
    //# MUST be closed.
    let over = vec![Effect::ConnectionClosed(TWO, peer(2, 80))];
    assert_eq!(over, effects(&mut waiting, at(36)));

    for (binds_at, wanted) in [(before(30), Ok(())), (at(30), Err(ConnectionBindError::NotPending))]
    {
        let mut allocation = tcp();
        allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");
        assert!(allocation.connected(ONE, at(0)));
        assert_eq!(wanted, allocation.bind_connection(ONE, binds_at));
    }
}

#[test]
fn a_bound_connection_lasts_as_long_as_the_allocation() {
    let mut allocation = tcp();
    allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");
    assert!(allocation.connected(ONE, at(0)));
    assert_eq!(Ok(()), allocation.bind_connection(ONE, at(1)));

    assert_eq!(Vec::<Effect>::new(), effects(&mut allocation, before(600)));
    assert!(allocation.has_connection(ONE));
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
    //= type=test
    //# If the allocation associated with a data connection expires, the data
    //# connection MUST be closed.
    assert_eq!(vec![Effect::Expired], effects(&mut allocation, at(600)));
    assert!(!allocation.has_connection(ONE));
}

#[test]
fn only_what_waits_can_be_bound_and_once() {
    let not_pending = Err(ConnectionBindError::NotPending);
    let mut allocation = tcp();
    assert_eq!(not_pending, allocation.bind_connection(ONE, at(0)));
    allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");
    assert_eq!(not_pending, allocation.bind_connection(ONE, at(0)));
    assert!(allocation.connected(ONE, at(0)));
    assert_eq!(not_pending, allocation.bind_connection(TWO, at(0)));

    assert_eq!(Ok(()), allocation.bind_connection(ONE, at(0)));

    assert_eq!(not_pending, allocation.bind_connection(ONE, at(0)));
    allocation.connection_ended(ONE);
    assert_eq!(not_pending, allocation.bind_connection(ONE, at(0)));
    assert_eq!(ErrorCode::BadRequest, ConnectionBindError::NotPending.code());
    assert_eq!(ErrorCode::WrongCredentials, ConnectionBindError::WrongUser.code());
}

#[test]
fn a_peer_has_one_connection() {
    let exists = Err(ConnectError::Exists);
    let mut allocation = tcp();
    allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# If the server is currently processing a Connect request for this
    //# allocation with the same XOR-PEER-ADDRESS, it MUST return a 446
    //# (Connection Already Exists) error.
    assert_eq!(exists, allocation.connect(peer(1, 80), TWO, at(1)));
    assert!(allocation.connected(ONE, at(1)));
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# If the server has already successfully processed a Connect request
    //# for this allocation with the same XOR-PEER-ADDRESS, and the resulting
    //# client and peer data connections are either pending or active, it
    //# MUST return a 446 (Connection Already Exists) error.
    assert_eq!(exists, allocation.connect(peer(1, 80), TWO, at(1)));
    assert_eq!(Ok(()), allocation.bind_connection(ONE, at(1)));
    assert_eq!(exists, allocation.connect(peer(1, 80), TWO, at(1)));
    assert_eq!(ErrorCode::ConnectionAlreadyExists, ConnectError::Exists.code());

    assert_eq!(Ok(peer(1, 81)), allocation.connect(peer(1, 81), TWO, at(1)));
    allocation.connection_ended(ONE);
    assert_eq!(Ok(peer(1, 80)), allocation.connect(peer(1, 80), ONE, at(1)));
}

#[test]
fn a_peer_that_did_not_answer_may_be_tried_again() {
    let mut allocation = tcp();
    allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");

    assert_eq!(Err(ConnectError::Exists), allocation.connect(peer(1, 80), TWO, before(30)));
    assert_eq!(Ok(peer(1, 80)), allocation.connect(peer(1, 80), TWO, at(30)));
}

#[test]
fn a_connect_is_refused_for_one_reason_each() {
    let denied = PeerAddr("127.0.0.1:80".parse().expect("an address"));
    let refused = |mut allocation: Allocation, peer, now| {
        allocation.connect(peer, ONE, now).expect_err("refused").code()
    };
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# If the request is received on a TCP connection for which no
    //# allocation exists, the server MUST return a 437 (Allocation Mismatch)
    //# error.
    assert_eq!(ErrorCode::AllocationMismatch, refused(tcp(), peer(1, 80), at(600)));
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# If the new connection is forbidden by local policy, the server MUST
    //# reject the request with a 403 (Forbidden) error.
    assert_eq!(ErrorCode::Forbidden, refused(tcp(), denied, at(0)));
    assert_eq!(ErrorCode::Forbidden, refused(allocation(), peer(1, 80), at(0)));
    assert_eq!(ErrorCode::PeerAddressFamilyMismatch, refused(tcp(), peer6(1, 80), at(0)));
    assert_eq!(ErrorCode::ConnectionTimeoutOrFailure, ConnectError::Failed.code());
}

#[test]
fn connections_have_a_limit_on_either_way() {
    let mut allocation = tcp();
    allocation.create_permissions(&[peer(9, 0)], at(0)).expect("allowed");
    for number in 0..3 {
        let id = ConnectionId(u32::from(number));
        allocation.connect(peer(1, 80 + number), id, at(0)).expect("there is room");
    }
    let (full, id) = (Err(ConnectError::Full), ConnectionId(9));
    assert_eq!(full, allocation.connect(peer(9, 80), id, at(0)));
    assert_eq!(ErrorCode::InsufficientCapacity, ConnectError::Full.code());
    let full = Err(DropReason::PeerConnectionsFull);
    assert_eq!(full, allocation.accept(peer(9, 80), id, at(0)));

    allocation.connection_ended(ONE);
    assert_eq!(Ok(peer(9, 80)), allocation.accept(peer(9, 80), id, at(0)));
    assert_eq!(3, allocation.connection_count());
}

#[test]
fn a_permission_guards_the_way_in_and_not_the_way_out() {
    let mut allocation = tcp();
    assert_eq!(Ok(peer(1, 80)), allocation.connect(peer(1, 80), ONE, at(0)));
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
    //= type=test
    //# If no permission for this peer has been installed for this
    //# allocation, the server MUST close the connection with the peer
    //# immediately after it has been accepted.
    let no_permission = Err(DropReason::NoPermission);
    assert_eq!(no_permission, allocation.accept(peer(2, 80), TWO, at(0)));
    allocation.create_permissions(&[peer(2, 0)], at(0)).expect("allowed");

    assert_eq!(Ok(()), allocation.check_accepted(peer(2, 80), before(300)));
    assert_eq!(no_permission, allocation.accept(peer(2, 80), TWO, at(300)));
}

#[test]
fn an_accepted_peer_is_judged_by_the_rules() {
    let mut allocation = tcp();
    let relay = PeerAddr("10.0.0.1:50001".parse().expect("an address"));
    let own = PeerAddr("10.0.0.1:3478".parse().expect("an address"));
    allocation.create_permissions(&[relay], at(0)).expect("allowed");

    assert_eq!(Err(DropReason::PeerDenied), allocation.accept(own, ONE, at(0)));
    // The client knows another relay of this server by its public address.
    let known = PeerAddr("203.0.113.1:50001".parse().expect("an address"));
    assert_eq!(Ok(known), allocation.accept(relay, ONE, at(0)));
    assert_eq!(Err(ConnectError::Exists), allocation.connect(known, TWO, at(0)));
}

#[test]
fn the_permission_of_a_connection_may_lapse() {
    let mut allocation = tcp();
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("allowed");
    allocation.accept(peer(1, 80), ONE, at(290)).expect("permitted");

    let lapsed = vec![Effect::PermissionExpired(v4(1))];
    assert_eq!(lapsed, effects(&mut allocation, at(300)));
    assert_eq!(Ok(()), allocation.bind_connection(ONE, at(310)));
}

#[test]
fn the_end_of_a_family_is_the_end_of_its_connections() {
    let mut allocation = dual_tcp();
    allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");
    allocation.connect(peer6(1, 80), TWO, at(0)).expect("allowed");
    let v4_over = RefreshRequest { lifetime: Some(secs(0)), family: Some(Family::V4) };

    allocation.refresh(&v4_over, at(1)).expect("it has an IPv4 address");

    assert!(!allocation.has_connection(ONE) && allocation.has_connection(TWO));
    allocation.refresh(&refresh(Some(0)), at(2)).expect("it lives");
    assert_eq!(0, allocation.connection_count());
    assert_eq!(None, allocation.poll_timeout());
}

#[test]
fn rules_that_refuse_a_peer_end_its_connection() {
    let mut allocation = tcp();
    allocation.connect(peer(1, 80), ONE, at(0)).expect("allowed");
    allocation.connect(peer(200, 80), TWO, at(0)).expect("allowed");
    let denied = ["198.51.100.0/25".parse().expect("a network")];

    allocation.set_terms(Arc::new(Terms { rules: rules(&denied), ..terms() }), at(1));

    let closed = vec![Effect::ConnectionClosed(ONE, peer(1, 80))];
    assert_eq!(closed, effects(&mut allocation, at(1)));
    assert!(allocation.has_connection(TWO));
}

#[test]
fn a_tcp_allocation_has_neither_channels_nor_datagrams() {
    let mut allocation = tcp();
    let refused = allocation.bind_channel(channel(0x4000), peer(1, 80), at(0));
    assert_eq!(Err(ChannelBindError::TcpAllocation), refused);
    assert_eq!(ErrorCode::Forbidden, ChannelBindError::TcpAllocation.code());
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("allowed");
    let dropped = allocation.indication_peer(peer(1, 80), at(0));
    assert_eq!(Err(DropReason::TcpAllocation), dropped);
}
