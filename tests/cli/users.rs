//! `sterna user`, `sterna secret` and `sterna realm` on an SQLite file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::program::{Finished, Home, run};

const PASSWORD: &str = "correct horse";

fn with_input(home: &Home, arguments: &[&str], input: &str) -> Finished {
    run(home.command(arguments), input)
}

fn json(home: &Home, arguments: &[&str]) -> Value {
    let finished = home.run(arguments);
    assert_eq!(Some(0), finished.code, "{finished:?}");
    serde_json::from_str(&finished.out).expect("one JSON document")
}

fn assert_done(finished: &Finished, expected: &str) {
    assert_eq!(Some(0), finished.code, "{finished:?}");
    assert!(finished.out.starts_with(expected), "{finished:?}");
}

fn store(home: &Home) -> std::path::PathBuf {
    home.path().join(".local/state/sterna/users.db")
}

#[test]
fn a_user_is_added_listed_changed_and_removed() {
    let home = Home::new();
    let add = ["user", "add", "Bob", "--realm", "north", "--bandwidth", "8Mbit/s"];

    assert_done(
        &with_input(&home, &add, &format!("{PASSWORD}\n")),
        "added Bob to north in sqlite:",
    );
    let again = with_input(&home, &add, PASSWORD);
    let limit = [
        "user",
        "limit",
        "Bob",
        "--realm",
        "north",
        "--allocations",
        "3",
        "--bandwidth-per-allocation",
        "any",
        "--expires",
        "2099-01-01",
    ];
    assert_done(&home.run(&limit), "Bob of north has other limits");
    let listed = json(&home, &["user", "list", "--json"]);
    let table = home.run(&["user", "list"]).out;
    let change = ["user", "password", "Bob", "--realm", "north"];
    assert_done(&with_input(&home, &change, "another"), "Bob of north has another password");
    let remove = ["user", "remove", "Bob", "--realm", "north"];
    assert_done(&home.run(&remove), "removed Bob from north");
    let gone = home.run(&remove);

    assert_eq!(Some(1), again.code, "{again:?}");
    assert!(again.error_line().contains("exists already"), "{again:?}");
    assert_eq!(Some(1), gone.code, "{gone:?}");
    assert!(gone.error_line().contains("there is no"), "{gone:?}");
    let expected = serde_json::json!([{
        "realm": "north", "name": "Bob", "keys": ["md5", "sha256"], "allocations": "3",
        "bandwidth": "8Mbit/s", "bandwidth_per_allocation": "any",
        "expires": "2099-01-01T00:00:00Z",
    }]);
    assert_eq!(expected, listed);
    assert!(table.starts_with("REALM") && table.contains("north") && table.contains("8Mbit/s"));
    assert_eq!(Value::Array(Vec::new()), json(&home, &["user", "list", "--json"]));
}

#[test]
fn keys_are_kept_and_not_the_password() {
    let home = Home::new();
    let secret = home.write("password", &format!("{PASSWORD}\n"));
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("it is ours");

    let finished = home.run(&["user", "add", "bob", "--password-file", "password"]);

    assert_done(&finished, "added bob to example.org");
    assert_eq!("", finished.err);
    let folder = store(&home).parent().expect("it is in one").to_owned();
    assert_eq!(0o700, fs::metadata(&folder).expect("it was made").permissions().mode() & 0o777);
    let mut text = String::new();
    // SQLite may leave its log beside the file.
    for entry in fs::read_dir(folder).expect("it is ours") {
        let entry = entry.expect("it is ours");
        let mode = entry.metadata().expect("it is there").permissions().mode();
        assert_eq!(0o600, mode & 0o777, "{entry:?}");
        let bytes = fs::read(entry.path()).expect("it is ours");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(text.contains("bob") && !text.contains(PASSWORD));
}

#[test]
fn secrets_are_added_rotated_listed_and_removed() {
    let home = Home::new();
    let fingerprints = || -> Vec<String> {
        let listed = json(&home, &["secret", "list", "--json"]);
        let of = |secret: &Value| secret["fingerprint"].as_str().expect("a text").to_owned();
        listed.as_array().expect("a list").iter().map(of).collect()
    };

    let first = with_input(&home, &["secret", "add"], "a-secret-of-ours-as-text");
    let random = home.run(&["secret", "add", "--random"]);
    let two = fingerprints();
    let rotated = home.run(&["secret", "rotate", "--random", "--keep", "1"]);
    let after = fingerprints();
    let removed = home.run(&["secret", "remove", &after[1]]);

    assert_done(&first, "added ");
    assert!(!first.out.contains("a-secret"), "{first:?}");
    assert_eq!(Some(0), random.code, "{random:?}");
    assert_eq!(43, random.out.trim().len(), "32 bytes as text");
    assert_eq!((2, 2), (two.len(), after.len()));
    assert!(rotated.err.contains(&format!("removed {}", two[0])), "{two:?} {rotated:?}");
    assert_done(&removed, &format!("removed {}", after[1]));
    assert_eq!(vec![after[0].clone()], fingerprints());
    let table = home.run(&["secret", "list"]);
    assert!(!table.out.contains("a-secret") && !table.out.contains(random.out.trim()), "{table:?}");
}

#[test]
fn realms_have_limits_origins_and_peers() {
    let home = Home::new();
    let done = |arguments: &[&str]| assert_done(&home.run(arguments), "");

    done(&["realm", "set", "north", "--allocations", "9", "--bandwidth", "1Gbit/s"]);
    done(&["realm", "set", "north", "--allocations", "0", "--allocations-per-user", "2"]);
    done(&["realm", "origin", "north", "https://app.north.example"]);
    done(&["realm", "allow", "north", "10.1.0.0/16"]);
    done(&["realm", "deny", "north", "203.0.113.9", "--user", "bob"]);
    let listed = json(&home, &["realm", "list", "--json"]);
    let table = home.run(&["realm", "list"]).out;
    done(&["realm", "allow", "north", "10.1.0.0/16", "--remove"]);
    done(&["realm", "origin", "north", "https://app.north.example", "--remove"]);
    let later = json(&home, &["realm", "list", "--json"]);
    done(&["realm", "remove", "north"]);

    let expected = serde_json::json!([{
        "realm": "north",
        "limits": {"allocations_per_user": "2", "bandwidth": "1Gbit/s"},
        "origins": ["https://app.north.example"],
        "peers": [
            {"rule": "allow", "network": "10.1.0.0/16", "user": null},
            {"rule": "deny", "network": "203.0.113.9/32", "user": "bob"},
        ],
    }]);
    assert_eq!(expected, listed);
    assert!(table.contains("203.0.113.9/32 for bob alone"), "{table}");
    assert_eq!(Value::Array(Vec::new()), later[0]["origins"]);
    assert_eq!(1, later[0]["peers"].as_array().map_or(0, Vec::len));
}

#[test]
fn a_user_of_another_realm_makes_it_one_of_the_server() {
    let home = Home::new();

    let finished = with_input(&home, &["user", "add", "bob", "--realm", "south"], PASSWORD);

    assert!(finished.err.contains("made the realm south"), "{finished:?}");
    assert_eq!("south", json(&home, &["realm", "list", "--json"])[0]["realm"]);
}

#[test]
fn lists_make_nothing() {
    let home = Home::new();
    for what in ["user", "secret", "realm"] {
        assert_eq!(Value::Array(Vec::new()), json(&home, &[what, "list", "--json"]));
    }
    assert!(!home.path().join(".local").exists());
}

#[test]
fn commands_that_add_nothing_make_nothing() {
    let cases: [&[&str]; 9] = [
        &["user", "remove", "bob"],
        &["user", "password", "bob"],
        &["user", "limit", "bob", "--allocations", "1"],
        &["secret", "remove", "abc"],
        &["token-key", "remove", "kid"],
        &["realm", "remove", "north"],
        &["realm", "origin", "north", "https://x.example", "--remove"],
        &["realm", "allow", "north", "10.0.0.0/8", "--remove"],
        &["user", "remove", "bob", "--store", "sqlite:///nonexistent/u.db?mode=rwc"],
    ];
    let home = Home::new();
    for arguments in cases {
        let finished = with_input(&home, arguments, PASSWORD);

        assert_eq!(Some(1), finished.code, "{arguments:?}: {finished:?}");
        let expected = "u.db: nothing was ever put into it";
        let expected = if arguments.contains(&"--store") { expected } else { &expected[2..] };
        assert!(finished.error_line().contains(expected), "{arguments:?}: {finished:?}");
    }
    assert!(!home.path().join(".local").exists());
}

#[test]
fn a_store_in_which_nobody_is_leaves_nobody_to_log_in() {
    let home = Home::new();
    home.write("turn.yaml", "{realm: a.example, listen: ['udp://127.0.0.1:0']}");
    let warned = || {
        let finished = home.run(&["check", "-c", "turn.yaml"]);
        assert_eq!(Some(0), finished.code, "{finished:?}");
        finished.err.contains("nobody can log in")
    };
    let before = warned();
    assert_done(&home.run(&["realm", "set", "north", "--allocations", "9"]), "set north");
    let with_a_realm = warned();
    assert_done(&with_input(&home, &["user", "add", "bob"], PASSWORD), "added bob");

    assert_eq!((false, true, false), (before, with_a_realm, warned()));
}

#[test]
fn names_are_kept_as_they_are_compared() {
    let home = Home::new();
    // Composed and decomposed, which are one name (RFC 8265 §4.2).
    let (composed, decomposed) = ("jos\u{e9}", "jose\u{301}");

    assert_done(&with_input(&home, &["user", "add", decomposed], PASSWORD), "added");

    let again = with_input(&home, &["user", "add", composed], PASSWORD);
    assert_eq!(Some(1), again.code, "{again:?}");
    assert_eq!(composed, json(&home, &["user", "list", "--json"])[0]["name"]);
    assert_done(&home.run(&["user", "remove", decomposed]), "removed");
}

#[test]
fn another_store_is_named_on_the_command_line() {
    let home = Home::new();
    let path = home.path().join("others.db");
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let add = ["user", "add", "bob", "--store", &url];

    let finished = with_input(&home, &add, PASSWORD);

    assert_eq!(Some(0), finished.code, "{finished:?}");
    let mode = fs::metadata(&path).expect("it was made").permissions().mode();
    assert_eq!(0o600, mode & 0o777);
    assert!(!store(&home).exists());
}

#[test]
fn what_cannot_be_kept_is_said_in_one_line() {
    let missing = "sqlite:///nonexistent/users.db";
    let cases: [(&[&str], &str, i32, &str); 11] = [
        (&["user", "add", "bob"], "", 2, "the password is empty; it comes from --password-file"),
        (&["user", "add", "bob"], " x", 2, "starts or ends with white space"),
        (&["user", "add", "bob"], "a\u{7}b", 2, "the password holds characters"),
        (&["user", "add", "bob"], "<redacted>", 2, "is the placeholder"),
        (&["user", "add", "bob", "--password-file", "none"], "", 2, "--password-file: none: "),
        (&["user", "list", "--store", "mongodb://h"], "", 2, "--store: mongodb: is no store"),
        (&["user", "list", "--store", missing], "", 2, missing),
        (&["user", "list", "--store", "redis://127.0.0.1:1"], "", 1, "redis://127.0.0.1:1"),
        (&["secret", "add"], "", 2, "the secret is empty"),
        (&["secret", "remove", "abc"], "", 1, "nothing was ever put into it"),
        (&["user", "limit", "bob"], "", 2, "names no limit"),
    ];
    for (arguments, input, code, expected) in cases {
        let home = Home::new();
        let finished = with_input(&home, arguments, input);

        assert_eq!(Some(code), finished.code, "{arguments:?}: {finished:?}");
        assert!(finished.error_line().contains(expected), "{arguments:?}: {finished:?}");
        assert_eq!("", finished.out);
    }
}

/// Everybody on the machine sees the arguments of a command.
#[test]
fn a_store_with_a_password_is_no_argument() {
    for url in [
        "postgres://ann:hunter2@127.0.0.1:1/turn",
        "mysql://ann:hunter2@127.0.0.1:1/turn",
        "redis://:hunter2@127.0.0.1:1",
        "redis+sentinel://ann:hunter2@127.0.0.1:1?master=m",
        "redis+sentinel://127.0.0.1:1?master=m&sentinel_password=hunter2",
        "redis+cluster://:hunter2@127.0.0.1:1",
    ] {
        let finished = Home::new().run(&["user", "list", "--store", url]);

        assert_eq!(Some(2), finished.code, "{url}: {finished:?}");
        let line = finished.error_line();
        for part in ["--store: ", "password", "auth.stores", "-c FILE", "STERNA__AUTH__STORES"] {
            assert!(line.contains(part), "{url}: {line}");
        }
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_configuration_without_stores_needs_one_named() {
    let home = Home::new();
    home.write("turn.yaml", "auth: {stores: []}");

    let finished = home.run(&["user", "list"]);

    assert_eq!(Some(2), finished.code);
    let expected = "turn.yaml: auth.stores: is empty; name a store with --store URL";
    assert!(finished.error_line().ends_with(expected), "{finished:?}");
}

#[test]
fn a_user_of_turn_yaml_is_pointed_out() {
    let home = Home::new();
    home.write("turn.yaml", "auth: {users: {bob: x}}");

    let finished = with_input(&home, &["user", "add", "bob"], PASSWORD);

    assert_eq!(Some(0), finished.code);
    assert!(finished.err.contains("has a user bob of example.org, too"), "{finished:?}");
}

#[test]
fn a_public_password_file_is_warned_about() {
    let home = Home::new();
    let file = home.write("password", PASSWORD);
    fs::set_permissions(file, Permissions::from_mode(0o644)).expect("it is ours");

    let finished = home.run(&["user", "add", "bob", "--password-file", "password"]);

    assert_eq!(Some(0), finished.code);
    assert!(finished.err.contains("warning: password: every user of this machine may read it"));
}

#[test]
fn a_secret_of_the_store_mints_credentials() {
    let home = Home::new();
    with_input(&home, &["secret", "add"], "the-older-secret-of-the-store");
    home.write("turn.yaml", "auth: {users: {alice: x}}");
    let mint = ["credential", "--user", "x", "--url", "turn:h"];
    let password = |algorithm: &str| {
        let made = json(&home, &[&mint[..], &["--algorithm", algorithm]].concat());
        let server = &made["iceServers"][0];
        let text = |key: &str| server[key].as_str().expect("a text").to_owned();
        (text("username"), text("credential"))
    };

    let (name, sha1) = password("sha1");
    let secret = b"the-older-secret-of-the-store";
    let expected = sterna_actors::authenticator::time_limited_password(secret, &name);
    assert_eq!(expected, Some(sha1));
    let (name, sha256) = password("sha256");
    let expected = sterna_actors::authenticator::time_limited_password_sha256(secret, &name);
    assert_eq!(expected, Some(sha256));
    let other = home.run(&[&mint[..], &["--realm", "north"]].concat());
    assert_eq!(Some(2), other.code);
    assert!(other.error_line().contains("no store has a secret of north"), "{other:?}");
}

#[test]
fn token_keys_are_added_listed_and_removed() {
    let home = Home::new();
    let add = ["token-key", "add", "kid-1", "--realm", "north", "--valid-until", "2099-01-01"];

    assert_done(&with_input(&home, &add, "MDEyMzQ1Njc4OWFiY2RlZg=="), "added kid-1 to sqlite:");
    let random = home.run(&["token-key", "add", "kid-2", "--random"]);
    let listed = json(&home, &["token-key", "list", "--json"]);
    let table = home.run(&["token-key", "list"]).out;
    assert_done(&home.run(&["token-key", "remove", "kid-1"]), "removed kid-1");
    let wrong = with_input(&home, &["token-key", "add", "kid-3"], "hunter2");

    let expected = serde_json::json!([
        {"kid": "kid-1", "algorithm": "A128GCM", "realm": "north", "valid_from": null,
         "valid_until": "2099-01-01T00:00:00Z"},
        {"kid": "kid-2", "algorithm": "A256GCM", "realm": null, "valid_from": null,
         "valid_until": null},
    ]);
    assert_eq!(expected, listed);
    assert_eq!(Some(0), random.code, "{random:?}");
    assert!(!table.contains("MDEy") && !table.contains(random.out.trim()), "{table}");
    assert_eq!(1, json(&home, &["token-key", "list", "--json"]).as_array().map_or(0, Vec::len));
    assert_eq!(Some(2), wrong.code);
    assert!(wrong.error_line().contains("the key is not base64 of 32 bytes"), "{wrong:?}");
    assert!(!wrong.err.contains("hunter2"), "{wrong:?}");
}
