//! Reads single values: durations, sizes, ports, addresses, networks, keys.
//!
//! Each function returns a typed value, or the second half of the sentence `"VALUE" …`.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use ipnet::IpNet;
use sterna_proto::address::TransportProtocol;

pub(super) type Read<T> = Result<T, String>;

/// `600s`, `10m`, `1h 30m`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Read<Duration> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("has no unit; write {text}s for seconds"));
    }
    let Ok(duration) = humantime::parse_duration(text) else {
        return Err("is not a duration; write it as in 600s, 10m or 1h".to_owned());
    };
    if duration.subsec_nanos() != 0 {
        return Err("is not in whole seconds".to_owned());
    }
    let show = humantime::format_duration;
    within(duration, &range, &show(*range.start()), &show(*range.end()))
}

/// `300us`, `1ms`; `0s` is none.
pub(super) fn pause(text: &str, range: RangeInclusive<Duration>) -> Read<Duration> {
    let Ok(duration) = humantime::parse_duration(text) else {
        return Err("is not a duration; write it as in 300us or 1ms, or 0s for none".to_owned());
    };
    let show = humantime::format_duration;
    within(duration, &range, &show(*range.start()), &show(*range.end()))
}

/// A whole number.
pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Read<T>
where
    T: FromStr + PartialOrd + Copy + Display,
{
    let (low, high) = (*range.start(), *range.end());
    match text.parse() {
        Ok(number) => within(number, &range, &low, &high),
        Err(_) => Err(format!("is not a whole number from {low} to {high}")),
    }
}

fn within<T: PartialOrd>(
    value: T,
    range: &RangeInclusive<T>,
    low: &dyn Display,
    high: &dyn Display,
) -> Read<T> {
    if range.contains(&value) { Ok(value) } else { Err(format!("is not from {low} to {high}")) }
}

pub(super) fn boolean(text: &str) -> Read<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// `49152-65535`.
pub(super) fn ports(text: &str) -> Read<RangeInclusive<u16>> {
    let shape = || "is not a port range; write LOW-HIGH, as in 49152-65535".to_owned();
    let (low, high) = text.split_once('-').ok_or_else(shape)?;
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| shape());
    let (low, high) = (port(low)?, port(high)?);
    if low > high {
        return Err(format!("runs backwards; write {high}-{low}"));
    }
    if low < FIRST_PORT {
        return Err(format!(
            "reaches into the ports of system services; start at {FIRST_PORT} or above"
        ));
    }
    Ok(low..=high)
}

/// `udp://0.0.0.0:3478`, `tls://[::]:443`.
pub(super) fn listener(text: &str) -> Read<(TransportProtocol, SocketAddr)> {
    let Some((scheme, address)) = text.split_once("://") else {
        return Err(
            "has no scheme; write it as in udp://0.0.0.0:3478 or tcp://[::]:3478".to_owned()
        );
    };
    let protocol = match scheme {
        "udp" => TransportProtocol::Udp,
        "tcp" => TransportProtocol::Tcp,
        "tls" => TransportProtocol::Tls,
        "dtls" => TransportProtocol::Dtls,
        _ => return Err("has an unknown scheme; there are udp, tcp, tls and dtls".to_owned()),
    };
    let address: SocketAddr = address.trim_end_matches('/').parse().map_err(|_| {
        "is not IP:PORT behind the scheme; write it as in udp://0.0.0.0:3478 or tcp://[::]:3478"
            .to_owned()
    })?;
    if address.ip().is_multicast() {
        return Err("is a multicast address".to_owned());
    }
    Ok((protocol, address))
}

/// `256KiB`, `1MiB`, `4096B`.
pub(super) fn size(text: &str, range: RangeInclusive<usize>) -> Read<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: usize = match unit.trim_start() {
        _ if digits == 0 => return Err("is not a size; write it as in 256KiB or 1MiB".to_owned()),
        "" => return Err(format!("has no unit; write {text}B for bytes")),
        "B" => 1,
        "KiB" => KIB,
        "MiB" => KIB * KIB,
        _ => return Err("is not a size; write it as in 256KiB or 1MiB".to_owned()),
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    // More than the machine can count is above every range.
    let bytes = bytes.unwrap_or(usize::MAX);
    within(bytes, &range, &show_size(*range.start()), &show_size(*range.end()))
}

/// A size as [`size`] reads it, in the largest unit that it is a multiple of.
pub(super) fn show_size(bytes: usize) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(KIB * KIB) => format!("{}MiB", bytes / (KIB * KIB)),
        _ if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => format!("{bytes}B"),
    }
}

/// `500kbit/s`, `2Mbit/s`, `1Gbit/s` in bytes per second; `0` is no limit.
pub(super) fn rate(text: &str) -> Read<Option<u64>> {
    const SHAPE: &str =
        "is not a rate; write it as in 500kbit/s, 2Mbit/s or 1Gbit/s, or 0 for none";
    if text == "0" {
        return Ok(None);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim_start() {
        _ if digits == 0 => return Err(SHAPE.to_owned()),
        "" => return Err(format!("has no unit; write {text}kbit/s or {text}Mbit/s")),
        "kbit/s" => 1000,
        "Mbit/s" => 1_000_000,
        "Gbit/s" => 1_000_000_000,
        "kB/s" | "MB/s" | "GB/s" | "B/s" => return Err("is in bytes; rates are in bits".to_owned()),
        _ => return Err(SHAPE.to_owned()),
    };
    // More than can be counted is above every range.
    let bits = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let bytes = bits.unwrap_or(u64::MAX) / 8;
    let (low, high) = (*RATES.start(), *RATES.end());
    within(bytes, &RATES, &show_rate(Some(low)), &show_rate(Some(high))).map(Some)
}

/// A rate as [`rate`] reads it, in the largest unit that it is a multiple of. Stores may hold rates
/// between the units.
pub(crate) fn show_rate(bytes_per_second: Option<u64>) -> String {
    let Some(bytes) = bytes_per_second else { return "0".to_owned() };
    let bits = bytes.saturating_mul(8);
    match bits {
        _ if bits.is_multiple_of(1_000_000_000) => format!("{}Gbit/s", bits / 1_000_000_000),
        _ if bits.is_multiple_of(1_000_000) => format!("{}Mbit/s", bits / 1_000_000),
        _ if bits.is_multiple_of(1000) => format!("{}kbit/s", bits / 1000),
        _ => format!("{bits}bit/s"),
    }
}

/// A number of allocations, 0 for any.
pub(super) fn allocations(text: &str) -> Read<Option<u32>> {
    let number = number(text, 0..=ALLOCATIONS_MAX)?;
    Ok((number != 0).then_some(number))
}

/// `2026-11-25T00:00:00Z` or its date alone, in seconds since 1970.
pub(super) fn moment(text: &str) -> Read<u64> {
    let shape = "is not a moment; write it as in 2026-11-25T08:00:00Z";
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let Ok(moment) = humantime::parse_rfc3339(&whole) else { return Err(shape.to_owned()) };
    let since = moment.duration_since(UNIX_EPOCH).map_err(|_| shape.to_owned())?;
    Ok(since.as_secs())
}

/// A moment as [`moment`] reads it.
pub(crate) fn show_moment(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// `https://app.example.org`: what a browser says of the page it shows (RFC 6454 §6.2).
pub(crate) fn origin(text: &str) -> Read<String> {
    const SHAPE: &str = "is not an origin; write it as in https://app.example.org";
    let Some((scheme, host)) = text.split_once("://") else { return Err(SHAPE.to_owned()) };
    if scheme.is_empty() || host.is_empty() || text.contains(char::is_whitespace) {
        return Err(SHAPE.to_owned());
    }
    if host.contains(['/', '?', '#', '@']) {
        return Err("has more than scheme, host and port; an origin has no path".to_owned());
    }
    if text.len() > ORIGIN_MAX {
        return Err(format!("is longer than {ORIGIN_MAX} bytes"));
    }
    if text.chars().any(|c| c.is_uppercase()) {
        return Err(format!(
            "has capital letters, which browsers send none of; write {}",
            text.to_lowercase()
        ));
    }
    Ok(text.to_owned())
}

/// An absolute path: the folder that a server is started in is not the one it is checked in.
pub(super) fn path(text: &str) -> Read<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("is not an absolute path".to_owned()) }
}

/// An address that one host can have.
pub(super) fn host(text: &str) -> Read<IpAddr> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Err("is not an IP address; host names are not looked up".to_owned());
    };
    if ip.is_unspecified() {
        return Err("stands for every address; name one".to_owned());
    }
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_multicast() || broadcast {
        return Err("is not the address of one host".to_owned());
    }
    if matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
        return Err("is an IPv4 address in IPv6 form; write the IPv4 address".to_owned());
    }
    Ok(ip)
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Read<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip),
            Err(_) => {
                return Err("is not a network; write it as in 10.0.0.0/8 or fd00::/8".to_owned());
            }
        },
    };
    if network != network.trunc() {
        return Err(format!("has bits set behind its prefix; write {}", network.trunc()));
    }
    Ok(network)
}

/// A key of exactly `N` bytes in hexadecimal.
pub(super) fn hex_key<const N: usize>(text: &str) -> Read<[u8; N]> {
    // The key itself must not be in the message.
    let shape = || format!("is not a key of {} hexadecimal digits", 2 * N);
    let mut key = [0; N];
    hex::decode_to_slice(text, &mut key).map_err(|_| shape())?;
    Ok(key)
}

/// The limit of a user that has none, whatever its realm says: more than can be counted.
pub(crate) const ANY_ALLOCATIONS: u32 = u32::MAX;

/// The rate of a user that has no limit, whatever its realm says: more than any network has, and
/// little enough for stores and sums.
pub(crate) const ANY_RATE: u64 = 1 << 50;

/// From 8kbit/s, where a packet of voice takes a fifth of a second, to far above any network.
const RATES: RangeInclusive<u64> = 1000..=125_000_000_000;

/// More than one machine has ports.
const ALLOCATIONS_MAX: u32 = 100_000_000;

/// What the ORIGIN attribute may hold, as the other attributes with names in them.
const ORIGIN_MAX: usize = 508;

/// The ports below belong to services that a privileged process offers.
const FIRST_PORT: u16 = 1024;

const KIB: usize = 1024;
