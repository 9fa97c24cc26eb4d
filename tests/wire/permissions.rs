//! CreatePermission, and what a permission lets through (RFC 8656 §9 and §10).

use sterna_proto::address::Family;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AdditionalAddressFamily, AttributeType, Method, XorPeerAddress};

use crate::kit::{Call, Client, Heard, Peer, Raw, V4, V6, at, config, ip, raws, serve};

#[test]
fn a_permission_needs_a_peer_that_can_be_read() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
    //= type=test
    //# The CreatePermission request
    //# MUST contain at least one XOR-PEER-ADDRESS attribute and MAY contain
    //# multiple such attributes.  If no such attribute exists, or if any of
    //# these attributes are invalid, then a 400 (Bad Request) error is
    //# returned.
    const PEER: AttributeType = AttributeType::XOR_PEER_ADDRESS;
    const GOOD: Raw = (PEER, &[0, 1, 0x21, 0x12, 127 ^ 0x21, 0x12, 0xA4, 9 ^ 0x42]);
    let rows: [(&str, &[Raw], u16); 9] = [
        ("none", &[], 400),
        ("empty", &[(PEER, &[])], 400),
        ("cut short", &[(PEER, &[0, 1, 0, 0, 1, 2, 3])], 400),
        ("too long", &[(PEER, &[0, 1, 0, 0, 1, 2, 3, 4, 5])], 400),
        ("IPv6 of four bytes", &[(PEER, &[0, 2, 0, 0, 1, 2, 3, 4])], 400),
        (
            "IPv4 of sixteen bytes",
            &[(PEER, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
            400,
        ),
        ("of no family", &[(PEER, &[0, 3, 0, 0, 1, 2, 3, 4])], 400),
        ("one good and one bad", &[GOOD, (PEER, &[])], 400),
        ("one good", &[GOOD], 0),
    ];
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peer = Peer::new(ip("127.0.0.9"));
    for (name, attributes, code) in rows {
        let answer = client.ask(Method::CREATE_PERMISSION, raws(attributes));
        assert_eq!(code, answer.code(), "{name}");
        peer.tell(relayed, name.as_bytes());
        if code == 0 {
            let kinds = [AttributeType::SOFTWARE, AttributeType::MESSAGE_INTEGRITY];
            assert_eq!(kinds, *answer.kinds());
            let heard = Heard::Data(peer.address(), name.as_bytes().to_vec());
            assert_eq!(heard, client.hear());
        }
    }
    assert_eq!(8, server.dropped_for(client.address(), DropReason::NoPermission));
}

#[test]
fn a_permission_is_for_an_address_and_not_for_a_port() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-9
    //= type=test
    //# Note that only addresses are compared and port numbers
    //# are not considered.  If no match is found, relaying is not permitted
    //# and the server silently discards the UDP datagram.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
    //= type=test
    //# The port portion of each attribute is ignored and may
    //# be any arbitrary value.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peers = [Peer::new(ip("127.0.0.2")), Peer::new(ip("127.0.0.2"))];
    let stranger = Peer::new(ip("127.0.0.3"));
    for port in [0, 9, 65_535] {
        assert_eq!(0, client.permit(&[at(ip("127.0.0.2"), port)]));
        stranger.tell(relayed, b"stranger");
        for peer in &peers {
            peer.tell(relayed, b"in");
            assert_eq!(Heard::Data(peer.address(), b"in".to_vec()), client.hear());
            client.indicate(stranger.address(), b"not yet");
            client.indicate(peer.address(), b"out");
            assert_eq!((b"out".to_vec(), relayed), peer.hear());
        }
    }
    assert_eq!(0, client.permit(&[at(ip("127.0.0.3"), 1)]));
    client.indicate(stranger.address(), b"a friend");
    assert_eq!((b"a friend".to_vec(), relayed), stranger.hear());
    assert_eq!(3 + 6, server.dropped_for(client.address(), DropReason::NoPermission));
}

#[test]
fn several_permissions_come_together_or_not_at_all() {
    let mut config = config();
    config.policy.peers.deny = vec!["127.0.0.66/32".parse().expect("a network")];
    config.limits.permissions_per_allocation = 4;
    let server = serve(config);
    let peers: Vec<Peer> = (2..6).map(|last| Peer::new(at_host(last))).collect();
    let all: Vec<_> = peers.iter().map(Peer::address).collect();
    let with = |other| [all.clone(), vec![other]].concat();
    let rows = [
        ("one is refused", with(at(at_host(66), 9)), 403),
        ("one is of another family", with(at(V6, 9)), 443),
        ("one is too many", with(at(at_host(7), 9)), 508),
        (
            "refused comes after another family",
            [with(at(V6, 9)), with(at(at_host(66), 9))].concat(),
            443,
        ),
    ];
    for (name, wanted, code) in rows {
        let mut client = Client::new(server.v4());
        let relayed = client.allocate();
        assert_eq!(code, client.permit(&wanted), "{name}");
        for peer in &peers {
            peer.tell(relayed, b"refused");
            client.indicate(peer.address(), b"refused");
        }
        client.hears_nothing();

        // The same peers without the bad one, the last of them twice.
        assert_eq!(0, client.permit(&[all.clone(), vec![all[3]]].concat()), "{name}");

        for peer in &peers {
            peer.tell(relayed, b"in");
            assert_eq!(Heard::Data(peer.address(), b"in".to_vec()), client.hear(), "{name}");
            client.indicate(peer.address(), b"out");
            assert_eq!((b"out".to_vec(), relayed), peer.hear(), "{name}");
        }
        let refused = server.dropped_for(client.address(), DropReason::NoPermission);
        assert_eq!(2 * peers.len() as u64, refused, "{name}");
    }
}

fn at_host(last: u8) -> std::net::IpAddr {
    std::net::Ipv4Addr::new(127, 0, 0, last).into()
}

#[test]
fn permissions_have_a_number_and_known_ones_can_be_refreshed_at_it() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
    //= type=test
    //# If the request is valid, but the server is unable to
    //# satisfy the request due to some capacity limit or similar, then a 508
    //# (Insufficient Capacity) error is returned.
    let mut config = config();
    config.limits.permissions_per_allocation = 3;
    let server = serve(config);
    let mut client = Client::new(server.v4());
    client.allocate();
    let peers: Vec<_> = (1..=4).map(|last| at(at_host(last), 9)).collect();
    assert_eq!(0, client.permit(&peers[..2]));
    assert_eq!(508, client.permit(&peers[2..]));
    assert_eq!(0, client.permit(&peers[..3]));
    assert_eq!(508, client.permit(&peers[3..]));
    assert_eq!(508, client.bind(0x4000, peers[3]));
    assert_eq!(0, client.permit(&peers[..3]));
    assert_eq!(0, client.bind(0x4000, peers[0]));
}

#[test]
fn a_peer_of_another_family_is_a_mismatch() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
    //= type=test
    //# If an XOR-PEER-ADDRESS attribute contains an address of an address
    //# family that is not the same as that of a relayed transport address
    //# for the allocation, the server MUST generate an error response with
    //# the 443 (Peer Address Family Mismatch) response code.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# If the XOR-PEER-ADDRESS attribute contains an
    //# address of an address family that is not the same as that of a
    //# relayed transport address for the allocation, the server MUST
    //# generate an error response with the 443 (Peer Address Family
    //# Mismatch) response code.
    let server = serve(config());
    let mut v4 = Client::new(server.v6());
    v4.allocate();
    assert_eq!((0, 443), (v4.permit(&[at(V4, 9)]), v4.permit(&[at(V6, 9)])));
    assert_eq!((0, 443), (v4.bind(0x4000, at(V4, 9)), v4.bind(0x4001, at(V6, 9))));
    let mut v6 = Client::new(server.v4());
    v6.allocate_with(raws(&[(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])]));
    assert_eq!((443, 0), (v6.permit(&[at(V4, 9)]), v6.permit(&[at(V6, 9)])));
    assert_eq!((443, 0), (v6.bind(0x4000, at(V4, 9)), v6.bind(0x4001, at(V6, 9))));
    let mut both = Client::new(server.v4());
    both.allocate_with(|writer| _ = writer.attribute(&AdditionalAddressFamily(Family::V6)));
    assert_eq!(0, both.permit(&[at(V4, 9), at(V6, 9)]));
    assert_eq!((0, 0), (both.bind(0x4000, at(V4, 9)), both.bind(0x4001, at(V6, 9))));
    // Data for the other family is dropped.
    v4.indicate(at(V6, 9), b"nowhere");
    v4.hears_nothing();
    assert_eq!(1, server.dropped_for(v4.address(), DropReason::PeerFamily));
}

#[test]
fn the_permissions_of_one_allocation_mean_nothing_to_another() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-9
    //= type=test
    //# The permissions for one allocation are totally unrelated to the
    //# permissions for a different allocation.
    let server = serve(config());
    let call = Call::through(server.v4());
    let mut other = Client::new(server.v4());
    let relayed = other.allocate();
    call.peer.tell(relayed, b"wrong door");
    other.indicate(call.peer.address(), b"wrong door");
    other.say(Call::CHANNEL, b"wrong door");
    other.hears_nothing();
    call.goes_on();
    let dropped = server.allocation_of(other.address()).drops;
    assert_eq!(2, dropped.get(DropReason::NoPermission));
    assert_eq!(1, dropped.get(DropReason::UnboundChannel));
}

#[test]
fn a_refused_channel_installs_no_permission() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peer = Peer::new(ip("127.0.0.9"));
    assert_eq!(400, client.bind(0x5000, peer.address()));
    let answer = client.ask(Method::CHANNEL_BIND, |writer| {
        writer.attribute(&XorPeerAddress(peer.address()));
    });
    assert_eq!(400, answer.code());
    peer.tell(relayed, b"refused");
    client.hears_nothing();
    assert_eq!(1, server.dropped_for(client.address(), DropReason::NoPermission));
}
