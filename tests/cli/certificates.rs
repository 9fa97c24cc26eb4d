//! Certificates for the tests, and a client that looks at what it is shown.

#[cfg(feature = "dtls")]
use std::io::{self, Read, Write};
#[cfg(feature = "dtls")]
use std::net::UdpSocket;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "dtls")]
use openssl::ssl::{Ssl, SslContext, SslMethod};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use time::OffsetDateTime;

use crate::program::{Home, PATIENCE};

/// A certificate and its key as PEM, signed by itself.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// One that is good for years.
    pub(crate) fn new(names: &[&str]) -> Pair {
        Pair::ending_in(names, 1000)
    }

    /// One that ends so many days, and an hour, from this day on.
    pub(crate) fn ending_in(names: &[&str], days: i64) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let left = time::Duration::days(days) + time::Duration::hours(1);
        params.not_before = OffsetDateTime::now_utc() - time::Duration::days(100);
        params.not_after = OffsetDateTime::now_utc() + left;
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.self_signed(&key).expect("it signs").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// Writes `NAME.crt` and `NAME.key`; both paths as the configuration takes them.
    pub(crate) fn write(&self, home: &Home, name: &str) -> String {
        let certificate = home.write(&format!("{name}.crt"), &self.certificate);
        let key = home.write(&format!("{name}.key"), &self.key);
        format!("{}={}", certificate.display(), key.display())
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it is PEM")
    }

    /// Whether a client that trusts this certificate alone, and goes for `name`, is shown it at
    /// `server`.
    pub(crate) fn is_shown(&self, server: SocketAddr, name: &str) -> bool {
        shakes_hands(server, name, self.der())
    }
}

/// Whether a DTLS client is shown `pair` at `server`.
#[cfg(feature = "dtls")]
pub(crate) fn is_shown_by_dtls(pair: &Pair, server: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    socket.connect(server).expect("loopback can be reached");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    let context = SslContext::builder(SslMethod::dtls_client()).expect("it is supported").build();
    let ssl = Ssl::new(&context).expect("it is complete");
    let stream = ssl.connect(Datagrams(socket)).expect("any certificate will do");
    let shown = stream.ssl().peer_certificate().expect("it is shown").to_der().expect("it is DER");
    shown.as_slice() == pair.der().as_ref()
}

/// A connected socket, each of whose datagrams is read and written whole.
#[cfg(feature = "dtls")]
#[derive(Debug)]
struct Datagrams(UdpSocket);

#[cfg(feature = "dtls")]
impl Read for Datagrams {
    fn read(&mut self, datagram: &mut [u8]) -> io::Result<usize> {
        self.0.recv(datagram)
    }
}

#[cfg(feature = "dtls")]
impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.send(datagram)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the certificate in a file is shown to a TLS client that trusts it alone.
pub(crate) fn file_is_shown(path: &Path, server: SocketAddr, name: &str) -> bool {
    let der = CertificateDer::from_pem_file(path).expect("it is PEM");
    shakes_hands(server, name, der)
}

fn shakes_hands(server: SocketAddr, name: &str, trusted: CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("it parses");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("it is complete");
    let mut stream = TcpStream::connect(server).expect("the relay listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    while client.is_handshaking() {
        if client.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}
