//! The client against a server that follows a script, byte for byte.

mod scripted;
mod streams;

use std::net::UdpSocket;
use std::time::Duration;

use scripted::{ADDRESS, NONCE, PASSWORD, REALM, Script, USERNAME, algorithms, answer, key, nonce};
use sterna_client::{
    AllocateOptions, AnswerProblem, Client, ClientError, ClientOptions, Credentials, Incoming,
    Retransmission,
};
use sterna_proto::address::{Family, PeerAddr, RelayedAddr, ServerReflexive};
use sterna_proto::channel_data::ChannelNumber;
use sterna_proto::credentials::{PasswordAlgorithm, user_hash};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::nonce::SecurityFeatures;
use sterna_proto::stun::{
    AddressErrorCode, AttributeType, Class, Data, ErrorCode, EvenPort, Lifetime, Message,
    MessageWriter, Method, Nonce, PasswordAlgorithmAttribute, Realm, ReservationToken,
    TransactionId, UnknownAttributes, UserHash, Username, XorMappedAddress, XorPeerAddress,
    XorRelayedAddress,
};

const LIFETIME: Duration = Duration::from_secs(600);

/// No request is sent twice, so that each step of a script sees another one.
fn options() -> ClientOptions {
    ClientOptions {
        credentials: Some(Credentials::new(USERNAME, PASSWORD)),
        retransmission: Retransmission {
            interval: Duration::from_secs(20),
            sends: 1,
            last_wait: 1,
        },
        ..ClientOptions::default()
    }
}

/// Time-outs for tests that wait them out.
fn impatient() -> ClientOptions {
    ClientOptions {
        retransmission: Retransmission {
            interval: Duration::from_millis(100),
            sends: 3,
            last_wait: 2,
        },
        ..options()
    }
}

/// A 401 of a server that knows nothing newer than RFC 5389.
fn plain_challenge(request: &[u8]) -> Vec<u8> {
    answer(request, Class::Error, |writer| {
        writer.error(ErrorCode::Unauthorized).attribute(&Realm(REALM)).attribute(&Nonce(NONCE));
    })
}

/// A success response to Refresh, signed as the plain challenge wants it.
fn refreshed(request: &[u8]) -> Vec<u8> {
    answer(request, Class::Success, |writer| {
        writer.attribute(&Lifetime(LIFETIME));
        writer.integrity(IntegrityAlgorithm::Sha1, &key(PasswordAlgorithm::Md5));
    })
}

#[test]
fn binding_tells_the_address_that_the_server_sees() {
    let mut script = Script::new().then(|request| {
        let message = Message::parse(request).unwrap();
        assert_eq!((Class::Request, Method::BINDING), (message.class(), message.method()));
        assert!(!message.has(AttributeType::USERNAME));
        vec![answer(request, Class::Success, |writer| {
            writer.attribute(&XorMappedAddress(ADDRESS));
        })]
    });
    let mut client = script.client(options());
    assert_eq!(ServerReflexive(ADDRESS), client.binding().unwrap());
    script.finish();
}

#[test]
fn an_old_challenge_is_answered_with_md5_and_sha1() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.3.1
    //= type=test
    //# In other words, the
    //# first request is sent as if there were no authentication or message
    //# integrity applied.
    let mut script = Script::new()
        .then(|request| {
            let message = Message::parse(request).unwrap();
            assert_eq!(None, message.integrity_algorithm());
            assert!(!message.has(AttributeType::USERNAME));
            vec![plain_challenge(request)]
        })
        .then(|request| {
            let message = Message::parse(request).unwrap();
            assert_eq!(Ok(Some(Username(USERNAME))), message.read());
            assert_eq!(Ok(Some(Realm(REALM))), message.read());
            assert_eq!(Some(NONCE.as_bytes()), message.raw(AttributeType::NONCE));
            let algorithm = message.verify_integrity(&key(PasswordAlgorithm::Md5));
            assert_eq!(Ok(IntegrityAlgorithm::Sha1), algorithm);
            vec![refreshed(request)]
        });
    let mut client = script.client(options());
    assert_eq!(LIFETIME, client.refresh(None, None).unwrap());
    script.finish();
}

/// Runs a Refresh against a server that offers SHA-256 and MD5, and checks what the client chose.
fn offered_both(wanted: Option<PasswordAlgorithm>, expected: PasswordAlgorithm) {
    let features = SecurityFeatures { password_algorithms: true, username_anonymity: false };
    let mut script = Script::new()
        .then(move |request| {
            vec![answer(request, Class::Error, |writer| {
                writer.error(ErrorCode::Unauthorized).attribute(&Realm(REALM));
                writer.attribute(&Nonce(&nonce(features))).attribute(&algorithms());
            })]
        })
        .then(move |request| {
            let message = Message::parse(request).unwrap();
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
            //= type=test
            //# If the response contains a PASSWORD-ALGORITHMS attribute,
            //# the request MUST contain the PASSWORD-ALGORITHMS attribute with the
            //# same content.
            assert_eq!(Ok(Some(algorithms())), message.read());
            let chosen = PasswordAlgorithmAttribute::from(expected);
            assert_eq!(Ok(Some(chosen)), message.read());
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
            //= type=test
            //# If the response contains a PASSWORD-ALGORITHMS attribute, all the
            //# subsequent requests MUST be authenticated using MESSAGE-INTEGRITY-
            //# SHA256 only.
            assert!(!message.has(AttributeType::MESSAGE_INTEGRITY));
            let algorithm = message.verify_integrity(&key(expected));
            assert_eq!(Ok(IntegrityAlgorithm::Sha256), algorithm);
            vec![answer(request, Class::Success, |writer| {
                writer.attribute(&Lifetime(LIFETIME));
                writer.integrity(IntegrityAlgorithm::Sha256, &key(expected));
            })]
        });
    let mut client = script.client(ClientOptions { password_algorithm: wanted, ..options() });
    assert_eq!(LIFETIME, client.refresh(None, None).unwrap());
    script.finish();
}

#[test]
fn the_first_password_algorithm_offered_is_taken() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If the response contains a PASSWORD-ALGORITHMS
    //# attribute, and this attribute contains at least one algorithm that is
    //# supported by the client, then the request MUST contain a PASSWORD-
    //# ALGORITHM attribute with the first algorithm supported on the list.
    offered_both(None, PasswordAlgorithm::Sha256);
}

#[test]
fn the_caller_may_choose_the_password_algorithm() {
    offered_both(Some(PasswordAlgorithm::Md5), PasswordAlgorithm::Md5);
}

#[test]
fn a_challenge_whose_password_algorithms_were_taken_out_is_not_answered() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If so and the
    //# "nonce cookie" has the STUN Security Feature "Password algorithms"
    //# bit set to 1 but no PASSWORD-ALGORITHMS attribute is present, then
    //# the client MUST NOT retry the request with a new transaction.
    let features = SecurityFeatures { password_algorithms: true, username_anonymity: false };
    let mut script = Script::new().then(move |request| {
        vec![answer(request, Class::Error, |writer| {
            writer.error(ErrorCode::Unauthorized).attribute(&Realm(REALM));
            writer.attribute(&Nonce(&nonce(features)));
        })]
    });
    let mut client = script.client(options());
    let error = client.refresh(None, None).unwrap_err();
    assert!(matches!(error, ClientError::BidDown { .. }), "{error}");
    script.finish();
}

#[test]
fn a_server_that_hides_user_names_is_sent_a_hash() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If the "nonce cookie" is present and has
    //# the STUN Security Feature "Username anonymity" bit set to 1, then the
    //# USERHASH attribute MUST be used; else, the USERNAME attribute MUST be
    //# used.
    let features = SecurityFeatures { password_algorithms: false, username_anonymity: true };
    let mut script = Script::new()
        .then(move |request| {
            vec![answer(request, Class::Error, |writer| {
                writer.error(ErrorCode::Unauthorized).attribute(&Realm(REALM));
                writer.attribute(&Nonce(&nonce(features)));
            })]
        })
        .then(|request| {
            let message = Message::parse(request).unwrap();
            let hash = user_hash(USERNAME, REALM).unwrap();
            assert_eq!(Ok(Some(UserHash(hash))), message.read());
            assert!(!message.has(AttributeType::USERNAME));
            vec![refreshed(request)]
        });
    let mut client = script.client(options());
    assert_eq!(LIFETIME, client.refresh(None, None).unwrap());
    script.finish();
}

#[test]
fn a_stale_nonce_is_replaced() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If the response is an error response with an error code of 438 (Stale
    //# Nonce), the client MUST retry the request, using the new NONCE
    //# attribute supplied in the 438 (Stale Nonce) response.
    let mut script = Script::new()
        .then(|request| vec![plain_challenge(request)])
        .then(|request| {
            vec![answer(request, Class::Error, |writer| {
                writer.error(ErrorCode::StaleNonce).attribute(&Nonce("fresh"));
            })]
        })
        .then(|request| {
            let message = Message::parse(request).unwrap();
            assert_eq!(Some(b"fresh".as_slice()), message.raw(AttributeType::NONCE));
            assert_eq!(Ok(Some(Realm(REALM))), message.read());
            vec![refreshed(request)]
        })
        .then(|request| {
            // The next request starts with what was learnt.
            let message = Message::parse(request).unwrap();
            assert_eq!(Some(b"fresh".as_slice()), message.raw(AttributeType::NONCE));
            vec![refreshed(request)]
        });
    let mut client = script.client(options());
    assert_eq!(LIFETIME, client.refresh(None, None).unwrap());
    assert_eq!(LIFETIME, client.refresh(None, None).unwrap());
    script.finish();
}

#[test]
fn a_server_that_finds_every_nonce_stale_is_given_up() {
    let stale = |request: &[u8]| {
        vec![answer(request, Class::Error, |writer| {
            writer.error(ErrorCode::StaleNonce).attribute(&Nonce("again"));
        })]
    };
    let mut script = Script::new()
        .then(|request| vec![plain_challenge(request)])
        .then(stale)
        .then(stale)
        .then(stale);
    let mut client = script.client(options());
    let error = client.refresh(None, None).unwrap_err();
    assert_eq!(Some(438), error.refusal_code(), "{error}");
    script.finish();
}

#[test]
fn wrong_credentials_are_tried_once() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# The client MUST NOT perform this retry if it is not
    //# changing the USERNAME, USERHASH, REALM, or its associated password
    //# from the previous attempt.
    let mut script = Script::new()
        .then(|request| vec![plain_challenge(request)])
        .then(|request| vec![plain_challenge(request)]);
    let mut client = script.client(options());
    let error = client.refresh(None, None).unwrap_err();
    assert_eq!(Some(401), error.refusal_code());
    assert_eq!("Refresh refused: 401 (Unauthenticated)", error.to_string());
    script.finish();
}

#[test]
fn a_challenge_without_credentials_is_an_error_that_names_the_realm() {
    let mut script = Script::new().then(|request| vec![plain_challenge(request)]);
    let mut client = script.client(ClientOptions { credentials: None, ..options() });
    let error = client.refresh(None, None).unwrap_err();
    assert_eq!(
        format!("Refresh: the server asks for credentials of realm {REALM}"),
        error.to_string()
    );
    script.finish();
}

#[test]
fn an_answer_that_is_not_authentic_is_as_good_as_none() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If the request was sent over an unreliable transport, the response
    //# MUST be discarded, as if it had never been received.  This means that
    //# retransmits, if applicable, will continue.
    let unsigned = |request: &[u8]| {
        vec![answer(request, Class::Success, |writer| {
            writer.attribute(&Lifetime(LIFETIME));
        })]
    };
    let mut script = Script::new()
        .then(|request| vec![plain_challenge(request)])
        .then(unsigned)
        .then(|request| vec![refreshed(request)]);
    let mut client = script.client(impatient());
    assert_eq!(LIFETIME, client.refresh(None, None).unwrap());
    script.finish();
}

#[test]
fn only_answers_that_are_not_authentic_violate_integrity() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If all the responses
    //# received are discarded, then instead of signaling a timeout after
    //# ending the transaction, the layer MUST signal that the integrity
    //# protection was violated.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If the response is an error response with an error code of 400 (Bad
    //# Request) and does not contain either the MESSAGE-INTEGRITY or
    //# MESSAGE-INTEGRITY-SHA256 attribute, then the response MUST be
    //# discarded, as if it were never received.
    let unsigned = |request: &[u8]| {
        vec![answer(request, Class::Error, |writer| {
            writer.error(ErrorCode::BadRequest);
        })]
    };
    let mut script = Script::new()
        .then(|request| vec![plain_challenge(request)])
        .then(unsigned)
        .then(unsigned)
        .then(unsigned);
    let mut client = script.client(impatient());
    let error = client.refresh(None, None).unwrap_err();
    let discarded = Some(400);
    let is_violation = matches!(
        error,
        ClientError::IntegrityViolated { discarded: found, .. } if found == discarded
    );
    assert!(is_violation, "{error}");
    script.finish();
}

#[test]
fn a_silent_server_is_asked_as_often_as_configured_with_the_same_request() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //= type=test
    //# Retransmissions continue until a response is received or until a
    //# total of Rc requests have been sent.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(silent.local_addr().unwrap(), impatient()).unwrap();
    let error = client.binding().unwrap_err();
    let waited = Duration::from_millis(100 + 200 + 200);
    let is_no_answer = matches!(
        error,
        ClientError::NoAnswer { method: Method::BINDING, waited: found } if found == waited
    );
    assert!(is_no_answer, "{error}");

    silent.set_nonblocking(true).unwrap();
    let mut requests = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(len) = silent.recv(&mut buffer) {
        requests.push(buffer[..len].to_vec());
    }
    assert_eq!(3, requests.len());
    assert!(requests.iter().all(|request| *request == requests[0]));
}

#[test]
fn a_closed_port_is_told_apart_from_silence() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //= type=test
    //# A STUN
    //# transaction over UDP or DTLS-over-UDP is also considered failed if
    //# there has been a hard ICMP error [RFC1122].
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::connect(closed, options()).unwrap();
    let error = client.binding().unwrap_err();
    assert!(matches!(error, ClientError::PortUnreachable { .. }), "{error}");
}

#[test]
fn a_refusal_says_what_the_server_said() {
    let mut script = Script::new().then(|request| {
        vec![answer(request, Class::Error, |writer| {
            writer.error(ErrorCode::UnknownAttribute);
            let unknown = [AttributeType::DONT_FRAGMENT].into_iter().collect();
            writer.attribute(&UnknownAttributes(unknown));
        })]
    });
    let mut client = script.client(options());
    let error = client.allocate(&AllocateOptions::default()).unwrap_err();
    let ClientError::Refused(refusal) = error else {
        panic!("{error}");
    };
    assert_eq!(Some(ErrorCode::UnknownAttribute), refusal.error_code());
    assert_eq!(vec![AttributeType::DONT_FRAGMENT], refusal.unknown);
    script.finish();
}

#[test]
fn an_error_number_of_a_later_rfc_is_reported_as_it_is() {
    let mut script = Script::new().then(|request| {
        vec![answer(request, Class::Error, |writer| {
            writer.raw(AttributeType::ERROR_CODE, &[0, 0, 4, 77, b'?']);
        })]
    });
    let mut client = script.client(options());
    assert_eq!(Some(477), client.binding().unwrap_err().refusal_code());
    script.finish();
}

#[test]
fn an_answer_that_must_be_understood_and_is_not_fails() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.3
    //= type=test
    //# If the success response contains unknown comprehension-required
    //# attributes, the response is discarded and the transaction is
    //# considered to have failed.
    let strange = AttributeType::new(0x7ABC);
    let mut script = Script::new().then(move |request| {
        vec![answer(request, Class::Success, |writer| {
            writer.attribute(&XorMappedAddress(ADDRESS)).raw(strange, b"");
        })]
    });
    let mut client = script.client(options());
    let error = client.binding().unwrap_err();
    let ClientError::BadAnswer { problem, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(AnswerProblem::Unknown(vec![strange]), problem);
    script.finish();
}

#[test]
fn an_allocation_has_all_that_the_answer_says() {
    let relayed = "192.0.2.8:50000".parse().unwrap();
    let additional = "[2001:db8::8]:50002".parse().unwrap();
    let token = ReservationToken([7; 8]);
    let mut script = Script::new().then(move |request| {
        let message = Message::parse(request).unwrap();
        assert_eq!(Ok(Some(EvenPort { reserve_next: true })), message.read());
        assert_eq!(Ok(Some(Lifetime(Duration::from_secs(77)))), message.read());
        assert_eq!(Some([17, 0, 0, 0].as_slice()), message.raw(AttributeType::REQUESTED_TRANSPORT));
        assert!(message.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY));
        vec![answer(request, Class::Success, |writer| {
            writer.attribute(&XorRelayedAddress(relayed)).attribute(&XorRelayedAddress(additional));
            writer.attribute(&XorMappedAddress(ADDRESS)).attribute(&Lifetime(LIFETIME));
            let code = ErrorCode::InsufficientCapacity;
            writer.attribute(&AddressErrorCode::new(Family::V6, code)).attribute(&token);
        })]
    });
    let mut client = script.client(options());
    let allocated = client
        .allocate(&AllocateOptions {
            lifetime: Some(Duration::from_secs(77)),
            additional_family: true,
            even_port: Some(EvenPort { reserve_next: true }),
            ..AllocateOptions::default()
        })
        .unwrap();
    assert_eq!(RelayedAddr(relayed), allocated.relayed);
    assert_eq!(Some(RelayedAddr(additional)), allocated.additional);
    let expected = Some((Family::V6, ErrorCode::InsufficientCapacity));
    assert_eq!(expected, allocated.address_error);
    assert_eq!(ServerReflexive(ADDRESS), allocated.reflexive);
    assert_eq!(LIFETIME, allocated.lifetime);
    assert_eq!(Some(token), allocated.reservation);
    script.finish();
}

#[test]
fn permissions_and_channels_name_their_peers() {
    let first = PeerAddr("192.0.2.1:1".parse().unwrap());
    let second = PeerAddr("192.0.2.2:2".parse().unwrap());
    let number = ChannelNumber::new(0x4001).unwrap();
    let mut script = Script::new()
        .then(move |request| {
            let message = Message::parse(request).unwrap();
            assert_eq!(Method::CREATE_PERMISSION, message.method());
            let peers: Vec<_> = message.read_all::<XorPeerAddress>().map(Result::unwrap).collect();
            assert_eq!(vec![XorPeerAddress(first.0), XorPeerAddress(second.0)], peers);
            vec![answer(request, Class::Success, |_| {})]
        })
        .then(move |request| {
            let message = Message::parse(request).unwrap();
            assert_eq!(Method::CHANNEL_BIND, message.method());
            assert_eq!(Ok(Some(number)), message.read());
            assert_eq!(Ok(Some(XorPeerAddress(first.0))), message.read());
            vec![answer(request, Class::Success, |_| {})]
        });
    let mut client = script.client(options());
    client.create_permission(&[first, second]).unwrap();
    client.bind_channel(number, first).unwrap();
    script.finish();
}

#[test]
fn releasing_an_allocation_that_is_gone_succeeds() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.3
    //= type=test
    //# If the client receives a 437 (Allocation Mismatch) error response to
    //# a request to delete the allocation, then the allocation no longer
    //# exists and it should consider its request as having effectively
    //# succeeded.
    let mut script = Script::new().then(|request| {
        let message = Message::parse(request).unwrap();
        assert_eq!(Ok(Some(Lifetime(Duration::ZERO))), message.read());
        vec![answer(request, Class::Error, |writer| {
            writer.error(ErrorCode::AllocationMismatch);
        })]
    });
    let mut client = script.client(options());
    assert!(client.release().is_ok());
    script.finish();
}

#[test]
fn data_that_comes_before_an_answer_is_kept() {
    let mut script = Script::new().then(|request| {
        vec![
            b"\x40\x01\x00\x02hi".to_vec(),
            b"\xFFnothing we know".to_vec(),
            answer(request, Class::Success, |writer| {
                writer.attribute(&XorMappedAddress(ADDRESS));
            }),
        ]
    });
    let mut client = script.client(options());
    client.binding().unwrap();
    let expected =
        Incoming::ChannelData { number: ChannelNumber::new(0x4001).unwrap(), data: b"hi".to_vec() };
    assert_eq!(Some(expected), client.receive(Duration::from_secs(5)).unwrap());
    assert_eq!(None, client.receive(Duration::from_millis(1)).unwrap());
    script.finish();
}

#[test]
fn packets_to_peers_go_out_as_channel_data_or_send_indication() {
    let peer = PeerAddr("192.0.2.1:1".parse().unwrap());
    let mut script = Script::new()
        .then(|datagram| {
            assert_eq!(b"\x40\x02\x00\x03abc", datagram);
            Vec::new()
        })
        .then(move |datagram| {
            let message = Message::parse(datagram).unwrap();
            assert_eq!((Class::Indication, Method::SEND), (message.class(), message.method()));
            assert_eq!(Ok(Some(XorPeerAddress(peer.0))), message.read());
            assert_eq!(Ok(Some(Data(b"abc"))), message.read());
            assert!(message.has(AttributeType::DONT_FRAGMENT));
            Vec::new()
        });
    let mut client = script.client(options());
    let number = ChannelNumber::new(0x4002).unwrap();
    client.send_channel_data(number, b"abc").unwrap();
    client.send_indication(peer, b"abc", true).unwrap();
    let long = vec![0; 70_000];
    let error = client.send_channel_data(number, &long).unwrap_err();
    assert!(matches!(error, ClientError::TooLong { len: 70_000 }), "{error}");
    let error = client.send_indication(peer, &long, false).unwrap_err();
    assert!(matches!(error, ClientError::TooLong { len: 70_000 }), "{error}");
    script.finish();
}

#[test]
fn a_request_of_the_callers_making_gets_its_answer_unjudged() {
    let mut script = Script::new().then(|request| {
        vec![answer(request, Class::Error, |writer| {
            writer.error(ErrorCode::BadRequest);
        })]
    });
    let mut client = script.client(options());
    let mut request = Vec::new();
    let id = TransactionId::from_bytes([9; 12]);
    MessageWriter::new(&mut request, Class::Request, Method::CONNECT, id);
    let answer = client.request(&request).unwrap();
    let answer = Message::parse(&answer).unwrap();
    assert_eq!((Class::Error, id), (answer.class(), answer.transaction_id()));
    let error = client.request(&request[..19]).unwrap_err();
    assert!(matches!(error, ClientError::NoRequest { len: 19 }), "{error}");
    script.finish();
}
