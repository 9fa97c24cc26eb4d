//! DTLS clients: the cookie, the handshake, every way of data, and whoever disturbs them.

use std::net::UdpSocket;
use std::sync::LazyLock;
use std::time::Duration;

use sterna_actors::tls::Identity;
use sterna_actors::{Server, ServerConfig, listener, session};
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;

use crate::kit::{
    Call, Certificates, Client, Datagrams, Dtls, Heard, Issued, Lines, PATIENCE, Random, Serving,
    UDP, V4, at, burst, config, inject, leave_ports, own_host, raws, request, serve,
};

pub(crate) static ISSUED: LazyLock<Issued> = LazyLock::new(|| Issued::ecdsa("turn.example", None));

/// A server with DTLS on its IPv4 and IPv6 address.
pub(crate) struct Secure {
    pub(crate) server: Serving,
    certificates: Certificates,
}

pub(crate) fn secure_with(alter: impl FnOnce(&mut ServerConfig), identity: Identity) -> Secure {
    let mut config = config();
    let certificates = Certificates::of(&mut config, identity);
    alter(&mut config);
    Secure { server: serve(config), certificates }
}

pub(crate) fn secure() -> Secure {
    secure_with(|_| {}, ISSUED.identity(&[]))
}

/// A datagram socket from which nothing has been sent, and the server's next word to it.
pub(crate) fn raw(secure: &Secure) -> UdpSocket {
    let socket = UdpSocket::bind(at(own_host(), 0)).expect("a port is free");
    socket.connect(secure.server.v4()).expect("the server is within reach");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket
}

pub(crate) fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut room = vec![0; 65_536];
    let length = socket.recv(&mut room).expect("something arrives");
    room.truncate(length);
    room
}

/// The hello that a client would begin with.
pub(crate) fn hello() -> Vec<u8> {
    hello_offering("DEFAULT")
}

/// The same of a client that offers these ciphers alone.
pub(crate) fn hello_offering(ciphers: &str) -> Vec<u8> {
    let listener = UdpSocket::bind(at(V4, 0)).expect("a port is free");
    let path = Datagrams::to(listener.local_addr().expect("it is bound"));
    assert!(!Dtls::with_ciphers(ciphers, path).step());
    heard(&listener)
}

/// The hello that answers this HelloVerifyRequest.
pub(crate) fn with_cookie(hello: &[u8], request: &[u8]) -> Vec<u8> {
    assert_eq!((22, 3), (request[0], request[13]), "a HelloVerifyRequest");
    let cookie = &request[28..];
    let at = 13 + 12 + 34 + 1 + usize::from(hello[59]);
    let mut body = hello[25..at].to_vec();
    body.push(cookie.len() as u8);
    body.extend_from_slice(cookie);
    body.extend_from_slice(&hello[at + 1..]);
    let length = (body.len() as u32).to_be_bytes();
    let record = (body.len() as u16 + 12).to_be_bytes();
    let head = [&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 1][..], &record, &[1], &length[1..]];
    let head = [head.concat(), vec![0, 1, 0, 0, 0], length[1..].to_vec()].concat();
    [head, body].concat()
}

/// The log has a line for operators why a client was refused, and its address for debugging alone.
pub(crate) fn told(secure: &Secure, reason: DropReason, client: &UdpSocket) {
    let (log, name) = (secure.server.log.all(), reason.name());
    let end = |line: &&String| line.starts_with("INFO DTLS session refused") && line.contains(name);
    assert!(log.iter().any(|line| end(&line)), "{log:#?}");
    let address = client.local_addr().expect("it is bound").to_string();
    let mut about = log.iter().filter(|line| line.contains(&address));
    assert!(about.all(|line| line.starts_with("DEBG")), "{log:#?}");
}

/// Shows that whatever was sent before has been read: plain requests are answered on the same port.
fn settle(secure: &Secure) {
    let mut client = Client::new(secure.server.v4());
    client.knock();
}

#[test]
fn call_goes_both_ways_over_ipv4_and_ipv6() {
    let secure = secure();
    for server in [secure.server.v4(), secure.server.v6()] {
        let mut client = Client::secure(server);
        let relayed = client.allocate();
        let mut call = Call::with(client, relayed);
        call.goes_on();
        let other = call.another_peer(relayed.ip());
        call.client.indicate(other.address(), b"hello");
        assert_eq!((b"hello".to_vec(), relayed), other.hear());
        other.tell(relayed, b"hello");
        assert_eq!(Heard::Data(other.address(), b"hello".to_vec()), call.client.hear());
        let long = vec![7; 16_000];
        call.client.say(Call::CHANNEL, &long);
        assert_eq!((long.clone(), relayed), call.peer.hear());
        call.peer.tell(relayed, &long);
        assert_eq!(Heard::Channel(Call::CHANNEL, long), call.client.hear());
        let drops = secure.server.allocation_of(call.client.address()).drops;
        assert!(drops.is_empty(), "{drops}");
    }
    let counters = secure.server.counters();
    assert_eq!((2, 2, 2), (counters.connections, counters.sessions, counters.allocations));
    assert!(counters.drops.is_empty(), "{}", counters.drops);
}

#[test]
fn data_that_fits_no_record_is_dropped_and_the_call_goes_on() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    call.peer.tell(relayed, &[7; 16_381]);
    call.peer.tell(relayed, &[8; 16_380]);
    assert_eq!(Heard::Channel(Call::CHANNEL, vec![8; 16_380]), call.client.hear());
    call.goes_on();
    let client = call.client.address();
    assert_eq!(1, secure.server.dropped_for(client, DropReason::SendFailed));
}

#[test]
fn binding_needs_no_session_of_its_own() {
    let secure = secure();
    let client = Client::secure(secure.server.v4());
    let answer = client.exchange(&request(Method::BINDING, |_| {}));
    assert_eq!(client.address(), answer.mapped());
    let counters = secure.server.counters();
    assert_eq!((1, 0), (counters.connections, counters.sessions));
}

#[test]
fn many_messages_arrive_in_their_order() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    for burst in 0..10_u32 {
        let numbers = burst * 20..burst * 20 + 20;
        for number in numbers.clone() {
            call.client.say(Call::CHANNEL, &number.to_be_bytes());
            call.peer.tell(relayed, &number.to_be_bytes());
        }
        for number in numbers {
            let word = number.to_be_bytes().to_vec();
            assert_eq!((word.clone(), relayed), call.peer.hear());
            assert_eq!(Heard::Channel(Call::CHANNEL, word), call.client.hear());
        }
    }
}

#[test]
fn records_of_one_datagram_are_messages_each() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    // What the session writes goes nowhere, and then to the server in one datagram.
    let elsewhere = UdpSocket::bind(at(V4, 0)).expect("a port is free");
    elsewhere.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let socket = call.client.socket.raw();
    socket.connect(elsewhere.local_addr().expect("it is bound")).expect("it is within reach");
    let words: Vec<Vec<u8>> = (0..200_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let mut datagram = Vec::new();
    for word in &words {
        call.client.say(Call::CHANNEL, word);
        datagram.extend(heard(&elsewhere));
    }
    socket.connect(secure.server.v4()).expect("it is within reach");
    socket.send(&datagram).expect("loopback takes it");
    for word in words {
        assert_eq!((word, relayed), call.peer.hear());
    }
    call.goes_on();
}

#[test]
fn every_kind_of_certificate_is_shown_with_its_chain() {
    let root = Issued::ecdsa("root.example", None);
    let between = Issued::ecdsa("between.example", Some(&root));
    let leaf = Issued::ecdsa("turn.example", Some(&between));
    let rsa = Issued::rsa("turn.example");
    let names = |dtls: &Dtls| {
        let ders = dtls.shown().into_iter().map(|shown| shown.to_der().expect("DER"));
        ders.collect::<Vec<_>>()
    };
    for (issued, chain) in [(&leaf, vec![&between, &root]), (&rsa, vec![])] {
        let secure = secure_with(|_| {}, issued.identity(&chain));
        let mut client = Client::secure(secure.server.v4());
        client.allocate();
        let all = [&[issued][..], &chain].concat();
        let expected = all.iter().map(|issued| issued.certificate.to_der().expect("DER"));
        assert_eq!(expected.collect::<Vec<_>>(), names(&client.socket));
    }
}

#[test]
fn plain_and_secure_clients_share_a_port_and_even_an_address() {
    let secure = secure();
    let plain = Call::through(secure.server.v4());
    let mut client = Client::over(Dtls::to(secure.server.v4()));
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    plain.goes_on();
    call.goes_on();
    // A second conversation from the very address of the first: another protocol, another 5-tuple.
    let socket = call.client.socket.raw();
    let mut both = Client::over(socket);
    let own = both.allocate();
    assert_ne!(relayed, own);
    call.goes_on();
    assert_eq!(3, secure.server.counters().allocations);
    assert_eq!(1, secure.server.counters().connections);
}

#[test]
fn hello_without_a_cookie_leaves_nothing_and_gets_no_more_than_it_sent() {
    let secure = secure();
    let socket = raw(&secure);
    let mut hello = hello();
    for number in 0..10_000_u32 {
        hello[30..34].copy_from_slice(&number.to_be_bytes());
        socket.send(&hello).expect("loopback takes it");
        assert!(heard(&socket).len() <= hello.len());
    }
    let counters = secure.server.counters();
    assert_eq!((0, 0), (counters.connections, counters.sessions));
    assert!(!secure.server.log.have("DTLS handshake begun"));
}

#[test]
fn answers_to_hellos_have_a_limit_by_source() {
    let alter = |config: &mut ServerConfig| config.limits.unauthenticated_answers_per_second = 1;
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let socket = raw(&secure);
    let hello = hello();
    for _ in 0..50 {
        socket.send(&hello).expect("loopback takes it");
    }
    heard(&socket);
    secure.server.wait_for(|counters| counters.drops.get(DropReason::RateLimited) >= 45);
    Client::secure(secure.server.v4()).allocate();
}

#[test]
fn cookie_of_another_or_an_altered_one_is_worth_nothing() {
    let secure = secure();
    let (socket, other) = (raw(&secure), raw(&secure));
    let hello = hello();
    socket.send(&hello).expect("loopback takes it");
    let good = with_cookie(&hello, &heard(&socket));

    // Another address, another random, another cookie: each is asked for a cookie again.
    other.send(&good).expect("loopback takes it");
    assert_eq!(3, heard(&other)[13]);
    for place in [30, 13 + 12 + 36 + usize::from(good[59])] {
        let mut forged = good.clone();
        forged[place] ^= 1;
        socket.send(&forged).expect("loopback takes it");
        assert_eq!(3, heard(&socket)[13]);
    }
    assert_eq!(0, secure.server.counters().connections);
    socket.send(&good).expect("loopback takes it");
    assert_eq!(2, heard(&socket)[13], "a ServerHello");
    assert_eq!(1, secure.server.counters().connections);
}

#[test]
fn client_of_dtls_1_0_alone_gets_an_alert() {
    let secure = secure();
    let socket = raw(&secure);
    let mut hello = hello();
    hello[26] = 0xFF;
    socket.send(&hello).expect("loopback takes it");
    assert_eq!([21, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 70], *heard(&socket));
    assert_eq!(0, secure.server.counters().connections);
}

/// A fatal alert and the word of the end, as anybody can send them.
const SPOOFED: [[u8; 15]; 2] = [
    [21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40],
    [21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 98, 0, 2, 1, 0],
];

#[test]
fn alert_that_nobody_has_proved_ends_neither_handshake_nor_session() {
    let secure = secure();
    let client = Dtls::half_way(secure.server.v4());
    secure.server.wait_for(|counters| counters.connections == 1);
    let socket = client.raw();
    let spoof = || SPOOFED.iter().for_each(|alert| _ = socket.send(alert).expect("it is sent"));
    spoof();
    client.shake_hands();
    spoof();
    let mut client = Client::over(client);
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    spoof();
    call.goes_on();
    secure.server.wait_for(|counters| counters.drops.get(DropReason::BadDtlsRecord) >= 2);
    // A hello without a cookie is answered, and does no harm either.
    socket.send(&hello()).expect("it is sent");
    settle(&secure);
    assert_eq!(1, secure.server.counters().connections);
    call.goes_on();
}

#[test]
fn what_is_lost_in_a_handshake_is_sent_again() {
    let secure = secure();
    // Of what the client sends its first hellos; of what it gets the first two answers.
    for (sent, received) in [(1, 0), (0, 1), (2, 0), (0, 2)] {
        let dtls = Dtls::over(Datagrams::to(secure.server.v4()));
        dtls.path(|path| path.lose_sent.set(sent));
        dtls.path(|path| path.lose_received.set(received));
        dtls.shake_hands();
        Client::over(dtls).allocate();
    }
    // The whole of a flight of the server's, of the client's next, of the server's last.
    let dtls = Dtls::half_way(secure.server.v4());
    dtls.path(|path| path.lose_received.set(2));
    dtls.path(|path| path.lose_sent.set(1));
    dtls.shake_hands();
    Client::over(dtls).allocate();
}

#[test]
fn client_that_says_goodbye_leaves_its_port_to_the_next() {
    let alter = |config: &mut ServerConfig| _ = leave_ports(config, 2);
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let mut first = Client::secure(secure.server.v4());
    let mut second = Client::secure(secure.server.v4());
    let relayed = [first.allocate(), second.allocate()];
    let mut third = Client::secure(secure.server.v4());
    assert_eq!(508, third.ask(Method::ALLOCATE, raws(&[UDP])).code());

    first.socket.close();

    assert_eq!(None, first.socket.next(), "the server says goodbye, too");
    secure.server.wait_for(|c| c.allocations == 1 && c.connections == 2);
    assert_eq!(relayed[0], third.allocate());
    Call::with(second, relayed[1]).goes_on();
}

#[test]
fn client_that_begins_again_on_its_port_is_another() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    let again = Dtls::over(Datagrams::over(call.client.socket.raw()));
    again.shake_hands();

    let mut again = Client::over(again);
    assert_eq!(437, again.ask(Method::REFRESH, |_| {}).code(), "nothing of before is its own");
    secure.server.wait_for(|c| c.allocations == 0 && c.connections == 1);
    let relayed = again.allocate();
    Call::with(again, relayed).goes_on();
}

#[test]
fn session_that_panics_keeps_its_client_s_connection() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    let mut call = Call::with(client, relayed);
    let address = call.client.address();
    for _ in 0..2 {
        let old = secure.server.actors_of(address).expect("the client has a session").session;
        inject(&old, session::Panic);
        let actors = || secure.server.actors_of(address);
        secure.server.wait_for(|_| actors().is_some_and(|actors| actors.session != old));
        call.goes_on();
        call.client.get(Method::REFRESH, |_| {});
        secure.server.listeners.iter().for_each(|listener| inject(listener, listener::Panic));
        call.goes_on();
    }
    assert_eq!(1, secure.server.counters().connections);
}

#[test]
fn renewed_certificate_is_shown_to_the_next_client_and_a_broken_one_to_none() {
    let secure = secure();
    let first = Client::secure(secure.server.v4());
    let renewed = Issued::rsa("renewed.example");
    let shown = |client: &Client<Dtls>| client.socket.shown()[0].to_der().expect("DER");
    let of = |issued: &Issued| issued.certificate.to_der().expect("DER");
    assert_eq!(of(&ISSUED), shown(&first));

    secure.certificates.renew(renewed.identity(&[]));
    let second = Client::secure(secure.server.v4());
    assert_eq!(of(&renewed), shown(&second));

    let mut broken = ISSUED.identity(&[]);
    broken.key = renewed.identity(&[]).key;
    secure.certificates.renew(broken);
    let third = Client::secure(secure.server.v4());
    assert_eq!(of(&renewed), shown(&third));
    assert!(secure.server.log.have("certificate refused for DTLS"));
    for mut client in [first, second, third] {
        client.allocate();
    }
}

/// Why a server with this configuration does not start.
fn refusal(config: ServerConfig) -> String {
    let start = Server::start(config, Lines::default().logger());
    let started = actix_rt::System::new().block_on(start);
    started.err().expect("the server does not start").to_string()
}

#[test]
fn certificate_that_nobody_can_use_stops_the_start() {
    let mut config = config();
    let empty = Identity { chain: Vec::new(), key: Vec::new() };
    let _certificates = Certificates::of(&mut config, empty);
    assert!(refusal(config.clone()).starts_with("cannot serve dtls://127.0.0.1:0: "));
    config.tls = None;
    assert_eq!("cannot serve dtls://127.0.0.1:0: no certificate", refusal(config));
}

/// Records that say nothing, of every kind, epoch and length.
fn garbage(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![20 + random.below(7) as u8, 0xFE, 0xFD, 0, random.below(3) as u8];
    bytes.extend(random.bytes(6));
    let body = random.below(200);
    let said = if random.below(4) == 0 { random.below(400) } else { body };
    bytes.extend((said as u16).to_be_bytes());
    bytes.extend(random.bytes(body));
    if random.below(5) == 0 {
        bytes.truncate(1 + random.below(bytes.len()));
    }
    bytes
}

#[test]
fn garbage_from_a_client_s_own_address_ends_no_session() {
    let secure = secure();
    let mut random = Random::seeded(1);
    let dtls = Dtls::over(Datagrams::to(secure.server.v4()));
    let socket = dtls.raw();
    let mut litter = |count: usize| {
        for _ in 0..count {
            socket.send(&garbage(&mut random)).expect("loopback takes it");
        }
    };
    litter(100);
    dtls.shake_hands();
    let mut client = Client::over(dtls);
    for _ in 0..5 {
        litter(50);
        client.knock();
        client.nonce.clear();
    }
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    for _ in 0..20 {
        litter(50);
        call.goes_on();
    }
    assert_eq!(1, secure.server.counters().connections);
}

#[test]
fn record_that_is_too_short_to_be_authentic_ends_no_session() {
    let secure = secure();
    for (number, ciphers) in ["ECDHE+AESGCM", "ECDHE+CHACHA20"].into_iter().enumerate() {
        let dtls = Dtls::with_ciphers(ciphers, Datagrams::to(secure.server.v4()));
        dtls.path(|path| path.let_in.set(1));
        assert!(!dtls.step());
        secure.server.wait_for(|counters| counters.connections == number + 1);
        let socket = dtls.raw();
        let spoof = || {
            for (length, content) in (0..60).flat_map(|length| (20..24).map(move |c| (length, c))) {
                let mut record = vec![content, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 77, 0, length];
                record.resize(13 + usize::from(length), 7);
                socket.send(&record).expect("loopback takes it");
            }
        };
        spoof();
        dtls.path(|path| path.let_in.set(usize::MAX));
        dtls.shake_hands();
        spoof();
        let mut client = Client::over(dtls);
        let relayed = client.allocate();
        let call = Call::with(client, relayed);
        spoof();
        call.goes_on();
    }
}

#[test]
fn garbage_in_a_handshake_harms_no_other() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    let mut random = Random::seeded(2);
    for _ in 0..20 {
        let (socket, hello) = (raw(&secure), hello());
        socket.send(&hello).expect("loopback takes it");
        let mut answer = heard(&socket);
        while answer[13] != 3 || answer[0] != 22 {
            answer = heard(&socket);
        }
        socket.send(&with_cookie(&hello, &answer)).expect("loopback takes it");
        for _ in 0..20 {
            socket.send(&garbage(&mut random)).expect("loopback takes it");
        }
        call.goes_on();
    }
    Client::secure(secure.server.v4()).allocate();
}

#[test]
fn record_of_a_stranger_is_dropped() {
    let secure = secure();
    let socket = raw(&secure);
    socket.send(&[23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 7]).expect("it is sent");
    secure.server.wait_for(|counters| counters.drops.get(DropReason::NoDtlsSession) == 1);
    assert_eq!(0, secure.server.counters().connections);
}

#[test]
fn clients_that_prove_nothing_are_limited_and_sent_away() {
    let alter = |config: &mut ServerConfig| {
        config.limits.unproved_connections_per_source = 2;
        config.limits.connection_setup = Duration::from_millis(1500);
    };
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let ip = own_host();
    let from = |ip| Dtls::over(Datagrams::from_ip(ip, secure.server.v4()));
    let mut proved = Client::over(from(ip));
    proved.socket.shake_hands();
    let relayed = proved.allocate();
    let silent = [from(ip), from(ip)];
    silent.iter().for_each(Dtls::shake_hands);

    let third = from(ip);
    while secure.server.dropped(DropReason::UnprovedFull) == 0 {
        assert!(!third.step());
    }

    Client::secure(secure.server.v4()).allocate();
    for client in &silent {
        assert_eq!(None, client.next(), "its time is over");
    }
    secure.server.wait_for(|counters| counters.connections == 2);
    third.shake_hands();
    Call::with(proved, relayed).goes_on();
}

#[test]
fn handshake_that_stalls_is_given_up() {
    let alter =
        |config: &mut ServerConfig| config.limits.connection_setup = Duration::from_millis(300);
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let socket = raw(&secure);
    let hello = hello();
    socket.send(&hello).expect("loopback takes it");
    let good = with_cookie(&hello, &heard(&socket));
    socket.send(&good).expect("loopback takes it");
    heard(&socket);
    assert!(secure.server.log.have("DTLS handshake begun"));
    secure.server.wait_for(|counters| counters.drops.get(DropReason::SetupTimeout) == 1);
    told(&secure, DropReason::SetupTimeout, &socket);
    assert_eq!(0, secure.server.counters().connections);
}

#[test]
fn server_that_stops_says_goodbye() {
    let secure = secure();
    let mut client = Client::secure(secure.server.v4());
    client.allocate();
    drop(secure);
    assert_eq!(None, client.socket.next());
}

#[test]
fn sessions_have_a_number() {
    let alter = |config: &mut ServerConfig| config.limits.sessions_per_listener = 1;
    let secure = secure_with(alter, ISSUED.identity(&[]));
    let mut first = Client::secure(secure.server.v4());
    let second = Dtls::over(Datagrams::to(secure.server.v4()));
    while secure.server.dropped(DropReason::SessionsFull) == 0 {
        assert!(!second.step());
    }
    let relayed = first.allocate();
    Call::with(first, relayed).goes_on();
}

#[test]
fn burst_of_records_loses_no_message() {
    let secure = secure();
    let server = secure.server.v4();
    let mut client = Client::secure(server);
    let raw = client.socket.raw();
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    // The last one fills the rest of what the kernel hands over as one.
    for (count, length) in [(10_u8, 1200), (50, 1250)] {
        let payloads: Vec<_> = (1..=count).map(|number| vec![number; length]).collect();
        call.client.socket.path(|path| _ = path.held.replace(Some(Vec::new())));
        for data in &payloads {
            call.client.say(Call::CHANNEL, data);
        }
        let mut records = None;
        call.client.socket.path(|path| records = path.held.take());
        burst(&raw, server, &records.expect("they were held"));
        for data in payloads {
            assert_eq!((data, call.relayed), call.peer.hear());
        }
    }
    call.goes_on();
}
