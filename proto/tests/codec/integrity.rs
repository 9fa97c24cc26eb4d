//! Message integrity: which attribute is verified, and what does not pass.

use sterna_proto::credentials::Key;
use sterna_proto::integrity::{IntegrityAlgorithm, IntegrityError};
use sterna_proto::stun::{AttributeType, MessageWriter, Realm, Software, Username};

use crate::{parsed, request};

#[test]
fn message_without_integrity_is_told_apart_from_a_forged_one() {
    let none = request(|writer| _ = writer.attribute(&Username("alice")));
    assert_eq!(None, parsed(&none).integrity_algorithm());
    assert_eq!(Err(IntegrityError::Missing), parsed(&none).verify_integrity(&key()));

    let forged = request(|writer| {
        _ = writer.integrity(IntegrityAlgorithm::Sha1, &Key::shared(b"another"));
    });
    assert_eq!(Err(IntegrityError::Mismatch), parsed(&forged).verify_integrity(&key()));
}

#[test]
fn both_algorithms_verify() {
    for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
        let plain = request(|writer| {
            writer.attribute(&Username("alice")).integrity(algorithm, &key());
        });
        let marked = request(|writer| {
            writer.attribute(&Username("alice")).integrity(algorithm, &key()).fingerprint();
        });
        for bytes in [plain, marked] {
            assert_eq!(Some(algorithm), parsed(&bytes).integrity_algorithm());
            assert_eq!(Ok(algorithm), parsed(&bytes).verify_integrity(&key()));
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
//= type=test
//# If the MESSAGE-INTEGRITY-SHA256 attribute is present, compute the
//# value for the message integrity as described in Section 14.6,
//# using the password associated with the username.  Otherwise, using
//# the same password, compute the value for the MESSAGE-INTEGRITY
//# attribute as described in Section 14.5.
#[test]
fn sha256_decides_where_both_are_present() {
    let good = request(|writer| {
        writer.integrity(IntegrityAlgorithm::Sha1, &Key::shared(b"another"));
        writer.integrity(IntegrityAlgorithm::Sha256, &key());
    });
    assert_eq!(Ok(IntegrityAlgorithm::Sha256), parsed(&good).verify_integrity(&key()));

    let bad = request(|writer| {
        writer.integrity(IntegrityAlgorithm::Sha1, &key());
        writer.integrity(IntegrityAlgorithm::Sha256, &Key::shared(b"another"));
    });
    assert_eq!(Err(IntegrityError::Mismatch), parsed(&bad).verify_integrity(&key()));
}

/// Its value covers all that stands before it, what is ignored included.
#[test]
fn sha256_behind_ignored_attributes_verifies() {
    let bytes = request(|writer| {
        writer.attribute(&Username("alice"));
        writer.integrity(IntegrityAlgorithm::Sha1, &key());
        writer.attribute(&Realm("ignored"));
        writer.integrity(IntegrityAlgorithm::Sha256, &key());
        writer.attribute(&Software("ignored"));
        writer.fingerprint();
    });
    let message = parsed(&bytes);
    assert_eq!(Ok(IntegrityAlgorithm::Sha256), message.verify_integrity(&key()));
    assert_eq!(Ok(None), message.read::<Realm<'_>>());
}

/// A MESSAGE-INTEGRITY that follows is not taken in its place.
#[test]
fn sha1_behind_a_forged_sha256_does_not_help() {
    let bytes = request(|writer| {
        writer.integrity(IntegrityAlgorithm::Sha256, &Key::shared(b"another"));
        writer.integrity(IntegrityAlgorithm::Sha1, &key());
    });
    assert_eq!(Err(IntegrityError::Mismatch), parsed(&bytes).verify_integrity(&key()));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.6
//= type=test
//# The value will be at most 32
//# bytes, but it MUST be at least 16 bytes and MUST be a multiple of 4
//# bytes.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.6
//= type=test
//# The value must be the full 32 bytes unless the STUN Usage
//# explicitly specifies that truncation is allowed.
#[test]
fn value_of_another_length_is_malformed() {
    let whole = request(|writer| _ = writer.integrity(IntegrityAlgorithm::Sha256, &key()));
    let value = parsed(&whole).raw(AttributeType::MESSAGE_INTEGRITY_SHA256).unwrap();
    for length in [0, 4, 16, 20, 28, 31] {
        let bytes = request(|writer| truncated(writer, &value[..length]));
        assert_eq!(Err(IntegrityError::Malformed), parsed(&bytes).verify_integrity(&key()));
    }
    for length in [0, 16, 19, 21, 32] {
        let value = vec![0; length];
        let bytes = request(|writer| _ = writer.raw(AttributeType::MESSAGE_INTEGRITY, &value));
        assert_eq!(Err(IntegrityError::Malformed), parsed(&bytes).verify_integrity(&key()));
    }
}

#[test]
fn key_may_be_empty_or_longer_than_a_block() {
    for length in [0, 1, 63, 64, 65, 200] {
        let key = Key::shared(&vec![7; length]);
        for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
            let bytes = request(|writer| _ = writer.integrity(algorithm, &key));
            assert_eq!(Ok(algorithm), parsed(&bytes).verify_integrity(&key));
        }
    }
}

fn truncated(writer: &mut MessageWriter<'_>, value: &[u8]) {
    writer.raw(AttributeType::MESSAGE_INTEGRITY_SHA256, value);
}

fn key() -> Key {
    Key::shared(b"the key of these tests")
}
