//! `sterna serve` while all is well.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;
use serde_json::Value;
use sterna_client::{AllocateOptions, Client, ClientOptions, Credentials, Protocol};
use sterna_proto::stun::{Method, RequestedTransport};

use crate::program::{Daemon, Home, PATIENCE};

const ANYWHERE: &str = "listen: ['udp://127.0.0.1:0']\n";

fn client(server: SocketAddr, username: &str, password: &str) -> Client {
    let credentials = Some(Credentials::new(username, password));
    let options = ClientOptions { credentials, ..ClientOptions::default() };
    Client::connect(server, options).expect("loopback can be reached")
}

/// The one JSON document that a first run prints.
fn first_credential(relay: &Daemon) -> Value {
    let mut text = String::new();
    loop {
        text.push_str(&relay.out_line().expect("a whole document"));
        if let Ok(json) = serde_json::from_str(&text) {
            return json;
        }
    }
}

#[test]
fn a_first_run_is_usable_and_its_secret_stays() {
    let home = Home::new();
    let secret = home.path().join(".local/state/sterna/rest_secret");
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let mut relay = home.serve(ANYWHERE);
        let json = first_credential(&relay);
        let server = &json["iceServers"][0];
        let url = format!("turn:{}?transport=udp", relay.address());
        assert_eq!(Value::from(vec![url]), server["urls"]);
        let text = |key: &str| server[key].as_str().expect("a text");

        let allocated = client(relay.address(), text("username"), text("credential"))
            .allocate(&AllocateOptions::default())
            .expect("the printed credential is good");

        assert_eq!("127.0.0.1", allocated.relayed.0.ip().to_string());
        assert!((49152..).contains(&allocated.relayed.0.port()));
        let mode = fs::metadata(&secret).expect("it is kept").permissions().mode();
        assert_eq!(0o600, mode & 0o777);
        secrets.push(fs::read_to_string(&secret).expect("it is ours"));
        assert_eq!(Some(0), relay.stop(), "with an allocation in use: {:#?}", relay.log);
        let log = relay.log.join("\n");
        assert!(!log.contains(text("credential")) && !log.contains(secrets[0].trim()), "{log}");
    }
    assert_eq!(secrets[0], secrets[1]);
}

#[test]
fn a_kept_secret_mints_further_credentials() {
    let home = Home::new();
    let mut relay = home.serve(ANYWHERE);
    let url = format!("turn:{}", relay.address());

    let finished = home.run(&["credential", "-c", "turn.yaml", "--user", "x", "--url", &url]);

    let json: Value = serde_json::from_str(&finished.out).expect("one JSON document");
    let text = |key: &str| json["iceServers"][0][key].as_str().expect("a text").to_owned();
    client(relay.address(), &text("username"), &text("credential"))
        .allocate(&AllocateOptions::default())
        .expect("the minted credential is good");
    assert_eq!(Some(0), relay.stop());
}

#[test]
fn tcp_is_relayed_unless_the_configuration_says_otherwise() {
    for (tcp, expected) in [(true, Ok(())), (false, Err(Some(442)))] {
        let home = Home::new();
        let mut relay = home.serve(&format!(
            "listen: ['tcp://127.0.0.1:0']\nrelay: {{tcp: {tcp}}}\nauth: {{users: {{x: y}}}}\n"
        ));
        let credentials = Some(Credentials::new("x", "y"));
        let options = ClientOptions { credentials, ..ClientOptions::default() };
        let client = Client::dial(relay.address_of("tcp"), &Protocol::Tcp, options);
        let mut client = client.expect("loopback can be reached");

        let answer = client.transact(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::TCP);
        });

        assert_eq!(expected, answer.map(drop).map_err(|error| error.refusal_code()));
        if !tcp {
            let plain = AllocateOptions::default();
            client.allocate(&plain).expect("UDP is relayed all the same");
        }
        assert_eq!(Some(0), relay.stop());
    }
}

#[test]
fn with_credentials_configured_none_is_made_or_printed() {
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}auth: {{users: {{Alice: hunter2}}}}"));

    client(relay.address(), "Alice", "hunter2")
        .allocate(&AllocateOptions::default())
        .expect("Alice may allocate");
    let refused = client(relay.address(), "alice", "hunter2").allocate(&AllocateOptions::default());

    assert_eq!(Some(401), refused.expect_err("names keep their case").refusal_code());
    assert_eq!(Some(0), relay.stop());
    assert_eq!(None, relay.out_line());
    assert!(!home.path().join(".local/state/sterna/rest_secret").exists());
    assert!(!relay.log.join("\n").contains("hunter2"));
}

#[test]
fn the_log_says_what_is_served() {
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}workers: 2\nrelay: {{ports: 50000-50009}}"));

    assert_eq!(Some(0), relay.stop());
    let line = |text: &str| {
        let found = relay.log.iter().find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} in {:#?}", relay.log)).clone()
    };
    assert!(line("starting").contains("configuration: "));
    assert!(line("capacity").contains("allocations: 10"), "{}", line("capacity"));
    assert!(line("capacity").contains("bound_by: relay_ports"));
    let ready = line("ready");
    assert!(ready.contains("workers: 2") && ready.contains("ports: 50000-50009"), "{ready}");
    assert!(line("stopping").contains("signal: TERM"));
    assert!(relay.log.last().is_some_and(|last| last.contains("stopped")), "{:#?}", relay.log);
}

#[test]
fn a_connection_is_counted_beside_the_relay_socket_of_its_client() {
    let yaml = "listen: ['udp://127.0.0.1:0', 'tcp://127.0.0.1:0']\nworkers: 1\n\
                relay: {ports: 1024-65535, addresses: [127.0.0.1]}";
    let mut relay = Home::new().serve(yaml);

    assert_eq!(Some(0), relay.stop());
    let capacity = relay.log.iter().find(|line| line.contains("capacity")).expect("it is told");
    let number = |field: &str| {
        let (_, rest) = capacity.split_once(&format!("{field}: ")).expect(capacity);
        rest.split(',').next().and_then(|n| n.trim().parse::<u64>().ok()).expect(capacity)
    };
    let sockets = number("open_files") - 38;
    assert_eq!(sockets.min(64_512), number("allocations"), "{capacity}");
    assert_eq!((sockets / 2).min(64_512), number("over_streams"), "{capacity}");
}

#[test]
fn a_json_log_is_an_object_on_each_line() {
    let home = Home::new();
    let mut relay = home.serve(&format!("{ANYWHERE}log: {{format: json, level: debug}}"));
    assert_eq!(Some(0), relay.stop());

    assert!(relay.log.len() > 3);
    for line in &relay.log {
        let record: Value = serde_json::from_str(line).expect(line);
        for key in ["time", "level", "message"] {
            assert!(record[key].is_string(), "{key} in {line}");
        }
        let is_flat = |value: &Value| !value.is_object() && !value.is_array();
        assert!(record.as_object().is_some_and(|record| record.values().all(is_flat)), "{line}");
    }
}

#[test]
fn the_service_manager_hears_of_ready_and_stopping() {
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("the folder is ours");
    manager.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
    let yaml = home.write("turn.yaml", ANYWHERE);
    let mut command = home.command(&["-c"]);
    command.arg(yaml).env("NOTIFY_SOCKET", &path);
    let mut relay = Daemon::spawn(command);
    let hear = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).expect("the relay tells");
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };

    assert_eq!("READY=1", hear());
    relay.signal(Signal::SIGTERM);
    assert_eq!("STOPPING=1", hear());
    assert_eq!(Some(0), relay.finish().code());
}

#[test]
fn state_is_kept_where_the_service_manager_says() {
    let home = Home::new();
    let yaml = home.write("turn.yaml", ANYWHERE);
    let mut command = home.command(&["serve", "-c"]);
    command.arg(yaml).env("STATE_DIRECTORY", home.path().join("var/lib/sterna"));
    let mut relay = Daemon::spawn(command);
    relay.wait_for("ready");

    assert_eq!(Some(0), relay.stop());
    assert!(home.path().join("var/lib/sterna/rest_secret").exists());
}
