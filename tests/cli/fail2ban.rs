//! The filter of contrib/fail2ban against what the server writes, in both formats of the log.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use regex::Regex;
use sterna_client::{AllocateOptions, Client, ClientOptions, Credentials};

use crate::program::{Daemon, Home};

/// The value of `key` in the filter.
fn option(key: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/fail2ban/sterna.conf");
    let text = std::fs::read_to_string(path).expect("the filter is there");
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    value.expect("the filter has the option").to_owned()
}

/// The filter's pattern with what fail2ban puts for an address.
fn pattern() -> Regex {
    let pattern = option("failregex").replace("<ADDR>", "(?P<address>[0-9a-fA-F:.]+)");
    Regex::new(&pattern).expect("a pattern")
}

/// The filter's date, with what fail2ban puts for the parts of one.
fn date() -> Regex {
    let mut pattern = option("datepattern").replace("%%Y", r"\d{4}");
    for part in ["%%m", "%%d", "%%H", "%%M", "%%S"] {
        pattern = pattern.replace(part, r"\d{2}");
    }
    // All of it is in UTC, whatever the machine's time zone is.
    pattern = pattern.replace("%%f", r"\d{1,6}").replace("%%z", "Z");
    Regex::new(&pattern).expect("a pattern")
}

/// The address that fail2ban would ban for this line.
fn banned(line: &str) -> Option<IpAddr> {
    let captures = pattern().captures(line)?;
    captures.name("address")?.as_str().parse().ok()
}

fn guesses(server: SocketAddr, username: &str) {
    let credentials = Some(Credentials::new(username, "a guess"));
    let options = ClientOptions { credentials, ..ClientOptions::default() };
    let mut client = Client::connect(server, options).expect("loopback can be reached");
    client.allocate(&AllocateOptions::default()).expect_err("it is a guess");
}

/// A relay whose clients name themselves in clear, since it has a secret of time-limited names.
fn serve(home: &Home, format: &str, host: &str) -> Daemon {
    home.serve(&format!(
        "listen: ['udp://{host}:0']\n\
         relay: {{addresses: ['{}']}}\n\
         log: {{format: {format}}}\n\
         auth: {{users: {{alice: sesame}}, rest_secrets: [north]}}\n",
        host.trim_matches(['[', ']'])
    ))
}

#[test]
fn failed_logins_are_found_in_both_formats_of_the_log() {
    for format in ["text", "json"] {
        for host in ["127.0.0.1", "[::1]"] {
            let home = Home::new();
            let mut relay = serve(&home, format, host);
            for user in ["alice", "nobody", "1:alice"] {
                guesses(relay.address(), user);
                let line = relay.wait_for("auth failed");
                let expected: IpAddr = host.trim_matches(['[', ']']).parse().expect("an address");
                assert_eq!(Some(expected), banned(&line), "{line}");
                assert!(line.contains(&format!("username=<{user}>")), "{line}");
                assert!(line.contains("reason=<wrong_credentials>"), "{line}");
                assert!(date().is_match(&line), "{line}");
            }
            assert_eq!(Some(0), relay.stop());
            let others = relay.log.iter().filter(|line| !line.contains("auth failed"));
            assert_eq!(0, others.filter(|line| banned(line).is_some()).count());
        }
    }
}

#[test]
fn no_user_name_bans_another_or_makes_a_line_look_old() {
    let forged = "x> client=<192.0.2.7:1> reason=<wrong_credentials>";
    let names = [
        forged.to_owned(),
        format!("auth failed: realm=<r> username=<{forged}"),
        r#"x","time":"2001-01-01T00:00:00.000Z","message":"y"#.to_owned(),
        "x\", \"time\":\"2001-01-01T00:00:00".to_owned(),
        "2001-01-01T00:00:00.000Z x".to_owned(),
    ];
    for format in ["text", "json"] {
        let home = Home::new();
        let mut relay = serve(&home, format, "127.0.0.1");
        for name in &names {
            guesses(relay.address(), name);
            let line = relay.wait_for("auth failed");
            assert_eq!("127.0.0.1".parse().ok(), banned(&line), "{line}");
            let date = date().find(&line).expect("a date").as_str();
            assert!(!date.contains("2001"), "{line}");
        }
        assert_eq!(Some(0), relay.stop());
    }
}

#[test]
fn what_has_expired_is_not_counted() {
    let line = |reason: &str| {
        format!("auth failed: realm=<r> username=<u> client=<192.0.2.7:1> reason=<{reason}>")
    };
    assert_eq!(None, banned(&line("expired")));
    assert_eq!("192.0.2.7".parse().ok(), banned(&line("malformed_token")));
}
