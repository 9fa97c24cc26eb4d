//! Streams that are not what a TURN client sends: each is closed with a reason, and no other is
//! harmed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use sterna_actors::{ServerConfig, clock};
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;

use crate::kit::{
    Call, Carrier, Client, Heard, Hello, PATIENCE, Random, Serving, Stream, TlsStream, V4, at,
    channel_data, config, request, serve, tcp,
};
use crate::streams::{certificate, stream_config};

/// A server that waits for nobody long.
fn impatient() -> ServerConfig {
    let mut config = stream_config(&certificate());
    config.limits.connection_setup = Duration::from_millis(150);
    config
}

/// Waits for the reason why a connection was closed; it is counted and written down once, and the
/// client's address is for debugging alone.
fn closed_for(server: &Serving, reason: DropReason, client: SocketAddr) {
    server.wait_for(|counters| counters.drops.get(reason) == 1);
    let log = server.log.all();
    let about = |line: &&String| line.contains(&client.to_string());
    assert!(log.iter().filter(about).all(|line| line.starts_with("DEBG")), "{log:#?}");
    let name = reason.name();
    let end = |line: &&String| line.contains("connection closed") && line.contains(name);
    assert_eq!(1, log.iter().filter(about).filter(end).count(), "{log:#?}");
    assert!(server.log.have("INFO connection refused"));
}

#[test]
fn what_is_neither_stun_nor_channel_data_closes_the_connection() {
    for bytes in [
        &b"\xFF"[..],
        b"\x04\x00\x00\x00",
        b"SSH-2.0-client\r\n\r\n\xFF\xFF\xFF\xFF",
        // A STUN header without the cookie, and one with a length that is none.
        b"\x00\x01\x00\x00\x00\x00\x00\x00",
        b"\x00\x01\x00\x03\x21\x12\xA4\x42",
    ] {
        let server = serve(stream_config(&certificate()));
        let mut other = Client::over(Stream::to(server.v4()));
        let relayed = other.allocate();
        let garbage = Stream::to(server.v4());
        garbage.write(bytes);
        if bytes.starts_with(b"SSH") {
            // It begins like ChannelData of some length, and is followed by what does not.
            let length = 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            garbage.write(&vec![0xFF; length]);
        }
        assert!(garbage.is_closed());
        closed_for(&server, DropReason::BadFraming, garbage.address());
        Call::with(other, relayed).goes_on();
    }
}

fn garbage_in_a_call<S: Read + Write>(connect: fn(SocketAddr) -> Stream<S>) {
    let server = serve(stream_config(&certificate()));
    let mut other = Client::over(connect(server.v4()));
    let relayed = other.allocate();
    let mut client = Client::over(connect(server.v4()));
    client.allocate();
    client.socket.write(&[0x80; 32]);
    assert!(client.socket.is_closed());
    closed_for(&server, DropReason::BadFraming, client.address());
    server.wait_for(|counters| counters.allocations == 1);
    Call::with(other, relayed).goes_on();
}

#[test]
fn garbage_in_a_call_ends_that_call_over_tcp() {
    garbage_in_a_call(Stream::to);
}

#[test]
fn garbage_in_a_call_ends_that_call_over_tls() {
    garbage_in_a_call(TlsStream::tls_to);
}

#[test]
fn random_bytes_close_the_connection_and_harm_nobody() {
    let server = serve(impatient());
    let mut other = Client::over(TlsStream::tls_to(server.v4()));
    let relayed = other.allocate();
    let mut random = Random::seeded(3);
    for round in 0..200 {
        let length = 1 + random.number() as usize % 300;
        let mut bytes: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
        // Half of them are let past the first look.
        if round % 2 == 0 {
            bytes[0] = [0x00, 0x01, 0x16, 0x40, 0x47][round / 2 % 5];
        }
        let garbage = Stream::to(server.v4());
        // The server may have closed it half-way.
        let _ = garbage.try_write(&bytes);
        let _ = garbage.under().shutdown(Shutdown::Write);
        garbage.rest();
    }
    Call::with(other, relayed).goes_on();
    assert!(!server.log.have("panicked"));
}

#[test]
fn web_browser_is_told_what_this_is() {
    let server = serve(stream_config(&certificate()));
    let ask = b"GET /favicon.ico HTTP/1.1\r\nHost: turn.north.example\r\n\r\n";
    let plain = Stream::to(server.v4());
    plain.write(ask);
    let answer = String::from_utf8(plain.rest()).expect("it is text");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("there is a body");
    assert!(body.starts_with("This is a TURN server"), "{answer}");
    assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");

    let hello = Hello { alpn: vec![b"h2", b"http/1.1"], ..Hello::default() };
    let tls = Stream::to(server.v4()).under_tls(&hello).expect("the handshake succeeds");
    assert_eq!(Some(b"http/1.1".to_vec()), tls.alpn());
    tls.write(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(answer.as_bytes(), tls.rest());
    drop((plain, tls));
    server.wait_for(|counters| counters.drops.get(DropReason::HttpRequest) == 2);
}

#[test]
fn web_browser_that_keeps_its_side_open_is_not_waited_for() {
    let mut config = stream_config(&certificate());
    config.limits.connection_setup = Duration::from_secs(300);
    let server = serve(config);
    let ask = b"GET / HTTP/1.1\r\nHost: turn.north.example\r\n\r\n";
    let plain = Stream::to(server.v4());
    plain.write(ask);
    let tls = TlsStream::tls_to(server.v4());
    tls.write(ask);

    assert_eq!(plain.rest(), tls.rest());

    server.wait_for(|counters| counters.drops.get(DropReason::HttpRequest) == 2);
    let since = clock::now();
    while server.counters().connections > 0 {
        assert!(since.elapsed() < PATIENCE, "they are waited for");
    }
    assert_eq!(0, server.dropped(DropReason::SetupTimeout));
}

#[test]
fn tls_without_a_certificate_is_refused() {
    let listen = vec![tcp(at(V4, 0))];
    let server = serve(ServerConfig { listen, ..config() });
    let refused = Stream::to(server.v4()).under_tls(&Hello::default());
    assert!(refused.is_err());
    server.wait_for(|counters| counters.drops.get(DropReason::TlsNotServed) == 1);
    Client::over(Stream::to(server.v4())).allocate();
}

#[test]
fn broken_client_hello_is_answered_with_an_alert() {
    let server = serve(stream_config(&certificate()));
    let client = Stream::to(server.v4());
    client.write(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xFF");
    let alert = client.rest();
    assert_eq!(Some(&0x15), alert.first(), "{alert:?}");
    closed_for(&server, DropReason::TlsFailed, client.address());
}

#[test]
fn tls_inside_tls_is_refused() {
    let server = serve(stream_config(&certificate()));
    let client = TlsStream::tls_to(server.v4());
    client.write(b"\x16\x03\x01\x00\x05");
    client.rest();
    closed_for(&server, DropReason::BadFraming, client.address());
}

#[test]
fn client_that_says_nothing_or_not_enough_has_to_go() {
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", b"GET"] {
        let server = serve(impatient());
        let client = Stream::to(server.v4());
        client.write(begun);
        client.rest();
        closed_for(&server, DropReason::SetupTimeout, client.address());
    }
    let server = serve(impatient());
    let client = Stream::to(server.v4());
    client.write(&request(Method::BINDING, |_| {})[..19]);
    assert!(client.is_closed());
    server.wait_for(|counters| {
        let drops = &counters.drops;
        drops.get(DropReason::SetupTimeout) + drops.get(DropReason::SlowWriter) == 1
    });
}

#[test]
fn client_with_a_session_has_to_end_what_it_begins() {
    let server = serve(impatient());
    let mut client = Client::over(TlsStream::tls_to(server.v4()));
    client.allocate();
    client.socket.write(&channel_data(0x4000, &[0; 1000])[..900]);
    assert!(client.socket.is_closed());
    closed_for(&server, DropReason::SlowWriter, client.address());
    server.wait_for(|counters| counters.allocations == 0);
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let mut config = stream_config(&certificate());
    config.limits.connections_per_listener = 2;
    let server = serve(config);
    let first = Client::over(Stream::to(server.v4()));
    let mut second = Client::over(TlsStream::tls_to(server.v4()));
    first.exchange(&request(Method::BINDING, |_| {}));
    second.allocate();
    let third = Stream::to(server.v4());
    assert!(third.is_closed());
    closed_for(&server, DropReason::ConnectionsFull, third.address());

    drop(first);
    server.wait_for(|counters| counters.connections == 1);
    Client::over(Stream::to(server.v4())).allocate();
}

#[test]
fn those_who_prove_nothing_are_few_at_a_time() {
    let mut config = stream_config(&certificate());
    config.limits.unproved_connections_per_source = 1;
    config.limits.unproved_connections_per_listener = 2;
    let server = serve(config);
    let ip = crate::kit::own_host();
    // Who has proved itself does not count.
    let mut proved: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Client::over(Stream::from_ip(ip, server.v4()));
            client.allocate();
            client
        })
        .collect();
    let first = Client::over(Stream::from_ip(ip, server.v4()));
    first.exchange(&request(Method::BINDING, |_| {}));
    let second = Stream::from_ip(ip, server.v4());
    assert!(second.is_closed());
    closed_for(&server, DropReason::UnprovedFull, second.address());
    // Another source has a place, and then there is none for anybody.
    let other = Client::over(Stream::to(server.v4()));
    other.exchange(&request(Method::BINDING, |_| {}));
    assert!(Stream::to(server.v4()).is_closed());
    for client in &mut proved {
        client.get(Method::REFRESH, |_| {});
    }
}

fn reader_that_does_not_read<S: Read + Write>(connect: fn(SocketAddr) -> Stream<S>) {
    let mut config = stream_config(&certificate());
    config.limits.stream_buffer = 64 * 1024;
    let server = serve(config);
    let mut other = Client::over(connect(server.v4()));
    let others = other.allocate();
    let other = Call::with(other, others);
    let mut client = Client::over(connect(server.v4()));
    let relayed = client.allocate();
    let mut call = Call::with(client, relayed);
    // More than all buffers on the way hold: the kernel's on both sides, and the server's.
    let mut numbers = 0_u32;
    let lost = |server: &Serving| server.dropped_for(call.client.address(), DropReason::SocketFull);
    while lost(&server) < 100 {
        assert!(numbers < 1_000_000, "nothing is ever dropped");
        for _ in 0..64 {
            let mut word = vec![0; 1200];
            word[..4].copy_from_slice(&numbers.to_be_bytes());
            call.peer.tell(relayed, &word);
            numbers += 1;
        }
        other.goes_on();
    }
    let refresh = call.client.signed(Method::REFRESH, |_| {});
    call.client.send(&refresh);
    let mut heard = Vec::new();
    let answer = loop {
        match call.client.hear() {
            Heard::Channel(_, word) => {
                heard.push(u32::from_be_bytes(word[..4].try_into().expect("four bytes")));
            }
            Heard::Answer(answer) => break answer,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(0, answer.code());
    assert!(heard.is_sorted(), "order is kept");
    // The newest of what the allocation has got is there, the oldest that waited is not.
    let end = heard.windows(2).rposition(|pair| pair[1] - pair[0] > 1);
    assert!(end.is_some(), "there is a gap where media was dropped");
    call.goes_on();
}

#[test]
fn reader_that_does_not_read_over_tcp_gets_its_answers_and_fresh_media() {
    reader_that_does_not_read(Stream::to);
}

#[test]
fn reader_that_does_not_read_over_tls_gets_its_answers_and_fresh_media() {
    reader_that_does_not_read(TlsStream::tls_to);
}
