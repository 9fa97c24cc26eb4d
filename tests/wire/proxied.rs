//! PROXY protocol version 2 in front of datagrams: whose they are, and who may say so.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use sterna_proto::drops::DropReason;
use sterna_proto::stun::Method;

use crate::kit::{
    Call, Carrier, Client, Heard, PATIENCE, Serving, V6, at, config, own_host, request, serve,
};

/// A server whose clients all come through a proxy on this host.
fn proxied(trusted: IpAddr) -> Serving {
    let mut config = config();
    for listen in &mut config.listen {
        listen.proxy = Some(vec![trusted.into(), V6.into()]);
    }
    serve(config)
}

fn header(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match (client.ip(), server.ip()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => {
            bytes.extend([0x12, 0, 12 + 3]);
            bytes.extend([client.octets(), server.octets()].concat());
        }
        (IpAddr::V6(client), IpAddr::V6(server)) => {
            bytes.extend([0x22, 0, 36 + 3]);
            bytes.extend([client.octets(), server.octets()].concat());
        }
        _ => panic!("one family"),
    }
    bytes.extend([client.port().to_be_bytes(), server.port().to_be_bytes()].concat());
    // Something more that a proxy may tell, and that means nothing.
    bytes.extend([4, 0, 0]);
    bytes
}

/// A proxy with one client.
struct Proxy {
    socket: UdpSocket,
    client: SocketAddr,
    header: Vec<u8>,
}

impl Proxy {
    fn of(client: &str, ip: IpAddr, server: SocketAddr) -> Proxy {
        let client = client.parse().expect("an address");
        let socket = UdpSocket::bind(at(ip, 0)).expect("a port is free");
        socket.connect(server).expect("the server is within reach");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Proxy { socket, client, header: header(client, server) }
    }
}

impl Carrier for Proxy {
    fn address(&self) -> SocketAddr {
        self.client
    }

    fn send(&self, message: &[u8]) {
        Carrier::send(&self.socket, &[&self.header, message].concat());
    }

    fn receive(&self) -> Vec<u8> {
        self.socket.receive()
    }
}

#[test]
fn client_is_who_the_header_names() {
    let proxy = own_host();
    let server = proxied(proxy);
    let v4 = Proxy::of("192.0.2.1:5000", proxy, server.v4());
    let v6 = Proxy::of("[2001:db8::1]:5000", V6, server.v6());
    for proxy in [v4, v6] {
        let address = proxy.address();
        let mut client = Client::over(proxy);
        assert_eq!(address, client.exchange(&request(Method::BINDING, |_| {})).mapped());
        let relayed = client.allocate();
        let mut call = Call::with(client, relayed);
        call.goes_on();
        let other = call.another_peer(relayed.ip());
        call.client.indicate(other.address(), b"hello");
        assert_eq!((b"hello".to_vec(), relayed), other.hear());
        other.tell(relayed, b"hello");
        assert_eq!(Heard::Data(other.address(), b"hello".to_vec()), call.client.hear());
        assert!(server.actors_of(address).is_some());
    }
    assert!(server.counters().drops.is_empty());
}

#[test]
fn clients_behind_one_port_of_a_proxy_are_kept_apart() {
    let proxy = own_host();
    let server = proxied(proxy);
    let first = Proxy::of("192.0.2.1:5000", proxy, server.v4());
    let second = Proxy {
        socket: first.socket.try_clone().expect("a socket can be shared"),
        ..Proxy::of("192.0.2.2:5000", proxy, server.v4())
    };
    let (mut first, mut second) = (Client::over(first), Client::over(second));
    assert_ne!(first.allocate(), second.allocate());
    assert_eq!(2, server.counters().allocations);
}

#[test]
fn client_that_comes_through_another_port_is_answered_there() {
    let proxy = own_host();
    let server = proxied(proxy);
    let mut client = Client::over(Proxy::of("192.0.2.1:5000", proxy, server.v4()));
    let relayed = client.allocate();
    let mut call = Call::with(client, relayed);
    call.client.socket = Proxy::of("192.0.2.1:5000", proxy, server.v4());
    call.goes_on();
    call.client.get(Method::REFRESH, |_| {});
    assert_eq!(1, server.counters().sessions);
}

/// The log has a line for operators, which names nobody.
fn told(server: &Serving, why: &str) {
    let log = server.log.all();
    let start = "INFO datagram refused";
    let mut lines = log.iter().filter(|line| line.starts_with(start));
    assert!(lines.any(|line| line.contains(&format!("reason={why}"))), "{log:#?}");
}

#[test]
fn health_check_of_the_proxy_is_answered_as_its_own() {
    let proxy = own_host();
    let server = proxied(proxy);
    let mut check = Proxy::of("192.0.2.1:5000", proxy, server.v4());
    check.header = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    let own = check.socket.local_addr().expect("it is bound");
    let answer = Client::over(check).exchange(&request(Method::BINDING, |_| {}));
    assert_eq!(own, answer.mapped());
}

#[test]
fn header_of_a_source_that_is_no_proxy_of_ours_is_not_believed() {
    let proxy = own_host();
    let server = proxied(proxy);
    let liar = Proxy::of("192.0.2.1:5000", own_host(), server.v4());
    liar.send(&request(Method::BINDING, |_| {}));
    server.wait_for(|counters| counters.drops.get(DropReason::ProxyUntrusted) == 1);
    told(&server, "proxy_untrusted");
    liar.socket.set_nonblocking(true).expect("it can be");
    assert!(liar.socket.recv(&mut [0; 9]).is_err(), "it gets no answer");
}

#[test]
fn datagram_without_a_good_header_is_dropped() {
    let proxy = own_host();
    let server = proxied(proxy);
    let good = Proxy::of("192.0.2.1:5000", proxy, server.v4());
    let binding = request(Method::BINDING, |_| {});
    good.socket.send(&binding).expect("loopback takes it");
    for length in 0..good.header.len() {
        good.socket.send(&good.header[..length]).expect("loopback takes it");
    }
    let mut of_tcp = good.header.clone();
    of_tcp[13] = 0x11;
    good.socket.send(&[of_tcp, binding].concat()).expect("loopback takes it");
    let bad = 2 + good.header.len() as u64;
    server.wait_for(|counters| counters.drops.get(DropReason::ProxyHeader) == bad);
    told(&server, "proxy_header: there is none");
    Client::over(good).allocate();
}

#[cfg(feature = "dtls")]
#[test]
fn dtls_goes_through_a_proxy_as_well() {
    use crate::kit::{Certificates, Datagrams, Dtls, Issued};

    let proxy = own_host();
    let mut config = config();
    let issued = Issued::ecdsa("turn.example", None);
    let _certificates = Certificates::of(&mut config, issued.identity(&[]));
    for listen in &mut config.listen {
        listen.proxy = Some(vec![proxy.into()]);
    }
    let server = serve(config);
    let address = "192.0.2.1:5000".parse().expect("an address");
    let mut datagrams = Datagrams::from_ip(proxy, server.v4());
    datagrams.header = header(address, server.v4());
    let dtls = Dtls::over(datagrams);
    dtls.shake_hands();
    let mut client = Client::over(dtls);
    assert_eq!(address, client.exchange(&request(Method::BINDING, |_| {})).mapped());
    let relayed = client.allocate();
    Call::with(client, relayed).goes_on();
    assert!(server.actors_of(address).is_some());
}
