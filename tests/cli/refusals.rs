//! What cannot be started: one line that names key and value, exit code 2, nothing half-started.

use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use crate::program::{Home, run};

#[test]
fn wrong_configurations_end_with_one_line_and_code_2() {
    let cases = [
        ("relay: {port: 1-2}", "wrong.yaml: relay.port: unknown key; did you mean relay.ports?"),
        ("peers: {allow: [10.0.0.0/99]}", r#"peers.allow: "10.0.0.0/99" is not a network"#),
        ("relay: {ports: 9-1}", r#"relay.ports: "9-1" runs backwards; write 1-9"#),
        ("listen: ['tls://0.0.0.0:5349']", "needs a certificate; name one in tls.certificates"),
        ("realm: [", "wrong.yaml: "),
        ("relay: {device: no-such-dev}", r#"relay.device: "no-such-dev" is no device"#),
        ("auth: {rest_secrets: ['']}", "auth.rest_secrets: the secret is empty"),
        ("auth: {stores: ['mongodb://h/d']}", "auth.stores: mongodb: is no store; there are"),
        (
            "auth: {stores: ['sqlite:///nonexistent/u.db']}",
            "auth.stores: sqlite:///nonexistent/u.db",
        ),
        (
            "auth: {rest_secrets_file: /nonexistent}",
            "auth.rest_secrets_file: /nonexistent: No such",
        ),
        ("auth: {jwt: {secrets: [short]}}", "auth.jwt.secrets: the secret is shorter than 32"),
        ("auth: {hook: 'mailto:a'}", "auth.hook.url: is not the URL of an HTTP service"),
        (
            "realms: {n: {peers: {deny: [1.2.3.4/99]}}}",
            "realms.n.peers.deny: \"1.2.3.4/99\" is not",
        ),
        (
            "limits: {bandwidth: 1MB/s}",
            "limits.bandwidth: \"1MB/s\" is in bytes; rates are in bits",
        ),
    ];
    let home = Home::new();
    for (yaml, expected) in cases {
        home.write("wrong.yaml", yaml);
        for command in ["serve", "check"] {
            let finished = home.run(&[command, "-c", "wrong.yaml"]);

            assert_eq!(Some(2), finished.code, "{finished:?}");
            assert!(finished.error_line().contains(expected), "{command} {yaml}: {finished:?}");
            assert_eq!("", finished.out);
        }
    }
    assert!(!home.path().join(".local").exists(), "nothing was half-started");
}

/// Both commands that open what a configuration names say the same of it.
fn assert_both_refuse(home: &Home, yaml: &str, code: i32, expected: &str) {
    home.write("wrong.yaml", yaml);
    for command in ["serve", "check"] {
        let finished = home.run(&[command, "-c", "wrong.yaml"]);

        assert_eq!(Some(code), finished.code, "{finished:?}");
        let line = finished.err.lines().last().unwrap_or_default();
        assert!(line.starts_with("sterna: wrong.yaml: "), "{command} {yaml}: {finished:?}");
        assert!(line.contains(expected), "{command} {yaml}: {finished:?}");
    }
}

const ANYWHERE: &str = "listen: ['udp://127.0.0.1:0']";

#[test]
fn secret_files_that_others_may_read_are_refused() {
    let home = Home::new();
    for (name, key, cure) in [
        ("secrets", "rest_secrets_file: ", "auth.rest_secrets_file: "),
        ("token", "hook: {url: 'https://h.example', token_file: ", "auth.hook.token_file: "),
        ("users.db", "stores: ['sqlite://", "auth.stores: "),
    ] {
        let path = home.write(name, "some-secret-of-ours\n");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");
        let end = match name {
            "secrets" => "",
            "token" => "}",
            _ => "']",
        };
        let yaml = format!("{ANYWHERE}\nauth:\n  {key}{}{end}", path.display());

        assert_both_refuse(&home, &yaml, 2, &format!("{cure}{}: every user", path.display()));
    }
}

#[test]
fn a_kept_secret_that_others_may_read_is_refused() {
    let home = Home::new();
    let folder = home.path().join(".local/state/sterna");
    fs::create_dir_all(&folder).expect("the folder is ours");
    let path = folder.join("rest_secret");
    fs::write(&path, "a-secret-of-a-first-run").expect("the folder is ours");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");

    let expected = format!("state_folder: {}: others may read this secret", path.display());
    assert_both_refuse(&home, ANYWHERE, 2, &expected);
}

#[test]
fn a_store_without_its_tables_is_refused() {
    let home = Home::new();
    let path = home.write("turndb", "");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    let path = path.display();
    let yaml = format!("{ANYWHERE}\nauth: {{stores: ['sqlite://{path}?schema=coturn']}}");

    assert_both_refuse(&home, &yaml, 2, &format!("auth.stores: sqlite://{path}: has no table"));
}

#[test]
fn a_store_that_does_not_answer_fails_the_check_and_not_the_start() {
    // A port that was free a moment ago; nobody answers there.
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let store = format!("stores: ['redis://u:hunter2@{address}']");
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}\nauth: {{users: {{alice: pw}}, {store}}}"));
    let checked = home.run(&["check", "-c", "turn.yaml"]);
    // What it denies a realm is not known, and would hold for her as well.
    let url = format!("turn:{}", relay.address());
    let probed = home.run(&["probe", &url, "--user", "alice", "-c", "turn.yaml"]);

    assert_eq!(Some(1), probed.code, "{probed:?}");
    assert!(probed.err.contains("500"), "{probed:?}");
    let expected = format!("auth.stores: redis://{address}/0: ");
    assert_eq!(Some(1), checked.code, "{checked:?}");
    let line = checked.err.lines().last().unwrap_or_default();
    assert!(line.contains(&expected), "{checked:?}");
    let told = |line: &&String| line.contains("ERRO") && line.contains("a store does not answer");
    let line = relay.log.iter().find(told).expect("it is in the log");
    assert!(line.contains(&expected) && !line.contains("hunter2"), "{line}");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_missing_file_is_named() {
    let finished = Home::new().run(&["-c", "nowhere/turn.yaml"]);

    assert_eq!(Some(2), finished.code);
    assert!(finished.error_line().contains("nowhere/turn.yaml: No such file"), "{finished:?}");
}

#[test]
fn a_variable_that_names_no_key_stops_the_start() {
    let home = Home::new();
    home.write("turn.yaml", "");
    let mut command = home.command(&["serve"]);
    command.env("STERNA__RELAY__PORT", "1-2");

    let finished = run(command, "");

    assert_eq!(Some(2), finished.code);
    let expected = "environment: STERNA__RELAY__PORT: sets no known key; did you mean \
                    STERNA__RELAY__PORTS?";
    assert!(finished.error_line().ends_with(expected), "{finished:?}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    for workers in [1, 2] {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = taken.local_addr().expect("it is bound");
        let home = Home::new();
        home.write("turn.yaml", &format!("listen: ['udp://{address}']\nworkers: {workers}"));

        let finished = home.run(&["-c", "turn.yaml"]);

        assert_eq!(Some(2), finished.code, "{finished:?}");
        let line = finished.err.lines().last().unwrap_or_default();
        assert!(line.starts_with("sterna: "), "{finished:?}");
        assert!(line.contains(&address.to_string()) && line.contains("in use"), "{finished:?}");
        assert_eq!("", finished.out, "no credential for a relay that does not run");
    }
}

#[test]
fn addresses_of_another_machine_are_named() {
    let cases = [
        ("listen: ['udp://203.0.113.9:0']", "203.0.113.9"),
        ("{listen: ['udp://127.0.0.1:0'], relay: {addresses: [203.0.113.9]}}", "203.0.113.9"),
    ];
    for (yaml, address) in cases {
        let home = Home::new();
        home.write("turn.yaml", yaml);

        let finished = home.run(&["serve", "-c", "turn.yaml"]);

        assert_eq!(Some(2), finished.code, "{finished:?}");
        let line = finished.err.lines().last().unwrap_or_default();
        assert!(line.starts_with("sterna: ") && line.contains(address), "{finished:?}");
    }
}

#[test]
fn wrong_usage_is_code_2() {
    let cases: [&[&str]; 4] =
        [&["--colour"], &["dance"], &["credential"], &["probe", "http://example.org"]];
    for arguments in cases {
        let finished = Home::new().run(arguments);

        assert_eq!(Some(2), finished.code, "{arguments:?}: {finished:?}");
        assert!(finished.err.contains("Usage:") || finished.err.contains("--help"), "{finished:?}");
    }
}
