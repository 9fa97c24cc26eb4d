//! Allocate: the checks of RFC 8656 §7.2 one by one and in their order.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sterna_proto::address::Family;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AdditionalAddressFamily, AddressErrorCode, AttributeType, ErrorCode, EvenPort, Method,
    RequestedAddressFamily, RequestedTransport, Software,
};

use crate::kit::{Answer, Client, Raw, UDP, User, V6, config, own_host, raws, request, serve};

const TCP: Raw = (AttributeType::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
const SCTP: Raw = (AttributeType::REQUESTED_TRANSPORT, &[132, 0, 0, 0]);
const TOKEN: Raw = (AttributeType::RESERVATION_TOKEN, b"a token!");
const EVEN: Raw = (AttributeType::EVEN_PORT, &[0x00]);
const EVEN_AND_NEXT: Raw = (AttributeType::EVEN_PORT, &[0x80]);
const WANT_V4: Raw = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
const WANT_V6: Raw = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const WANT_IPX: Raw = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0]);
const ALSO_V4: Raw = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0]);
const ALSO_V6: Raw = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const UNKNOWN: Raw = (AttributeType::new(0x7777), &[]);

/// An authenticated refusal carries the code, the server's name and its proof, and nothing else.
fn assert_refused(name: &str, code: u16, answer: &Answer, user: &User) {
    assert_eq!(code, answer.code(), "{name}");
    let mut kinds = vec![AttributeType::ERROR_CODE];
    if code == 420 {
        kinds.push(AttributeType::UNKNOWN_ATTRIBUTES);
    }
    kinds.extend([AttributeType::SOFTWARE, AttributeType::MESSAGE_INTEGRITY]);
    assert_eq!(kinds, answer.kinds(), "{name}");
    assert_eq!(Some(IntegrityAlgorithm::Sha1), answer.proved_by(&user.key()), "{name}");
}

/// Each request is refused with its code, and leaves nothing: the same client can allocate then.
fn assert_refusals(server: SocketAddr, rows: &[(&str, &[Raw], u16)]) {
    for (name, attributes, code) in rows {
        let mut client = Client::new(server);
        let answer = client.ask(Method::ALLOCATE, raws(attributes));
        assert_refused(name, *code, &answer, &client.user);
        client.allocate();
    }
}

#[test]
fn check_1_authentication_comes_first() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    // Each of these would fail a later check.
    for attributes in [&[][..], &[TCP], &[UDP], &[UNKNOWN], &[UDP, TOKEN, EVEN]] {
        let answer = client.exchange(&request(Method::ALLOCATE, raws(attributes)));
        assert_eq!(401, answer.code());
        assert!(!answer.has(AttributeType::MESSAGE_INTEGRITY));
    }
}

#[test]
fn check_2_a_5_tuple_has_one_allocation() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The server checks if the 5-tuple is currently in use by an
    //# existing allocation.  If yes, the server rejects the request
    //# with a 437 (Allocation Mismatch) error.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let rows: [(&str, &[Raw]); 6] = [
        ("a good request", &[UDP]),
        ("before the transport is missed", &[]),
        ("before the transport is unsupported", &[SCTP]),
        ("before attributes contradict", &[UDP, TOKEN, EVEN]),
        ("before the family is unsupported", &[UDP, WANT_IPX]),
        ("before the second family is wrong", &[UDP, ALSO_V4]),
    ];
    for (name, attributes) in rows {
        let answer = client.ask(Method::ALLOCATE, raws(attributes));
        assert_refused(name, 437, &answer, &client.user);
    }
    // The allocation is what it was.
    crate::kit::Call::with(client, relayed).goes_on();
}

#[test]
fn check_2_holds_for_another_user_on_the_same_5_tuple() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    client.user = User::bob();

    let answer = client.ask(Method::ALLOCATE, raws(&[UDP]));

    assert_refused("bob", 437, &answer, &client.user);
}

#[test]
fn check_3_the_transport_is_udp() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the REQUESTED-TRANSPORT attribute is not included
    //# or is malformed, the server rejects the request with a 400 (Bad
    //# Request) error.  Otherwise, if the attribute is included but
    //# specifies a protocol that is not supported by the server, the
    //# server rejects the request with a 442 (Unsupported Transport
    //# Protocol) error.
    let server = serve(config());
    let transport = AttributeType::REQUESTED_TRANSPORT;
    assert_refusals(
        server.v4(),
        &[
            ("missing", &[], 400),
            ("empty", &[(transport, &[])], 400),
            ("too short", &[(transport, &[17])], 400),
            ("too long", &[(transport, &[17, 0, 0, 0, 0])], 400),
            ("TCP for a client of UDP", &[TCP], 400),
            ("SCTP", &[SCTP], 442),
            ("protocol 0", &[(transport, &[0, 0, 0, 0])], 442),
            ("protocol 255", &[(transport, &[255, 0, 0, 0])], 442),
            ("the first of two counts", &[SCTP, UDP], 442),
            ("before a contradiction", &[SCTP, TOKEN, EVEN], 442),
            ("before the family", &[SCTP, WANT_IPX], 442),
            ("missing, before a contradiction", &[TOKEN, EVEN], 400),
        ],
    );
    // The reserved bytes are ignored, and so is a second attribute of the type.
    for good in [&[(transport, &[17, 1, 2, 3][..])][..], &[UDP, TCP]] {
        assert_eq!(0, Client::new(server.v4()).ask(Method::ALLOCATE, raws(good)).code());
    }
}

#[test]
fn check_4_unknown_attributes_come_before_the_method_has_a_say() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# If the request contains one or more unknown comprehension-required
    //# attributes, the server replies with an error response with an error
    //# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
    //# attribute in the response that lists the unknown comprehension-
    //# required attributes.
    let server = serve(config());
    assert_refusals(
        server.v4(),
        &[
            ("alone", &[UDP, UNKNOWN], 420),
            ("before the transport is missed", &[UNKNOWN], 420),
            ("before the transport is unsupported", &[SCTP, UNKNOWN], 420),
            ("before a contradiction", &[UDP, TOKEN, EVEN, UNKNOWN], 420),
            ("of another usage", &[UDP, (AttributeType::PRIORITY, &[0; 4])], 420),
        ],
    );
}

#[test]
fn check_4_dont_fragment_is_supported() {
    let server = serve(config());
    let flag: Raw = (AttributeType::DONT_FRAGMENT, &[]);
    let answer = Client::new(server.v4()).ask(Method::ALLOCATE, raws(&[UDP, flag]));
    assert_eq!(0, answer.code());
    let malformed: Raw = (AttributeType::DONT_FRAGMENT, &[1]);
    assert_refusals(server.v4(), &[("with a value", &[UDP, malformed], 400)]);
}

#[test]
fn check_4_dont_fragment_is_unknown_where_the_clients_df_bit_would_have_to_be_seen() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-3.7
    //= type=test
    //# If the TURN server carrying out packet translation
    //# from IPv4-to-IPv6 is unable to access the state of the Don't Fragment
    //# (DF) bit in the IPv4 header, it MUST reject the Allocate request with
    //# the DONT-FRAGMENT attribute.
    let server = serve(config());
    const FLAG: Raw = (AttributeType::DONT_FRAGMENT, &[]);
    for attributes in [&[UDP, FLAG, WANT_V6], &[UDP, FLAG, ALSO_V6]] {
        let mut client = Client::new(server.v4());
        let answer = client.ask(Method::ALLOCATE, raws(attributes));
        assert_refused("IPv4 to IPv6", 420, &answer, &client.user);
        assert_eq!([0x00, 0x1A], *answer.raw(AttributeType::UNKNOWN_ATTRIBUTES));
        // Without the attribute the client gets what it wants.
        assert_eq!(0, client.ask(Method::ALLOCATE, raws(&[UDP, attributes[2]])).code());
        let mut client = Client::new(server.v6());
        assert_eq!(0, client.ask(Method::ALLOCATE, raws(attributes)).code());
    }
    let from_v6 = Client::new(server.v6()).ask(Method::ALLOCATE, raws(&[UDP, FLAG, WANT_V4]));
    assert_eq!(0, from_v6.code());
}

#[test]
fn check_5_a_token_stands_alone_and_is_good() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If yes, and the request also contains an EVEN-PORT
    //# or REQUESTED-ADDRESS-FAMILY or ADDITIONAL-ADDRESS-FAMILY
    //# attribute, the server rejects the request with a 400 (Bad
    //# Request) error.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If
    //# the token is not valid for some reason, the server rejects the
    //# request with a 508 (Insufficient Capacity) error.
    let server = serve(config());
    let token = AttributeType::RESERVATION_TOKEN;
    assert_refusals(
        server.v4(),
        &[
            ("with EVEN-PORT", &[UDP, TOKEN, EVEN], 400),
            ("with EVEN-PORT and the R bit", &[UDP, TOKEN, EVEN_AND_NEXT], 400),
            ("with REQUESTED-ADDRESS-FAMILY", &[UDP, TOKEN, WANT_V4], 400),
            ("with ADDITIONAL-ADDRESS-FAMILY", &[UDP, TOKEN, ALSO_V6], 400),
            ("with a family nobody serves: before check 7", &[UDP, TOKEN, WANT_IPX], 400),
            ("that nobody gave out", &[UDP, TOKEN], 508),
            ("of zeros", &[UDP, (token, &[0; 8])], 508),
            ("too short", &[UDP, (token, &[0; 7])], 400),
            ("too long", &[UDP, (token, &[0; 9])], 400),
        ],
    );
}

#[test]
fn check_6_one_family_attribute_excludes_the_other() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The server checks if the request contains both REQUESTED-
    //# ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY attributes.  If
    //# yes, then the server rejects the request with a 400 (Bad
    //# Request) error.
    let server = serve(config());
    assert_refusals(
        server.v4(),
        &[
            ("IPv4 and IPv6", &[UDP, WANT_V4, ALSO_V6], 400),
            ("IPv6 twice", &[UDP, WANT_V6, ALSO_V6], 400),
            ("before check 7", &[UDP, WANT_IPX, ALSO_V6], 400),
            ("in the other order", &[UDP, ALSO_V6, WANT_V4], 400),
        ],
    );
}

#[test]
fn check_7_the_family_is_served() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the server does not support the address family requested by
    //# the client in REQUESTED-ADDRESS-FAMILY, or if the allocation of
    //# the requested address family is disabled by local policy, it
    //# MUST generate an Allocate error response, and it MUST include an
    //# ERROR-CODE attribute with the 440 (Address Family not Supported)
    //# response code.
    let family = AttributeType::REQUESTED_ADDRESS_FAMILY;
    let server = serve(config());
    assert_refusals(
        server.v4(),
        &[
            ("unknown", &[UDP, WANT_IPX], 440),
            ("zero", &[UDP, (family, &[0, 0, 0, 0])], 440),
            ("too short", &[UDP, (family, &[1])], 400),
            ("before a second family is read", &[UDP, WANT_IPX, EVEN_AND_NEXT], 440),
        ],
    );
    let mut v4_only = config();
    v4_only.relay.addresses.truncate(1);
    let server = serve(v4_only);
    assert_refusals(server.v4(), &[("IPv6 is not relayed", &[UDP, WANT_V6], 440)]);
    assert!(Client::new(server.v6()).allocate().is_ipv4(), "whatever the client's family");

    let mut v6_only = config();
    v6_only.relay.addresses = vec![V6];
    let server = serve(v6_only);
    assert_refusals(server.v4(), &[("IPv4 is not relayed", &[UDP, WANT_V4], 440)]);
    assert_eq!(V6, Client::new(server.v4()).allocate().ip(), "no family named: what there is");
}

#[test]
fn check_7_the_family_is_the_requested_one_or_ipv4() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the REQUESTED-ADDRESS-FAMILY attribute is
    //# absent and the server supports the IPv4 address family, the server
    //# MUST allocate an IPv4 relayed transport address for the TURN client.
    let server = serve(config());
    for client_at in [server.v4(), server.v6()] {
        let rows: [(&[Raw], bool); 3] =
            [(&[UDP], true), (&[UDP, WANT_V4], true), (&[UDP, WANT_V6], false)];
        for (attributes, is_v4) in rows {
            let answer = Client::new(client_at).get(Method::ALLOCATE, raws(attributes));
            let relayed = answer.relayed();
            assert_eq!(1, relayed.len());
            assert_eq!(is_v4, relayed[0].is_ipv4());
        }
    }
}

#[test]
fn check_8_a_pair_of_ports_is_not_for_a_pair_of_families() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The server checks if the request contains an EVEN-PORT attribute
    //# with the R bit set to 1.  If yes, and the request also contains
    //# an ADDITIONAL-ADDRESS-FAMILY attribute, the server rejects the
    //# request with a 400 (Bad Request) error.
    let server = serve(config());
    assert_refusals(
        server.v4(),
        &[
            ("R bit and IPv6", &[UDP, EVEN_AND_NEXT, ALSO_V6], 400),
            ("R bit and IPv4", &[UDP, EVEN_AND_NEXT, ALSO_V4], 400),
            ("EVEN-PORT too long", &[UDP, (AttributeType::EVEN_PORT, &[0, 0])], 400),
            ("EVEN-PORT empty", &[UDP, (AttributeType::EVEN_PORT, &[])], 400),
        ],
    );
    // Without the R bit both addresses get an even port.
    let answer = Client::new(server.v4()).get(Method::ALLOCATE, raws(&[UDP, EVEN, ALSO_V6]));
    assert_eq!(2, answer.relayed().len());
    assert!(answer.relayed().iter().all(|relayed| relayed.port() % 2 == 0));
}

#[test]
fn check_9_the_additional_family_is_ipv6() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The server checks if the request contains an ADDITIONAL-ADDRESS-
    //# FAMILY attribute.  If yes, and the attribute value is 0x01 (IPv4
    //# address family), then the server rejects the request with a 400
    //# (Bad Request) error.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the server can
    //# fully meet the request, then the server allocates one IPv4 and
    //# one IPv6 relay address and returns an Allocate success response
    //# containing the relayed transport addresses assigned to the dual
    //# allocation in two XOR-RELAYED-ADDRESS attributes.
    let server = serve(config());
    let additional = AttributeType::ADDITIONAL_ADDRESS_FAMILY;
    assert_refusals(
        server.v4(),
        &[
            ("IPv4", &[UDP, ALSO_V4], 400),
            ("unknown", &[UDP, (additional, &[3, 0, 0, 0])], 400),
            ("too short", &[UDP, (additional, &[2])], 400),
        ],
    );

    let answer = Client::new(server.v4()).get(Method::ALLOCATE, raws(&[UDP, ALSO_V6]));

    let is_v4: Vec<bool> = answer.relayed().iter().map(SocketAddr::is_ipv4).collect();
    assert_eq!([true, false], *is_v4);
    assert!(!answer.has(AttributeType::ADDRESS_ERROR_CODE));
}

#[test]
fn check_9_half_of_two_families_is_a_success_that_says_what_is_missing() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the server can partially meet the request, i.e., if it can only
    //# allocate one relayed transport address of a specific address
    //# type, then it includes ADDRESS-ERROR-CODE attribute in the
    //# success response to inform the client the reason for partial
    //# failure of the request.
    for (served, missing) in [(own_host(), Family::V6), (V6, Family::V4)] {
        let mut config = config();
        config.relay.addresses = vec![served];
        let server = serve(config);

        let answer = Client::new(server.v4()).allocate_with(|writer| {
            writer.attribute(&AdditionalAddressFamily(Family::V6));
        });

        assert_eq!(1, answer.relayed().len());
        assert_eq!(served, answer.relayed()[0].ip());
        //= https://www.rfc-editor.org/rfc/rfc8656#section-18.12
        //= type=test
        //# At this point, the 13 bits in the Reserved field MUST be
        //# set to zero by the server and MUST be ignored by the client.
        let family = if missing == Family::V4 { 1 } else { 2 };
        assert_eq!([family, 0, 4, 40], answer.raw(AttributeType::ADDRESS_ERROR_CODE)[..4]);
        let error = answer.read::<AddressErrorCode<'_>>();
        let not_supported = ErrorCode::AddressFamilyNotSupported;
        assert_eq!(Some(AddressErrorCode::new(missing, not_supported)), error);
    }
}

#[test]
fn the_answer_tells_all_in_its_order() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# An XOR-RELAYED-ADDRESS attribute containing the relayed transport
    //# address or two XOR-RELAYED-ADDRESS attributes containing the
    //# relayed transport addresses.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# A RESERVATION-TOKEN attribute (if a second relayed transport
    //# address was reserved).
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# An XOR-MAPPED-ADDRESS attribute containing the client's IP address
    //# and port (from the 5-tuple).
    use AttributeType as A;
    let server = serve(config());
    let mut client = Client::new(server.v6());
    client.knock();
    let pair = client.exchange(&request(Method::ALLOCATE, |writer| {
        writer.attribute(&RequestedTransport::UDP);
        writer.attribute(&EvenPort { reserve_next: true });
        writer.attribute(&RequestedAddressFamily(Family::V6));
        client.sign(writer);
        writer.fingerprint();
    }));
    assert_eq!(
        [
            A::XOR_RELAYED_ADDRESS,
            A::XOR_MAPPED_ADDRESS,
            A::RESERVATION_TOKEN,
            A::LIFETIME,
            A::SOFTWARE,
            A::MESSAGE_INTEGRITY,
            A::FINGERPRINT,
        ],
        *pair.kinds()
    );
    //= https://www.rfc-editor.org/rfc/rfc8656#section-5
    //= type=test
    //# The server SHOULD include the
    //# SOFTWARE attribute in all Allocate and Refresh responses (either
    //# success or failure) and MAY include it in other responses or
    //# indications.
    assert_eq!(client.address(), pair.mapped());
    assert_eq!(Some(Software("Sterna")), pair.read::<Software<'_>>());
    assert_eq!(Some(IntegrityAlgorithm::Sha1), pair.proved_by(&client.user.key()));

    let both = Client::new(server.v4()).get(Method::ALLOCATE, raws(&[UDP, ALSO_V6]));
    assert_eq!(
        [
            A::XOR_RELAYED_ADDRESS,
            A::XOR_RELAYED_ADDRESS,
            A::XOR_MAPPED_ADDRESS,
            A::LIFETIME,
            A::SOFTWARE,
            A::MESSAGE_INTEGRITY,
        ],
        *both.kinds()
    );
}

#[test]
fn a_server_without_a_name_sends_none() {
    let mut config = config();
    config.software = None;
    let server = serve(config);
    let mut client = Client::new(server.v4());
    let answer = client.get(Method::ALLOCATE, raws(&[UDP]));
    assert!(!answer.has(AttributeType::SOFTWARE));
    assert!(!client.ask(Method::ALLOCATE, raws(&[UDP])).has(AttributeType::SOFTWARE));
}

#[test]
fn lifetime_is_the_clients_wish_between_default_and_maximum() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the request contains a LIFETIME attribute, then the
    //# server computes the minimum of the client's proposed lifetime and the
    //# server's maximum allowed lifetime.  If this computed value is greater
    //# than the default lifetime, then the server uses the computed lifetime
    //# as the initial value of the time-to-expiry field.  Otherwise, the
    //# server uses the default lifetime.
    let server = serve(config());
    let rows: [(Option<u32>, u64); 9] = [
        (None, 600),
        (Some(0), 600),
        (Some(1), 600),
        (Some(599), 600),
        (Some(600), 600),
        (Some(601), 601),
        (Some(3600), 3600),
        (Some(3601), 3600),
        (Some(u32::MAX), 3600),
    ];
    for (wanted, granted) in rows {
        let answer = Client::new(server.v4()).allocate_with(|writer| {
            if let Some(wanted) = wanted {
                writer.raw(AttributeType::LIFETIME, &wanted.to_be_bytes());
            }
        });
        assert_eq!(granted, answer.lifetime(), "{wanted:?}");
    }
    let malformed: Raw = (AttributeType::LIFETIME, &[0, 0, 1]);
    assert_refusals(server.v4(), &[("three bytes", &[UDP, malformed], 400)]);
}

#[test]
fn relay_ports_are_in_the_range_and_cannot_be_foreseen() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# In all cases, the server SHOULD only allocate ports from the range
    //# 49152 - 65535
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# It is RECOMMENDED
    //# that a TURN server implement a randomized port assignment
    //# algorithm from [RFC6056].
    //= https://www.rfc-editor.org/rfc/rfc8656#section-6
    //= type=test
    //# The relayed transport address MUST be unique across all
    //# allocations so it can be used to uniquely identify the allocation,
    let server = serve(config());
    let ports: Vec<u16> = (0..24).map(|_| Client::new(server.v4()).allocate().port()).collect();

    assert!(ports.iter().all(|port| *port >= 49_152));
    let distinct: BTreeSet<u16> = ports.iter().copied().collect();
    assert_eq!(ports.len(), distinct.len(), "each allocation has a port of its own");
    let steps: BTreeSet<i32> =
        ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    assert!(steps.len() > 16, "the next port cannot be told from the last: {ports:?}");
}
