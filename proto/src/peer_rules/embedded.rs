//! The IPv4 addresses that an IPv6 address carries. A packet to such an address may end at the IPv4
//! address, so that a rule about the latter has to hold for the former.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

/// The IPv4 address that `ip` stands for, if it is an IPv6 address that carries one; else `ip`.
///
/// Where several can be read from it, this is the one that packets to the address end at in the
/// usual deployment; [`PeerRules`](super::PeerRules) looks at all of them.
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => embedded(v6).first().map_or(ip, |&v4| IpAddr::V4(v4)),
    }
}

/// The IPv4 addresses that packets to `ip` may end at, the likeliest first. At most two of a prefix
/// and one of an interface identifier.
pub(super) fn embedded(ip: Ipv6Addr) -> SmallVec<[Ipv4Addr; 3]> {
    let mut found = SmallVec::new();
    let [.., e, f, g, h] = ip.octets();
    let last = Ipv4Addr::new(e, f, g, h);
    match ip.segments() {
        // :: and ::1 are addresses of their own, not 0.0.0.0 and 0.0.0.1 in IPv4-compatible form.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => {}
        // IPv4-compatible, IPv4-mapped, IPv4-translated (RFC 4291, RFC 7915), NAT64 (RFC 6052) and
        // NAT64 of local use (RFC 8215).
        [0, 0, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0, 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _]
        | [0x64, 0xff9b, 1, ..] => found.push(last),
        // 6to4 (RFC 3056): the tunnel's end is in the prefix.
        [0x2002, high, low, ..] => found.push(from_segments(high, low)),
        // Teredo (RFC 4380): the client's address is inverted, the server's is plain.
        [0x2001, 0, high, low, ..] => {
            found.push(Ipv4Addr::from_bits(!last.to_bits()));
            found.push(from_segments(high, low));
        }
        _ => {}
    }
    // ISATAP (RFC 5214): an interface identifier, under any prefix.
    if let [_, _, _, _, 0 | 0x200, 0x5efe, _, _] = ip.segments() {
        found.push(last);
    }
    found
}

/// The other IPv4 addresses that `ip` may stand for behind a translator of local use: such a
/// translator places the IPv4 address by the length of its own prefix within 64:ff9b:1::/48 (RFC
/// 6052 §2.2, where octet 8 is always skipped). Which length that is cannot be seen from the
/// address. What is in 0/8 is a misreading, since no translator delivers there.
pub(super) fn other_readings(ip: Ipv6Addr) -> SmallVec<[Ipv4Addr; 3]> {
    let [0, 0x64, 0xff, 0x9b, 0, 1, a, b, _, c, d, e, f, ..] = ip.octets() else {
        return SmallVec::new();
    };
    [Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(b, c, d, e), Ipv4Addr::new(c, d, e, f)]
        .into_iter()
        .filter(|ip| ip.octets()[0] != 0)
        .collect()
}

fn from_segments(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}
