//! The server to be probed.

use std::str::FromStr;

/// Host and port of a TURN URL (RFC 7065).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an address, without the brackets of an IPv6 one.
    pub(super) host: String,
    pub(super) port: u16,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Target, String> {
        let wrong = |why: &str| Err(format!("{url}: {why}"));
        let Some(rest) = url.strip_prefix("turn:") else {
            return wrong("only turn: can be probed by this build, not turns:");
        };
        let (address, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
        match query {
            "transport=udp" => {}
            "transport=tcp" => return wrong("only transport=udp can be probed by this build"),
            _ => return wrong("what follows the ? is not transport=udp"),
        }
        let (host, port) = match address.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) => {
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            Some(None) => return wrong("the bracket of the IPv6 address is not closed"),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, Some("")),
            },
        };
        let port = match port {
            Some("") => Some(DEFAULT_PORT),
            Some(port) => port.parse().ok().filter(|&port| port != 0),
            None => None,
        };
        match (host, port) {
            ("", _) => wrong("has no host"),
            (_, None) => wrong("has no valid port"),
            (host, Some(port)) => Ok(Target { host: host.to_owned(), port }),
        }
    }
}

const DEFAULT_PORT: u16 = 3478;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_and_port() {
        let cases = [
            ("turn:relay.example.org", "relay.example.org", 3478),
            ("turn:relay.example.org:5000", "relay.example.org", 5000),
            ("turn:192.0.2.1:5000?transport=udp", "192.0.2.1", 5000),
            ("turn:[2001:db8::1]", "2001:db8::1", 3478),
            ("turn:[2001:db8::1]:5000", "2001:db8::1", 5000),
        ];
        for (url, host, port) in cases {
            assert_eq!(Ok(Target { host: host.to_owned(), port }), url.parse(), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_probed_is_refused_with_a_reason() {
        let cases = [
            ("turns:relay.example.org", "turns"),
            ("turn:relay.example.org?transport=tcp", "transport=udp"),
            ("turn:relay.example.org?x=y", "transport=udp"),
            ("turn::3478", "no host"),
            ("turn:host:0", "port"),
            ("turn:host:70000", "port"),
            ("turn:[2001:db8::1", "bracket"),
            ("turn:[2001:db8::1]3478", "port"),
        ];
        for (url, reason) in cases {
            let error = url.parse::<Target>().expect_err(url);
            assert!(error.starts_with(url) && error.contains(reason), "{error}");
        }
    }
}
