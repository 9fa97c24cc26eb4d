//! Messages: what is one, what is none, and which of its attributes count.

use sterna_proto::stun::{
    ATTRIBUTES_MAX, AttributeError, AttributeType, Class, Kind, Message, Method, ParseError, Realm,
    Software, UNKNOWN_MAX, Username, peek_kind,
};

use crate::{TRANSACTION, hex, parsed, request, request_with};

//= https://www.rfc-editor.org/rfc/rfc8489#section-12
//= type=test
//# It MAY utilize the FINGERPRINT mechanism
//# but MUST NOT require it.
#[test]
fn header_alone_is_a_message() {
    let bytes = request_with(&[]);
    let message = parsed(&bytes);
    assert_eq!(Class::Request, message.class());
    assert_eq!(Method::BINDING, message.method());
    assert_eq!(TRANSACTION, message.transaction_id());
    assert_eq!(bytes, message.as_bytes());
    assert_eq!(None, message.attributes().next());
}

#[test]
fn message_types_of_every_method_and_class() {
    let types = [
        (0x0001, Method::BINDING, Class::Request, "Binding"),
        (0x0011, Method::BINDING, Class::Indication, "Binding"),
        (0x0101, Method::BINDING, Class::Success, "Binding"),
        (0x0111, Method::BINDING, Class::Error, "Binding"),
        (0x0003, Method::ALLOCATE, Class::Request, "Allocate"),
        (0x0103, Method::ALLOCATE, Class::Success, "Allocate"),
        (0x0113, Method::ALLOCATE, Class::Error, "Allocate"),
        (0x0004, Method::REFRESH, Class::Request, "Refresh"),
        (0x0016, Method::SEND, Class::Indication, "Send"),
        (0x0017, Method::DATA, Class::Indication, "Data"),
        (0x0008, Method::CREATE_PERMISSION, Class::Request, "CreatePermission"),
        (0x0109, Method::CHANNEL_BIND, Class::Success, "ChannelBind"),
        (0x000A, Method::CONNECT, Class::Request, "Connect"),
        (0x000B, Method::CONNECTION_BIND, Class::Request, "ConnectionBind"),
        (0x001C, Method::CONNECTION_ATTEMPT, Class::Indication, "ConnectionAttempt"),
        (0x3FFF, Method::from_number(0xFFF).unwrap(), Class::Error, "method 0xfff"),
    ];
    for (number, method, class, name) in types {
        let mut bytes = request_with(&[]);
        bytes[..2].copy_from_slice(&u16::to_be_bytes(number));
        let message = parsed(&bytes);
        assert_eq!((method, class), (message.method(), message.class()), "{number:#06x}");
        assert_eq!(name, message.method().to_string());
    }
    assert_eq!(None, Method::from_number(0x1000));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
//= type=test
//# It checks that the first two
//# bits are 0, that the Magic Cookie field has the correct value, that
//# the message length is sensible, and that the method value is a
//# supported method.
//= https://www.rfc-editor.org/rfc/rfc8489#section-5
//= type=test
//# The most significant 2 bits of every STUN message MUST be zeroes.
//= https://www.rfc-editor.org/rfc/rfc8489#section-5
//= type=test
//# The Magic Cookie field MUST contain the fixed value 0x2112A442 in
//# network byte order.
#[test]
fn bad_headers_are_no_messages() {
    let good = "0001 0000 2112a442 7472616e73616374696f6e21";
    assert!(Message::parse(&hex(good)).is_ok());
    for (bad, expected) in [
        ("", ParseError::TooShort),
        ("00", ParseError::TooShort),
        ("0001 0000 2112a442", ParseError::TooShort),
        ("0001 0000 2112a442 7472616e73616374696f6e", ParseError::TooShort),
        ("4001 0000 2112a442 7472616e73616374696f6e21", ParseError::NotStun),
        ("8001 0000 2112a442 7472616e73616374696f6e21", ParseError::NotStun),
        ("c001 0000 2112a442 7472616e73616374696f6e21", ParseError::NotStun),
        ("0001 0000 2112a443 7472616e73616374696f6e21", ParseError::MagicCookie),
        ("0001 0000 00000000 7472616e73616374696f6e21", ParseError::MagicCookie),
        ("0001 0004 2112a442 7472616e73616374696f6e21", ParseError::Length),
        ("0001 0001 2112a442 7472616e73616374696f6e21 00", ParseError::Length),
        ("0001 0003 2112a442 7472616e73616374696f6e21 000000", ParseError::Length),
        ("0001 0000 2112a442 7472616e73616374696f6e21 00000000", ParseError::Length),
        ("0001 fffc 2112a442 7472616e73616374696f6e21 00000000", ParseError::Length),
    ] {
        assert_eq!(expected, Message::parse(&hex(bad)).unwrap_err(), "{bad}");
    }
}

#[test]
fn attributes_that_reach_beyond_the_message_are_refused() {
    for bad in [
        "80220001",
        "80220005 61626364",
        "8022ffff 61626364",
        "80220004 61626364 80220001",
        "80220004 61626364 80220008 00000000",
        "00080014 00000000",
    ] {
        let bytes = request_with(&hex(bad));
        assert_eq!(ParseError::Attribute, Message::parse(&bytes).unwrap_err(), "{bad}");
    }
}

/// The lengths of message and attribute are 16 bits wide; their sum with the headers is not.
#[test]
fn longest_message_is_read() {
    let longest_value = 0xFFFC - 4;
    let mut attribute = hex("8022 fff8");
    attribute.resize(4 + longest_value, 0x61);
    let bytes = request_with(&attribute);
    assert_eq!(20 + 0xFFFC, bytes.len());
    let software = parsed(&bytes).raw(AttributeType::SOFTWARE);
    assert_eq!(Some(longest_value), software.map(<[u8]>::len));
}

#[test]
fn number_of_attributes_is_bounded() {
    let most = request_with(&hex("80ff0000").repeat(ATTRIBUTES_MAX));
    assert_eq!(ATTRIBUTES_MAX, parsed(&most).attributes().count());
    let more = request_with(&hex("80ff0000").repeat(ATTRIBUTES_MAX + 1));
    assert_eq!(ParseError::TooManyAttributes, Message::parse(&more).unwrap_err());
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14
//= type=test
//# The
//# padding bits MUST be set to zero on sending and MUST be ignored by
//# the receiver.
#[test]
fn padding_is_ignored() {
    let zero = request_with(&hex("80220005 6162636465 000000 00060000"));
    let other = request_with(&hex("80220005 6162636465 fefdfc 00060000"));
    for bytes in [&zero, &other] {
        assert_eq!(Ok(Some(Software("abcde"))), parsed(bytes).read());
        assert_eq!(Ok(Some(Username(""))), parsed(bytes).read());
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14
//= type=test
//# Unless specified otherwise, the order of appearance is significant:
//# only the first occurrence needs to be processed by a receiver, and
//# any duplicates MAY be ignored by a receiver.
#[test]
fn first_of_several_attributes_is_read() {
    let bytes = request(|writer| {
        writer.attribute(&Software("first")).attribute(&Software("second"));
    });
    let message = parsed(&bytes);
    assert_eq!(Ok(Some(Software("first"))), message.read());
    let all: Vec<_> = message.read_all().collect();
    assert_eq!(vec![Ok(Software("first")), Ok(Software("second"))], all);
}

#[test]
fn absent_attribute_is_no_error_and_a_bad_one_is() {
    let bytes = request_with(&hex("00060001 ff000000"));
    let message = parsed(&bytes);
    assert_eq!(Ok(None), message.read::<Software<'_>>());
    assert!(!message.has(AttributeType::SOFTWARE));
    assert!(message.has(AttributeType::USERNAME));
    let error = AttributeError::Text(AttributeType::USERNAME);
    assert_eq!(Err(error), message.read::<Username<'_>>());
    assert_eq!(vec![Err(error)], message.read_all::<Username<'_>>().collect::<Vec<_>>());
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
//= type=test
//# If the request contains one or more unknown comprehension-required
//# attributes, the server replies with an error response with an error
//# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
//# attribute in the response that lists the unknown comprehension-
//# required attributes.
//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
//= type=test
//# Unknown comprehension-optional attributes MUST be ignored
//# by the agent.
#[test]
fn unknown_comprehension_required_attributes_are_listed_once() {
    let bytes = request_with(&hex(
        "7f010000 00060000 80ff0000 7f020000 7f010000 00080000 001c0000 7f030000",
    ));
    let unknown = parsed(&bytes).unknown_required(&[AttributeType::USERNAME]);
    let expected = [0x7F01, 0x7F02].map(AttributeType::new);
    assert_eq!(&expected[..], &unknown[..]);
    let all_known = [AttributeType::USERNAME, expected[0], expected[1]];
    assert!(parsed(&bytes).unknown_required(&all_known).is_empty());
}

#[test]
fn list_of_unknown_attributes_is_bounded() {
    let attributes: Vec<u8> =
        (0x7000..0x7080_u16).flat_map(|kind| [kind.to_be_bytes(), [0, 0]]).flatten().collect();
    let bytes = request_with(&attributes);
    assert_eq!(UNKNOWN_MAX, parsed(&bytes).unknown_required(&[]).len());
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9
//= type=test
//# Note that agents MUST ignore all attributes that follow MESSAGE-
//# INTEGRITY, with the exception of the MESSAGE-INTEGRITY-SHA256 and
//# FINGERPRINT attributes.
#[test]
fn attributes_behind_message_integrity_do_not_count() {
    let bytes = request_with(&hex(
        "80220001 61000000 00080000 00140001 61000000 7f010000 001c0000 00060000 00080000 001c0000",
    ));
    let message = parsed(&bytes);
    assert_eq!(
        vec![
            AttributeType::SOFTWARE,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
        ],
        kinds(&message)
    );
    assert_eq!(Ok(None), message.read::<Realm<'_>>());
    assert!(!message.has(AttributeType::USERNAME));
    assert!(message.unknown_required(&[]).is_empty());
}

/// A MESSAGE-INTEGRITY behind it changes nothing: what lies between the two is not protected.
//= https://www.rfc-editor.org/rfc/rfc8489#section-9
//= type=test
//# Similarly, agents MUST ignore all attributes
//# that follow the MESSAGE-INTEGRITY-SHA256 attribute if the MESSAGE-
//# INTEGRITY attribute is not present, with the exception of the
//# FINGERPRINT attribute.
#[test]
fn attributes_behind_message_integrity_sha256_do_not_count() {
    for tail in ["00140001 61000000", "00140001 61000000 00080000", "00080000 00140001 61000000"] {
        let attributes = format!("80220001 61000000 001c0000 {tail}");
        let bytes = request_with(&hex(&attributes));
        let message = parsed(&bytes);
        assert_eq!(
            vec![AttributeType::SOFTWARE, AttributeType::MESSAGE_INTEGRITY_SHA256],
            kinds(&message),
            "{tail}"
        );
        assert_eq!(Ok(None), message.read::<Realm<'_>>());
    }
}

#[test]
fn fingerprint_counts_behind_message_integrity() {
    let bytes = request(|writer| {
        writer.raw(AttributeType::MESSAGE_INTEGRITY, &[]);
        writer.attribute(&Realm("ignored"));
        writer.fingerprint();
    });
    assert_eq!(
        vec![AttributeType::MESSAGE_INTEGRITY, AttributeType::FINGERPRINT],
        kinds(&parsed(&bytes))
    );
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.7
//= type=test
//# When present, the FINGERPRINT attribute MUST be the last attribute in
//# the message and thus will appear after MESSAGE-INTEGRITY and MESSAGE-
//# INTEGRITY-SHA256.
#[test]
fn fingerprint_that_is_not_last_or_not_right_is_refused() {
    let good = request(|writer| _ = writer.attribute(&Software("abc")).fingerprint());
    assert_eq!(2, parsed(&good).attributes().count());

    let not_last = request(|writer| _ = writer.fingerprint().attribute(&Software("abc")));
    let twice = request(|writer| _ = writer.fingerprint().fingerprint());
    let short = request(|writer| _ = writer.raw(AttributeType::FINGERPRINT, &[0; 3]));
    let long = request(|writer| _ = writer.raw(AttributeType::FINGERPRINT, &[0; 5]));
    let wrong = request(|writer| _ = writer.raw(AttributeType::FINGERPRINT, &[0; 4]));
    for bytes in [not_last, twice, short, long, wrong] {
        assert_eq!(ParseError::Fingerprint, Message::parse(&bytes).unwrap_err());
    }
}

/// A changed bit is noticed, unless it makes the FINGERPRINT part of the attribute before it.
#[test]
fn fingerprint_covers_every_bit_before_it() {
    let good = request(|writer| _ = writer.attribute(&Software("abcd")).fingerprint());
    for bit in 0..(good.len() - 8) * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let passed =
            Message::parse(&bad).is_ok_and(|message| message.has(AttributeType::FINGERPRINT));
        assert!(!passed, "bit {bit}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# ChannelData messages can be distinguished
//# from other multiplexed protocols by examining the first byte of the
//# message:
//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//= type=test
//# Others     |              Reserved; MUST be dropped
#[test]
fn first_byte_tells_the_kind() {
    assert_eq!(Kind::Other, peek_kind(&[]));
    for first in 0..=255 {
        let expected = match first {
            0..=3 => Kind::Stun,
            64..=127 => Kind::ChannelData,
            _ => Kind::Other,
        };
        assert_eq!(expected, peek_kind(&[first, 0, 0, 0]), "{first}");
    }
}

/// Values name users and carry what they prove themselves with.
#[test]
fn debug_output_of_a_message_names_attributes_without_values() {
    let bytes = request(|writer| _ = writer.attribute(&Username("alice")));
    let shown = format!("{:?}", parsed(&bytes));
    assert_eq!("Binding Request 7472616e73616374696f6e21 [USERNAME]", shown);
}

fn kinds(message: &Message<'_>) -> Vec<AttributeType> {
    message.attributes().map(|attribute| attribute.kind).collect()
}
