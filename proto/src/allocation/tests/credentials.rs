//! What an allocation has of its user: an end that comes with the credential's, and peers.

use std::collections::HashMap;
use std::sync::Arc;

use super::{allocation, at, channel, dual, effects, peer, refresh, rules, secs, terms};
use crate::account::{Account, CredentialKind, ExpiryPolicy};
use crate::address::Family;
use crate::allocation::{
    Allocation, ChannelBindError, CreatePermissionError, Effect, Refreshed, Terms,
};
use crate::peer_rules::{Denied, Layer, PeerLists};

fn account() -> Account {
    Account::lasting("r".into(), "u".into())
}

fn of(account: Account) -> Allocation {
    allocation().belonging_to(Arc::new(account), None)
}

fn ending(seconds: u64) -> Allocation {
    allocation().belonging_to(Arc::new(account()), Some(at(seconds)))
}

fn deny(network: &str) -> Arc<PeerLists> {
    let deny = vec![network.parse().expect("a network")];
    Arc::new(PeerLists { allow: Vec::new(), deny })
}

#[test]
fn which_credentials_end_an_allocation_is_the_policys_to_say() {
    let mut account = account();
    account.expires = Some(at(100));
    for (policy, ends) in [
        (ExpiryPolicy::Allocate, None),
        (ExpiryPolicy::Refresh, None),
        (ExpiryPolicy::Strict, Some(at(100))),
    ] {
        account.credential = CredentialKind::TimeLimited;
        assert_eq!(ends, account.allocation_ends(policy), "{policy:?}");
        account.credential = CredentialKind::AccessToken;
        assert_eq!(Some(at(100)), account.allocation_ends(policy), "{policy:?}");
    }
    assert!(!account.is_expired(at(99)) && account.is_expired(at(100)));
    account.expires = None;
    assert_eq!(None, account.allocation_ends(ExpiryPolicy::Strict));
}

#[test]
fn an_allocation_ends_with_its_credential_and_says_so() {
    let mut allocation = ending(200);
    allocation.create_permissions(&[peer(1, 0)], at(0)).expect("there is room");

    assert_eq!(
        (Some(at(200)), secs(200)),
        (allocation.poll_timeout(), allocation.remaining(at(0)))
    );
    assert!(allocation.from_peer(peer(1, 9), at(199)).is_ok());
    assert!(allocation.from_peer(peer(1, 9), at(200)).is_err());
    assert_eq!(vec![Effect::CredentialExpired], effects(&mut allocation, at(200)));
    assert_eq!(None, allocation.poll_timeout());
}

#[test]
fn a_refresh_gives_no_more_than_the_credential_has_left() {
    let mut allocation = ending(1000);

    assert_eq!(Ok(Refreshed::Until(secs(700))), allocation.refresh(&refresh(Some(700)), at(100)));
    assert_eq!(Ok(Refreshed::Until(secs(800))), allocation.refresh(&refresh(Some(3600)), at(200)));
    assert_eq!(vec![Effect::CredentialExpired], effects(&mut allocation, at(1000)));
}

#[test]
fn a_lifetime_that_ends_before_the_credential_is_an_end_like_any_other() {
    assert_eq!(vec![Effect::Expired], effects(&mut ending(601), at(601)));
}

#[test]
fn a_newer_credential_moves_the_end() {
    let mut allocation = ending(200);
    allocation.end_by(Some(at(2000)));
    assert_eq!(Ok(Refreshed::Until(secs(600))), allocation.refresh(&refresh(None), at(100)));
    allocation.end_by(None);
    assert_eq!(Ok(Refreshed::Until(secs(3600))), allocation.refresh(&refresh(Some(3600)), at(100)));
    // And one that is over already ends it at once.
    allocation.end_by(Some(at(50)));
    assert_eq!(vec![Effect::CredentialExpired], effects(&mut allocation, at(100)));
}

#[test]
fn both_halves_end_with_the_credential() {
    let mut allocation = dual().belonging_to(Arc::new(account()), Some(at(100)));
    let ended = vec![Effect::RelayExpired(Family::V4), Effect::CredentialExpired];
    assert_eq!(ended, effects(&mut allocation, at(100)));
}

#[test]
fn peers_of_the_user_and_its_realm_count_besides_the_servers() {
    let network = |layer, text: &str| Denied::Listed(layer, text.parse().expect("a network"));
    let user = Account { peers: Some(deny("198.51.100.2/32")), ..account() };
    let mut mine = of(user);

    let rule = network(Layer::User, "198.51.100.2/32");
    let ip = peer(2, 0).0.ip();
    let refused = Err(CreatePermissionError::Forbidden { peer: ip, rule });
    assert_eq!(refused, mine.create_permissions(&[peer(1, 0), peer(2, 0)], at(0)));
    let refused = Err(ChannelBindError::Forbidden(rule));
    assert_eq!(refused, mine.bind_channel(channel(0x4000), peer(2, 9), at(0)));
    assert_eq!(Ok(()), of(account()).create_permissions(&[peer(2, 0)], at(0)));
}

#[test]
fn what_a_change_of_the_realms_peers_refuses_ends_at_once() {
    let of_realm = |name: &str, lists| {
        let realm_peers = HashMap::from([(name.into(), lists)]);
        Arc::new(Terms { realm_peers, rules: rules(&[]), ..terms() })
    };
    let mut allocation = of(account());
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    allocation.set_terms(of_realm("other", deny("198.51.100.1/32")), at(1));
    assert!(allocation.channel_peer(channel(0x4000), at(1)).is_ok());

    allocation.set_terms(of_realm("r", deny("198.51.100.1/32")), at(2));
    let ended: Vec<Effect> = std::iter::from_fn(|| allocation.poll_effect()).collect();
    let channel_ended = Effect::ChannelExpired(channel(0x4000), peer(1, 9));
    assert_eq!(vec![Effect::PermissionExpired(peer(1, 9).0.ip()), channel_ended], ended);
    let rule = Denied::Listed(Layer::Realm, "198.51.100.1/32".parse().expect("a network"));
    let refused = Err(ChannelBindError::Forbidden(rule));
    assert_eq!(refused, allocation.bind_channel(channel(0x4000), peer(1, 9), at(3)));
}
