//! The attributes of NAT behaviour discovery (RFC 5780 §7), addresses excepted.

use std::fmt;

use super::text::exactly;
use crate::stun::{Attribute, AttributeError, AttributeType, TransactionId};

/// Where the response should come from (RFC 5780 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRequest {
    /// From the other IP address.
    pub ip: bool,
    /// From the other port.
    pub port: bool,
}

impl Attribute<'_> for ChangeRequest {
    const TYPE: AttributeType = AttributeType::CHANGE_REQUEST;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let &[_, _, _, flags] = exactly(Self::TYPE, value)?;
        Ok(ChangeRequest { ip: flags & CHANGE_IP_BIT != 0, port: flags & CHANGE_PORT_BIT != 0 })
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        let ip = if self.ip { CHANGE_IP_BIT } else { 0 };
        let port = if self.port { CHANGE_PORT_BIT } else { 0 };
        out.extend_from_slice(&[0, 0, 0, ip | port]);
    }
}

/// The port of the client that the response should go to (RFC 5780 §7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePort(pub u16);

impl Attribute<'_> for ResponsePort {
    const TYPE: AttributeType = AttributeType::RESPONSE_PORT;

    /// The two bytes of padding that the RFC describes are the attribute's own to some clients and
    /// the common padding of all attributes to others.
    //= https://www.rfc-editor.org/rfc/rfc5780#section-7.5
    //# RESPONSE-PORT is a 16-bit unsigned integer in network byte order
    //# followed by 2 bytes of padding.
    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        match *value {
            [p0, p1] | [p0, p1, _, _] => Ok(ResponsePort(u16::from_be_bytes([p0, p1]))),
            _ => Err(AttributeError::Length(Self::TYPE)),
        }
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&self.0.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
    }
}

/// Bytes that make a message so long that it is sent in fragments (RFC 5780 §7.6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Padding<'a>(pub &'a [u8]);

impl<'a> Attribute<'a> for Padding<'a> {
    const TYPE: AttributeType = AttributeType::PADDING;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        Ok(Padding(value))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0);
    }
}

impl fmt::Debug for Padding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Padding({} bytes)", self.0.len())
    }
}

const CHANGE_IP_BIT: u8 = 0x04;
const CHANGE_PORT_BIT: u8 = 0x02;
