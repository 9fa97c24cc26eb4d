//! `sterna probe` against `sterna serve`.

use std::net::{TcpListener, UdpSocket};

use serde_json::Value;

use crate::program::{Home, run};

const YAML: &str = "listen: ['udp://127.0.0.1:0']\nauth:\n  users: {Alice: hunter2}\n  \
                    rest_secrets: [a-secret-to-mint-with]\n";

const QUICK: [&str; 6] = ["--count", "20", "--interval", "1ms", "--size", "100"];

#[test]
fn packets_come_back_and_the_credential_may_come_from_anywhere() {
    let home = Home::new();
    let mut relay = home.serve(YAML);
    home.write("password", "hunter2\n");
    let url = format!("turn:{}?transport=udp", relay.address());
    let probe = |more: &[&str], user: &str| {
        home.command(&[&["probe", &url, "--user", user, "--json"], &QUICK[..], more].concat())
    };
    let mut by_variable = probe(&[], "Alice");
    by_variable.env("STERNA_PASSWORD", "hunter2");

    let finished = [
        run(probe(&[], "Alice"), "hunter2\n"),
        run(by_variable, ""),
        run(probe(&["--password-file", "password"], "Alice"), ""),
        run(probe(&["-c", "turn.yaml"], "Alice"), ""),
        run(probe(&["-c", "turn.yaml"], "somebody"), ""),
    ];

    for finished in finished {
        assert_eq!(Some(0), finished.code, "{finished:?}");
        let report: Value = serde_json::from_str(&finished.out).expect("one JSON object");
        assert_eq!(20, report["sent"], "{report}");
        assert_eq!(20, report["received"], "{report}");
        let round_trip = |name: &str| report[name].as_f64().expect("packets came back");
        assert!(round_trip("round_trip_min_ms") <= round_trip("round_trip_median_ms"));
        assert!(round_trip("round_trip_median_ms") <= round_trip("round_trip_p99_ms"));
    }
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn the_report_is_for_people_unless_asked_otherwise() {
    let home = Home::new();
    let mut relay = home.serve(YAML);
    let url = format!("turn:{}", relay.address());
    let line = [&["probe", &url, "--user", "Alice"], &QUICK[..]].concat();

    let finished = run(home.command(&line), "hunter2\n");

    assert_eq!(Some(0), finished.code, "{finished:?}");
    assert!(finished.out.contains("20 sent, 20 received, 0.00 % lost"), "{finished:?}");
    assert!(finished.out.contains("round trip  min "), "{finished:?}");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_refusal_is_code_1() {
    let home = Home::new();
    let mut relay = home.serve(YAML);
    let url = format!("turn:{}", relay.address());

    let finished = run(home.command(&["probe", &url, "--user", "Alice"]), "wrong\n");

    assert_eq!(Some(1), finished.code, "{finished:?}");
    assert!(finished.error_line().contains("401"), "{finished:?}");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn silence_is_code_1() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let url = format!("turn:{}", silent.local_addr().expect("it is bound"));
    let home = Home::new();
    let line = ["probe", &url, "--user", "Alice", "--timeout", "200ms"];

    let finished = run(home.command(&line), "hunter2\n");

    assert_eq!(Some(1), finished.code, "{finished:?}");
    assert!(finished.error_line().contains("no answer"), "{finished:?}");
}

#[test]
fn packets_come_back_over_tcp_and_tls() {
    let home = Home::new();
    let mut relay = home.serve(
        "listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0', 'tls://127.0.0.1:0']\n\
         tls: {self_signed: true}\nauth: {users: {Alice: hunter2}}\n",
    );
    let (tcp, tls) = (relay.address_of("tcp"), relay.address_of("tls"));
    let made = home.path().join(".local/state/sterna/self_signed.pem");
    let made = made.to_str().expect("a temporary folder has a plain name");
    let cases = [
        (format!("turn:{tcp}?transport=tcp"), &[][..]),
        (format!("turns:{tls}"), &["--insecure"][..]),
        (format!("turns:{tls}?transport=tcp"), &["--ca", made][..]),
    ];
    for (url, more) in cases {
        let line = [&["probe", &url, "--user", "Alice", "--json"], &QUICK[..], more].concat();

        let finished = run(home.command(&line), "hunter2\n");

        assert_eq!(Some(0), finished.code, "{finished:?}");
        let report: Value = serde_json::from_str(&finished.out).expect("one JSON object");
        assert_eq!(20, report["received"], "{report}");
    }
    let finished =
        run(home.command(&["probe", &format!("turns:{tls}"), "--user", "Alice"]), "hunter2\n");
    assert_eq!(Some(1), finished.code, "{finished:?}");
    assert!(finished.error_line().contains("certificate"), "{finished:?}");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_server_that_never_answers_over_tcp_or_tls_is_code_1() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = silent.local_addr().expect("it is bound");
    let cases = [
        (format!("turn:{address}?transport=tcp"), &[][..]),
        (format!("turns:{address}"), &["--insecure"][..]),
    ];
    for (url, more) in cases {
        let line = [&["probe", &url, "--user", "Alice", "--timeout", "200ms"], more].concat();

        let finished = run(Home::new().command(&line), "hunter2\n");

        assert_eq!(Some(1), finished.code, "{finished:?}");
        assert!(finished.error_line().contains("no answer"), "{finished:?}");
    }
}

#[test]
fn what_cannot_be_probed_is_code_2() {
    let cases: [&[&str]; 4] = [
        &["probe", "turns:127.0.0.1?transport=udp", "--user", "a"],
        &["probe", "turns:127.0.0.1", "--user", "a", "--ca", "no-such-file.pem"],
        &["probe", "turn:127.0.0.1", "--user", "a", "--insecure"],
        &["probe", "turn:127.0.0.1", "--user", "a", "--count", "100000", "--interval", "1s"],
    ];
    for line in cases {
        let finished = Home::new().run(line);

        assert_eq!(Some(2), finished.code, "{finished:?}");
        assert!(!finished.error_line().is_empty());
    }
    let without_password = Home::new().run(&["probe", "turn:127.0.0.1", "--user", "a"]);
    assert_eq!(Some(2), without_password.code);
    assert!(without_password.error_line().contains("no password"), "{without_password:?}");
}
