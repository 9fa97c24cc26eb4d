//! Who is asking, and how they prove it (RFC 8489 §14.3, §14.4 and §14.9 to §14.12).

use std::fmt;

use smallvec::SmallVec;

use super::text::{exactly, text};
use crate::credentials::PasswordAlgorithm;
use crate::stun::{Attribute, AttributeError, AttributeType, TransactionId, padding};

/// The user name, prepared by OpaqueString (RFC 8489 §14.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Username<'a>(pub &'a str);

impl<'a> Attribute<'a> for Username<'a> {
    const TYPE: AttributeType = AttributeType::USERNAME;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        text(Self::TYPE, value).map(Username)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

/// A hash in place of the user name (RFC 8489 §14.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserHash(pub [u8; 32]);

impl Attribute<'_> for UserHash {
    const TYPE: AttributeType = AttributeType::USERHASH;

    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.4
    //# The value of USERHASH has a fixed length of 32 bytes.
    fn decode(value: &[u8], _: &TransactionId) -> Result<Self, AttributeError> {
        exactly(Self::TYPE, value).copied().map(UserHash)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(&self.0);
    }
}

impl fmt::Debug for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserHash(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The realm that the credentials belong to (RFC 8489 §14.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Realm<'a>(pub &'a str);

impl<'a> Attribute<'a> for Realm<'a> {
    const TYPE: AttributeType = AttributeType::REALM;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        text(Self::TYPE, value).map(Realm)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

/// The server's nonce (RFC 8489 §14.10).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce<'a>(pub &'a str);

impl<'a> Attribute<'a> for Nonce<'a> {
    const TYPE: AttributeType = AttributeType::NONCE;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        text(Self::TYPE, value).map(Nonce)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

// A nonce in a log would let its reader replay what it protects.
impl fmt::Debug for Nonce<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({} bytes)", self.0.len())
    }
}

/// A password algorithm with its parameters: the whole of PASSWORD-ALGORITHM, or one entry of
/// PASSWORD-ALGORITHMS (RFC 8489 §14.11 and §14.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordAlgorithmAttribute<'a> {
    /// The number in the IANA registry, which may be one that this server does not know.
    pub number: u16,
    /// The parameters without padding; the known algorithms have none.
    pub parameters: &'a [u8],
}

impl<'a> PasswordAlgorithmAttribute<'a> {
    /// The algorithm, if it is a known one without parameters.
    pub fn algorithm(&self) -> Option<PasswordAlgorithm> {
        if self.parameters.is_empty() { PasswordAlgorithm::from_number(self.number) } else { None }
    }

    /// Splits an entry and its padding off the front of `value`. The padding of the last entry may
    /// be missing, because the attribute that it ends is padded itself.
    fn split(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[n0, n1, l0, l1], rest) = value.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (parameters, rest) = rest.split_at_checked(length)?;
        let rest = rest.get(padding(length)..).or(rest.is_empty().then_some(rest))?;
        Some((
            PasswordAlgorithmAttribute { number: u16::from_be_bytes([n0, n1]), parameters },
            rest,
        ))
    }

    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.12
    //# The parameters are
    //# padded to a 32-bit boundary, in the same manner as an attribute.
    //# Similarly, the padding bits MUST be set to zero on sending and MUST
    //# be ignored by the receiver.
    fn append(&self, out: &mut Vec<u8>) {
        // Longer parameters than the length field can say exist in no registry; none are sent then.
        let length = u16::try_from(self.parameters.len()).unwrap_or_default();
        let parameters = self.parameters.get(..usize::from(length)).unwrap_or_default();
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(parameters);
        out.resize(out.len() + padding(parameters.len()), 0);
    }
}

impl From<PasswordAlgorithm> for PasswordAlgorithmAttribute<'_> {
    fn from(algorithm: PasswordAlgorithm) -> Self {
        PasswordAlgorithmAttribute { number: algorithm.number(), parameters: &[] }
    }
}

impl<'a> Attribute<'a> for PasswordAlgorithmAttribute<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHM;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        match PasswordAlgorithmAttribute::split(value) {
            Some((algorithm, [])) => Ok(algorithm),
            Some(_) | None => Err(AttributeError::Length(Self::TYPE)),
        }
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        self.append(out);
    }
}

/// The algorithms that the server can use, best first, and the client's copy of that list
/// (RFC 8489 §14.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordAlgorithms<'a>(pub SmallVec<[PasswordAlgorithmAttribute<'a>; 2]>);

impl PasswordAlgorithms<'_> {
    /// Whether `algorithm` is in the list.
    pub fn offers(&self, algorithm: &PasswordAlgorithmAttribute<'_>) -> bool {
        self.0.iter().any(|entry| entry == algorithm)
    }
}

impl FromIterator<PasswordAlgorithm> for PasswordAlgorithms<'_> {
    fn from_iter<I: IntoIterator<Item = PasswordAlgorithm>>(algorithms: I) -> Self {
        PasswordAlgorithms(algorithms.into_iter().map(Into::into).collect())
    }
}

impl<'a> Attribute<'a> for PasswordAlgorithms<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHMS;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let mut entries = SmallVec::new();
        let mut rest = value;
        while !rest.is_empty() {
            let (entry, behind) = PasswordAlgorithmAttribute::split(rest)
                .ok_or(AttributeError::Length(Self::TYPE))?;
            if entries.len() == PASSWORD_ALGORITHMS_MAX {
                return Err(AttributeError::Value(Self::TYPE));
            }
            entries.push(entry);
            rest = behind;
        }
        Ok(PasswordAlgorithms(entries))
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        self.0.iter().for_each(|entry| entry.append(out));
    }
}

/// The longest PASSWORD-ALGORITHMS that is read; the registry has two entries.
pub const PASSWORD_ALGORITHMS_MAX: usize = 16;
