//! `sterna check`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::program::{Home, run};

#[test]
fn the_resolved_configuration_is_printed_without_secrets() {
    let home = Home::new();
    let yaml = "realm: turn.example.com\nlisten: ['udp://127.0.0.1:3478']\n\
                auth: {users: {Alice: hunter2}, rest_secrets: ['hunter3hunter3hunter3']}\n";
    let path = home.write("mine.yaml", yaml);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("it is ours");

    let finished = home.run(&["check", "-c", "mine.yaml"]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    assert_eq!("", finished.err);
    assert!(finished.out.starts_with("# mine.yaml\nrealm: turn.example.com\n"), "{finished:?}");
    for expected in [
        "- udp://127.0.0.1:3478\n",
        "  addresses:\n",
        "  - \"127.0.0.1\"\n",
        "    Alice: <redacted>\n",
        "  allocation: 600s\n",
        "  ports: 49152-65535\n",
        "/.local/state/sterna",
    ] {
        assert!(finished.out.contains(expected), "{expected:?} in {}", finished.out);
    }
    assert!(!finished.out.contains("hunter"), "{}", finished.out);
}

#[test]
fn the_repositorys_configuration_is_good() {
    let yaml = concat!(env!("CARGO_MANIFEST_DIR"), "/turn.yaml");

    let finished = Home::new().run(&["check", "-c", yaml]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    assert!(finished.err.contains("realm: example.org is the example"), "{finished:?}");
}

#[test]
fn the_working_folders_configuration_is_found() {
    let home = Home::new();
    home.write("turn.yaml", "realm: here.example.com\nlisten: ['udp://127.0.0.1:0']");

    let finished = home.run(&["check"]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    assert!(finished.out.starts_with("# turn.yaml\nrealm: here.example.com\n"), "{finished:?}");
}

#[test]
fn the_environment_is_shown_and_wins() {
    let home = Home::new();
    home.write("turn.yaml", "listen: ['udp://127.0.0.1:0']\nrelay: {ports: 1024-2048}");
    let mut command = home.command(&["check", "-c", "turn.yaml"]);
    command.env("STERNA__RELAY__PORTS", "50000-50100");
    command.env("STERNA__AUTH__USERS__Alice", "hunter2");

    let finished = run(command, "");

    assert_eq!(Some(0), finished.code, "{finished:?}");
    for expected in ["# STERNA__RELAY__PORTS\n", "  ports: 50000-50100\n", "Alice: <redacted>\n"] {
        assert!(finished.out.contains(expected), "{expected:?} in {}", finished.out);
    }
    assert!(!finished.out.contains("hunter"), "{}", finished.out);
}

#[test]
fn risks_are_warnings_on_standard_error() {
    let home = Home::new();
    let yaml = "realm: turn.example.com\nlisten: ['udp://127.0.0.1:0']\n\
                relay: {addresses: [203.0.113.9]}\npeers: {allow: [10.0.0.0/8]}\n\
                auth: {users: {alice: hunter2}}";
    let path = home.write("turn.yaml", yaml);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("it is ours");

    let finished = home.run(&["check", "-c", "turn.yaml"]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    for expected in [
        "peers.allow: 10.0.0.0/8 lets clients reach addresses that are private",
        "relay.addresses: 203.0.113.9 cannot be bound",
        "turn.yaml: holds secrets and every user of this machine may read it",
    ] {
        let found = finished
            .err
            .lines()
            .any(|line| line.starts_with("sterna: warning: ") && line.contains(expected));
        assert!(found, "{expected:?} in {}", finished.err);
    }
}

#[test]
fn stores_are_opened_and_counted() {
    let home = Home::new();
    home.write("turn.yaml", "realm: a.example\nlisten: ['udp://127.0.0.1:0']");
    let stores = || {
        let finished = home.run(&["check", "-c", "turn.yaml"]);
        assert_eq!(Some(0), finished.code, "{finished:?}");
        let (_, stores) = finished.out.split_once("# stores:\n").expect("they are listed");
        stores.to_owned()
    };

    let before = stores();
    let made = run(home.command(&["user", "add", "bob", "--realm", "north"]), "his password");

    assert!(before.starts_with("#   sqlite: empty; `sterna user add`"), "{before}");
    assert_eq!(Some(0), made.code, "{made:?}");
    let after = stores();
    assert!(after.ends_with("users.db: users: 1, secrets: 0, realms: 1\n"), "{after}");
}

#[test]
fn a_file_with_a_short_secret_is_warned_about() {
    let home = Home::new();
    let path = home.write("secrets", "a\n");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    home.write("turn.yaml", &format!("auth: {{rest_secrets_file: {}}}", path.display()));

    let finished = home.run(&["check", "-c", "turn.yaml"]);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    assert!(finished.err.contains("auth.rest_secrets_file: one is shorter than 16 bytes"));
}
