//! What of TCP relaying is refused, and with which code.

use std::net::TcpStream;

use sterna_proto::drops::DropReason;
use sterna_proto::stun::{ConnectionId, Method, RequestedTransport, XorPeerAddress};

use crate::kit::{
    Client, Raw, Stream, TcpCall, TcpPeer, UDP, User, V4, bind_connection, closed, config, connect,
    own_host, raws, serve, tcp_config,
};

#[test]
fn allocate_over_tcp_is_judged_as_the_rfc_says() {
    use sterna_proto::stun::AttributeType as A;
    const TCP: Raw = (A::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    let server = serve(tcp_config());
    for (attributes, code) in [
        (&[TCP, (A::DONT_FRAGMENT, &[][..])][..], 400),
        (&[TCP, (A::EVEN_PORT, &[0])], 400),
        (&[TCP, (A::EVEN_PORT, &[0x80])], 400),
        (&[TCP, (A::RESERVATION_TOKEN, &[1; 8])], 400),
        (&[(A::REQUESTED_TRANSPORT, &[132, 0, 0, 0])], 442),
        (&[TCP, (A::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])], 0),
        (&[UDP], 0),
    ] {
        let mut client = Client::over(Stream::to(server.v4()));
        let answer = client.ask(Method::ALLOCATE, raws(attributes));
        assert_eq!(code, answer.code(), "{attributes:?}");
    }
}

#[test]
fn tcp_is_not_relayed_for_datagram_clients_and_not_where_it_is_off() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let fill = |writer: &mut sterna_proto::stun::MessageWriter<'_>| {
        writer.attribute(&RequestedTransport::TCP);
    };
    assert_eq!(400, client.ask(Method::ALLOCATE, fill).code());
    assert_eq!(400, bind_connection(&mut client, ConnectionId(1)));
    assert_eq!(Err(437), connect(&mut client, closed(V4)));

    let mut off = tcp_config();
    off.relay.tcp = false;
    let server = serve(off);
    let mut client = Client::over(Stream::to(server.v4()));
    assert_eq!(442, client.ask(Method::ALLOCATE, fill).code());
}

#[test]
fn connect_needs_a_tcp_allocation_and_a_peer_that_answers_and_is_allowed() {
    let server = serve(tcp_config());
    let mut client = Client::over(Stream::to(server.v4()));
    assert_eq!(Err(437), connect(&mut client, closed(V4)));
    client.allocate();
    assert_eq!(Err(403), connect(&mut client, closed(V4)));

    let mut call = TcpCall::through(server.v4());
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# If the connection attempt fails or times
    //# out, the server MUST return a 447 (Connection Timeout or Failure)
    //# error.
    assert_eq!(Err(447), connect(&mut call.control, closed(V4)));
    assert_eq!(Err(403), connect(&mut call.control, server.v4()));
    let private = "10.0.0.1:80".parse().expect("an address");
    assert_eq!(Err(403), connect(&mut call.control, private));
    let other_family = closed(crate::kit::V6);
    assert_eq!(Err(443), connect(&mut call.control, other_family));
    assert_eq!(Err(400), connect(&mut call.control, crate::kit::at(V4, 0)));
    assert_eq!(400, call.control.ask(Method::CONNECT, |_| {}).code());
}

#[test]
fn a_peer_has_one_connection_at_a_time() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    let peer = TcpPeer::new(V4);
    let id = call.connects(peer.address());
    let (mut at_peer, _) = peer.accepts();

    assert_eq!(Err(446), connect(&mut call.control, peer.address()));
    let mut data = call.binds(id);
    assert_eq!(Err(446), connect(&mut call.control, peer.address()));

    data.goes_on(&mut at_peer);
}

#[test]
fn an_allocation_has_as_many_connections_as_the_configuration_says() {
    let mut config = tcp_config();
    config.limits.connections_per_allocation = 2;
    let server = serve(config);
    let mut call = TcpCall::through(server.v4());
    let peers = [(); 3].map(|()| TcpPeer::new(V4));
    for peer in &peers[..2] {
        call.connects(peer.address());
    }
    assert_eq!(Err(508), connect(&mut call.control, peers[2].address()));
}

#[test]
fn a_connection_is_bound_once_by_its_owner() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    let peer = TcpPeer::new(V4);
    let id = call.connects(peer.address());
    let (mut at_peer, _) = peer.accepts();

    //= https://www.rfc-editor.org/rfc/rfc6062#section-4.3
    //= type=test
    //# Authentication of the client by the server MUST use the same method
    //# and credentials as for the control connection.
    let mut bob = Client::over(Stream::to(server.v4())).is(User::bob());
    assert_eq!(441, bind_connection(&mut bob, id));
    let mut alice = Client::over(Stream::to(server.v4()));
    let unknown = ConnectionId(id.0.wrapping_add(1));
    assert_eq!(400, bind_connection(&mut alice, unknown));
    assert_eq!(400, alice.ask(Method::CONNECTION_BIND, |_| {}).code());
    assert_eq!(400, bind_connection(&mut call.control, id));

    // None of that has harmed the connection, and a refused client may try again.
    assert_eq!(0, bind_connection(&mut alice, id));
    let mut data = crate::kit::DataConnection::from(alice.socket);
    data.goes_on(&mut at_peer);
    let mut late = Client::over(Stream::to(server.v4()));
    assert_eq!(400, bind_connection(&mut late, id));
}

#[test]
fn a_peer_without_permission_is_closed_at_once_and_counted() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());

    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
    //= type=test
    //# If no permission for this peer has been installed for this
    //# allocation, the server MUST close the connection with the peer
    //# immediately after it has been accepted.
    let mut stranger = TcpPeer::calls(call.relayed);
    assert!(crate::kit::is_closed(&mut stranger));
    let dropped = server.dropped_for(call.control.address(), DropReason::NoPermission);
    assert_eq!(1, dropped);

    // A permission for one host lets no other in.
    assert_eq!(0, call.control.permit(&[call.relayed]));
    let host = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let host = host.expect("a socket can be made");
    host.bind(&std::net::SocketAddr::new(own_host(), 0).into()).expect("a port is free");
    host.connect(&call.relayed.into()).expect("the relay listens");
    assert!(crate::kit::is_closed(&mut TcpStream::from(host)));
    call.control.hears_nothing();
}

#[test]
fn a_tcp_allocation_has_no_channels_and_no_datagrams() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    assert_eq!(403, call.control.bind(0x4000, closed(V4)));

    assert_eq!(0, call.control.permit(&[closed(V4)]));
    call.control.indicate(closed(V4), b"nowhere");
    call.control.hears_nothing();

    let dropped = server.dropped_for(call.control.address(), DropReason::TcpAllocation);
    assert_eq!(1, dropped);
}

#[test]
fn an_unsigned_connect_is_challenged() {
    let server = serve(tcp_config());
    let client = Client::over(Stream::to(server.v4()));
    for method in [Method::CONNECT, Method::CONNECTION_BIND] {
        let request = crate::kit::request(method, |writer| {
            writer.attribute(&XorPeerAddress(closed(V4)));
        });
        assert_eq!(401, client.exchange(&request).code());
    }
}
