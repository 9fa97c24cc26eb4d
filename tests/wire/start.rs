//! Beginning and end: a server that cannot start says why and leaves nothing, one that stops leaves
//! nothing either.

use std::net::{TcpListener, UdpSocket};

use sterna_actors::{Server, ServerConfig};
use sterna_proto::stun::Method;

use crate::kit::{
    Call, Client, Lines, Stream, UDP, V6, at, config, ip, leave_ports, own_host, raws, request,
    serve, tcp, udp,
};

/// Why a server with this configuration does not start.
fn refusal(config: ServerConfig) -> String {
    let start = Server::start(config, Lines::default().logger());
    let started = actix_rt::System::new().block_on(start);
    started.err().expect("the server does not start").to_string()
}

#[test]
fn an_address_in_use_is_named() {
    let (free, taken) = (at(own_host(), 0), UdpSocket::bind(at(own_host(), 0)));
    let taken = taken.expect("a port is free");
    let address = taken.local_addr().expect("it is bound");
    for workers in [1, 2] {
        let mut config = config();
        config.workers = workers;
        config.listen = vec![udp(free), udp(address)];
        let said = refusal(config);
        assert!(said.starts_with(&format!("cannot listen on udp://{address}: ")), "{said}");
    }
}

#[test]
fn a_tcp_address_in_use_is_named() {
    let taken = TcpListener::bind(at(own_host(), 0)).expect("a port is free");
    let address = taken.local_addr().expect("it is bound");
    for workers in [1, 2] {
        let mut config = config();
        config.workers = workers;
        config.listen = vec![tcp(address)];
        let said = refusal(config);
        assert!(said.starts_with(&format!("cannot listen on tcp://{address}: ")), "{said}");
    }
}

#[test]
fn a_server_with_several_workers_does_not_share_its_port_with_another() {
    for listener in [udp, tcp] {
        let mut first = config();
        first.listen = vec![listener(at(own_host(), 0))];
        first.workers = 2;
        let server = serve(first);
        let mut second = config();
        second.listen = vec![listener(server.v4())];
        second.workers = 2;
        assert!(refusal(second).starts_with("cannot listen on "));
        if listener(server.v4()) == udp(server.v4()) {
            Client::new(server.v4()).allocate();
        } else {
            // Enough of them to come to both workers.
            let clients = (0..16).map(|_| Client::over(Stream::to(server.v4())));
            let kept: Vec<_> = clients.map(|mut client| (client.allocate(), client)).collect();
            server.wait_for(|counters| counters.allocations == kept.len());
        }
    }
}

#[test]
fn a_port_of_a_server_that_has_stopped_can_be_listened_on_at_once() {
    let mut first = config();
    first.listen = vec![tcp(at(own_host(), 0))];
    let server = serve(first);
    let address = server.v4();
    let mut client = Client::over(Stream::to(address));
    client.allocate();
    // The server ends the connection first, so that it is its side that waits for stray segments.
    drop(server);
    let mut second = config();
    second.listen = vec![tcp(address)];
    Client::over(Stream::to(serve(second).v4())).allocate();
}

#[test]
fn a_relay_address_of_another_machine_is_named() {
    let mut config = config();
    config.relay.addresses.push(ip("198.51.100.1"));
    let said = refusal(config);
    assert!(said.starts_with("cannot relay from 198.51.100.1: "), "{said}");
}

#[test]
fn a_device_that_does_not_exist_is_found_at_once() {
    let mut config = config();
    config.relay.device = Some("no-such-device".to_owned());
    let said = refusal(config);
    assert!(said.starts_with("cannot relay from "), "{said}");
}

#[cfg(not(feature = "dtls"))]
#[test]
fn dtls_is_refused_by_a_server_that_was_built_without_it() {
    use sterna_actors::config::Listen;
    use sterna_proto::address::TransportProtocol;

    let mut config = config();
    config.listen = vec![Listen::direct(TransportProtocol::Dtls, at(own_host(), 0))];
    assert!(refusal(config).ends_with(": this program was built without DTLS"));
}

#[test]
fn a_server_that_failed_to_start_has_let_go_of_what_it_had() {
    let probe = UdpSocket::bind(at(own_host(), 0)).expect("a port is free");
    let address = probe.local_addr().expect("it is bound");
    drop(probe);
    let mut failing = config();
    failing.listen = vec![udp(address)];
    failing.relay.addresses.push(ip("198.51.100.1"));
    refusal(failing);
    let mut good = config();
    good.listen = vec![udp(address)];
    Client::new(serve(good).v4()).allocate();
}

#[test]
fn a_server_that_stops_ends_its_allocations_and_frees_its_ports() {
    let mut config = config();
    config.listen = vec![udp(at(own_host(), 0)), udp(at(V6, 0))];
    leave_ports(&mut config, 4);
    let server = serve(config);
    let call = Call::through(server.v4());
    call.goes_on();
    let (listening, log) = (server.v4(), server.log.clone());

    drop(server);

    for address in [listening, call.relayed] {
        drop(UdpSocket::bind(address).expect("the server has let go of it"));
    }
    assert!(log.have("allocation ended: server shutdown"), "{:#?}", log.all());
    assert!(log.have(": usage: realm=<north.example>, username=<alice>, rp=1,"));
    assert!(!log.have("did not end in time"));
}

#[test]
fn a_server_that_stops_answers_what_it_has_taken_up() {
    let server = serve(config());
    let mut clients: Vec<Client> = (0..8).map(|_| Client::new(server.v4())).collect();
    clients.iter_mut().for_each(Client::knock);
    let requests: Vec<Vec<u8>> =
        clients.iter_mut().map(|client| client.signed(Method::ALLOCATE, raws(&[UDP]))).collect();
    let behind = request(Method::BINDING, |_| {});
    for (client, request) in clients.iter().zip(&requests) {
        client.send(request);
        client.send(&behind);
    }
    // What stood behind the request is answered: the request has been taken up before.
    let id_of = |answer: &[u8]| answer[8..20].to_vec();
    let mut answered = Vec::new();
    for client in &clients {
        let first = client.receive();
        answered.push(id_of(&first) != id_of(&behind));
        if answered.ends_with(&[true]) {
            assert_eq!(id_of(&behind), id_of(&client.receive()));
        }
    }

    drop(server);

    for ((client, request), answered) in clients.iter().zip(&requests).zip(answered) {
        if !answered {
            // Allocated, or not any more.
            assert!(matches!(client.answer_to(request).code(), 0 | 500));
        }
    }
}
