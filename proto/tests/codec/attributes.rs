//! Every attribute: values and the bytes they stand for, and bytes that stand for nothing.

use std::fmt::Debug;
use std::time::Duration;

use smallvec::smallvec;
use sterna_proto::address::Family;
use sterna_proto::channel_data::ChannelNumber;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::stun::{
    AccessToken, AdditionalAddressFamily, AddressErrorCode, AlternateDomain, AlternateServer,
    Attribute, AttributeError, AttributeType, ChangeRequest, ConnectionId, Data, DontFragment,
    ErrorCode, ErrorCodeAttribute, EvenPort, Icmp, Lifetime, MappedAddress, MobilityTicket, Nonce,
    Origin, OtherAddress, PASSWORD_ALGORITHMS_MAX, Padding, PasswordAlgorithmAttribute,
    PasswordAlgorithms, Realm, RequestedAddressFamily, RequestedTransport, ReservationToken,
    ResponseOrigin, ResponsePort, Software, TEXT_LEN_MAX, ThirdPartyAuthorization, UNKNOWN_MAX,
    UnknownAttributes, UserHash, Username, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};

use crate::{TRANSACTION, encoded, hex, parsed, request};

/// Both directions between `attribute` and `value`, and through a whole message.
#[track_caller]
fn same<A: for<'a> Attribute<'a> + PartialEq + Debug>(attribute: A, value: &str) {
    let value = hex(value);
    assert_eq!(value, encoded(&attribute), "{attribute:?}");
    assert_eq!(Ok(&attribute), A::decode(&value, &TRANSACTION).as_ref());
    let message = request(|writer| _ = writer.attribute(&attribute));
    assert_eq!(Ok(Some(attribute)), parsed(&message).read());
}

/// As [`same`], for attributes that borrow.
macro_rules! same_borrowed {
    ($attribute:expr, $value:expr) => {{
        let value = hex($value);
        let message = request(|writer| _ = writer.attribute(&$attribute));
        let attribute = $attribute;
        assert_eq!(value, encoded(&attribute), "{attribute:?}");
        let decoded = Attribute::decode(&value, &TRANSACTION);
        assert_eq!(Ok(&attribute), decoded.as_ref());
        assert_eq!(Ok(Some(attribute)), parsed(&message).read());
    }};
}

#[track_caller]
fn refused<'a, A: Attribute<'a> + Debug + PartialEq>(
    expected: fn(AttributeType) -> AttributeError,
    value: &'a [u8],
) {
    let decoded = A::decode(value, &TRANSACTION);
    assert_eq!(Err(expected(A::TYPE)), decoded, "{value:02x?}");
}

#[track_caller]
fn lengths_refused<'a, A: Attribute<'a> + Debug + PartialEq>(lengths: &[usize]) {
    for &length in lengths {
        refused::<A>(AttributeError::Length, &ZEROES[..length]);
    }
}

#[test]
fn plain_addresses() {
    let v4 = "198.51.100.7:3478".parse().unwrap();
    let v6 = "[2001:db8::7]:3479".parse().unwrap();
    let v4_value = "0001 0d96 c6336407";
    let v6_value = "0002 0d97 20010db8 00000000 00000000 00000007";
    same(MappedAddress(v4), v4_value);
    same(MappedAddress(v6), v6_value);
    same(AlternateServer(v4), v4_value);
    same(AlternateServer(v6), v6_value);
    same(ResponseOrigin(v4), v4_value);
    same(OtherAddress(v6), v6_value);
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.2
//= type=test
//# If the IP address family is
//# IPv4, X-Address is computed by XOR'ing the mapped IP address with the
//# magic cookie.  If the IP address family is IPv6, X-Address is
//# computed by XOR'ing the mapped IP address with the concatenation of
//# the magic cookie and the 96-bit transaction ID.
#[test]
fn xored_addresses() {
    let v4 = "198.51.100.7:3478".parse().unwrap();
    let v6 = "[2001:db8::7]:3479".parse().unwrap();
    let v4_value = "0001 2c84 e721c045";
    let v6_value = "0002 2c85 0113a9fa 7472616e 73616374 696f6e26";
    same(XorMappedAddress(v4), v4_value);
    same(XorMappedAddress(v6), v6_value);
    same(XorPeerAddress(v4), v4_value);
    same(XorPeerAddress(v6), v6_value);
    same(XorRelayedAddress(v4), v4_value);
    same(XorRelayedAddress(v6), v6_value);
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.1
//= type=test
//# If the address family is IPv4, the address MUST be 32 bits.  If the
//# address family is IPv6, the address MUST be 128 bits.
#[test]
fn addresses_have_the_length_of_their_family() {
    for value in [
        "",
        "00",
        "0001",
        "000112",
        "00011234",
        "00011234 c63364",
        "00011234 c633640700",
        "00011234 20010db8000000000000000000000007",
        "00021234",
        "00021234 c6336407",
        "00021234 20010db80000000000000000000000",
        "00021234 20010db800000000000000000000000700",
    ] {
        refused::<MappedAddress>(AttributeError::Length, &hex(value));
        refused::<XorMappedAddress>(AttributeError::Length, &hex(value));
        refused::<XorPeerAddress>(AttributeError::Length, &hex(value));
    }
}

#[test]
fn addresses_of_unknown_families_are_refused() {
    for (value, family) in [("0000 1234 c6336407", 0), ("0003 1234 c6336407", 3), ("00ff1234", 255)]
    {
        let decoded = XorPeerAddress::decode(&hex(value), &TRANSACTION);
        let kind = AttributeType::XOR_PEER_ADDRESS;
        assert_eq!(Err(AttributeError::Family(kind, family)), decoded);
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.1
//= type=test
//# The first 8 bits of the MAPPED-ADDRESS MUST be set to 0 and MUST be
//# ignored by receivers.
#[test]
fn first_byte_of_an_address_is_ignored() {
    let decoded = MappedAddress::decode(&hex("ff01 0d96 c6336407"), &TRANSACTION);
    assert_eq!(Ok(MappedAddress("198.51.100.7:3478".parse().unwrap())), decoded);
}

#[test]
fn texts() {
    same_borrowed!(Username("alice"), "616c696365");
    same_borrowed!(Username("\u{30DE}"), "e3839e");
    same_borrowed!(Realm("north.gov"), "6e6f7274682e676f76");
    same_borrowed!(Nonce("abc"), "616263");
    same_borrowed!(Software("Sterna"), "537465726e61");
    same_borrowed!(AlternateDomain("turn-2.example.org"), "7475726e2d322e6578616d706c652e6f7267");
    same_borrowed!(Origin("https://a.example"), "68747470733a2f2f612e6578616d706c65");
    same_borrowed!(ThirdPartyAuthorization("relay"), "72656c6179");
    same_borrowed!(Username(""), "");
    same_borrowed!(Realm(""), "");
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.3
//= type=test
//# A compliant implementation MUST
//# be able to parse a UTF-8-encoded sequence of 763 or fewer octets to
//# be compatible with [RFC5389].
#[test]
fn texts_are_read_up_to_763_bytes() {
    let longest = &ZEROES[..TEXT_LEN_MAX];
    assert_eq!(763, TEXT_LEN_MAX);
    let expected = std::str::from_utf8(longest).unwrap();
    assert_eq!(Ok(Username(expected)), Username::decode(longest, &TRANSACTION));
    assert_eq!(Ok(Realm(expected)), Realm::decode(longest, &TRANSACTION));
    assert_eq!(Ok(Nonce(expected)), Nonce::decode(longest, &TRANSACTION));
    assert_eq!(Ok(Software(expected)), Software::decode(longest, &TRANSACTION));

    lengths_refused::<Username<'_>>(&[764, 1000]);
    lengths_refused::<Realm<'_>>(&[764, 1000]);
    lengths_refused::<Nonce<'_>>(&[764, 1000]);
    lengths_refused::<Software<'_>>(&[764, 1000]);
    lengths_refused::<Origin<'_>>(&[764, 1000]);
    lengths_refused::<ThirdPartyAuthorization<'_>>(&[764, 1000]);
    lengths_refused::<AlternateDomain<'_>>(&[256, 1000]);
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.14
//= type=test
//# It MUST be a UTF-8-encoded
//# [RFC3629] sequence of fewer than 128 characters
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
//= type=test
//# The reason phrase MUST be a
//# UTF-8-encoded [RFC3629] sequence of fewer than 128 characters
//= https://www.rfc-editor.org/rfc/rfc8656#section-18.12
//= type=test
//# The reason phrase MUST be a
//# UTF-8 [RFC3629] encoded sequence of less than 128 characters
#[test]
fn texts_for_people_are_sent_up_to_127_characters() {
    let (most, more) = ("\u{30DE}".repeat(127), "\u{30DE}".repeat(128));
    assert_eq!(most.as_bytes(), encoded(&Software(&most)));
    assert_eq!(most.as_bytes(), encoded(&Software(&more)));
    let code = ErrorCode::ServerError;
    let expected = [&hex("0000 0500"), most.as_bytes()].concat();
    assert_eq!(expected, encoded(&ErrorCodeAttribute { code, reason: &more }));
    let family = Family::V4;
    let expected = [&hex("0100 0500"), most.as_bytes()].concat();
    assert_eq!(expected, encoded(&AddressErrorCode { family, code, reason: &more }));
}

#[test]
fn texts_are_utf8() {
    for value in ["ff", "61c3", "eda080", "f5808080", "c080"] {
        refused::<Username<'_>>(AttributeError::Text, &hex(value));
        refused::<Realm<'_>>(AttributeError::Text, &hex(value));
        refused::<Nonce<'_>>(AttributeError::Text, &hex(value));
        refused::<Software<'_>>(AttributeError::Text, &hex(value));
        refused::<Origin<'_>>(AttributeError::Text, &hex(value));
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.16
//= type=test
//# It MUST be a valid
//# DNS name [RFC1123] (including A-labels [RFC5890]) of 255 or fewer
//# ASCII characters.
#[test]
fn alternate_domain_is_a_dns_name() {
    for name in ["", "a b", "a_b", "b\u{FC}cher.example", "a\n", "a:1", "-\""] {
        refused::<AlternateDomain<'_>>(AttributeError::Text, name.as_bytes());
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.4
//= type=test
//# The value of USERHASH has a fixed length of 32 bytes.
#[test]
fn user_hash() {
    same(UserHash([0xA5; 32]), &"a5".repeat(32));
    lengths_refused::<UserHash>(&[0, 20, 31, 33]);
}

#[test]
fn password_algorithm() {
    let none = |number| PasswordAlgorithmAttribute { number, parameters: &[] };
    same_borrowed!(none(1), "0001 0000");
    same_borrowed!(PasswordAlgorithmAttribute::from(PasswordAlgorithm::Sha256), "0002 0000");
    same_borrowed!(none(0xBEEF), "beef 0000");
    same_borrowed!(
        PasswordAlgorithmAttribute { number: 3, parameters: &[1, 2, 3, 4, 5] },
        "0003 0005 0102030405 000000"
    );
    for value in
        ["", "0001", "000100", "0001 0001", "0001 0002 01", "0001 0000 00", "0001 0001 0100"]
    {
        refused::<PasswordAlgorithmAttribute<'_>>(AttributeError::Length, &hex(value));
    }
}

#[test]
fn password_algorithm_with_parameters_or_unknown_is_none_of_ours() {
    let of = |number, parameters| PasswordAlgorithmAttribute { number, parameters }.algorithm();
    assert_eq!(Some(PasswordAlgorithm::Md5), of(1, &[]));
    assert_eq!(Some(PasswordAlgorithm::Sha256), of(2, &[]));
    assert_eq!(None, of(2, &[0]));
    assert_eq!(None, of(0, &[]));
    assert_eq!(None, of(3, &[]));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.12
//= type=test
//# Similarly, the padding bits MUST be set to zero on sending and MUST
//# be ignored by the receiver.
#[test]
fn padding_of_parameters_is_ignored() {
    let expected = PasswordAlgorithmAttribute { number: 3, parameters: &[7] };
    assert_eq!(hex("0003 0001 07 000000"), encoded(&expected));
    let padded = hex("0003 0001 07 fffefd");
    assert_eq!(Ok(expected), Attribute::decode(&padded, &TRANSACTION));
}

/// Some senders count the padding of the parameters as part of the value and some do not.
#[test]
fn padding_of_the_last_parameters_may_be_the_attributes_own() {
    let expected = PasswordAlgorithmAttribute { number: 3, parameters: &[7] };
    let padded = hex("0003 0001 07 000000");
    assert_eq!(Ok(expected), Attribute::decode(&padded, &TRANSACTION));
    let bare = hex("0003 0001 07");
    assert_eq!(Ok(expected), Attribute::decode(&bare, &TRANSACTION));
}

#[test]
fn password_algorithms() {
    let both = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
    let ours = PasswordAlgorithms::from_iter(both);
    same_borrowed!(PasswordAlgorithms::from_iter(both), "0002 0000 0001 0000");
    same_borrowed!(PasswordAlgorithms(smallvec![]), "");
    same_borrowed!(
        PasswordAlgorithms(smallvec![
            PasswordAlgorithmAttribute { number: 9, parameters: &[1, 2, 3, 4, 5, 6] },
            PasswordAlgorithm::Md5.into(),
        ]),
        "0009 0006 010203040506 0000 0001 0000"
    );
    assert!(ours.offers(&PasswordAlgorithm::Md5.into()));
    assert!(!ours.offers(&PasswordAlgorithmAttribute { number: 9, parameters: &[] }));
    for value in ["00", "0001", "0001 0000 0002", "0001 0001", "0001 0004 0002 0000 00"] {
        refused::<PasswordAlgorithms<'_>>(AttributeError::Length, &hex(value));
    }
}

#[test]
fn password_algorithms_are_bounded() {
    let longest = hex("0001 0000").repeat(PASSWORD_ALGORITHMS_MAX);
    let decoded = PasswordAlgorithms::decode(&longest, &TRANSACTION).unwrap();
    assert_eq!(PASSWORD_ALGORITHMS_MAX, decoded.0.len());
    let longer = hex("0001 0000").repeat(PASSWORD_ALGORITHMS_MAX + 1);
    refused::<PasswordAlgorithms<'_>>(AttributeError::Value, &longer);
}

#[test]
fn error_code() {
    same_borrowed!(ErrorCodeAttribute { code: ErrorCode::StaleNonce, reason: "" }, "0000 0426");
    same_borrowed!(ErrorCodeAttribute::from(ErrorCode::Forbidden), "0000 0403 466f7262696464656e");
    same_borrowed!(
        ErrorCodeAttribute::from(ErrorCode::TryAlternate),
        "0000 0300 54727920416c7465726e617465"
    );
    lengths_refused::<ErrorCodeAttribute<'_>>(&[0, 1, 2, 3]);
}

#[test]
fn every_error_code_comes_back() {
    for &code in ErrorCode::ALL {
        let value = encoded(&ErrorCodeAttribute::from(code));
        let decoded = ErrorCodeAttribute::decode(&value, &TRANSACTION).unwrap();
        assert_eq!(ErrorCodeAttribute { code, reason: code.reason() }, decoded);
        assert_eq!(Some(code), ErrorCode::from_number(code.number()));
    }
    assert_eq!(None, ErrorCode::from_number(499));
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
//= type=test
//# The Class represents
//# the hundreds digit of the error code.  The value MUST be between 3
//# and 6.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
//= type=test
//# The Number represents the binary encoding of the error code
//# modulo 100, and its value MUST be between 0 and 99.
#[test]
fn error_code_has_a_class_from_3_to_6_and_a_number_below_100() {
    for value in ["0000 0000", "0000 0200", "0000 0700", "0000 0464", "0000 04ff"] {
        refused::<ErrorCodeAttribute<'_>>(AttributeError::Value, &hex(value));
    }
    let decoded = ErrorCodeAttribute::decode(&[0, 0, 4, 99], &TRANSACTION);
    let unknown = AttributeError::ErrorNumber(AttributeType::ERROR_CODE, 499);
    assert_eq!(Err(unknown), decoded);
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
//= type=test
//# The Reserved bits SHOULD be 0 and are for alignment on 32-bit
//# boundaries.  Receivers MUST ignore these bits.
#[test]
fn reserved_bits_of_the_error_code_are_ignored() {
    let decoded = ErrorCodeAttribute::decode(&[0xFF, 0xFF, 0xFC, 1], &TRANSACTION);
    let expected = ErrorCodeAttribute { code: ErrorCode::Unauthorized, reason: "" };
    assert_eq!(Ok(expected), decoded);
}

#[test]
fn address_error_code() {
    same_borrowed!(
        AddressErrorCode {
            family: Family::V6,
            code: ErrorCode::AddressFamilyNotSupported,
            reason: "no"
        },
        "0200 0428 6e6f"
    );
    let code = ErrorCode::InsufficientCapacity;
    let reason = code.reason();
    let family = Family::V4;
    assert_eq!(AddressErrorCode { family, code, reason }, AddressErrorCode::new(family, code));
    lengths_refused::<AddressErrorCode<'_>>(&[0, 1, 2, 3]);
    refused::<AddressErrorCode<'_>>(|kind| AttributeError::Family(kind, 3), &[3, 0, 4, 40]);
}

#[test]
fn unknown_attributes() {
    same(UnknownAttributes(smallvec![]), "");
    same(
        UnknownAttributes(smallvec![AttributeType::new(0x1234), AttributeType::DATA]),
        "1234 0013",
    );
    lengths_refused::<UnknownAttributes>(&[1, 3, 5]);
    let long = hex("7f01").repeat(UNKNOWN_MAX + 1);
    let decoded = UnknownAttributes::decode(&long, &TRANSACTION).unwrap();
    assert_eq!(UNKNOWN_MAX, decoded.0.len());
}

#[test]
fn channel_number() {
    same(ChannelNumber::new(0x4001).unwrap(), "4001 0000");
    same(ChannelNumber::wide(0x7FFE).unwrap(), "7ffe 0000");
    lengths_refused::<ChannelNumber>(&[0, 2, 3, 5]);
    for value in ["0000 0000", "3fff 0000", "7fff 0000", "8000 0000", "ffff 0000"] {
        refused::<ChannelNumber>(AttributeError::Value, &hex(value));
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-18.1
//= type=test
//# a two-octet RFFU (Reserved For
//# Future Use) field, which MUST be set to 0 on transmission and MUST be
//# ignored on reception.
#[test]
fn reserved_bytes_of_the_channel_number_are_ignored() {
    let decoded = ChannelNumber::decode(&hex("4000 ffff"), &TRANSACTION);
    assert_eq!(Ok(ChannelNumber::new(0x4000).unwrap()), decoded);
}

#[test]
fn lifetime() {
    same(Lifetime(Duration::from_secs(600)), "00000258");
    same(Lifetime(Duration::ZERO), "00000000");
    same(Lifetime(Duration::from_secs(u64::from(u32::MAX))), "ffffffff");
    lengths_refused::<Lifetime>(&[0, 3, 5, 8]);
    assert_eq!(hex("00000001"), encoded(&Lifetime(Duration::from_millis(1999))));
    assert_eq!(hex("ffffffff"), encoded(&Lifetime(Duration::from_secs(u64::MAX))));
}

#[test]
fn data() {
    same_borrowed!(Data(b""), "");
    same_borrowed!(Data(b"hello"), "68656c6c6f");
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-18.6
//= type=test
//# At this point, the 24 bits in the Reserved field MUST be
//# set to zero by the client and MUST be ignored by the server.
#[test]
fn address_families() {
    same(RequestedAddressFamily(Family::V4), "01000000");
    same(RequestedAddressFamily(Family::V6), "02000000");
    same(AdditionalAddressFamily(Family::V6), "02000000");
    let decoded = RequestedAddressFamily::decode(&hex("02ffffff"), &TRANSACTION);
    assert_eq!(Ok(RequestedAddressFamily(Family::V6)), decoded);
    lengths_refused::<RequestedAddressFamily>(&[0, 1, 3, 5]);
    lengths_refused::<AdditionalAddressFamily>(&[0, 1, 3, 5]);
    refused::<RequestedAddressFamily>(|kind| AttributeError::Family(kind, 3), &[3, 0, 0, 0]);
    refused::<AdditionalAddressFamily>(|kind| AttributeError::Family(kind, 0), &[0, 0, 0, 0]);
}

#[test]
fn even_port() {
    same(EvenPort { reserve_next: true }, "80");
    same(EvenPort { reserve_next: false }, "00");
    let decoded = EvenPort::decode(&[0x7F], &TRANSACTION);
    assert_eq!(Ok(EvenPort { reserve_next: false }), decoded);
    lengths_refused::<EvenPort>(&[0, 2, 4]);
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-18.8
//= type=test
//# The RFFU field MUST be set to zero on transmission and MUST be
//# ignored on reception.
#[test]
fn requested_transport() {
    same(RequestedTransport::UDP, "11000000");
    same(RequestedTransport::TCP, "06000000");
    same(RequestedTransport(255), "ff000000");
    let decoded = RequestedTransport::decode(&hex("11ffffff"), &TRANSACTION);
    assert_eq!(Ok(RequestedTransport::UDP), decoded);
    lengths_refused::<RequestedTransport>(&[0, 1, 3, 5]);
}

#[test]
fn dont_fragment() {
    same(DontFragment, "");
    lengths_refused::<DontFragment>(&[1, 4]);
}

#[test]
fn reservation_token() {
    same(ReservationToken([1, 2, 3, 4, 5, 6, 7, 8]), "0102030405060708");
    lengths_refused::<ReservationToken>(&[0, 7, 9]);
}

#[test]
fn icmp() {
    same(Icmp { kind: 3, code: 4, data: 1400 }, "0000 0304 00000578");
    lengths_refused::<Icmp>(&[0, 4, 7, 9]);
    let decoded = Icmp::decode(&hex("ffff 0200 00000500"), &TRANSACTION);
    assert_eq!(Ok(Icmp { kind: 2, code: 0, data: 1280 }), decoded);
}

#[test]
fn connection_id() {
    same(ConnectionId(0xDEAD_BEEF), "deadbeef");
    lengths_refused::<ConnectionId>(&[0, 3, 5]);
}

#[test]
fn mobility_ticket() {
    same_borrowed!(MobilityTicket(b""), "");
    same_borrowed!(MobilityTicket(b"\x00\x01\x02"), "000102");
}

#[test]
fn change_request() {
    same(ChangeRequest { ip: true, port: true }, "00000006");
    same(ChangeRequest { ip: true, port: false }, "00000004");
    same(ChangeRequest { ip: false, port: true }, "00000002");
    same(ChangeRequest { ip: false, port: false }, "00000000");
    lengths_refused::<ChangeRequest>(&[0, 3, 5]);
}

#[test]
fn response_port() {
    same(ResponsePort(3478), "0d96 0000");
    assert_eq!(Ok(ResponsePort(3478)), ResponsePort::decode(&hex("0d96"), &TRANSACTION));
    lengths_refused::<ResponsePort>(&[0, 1, 3, 5]);
}

#[test]
fn padding() {
    same_borrowed!(Padding(&[0; 5]), "0000000000");
}

/// A token whose nonce length reaches beyond the token is refused before anything is decrypted.
#[test]
fn access_token() {
    same_borrowed!(AccessToken { nonce: b"12", encrypted_block: b"abc" }, "0002 3132 616263");
    same_borrowed!(AccessToken { nonce: b"", encrypted_block: b"" }, "0000");
    lengths_refused::<AccessToken<'_>>(&[0, 1]);
    for value in ["0001", "0002 31", "ffff 3132"] {
        refused::<AccessToken<'_>>(AttributeError::Length, &hex(value));
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    assert_eq!("ReservationToken(redacted)", format!("{:?}", ReservationToken([7; 8])));
    assert_eq!("MobilityTicket(redacted)", format!("{:?}", MobilityTicket(b"ticket")));
    let token = AccessToken { nonce: b"12", encrypted_block: b"abc" };
    assert_eq!("AccessToken(redacted)", format!("{token:?}"));
    assert_eq!("Nonce(3 bytes)", format!("{:?}", Nonce("abc")));
    assert_eq!("Data(5 bytes)", format!("{:?}", Data(b"hello")));
}

#[test]
fn types_have_the_names_of_their_rfcs() {
    assert_eq!("XOR-PEER-ADDRESS", AttributeType::XOR_PEER_ADDRESS.to_string());
    assert_eq!("attribute 0x7abc", AttributeType::new(0x7ABC).to_string());
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14
//= type=test
//# Attributes with type values between 0x8000 and 0xFFFF are
//# comprehension-optional attributes, which means that those attributes
//# can be ignored by the STUN agent if it does not understand them.
#[test]
fn upper_half_of_the_types_may_be_ignored() {
    assert!(AttributeType::new(0x0000).is_comprehension_required());
    assert!(AttributeType::new(0x7FFF).is_comprehension_required());
    assert!(!AttributeType::new(0x8000).is_comprehension_required());
    assert!(!AttributeType::new(0xFFFF).is_comprehension_required());
}

static ZEROES: [u8; 1000] = [0; 1000];
