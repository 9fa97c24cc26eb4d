//! What cannot be delivered: ICMP errors come back to the client (RFC 8656 §11.5), and no failure
//! ends an allocation.

use sterna_proto::address::Family;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AdditionalAddressFamily, Icmp, Method, RequestedAddressFamily};

use crate::kit::{Call, Client, Heard, Peer, V4, V6, at, closed, config, ip, serve};

const PORT_UNREACHABLE: Icmp = Icmp { kind: 3, code: 3, data: 0 };
const PORT_UNREACHABLE_V6: Icmp = Icmp { kind: 1, code: 4, data: 0 };

#[test]
fn an_icmp_error_is_told_to_the_client() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
    //= type=test
    //# The Data indication MUST contain both an XOR-PEER-
    //# ADDRESS and an ICMP attribute.  The ICMP attribute is set to the
    //# value of the type and code fields from the ICMP packet.  The IP
    //# address portion of XOR-PEER-ADDRESS attribute is set to the
    //# destination IP address in the encapsulated IP header.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
    //= type=test
    //# If destination port in
    //# the encapsulated UDP header is available to the server, then the port
    //# portion of the XOR-PEER-ADDRESS attribute is set to the destination
    //# port; otherwise, the port portion is set to zero.
    let server = serve(config());
    for listening in [server.v4(), server.v6()] {
        for (family, host, icmp) in
            [(Family::V4, V4, PORT_UNREACHABLE), (Family::V6, V6, PORT_UNREACHABLE_V6)]
        {
            let mut client = Client::new(listening);
            client.allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(family)));
            let peer = closed(host);
            assert_eq!(0, client.permit(&[peer]));
            for _ in 0..3 {
                client.indicate(peer, b"anybody there?");
                let bytes = client.receive();
                assert_eq!(Heard::Icmp(peer, icmp), Heard::read(bytes.clone()));
                //= https://www.rfc-editor.org/rfc/rfc8656#section-18.13
                //= type=test
                //# This field MUST be set to 0 when sent and MUST be ignored
                //# when received.
                //= https://www.rfc-editor.org/rfc/rfc8656#section-18.13
                //= type=test
                //# For other ICMPv6 types and ICMPv4 types and codes,
                //# the Error Data field MUST be set to zero.
                let value = [0, 0, icmp.kind, icmp.code, 0, 0, 0, 0];
                assert_eq!(value, bytes[bytes.len() - 8..]);
            }
        }
    }
}

#[test]
fn an_icmp_error_is_an_indication_although_a_channel_is_bound() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //= type=test
    //# The server uses a Data indication to signal the XOR-PEER-ADDRESS and
    //# ICMP attributes to the client even if a channel has been bound to the
    //# peer.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    let peer = closed(V4);
    assert_eq!(0, client.bind(0x4000, peer));
    client.say(0x4000, b"anybody there?");
    assert_eq!(Heard::Icmp(peer, PORT_UNREACHABLE), client.hear());
}

#[test]
fn icmp_errors_cost_no_other_datagram() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client
        .allocate_with(|writer| _ = writer.attribute(&AdditionalAddressFamily(Family::V6)))
        .relayed();
    let dead = [closed(V4), closed(V6)];
    let peers = [Peer::new(V4), Peer::new(V6)];
    for (index, peer) in peers.iter().enumerate() {
        let number = 0x4000 + 2 * index as u16;
        assert_eq!(0, client.bind(number, peer.address()));
        assert_eq!(0, client.bind(number + 1, dead[index]));
    }
    let (mut told, mut heard) = (0, 0);
    for round in 0..20_u8 {
        for index in 0..2 {
            let number = 0x4000 + 2 * index as u16;
            // Refused ones in front of, between and behind those that must arrive.
            client.say(number + 1, b"dead");
            client.say(number, &[round, 1]);
            client.say(number + 1, b"dead");
            client.say(number, &[round, 2]);
            client.say(number + 1, b"dead");
            peers[index].tell(relayed[index], &[round, 3]);
            for last in [1, 2] {
                assert_eq!((vec![round, last], relayed[index]), peers[index].hear());
            }
        }
        // The kernel may pass over an ICMP error where many come at once, but no data.
        let data_until = heard + 2;
        while heard < data_until {
            match client.hear() {
                Heard::Channel(_, data) => {
                    assert_eq!(vec![round, 3], data);
                    heard += 1;
                }
                Heard::Icmp(peer, _) => {
                    assert!(dead.contains(&peer));
                    told += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(40, heard);
    assert!(told > 0, "some of the errors are told");
    assert_eq!(0, server.dropped_for(client.address(), DropReason::SendFailed));
}

#[test]
fn a_datagram_that_cannot_be_sent_does_not_end_the_allocation() {
    let server = serve(config());
    let mut client = Client::new(server.v6());
    let relayed = client.allocate();
    let mut call = Call::with(client, relayed);
    // A socket on loopback reaches no public address; the kernel says EINVAL.
    let elsewhere = at(ip("198.51.100.1"), 9);
    assert_eq!(0, call.client.bind(0x4000, elsewhere));
    let rounds = 5;
    for _ in 0..rounds {
        call.client.indicate(at(V4, 0), b"port 0");
        call.goes_on();
        call.client.say(0x4000, b"out of reach");
        call.client.indicate(elsewhere, b"out of reach");
        call.goes_on();
        call.client.say(Call::CHANNEL, &[0; 65_510]);
        call.goes_on();
        call.client.get(Method::REFRESH, |_| {});
    }
    let drops = server.allocation_of(call.client.address()).drops;
    assert_eq!(rounds, drops.get(DropReason::PeerPortZero));
    assert_eq!(3 * rounds, drops.get(DropReason::SendFailed));
}

#[test]
fn what_cannot_be_sent_does_not_hold_up_what_comes_behind() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let elsewhere = at(ip("198.51.100.1"), 9);
    assert_eq!(0, call.client.bind(0x4000, elsewhere));
    for round in 0..10_u8 {
        // They reach the relay in one batch as often as not.
        for number in 0..8 {
            call.client.say(0x4000, b"out of reach");
            call.client.say(Call::CHANNEL, &[round, number]);
        }
        for number in 0..8 {
            assert_eq!((vec![round, number], call.relayed), call.peer.hear());
        }
    }
    let reason = DropReason::SendFailed;
    assert_eq!(80, server.dropped_for(call.client.address(), reason));
}

#[test]
fn an_ipv6_relay_sends_nothing_to_an_ipv4_peer_by_its_mapped_address() {
    let server = serve(config());
    let mut client = Client::new(server.v6());
    let relayed = client
        .allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(Family::V6)))
        .relayed()[0];
    let mut call = Call::with(client, relayed);
    let peer = Peer::new(V4);
    let mapped = at(ip("::ffff:127.0.0.1"), peer.address().port());
    // 127.0.0.1 is allowed by name, and so is this form of it.
    assert_eq!(0, call.client.bind(0x4000, mapped));
    call.client.say(0x4000, b"over the fence");
    call.client.indicate(mapped, b"over the fence");
    call.goes_on();
    assert_eq!(2, server.dropped_for(call.client.address(), DropReason::SendFailed));
    let elsewhere = Call::through(server.v4());
    elsewhere.peer.tell(peer.address(), b"the first to arrive");
    assert_eq!((b"the first to arrive".to_vec(), elsewhere.peer.address()), peer.hear());
}
