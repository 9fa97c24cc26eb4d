//! What the attributes that carry text or a fixed number of bytes have in common.

use crate::stun::{AttributeError, AttributeType};

/// The longest text that is read, in bytes: 127 characters as RFC 5389 counted them.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.3
//# A compliant implementation MUST
//# be able to parse a UTF-8-encoded sequence of 763 or fewer octets to
//# be compatible with [RFC5389].
pub const TEXT_LEN_MAX: usize = 763;

/// UTF-8 text of at most [`TEXT_LEN_MAX`] bytes.
pub(super) fn text(kind: AttributeType, value: &[u8]) -> Result<&str, AttributeError> {
    if value.len() > TEXT_LEN_MAX {
        return Err(AttributeError::Length(kind));
    }
    std::str::from_utf8(value).map_err(|_| AttributeError::Text(kind))
}

/// What may be sent of a text that is there for people: its first 127 characters.
pub(super) fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(CHARACTERS_MAX).map(|(end, _)| end);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// A value of exactly `N` bytes.
pub(super) fn exactly<const N: usize>(
    kind: AttributeType,
    value: &[u8],
) -> Result<&[u8; N], AttributeError> {
    <&[u8; N]>::try_from(value).map_err(|_| AttributeError::Length(kind))
}

const CHARACTERS_MAX: usize = 127;
