//! Requests that prove nothing yet: 401, 438 and 400 (RFC 8489 §9.2.4), and what answers cost.

use std::collections::BTreeSet;

use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::drops::DropReason;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::nonce::features_in;
use sterna_proto::stun::{
    AttributeType, MessageWriter, Method, Nonce, PasswordAlgorithms, Realm, UserHash, Username,
};

use crate::kit::{
    Answer, Client, REALM, UDP, User, V4, at, config, own_host, raws, request, serve, set_users,
};

const METHODS: [Method; 4] =
    [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND];

/// The attributes of 401 and 438: short, without SOFTWARE, in the order that coturn's have.
const CHALLENGE: [AttributeType; 4] = [
    AttributeType::ERROR_CODE,
    AttributeType::NONCE,
    AttributeType::REALM,
    AttributeType::PASSWORD_ALGORITHMS,
];

fn assert_challenge(code: u16, answer: &Answer) {
    assert_eq!(code, answer.code());
    assert_eq!(CHALLENGE, *answer.kinds());
    assert_eq!(Some(Realm(REALM)), answer.read::<Realm<'_>>());
    assert_eq!(4, answer.raw(AttributeType::ERROR_CODE).len(), "no reason phrase");
    let algorithms = answer.read::<PasswordAlgorithms<'_>>().expect("there is a list").0;
    let algorithms: Vec<u16> = algorithms.iter().map(|entry| entry.number).collect();
    assert_eq!([2, 1], *algorithms, "SHA-256 is preferred to MD5");
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the server adds a
    //# PASSWORD-ALGORITHMS attribute, it MUST set the STUN Security
    //# Feature "Password algorithms" bit to 1.  The server MAY support
    //# anonymous username, in which case it MUST set the STUN Security
    //# Feature "Username anonymity" bit set to 1.
    let features = features_in(answer.nonce().as_bytes()).expect("the nonce has the cookie");
    assert!(features.password_algorithms);
    assert!(features.username_anonymity);
}

#[test]
fn a_request_without_integrity_is_challenged() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the message does not contain a MESSAGE-INTEGRITY or MESSAGE-
    //# INTEGRITY-SHA256 attribute, the server MUST generate an error
    //# response with an error code of 401 (Unauthenticated).  This
    //# response MUST include a REALM value.  The response MUST include a
    //# NONCE, selected by the server.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# Otherwise, the server MUST require that the request be
    //# authenticated.
    let server = serve(config());
    for address in [server.v4(), server.v6()] {
        for method in METHODS {
            let client = Client::new(address);
            let bare = client.exchange(&request(method, |_| {}));
            assert_challenge(401, &bare);
            let named = client.exchange(&request(method, |writer| {
                client.user.write(&bare.nonce(), writer);
            }));
            assert_challenge(401, &named);
        }
    }
    assert_eq!(0, server.counters().sessions, "nothing is remembered of a stranger");
}

#[test]
fn the_nonce_begins_with_the_cookie_of_rfc_8489() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2
    //= type=test
    //# To indicate that it supports this specification, a server MUST
    //# prepend the NONCE attribute value with the character string composed
    //# of "obMatJos2" concatenated with the (4-character) base64 [RFC4648]
    //# encoding of the 24-bit STUN Security Features as defined in
    //# Section 18.1.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.knock();
    // Bits 0 and 1: 0xC0 0x00 0x00.
    assert_eq!("obMatJos2wAAA", &client.nonce[..13]);

    let mut rest = config();
    rest.policy.realms[0].rest_secrets = vec![b"north".to_vec()];
    let server = serve(rest);
    let mut client = Client::new(server.v4());
    client.knock();
    assert_eq!("obMatJos2gAAA", &client.nonce[..13], "time-limited names have no hash to find");
}

#[test]
fn no_two_clients_get_the_same_nonce() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# The server MUST NOT choose the
    //# same NONCE for two requests unless they have the same source IP
    //# address and port.
    let servers = [serve(config()), serve(config())];
    // The clients of one host differ by their ports, those of two hosts have the same one.
    let mut clients = Vec::new();
    for server in &servers {
        clients.extend((0..20).map(|_| Client::from_ip(V4, server.v4())));
        let port = clients[0].address().port();
        clients.extend((0..20).map(|_| Client::from(at(own_host(), port), server.v4())));
    }
    clients.iter_mut().for_each(Client::knock);
    let nonces: BTreeSet<&str> = clients.iter().map(|client| client.nonce.as_str()).collect();
    assert_eq!(80, nonces.len());
}

#[test]
fn the_challenge_is_no_amplifier() {
    let server = serve(config());
    // Datagrams with their IPv4 and UDP headers.
    const HEADERS: f64 = 28.0;
    for method in METHODS {
        let client = Client::new(server.v4());
        let asked = request(method, |_| {});

        let answer = client.exchange(&asked);

        // Header, ERROR-CODE, NONCE, REALM, PASSWORD-ALGORITHMS.
        assert_eq!(20 + 8 + 44 + 20 + 12, answer.0.len());
        let factor = (answer.0.len() as f64 + HEADERS) / (asked.len() as f64 + HEADERS);
        assert!(factor < 2.8, "a factor of {factor}");
    }
    // A client whose nonce is stale sends more than it gets.
    let mut neighbour = Client::new(server.v4());
    neighbour.knock();
    let mut client = Client::new(server.v4());
    client.nonce = neighbour.nonce;
    let asked = client.signed(Method::ALLOCATE, raws(&[UDP]));
    let answer = client.exchange(&asked);
    assert_eq!(438, answer.code());
    assert!(answer.0.len() <= asked.len(), "{} for {}", answer.0.len(), asked.len());
}

#[test]
fn a_foreign_nonce_is_stale() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the NONCE is no longer valid, the server MUST generate an error
    //# response with an error code of 438 (Stale Nonce).  This response
    //# MUST include NONCE, REALM, and PASSWORD-ALGORITHMS attributes and
    //# SHOULD NOT include the USERNAME and USERHASH attributes.
    let (server, other_server) = (serve(config()), serve(config()));
    let mut of_other_host = Client::new(server.v4());
    of_other_host.knock();
    let mut of_other_server = Client::new(other_server.v4());
    of_other_server.knock();
    let mut own = Client::new(server.v4());
    own.knock();
    let mut neighbour = Client::from_ip(own.address().ip(), server.v4());
    neighbour.knock();
    let altered = |at: usize| {
        let mut nonce = own.nonce.clone().into_bytes();
        nonce[at] = if nonce[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(nonce).expect("it is ASCII")
    };
    let rows = [
        ("another port's", neighbour.nonce.clone()),
        ("another host's", of_other_host.nonce.clone()),
        ("another server's", of_other_server.nonce.clone()),
        ("made up", "0123456789abcdef".to_owned()),
        ("the cookie alone", own.nonce[..13].to_owned()),
        ("a shortened one", own.nonce[..own.nonce.len() - 1].to_owned()),
        ("a lengthened one", format!("{}A", own.nonce)),
        ("another time", altered(15)),
        ("another tag", altered(30)),
        ("bits of the cookie taken away", own.nonce.replacen("2wAAA", "2AAAA", 1)),
        ("one of another cookie", own.nonce.replacen("obMat", "obMot", 1)),
    ];
    for (name, nonce) in rows {
        for method in METHODS {
            let bytes = request(method, |writer| {
                own.user.write(&nonce, writer);
                writer.integrity(own.user.integrity, &own.user.key());
            });
            let answer = own.exchange(&bytes);
            assert_challenge(438, &answer);
            assert_ne!(nonce, answer.nonce(), "{name}");
        }
    }
    assert_eq!(0, server.counters().sessions, "a nonce of ours is what proves an address");
}

#[test]
fn the_nonce_of_a_438_is_good() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# The
    //# NONCE attribute value MUST be valid.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.nonce = "stale".to_owned();
    let refused = client.ask(Method::REFRESH, |_| {});
    assert_eq!(438, refused.code());

    client.nonce = refused.nonce();

    client.allocate();
}

#[test]
fn integrity_without_what_it_is_checked_with_is_a_bad_request() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the message contains a MESSAGE-INTEGRITY or a MESSAGE-
    //# INTEGRITY-SHA256 attribute, but is missing either the USERNAME or
    //# USERHASH, REALM, or NONCE attribute, the server MUST generate an
    //# error response with an error code of 400 (Bad Request).  This
    //# response SHOULD NOT include a USERNAME, USERHASH, NONCE, or REALM
    //# attribute.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.knock();
    let nonce = client.nonce.clone();
    let long_name = "a".repeat(764);
    type Fill<'a> = Box<dyn Fn(&mut MessageWriter<'_>) + 'a>;
    let rows: [(&str, Fill<'_>); 8] = [
        ("nothing", Box::new(|_| {})),
        ("no name", Box::new(|w| _ = w.attribute(&Realm(REALM)).attribute(&Nonce(&nonce)))),
        ("no realm", Box::new(|w| _ = w.attribute(&Username("alice")).attribute(&Nonce(&nonce)))),
        ("no nonce", Box::new(|w| _ = w.attribute(&Username("alice")).attribute(&Realm(REALM)))),
        (
            "a hash without nonce",
            Box::new(|w| _ = w.attribute(&UserHash([7; 32])).attribute(&Realm(REALM))),
        ),
        (
            "a name that is no text",
            Box::new(|w| {
                w.raw(AttributeType::USERNAME, &[0xFF, 0xFE]);
                w.attribute(&Realm(REALM)).attribute(&Nonce(&nonce));
            }),
        ),
        (
            "a name longer than any",
            Box::new(|w| {
                w.attribute(&Username(&long_name));
                w.attribute(&Realm(REALM)).attribute(&Nonce(&nonce));
            }),
        ),
        (
            "a hash of the wrong length",
            Box::new(|w| {
                w.raw(AttributeType::USERHASH, &[7; 31]);
                w.attribute(&Realm(REALM)).attribute(&Nonce(&nonce));
            }),
        ),
    ];
    let key = User::alice().key();
    for (name, fill) in rows {
        for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
            for method in METHODS {
                let answer = client.exchange(&request(method, |writer| {
                    fill(writer);
                    writer.integrity(algorithm, &key);
                }));
                assert_eq!(400, answer.code(), "{name}");
                assert_eq!([AttributeType::ERROR_CODE], *answer.kinds(), "{name}");
            }
        }
    }
    assert_eq!(0, server.counters().sessions);
}

#[test]
fn credentials_behind_the_integrity_attribute_do_not_count() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.knock();

    let answer = client.exchange(&request(Method::ALLOCATE, |writer| {
        writer.integrity(client.user.integrity, &client.user.key());
        client.user.write(&client.nonce, writer);
    }));

    assert_eq!(400, answer.code());
}

#[test]
fn a_server_whose_users_have_md5_keys_alone_offers_no_choice() {
    use sterna_actors::policy::UserSecret;
    let mut config = config();
    let key = User::alice().key();
    let md5 = key.as_bytes().try_into().expect("an MD5 key has 16 bytes");
    let keys = UserSecret::Keys { md5: Some(md5), sha256: None };
    set_users(&mut config, vec![("alice".to_owned(), keys)]);
    let server = serve(config);
    let mut client = Client::new(server.v4());

    let challenge = client.exchange(&request(Method::ALLOCATE, |_| {}));

    assert_eq!(401, challenge.code());
    assert_eq!(CHALLENGE[..3], *challenge.kinds());
    assert_eq!("obMatJos2QAAA", &challenge.nonce()[..13]);
    client.nonce = challenge.nonce();
    client.allocate();
    // Who asks for what was not offered is taken for a client of RFC 5389, and proves nothing.
    let mut modern = Client::new(server.v4());
    modern.user.algorithm = Some(PasswordAlgorithm::Sha256);
    modern.user.integrity = IntegrityAlgorithm::Sha256;
    assert_eq!(401, modern.ask(Method::ALLOCATE, |_| {}).code());
}

#[test]
fn a_source_that_asks_too_often_stays_unanswered_and_others_do_not() {
    let mut config = config();
    config.limits.unauthenticated_answers_per_second = 4;
    let server = serve(config);
    // Alice has her nonce before the flood; what she proves is not limited.
    let mut alice = Client::new(server.v4());
    alice.knock();

    let flood = Client::new(server.v4());
    for _ in 0..400 {
        flood.send(&request(Method::ALLOCATE, |_| {}));
        flood.send(&request(Method::BINDING, |_| {}));
    }

    alice.allocate();
    // Another address is another source.
    let other = Client::from_ip(crate::kit::ip("127.0.0.2"), server.v4());
    assert_eq!(0, other.exchange(&request(Method::BINDING, |_| {})).code());
    let other = Client::new(server.v6());
    assert_eq!(0, other.exchange(&request(Method::BINDING, |_| {})).code());
    let limited = server.dropped(DropReason::RateLimited);
    assert!((700..=800).contains(&limited), "{limited} of 800 stayed unanswered");
    assert_eq!(1, server.counters().sessions);
}
