//! Vectors of time-limited credentials.

use super::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn the_password_is_the_hmac_of_expiry_and_name() {
    // printf 1700086400:alice | openssl dgst -sha1 -hmac north -binary | base64
    let cases = [
        ("north", "alice", "1700086400:alice", "SXua5ne/+mDhiHTp0pQJzRO4ESg="),
        (
            "a longer secret, of 32 bytes....",
            "Zoë:phone",
            "1700086400:Zoë:phone",
            "L/aMJN260SxfvYGFWu6TWZhKy/w=",
        ),
    ];
    for (key, name, username, password) in cases {
        let now = Duration::from_millis(1_700_000_000_999);
        let minted = mint(&secret(key), Algorithm::Sha1, name, now, Duration::from_secs(86_400));

        assert_eq!(username, minted.username);
        assert_eq!(password, minted.password.expose());
    }
}

#[test]
fn json_is_what_a_peer_connection_takes() {
    let minted = Credential { username: "1:a".to_owned(), password: secret("p\"w") };
    let urls = vec!["turn:192.0.2.1:3478?transport=udp".to_owned()];

    let json = RtcConfiguration::new(urls, &minted).to_json();

    let read: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let expected = serde_json::json!({ "iceServers": [{
        "urls": ["turn:192.0.2.1:3478?transport=udp"],
        "username": "1:a",
        "credential": "p\"w",
    }]});
    assert_eq!(expected, read);
}

fn listeners(urls: &[&str]) -> Vec<Listen> {
    let listener = |url: &&str| {
        let (scheme, address) = url.split_once("://").expect(url);
        let protocol = match scheme {
            "udp" => TransportProtocol::Udp,
            "tcp" => TransportProtocol::Tcp,
            "tls" => TransportProtocol::Tls,
            _ => TransportProtocol::Dtls,
        };
        Listen::direct(protocol, address.parse().expect(url))
    };
    urls.iter().map(listener).collect()
}

fn certificate(names: &[Name]) -> Facts {
    Facts { path: "/c.pem".into(), names: names.to_vec(), not_before: 0, not_after: 1 }
}

#[test]
fn urls_are_those_of_browsers_and_udp_comes_first() {
    let listen = listeners(&[
        "tls://192.0.2.1:443",
        "tcp://192.0.2.1:3478",
        "dtls://192.0.2.1:5349",
        "udp://192.0.2.1:3478",
        "udp://[2001:db8::1]:3478",
    ]);

    let expected = vec![
        "turn:192.0.2.1:3478?transport=udp",
        "turn:[2001:db8::1]:3478?transport=udp",
        "turn:192.0.2.1:3478?transport=tcp",
        "turns:192.0.2.1:443?transport=tcp",
    ];
    assert_eq!(expected, urls(&listen, None));
}

#[test]
fn a_tls_url_names_what_the_certificate_is_for() {
    let listen = listeners(&["tls://192.0.2.1:443", "tls://[2001:db8::1]:443"]);
    let dns = |name: &str| Name::Dns(name.to_owned());
    let by_name = certificate(&[dns("*.example.org"), dns("turn.example.org"), dns("b.example")]);
    let ip = Name::Ip("192.0.2.1".parse().expect("an address"));
    let by_both = certificate(&[dns("turn.example.org"), ip]);
    let by_wildcard = certificate(&[dns("*.example.org")]);
    let name = "turns:turn.example.org:443?transport=tcp";
    let v4 = "turns:192.0.2.1:443?transport=tcp";
    let v6 = "turns:[2001:db8::1]:443?transport=tcp";

    assert_eq!(vec![name], urls(&listen, Some(&by_name)));
    assert_eq!(vec![v4, name], urls(&listen, Some(&by_both)));
    assert_eq!(vec![v4, v6], urls(&listen, Some(&by_wildcard)));
}

#[test]
fn a_listener_behind_a_proxy_is_not_handed_out() {
    let mut listen = listeners(&["tcp://192.0.2.1:3478"]);
    listen[0].proxy = Some(vec!["10.0.0.0/8".parse().expect("a network")]);

    assert_eq!(Vec::<String>::new(), urls(&listen, None));
}
