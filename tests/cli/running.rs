//! What commands and HUP change in a running relay.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sterna_actors::clock;
use sterna_client::{AllocateOptions, Client, ClientOptions, Credentials};

use crate::program::{Daemon, Home, PATIENCE, run};

const ANYWHERE: &str = "listen: ['udp://127.0.0.1:0']\nworkers: 1\n";

fn client(server: SocketAddr, username: &str, password: &str) -> Client {
    let credentials = Some(Credentials::new(username, password));
    let options = ClientOptions { credentials, ..ClientOptions::default() };
    Client::connect(server, options).expect("loopback can be reached")
}

fn allocates(relay: &Daemon, username: &str, password: &str) -> bool {
    let mut client = client(relay.address(), username, password);
    match client.allocate(&AllocateOptions::default()) {
        Ok(_) => client.refresh(Some(Duration::ZERO), None).is_ok(),
        Err(error) => {
            assert_eq!(Some(401), error.refusal_code(), "{error}");
            false
        }
    }
}

fn done(home: &Home, arguments: &[&str], input: &str) {
    let finished = run(home.command(arguments), input);
    assert_eq!(Some(0), finished.code, "{arguments:?}: {finished:?}");
}

fn sessions(home: &Home) -> Vec<Value> {
    let finished = home.run(&["session", "list", "--json"]);
    assert_eq!(Some(0), finished.code, "{finished:?}");
    serde_json::from_str(&finished.out).expect("a list")
}

/// Whether `holds` within a second, or as long as a machine that is busy needs for that.
fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let until = clock::now() + PATIENCE;
    while !holds() {
        if clock::now() > until {
            return false;
        }
        thread::yield_now();
    }
    true
}

#[test]
fn a_user_that_is_added_while_the_relay_runs_may_allocate_at_once() {
    let home = Home::new();
    let mut relay = home.serve(ANYWHERE);
    assert!(!allocates(&relay, "alice", "her password"));

    done(&home, &["user", "add", "bob"], "his password");

    assert!(allocates(&relay, "bob", "his password"));
    assert!(!allocates(&relay, "bob", "another"));
    assert_eq!(Some(0), relay.stop());
    assert!(!relay.log.join("\n").contains("his password"));
}

#[test]
fn a_user_that_is_removed_loses_its_session() {
    let home = Home::new();
    done(&home, &["user", "add", "bob"], "his password");
    done(&home, &["user", "add", "eve"], "her password");
    let mut relay = home.serve(ANYWHERE);
    let mut bob = client(relay.address(), "bob", "his password");
    bob.allocate(&AllocateOptions::default()).expect("he may");
    let mut eve = client(relay.address(), "eve", "her password");
    eve.allocate(&AllocateOptions::default()).expect("she may");
    assert_eq!(2, sessions(&home).len());

    done(&home, &["user", "remove", "bob"], "");

    assert!(soon(|| sessions(&home).len() == 1), "the session of bob ends");
    assert_eq!("eve", sessions(&home)[0]["username"]);
    let refused = bob.refresh(None, None).map(|_| ());
    assert!(refused.is_err(), "he has no allocation any more");
    assert!(eve.refresh(None, None).is_ok());
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn sessions_are_listed_and_ended() {
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}auth: {{users: {{Alice: hunter2}}}}"));
    assert_eq!(Vec::<Value>::new(), sessions(&home));
    let mut alice = client(relay.address(), "Alice", "hunter2");
    alice.allocate(&AllocateOptions::default()).expect("she may");

    let listed = sessions(&home);
    let id = listed[0]["session"].as_str().expect("a text").to_owned();
    let table = home.run(&["session", "list"]).out;
    done(&home, &["session", "end", &id], "");

    assert_eq!(("Alice", "example.org"), (text(&listed[0], "username"), text(&listed[0], "realm")));
    assert!(table.contains(&id) && table.contains("Alice"), "{table}");
    assert!(soon(|| sessions(&home).is_empty()), "the session ends");
    let again = home.run(&["session", "end", &id]);
    assert_eq!(Some(1), again.code, "{again:?}");
    assert!(again.error_line().contains("there is no session"), "{again:?}");
    assert_eq!(Some(1), home.run(&["session", "end", "x"]).code);
    assert_eq!(Some(0), relay.stop());
    let gone = home.run(&["session", "list"]);
    assert_eq!(Some(1), gone.code);
    assert!(gone.error_line().contains("no server runs with this state_folder"), "{gone:?}");
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a text")
}

/// Replaces turn.yaml as editors do, and tells the relay.
fn reload(home: &Home, relay: &mut Daemon, yaml: &str, expected: &str) -> String {
    let next = home.write("next.yaml", yaml);
    fs::rename(next, home.path().join("turn.yaml")).expect("the folder is ours");
    relay.signal(Signal::SIGHUP);
    relay.wait_for(expected)
}

#[test]
fn a_hup_lets_another_configuration_hold() {
    let home = Home::new();
    let users = |users: &str| format!("{ANYWHERE}auth: {{users: {{{users}}}}}");
    let mut relay = home.serve(&users("alice: first"));
    let mut alice = client(relay.address(), "alice", "first");
    alice.allocate(&AllocateOptions::default()).expect("she may");

    let yaml = users("bob: second") + "\nrelay: {ports: 50000-50009}";
    reload(&home, &mut relay, &yaml, "needs a restart: relay");
    relay.wait_for("the configuration was read again");

    assert!(soon(|| allocates(&relay, "bob", "second")));
    assert!(!allocates(&relay, "alice", "first"));
    assert!(soon(|| sessions(&home).is_empty()), "the session of alice ends");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_hup_with_a_fault_changes_nothing_and_names_the_key() {
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}auth: {{users: {{alice: first}}}}"));
    let cases = [
        ("auth: {users: {bob: ''}}", "auth.users.bob: the password is empty"),
        ("auth: {stores: ['sqlite:///nonexistent/x.db']}", "auth.stores: sqlite:///nonexistent/x"),
        ("auth: {rest_secrets_file: /nonexistent}", "auth.rest_secrets_file: /nonexistent"),
        ("auth: {stores: ['redis://127.0.0.1:1']}", "auth.stores: redis://127.0.0.1:1"),
        ("peers: {deny: [x]}", "peers.deny: \"x\" is not a network"),
    ];
    for (yaml, expected) in cases {
        let yaml = format!("{ANYWHERE}{yaml}");
        let line = reload(&home, &mut relay, &yaml, "the one before stays in use");

        assert!(line.contains("ERRO") && line.contains(expected), "{line}");
        assert!(allocates(&relay, "alice", "first"));
    }
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_first_runs_credential_is_good_while_the_relay_runs() {
    let home = Home::new();
    let mut relay = home.serve(ANYWHERE);
    let mint = ["credential", "--user", "x", "--url", "turn:h"];
    let minted = home.run(&mint);
    let json: Value = serde_json::from_str(&minted.out).expect("one JSON document");
    let server = &json["iceServers"][0];
    done(&home, &["user", "add", "bob"], "his password");

    reload(&home, &mut relay, ANYWHERE, "the configuration was read again");

    assert!(allocates(&relay, "bob", "his password"));
    assert!(allocates(&relay, text(server, "username"), text(server, "credential")));
    assert_eq!(Some(0), relay.stop());
    let mut relay = home.serve(ANYWHERE);
    assert!(!allocates(&relay, text(server, "username"), text(server, "credential")));
    assert!(allocates(&relay, "bob", "his password"));
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn two_relays_of_one_state_folder_do_not_share_the_control_socket() {
    let home = Home::new();
    let mut first = home.serve(ANYWHERE);
    let mut second = home.serve(ANYWHERE);

    let warned = second.log.iter().any(|line| line.contains("another server listens there"));
    assert!(warned, "{:#?}", second.log);
    assert_eq!(Some(0), second.stop());
    assert!(sessions(&home).is_empty(), "the first one still answers");
    assert_eq!(Some(0), first.stop());
}

#[test]
fn a_question_that_never_ends_keeps_nobody_from_the_relay() {
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}auth: {{users: {{Alice: hunter2}}}}"));
    let path = home.path().join(".local/state/sterna/control.sock");
    let mut mute = std::os::unix::net::UnixStream::connect(path).expect("it is there");
    mute.write_all(b"{").expect("it is read");

    assert!(allocates(&relay, "Alice", "hunter2"));
    assert_eq!(Some(0), relay.stop(), "it stops in time");
}

#[test]
fn limits_of_turn_yaml_and_of_the_store_hold() {
    let home = Home::new();
    done(&home, &["user", "add", "bob", "--allocations", "2"], "his password");
    let yaml = format!(
        "{ANYWHERE}auth: {{users: {{alice: hunter2}}}}\nlimits: {{allocations_per_user: 1}}\n\
         realms: {{example.org: {{limits: {{allocations: 3}}}}}}"
    );
    let mut relay = home.serve(&yaml);
    let allocate = |name: &str, password: &str| {
        let mut client = client(relay.address(), name, password);
        let code = client.allocate(&AllocateOptions::default()).err().map(|e| e.refusal_code());
        (client, code.flatten())
    };

    let alice = [allocate("alice", "hunter2"), allocate("alice", "hunter2")];
    let bob = [(); 3].map(|()| allocate("bob", "his password"));

    let codes = |clients: &[(Client, Option<u16>)]| -> Vec<Option<u16>> {
        clients.iter().map(|(_, code)| *code).collect()
    };
    assert_eq!(vec![None, Some(486)], codes(&alice));
    assert_eq!(vec![None, None, Some(486)], codes(&bob));
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_listener_asks_for_users_of_its_realm() {
    let home = Home::new();
    done(&home, &["user", "add", "bob", "--realm", "south"], "his password");
    let yaml = "listen: ['udp://127.0.0.1:0', {url: 'udp://127.0.0.2:0', realm: south}]\n\
                workers: 1\nrealms: {south: {users: {carol: hers}}}\n\
                auth: {users: {alice: hunter2}}\nrelay: {addresses: [127.0.0.1]}";
    let mut relay = home.serve(yaml);
    let ready = relay.log.iter().find(|line| line.contains("ready")).expect("it is ready").clone();
    let mut urls = ready.split([' ', ',']).filter_map(|word| word.strip_prefix("udp://"));
    let mut next = || urls.next().and_then(|at| at.parse::<SocketAddr>().ok()).expect("two");
    let (north, south) = (next(), next());
    let may = |at, name: &str, password: &str| {
        client(at, name, password).allocate(&AllocateOptions::default()).is_ok()
    };

    assert!(may(north, "alice", "hunter2") && !may(north, "bob", "his password"));
    assert!(may(south, "bob", "his password") && may(south, "carol", "hers"));
    assert!(!may(south, "alice", "hunter2"));
    let realms: Vec<String> = sessions(&home).iter().map(|s| text(s, "realm").to_owned()).collect();
    assert_eq!(3, realms.len());
    assert_eq!(2, realms.iter().filter(|realm| *realm == "south").count(), "{realms:?}");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn a_secret_that_is_removed_ends_what_lives_on_it() {
    let home = Home::new();
    done(&home, &["secret", "add"], "a-secret-of-the-store-to-go");
    let mut relay = home.serve(ANYWHERE);
    let minted = home.run(&["credential", "--user", "x", "--url", "turn:h"]);
    let json: Value = serde_json::from_str(&minted.out).expect("one JSON document");
    let server = &json["iceServers"][0];
    let mut x = client(relay.address(), text(server, "username"), text(server, "credential"));
    x.allocate(&AllocateOptions::default()).expect("the secret is good");
    let secrets = home.run(&["secret", "list", "--json"]);
    let secrets: Value = serde_json::from_str(&secrets.out).expect("a list");

    done(&home, &["secret", "remove", text(&secrets[0], "fingerprint")], "");

    assert!(soon(|| sessions(&home).is_empty()), "the session ends");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn an_http_service_is_asked_for_whom_nobody_knows() {
    let service = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = service.local_addr().expect("it is bound");
    let (tell, asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in service.incoming().map_while(Result::ok) {
            let _ = tell.send(answer_for_bob(stream));
        }
    });
    let home = Home::new();
    let token = home.write("token", "a-token-of-ours\n");
    fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("it is ours");
    let token = token.display();
    let yaml =
        format!("{ANYWHERE}auth: {{hook: {{url: 'http://{address}/turn', token_file: {token}}}}}");
    let mut relay = home.serve(&yaml);

    assert!(allocates(&relay, "bob", "his password"));
    assert!(!allocates(&relay, "eve", "his password"));

    let question = asked.recv_timeout(PATIENCE).expect("the service is asked");
    assert!(
        question.to_lowercase().contains("authorization: bearer a-token-of-ours"),
        "{question}"
    );
    for part in [r#""username":"bob""#, r#""realm":"example.org""#, r#""client":"127.0.0.1""#] {
        assert!(question.contains(part), "{part} in {question}");
    }
    assert_eq!(Some(0), relay.stop());
}

/// Reads one HTTP request, says what bob's password is and that there is nobody else, and closes.
fn answer_for_bob(mut stream: TcpStream) -> String {
    let mut question = Vec::new();
    let mut part = [0; 4096];
    while !question.ends_with(b"}") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => question.extend_from_slice(&part[..length]),
        }
    }
    let question = String::from_utf8_lossy(&question).into_owned();
    let (status, body) = match question.contains(r#""username":"bob""#) {
        true => ("200 OK", r#"{"password": "his password", "keep": 5}"#),
        false => ("404 Not Found", "{}"),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    // Who does not wait for the answer does not get it.
    let _ = write!(stream, "{head}content-type: application/json\r\n\r\n{body}");
    question
}
