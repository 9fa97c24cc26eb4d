//! Which peers a client may have: what is denied in whatever form, and what is allowed by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sterna_actors::ServerConfig;
use sterna_proto::address::Family;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::AdditionalAddressFamily;

use crate::kit::{Call, Client, Peer, V4, V6, at, config, ip, leave_ports, own_host, serve, udp};

/// A client with an allocation of both families.
fn dual(server: SocketAddr) -> Client {
    let mut client = Client::new(server);
    client.allocate_with(|writer| _ = writer.attribute(&AdditionalAddressFamily(Family::V6)));
    client
}

/// Nothing is allowed by name, and the relay addresses are none of those in the tables.
fn strict() -> ServerConfig {
    let mut config = config();
    config.relay.addresses = vec![ip("127.0.0.77"), V6];
    config.policy.peers.allow.clear();
    config
}

fn assert_refused(client: &mut Client, ip: IpAddr, name: &str) {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
    //= type=test
    //# The server MAY impose restrictions on the IP address allowed in the
    //# XOR-PEER-ADDRESS attribute; if a value is not allowed, the server
    //# rejects the request with a 403 (Forbidden) error.
    assert_eq!(403, client.permit(&[at(ip, 80)]), "{name} {ip}");
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# The server MAY impose restrictions on the IP address and port values
    //# allowed in the XOR-PEER-ADDRESS attribute; if a value is not allowed,
    //# the server rejects the request with a 403 (Forbidden) error.
    assert_eq!(403, client.bind(0x4000, at(ip, 80)), "{name} {ip}");
}

const DENIED: [(&str, &str); 33] = [
    ("unspecified", "0.0.0.0"),
    ("unspecified", "::"),
    ("this network", "0.1.2.3"),
    ("this network", "0.255.255.255"),
    ("loopback", "127.0.0.1"),
    ("loopback", "127.255.255.254"),
    ("private", "10.0.0.1"),
    ("private", "10.255.255.255"),
    ("private", "172.16.0.1"),
    ("private", "172.31.255.255"),
    ("private", "192.168.0.1"),
    ("carrier NAT", "100.64.0.1"),
    ("carrier NAT", "100.127.255.255"),
    ("cloud metadata", "169.254.169.254"),
    ("link-local", "169.254.0.1"),
    ("multicast", "224.0.0.1"),
    ("multicast", "239.255.255.255"),
    ("reserved", "240.0.0.1"),
    ("broadcast", "255.255.255.255"),
    ("link-local", "fe80::1"),
    ("link-local", "febf:ffff::1"),
    ("site-local", "fec0::1"),
    ("unique local", "fc00::1"),
    ("unique local", "fd00:ec2::254"),
    ("multicast", "ff02::1"),
    ("multicast", "ff0e::1"),
    ("local translation", "64:ff9b:1::1"),
    ("IPv4-compatible unspecified", "::0.0.0.2"),
    ("mapped unspecified", "::ffff:0.0.0.0"),
    ("translated by a prefix", "64:ff9b::0.0.0.0"),
    ("6to4 of nowhere", "2002::1"),
    ("a tunnel from nowhere", "2001:0:7f00:1::1"),
    ("ISATAP under a public prefix", "2600::5efe:10.0.0.1"),
];

#[test]
fn peers_inside_the_network_are_denied_unless_allowed_by_name() {
    let server = serve(strict());
    let mut client = dual(server.v4());
    for (name, denied) in DENIED {
        assert_refused(&mut client, ip(denied), name);
    }
    // Beside the edges of what is denied, and what is none of it.
    for allowed in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "223.255.255.255",
        "2600::1",
        "2a00:1450::1",
        "fbff::1",
    ] {
        assert_eq!(0, client.permit(&[at(ip(allowed), 80)]), "{allowed}");
    }
}

/// Every IPv6 address that a packet to an IPv4 address may be sent to.
fn forms_of(v4: Ipv4Addr) -> Vec<(&'static str, Ipv6Addr)> {
    let bits = u128::from(v4.to_bits());
    let under = |prefix: &str| {
        let prefix: Ipv6Addr = prefix.parse().expect("an address");
        Ipv6Addr::from_bits(prefix.to_bits() | bits)
    };
    let six_to_four = (0x2002_u128 << 112) | (bits << 80) | 1;
    // The client of a Teredo address is written inverted, its server plainly.
    let teredo_client =
        (0x2001_0000_u128 << 96) | (0x0102_0304_u128 << 64) | u128::from(!v4.to_bits());
    let teredo_server = (0x2001_0000_u128 << 96) | (bits << 64) | u128::from(!0x0102_0304_u32);
    vec![
        ("mapped", under("::ffff:0:0")),
        ("compatible", under("::")),
        ("translated", under("::ffff:0:0:0")),
        ("NAT64", under("64:ff9b::")),
        ("NAT64 of local use", under("64:ff9b:1::")),
        ("6to4", Ipv6Addr::from_bits(six_to_four)),
        ("Teredo client", Ipv6Addr::from_bits(teredo_client)),
        ("Teredo server", Ipv6Addr::from_bits(teredo_server)),
        ("ISATAP", under("2600::5efe:0:0")),
        ("ISATAP, global", under("2600::200:5efe:0:0")),
    ]
}

#[test]
fn an_ipv4_address_is_denied_in_every_ipv6_form() {
    let server = serve(strict());
    let mut client = dual(server.v6());
    let mut number = 0;
    let inside =
        ["127.0.0.1", "127.1.2.3", "169.254.169.254", "10.0.0.1", "192.168.1.1", "224.0.0.1"];
    for v4 in inside {
        let v4: Ipv4Addr = v4.parse().expect("an address");
        for (form, v6) in forms_of(v4) {
            assert_refused(&mut client, v6.into(), &format!("{form} of {v4}"));
        }
    }
    // The same forms of a public address lead to nothing that is hidden, but for a translator of
    // local use, and for tunnels.
    for (form, v6) in forms_of(Ipv4Addr::new(8, 8, 8, 8)) {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-21.4
        //= type=test
        //# In particular, a TURN server MUST NOT accept Teredo
        //# or 6to4 addresses in these requests.
        let expected = match form {
            "NAT64 of local use" | "6to4" | "Teredo client" | "Teredo server" => 403,
            _ => 0,
        };
        assert_eq!(expected, client.permit(&[at(v6.into(), 80)]), "{form} {v6}");
        assert_eq!(expected, client.bind(0x4000 + number, at(v6.into(), 80)), "{form} {v6}");
        number += 1;
    }
}

#[test]
fn allow_opens_what_is_built_in_and_deny_closes_what_is_allowed() {
    let nets = |texts: &[&str]| {
        texts.iter().map(|text| text.parse().expect("a network")).collect::<Vec<_>>()
    };
    let mut config = strict();
    config.policy.peers.allow = nets(&["10.1.0.0/16", "fd00:1::/32", "127.0.0.0/8"]);
    config.policy.peers.deny = nets(&["10.1.1.0/24", "8.8.8.0/24", "2600:1::/32", "fd00:1:2::/48"]);
    let server = serve(config);
    let mut client = dual(server.v4());
    for (peer, code) in [
        ("10.1.0.1", 0),
        ("10.1.255.255", 0),
        ("10.2.0.1", 403),
        ("10.1.1.1", 403),
        ("8.8.8.8", 403),
        ("8.8.9.8", 0),
        ("fd00:1::1", 0),
        ("fd00:1:1::1", 0),
        ("fd00:2::1", 403),
        ("fd00:1:2::1", 403),
        ("fd00:1:2:ffff::1", 403),
        ("fd00:1:3::", 0),
        ("2600:1::1", 403),
        ("2600:1:ffff:ffff:ffff:ffff:ffff:ffff", 403),
        ("2600:2::", 0),
        ("2600:0:ffff::1", 0),
        ("::ffff:8.8.8.8", 403),
        ("64:ff9b::8.8.8.8", 403),
        ("::ffff:10.1.0.1", 0),
        ("::ffff:10.1.1.1", 403),
        ("127.0.0.1", 0),
        ("192.168.0.1", 403),
    ] {
        assert_eq!(code, client.permit(&[at(ip(peer), 80)]), "{peer}");
    }
}

#[test]
fn the_servers_own_listening_addresses_are_no_peers() {
    let server = serve(config());
    let mut client = dual(server.v4());
    // Loopback is allowed, so the permission for the host is given: it has no port.
    assert_eq!(0, client.permit(&[server.v4(), server.v6()]));
    for (number, own) in [(0x4000, server.v4()), (0x4001, server.v6())] {
        assert_eq!(403, client.bind(number, own), "{own}");
        // Silently discarded, so that the relay cannot be made to talk to its own door.
        client.indicate(own, b"\x00\x01\x00\x00\x21\x12\xA4\x42self-service");
        assert_eq!(0, client.bind(number, at(own.ip(), 9)), "another port of the host");
    }
    client.hears_nothing();
    assert_eq!(2, server.dropped_for(client.address(), DropReason::PeerDenied));
    let mapped = server.v4().ip().to_string();
    let mapped = at(ip(&format!("::ffff:{mapped}")), server.v4().port());
    assert_eq!(403, client.bind(0x4003, mapped), "the same door by another name");
    assert_eq!(1, server.counters().sessions);
}

#[test]
fn a_wildcard_listener_is_at_home_on_every_address() {
    let mut config = config();
    config.listen = vec![udp(at(ip("0.0.0.0"), 0))];
    let server = serve(config);
    let port = server.v4().port();
    let mut client = Client::new(at(V4, port));
    client.allocate();
    for host in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
        assert_eq!(403, client.bind(0x4000, at(ip(host), port)), "{host}");
    }
    assert_eq!(403, client.bind(0x4000, at(ip("0.0.0.0"), port)));
    assert_eq!(0, client.bind(0x4000, at(V4, 9)));
}

#[test]
fn a_relay_address_is_a_peer_by_the_ports_of_its_allocations_alone() {
    // Loopback is not allowed by name, but two clients of this server may talk to each other.
    let mut config = strict();
    let host = own_host();
    config.relay.addresses = vec![host, V6];
    let server = serve(config);
    let (mut alice, mut bob) = (dual(server.v4()), Client::new(server.v4()));
    let at_bob = bob.allocate();
    assert_eq!(0, alice.bind(0x4000, at_bob));
    for port in [9, 22, 49_151] {
        assert_eq!(403, alice.bind(0x4001, at(host, port)), "{port}");
        assert_eq!(403, alice.bind(0x4001, at(V6, port)), "{port}");
        // The permission is for the host; its other ports stay closed packet by packet.
        alice.indicate(at(host, port), b"knock");
    }
    alice.hears_nothing();
    assert_eq!(3, server.dropped_for(alice.address(), DropReason::PeerDenied));
    assert_eq!(403, alice.permit(&[at(ip("127.0.0.2"), 50_000)]));
}

#[test]
fn a_peer_that_is_denied_does_not_come_in_by_a_permission_for_its_host() {
    let mut config = strict();
    config.relay.addresses = vec![own_host()];
    leave_ports(&mut config, 4);
    let server = serve(config);
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    // A service of the relay's own host, on a port that no allocation has.
    let service = Peer::new(relayed.ip());
    let mut friend = Client::new(server.v4());
    let at_friend = friend.allocate();
    assert_eq!(0, client.permit(&[at_friend]));
    assert_eq!(0, friend.bind(0x4000, relayed));

    service.tell(relayed, b"psst");
    friend.say(0x4000, b"hello");

    let heard = crate::kit::Heard::Data(at_friend, b"hello".to_vec());
    assert_eq!(heard, client.hear());
    assert_eq!(1, server.dropped_for(client.address(), DropReason::PeerDenied));
}

#[test]
fn port_0_is_nobodys() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let nobody = at(call.peer.address().ip(), 0);
    assert_eq!(400, call.client.bind(0x4000, nobody));
    for _ in 0..3 {
        call.client.indicate(nobody, b"anybody?");
        call.goes_on();
    }
    assert_eq!(3, server.dropped_for(call.client.address(), DropReason::PeerPortZero));
    call.client.hears_nothing();
    call.goes_on();
}
