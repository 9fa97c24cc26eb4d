//! Fields of the IP header that a relay preserves (RFC 8656 §13 and §14).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use sterna_proto::address::Family;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{Data, DontFragment, Method, XorPeerAddress};

use crate::kit::{
    Arrived, Call, Client, Peer, Serving, Sniffer, V4, V6, config, request, serve, set_headers,
};

fn each_pair_of_families(server: &Serving, test: impl Fn(Call)) {
    for listening in [server.v4(), server.v6()] {
        for family in [Family::V4, Family::V6] {
            test(Call::with_headers(listening, family));
        }
    }
}

/// What the far end should see.
fn arrived(data: Vec<u8>, hop_limit: i32, traffic_class: i32) -> Arrived {
    Arrived { data, hop_limit, traffic_class }
}

#[test]
fn hop_limit_is_one_less_and_dscp_and_ecn_are_the_same() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-14
    //= type=test
    //# Preferred Behavior: Set the outgoing value to the incoming value
    //# unless the server includes a differentiated services classifier
    //# and marker [RFC2474].
    //= https://www.rfc-editor.org/rfc/rfc8656#section-14
    //= type=test
    //# Preferred Behavior: Set the outgoing value to the incoming value.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-21.1.7
    //= type=test
    //# More mitigation can be achieved by decrementing the TTL when relaying
    //# data packets (if the underlying OS allows this).
    let server = serve(config());
    // EF with ECT(0), AF41 with CE, CS0 with ECT(1), and the extremes.
    let rows = [(64, 0), (17, 0xBA), (2, 0x8B), (255, 0x01), (128, 0xFF), (33, 0x00), (3, 0x02)];
    each_pair_of_families(&server, |call| {
        for (hops, class) in rows {
            let (hops, seen) = (hops, (i32::from(hops) - 1, i32::from(class)));
            set_headers(&call.client.socket, hops, class);
            call.client.say(Call::CHANNEL, b"on a channel");
            let expected = arrived(b"on a channel".to_vec(), seen.0, seen.1);
            assert_eq!(expected, Arrived::at(&call.peer.0));
            call.client.indicate(call.peer.address(), b"indicated");
            let expected = arrived(b"indicated".to_vec(), seen.0, seen.1);
            assert_eq!(expected, Arrived::at(&call.peer.0));

            set_headers(&call.peer.0, hops, class);
            call.peer.tell(call.relayed, b"back");
            let back = Arrived::at(&call.client.socket);
            assert_eq!(
                (b"back", seen.0, seen.1),
                (
                    &back.data[4..].try_into().expect("four bytes"),
                    back.hop_limit,
                    back.traffic_class
                )
            );
        }
    });
}

#[test]
fn a_datagram_at_the_end_of_its_hops_goes_no_further() {
    let server = serve(config());
    each_pair_of_families(&server, |call| {
        for socket in [&call.client.socket, &call.peer.0] {
            set_headers(socket, 1, 0);
        }
        call.client.say(Call::CHANNEL, b"too far");
        call.client.indicate(call.peer.address(), b"too far");
        call.peer.tell(call.relayed, b"too far");
        for socket in [&call.client.socket, &call.peer.0] {
            set_headers(socket, 64, 0);
        }
        call.goes_on();
        let reason = DropReason::TtlExpired;
        assert_eq!(3, server.dropped_for(call.client.address(), reason));
    });
}

#[test]
fn requests_are_answered_however_far_they_have_come() {
    let server = serve(config());
    for listening in [server.v4(), server.v6()] {
        let mut client = Client::new(listening);
        set_headers(&client.socket, 1, 0);
        assert_eq!(0, client.exchange(&request(Method::BINDING, |_| {})).code());
        client.allocate();
    }
}

#[test]
fn one_clients_header_fields_do_not_leak_into_anothers_packets() {
    let server = serve(config());
    for family in [Family::V4, Family::V6] {
        let call = || Call::with_headers(server.v4(), family);
        let (near, far) = (call(), call());
        let own = Client::new(server.v4());
        Arrived::watch(&own.socket);
        own.send(&request(Method::BINDING, |_| {}));
        let usual = Arrived::at(&own.socket);
        assert_eq!(0, usual.traffic_class);
        for _ in 0..3 {
            for (call, hops, class) in [(&far, 9, 0xB8), (&near, 64, 0)] {
                set_headers(&call.client.socket, hops, class);
                set_headers(&call.peer.0, hops, class);
                call.client.say(Call::CHANNEL, b"out");
                call.peer.tell(call.relayed, b"in");
            }
            own.send(&request(Method::BINDING, |_| {}));
            for (call, hops, class) in [(&far, 8, 0xB8), (&near, 63, 0)] {
                for socket in [&call.peer.0, &call.client.socket] {
                    let seen = Arrived::at(socket);
                    assert_eq!((hops, class), (seen.hop_limit, seen.traffic_class));
                }
            }
            let seen = Arrived::at(&own.socket);
            assert_eq!((usual.hop_limit, 0), (seen.hop_limit, seen.traffic_class));
        }
        // An answer to the client whose packets are marked is the server's own as well.
        far.client.send(&request(Method::BINDING, |_| {}));
        let seen = Arrived::at(&far.client.socket);
        assert_eq!((usual.hop_limit, 0), (seen.hop_limit, seen.traffic_class));
    }
}

#[test]
fn header_fields_are_each_datagrams_own_within_a_batch() {
    let server = serve(config());
    for family in [Family::V4, Family::V6] {
        let call = Call::with_headers(server.v4(), family);
        for round in 0..4_u8 {
            for hops in 40..56 {
                set_headers(&call.client.socket, hops, hops & 0xFC);
                call.client.say(Call::CHANNEL, &[round, hops]);
                set_headers(&call.peer.0, hops, hops & 0xFC);
                call.peer.tell(call.relayed, &[round, hops]);
            }
            for hops in 40..56_u8 {
                let (less, class) = (i32::from(hops) - 1, i32::from(hops & 0xFC));
                let seen = Arrived::at(&call.peer.0);
                assert_eq!(arrived(vec![round, hops], less, class), seen);
                let seen = Arrived::at(&call.client.socket);
                assert_eq!(
                    ([round, hops], less, class),
                    ([seen.data[4], seen.data[5]], seen.hop_limit, seen.traffic_class)
                );
            }
        }
    }
}

#[test]
fn the_df_bit_is_set_for_dont_fragment_alone() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-14
    //= type=test
    //# Preferred Behavior: When the server sends a packet to a peer in
    //# response to a Send indication containing the DONT-FRAGMENT
    //# attribute, then set the outgoing UDP packet to not fragment.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-14
    //= type=test
    //# Alternate Behavior: As described in the Preferred Behavior, except
    //# always assume the incoming DF bit is 0.
    let server = serve(config());
    // Hosts of this test alone, so that the raw sockets see its datagrams and no others.
    let (client_host, peer_host) = (Ipv4Addr::new(127, 0, 66, 1), Ipv4Addr::new(127, 0, 66, 2));
    let mut client = Client::from_ip(IpAddr::V4(client_host), server.v4());
    let relayed = client.allocate();
    let peer = Peer::new(IpAddr::V4(peer_host));
    assert_eq!(0, client.permit(&[peer.address()]));
    let sniffers = (Sniffer::at(client_host), Sniffer::at(peer_host));
    let send = |dont_fragment: bool| {
        client.indicate_with(|writer| {
            writer.attribute(&XorPeerAddress(peer.address())).attribute(&Data(b"data"));
            writer.optional(dont_fragment.then_some(&DontFragment));
        });
        assert_eq!((b"data".to_vec(), relayed), peer.hear());
    };
    [false, true, true, false, true, false].into_iter().for_each(send);
    assert_eq!(0, client.bind(0x4000, peer.address()));
    client.say(0x4000, b"data");
    assert_eq!((b"data".to_vec(), relayed), peer.hear());
    if let (_, Some(at_peer)) = &sniffers {
        let seen = at_peer.dont_fragment();
        assert_eq!([false, true, true, false, true, false, false], *seen, "to the peer");
    }
    if let (Some(at_client), _) = &sniffers {
        at_client.dont_fragment();
        peer.tell(relayed, b"data");
        client.receive();
        assert_eq!([false], *at_client.dont_fragment(), "to the client");
    }
}

#[test]
fn dont_fragment_is_ignored_where_packets_are_translated() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-13.3
    //= type=test
    //# For both preferred and alternate behavior, the DONT-FRAGMENT
    //# attribute MUST be ignored by the server.
    let server = serve(config());
    let host = Ipv4Addr::new(127, 0, 67, 1);
    let mut client = Client::new(server.v6());
    let relayed = client.allocate();
    let peer = Peer::new(IpAddr::V4(host));
    assert_eq!(0, client.permit(&[peer.address()]));
    let sniffer = Sniffer::at(host);
    for _ in 0..3 {
        client.indicate_with(|writer| {
            writer.attribute(&XorPeerAddress(peer.address())).attribute(&Data(b"data"));
            writer.attribute(&DontFragment);
        });
        assert_eq!((b"data".to_vec(), relayed), peer.hear(), "it is relayed all the same");
    }
    if let Some(sniffer) = sniffer {
        assert_eq!([false; 3], *sniffer.dont_fragment());
    }
}

#[test]
fn a_socket_of_the_tests_sees_what_it_should() {
    // The tests above say nothing if this does not hold.
    for host in [V4, V6] {
        let socket = |ip| UdpSocket::bind(SocketAddr::new(ip, 0)).expect("a port is free");
        let (from, to) = (socket(host), socket(host));
        Arrived::watch(&to);
        set_headers(&from, 42, 0xA9);
        from.send_to(b"x", to.local_addr().expect("it is bound")).expect("loopback takes it");
        assert_eq!(arrived(b"x".to_vec(), 42, 0xA9), Arrived::at(&to));
    }
}
