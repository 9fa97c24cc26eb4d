//! Transport addresses, plain and XOR'ed (RFC 8489 §14.1 and §14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::Family;
use crate::stun::{Attribute, AttributeError, AttributeType, MAGIC_COOKIE, TransactionId};

macro_rules! address_attributes {
    ($decode:ident, $encode:ident: $($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub SocketAddr);

        impl Attribute<'_> for $name {
            const TYPE: AttributeType = AttributeType::$kind;

            fn decode(value: &[u8], id: &TransactionId) -> Result<Self, AttributeError> {
                $decode(Self::TYPE, value, id).map($name)
            }

            fn encode(&self, out: &mut Vec<u8>, id: &TransactionId) {
                $encode(self.0, out, id);
            }
        }
    )*};
}

address_attributes! { decode_plain, encode_plain:
    /// The client's reflexive address as RFC 3489 clients read it (RFC 8489 §14.1).
    MappedAddress = MAPPED_ADDRESS;
    /// Another server, which the client should try (RFC 8489 §14.15).
    AlternateServer = ALTERNATE_SERVER;
    /// The address that a Binding response is sent from (RFC 5780 §7.3).
    ResponseOrigin = RESPONSE_ORIGIN;
    /// The address that a changed IP and port would be sent from (RFC 5780 §7.4).
    OtherAddress = OTHER_ADDRESS;
}

address_attributes! { decode_xor, encode_xor:
    /// The client's reflexive address (RFC 8489 §14.2).
    XorMappedAddress = XOR_MAPPED_ADDRESS;
    /// A peer as the server sees it (RFC 8656 §18.3).
    XorPeerAddress = XOR_PEER_ADDRESS;
    /// The relayed transport address (RFC 8656 §18.5).
    XorRelayedAddress = XOR_RELAYED_ADDRESS;
}

/// The number of a family in the attributes that name one.
pub(super) const fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => FAMILY_IPV4,
        Family::V6 => FAMILY_IPV6,
    }
}

/// The family with this number.
pub(super) fn family_of(kind: AttributeType, number: u8) -> Result<Family, AttributeError> {
    match number {
        FAMILY_IPV4 => Ok(Family::V4),
        FAMILY_IPV6 => Ok(Family::V6),
        _ => Err(AttributeError::Family(kind, number)),
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-14.1
//# If the address family is IPv4, the address MUST be 32 bits.  If the
//# address family is IPv6, the address MUST be 128 bits.
fn decode_plain(
    kind: AttributeType,
    value: &[u8],
    _: &TransactionId,
) -> Result<SocketAddr, AttributeError> {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.1
    //# The first 8 bits of the MAPPED-ADDRESS MUST be set to 0 and MUST be
    //# ignored by receivers.
    let (&[_, family, p0, p1], ip) =
        value.split_first_chunk().ok_or(AttributeError::Length(kind))?;
    let ip = match family_of(kind, family)? {
        Family::V4 => <[u8; 4]>::try_from(ip).map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(ip).map(IpAddr::from),
    };
    let ip = ip.map_err(|_| AttributeError::Length(kind))?;
    Ok(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

fn encode_plain(address: SocketAddr, out: &mut Vec<u8>, _: &TransactionId) {
    out.extend_from_slice(&[0, family_number(Family::of(address.ip()))]);
    out.extend_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

fn decode_xor(
    kind: AttributeType,
    value: &[u8],
    id: &TransactionId,
) -> Result<SocketAddr, AttributeError> {
    decode_plain(kind, value, id).map(|address| xor(address, id))
}

fn encode_xor(address: SocketAddr, out: &mut Vec<u8>, id: &TransactionId) {
    encode_plain(xor(address, id), out, id);
}

/// Hides an address from NATs that rewrite what looks like one, and brings it back.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.2
//# X-Port is computed by XOR'ing the mapped port with the most
//# significant 16 bits of the magic cookie.  If the IP address family is
//# IPv4, X-Address is computed by XOR'ing the mapped IP address with the
//# magic cookie.  If the IP address family is IPv6, X-Address is
//# computed by XOR'ing the mapped IP address with the concatenation of
//# the magic cookie and the 96-bit transaction ID.
fn xor(address: SocketAddr, id: &TransactionId) -> SocketAddr {
    let [c0, c1, c2, c3] = MAGIC_COOKIE.to_be_bytes();
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ MAGIC_COOKIE)),
        IpAddr::V6(ip) => {
            let &[i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11] = id.as_bytes();
            let mask = u128::from_be_bytes([
                c0, c1, c2, c3, i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11,
            ]);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ mask))
        }
    };
    SocketAddr::new(ip, address.port() ^ u16::from_be_bytes([c0, c1]))
}

const FAMILY_IPV4: u8 = 0x01;
const FAMILY_IPV6: u8 = 0x02;
