//! Keys, USERHASH and string preparation.

use sterna_proto::credentials::{
    Key, KeyLengthError, OpaqueStringError, PasswordAlgorithm, opaque_string, user_hash,
};

use crate::hex;

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.2
//= type=test
//# For example, if the username is
//# 'user', the realm is 'realm', and the password is 'pass', then the
//# 16-byte HMAC key would be the result of performing an MD5 hash on the
//# string 'user:realm:pass', the resulting hash being
//# 0x8493fbc53ba582fb4c044c456bdc40eb.
#[test]
fn md5_key_of_the_rfc() {
    let key = Key::long_term(PasswordAlgorithm::Md5, "user", "realm", "pass").unwrap();
    assert_eq!(hex("8493fbc53ba582fb4c044c456bdc40eb"), key.as_bytes());
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-18.5.1.2
//= type=test
//# The key length is 32 bytes, and the parameters value is empty.
#[test]
fn sha256_key() {
    let key = Key::long_term(PasswordAlgorithm::Sha256, "user", "realm", "pass").unwrap();
    let expected = "07e934117abd40836e7c6329b54731b2b2d2a5f9a71f544922d75e0730d8251b";
    assert_eq!(hex(expected), key.as_bytes());
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.2
//= type=test
//# (1) the username, with any
//# quotes and trailing nulls removed, as taken from the USERNAME
//# attribute (in which case OpaqueString has already been applied); (2)
//# a single colon; (3) the realm, with any quotes and trailing nulls
//# removed and after processing using OpaqueString; (4) a single colon;
//# and (5) the password, with any trailing nulls removed and after
//# processing using OpaqueString.
#[test]
fn quotes_and_trailing_nulls_are_no_part_of_the_key() {
    let md5 = |username, realm, password| {
        Key::long_term(PasswordAlgorithm::Md5, username, realm, password).unwrap()
    };
    let plain = md5("user", "realm", "pass");
    assert_eq!(plain, md5("\"user\"", "\"realm\"", "pass"));
    assert_eq!(plain, md5("user\0", "realm\0\0", "pass\0"));
    assert_eq!(plain, md5("\"user\"\0", "\"realm\"\0", "pass"));
    assert_ne!(plain, md5("user", "realm", "\"pass\""));
    assert_ne!(plain, md5("user\"", "realm", "pass"));
}

#[test]
fn key_depends_on_each_part() {
    let md5 = |username, realm, password| {
        Key::long_term(PasswordAlgorithm::Md5, username, realm, password).unwrap()
    };
    let key = md5("user", "realm", "pass");
    assert_ne!(key, md5("User", "realm", "pass"));
    assert_ne!(key, md5("user", "Realm", "pass"));
    assert_ne!(key, md5("user", "realm", "Pass"));
    let sha256 = Key::long_term(PasswordAlgorithm::Sha256, "user", "realm", "pass").unwrap();
    assert_ne!(key, sha256);
}

#[test]
fn stored_key_has_the_length_of_its_algorithm() {
    let derived = Key::long_term(PasswordAlgorithm::Md5, "user", "realm", "pass").unwrap();
    let stored = hex("8493fbc53ba582fb4c044c456bdc40eb");
    assert_eq!(Ok(derived), Key::from_bytes(PasswordAlgorithm::Md5, &stored));
    for (algorithm, length) in [
        (PasswordAlgorithm::Md5, 0),
        (PasswordAlgorithm::Md5, 15),
        (PasswordAlgorithm::Md5, 32),
        (PasswordAlgorithm::Sha256, 16),
        (PasswordAlgorithm::Sha256, 33),
    ] {
        let error = KeyLengthError { algorithm, length };
        assert_eq!(Err(error), Key::from_bytes(algorithm, &vec![0; length]));
    }
    let error = KeyLengthError { algorithm: PasswordAlgorithm::Md5, length: 3 };
    assert_eq!("a Md5 key has 16 bytes, not 3", error.to_string());
}

#[test]
fn key_does_not_show_in_debug_output() {
    assert_eq!("Key(redacted)", format!("{:?}", Key::shared(b"secret")));
}

#[test]
fn passwords_are_prepared_by_opaque_string() {
    for (typed, prepared) in [
        ("correct horse", "correct horse"),
        ("correct\u{3000}horse", "correct horse"),
        ("correct\u{A0}horse", "correct horse"),
        ("e\u{301}t\u{E9}", "\u{E9}t\u{E9}"),
        ("\u{AA}\u{2168}", "\u{AA}\u{2168}"),
        ("UPPER lower", "UPPER lower"),
        (" leading and trailing ", " leading and trailing "),
        ("1699999999:alice", "1699999999:alice"),
    ] {
        assert_eq!(prepared, opaque_string(typed).unwrap(), "{typed:?}");
        let keys = [typed, prepared].map(|password| {
            Key::long_term(PasswordAlgorithm::Sha256, "user", "realm", password).unwrap()
        });
        assert_eq!(keys[0], keys[1], "{typed:?}");
    }
}

#[test]
fn empty_and_invisible_strings_are_refused() {
    for bad in ["", "a\0b", "tab\there", "line\nbreak", "\u{7F}", "soft\u{AD}hyphen", "\u{200B}"] {
        assert_eq!(Err(OpaqueStringError), opaque_string(bad), "{bad:?}");
        assert_eq!(Err(OpaqueStringError), Key::short_term(bad));
        assert_eq!(Err(OpaqueStringError), user_hash(bad, "realm"));
        assert_eq!(Err(OpaqueStringError), user_hash("user", bad));
        let key = |realm, password| Key::long_term(PasswordAlgorithm::Md5, "user", realm, password);
        assert_eq!(Err(OpaqueStringError), key(bad, "pass"), "{bad:?}");
        assert_eq!(Err(OpaqueStringError), key("realm", bad), "{bad:?}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.4
//= type=test
//# The username
//# MUST have been processed using the OpaqueString profile [RFC8265],
//# and the realm MUST have been processed using the OpaqueString profile
//# [RFC8265] before hashing.
#[test]
fn user_hash_joins_user_and_realm() {
    assert_ne!(user_hash("a", "bc"), user_hash("ab", "c"));
    assert_eq!(user_hash("a\u{A0}b", "c\u{A0}d"), user_hash("a b", "c d"));
}

#[test]
fn algorithms_have_their_registered_numbers() {
    assert_eq!(1, PasswordAlgorithm::Md5.number());
    assert_eq!(2, PasswordAlgorithm::Sha256.number());
    let known: Vec<u16> =
        (0..=u16::MAX).filter(|&number| PasswordAlgorithm::from_number(number).is_some()).collect();
    assert_eq!(vec![1, 2], known);
}
