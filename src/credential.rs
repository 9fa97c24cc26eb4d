//! Time-limited credentials, the "TURN REST API" way: the user name starts with the second at which
//! the credential ends, and the password is an HMAC over it with a secret that server and issuer
//! share.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use sterna_actors::authenticator::time_limited_password;

use crate::secret::Secret;

/// A user name and its password, good until the time that the name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `EXPIRY:NAME`.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Makes a credential for `name` that ends `ttl` after `now`, both since 1970.
pub fn mint(secret: &Secret, name: &str, now: Duration, ttl: Duration) -> Credential {
    let expiry = now.saturating_add(ttl).as_secs();
    let username = format!("{expiry}:{name}");
    let password = time_limited_password(secret.expose().as_bytes(), &username)
        .expect("HMAC takes a key of any length");
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

/// The URL of a UDP listener as RFC 7065 writes it.
pub fn url(address: SocketAddr) -> String {
    format!("turn:{address}?transport=udp")
}

#[cfg(test)]
mod tests;
