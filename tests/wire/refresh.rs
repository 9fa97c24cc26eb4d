//! Refresh: RFC 8656 §8.2.

use std::net::{IpAddr, SocketAddr};

use sterna_actors::ServerConfig;
use sterna_proto::address::Family;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AdditionalAddressFamily, AttributeType, Method, RequestedAddressFamily};

use crate::kit::{Call, Client, Heard, Peer, Raw, V4, V6, at, config, leave_ports, raws, serve};

const TO_ZERO: Raw = (AttributeType::LIFETIME, &[0; 4]);

/// Relay ports that nobody else takes, so that a test can see whether one is free again.
fn own_ports() -> ServerConfig {
    let mut config = config();
    leave_ports(&mut config, 8);
    config
}

fn dual(server: SocketAddr) -> (Client, SocketAddr, SocketAddr) {
    let mut client = Client::new(server);
    let answer = client.allocate_with(|writer| {
        writer.attribute(&AdditionalAddressFamily(Family::V6));
    });
    let relayed = answer.relayed();
    (client, relayed[0], relayed[1])
}

#[test]
fn refresh_sets_the_lifetime() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
    //= type=test
    //# Otherwise, if the
    //# request contains a LIFETIME attribute, then the server computes the
    //# minimum of the client's requested lifetime and the server's maximum
    //# allowed lifetime.  If this computed value is greater than the default
    //# lifetime, then the "desired lifetime" is the computed value.
    //# Otherwise, the "desired lifetime" is the default lifetime.
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    let rows: [(Option<u32>, u64); 7] = [
        (None, 600),
        (Some(1), 600),
        (Some(600), 600),
        (Some(601), 601),
        (Some(3600), 3600),
        (Some(3601), 3600),
        (Some(u32::MAX), 3600),
    ];
    for (wanted, granted) in rows {
        let answer = client.get(Method::REFRESH, |writer| {
            if let Some(wanted) = wanted {
                writer.raw(AttributeType::LIFETIME, &wanted.to_be_bytes());
            }
        });
        assert_eq!(granted, answer.lifetime(), "{wanted:?}");
        let kinds =
            [AttributeType::LIFETIME, AttributeType::SOFTWARE, AttributeType::MESSAGE_INTEGRITY];
        assert_eq!(kinds, *answer.kinds());
    }
    for malformed in [&[0, 0, 0][..], &[], &[0; 8]] {
        let answer = client.ask(Method::REFRESH, |writer| {
            writer.raw(AttributeType::LIFETIME, malformed);
        });
        assert_eq!(400, answer.code(), "{malformed:?}");
    }
}

#[test]
fn refresh_to_zero_deletes_at_once() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
    //= type=test
    //# If the "desired lifetime" is zero, then the request succeeds and
    //# the allocation is deleted.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-5
    //= type=test
    //# For all TURN messages (including ChannelData) EXCEPT an
    //# Allocate request, if the 5-tuple does not identify an existing
    //# allocation, then the message MUST either be rejected with a 437
    //# Allocation Mismatch error (if it is a request) or be silently ignored
    //# (if it is an indication or a ChannelData message).
    let server = serve(own_ports());
    let Call { mut client, relayed, peer } = Call::through(server.v4());

    let answer = client.get(Method::REFRESH, raws(&[TO_ZERO]));

    assert_eq!(0, answer.lifetime());
    assert_eq!(437, client.ask(Method::REFRESH, |_| {}).code());
    assert_eq!(437, client.ask(Method::REFRESH, raws(&[TO_ZERO])).code());
    assert_eq!(437, client.permit(&[peer.address()]));
    assert_eq!(437, client.bind(Call::CHANNEL, peer.address()));
    server.wait_for(|counters| counters.allocations == 0);
    client.say(Call::CHANNEL, b"too late");
    client.indicate(peer.address(), b"too late");
    client.hears_nothing();
    assert_eq!(2, server.dropped(DropReason::NoAllocation));
    // Its port is free: who binds it hears nothing from the relay.
    let heir = std::net::UdpSocket::bind(relayed).expect("the relay has let go of the port");
    drop(heir);
    // The 5-tuple is free as well, and permissions and channels of before are gone.
    let relayed = client.allocate();
    peer.tell(relayed, b"do you know me?");
    client.say(Call::CHANNEL, b"nobody");
    client.hears_nothing();
    assert_eq!(0, client.bind(0x4000, peer.address()), "the peer is bound to no channel");
    client.say(0x4000, b"somebody");
    assert_eq!((b"somebody".to_vec(), relayed), peer.hear());
    let address = client.address();
    assert_eq!(1, server.dropped_for(address, DropReason::NoPermission));
    assert_eq!(1, server.dropped_for(address, DropReason::UnboundChannel));
}

#[test]
fn requests_of_a_client_without_allocation_are_a_mismatch() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let peer = at(V4, 9);
    assert_eq!(437, client.ask(Method::REFRESH, |_| {}).code());
    assert_eq!(437, client.permit(&[peer]));
    assert_eq!(437, client.bind(0x4000, peer));
    // The mismatch comes before what is wrong with the request.
    assert_eq!(437, client.permit(&[]));
    assert_eq!(437, client.bind(0x7FFF, peer));
    let family: Raw = (AttributeType::REQUESTED_ADDRESS_FAMILY, &[9, 0, 0, 0]);
    assert_eq!(437, client.ask(Method::REFRESH, raws(&[family])).code());
}

#[test]
fn refresh_for_a_family_that_the_allocation_has_not() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
    //= type=test
    //# If the server receives a Refresh Request with a REQUESTED-ADDRESS-
    //# FAMILY attribute and the attribute value does not match the address
    //# family of the allocation, the server MUST reply with a 443 (Peer
    //# Address Family Mismatch) Refresh error response.
    let server = serve(config());
    let rows: [(Family, &[u8], u16); 7] = [
        (Family::V4, &[1, 0, 0, 0], 0),
        (Family::V4, &[2, 0, 0, 0], 443),
        (Family::V6, &[1, 0, 0, 0], 443),
        (Family::V6, &[2, 0, 0, 0], 0),
        (Family::V4, &[3, 0, 0, 0], 443),
        (Family::V4, &[0, 0, 0, 0], 443),
        (Family::V4, &[1], 400),
    ];
    for (family, value, code) in rows {
        let mut client = Client::new(server.v4());
        client.allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(family)));
        for lifetime in [&[0, 0, 3, 0], &[0; 4]] {
            let answer = client.ask(Method::REFRESH, |writer| {
                writer.raw(AttributeType::REQUESTED_ADDRESS_FAMILY, value);
                writer.raw(AttributeType::LIFETIME, lifetime);
            });
            assert_eq!(code, answer.code(), "{family:?} {value:?}");
        }
        // A refusal has changed nothing.
        let alive = if code == 0 { 437 } else { 0 };
        assert_eq!(alive, client.ask(Method::REFRESH, |_| {}).code(), "{family:?} {value:?}");
    }
}

/// Shows whether data goes both ways between the client and a peer of this family.
fn talks(client: &mut Client, relayed: SocketAddr, ip: IpAddr) {
    let peer = Peer::new(ip);
    assert_eq!(0, client.permit(&[peer.address()]));
    client.indicate(peer.address(), b"ping");
    assert_eq!((b"ping".to_vec(), relayed), peer.hear());
    peer.tell(relayed, b"pong");
    assert_eq!(Heard::Data(peer.address(), b"pong".to_vec()), client.hear());
}

#[test]
fn half_of_a_dual_allocation_can_be_deleted() {
    let server = serve(own_ports());
    for (first, second) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let (mut client, v4, v6) = dual(server.v4());
        talks(&mut client, v4, V4);
        talks(&mut client, v6, V6);
        let refresh = |client: &mut Client, family, lifetime: &[u8]| {
            let answer = client.ask(Method::REFRESH, |writer| {
                writer.attribute(&RequestedAddressFamily(family));
                writer.raw(AttributeType::LIFETIME, lifetime);
            });
            (answer.code(), if answer.code() == 0 { answer.lifetime() } else { 0 })
        };
        let (dead, dead_ip, living, ip) = match first {
            Family::V4 => (v4, V4, v6, V6),
            Family::V6 => (v6, V6, v4, V4),
        };

        assert_eq!((0, 0), refresh(&mut client, first, &[0; 4]));

        drop(std::net::UdpSocket::bind(dead).expect("the relay has let go of the port"));
        talks(&mut client, living, ip);
        assert_eq!(443, client.permit(&[at(dead_ip, 9)]));
        assert_eq!(443, client.bind(0x4000, at(dead_ip, 9)));
        assert_eq!((443, 0), refresh(&mut client, first, &[0, 0, 3, 0]));
        assert_eq!((0, 768), refresh(&mut client, second, &[0, 0, 3, 0]));
        assert_eq!(0, client.get(Method::REFRESH, |_| {}).code());
        assert_eq!((0, 0), refresh(&mut client, second, &[0; 4]));
        assert_eq!(437, client.ask(Method::REFRESH, |_| {}).code());
    }
}

#[test]
fn refresh_without_a_family_is_for_both() {
    let server = serve(own_ports());
    let (mut client, v4, v6) = dual(server.v6());
    assert_eq!(3600, client.get(Method::REFRESH, raws(&[LONG])).lifetime());
    talks(&mut client, v4, V4);
    talks(&mut client, v6, V6);
    assert_eq!(0, client.get(Method::REFRESH, raws(&[TO_ZERO])).lifetime());
    server.wait_for(|counters| counters.allocations == 0);
    for relayed in [v4, v6] {
        drop(std::net::UdpSocket::bind(relayed).expect("the relay has let go of the port"));
    }
}

const LONG: Raw = (AttributeType::LIFETIME, &[0xFF; 4]);
