//! What clients are shown, and who is let in, by handshakes in memory.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, ServerConnection,
    SignatureScheme,
};
use x509_parser::parse_x509_certificate;

use super::*;

/// What a client says of itself.
struct Client {
    config: ClientConfig,
    name: &'static str,
}

/// What became of a handshake.
#[derive(Debug)]
struct Met {
    names: String,
    alpn: Option<String>,
}

impl Client {
    /// One that trusts these certificates and goes for `name`.
    fn new(trusted: &[&str], name: &'static str) -> Client {
        Client::by(aws_lc_rs::default_provider(), trusted, name)
    }

    fn by(provider: CryptoProvider, trusted: &[&str], name: &'static str) -> Client {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().expect("they are known");
        let builder = builder.with_root_certificates(roots(trusted));
        Client { config: builder.with_no_client_auth(), name }
    }

    fn offering(mut self, protocols: &[&str]) -> Client {
        self.config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }

    /// Shakes hands with a server of these terms; the client's side of a failure.
    fn meet(self, terms: &TlsTerms) -> Result<Met, Error> {
        let name = ServerName::try_from(self.name).expect("a name");
        let mut client = ClientConnection::new(Arc::new(self.config), name)?;
        let mut server = ServerConnection::new(terms.stream.clone())?;
        while client.is_handshaking() || server.is_handshaking() {
            carry(|wire| client.write_tls(wire), |wire| server.read_tls(wire));
            // An alert is under way to the client, who says what it was.
            let refused = server.process_new_packets().err();
            carry(|wire| server.write_tls(wire), |wire| client.read_tls(wire));
            client.process_new_packets()?;
            if let Some(refused) = refused {
                return Err(refused);
            }
        }
        let chain = client.peer_certificates().expect("it was shown");
        let (_, leaf) = parse_x509_certificate(&chain[0]).expect("it parses");
        let names = leaf.subject_alternative_name().expect("it parses").expect("it has names");
        let alpn = client.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Ok(Met { names: names.value.general_names[0].to_string(), alpn })
    }
}

fn roots(trusted: &[&str]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for pem in trusted {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("it is PEM");
        roots.add(der).expect("it parses");
    }
    roots
}

fn carry(
    write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<usize>,
    mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>,
) {
    let mut wire = Vec::new();
    write(&mut wire).expect("memory takes all");
    let mut wire = wire.as_slice();
    while !wire.is_empty() {
        read(&mut wire).expect("memory gives all");
    }
}

fn terms(pairs: &[&(String, String)]) -> TlsTerms {
    let folder = Folder::new();
    let files = pairs.iter().enumerate().map(|(at, pair)| folder.pair(&at.to_string(), pair));
    let of_streams = Sources { serves_dtls: false, ..sources(&files.collect::<Vec<_>>()) };
    load(&of_streams).expect("they are good").terms
}

/// With a key in the form of RFC 5958, which OpenSSL does not read.
pub(super) fn ed25519(name: &str) -> (String, String) {
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("there is randomness");
    (params.self_signed(&key).expect("it signs").pem(), key.serialize_pem())
}

#[test]
fn the_certificate_is_the_one_for_the_name_else_the_first() {
    let first = made(&["first.example", "192.0.2.1", "other.org", "b.a.wild.example"]);
    let second = made(&["second.example"]);
    let wild = made(&["*.wild.example"]);
    let terms = terms(&[&first, &second, &wild]);
    let cases = [
        ("first.example", Ok("DNSName(first.example)")),
        ("second.example", Ok("DNSName(second.example)")),
        ("SECOND.example", Ok("DNSName(second.example)")),
        ("a.wild.example", Ok("DNSName(*.wild.example)")),
        // The asterisk is one label, and not none.
        ("b.a.wild.example", Ok("DNSName(first.example)")),
        // Addresses are never named in the handshake.
        ("192.0.2.1", Ok("DNSName(first.example)")),
        ("other.org", Ok("DNSName(first.example)")),
        ("wild.example", Err(())),
        ("unknown.example", Err(())),
    ];
    for (name, expected) in cases {
        let met = Client::new(&[&first.0, &second.0, &wild.0], name).meet(&terms);
        let names = met.as_ref().map(|met| met.names.as_str()).map_err(|_| ());
        assert_eq!(expected, names, "{name}: {met:?}");
    }
}

#[test]
fn of_two_certificates_for_a_name_the_client_gets_one_that_it_can_check() {
    let ed25519 = ed25519("a.example");
    let ecdsa = made(&["a.example", "ecdsa.example"]);
    let terms = terms(&[&ed25519, &ecdsa]);
    let mut provider = aws_lc_rs::default_provider();
    let known = &mut provider.signature_verification_algorithms;
    let is_ecdsa = |scheme| scheme == SignatureScheme::ECDSA_NISTP256_SHA256;
    let left = known.mapping.iter().copied().filter(|(scheme, _)| is_ecdsa(*scheme));
    known.mapping = left.collect::<Vec<_>>().leak();

    let met = Client::by(provider, &[&ecdsa.0], "a.example").meet(&terms);

    assert!(met.is_ok(), "{met:?}");
}

#[test]
fn both_versions_of_tls_are_served() {
    let pair = made(&["a.example"]);
    let terms = terms(&[&pair]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots(&[&pair.0]))
            .with_no_client_auth();
        let client = Client { config, name: "a.example" };

        assert!(client.meet(&terms).is_ok(), "{version:?}");
    }
}

#[test]
fn protocols_are_those_of_turn_and_http_for_browsers() {
    let pair = made(&["a.example"]);
    let terms = terms(&[&pair]);
    let cases: [(&[&str], Option<&str>); 5] = [
        (&[], None),
        (&["stun.turn"], Some("stun.turn")),
        (&["stun.nat-discovery", "stun.turn"], Some("stun.turn")),
        (&["stun.nat-discovery"], Some("stun.nat-discovery")),
        // A web browser, which is told what this is not.
        (&["h2", "http/1.1"], Some("http/1.1")),
    ];
    for (offered, expected) in cases {
        let client = Client::new(&[&pair.0], "a.example").offering(offered);
        let met = client.meet(&terms).expect("they agree");
        assert_eq!(expected, met.alpn.as_deref(), "{offered:?}");
    }
    let refused = Client::new(&[&pair.0], "a.example").offering(&["h2"]).meet(&terms);
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(Some(alert), refused.err());
}

#[test]
fn clients_show_a_certificate_of_the_authority_where_they_must() {
    let folder = Folder::new();
    let pair = made(&["a.example"]);
    let authority_key = KeyPair::generate().expect("there is randomness");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("it signs");
    let client_key = KeyPair::generate().expect("there is randomness");
    let client = CertificateParams::new(vec!["client".to_owned()]).expect("a name");
    let issuer = Issuer::new(params, authority_key);
    let client = client.signed_by(&client_key, &issuer).expect("it signs");
    let with_ca = Sources {
        client_ca: Some(folder.write("ca.pem", &authority.pem())),
        ..sources(&[folder.pair("a", &pair)])
    };
    let terms = load(&with_ca).expect("it is good").terms;
    let shows = |certificate: &str, key: &str| {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it is PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is PEM");
        let config = ClientConfig::builder()
            .with_root_certificates(roots(&[&pair.0]))
            .with_client_auth_cert(vec![der], key)
            .expect("they belong together");
        Client { config, name: "a.example" }.meet(&terms)
    };

    assert!(shows(&client.pem(), &client_key.serialize_pem()).is_ok());
    assert!(shows(&pair.0, &pair.1).is_err(), "of no authority");
    assert!(Client::new(&[&pair.0], "a.example").meet(&terms).is_err(), "none at all");
}
