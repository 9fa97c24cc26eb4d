//! Another policy while the server runs.

use sterna_actors::config::Listen;
use sterna_actors::policy::{Policy, Realm, UserSecret};
use sterna_actors::policy_keeper::{self, SetPolicy};
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::stun::{AttributeType, Method};

use crate::kit::{
    Call, Client, REALM, Serving, UDP, User, ask, config, inject, ip, raws, request, serve,
};

fn set_policy(server: &Serving, policy: Policy) {
    ask(&server.policy, SetPolicy(policy));
}

fn call_of(server: &Serving, user: User) -> Call {
    let mut client = Client::new(server.v4()).is(user);
    let relayed = client.allocate();
    Call::with(client, relayed)
}

fn users(users: &[(&str, &str)]) -> Realm {
    let user = |&(name, password): &(&str, &str)| {
        (name.to_owned(), UserSecret::Password(password.to_owned()))
    };
    Realm::of_users(REALM, users.iter().map(user).collect())
}

fn with(realm: Realm) -> Policy {
    Policy { realms: vec![realm], ..config().policy }
}

#[test]
fn a_user_who_is_removed_is_refused_while_another_s_call_goes_on() {
    let server = serve(config());
    let mut bob = call_of(&server, User::bob());
    let mut alice = Call::through(server.v4());
    let mut late = Client::new(server.v4());
    late.knock();

    set_policy(&server, with(users(&[("bob", "tern"), ("carol", "lark")])));

    assert_eq!(401, late.ask(Method::ALLOCATE, raws(&[UDP])).code());
    bob.goes_on();
    // The nonces of before are good: nobody is asked to come again.
    let refresh = bob.client.signed(Method::REFRESH, |_| {});
    assert_eq!(0, bob.client.exchange(&refresh).code());
    call_of(&server, User::named("carol", "lark")).goes_on();
    // Her allocation ends by itself, within a second.
    server.wait_for(|counters| counters.allocations == 2);
    assert_ne!(0, alice.client.ask(Method::REFRESH, |_| {}).code());
    assert!(server.log.have("credential is gone or was changed: its sessions end"));
    bob.goes_on();
}

#[test]
fn other_password_algorithms_are_learnt_with_a_fresh_nonce() {
    let server = serve(config());
    let sha256 = Some(PasswordAlgorithm::Sha256);
    let mut call = call_of(&server, User { algorithm: sha256, ..User::alice() });
    let md5 = User::bob().key().as_bytes().try_into().ok();
    let realm = Realm::of_users(
        REALM,
        vec![
            ("alice".to_owned(), UserSecret::Password("sesame".to_owned())),
            ("bob".to_owned(), UserSecret::Keys { md5, sha256: None }),
        ],
    );

    set_policy(&server, with(realm));

    // Never 400: that would tell the client nothing it could go on with.
    let refresh = call.client.signed(Method::REFRESH, |_| {});
    let stale = call.client.exchange(&refresh);
    assert_eq!((438, false), (stale.code(), stale.has(AttributeType::PASSWORD_ALGORITHMS)));
    call.client.nonce = stale.nonce();
    call.client.user = User::alice();
    call.client.get(Method::REFRESH, |_| {});
    call.goes_on();
}

#[test]
fn another_password_is_another_user() {
    let server = serve(config());
    let call = Call::through(server.v4());

    set_policy(&server, with(users(&[("alice", "another")])));

    assert_eq!(401, Client::new(server.v4()).ask(Method::ALLOCATE, raws(&[UDP])).code());
    Client::new(server.v4()).is(User::named("alice", "another")).allocate();
    server.wait_for(|counters| counters.allocations == 1);
    drop(call);
}

#[test]
fn a_policy_that_says_the_same_is_not_noticed() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    for _ in 0..3 {
        set_policy(&server, config().policy);
        call.goes_on();
        let refresh = call.client.signed(Method::REFRESH, |_| {});
        assert_eq!(0, call.client.exchange(&refresh).code());
    }
    Client::new(server.v4()).allocate();
    assert_eq!(2, server.counters().allocations);
}

#[test]
fn peers_that_a_policy_denies_are_refused_at_once() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let mut policy = config().policy;
    policy.peers.deny = vec!["127.0.0.1/32".parse().expect("a network")];

    set_policy(&server, policy);

    let denied = call.peer.address();
    assert_eq!(ip("127.0.0.1"), denied.ip());
    assert_eq!(403, call.client.permit(&[denied]));
    set_policy(&server, config().policy);
    assert_eq!(0, call.client.permit(&[denied]));
}

#[test]
fn a_listener_has_a_realm_of_its_own() {
    let mut config = config();
    let south = Realm { name: "south.example".into(), ..users(&[("alice", "other")]) };
    config.policy.realms.push(south);
    let own = config.listen.first().cloned().expect("it listens somewhere");
    config.listen = vec![own.clone(), Listen { realm: Some("south.example".into()), ..own }];
    let policy = config.policy.clone();
    let server = serve(config);
    let addresses: Vec<_> = server.addresses.iter().map(|listen| listen.address).collect();
    let realm_at = |address| {
        let client = Client::new(address);
        let challenge = client.exchange(&request(Method::ALLOCATE, |_| {}));
        let named: sterna_proto::stun::Realm<'_> = challenge.read().expect("it names a realm");
        named.0.to_owned()
    };
    assert_eq!([REALM, "south.example"], [realm_at(addresses[0]), realm_at(addresses[1])]);

    // Where its realm is gone a listener goes on with the first one.
    set_policy(&server, with(users(&[("alice", "sesame")])));
    assert_eq!(REALM, realm_at(addresses[1]));
    assert!(server.log.have("the realm of a listener is gone"));
    set_policy(&server, policy);
    assert_eq!("south.example", realm_at(addresses[1]));
}

#[test]
fn a_policy_keeper_that_was_healed_tells_everybody_again() {
    let server = serve(config());
    let call = Call::through(server.v4());
    set_policy(&server, with(users(&[("alice", "sesame"), ("carol", "lark")])));
    inject(&server.policy, policy_keeper::Panic);
    call.goes_on();
    Client::new(server.v4()).is(User::named("carol", "lark")).allocate();
    assert_eq!(
        401,
        Client::new(server.v4()).is(User::bob()).ask(Method::ALLOCATE, raws(&[UDP])).code()
    );
    assert!(server.log.have("actor panicked and is healed in place"));
}
