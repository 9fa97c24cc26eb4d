//! What all answers have in common: codes, proofs, fingerprints, and the same answer to the same
//! request.

use sterna_actors::port_allocator::Panic;
use sterna_actors::supervision::PORT_ALLOCATOR;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AttributeType, ErrorCode, ErrorCodeAttribute, MessageWriter, Method, UnknownAttributes,
    XorPeerAddress,
};

use crate::kit::{
    Answer, Call, Client, Heard, Raw, UDP, User, V4, V6, at, config, inject, ip, leave_ports, raws,
    request, serve,
};

const REFRESH_TO_ZERO: Raw = (AttributeType::LIFETIME, &[0; 4]);
const EVEN_AND_NEXT: Raw = (AttributeType::EVEN_PORT, &[0x80]);

/// The request of each code that a proven client can get, from a client without an allocation.
const WITHOUT_ALLOCATION: [(ErrorCode, Method, &[Raw]); 6] = [
    (ErrorCode::BadRequest, Method::ALLOCATE, &[]),
    (ErrorCode::UnknownAttribute, Method::ALLOCATE, &[UDP, (AttributeType::new(0x7777), &[])]),
    (ErrorCode::AllocationMismatch, Method::REFRESH, &[]),
    (
        ErrorCode::AddressFamilyNotSupported,
        Method::ALLOCATE,
        &[UDP, (AttributeType::REQUESTED_ADDRESS_FAMILY, &[9, 0, 0, 0])],
    ),
    (
        ErrorCode::UnsupportedTransportProtocol,
        Method::ALLOCATE,
        &[(AttributeType::REQUESTED_TRANSPORT, &[132, 0, 0, 0])],
    ),
    (
        ErrorCode::InsufficientCapacity,
        Method::ALLOCATE,
        &[UDP, (AttributeType::RESERVATION_TOKEN, b"a token!")],
    ),
];

/// An error to a proven client: the code with its registered phrase, and the proof.
fn assert_proven_error(code: ErrorCode, answer: &Answer, user: &User) {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.1
    //= type=test
    //# For an error response, the server MUST add an ERROR-CODE attribute
    //# containing the error code specified in the processing above.
    let error = answer.read::<ErrorCodeAttribute<'_>>();
    assert_eq!(Some(ErrorCodeAttribute { code, reason: code.reason() }), error);
    assert_eq!(Some(IntegrityAlgorithm::Sha1), answer.proved_by(&user.key()), "{code}");
    assert!(answer.has(AttributeType::SOFTWARE), "{code}");
}

#[test]
fn each_error_code_comes_with_its_phrase_and_a_proof() {
    let mut config = config();
    config.policy.peers.deny = vec!["127.0.0.9/32".parse().expect("a network")];
    let server = serve(config);
    for (code, method, attributes) in WITHOUT_ALLOCATION {
        let mut client = Client::new(server.v4());
        let answer = client.ask(method, raws(attributes));
        assert_proven_error(code, &answer, &client.user);
    }
    let peer = |ip| {
        move |writer: &mut MessageWriter<'_>| {
            writer.attribute(&XorPeerAddress(at(ip, 9)));
        }
    };
    let mut client = Client::new(server.v4());
    client.allocate();
    let answer = client.ask(Method::CREATE_PERMISSION, peer(ip("127.0.0.9")));
    assert_proven_error(ErrorCode::Forbidden, &answer, &client.user);
    let answer = client.ask(Method::CREATE_PERMISSION, peer(V6));
    assert_proven_error(ErrorCode::PeerAddressFamilyMismatch, &answer, &client.user);
    client.user = User::bob();
    let answer = client.ask(Method::CREATE_PERMISSION, peer(V4));
    assert_proven_error(ErrorCode::WrongCredentials, &answer, &client.user);
}

#[test]
fn a_server_that_cannot_lease_ports_says_so() {
    let server = serve(config());
    let call = Call::through(server.v4());
    // More panics than supervision has patience for: the PortAllocator is gone.
    for _ in 0..=PORT_ALLOCATOR.budget.restarts {
        inject(&server.ports, Panic);
    }

    let mut client = Client::new(server.v4());
    let answer = client.ask(Method::ALLOCATE, raws(&[UDP]));

    assert_proven_error(ErrorCode::ServerError, &answer, &client.user);
    call.goes_on();
}

#[test]
fn fingerprint_stands_last_exactly_when_the_request_had_it() {
    let server = serve(config());
    for with in [true, false] {
        let exchange = |client: &mut Client, method, attributes: &[Raw]| {
            client.knock();
            let answer = client.exchange(&request(method, |writer| {
                raws(attributes)(writer);
                client.sign(writer);
                if with {
                    writer.fingerprint();
                }
            }));
            let kinds = answer.kinds();
            let last = kinds.last() == Some(&AttributeType::FINGERPRINT);
            assert_eq!(with, last, "{method} {}", answer.code());
            assert_eq!(with, answer.has(AttributeType::FINGERPRINT));
            // The proof covers what stands before it, whatever the length says in the end.
            assert_eq!(Some(IntegrityAlgorithm::Sha1), answer.proved_by(&client.user.key()));
            answer.code()
        };
        let mut client = Client::new(server.v4());
        for (code, method, attributes) in WITHOUT_ALLOCATION {
            assert_eq!(code.number(), exchange(&mut client, method, attributes));
        }
        assert_eq!(0, exchange(&mut client, Method::ALLOCATE, &[UDP]));
        assert_eq!(0, exchange(&mut client, Method::REFRESH, &[]));
        let challenged = Client::new(server.v4()).exchange(&request(Method::ALLOCATE, |writer| {
            if with {
                writer.fingerprint();
            }
        }));
        assert_eq!(with, challenged.kinds().last() == Some(&AttributeType::FINGERPRINT));
    }
}

#[test]
fn unknown_attributes_are_listed_once_each_and_within_bounds() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let answer = client.ask(Method::ALLOCATE, |writer| {
        for number in (0x7000..0x7050).chain(0x7000..0x7050) {
            writer.raw(AttributeType::new(number), &[]);
        }
    });
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
    //= type=test
    //# The server MUST put this unknown attribute in the UNKNOWN-
    //# ATTRIBUTE attribute of its error response.
    assert_eq!(420, answer.code());
    let listed = answer.read::<UnknownAttributes>().expect("there is a list").0;
    let expected: Vec<AttributeType> = (0x7000..0x7020).map(AttributeType::new).collect();
    assert_eq!(expected, listed.to_vec(), "the first 32, which bounds the answer");

    // In any message with credentials; optional ones are no reason to refuse.
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let rows: [(&[Raw], u16); 3] = [
            (&[(AttributeType::new(0x7001), b"x")], 420),
            (&[(AttributeType::new(0xF001), b"x")], 437),
            (&[(AttributeType::MOBILITY_TICKET, &[])], 437),
        ];
        for (attributes, code) in rows {
            assert_eq!(code, client.ask(method, raws(attributes)).code(), "{method}");
        }
    }
}

/// Sends the request twice more: the answers have to be the first one, bit by bit.
fn assert_same_answer_again(client: &Client, bytes: &[u8], first: &Answer) {
    for _ in 0..2 {
        assert_eq!(*first, client.exchange(bytes));
    }
}

#[test]
fn a_retransmitted_request_gets_the_same_answer() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# The server MUST respond to retransmissions such that
    //# the following property is preserved: if the client receives the
    //# response to the retransmission and not the response that was sent to
    //# the original request, the overall state on the client and server is
    //# identical to the case where only the response to the original
    //# retransmission is received or where both responses are received
    let server = serve(config());
    let mut client = Client::new(server.v4());
    for (_, method, attributes) in WITHOUT_ALLOCATION {
        let bytes = client.signed(method, raws(attributes));
        let first = client.exchange(&bytes);
        assert_same_answer_again(&client, &bytes, &first);
    }
    let allocate = client.signed(Method::ALLOCATE, raws(&[UDP, EVEN_AND_NEXT]));
    let allocated = client.exchange(&allocate);
    assert!(allocated.has(AttributeType::RESERVATION_TOKEN));
    assert_same_answer_again(&client, &allocate, &allocated);
    let peer = |writer: &mut MessageWriter<'_>| _ = writer.attribute(&XorPeerAddress(at(V4, 9)));
    let requests = [
        client.signed(Method::ALLOCATE, raws(&[UDP])),
        client.signed(Method::CREATE_PERMISSION, peer),
        client.signed(Method::CREATE_PERMISSION, |_| {}),
        client.signed(Method::CHANNEL_BIND, |writer| {
            writer.raw(AttributeType::CHANNEL_NUMBER, &[0x40, 0, 0, 0]);
            peer(writer);
        }),
        client.signed(Method::REFRESH, raws(&[(AttributeType::LIFETIME, &[0, 0, 3, 0])])),
    ];
    for bytes in &requests {
        let first = client.exchange(bytes);
        assert_same_answer_again(&client, bytes, &first);
    }
    // Not the last request alone.
    assert_same_answer_again(&client, &allocate, &allocated);

    let end = client.signed(Method::REFRESH, raws(&[REFRESH_TO_ZERO]));
    let ended = client.exchange(&end);
    assert_eq!((0, 0), (ended.code(), ended.lifetime()));
    assert_same_answer_again(&client, &end, &ended);
    server.wait_for(|counters| counters.allocations == 0);
    // The answer is told again; the allocation is not made again.
    assert_same_answer_again(&client, &allocate, &allocated);
    assert_eq!(437, client.ask(Method::REFRESH, |_| {}).code());
    assert_eq!(0, server.counters().allocations);
}

#[test]
fn a_request_sent_many_times_at_once_makes_one_allocation() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let bytes = client.signed(Method::ALLOCATE, raws(&[UDP]));
    for _ in 0..10 {
        client.send(&bytes);
    }
    let fence = client.signed(Method::REFRESH, |_| {});
    let first = client.answer_to(&bytes);
    assert_eq!(0, first.code());
    client.send(&fence);
    loop {
        let Heard::Answer(answer) = client.hear() else { panic!("data arrives") };
        if answer.transaction_id().as_bytes()[..] == fence[8..20] {
            assert_eq!(0, answer.code());
            break;
        }
        assert_eq!(first, answer);
    }
    assert_eq!(1, server.counters().allocations);
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let requests = [
        client.signed(Method::REFRESH, |_| {}),
        client.signed(Method::ALLOCATE, raws(&[UDP])),
        client.signed(Method::ALLOCATE, raws(&[UDP])),
        client.signed(Method::CREATE_PERMISSION, |writer| {
            writer.attribute(&XorPeerAddress(at(V4, 9)));
        }),
        client.signed(Method::REFRESH, raws(&[REFRESH_TO_ZERO])),
        client.signed(Method::REFRESH, |_| {}),
        client.signed(Method::ALLOCATE, raws(&[UDP])),
    ];
    requests.iter().for_each(|bytes| client.send(bytes));
    let codes: Vec<u16> = requests.iter().map(|bytes| client.answer_to(bytes).code()).collect();
    assert_eq!([437, 0, 437, 0, 0, 437, 0], *codes);
}

#[test]
fn several_workers_serve_as_one() {
    let mut config = config();
    config.workers = 2;
    leave_ports(&mut config, 32);
    let server = serve(config);
    assert_eq!(4, server.listeners.len(), "each address has a listener on each worker");
    let mut calls = Vec::new();
    for _ in 0..8 {
        let mut client = Client::new(server.v4());
        let answer = client.allocate_with(raws(&[EVEN_AND_NEXT]));
        assert_eq!(client.address(), answer.mapped());
        let token = answer.token();
        calls.push(Call::with(client, answer.relayed()[0]));
        // Whichever worker a client is on, what it reserved is known to the others.
        let mut client = Client::new(server.v4());
        let answer = client.allocate_with(|writer| _ = writer.attribute(&token));
        calls.push(Call::with(client, answer.relayed()[0]));
    }
    assert_eq!(16, server.counters().allocations);
    for call in &mut calls {
        call.goes_on();
        call.client.get(Method::REFRESH, raws(&[REFRESH_TO_ZERO]));
    }
    server.wait_for(|counters| counters.allocations == 0);
    assert_eq!(16, server.counters().sessions, "they are kept for a while");
}
