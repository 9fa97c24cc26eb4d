//! TCP between client and peer: connections either has asked for, and what goes over them
//! (RFC 6062).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use sterna_actors::{ServerConfig, clock};
use sterna_proto::drops::DropReason;
use sterna_proto::quotas::QuotaLimits;
use sterna_proto::stun::{AttributeType, Method, RequestedTransport};

use crate::kit::{
    Client, DataConnection, Random, Stream, TcpCall, TcpPeer, TlsStream, V4, V6, bind_connection,
    connect, serve, tcp_config,
};
use crate::streams::{certificate, stream_config};

const MEGABYTES: usize = 3 << 20;

fn random_bytes(seed: u64) -> Vec<u8> {
    let mut random = Random::seeded(seed);
    (0..MEGABYTES / 8).flat_map(|_| random.number().to_be_bytes()).collect()
}

/// Sends much from either end at once, each to its end, and checks what arrives.
fn carries_megabytes<S: Read + Write>(mut client: S, peer: TcpStream, end: impl FnOnce(&mut S)) {
    let (there, back) = (random_bytes(1), random_bytes(2));
    let (expected, answer) = (there.clone(), back.clone());
    let far_end = std::thread::spawn(move || {
        let mut writer = peer.try_clone().expect("a socket can be shared");
        let writing = std::thread::spawn(move || {
            writer.write_all(&answer).expect("the relay takes it");
            writer.shutdown(Shutdown::Write).expect("the connection stands");
        });
        let mut heard = Vec::new();
        let mut reader = &peer;
        reader.read_to_end(&mut heard).expect("it ends in order");
        writing.join().expect("all is written");
        assert!(expected == heard, "{} bytes arrive at the peer", heard.len());
    });
    for chunk in there.chunks(64 << 10) {
        client.write_all(chunk).expect("the server takes it");
    }
    end(&mut client);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("it ends in order");
    assert!(back == heard, "{} bytes arrive at the client", heard.len());
    far_end.join().expect("the peer has heard all");
}

#[test]
fn connection_is_bound_with_the_nonce_of_the_control_connection() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    let peer = TcpPeer::new(V4);
    let id = call.connects(peer.address());
    let host = call.control.address().ip();
    let mut data = Client::over(Stream::from_ip(host, server.v4()));
    data.nonce.clone_from(&call.control.nonce);
    assert_eq!(0, bind_connection(&mut data, id));
    // Anything else is asked with a nonce of the connection's own.
    let mut other = Client::over(Stream::from_ip(host, server.v4()));
    other.nonce.clone_from(&call.control.nonce);
    assert_eq!(438, other.ask(Method::REFRESH, |_| {}).code());
}

#[test]
fn client_connects_to_a_peer_and_both_directions_carry_megabytes() {
    let server = serve(tcp_config());
    for address in [server.v4(), server.v6()] {
        let mut call = TcpCall::through(address);
        let peer = TcpPeer::new(if address.is_ipv4() { V4 } else { V6 });

        let id = call.connects(peer.address());
        let (at_peer, from) = peer.accepts();
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
        //= type=test
        //# Otherwise, the server MUST initiate an outgoing TCP connection.  The
        //# local endpoint is the relayed transport address associated with the
        //# allocation.
        assert_eq!(call.relayed, from);
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
        //= type=test
        //# Data received on it MUST be sent as-is to the associated
        //# peer data connection.
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
        //= type=test
        //# Data received on the associated peer data connection MUST be sent
        //# as-is on this client data connection.
        carries_megabytes(call.binds(id), at_peer, |client| client.says_no_more());
        call.control.hears_nothing();
    }
}

#[test]
fn connection_with_a_limit_is_slowed_down_and_loses_nothing() {
    let rate = 2 << 20;
    let limits = [
        QuotaLimits { bandwidth_per_allocation: Some(rate), ..QuotaLimits::default() },
        QuotaLimits { bandwidth_per_user: Some(rate), ..QuotaLimits::default() },
    ];
    for limits in limits {
        let mut config = tcp_config();
        config.policy.quotas = limits;
        let server = serve(config);
        let mut call = TcpCall::through(server.v4());
        let peer = TcpPeer::new(V4);
        let id = call.connects(peer.address());
        let (at_peer, _) = peer.accepts();
        let start = clock::now();

        carries_megabytes(call.binds(id), at_peer, |client| client.says_no_more());

        // Three megabytes, of which two are the burst; it may take as much longer as it likes.
        assert!(clock::now() - start >= Duration::from_millis(450), "{limits:?}");
        let dropped = DropReason::BandwidthExceeded;
        assert_eq!(0, server.dropped_for(call.control.address(), dropped));
    }
}

#[test]
fn peer_connects_to_the_client_and_its_early_data_is_not_lost() {
    let server = serve(tcp_config());
    for address in [server.v4(), server.v6()] {
        let mut call = TcpCall::through(address);
        let host = if address.is_ipv4() { V4 } else { V6 };
        assert_eq!(0, call.control.permit(&[crate::kit::at(host, 0)]));

        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=test
        //# If all checks pass, the server MUST start accepting incoming TCP
        //# connections on the relayed transport address.
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
        //= type=test
        //# The server MUST accept the connection.
        let mut at_peer = TcpPeer::calls(call.relayed);
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
        //= type=test
        //# The server MUST buffer any data received from the
        //# peer.
        at_peer.write_all(b"early words").expect("the kernel takes it");
        let id = call.hears_of(at_peer.local_addr().expect("it is bound"));
        let mut data = call.binds(id);

        let mut heard = [0; 11];
        data.read_exact(&mut heard).expect("it arrives");
        assert_eq!(*b"early words", heard);
        data.goes_on(&mut at_peer);
        carries_megabytes(data, at_peer, |client| client.says_no_more());
    }
}

#[test]
fn control_and_data_connection_may_be_tls() {
    let server = serve(stream_config(&certificate()));
    let mut control = Client::over(TlsStream::tls_to(server.v4()));
    let answer = control.get(Method::ALLOCATE, |writer| {
        writer.attribute(&RequestedTransport::TCP);
    });
    let relayed = answer.relayed()[0];
    let peer = TcpPeer::new(V4);
    let id = connect(&mut control, peer.address()).expect("the peer is there");
    let (at_peer, from) = peer.accepts();
    assert_eq!(relayed, from);

    let mut data = Client::over(TlsStream::tls_to(server.v4()));
    assert_eq!(0, bind_connection(&mut data, id));
    let (early, tls) = data.socket.into_raw();

    assert!(early.is_empty());
    carries_megabytes(tls, at_peer, |tls| {
        tls.conn.send_close_notify();
        tls.flush().expect("the server takes it");
    });
}

#[test]
fn each_side_may_end_its_own_direction_first() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    let peer = TcpPeer::new(V4);
    let id = call.connects(peer.address());
    let (mut at_peer, _) = peer.accepts();
    let mut data = call.binds(id);

    data.write_all(b"a question").expect("the server takes it");
    data.says_no_more();
    let mut heard = Vec::new();
    at_peer.read_to_end(&mut heard).expect("the end is passed on");
    assert_eq!(b"a question", &*heard);
    at_peer.write_all(b"its answer").expect("this direction stands");
    drop(at_peer);

    let mut heard = Vec::new();
    data.read_to_end(&mut heard).expect("the end is passed on");
    assert_eq!(b"its answer", &*heard);
    // The name of the peer is free again.
    let again = call.connects(peer.address());
    assert_ne!(id, again);
}

/// Writes until nobody takes any more, and tells how much that was.
fn fill(stream: &mut TcpStream) -> usize {
    stream.set_nonblocking(true).expect("it can be");
    let (piece, mut taken, mut idle) = (vec![7; 64 << 10], 0, 0);
    while idle < PATIENT_LOOKS {
        match stream.write(&piece) {
            Ok(length) => (taken, idle) = (taken + length, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => idle += 1,
            Err(error) => panic!("the connection stands: {error}"),
        }
        std::thread::yield_now();
    }
    stream.set_nonblocking(false).expect("it can be");
    taken
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    let peer = TcpPeer::new(V4);
    let id = call.connects(peer.address());
    let (mut at_peer, _) = peer.accepts();
    let mut data = call.binds(id);

    let there = fill(&mut data.stream);
    let back = fill(&mut at_peer);

    assert!(there < BOUND && back < BOUND, "{there} and {back} bytes are under way");
    let reading = std::thread::spawn(move || {
        at_peer.shutdown(Shutdown::Write).expect("the connection stands");
        let mut heard = Vec::new();
        at_peer.read_to_end(&mut heard).expect("it ends in order");
        heard.len()
    });
    data.says_no_more();
    let mut heard = Vec::new();
    data.read_to_end(&mut heard).expect("it ends in order");
    assert_eq!((there, back), (reading.join().expect("it is read"), heard.len()));
}

#[test]
fn a_client_has_several_data_connections_on_whichever_worker_they_come() {
    let server = serve(ServerConfig { workers: 2, ..tcp_config() });
    let mut call = TcpCall::through(server.v4());
    let peers: Vec<TcpPeer> = (0..6).map(|_| TcpPeer::new(V4)).collect();
    let mut ends: Vec<(DataConnection, TcpStream)> = Vec::new();
    for peer in &peers {
        let id = call.connects(peer.address());
        ends.push((call.binds(id), peer.accepts().0));
    }

    for _ in 0..3 {
        for (data, at_peer) in &mut ends {
            data.goes_on(at_peer);
        }
    }
    // One that ends does not disturb the others.
    let (_, at_peer) = ends.pop().expect("there are some");
    drop(at_peer);
    for (data, at_peer) in &mut ends {
        data.goes_on(at_peer);
    }
}

#[test]
fn clients_reach_each_other_relay_to_relay() {
    let server = serve(tcp_config());
    let (mut one, mut other) = (TcpCall::through(server.v4()), TcpCall::through(server.v4()));
    assert_eq!(0, other.control.permit(&[one.relayed]));

    let outgoing = one.connects(other.relayed);
    let incoming = other.hears_of(one.relayed);
    let (mut here, mut there) = (one.binds(outgoing), other.binds(incoming));

    here.goes_on(&mut there.stream);
    one.control.hears_nothing();
}

#[test]
fn ports_of_tcp_and_udp_have_nothing_to_do_with_each_other() {
    let mut config = tcp_config();
    let port = crate::kit::leave_ports(&mut config, 1);
    let server = serve(config);
    let tcp = TcpCall::through(server.v4());
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
    //= type=test
    //# A TCP relayed transport address MUST be allocated instead of a
    //# UDP one.
    assert_eq!(port, tcp.relayed.port());

    let mut udp = Client::over(Stream::to(server.v4()));
    assert_eq!(tcp.relayed, udp.allocate());

    let mut third = Client::over(Stream::to(server.v4()));
    let full = third.ask(Method::ALLOCATE, |writer| {
        writer.attribute(&RequestedTransport::TCP);
        writer.raw(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    });
    assert_eq!(508, full.code());
}

/// What all buffers on the way may hold: two of the kernel's on each side, and the server's own.
const BOUND: usize = 48 << 20;

/// Looks at a socket that takes nothing, before it is believed.
const PATIENT_LOOKS: usize = 20_000;
