//! What TLS and DTLS clients are shown: certificates, keys, and how they are picked.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};

/// The server's side of TLS and DTLS. It is replaced as a whole when certificates change; sessions
/// that have begun keep what they began with.
pub struct TlsTerms {
    /// For TLS over TCP: certificates by SNI, ALPN, client certificates.
    pub stream: Arc<ServerConfig>,
    /// For DTLS: the first certificate.
    pub datagrams: Identity,
    /// Whether clients of TLS over TCP have to show a certificate of their own. Nothing that asks
    /// for none is spoken then where it is not listened on by its name: plain TCP at a `tls://`
    /// listener, DTLS at one of `udp://`.
    pub asks_clients: bool,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate and those that it was signed with, leaf first.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

/// What TLS clients over TCP are shown: TLS 1.2 and 1.3, certificates by `certificates`, client
/// certificates as `clients` asks for them, and the names of [`ALPN`].
///
/// # Errors
/// When the cryptography at hand cannot do what the two versions of TLS ask for.
pub fn stream_config(
    certificates: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
    let config = match clients {
        Some(clients) => config.with_client_cert_verifier(clients),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(certificates);
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // A TURN client connects once and stays: what would let it come back sooner is work at each
    // handshake, and memory after it, for nobody.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The protocols that a client may name, in the order of preference: those of RFC 7443, and HTTP,
/// whose requests get one answer that says what this is, whatever they ask for. A client that names
/// others only is refused with `no_application_protocol` (RFC 7301 §3.2), as one that looks for
/// another server; who names none, as browsers do for TURN, is served.
pub const ALPN: [&[u8]; 3] = [b"stun.turn", b"stun.nat-discovery", b"http/1.1"];

// Keys must not reach a log by way of `{:?}`.
impl fmt::Debug for TlsTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTerms(..)")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}
