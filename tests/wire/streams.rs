//! Clients over TCP and TLS: what they get is what clients over UDP get.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};

use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use sterna_actors::ServerConfig;
use sterna_proto::channel_data::frame_len;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;
use tokio::sync::watch;

use crate::kit::{
    Call, Certificate, Client, Heard, Hello, Raw, Stream, TlsStream, V4, V6, at, config, own_host,
    raws, request, serve, tcp,
};

/// A server for TCP and TLS on one port of each family.
pub(crate) fn stream_config(certificate: &Certificate) -> ServerConfig {
    let listen = vec![tcp(at(V4, 0)), tcp(at(V6, 0))];
    ServerConfig { listen, tls: certificate.served(), ..config() }
}

pub(crate) fn certificate() -> Certificate {
    Certificate::new("turn.north.example")
}

fn data_flows_every_way<S: Read + Write>(connect: fn(SocketAddr) -> Stream<S>) {
    let server = serve(stream_config(&certificate()));
    for address in [server.v4(), server.v6()] {
        let mut client = Client::over(connect(address));
        let answer = client.exchange(&request(Method::BINDING, |_| {}));
        assert_eq!(client.address(), answer.mapped());
        let family: Raw = (
            sterna_proto::stun::AttributeType::REQUESTED_ADDRESS_FAMILY,
            match address {
                SocketAddr::V4(_) => &[1, 0, 0, 0],
                SocketAddr::V6(_) => &[2, 0, 0, 0],
            },
        );
        let relayed = client.allocate_with(raws(&[family])).relayed()[0];
        assert_eq!(address.is_ipv4(), relayed.is_ipv4());
        let mut call = Call::with(client, relayed);
        call.goes_on();
        let other = call.another_peer(relayed.ip());
        call.client.indicate(other.address(), b"sent");
        assert_eq!((b"sent".to_vec(), relayed), other.hear());
        other.tell(relayed, b"told");
        assert_eq!(Heard::Data(other.address(), b"told".to_vec()), call.client.hear());
        let largest = vec![7; 60_000];
        call.client.say(Call::CHANNEL, &largest);
        assert_eq!((largest.clone(), relayed), call.peer.hear());
        call.peer.tell(relayed, &largest);
        assert_eq!(Heard::Channel(Call::CHANNEL, largest), call.client.hear());
    }
    assert!(server.counters().drops.is_empty(), "{}", server.counters().drops);
}

#[test]
fn tcp_carries_every_data_path() {
    data_flows_every_way(Stream::to);
}

#[test]
fn tls_carries_every_data_path() {
    data_flows_every_way(TlsStream::tls_to);
}

#[test]
fn client_of_a_stream_gets_every_answer() {
    let mut config = stream_config(&certificate());
    config.limits.unauthenticated_answers_per_second = 1;
    let server = serve(config);
    let client = Client::over(Stream::to(server.v4()));
    for _ in 0..50 {
        assert_eq!(401, client.exchange(&request(Method::ALLOCATE, |_| {})).code());
    }
    assert!(server.counters().drops.is_empty(), "{}", server.counters().drops);
}

fn allocation_ends<S: Read + Write>(connect: fn(SocketAddr) -> Stream<S>) {
    let server = serve(stream_config(&certificate()));
    let mut client = Client::over(connect(server.v4()));
    let relayed = client.allocate();
    let mut staying = Client::over(connect(server.v4()));
    let other = staying.allocate();
    server.wait_for(|counters| counters.allocations == 2);

    drop(client);

    server.wait_for(|counters| counters.sessions == 1 && counters.allocations == 1);
    assert!(UdpSocket::bind(relayed).is_ok(), "the port is free again");
    Call::with(staying, other).goes_on();
}

#[test]
fn allocation_ends_with_its_tcp_connection() {
    allocation_ends(Stream::to);
}

#[test]
fn allocation_ends_with_its_tls_connection() {
    allocation_ends(TlsStream::tls_to);
}

#[test]
fn what_was_said_before_the_end_is_heard() {
    let server = serve(stream_config(&certificate()));
    let mut client = Client::over(Stream::to(server.v4()));
    let relayed = client.allocate();
    let call = Call::with(client, relayed);
    let peer = call.peer;
    call.client.say(Call::CHANNEL, b"last words");
    drop(call.client);
    assert_eq!((b"last words".to_vec(), relayed), peer.hear());
}

#[test]
fn client_that_closes_its_own_side_still_gets_its_answers() {
    let server = serve(stream_config(&certificate()));
    let mut client = Client::over(Stream::to(server.v4()));
    let bytes = client.signed(Method::ALLOCATE, raws(&[crate::kit::UDP]));
    client.socket.write(&bytes);
    client.socket.under().shutdown(Shutdown::Write).expect("there is a connection");

    assert_eq!(1, client.answer_to(&bytes).relayed().len());
    assert!(client.socket.is_closed(), "nothing more is due");
    server.wait_for(|counters| counters.sessions == 0 && counters.allocations == 0);
}

/// Each byte comes alone, and many messages in one piece.
#[test]
fn messages_are_heard_however_they_are_cut() {
    let server = serve(stream_config(&certificate()));
    let mut client = Client::over(Stream::to(server.v4()));
    let bytes = client.signed(Method::ALLOCATE, raws(&[crate::kit::UDP]));
    for byte in &bytes {
        client.socket.write(&[*byte]);
    }
    let relayed = client.answer_to(&bytes).relayed()[0];
    let call = Call::with(client, relayed);
    // As many as wait in the peer's socket, whatever it is busy with.
    let words: Vec<Vec<u8>> = (0..100_u16).map(|n| vec![n as u8; usize::from(n % 9)]).collect();
    let mut stream = Vec::new();
    for word in &words {
        stream.extend(crate::kit::channel_data(Call::CHANNEL, word));
        stream.resize(stream.len().next_multiple_of(4), 0);
    }
    for piece in stream.chunks(97) {
        call.client.socket.write(piece);
    }
    for word in words {
        assert_eq!((word, relayed), call.peer.hear());
    }
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let server = serve(stream_config(&certificate()));
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let hello = Hello { versions: vec![version], ..Hello::default() };
        let stream = Stream::to(server.v4()).under_tls(&hello).expect("the handshake succeeds");
        assert_eq!(Some(name), stream.version());
        Client::over(stream).allocate();
    }
}

/// Some clients, coturn's among them, take what one record holds for one message.
#[test]
fn every_message_has_a_tls_record_of_its_own() {
    const BURSTS: u8 = 30;
    const BURST: u8 = 32;
    let server = serve(stream_config(&certificate()));
    for version in [&TLS12, &TLS13] {
        let hello = Hello { versions: vec![version], ..Hello::default() };
        let stream = Stream::from_ip(own_host(), server.v4()).under_tls(&hello);
        let mut client = Client::over(stream.expect("the handshake succeeds"));
        let relayed = client.allocate();
        let mut call = Call::with(client, relayed);
        let other = call.another_peer(relayed.ip());
        for burst in 0..BURSTS {
            let sent: Vec<Vec<u8>> = (0..BURST).map(|number| vec![burst, number, 7, 7]).collect();
            sent.iter().for_each(|data| call.peer.tell(relayed, data));
            other.tell(relayed, b"told");
            call.client.send(&request(Method::BINDING, |_| {}));
            let mut rest = vec![];
            let mut received = vec![];
            while received.len() < sent.len() || rest.len() < 2 {
                let record = call.client.socket.record();
                assert_eq!(Ok(Some(record.len())), frame_len(&record), "one message");
                match Heard::read(record) {
                    Heard::Channel(_, data) => received.push(data),
                    heard => rest.push(heard),
                }
            }
            assert_eq!(sent, received);
        }
    }
}

#[test]
fn client_need_not_say_whom_it_looks_for() {
    let certificate = certificate();
    let server = serve(stream_config(&certificate));
    let hello = Hello { name: None, ..Hello::default() };
    let stream = Stream::to(server.v4()).under_tls(&hello).expect("the handshake succeeds");
    assert_eq!(certificate.der, stream.certificate());
    Client::over(stream).allocate();
}

#[test]
fn protocol_names_of_turn_are_agreed_on_and_no_others() {
    let server = serve(stream_config(&certificate()));
    for (offered, agreed) in [
        (vec![b"stun.turn".as_slice()], Some(b"stun.turn".to_vec())),
        (vec![b"h2".as_slice(), b"stun.nat-discovery"], Some(b"stun.nat-discovery".to_vec())),
        (vec![b"stun.nat-discovery".as_slice(), b"stun.turn"], Some(b"stun.turn".to_vec())),
        (vec![], None),
    ] {
        let hello = Hello { alpn: offered, ..Hello::default() };
        let stream = Stream::to(server.v4()).under_tls(&hello).expect("the handshake succeeds");
        assert_eq!(agreed, stream.alpn());
        Client::over(stream).allocate();
    }
    let hello = Hello { alpn: vec![b"h2", b"imap"], ..Hello::default() };
    let refused = Stream::to(server.v4()).under_tls(&hello);
    assert!(refused.is_err_and(|error| error.to_string().contains("NoApplicationProtocol")));
    server.wait_for(|counters| counters.drops.get(DropReason::TlsFailed) == 1);
}

#[test]
fn certificate_is_renewed_for_those_who_come_after() {
    let (first, second) = (certificate(), certificate());
    let (renew, terms) = watch::channel(first.terms());
    let server = serve(ServerConfig { tls: Some(terms), ..stream_config(&first) });
    let mut before = Client::over(TlsStream::tls_to(server.v4()));
    assert_eq!(first.der, before.socket.certificate());
    let relayed = before.allocate();

    renew.send(second.terms()).expect("the server listens to it");

    let after = TlsStream::tls_to(server.v4());
    assert_eq!(second.der, after.certificate());
    Client::over(after).allocate();
    Call::with(before, relayed).goes_on();
}

#[test]
fn last_answers_get_out_when_the_server_stops() {
    let server = serve(stream_config(&certificate()));
    let mut client = Client::over(TlsStream::tls_to(server.v4()));
    client.allocate();
    drop(server);
    // A TLS connection that is closed in order ends with a close_notify: reading does not fail.
    assert!(client.socket.under().read_to_end(&mut Vec::new()).is_ok());
}
