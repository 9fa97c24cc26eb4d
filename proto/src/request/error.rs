//! Why a request is turned down by its shape.

use std::fmt;

use smallvec::SmallVec;

use crate::channel_data::ChannelNumber;
use crate::stun::{AttributeError, AttributeType, ErrorCode};

/// Why a request cannot be served, whatever the state of the allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The method has no request that is served here.
    UnsupportedMethod,
    /// The request needs an attribute that it does not have.
    Missing(AttributeType),
    /// An attribute cannot be read.
    Malformed(AttributeError),
    /// Two attributes that exclude each other.
    Contradiction(AttributeType, AttributeType),
    /// ADDITIONAL-ADDRESS-FAMILY asks for something else than IPv6.
    AdditionalFamily,
    /// The channel number is not among those that may be bound.
    ChannelNumber(ChannelNumber),
    /// A channel to port 0.
    PortZero,
    /// Comprehension-required attributes that are not understood, for UNKNOWN-ATTRIBUTES to list.
    UnknownAttributes(SmallVec<[AttributeType; 8]>),
    /// The protocol between server and peer is none that is relayed.
    UnsupportedTransport(u8),
    /// A request about TCP peers from a client that has come by UDP or DTLS.
    NotAStream,
    /// An attribute about UDP ports or datagrams in a request for a TCP relay.
    UdpOnly(AttributeType),
    /// Addresses of this family are not relayed.
    FamilyNotSupported,
    /// A Refresh for a family that no allocation has an address of.
    FamilyMismatch,
}

impl RequestError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            RequestError::UnsupportedMethod
            | RequestError::Missing(_)
            | RequestError::Malformed(_)
            | RequestError::Contradiction(..)
            | RequestError::AdditionalFamily
            | RequestError::ChannelNumber(_)
            | RequestError::NotAStream
            | RequestError::UdpOnly(_)
            | RequestError::PortZero => ErrorCode::BadRequest,
            RequestError::UnknownAttributes(_) => ErrorCode::UnknownAttribute,
            RequestError::UnsupportedTransport(_) => ErrorCode::UnsupportedTransportProtocol,
            RequestError::FamilyNotSupported => ErrorCode::AddressFamilyNotSupported,
            RequestError::FamilyMismatch => ErrorCode::PeerAddressFamilyMismatch,
        }
    }
}

impl From<AttributeError> for RequestError {
    fn from(malformed: AttributeError) -> RequestError {
        RequestError::Malformed(malformed)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::UnsupportedMethod => f.write_str("the method is not served"),
            RequestError::Missing(attribute) => write!(f, "{attribute} is missing"),
            RequestError::Malformed(malformed) => malformed.fmt(f),
            RequestError::Contradiction(one, other) => write!(f, "{one} excludes {other}"),
            RequestError::AdditionalFamily => f.write_str("ADDITIONAL-ADDRESS-FAMILY is not IPv6"),
            RequestError::ChannelNumber(number) => write!(f, "channel {number} may not be bound"),
            RequestError::PortZero => f.write_str("the peer's port is 0"),
            RequestError::UnknownAttributes(types) => {
                f.write_str("not understood:")?;
                types.iter().try_for_each(|attribute| write!(f, " {:#06x}", attribute.number()))
            }
            RequestError::UnsupportedTransport(protocol) => {
                write!(f, "transport protocol {protocol} is not relayed")
            }
            RequestError::NotAStream => f.write_str("the client has not come by TCP or TLS"),
            RequestError::UdpOnly(attribute) => write!(f, "{attribute} excludes a TCP relay"),
            RequestError::FamilyNotSupported => f.write_str("the address family is not relayed"),
            RequestError::FamilyMismatch => {
                f.write_str("no allocation has an address of this family")
            }
        }
    }
}

impl std::error::Error for RequestError {}
