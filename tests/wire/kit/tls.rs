//! Certificates that are made when they are needed, and clients that look at them.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
};
use sterna_actors::tls::{Identity, TlsTerms, stream_config};
use tokio::sync::watch;

use super::{Stream, V6, own_host};

/// A certificate for one name, and its key.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    key: KeyPair,
    chain: String,
}

impl Certificate {
    pub(crate) fn new(name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new([name.to_owned()]).expect("the name is one");
        let certificate = params.self_signed(&key).expect("it can be signed");
        Certificate { der: certificate.der().clone(), key, chain: certificate.pem() }
    }

    /// What a server with this certificate shows to every client, whatever name it asks for.
    pub(crate) fn terms(&self) -> Arc<TlsTerms> {
        self.terms_for(None)
    }

    /// The same, to clients who have to show this very certificate.
    pub(crate) fn terms_asking(&self) -> Arc<TlsTerms> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("it parses");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        self.terms_for(Some(clients.build().expect("there is a root")))
    }

    fn terms_for(&self, clients: Option<Arc<dyn ClientCertVerifier>>) -> Arc<TlsTerms> {
        let asks_clients = clients.is_some();
        let key = aws_lc_rs::sign::any_supported_type(&self.key()).expect("a key that can sign");
        let certified = Arc::new(CertifiedKey::new(vec![self.der.clone()], key));
        let config = stream_config(Arc::new(Always(certified)), clients);
        Arc::new(TlsTerms {
            stream: Arc::new(config.expect("both versions of TLS are there")),
            datagrams: Identity {
                chain: self.chain.clone().into_bytes(),
                key: self.key.serialize_pem().into_bytes(),
            },
            asks_clients,
        })
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }

    /// Terms that stay.
    pub(crate) fn served(&self) -> Option<watch::Receiver<Arc<TlsTerms>>> {
        Some(watch::channel(self.terms()).1)
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// How a client shakes hands.
pub(crate) struct Hello {
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) alpn: Vec<&'static [u8]>,
    /// Whom it asks for; `None` sends no SNI.
    pub(crate) name: Option<&'static str>,
    /// What it shows of itself, if it is asked for that.
    pub(crate) shows: Option<&'static Certificate>,
}

impl Default for Hello {
    fn default() -> Hello {
        let versions = vec![&rustls::version::TLS13, &rustls::version::TLS12];
        Hello { versions, alpn: Vec::new(), name: Some("turn.north.example"), shows: None }
    }
}

/// A connection under TLS.
pub(crate) type TlsStream = Stream<StreamOwned<ClientConnection, TcpStream>>;

impl TlsStream {
    /// A connection under TLS, from a host of its own where the family has several.
    pub(crate) fn tls_to(server: SocketAddr) -> TlsStream {
        let ip = if server.is_ipv4() { own_host() } else { V6 };
        Stream::from_ip(ip, server).under_tls(&Hello::default()).expect("the handshake succeeds")
    }

    /// The certificate that the server has shown.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let under = self.under();
        let shown = under.conn.peer_certificates().and_then(|chain| chain.first());
        shown.expect("the server has shown one").clone().into_owned()
    }

    /// What the next record holds. Nothing of it may have been read with an earlier one.
    pub(crate) fn record(&self) -> Vec<u8> {
        let mut under = self.under();
        let StreamOwned { conn, sock } = &mut *under;
        let mut record = vec![0; 5];
        sock.read_exact(&mut record).expect("a record begins");
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        sock.read_exact(&mut record[5..]).expect("it comes to its end");
        let mut unread = record.as_slice();
        while !unread.is_empty() {
            conn.read_tls(&mut unread).expect("there is room for a record");
        }
        conn.process_new_packets().expect("the record is the server's");
        let mut held = vec![0; length];
        let read = conn.reader().read(&mut held).expect("it holds data");
        held.truncate(read);
        held
    }

    pub(crate) fn alpn(&self) -> Option<Vec<u8>> {
        self.under().conn.alpn_protocol().map(<[u8]>::to_vec)
    }

    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.under().conn.protocol_version()
    }
}

impl Stream {
    /// Shakes hands over the connection as it stands.
    pub(crate) fn under_tls(self, hello: &Hello) -> Result<TlsStream, std::io::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Anybody(provider.signature_verification_algorithms));
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&hello.versions)
            .expect("the versions are there");
        let config = config.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match hello.shows {
            Some(shown) => config.with_client_auth_cert(vec![shown.der.clone()], shown.key()),
            None => Ok(config.with_no_client_auth()),
        }
        .expect("key and certificate belong together");
        config.alpn_protocols = hello.alpn.iter().map(|name| name.to_vec()).collect();
        config.enable_sni = hello.name.is_some();
        let name = ServerName::try_from(hello.name.unwrap_or("unnamed.example"));
        let connection = ClientConnection::new(Arc::new(config), name.expect("a name"));
        let mut connection = connection.expect("a client can be made");
        self.wrap(|mut stream| {
            while connection.is_handshaking() {
                connection.complete_io(&mut stream)?;
            }
            Ok(StreamOwned::new(connection, stream))
        })
    }
}

/// Takes any certificate, and leaves it to the test to look at it; the signature has to be the
/// key's.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
