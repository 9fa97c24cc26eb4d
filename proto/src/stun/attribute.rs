//! What every attribute is: a type, a length and a value (RFC 8489 §14).

use std::fmt;

use super::{AttributeType, TransactionId};

/// An attribute that can be read from a message and written into one.
///
/// The transaction ID is an argument because the XOR'ed addresses are encoded with it.
pub trait Attribute<'a>: Sized {
    /// The type under which the attribute travels.
    const TYPE: AttributeType;

    /// Reads the value, which is `value` exactly: without header and without padding.
    fn decode(value: &'a [u8], transaction_id: &TransactionId) -> Result<Self, AttributeError>;

    /// Appends the value to `out`: no header, no padding.
    fn encode(&self, out: &mut Vec<u8>, transaction_id: &TransactionId);
}

/// An attribute as it stands in a message, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Its type.
    pub kind: AttributeType,
    /// Its value without padding.
    pub value: &'a [u8],
}

/// Why the value of an attribute cannot be read. Each of these makes a request a bad request, but
/// for [`AttributeError::Family`], which some requests have an error code of their own for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeError {
    /// The value is shorter or longer than its format allows.
    Length(AttributeType),
    /// Text that is not UTF-8, or a domain name that is not ASCII.
    Text(AttributeType),
    /// An address family that is neither IPv4 nor IPv6.
    Family(AttributeType, u8),
    /// An error number that no supported RFC defines.
    ErrorNumber(AttributeType, u16),
    /// A value of the right length that means nothing.
    Value(AttributeType),
}

impl AttributeError {
    /// The attribute that is at fault.
    pub fn attribute(&self) -> AttributeType {
        match *self {
            AttributeError::Length(kind)
            | AttributeError::Text(kind)
            | AttributeError::Family(kind, _)
            | AttributeError::ErrorNumber(kind, _)
            | AttributeError::Value(kind) => kind,
        }
    }
}

impl fmt::Display for AttributeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttributeError::Length(kind) => write!(f, "{kind} has a bad length"),
            AttributeError::Text(kind) => write!(f, "{kind} is not valid text"),
            AttributeError::Family(kind, family) => {
                write!(f, "{kind} names the unknown address family {family:#04x}")
            }
            AttributeError::ErrorNumber(kind, number) => {
                write!(f, "{kind} carries the unknown error number {number}")
            }
            AttributeError::Value(kind) => write!(f, "{kind} has a bad value"),
        }
    }
}

impl std::error::Error for AttributeError {}

/// Splits the attribute off the front of `body`; `None` if it does not hold a whole one.
pub(super) fn split_attribute(body: &[u8]) -> Option<(RawAttribute<'_>, &[u8])> {
    let (&[type_high, type_low, length_high, length_low], rest) = body.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let (value, rest) = rest.split_at_checked(length)?;
    let rest = rest.get(padding(length)..)?;
    let kind = AttributeType::new(u16::from_be_bytes([type_high, type_low]));
    Some((RawAttribute { kind, value }, rest))
}

/// The number of bytes between the end of a value of `length` bytes and the next 32-bit boundary.
pub(crate) const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// The size of the type and length fields before each value.
pub(crate) const ATTRIBUTE_HEADER_LEN: usize = 4;
