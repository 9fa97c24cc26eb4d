//! Third-party authorization (RFC 7635 §6).

use std::fmt;

use super::text::text;
use crate::stun::{Attribute, AttributeError, AttributeType, TransactionId};

/// The name by which the authorization server knows this server (RFC 7635 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThirdPartyAuthorization<'a>(pub &'a str);

impl<'a> Attribute<'a> for ThirdPartyAuthorization<'a> {
    const TYPE: AttributeType = AttributeType::THIRD_PARTY_AUTHORIZATION;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        text(Self::TYPE, value).map(ThirdPartyAuthorization)
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

/// A token of the authorization server (RFC 7635 §6.2), still sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AccessToken<'a> {
    /// The nonce of the authenticated encryption.
    pub nonce: &'a [u8],
    /// Key, timestamp and lifetime, encrypted, and the authentication tag behind them.
    pub encrypted_block: &'a [u8],
}

impl<'a> Attribute<'a> for AccessToken<'a> {
    const TYPE: AttributeType = AttributeType::ACCESS_TOKEN;

    fn decode(value: &'a [u8], _: &TransactionId) -> Result<Self, AttributeError> {
        let (&[l0, l1], rest) =
            value.split_first_chunk().ok_or(AttributeError::Length(Self::TYPE))?;
        let (nonce, encrypted_block) = rest
            .split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))
            .ok_or(AttributeError::Length(Self::TYPE))?;
        Ok(AccessToken { nonce, encrypted_block })
    }

    fn encode(&self, out: &mut Vec<u8>, _: &TransactionId) {
        // A nonce longer than its length field can say is no nonce of any cipher; none is sent
        // then.
        let length = u16::try_from(self.nonce.len()).unwrap_or_default();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.nonce.get(..usize::from(length)).unwrap_or_default());
        out.extend_from_slice(self.encrypted_block);
    }
}

// A token is a credential for as long as it lives.
impl fmt::Debug for AccessToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(redacted)")
    }
}
