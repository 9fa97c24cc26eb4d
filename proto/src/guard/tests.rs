//! Which challenge a request meets, and what the challenge says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::credentials::Key;
use crate::first_contact::{Answer, FirstContact};
use crate::stun::{Method, PasswordAlgorithms, TransactionId};
use crate::testing::{Asked, CLIENT, epoch, guard, guard_of, nonce_from, realm};

const SHA256: [u8; 4] = [0, 2, 0, 0];
const MD5: [u8; 4] = [0, 1, 0, 0];
const BOTH: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

fn key() -> Key {
    Key::long_term(PasswordAlgorithm::Md5, "u", "r", "p").expect("plain ASCII")
}

fn nonce(guard: &Guard) -> String {
    nonce_from(guard, "r", CLIENT)
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
    let nonce = nonce_from(&guard(), "r", ServerReflexive(other));

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
fn a_list_of_before_a_change_or_a_restart_is_a_stale_nonce() {
    let offers = |algorithms: &[PasswordAlgorithm]| {
        guard_of(vec![GuardedRealm { algorithms: algorithms.to_vec(), ..realm("r") }], None)
    };
    let (sha256, md5) = (PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5);
    let guards =
        [offers(&[sha256, md5]), offers(&[md5, sha256]), offers(&[sha256]), offers(&[md5])];
    for (before, asked) in guards.iter().enumerate() {
        // What a client of the guard of before says.
        let list = asked.doors[0].password_algorithms.clone();
        let mut body = Vec::new();
        if !list.is_empty() {
            body.push((AttributeType::PASSWORD_ALGORITHM, list[..4].to_vec()));
            body.push((AttributeType::PASSWORD_ALGORITHMS, list));
        }
        let (key, nonce) = (key(), nonce(asked));
        for (now, guard) in guards.iter().enumerate() {
            for (nonce, is_ours) in [(nonce.as_str(), true), ("obMatJos2wAAAmadeelsewhere", false)]
            {
                let asked = Asked {
                    method: Method::ALLOCATE,
                    transaction: 1,
                    username: "u",
                    realm: "r",
                    nonce,
                    key: &key,
                    body: body.clone(),
                };
                let bytes = asked.bytes();
                let message = Message::parse(&bytes).expect("well-formed");
                let claimed = guard.claim(&message, CLIENT, epoch()).map(|_| ());
                let expected = match is_ours && before == now {
                    true => Ok(()),
                    false => Err(Challenge::StaleNonce),
                };
                assert_eq!(expected, claimed, "{before} {now} {nonce}");
            }
        }
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
    assert_eq!(NonceCheck::Valid, guard.doors[0].nonces.check(nonce, CLIENT.0, epoch()));
}

#[test]
fn md5_alone_is_not_offered_by_name() {
    let md5_only = GuardedRealm { algorithms: vec![PasswordAlgorithm::Md5], ..realm("r") };
    let guard = guard_of(vec![md5_only], None);
    let mut request = Vec::new();
    MessageWriter::new(&mut request, Class::Request, Method::ALLOCATE, id());
    let mut out = Vec::new();

    let message = Message::parse(&request).expect("well-formed");
    guard.first_contact(&message, CLIENT, epoch(), &mut out);

    let answer = Message::parse(&out).expect("well-formed");
    assert!(!answer.has(AttributeType::PASSWORD_ALGORITHMS));
}

/// A guard of the realms "r", "north" and "south", of which the last offers less.
fn three_realms() -> Guard {
    let origins = |origins: &[&str]| origins.iter().map(|&text| text.to_owned()).collect();
    let north = GuardedRealm { origins: origins(&["https://North.example"]), ..realm("north") };
    let south = GuardedRealm {
        origins: origins(&["http://south.example:8080/", "https://north.example"]),
        algorithms: vec![PasswordAlgorithm::Md5],
        ..realm("south")
    };
    guard_of(vec![realm("r"), north, south], None)
}

/// The realm that a challenge to this Allocate names.
fn realm_of_challenge(guard: &Guard, body: &[(AttributeType, &[u8])]) -> String {
    let mut request = Vec::new();
    let mut writer = MessageWriter::new(&mut request, Class::Request, Method::ALLOCATE, id());
    for (kind, value) in body {
        writer.raw(*kind, value);
    }
    let message = Message::parse(&request).expect("well-formed");
    let mut out = Vec::new();
    guard.write_challenge(Challenge::Unauthenticated, &message, CLIENT, epoch(), &mut out);
    let answer = Message::parse(&out).expect("well-formed");
    let nonce = answer.raw(AttributeType::NONCE).expect("present");
    let offers = features_in(nonce).expect("it has the cookie").password_algorithms;
    assert_eq!(offers, answer.has(AttributeType::PASSWORD_ALGORITHMS));
    answer.read::<Realm<'_>>().expect("readable").expect("present").0.to_owned()
}

#[test]
fn a_challenge_names_the_realm_of_the_origin() {
    let guard = three_realms();
    for (origin, expected) in [
        ("https://north.example", "north"),
        ("HTTPS://NORTH.EXAMPLE/", "north"),
        ("https://north.example:443", "north"),
        ("http://south.example:8080", "south"),
        ("http://south.example", "r"),
        ("http://north.example", "r"),
        ("https://north.example:8443", "r"),
        ("https://north.example.evil", "r"),
        ("https://xnorth.example", "r"),
        ("north", "r"),
        ("null", "r"),
        ("", "r"),
        ("\u{0}https://north.example", "r"),
    ] {
        let body = [(AttributeType::ORIGIN, origin.as_bytes())];
        assert_eq!(expected, realm_of_challenge(&guard, &body), "{origin:?}");
    }
    let long = "https://north.example".repeat(100);
    for broken in [&b"\xff\xfe"[..], long.as_bytes()] {
        assert_eq!("r", realm_of_challenge(&guard, &[(AttributeType::ORIGIN, broken)]));
    }
}

#[test]
fn a_challenge_names_the_realm_that_the_client_is_of() {
    let guard = three_realms();
    let north: &[u8] = b"https://north.example";
    for (realm, expected) in [("south", "south"), ("r", "r"), ("elsewhere", "north"), ("", "north")]
    {
        let body = [(AttributeType::REALM, realm.as_bytes()), (AttributeType::ORIGIN, north)];
        assert_eq!(expected, realm_of_challenge(&guard, &body), "{realm:?}");
    }
}

#[test]
fn a_claim_is_of_the_realm_that_it_names() {
    let guard = three_realms();
    let claimed = |realm: &str, nonce_of: &str| {
        let (key, nonce) = (key(), nonce_from(&guard, nonce_of, CLIENT));
        let asked = Asked {
            method: Method::ALLOCATE,
            transaction: 1,
            username: "u",
            realm,
            nonce: &nonce,
            key: &key,
            // Where the client comes from does not make it another realm's user.
            body: vec![(AttributeType::ORIGIN, b"https://north.example".to_vec())],
        };
        let bytes = asked.bytes();
        let claimed = guard.claim(&Message::parse(&bytes).expect("whole"), CLIENT, epoch());
        claimed.map(|claim| claim.realm.to_string())
    };
    for name in ["r", "north", "south"] {
        assert_eq!(Ok(name.to_owned()), claimed(name, name));
    }
    assert_eq!(Ok("north".to_owned()), claimed("north", "r"), "they offer the same");
    for other in ["R", "r ", "elsewhere", ""] {
        assert_eq!(Err(Challenge::Unauthenticated), claimed(other, "r"), "{other:?}");
    }
    // What one realm offers cannot be talked down by the nonce of another.
    assert_eq!(Err(Challenge::StaleNonce), claimed("north", "south"));
    assert_eq!(Err(Challenge::StaleNonce), claimed("south", "north"));
}

#[test]
fn a_token_is_a_claim_where_tokens_are_taken() {
    let third_party = guard_of(vec![realm("r")], Some("turn.example.org"));
    for (guard, takes) in [(&third_party, true), (&guard(), false)] {
        let nonce = nonce(guard);
        let (key, token) = (key(), b"sealed".to_vec());
        let body = vec![(AttributeType::ACCESS_TOKEN, token)];
        let asked = Asked {
            method: Method::ALLOCATE,
            transaction: 1,
            username: "kid",
            realm: "r",
            nonce: &nonce,
            key: &key,
            body,
        };
        let bytes = asked.bytes();
        let message = Message::parse(&bytes).expect("well-formed");
        let user = guard.claim(&message, CLIENT, epoch()).expect("a claim").user;
        let expected = match takes {
            true => ClaimedUser::Token { kid: "kid".into(), token: Bytes::from_static(b"sealed") },
            false => ClaimedUser::Named("kid".into()),
        };
        assert_eq!(expected, user);
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
//= type=test
//# This response
//# MUST include NONCE, REALM, and PASSWORD-ALGORITHMS attributes and
//# SHOULD NOT include the USERNAME and USERHASH attributes.
#[test]
fn a_challenge_says_where_tokens_come_from_behind_all_else() {
    let guard = guard_of(vec![realm("r")], Some("turn.example.org"));
    let mut request = Vec::new();
    MessageWriter::new(&mut request, Class::Request, Method::ALLOCATE, id());
    let message = Message::parse(&request).expect("well-formed");
    for challenge in [Challenge::Unauthenticated, Challenge::StaleNonce] {
        let mut out = Vec::new();
        guard.write_challenge(challenge, &message, CLIENT, epoch(), &mut out);

        let answer = Message::parse(&out).expect("well-formed");
        let kinds: Vec<AttributeType> = answer.attributes().map(|it| it.kind).collect();
        let expected = [
            AttributeType::ERROR_CODE,
            AttributeType::NONCE,
            AttributeType::REALM,
            AttributeType::PASSWORD_ALGORITHMS,
            AttributeType::THIRD_PARTY_AUTHORIZATION,
        ];
        assert_eq!(&expected[..], kinds);
        assert_eq!(Ok(Some(ThirdPartyAuthorization("turn.example.org"))), answer.read());
    }
    let mut out = Vec::new();
    let bad = Challenge::BadRequest("for the log");
    guard.write_challenge(bad, &message, CLIENT, epoch(), &mut out);
    let answer = Message::parse(&out).expect("well-formed");
    assert!(!answer.has(AttributeType::THIRD_PARTY_AUTHORIZATION));
}

fn id() -> TransactionId {
    TransactionId::from_bytes([1; 12])
}
