//! SOFTWARE, ALTERNATE-DOMAIN and the attributes of RFC 6062, RFC 8016 and the ORIGIN draft.

use std::fmt;

use super::text::{exactly, shortened, text};
use crate::stun::{Attribute, AttributeError, AttributeType, TransactionId};

/// What the sender runs (RFC 8489 §14.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Software<'a>(pub &'a str);

impl<'a> Attribute<'a> for Software<'a> {
    const TYPE: AttributeType = AttributeType::SOFTWARE;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        text(Self::TYPE, value).map(Software)
    }

    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.14
    //# It MUST be a UTF-8-encoded
    //# [RFC3629] sequence of fewer than 128 characters
    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(shortened(self.0).as_bytes());
    }
}

/// The name in the certificate of the server that ALTERNATE-SERVER names (RFC 8489 §14.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlternateDomain<'a>(pub &'a str);

impl<'a> Attribute<'a> for AlternateDomain<'a> {
    const TYPE: AttributeType = AttributeType::ALTERNATE_DOMAIN;

    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.16
    //# It MUST be a valid
    //# DNS name [RFC1123] (including A-labels [RFC5890]) of 255 or fewer
    //# ASCII characters.
    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        if value.len() > DOMAIN_LEN_MAX {
            return Err(AttributeError::Length(Self::TYPE));
        }
        let domain = text(Self::TYPE, value)?;
        let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if domain.is_empty() || !domain.bytes().all(of_a_name) {
            return Err(AttributeError::Text(Self::TYPE));
        }
        Ok(AlternateDomain(domain))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

/// Names a connection between server and peer (RFC 6062 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u32);

impl Attribute<'_> for ConnectionId {
    const TYPE: AttributeType = AttributeType::CONNECTION_ID;

    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        exactly(Self::TYPE, value).map(|id| ConnectionId(u32::from_be_bytes(*id)))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

/// Lets an allocation follow its client to another address (RFC 8016 §3); empty where the client
/// asks for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MobilityTicket<'a>(pub &'a [u8]);

impl<'a> Attribute<'a> for MobilityTicket<'a> {
    const TYPE: AttributeType = AttributeType::MOBILITY_TICKET;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        Ok(MobilityTicket(value))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0);
    }
}

// Who reads the ticket in a log could take the allocation away.
impl fmt::Debug for MobilityTicket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MobilityTicket(redacted)")
    }
}

/// The web origin on whose behalf the client asks (draft-ietf-tram-stun-origin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a>(pub &'a str);

impl<'a> Attribute<'a> for Origin<'a> {
    const TYPE: AttributeType = AttributeType::ORIGIN;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        text(Self::TYPE, value).map(Origin)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

const DOMAIN_LEN_MAX: usize = 255;
