//! Application data between client and peers (RFC 8656 §11 and §12).

use std::net::SocketAddr;

use sterna_proto::address::Family;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{
    AdditionalAddressFamily, AttributeType, Class, Data, DontFragment, MessageWriter, Method,
    RequestedAddressFamily, XorPeerAddress,
};

use crate::kit::{Call, Client, Heard, Peer, Raw, V4, V6, config, ip, raws, serve, transaction_id};

#[test]
fn data_goes_both_ways_between_all_families() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
    //= type=test
    //# the source transport address is the relayed transport address of
    //# the allocation, where the allocation is determined by the 5-tuple
    //# on which the Send indication arrived;
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.3
    //= type=test
    //# The Data indication
    //# MUST contain both an XOR-PEER-ADDRESS and a DATA attribute.
    let server = serve(config());
    for listening in [server.v4(), server.v6()] {
        for (family, host) in [(Family::V4, V4), (Family::V6, V6)] {
            let mut client = Client::new(listening);
            let answer = client
                .allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(family)));
            let relayed = answer.relayed()[0];
            let peer = Peer::new(host);
            assert_eq!(0, client.permit(&[peer.address()]));
            client.indicate(peer.address(), b"out");
            assert_eq!((b"out".to_vec(), relayed), peer.hear());
            peer.tell(relayed, b"in");
            assert_eq!(Heard::Data(peer.address(), b"in".to_vec()), client.hear());
            Call::with(client, relayed).goes_on();
        }
    }
}

#[test]
fn a_dual_allocation_carries_both_families_at_once() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client
        .allocate_with(|writer| _ = writer.attribute(&AdditionalAddressFamily(Family::V6)))
        .relayed();
    let peers = [Peer::new(V4), Peer::new(V6)];
    for (index, peer) in peers.iter().enumerate() {
        assert_eq!(0, client.bind(0x4000 + index as u16, peer.address()));
    }
    for round in 0..10_u8 {
        // In turns, so that one batch holds both.
        client.say(0x4000, &[4, round]);
        client.say(0x4001, &[6, round]);
        assert_eq!((vec![4, round], relayed[0]), peers[0].hear());
        assert_eq!((vec![6, round], relayed[1]), peers[1].hear());
        peers[1].tell(relayed[1], &[6, round]);
        assert_eq!(Heard::Channel(0x4001, vec![6, round]), client.hear());
        peers[0].tell(relayed[0], &[4, round]);
        assert_eq!(Heard::Channel(0x4000, vec![4, round]), client.hear());
    }
    // A peer of one family cannot come in by the address of the other.
    assert_eq!(0, client.permit(&[peers[0].address(), peers[1].address()]));
    client.indicate(peers[1].address(), b"v6");
    assert_eq!((b"v6".to_vec(), relayed[1]), peers[1].hear());
}

#[test]
fn data_of_no_length_is_data() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# Note that if
    //# the Length field in the ChannelData message is 0, then there will be
    //# no data in the UDP datagram, but the UDP datagram is still formed and
    //# sent
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
    //= type=test
    //# Note that the DATA attribute is allowed to contain zero
    //# bytes of data.
    let server = serve(config());
    let call = Call::through(server.v4());
    call.client.say(Call::CHANNEL, b"");
    assert_eq!((Vec::new(), call.relayed), call.peer.hear());
    call.client.indicate(call.peer.address(), b"");
    assert_eq!((Vec::new(), call.relayed), call.peer.hear());
    call.peer.tell(call.relayed, b"");
    assert_eq!(Heard::Channel(Call::CHANNEL, Vec::new()), call.client.hear());
    let other = Peer::new(V4);
    other.tell(call.relayed, b"");
    assert_eq!(Heard::Data(other.address(), Vec::new()), call.client.hear());
}

/// The largest UDP payload over IPv4 and over IPv6.
const MAX_V4: usize = 65_507;
const MAX_V6: usize = 65_527;

#[test]
fn data_of_the_greatest_length_goes_through() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let peer = call.peer.address();
    let bytes = |length: usize| (0..length).map(|i| (i % 251) as u8).collect::<Vec<u8>>();
    let on_channel = bytes(MAX_V4 - 4);
    // A multiple of four: no room for padding.
    let in_indication = bytes((MAX_V4 - 36) & !3);

    call.client.say(Call::CHANNEL, &on_channel);
    assert_eq!((on_channel.clone(), call.relayed), call.peer.hear());
    call.peer.tell(call.relayed, &on_channel);
    assert_eq!(Heard::Channel(Call::CHANNEL, on_channel), call.client.hear());
    call.client.indicate(peer, &in_indication);
    assert_eq!((in_indication.clone(), call.relayed), call.peer.hear());
    let other = Peer::new(V4);
    other.tell(call.relayed, &in_indication);
    assert_eq!(Heard::Data(other.address(), in_indication), call.client.hear());
}

#[test]
fn data_too_long_to_be_framed_or_sent_is_dropped_alone() {
    let server = serve(config());
    let call = Call::through(server.v4());
    for length in [MAX_V4 - 3, MAX_V4] {
        // One header too many for the way to the client.
        call.peer.tell(call.relayed, &vec![7; length]);
        call.goes_on();
    }
    // An IPv6 datagram holds more than an IPv4 one.
    let mut client = Client::new(server.v6());
    let relayed = client.allocate();
    let far = Call::with(client, relayed);
    for length in [MAX_V4 + 1, MAX_V6 - 4] {
        far.client.say(Call::CHANNEL, &vec![7; length]);
        far.goes_on();
    }
    far.client.say(Call::CHANNEL, &vec![7; MAX_V4]);
    assert_eq!(MAX_V4, far.peer.hear().0.len());
    for address in [call.client.address(), far.client.address()] {
        assert_eq!(2, server.dropped_for(address, DropReason::SendFailed));
    }
}

#[test]
fn padding_of_data_indications_is_zero() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14
    //= type=test
    //# The
    //# padding bits MUST be set to zero on sending and MUST be ignored by
    //# the receiver.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peer = Peer::new(V4);
    assert_eq!(0, client.permit(&[peer.address()]));
    for length in 0..9_usize {
        // What the buffer holds of the datagram before must not show.
        peer.tell(relayed, &[0xFF; 64]);
        client.receive();
        peer.tell(relayed, &vec![0xAA; length]);
        let bytes = client.receive();
        let padded = length.next_multiple_of(4);
        let mut expected = vec![0xAA; length];
        expected.resize(padded, 0);
        assert_eq!(36 + padded, bytes.len());
        assert_eq!(expected, bytes[36..]);
        assert_eq!((length as u16).to_be_bytes(), bytes[34..36]);
        assert_eq!((16 + padded as u16).to_be_bytes(), bytes[2..4]);
    }
}

#[test]
fn data_keeps_its_order() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let peer = call.peer.address();
    for round in 0..10_u8 {
        for number in 0..16_u8 {
            if number % 3 == 0 {
                call.client.indicate(peer, &[round, number]);
            } else {
                call.client.say(Call::CHANNEL, &[round, number]);
            }
        }
        for number in 0..16_u8 {
            assert_eq!((vec![round, number], call.relayed), call.peer.hear());
        }
        for number in 0..16_u8 {
            call.peer.tell(call.relayed, &[round, number]);
        }
        for number in 0..16_u8 {
            let heard = Heard::Channel(Call::CHANNEL, vec![round, number]);
            assert_eq!(heard, call.client.hear());
        }
    }
}

#[test]
fn of_two_peers_in_one_indication_the_first_is_checked_and_used() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let (friend, stranger) = (call.peer.address(), Peer::new(ip("127.0.0.9")));
    let send = |first: SocketAddr, second: SocketAddr, data: &[u8]| {
        call.client.indicate_with(|writer| {
            writer.attribute(&XorPeerAddress(first)).attribute(&XorPeerAddress(second));
            writer.attribute(&Data(data)).attribute(&Data(b"the second"));
        });
    };
    send(stranger.address(), friend, b"to a stranger");
    call.goes_on();
    send(friend, stranger.address(), b"to a friend");
    assert_eq!((b"to a friend".to_vec(), call.relayed), call.peer.hear());
    let reason = DropReason::NoPermission;
    assert_eq!(1, server.dropped_for(call.client.address(), reason));
}

#[test]
fn a_send_indication_that_is_not_whole_is_discarded() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
    //= type=test
    //# The Send indication MUST
    //# contain both an XOR-PEER-ADDRESS attribute and a DATA attribute.  If
    //# one of these attributes is missing or invalid, then the message is
    //# discarded.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.2
    //= type=test
    //# If the indication contains unknown comprehension-required attributes,
    //# the indication is discarded and processing ceases.
    const PEER: AttributeType = AttributeType::XOR_PEER_ADDRESS;
    const DATA: Raw = (AttributeType::DATA, b"data");
    const PEER_OF_NO_FAMILY: Raw = (PEER, &[0, 7, 1, 1, 1, 1, 1, 1]);
    const UNKNOWN: Raw = (AttributeType::new(0x7777), b"?");
    let server = serve(config());
    let call = Call::through(server.v4());
    let peer = call.peer.address();
    let to_peer = |writer: &mut MessageWriter<'_>| _ = writer.attribute(&XorPeerAddress(peer));
    let rows: [(&str, bool, &[Raw], DropReason); 6] = [
        ("nothing", false, &[], DropReason::MalformedIndication),
        ("no peer", false, &[DATA], DropReason::MalformedIndication),
        ("no data", true, &[], DropReason::MalformedIndication),
        ("no such family", false, &[PEER_OF_NO_FAMILY, DATA], DropReason::MalformedIndication),
        ("a short peer", false, &[(PEER, &[0, 1]), DATA], DropReason::MalformedIndication),
        ("unknown and required", true, &[DATA, UNKNOWN], DropReason::UnknownAttribute),
    ];
    for (name, with_peer, attributes, reason) in rows {
        let before = server.dropped_for(call.client.address(), reason);
        call.client.indicate_with(|writer| {
            if with_peer {
                to_peer(writer);
            }
            raws(attributes)(writer);
        });
        call.goes_on();
        let after = server.dropped_for(call.client.address(), reason);
        assert_eq!(before + 1, after, "{name}");
    }
    // Optional and unexpected ones don't matter, nor does integrity that nobody checks.
    call.client.indicate_with(|writer| {
        raws(&[(AttributeType::new(0xF777), b"?"), (AttributeType::LIFETIME, &[0; 4])])(writer);
        to_peer(writer);
        raws(&[DATA, (AttributeType::MESSAGE_INTEGRITY, &[0; 20]), UNKNOWN])(writer);
    });
    assert_eq!((b"data".to_vec(), call.relayed), call.peer.hear());
}

#[test]
fn indications_of_other_methods_are_discarded() {
    let server = serve(config());
    let call = Call::through(server.v4());
    for method in [Method::DATA, Method::BINDING, Method::ALLOCATE, Method::CONNECTION_ATTEMPT] {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, Class::Indication, method, transaction_id())
            .attribute(&XorPeerAddress(call.peer.address()))
            .attribute(&Data(b"data"));
        call.client.send(&bytes);
        call.goes_on();
    }
    let reason = DropReason::UnexpectedClass;
    assert_eq!(4, server.dropped_for(call.client.address(), reason));
}

#[test]
fn dont_fragment_is_no_reason_to_drop_what_fits() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client
        .allocate_with(|writer| _ = writer.attribute(&AdditionalAddressFamily(Family::V6)))
        .relayed();
    for (relayed, host) in [(relayed[0], V4), (relayed[1], V6)] {
        let peer = Peer::new(host);
        assert_eq!(0, client.permit(&[peer.address()]));
        for with in [true, false, true] {
            client.indicate_with(|writer| {
                writer.attribute(&XorPeerAddress(peer.address())).attribute(&Data(b"data"));
                writer.optional(with.then_some(&DontFragment));
            });
            assert_eq!((b"data".to_vec(), relayed), peer.hear());
        }
    }
}

#[test]
fn two_clients_of_one_server_talk_through_their_relays() {
    let server = serve(config());
    for (first, second) in [(server.v4(), server.v4()), (server.v4(), server.v6())] {
        let (mut alice, mut bob) = (Client::new(first), Client::new(second));
        let (at_alice, at_bob) = (alice.allocate(), bob.allocate());
        assert_eq!(0, alice.bind(0x4000, at_bob));
        // Bob has not let alice in yet.
        alice.say(0x4000, b"anybody there?");
        bob.hears_nothing();
        assert_eq!(0, bob.permit(&[at_alice]));
        alice.say(0x4000, b"hello");
        assert_eq!(Heard::Data(at_alice, b"hello".to_vec()), bob.hear());
        bob.indicate(at_alice, b"hello yourself");
        assert_eq!(Heard::Channel(0x4000, b"hello yourself".to_vec()), alice.hear());
    }
}

#[test]
fn a_client_may_be_its_own_peer() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    assert_eq!(0, client.bind(0x4000, relayed));
    client.say(0x4000, b"echo");
    assert_eq!(Heard::Channel(0x4000, b"echo".to_vec()), client.hear());
}

#[test]
fn a_client_that_has_left_is_no_trouble_to_others() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let Call { client, relayed, peer } = Call::through(server.v4());
    drop(client);
    for _ in 0..10 {
        // Each of these comes back from the client's host as an ICMP error.
        peer.tell(relayed, b"are you there?");
        call.goes_on();
    }
    Client::new(server.v4()).allocate();
}

#[test]
fn the_usage_report_counts_both_legs() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peer = Peer::new(V4);
    assert_eq!(0, client.permit(&[peer.address()]));
    client.indicate(peer.address(), &[1; 100]);
    peer.hear();
    peer.tell(relayed, &[2; 50]);
    client.hear();
    assert_eq!(0, client.bind(0x4000, peer.address()));
    client.say(0x4000, &[3; 20]);
    peer.hear();
    peer.tell(relayed, &[4; 10]);
    client.hear();
    let address = client.address();

    let usage = server.allocation_of(address).usage;
    client.get(Method::REFRESH, raws(&[(AttributeType::LIFETIME, &[0; 4])]));
    server.wait_for(|counters| counters.allocations == 0);

    let received = (usage.client.received_packets, usage.client.received_bytes);
    assert_eq!((2, (36 + 100) + (4 + 20)), received, "whole messages from the client");
    let sent = (usage.client.sent_packets, usage.client.sent_bytes);
    assert_eq!((2, (36 + 52) + (4 + 10)), sent, "whole messages to the client");
    assert_eq!((2, 60), (usage.peer.received_packets, usage.peer.received_bytes));
    assert_eq!((2, 120), (usage.peer.sent_packets, usage.peer.sent_bytes));
    for line in [
        "session 000000000000000001: usage: realm=<north.example>, username=<alice>, \
         rp=2, rb=160, sp=2, sb=102",
        "session 000000000000000001: peer usage: realm=<north.example>, username=<alice>, \
         rp=2, rb=60, sp=2, sb=120",
    ] {
        assert!(server.log.have(line), "{:#?}", server.log.all());
    }
    assert!(server.log.have(&format!("relayed address {relayed}")));
}
