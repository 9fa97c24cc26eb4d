//! Datagrams that the kernel hands over together, as one send that it cuts apart (UDP_SEGMENT) or
//! as one that it has put together (UDP_GRO): whoever gets them sees no difference.

use sterna_actors::counters::BatchLengths;
use sterna_proto::address::Family;

use crate::kit::{
    Arrived, Call, Client, Heard, Peer, V4, V6, burst, channel_data, config, serve, set_headers,
};

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
            let call = Call::with_headers(listening, family);
            // The longest is one short of the 64 that the kernel cuts a send into.
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

#[test]
fn burst_is_one_read_and_one_send() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let client = call.client.address();
    let before = (server.counters().batches, server.allocation_of(client));
    let payloads = payloads(20, 100);
    let said: Vec<_> = payloads.iter().map(|data| channel_data(Call::CHANNEL, data)).collect();

    burst(&call.client.socket, server.v4(), &said);
    for data in &payloads {
        assert_eq!((data.clone(), call.relayed), call.peer.hear());
    }
    burst(&call.peer.0, call.relayed, &payloads);
    for data in &payloads {
        assert_eq!(Heard::Channel(Call::CHANNEL, data.clone()), call.client.hear());
    }

    let after = (server.counters().batches, server.allocation_of(client));
    let reads = |(batches, _): &(BatchLengths, _)| {
        batches.iter().find(|(name, _)| *name == "batches_to_32").map(|(_, count)| count)
    };
    assert_eq!((Some(0), Some(1)), (reads(&before), reads(&after)));
    assert_eq!(before.1.reads + 1, after.1.reads);
    assert_eq!(before.1.sends + 2, after.1.sends);
    assert_eq!(before.1.usage.client.sent_packets + 20, after.1.usage.client.sent_packets);
}
