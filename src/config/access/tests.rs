//! Tables of users, realms, stores and quotas: what each comes to, and how it is refused.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use super::super::{Config, LoadError, Loaded, Origin, parse, resolve, show};
use super::*;
use crate::config::Sources;
use crate::machine::Machine;

fn with(yaml: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
    let variables: Vec<(OsString, OsString)> = variables.collect();
    parse(yaml, &Origin::File("turn.yaml".into()), variables)
}

fn config(yaml: &str) -> Config {
    with(yaml, &[]).expect(yaml).config
}

fn machine() -> Machine {
    let addresses = vec!["192.0.2.1".parse::<IpAddr>().expect("an address")];
    Machine { cores: 1, addresses, devices: [].into(), has_ipv6: false }
}

const WHOLE: &str = r#"
realm: north.example
realms:
  north.example: {origins: ["https://north.example"], limits: {allocations: 10}}
  south.example:
    origins: ["https://south.example", "https://app.south.example:8443"]
    users: {Bob: "south wind"}
    rest_secrets: [a-secret-of-the-south]
    jwt: {secrets: [a-token-secret-of-the-south-32-bytes]}
    limits: {allocations: 100, allocations_per_user: 5, allocations_per_source: 6,
             bandwidth: 1Gbit/s, bandwidth_per_user: 10Mbit/s, bandwidth_per_allocation: 500kbit/s}
    peers: {allow: [10.1.0.0/16], deny: [203.0.113.9]}
  east.example:
listen: ["udp://192.0.2.1:3478", {url: "udp://192.0.2.1:3479", realm: south.example}]
auth:
  users:
    alice:
      password: "north wind"
      limits: {allocations: 3, bandwidth: 0}
      peers: {deny: ["2001:db8::/32"]}
  stores: [sqlite, "postgres://u:p@db.example/turn?sslmode=require"]
  expiry: strict
  cache: {entries: 1000, lifetime: 5m, outage: 2h}
  jwt: {secrets: [a-token-secret-of-the-north-32-bytes]}
  oauth:
    server_name: turn.north.example
    keys:
      Kid.1: {key: "MDEyMzQ1Njc4OWFiY2RlZg==", realm: south.example, valid_until: 2027-01-01}
  hook: {url: "https://app.example/turn?k=v", timeout: 1s, failures: 3, userhash: true}
limits: {allocations: 1000, bandwidth_per_allocation: 2Mbit/s, failed_logins_per_minute: 0}
"#;

#[test]
fn values_are_read() {
    let config = config(WHOLE);

    assert_eq!(Some("south.example"), config.listen[1].realm.as_deref());
    let names: Vec<&str> = config.realms.keys().map(String::as_str).collect();
    assert_eq!(vec!["east.example", "north.example", "south.example"], names);
    let south = &config.realms["south.example"];
    assert_eq!(vec!["https://south.example", "https://app.south.example:8443"], south.origins);
    let quotas = QuotaLimits {
        allocations: Some(100),
        allocations_per_user: Some(5),
        allocations_per_source: Some(6),
        bandwidth: Some(125_000_000),
        bandwidth_per_user: Some(1_250_000),
        bandwidth_per_allocation: Some(62_500),
    };
    assert_eq!(quotas, south.quotas);
    assert_eq!(vec!["10.1.0.0/16".parse::<IpNet>().expect("a network")], south.peers.allow);
    let auth = &config.auth;
    let alice = &auth.users["alice"];
    let limits = UserLimits {
        allocations: Some(3),
        bandwidth: Some(values::ANY_RATE),
        bandwidth_per_allocation: None,
    };
    assert_eq!(limits, alice.limits);
    assert_eq!(1, alice.peers.deny.len());
    let stores: Vec<String> = auth.stores.iter().map(ToString::to_string).collect();
    assert_eq!(vec!["sqlite", "postgres://db.example:5432/turn"], stores);
    assert_eq!(ExpiryPolicy::Strict, auth.expiry);
    let [lifetime, outage] = [300, 7200].map(Duration::from_secs);
    assert_eq!(CacheTerms { entries: 1000, lifetime, outage }, auth.cache);
    let oauth = auth.oauth.as_ref().expect("it is there");
    let key = &oauth.keys["Kid.1"];
    assert_eq!(b"0123456789abcdef", key.key.expose().as_slice());
    assert_eq!(Some((0, 1_798_761_600)), key.valid);
    assert_eq!(Duration::from_secs(1), auth.hook.as_ref().expect("it is there").timeout);
    assert!(auth.hook.as_ref().is_some_and(|hook| hook.userhash));
    assert_eq!(Some(250_000), config.limits.quotas.bandwidth_per_allocation);
    assert_eq!(0, config.limits.failed_logins_per_minute);
}

#[test]
fn the_policy_has_the_default_realm_first_with_what_realms_says_of_it() {
    let resolved = resolve(config(WHOLE), &machine()).expect("it fits");
    let sources = Sources { rest_secrets: vec![Secret::new("filed".into())], ..Sources::default() };

    let policy = resolved.policy(&sources);

    let names: Vec<&str> = policy.realms.iter().map(|realm| &*realm.name).collect();
    assert_eq!(vec!["north.example", "east.example", "south.example"], names);
    let north = &policy.realms[0];
    assert_eq!(vec!["https://north.example"], north.origins);
    assert_eq!(Some(10), north.quotas.allocations);
    assert_eq!(vec![b"filed".to_vec()], north.rest_secrets);
    assert_eq!("alice", north.users[0].0);
    assert_eq!(Some(3), north.users[0].1.limits.allocations);
    assert!(north.users[0].1.peers.is_some());
    let south = &policy.realms[2];
    assert!(south.users[0].1.peers.is_none());
    assert_eq!(1, south.jwt_secrets.len());
    let oauth = policy.oauth.expect("it is there");
    assert_eq!(Some("south.example"), oauth.keys[0].realm.as_deref());
    assert_eq!(Some(1000), policy.quotas.allocations);
}

#[test]
fn a_printed_configuration_has_no_secret_and_is_otherwise_itself() {
    let resolved = resolve(config(WHOLE), &machine()).expect("it fits");

    let printed = show(&resolved, std::path::Path::new("/")).expect("texts are YAML");

    for secret in ["wind", "secret-of", "MDEy", "u:p@", "sslmode", "k=v"] {
        assert!(!printed.contains(secret), "{secret}: {printed}");
    }
    let with_secrets = printed
        .replace("postgres://<redacted>@", "postgres://u:p@")
        .replace("https://<redacted>@", "https://")
        .replace("key: <redacted>", "key: MDEyMzQ1Njc4OWFiY2RlZg==")
        .replace("<redacted>", "a-secret-that-is-long-enough-for-jwt");
    let again = config(&with_secrets);
    assert_eq!(resolved.config.listen, again.listen);
    assert_eq!(resolved.config.limits, again.limits);
    assert_eq!(resolved.config.auth.cache, again.auth.cache);
    let quotas = |config: &Config| config.realms["south.example"].quotas;
    assert_eq!(quotas(&resolved.config), quotas(&again));
    assert_eq!(resolved.config.auth.users["alice"].limits, again.auth.users["alice"].limits);
    assert_eq!(resolved.config.realms.len(), again.realms.len());
}

/// Each text is refused in one line that has the words beside it.
fn assert_refused(cases: &[(&str, &str)]) {
    for &(yaml, expected) in cases {
        let error = with(yaml, &[]).expect_err(yaml).to_string();
        assert!(error.starts_with("turn.yaml: "), "{yaml}: {error}");
        assert!(error.contains(expected), "{yaml}: {error}");
        assert_eq!(1, error.lines().count(), "{yaml}: {error}");
    }
}

#[test]
fn faults_of_realms_name_key_value_and_cure() {
    assert_refused(&[
        ("realms: [north]", "realms: takes names, and under each of them a group of keys: jwt,"),
        ("realms: {north: 5}", "realms.north: is a group of keys: jwt, limits, origins"),
        ("realms: {'': {}}", r#"realms: "" is no realm"#),
        (
            "realms: {north: {origins: [north.example]}}",
            "realms.north.origins: \"north.example\" is not an origin; write it",
        ),
        ("realms: {north: {origins: ['https://a/b']}}", "an origin has no path"),
        ("realms: {north: {origins: ['https://A']}}", "write https://a"),
        (
            "realms: {a: {origins: ['https://x']}, b: {origins: ['https://x']}}",
            "realms.b.origins: \"https://x\" is an origin of the realm \"a\" already",
        ),
        ("realms: {north: {users: {bob: ''}}}", "realms.north.users.bob: the password is empty"),
        ("realms: {north: {rest_secrets: ['']}}", "realms.north.rest_secrets: the secret is empty"),
        ("realms: {north: {peers: {deny: [10.0.0.0/33]}}}", "realms.north.peers.deny: "),
        (
            "realms: {north: {limits: {bandwidth: 5MB/s}}}",
            "realms.north.limits.bandwidth: \"5MB/s\" is in bytes; rates are in bits",
        ),
        (
            "{realm: a, realms: {a: {users: {bob: x}}}, auth: {users: {bob: y}}}",
            "realms.a.users.bob: is in auth.users as well",
        ),
        (
            "listen: [{url: 'udp://1.2.3.4:5', realm: north}]",
            "listen.realm: \"north\" is no realm of this configuration; name it in realms",
        ),
        (
            "{realms: {north: {}}, tls: {self_signed: true}, listen: ['udp://1.2.3.4:5', \
             {url: 'dtls://1.2.3.4:5', realm: north}]}",
            "shares a socket with udp://1.2.3.4:5; give both the same realm",
        ),
    ]);
}

#[test]
fn faults_of_users_name_key_value_and_cure() {
    assert_refused(&[
        (
            "auth: {users: {a: {password: x, sha256_key: y}}}",
            "auth.users.a: has a password and keys",
        ),
        ("auth: {users: {a: {password: ''}}}", "auth.users.a: the password is empty"),
        ("auth: {users: {a: {limits: {}}}}", "auth.users.a: has neither a password nor"),
        (
            "auth: {users: {a: {password: x, limits: {allocations: -1}}}}",
            "auth.users.a.limits.allocations: \"-1\" is not a whole number from 0 to 100000000",
        ),
        (
            "auth: {users: {a: {password: x, limits: {bandwith: 1}}}}",
            "auth.users.a.limits: unknown field `bandwith`",
        ),
        (
            "auth: {users: {a: {password: x, peers: {allow: [x]}}}}",
            "auth.users.a.peers.allow: \"x\" is not a network",
        ),
    ]);
}

#[test]
fn faults_of_stores_name_key_value_and_cure() {
    assert_refused(&[
        ("auth: {stores: sqlite}", "auth.stores: takes a list"),
        (
            "auth: {stores: ['mongodb://h/d']}",
            "auth.stores: mongodb: is no store; there are sqlite",
        ),
        ("auth: {stores: ['postgres:///turn']}", "auth.stores: postgres: needs a host"),
        ("auth: {stores: ['redis://h/x']}", "auth.stores: redis: its path is no database"),
        ("auth: {stores: [sqlite, sqlite]}", "auth.stores: sqlite is listed twice"),
        ("auth: {stores: ['postgres://<redacted>@h/d']}", "auth.stores: a URL is one of a printed"),
        (
            "auth: {rest_secrets_file: secrets}",
            "auth.rest_secrets_file: \"secrets\" is not an absolute",
        ),
        ("auth: {expiry: never}", "auth.expiry: \"never\" is none of allocate, refresh, strict"),
        ("auth: {cache: {entries: 0}}", "auth.cache.entries: \"0\" is not from 1 to 1048576"),
        ("auth: {cache: {lifetime: 0s}}", "auth.cache.lifetime: \"0s\" is not from 1s to 1day"),
        ("auth: {cache: {outage: 8d}}", "auth.cache.outage: \"8d\" is not from 0s to 7days"),
        ("auth: {jwt: {secrets: ['']}}", "auth.jwt.secrets: the secret is empty"),
        (
            "auth: {jwt: {secrets: [a-token-secret-of-but-31-bytes.]}}",
            "auth.jwt.secrets: the secret is shorter than 32 bytes, the least for HS256",
        ),
        (
            "realms: {n: {jwt: {secrets: [short]}}}",
            "realms.n.jwt.secrets: the secret is shorter than 32 bytes",
        ),
        ("auth: {hook: ftp://x}", "auth.hook.url: is not the URL of an HTTP service"),
        (
            "auth: {hook: [x]}",
            "auth.hook: is a group of keys: ca, failures, pause, timeout, token_file, url, \
             userhash",
        ),
        ("auth: {hook: {token_file: /t}}", "auth.hook.url: is empty"),
        ("auth: {oauth: {keys: {k: {key: x}}}}", "auth.oauth.server_name: is empty"),
        (
            "auth: {oauth: {server_name: x, keys: {k: {key: AAAA}}}}",
            "auth.oauth.keys.k.key: is not base64 of 32 bytes",
        ),
        (
            "auth: {oauth: {server_name: x, keys: {k: {key: \
             'MDEyMzQ1Njc4OWFiY2RlZg==', valid_from: 2027-01-01, valid_until: 2026-01-01}}}}",
            "auth.oauth.keys.k.valid_from: is not before valid_until",
        ),
    ]);
}

#[test]
fn faults_of_limits_name_key_value_and_cure() {
    assert_refused(&[
        ("limits: {allocations: many}", "limits.allocations: \"many\" is not a whole number"),
        ("limits: {bandwidth: 5}", "limits.bandwidth: \"5\" has no unit; write 5kbit/s or 5Mbit/s"),
        ("limits: {bandwidth: fast}", "limits.bandwidth: \"fast\" is not a rate; write it as in"),
        ("limits: {bandwidth: 1kbit/s}", "\"1kbit/s\" is not from 8kbit/s to 1000Gbit/s"),
        ("limits: {bandwidth: 99999999999Gbit/s}", "is not from 8kbit/s to 1000Gbit/s"),
        ("limits: {failed_logins_per_minute: -1}", "limits.failed_logins_per_minute: \"-1\""),
    ]);
}

#[test]
fn no_fault_shows_a_secret() {
    let cases = [
        "auth: {stores: ['postgres://hunter2@/x']}",
        "auth: {stores: ['redis://u:hunter2@h/x']}",
        "auth: {stores: ['mysql://u:hunter2@h']}",
        "auth: {stores: ['hunter2']}",
        "auth: {users: {a: {password: hunter2, md5_key: x}}}",
        "auth: {users: {a: {password: [hunter2]}}}",
        "auth: {jwt: {secrets: [' hunter2']}}",
        "auth: {hook: 'ftp://u:hunter2@h'}",
        "auth: {oauth: {server_name: x, keys: {k: {key: hunter2}}}}",
        "realms: {a: {rest_secrets: ['hunter2 ']}}",
    ];
    for yaml in cases {
        let error = with(yaml, &[]).expect_err(yaml).to_string();
        assert!(!error.contains("hunter2"), "{yaml}: {error}");
    }
    let shown = format!("{:?}", config(WHOLE));
    for secret in ["wind", "secret-of", "MDEy", "[48, 49", "u:p@", "k=v"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[test]
fn the_environment_reaches_into_realms_and_the_hook() {
    let yaml = "{realm: north, realms: {South.Example: {limits: {allocations: 1}}}}";
    let loaded = with(
        yaml,
        &[
            ("STERNA__REALMS__South.Example__LIMITS__ALLOCATIONS", "7"),
            ("STERNA__REALMS__South.Example__USERS__Bob", "pw"),
            ("STERNA__REALMS__east__REST_SECRETS", "a,b"),
            ("STERNA__AUTH__HOOK", "https://app.example/turn"),
            ("STERNA__AUTH__STORES", "redis://r.example,sqlite"),
            ("STERNA__LIMITS__BANDWIDTH", "1Gbit/s"),
        ],
    );

    let config = loaded.expect("every variable names a key").config;

    let south = &config.realms["South.Example"];
    assert_eq!(Some(7), south.quotas.allocations);
    assert!(south.users.contains_key("Bob"));
    assert_eq!(2, config.realms["east"].rest_secrets.len());
    assert_eq!("https://app.example/turn", config.auth.hook.expect("it is there").url.expose());
    assert_eq!(2, config.auth.stores.len());
}

#[test]
fn wrong_variables_are_named() {
    let cases = [
        ("STERNA__REALMS__north", "x", "names a group of keys; set STERNA__REALMS__north__JWT|"),
        ("STERNA__REALMS", "x", "names a group of keys; set STERNA__REALMS__NAME__JWT|LIMITS|"),
        ("STERNA__REALMS__north__LIMIT", "x", "sets no known key; did you mean STERNA__LIMITS?"),
        (
            "STERNA__REALMS__north__LIMITS__BANDWIDTH",
            "x",
            "STERNA__REALMS__north__LIMITS__BANDWIDTH: realms.north.limits.bandwidth: \"x\"",
        ),
        ("STERNA__AUTH__HOOK", "x", "STERNA__AUTH__HOOK: auth.hook.url: is not the URL"),
    ];
    for (variable, value, expected) in cases {
        let error = with("", &[(variable, value)]).expect_err(variable).to_string();
        assert!(error.contains(expected), "{variable}={value}: {error}");
    }
}

#[test]
fn whom_a_configuration_names_is_known() {
    let cases = [
        ("", true),
        ("auth: {stores: []}", true),
        ("realms: {north: {origins: ['https://x']}}", true),
        ("auth: {users: {a: b}}", false),
        ("auth: {rest_secrets_file: /s}", false),
        ("auth: {stores: ['redis://h']}", false),
        ("auth: {hook: https://h}", false),
        ("auth: {jwt: {secrets: [a-token-secret-that-has-32-bytes]}}", false),
        ("realms: {north: {users: {a: b}}}", false),
        ("auth: {oauth: {server_name: a}}", false),
    ];
    for (yaml, expected) in cases {
        assert_eq!(expected, config(yaml).names_nobody(), "{yaml}");
    }
}

#[test]
fn the_url_of_a_hook_is_shown_without_what_may_be_a_secret() {
    let cases = [
        ("https://app.example/turn", "https://app.example/turn"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://app.example?key=s3cret", "https://<redacted>@app.example/"),
        ("https://app.example:8443/a?key=s3cret", "https://<redacted>@app.example:8443/a"),
        ("https://u:s3cret@app.example/a", "https://<redacted>@app.example/a"),
        ("https://s3cret@app.example", "https://<redacted>@app.example/"),
        ("https://app.example/a#s3cret", "https://<redacted>@app.example/a"),
        ("https://[s3cret", "<redacted>"),
    ];
    for (url, expected) in cases {
        let config = config(&format!("auth: {{hook: '{url}'}}"));
        let hook = config.auth.hook.as_ref().expect("it is there");

        assert_eq!(expected, hook.shown_url());
        assert_eq!(expected != url, config.has_secrets(), "{url}");
    }
}

#[test]
fn rates_are_shown_as_they_are_read() {
    for text in ["0", "8kbit/s", "500kbit/s", "2Mbit/s", "1Gbit/s", "1000Gbit/s"] {
        assert_eq!(text, values::show_rate(values::rate(text).expect(text)));
    }
    assert_eq!("1008bit/s", values::show_rate(Some(126)));
}
