//! Time-limited credentials, the "TURN REST API" way: the user name starts with the second at which
//! the credential ends, and the password is an HMAC over it with a secret that server and issuer
//! share.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use sterna_actors::authenticator::{time_limited_password, time_limited_password_sha256};
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;

use crate::certificates::{Facts, Name};
use crate::secret::Secret;

/// A user name and its password, good until the time that the name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `EXPIRY:NAME`.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// What signs a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// HMAC-SHA1, as every client library and other server has it
    #[default]
    Sha1,
    /// HMAC-SHA256
    Sha256,
}

/// Makes a credential for `name` that ends `ttl` after `now`, both since 1970.
pub fn mint(
    secret: &Secret,
    algorithm: Algorithm,
    name: &str,
    now: Duration,
    ttl: Duration,
) -> Credential {
    let expiry = now.saturating_add(ttl).as_secs();
    let username = format!("{expiry}:{name}");
    let sign = match algorithm {
        Algorithm::Sha1 => time_limited_password,
        Algorithm::Sha256 => time_limited_password_sha256,
    };
    let password =
        sign(secret.expose().as_bytes(), &username).expect("HMAC takes a key of any length");
    Credential { username, password: Secret::new(password) }
}

/// The configuration that a browser's `RTCPeerConnection` takes as it stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcConfiguration {
    ice_servers: [IceServer; 1],
}

#[derive(Serialize)]
struct IceServer {
    urls: Vec<String>,
    username: String,
    credential: String,
}

impl RtcConfiguration {
    /// The configuration for one credential.
    pub fn new(urls: Vec<String>, credential: &Credential) -> RtcConfiguration {
        let username = credential.username.clone();
        let credential = credential.password.expose().clone();
        RtcConfiguration { ice_servers: [IceServer { urls, username, credential }] }
    }

    /// It as one JSON document.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and lists of texts are JSON")
    }
}

/// The URLs of listeners at the addresses that clients use, as RFC 7065 writes them, each once: UDP
/// first, as what serves media best, then TCP, then TLS for those who get no further. DTLS is left
/// out, which no browser speaks to a relay, and so are listeners behind a proxy, whose address is
/// the proxy's.
///
/// Clients hold what they connect to against the certificate, so that the URL of a TLS listener
/// names what is in `certificate`.
pub fn urls(listeners: &[Listen], certificate: Option<&Facts>) -> Vec<String> {
    let mut urls = Vec::new();
    for wanted in [TransportProtocol::Udp, TransportProtocol::Tcp, TransportProtocol::Tls] {
        let direct = listeners.iter().filter(|l| l.protocol == wanted && l.proxy.is_none());
        for listener in direct {
            let address = listener.address;
            let url = match wanted {
                TransportProtocol::Tls => {
                    let host = tls_host(address, certificate);
                    format!("turns:{host}?transport=tcp")
                }
                TransportProtocol::Udp | TransportProtocol::Tcp | TransportProtocol::Dtls => {
                    format!("turn:{address}?transport={wanted}")
                }
            };
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    urls
}

/// The address where the certificate holds for it; else the certificate's name, if it has one.
fn tls_host(address: SocketAddr, certificate: Option<&Facts>) -> String {
    let named = certificate.filter(|facts| !facts.names.contains(&Name::Ip(address.ip())));
    match named.and_then(Facts::host) {
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests;
