//! Tables of configurations: what each comes to, and in which words it is refused.

use std::net::IpAddr;
use std::time::Duration;

use slog::Level;
use sterna_actors::config::Listen;
use sterna_proto::address::TransportProtocol;

use super::*;
use crate::machine::Machine;
use crate::secret::Secret;

const TURN_YAML: &str = include_str!("../../turn.yaml");

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

fn with(yaml: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    parse(yaml, &Origin::File("turn.yaml".into()), environment(variables))
}

fn config(yaml: &str) -> Config {
    with(yaml, &[]).expect(yaml).config
}

fn error(yaml: &str) -> String {
    with(yaml, &[]).expect_err(yaml).to_string()
}

#[test]
fn turn_yaml_says_the_built_in_defaults() {
    assert_eq!(config(""), config(TURN_YAML));
}

#[test]
fn turn_yaml_has_every_key() {
    fn missing(node: &keys::Node, yaml: &str, here: &str) -> Vec<String> {
        let keys::Node::Group(below) = node else { return Vec::new() };
        let mut gone = Vec::new();
        for (key, node) in below {
            let path = keys::join(here, key);
            let indent = "  ".repeat(path.matches('.').count());
            if !yaml.lines().any(|line| line.starts_with(&format!("{indent}{key}:"))) {
                gone.push(path.clone());
            }
            gone.extend(missing(node, yaml, &path));
        }
        gone
    }
    assert_eq!(Vec::<String>::new(), missing(&keys::Node::root(), TURN_YAML, ""));
}

#[test]
fn a_file_of_comments_and_empty_groups_sets_nothing() {
    assert_eq!(config(""), config("# nothing\nrelay:\n  # nothing\nrealm:\nauth:\n  users:\n"));
}

/// Listeners as texts.
fn listed(listeners: &[Listen]) -> Vec<String> {
    listeners.iter().map(|listener| format!("{listener} {:?}", listener.proxy)).collect()
}

#[test]
fn values_are_read() {
    let config = config(
        r#"
realm: turn.example.com
listen: ["udp://192.0.2.1:3478", "tcp://[2001:db8::1]:3478"]
workers: 3
wake_interval: 1ms 500us
relay:
  addresses: [192.0.2.1, "2001:db8::1"]
  external: {"192.0.2.1": 203.0.113.5}
  ports: 50000-50100
  device: eth1
auth:
  users:
    Alice.B@example.org: "pass: word"
    bob: {md5_key: "000102030405060708090a0b0c0d0e0f"}
    1234: "number as a name"
  rest_secrets: [north, "south"]
lifetimes: {allocation: 10m, allocation_max: 2h, permission: 5m, nonce: 1s, reservation: 1m}
peers: {allow: [10.1.2.0/24, "fd00::1"], deny: [203.0.113.0/24]}
limits:
  unauthenticated_answers_per_second: 0
  channels_per_allocation: 7
  connections_per_allocation: 8
  stream_buffer: 1MiB
stun: {software: tern, rfc5766_channel_numbers: true}
log: {level: debug, format: json}
state_folder: /var/lib/tern
"#,
    );

    assert_eq!("turn.example.com", config.realm);
    let listen = vec!["udp://192.0.2.1:3478 None", "tcp://[2001:db8::1]:3478 None"];
    assert_eq!(listen, listed(&config.listen));
    assert_eq!(Workers::Fixed(3), config.workers);
    assert_eq!(Duration::from_micros(1500), config.wake_interval);
    let ip = |text: &str| text.parse::<IpAddr>().expect(text);
    let named = RelayAddresses::Named(vec![ip("192.0.2.1"), ip("2001:db8::1")]);
    assert_eq!(named, config.relay.addresses);
    assert_eq!(vec![(ip("192.0.2.1"), ip("203.0.113.5"))], config.relay.external);
    assert_eq!(50000..=50100, config.relay.ports);
    assert_eq!(Some("eth1"), config.relay.device.as_deref());
    let names: Vec<&str> = config.auth.users.keys().map(String::as_str).collect();
    assert_eq!(vec!["1234", "Alice.B@example.org", "bob"], names);
    let secret = |name| config.auth.users.get(name).map(|user| &user.secret);
    let password = UserSecret::Password(Secret::new("pass: word".to_owned()));
    assert_eq!(Some(&password), secret("Alice.B@example.org"));
    let key = Secret::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let keys = UserSecret::Keys { md5: Some(key), sha256: None };
    assert_eq!(Some(&keys), secret("bob"));
    let signing = config.signing_secret("turn.example.com");
    assert_eq!(Some("north"), signing.map(|s| s.expose().as_str()));
    assert_eq!(2, config.auth.rest_secrets.len());
    assert_eq!(Duration::from_secs(600), config.lifetimes.allocation);
    assert_eq!(Duration::from_secs(7200), config.lifetimes.allocation_max);
    assert_eq!(Duration::from_secs(1), config.lifetimes.nonce);
    assert_eq!("[10.1.2.0/24, fd00::1/128]", format!("{:?}", config.peers.allow));
    assert_eq!(0, config.limits.unauthenticated_answers_per_second);
    assert_eq!(7, config.limits.channels_per_allocation);
    assert_eq!(8, config.limits.connections_per_allocation);
    assert_eq!(1024 * 1024, config.limits.stream_buffer);
    assert_eq!(Duration::from_secs(10), config.limits.connection_setup);
    assert_eq!(Some("tern"), config.stun.software.as_deref());
    assert!(config.stun.rfc5766_channel_numbers);
    assert_eq!(LogConfig { level: Level::Debug, format: LogFormat::Json }, config.log);
    assert_eq!(StateFolder::Named("/var/lib/tern".into()), config.state_folder);
}

/// Each text is refused in one line that has the words beside it.
fn assert_refused(cases: &[(&str, &str)]) {
    for &(yaml, expected) in cases {
        let error = error(yaml);
        assert!(error.starts_with("turn.yaml: "), "{yaml}: {error}");
        assert!(error.contains(expected), "{yaml}: {error}");
        assert_eq!(1, error.lines().count(), "{yaml}: {error}");
    }
}

#[test]
fn faults_of_listeners_and_workers_name_key_value_and_cure() {
    assert_refused(&[
        ("realm: ''", r#"realm: "" is no realm"#),
        ("listen: []", "listen: is empty; list at least one, as in udp://0.0.0.0:3478"),
        ("listen: ['http://0.0.0.0:1']", "has an unknown scheme; there are udp, tcp, tls and dtls"),
        (
            "listen: ['0.0.0.0:3478']",
            r#"listen: "0.0.0.0:3478" has no scheme; write it as in udp:"#,
        ),
        ("listen: ['udp://localhost:3478']", "is not IP:PORT behind the scheme"),
        ("listen: ['udp://127.0.0.1:99999']", r#"listen: "udp://127.0.0.1:99999" is not IP:PORT"#),
        (
            "listen: ['tcp://1.2.3.4:5', 'udp://1.2.3.4:5', {url: 'tcp://1.2.3.4:5'}]",
            r#"listen: "tcp://1.2.3.4:5" is listed twice"#,
        ),
        ("workers: many", r#"workers: "many" is not a whole number from 0 to 1024"#),
        ("workers: 1025", r#"workers: "1025" is not from 0 to 1024"#),
        ("workers: -1", r#"workers: "-1" is not a whole number"#),
        ("wake_interval: 300", r#"wake_interval: "300" is not a duration; write it as in 300us"#),
        ("wake_interval: 11ms", r#"wake_interval: "11ms" is not from 0s to 10ms"#),
    ]);
}

#[test]
fn faults_of_the_relay_name_key_value_and_cure() {
    assert_refused(&[
        ("relay: {addresses: [0.0.0.0]}", "stands for every address; name one"),
        ("relay: {addresses: [224.0.0.1]}", "is not the address of one host"),
        ("relay: {addresses: [relay.example.org]}", "is not an IP address; host names are not"),
        ("relay: {addresses: ['::ffff:192.0.2.1']}", "write the IPv4 address"),
        ("relay: {external: {'10.0.0.1': '2001:db8::1'}}", "both must be of one family"),
        (
            "relay: {external: {10.0.0.1: 203.0.113.1, 10.0.0.2: 203.0.113.1}}",
            "relay.external: 10.0.0.2: 203.0.113.1 is the second private address",
        ),
        ("relay: {external: {eth0: 203.0.113.1}}", r#"relay.external: "eth0" is not an IP"#),
        ("relay: {ports: 65535-49152}", r#"relay.ports: "65535-49152" runs backwards"#),
        (
            "relay: {ports: 1000-2000}",
            "relay.ports: \"1000-2000\" reaches into the ports of system",
        ),
        ("relay: {ports: 50000}", "is not a port range; write LOW-HIGH"),
        ("relay: {ports: 50000-70000}", "is not a port range"),
        ("relay: {tcp: 0}", r#"relay.tcp: "0" is neither true nor false"#),
        ("relay: {device: a-name-that-is-too-long}", "is not the name of a network device"),
    ]);
}

#[test]
fn faults_of_credentials_name_key_value_and_cure() {
    assert_refused(&[
        ("auth: {users: {'': x}}", "auth.users.: is a user without a name"),
        ("auth: {users: {alice: ''}}", "auth.users.alice: the password is empty"),
        ("auth: {users: {alice: 0123}}", "auth.users.alice: the password reads as a number"),
        ("auth: {users: {alice: true}}", "or a truth value; put it in quotes"),
        ("auth: {users: {alice: <redacted>}}", "is the placeholder of a printed configuration"),
        ("auth: {users: {alice: \"a\\u0007b\"}}", "the password holds characters"),
        ("auth: {users: {alice: {}}}", "has neither a password nor md5_key nor sha256_key"),
        ("auth: {users: {alice: {md5_key: abc}}}", "md5_key is not a key of 32 hexadecimal digits"),
        ("auth: {users: {alice: {sha_key: 'x'}}}", "auth.users.alice: unknown field `sha_key`"),
        ("auth: {users: {alice: [x]}}", "auth.users.alice"),
        ("auth: {users: {'1700000000:bob': x}}", "reads like a time-limited credential"),
        ("auth: {users: [alice]}", "auth.users: takes a map"),
        ("auth: {rest_secrets: ['']}", "auth.rest_secrets: the secret is empty"),
        ("auth: {rest_secrets: [1e5]}", "the secret reads as a number"),
        ("auth: {rest_secrets: secret}", "auth.rest_secrets: takes a list"),
    ]);
}

#[test]
fn faults_of_other_values_name_key_value_and_cure() {
    assert_refused(&[
        ("lifetimes: {nonce: 0s}", r#"lifetimes.nonce: "0s" is not from 1s to 1day"#),
        ("lifetimes: {permission: 0s}", "lifetimes.permission"),
        ("lifetimes: {channel: 600}", r#"lifetimes.channel: "600" has no unit; write 600s"#),
        ("lifetimes: {channel: soon}", "is not a duration"),
        ("lifetimes: {nonce: 1500ms}", "is not in whole seconds"),
        ("lifetimes: {reservation: 10s}", "is not from 30s to 10m"),
        ("lifetimes: {allocation: 2h}", r#""2h" is above lifetimes.allocation_max"#),
        (
            "peers: {allow: [10.0.0.1/8]}",
            r#""10.0.0.1/8" has bits set behind its prefix; write 10.0"#,
        ),
        ("peers: {deny: [10.0.0.0/33]}", "peers.deny: \"10.0.0.0/33\" is not a network"),
        ("peers: {deny: [10.0.0.0-10.0.0.9]}", "is not a network; write it as in 10.0.0.0/8"),
        ("limits: {channels_per_allocation: 0}", "is not from 1 to 16383"),
        ("limits: {connections_per_allocation: 1025}", "is not from 1 to 1024"),
        ("stun: {rfc5766_channel_numbers: yes}", r#""yes" is neither true nor false"#),
        ("log: {level: verbose}", "is no level: error, warning, info, debug, trace"),
        ("log: {format: xml}", "is no format: text, json"),
        ("state_folder: state", r#"state_folder: "state" is not an absolute path"#),
        ("relay: 5", "relay: is a group of keys: addresses, device, external, ports, tcp"),
        ("realm: [a]", "realm: takes a single value"),
        ("listen: udp://0.0.0.0:3478", "listen: takes a list"),
        ("- a", "turn.yaml: "),
        ("realm: a\nrealm: b", "duplicated key"),
        ("realm: [a", "while parsing a flow sequence"),
    ]);
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    let cases = [
        (
            "realms: {north: {limit: {}}}",
            "realms.north.limit: unknown key; did you mean realms.north.limits?",
        ),
        ("auth: {store: []}", "auth.store: unknown key; did you mean auth.stores?"),
        ("auth: {oauth: {kids: {}}}", "did you mean auth.oauth.keys?"),
        ("relay: {port: 1-2}", "relay.port: unknown key; did you mean relay.ports?"),
        ("Realm: x", "Realm: unknown key; did you mean realm?"),
        ("ports: 1-2", "ports: unknown key; did you mean relay.ports?"),
        ("lifetime: {nonce: 1s}", "lifetime: unknown key; did you mean lifetimes?"),
        ("lifetimes: {permissions: 1s}", "did you mean lifetimes.permission?"),
        ("log: {colour: true}", "log.colour: unknown key; known here: format, level"),
        ("tls: {certificate: []}", "tls.certificate: unknown key; did you mean tls.certificates?"),
        ("colour: {}", "colour: unknown key; known here: auth, lifetimes, limits"),
    ];
    for (yaml, expected) in cases {
        let error = error(yaml);
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}

#[test]
fn no_fault_shows_a_secret() {
    let cases = [
        "auth: {users: {alice: {md5_key: 'hunter2'}}}",
        "auth: {users: {alice: ' hunter2'}}",
        "auth: {users: {alice: [hunter2]}}",
        "auth: {users: {alice: {md5_key: [hunter2]}}}",
        "auth: {rest_secrets: [['hunter2']]}",
        "auth: {rest_secrets: ['hunter2 ']}",
        "auth: {rest_secrets: hunter2}",
    ];
    for yaml in cases {
        let error = error(yaml);
        assert!(!error.contains("hunter2"), "{yaml}: {error}");
    }
}

#[test]
fn no_debug_output_shows_a_secret() {
    let key = "000102030405060708090a0b0c0d0e0f";
    let yaml = format!(
        "auth: {{users: {{a: hunter2, b: {{md5_key: '{key}'}}}}, rest_secrets: [hunter3]}}"
    );
    let shown = format!("{:?}", config(&yaml));
    assert!(shown.contains("redacted"));
    for secret in ["hunter", key, "[0, 1, 2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let yaml = "realm: file\nrelay: {ports: 1024-2048}\nauth: {users: {Bob: b}}";
    let loaded = with(
        yaml,
        &[
            ("STERNA__RELAY__PORTS", "50000-50100"),
            ("STERNA__LISTEN", "udp://127.0.0.1:0, tls://[::1]:0"),
            ("STERNA__TLS__CERTIFICATES", "/a.pem=/b.pem, /c.pem=/c.pem"),
            ("STERNA__RELAY__EXTERNAL", "10.0.0.5=203.0.113.5,fd00::5=2001:db8::5"),
            ("STERNA__AUTH__USERS__Alice.B", "0123"),
            ("STERNA__AUTH__USERS__under__score", "x,y"),
            ("STERNA__PEERS__ALLOW", ""),
            ("STERNA_PORT", "not ours"),
            ("OTHER__RELAY__PORTS", "not ours"),
        ],
    )
    .expect("every variable names a key");

    let config = loaded.config;
    assert_eq!("file", config.realm);
    assert_eq!(50000..=50100, config.relay.ports);
    assert_eq!(vec!["udp://127.0.0.1:0 None", "tls://[::1]:0 None"], listed(&config.listen));
    assert_eq!(2, config.tls.certificates.len());
    assert_eq!(2, config.relay.external.len());
    assert_eq!(Vec::<ipnet::IpNet>::new(), config.peers.allow);
    let names: Vec<&str> = config.auth.users.keys().map(String::as_str).collect();
    assert_eq!(vec!["Alice.B", "Bob", "under__score"], names);
    let password = |name| match config.auth.users.get(name).map(|user| &user.secret) {
        Some(UserSecret::Password(password)) => password.expose().as_str(),
        Some(UserSecret::Keys { .. }) | None => "no password",
    };
    assert_eq!("0123", password("Alice.B"));
    assert_eq!("x,y", password("under__score"));
    assert!(loaded.variables.contains(&"STERNA__RELAY__PORTS".to_owned()));
}

#[test]
fn wrong_variables_are_named() {
    let cases = [
        ("STERNA__RELAY__PORT", "1-2", "did you mean STERNA__RELAY__PORTS?"),
        ("STERNA__REALM__X", "1", "environment: STERNA__REALM__X: sets no known key"),
        ("STERNA__", "1", "sets no known key"),
        ("STERNA__COLOUR", "1", "known groups and keys: auth, lifetimes"),
        ("STERNA__RELAY", "1", "names a group of keys; set STERNA__RELAY__ADDRESSES"),
        ("STERNA__AUTH__USERS__", "x", "sets no known key"),
        ("STERNA__AUTH__USERS", "alice", "is not of the form name=value"),
        ("STERNA__WORKERS", "x", r#"STERNA__WORKERS: workers: "x" is not a whole number"#),
        ("STERNA__LISTEN", "ftp://0.0.0.0:1", "STERNA__LISTEN: listen: "),
        ("STERNA__TLS__CERTIFICATES", "/a.pem", "is not CERTIFICATE=KEY"),
        (
            "STERNA__AUTH__USERS__A",
            "",
            "STERNA__AUTH__USERS__A: auth.users.A: the password is empty",
        ),
    ];
    for (variable, value, expected) in cases {
        let error = with("", &[(variable, value)]).expect_err(variable).to_string();
        assert!(error.contains(expected), "{variable}={value}: {error}");
        assert_eq!(1, error.lines().count(), "{error}");
    }
}

#[test]
fn risky_values_are_warned_about() {
    let cases = [
        ("realm: example.org", "realm: example.org is the example"),
        (
            "peers: {allow: [10.1.0.0/16]}",
            "10.1.0.0/16 lets clients reach addresses that are private",
        ),
        ("peers: {allow: [0.0.0.0/0]}", "link-local"),
        ("peers: {allow: [172.0.0.0/8]}", "private"),
        ("peers: {allow: [127.0.0.1]}", "loopback"),
        ("peers: {allow: ['::/0']}", "unique local"),
        ("auth: {rest_secrets: [short]}", "auth.rest_secrets: one is shorter than 16 bytes"),
        (
            "auth: {users: {bob: {md5_key: '000102030405060708090a0b0c0d0e0f'}}}",
            "auth.users.bob: has an md5_key alone",
        ),
        ("listen: ['udp://127.0.0.1:50000']", "holds the port of the listener 127.0.0.1:50000"),
        ("listen: ['tcp://127.0.0.1:50000']", "holds the port of the listener 127.0.0.1:50000"),
        ("lifetimes: {permission: 60s}", "lifetimes.permission: RFC 8656 fixes it at 300s"),
        (
            "listen: [{url: 'tcp://0.0.0.0:1', proxy_protocol: true, trusted: ['::/0']}]",
            "listen: tcp://0.0.0.0:1 trusts every source",
        ),
        ("tls: {certificates: ['/c=/k'], self_signed: true}", "tls.self_signed: has no effect"),
        (
            "{tls: {self_signed: true, client_ca: /a}, listen: ['tls://[::]:1', 'tcp://[::]:2']}",
            "tls.client_ca: clients of tcp://[::]:2 need no certificate",
        ),
        ("lifetimes: {channel: 60s}", "lifetimes.channel: RFC 8656 fixes it at 600s"),
    ];
    for (yaml, expected) in cases {
        let warnings = with(yaml, &[]).expect(yaml).warnings.join("\n");
        assert!(warnings.contains(expected), "{yaml}: {warnings}");
    }
}

#[test]
fn sound_values_are_not_warned_about() {
    let yaml = "realm: turn.example.com\npeers: {allow: [203.0.113.0/24, 8.8.8.8], deny: [0.0.0.0/0]}\n\
         listen: ['tcp://127.0.0.1:50000']\nrelay: {tcp: false}";
    assert_eq!(Vec::<String>::new(), with(yaml, &[]).expect(yaml).warnings);
}

#[test]
fn users_without_a_common_kind_of_key_are_refused() {
    let md5 = "0".repeat(32);
    let sha256 = "0".repeat(64);
    let yaml =
        format!("auth: {{users: {{a: {{md5_key: '{md5}'}}, b: {{sha256_key: '{sha256}'}}}}}}");
    assert!(error(&yaml).contains("auth.users: some have an md5_key alone"), "{}", error(&yaml));
}

#[test]
fn a_user_name_with_a_line_break_stays_on_one_line() {
    let error = error("auth: {users: {\"a\\nb\": ''}}");
    assert_eq!(1, error.lines().count(), "{error}");
    assert!(error.contains(r"auth.users.a\nb: "), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Some(Path::new("/nonexistent/turn.yaml")), environment(&[]))
        .expect_err("there is no such file")
        .to_string();
    assert!(error.starts_with("/nonexistent/turn.yaml: No such file"), "{error}");
}

fn machine(addresses: &[&str]) -> Machine {
    Machine {
        cores: 4,
        addresses: addresses.iter().map(|ip| ip.parse().expect("a table of addresses")).collect(),
        devices: ["lo", "eth0"].map(str::to_owned).into(),
        has_ipv6: true,
    }
}

#[test]
fn wildcards_relay_from_the_addresses_of_the_machine() {
    let cases: [(&str, &[&str], &[&str]); 6] = [
        (
            "",
            &["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1", "fe80::1"],
            &["192.0.2.1", "2001:db8::1"],
        ),
        ("", &["127.0.0.1", "::1"], &["127.0.0.1", "::1"]),
        // An IPv6 loopback is no use to a client that comes in from elsewhere by IPv4.
        ("", &["127.0.0.1", "192.0.2.1", "::1"], &["192.0.2.1"]),
        (
            "listen: ['udp://0.0.0.0:1']",
            &["192.0.2.1", "192.0.2.2", "2001:db8::1"],
            &["192.0.2.1", "192.0.2.2"],
        ),
        ("listen: ['udp://127.0.0.1:1', 'udp://127.0.0.1:2']", &["192.0.2.1"], &["127.0.0.1"]),
        ("relay: {addresses: [192.0.2.7]}", &["192.0.2.1"], &["192.0.2.7"]),
    ];
    for (yaml, addresses, expected) in cases {
        let resolved = resolve(config(yaml), &machine(addresses)).expect(yaml);
        let relayed: Vec<String> =
            resolved.relay_addresses.iter().map(ToString::to_string).collect();
        assert_eq!(expected, relayed, "{yaml} on {addresses:?}");
        assert_eq!(4, resolved.workers);
    }
}

#[test]
fn a_machine_without_ipv6_serves_ipv4() {
    let machine = Machine { has_ipv6: false, ..machine(&["192.0.2.1"]) };

    let resolved = resolve(config(""), &machine).expect("IPv4 is left");

    let left = vec!["udp://0.0.0.0:3478 None", "tcp://0.0.0.0:3478 None"];
    assert_eq!(left, listed(&resolved.listen));
    assert_eq!(vec!["listen: this machine has no IPv6; [::] is left out"], resolved.warnings);
    let only_v6 = resolve(config("listen: ['udp://[::]:3478']"), &machine).map(|_| ());
    let why = "names only [::], and this machine has no IPv6";
    assert_eq!(Err(Fault::new("listen", why)), only_v6);
}

#[test]
fn what_the_machine_has_not_is_refused() {
    let cases = [
        ("relay: {device: eth7}", "relay.device: \"eth7\" is no device of this machine, which has"),
        (
            "relay: {external: {10.0.0.1: 203.0.113.1}}",
            "relay.external: 10.0.0.1 is none of the relay addresses, which are 192.0.2.1",
        ),
        ("listen: ['udp://[::]:1']", "relay.addresses: no interface has an address"),
    ];
    for (yaml, expected) in cases {
        let fault = resolve(config(yaml), &machine(&["192.0.2.1"])).expect_err(yaml).to_string();
        assert!(fault.contains(expected), "{yaml}: {fault}");
    }
}

#[test]
fn clients_are_told_external_addresses() {
    let yaml = "relay: {external: {192.0.2.1: 203.0.113.1}}";
    let machine = machine(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let resolved = resolve(config(yaml), &machine).expect(yaml);

    let seen = |address: &str| {
        let address = address.parse().expect("an address");
        resolved.as_clients_see(&Listen::direct(TransportProtocol::Tls, address), &machine)
    };

    let v4 = vec!["tls://203.0.113.1:3478 None", "tls://192.0.2.2:3478 None"];
    assert_eq!(v4, listed(&seen("0.0.0.0:3478")));
    assert_eq!(vec!["tls://192.0.2.9:5 None"], listed(&seen("192.0.2.9:5")));
}

#[test]
fn a_printed_configuration_is_read_back_as_itself() {
    let yaml = "relay: {external: {192.0.2.1: 203.0.113.1}, ports: 50000-50100, device: eth0, tcp: false}\n\
                realm: 'yes'\nworkers: 2\nlisten: ['udp://[::]:1', 'udp://0.0.0.0:2', \
                {url: 'tls://0.0.0.0:443', proxy_protocol: true, trusted: [10.0.0.0/8]}]\n\
                tls: {certificates: ['/c.pem=/k.pem'], client_ca: /ca.pem}\n\
                limits: {connection_setup: 1m, stream_buffer: 1025KiB}\n\
                lifetimes: {nonce: 90s}\npeers: {allow: [203.0.113.0/24]}\nstun: {software: '1'}\n\
                log: {level: trace, format: json}\nstate_folder: /var/lib/tern";
    let machine = machine(&["192.0.2.1", "2001:db8::1"]);
    let resolved = resolve(config(yaml), &machine).expect(yaml);

    let printed = show(&resolved, Path::new("/var/lib/tern")).expect("texts are YAML");
    let again = resolve(config(&printed), &machine).expect(&printed);

    let named = RelayAddresses::Named(resolved.relay_addresses.clone());
    let mut expected = resolved.config.clone();
    expected.relay.addresses = named;
    assert_eq!(expected, again.config);
    assert_eq!(resolved.listen, again.listen);
}

#[test]
fn a_printed_configuration_has_no_secret_and_does_not_start() {
    let key = "0".repeat(64);
    let yaml = format!(
        "auth: {{users: {{Alice: hunter2, bob: {{sha256_key: '{key}'}}}}, rest_secrets: [hunter3]}}"
    );
    let resolved = resolve(config(&yaml), &machine(&["192.0.2.1"])).expect("it is complete");

    let printed = show(&resolved, Path::new("/")).expect("texts are YAML");

    assert!(printed.contains("Alice: <redacted>"), "{printed}");
    assert!(printed.contains("sha256_key: <redacted>"), "{printed}");
    assert!(!printed.contains("hunter") && !printed.contains(&key), "{printed}");
    assert!(error(&printed).contains("is the placeholder of a printed configuration"));
}
