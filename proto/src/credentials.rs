//! Long-term credentials (RFC 8489 §9.2.2, §14.4 and §18.5): keys, USERHASH and string preparation.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use md5::Md5;
use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How a long-term key is made from a password (RFC 8489 §18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum PasswordAlgorithm {
    /// The algorithm of RFC 5389, and of every client that names none.
    Md5 = 1,
    /// The algorithm that RFC 8489 adds.
    Sha256 = 2,
}

impl PasswordAlgorithm {
    /// The number in the IANA registry of password algorithms.
    pub const fn number(self) -> u16 {
        match self {
            PasswordAlgorithm::Md5 => 1,
            PasswordAlgorithm::Sha256 => 2,
        }
    }

    /// The algorithm with this number, if it is a known one.
    pub const fn from_number(number: u16) -> Option<PasswordAlgorithm> {
        match number {
            1 => Some(PasswordAlgorithm::Md5),
            2 => Some(PasswordAlgorithm::Sha256),
            _ => None,
        }
    }

    /// The size of the key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            PasswordAlgorithm::Md5 => 16,
            PasswordAlgorithm::Sha256 => 32,
        }
    }
}

/// The key of an integrity attribute. It is as good as a password and shows itself nowhere. All who
/// hold the same key share it.
#[derive(Clone)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The key of a user in a realm. `username` is taken as the USERNAME attribute carries it.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.2
    //# (1) the username, with any
    //# quotes and trailing nulls removed, as taken from the USERNAME
    //# attribute (in which case OpaqueString has already been applied); (2)
    //# a single colon; (3) the realm, with any quotes and trailing nulls
    //# removed and after processing using OpaqueString; (4) a single colon;
    //# and (5) the password, with any trailing nulls removed and after
    //# processing using OpaqueString.
    pub fn long_term(
        algorithm: PasswordAlgorithm,
        username: &str,
        realm: &str,
        password: &str,
    ) -> Result<Key, OpaqueStringError> {
        let realm = opaque_string(unquoted(realm))?;
        let password = opaque_string(without_trailing_nulls(password))?;
        let parts = [unquoted(username), ":", &realm, ":", &password];
        Ok(match algorithm {
            PasswordAlgorithm::Md5 => Key(hash::<Md5>(&parts).as_slice().into()),
            PasswordAlgorithm::Sha256 => Key(hash::<Sha256>(&parts).as_slice().into()),
        })
    }

    /// The key of the short-term mechanism, which ICE and the test vectors of RFC 5769 use.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.1.1
    //# key = OpaqueString(password)
    pub fn short_term(password: &str) -> Result<Key, OpaqueStringError> {
        Ok(Key(opaque_string(password)?.as_bytes().into()))
    }

    /// A long-term key that a credential store keeps in place of the password.
    pub fn from_bytes(algorithm: PasswordAlgorithm, bytes: &[u8]) -> Result<Key, KeyLengthError> {
        if bytes.len() == algorithm.key_len() {
            Ok(Key(bytes.into()))
        } else {
            Err(KeyLengthError { algorithm, length: bytes.len() })
        }
    }

    /// A key that was agreed on elsewhere, such as the one inside an ACCESS-TOKEN (RFC 7635).
    pub fn shared(bytes: &[u8]) -> Key {
        Key(bytes.into())
    }

    /// The key itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

// Which byte of two keys differs first must not be told by the time that the comparison takes.
impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// A stored key has not the length that its algorithm makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLengthError {
    /// The algorithm that the key is said to be made with.
    pub algorithm: PasswordAlgorithm,
    /// The length that it has, in bytes.
    pub length: usize,
}

impl fmt::Display for KeyLengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyLengthError { algorithm, length } = self;
        write!(f, "a {algorithm:?} key has {} bytes, not {length}", algorithm.key_len())
    }
}

impl std::error::Error for KeyLengthError {}

/// A string that OpaqueString does not allow: empty, or with a character that must not be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueStringError;

impl fmt::Display for OpaqueStringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("empty, or with a character that the OpaqueString profile does not allow")
    }
}

impl std::error::Error for OpaqueStringError {}

/// Prepares a user name, realm or password by the OpaqueString profile (RFC 8265 §4.2): other
/// spaces become ASCII spaces, the result is in normal form C, control and invisible characters and
/// the empty string are refused.
pub fn opaque_string(text: &str) -> Result<Cow<'_, str>, OpaqueStringError> {
    OpaqueString::enforce(text).map_err(|_| OpaqueStringError)
}

/// The value of USERHASH for a user of a realm.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.4
//# The username
//# MUST have been processed using the OpaqueString profile [RFC8265],
//# and the realm MUST have been processed using the OpaqueString profile
//# [RFC8265] before hashing.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.4
//# userhash = SHA-256(OpaqueString(username) ":" OpaqueString(realm))
pub fn user_hash(username: &str, realm: &str) -> Result<[u8; 32], OpaqueStringError> {
    let username = opaque_string(username)?;
    let realm = opaque_string(realm)?;
    Ok(hash::<Sha256>(&[&username, ":", &realm]).into())
}

fn hash<D: Digest>(parts: &[&str]) -> sha2::digest::Output<D> {
    parts.iter().fold(D::new(), D::chain_update).finalize()
}

fn without_trailing_nulls(text: &str) -> &str {
    text.trim_end_matches('\0')
}

/// The inside of a quoted string, or the text itself; without the nulls at its end either way.
pub fn unquoted(text: &str) -> &str {
    let text = without_trailing_nulls(text);
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
