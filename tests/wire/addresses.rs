//! Which address the server answers from, relays from, and is known by.

use std::net::{IpAddr, SocketAddr};

use sterna_actors::ServerConfig;
use sterna_proto::address::Family;
use sterna_proto::stun::{Icmp, Method, RequestedAddressFamily};

use crate::kit::{
    Call, Client, Heard, Peer, V4, V6, at, closed, config, ip, leave_ports, own_host, request,
    serve, udp,
};

fn wildcard() -> ServerConfig {
    let mut config = config();
    config.listen = vec![udp(at(ip("0.0.0.0"), 0)), udp(at(ip("::"), 0))];
    config
}

#[test]
fn a_wildcard_listener_answers_from_the_address_that_the_client_used() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.2
    //= type=test
    //# If the request was received over UDP or
    //# DTLS-over-UDP, the destination IP address and port of the response
    //# are the source IP address and port of the received request message,
    //# and the source IP address and port of the response are equal to the
    //# destination IP address and port of the received request message.
    let server = serve(wildcard());
    let (v4, v6) = (server.v4().port(), server.v6().port());
    let hosts = [("127.0.0.1", v4), ("127.0.0.2", v4), ("127.3.4.5", v4), ("::1", v6)];
    for (host, port) in hosts {
        // The client's socket hears this address alone: stateless answers, those of a session, and
        // data.
        let mut client = Client::new(at(ip(host), port));
        let mapped = client.exchange(&request(Method::BINDING, |_| {})).mapped();
        assert_eq!(client.address(), mapped);
        let relayed = client.allocate();
        let mut call = Call::with(client, relayed);
        call.goes_on();
        let other = call.another_peer(relayed.ip());
        other.tell(relayed, b"indicated");
        let heard = Heard::Data(other.address(), b"indicated".to_vec());
        assert_eq!(heard, call.client.hear());
    }
}

#[test]
fn the_same_client_at_two_addresses_of_the_server_is_two_clients() {
    let server = serve(wildcard());
    let port = server.v4().port();
    let mut first = Client::new(at(V4, port));
    let relayed = first.allocate();
    // The same socket turns to another address: another 5-tuple.
    let socket = first.socket.try_clone().expect("a socket can be cloned");
    let mut call = Call::with(first, relayed);
    socket.connect(at(ip("127.0.0.2"), port)).expect("it is within reach");
    assert_eq!(437, call.client.ask(Method::REFRESH, |_| {}).code());
    let elsewhere = call.client.allocate();
    assert_ne!(relayed, elsewhere);
    socket.connect(at(V4, port)).expect("it is within reach");
    call.goes_on();
    assert_eq!(2, server.counters().allocations);
}

fn relay_ips(
    config: ServerConfig,
    client_at: fn(&crate::kit::Serving) -> SocketAddr,
) -> Vec<IpAddr> {
    let server = serve(config);
    (0..8).map(|_| Client::new(client_at(&server)).allocate().ip()).collect()
}

#[test]
fn relay_addresses_are_taken_in_turn() {
    let mut several = config();
    several.listen = vec![udp(at(ip("127.0.0.9"), 0))];
    let hosts = [own_host(), own_host(), own_host()];
    several.relay.addresses = vec![hosts[0], V6, hosts[1], hosts[2]];
    let ips = relay_ips(several, crate::kit::Serving::v4);
    for (place, pair) in ips.windows(2).enumerate() {
        assert_ne!(pair[0], pair[1], "{place} of {ips:?}");
    }
    for address in hosts {
        let count = ips.iter().filter(|ip| **ip == address).count();
        assert!((2..=3).contains(&count), "{count} of 8 at {address}");
    }
}

#[test]
fn the_address_that_the_client_used_is_preferred() {
    let mut several = wildcard();
    let hosts = [own_host(), own_host(), own_host()];
    several.relay.addresses = vec![hosts[0], hosts[1], hosts[2], V6];
    let server = serve(several);
    let port = server.v4().port();
    for host in [hosts[1], hosts[0], hosts[2], hosts[1]] {
        for _ in 0..3 {
            let relayed = Client::new(at(host, port)).allocate();
            assert_eq!(host, relayed.ip());
        }
    }
    // Where the family does not fit, the others of the family are taken in turn.
    let v6 = at(V6, server.v6().port());
    let turns: Vec<IpAddr> = (0..6).map(|_| Client::new(v6).allocate().ip()).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    let mut client = Client::new(at(hosts[1], port));
    let answer =
        client.allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(Family::V6)));
    assert_eq!(V6, answer.relayed()[0].ip());
}

#[test]
fn another_relay_address_stands_in_when_the_preferred_one_has_run_out() {
    let mut several = config();
    let hosts = [own_host(), own_host()];
    several.listen = vec![udp(at(hosts[0], 0))];
    several.relay.addresses = hosts.to_vec();
    leave_ports(&mut several, 2);
    let server = serve(several);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::new(server.v4())).collect();
    let ips: Vec<IpAddr> = clients[..4].iter_mut().map(|c| c.allocate().ip()).collect();
    assert_eq!([hosts[0], hosts[0], hosts[1], hosts[1]], *ips);
    let full = clients[4].ask(Method::ALLOCATE, crate::kit::raws(&[crate::kit::UDP]));
    assert_eq!(508, full.code());
}

#[test]
fn a_relay_socket_can_be_bound_to_a_device() {
    let mut bound = config();
    bound.relay.device = Some("lo".to_owned());
    let server = serve(bound);
    Call::through(server.v4()).goes_on();
    Call::through(server.v6()).goes_on();
}

/// The address by which a 1:1 NAT is known outside.
const PUBLIC: &str = "203.0.113.5";
const PUBLIC_V6: &str = "2001:db8::5";

fn behind_nat() -> ServerConfig {
    let mut config = config();
    config.relay.external = vec![(config.relay.addresses[0], ip(PUBLIC)), (V6, ip(PUBLIC_V6))];
    config
}

#[test]
fn clients_are_told_the_external_address() {
    let config = behind_nat();
    let private = config.relay.addresses.clone();
    let server = serve(config);
    let mut client = Client::new(server.v4());
    let answer = client.allocate_with(crate::kit::raws(&[(
        sterna_proto::stun::AttributeType::ADDITIONAL_ADDRESS_FAMILY,
        &[2, 0, 0, 0],
    )]));
    let relayed = answer.relayed();
    assert_eq!([ip(PUBLIC), ip(PUBLIC_V6)], [relayed[0].ip(), relayed[1].ip()]);
    // The NAT keeps ports, so the peer reaches the relay at the private address.
    for (relayed, host) in relayed.into_iter().zip(private) {
        let peer = Peer::new(if host.is_ipv4() { V4 } else { V6 });
        assert_eq!(0, client.permit(&[peer.address()]));
        peer.tell(at(host, relayed.port()), b"in");
        // A peer on ::1 is known by the address that ::1 has outside.
        let known = if host.is_ipv4() { V4 } else { ip(PUBLIC_V6) };
        let heard = Heard::Data(at(known, peer.address().port()), b"in".to_vec());
        assert_eq!(heard, client.hear());
    }
}

#[test]
fn a_peer_named_by_the_external_address_is_reached_within() {
    let server = serve(behind_nat());
    let (mut alice, mut bob) = (Client::new(server.v4()), Client::new(server.v6()));
    let (at_alice, at_bob) = (alice.allocate(), bob.allocate());
    assert_eq!([ip(PUBLIC); 2], [at_alice.ip(), at_bob.ip()]);
    // Each knows the other by what signalling carried: the external address.
    assert_eq!(0, alice.bind(0x4000, at_bob));
    assert_eq!(0, bob.permit(&[at_alice]));
    alice.say(0x4000, b"hello");
    assert_eq!(Heard::Data(at_alice, b"hello".to_vec()), bob.hear());
    bob.indicate(at_alice, b"hello yourself");
    assert_eq!(Heard::Channel(0x4000, b"hello yourself".to_vec()), alice.hear());
    // And hears of what does not arrive by the same name.
    let dead = at(ip(PUBLIC), closed(V6).port());
    assert_eq!(0, alice.bind(0x4001, dead));
    alice.say(0x4001, b"anybody there?");
    assert_eq!(Heard::Icmp(dead, Icmp { kind: 3, code: 3, data: 0 }), alice.hear());
}

#[test]
fn a_rule_for_one_name_of_an_address_holds_for_the_other() {
    let mut denied = behind_nat();
    let private = denied.relay.addresses[0];
    denied.policy.peers.deny = vec![format!("{PUBLIC}/32").parse().expect("a network")];
    let server = serve(denied);
    let mut client = Client::new(server.v4());
    client.allocate();
    assert_eq!(403, client.permit(&[at(ip(PUBLIC), 9)]));
    assert_eq!(403, client.permit(&[at(private, 9)]));
    // The door of the server is its own by either name.
    let mut config = behind_nat();
    config.listen = vec![udp(at(config.relay.addresses[0], 0))];
    let server = serve(config);
    let mut client = Client::new(server.v4());
    client.allocate();
    assert_eq!(403, client.bind(0x4000, at(ip(PUBLIC), server.v4().port())));
    assert_eq!(403, client.bind(0x4000, server.v4()));
}
