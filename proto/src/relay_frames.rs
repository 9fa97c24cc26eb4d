//! The frames in which data from peers goes to the client, written around a payload that stays
//! where the socket put it: room is left before and behind it, and no byte of it is copied.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use crate::address::{Family, PeerAddr};
use crate::channel_data::{CHANNEL_DATA_HEADER_LEN, ChannelNumber, write_header};
use crate::drops::DropReason;
use crate::stun::{
    AttributeType, Class, ConnectionId, HEADER_LEN, Icmp, MAGIC_COOKIE, MessageWriter, Method,
    TransactionId, XorPeerAddress, padding,
};

/// The free bytes that a payload needs before it, for whichever frame it gets: the header of a Data
/// indication with an IPv6 peer.
pub const DATA_HEADROOM: usize = 48;

/// The free bytes that a payload needs behind it: the padding of a DATA attribute.
pub const DATA_TAILROOM: usize = 3;

/// Why a payload cannot be framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapError {
    /// The length fields of the frame cannot say how long it is.
    TooLong,
    /// The buffer has too little room around the payload.
    NoRoom,
}

impl fmt::Display for WrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WrapError::TooLong => "too long for its frame",
            WrapError::NoRoom => "no room for a frame around the payload",
        })
    }
}

impl std::error::Error for WrapError {}

impl From<WrapError> for DropReason {
    fn from(error: WrapError) -> DropReason {
        match error {
            WrapError::TooLong | WrapError::NoRoom => DropReason::Oversized,
        }
    }
}

/// All of a Data indication that stands before its data (RFC 8656 §11.3).
#[derive(Clone, Copy, Debug)]
pub struct DataHeader {
    bytes: [u8; DATA_HEADROOM],
    start: usize,
}

impl DataHeader {
    /// The header for `length` bytes of data from `peer`.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.3
    //# The Data indication
    //# MUST contain both an XOR-PEER-ADDRESS and a DATA attribute.
    pub fn new(peer: PeerAddr, id: TransactionId, length: usize) -> Result<DataHeader, WrapError> {
        let attribute_length: u16 = match peer.0 {
            SocketAddr::V4(_) => 8,
            SocketAddr::V6(_) => 20,
        };
        let body = usize::from(attribute_length) + 8 + length + padding(length);
        let body = u16::try_from(body).map_err(|_| WrapError::TooLong)?;
        let length = u16::try_from(length).map_err(|_| WrapError::TooLong)?;

        // Written from the end, so that the header of either family ends where the data starts.
        let mut bytes = [0; DATA_HEADROOM];
        let mut end = DATA_HEADROOM;
        let mut before = |field: &[u8]| {
            let start = end - field.len();
            bytes[start..end].copy_from_slice(field);
            end = start;
        };
        before(&length.to_be_bytes());
        before(&AttributeType::DATA.number().to_be_bytes());
        match peer.0 {
            SocketAddr::V4(v4) => before(&(v4.ip().to_bits() ^ MAGIC_COOKIE).to_be_bytes()),
            SocketAddr::V6(v6) => before(&(v6.ip().to_bits() ^ mask(id)).to_be_bytes()),
        }
        let [port_high, port_low] = peer.0.port().to_be_bytes();
        let [cookie_high, cookie_low, ..] = MAGIC_COOKIE.to_be_bytes();
        let family = match Family::of(peer.0.ip()) {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        before(&[0, family, port_high ^ cookie_high, port_low ^ cookie_low]);
        before(&attribute_length.to_be_bytes());
        before(&AttributeType::XOR_PEER_ADDRESS.number().to_be_bytes());
        before(id.as_bytes());
        before(&MAGIC_COOKIE.to_be_bytes());
        before(&body.to_be_bytes());
        before(&Method::DATA.message_type(Class::Indication).to_be_bytes());
        Ok(DataHeader { bytes, start: end })
    }
}

impl AsRef<[u8]> for DataHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Write a Data indication around the payload at `payload` in `buffer`, and say where the whole
/// frame is. The buffer needs [`DATA_HEADROOM`] bytes before and [`DATA_TAILROOM`] behind the
/// payload.
pub fn wrap_data_indication(
    buffer: &mut [u8],
    payload: Range<usize>,
    peer: PeerAddr,
    id: TransactionId,
) -> Result<Range<usize>, WrapError> {
    let header = DataHeader::new(peer, id, payload.len())?;
    let frame = wrap(buffer, &payload, header.as_ref())?;
    // Padding is written, never left over from what the buffer held before.
    let end = frame.end + padding(payload.len());
    buffer.get_mut(frame.end..end).ok_or(WrapError::NoRoom)?.fill(0);
    Ok(frame.start..end)
}

/// Write a ChannelData message around the payload at `payload` in `buffer`, and say where the whole
/// frame is. It has no padding, as datagrams need none.
pub fn wrap_channel_data(
    buffer: &mut [u8],
    payload: Range<usize>,
    number: ChannelNumber,
) -> Result<Range<usize>, WrapError> {
    let header: [u8; CHANNEL_DATA_HEADER_LEN] =
        write_header(number, payload.len()).map_err(|_| WrapError::TooLong)?;
    wrap(buffer, &payload, &header)
}

/// The ICMP attribute that tells a client of an ICMP packet about one of its datagrams. `None` for
/// those that are not passed on.
//= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
//# When the server receives an ICMP packet, the server verifies that the
//# type is either 3 or 11 for an ICMPv4 [RFC0792] packet or either 1, 2,
//# or 3 for an ICMPv6 [RFC4443] packet.
pub fn icmp_for_client(family: Family, kind: u8, code: u8, mtu: u32) -> Option<Icmp> {
    let relayed = match family {
        Family::V4 => matches!(kind, 3 | 11),
        Family::V6 => matches!(kind, 1..=3),
    };
    //= https://www.rfc-editor.org/rfc/rfc8656#section-18.13
    //# For other ICMPv6 types and ICMPv4 types and codes,
    //# the Error Data field MUST be set to zero.
    let data = match (family, kind, code) {
        (Family::V4, 3, 4) | (Family::V6, 2, _) => mtu,
        _ => 0,
    };
    relayed.then_some(Icmp { kind, code, data })
}

/// Append the Data indication with which a client hears of an ICMP packet about a datagram to
/// `peer`.
//= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
//# The server uses a Data indication to signal the XOR-PEER-ADDRESS and
//# ICMP attributes to the client even if a channel has been bound to the
//# peer.
pub fn icmp_indication(out: &mut Vec<u8>, id: TransactionId, peer: PeerAddr, icmp: Icmp) {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
    //# The Data indication MUST contain both an XOR-PEER-
    //# ADDRESS and an ICMP attribute.
    MessageWriter::new(out, Class::Indication, Method::DATA, id)
        .attribute(&XorPeerAddress(peer.0))
        .attribute(&icmp);
}

/// Append the ConnectionAttempt indication with which a client hears that `peer` has connected to
/// its relayed transport address.
//= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
//# The indication MUST include an
//# XOR-PEER-ADDRESS attribute containing the peer's transport address,
//# as well as a CONNECTION-ID attribute uniquely identifying the peer
//# data connection.
pub fn connection_attempt(
    out: &mut Vec<u8>,
    transaction_id: TransactionId,
    peer: PeerAddr,
    id: ConnectionId,
) {
    MessageWriter::new(out, Class::Indication, Method::CONNECTION_ATTEMPT, transaction_id)
        .attribute(&XorPeerAddress(peer.0))
        .attribute(&id);
}

fn wrap(
    buffer: &mut [u8],
    payload: &Range<usize>,
    header: &[u8],
) -> Result<Range<usize>, WrapError> {
    let start = payload.start.checked_sub(header.len()).ok_or(WrapError::NoRoom)?;
    if payload.end > buffer.len() {
        return Err(WrapError::NoRoom);
    }
    buffer.get_mut(start..payload.start).ok_or(WrapError::NoRoom)?.copy_from_slice(header);
    Ok(start..payload.end)
}

/// What an IPv6 address is XOR'ed with: the magic cookie and the transaction ID (RFC 8489 §14.2).
fn mask(id: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(id.as_bytes());
    u128::from_be_bytes(mask)
}

const _: () = assert!(DATA_HEADROOM == HEADER_LEN + 4 + 20 + 4);

#[cfg(test)]
mod tests;
