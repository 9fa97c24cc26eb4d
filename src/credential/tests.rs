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
        let minted = mint(&secret(key), name, now, Duration::from_secs(86_400));

        assert_eq!(username, minted.username);
        assert_eq!(password, minted.password.expose());
    }
}

#[test]
fn json_is_what_a_peer_connection_takes() {
    let minted = Credential { username: "1:a".to_owned(), password: secret("p\"w") };
    let urls = vec![url("192.0.2.1:3478".parse().expect("an address"))];

    let json = RtcConfiguration::new(urls, &minted).to_json();

    let read: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let expected = serde_json::json!({ "iceServers": [{
        "urls": ["turn:192.0.2.1:3478?transport=udp"],
        "username": "1:a",
        "credential": "p\"w",
    }]});
    assert_eq!(expected, read);
}

#[test]
fn an_ipv6_address_has_its_brackets() {
    let address = "[2001:db8::1]:3478".parse().expect("an address");

    assert_eq!("turn:[2001:db8::1]:3478?transport=udp", url(address));
}
