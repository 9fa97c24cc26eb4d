//! MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.5 and §14.6).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use crate::credentials::Key;
use crate::stun::{ATTRIBUTE_HEADER_LEN, AttributeType, HEADER_LEN, Message};

/// The hash under the HMAC of an integrity attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntegrityAlgorithm {
    /// MESSAGE-INTEGRITY, 20 bytes.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256, 32 bytes.
    Sha256,
}

impl IntegrityAlgorithm {
    /// The attribute that carries the value.
    pub const fn attribute_type(self) -> AttributeType {
        match self {
            IntegrityAlgorithm::Sha1 => AttributeType::MESSAGE_INTEGRITY,
            IntegrityAlgorithm::Sha256 => AttributeType::MESSAGE_INTEGRITY_SHA256,
        }
    }

    /// The size of the value in bytes.
    pub const fn value_len(self) -> usize {
        match self {
            IntegrityAlgorithm::Sha1 => 20,
            IntegrityAlgorithm::Sha256 => 32,
        }
    }
}

/// Why a message is not known to come from the holder of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityError {
    /// The message has no integrity attribute.
    Missing,
    /// The value was made with another key or over another message.
    Mismatch,
    /// The value is not as long as the algorithm makes it.
    Malformed,
}

impl fmt::Display for IntegrityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IntegrityError::Missing => "no message integrity",
            IntegrityError::Mismatch => "message integrity does not match",
            IntegrityError::Malformed => "message integrity has a bad length",
        })
    }
}

impl std::error::Error for IntegrityError {}

impl Message<'_> {
    /// The algorithm that [`Message::verify_integrity`] goes by; `None` if the message has neither
    /// attribute.
    pub fn integrity_algorithm(&self) -> Option<IntegrityAlgorithm> {
        match (self.integrity_sha256(), self.integrity_sha1()) {
            (Some(_), _) => Some(IntegrityAlgorithm::Sha256),
            (None, Some(_)) => Some(IntegrityAlgorithm::Sha1),
            (None, None) => None,
        }
    }

    /// Checks that the message was made by a holder of `key`, in a time that does not depend on
    /// where the values differ, and says by which algorithm.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //# If the MESSAGE-INTEGRITY-SHA256 attribute is present, compute the
    //# value for the message integrity as described in Section 14.6,
    //# using the password associated with the username.  Otherwise, using
    //# the same password, compute the value for the MESSAGE-INTEGRITY
    //# attribute as described in Section 14.5.
    pub fn verify_integrity(&self, key: &Key) -> Result<IntegrityAlgorithm, IntegrityError> {
        let algorithm = self.integrity_algorithm().ok_or(IntegrityError::Missing)?;
        let attribute = match algorithm {
            IntegrityAlgorithm::Sha1 => self.integrity_sha1(),
            IntegrityAlgorithm::Sha256 => self.integrity_sha256(),
        };
        let attribute = attribute.ok_or(IntegrityError::Missing)?;
        // TURN (RFC 8656) does not say that truncation is allowed, so a shorter value is malformed.
        //= https://www.rfc-editor.org/rfc/rfc8489#section-14.6
        //# The value will be at most 32
        //# bytes, but it MUST be at least 16 bytes and MUST be a multiple of 4
        //# bytes.
        //= https://www.rfc-editor.org/rfc/rfc8489#section-14.6
        //# The value must be the full 32 bytes unless the STUN Usage
        //# explicitly specifies that truncation is allowed.
        if attribute.value.len() != algorithm.value_len() {
            return Err(IntegrityError::Malformed);
        }
        let covered = self.as_bytes().get(..attribute.offset).ok_or(IntegrityError::Malformed)?;
        let length = covered_length(attribute.offset, algorithm)?;
        let expected = compute(algorithm, key, covered, length);
        if bool::from(expected.as_slice().ct_eq(attribute.value)) {
            Ok(algorithm)
        } else {
            Err(IntegrityError::Mismatch)
        }
    }
}

/// The HMAC over `covered`, a message up to the integrity attribute, as if its length field said
/// `length`.
pub(crate) fn compute(
    algorithm: IntegrityAlgorithm,
    key: &Key,
    covered: &[u8],
    length: u16,
) -> IntegrityValue {
    match algorithm {
        IntegrityAlgorithm::Sha1 => hmac::<Hmac<Sha1>>(key, covered, length),
        IntegrityAlgorithm::Sha256 => hmac::<Hmac<Sha256>>(key, covered, length),
    }
}

fn hmac<M: Mac + KeyInit>(key: &Key, covered: &[u8], length: u16) -> IntegrityValue {
    let mut mac = M::new_from_slice(key.as_bytes()).expect("HMAC takes keys of every length");
    let (message_type, rest) = covered.split_at_checked(2).unwrap_or((covered, &[]));
    mac.update(message_type);
    mac.update(&length.to_be_bytes());
    mac.update(rest.get(2..).unwrap_or_default());
    IntegrityValue::from_slice(&mac.finalize().into_bytes())
}

/// What the length field says while the value at `offset` is computed.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.5
//# Similarly, when validating the MESSAGE-INTEGRITY, the
//# Length field in the STUN header must be adjusted to point to the end
//# of the MESSAGE-INTEGRITY attribute prior to calculating the HMAC over
//# the STUN message, up to and including the attribute preceding the
//# MESSAGE-INTEGRITY attribute.
fn covered_length(offset: usize, algorithm: IntegrityAlgorithm) -> Result<u16, IntegrityError> {
    let end = offset + ATTRIBUTE_HEADER_LEN + algorithm.value_len();
    u16::try_from(end.saturating_sub(HEADER_LEN)).map_err(|_| IntegrityError::Malformed)
}

/// A computed value, long enough for either algorithm.
pub(crate) type IntegrityValue = SmallVec<[u8; 32]>;
