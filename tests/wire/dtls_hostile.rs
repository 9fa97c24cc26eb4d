//! Hellos that cost the server more than their sender: each source gets so many handshakes, each
//! 5-tuple one at a time, and calls go on meanwhile.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use sterna_actors::{ServerConfig, clock};
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;

use crate::dtls::{
    ISSUED, Secure, heard, hello, hello_offering, raw, secure, secure_with, told, with_cookie,
};
use crate::kit::{Call, Client, Datagrams, Dtls, PATIENCE, own_host, request};

/// The hello with the cookie that the server has for it.
fn proved_hello(socket: &UdpSocket, hello: &[u8]) -> Vec<u8> {
    socket.send(hello).expect("loopback takes it");
    loop {
        let answer = heard(socket);
        if (answer[0], answer[13]) == (22, 3) {
            return with_cookie(hello, &answer);
        }
    }
}

fn call_through(secure: &Secure) -> Call<Dtls> {
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    Call::with(client, relayed)
}

/// How many lines of the log have `text` in them.
fn lines(secure: &Secure, text: &str) -> u64 {
    secure.server.log.all().iter().filter(|line| line.contains(text)).count() as u64
}

/// Seconds that have begun since then, and short ones: what is allowed once in each is allowed so
/// often at most.
fn seconds_since(then: Instant) -> u64 {
    then.elapsed().as_millis() as u64 / 900 + 1
}

#[test]
fn two_hellos_in_turn_from_one_socket_are_one_handshake_at_a_time() {
    let secure = secure();
    let call = call_through(&secure);
    let before = lines(&secure, "DTLS handshake begun");
    let socket = raw(&secure);
    let both = [hello(), hello()].map(|hello| proved_hello(&socket, &hello));

    let since = clock::now();
    for _ in 0..100 {
        for _ in 0..2 {
            both.iter().for_each(|hello| _ = socket.send(hello).expect("loopback takes it"));
        }
        call.goes_on();
    }

    let begun = lines(&secure, "DTLS handshake begun") - before;
    assert!((1..=seconds_since(since)).contains(&begun), "{begun} handshakes");
    let refused = secure.server.dropped(DropReason::HandshakesLimited);
    assert!(refused >= 200 - 2 * begun, "{refused} hellos refused");
    assert_eq!(2, secure.server.counters().connections);
}

#[test]
fn hello_that_leads_nowhere_cannot_be_repeated_without_end() {
    let secure = secure();
    let call = call_through(&secure);
    let socket = raw(&secure);
    let refused = proved_hello(&socket, &hello_offering("AES128-SHA"));

    let since = clock::now();
    for _ in 0..100 {
        (0..3).for_each(|_| _ = socket.send(&refused).expect("loopback takes it"));
        call.goes_on();
    }

    let failed = secure.server.dropped(DropReason::TlsFailed);
    told(&secure, DropReason::TlsFailed, &socket);
    assert!((1..=64 * seconds_since(since)).contains(&failed), "{failed} handshakes");
    assert_eq!(300 - failed, secure.server.dropped(DropReason::HandshakesLimited));
    assert_eq!(1, secure.server.counters().connections);
}

#[test]
fn another_hello_takes_the_place_of_a_handshake_that_has_had_its_time() {
    let secure = secure();
    let call = call_through(&secure);
    let before = lines(&secure, "DTLS handshake begun");
    let socket = raw(&secure);
    let both = [hello(), hello()].map(|hello| proved_hello(&socket, &hello));

    socket.send(&both[0]).expect("loopback takes it");
    let since = clock::now();
    while lines(&secure, "DTLS handshake begun") < before + 2 {
        assert!(since.elapsed() < PATIENCE, "the other one is never served");
        socket.send(&both[1]).expect("loopback takes it");
        call.goes_on();
    }
    assert_eq!(2, secure.server.counters().connections);
}

#[test]
fn session_that_only_asks_gives_way_to_a_newcomer() {
    let alter = |config: &mut ServerConfig| {
        config.limits.unproved_connections_per_source = 1;
        config.limits.connection_setup = Duration::from_secs(2);
    };
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let ip = own_host();
    let from = |ip| Dtls::over(Datagrams::from_ip(ip, secure.server.v4()));
    let first = Client::over(from(ip));
    first.socket.shake_hands();
    let newcomer = from(ip);

    let since = clock::now();
    while !newcomer.step() {
        assert!(since.elapsed() < PATIENCE, "the newcomer is never served");
        let binding = request(Method::BINDING, |_| {});
        // It may have had to go meanwhile.
        let _ = first.socket.stream.borrow_mut().ssl_write(&binding);
    }

    Client::over(newcomer).allocate();
    while first.socket.next().is_some() {}
}

#[test]
fn session_that_asks_for_nothing_has_to_go_whatever_it_sends() {
    let alter = |config: &mut ServerConfig| config.limits.connection_setup = Duration::from_secs(1);
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let client = Client::secure(secure.server.v4());
    let since = clock::now();
    while secure.server.counters().connections > 0 {
        assert!(since.elapsed() < PATIENCE, "it stays for ever");
        client.say(Call::CHANNEL, b"no request");
    }
}
