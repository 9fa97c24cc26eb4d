//! What proves a request, and what does not.

use std::net::SocketAddr;

use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::drops::DropReason;
use sterna_proto::integrity::IntegrityAlgorithm::{Sha1, Sha256};
use sterna_proto::stun::{AttributeType, MessageWriter, Method, XorPeerAddress};

use crate::kit::{
    Call, Client, Heard, Peer, REALM, Raw, UDP, User, config, ip, raws, request, seal, serve,
};

const END_IT: Raw = (AttributeType::LIFETIME, &[0, 0, 0, 0]);

/// Sends a request that must not be believed: whatever is answered proves nothing and grants
/// nothing.
fn assert_not_believed(client: &mut Client, bytes: &[u8], what: &str) {
    client.send(bytes);
    let fence = client.signed(Method::REFRESH, |_| {});
    client.send(&fence);
    loop {
        let Heard::Answer(answer) = client.hear() else { panic!("{what}: data arrives") };
        if answer.transaction_id().as_bytes()[..] == fence[8..20] {
            assert_eq!(0, answer.code(), "{what}: the allocation is there");
            return;
        }
        assert!(matches!(answer.code(), 400 | 401 | 438), "{what}: {}", answer.code());
        assert_eq!(None, answer.message().integrity_algorithm(), "{what}");
    }
}

#[test]
fn no_request_with_a_flipped_bit_is_believed() {
    let server = serve(config());
    let kinds = [
        User::alice(),
        User { integrity: Sha256, algorithm: Some(PasswordAlgorithm::Sha256), ..User::alice() },
    ];
    for user in kinds {
        let mut call = Call::through(server.v4());
        call.client.user = user;
        // The odd length makes padding, which is protected like everything else.
        let padded: Raw = (AttributeType::SOFTWARE, b"probe");
        let good = call.client.signed(Method::REFRESH, raws(&[END_IT, padded]));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 0x80 >> (bit % 8);
            assert_not_believed(&mut call.client, &bad, &format!("bit {bit}"));
        }
        call.goes_on();

        let answer = call.client.exchange(&good);

        assert_eq!((0, 0), (answer.code(), answer.lifetime()));
    }
}

#[test]
fn an_integrity_value_of_another_length_proves_nothing() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.6
    //= type=test
    //# The value must be the full 32 bytes unless the STUN Usage
    //# explicitly specifies that truncation is allowed.
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let client = &mut call.client;
    let unsealed = |client: &Client| {
        request(Method::REFRESH, |writer| {
            raws(&[END_IT])(writer);
            client.user.write(&client.nonce, writer);
        })
    };
    for algorithm in [Sha1, Sha256] {
        for length in (0..=40).step_by(4).filter(|length| *length != algorithm.value_len()) {
            let mut bytes = unsealed(client);
            seal(&mut bytes, algorithm, &client.user.key(), length);
            assert_not_believed(client, &bytes, &format!("{algorithm:?} of {length} bytes"));
        }
    }
    call.goes_on();
    for algorithm in [Sha1, Sha256] {
        let mut client = Client::new(server.v4());
        client.allocate();
        let mut bytes = unsealed(&client);
        seal(&mut bytes, algorithm, &client.user.key(), algorithm.value_len());
        assert_eq!(0, client.exchange(&bytes).code(), "{algorithm:?} whole");
    }
}

#[test]
fn a_value_made_with_another_key_proves_nothing() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let sha256 = User { algorithm: Some(PasswordAlgorithm::Sha256), ..User::alice() };
    let keys = [
        ("bob's", User::bob().key()),
        ("SHA-256 where MD5 is meant", sha256.key()),
        ("empty", Key::shared(&[])),
        ("zeros", Key::shared(&[0; 16])),
        ("the password itself", Key::shared(b"sesame")),
    ];
    for (name, key) in keys {
        for algorithm in [Sha1, Sha256] {
            let client = &mut call.client;
            let bytes = request(Method::REFRESH, |writer| {
                raws(&[END_IT])(writer);
                client.user.write(&client.nonce, writer);
                writer.integrity(algorithm, &key);
            });
            assert_not_believed(client, &bytes, name);
        }
    }
    call.goes_on();
}

#[test]
fn of_two_integrity_attributes_sha_256_is_checked() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the MESSAGE-INTEGRITY-SHA256 attribute is present, compute the
    //# value for the message integrity as described in Section 14.6,
    //# using the password associated with the username.
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let (own, other) = (User::alice().key(), User::bob().key());
    let client = &mut call.client;
    let both = |client: &Client, sha1: &Key, sha256: &Key| {
        request(Method::REFRESH, |writer| {
            raws(&[END_IT])(writer);
            client.user.write(&client.nonce, writer);
            writer.integrity(Sha1, sha1).integrity(Sha256, sha256);
        })
    };
    let bad = both(client, &own, &other);
    assert_not_believed(client, &bad, "SHA-1 right and SHA-256 wrong");
    // SHA-256 alone says who it is; the SHA-1 value is part of what it covers.
    let good = both(client, &other, &own);
    assert_eq!(0, client.exchange(&good).code());
}

#[test]
fn what_follows_the_integrity_attribute_is_ignored() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9
    //= type=test
    //# Note that agents MUST ignore all attributes that follow MESSAGE-
    //# INTEGRITY, with the exception of the MESSAGE-INTEGRITY-SHA256 and
    //# FINGERPRINT attributes.
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let stranger = Peer::new(ip("127.0.0.9"));
    let client = &mut call.client;
    let unknown: Raw = (AttributeType::new(0x7777), b"what?");
    let behind = |client: &Client, method, before: &[Raw], fill: fn(&mut MessageWriter<'_>, _)| {
        request(method, |writer| {
            raws(before)(writer);
            client.sign(writer);
            fill(writer, stranger.address());
            raws(&[unknown])(writer);
            writer.fingerprint();
        })
    };
    type A = AttributeType;

    let bytes = behind(client, Method::REFRESH, &[], |writer, _: SocketAddr| {
        raws(&[END_IT, (A::REQUESTED_ADDRESS_FAMILY, &[9; 4])])(writer);
    });
    let answer = client.exchange(&bytes);
    assert_eq!((0, 600), (answer.code(), answer.lifetime()));
    assert_eq!(Some(&A::FINGERPRINT), answer.kinds().last(), "FINGERPRINT is seen");

    let bytes = behind(client, Method::CREATE_PERMISSION, &[], |writer, peer| {
        writer.attribute(&XorPeerAddress(peer));
    });
    assert_eq!(400, client.exchange(&bytes).code());

    let mut other = Client::new(server.v4());
    other.knock();
    let bytes = behind(&other, Method::ALLOCATE, &[], |writer, _| raws(&[UDP])(writer));
    assert_eq!(400, other.exchange(&bytes).code());
    let bytes = behind(&other, Method::ALLOCATE, &[UDP], |writer, _| {
        raws(&[(A::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]), UDP])(writer);
    });
    assert!(other.exchange(&bytes).relayed()[0].is_ipv4());

    // The stranger has got no permission by what came behind.
    stranger.tell(call.relayed, b"let me in");
    call.goes_on();
    assert_eq!(1, server.dropped_for(call.client.address(), DropReason::NoPermission));
}

#[test]
fn what_stands_between_two_integrity_attributes_is_ignored() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9
    //= type=test
    //# Similarly, agents MUST ignore all attributes
    //# that follow the MESSAGE-INTEGRITY-SHA256 attribute if the MESSAGE-
    //# INTEGRITY attribute is not present, with the exception of the
    //# FINGERPRINT attribute.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    let key = client.user.key();
    for order in [[Sha1, Sha256], [Sha256, Sha1]] {
        let answer = client.exchange(&request(Method::REFRESH, |writer| {
            client.user.write(&client.nonce, writer);
            writer.integrity(order[0], &key);
            raws(&[END_IT])(writer);
            writer.integrity(order[1], &key);
        }));
        assert_eq!((0, 600), (answer.code(), answer.lifetime()), "{order:?}");
    }
}

#[test]
fn a_request_made_byte_by_byte_is_believed() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.knock();
    let mut bytes = vec![0x00, 0x03, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    bytes.extend_from_slice(b"byte by byte");
    let mut put = |kind: u16, value: &[u8]| {
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        bytes.extend_from_slice(value);
        // Padding bytes may have any value.
        bytes.resize(bytes.len().next_multiple_of(4), 0xEE);
    };
    put(0x0019, &[17, 0, 0, 0]);
    put(0x0006, b"alice");
    put(0x0014, REALM.as_bytes());
    put(0x0015, client.nonce.as_bytes());
    // MD5("alice:north.example:sesame")
    let key = Key::shared(&KEY_OF_ALICE);
    seal(&mut bytes, Sha1, &key, 20);

    let answer = client.exchange(&bytes);

    assert_eq!(0, answer.code());
    assert_eq!(Some(Sha1), answer.proved_by(&key));
}

const KEY_OF_ALICE: [u8; 16] = [
    0x6E, 0xE0, 0xFB, 0xC3, 0x57, 0x92, 0x9C, 0xD5, 0x80, 0x72, 0x81, 0x10, 0x62, 0x27, 0x8C, 0xCF,
];
