//! Reads single values: durations, sizes, ports, addresses, networks, keys.
//!
//! Each function returns a typed value, or the second half of the sentence `"VALUE" …`.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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

/// The ports below belong to services that a privileged process offers.
const FIRST_PORT: u16 = 1024;

const KIB: usize = 1024;
