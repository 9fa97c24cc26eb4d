//! Listeners and certificates: what is refused, and which listeners share a socket.

use super::*;
use crate::config::{Origin, parse};

fn load(yaml: &str) -> Result<crate::config::Config, String> {
    let origin = Origin::File("turn.yaml".into());
    parse(yaml, &origin, []).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

fn assert_refused(cases: &[(&str, &str)]) {
    for &(yaml, expected) in cases {
        let error = load(yaml).expect_err(yaml);
        assert!(error.starts_with("turn.yaml: ") && error.contains(expected), "{yaml}: {error}");
        assert_eq!(1, error.lines().count(), "{error}");
    }
}

#[test]
fn listeners_and_certificates_are_read() {
    let yaml = r#"
listen:
  - "udp://192.0.2.1:3478"
  - {url: "tls://192.0.2.1:443", proxy_protocol: true, trusted: [10.0.0.0/8, "2001:db8::9"]}
  - {url: "dtls://[2001:db8::1]:3478"}
tls:
  certificates: [{certificate: /a/chain.pem, key: /a/key.pem}, "/b/c.pem=/b/k.pem"]
"#;
    let config = load(yaml).expect(yaml);

    let listed = config.listen.iter().map(|l| format!("{l} {:?}", l.proxy));
    let expected = [
        "udp://192.0.2.1:3478 None",
        "tls://192.0.2.1:443 Some([10.0.0.0/8, 2001:db8::9/128])",
        "dtls://[2001:db8::1]:3478 None",
    ];
    assert_eq!(expected.to_vec(), listed.collect::<Vec<_>>());
    let files = |certificate: &str, key: &str| CertificateFiles {
        certificate: certificate.into(),
        key: key.into(),
    };
    let expected = vec![files("/a/chain.pem", "/a/key.pem"), files("/b/c.pem", "/b/k.pem")];
    assert_eq!(expected, config.tls.certificates);
}

#[test]
fn the_proxy_protocol_needs_to_know_whom_to_believe() {
    assert_refused(&[
        (
            "listen: [{url: 'tcp://0.0.0.0:1', proxy_protocol: true}]",
            r#"listen: "tcp://0.0.0.0:1" has proxy_protocol: true and no trusted"#,
        ),
        (
            "listen: [{url: 'tcp://0.0.0.0:1', proxy_protocol: true, trusted: []}]",
            "has proxy_protocol: true and no trusted",
        ),
        (
            "listen: [{url: 'tcp://0.0.0.0:1', trusted: [10.0.0.1]}]",
            r#""tcp://0.0.0.0:1" has trusted without proxy_protocol: true"#,
        ),
        (
            "listen: [{url: 'tcp://0.0.0.0:1', proxy_protocol: false, trusted: [10.0.0.1]}]",
            "has trusted without proxy_protocol: true",
        ),
        (
            "listen: [{url: 'tcp://0.0.0.0:1', proxy_protocol: true, trusted: [10.0.0.1/8]}]",
            r#"listen.trusted: "10.0.0.1/8" has bits set behind its prefix"#,
        ),
        (
            "listen: [{url: 'tcp://0.0.0.0:1', proxy_protocol: v2}]",
            r#"listen.proxy_protocol: "v2" is neither true nor false"#,
        ),
        ("listen: [{url: 'tcp://0.0.0.0:1', proxy: true}]", "unknown field `proxy`"),
        ("listen: [{proxy_protocol: true}]", "listen: one of its items has no url"),
    ]);
}

#[test]
fn listeners_of_one_socket_agree_on_the_proxy() {
    let proxied = "{url: 'tcp://0.0.0.0:1', proxy_protocol: true, trusted: [10.0.0.1]}";
    let tls = "tls: {self_signed: true}";
    let yaml = format!("{tls}\nlisten: [{proxied}, 'tls://0.0.0.0:1']");
    assert_refused(&[(
        &yaml,
        r#""tls://0.0.0.0:1" shares a socket with tcp://0.0.0.0:1; give both the same"#,
    )]);
    let other_sockets =
        format!("{tls}\nlisten: [{proxied}, 'dtls://0.0.0.0:1', 'tls://0.0.0.0:2']");
    assert!(load(&other_sockets).is_ok());
}

#[test]
fn tls_needs_a_certificate() {
    let cure = "needs a certificate; name one in tls.certificates, or have one made with \
                tls.self_signed: true";
    for scheme in ["tls", "dtls"] {
        let listen = format!("listen: ['{scheme}://0.0.0.0:5349']");
        assert_refused(&[(&listen, cure)]);
        for tls in ["self_signed: true", "certificates: ['/c.pem=/k.pem']"] {
            assert!(load(&format!("{listen}\ntls: {{{tls}}}")).is_ok());
        }
    }
}

#[test]
fn faults_of_certificates_name_key_value_and_cure() {
    assert_refused(&[
        (
            "tls: {certificates: [{certificate: c.pem, key: /k.pem}]}",
            r#"tls.certificates: "c.pem" is not an absolute path"#,
        ),
        (
            "tls: {certificates: [{certificate: /c.pem}]}",
            "tls.certificates: one of its items lacks its certificate or its key",
        ),
        ("tls: {certificates: [/c.pem]}", "is not CERTIFICATE=KEY; in turn.yaml write"),
        ("tls: {certificates: ['/c=/k', '/c=/k']}", "tls.certificates: /c is listed twice"),
        ("tls: {certificates: /c.pem}", "tls.certificates: takes a list"),
        ("tls: {client_ca: /ca.pem}", "tls.client_ca: has no effect without tls.certificates"),
        ("tls: {self_signed: 1}", "tls.self_signed: \"1\" is neither true nor false"),
        (
            "{tls: {client_ca: /ca.pem, self_signed: true}, listen: ['dtls://0.0.0.0:1']}",
            "tls.client_ca: DTLS clients are not asked for certificates; take dtls://0.0.0.0:1 out",
        ),
    ]);
}

#[test]
fn faults_of_stream_limits_name_key_value_and_cure() {
    assert_refused(&[
        ("limits: {stream_buffer: 262144}", r#""262144" has no unit; write 262144B for bytes"#),
        ("limits: {stream_buffer: 256KB}", "is not a size; write it as in 256KiB or 1MiB"),
        ("limits: {stream_buffer: KiB}", "is not a size"),
        ("limits: {stream_buffer: 127KiB}", "is not from 128KiB to 64MiB"),
        ("limits: {stream_buffer: 99999999999999999999MiB}", "is not from 128KiB to 64MiB"),
        ("limits: {connection_setup: 6m}", "is not from 1s to 5m"),
        ("limits: {connections_per_listener: 0}", "is not from 1 to 16777216"),
        (
            "limits: {unproved_connections_per_source: x}",
            "limits.unproved_connections_per_source: \"x\" is not a whole number",
        ),
    ]);
}

#[test]
fn plain_and_secure_share_a_socket() {
    let yaml = "tls: {self_signed: true}\n\
                listen: ['udp://0.0.0.0:1', 'tls://0.0.0.0:1', 'dtls://0.0.0.0:1', \
                'tcp://0.0.0.0:1', 'tcp://0.0.0.0:2']";
    let config = load(yaml).expect(yaml);

    let sockets: Vec<String> = by_socket(&config.listen).iter().map(Listen::to_string).collect();

    assert_eq!(vec!["dtls://0.0.0.0:1", "tls://0.0.0.0:1", "tcp://0.0.0.0:2"], sockets);
}
