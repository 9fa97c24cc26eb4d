//! Relay ports: parity, reservations, and what happens when they run out (RFC 8656 §7.2).

use std::collections::BTreeSet;
use std::net::UdpSocket;

use sterna_proto::address::Family;
use sterna_proto::stun::{
    AddressErrorCode, AttributeType, ErrorCode, EvenPort, Method, RequestedAddressFamily,
    ReservationToken,
};

use crate::kit::{Client, Raw, Serving, UDP, User, at, config, leave_ports, raws, serve};

const EVEN: Raw = (AttributeType::EVEN_PORT, &[0x00]);
const EVEN_AND_NEXT: Raw = (AttributeType::EVEN_PORT, &[0x80]);
const ALSO_V6: Raw = (AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
const TO_ZERO: Raw = (AttributeType::LIFETIME, &[0; 4]);

/// The code of an Allocate request with these attributes; 0 for success.
fn try_allocate(client: &mut Client, attributes: &[Raw]) -> u16 {
    client
        .ask(Method::ALLOCATE, |writer| {
            raws(&[UDP])(writer);
            raws(attributes)(writer);
        })
        .code()
}

fn try_claim(client: &mut Client, token: ReservationToken) -> u16 {
    client
        .ask(Method::ALLOCATE, |writer| {
            raws(&[UDP])(writer);
            writer.attribute(&token);
        })
        .code()
}

fn few_ports(count: u16) -> (Serving, u16) {
    let mut config = config();
    let first = leave_ports(&mut config, count);
    (serve(config), first)
}

#[test]
fn an_even_port_is_even() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the request contains an EVEN-PORT attribute with the R bit set
    //# to 0, then the server allocates a relayed transport address with
    //# an even port number.
    let server = serve(config());
    for _ in 0..8 {
        let answer = Client::new(server.v4()).allocate_with(raws(&[EVEN]));
        assert_eq!(0, answer.relayed()[0].port() % 2);
        assert!(!answer.has(AttributeType::RESERVATION_TOKEN));
        // The other bits of the byte are reserved.
        let odd_bits: Raw = (AttributeType::EVEN_PORT, &[0x7F]);
        let answer = Client::new(server.v4()).allocate_with(raws(&[odd_bits]));
        assert_eq!(0, answer.relayed()[0].port() % 2);
        assert!(!answer.has(AttributeType::RESERVATION_TOKEN));
    }
}

#[test]
fn the_next_port_is_kept_for_who_shows_the_token() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the request contains an EVEN-PORT attribute with the R bit set
    //# to 1, then the server looks for a pair of port numbers N and N+1
    //# on the same IP address, where N is even.  Port N is used in the
    //# current allocation, while the relayed transport address with port
    //# N+1 is assigned a token and reserved for a future allocation.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the request contains a RESERVATION-TOKEN attribute, the server
    //# uses the previously reserved transport address corresponding to
    //# the included token (if it is still available).
    let (server, _) = few_ports(16);
    for family in [Family::V4, Family::V6] {
        // The second allocation is made on another 5-tuple, another family, another listener.
        for second_at in [server.v4(), server.v6()] {
            let first = Client::new(server.v4()).allocate_with(|writer| {
                writer.attribute(&EvenPort { reserve_next: true });
                writer.attribute(&RequestedAddressFamily(family));
            });
            let rtp = first.relayed()[0];
            assert_eq!(0, rtp.port() % 2);
            let mut client = Client::new(second_at);
            let token = first.token();
            let answer = client.allocate_with(|writer| _ = writer.attribute(&token));
            assert_eq!([at(rtp.ip(), rtp.port() + 1)], *answer.relayed());
            assert!(!answer.has(AttributeType::RESERVATION_TOKEN));
        }
    }
}

#[test]
fn a_token_is_good_once_and_for_its_user() {
    let (server, _) = few_ports(8);
    let mut first = Client::new(server.v4());
    let token = first.allocate_with(raws(&[EVEN_AND_NEXT])).token();
    let mut bob = Client::new(server.v4()).is(User::bob());
    assert_eq!(508, try_claim(&mut bob, token), "another user");
    for bit in 0..64 {
        let mut altered = token;
        altered.0[bit / 8] ^= 1 << (bit % 8);
        let mut alice = Client::new(server.v4());
        assert_eq!(508, try_claim(&mut alice, altered), "bit {bit}");
    }
    let (mut second, mut third) = (Client::new(server.v4()), Client::new(server.v4()));
    assert_eq!(0, try_claim(&mut second, token), "whatever others have tried");
    assert_eq!(508, try_claim(&mut third, token), "it has been used");
    second.get(Method::REFRESH, raws(&[TO_ZERO]));
    assert_eq!(508, try_claim(&mut third, token), "and is not good again later");
}

#[test]
fn tokens_cannot_be_guessed() {
    let server = serve(config());
    let tokens: BTreeSet<[u8; 8]> = (0..32)
        .map(|_| Client::new(server.v4()).allocate_with(raws(&[EVEN_AND_NEXT])).token().0)
        .collect();
    assert_eq!(32, tokens.len());
    for place in 0..8 {
        let values: BTreeSet<u8> = tokens.iter().map(|token| token[place]).collect();
        assert!(values.len() > 16, "byte {place} has {} values of 32", values.len());
    }
}

#[test]
fn a_reserved_port_is_nobody_elses() {
    let (server, first) = few_ports(2);
    let mut owner = Client::new(server.v4());
    let answer = owner.allocate_with(raws(&[EVEN_AND_NEXT]));
    assert_eq!(first, answer.relayed()[0].port());
    let mut other = Client::new(server.v4());
    for _ in 0..4 {
        assert_eq!(508, try_allocate(&mut other, &[]));
    }
    // Not even when the first port of the pair is free again.
    owner.get(Method::REFRESH, raws(&[TO_ZERO]));
    server.wait_for(|counters| counters.allocations == 0);
    let mut third = Client::new(server.v4());
    assert_eq!(first, third.allocate().port());
    assert_eq!(508, try_allocate(&mut other, &[]));
    assert_eq!(0, try_claim(&mut other, answer.token()));
}

#[test]
fn a_pair_needs_two_free_ports() {
    let (server, first) = few_ports(4);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::new(server.v4())).collect();
    let pair = clients[0].allocate_with(raws(&[EVEN_AND_NEXT]));
    let even = clients[1].allocate_with(raws(&[EVEN])).relayed()[0].port();
    let both: BTreeSet<u16> = [pair.relayed()[0].port(), even].into();
    assert_eq!(BTreeSet::from([first, first + 2]), both);

    assert_eq!(508, try_allocate(&mut clients[2], &[EVEN_AND_NEXT]), "one is left, and odd");
    assert_eq!(508, try_allocate(&mut clients[2], &[EVEN]), "one is left, and odd");
    assert_eq!(even + 1, clients[2].allocate().port());
    assert_eq!(508, try_allocate(&mut clients[3], &[]), "none is left");
}

#[test]
fn ports_run_out_and_come_back() {
    let (server, first) = few_ports(8);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::new(server.v4())).collect();
    for _ in 0..3 {
        let ports: BTreeSet<u16> = clients.iter_mut().map(|c| c.allocate().port()).collect();
        assert_eq!((first..first + 8).collect::<BTreeSet<u16>>(), ports);
        let mut late = Client::new(server.v4());
        assert_eq!(508, try_allocate(&mut late, &[]));
        for client in &mut clients {
            client.get(Method::REFRESH, raws(&[TO_ZERO]));
        }
        server.wait_for(|counters| counters.allocations == 0);
    }
}

#[test]
fn a_dual_allocation_tells_which_half_ran_out() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The error code value signaled in the
    //# ADDRESS-ERROR-CODE attribute could be 440 (Address Family not
    //# Supported) or 508 (Insufficient Capacity).
    for taken in [Family::V4, Family::V6] {
        let (server, first) = few_ports(1);
        let mut single = Client::new(server.v4());
        single.allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(taken)));

        let mut half = Client::new(server.v4());
        let answer = half.allocate_with(raws(&[ALSO_V6]));

        let left: Vec<(bool, u16)> =
            answer.relayed().iter().map(|left| (left.is_ipv4(), left.port())).collect();
        assert_eq!([(taken == Family::V6, first)], *left);
        let error = answer.read::<AddressErrorCode<'_>>();
        let full = ErrorCode::InsufficientCapacity;
        assert_eq!(Some(AddressErrorCode::new(taken, full)), error);
        let mut none = Client::new(server.v4());
        assert_eq!(508, try_allocate(&mut none, &[ALSO_V6]), "both have run out");
    }
}

#[test]
fn a_port_that_another_program_holds_is_passed_over() {
    let mut config = config();
    let first = leave_ports(&mut config, 4);
    let host = config.relay.addresses[0];
    let held = [first, first + 3].map(|port| UdpSocket::bind(at(host, port)).expect("it is free"));
    let server = serve(config);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::new(server.v4())).collect();
    let ports: BTreeSet<u16> = clients[..2].iter_mut().map(|c| c.allocate().port()).collect();
    assert_eq!(BTreeSet::from([first + 1, first + 2]), ports);
    assert_eq!(508, try_allocate(&mut clients[2], &[]));
    drop(held);
}
