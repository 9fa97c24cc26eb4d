//! `sterna credential`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::certificates::Pair;
use crate::program::{Finished, Home};

fn ice_server(finished: &Finished) -> Value {
    assert_eq!(Some(0), finished.code, "{finished:?}");
    let json: Value = serde_json::from_str(&finished.out).expect("one JSON document");
    json["iceServers"][0].clone()
}

#[test]
fn a_credential_is_minted_with_the_first_secret() {
    let home = Home::new();
    let yaml = "listen: ['udp://127.0.0.1:3478', 'udp://[::1]:3479']\n\
                auth: {rest_secrets: [first-secret-of-two, second-secret-of-two]}";
    home.write("turn.yaml", yaml);

    let server =
        ice_server(&home.run(&["credential", "--user", "Alice", "--ttl", "1h", "-c", "turn.yaml"]));

    let urls = ["turn:127.0.0.1:3478?transport=udp", "turn:[::1]:3479?transport=udp"];
    assert_eq!(Value::from(urls.to_vec()), server["urls"]);
    let username = server["username"].as_str().expect("a text");
    let (expiry, name) = username.split_once(':').expect("expiry and name");
    assert_eq!("Alice", name);
    assert!(expiry.parse::<u64>().is_ok_and(|expiry| expiry > 1_700_000_000), "{username}");
    let expected =
        sterna_actors::authenticator::time_limited_password(b"first-secret-of-two", username);
    assert_eq!(expected.as_deref(), server["credential"].as_str());
}

#[test]
fn urls_are_those_of_all_listeners_that_browsers_can_use() {
    let home = Home::new();
    let pair = Pair::new(&["turn.example.org"]);
    let files = pair.write(&home, "a");
    let yaml = format!(
        "listen: ['tls://127.0.0.1:443', 'dtls://127.0.0.1:3478', 'tcp://127.0.0.1:3478', \
         'udp://127.0.0.1:3478', \
         {{url: 'tcp://127.0.0.1:80', proxy_protocol: true, trusted: [10.0.0.1]}}]\n\
         tls: {{certificates: ['{files}']}}\nauth: {{rest_secrets: [first-secret-of-two]}}"
    );
    home.write("turn.yaml", &yaml);

    let server = ice_server(&home.run(&["credential", "--user", "Alice", "-c", "turn.yaml"]));

    let urls = [
        "turn:127.0.0.1:3478?transport=udp",
        "turn:127.0.0.1:3478?transport=tcp",
        "turns:turn.example.org:443?transport=tcp",
    ];
    assert_eq!(Value::from(urls.to_vec()), server["urls"]);
}

#[test]
fn a_secret_comes_from_a_file_and_urls_from_the_command_line() {
    let home = Home::new();
    home.write("turn.yaml", "listen: ['udp://127.0.0.1:0']");
    let secret = home.write("secret", "a-secret-in-a-file\n");
    fs::set_permissions(secret, Permissions::from_mode(0o600)).expect("it is ours");
    let url = "turn:relay.example.org:3478";

    let finished =
        home.run(&["credential", "--user", "bob", "--secret-file", "secret", "--url", url]);

    let server = ice_server(&finished);
    assert_eq!("", finished.err);
    assert_eq!(Value::from(vec![url]), server["urls"]);
    let username = server["username"].as_str().expect("a text");
    let expected =
        sterna_actors::authenticator::time_limited_password(b"a-secret-in-a-file", username);
    assert_eq!(expected.as_deref(), server["credential"].as_str());
}

#[test]
fn a_public_secret_file_is_warned_about() {
    let home = Home::new();
    home.write("turn.yaml", "listen: ['udp://127.0.0.1:3478']");
    let secret = home.write("secret", "a-secret-in-a-file\n");
    fs::set_permissions(secret, Permissions::from_mode(0o644)).expect("it is ours");

    let finished = home.run(&["credential", "--user", "bob", "--secret-file", "secret"]);

    assert_eq!(Some(0), finished.code);
    assert!(finished.err.contains("warning: secret: every user"), "{finished:?}");
}

#[test]
fn what_cannot_be_minted_is_said_in_one_line() {
    let cases: [(&str, &[&str], &str); 4] = [
        (
            "auth: {users: {a: b}}",
            &["--user", "bob"],
            "turn.yaml: auth.rest_secrets: is empty, and no store has a secret of example.org;",
        ),
        (
            "listen: ['udp://127.0.0.1:0']",
            &["--user", "bob"],
            "auth.rest_secrets: is empty, and no first run kept a secret in ",
        ),
        (
            "{listen: ['udp://127.0.0.1:0'], auth: {rest_secrets: [a-secret-to-mint-with]}}",
            &["--user", "bob"],
            "listen: udp://127.0.0.1:0 has a port of any number; name it with --url",
        ),
        ("auth: {rest_secrets: [a-secret-to-mint-with]}", &["--user", "a\u{7}"], "--user: "),
    ];
    for (yaml, arguments, expected) in cases {
        let home = Home::new();
        home.write("turn.yaml", yaml);

        let finished = home.run(&[&["credential", "-c", "turn.yaml"], arguments].concat());

        assert_eq!(Some(2), finished.code, "{finished:?}");
        assert!(finished.error_line().contains(expected), "{finished:?}");
        assert_eq!("", finished.out);
    }
}
