//! The published test vectors: RFC 5769 §2 and RFC 8489 appendix B.1, bytes as printed there.

use sterna_proto::credentials::{Key, PasswordAlgorithm, opaque_string, user_hash};
use sterna_proto::integrity::{IntegrityAlgorithm, IntegrityError};
use sterna_proto::nonce::{SecurityFeatures, features_in};
use sterna_proto::stun::{
    AttributeType, Class, Message, MessageWriter, Method, Nonce, ParseError,
    PasswordAlgorithmAttribute, Realm, Software, TransactionId, UserHash, Username,
    XorMappedAddress,
};

use crate::hex;

#[test]
fn sample_request_of_rfc5769_section_2_1() {
    let bytes = hex(SAMPLE_REQUEST);
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(Class::Request, message.class());
    assert_eq!(Method::BINDING, message.method());
    assert_eq!(ICE_TRANSACTION, message.transaction_id());
    assert_eq!(
        vec![
            AttributeType::SOFTWARE,
            AttributeType::PRIORITY,
            AttributeType::ICE_CONTROLLED,
            AttributeType::USERNAME,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::FINGERPRINT,
        ],
        kinds(&message)
    );
    assert_eq!(Ok(Some(Software("STUN test client"))), message.read());
    assert_eq!(Ok(Some(Username("evtj:h6vY"))), message.read());
    let priority = message.raw(AttributeType::PRIORITY);
    assert_eq!(Some(&hex("6e0001ff")[..]), priority);
    assert_eq!(Ok(IntegrityAlgorithm::Sha1), message.verify_integrity(&ice_key()));
    assert_eq!(
        Err(IntegrityError::Mismatch),
        message.verify_integrity(&Key::short_term("VOkJxbRl1RmTxUk/WvJxBT").unwrap())
    );
}

#[test]
fn sample_ipv4_response_of_rfc5769_section_2_2() {
    let bytes = hex(SAMPLE_IPV4_RESPONSE);
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(Class::Success, message.class());
    assert_eq!(Method::BINDING, message.method());
    assert_eq!(Ok(Some(Software("test vector"))), message.read());
    let mapped = XorMappedAddress("192.0.2.1:32853".parse().unwrap());
    assert_eq!(Ok(Some(mapped)), message.read());
    assert_eq!(Ok(IntegrityAlgorithm::Sha1), message.verify_integrity(&ice_key()));
}

#[test]
fn sample_ipv6_response_of_rfc5769_section_2_3() {
    let bytes = hex(SAMPLE_IPV6_RESPONSE);
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(Ok(Some(Software("test vector"))), message.read());
    let address = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
    let mapped = XorMappedAddress(address.parse().unwrap());
    assert_eq!(Ok(Some(mapped)), message.read());
    assert_eq!(Ok(IntegrityAlgorithm::Sha1), message.verify_integrity(&ice_key()));
}

#[test]
fn long_term_request_of_rfc5769_section_2_4() {
    let bytes = hex(LONG_TERM_REQUEST);
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(LONG_TERM_TRANSACTION, message.transaction_id());
    assert_eq!(Ok(Some(Username(MATRIX_USER))), message.read());
    assert_eq!(Ok(Some(Nonce("f//499k954d6OL34oL9FSTvy64sA"))), message.read());
    assert_eq!(Ok(Some(Realm("example.org"))), message.read());
    let verified = message.verify_integrity(&matrix_key(PasswordAlgorithm::Md5));
    assert_eq!(Ok(IntegrityAlgorithm::Sha1), verified);
}

/// Both RFCs print the password before and after preparation; the step between the two is SASLprep,
/// which RFC 8489 gave up. OpaqueString refuses the soft hyphen, so that the user of these vectors
/// has to type the prepared form.
#[test]
fn password_of_the_vectors_before_saslprep_is_no_opaque_string() {
    assert!(opaque_string("The\u{AD}M\u{AA}tr\u{2168}").is_err());
    assert_eq!("TheMatrIX", opaque_string("TheMatrIX").unwrap());
    assert_eq!(MATRIX_USER, opaque_string(MATRIX_USER).unwrap());
}

/// As erratum 6268 corrects it: the printed message has a wrong length and lacks the algorithm.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.4
//= type=test
//# userhash = SHA-256(OpaqueString(username) ":" OpaqueString(realm))
#[test]
fn sha256_request_of_rfc8489_appendix_b_1() {
    let bytes = hex(SHA256_REQUEST);
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(LONG_TERM_TRANSACTION, message.transaction_id());
    let expected = user_hash(MATRIX_USER, "example.org").unwrap();
    assert_eq!(Ok(Some(UserHash(expected))), message.read());
    assert_eq!(Ok(Some(Nonce(SHA256_NONCE))), message.read());
    assert_eq!(Ok(Some(Realm("example.org"))), message.read());
    let algorithm = PasswordAlgorithmAttribute::from(PasswordAlgorithm::Sha256);
    assert_eq!(Ok(Some(algorithm)), message.read());
    let key = matrix_key(PasswordAlgorithm::Sha256);
    let verified = message.verify_integrity(&key);
    assert_eq!(Ok(IntegrityAlgorithm::Sha256), verified);
    let key = matrix_key(PasswordAlgorithm::Md5);
    assert_eq!(Err(IntegrityError::Mismatch), message.verify_integrity(&key));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-5
//= type=test
//# The message length MUST contain the size of the message in bytes, not
//# including the 20-byte STUN header.
#[test]
fn request_of_rfc8489_appendix_b_1_as_printed_counts_its_header() {
    let bytes = hex(SHA256_REQUEST_AS_PRINTED);
    assert_eq!(0x9c, bytes.len());
    assert_eq!(ParseError::Length, Message::parse(&bytes).unwrap_err());
}

/// The vector numbers the feature bits from the right although §18.1 has them from the left, so
/// that its nonce announces unassigned features only.
//= https://www.rfc-editor.org/rfc/rfc8489#section-18.1
//= type=test
//# Bits are assigned starting from the most significant side of the bit
//# set, so Bit 0 is the leftmost bit and Bit 23 is the rightmost bit.
#[test]
fn nonce_cookie_of_rfc8489_appendix_b_1_announces_no_assigned_feature() {
    let features = features_in(SHA256_NONCE.as_bytes());
    assert_eq!(Some(SecurityFeatures::default()), features);
}

#[test]
fn writer_reproduces_the_long_term_request_of_rfc5769() {
    let mut out = Vec::new();
    let length = binding_request(&mut out)
        .attribute(&Username(MATRIX_USER))
        .attribute(&Nonce("f//499k954d6OL34oL9FSTvy64sA"))
        .attribute(&Realm("example.org"))
        .integrity(IntegrityAlgorithm::Sha1, &matrix_key(PasswordAlgorithm::Md5))
        .finish();

    assert_eq!(hex(LONG_TERM_REQUEST), out);
    assert_eq!(out.len(), length);
}

#[test]
fn writer_reproduces_the_request_of_rfc8489_appendix_b_1() {
    let mut out = Vec::new();
    binding_request(&mut out)
        .attribute(&UserHash(user_hash(MATRIX_USER, "example.org").unwrap()))
        .attribute(&Nonce(SHA256_NONCE))
        .attribute(&Realm("example.org"))
        .attribute(&PasswordAlgorithmAttribute::from(PasswordAlgorithm::Sha256))
        .integrity(IntegrityAlgorithm::Sha256, &matrix_key(PasswordAlgorithm::Sha256));

    assert_eq!(hex(SHA256_REQUEST), out);
}

#[test]
fn fingerprint_of_the_vectors_fails_with_any_other_value() {
    for vector in [SAMPLE_REQUEST, SAMPLE_IPV4_RESPONSE, SAMPLE_IPV6_RESPONSE] {
        let mut bytes = hex(vector);
        *bytes.last_mut().unwrap() ^= 1;
        let error = Message::parse(&bytes).unwrap_err();
        assert_eq!(ParseError::Fingerprint, error);
    }
}

fn kinds(message: &Message<'_>) -> Vec<AttributeType> {
    message.attributes().map(|attribute| attribute.kind).collect()
}

fn binding_request(out: &mut Vec<u8>) -> MessageWriter<'_> {
    MessageWriter::new(out, Class::Request, Method::BINDING, LONG_TERM_TRANSACTION)
}

fn matrix_key(algorithm: PasswordAlgorithm) -> Key {
    Key::long_term(algorithm, MATRIX_USER, "example.org", "TheMatrIX").unwrap()
}

fn ice_key() -> Key {
    Key::short_term("VOkJxbRl1RmTxUk/WvJxBt").unwrap()
}

const MATRIX_USER: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";

const ICE_TRANSACTION: TransactionId = TransactionId::from_bytes([
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
]);

const LONG_TERM_TRANSACTION: TransactionId = TransactionId::from_bytes([
    0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29, 0xda, 0x41, 0x2e,
]);

const SAMPLE_REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

const SAMPLE_IPV4_RESPONSE: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

const SAMPLE_IPV6_RESPONSE: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c";

const LONG_TERM_REQUEST: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700
    00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

const SHA256_NONCE: &str = "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA";

const SHA256_REQUEST: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39
             46535476 79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

const SHA256_REQUEST_AS_PRINTED: &str = "
    0001009c 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39
             46535476 79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001c0020 e4686c8f 0edeb590 13e07090 010a93ef ccbccc54 4c0a45d9 f830aa6d 6f735a01";
