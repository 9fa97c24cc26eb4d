//! PROXY protocol headers, version 1 and 2: whom a proxy speaks for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};

/// A whole header at the beginning of a connection or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) client: Client,
    /// Bytes of the header.
    pub(super) length: usize,
}

/// Whom the header speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// The proxy itself: a health check.
    Itself,
    /// A client that the proxy knows nothing of.
    Unknown,
    /// The one at this address.
    Named(SocketAddr),
}

/// What is wrong with a header. Nothing of what comes with it can be believed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// The connection begins with something else.
    Missing,
    /// It is longer than any that is of use.
    TooLong,
    /// It does not follow its own form.
    Malformed,
    /// It is about sockets of another kind than the one on which it came.
    OtherKind,
    /// No client has such an address.
    Impossible,
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHeader::Missing => "there is none",
            BadHeader::TooLong => "it is too long",
            BadHeader::Malformed => "it is malformed",
            BadHeader::OtherKind => "it is not about a client of this transport",
            BadHeader::Impossible => "no client has the address in it",
        })
    }
}

/// The header of a connection that begins with `early`; `None` until it is whole.
pub(super) fn read_of_stream(early: &[u8]) -> Result<Option<Header>, BadHeader> {
    if begins(early, v2::PROTOCOL_PREFIX) {
        read_v2(early, v2::Protocol::Stream)
    } else if begins(early, V1_PREFIX) {
        read_v1(early)
    } else {
        Err(BadHeader::Missing)
    }
}

/// The header that a whole datagram begins with. Only version 2 speaks for datagrams.
pub(super) fn read_of_datagram(datagram: &[u8]) -> Result<Header, BadHeader> {
    if !begins(datagram, v2::PROTOCOL_PREFIX) {
        return Err(BadHeader::Missing);
    }
    read_v2(datagram, v2::Protocol::Datagram)?.ok_or(BadHeader::Malformed)
}

/// Whether `early` begins with `prefix`, as far as it has come.
fn begins(early: &[u8], prefix: &[u8]) -> bool {
    early.iter().zip(prefix).all(|(one, other)| one == other)
}

fn read_v1(early: &[u8]) -> Result<Option<Header>, BadHeader> {
    let room = early.get(..V1_MAX).unwrap_or(early);
    let Some(end) = room.windows(2).position(|pair| pair == b"\r\n") else {
        return if room.len() < V1_MAX { Ok(None) } else { Err(BadHeader::TooLong) };
    };
    let length = end + 2;
    let header = early.get(..length).unwrap_or_default();
    let header = v1::Header::try_from(header).map_err(|_| BadHeader::Malformed)?;
    let client = match header.addresses {
        v1::Addresses::Unknown => Client::Unknown,
        v1::Addresses::Tcp4(ends) => named(ends.source_address.into(), ends.source_port)?,
        v1::Addresses::Tcp6(ends) => named(ends.source_address.into(), ends.source_port)?,
    };
    Ok(Some(Header { client, length }))
}

/// Reads a header about clients that speak `protocol`.
fn read_v2(early: &[u8], protocol: v2::Protocol) -> Result<Option<Header>, BadHeader> {
    let Some(&[high, low]) = early.get(V2_LENGTH_AT..).and_then(|rest| rest.first_chunk()) else {
        return Ok(None);
    };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX {
        return Err(BadHeader::TooLong);
    }
    let Some(header) = early.get(..length) else { return Ok(None) };
    let header = v2::Header::try_from(header).map_err(|_| BadHeader::Malformed)?;
    let client = match (header.command, header.addresses) {
        (v2::Command::Local, _) => Client::Itself,
        (v2::Command::Proxy, v2::Addresses::Unspecified) => Client::Unknown,
        (v2::Command::Proxy, _) if header.protocol != protocol => {
            return Err(BadHeader::OtherKind);
        }
        (v2::Command::Proxy, v2::Addresses::Unix(_)) => return Err(BadHeader::OtherKind),
        (v2::Command::Proxy, v2::Addresses::IPv4(ends)) => {
            named(ends.source_address.into(), ends.source_port)?
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ends)) => {
            named(ends.source_address.into(), ends.source_port)?
        }
    };
    Ok(Some(Header { client, length }))
}

fn named(ip: IpAddr, port: u16) -> Result<Client, BadHeader> {
    if ip.is_unspecified() || ip.is_multicast() || port == 0 {
        return Err(BadHeader::Impossible);
    }
    // A proxy with one socket for both families writes IPv4 as a part of IPv6.
    Ok(Client::Named(SocketAddr::new(ip.to_canonical(), port)))
}

const V1_PREFIX: &[u8] = b"PROXY ";

/// Bytes of the longest header of version 1, line end included.
const V1_MAX: usize = 107;

/// Bytes of a header of version 2 before its addresses.
const V2_FIXED: usize = 16;

/// Where a header of version 2 says how long the rest of it is.
const V2_LENGTH_AT: usize = 14;

/// Bytes of the longest header of version 2 that is of use: addresses and the additions that
/// proxies make fit, and it fits what any path delivers in one segment.
const V2_MAX: usize = 536;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        Client::Named(text.parse().expect("an address"))
    }

    /// A header of version 2: command, family and protocol, what follows.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    /// 192.0.2.1:50000 to 192.0.2.9:443.
    const V4_ENDS: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 9, 0xC3, 0x50, 1, 0xBB];

    fn v6_ends() -> Vec<u8> {
        let mut ends = vec![0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        ends.extend([0; 15]);
        ends.extend([9, 0xC3, 0x50, 1, 0xBB]);
        ends
    }

    fn good() -> Vec<(Vec<u8>, Client)> {
        let text = |line: &str| line.as_bytes().to_vec();
        let additions = [&V4_ENDS[..], &[0x04, 0, 1, 0]].concat();
        vec![
            (text("PROXY TCP4 192.0.2.1 192.0.2.9 50000 443\r\n"), client("192.0.2.1:50000")),
            (
                text("PROXY TCP6 2001:db8::1 2001:db8::9 50000 443\r\n"),
                client("[2001:db8::1]:50000"),
            ),
            (
                text("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.9 50000 443\r\n"),
                client("192.0.2.1:50000"),
            ),
            (text("PROXY UNKNOWN\r\n"), Client::Unknown),
            (text("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Client::Unknown),
            (v2(1, 0x11, &V4_ENDS), client("192.0.2.1:50000")),
            (v2(1, 0x11, &additions), client("192.0.2.1:50000")),
            (v2(1, 0x21, &v6_ends()), client("[2001:db8::1]:50000")),
            (v2(0, 0x00, &[]), Client::Itself),
            (v2(0, 0x11, &V4_ENDS), Client::Itself),
            (v2(1, 0x00, &[]), Client::Unknown),
        ]
    }

    #[test]
    fn header_names_the_client_at_every_split() {
        for (header, client) in good() {
            for split in 0..header.len() {
                assert_eq!(Ok(None), read_of_stream(&header[..split]), "{header:?} at {split}");
            }
            let whole = Header { client, length: header.len() };
            assert_eq!(Ok(Some(whole)), read_of_stream(&header));
            let with_more = [&header[..], b"\x16\x03\x01 and more\r\n"].concat();
            assert_eq!(Ok(Some(whole)), read_of_stream(&with_more));
        }
    }

    #[test]
    fn forged_headers_are_refused_with_their_fault() {
        let mut wrong_version = v2(1, 0x11, &V4_ENDS);
        wrong_version[12] = 0x11;
        let no_port = [&V4_ENDS[..8], &[0, 0, 1, 0xBB]].concat();
        let from_nowhere = [&[0, 0, 0, 0], &V4_ENDS[4..]].concat();
        for (bytes, fault) in [
            (b"\x00\x01\x00\x00\x21\x12\xA4\x42".to_vec(), BadHeader::Missing),
            (b"\x16\x03\x01".to_vec(), BadHeader::Missing),
            (b"GET / HTTP/1.1\r\n".to_vec(), BadHeader::Missing),
            (b"PROXY\r\n".to_vec(), BadHeader::Missing),
            (b"PROXY TCP4 192.0.2.1\r\n".to_vec(), BadHeader::Malformed),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 70000 443\r\n".to_vec(), BadHeader::Malformed),
            (b"PROXY TCP4 2001:db8::1 192.0.2.9 1 443\r\n".to_vec(), BadHeader::Malformed),
            (b"PROXY UDP4 192.0.2.1 192.0.2.9 1 443\r\n".to_vec(), BadHeader::Malformed),
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 0 443\r\n".to_vec(), BadHeader::Impossible),
            (b"PROXY TCP4 224.0.0.1 192.0.2.9 1 443\r\n".to_vec(), BadHeader::Impossible),
            ([b"PROXY ".as_slice(), &[b'a'; 101]].concat(), BadHeader::TooLong),
            (v2(1, 0x12, &V4_ENDS), BadHeader::OtherKind),
            (v2(1, 0x31, &[1; 216]), BadHeader::OtherKind),
            (v2(1, 0x11, &V4_ENDS[..11]), BadHeader::Malformed),
            (v2(2, 0x11, &V4_ENDS), BadHeader::Malformed),
            (v2(1, 0x11, &[0; 521]), BadHeader::TooLong),
            (wrong_version, BadHeader::Malformed),
            (v2(1, 0x11, &no_port), BadHeader::Impossible),
            (v2(1, 0x11, &from_nowhere), BadHeader::Impossible),
        ] {
            assert_eq!(Err(fault), read_of_stream(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn header_of_a_datagram_names_the_client_of_datagrams() {
        for (header, client) in [
            (v2(1, 0x12, &V4_ENDS), client("192.0.2.1:50000")),
            (v2(1, 0x22, &v6_ends()), client("[2001:db8::1]:50000")),
            (v2(0, 0x00, &[]), Client::Itself),
            (v2(1, 0x00, &[]), Client::Unknown),
        ] {
            let whole = Header { client, length: header.len() };
            let datagram = [&header[..], b"message"].concat();
            assert_eq!(Ok(whole), read_of_datagram(&datagram));
            for length in 0..header.len() {
                assert!(read_of_datagram(&header[..length]).is_err(), "{length} bytes");
            }
        }
    }

    #[test]
    fn forged_headers_of_datagrams_are_refused_with_their_fault() {
        let mut wrong_version = v2(1, 0x12, &V4_ENDS);
        wrong_version[12] = 0x11;
        let mut wrong_prefix = v2(1, 0x12, &V4_ENDS);
        wrong_prefix[0] = 0x0A;
        let from_nowhere = [&[0, 0, 0, 0], &V4_ENDS[4..]].concat();
        for (bytes, fault) in [
            (b"PROXY UNKNOWN\r\n".to_vec(), BadHeader::Missing),
            (v2(1, 0x11, &V4_ENDS), BadHeader::OtherKind),
            (v2(1, 0x32, &[1; 216]), BadHeader::OtherKind),
            (v2(1, 0x32, &V4_ENDS), BadHeader::Malformed),
            (v2(1, 0x22, &V4_ENDS), BadHeader::Malformed),
            (v2(2, 0x12, &V4_ENDS), BadHeader::Malformed),
            (wrong_version, BadHeader::Malformed),
            (wrong_prefix, BadHeader::Missing),
            (v2(1, 0x12, &from_nowhere), BadHeader::Impossible),
        ] {
            let fault_found = read_of_datagram(&bytes).err();
            assert_eq!(Some(fault), fault_found, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
