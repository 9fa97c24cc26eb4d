//! The writer: framing, and what happens where a message cannot be longer.

use sterna_proto::credentials::Key;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AttributeType, Class, Data, DontFragment, ErrorCode, ErrorCodeAttribute, Message,
    MessageWriter, Method, Software,
};

use crate::{TRANSACTION, hex, parsed, request};

//= https://www.rfc-editor.org/rfc/rfc8489#section-14
//= type=test
//# Each attribute
//# MUST be TLV encoded, with a 16-bit type, 16-bit length, and value.
//# Each STUN attribute MUST end on a 32-bit boundary.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14
//= type=test
//# The value in the Length field MUST contain the length of the Value
//# part of the attribute, prior to padding, measured in bytes.
//= https://www.rfc-editor.org/rfc/rfc8656#section-18
//= type=test
//# By the rules of STUN, any attribute whose length is not a multiple of
//# 4 bytes MUST be immediately followed by 1 to 3 padding bytes to
//# ensure the next attribute (if any) would start on a 4-byte boundary
#[test]
fn message_is_appended_to_what_the_buffer_holds() {
    let mut out = hex("40010000");
    let mut writer = MessageWriter::new(&mut out, Class::Success, Method::REFRESH, TRANSACTION);
    let length = writer.attribute(&Software("abc")).finish();
    assert_eq!(28, length);
    assert_eq!(
        hex("40010000 0104 0008 2112a442 7472616e73616374696f6e21 8022 0003 616263 00"),
        out
    );
}

#[test]
fn length_field_is_right_after_every_step() {
    let mut out = Vec::new();
    let mut writer = MessageWriter::new(&mut out, Class::Request, Method::BINDING, TRANSACTION);
    let key = Key::shared(b"key");
    let lengths = [
        writer.finish(),
        writer.attribute(&Software("abcde")).finish(),
        writer.optional(None::<&Software<'_>>).finish(),
        writer.optional(Some(&DontFragment)).finish(),
        writer.raw(AttributeType::new(0x80FF), &[1]).finish(),
        writer.integrity(IntegrityAlgorithm::Sha1, &key).finish(),
        writer.integrity(IntegrityAlgorithm::Sha256, &key).finish(),
        writer.fingerprint().finish(),
    ];
    assert_eq!([20, 32, 32, 36, 44, 68, 104, 112], lengths);
    assert!(!writer.overflowed());
    assert_eq!(Ok(IntegrityAlgorithm::Sha256), parsed(&out).verify_integrity(&key));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.1
//= type=test
//# For an error response, the server MUST add an ERROR-CODE attribute
//# containing the error code specified in the processing above.
#[test]
fn error_code_with_and_without_reason() {
    let with = request(|writer| _ = writer.error(ErrorCode::Unauthorized));
    let expected = ErrorCodeAttribute { code: ErrorCode::Unauthorized, reason: "Unauthenticated" };
    assert_eq!(Ok(Some(expected)), parsed(&with).read());

    let without = request(|writer| _ = writer.error_without_reason(ErrorCode::Unauthorized));
    let expected = ErrorCodeAttribute { code: ErrorCode::Unauthorized, reason: "" };
    assert_eq!(Ok(Some(expected)), parsed(&without).read());
    assert_eq!(28, without.len());
}

#[test]
fn attribute_that_does_not_fit_is_left_out() {
    let most = vec![0x61; 0xFFFC - 4];
    let mut out = Vec::new();
    let mut writer = MessageWriter::new(&mut out, Class::Indication, Method::DATA, TRANSACTION);
    assert_eq!(20 + 0xFFFC, writer.attribute(&Data(&most)).finish());
    assert!(!writer.overflowed());

    let key = Key::shared(b"key");
    for step in 0..5 {
        let length = match step {
            0 => writer.attribute(&DontFragment).finish(),
            1 => writer.attribute(&Software("abc")).finish(),
            2 => writer.integrity(IntegrityAlgorithm::Sha1, &key).finish(),
            3 => writer.integrity(IntegrityAlgorithm::Sha256, &key).finish(),
            _ => writer.fingerprint().finish(),
        };
        assert_eq!(20 + 0xFFFC, length, "step {step}");
        assert!(writer.overflowed());
    }
    assert_eq!(Ok(Some(Data(&most))), parsed(&out).read());
}

#[test]
fn value_longer_than_its_length_field_is_left_out() {
    for length in [0xFFFD, 0xFFFF, 0x1_0000, 0x2_0003] {
        let value = vec![0; length];
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(&mut out, Class::Request, Method::SEND, TRANSACTION);
        writer.attribute(&Data(&value)).attribute(&Software("abc"));
        assert!(writer.overflowed());
        let message = Message::parse(&out).unwrap();
        assert_eq!(1, message.attributes().count());
        assert_eq!(Ok(Some(Software("abc"))), message.read());
    }
}
