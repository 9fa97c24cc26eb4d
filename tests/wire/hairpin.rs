//! Two clients of one server in a call: what goes from allocation to allocation by message arrives
//! as it would by way of the kernel.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sterna_actors::listener::FindClient;
use sterna_actors::port_allocator;
use sterna_actors::usage::Usage;
use sterna_proto::address::{Family, TransportProtocol};
use sterna_proto::stun::{Lifetime, Method, RequestedAddressFamily};

use crate::kit::{
    Arrived, Carrier, Client, Heard, Serving, Stream, User, V4, ask, at, config, inject, serve,
    set_headers, tcp, wait_until,
};

const CHANNEL: u16 = 0x4000;

/// Alice and bob, each with an allocation and a channel to the other.
struct Pair<C = UdpSocket> {
    alice: Client<C>,
    bob: Client,
    at_bob: SocketAddr,
}

impl<C: Carrier> Pair<C> {
    /// `by_message` says whether the server knows who relays where.
    fn make(
        server: &Serving,
        mut alice: Client<C>,
        bob: Client,
        family: Family,
        by_message: bool,
    ) -> Pair<C> {
        let mut bob = bob.is(User::bob());
        let at_alice = allocate(&mut alice, family);
        let at_bob = allocate(&mut bob, family);
        if !by_message {
            inject(&server.ports, port_allocator::Panic);
        }
        assert_eq!(0, alice.bind(CHANNEL, at_bob));
        assert_eq!(0, bob.bind(CHANNEL, at_alice));
        Arrived::watch(&bob.socket);
        let pair = Pair { alice, bob, at_bob };
        pair.goes_on();
        pair
    }

    fn goes_on(&self) {
        self.alice.say(CHANNEL, b"there");
        assert_eq!(Heard::Channel(CHANNEL, b"there".to_vec()), self.bob.hear());
        self.bob.say(CHANNEL, b"and back");
        assert_eq!(Heard::Channel(CHANNEL, b"and back".to_vec()), self.alice.hear());
    }

    /// How often either relay socket has been read. What goes by message is in neither.
    fn reads(&self, server: &Serving) -> [u64; 2] {
        [self.alice.address(), self.bob.address()].map(|client| server.allocation_of(client).reads)
    }

    /// Goes on until both ways are known.
    fn leaves_the_network(&self, server: &Serving) {
        wait_until(|| {
            let before = self.reads(server);
            self.goes_on();
            before == self.reads(server)
        });
    }
}

fn allocate<C: Carrier>(client: &mut Client<C>, family: Family) -> SocketAddr {
    client.allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(family))).relayed()
        [0]
}

fn packets(usage: &Usage) -> [u64; 4] {
    let peer = usage.peer;
    [peer.received_packets, peer.received_bytes, peer.sent_packets, peer.sent_bytes]
}

#[test]
fn what_goes_by_message_arrives_as_it_does_by_the_kernel() {
    let scene = |family: Family, by_message: bool| {
        let server = serve(config());
        let (alice, bob) = (Client::new(server.v4()), Client::new(server.v4()));
        let pair = Pair::make(&server, alice, bob, family, by_message);
        if by_message {
            pair.leaves_the_network(&server);
        }
        let reads = pair.reads(&server);
        let before = [&pair.alice, &pair.bob]
            .map(|client| packets(&server.allocation_of(client.address()).usage));

        let mut arrived = Vec::new();
        for (hops, class) in [(64, 0), (17, 0xBA), (3, 0x8B), (255, 0x01), (128, 0xFF)] {
            set_headers(&pair.alice.socket, hops, class);
            for data in [&b""[..], b"a word", &[7; 1400], &[8; 9000]] {
                pair.alice.say(CHANNEL, data);
                arrived.push(Arrived::at(&pair.bob.socket));
            }
            pair.alice.indicate(pair.at_bob, b"indicated");
            arrived.push(Arrived::at(&pair.bob.socket));
        }
        // The second decrement is the end of it, and nothing of it counts as relayed to the client.
        set_headers(&pair.alice.socket, 2, 0);
        pair.alice.say(CHANNEL, b"too far");
        set_headers(&pair.alice.socket, 64, 0);
        pair.goes_on();

        assert_eq!(by_message, reads == pair.reads(&server));
        let after = [&pair.alice, &pair.bob].map(|client| {
            let counters = server.allocation_of(client.address());
            (packets(&counters.usage), counters.drops)
        });
        let carried: Vec<u64> = after
            .iter()
            .zip(before)
            .flat_map(|((after, _), before)| (0..4).map(move |field| after[field] - before[field]))
            .collect();
        (arrived, carried, after.map(|(_, drops)| drops))
    };
    for family in [Family::V4, Family::V6] {
        let by_message = scene(family, true);
        assert_eq!(scene(family, false), by_message);
        // The first of the second row of header fields.
        let marked = &by_message.0[5];
        assert_eq!((15, 0xBA), (marked.hop_limit, marked.traffic_class));
    }
}

#[test]
fn data_of_a_streams_client_has_the_hops_that_the_kernel_gives() {
    for by_message in [false, true] {
        let mut config = config();
        config.listen.push(tcp(at(V4, 0)));
        let server = serve(config);
        let alice = Client::over(Stream::to(server.of(TransportProtocol::Tcp)));
        let bob = Client::new(server.v4());
        let pair = Pair::make(&server, alice, bob, Family::V4, by_message);
        if by_message {
            pair.leaves_the_network(&server);
        }
        let reads = pair.reads(&server);
        pair.alice.say(CHANNEL, b"a word");
        let own = Arrived::at(&pair.bob.socket);
        assert_eq!((63, 0), (own.hop_limit, own.traffic_class));
        assert_eq!(by_message, reads == pair.reads(&server));
    }
}

#[test]
fn allocations_of_two_workers_reach_each_other_by_message() {
    let mut config = config();
    config.workers = 2;
    let server = serve(config);
    let worker_of = |client: &Client| {
        let knows = |listener| ask(listener, FindClient(client.address())).is_some();
        server.listeners.iter().position(knows).expect("a listener knows the client")
    };
    let mut alice = Client::new(server.v4());
    alice.allocate();
    let worker = worker_of(&alice);
    // The kernel chooses the worker by the client's address.
    let bob = (0..64)
        .map(|_| {
            let mut bob = Client::new(server.v4()).is(User::bob());
            bob.allocate();
            bob
        })
        .find(|bob| worker_of(bob) != worker);
    let mut bob = bob.expect("one of many comes to the other worker");
    for client in [&mut alice, &mut bob] {
        client.get(Method::REFRESH, |writer| _ = writer.attribute(&Lifetime(Duration::ZERO)));
    }

    let pair = Pair::make(&server, alice, bob, Family::V4, true);
    assert_ne!(worker_of(&pair.alice), worker_of(&pair.bob));
    pair.leaves_the_network(&server);
    let reads = pair.reads(&server);
    for _ in 0..100 {
        pair.goes_on();
    }
    assert_eq!(reads, pair.reads(&server));
}

#[test]
fn client_hears_by_icmp_that_the_other_one_is_gone() {
    let server = serve(config());
    let (alice, bob) = (Client::new(server.v4()), Client::new(server.v4()));
    let mut pair = Pair::make(&server, alice, bob, Family::V4, true);
    pair.leaves_the_network(&server);
    pair.bob.get(Method::REFRESH, |writer| _ = writer.attribute(&Lifetime(Duration::ZERO)));

    pair.alice.say(CHANNEL, b"anybody there?");
    let heard = pair.alice.hear();
    assert!(matches!(heard, Heard::Icmp(peer, _) if peer == pair.at_bob), "{heard:?}");
}
