//! Why a request is refused (RFC 8489 §14.8 and §14.13, RFC 8656 §18.12).

use smallvec::SmallVec;

use super::addresses::{family_number, family_of};
use super::text::{shortened, text};
use crate::address::Family;
use crate::stun::{
    Attribute, AttributeError, AttributeType, ErrorCode, TransactionId, UNKNOWN_MAX,
};

/// The error code of an error response (RFC 8489 §14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCodeAttribute<'a> {
    /// The code.
    pub code: ErrorCode,
    /// A phrase for the reader of a trace; may be empty, which keeps answers to strangers short.
    pub reason: &'a str,
}

impl From<ErrorCode> for ErrorCodeAttribute<'static> {
    /// With the registered reason phrase.
    fn from(code: ErrorCode) -> Self {
        ErrorCodeAttribute { code, reason: code.reason() }
    }
}

impl<'a> Attribute<'a> for ErrorCodeAttribute<'a> {
    const TYPE: AttributeType = AttributeType::ERROR_CODE;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        //= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
        //# The Reserved bits SHOULD be 0 and are for alignment on 32-bit
        //# boundaries.  Receivers MUST ignore these bits.
        let (&[_, _, class, number], reason) =
            value.split_first_chunk().ok_or(AttributeError::Length(Self::TYPE))?;
        let code = code_of(Self::TYPE, class, number)?;
        Ok(ErrorCodeAttribute { code, reason: text(Self::TYPE, reason)? })
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        let [class, number] = class_and_number(self.code);
        out.extend_from_slice(&[0, 0, class, number]);
        //= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
        //# The reason phrase MUST be a
        //# UTF-8-encoded [RFC3629] sequence of fewer than 128 characters
        out.extend_from_slice(shortened(self.reason).as_bytes());
    }
}

/// Why a dual allocation has no relayed transport address of one family (RFC 8656 §18.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressErrorCode<'a> {
    /// The family that is missing.
    pub family: Family,
    /// 440 or 508.
    pub code: ErrorCode,
    /// A phrase for the reader of a trace; may be empty.
    pub reason: &'a str,
}

impl AddressErrorCode<'static> {
    /// With the registered reason phrase.
    pub const fn new(family: Family, code: ErrorCode) -> Self {
        AddressErrorCode { family, code, reason: code.reason() }
    }
}

impl<'a> Attribute<'a> for AddressErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ADDRESS_ERROR_CODE;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-18.12
        //# At this point, the 13 bits in the Reserved field MUST be
        //# set to zero by the server and MUST be ignored by the client.
        let (&[family, _, class, number], reason) =
            value.split_first_chunk().ok_or(AttributeError::Length(Self::TYPE))?;
        Ok(AddressErrorCode {
            family: family_of(Self::TYPE, family)?,
            code: code_of(Self::TYPE, class, number)?,
            reason: text(Self::TYPE, reason)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        let [class, number] = class_and_number(self.code);
        out.extend_from_slice(&[family_number(self.family), 0, class, number]);
        //= https://www.rfc-editor.org/rfc/rfc8656#section-18.12
        //# The reason phrase MUST be a
        //# UTF-8 [RFC3629] encoded sequence of less than 128 characters
        out.extend_from_slice(shortened(self.reason).as_bytes());
    }
}

/// The attribute types that made a server answer 420 (RFC 8489 §14.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAttributes(pub SmallVec<[AttributeType; 8]>);

impl Attribute<'_> for UnknownAttributes {
    const TYPE: AttributeType = AttributeType::UNKNOWN_ATTRIBUTES;

    /// Reads the first [`UNKNOWN_MAX`] types of the list.
    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let (types, rest) = value.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(AttributeError::Length(Self::TYPE));
        }
        let types = types.iter().take(UNKNOWN_MAX);
        Ok(UnknownAttributes(
            types.map(|number| AttributeType::new(u16::from_be_bytes(*number))).collect(),
        ))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        for kind in &self.0 {
            out.extend_from_slice(&kind.number().to_be_bytes());
        }
    }
}

/// The code whose hundreds are in the low three bits of `class`.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
//# The Class represents
//# the hundreds digit of the error code.  The value MUST be between 3
//# and 6.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.8
//# The Number represents the binary encoding of the error code
//# modulo 100, and its value MUST be between 0 and 99.
fn code_of(kind: AttributeType, class: u8, number: u8) -> Result<ErrorCode, AttributeError> {
    let class = class & CLASS_BITS;
    if !(3..=6).contains(&class) || number > 99 {
        return Err(AttributeError::Value(kind));
    }
    let number = u16::from(class) * 100 + u16::from(number);
    ErrorCode::from_number(number).ok_or(AttributeError::ErrorNumber(kind, number))
}

fn class_and_number(code: ErrorCode) -> [u8; 2] {
    // Codes are below 700, so that both fit a byte.
    [code.number() / 100, code.number() % 100].map(|digits| u8::try_from(digits).unwrap_or(0))
}

const CLASS_BITS: u8 = 0x07;
