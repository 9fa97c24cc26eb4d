//! Hostile input: broken, lying, random and replayed messages. Each is answered as the RFC says or
//! not at all, is counted by its reason, and changes nothing for anybody else.

use std::collections::BTreeSet;

use sterna_proto::drops::DropReason;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AttributeType, Class, Data, MAGIC_COOKIE, MessageWriter, Method, XorPeerAddress,
};

use crate::kit::{
    Call, Client, Heard, Random, Raw, Serving, UDP, channel_data, config, raws, request, serve,
    transaction_id,
};

const END_IT: Raw = (AttributeType::LIFETIME, &[0; 4]);

/// One good message of each kind that the client of `call` could send.
fn messages(call: &mut Call) -> Vec<Vec<u8>> {
    let peer = call.peer.address();
    let client = &mut call.client;
    let to_peer = |writer: &mut MessageWriter<'_>| _ = writer.attribute(&XorPeerAddress(peer));
    let mut indication = Vec::new();
    MessageWriter::new(&mut indication, Class::Indication, Method::SEND, transaction_id())
        .attribute(&XorPeerAddress(peer))
        .attribute(&Data(b"a whole indication"));
    vec![
        request(Method::BINDING, |writer| _ = writer.fingerprint()),
        request(Method::ALLOCATE, raws(&[UDP])),
        client.signed(Method::ALLOCATE, raws(&[UDP])),
        client.signed(Method::REFRESH, raws(&[END_IT])),
        client.signed(Method::CREATE_PERMISSION, to_peer),
        client.signed(Method::CHANNEL_BIND, |writer| {
            writer.raw(AttributeType::CHANNEL_NUMBER, &[0x40, 0, 0, 0]);
            to_peer(writer);
        }),
        indication,
        channel_data(Call::CHANNEL, b"a whole message"),
    ]
}

/// All packets dropped for these reasons, before and within the client's allocation.
fn dropped(server: &Serving, client: &Client, reasons: &[DropReason]) -> u64 {
    let (outside, inside) = (server.counters().drops, server.allocation_of(client.address()).drops);
    reasons.iter().map(|reason| outside.get(*reason) + inside.get(*reason)).sum()
}

/// Shows that nothing has been answered and nothing has changed.
fn assert_untouched(server: &Serving, victim: &mut Call, bystander: &Call) {
    victim.goes_on();
    victim.client.hears_nothing();
    bystander.goes_on();
    let counters = server.counters();
    assert_eq!((2, 2), (counters.sessions, counters.allocations));
}

#[test]
fn every_truncation_is_silence() {
    let server = serve(config());
    let (mut call, bystander) = (Call::through(server.v4()), Call::through(server.v4()));
    let (mut empty, mut broken, mut short_data) = (0, 0, 0);
    for message in messages(&mut call) {
        for length in 0..message.len() {
            call.client.send(&message[..length]);
            match (length, message[0]) {
                (0, _) => empty += 1,
                (_, 0..=3) => broken += 1,
                _ => short_data += 1,
            }
        }
        assert_untouched(&server, &mut call, &bystander);
    }
    assert_eq!(empty, dropped(&server, &call.client, &[DropReason::NotStun]));
    assert_eq!(broken, dropped(&server, &call.client, &[DropReason::Malformed]));
    let reason = [DropReason::MalformedChannelData];
    assert_eq!(short_data, dropped(&server, &call.client, &reason));
}

#[test]
fn a_length_field_that_lies_is_silence() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-5
    //= type=test
    //# Since all STUN attributes are
    //# padded to a multiple of 4 bytes, the last 2 bits of this field are
    //# always zero.
    let server = serve(config());
    let (mut call, bystander) = (Call::through(server.v4()), Call::through(server.v4()));
    let mut lies = 0;
    for message in messages(&mut call).into_iter().filter(|message| message[0] <= 3) {
        let length = u16::from_be_bytes([message[2], message[3]]);
        let wrong = BTreeSet::from([
            0,
            length.wrapping_sub(4),
            length + 1,
            length + 2,
            length + 3,
            length + 4,
            length ^ 0x8000,
            0x7FFC,
            0xFFFC,
            0xFFFF,
        ]);
        for lie in wrong.into_iter().filter(|lie| *lie != length) {
            let mut message = message.clone();
            message[2..4].copy_from_slice(&lie.to_be_bytes());
            call.client.send(&message);
            lies += 1;
        }
        // Bytes behind the message are no part of it, and none may be there.
        for more in 1..=4 {
            call.client.send(&[&message[..], &[0, 0, 0, 0][..more]].concat());
            lies += 1;
        }
        assert_untouched(&server, &mut call, &bystander);
    }
    assert_eq!(lies, dropped(&server, &call.client, &[DropReason::Malformed]));
}

#[test]
fn an_attribute_that_reaches_beyond_the_message_is_silence() {
    let server = serve(config());
    let (mut call, bystander) = (Call::through(server.v4()), Call::through(server.v4()));
    let mut lies = 0;
    for message in messages(&mut call).into_iter().filter(|message| message[0] <= 3) {
        let mut at = 20;
        while at < message.len() {
            let length = usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
            let room = u16::try_from(message.len() - at - 4).expect("it is one datagram");
            for lie in [room + 1, room + 4, 0x7FFF, 0xFFFC, 0xFFFF] {
                let mut message = message.clone();
                message[at + 2..at + 4].copy_from_slice(&lie.to_be_bytes());
                call.client.send(&message);
                lies += 1;
            }
            at += 4 + length.next_multiple_of(4);
        }
        // Half of an attribute's header at the end.
        let mut message = message;
        let body = u16::try_from(message.len() - 20 + 4).expect("it is one datagram");
        message[2..4].copy_from_slice(&body.to_be_bytes());
        message.extend_from_slice(&[0x80, 0x22, 0x00, 0x01]);
        call.client.send(&message);
        lies += 1;
        assert_untouched(&server, &mut call, &bystander);
    }
    let broken = [DropReason::Malformed, DropReason::BadFingerprint];
    assert_eq!(lies, dropped(&server, &call.client, &broken));
}

#[test]
fn garbage_behind_any_first_byte_is_silence() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12
    //= type=test
    //# According to [RFC7983], ChannelData messages can be distinguished
    //# from other multiplexed protocols by examining the first byte of the
    //# message:
    let server = serve(config());
    let (mut call, bystander) = (Call::through(server.v4()), Call::through(server.v4()));
    let stranger = Client::new(server.v4());
    let mut random = Random::seeded(1);
    let mut sent = 0;
    for length in [1, 2, 4, 12, 20, 48, 300] {
        for first in 0..=255 {
            let mut bytes = random.bytes(length);
            bytes[0] = first;
            // Never by chance a message of the one channel that is bound.
            if bytes.get(1) == Some(&0xFF) {
                bytes[1] = 0;
            }
            call.client.send(&bytes);
            stranger.send(&bytes);
            sent += 2;
        }
        assert_untouched(&server, &mut call, &bystander);
        assert_eq!(0, stranger.exchange(&request(Method::BINDING, |_| {})).code());
    }
    assert_eq!(sent, dropped(&server, &call.client, &DropReason::ALL));
    // Protocols that share the port elsewhere: ZRTP, DTLS, RTP.
    let of_others = dropped(&server, &call.client, &[DropReason::NotStun]);
    assert!(of_others >= 7 * 2 * (256 - 64 - 4), "{of_others}");
}

/// Reads all that comes until the answer to a last Binding request. Nothing but Binding may have
/// succeeded, and nothing may carry a proof.
fn drain(client: &Client) {
    let last = request(Method::BINDING, |_| {});
    client.send(&last);
    loop {
        let Heard::Answer(answer) = client.hear() else { panic!("data arrives") };
        if answer.transaction_id().as_bytes()[..] == last[8..20] {
            return;
        }
        let message = answer.message();
        let harmless = message.class() == Class::Error || message.method() == Method::BINDING;
        assert!(harmless, "{message:?}");
        assert_eq!(None, message.integrity_algorithm(), "{message:?}");
    }
}

/// A message that is well-formed on the outside and random within.
fn half_random(random: &mut Random) -> Vec<u8> {
    let kinds = [0x0001, 0x0003, 0x0004, 0x0008, 0x0009, 0x0016, 0x0011, 0x0101, 0x0113, 0x0006];
    let kind: u16 = match random.below(4) {
        0 => (random.number() & 0x03FF) as u16,
        _ => kinds[random.below(kinds.len())],
    };
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    bytes.extend(random.bytes(12));
    for _ in 0..random.below(8) {
        // Mostly the numbers that mean something.
        let kind = match random.below(4) {
            0 => random.number() as u16,
            1 => 0x8000 | (random.number() & 0x30) as u16,
            _ => (random.number() & 0x2F) as u16,
        };
        let length = [0, 1, 4, 8, 20, 20, 32, 40][random.below(8)];
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
        bytes.extend(random.bytes(length));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let body = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&body.to_be_bytes());
    bytes
}

#[test]
fn random_messages_get_nothing_granted() {
    let server = serve(config());
    let (mut call, bystander) = (Call::through(server.v4()), Call::through(server.v4()));
    let stranger = Client::new(server.v4());
    let mut random = Random::seeded(2);
    for _ in 0..100 {
        for _ in 0..30 {
            let bytes = match random.below(5) {
                0 => {
                    let length = random.below(100);
                    random.bytes(length)
                }
                _ => half_random(&mut random),
            };
            stranger.send(&bytes);
            if bytes.first().is_some_and(|first| *first <= 3) {
                call.client.send(&bytes);
            }
        }
        drain(&stranger);
        // Answers of the session come in its own order; those of the listener before them.
        let fence = call.client.signed(Method::REFRESH, |_| {});
        call.client.send(&fence);
        loop {
            let Heard::Answer(answer) = call.client.hear() else { panic!("data arrives") };
            if answer.transaction_id().as_bytes()[..] == fence[8..20] {
                assert_eq!(0, answer.code());
                break;
            }
            assert_eq!(None, answer.message().integrity_algorithm());
        }
        bystander.goes_on();
        call.goes_on();
    }
    assert_untouched(&server, &mut call, &bystander);
}

#[test]
fn altered_requests_get_nothing_granted() {
    let server = serve(config());
    let (mut call, bystander) = (Call::through(server.v4()), Call::through(server.v4()));
    let mut random = Random::seeded(3);
    let good: Vec<Vec<u8>> =
        messages(&mut call).into_iter().filter(|message| message[1] != 0x16).collect();
    let signed = &good[2..6];
    for _ in 0..300 {
        // No more at once than wait for their turn in a session.
        for _ in 0..6 {
            let mut message = signed[random.below(signed.len())].clone();
            for _ in 0..=random.below(6) {
                let place = random.below(message.len());
                message[place] ^= 1 << random.below(8);
            }
            // Two flips of the same bit would leave a good request.
            if !signed.contains(&message) {
                call.client.send(&message);
            }
        }
        let fence = call.client.signed(Method::REFRESH, |_| {});
        call.client.send(&fence);
        loop {
            let Heard::Answer(answer) = call.client.hear() else { panic!("data arrives") };
            if answer.transaction_id().as_bytes()[..] == fence[8..20] {
                assert_eq!(0, answer.code());
                break;
            }
            let message = answer.message();
            assert_eq!(None, message.integrity_algorithm());
            assert!(message.class() == Class::Error || message.method() == Method::BINDING);
        }
    }
    assert_untouched(&server, &mut call, &bystander);
}

#[test]
fn a_request_replayed_from_elsewhere_is_stale() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let overheard = messages(&mut call);
    for thief_at in [server.v4(), server.v6()] {
        let thief = Client::new(thief_at);
        for request in &overheard[2..6] {
            assert_eq!(438, thief.exchange(request).code());
        }
        // Data needs no proof, but it needs an allocation.
        thief.send(&overheard[6]);
        thief.send(&overheard[7]);
        assert_eq!(0, thief.exchange(&overheard[0]).code());
    }
    call.goes_on();
    assert_eq!(4, server.dropped(DropReason::NoSession));
    assert_eq!(1, server.counters().sessions);
}

#[test]
fn a_request_replayed_from_its_own_5_tuple_is_answered_and_not_done_again() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    let end = client.signed(Method::REFRESH, raws(&[END_IT]));
    let ended = client.exchange(&end);
    assert_eq!(0, ended.code());
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    // Whoever overheard the end of the first allocation cannot end the second with it.
    for _ in 0..3 {
        assert_eq!(ended, call.client.exchange(&end));
        call.goes_on();
    }
    assert_eq!(1, server.counters().allocations);
}

#[test]
fn a_message_has_a_greatest_number_of_attributes() {
    let server = serve(config());
    let client = Client::new(server.v4());
    let with = |count: usize| {
        request(Method::BINDING, |writer| {
            (0..count).for_each(|_| _ = writer.raw(AttributeType::new(0x8FFF), &[]));
        })
    };
    assert_eq!(0, client.exchange(&with(256)).code());
    client.send(&with(257));
    client.send(&with(16_000));
    assert_eq!(0, client.exchange(&with(0)).code());
    assert_eq!(2, server.dropped(DropReason::Malformed));
}

#[test]
fn the_largest_requests_are_requests() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let filler = vec![0; 65_507 - 20 - 4 - 400];
    let answer = client.ask(Method::ALLOCATE, |writer| {
        raws(&[UDP])(writer);
        writer.raw(AttributeType::new(0x8FFF), &filler);
    });
    assert_eq!(0, answer.code());
    let answer = client.ask(Method::REFRESH, |writer| {
        writer.raw(AttributeType::new(0x7FFF), &filler);
    });
    assert_eq!(420, answer.code());
    assert_eq!(Some(IntegrityAlgorithm::Sha1), answer.proved_by(&client.user.key()));
}
