//! The server to be probed.

use std::str::FromStr;

/// What the server is spoken to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Udp,
    Tcp,
    Tls,
}

/// Host, port and transport of a TURN URL (RFC 7065).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an address, without the brackets of an IPv6 one.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Target, String> {
        let wrong = |why: &str| Err(format!("{url}: {why}"));
        let Some((scheme, rest)) = url.split_once(':') else {
            return wrong("has no scheme");
        };
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let (scheme, default_port) = match (scheme, query) {
            ("turn", None | Some("transport=udp")) => (Scheme::Udp, DEFAULT_PORT),
            ("turn", Some("transport=tcp")) => (Scheme::Tcp, DEFAULT_PORT),
            ("turns", None | Some("transport=tcp")) => (Scheme::Tls, DEFAULT_TLS_PORT),
            ("turns", Some("transport=udp")) => {
                return wrong("turns: is probed over TCP, transport=udp would be DTLS");
            }
            ("turn" | "turns", Some(_)) => {
                return wrong("what follows the ? is neither transport=udp nor transport=tcp");
            }
            _ => return wrong("is neither turn: nor turns:"),
        };
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
            Some("") => Some(default_port),
            Some(port) => port.parse().ok().filter(|&port| port != 0),
            None => None,
        };
        match (host, port) {
            ("", _) => wrong("has no host"),
            (_, None) => wrong("has no valid port"),
            (host, Some(port)) => Ok(Target { host: host.to_owned(), port, scheme }),
        }
    }
}

const DEFAULT_PORT: u16 = 3478;
const DEFAULT_TLS_PORT: u16 = 5349;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_transport_host_and_port() {
        let cases = [
            ("turn:relay.example.org", Scheme::Udp, "relay.example.org", 3478),
            ("turn:relay.example.org:5000", Scheme::Udp, "relay.example.org", 5000),
            ("turn:192.0.2.1:5000?transport=udp", Scheme::Udp, "192.0.2.1", 5000),
            ("turn:192.0.2.1?transport=tcp", Scheme::Tcp, "192.0.2.1", 3478),
            ("turns:192.0.2.1", Scheme::Tls, "192.0.2.1", 5349),
            ("turns:[2001:db8::1]:443?transport=tcp", Scheme::Tls, "2001:db8::1", 443),
            ("turn:[2001:db8::1]", Scheme::Udp, "2001:db8::1", 3478),
            ("turn:[2001:db8::1]:5000", Scheme::Udp, "2001:db8::1", 5000),
        ];
        for (url, scheme, host, port) in cases {
            let target = Target { host: host.to_owned(), port, scheme };
            assert_eq!(Ok(target), url.parse(), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_probed_is_refused_with_a_reason() {
        let cases = [
            ("turns:relay.example.org?transport=udp", "DTLS"),
            ("turn:relay.example.org?x=y", "transport=udp"),
            ("stun:relay.example.org", "turn:"),
            ("relay.example.org", "scheme"),
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
