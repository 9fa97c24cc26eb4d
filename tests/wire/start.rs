//! Beginning and end: a server that cannot start says why and leaves nothing, one that stops leaves
//! nothing either.

use std::net::UdpSocket;

use sterna_actors::{Server, ServerConfig};
use sterna_proto::stun::Method;

use crate::kit::{
    Call, Client, Lines, UDP, V6, at, config, ip, leave_ports, own_host, raws, request, serve,
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
        config.listen = vec![free, address];
        let said = refusal(config);
        assert!(said.starts_with(&format!("cannot listen on udp://{address}: ")), "{said}");
    }
}

#[test]
fn a_server_with_several_workers_does_not_share_its_port_with_another() {
    let mut first = config();
    first.listen = vec![at(own_host(), 0)];
    first.workers = 2;
    let server = serve(first);
    let mut second = config();
    second.listen = vec![server.v4()];
    second.workers = 2;
    assert!(refusal(second).starts_with("cannot listen on "));
    Client::new(server.v4()).allocate();
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

#[test]
fn a_server_that_failed_to_start_has_let_go_of_what_it_had() {
    let probe = UdpSocket::bind(at(own_host(), 0)).expect("a port is free");
    let address = probe.local_addr().expect("it is bound");
    drop(probe);
    let mut failing = config();
    failing.listen = vec![address];
    failing.relay.addresses.push(ip("198.51.100.1"));
    refusal(failing);
    let mut good = config();
    good.listen = vec![address];
    Client::new(serve(good).v4()).allocate();
}

#[test]
fn a_server_that_stops_ends_its_allocations_and_frees_its_ports() {
    let mut config = config();
    config.listen = vec![at(own_host(), 0), at(V6, 0)];
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
