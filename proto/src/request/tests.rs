//! Requests by table: what each turns into, or the one error code it gets. Where several checks
//! fail, the table shows which of them the RFC makes first.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    AllocateRequest, ChannelNumbers, ConnectRequest, ConnectionBindRequest, Families, Offer,
    PortWish, RefreshRequest, Request, RequestError, SendIndication,
};
use crate::address::{Family, PeerAddr, RelayTransport, TransportProtocol};
use crate::channel_data::ChannelNumber;
use crate::drops::DropReason;
use crate::stun::{
    AttributeError, AttributeType, Class, ConnectionId, ErrorCode, Message, MessageWriter, Method,
    ReservationToken, TransactionId, XorPeerAddress,
};

/// An attribute with the value written out.
type Raw<'a> = (AttributeType, &'a [u8]);

const UDP: Raw<'static> = (AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
const TCP: Raw<'static> = (AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
const SCTP: Raw<'static> = (AttributeType::REQUESTED_TRANSPORT, &[132, 0, 0, 0]);
const SHORT_TRANSPORT: Raw<'static> = (AttributeType::REQUESTED_TRANSPORT, &[17, 0]);
const DONT_FRAGMENT: Raw<'static> = (AttributeType::DONT_FRAGMENT, &[]);
const EVEN: Raw<'static> = (AttributeType::EVEN_PORT, &[0]);
const EVEN_AND_RESERVE: Raw<'static> = (AttributeType::EVEN_PORT, &[0x80]);
const TOKEN: Raw<'static> = (AttributeType::RESERVATION_TOKEN, &[1, 2, 3, 4, 5, 6, 7, 8]);
const V4: Raw<'static> = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
const V6: Raw<'static> = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const NO_FAMILY: Raw<'static> = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0]);
const AND_V6: Raw<'static> = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const AND_V4: Raw<'static> = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0]);
const FOREIGN: Raw<'static> = (AttributeType::new(0x7fff), &[]);
const OPTIONAL: Raw<'static> = (AttributeType::new(0xffff), &[]);

fn id() -> TransactionId {
    TransactionId::from_bytes(*b"transaction!")
}

fn message(class: Class, method: Method, attributes: &[Raw<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = MessageWriter::new(&mut bytes, class, method, id());
    for (kind, value) in attributes {
        writer.raw(*kind, value);
    }
    bytes
}

fn read_with(
    offer: &Offer,
    method: Method,
    attributes: &[Raw<'_>],
) -> Result<Request, RequestError> {
    let bytes = message(Class::Request, method, attributes);
    let message = Message::parse(&bytes).expect("the writer writes messages");
    Request::read(&message, TransportProtocol::Udp, offer)
}

/// What is read from a client that has come by `protocol`.
fn read_by(
    protocol: TransportProtocol,
    method: Method,
    attributes: &[Raw<'_>],
) -> Result<Request, RequestError> {
    let bytes = message(Class::Request, method, attributes);
    let message = Message::parse(&bytes).expect("the writer writes messages");
    Request::read(&message, protocol, &everything())
}

fn read(method: Method, attributes: &[Raw<'_>]) -> Result<Request, RequestError> {
    read_with(&everything(), method, attributes)
}

fn everything() -> Offer {
    Offer {
        v4: true,
        v6: true,
        tcp: true,
        dont_fragment: true,
        channel_numbers: ChannelNumbers::Rfc8656,
    }
}

/// The value of an XOR-PEER-ADDRESS.
fn xor(address: &str) -> Vec<u8> {
    let address = address.parse().expect("the test writes valid addresses");
    let mut bytes = Vec::new();
    MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, id())
        .attribute(&XorPeerAddress(address));
    bytes.split_off(24)
}

fn peer(address: &str) -> PeerAddr {
    PeerAddr(address.parse().expect("the test writes valid addresses"))
}

fn allocate() -> AllocateRequest {
    AllocateRequest {
        transport: RelayTransport::Udp,
        lifetime: None,
        dont_fragment: false,
        port: PortWish::Any,
        families: Families::One(Family::V4),
    }
}

#[test]
fn an_allocate_request_says_what_it_wants() {
    let lifetime = (AttributeType::LIFETIME, &[0, 0, 0x0e, 0x10][..]);
    let token = ReservationToken([1, 2, 3, 4, 5, 6, 7, 8]);
    for (attributes, wanted) in [
        (vec![UDP], allocate()),
        (vec![UDP, OPTIONAL, EVEN], AllocateRequest { port: PortWish::Even, ..allocate() }),
        (vec![DONT_FRAGMENT, UDP], AllocateRequest { dont_fragment: true, ..allocate() }),
        (
            vec![UDP, lifetime],
            AllocateRequest { lifetime: Some(Duration::from_secs(3600)), ..allocate() },
        ),
        (
            vec![UDP, EVEN_AND_RESERVE, V6],
            AllocateRequest {
                port: PortWish::EvenAndReserve,
                families: Families::One(Family::V6),
                ..allocate()
            },
        ),
        (
            vec![UDP, TOKEN],
            AllocateRequest {
                port: PortWish::Reserved(token),
                families: Families::AsReserved,
                ..allocate()
            },
        ),
        (
            vec![UDP, AND_V6, EVEN],
            AllocateRequest { port: PortWish::Even, families: Families::Both, ..allocate() },
        ),
    ] {
        let read = read(Method::ALLOCATE, &attributes);
        assert_eq!(Ok(Request::Allocate(wanted)), read, "{attributes:?}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If the REQUESTED-TRANSPORT attribute is not included
//# or is malformed, the server rejects the request with a 400 (Bad
//# Request) error.  Otherwise, if the attribute is included but
//# specifies a protocol that is not supported by the server, the
//# server rejects the request with a 442 (Unsupported Transport
//# Protocol) error.
#[test]
fn requested_transport_is_checked_first() {
    let conflict = [TOKEN, EVEN, V4, AND_V4];
    for (transport, code) in [
        (vec![], ErrorCode::BadRequest),
        (vec![SHORT_TRANSPORT], ErrorCode::BadRequest),
        (vec![SCTP], ErrorCode::UnsupportedTransportProtocol),
        (vec![SCTP, UDP], ErrorCode::UnsupportedTransportProtocol),
    ] {
        let alone = read(Method::ALLOCATE, &transport);
        assert_eq!(Err(code), alone.map_err(|error| error.code()), "{transport:?}");
        let with_more = read(Method::ALLOCATE, &[&transport[..], &conflict].concat());
        assert_eq!(Err(code), with_more.map_err(|error| error.code()), "{transport:?}");
    }
    assert_eq!(
        Err(RequestError::Missing(AttributeType::REQUESTED_TRANSPORT)),
        read(Method::ALLOCATE, &[])
    );
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If yes, and the request also contains an EVEN-PORT
//# or REQUESTED-ADDRESS-FAMILY or ADDITIONAL-ADDRESS-FAMILY
//# attribute, the server rejects the request with a 400 (Bad
//# Request) error.
#[test]
fn a_reservation_token_excludes_what_it_decides() {
    for excluded in [EVEN, EVEN_AND_RESERVE, V4, V6, NO_FAMILY, AND_V6, AND_V4] {
        let contradiction = RequestError::Contradiction(TOKEN.0, excluded.0);
        assert_eq!(ErrorCode::BadRequest, contradiction.code());
        assert_eq!(Err(contradiction), read(Method::ALLOCATE, &[UDP, excluded, TOKEN]));
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# The server checks if the request contains both REQUESTED-
//# ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY attributes.  If
//# yes, then the server rejects the request with a 400 (Bad
//# Request) error.
#[test]
fn one_family_excludes_both() {
    for requested in [V4, V6, NO_FAMILY] {
        for additional in [AND_V4, AND_V6] {
            let read = read(Method::ALLOCATE, &[UDP, additional, requested]);
            assert_eq!(Err(RequestError::Contradiction(requested.0, additional.0)), read);
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If the server does not support the address family requested by
//# the client in REQUESTED-ADDRESS-FAMILY, or if the allocation of
//# the requested address family is disabled by local policy, it
//# MUST generate an Allocate error response, and it MUST include an
//# ERROR-CODE attribute with the 440 (Address Family not Supported)
//# response code.
#[test]
fn a_family_that_is_not_served_is_refused_and_none_means_what_is() {
    let v4_only = Offer { v6: false, ..everything() };
    let v6_only = Offer { v4: false, ..everything() };
    let one = |family| Ok(Families::One(family));
    let not_supported = Err(ErrorCode::AddressFamilyNotSupported);
    for (offer, attribute, wanted) in [
        (everything(), None, one(Family::V4)),
        (everything(), Some(V6), one(Family::V6)),
        (everything(), Some(NO_FAMILY), not_supported),
        (v4_only, None, one(Family::V4)),
        (v4_only, Some(V4), one(Family::V4)),
        (v4_only, Some(V6), not_supported),
        (v6_only, None, one(Family::V6)),
        (v6_only, Some(V4), not_supported),
        (v6_only, Some(V6), one(Family::V6)),
        (v4_only, Some(AND_V6), Ok(Families::Half(Family::V4))),
        (v6_only, Some(AND_V6), Ok(Families::Half(Family::V6))),
    ] {
        let attributes: Vec<_> = [UDP].into_iter().chain(attribute).collect();
        let families = match read_with(&offer, Method::ALLOCATE, &attributes) {
            Ok(Request::Allocate(request)) => Ok(request.families),
            Ok(other) => panic!("{other:?} is no Allocate"),
            Err(error) => Err(error.code()),
        };
        assert_eq!(wanted, families, "{offer:?} {attributes:?}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# The server checks if the request contains an EVEN-PORT attribute
//# with the R bit set to 1.  If yes, and the request also contains
//# an ADDITIONAL-ADDRESS-FAMILY attribute, the server rejects the
//# request with a 400 (Bad Request) error.
#[test]
fn a_reserved_port_excludes_both_families() {
    let read = read(Method::ALLOCATE, &[UDP, AND_V6, EVEN_AND_RESERVE]);

    assert_eq!(Err(RequestError::Contradiction(EVEN.0, AND_V6.0)), read);
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If yes, and the attribute value is 0x01 (IPv4
//# address family), then the server rejects the request with a 400
//# (Bad Request) error.
#[test]
fn the_additional_family_is_ipv6() {
    let unknown = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[9, 0, 0, 0][..]);

    assert_eq!(Err(RequestError::AdditionalFamily), read(Method::ALLOCATE, &[UDP, AND_V4]));
    assert_eq!(ErrorCode::BadRequest, RequestError::AdditionalFamily.code());
    let unknown = read(Method::ALLOCATE, &[UDP, unknown]).map_err(|error| error.code());
    assert_eq!(Err(ErrorCode::BadRequest), unknown);
}

#[test]
fn an_attribute_that_cannot_be_read_makes_a_bad_request() {
    for kind in [
        AttributeType::LIFETIME,
        AttributeType::EVEN_PORT,
        AttributeType::RESERVATION_TOKEN,
        AttributeType::REQUESTED_ADDRESS_FAMILY,
        AttributeType::ADDITIONAL_ADDRESS_FAMILY,
        AttributeType::DONT_FRAGMENT,
    ] {
        let malformed = RequestError::Malformed(AttributeError::Length(kind));
        assert_eq!(ErrorCode::BadRequest, malformed.code());
        assert_eq!(Err(malformed), read(Method::ALLOCATE, &[UDP, (kind, &[0; 9])]));
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
//= type=test
//# If the request contains one or more unknown comprehension-required
//# attributes, the server replies with an error response with an error
//# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
//# attribute in the response that lists the unknown comprehension-
//# required attributes.
#[test]
fn what_is_not_understood_is_listed_before_anything_else_is_looked_at() {
    let other = (AttributeType::new(0x7ffe), &[1, 2][..]);
    for method in
        [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND]
    {
        let refused = read(method, &[FOREIGN, TCP, other, FOREIGN, OPTIONAL]);

        let Err(error) = refused else { panic!("{refused:?} although it was not understood") };
        assert_eq!(ErrorCode::UnknownAttribute, error.code());
        let RequestError::UnknownAttributes(types) = error else { panic!("{error:?}") };
        assert_eq!(vec![FOREIGN.0, other.0], types.to_vec());
    }
}

#[test]
fn known_attributes_in_the_wrong_place_are_ignored() {
    let data = (AttributeType::DATA, &[1][..]);
    let channel = (AttributeType::CHANNEL_NUMBER, &[0x40, 0, 0, 0][..]);

    let read = read(Method::ALLOCATE, &[data, UDP, channel]);

    assert_eq!(Ok(Request::Allocate(allocate())), read);
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If it does,
//# but the server does not support sending UDP datagrams with the
//# DF bit set to 1 (see Sections 14 and 15), then the server treats
//# the DONT-FRAGMENT attribute in the Allocate request as an
//# unknown comprehension-required attribute.
#[test]
fn dont_fragment_is_unknown_where_it_is_not_offered() {
    let offer = Offer { dont_fragment: false, ..everything() };

    let refused = read_with(&offer, Method::ALLOCATE, &[UDP, DONT_FRAGMENT]);

    let Err(RequestError::UnknownAttributes(types)) = refused else { panic!("{refused:?}") };
    assert_eq!(vec![AttributeType::DONT_FRAGMENT], types.to_vec());
}

#[test]
fn a_refresh_request_says_how_long_and_for_which_family() {
    let lifetime = (AttributeType::LIFETIME, &[0, 0, 2, 88][..]);
    let zero = (AttributeType::LIFETIME, &[0; 4][..]);
    let request = |lifetime: Option<u64>, family| {
        let lifetime = lifetime.map(Duration::from_secs);
        Ok(Request::Refresh(RefreshRequest { lifetime, family }))
    };

    assert_eq!(request(None, None), read(Method::REFRESH, &[]));
    assert_eq!(request(Some(600), None), read(Method::REFRESH, &[lifetime]));
    assert_eq!(request(Some(0), Some(Family::V6)), read(Method::REFRESH, &[zero, V6]));
    assert_eq!(request(Some(0), None), read(Method::REFRESH, &[zero, lifetime]));

    let mismatch = read(Method::REFRESH, &[NO_FAMILY]);
    assert_eq!(Err(RequestError::FamilyMismatch), mismatch);
    assert_eq!(ErrorCode::PeerAddressFamilyMismatch, RequestError::FamilyMismatch.code());
    let short = read(Method::REFRESH, &[(AttributeType::LIFETIME, &[0, 0])]);
    assert_eq!(Err(ErrorCode::BadRequest), short.map_err(|error| error.code()));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
//= type=test
//# If no such attribute exists, or if any of
//# these attributes are invalid, then a 400 (Bad Request) error is
//# returned.
#[test]
fn a_create_permission_request_names_all_its_peers() {
    let (one, two) = (xor("198.51.100.1:0"), xor("[2001:db8::2]:7"));
    let (one, two) =
        ((AttributeType::XOR_PEER_ADDRESS, &one[..]), (AttributeType::XOR_PEER_ADDRESS, &two[..]));
    let unknown_family = (AttributeType::XOR_PEER_ADDRESS, &[0, 3, 0, 0, 1, 2, 3, 4][..]);
    let short = (AttributeType::XOR_PEER_ADDRESS, &[0, 1, 0, 0, 1, 2][..]);

    let read_all = read(Method::CREATE_PERMISSION, &[one, OPTIONAL, two]);
    let Ok(Request::CreatePermission(request)) = read_all else { panic!("{read_all:?}") };
    assert_eq!(vec![peer("198.51.100.1:0"), peer("[2001:db8::2]:7")], request.peers.to_vec());

    for invalid in [vec![], vec![one, unknown_family], vec![short, one], vec![OPTIONAL]] {
        let refused = read(Method::CREATE_PERMISSION, &invalid);
        assert_eq!(Err(ErrorCode::BadRequest), refused.map_err(|error| error.code()));
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
//= type=test
//# If any of these tests fail, the server replies with a 400 (Bad
//# Request) error.
#[test]
fn a_channel_bind_request_needs_a_channel_number_and_a_peer_with_a_port() {
    let bind = |number: u16, address: Option<&str>| {
        let [high, low] = number.to_be_bytes();
        let address = address.map(xor);
        let number = [high, low, 0, 0];
        let mut attributes = vec![(AttributeType::CHANNEL_NUMBER, &number[..])];
        attributes.extend(address.as_deref().map(|value| (AttributeType::XOR_PEER_ADDRESS, value)));
        move_out(read(Method::CHANNEL_BIND, &attributes))
    };
    fn move_out(read: Result<Request, RequestError>) -> Result<(u16, PeerAddr), ErrorCode> {
        match read {
            Ok(Request::ChannelBind(request)) => Ok((request.number.number(), request.peer)),
            Ok(other) => panic!("{other:?} is no ChannelBind"),
            Err(error) => Err(error.code()),
        }
    }
    let address = "198.51.100.1:9";

    assert_eq!(Ok((0x4000, peer(address))), bind(0x4000, Some(address)));
    assert_eq!(Ok((0x4FFF, peer(address))), bind(0x4FFF, Some(address)));
    for number in [0, 0x3FFF, 0x5000, 0x7FFE, 0x7FFF, 0x8000, 0xFFFF] {
        assert_eq!(Err(ErrorCode::BadRequest), bind(number, Some(address)), "{number:#x}");
    }
    assert_eq!(Err(ErrorCode::BadRequest), bind(0x4000, None));
    assert_eq!(Err(ErrorCode::BadRequest), bind(0x4000, Some("198.51.100.1:0")));
    let no_number = read(Method::CHANNEL_BIND, &[(AttributeType::XOR_PEER_ADDRESS, &xor(address))]);
    assert_eq!(Err(RequestError::Missing(AttributeType::CHANNEL_NUMBER)), no_number);
}

#[test]
fn the_channel_numbers_of_rfc_5766_are_an_offer() {
    let offer = Offer { channel_numbers: ChannelNumbers::Rfc5766, ..everything() };
    let address = xor("198.51.100.1:9");
    let bind = |offer: &Offer, number: &[u8]| {
        let peer = (AttributeType::XOR_PEER_ADDRESS, &address[..]);
        read_with(offer, Method::CHANNEL_BIND, &[(AttributeType::CHANNEL_NUMBER, number), peer])
    };

    assert!(bind(&offer, &[0x7f, 0xfe, 0, 0]).is_ok());
    assert!(bind(&offer, &[0x7f, 0xff, 0, 0]).is_err());
    let number = ChannelNumber::wide(0x5000).expect("RFC 5766 allows it");
    let refused = bind(&everything(), &[0x50, 0, 0, 0]);
    assert_eq!(Err(RequestError::ChannelNumber(number)), refused);
}

#[test]
fn a_tcp_relay_is_for_clients_that_come_by_a_stream_and_has_no_datagrams() {
    let granted = |families| Ok((RelayTransport::Tcp, families));
    let (bad, unsupported) =
        (Err(ErrorCode::BadRequest), Err(ErrorCode::UnsupportedTransportProtocol));
    let (tcp, tls) = (TransportProtocol::Tcp, TransportProtocol::Tls);
    for (protocol, attributes, wanted) in [
        (tcp, vec![TCP], granted(Families::One(Family::V4))),
        (tls, vec![TCP, V6], granted(Families::One(Family::V6))),
        (tls, vec![AND_V6, TCP], granted(Families::Both)),
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=test
        //# If the client connection transport is not TCP or TLS, the server
        //# MUST reject the request with a 400 (Bad Request) error.
        (TransportProtocol::Udp, vec![TCP], bad),
        (TransportProtocol::Dtls, vec![TCP], bad),
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=test
        //# If the request contains the DONT-FRAGMENT, EVEN-PORT, or
        //# RESERVATION-TOKEN attribute, the server MUST reject the request
        //# with a 400 (Bad Request) error.
        (tcp, vec![TCP, DONT_FRAGMENT], bad),
        (tcp, vec![TCP, EVEN], bad),
        (tcp, vec![EVEN_AND_RESERVE, TCP], bad),
        (tls, vec![TOKEN, TCP], bad),
        (tcp, vec![TCP, AND_V4], bad),
        (tcp, vec![TCP, NO_FAMILY], Err(ErrorCode::AddressFamilyNotSupported)),
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=test
        //# If the REQUESTED-TRANSPORT attribute is included and specifies a
        //# protocol other than UDP or TCP, the server MUST reject the
        //# request with a 442 (Unsupported Transport Protocol) error.
        (tcp, vec![SCTP], unsupported),
        (tcp, vec![SCTP, EVEN], unsupported),
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=test
        //# If
        //# the value is UDP, and if UDP transport is allowed by local
        //# policy, the server MUST continue with the procedures of [RFC5766]
        //# instead of this document.
        (tcp, vec![UDP, EVEN], Ok((RelayTransport::Udp, Families::One(Family::V4)))),
    ] {
        let read = match read_by(protocol, Method::ALLOCATE, &attributes) {
            Ok(Request::Allocate(request)) => Ok((request.transport, request.families)),
            Ok(other) => panic!("{other:?} is no Allocate"),
            Err(error) => Err(error.code()),
        };
        assert_eq!(wanted, read, "{protocol} {attributes:?}");
    }
}

#[test]
fn a_tcp_relay_that_is_not_offered_is_an_unsupported_transport() {
    let offer = Offer { tcp: false, ..everything() };
    for (attributes, wanted) in [
        (vec![TCP], RequestError::UnsupportedTransport(6)),
        (vec![TCP, EVEN], RequestError::UnsupportedTransport(6)),
    ] {
        assert_eq!(Err(wanted), read_with(&offer, Method::ALLOCATE, &attributes));
    }
    assert!(read_with(&offer, Method::ALLOCATE, &[UDP]).is_ok());
}

//= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
//= type=test
//# If the request does not contain an XOR-PEER-ADDRESS attribute, or if
//# such attribute is invalid, the server MUST return a 400 (Bad Request)
//# error.
#[test]
fn a_connect_request_names_a_peer_with_a_port() {
    let connect = |attributes: &[Raw<'_>]| {
        read_by(TransportProtocol::Tcp, Method::CONNECT, attributes).map_err(|error| error.code())
    };
    for address in ["198.51.100.1:9", "[2001:db8::2]:7"] {
        let wanted = ConnectRequest { peer: peer(address) };
        let value = xor(address);
        let read = connect(&[(AttributeType::XOR_PEER_ADDRESS, &value)]);
        assert_eq!(Ok(Request::Connect(wanted)), read);
    }
    let no_port = xor("198.51.100.1:0");
    for invalid in [
        vec![],
        vec![OPTIONAL],
        vec![(AttributeType::XOR_PEER_ADDRESS, &no_port[..])],
        vec![(AttributeType::XOR_PEER_ADDRESS, &[0, 3, 0, 0, 1, 2, 3, 4][..])],
        vec![(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 0, 0, 1, 2][..])],
    ] {
        assert_eq!(Err(ErrorCode::BadRequest), connect(&invalid), "{invalid:?}");
    }
    assert_eq!(Err(ErrorCode::UnknownAttribute), connect(&[FOREIGN]));
}

#[test]
fn a_connection_bind_request_names_a_connection_and_comes_by_a_stream() {
    let id = (AttributeType::CONNECTION_ID, &[1, 2, 3, 4][..]);
    let wanted = ConnectionBindRequest { id: ConnectionId(0x0102_0304) };
    for protocol in [TransportProtocol::Tcp, TransportProtocol::Tls] {
        let read = |attributes: &[Raw<'_>]| read_by(protocol, Method::CONNECTION_BIND, attributes);
        assert_eq!(Ok(Request::ConnectionBind(wanted)), read(&[id]));
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
        //= type=test
        //# If the request does not contain the CONNECTION-ID attribute, or if
        //# this attribute does not refer to an existing pending connection, the
        //# server MUST return a 400 (Bad Request) error.
        for invalid in [&[][..], &[(id.0, &[1, 2, 3][..])], &[OPTIONAL]] {
            let refused = read(invalid).map_err(|error| error.code());
            assert_eq!(Err(ErrorCode::BadRequest), refused, "{invalid:?}");
        }
    }
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
    //= type=test
    //# If the client connection transport is not TCP or TLS, the server MUST
    //# return a 400 (Bad Request) error.
    for protocol in [TransportProtocol::Udp, TransportProtocol::Dtls] {
        let refused = read_by(protocol, Method::CONNECTION_BIND, &[id]);
        assert_eq!(Err(RequestError::NotAStream), refused);
        assert_eq!(ErrorCode::BadRequest, RequestError::NotAStream.code());
    }
}

#[test]
fn a_method_that_is_not_served_is_a_bad_request() {
    for method in [Method::BINDING, Method::SEND, Method::CONNECTION_ATTEMPT] {
        assert_eq!(Err(RequestError::UnsupportedMethod), read(method, &[]));
    }
    assert_eq!(ErrorCode::BadRequest, RequestError::UnsupportedMethod.code());
}

#[test]
fn an_error_says_what_is_wrong() {
    for (error, text) in [
        (RequestError::Missing(UDP.0), "REQUESTED-TRANSPORT is missing"),
        (RequestError::Contradiction(TOKEN.0, EVEN.0), "RESERVATION-TOKEN excludes EVEN-PORT"),
        (RequestError::UnsupportedTransport(6), "transport protocol 6 is not relayed"),
        (RequestError::UdpOnly(EVEN.0), "EVEN-PORT excludes a TCP relay"),
        (
            RequestError::UnknownAttributes(smallvec::smallvec![FOREIGN.0, DONT_FRAGMENT.0]),
            "not understood: 0x7fff 0x001a",
        ),
    ] {
        assert_eq!(text, error.to_string());
    }
}

fn indication(
    offer: &Offer,
    attributes: &[Raw<'_>],
) -> Result<(PeerAddr, Vec<u8>, bool), DropReason> {
    let bytes = message(Class::Indication, Method::SEND, attributes);
    let message = Message::parse(&bytes).expect("the writer writes messages");
    let SendIndication { peer, data, dont_fragment } = SendIndication::read(&message, offer)?;
    Ok((peer, data.to_vec(), dont_fragment))
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
//= type=test
//# The Send indication MUST
//# contain both an XOR-PEER-ADDRESS attribute and a DATA attribute.  If
//# one of these attributes is missing or invalid, then the message is
//# discarded.  Note that the DATA attribute is allowed to contain zero
//# bytes of data.
#[test]
fn a_send_indication_needs_a_peer_and_data() {
    let address = xor("198.51.100.1:9");
    let to = (AttributeType::XOR_PEER_ADDRESS, &address[..]);
    let elsewhere = xor("192.0.2.66:9");
    let elsewhere = (AttributeType::XOR_PEER_ADDRESS, &elsewhere[..]);
    let data = (AttributeType::DATA, &[1, 2, 3][..]);
    let nothing = (AttributeType::DATA, &[][..]);
    let short = (AttributeType::XOR_PEER_ADDRESS, &address[..7]);
    let peer = peer("198.51.100.1:9");

    let read = |attributes: &[Raw<'_>]| indication(&everything(), attributes);
    assert_eq!(Ok((peer, vec![1, 2, 3], false)), read(&[to, data]));
    assert_eq!(Ok((peer, vec![], false)), read(&[nothing, to, OPTIONAL]));
    assert_eq!(Ok((peer, vec![1, 2, 3], true)), read(&[DONT_FRAGMENT, to, data]));
    // The first of several counts, for every check and for the datagram.
    assert_eq!(Ok((peer, vec![], false)), read(&[to, nothing, elsewhere, data]));
    for malformed in [&[to][..], &[data], &[], &[short, data], &[short, to, data]] {
        assert_eq!(Err(DropReason::MalformedIndication), read(malformed));
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.2
//= type=test
//# If the indication contains unknown comprehension-required attributes,
//# the indication is discarded and processing ceases.
#[test]
fn a_send_indication_that_is_not_understood_is_dropped() {
    let address = xor("198.51.100.1:9");
    let to = (AttributeType::XOR_PEER_ADDRESS, &address[..]);
    let data = (AttributeType::DATA, &[1][..]);
    let no_dont_fragment = Offer { dont_fragment: false, ..everything() };

    let foreign = indication(&everything(), &[to, data, FOREIGN]);
    let dont_fragment = indication(&no_dont_fragment, &[to, data, DONT_FRAGMENT]);

    assert_eq!(Err(DropReason::UnknownAttribute), foreign);
    assert_eq!(Err(DropReason::UnknownAttribute), dont_fragment);
    let lifetime = (AttributeType::LIFETIME, &[1][..]);
    assert!(indication(&everything(), &[to, lifetime, data]).is_ok());
}

/// Attributes that mean something here, with values that may not.
fn any_attribute() -> impl Strategy<Value = (AttributeType, Vec<u8>)> {
    let kind = prop_oneof![
        8 => prop::sample::select(everything().known_attributes()),
        1 => Just(AttributeType::ADDITIONAL_ADDRESS_FAMILY),
        1 => any::<u16>().prop_map(AttributeType::new),
    ];
    let value = prop_oneof![
        prop::collection::vec(0..4_u8, 0..24),
        Just(vec![17, 0, 0, 0]),
        Just(vec![0, 1, 0, 9, 1, 2, 3, 4]),
    ];
    (kind, value)
}

proptest! {
    #[test]
    fn any_attributes_give_a_request_or_one_of_its_errors(
        method in prop::sample::select(vec![
            Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND,
            Method::CONNECT, Method::CONNECTION_BIND,
        ]),
        protocol in prop::sample::select(vec![TransportProtocol::Udp, TransportProtocol::Tls]),
        attributes in prop::collection::vec(any_attribute(), 0..8),
        offer in (any::<bool>(), any::<bool>()).prop_map(|(v6, dont_fragment)| {
            Offer { v6, dont_fragment, ..everything() }
        }),
    ) {
        let raw: Vec<Raw<'_>> =
            attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
        let bytes = message(Class::Request, method, &raw);
        // What the random types make of it may be a wrong FINGERPRINT, which is no message at all.
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };

        match Request::read(&message, protocol, &offer) {
            Ok(Request::Allocate(request)) => {
                prop_assert!(message.has(AttributeType::REQUESTED_TRANSPORT));
                prop_assert!(offer.dont_fragment || !request.dont_fragment);
                prop_assert!(offer.v6 || request.families != Families::Both);
                let reserved = matches!(request.port, PortWish::Reserved(_));
                prop_assert_eq!(reserved, request.families == Families::AsReserved);
                let tcp = request.transport == RelayTransport::Tcp;
                prop_assert!(!tcp || protocol.is_stream() && request.port == PortWish::Any);
            }
            Ok(Request::Refresh(_)) => prop_assert_eq!(Method::REFRESH, method),
            Ok(Request::CreatePermission(request)) => prop_assert!(!request.peers.is_empty()),
            Ok(Request::ChannelBind(request)) => {
                prop_assert!(request.number.is_rfc8656());
                prop_assert_ne!(0, request.peer.0.port());
            }
            Ok(Request::Connect(request)) => prop_assert_ne!(0, request.peer.0.port()),
            Ok(Request::ConnectionBind(_)) => prop_assert!(protocol.is_stream()),
            Err(error) => {
                let number = error.code().number();
                prop_assert!([400, 420, 440, 442, 443].contains(&number), "{}", number);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
