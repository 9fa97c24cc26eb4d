//! TLS over TCP: whom to trust, and the stream inside it.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::clock::Deadline;
use crate::error::ClientError;
use crate::framed::ByteStream;

/// Who may have signed the server's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// The authorities that this system trusts.
    System,
    /// The authorities whose certificates are in this file, in PEM.
    File(PathBuf),
    /// Anybody: whoever answers is believed to be the server.
    Anyone,
}

/// What is asked of the server in the TLS handshake.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsOptions {
    /// A certificate for `host`, a name or an address, with TLS 1.3 or 1.2.
    pub fn new(host: &str, trust: &Trust) -> Result<TlsOptions, ClientError> {
        TlsOptions::with_provider(host, trust, rustls::crypto::aws_lc_rs::default_provider())
    }

    /// The same with cipher suites and key exchanges of the caller's choice.
    pub fn with_provider(
        host: &str,
        trust: &Trust,
        provider: CryptoProvider,
    ) -> Result<TlsOptions, ClientError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ClientError::TlsOptions(format!("{host}: {error}")))?;
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let mut config = match trust {
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::File(path) => builder.with_root_certificates(roots_in(path)?),
            Trust::Anyone => {
                let verifier = Arc::new(AnyCertificate(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A probe is to see the whole handshake, and a measurement to measure it.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(TlsOptions { config: Arc::new(config), name })
    }
}

fn system_roots() -> Result<RootCertStore, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        let problem = format!("this system has no authority that it trusts{why}");
        return Err(ClientError::TlsOptions(problem));
    }
    Ok(roots)
}

fn roots_in(path: &PathBuf) -> Result<RootCertStore, ClientError> {
    let wrong = |problem: String| ClientError::TlsOptions(format!("{}: {problem}", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate".to_owned()));
    }
    Ok(roots)
}

/// The inside of a TLS connection.
#[derive(Debug)]
pub struct TlsStream(StreamOwned<ClientConnection, Buffered>);

impl TlsStream {
    /// Shakes hands over a blocking connection, within `timeout` in all.
    pub fn connect(
        tcp: TcpStream,
        options: &TlsOptions,
        timeout: Duration,
    ) -> Result<TlsStream, ClientError> {
        let mut connection =
            ClientConnection::new(Arc::clone(&options.config), options.name.clone())?;
        let mut outside = Buffered(BufReader::with_capacity(READ_AT_ONCE, tcp));
        shake_hands(&mut connection, &mut outside, timeout)?;
        outside.tcp().set_write_timeout(Some(timeout))?;
        Ok(TlsStream(StreamOwned::new(connection, outside)))
    }

    /// What was agreed upon.
    pub fn session(&self) -> &ClientConnection {
        &self.0.conn
    }

    /// Tells the server that nothing more comes.
    pub fn close(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl ByteStream for TlsStream {
    fn tcp(&self) -> &TcpStream {
        self.0.sock.tcp()
    }
}

fn shake_hands(
    connection: &mut ClientConnection,
    outside: &mut Buffered,
    timeout: Duration,
) -> Result<(), ClientError> {
    let deadline = Deadline::after(timeout);
    while connection.is_handshaking() || connection.wants_write() {
        let remaining = deadline.remaining();
        let remaining = remaining.ok_or(ClientError::TlsStalled { waited: timeout })?;
        outside.tcp().set_read_timeout(Some(remaining))?;
        outside.tcp().set_write_timeout(Some(remaining))?;
        let moved = match connection.wants_write() {
            true => connection.write_tls(outside),
            false => connection.read_tls(outside),
        };
        match moved {
            Ok(0) => {
                let closed = "the server closed the connection in the TLS handshake";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, closed).into());
            }
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(error.into()),
            },
        }
        if let Err(error) = connection.process_new_packets() {
            // The alert says to the server what this error says to the caller.
            let _ = connection.write_tls(outside);
            return Err(error.into());
        }
    }
    Ok(())
}

/// A TCP stream that is read in larger pieces than the TLS library asks for.
#[derive(Debug)]
struct Buffered(BufReader<TcpStream>);

impl Buffered {
    fn tcp(&self) -> &TcpStream {
        self.0.get_ref()
    }
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

/// Takes every certificate for the server's. Signatures are checked all the same: the server has
/// the key of whatever certificate it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// TURN's name in the TLS handshake (RFC 7443).
const ALPN: &[u8] = b"stun.turn";

/// Several records with one system call.
const READ_AT_ONCE: usize = 64 << 10;
