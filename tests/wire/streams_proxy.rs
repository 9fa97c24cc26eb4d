//! Clients behind a proxy that says where they come from.

use std::net::{IpAddr, SocketAddr};

use sterna_actors::ServerConfig;
use sterna_actors::config::Listen;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;

use crate::kit::{Call, Client, Hello, Stream, own_host, request, serve};
use crate::streams::{certificate, stream_config};

/// A server that believes this proxy, a host of its own, and no other.
fn behind(proxy: IpAddr) -> ServerConfig {
    let mut config = stream_config(&certificate());
    let trusted = vec![proxy.into()];
    config.listen = config
        .listen
        .into_iter()
        .map(|listen| Listen { proxy: Some(trusted.clone()), ..listen })
        .collect();
    config
}

fn v1(client: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let server = if client.is_ipv4() { "192.0.2.9" } else { "2001:db8::9" };
    format!("PROXY {family} {} {server} {} 443\r\n", client.ip(), client.port()).into_bytes()
}

fn v2(client: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match client.ip() {
        IpAddr::V4(ip) => {
            header.extend([0x11, 0, 12]);
            header.extend(ip.octets());
            header.extend([192, 0, 2, 9]);
        }
        IpAddr::V6(ip) => {
            header.extend([0x21, 0, 36]);
            header.extend(ip.octets());
            header.extend([9; 16]);
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(443_u16.to_be_bytes());
    header
}

/// A connection of the proxy that begins with this header.
fn through(proxy: IpAddr, server: SocketAddr, header: &[u8]) -> Stream {
    let stream = Stream::from_ip(proxy, server);
    stream.write(header);
    stream
}

fn named() -> [SocketAddr; 2] {
    ["192.0.2.1:50000", "[2001:db8::1]:50000"].map(|text| text.parse().expect("an address"))
}

#[test]
fn client_is_the_one_that_the_proxy_names() {
    let proxy = own_host();
    let server = serve(behind(proxy));
    for client in named() {
        for header in [v1(client), v2(client)] {
            let plain = Client::over(through(proxy, server.v4(), &header));
            let answer = plain.exchange(&request(Method::BINDING, |_| {}));
            assert_eq!(client, answer.mapped());

            let tls = through(proxy, server.v4(), &header);
            let tls = tls.under_tls(&Hello::default()).expect("the handshake succeeds");
            let mut tls = Client::over(tls);
            let relayed = tls.allocate();
            assert_eq!(client, tls.exchange(&request(Method::BINDING, |_| {})).mapped());
            Call::with(tls, relayed).goes_on();
            server.wait_for(|counters| counters.sessions == 0);
        }
    }
}

#[test]
fn header_may_come_in_pieces_and_together_with_what_follows() {
    let proxy = own_host();
    let server = serve(behind(proxy));
    let client = named()[0];
    let binding = request(Method::BINDING, |_| {});
    for header in [v1(client), v2(client)] {
        let stream = Stream::from_ip(proxy, server.v4());
        for byte in &header {
            stream.write(&[*byte]);
        }
        stream.write(&binding);
        assert_eq!(client, Client::over(stream).answer_to(&binding).mapped());

        let stream = Stream::from_ip(proxy, server.v4());
        stream.write(&[header, binding.clone()].concat());
        assert_eq!(client, Client::over(stream).answer_to(&binding).mapped());
    }
}

#[test]
fn proxy_that_speaks_for_itself_is_its_own_client() {
    let proxy = own_host();
    let server = serve(behind(proxy));
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let client = Client::over(through(proxy, server.v4(), header));
        let answer = client.exchange(&request(Method::BINDING, |_| {}));
        assert_eq!(client.address(), answer.mapped());
    }
}

#[test]
fn nobody_else_is_believed_or_served() {
    let server = serve(behind(own_host()));
    for (times, server_address) in [(1, server.v4()), (2, server.v6())] {
        let stranger = Stream::to(server_address);
        // Closed before it has said anything, or while it does.
        let _ = stranger.try_write(&v1(named()[0]));
        stranger.rest();
        server.wait_for(|counters| counters.drops.get(DropReason::ProxyUntrusted) == times);
    }
}

#[test]
fn headers_that_are_missing_or_lie_close_the_connection() {
    let proxy = own_host();
    let server = serve(behind(proxy));
    let mut other = Client::over(through(proxy, server.v4(), &v2(named()[0])));
    let relayed = other.allocate();
    let lies = [
        request(Method::BINDING, |_| {}),
        b"PROXY TCP4 192.0.2.1 192.0.2.9 50000\r\n".to_vec(),
        b"PROXY TCP4 0.0.0.0 192.0.2.9 50000 443\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0C\xC0\0\x02\x01\xC0\0\x02\x09\xC3\x50\x01\xBB".to_vec(),
    ];
    for (lie, times) in lies.iter().zip(1..) {
        let stream = Stream::from_ip(proxy, server.v4());
        stream.write(lie);
        assert!(stream.is_closed());
        server.wait_for(|counters| counters.drops.get(DropReason::ProxyHeader) == times);
    }
    assert!(server.log.have("proxy_header: it is too long"));
    Call::with(other, relayed).goes_on();
}

#[test]
fn newer_connection_of_the_same_client_takes_its_place() {
    let proxy = own_host();
    let server = serve(behind(proxy));
    let header = v1(named()[0]);
    let mut older = Client::over(through(proxy, server.v4(), &header));
    let lost = older.allocate();
    let mut newer = Client::over(through(proxy, server.v4(), &header));

    let relayed = newer.allocate();

    assert!(older.socket.is_closed());
    server.wait_for(|counters| {
        counters.sessions == 1
            && counters.allocations == 1
            && counters.drops.get(DropReason::ConnectionReplaced) == 1
    });
    assert_ne!(lost, relayed);
    Call::with(newer, relayed).goes_on();
}

#[test]
fn clients_behind_a_proxy_are_counted_one_by_one() {
    let proxy = own_host();
    let mut config = behind(proxy);
    config.limits.unproved_connections_per_source = 1;
    let server = serve(config);
    let binding = request(Method::BINDING, |_| {});
    let [v4, v6] = named();
    let kept: Vec<_> = [v4, v6]
        .map(|client| Client::over(through(proxy, server.v4(), &v2(client))))
        .into_iter()
        .inspect(|client| _ = client.exchange(&binding))
        .collect();
    let again = through(proxy, server.v4(), &v2(SocketAddr::new(v4.ip(), 50_001)));
    assert!(again.is_closed());
    server.wait_for(|counters| counters.drops.get(DropReason::UnprovedFull) == 1);
    assert_eq!(2, kept.len());
}
