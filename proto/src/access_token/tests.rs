//! Good tokens, and malformed ones of every kind.

use proptest::prelude::*;

use super::*;

fn token() -> AccessToken {
    AccessToken {
        mac_key: Key::shared(&[7; 20]),
        issued: Duration::from_millis(1_700_000_000_500),
        lifetime: Duration::from_secs(3600),
    }
}

fn sealed() -> Vec<u8> {
    seal(&token(), &KEY, [9; NONCE_LEN], NAME).expect("it can be sealed")
}

/// A token whose sealed block is `block`.
fn sealing(block: &[u8]) -> Vec<u8> {
    let cipher = Aes256Gcm::new_from_slice(&KEY).expect("its length is right");
    let payload = Payload { msg: block, aad: NAME.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::from([9; NONCE_LEN]), payload).expect("it is short");
    [&[0, 12][..], &[9; NONCE_LEN], &sealed].concat()
}

/// A block whose key is said to have `length` bytes and has `key`.
fn block(length: u16, key: usize, rest: usize) -> Vec<u8> {
    [&length.to_be_bytes()[..], &vec![7; key], &vec![0; rest]].concat()
}

#[test]
fn what_is_sealed_with_either_cipher_can_be_opened() {
    for key in [&[1; 16][..], &[2; 32]] {
        let sealed = seal(&token(), key, [3; NONCE_LEN], NAME).expect("it can be sealed");

        assert_eq!(Ok(token()), open(&sealed, key, NAME));
        assert_eq!(Duration::from_millis(1_700_003_600_500), token().ends());
    }
}

/// Computed with Python's `cryptography`: AESGCM(bytes([2] * 32)).encrypt(bytes([9] * 12), block,
/// b"turn.example.org").
#[test]
fn the_layout_is_that_of_the_rfc() {
    assert_eq!(hex(VECTOR), sealed());
    assert_eq!([0, 12], sealed()[..2]);
    assert_eq!(2 + 12 + (2 + 20 + 8 + 4) + 16, sealed().len());
}

#[test]
fn a_token_that_is_cut_short_or_too_long_is_malformed() {
    let good = sealed();
    for length in 0..good.len() {
        let error = open(&good[..length], &KEY, NAME).expect_err("it is cut short");
        let expected = match length {
            0..30 => MalformedToken::Short,
            _ => MalformedToken::Sealed,
        };
        assert_eq!(expected, error, "{length} bytes");
    }
    for tail in [&[0][..], &[0; 4], &[0; 16]] {
        let longer = [&good[..], tail].concat();
        assert_eq!(Err(MalformedToken::Sealed), open(&longer, &KEY, NAME));
    }
}

#[test]
fn a_token_with_any_bit_changed_is_malformed() {
    let good = sealed();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bad, &KEY, NAME).is_err(), "bit {bit}");
    }
}

#[test]
fn a_token_for_another_server_or_by_another_key_is_malformed() {
    let good = sealed();
    for name in ["", "turn.example.net", "TURN.example.org", "turn.example.org."] {
        assert_eq!(Err(MalformedToken::Sealed), open(&good, &KEY, name), "{name}");
    }
    assert_eq!(Err(MalformedToken::Sealed), open(&good, &[3; 32], NAME));
    assert_eq!(Err(MalformedToken::Sealed), open(&good, &[2; 16], NAME));
    for length in [0, 1, 15, 17, 24, 31, 33, 64] {
        let key = vec![2; length];
        assert_eq!(Err(MalformedToken::KeyLength), open(&good, &key, NAME), "{length}");
        assert_eq!(Err(MalformedToken::KeyLength), seal(&token(), &key, [9; NONCE_LEN], NAME));
    }
}

#[test]
fn a_nonce_of_another_length_is_malformed() {
    let good = sealed();
    for (length, expected) in [
        (0, MalformedToken::NonceLength),
        (11, MalformedToken::NonceLength),
        (13, MalformedToken::NonceLength),
        (62, MalformedToken::NonceLength),
        (63, MalformedToken::Short),
        (0xffff, MalformedToken::Short),
    ] {
        let mut bad = good.clone();
        bad[..2].copy_from_slice(&u16::to_be_bytes(length));
        assert_eq!(Err(expected), open(&bad, &KEY, NAME), "{length}");
    }
}

#[test]
fn a_sealed_block_with_wrong_lengths_is_malformed() {
    for (what, block) in [
        ("nothing", vec![]),
        ("half a length", vec![0]),
        ("no key", block(0, 0, 12)),
        ("a key that can be guessed", block(15, 15, 12)),
        ("a key too long", block(129, 129, 12)),
        ("a key longer than the block", block(20, 19, 0)),
        ("a key over all that follows", block(32, 20, 12)),
        ("a key up to the end of the field", block(0xffff, 20, 12)),
        ("no timestamp", block(20, 20, 0)),
        ("half a timestamp", block(20, 20, 4)),
        ("no lifetime", block(20, 20, 8)),
        ("half a lifetime", block(20, 20, 11)),
        ("a byte too much", block(20, 20, 13)),
        ("a second lifetime", block(20, 20, 16)),
    ] {
        assert_eq!(Err(MalformedToken::Content), open(&sealing(&block), &KEY, NAME), "{what}");
    }
    for key in [16, 20, 32, 128] {
        let length = u16::try_from(key).expect("it is short");
        assert!(open(&sealing(&block(length, key, 12)), &KEY, NAME).is_ok(), "{key}");
    }
}

#[test]
fn what_has_no_place_in_the_layout_is_not_sealed() {
    let long = AccessToken { lifetime: Duration::from_secs(1 << 32), ..token() };
    let late = AccessToken { issued: Duration::from_secs(1 << 48), ..token() };
    let short = AccessToken { mac_key: Key::shared(&[7; 15]), ..token() };
    for token in [long, late, short] {
        let sealed = seal(&token, &KEY, [9; NONCE_LEN], NAME);
        assert_eq!(Err(MalformedToken::Content), sealed);
    }
}

#[test]
fn every_timestamp_can_be_read() {
    assert_eq!(Duration::ZERO, from_timestamp(0));
    assert_eq!(Duration::from_millis(1500), from_timestamp(1 << 16 | 32_000));
    let last = from_timestamp(u64::MAX);
    assert_eq!((1 << 48) - 1 + 1, last.as_secs(), "a fraction past the second is carried over");
    let token = AccessToken { issued: last, lifetime: Duration::MAX, ..token() };
    assert_eq!(Duration::MAX, token.ends());
}

proptest! {
    #[test]
    fn what_was_sealed_is_what_is_opened(
        key in prop::sample::select(&[16, 32][..])
            .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length)),
        mac_key in prop::collection::vec(any::<u8>(), 16..=128),
        nonce: [u8; NONCE_LEN],
        name in "[a-z.]{0,40}",
        seconds in 0..1_u64 << 48,
        fraction in 0..64_000_u64,
        lifetime: u32,
    ) {
        let token = AccessToken {
            mac_key: Key::shared(&mac_key),
            issued: from_timestamp(seconds << 16 | fraction),
            lifetime: Duration::from_secs(lifetime.into()),
        };

        let sealed = seal(&token, &key, nonce, &name).expect("all of it has a place");

        prop_assert_eq!(Ok(token), open(&sealed, &key, &name));
    }

    #[test]
    fn any_bytes_are_a_token_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&bytes, &KEY, NAME).is_err());
        let content = open(&sealing(&bytes), &KEY, NAME);
        prop_assert!(content.is_ok() || content == Err(MalformedToken::Content));
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).filter_map(byte).collect()
}

const KEY: [u8; 32] = [2; 32];
const NAME: &str = "turn.example.org";
const VECTOR: &str = "000c0909090909090909090909092081\
    7e64eae838d94b0cd1123a93a0467fe004d54b5510dbb33be795397bc44ee085\
    3b1e0cafbba21614b39240c8f400dc3a";
