//! A DTLS client by OpenSSL, on a path that loses what the test tells it to.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{ErrorCode, Ssl, SslContext, SslMethod, SslStream};
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509NameBuilder};
use rustls::server::ResolvesServerCertUsingSni;
use sterna_actors::ServerConfig;
use sterna_actors::tls::{Identity, TlsTerms};
use sterna_proto::address::TransportProtocol;
use tokio::sync::watch;

use super::{Carrier, Client, PATIENCE, V6, at, own_host};

/// The certificate of a server, to be renewed while it runs.
pub(crate) struct Certificates(watch::Sender<Arc<TlsTerms>>);

impl Certificates {
    /// Gives the server of `config` this certificate, and DTLS on all of its addresses.
    pub(crate) fn of(config: &mut ServerConfig, identity: Identity) -> Certificates {
        let (sender, receiver) = watch::channel(terms(identity));
        config.tls = Some(receiver);
        for listen in &mut config.listen {
            listen.protocol = TransportProtocol::Dtls;
        }
        Certificates(sender)
    }

    pub(crate) fn renew(&self, identity: Identity) {
        self.0.send(terms(identity)).expect("the server runs");
    }
}

fn terms(datagrams: Identity) -> Arc<TlsTerms> {
    let builder = rustls::ServerConfig::builder().with_no_client_auth();
    let stream = builder.with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    Arc::new(TlsTerms { stream: Arc::new(stream), datagrams, asks_clients: false })
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

impl Issued {
    /// One with an ECDSA key, issued by `by` or by itself.
    pub(crate) fn ecdsa(name: &str, by: Option<&Issued>) -> Issued {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
        let key = EcKey::generate(&group).expect("a key");
        Issued::with(name, PKey::from_ec_key(key).expect("a key"), by)
    }

    /// One with an RSA key, issued by itself.
    pub(crate) fn rsa(name: &str) -> Issued {
        let key = Rsa::generate(2048).expect("a key");
        Issued::with(name, PKey::from_rsa(key).expect("a key"), None)
    }

    fn with(name: &str, key: PKey<Private>, by: Option<&Issued>) -> Issued {
        let mut subject = X509NameBuilder::new().expect("a name");
        subject.append_entry_by_text("CN", name).expect("a name");
        let subject = subject.build();
        let mut builder = X509::builder().expect("a certificate");
        builder.set_version(2).expect("version 3");
        let serial = BigNum::from_u32(7).and_then(|number| number.to_asn1_integer());
        builder.set_serial_number(&serial.expect("a number")).expect("a number");
        builder.set_subject_name(&subject).expect("a name");
        let issuer = by.map_or(&*subject, |by| by.certificate.subject_name());
        builder.set_issuer_name(issuer).expect("a name");
        builder.set_pubkey(&key).expect("a key");
        let (from, until) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(9));
        builder.set_not_before(&from.expect("a date")).expect("a date");
        builder.set_not_after(&until.expect("a date")).expect("a date");
        let authority = BasicConstraints::new().ca().build().expect("an extension");
        builder.append_extension(authority).expect("an extension");
        builder.sign(by.map_or(&key, |by| &by.key), MessageDigest::sha256()).expect("a signature");
        Issued { certificate: builder.build(), key }
    }

    /// As a server is given it, with those that issued it.
    pub(crate) fn identity(&self, issuers: &[&Issued]) -> Identity {
        let mut chain = self.certificate.to_pem().expect("PEM");
        for issuer in issuers {
            chain.extend(issuer.certificate.to_pem().expect("PEM"));
        }
        Identity { chain, key: self.key.private_key_to_pem_pkcs8().expect("PEM") }
    }
}

/// A UDP socket as a DTLS session sees it.
pub(crate) struct Datagrams {
    pub(crate) socket: UdpSocket,
    /// Stands before each datagram that is sent.
    pub(crate) header: Vec<u8>,
    /// How many datagrams are lost each way from here on.
    pub(crate) lose_sent: Cell<usize>,
    pub(crate) lose_received: Cell<usize>,
    /// What is sent while this is something is kept here instead.
    pub(crate) held: RefCell<Option<Vec<Vec<u8>>>>,
    /// How many datagrams may come before the others have to wait.
    pub(crate) let_in: Cell<usize>,
}

impl Datagrams {
    /// From a host of its own where the family has several.
    pub(crate) fn to(server: SocketAddr) -> Datagrams {
        Datagrams::from_ip(if server.is_ipv4() { own_host() } else { V6 }, server)
    }

    pub(crate) fn from_ip(ip: IpAddr, server: SocketAddr) -> Datagrams {
        let socket = UdpSocket::bind(at(ip, 0)).expect("a port is free");
        socket.connect(server).expect("the server is within reach");
        Datagrams::over(socket)
    }

    pub(crate) fn over(socket: UdpSocket) -> Datagrams {
        // Short, so that OpenSSL is asked for what it has to send again.
        socket.set_read_timeout(Some(TURN)).expect("a time-out can be set");
        Datagrams {
            socket,
            header: Vec::new(),
            lose_sent: Cell::new(0),
            lose_received: Cell::new(0),
            held: RefCell::new(None),
            let_in: Cell::new(usize::MAX),
        }
    }

    /// A second handle of the socket, for what no session sends.
    pub(crate) fn raw(&self) -> UdpSocket {
        self.socket.try_clone().expect("a socket can be shared")
    }
}

fn counts_down(count: &Cell<usize>) -> bool {
    let left = count.get();
    count.set(left.saturating_sub(1));
    left > 0
}

impl Read for Datagrams {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while counts_down(&self.let_in) {
            let length = self.socket.recv(room)?;
            if !counts_down(&self.lose_received) {
                return Ok(length);
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut *self.held.borrow_mut() {
            held.push(datagram.to_vec());
        } else if !counts_down(&self.lose_sent) {
            self.socket.send(&[&self.header, datagram].concat())?;
        }
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See the head of this file.
pub(crate) struct Dtls {
    address: SocketAddr,
    pub(crate) stream: RefCell<SslStream<Datagrams>>,
}

impl Dtls {
    /// A session to be, which has sent nothing.
    pub(crate) fn over(datagrams: Datagrams) -> Dtls {
        Dtls::with_ciphers("DEFAULT", datagrams)
    }

    /// One that offers these ciphers alone.
    pub(crate) fn with_ciphers(ciphers: &str, datagrams: Datagrams) -> Dtls {
        let address = datagrams.socket.local_addr().expect("the socket is bound");
        let mut context = SslContext::builder(SslMethod::dtls_client()).expect("a context");
        context.set_cipher_list(ciphers).expect("known ciphers");
        let mut ssl = Ssl::new(&context.build()).expect("a session");
        ssl.set_connect_state();
        let stream = SslStream::new(ssl, datagrams).expect("a session");
        Dtls { address, stream: RefCell::new(stream) }
    }

    /// A session with the server.
    pub(crate) fn to(server: SocketAddr) -> Dtls {
        let dtls = Dtls::over(Datagrams::to(server));
        dtls.shake_hands();
        dtls
    }

    /// A handshake for which the server has begun a session, and whose flight waits.
    pub(crate) fn half_way(server: SocketAddr) -> Dtls {
        let dtls = Dtls::over(Datagrams::to(server));
        dtls.path(|path| path.let_in.set(1));
        assert!(!dtls.step());
        dtls.path(|path| path.let_in.set(usize::MAX));
        dtls
    }

    /// Does something about the path that the datagrams take.
    pub(crate) fn path(&self, what: impl FnOnce(&Datagrams)) {
        what(self.stream.borrow().get_ref());
    }

    /// Goes on with the handshake as far as one wait for the server brings it; true at its end.
    pub(crate) fn step(&self) -> bool {
        match self.stream.borrow_mut().do_handshake() {
            Ok(()) => true,
            Err(error) if error.code() == ErrorCode::WANT_READ => false,
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    pub(crate) fn shake_hands(&self) {
        let turns = PATIENCE.as_millis() / TURN.as_millis();
        assert!((0..turns).any(|_| self.step()), "the handshake ends");
    }

    /// The next message; `None` when the server has ended the session.
    pub(crate) fn next(&self) -> Option<Vec<u8>> {
        let mut room = vec![0; 65_536];
        for _ in 0..PATIENCE.as_millis() / TURN.as_millis() {
            match self.stream.borrow_mut().ssl_read(&mut room) {
                Ok(length) => return Some(room[..length].to_vec()),
                Err(error) if error.code() == ErrorCode::WANT_READ => {}
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => return None,
                Err(error) => panic!("the session fails: {error}"),
            }
        }
        panic!("nothing arrives");
    }

    /// Tells the server that the session is over.
    pub(crate) fn close(&self) {
        self.stream.borrow_mut().shutdown().expect("loopback takes it");
    }

    /// Certificates that the server has shown.
    pub(crate) fn shown(&self) -> Vec<X509> {
        let stream = self.stream.borrow();
        let chain = stream.ssl().peer_cert_chain().expect("the server has shown some");
        chain.iter().map(|certificate| certificate.to_owned()).collect()
    }

    pub(crate) fn raw(&self) -> UdpSocket {
        self.stream.borrow().get_ref().raw()
    }
}

impl Client<Dtls> {
    /// Alice over DTLS, from a host of her own where the family has several.
    pub(crate) fn secure(server: SocketAddr) -> Client<Dtls> {
        Client::over(Dtls::to(server))
    }
}

impl Carrier for Dtls {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self, message: &[u8]) {
        let sent = self.stream.borrow_mut().ssl_write(message).expect("loopback takes it");
        assert_eq!(message.len(), sent);
    }

    fn receive(&self) -> Vec<u8> {
        self.next().expect("the session goes on")
    }
}

/// How long one wait for the server takes. OpenSSL sends again after a second.
const TURN: Duration = Duration::from_millis(100);
