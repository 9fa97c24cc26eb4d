//! Clients that have to show a certificate: no other way in is open beside the one that asks for
//! it, unless it is listened on by its name.

use std::net::TcpListener;
use std::sync::LazyLock;

use rustls::version::TLS12;
use sterna_actors::ServerConfig;
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;
use tokio::sync::watch;

use crate::kit::{
    Certificate, Client, Hello, Serving, Stream, TlsStream, V4, at, config, own_host, request,
    serve,
};
#[cfg(feature = "dtls")]
use crate::kit::{Datagrams, Dtls};
use crate::streams::certificate;

static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(certificate);

/// A server that listens so at one port, and asks its TLS clients for a certificate.
fn asking(protocols: &[TransportProtocol]) -> Serving {
    // The host is the test's own, so that nobody else takes the port.
    let free = TcpListener::bind(at(own_host(), 0)).expect("a port is free");
    let address = free.local_addr().expect("it is bound");
    let listen = protocols.iter().map(|protocol| Listen::direct(*protocol, address)).collect();
    drop(free);
    let tls = Some(watch::channel(CERTIFICATE.terms_asking()).1);
    serve(ServerConfig { listen, tls, ..config() })
}

fn under_tls(server: &Serving, shows: Option<&'static Certificate>) -> Client<TlsStream> {
    let hello = Hello { shows, versions: vec![&TLS12], ..Hello::default() };
    Client::over(Stream::to(server.v4()).under_tls(&hello).expect("the handshake succeeds"))
}

#[test]
fn plain_client_is_refused_where_tls_alone_is_listened_on() {
    let server = asking(&[TransportProtocol::Tls]);
    let plain = Stream::to(server.v4());

    plain.write(&request(Method::ALLOCATE, |_| {}));

    assert!(plain.is_closed());
    server.wait_for(|counters| counters.drops.get(DropReason::PlainRefused) == 1);
    assert!(server.log.have("INFO connection refused"));
    let nothing = Hello { versions: vec![&TLS12], ..Hello::default() };
    assert!(Stream::to(server.v4()).under_tls(&nothing).is_err());
    assert_eq!(0, server.counters().sessions);
    under_tls(&server, Some(&CERTIFICATE)).allocate();
}

#[test]
fn plain_client_is_served_where_plain_tcp_is_listened_on_as_well() {
    let server = asking(&[TransportProtocol::Tls, TransportProtocol::Tcp]);
    Client::over(Stream::to(server.v4())).allocate();
    under_tls(&server, Some(&CERTIFICATE)).allocate();
}

#[test]
fn plain_client_is_served_at_a_tls_port_where_nobody_has_to_show_a_certificate() {
    let tls = CERTIFICATE.served();
    let listen = vec![Listen::direct(TransportProtocol::Tls, at(V4, 0))];
    let server = serve(ServerConfig { listen, tls, ..config() });
    Client::over(Stream::to(server.v4())).allocate();
}

#[cfg(feature = "dtls")]
#[test]
fn dtls_is_not_spoken_at_an_udp_port() {
    let server = asking(&[TransportProtocol::Udp]);
    let dtls = Dtls::over(Datagrams::to(server.v4()));
    assert!(!dtls.step());
    server.wait_for(|counters| counters.drops.get(DropReason::NotStun) >= 1);
    assert_eq!(0, server.counters().connections);
    Client::new(server.v4()).allocate();
}
