//! The configuration as the program uses it: every value typed and in range.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use slog::Level;
use sterna_actors::config::Listen;
use sterna_proto::credentials::opaque_string;
use sterna_proto::quotas::QuotaLimits;

use super::Fault;
use super::access::{self, Auth, Peers, Realm};
use super::raw::{RawConfig, RawLifetimes, RawLimits, RawLog, RawRelay, RawStun, Scalar};
use super::values::{self, Read};
use super::ways_in::{self, Tls};

/// The configuration, checked. What depends on the machine is still said in words: see
/// [`resolve`](super::resolve).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The default realm, whose users are asked for where nothing names another.
    pub realm: String,
    /// The other realms, and what more there is to say of the default one.
    pub realms: BTreeMap<String, Realm>,
    /// Where clients arrive: no protocol twice at one address.
    pub listen: Vec<Listen>,
    /// What TLS and DTLS clients are shown.
    pub tls: Tls,
    /// Arbiters to serve with.
    pub workers: Workers,
    /// How often a busy arbiter wakes at most; zero is no bound.
    pub wake_interval: Duration,
    /// Where relayed transport addresses come from.
    pub relay: Relay,
    /// Who may allocate.
    pub auth: Auth,
    /// How long things live.
    pub lifetimes: Lifetimes,
    /// Whom clients may talk to.
    pub peers: Peers,
    /// The number on every table that clients fill.
    pub limits: Limits,
    /// Details of the protocol.
    pub stun: Stun,
    /// What the log shows and how.
    pub log: LogConfig,
    /// Where the daemon keeps what it makes itself.
    pub state_folder: StateFolder,
}

/// How many arbiters serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that the process may run on.
    PerCore,
    /// So many.
    Fixed(usize),
}

/// Where relayed transport addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The addresses relay sockets are bound to.
    pub addresses: RelayAddresses,
    /// `(private, public)` pairs of a 1:1 NAT.
    pub external: Vec<(IpAddr, IpAddr)>,
    /// The ports to lease.
    pub ports: RangeInclusive<u16>,
    /// Whether TCP is relayed beside UDP, for clients that come by TCP or TLS.
    pub tcp: bool,
    /// The network device that relay sockets are bound to.
    pub device: Option<String>,
}

/// The addresses relay sockets are bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayAddresses {
    /// The listening addresses; for a wildcard listener those of the machine.
    OfListeners,
    /// These.
    Named(Vec<IpAddr>),
}

/// How long things live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An allocation whose client asks for nothing or less.
    pub allocation: Duration,
    /// An allocation whose client asks for more.
    pub allocation_max: Duration,
    /// A permission.
    pub permission: Duration,
    /// A channel binding.
    pub channel: Duration,
    /// A nonce.
    pub nonce: Duration,
    /// The second port of an EVEN-PORT pair.
    pub reservation: Duration,
}

/// The number on every table that clients fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What all realms may have together.
    pub quotas: QuotaLimits,
    /// Failed logins of one source address in a minute, 0 for any number.
    pub failed_logins_per_minute: u32,
    /// Sessions of one listening socket.
    pub sessions_per_listener: usize,
    /// Permissions of one allocation.
    pub permissions_per_allocation: usize,
    /// Channels of one allocation.
    pub channels_per_allocation: usize,
    /// TCP connections of one allocation with its peers.
    pub connections_per_allocation: usize,
    /// Unauthenticated answers to one source address in a second, 0 for any number.
    pub unauthenticated_answers_per_second: u32,
    /// Connections of one TCP listening socket.
    pub connections_per_listener: usize,
    /// Those of them whose client has proved nothing yet.
    pub unproved_connections_per_listener: usize,
    /// Those of them from one source address.
    pub unproved_connections_per_source: usize,
    /// What a client has for its first request, and for each next one until one of them is good.
    pub connection_setup: Duration,
    /// Bytes that wait for a client which does not keep up.
    pub stream_buffer: usize,
}

/// Details of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stun {
    /// The SOFTWARE attribute, if one is to be sent.
    pub software: Option<String>,
    /// Accept channel numbers up to 0x7FFE.
    pub rfc5766_channel_numbers: bool,
}

/// What the log shows and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is shown.
    pub level: Level,
    /// How a record is written.
    pub format: LogFormat,
}

/// How a log record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on a line.
    Json,
}

/// Where the daemon keeps what it makes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateFolder {
    /// Where the environment says that state belongs.
    OfEnvironment,
    /// Here.
    Named(PathBuf),
}

pub(super) fn check(raw: &RawConfig) -> Result<Config, Fault> {
    let realm = read("realm", &raw.realm, realm_name)?;
    let auth = access::auth(&raw.auth)?;
    let realms = access::realms(raw, &realm, &auth)?;
    let (listen, tls) = (ways_in::listen(&raw.listen)?, ways_in::tls(&raw.tls)?);
    ways_in::check_together(&listen, &tls)?;
    ways_in::check_realms(&listen, |name| name == realm || realms.contains_key(name))?;
    Ok(Config {
        realm,
        realms,
        listen,
        tls,
        workers: read("workers", &raw.workers, |text| {
            Ok(match values::number(text, 0..=WORKERS_MAX)? {
                0 => Workers::PerCore,
                workers => Workers::Fixed(workers),
            })
        })?,
        wake_interval: read("wake_interval", &raw.wake_interval, |text| {
            values::pause(text, Duration::ZERO..=WAKE_INTERVAL_MAX)
        })?,
        relay: relay(&raw.relay)?,
        auth,
        lifetimes: lifetimes(&raw.lifetimes)?,
        peers: access::peers("peers", &raw.peers)?,
        limits: limits(&raw.limits)?,
        stun: stun(&raw.stun)?,
        log: log(&raw.log)?,
        state_folder: read("state_folder", &raw.state_folder, state_folder)?,
    })
}

pub(super) fn read<T>(
    key: &str,
    given: &Scalar,
    read: impl FnOnce(&str) -> Read<T>,
) -> Result<T, Fault> {
    let text = given.text();
    read(text).map_err(|why| Fault::new(key, &format!("{text:?} {why}")))
}

/// The items of a list in their order, each of them once.
pub(super) fn read_list<T: Ord + Copy>(
    key: &str,
    given: &[Scalar],
    item: impl Fn(&str) -> Read<T>,
) -> Result<Vec<T>, Fault> {
    let mut seen = BTreeSet::new();
    let once = |text: &str| {
        let value = item(text)?;
        if seen.insert(value) { Ok(value) } else { Err("is listed twice".to_owned()) }
    };
    let mut once = once;
    given.iter().map(|scalar| read(key, scalar, &mut once)).collect()
}

/// A name that a realm may have.
pub(crate) fn realm_name(text: &str) -> Read<String> {
    if text.is_empty() {
        return Err("is no realm; write the domain that the credentials belong to".to_owned());
    }
    // RFC 8489 §14.9: fewer than 128 characters.
    if text.chars().count() > 127 {
        return Err("is longer than 127 characters".to_owned());
    }
    match opaque_string(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("holds characters that a realm may not hold (RFC 8265)".to_owned()),
    }
}

fn relay(raw: &RawRelay) -> Result<Relay, Fault> {
    let named = read_list("relay.addresses", &raw.addresses, values::host)?;
    Ok(Relay {
        addresses: match named.is_empty() {
            true => RelayAddresses::OfListeners,
            false => RelayAddresses::Named(named),
        },
        external: external(&raw.external)?,
        ports: read("relay.ports", &raw.ports, values::ports)?,
        tcp: read("relay.tcp", &raw.tcp, values::boolean)?,
        device: read("relay.device", &raw.device, device)?,
    })
}

fn external(given: &BTreeMap<String, Scalar>) -> Result<Vec<(IpAddr, IpAddr)>, Fault> {
    const KEY: &str = "relay.external";
    let mut pairs: Vec<(IpAddr, IpAddr)> = Vec::new();
    for (private, public) in given {
        let private = read(KEY, &Scalar::from(private.as_str()), values::host)?;
        let public = read(&format!("{KEY}.{private}"), public, values::host)?;
        let fault = |why: &str| Fault::new(KEY, &format!("{private}: {public} {why}"));
        if private.is_ipv4() != public.is_ipv4() {
            return Err(fault("joins an IPv4 and an IPv6 address; both must be of one family"));
        }
        if pairs.iter().any(|&(_, other)| other == public) {
            return Err(fault("is the second private address with this public one"));
        }
        if pairs.iter().any(|&(other, _)| other == private) {
            return Err(fault("names this private address a second time"));
        }
        pairs.push((private, public));
    }
    Ok(pairs)
}

fn device(text: &str) -> Read<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > DEVICE_NAME_MAX || text.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(format!(
            "is not the name of a network device (at most {DEVICE_NAME_MAX} bytes)"
        ));
    }
    Ok(Some(text.to_owned()))
}

fn lifetimes(raw: &RawLifetimes) -> Result<Lifetimes, Fault> {
    let span = |key: &str, given, low: u64, high: u64| {
        let range = Duration::from_secs(low)..=Duration::from_secs(high);
        read(&format!("lifetimes.{key}"), given, |text| values::duration(text, range))
    };
    let lifetimes = Lifetimes {
        allocation: span("allocation", &raw.allocation, 1, DAY)?,
        allocation_max: span("allocation_max", &raw.allocation_max, 1, 7 * DAY)?,
        permission: span("permission", &raw.permission, 1, DAY)?,
        channel: span("channel", &raw.channel, 1, DAY)?,
        nonce: span("nonce", &raw.nonce, 1, DAY)?,
        // RFC 8656 §7.2: at least 30 seconds.
        reservation: span("reservation", &raw.reservation, 30, 600)?,
    };
    if lifetimes.allocation > lifetimes.allocation_max {
        let why = format!("{:?} is above lifetimes.allocation_max", raw.allocation.text());
        return Err(Fault::new("lifetimes.allocation", &why));
    }
    Ok(lifetimes)
}

fn limits(raw: &RawLimits) -> Result<Limits, Fault> {
    let count = |key: &str, given, high| {
        read(&format!("limits.{key}"), given, |text| values::number(text, 1..=high))
    };
    let sessions = |key: &str, given| count(key, given, SESSIONS_MAX);
    Ok(Limits {
        quotas: access::quotas("limits", &raw.quotas())?,
        failed_logins_per_minute: read(
            "limits.failed_logins_per_minute",
            &raw.failed_logins_per_minute,
            |text| values::number(text, 0..=ANSWERS_MAX),
        )?,
        sessions_per_listener: sessions("sessions_per_listener", &raw.sessions_per_listener)?,
        permissions_per_allocation: count(
            "permissions_per_allocation",
            &raw.permissions_per_allocation,
            PERMISSIONS_MAX,
        )?,
        channels_per_allocation: count(
            "channels_per_allocation",
            &raw.channels_per_allocation,
            CHANNELS_MAX,
        )?,
        connections_per_allocation: count(
            "connections_per_allocation",
            &raw.connections_per_allocation,
            CONNECTIONS_MAX,
        )?,
        unauthenticated_answers_per_second: read(
            "limits.unauthenticated_answers_per_second",
            &raw.unauthenticated_answers_per_second,
            |text| values::number(text, 0..=ANSWERS_MAX),
        )?,
        connections_per_listener: sessions(
            "connections_per_listener",
            &raw.connections_per_listener,
        )?,
        unproved_connections_per_listener: sessions(
            "unproved_connections_per_listener",
            &raw.unproved_connections_per_listener,
        )?,
        unproved_connections_per_source: sessions(
            "unproved_connections_per_source",
            &raw.unproved_connections_per_source,
        )?,
        connection_setup: read("limits.connection_setup", &raw.connection_setup, |text| {
            values::duration(text, SETUP)
        })?,
        stream_buffer: read("limits.stream_buffer", &raw.stream_buffer, |text| {
            values::size(text, STREAM_BUFFER)
        })?,
    })
}

fn stun(raw: &RawStun) -> Result<Stun, Fault> {
    Ok(Stun {
        // RFC 8489 §14.14: fewer than 128 characters.
        software: read("stun.software", &raw.software, |text| match text.chars().count() {
            0 => Ok(None),
            1..128 => Ok(Some(text.to_owned())),
            _ => Err("is longer than 127 characters".to_owned()),
        })?,
        rfc5766_channel_numbers: read(
            "stun.rfc5766_channel_numbers",
            &raw.rfc5766_channel_numbers,
            values::boolean,
        )?,
    })
}

fn log(raw: &RawLog) -> Result<LogConfig, Fault> {
    Ok(LogConfig {
        level: read("log.level", &raw.level, |text| match text {
            "error" => Ok(Level::Error),
            "warning" => Ok(Level::Warning),
            "info" => Ok(Level::Info),
            "debug" => Ok(Level::Debug),
            "trace" => Ok(Level::Trace),
            _ => Err("is no level: error, warning, info, debug, trace".to_owned()),
        })?,
        format: read("log.format", &raw.format, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("is no format: text, json".to_owned()),
        })?,
    })
}

fn state_folder(text: &str) -> Read<StateFolder> {
    if text.is_empty() {
        return Ok(StateFolder::OfEnvironment);
    }
    let folder = PathBuf::from(text);
    if folder.is_absolute() {
        Ok(StateFolder::Named(folder))
    } else {
        Err("is not an absolute path".to_owned())
    }
}

const DAY: u64 = 24 * 60 * 60;

/// Longer, and callers would hear it.
const WAKE_INTERVAL_MAX: Duration = Duration::from_millis(10);

/// More arbiters than any machine has cores.
const WORKERS_MAX: usize = 1024;

/// Above the number of sessions that fit the address space of one listener's memory.
const SESSIONS_MAX: usize = 16_777_216;

/// A CreatePermission with every address of a small network; beyond lies only memory to be filled.
const PERMISSIONS_MAX: usize = 65_536;

/// There are no more numbers: 0x4000 to 0x7FFE.
const CHANNELS_MAX: usize = 16_383;

/// Each takes a file descriptor, and one client is to leave some for the others.
const CONNECTIONS_MAX: usize = 1024;

const ANSWERS_MAX: u32 = 1_000_000;

/// Below a second, clients far away would not get through; above five minutes nobody waits for
/// anything but room in our table.
const SETUP: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// At least two of the largest frames, so that each fits beside another; at most what a few hundred
/// clients could hold of the machine's memory.
const STREAM_BUFFER: RangeInclusive<usize> = 128 * 1024..=64 * 1024 * 1024;

/// The kernel's IFNAMSIZ without the terminating zero.
const DEVICE_NAME_MAX: usize = 15;
