//! Which challenge a request meets, and what the challenge says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::credentials::Key;
use crate::first_contact::{Answer, FirstContact};
use crate::stun::{Method, PasswordAlgorithms, TransactionId};
use crate::testing::{Asked, CLIENT, epoch, guard};

const SHA256: [u8; 4] = [0, 2, 0, 0];
const MD5: [u8; 4] = [0, 1, 0, 0];
const BOTH: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

fn key() -> Key {
    Key::long_term(PasswordAlgorithm::Md5, "u", "r", "p").expect("plain ASCII")
}

fn nonce(guard: &Guard) -> String {
    guard.nonces.mint(CLIENT.0, epoch()).as_str().to_owned()
}

fn claim_with(realm: &str, nonce: &str, body: Vec<(AttributeType, Vec<u8>)>) -> Claimed {
    let key = key();
    let method = Method::ALLOCATE;
    let asked = Asked { method, transaction: 1, username: "u", realm, nonce, key: &key, body };
    let bytes = asked.bytes();
    guard().claim(&Message::parse(&bytes).expect("well-formed"), CLIENT, epoch())
}

type Claimed = Result<Claim, Challenge>;

#[test]
fn a_good_nonce_is_a_claim() {
    let claim = claim_with("r", &nonce(&guard()), Vec::new()).expect("a claim");

    assert_eq!(ClaimedUser::Named("u".into()), claim.user);
    assert_eq!(PasswordAlgorithm::Md5, claim.password_algorithm);
    assert_eq!(IntegrityAlgorithm::Sha1, claim.answer_integrity);
}

#[test]
fn another_realm_is_unauthenticated() {
    let claimed = claim_with("other", &nonce(&guard()), Vec::new());

    assert_eq!(Err(Challenge::Unauthenticated), claimed);
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
//= type=test
//# The server MUST NOT choose the
//# same NONCE for two requests unless they have the same source IP
//# address and port.
#[test]
fn a_nonce_is_good_for_its_client_only() {
    let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4001);
    let nonce = guard().nonces.mint(other, epoch()).as_str().to_owned();

    assert_eq!(Err(Challenge::StaleNonce), claim_with("r", &nonce, Vec::new()));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
//= type=test
//# Otherwise, unless (1) PASSWORD-ALGORITHM and PASSWORD-
//# ALGORITHMS are both present, (2) PASSWORD-ALGORITHMS matches
//# the value sent in the response that sent this NONCE, and (3)
//# PASSWORD-ALGORITHM matches one of the entries in PASSWORD-
//# ALGORITHMS, the server MUST generate an error response with an
//# error code of 400 (Bad Request).
#[test]
fn a_bid_down_is_a_bad_request() {
    let chosen = |value: &[u8]| (AttributeType::PASSWORD_ALGORITHM, value.to_vec());
    let listed = |value: &[u8]| (AttributeType::PASSWORD_ALGORITHMS, value.to_vec());
    let good = [
        (vec![], PasswordAlgorithm::Md5),
        (vec![chosen(&SHA256), listed(&BOTH)], PasswordAlgorithm::Sha256),
        (vec![chosen(&MD5), listed(&BOTH)], PasswordAlgorithm::Md5),
    ];
    let bad = [
        vec![chosen(&SHA256)],
        vec![listed(&BOTH)],
        vec![chosen(&MD5), listed(&MD5)],
        vec![chosen(&MD5), listed(&[0, 1, 0, 0, 0, 2, 0, 0])],
        vec![chosen(&[0, 3, 0, 0]), listed(&BOTH)],
        vec![chosen(&[]), listed(&BOTH)],
    ];
    let nonce = nonce(&guard());

    for (body, algorithm) in good {
        let claimed = claim_with("r", &nonce, body.clone());
        assert_eq!(Ok(algorithm), claimed.map(|claim| claim.password_algorithm), "{body:?}");
    }
    for body in bad {
        let claimed = claim_with("r", &nonce, body.clone());
        assert!(matches!(claimed, Err(Challenge::BadRequest(_))), "{body:?}: {claimed:?}");
    }
}

#[test]
fn integrity_without_its_companions_is_a_bad_request() {
    let guard = guard();
    let nonce = nonce(&guard);
    let cases = [
        (None, Some("r"), Some(nonce.as_str())),
        (Some("u"), None, Some(nonce.as_str())),
        (Some("u"), Some("r"), None),
    ];
    for (username, realm, nonce) in cases {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, Class::Request, Method::REFRESH, id())
            .optional(username.map(Username).as_ref())
            .optional(realm.map(Realm).as_ref())
            .optional(nonce.map(crate::stun::Nonce).as_ref())
            .integrity(IntegrityAlgorithm::Sha1, &key());
        let message = Message::parse(&bytes).expect("well-formed");

        let claimed = guard.claim(&message, CLIENT, epoch());

        assert!(matches!(claimed, Err(Challenge::BadRequest(_))), "{claimed:?}");
    }
}

#[test]
fn a_challenge_names_realm_nonce_and_algorithms() {
    let guard = guard();
    let mut request = Vec::new();
    MessageWriter::new(&mut request, Class::Request, Method::ALLOCATE, id());
    let message = Message::parse(&request).expect("well-formed");
    let mut out = Vec::new();

    let contact = guard.first_contact(&message, CLIENT, epoch(), &mut out);

    let challenged = FirstContact::Answered(Answer::Challenge(Challenge::Unauthenticated));
    assert_eq!(challenged, contact);
    let answer = Message::parse(&out).expect("well-formed");
    assert_eq!(Ok(Some(Realm("r"))), answer.read());
    let offered: PasswordAlgorithms<'_> = answer.read().expect("readable").expect("present");
    assert_eq!(2, offered.0.len());
    let nonce = answer.raw(AttributeType::NONCE).expect("present");
    assert_eq!(NonceCheck::Valid, guard.nonces.check(nonce, CLIENT.0, epoch()));
}

#[test]
fn md5_alone_is_not_offered_by_name() {
    let nonces = NonceMinter::new([7; 32], Default::default(), Duration::from_secs(1), epoch());
    let guard = Guard::new("r".into(), nonces, vec![PasswordAlgorithm::Md5]);
    let mut request = Vec::new();
    MessageWriter::new(&mut request, Class::Request, Method::ALLOCATE, id());
    let mut out = Vec::new();

    let message = Message::parse(&request).expect("well-formed");
    guard.first_contact(&message, CLIENT, epoch(), &mut out);

    let answer = Message::parse(&out).expect("well-formed");
    assert!(!answer.has(AttributeType::PASSWORD_ALGORITHMS));
}

fn id() -> TransactionId {
    TransactionId::from_bytes([1; 12])
}
