//! What a certificate says of itself: for whom it is, and from when to when.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The file it is in.
    pub path: PathBuf,
    /// For whom it is; no other name is looked at by clients.
    pub names: Vec<Name>,
    /// When it begins, in seconds since 1970.
    pub not_before: i64,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host name in lower case, or `*.` and a domain.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns(name) => write!(f, "{}", name.escape_debug()),
            Name::Ip(ip) => ip.fmt(f),
        }
    }
}

impl Facts {
    /// `None` for what is no certificate.
    pub(super) fn of(path: PathBuf, der: &[u8]) -> Option<Facts> {
        let (_, leaf) = parse_x509_certificate(der).ok()?;
        let validity = leaf.validity();
        Some(Facts {
            path,
            names: names(&leaf)?,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Whether it is over at `now`, a time since 1970.
    pub fn is_expired(&self, now: Duration) -> bool {
        self.not_after < seconds(now)
    }

    /// What an operator should look at: that it is over, soon will be, has not begun, or is for
    /// nobody.
    pub fn warning(&self, now: Duration) -> Option<String> {
        let path = self.path.display();
        if self.not_before > seconds(now) {
            return Some(format!("{path}: is good only from {} on", date(self.not_before)));
        }
        if self.names.is_empty() {
            return Some(format!("{path}: has no subjectAltName, so that it holds for no server"));
        }
        let is_near = self.not_after < seconds(now.saturating_add(NEAR));
        is_near.then(|| format!("{path}: {}", self.end(now)))
    }

    /// How long it is still good at `now`, as in `expires in 41 days, on 2027-01-04`.
    pub fn end(&self, now: Duration) -> String {
        let left = self.not_after - seconds(now);
        let date = date(self.not_after);
        if left < 0 {
            return format!("expired {} ago, on {date}", days(-left));
        }
        format!("expires in {}, on {date}", days(left))
    }

    /// The names as a text.
    pub fn names(&self) -> String {
        match self.names.as_slice() {
            [] => "no names".to_owned(),
            names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    /// The first name that a client can be told to connect to.
    pub fn host(&self) -> Option<&str> {
        self.names.iter().find_map(|name| match name {
            Name::Dns(name) if !name.starts_with("*.") => Some(name.as_str()),
            Name::Dns(_) | Name::Ip(_) => None,
        })
    }
}

fn names(leaf: &X509Certificate<'_>) -> Option<Vec<Name>> {
    let listed = leaf.subject_alternative_name().ok()?;
    let names = listed.iter().flat_map(|listed| &listed.value.general_names);
    Some(names.filter_map(name).collect())
}

/// Names of other kinds are nothing that a client connects to.
fn name(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(name) => Some(Name::Dns(name.to_lowercase())),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
            let v6 = || <[u8; 16]>::try_from(*bytes).map(|b| IpAddr::V6(Ipv6Addr::from(b)));
            v4.or_else(|_| v6()).ok().map(Name::Ip)
        }
        _ => None,
    }
}

fn seconds(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}

fn days(seconds: i64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn date(since_1970: i64) -> String {
    // Dates before 1970 and after 9999 are somebody's way of saying "always".
    let since_1970 = u64::try_from(since_1970).unwrap_or(0).min(END_OF_9999);
    let time = UNIX_EPOCH + Duration::from_secs(since_1970);
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}

const DAY: i64 = 24 * 60 * 60;

const END_OF_9999: u64 = 253_402_300_799;

/// ACME clients renew thirty days before the end: what comes nearer has failed to be renewed.
const NEAR: Duration = Duration::from_secs(14 * 24 * 60 * 60);
