//! The attributes of TURN (RFC 8656 §18), addresses and errors excepted.

use std::fmt;
use std::time::Duration;

use super::addresses::{family_number, family_of};
use super::text::exactly;
use crate::address::Family;
use crate::channel_data::ChannelNumber;
use crate::stun::{Attribute, AttributeError, AttributeType, TransactionId};

/// CHANNEL-NUMBER (RFC 8656 §18.1). Numbers that are no channel's under RFC 5766 either are refused
/// here; whether the numbers that only RFC 5766 knows are taken is for the request to decide.
impl Attribute<'_> for ChannelNumber {
    const TYPE: AttributeType = AttributeType::CHANNEL_NUMBER;

    //= https://www.rfc-editor.org/rfc/rfc8656#section-18.1
    //# a two-octet RFFU (Reserved For
    //# Future Use) field, which MUST be set to 0 on transmission and MUST be
    //# ignored on reception.
    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let &[n0, n1, _, _] = exactly(Self::TYPE, value)?;
        ChannelNumber::wide(u16::from_be_bytes([n0, n1])).ok_or(AttributeError::Value(Self::TYPE))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&self.number().to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
}

/// How long an allocation lasts without a refresh, in whole seconds (RFC 8656 §18.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

impl Attribute<'_> for Lifetime {
    const TYPE: AttributeType = AttributeType::LIFETIME;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let seconds = u32::from_be_bytes(*exactly(Self::TYPE, value)?);
        Ok(Lifetime(Duration::from_secs(u64::from(seconds))))
    }

    /// Rounds down, so that no client waits with its refresh for longer than the server does.
    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        let seconds = u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
}

/// Application data to or from a peer (RFC 8656 §18.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<'a>(pub &'a [u8]);

impl<'a> Attribute<'a> for Data<'a> {
    const TYPE: AttributeType = AttributeType::DATA;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        Ok(Data(value))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0);
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

/// The family that the relayed transport address should have (RFC 8656 §18.6). An unknown family is
/// [`AttributeError::Family`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedAddressFamily(pub Family);

impl Attribute<'_> for RequestedAddressFamily {
    const TYPE: AttributeType = AttributeType::REQUESTED_ADDRESS_FAMILY;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        decode_family(Self::TYPE, value).map(RequestedAddressFamily)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&[family_number(self.0), 0, 0, 0]);
    }
}

/// The second family that a dual allocation should have (RFC 8656 §18.11), IPv6 in every valid
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdditionalAddressFamily(pub Family);

impl Attribute<'_> for AdditionalAddressFamily {
    const TYPE: AttributeType = AttributeType::ADDITIONAL_ADDRESS_FAMILY;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        decode_family(Self::TYPE, value).map(AdditionalAddressFamily)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&[family_number(self.0), 0, 0, 0]);
    }
}

/// Asks for an even relay port (RFC 8656 §18.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvenPort {
    /// The R bit: keep the next higher port for a later allocation.
    pub reserve_next: bool,
}

impl Attribute<'_> for EvenPort {
    const TYPE: AttributeType = AttributeType::EVEN_PORT;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let &[flags] = exactly(Self::TYPE, value)?;
        Ok(EvenPort { reserve_next: flags & RESERVE_NEXT_BIT != 0 })
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.push(if self.reserve_next { RESERVE_NEXT_BIT } else { 0 });
    }
}

/// The transport protocol between server and peer, an IP protocol number (RFC 8656 §18.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedTransport(pub u8);

impl RequestedTransport {
    /// Datagrams, the one protocol of RFC 8656.
    pub const UDP: RequestedTransport = RequestedTransport(17);
    /// The connections of RFC 6062.
    pub const TCP: RequestedTransport = RequestedTransport(6);
}

impl Attribute<'_> for RequestedTransport {
    const TYPE: AttributeType = AttributeType::REQUESTED_TRANSPORT;

    //= https://www.rfc-editor.org/rfc/rfc8656#section-18.8
    //# The RFFU field MUST be set to zero on transmission and MUST be
    //# ignored on reception.
    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let &[protocol, _, _, _] = exactly(Self::TYPE, value)?;
        Ok(RequestedTransport(protocol))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&[self.0, 0, 0, 0]);
    }
}

/// Asks for the DF bit towards the peer (RFC 8656 §18.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DontFragment;

impl Attribute<'_> for DontFragment {
    const TYPE: AttributeType = AttributeType::DONT_FRAGMENT;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        exactly::<0>(Self::TYPE, value).map(|_| DontFragment)
    }

    fn encode(&self, _: &mut Vec<u8>, _: &TransactionId) {}
}

/// Names a relayed transport address that is kept for the client (RFC 8656 §18.10).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReservationToken(pub [u8; 8]);

impl Attribute<'_> for ReservationToken {
    const TYPE: AttributeType = AttributeType::RESERVATION_TOKEN;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        exactly(Self::TYPE, value).copied().map(ReservationToken)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&self.0);
    }
}

// Who reads the token in a log could take the port that it stands for.
impl fmt::Debug for ReservationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReservationToken(redacted)")
    }
}

/// Why a datagram did not reach its peer (RFC 8656 §18.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The ICMP or ICMPv6 type.
    pub kind: u8,
    /// The ICMP or ICMPv6 code.
    pub code: u8,
    /// The MTU of the next hop where the packet was too big, zero otherwise.
    pub data: u32,
}

impl Attribute<'_> for Icmp {
    const TYPE: AttributeType = AttributeType::ICMP;

    //= https://www.rfc-editor.org/rfc/rfc8656#section-18.13
    //# This field MUST be set to 0 when sent and MUST be ignored
    //# when received.
    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let &[_, _, kind, code, d0, d1, d2, d3] = exactly(Self::TYPE, value)?;
        Ok(Icmp { kind, code, data: u32::from_be_bytes([d0, d1, d2, d3]) })
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&[0, 0, self.kind, self.code]);
        out.extend_from_slice(&self.data.to_be_bytes());
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-18.6
//# At this point, the 24 bits in the Reserved field MUST be
//# set to zero by the client and MUST be ignored by the server.
fn decode_family(kind: AttributeType, value: &[u8]) -> Result<Family, AttributeError> {
    let &[family, _, _, _] = exactly(kind, value)?;
    family_of(kind, family)
}

const RESERVE_NEXT_BIT: u8 = 0x80;
