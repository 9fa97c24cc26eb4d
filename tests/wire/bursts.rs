//! Datagrams that the kernel hands over together, as one send that it cuts apart (UDP_SEGMENT) or
//! as one that it has put together (UDP_GRO): whoever gets them sees no difference.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use sterna_proto::address::Family;
use sterna_proto::stun::RequestedAddressFamily;

use crate::kit::{
    Arrived, Call, Client, Heard, Peer, V4, V6, channel_data, config, serve, set_headers,
};

/// A call with a peer of the family, both ends of which see headers.
fn call(listening: SocketAddr, family: Family) -> Call {
    let mut client = Client::new(listening);
    let relayed = client
        .allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(family)))
        .relayed()[0];
    let call = Call::with(client, relayed);
    Arrived::watch(&call.client.socket);
    Arrived::watch(&call.peer.0);
    call
}

/// Sends datagrams, of which all but the last have one length, as one send.
fn burst(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
    let all = datagrams.concat();
    let length = u16::try_from(datagrams[0].len()).expect("the datagrams are short");
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(&all)],
        &[ControlMessage::UdpGsoSegments(&length)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(to)),
    );
    assert_eq!(Ok(all.len()), sent);
}

/// Payloads of one length but for the last, each of which says which it is.
fn payloads(count: u8, length: usize) -> Vec<Vec<u8>> {
    let length_of = |number| if number == count { length.div_ceil(2) } else { length };
    (1..=count).map(|number| vec![number; length_of(number)]).collect()
}

#[test]
fn burst_arrives_as_the_datagrams_it_was_made_of() {
    let server = serve(config());
    for listening in [server.v4(), server.v6()] {
        for family in [Family::V4, Family::V6] {
            let call = call(listening, family);
            // The longest fills a send, one short of the kernel's 64 segments.
            for (count, length) in [(1, 1), (2, 160), (8, 1200), (63, 160), (9, 0)] {
                let payloads = payloads(count, length);
                for (hops, class) in [(64, 0), (40, 0xB8)] {
                    set_headers(&call.client.socket, hops, class);
                    set_headers(&call.peer.0, hops, class);
                    let (hops, class) = (i32::from(hops) - 1, i32::from(class));
                    let said: Vec<_> =
                        payloads.iter().map(|data| channel_data(Call::CHANNEL, data)).collect();
                    burst(&call.client.socket, listening, &said);
                    for data in &payloads {
                        let arrived = Arrived::at(&call.peer.0);
                        assert_eq!((data, hops), (&arrived.data, arrived.hop_limit));
                        assert_eq!(class, arrived.traffic_class);
                    }
                    if length == 0 {
                        continue;
                    }
                    burst(&call.peer.0, call.relayed, &payloads);
                    for data in &said {
                        let arrived = Arrived::at(&call.client.socket);
                        assert_eq!((data, hops), (&arrived.data, arrived.hop_limit));
                        assert_eq!(class, arrived.traffic_class);
                    }
                }
            }
            call.goes_on();
        }
    }
}

#[test]
fn each_of_a_burst_without_channel_is_an_indication() {
    let server = serve(config());
    for (listening, host) in [(server.v4(), V4), (server.v6(), V6)] {
        let mut call = Call::through(listening);
        let peer = call.another_peer(if call.relayed.is_ipv4() { V4 } else { host });
        // Three lengths of padding behind the data.
        for length in [5, 6, 7, 8] {
            let payloads = payloads(10, length);
            burst(&peer.0, call.relayed, &payloads);
            for data in payloads {
                assert_eq!(Heard::Data(peer.address(), data), call.client.hear());
            }
        }
    }
}

#[test]
fn burst_for_several_peers_reaches_each_in_order() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peers: Vec<Peer> = (0..3).map(|_| Peer::new(V4)).collect();
    for (number, peer) in (0x4000..).zip(&peers) {
        assert_eq!(0, client.bind(number, peer.address()));
    }
    let order = [0, 0, 1, 2, 2, 2, 1, 0, 2, 1, 1, 0];
    let said: Vec<_> = (0_u8..)
        .zip(order)
        .map(|(number, peer)| channel_data(0x4000 + peer, &[number; 100]))
        .collect();
    burst(&client.socket, server.v4(), &said);
    for (peer, index) in peers.iter().zip(0..) {
        let expected = (0_u8..).zip(order).filter(|(_, to)| *to == index);
        for (number, _) in expected {
            assert_eq!((vec![number; 100], relayed), peer.hear());
        }
    }
}

#[test]
fn garbage_in_a_burst_takes_nothing_with_it() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let good = channel_data(Call::CHANNEL, &[1; 96]);
    let foreign = channel_data(0x4FF0, &[2; 96]);
    let lying = [&Call::CHANNEL.to_be_bytes()[..], &[0xFF, 0xFF], &[3; 96]].concat();
    burst(
        &call.client.socket,
        server.v4(),
        &[good.clone(), foreign, lying, vec![0xFF; 100], good.clone(), vec![0; 7]],
    );
    for _ in 0..2 {
        assert_eq!((vec![1; 96], call.relayed), call.peer.hear());
    }
    call.goes_on();
}
