//! The frames in which data from peers goes to the client: what stands before and behind a payload
//! that stays where the socket put it, so that no byte of it is copied.

use std::fmt;
use std::net::SocketAddr;

use crate::address::{Family, PeerAddr};
use crate::channel_data::{CHANNEL_DATA_HEADER_LEN, ChannelNumber, write_header};
use crate::drops::DropReason;
use crate::stun::{
    AttributeType, Class, ConnectionId, HEADER_LEN, Icmp, MAGIC_COOKIE, MessageWriter, Method,
    TransactionId, XorPeerAddress, padding,
};

/// The length fields of the frame cannot say how long the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too long for its frame")
    }
}

impl std::error::Error for TooLong {}

impl From<TooLong> for DropReason {
    fn from(TooLong: TooLong) -> DropReason {
        DropReason::Oversized
    }
}

/// All of a frame that stands before its payload, and how much padding stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct FrameHeader {
    // Filled from the end, so that every kind of header ends where the payload starts.
    bytes: [u8; FRAME_HEADER_MAX],
    start: usize,
    padding: usize,
}

impl FrameHeader {
    /// The header of a ChannelData message with `length` bytes of data (RFC 8656 §12.4). It has no
    /// padding: datagrams need none, and a stream's transport adds what streams want.
    ///
    /// # Errors
    /// When the data is longer than the length field can say.
    pub fn channel_data(number: ChannelNumber, length: usize) -> Result<FrameHeader, TooLong> {
        let header: [u8; CHANNEL_DATA_HEADER_LEN] =
            write_header(number, length).map_err(|_| TooLong)?;
        let mut frame = FrameHeader::empty();
        frame.put_before(&header);
        Ok(frame)
    }

    /// All of a Data indication with `length` bytes of data from `peer` that stands before the data
    /// (RFC 8656 §11.3); its padding is that of the DATA attribute, zeros.
    ///
    /// # Errors
    /// When the data is longer than the length fields can say.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.3
    //# The Data indication
    //# MUST contain both an XOR-PEER-ADDRESS and a DATA attribute.
    pub fn data_indication(
        peer: PeerAddr,
        id: TransactionId,
        length: usize,
    ) -> Result<FrameHeader, TooLong> {
        let attribute_length: u16 = match peer.0 {
            SocketAddr::V4(_) => 8,
            SocketAddr::V6(_) => 20,
        };
        let padding = padding(length);
        let body = usize::from(attribute_length) + 8 + length + padding;
        let body = u16::try_from(body).map_err(|_| TooLong)?;
        let length = u16::try_from(length).map_err(|_| TooLong)?;

        let mut frame = FrameHeader { padding, ..FrameHeader::empty() };
        frame.put_before(&length.to_be_bytes());
        frame.put_before(&AttributeType::DATA.number().to_be_bytes());
        match peer.0 {
            SocketAddr::V4(v4) => {
                frame.put_before(&(v4.ip().to_bits() ^ MAGIC_COOKIE).to_be_bytes());
            }
            SocketAddr::V6(v6) => frame.put_before(&(v6.ip().to_bits() ^ mask(id)).to_be_bytes()),
        }
        let [port_high, port_low] = peer.0.port().to_be_bytes();
        let [cookie_high, cookie_low, ..] = MAGIC_COOKIE.to_be_bytes();
        let family = match Family::of(peer.0.ip()) {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        frame.put_before(&[0, family, port_high ^ cookie_high, port_low ^ cookie_low]);
        frame.put_before(&attribute_length.to_be_bytes());
        frame.put_before(&AttributeType::XOR_PEER_ADDRESS.number().to_be_bytes());
        frame.put_before(id.as_bytes());
        frame.put_before(&MAGIC_COOKIE.to_be_bytes());
        frame.put_before(&body.to_be_bytes());
        frame.put_before(&Method::DATA.message_type(Class::Indication).to_be_bytes());
        Ok(frame)
    }

    /// Zero bytes that stand behind the payload, three at most.
    pub fn padding(&self) -> usize {
        self.padding
    }

    fn empty() -> FrameHeader {
        FrameHeader { bytes: [0; FRAME_HEADER_MAX], start: FRAME_HEADER_MAX, padding: 0 }
    }

    fn put_before(&mut self, field: &[u8]) {
        let start = self.start - field.len();
        self.bytes[start..self.start].copy_from_slice(field);
        self.start = start;
    }
}

impl AsRef<[u8]> for FrameHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
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

/// What an IPv6 address is XOR'ed with: the magic cookie and the transaction ID (RFC 8489 §14.2).
fn mask(id: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(id.as_bytes());
    u128::from_be_bytes(mask)
}

/// The longest header: that of a Data indication with an IPv6 peer.
const FRAME_HEADER_MAX: usize = HEADER_LEN + 4 + 20 + 4;

#[cfg(test)]
mod tests;
