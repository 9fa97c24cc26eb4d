//! Binding requests, and which messages get an answer at all (RFC 8489 §6.3).

use sterna_proto::drops::DropReason;
use sterna_proto::stun::{
    AttributeType, Class, Data, ErrorCode, ErrorCodeAttribute, MessageWriter, Method, Realm,
    UnknownAttributes, Username,
};

use crate::kit::{Client, Raw, User, V4, config, raws, request, serve, transaction_id};

#[test]
fn binding_tells_the_client_its_address() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.1
    //= type=test
    //# When forming the success response, the
    //# server adds an XOR-MAPPED-ADDRESS attribute to the response; this
    //# attribute contains the source transport address of the request
    //# message.
    let server = serve(config());
    for address in [server.v4(), server.v6()] {
        let client = Client::new(address);

        let answer = client.exchange(&request(Method::BINDING, |_| {}));

        assert_eq!(0, answer.code());
        assert_eq!([AttributeType::XOR_MAPPED_ADDRESS], *answer.kinds());
        assert_eq!(client.address(), answer.mapped());
    }
    assert_eq!(0, server.counters().sessions);
}

#[test]
fn binding_is_answered_byte_by_byte_as_the_rfc_draws_it() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-5
    //= type=test
    //# Success and error responses MUST carry the same transaction
    //# ID as their corresponding request.
    let server = serve(config());
    let client = Client::from_ip(V4, server.v4());
    let mut asked = vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xA4, 0x42];
    asked.extend_from_slice(b"hand-made id");

    client.send(&asked);

    let [port_high, port_low] = client.address().port().to_be_bytes();
    let mut expected = vec![0x01, 0x01, 0x00, 0x0C, 0x21, 0x12, 0xA4, 0x42];
    expected.extend_from_slice(b"hand-made id");
    expected.extend_from_slice(&[0x00, 0x20, 0x00, 0x08, 0x00, 0x01]);
    expected.extend_from_slice(&[port_high ^ 0x21, port_low ^ 0x12]);
    // 127.0.0.1 under the magic cookie.
    expected.extend_from_slice(&[127 ^ 0x21, 0x12, 0xA4, 1 ^ 0x42]);
    assert_eq!(expected, client.receive());
}

#[test]
fn binding_answers_are_not_much_larger_than_their_requests() {
    let server = serve(config());
    for (address, length) in [(server.v4(), 32), (server.v6(), 44)] {
        let asked = request(Method::BINDING, |_| {});
        assert_eq!(20, asked.len());
        assert_eq!(length, Client::new(address).exchange(&asked).0.len());
    }
}

#[test]
fn binding_needs_no_credentials_and_looks_at_none() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-12
    //= type=test
    //# It SHOULD NOT utilize the short-term
    //# or long-term credential mechanism.
    let server = serve(config());
    let mut client = Client::new(server.v4()).is(User::named("nobody", "wrong"));
    client.knock();

    let signed = client.signed(Method::BINDING, |_| {});
    let answer = client.exchange(&signed);

    assert_eq!(0, answer.code());
    assert_eq!([AttributeType::XOR_MAPPED_ADDRESS], *answer.kinds());
    assert_eq!(0, server.counters().sessions);
}

#[test]
fn binding_names_the_attributes_that_it_does_not_know() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# If the request contains one or more unknown comprehension-required
    //# attributes, the server replies with an error response with an error
    //# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
    //# attribute in the response that lists the unknown comprehension-
    //# required attributes.
    let server = serve(config());
    let rows: [(&str, &[Raw], &[u16]); 6] = [
        ("CHANGE-REQUEST", &[(AttributeType::CHANGE_REQUEST, &[0, 0, 0, 6])], &[0x0003]),
        ("RESPONSE-PORT", &[(AttributeType::RESPONSE_PORT, &[1, 1, 0, 0])], &[0x0027]),
        ("PADDING", &[(AttributeType::PADDING, &[0; 64])], &[0x0026]),
        ("PRIORITY of ICE", &[(AttributeType::PRIORITY, &[0, 0, 0, 1])], &[0x0024]),
        ("of no RFC", &[(AttributeType::new(0x7FFF), &[])], &[0x7FFF]),
        (
            "twice the same and an optional one between",
            &[
                (AttributeType::new(0x7001), &[]),
                (AttributeType::new(0xFFFF), &[1, 2, 3]),
                (AttributeType::new(0x7002), &[]),
                (AttributeType::new(0x7001), &[]),
            ],
            &[0x7001, 0x7002],
        ),
    ];
    for (name, attributes, unknown) in rows {
        let answer = Client::new(server.v4()).exchange(&request(Method::BINDING, raws(attributes)));

        assert_eq!(420, answer.code(), "{name}");
        assert_eq!(
            [AttributeType::ERROR_CODE, AttributeType::UNKNOWN_ATTRIBUTES],
            *answer.kinds(),
            "{name}"
        );
        let listed = answer.read::<UnknownAttributes>().expect("there is a list").0;
        let listed: Vec<u16> = listed.iter().map(|kind| kind.number()).collect();
        assert_eq!(unknown, listed, "{name}");
    }
}

#[test]
fn a_refused_binding_gives_no_reason_phrase_to_a_stranger() {
    let server = serve(config());
    let asked = request(Method::BINDING, raws(&[(AttributeType::new(0x7FFF), &[])]));

    let answer = Client::new(server.v4()).exchange(&asked);

    let error = answer.read::<ErrorCodeAttribute<'_>>();
    assert_eq!(Some(ErrorCodeAttribute { code: ErrorCode::UnknownAttribute, reason: "" }), error);
}

#[test]
fn unknown_optional_and_known_unexpected_attributes_are_ignored() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
    //= type=test
    //# Unknown comprehension-optional attributes MUST be ignored
    //# by the agent.  Known-but-unexpected attributes SHOULD be ignored by
    //# the agent.
    let server = serve(config());
    let rows: [(&str, Raw); 7] = [
        ("unknown optional", (AttributeType::new(0x8FFF), &[1, 2, 3, 4, 5])),
        ("the last type number", (AttributeType::new(0xFFFF), &[])),
        ("ORIGIN", (AttributeType::ORIGIN, b"https://north.example")),
        ("USERNAME", (AttributeType::USERNAME, b"alice")),
        ("LIFETIME", (AttributeType::LIFETIME, &[0, 0, 2, 88])),
        ("XOR-MAPPED-ADDRESS", (AttributeType::XOR_MAPPED_ADDRESS, &[0; 8])),
        ("DATA", (AttributeType::DATA, b"data")),
    ];
    for (name, attribute) in rows {
        let asked = request(Method::BINDING, raws(&[attribute]));
        let answer = Client::new(server.v4()).exchange(&asked);
        assert_eq!(0, answer.code(), "{name}");
    }
}

#[test]
fn fingerprint_is_mirrored_and_stands_last() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.7
    //= type=test
    //# When present, the FINGERPRINT attribute MUST be the last attribute in
    //# the message and thus will appear after MESSAGE-INTEGRITY and MESSAGE-
    //# INTEGRITY-SHA256.
    let server = serve(config());
    let client = Client::new(server.v4());
    let asked = request(Method::BINDING, |writer| _ = writer.fingerprint());

    // Its value is checked by the parser.
    let answer = client.exchange(&asked);

    let expected = [AttributeType::XOR_MAPPED_ADDRESS, AttributeType::FINGERPRINT];
    assert_eq!(expected, *answer.kinds());
}

#[test]
fn messages_that_are_no_requests_of_a_known_method_get_no_answer() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
    //= type=test
    //# It checks that the first two
    //# bits are 0, that the Magic Cookie field has the correct value, that
    //# the message length is sensible, and that the method value is a
    //# supported method.  It checks that the message class is allowed for
    //# the particular method.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
    //= type=test
    //# If any errors are detected,
    //# the message is silently discarded.
    let server = serve(config());
    let method = |number| Method::from_number(number).expect("it has twelve bits");
    let rows = [
        ("Binding success", Class::Success, Method::BINDING, DropReason::UnexpectedClass),
        ("Binding error", Class::Error, Method::BINDING, DropReason::UnexpectedClass),
        ("Allocate success", Class::Success, Method::ALLOCATE, DropReason::UnexpectedClass),
        ("Send request", Class::Request, Method::SEND, DropReason::UnknownMethod),
        ("Data request", Class::Request, Method::DATA, DropReason::UnknownMethod),
        (
            "ConnectionAttempt request",
            Class::Request,
            Method::CONNECTION_ATTEMPT,
            DropReason::UnknownMethod,
        ),
        ("SharedSecret of RFC 3489", Class::Request, method(0x002), DropReason::UnknownMethod),
        ("of no RFC", Class::Request, method(0x0FF), DropReason::UnknownMethod),
        ("Binding indication", Class::Indication, Method::BINDING, DropReason::NoSession),
        ("Send indication", Class::Indication, Method::SEND, DropReason::NoSession),
        ("Allocate indication", Class::Indication, Method::ALLOCATE, DropReason::NoSession),
    ];
    for (name, class, method, reason) in rows {
        let client = Client::new(server.v4());
        let before = server.dropped(reason);
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, class, method, transaction_id()).attribute(&Data(b"data"));

        client.send(&bytes);

        assert_eq!(0, client.exchange(&request(Method::BINDING, |_| {})).code(), "{name}");
        assert_eq!(before + 1, server.dropped(reason), "{name}");
    }
    assert_eq!(0, server.counters().sessions);
}

#[test]
fn a_method_that_nobody_knows_stays_unanswered_within_a_session_too() {
    let server = serve(config());
    let method = |number| Method::from_number(number).expect("it has twelve bits");
    let unknown = [Method::SEND, Method::CONNECTION_ATTEMPT, method(0x002), method(0x0FF)];
    let mut client = Client::new(server.v4());
    client.allocate();
    for method in unknown {
        let signed = client.signed(method, |_| {});
        client.send(&signed);
        client.hears_nothing();
    }
    let mut client = Client::new(server.v4());
    client.knock();
    for method in unknown {
        let signed = client.signed(method, |_| {});
        client.send(&signed);
        client.hears_nothing();
    }
}

#[test]
fn a_message_of_rfc_3489_gets_no_answer() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-5
    //= type=test
    //# TURN does not use the backwards-compatibility mechanism described in
    //# [RFC8489].
    let server = serve(config());
    let client = Client::new(server.v4());
    let mut old = request(Method::BINDING, |_| {});
    old[4..8].copy_from_slice(&[0; 4]);

    client.send(&old);

    assert_eq!(0, client.exchange(&request(Method::BINDING, |_| {})).code());
    assert_eq!(1, server.dropped(DropReason::NotStun));
}

#[test]
fn a_wrong_or_misplaced_fingerprint_gets_no_answer() {
    let server = serve(config());
    let client = Client::new(server.v4());
    let with = |fill: fn(&mut MessageWriter<'_>)| request(Method::BINDING, fill);
    let mut altered = with(|writer| _ = writer.fingerprint());
    *altered.last_mut().expect("it is not empty") ^= 1;
    let rows = [
        ("altered", altered),
        ("not the last", with(|writer| _ = writer.fingerprint().attribute(&Username("alice")))),
        ("too short", with(|writer| _ = writer.raw(AttributeType::FINGERPRINT, &[1, 2]))),
        (
            "of another protocol's CRC",
            with(|writer| _ = writer.raw(AttributeType::FINGERPRINT, &[0; 4])),
        ),
        ("twice", with(|writer| _ = writer.fingerprint().fingerprint().attribute(&Realm("r")))),
    ];
    let count = rows.len() as u64;
    for (name, bytes) in rows {
        client.send(&bytes);
        assert_eq!(0, client.exchange(&request(Method::BINDING, |_| {})).code(), "{name}");
    }
    assert_eq!(count, server.dropped(DropReason::BadFingerprint));
}
