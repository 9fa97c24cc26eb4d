//! A change of the terms while an allocation lives.

use std::sync::Arc;

use super::{allocation, at, channel, effects, peer, refresh, rules, secs, terms, v4};
use crate::allocation::{
    ChannelBindError, CreatePermissionError, Effect, Lifetimes, Refreshed, Terms,
};
use crate::drops::DropReason;

fn deny(network: &str) -> Arc<Terms> {
    let network = network.parse().expect("the test writes valid networks");
    Arc::new(Terms { rules: rules(&[network]), ..terms() })
}

#[test]
fn what_the_new_rules_refuse_ends_at_once() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    allocation.bind_channel(channel(0x4001), peer(2, 9), at(0)).expect("there is room");
    allocation.create_permissions(&[peer(3, 0)], at(0)).expect("there is room");

    allocation.set_terms(deny("198.51.100.1/32"), at(10));

    let ended: Vec<Effect> = std::iter::from_fn(|| allocation.poll_effect()).collect();
    let channel_ended = Effect::ChannelExpired(channel(0x4000), peer(1, 9));
    assert_eq!(vec![Effect::PermissionExpired(v4(1)), channel_ended], ended);
    let dropped = allocation.channel_peer(channel(0x4000), at(10));
    assert_eq!(Err(DropReason::UnboundChannel), dropped);
    assert_eq!(Err(DropReason::NoPermission), allocation.from_peer(peer(1, 9), at(10)));
    assert!(allocation.channel_peer(channel(0x4001), at(10)).is_ok());
    assert!(allocation.from_peer(peer(3, 9), at(10)).is_ok());
    assert_eq!((2, 1), (allocation.permission_count(), allocation.channel_count()));
}

#[test]
fn a_pair_that_was_ended_by_the_rules_is_remembered_like_an_expired_one() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    allocation.set_terms(deny("198.51.100.1/32"), at(10));

    let forbidden = allocation.bind_channel(channel(0x4000), peer(1, 9), at(11));
    assert!(matches!(forbidden, Err(ChannelBindError::Forbidden(_))), "{forbidden:?}");
    let other = allocation.bind_channel(channel(0x4000), peer(2, 9), at(309));
    assert_eq!(Err(ChannelBindError::NumberInUse), other);
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4000), peer(2, 9), at(310)));
}

#[test]
fn lower_limits_end_nothing_and_admit_nothing() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");
    allocation.bind_channel(channel(0x4001), peer(2, 9), at(0)).expect("there is room");

    let small = Terms { permissions_max: 1, channels_max: 1, ..terms() };
    allocation.set_terms(Arc::new(small), at(10));

    assert_eq!((2, 2), (allocation.permission_count(), allocation.channel_count()));
    assert_eq!(Ok(()), allocation.bind_channel(channel(0x4000), peer(1, 9), at(10)));
    assert_eq!(Ok(()), allocation.create_permissions(&[peer(1, 0), peer(2, 0)], at(10)));
    let more = allocation.create_permissions(&[peer(3, 0)], at(10));
    assert_eq!(Err(CreatePermissionError::Full), more);
    let more = allocation.bind_channel(channel(0x4002), peer(1, 10), at(10));
    assert_eq!(Err(ChannelBindError::ChannelsFull), more);
}

#[test]
fn other_lifetimes_hold_from_the_next_request_on() {
    let mut allocation = allocation();
    let lifetimes = Lifetimes { allocation_max: secs(700), ..Lifetimes::default() };

    allocation.set_terms(Arc::new(Terms { lifetimes, ..terms() }), at(10));

    assert_eq!(Some(at(600)), allocation.poll_timeout());
    let refreshed = allocation.refresh(&refresh(Some(3600)), at(20));
    assert_eq!(Ok(Refreshed::Until(secs(700))), refreshed);
    assert_eq!(secs(700), allocation.terms().lifetimes.allocation_max);
}

#[test]
fn a_change_after_the_end_reports_the_end_and_nothing_else() {
    let mut allocation = allocation();
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(500)).expect("there is room");

    allocation.set_terms(deny("198.51.100.1/32"), at(600));

    assert_eq!(vec![Effect::Expired], effects(&mut allocation, at(600)));
    assert_eq!(None, allocation.poll_timeout());
}
