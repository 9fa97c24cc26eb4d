//! The listeners, and what those with TLS or DTLS show to their clients.

use std::path::PathBuf;

use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;

use super::Fault;
use super::checked::{read, read_list, realm_name};
use super::raw::{RawCertificate, RawCertificateMap, RawListen, RawTls, Scalar};
use super::values::{self, Read};

/// What TLS and DTLS clients are shown, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates; the first is shown to whoever names no other.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities one of which must have signed a TLS client's certificate; `None` asks for
    /// none.
    pub client_ca: Option<PathBuf>,
    /// Without certificates, make one and keep it in the state folder.
    pub self_signed: bool,
}

/// A certificate and its key. One file may hold both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// PEM: the certificate and those that it was signed with, leaf first.
    pub certificate: PathBuf,
    /// PEM: the private key, without a passphrase.
    pub key: PathBuf,
}

impl Tls {
    /// Whether there is a certificate, or will be one as soon as the server starts.
    pub fn has_certificate(&self) -> bool {
        !self.certificates.is_empty() || self.self_signed
    }

    /// Whether the server makes its certificate itself.
    pub fn makes_certificate(&self) -> bool {
        self.certificates.is_empty() && self.self_signed
    }
}

pub(super) fn listen(given: &[RawListen]) -> Result<Vec<Listen>, Fault> {
    if given.is_empty() {
        return Err(Fault::new(KEY, "is empty; list at least one, as in udp://0.0.0.0:3478"));
    }
    let mut listeners: Vec<Listen> = Vec::new();
    for given in given {
        let url = url(given)?;
        let listener = listener(given, url)?;
        let fault = |why: &str| Fault::new(KEY, &format!("{:?} {why}", url.text()));
        for other in listeners.iter().filter(|other| other.address == listener.address) {
            if other.protocol == listener.protocol {
                return Err(fault("is listed twice"));
            }
            if !shares_socket(other, &listener) {
                continue;
            }
            if other.proxy != listener.proxy {
                return Err(fault(&format!(
                    "shares a socket with {other}; give both the same proxy_protocol and trusted"
                )));
            }
            if other.realm != listener.realm {
                let why = format!("shares a socket with {other}; give both the same realm");
                return Err(fault(&why));
            }
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Whether both arrive at the same socket: streams share one, and so do datagrams.
fn shares_socket(one: &Listen, other: &Listen) -> bool {
    one.address == other.address && one.protocol.is_stream() == other.protocol.is_stream()
}

/// One listener for each socket, in their order. A socket tells by what arrives which of its
/// protocols is spoken; the one that needs a certificate stands for both.
pub fn by_socket(listeners: &[Listen]) -> Vec<Listen> {
    let mut sockets: Vec<Listen> = Vec::new();
    for listener in listeners {
        match sockets.iter_mut().find(|socket| shares_socket(socket, listener)) {
            None => sockets.push(listener.clone()),
            Some(socket) if needs_certificate(listener.protocol) => *socket = listener.clone(),
            Some(_) => {}
        }
    }
    sockets
}

fn needs_certificate(protocol: TransportProtocol) -> bool {
    match protocol {
        TransportProtocol::Tls | TransportProtocol::Dtls => true,
        TransportProtocol::Udp | TransportProtocol::Tcp => false,
    }
}

fn url(given: &RawListen) -> Result<&Scalar, Fault> {
    match given {
        RawListen::Url(url) => Ok(url),
        RawListen::Map(map) => {
            map.url.as_ref().ok_or_else(|| Fault::new(KEY, "one of its items has no url"))
        }
    }
}

fn listener(given: &RawListen, url: &Scalar) -> Result<Listen, Fault> {
    let (protocol, address) = read(KEY, url, values::listener)?;
    let RawListen::Map(map) = given else {
        return Ok(Listen::direct(protocol, address));
    };
    let realm = match &map.realm {
        Some(given) => Some(read("listen.realm", given, realm_name)?.as_str().into()),
        None => None,
    };
    let has_header = match &map.proxy_protocol {
        Some(given) => read("listen.proxy_protocol", given, values::boolean)?,
        None => false,
    };
    let trusted = map.trusted.as_deref().unwrap_or_default();
    let trusted = read_list("listen.trusted", trusted, values::network)?;
    let fault = |why: &str| Err(Fault::new(KEY, &format!("{:?} {why}", url.text())));
    match (has_header, trusted.is_empty()) {
        (true, true) => fault(
            "has proxy_protocol: true and no trusted; list the networks of the proxies there: \
             whoever is believed can claim any address",
        ),
        (false, false) => fault("has trusted without proxy_protocol: true; nothing reads it"),
        (true, false) => Ok(Listen { protocol, address, proxy: Some(trusted), realm }),
        (false, true) => Ok(Listen { realm, ..Listen::direct(protocol, address) }),
    }
}

pub(super) fn tls(raw: &RawTls) -> Result<Tls, Fault> {
    let mut certificates = Vec::new();
    for given in &raw.certificates {
        let files = certificate(given)?;
        if certificates.contains(&files) {
            let path = files.certificate.display();
            return Err(Fault::new(CERTIFICATES, &format!("{path} is listed twice")));
        }
        certificates.push(files);
    }
    Ok(Tls {
        certificates,
        client_ca: read("tls.client_ca", &raw.client_ca, |text| match text {
            "" => Ok(None),
            path => values::path(path).map(Some),
        })?,
        self_signed: read("tls.self_signed", &raw.self_signed, values::boolean)?,
    })
}

fn certificate(given: &RawCertificate) -> Result<CertificateFiles, Fault> {
    let path = |given: &Scalar| read(CERTIFICATES, given, values::path);
    match given {
        RawCertificate::Map(RawCertificateMap {
            certificate: Some(certificate),
            key: Some(key),
        }) => Ok(CertificateFiles { certificate: path(certificate)?, key: path(key)? }),
        RawCertificate::Map(_) => Err(Fault::new(
            CERTIFICATES,
            "one of its items lacks its certificate or its key; one file may hold both",
        )),
        RawCertificate::Pair(pair) => {
            let (certificate, key) = read(CERTIFICATES, pair, split_pair)?;
            Ok(CertificateFiles { certificate: path(&certificate)?, key: path(&key)? })
        }
    }
}

fn split_pair(text: &str) -> Read<(Scalar, Scalar)> {
    match text.split_once('=') {
        Some((certificate, key)) => Ok((certificate.trim().into(), key.trim().into())),
        None => Err("is not CERTIFICATE=KEY; in turn.yaml write \
                     {certificate: PATH, key: PATH}"
            .to_owned()),
    }
}

/// Holds listeners and certificates against each other.
pub(super) fn check_together(listeners: &[Listen], tls: &Tls) -> Result<(), Fault> {
    if let Some(listener) = listeners.iter().find(|l| needs_certificate(l.protocol))
        && !tls.has_certificate()
    {
        let why = format!(
            "\"{listener}\" needs a certificate; name one in tls.certificates, or have one made \
             with tls.self_signed: true"
        );
        return Err(Fault::new(KEY, &why));
    }
    let dtls = listeners.iter().find(|l| l.protocol == TransportProtocol::Dtls);
    if let Some(listener) = dtls.filter(|_| !DTLS) {
        return Err(Fault::new(KEY, &format!("\"{listener}\" asks for DTLS; this build has none")));
    }
    if tls.client_ca.is_some() {
        check_client_ca(dtls, tls)?;
    }
    Ok(())
}

/// A listener's realm is one that the configuration has.
pub(super) fn check_realms(
    listeners: &[Listen],
    is_known: impl Fn(&str) -> bool,
) -> Result<(), Fault> {
    let unknown =
        |listener: &&Listen| listener.realm.as_deref().is_some_and(|realm| !is_known(realm));
    match listeners.iter().find(unknown) {
        None => Ok(()),
        Some(listener) => {
            let realm = listener.realm.as_deref().unwrap_or_default();
            let why = format!("{realm:?} is no realm of this configuration; name it in realms");
            Err(Fault::new("listen.realm", &why))
        }
    }
}

/// A server that was told to ask for client certificates must not let clients in without.
fn check_client_ca(dtls: Option<&Listen>, tls: &Tls) -> Result<(), Fault> {
    let fault = |why: &str| Err(Fault::new("tls.client_ca", why));
    if !tls.has_certificate() {
        return fault("has no effect without tls.certificates or tls.self_signed");
    }
    match dtls {
        Some(listener) => fault(&format!(
            "DTLS clients are not asked for certificates; take {listener} out, or client_ca"
        )),
        None => Ok(()),
    }
}

/// Whether this build speaks DTLS.
pub const DTLS: bool = cfg!(feature = "dtls");

const KEY: &str = "listen";

const CERTIFICATES: &str = "tls.certificates";

#[cfg(test)]
mod tests;
