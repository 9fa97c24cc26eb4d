//! The rules by table, and by property over every way to write an IPv4 address as an IPv6 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;

use std::sync::Arc;

use super::{Denied, External, Layer, PeerLayers, PeerLists, PeerRules, RelayAddresses, canonical};
use crate::address::{PeerAddr, RelayedAddr};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("the test writes valid addresses")
}

fn peer(text: &str) -> PeerAddr {
    PeerAddr(text.parse().expect("the test writes valid addresses"))
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("the test writes valid networks")).collect()
}

fn lists(allow: &[&str], deny: &[&str]) -> PeerRules {
    let relay = RelayAddresses { ips: Vec::new(), ports: 49_152..=65_535 };
    let lists = PeerLists { allow: networks(allow), deny: networks(deny) };
    PeerRules::new(lists, Vec::new(), relay, External::default())
}

/// A server at 10.0.0.1, which the world knows as 203.0.113.1, with an admin port on loopback.
fn server(allow: &[&str], deny: &[&str], own: &[&str]) -> PeerRules {
    let own = own.iter().map(|text| text.parse().expect("a valid address")).collect();
    let relay = RelayAddresses { ips: vec![ip("10.0.0.1"), ip("fd00::1")], ports: 50_000..=50_099 };
    let external = External::new(vec![(ip("10.0.0.1"), ip("203.0.113.1"))]);
    let lists = PeerLists { allow: networks(allow), deny: networks(deny) };
    PeerRules::new(lists, own, relay, external)
}

#[test]
fn addresses_that_are_nobodys_business_are_denied() {
    let rules = lists(&[], &[]);
    for (address, kind) in [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("10.0.0.0", "private"),
        ("10.255.255.255", "private"),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.0", "shared address space"),
        ("100.127.255.255", "shared address space"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local"),
        ("fc00::1", "unique local"),
        ("fdff::1", "unique local"),
        ("ff02::1", "multicast"),
        ("64:ff9b:1::1", "local translation"),
        ("2002::1", "6to4"),
        ("2002:808:808::1", "6to4"),
        ("2001::1", "Teredo"),
        ("2001:0:ffff::1", "Teredo"),
    ] {
        assert_eq!(Err(Denied::BuiltIn(kind)), rules.check_ip(ip(address)), "{address}");
    }
}

#[test]
fn addresses_beside_the_denied_ones_are_permitted() {
    let rules = lists(&[], &[]);
    for address in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "223.255.255.255",
        "2001:1::1",
        "2001:db8::1",
        "2003::1",
        "fbff::1",
        "fe00::1",
        "64:ff9b:2::1",
        "2a00::1",
    ] {
        assert_eq!(Ok(()), rules.check_ip(ip(address)), "{address}");
    }
}

#[test]
fn an_embedded_ipv4_address_is_found_in_every_form() {
    for (written, meant) in [
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::10.1.2.3", "10.1.2.3"),
        ("::ffff:0:10.1.2.3", "10.1.2.3"),
        ("64:ff9b::10.1.2.3", "10.1.2.3"),
        ("64:ff9b:1::10.1.2.3", "10.1.2.3"),
        ("2002:a01:203::7", "10.1.2.3"),
        ("2001:0:4136:e378:8000:63bf:f5fe:fdfc", "10.1.2.3"),
        ("2001:db8::5efe:10.1.2.3", "10.1.2.3"),
        ("2001:db8::200:5efe:10.1.2.3", "10.1.2.3"),
        ("::", "::"),
        ("::1", "::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("10.1.2.3", "10.1.2.3"),
    ] {
        assert_eq!(ip(meant), canonical(ip(written)), "{written}");
    }
}

#[test]
fn either_end_of_a_teredo_tunnel_is_judged() {
    let teredo = ip("2001:0:4136:e378:8000:63bf:39cc:9bfe");

    for end in ["198.51.100.1/32", "65.54.227.120/32"] {
        let denied = Err(Denied::Listed(Layer::Server, networks(&[end])[0]));
        assert_eq!(denied, lists(&["2001::/32"], &[end]).check_ip(teredo), "{end}");
    }
    assert_eq!(ip("198.51.100.1"), canonical(teredo));
}

#[test]
fn allow_opens_what_the_built_in_list_denies() {
    let rules = lists(&["10.0.0.0/8", "fd00::/16"], &[]);

    assert_eq!(Ok(()), rules.check_ip(ip("10.1.2.3")));
    assert_eq!(Ok(()), rules.check_ip(ip("::ffff:10.1.2.3")));
    assert_eq!(Ok(()), rules.check_ip(ip("fd00::1")));
    assert_eq!(Err(Denied::BuiltIn("private")), rules.check_ip(ip("192.168.0.1")));
}

#[test]
fn allowing_all_of_ipv6_opens_no_ipv4_address() {
    let rules = lists(&["::/0"], &[]);

    assert_eq!(Ok(()), rules.check_ip(ip("::1")));
    assert_eq!(Err(Denied::BuiltIn("loopback")), rules.check_ip(ip("::ffff:127.0.0.1")));
    assert_eq!(Err(Denied::BuiltIn("private")), rules.check_ip(ip("64:ff9b::10.0.0.1")));
}

#[test]
fn a_local_translator_is_opened_by_its_own_prefix() {
    let rules = lists(&["64:ff9b:1:fffe::/96"], &[]);

    assert_eq!(Ok(()), rules.check_ip(ip("64:ff9b:1:fffe::8.8.8.8")));
    assert_eq!(Err(Denied::BuiltIn("private")), rules.check_ip(ip("64:ff9b:1:fffe::192.168.0.1")));
    assert_eq!(
        Err(Denied::BuiltIn("local translation")),
        rules.check_ip(ip("64:ff9b:1:ffff::8.8.8.8"))
    );
}

#[test]
fn the_servers_own_addresses_are_denied_by_port() {
    let rules =
        server(&["127.0.0.0/8", "203.0.113.0/24"], &[], &["203.0.113.1:3478", "127.0.0.1:9641"]);
    let own = |text: &str| Err(Denied::Own(text.parse().expect("a valid address")));

    assert_eq!(own("127.0.0.1:9641"), rules.check(peer("127.0.0.1:9641")));
    assert_eq!(own("127.0.0.1:9641"), rules.check(peer("[::ffff:127.0.0.1]:9641")));
    assert_eq!(Ok(()), rules.check(peer("127.0.0.1:9642")));
    // By the public and by the private name, which are the same address of this host.
    assert_eq!(own("203.0.113.1:3478"), rules.check(peer("203.0.113.1:3478")));
    assert_eq!(own("203.0.113.1:3478"), rules.check(peer("10.0.0.1:3478")));
}

#[test]
fn a_wildcard_listener_is_denied_at_every_known_address_of_this_host() {
    let rules =
        server(&["0.0.0.0/0", "::/0"], &[], &["0.0.0.0:3478", "[::]:3478", "192.0.2.7:5349"]);

    for known in ["10.0.0.1", "203.0.113.1", "127.0.0.1", "[fd00::1]", "[::1]", "192.0.2.7"] {
        let denied = rules.check(peer(&format!("{known}:3478")));
        assert!(matches!(denied, Err(Denied::Own(_))), "{known}: {denied:?}");
        assert_eq!(Ok(()), rules.check(peer(&format!("{known}:3479"))), "{known}");
    }
    assert_eq!(Ok(()), rules.check(peer("198.51.100.1:3478")));
}

#[test]
fn a_relayed_transport_address_of_this_server_is_a_peer() {
    let rules = server(&[], &[], &["10.0.0.1:3478"]);

    for relayed in ["10.0.0.1:50000", "203.0.113.1:50099", "[fd00::1]:50050"] {
        assert_eq!(Ok(()), rules.check(peer(relayed)), "{relayed}");
    }
    for beside in ["10.0.0.1:49999", "203.0.113.1:50100", "10.0.0.2:50000"] {
        assert_eq!(Err(Denied::BuiltIn("private")), rules.check(peer(beside)), "{beside}");
    }
    assert_eq!(Ok(()), rules.check_ip(ip("10.0.0.1")));
    assert_eq!(Ok(()), rules.check_ip(ip("203.0.113.1")));
    assert_eq!(Err(Denied::BuiltIn("private")), rules.check_ip(ip("10.0.0.2")));
}

#[test]
fn an_explicit_deny_closes_even_a_relayed_transport_address() {
    for listed in ["10.0.0.1/32", "203.0.113.0/24"] {
        let rules = server(&[], &[listed], &[]);
        for name in ["10.0.0.1:50000", "203.0.113.1:50000"] {
            let denied = Err(Denied::Listed(Layer::Server, networks(&[listed])[0]));
            assert_eq!(denied, rules.check(peer(name)), "{listed} {name}");
        }
    }
}

#[test]
fn a_deny_of_any_layer_wins_and_an_allow_of_any_layer_opens_the_built_in_list() {
    let lists = |allow: &[&str], deny: &[&str]| {
        Some(Arc::new(PeerLists { allow: networks(allow), deny: networks(deny) }))
    };
    let server = server(&["10.7.0.0/16"], &["198.51.100.0/24"], &["192.168.0.1:3478"]);
    let layers = PeerLayers {
        user: lists(&["10.1.0.0/16", "198.51.100.0/24"], &["203.0.113.128/25"]),
        realm: lists(&["10.2.0.0/16", "192.168.0.0/16", "203.0.113.0/24"], &["10.1.2.0/24"]),
    };
    let listed = |layer, network: &str| Err(Denied::Listed(layer, networks(&[network])[0]));
    for (address, judged) in [
        ("10.1.1.1:9", Ok(())),
        ("10.2.1.1:9", Ok(())),
        ("10.7.1.1:9", Ok(())),
        ("10.3.1.1:9", Err(Denied::BuiltIn("private"))),
        ("10.1.2.1:9", listed(Layer::Realm, "10.1.2.0/24")),
        ("198.51.100.1:9", listed(Layer::Server, "198.51.100.0/24")),
        ("203.0.113.200:9", listed(Layer::User, "203.0.113.128/25")),
        ("192.168.0.1:3479", Ok(())),
        ("192.168.0.1:3478", Err(Denied::Own("192.168.0.1:3478".parse().expect("an address")))),
        ("[::ffff:10.1.2.1]:9", listed(Layer::Realm, "10.1.2.0/24")),
        ("[64:ff9b::cb00:71c8]:9", listed(Layer::User, "203.0.113.128/25")),
    ] {
        assert_eq!(judged, server.check_within(peer(address), &layers), "{address}");
    }
    assert_eq!(Err(Denied::BuiltIn("private")), server.check(peer("10.1.1.1:9")));
}

#[test]
fn external_addresses_translate_both_ways_and_keep_the_port() {
    let external = External::new(vec![(ip("10.0.0.1"), ip("203.0.113.1"))]);
    let relayed = |text: &str| RelayedAddr(text.parse().expect("a valid address"));

    assert_eq!(relayed("203.0.113.1:50000"), external.advertise(relayed("10.0.0.1:50000")));
    assert_eq!(relayed("10.0.0.2:50000"), external.advertise(relayed("10.0.0.2:50000")));
    assert_eq!(peer("10.0.0.1:50001"), external.internal(peer("203.0.113.1:50001")));
    assert_eq!(peer("203.0.113.1:50001"), external.known_as(peer("10.0.0.1:50001")));
    assert_eq!(peer("198.51.100.1:9"), external.internal(peer("198.51.100.1:9")));
    assert_eq!(peer("198.51.100.1:9"), external.known_as(peer("198.51.100.1:9")));
}

#[test]
fn a_refusal_names_its_rule() {
    let listed = networks(&["10.0.0.0/8"])[0];
    let own: SocketAddr = "192.0.2.1:3478".parse().expect("a valid address");

    assert_eq!("server: deny 10.0.0.0/8", Denied::Listed(Layer::Server, listed).to_string());
    assert_eq!("own address 192.0.2.1:3478", Denied::Own(own).to_string());
    assert_eq!("built-in: loopback", Denied::BuiltIn("loopback").to_string());
}

/// Every way to write `v4` as an IPv6 address that the whole world may use. What a form leaves open
/// is taken from `filler`.
fn global_forms(v4: Ipv4Addr, filler: u32) -> Vec<Ipv6Addr> {
    let (v4, filler) = (u128::from(v4.to_bits()), u128::from(filler));
    let prefix = 0x2a00 << 112 | filler << 64;
    [
        0xffff << 32 | v4,
        0xffff_0000 << 32 | v4,
        v4,
        0x0064_ff9b << 96 | v4,
        0x2002 << 112 | v4 << 80 | filler,
        0x2001_0000_4136_e378 << 64 | filler << 32 | v4 ^ 0xffff_ffff,
        prefix | 0x5efe << 32 | v4,
        prefix | 0x0200_5efe << 32 | v4,
    ]
    .map(Ipv6Addr::from_bits)
    .into()
}

/// The ways in which a translator of local use may write `v4`, by the length of its prefix.
fn local_forms(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = v4.octets();
    [
        [a, b, 0, c, d, 0, 0, 0, 0, 0],
        [7, a, 0, b, c, d, 0, 0, 0, 0],
        [7, 7, 0, a, b, c, d, 0, 0, 0],
        [7, 7, 0, 0, 0, 0, a, b, c, d],
    ]
    .map(|rest| {
        let mut octets = [0, 0x64, 0xff, 0x9b, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        octets[6..].copy_from_slice(&rest);
        Ipv6Addr::from(octets)
    })
    .into()
}

fn denied_v4() -> impl Strategy<Value = Ipv4Addr> {
    let network = prop::sample::select(
        ["0.0.0.0/8", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
            .into_iter()
            .chain(["100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"])
            .collect::<Vec<_>>(),
    );
    (network, any::<u32>()).prop_map(|(network, host)| {
        let network: Ipv4Net = network.parse().expect("a valid network");
        Ipv4Addr::from_bits(network.network().to_bits() | host & network.hostmask().to_bits())
    })
}

/// An address outside 0/8, which no translator delivers to.
fn real_v4() -> impl Strategy<Value = Ipv4Addr> {
    (1 << 24..=u32::MAX).prop_map(Ipv4Addr::from_bits)
}

proptest! {
    #[test]
    fn every_form_of_a_denied_address_is_denied(v4 in denied_v4(), filler: u32) {
        let rules = lists(&[], &[]);

        prop_assert!(rules.check_ip(IpAddr::V4(v4)).is_err());
        for form in global_forms(v4, filler).into_iter().chain(local_forms(v4)) {
            prop_assert!(rules.check_ip(IpAddr::V6(form)).is_err(), "{form}");
        }
    }

    #[test]
    fn every_form_of_a_listed_address_is_denied(v4 in real_v4(), filler: u32, prefix in 8..=32_u8) {
        let network = IpNet::V4(Ipv4Net::new(v4, prefix).expect("a valid prefix"));
        let relay = RelayAddresses { ips: Vec::new(), ports: 1..=1 };
        // Even where all else is allowed.
        let allow = networks(&["0.0.0.0/0", "::/0"]);
        let lists = PeerLists { allow, deny: vec![network] };
        let rules = PeerRules::new(lists, vec![], relay, External::default());

        let listed = Err(Denied::Listed(Layer::Server, network));
        prop_assert_eq!(listed, rules.check_ip(IpAddr::V4(v4)));
        for form in global_forms(v4, filler).into_iter().chain(local_forms(v4)) {
            let denied = rules.check_ip(IpAddr::V6(form));
            prop_assert_eq!(Err(Denied::Listed(Layer::Server, network)), denied, "{}", form);
        }
    }

    #[test]
    fn a_form_of_a_permitted_address_is_permitted(v4 in real_v4()) {
        let rules = lists(&["2002::/16", "2001::/32"], &[]);
        prop_assume!(rules.check_ip(IpAddr::V4(v4)).is_ok());

        for form in global_forms(v4, 1) {
            prop_assert_eq!(Ok(()), rules.check_ip(IpAddr::V6(form)), "{}", form);
            prop_assert_eq!(IpAddr::V4(v4), canonical(IpAddr::V6(form)));
        }
    }

    #[test]
    fn deny_wins_over_allow_and_allow_over_the_built_in_list(
        v4 in any::<u32>().prop_map(Ipv4Addr::from_bits),
        allow in 0..=32_u8,
        deny in 0..=32_u8,
    ) {
        let net = |prefix| IpNet::V4(Ipv4Net::new(v4, prefix).expect("a valid prefix"));
        let relay = || RelayAddresses { ips: Vec::new(), ports: 1..=1 };
        let none = External::default;
        let lists = |deny| PeerLists { allow: vec![net(allow)], deny };
        let rules = |deny| PeerRules::new(lists(deny), vec![], relay(), none());

        prop_assert_eq!(Ok(()), rules(vec![]).check_ip(IpAddr::V4(v4)));
        let denied = rules(vec![net(deny)]).check_ip(IpAddr::V4(v4));
        prop_assert_eq!(Err(Denied::Listed(Layer::Server, net(deny))), denied);
    }
}

#[test]
fn a_relayed_address_of_this_server_is_known_by_address_and_port() {
    let rules = server(&[], &[], &["10.0.0.1:50000"]);
    for (address, expected) in [
        ("10.0.0.1:50000", true),
        ("10.0.0.1:50099", true),
        ("10.0.0.1:49999", false),
        ("10.0.0.1:50100", false),
        ("10.0.0.2:50000", false),
        ("[fd00::1]:50001", true),
        ("[::ffff:10.0.0.1]:50001", false),
        // Clients name it so, but the relay reaches it by the private one.
        ("203.0.113.1:50000", false),
    ] {
        assert_eq!(expected, rules.may_be_relayed(peer(address)), "{address}");
        let reached = rules.external().internal(peer(address));
        let outside = address == "203.0.113.1:50000";
        assert_eq!(expected || outside, rules.may_be_relayed(reached), "{address}");
    }
}
