//! What cannot be started: one line that names key and value, exit code 2, nothing half-started.

use std::net::UdpSocket;

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
