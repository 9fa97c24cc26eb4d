//! Nonces: good for one address, one lifetime and one server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sterna_proto::nonce::{NonceCheck, NonceMinter, SecurityFeatures, features_in};
use sterna_proto::stun::Nonce;

/// A minter and the moment that its clock starts at.
fn minter(secret: u8) -> (NonceMinter, Instant) {
    let epoch = epoch();
    (NonceMinter::new([secret; 32], LIFETIME, epoch), epoch)
}

/// Some moment; which one it is does not matter, since a test only adds to it.
#[expect(clippy::disallowed_methods, reason = "there is no other way to come by an Instant")]
fn epoch() -> Instant {
    Instant::now()
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2
//= type=test
//# To indicate that it supports this specification, a server MUST
//# prepend the NONCE attribute value with the character string composed
//# of "obMatJos2" concatenated with the (4-character) base64 [RFC4648]
//# encoding of the 24-bit STUN Security Features as defined in
//# Section 18.1.
//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2
//= type=test
//# If no security
//# features are used, then a byte array with all 24 bits set to zero
//# MUST be encoded instead.
#[test]
fn nonce_starts_with_the_cookie_and_the_features() {
    for (password_algorithms, username_anonymity, cookie) in [
        (false, false, "obMatJos2AAAA"),
        (true, false, "obMatJos2gAAA"),
        (false, true, "obMatJos2QAAA"),
        (true, true, "obMatJos2wAAA"),
    ] {
        let features = SecurityFeatures { password_algorithms, username_anonymity };
        let (minter, epoch) = minter(1);
        let nonce = minter.mint(client(), features, epoch);
        assert!(nonce.as_str().starts_with(cookie), "{}", nonce.as_str());
        assert_eq!(Some(features), features_in(nonce.as_bytes()));
        assert_eq!(NonceCheck::Valid, minter.check(nonce.as_bytes(), client(), epoch));
        assert_eq!(Nonce(nonce.as_str()), nonce.as_attribute());
    }
}

#[test]
fn other_nonces_have_no_features() {
    for nonce in [
        "",
        "obMatJos2",
        "obMatJos2gAA",
        "obmatjos2gAAA",
        "f//499k954d6OL34oL9FSTvy64sA",
        "obMatJos2gA-A",
        "obMatJos2gAA=",
    ] {
        assert_eq!(None, features_in(nonce.as_bytes()), "{nonce}");
    }
    let unassigned = Some(SecurityFeatures::default());
    assert_eq!(unassigned, features_in(b"obMatJos2P///rest"));
}

/// Characters that a client would have to quote or that end a header line are not among them.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.10
//= type=test
//# The NONCE attribute
//# MUST be fewer than 128 characters (which can be as long as 509 bytes
//# when encoding them and a long as 763 bytes when decoding them).
#[test]
fn nonce_is_forty_characters_of_qdtext() {
    let (minter, epoch) = minter(1);
    let nonce = minter.mint(client(), NONE, epoch);
    assert_eq!(40, nonce.as_bytes().len());
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    assert!(nonce.as_bytes().iter().all(fine));
}

#[test]
fn nonce_is_good_until_its_lifetime_is_over() {
    let (minter, epoch) = minter(1);
    let minted = epoch + Duration::from_secs(1000);
    let nonce = minter.mint(client(), NONE, minted);
    let check = |now| minter.check(nonce.as_bytes(), client(), now);
    assert_eq!(NonceCheck::Valid, check(minted));
    assert_eq!(NonceCheck::Valid, check(minted + LIFETIME));
    assert_eq!(NonceCheck::Stale, check(minted + LIFETIME + Duration::from_secs(1)));
    assert_eq!(NonceCheck::Stale, check(minted + Duration::from_secs(u64::from(u32::MAX) + 700)));
}

#[test]
fn nonce_from_the_future_is_stale() {
    let (minter, epoch) = minter(1);
    let nonce = minter.mint(client(), NONE, epoch + Duration::from_secs(10));
    assert_eq!(NonceCheck::Stale, minter.check(nonce.as_bytes(), client(), epoch));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
//= type=test
//# The server MUST NOT choose the
//# same NONCE for two requests unless they have the same source IP
//# address and port.
#[test]
fn nonce_is_good_for_one_address_only() {
    let (minter, epoch) = minter(1);
    let nonce = minter.mint(client(), NONE, epoch);
    assert_eq!(NonceCheck::Valid, minter.check(nonce.as_bytes(), client(), epoch));
    for other in
        ["192.0.2.1:40001", "192.0.2.2:40000", "[::ffff:192.0.2.1]:40000", "[2001:db8::1]:40000"]
    {
        let other = other.parse().unwrap();
        assert_ne!(nonce, minter.mint(other, NONE, epoch));
        assert_eq!(NonceCheck::Stale, minter.check(nonce.as_bytes(), other, epoch));
    }
}

#[test]
fn nonce_is_good_for_every_port_of_its_address_where_that_is_asked() {
    let (minter, epoch) = minter(1);
    let nonce = minter.mint(client(), NONE, epoch);
    let check = |ip: &str, now| minter.check_any_port(nonce.as_bytes(), ip.parse().unwrap(), now);
    assert_eq!(NonceCheck::Valid, check("192.0.2.1", epoch));
    assert_eq!(NonceCheck::Stale, check("192.0.2.2", epoch));
    assert_eq!(NonceCheck::Stale, check("192.0.2.1", epoch + LIFETIME + Duration::from_secs(1)));
    assert_eq!(NonceCheck::Stale, minter.check_any_port(b"obMatJos2AAAA", client().ip(), epoch));
}

#[test]
fn nonce_of_another_server_is_stale() {
    let (ours, epoch) = minter(1);
    let foreign = NonceMinter::new([2; 32], LIFETIME, epoch);

    let nonce = foreign.mint(client(), NONE, epoch);

    assert_eq!(NonceCheck::Valid, foreign.check(nonce.as_bytes(), client(), epoch));
    assert_eq!(NonceCheck::Stale, ours.check(nonce.as_bytes(), client(), epoch));
}

#[test]
fn nonce_whose_features_were_changed_is_stale() {
    let (minter, epoch) = minter(1);
    let all = SecurityFeatures { password_algorithms: true, username_anonymity: true };
    let nonce = minter.mint(client(), all, epoch);
    assert_eq!(NonceCheck::Valid, minter.check(nonce.as_bytes(), client(), epoch));

    for weaker in ["AAAA", "gAAA", "QAAA", "wAAB"] {
        let mut changed = nonce.as_str().to_owned();
        changed.replace_range(9..13, weaker);
        assert_eq!(NonceCheck::Stale, minter.check(changed.as_bytes(), client(), epoch));
    }
}

#[test]
fn changed_shortened_or_lengthened_nonce_is_stale() {
    let (minter, epoch) = minter(1);
    let now = epoch + Duration::from_secs(5);
    let nonce = minter.mint(client(), NONE, epoch);
    let good = nonce.as_bytes();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(NonceCheck::Stale, minter.check(&bad, client(), now), "bit {bit}");
    }
    for length in 0..good.len() {
        assert_eq!(NonceCheck::Stale, minter.check(&good[..length], client(), now));
    }
    for tail in ["=", "A", "AA", "AAAA", " ", "\0"] {
        let longer = [good, tail.as_bytes()].concat();
        assert_eq!(NonceCheck::Stale, minter.check(&longer, client(), now), "{tail:?}");
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let (minter, epoch) = minter(7);
    let shown = format!("{minter:?} {:?}", minter.mint(client(), NONE, epoch));
    assert!(!shown.contains("obMatJos2") && !shown.contains('7'), "{shown}");
}

fn client() -> SocketAddr {
    "192.0.2.1:40000".parse().unwrap()
}

const NONE: SecurityFeatures =
    SecurityFeatures { password_algorithms: false, username_anonymity: false };
const LIFETIME: Duration = Duration::from_secs(600);
