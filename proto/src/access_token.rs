//! The access tokens of a third party (RFC 7635 §6.2): what an authorization server tells this
//! server of a client, sealed with a key that the two share.
//!
//! A token is the length of a nonce, the nonce, and a block encrypted by AES-GCM with this server's
//! name as the associated data. In the block are the length of a key, the key, when the token was
//! made, and how long it lives.

use std::fmt;
use std::time::Duration;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce};

use crate::credentials::Key;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The client's key: MESSAGE-INTEGRITY is made with it as it is.
    pub mac_key: Key,
    /// When the token was made, since 1970.
    pub issued: Duration,
    /// How long it is good from then on.
    pub lifetime: Duration,
}

impl AccessToken {
    /// The moment at which it ends, since 1970. Of a moment past what can be told, the last one.
    pub fn ends(&self) -> Duration {
        self.issued.saturating_add(self.lifetime)
    }
}

/// Why a token says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedToken {
    /// It ends before what its lengths announce, or before a nonce and a tag would fit.
    Short,
    /// Its nonce is not of the length that AES-GCM has.
    NonceLength,
    /// It was not sealed with this key for this server, or has been changed.
    Sealed,
    /// What is in the sealed block is not what belongs there.
    Content,
    /// The key that it is to be opened with has a length that no cipher has.
    KeyLength,
}

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MalformedToken::Short => "it is cut short",
            MalformedToken::NonceLength => "its nonce is not of 12 bytes",
            MalformedToken::Sealed => "it was not sealed with this key for this server",
            MalformedToken::Content => "its content is malformed",
            MalformedToken::KeyLength => "the key to open it has neither 16 nor 32 bytes",
        })
    }
}

impl std::error::Error for MalformedToken {}

/// Opens `token`, the value of ACCESS-TOKEN, with the `key` that the authorization server and this
/// server, by the name of `server_name`, share: 32 bytes for A256GCM, 16 for A128GCM.
///
/// # Errors
/// What is wrong with the token. Whether it has expired is for the caller to see.
pub fn open(token: &[u8], key: &[u8], server_name: &str) -> Result<AccessToken, MalformedToken> {
    let (length, rest) = token.split_first_chunk().ok_or(MalformedToken::Short)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (nonce, block) = rest.split_at_checked(length).ok_or(MalformedToken::Short)?;
    let nonce: &[u8; NONCE_LEN] = nonce.try_into().map_err(|_| MalformedToken::NonceLength)?;
    if block.len() < TAG_LEN {
        return Err(MalformedToken::Short);
    }
    let cipher = Cipher::new(key).ok_or(MalformedToken::KeyLength)?;
    let payload = Payload { msg: block, aad: server_name.as_bytes() };
    let opened = match &cipher {
        Cipher::A128(cipher) => cipher.decrypt(&Nonce::from(*nonce), payload),
        Cipher::A256(cipher) => cipher.decrypt(&Nonce::from(*nonce), payload),
    };
    read_block(&opened.map_err(|_| MalformedToken::Sealed)?).ok_or(MalformedToken::Content)
}

/// Seals `token` as the value of ACCESS-TOKEN. A nonce must never be used twice with one key.
///
/// # Errors
/// The key has a length that no cipher has, or the token a key that its layout cannot carry.
pub fn seal(
    token: &AccessToken,
    key: &[u8],
    nonce: [u8; NONCE_LEN],
    server_name: &str,
) -> Result<Vec<u8>, MalformedToken> {
    let cipher = Cipher::new(key).ok_or(MalformedToken::KeyLength)?;
    let block = write_block(token).ok_or(MalformedToken::Content)?;
    let payload = Payload { msg: &block, aad: server_name.as_bytes() };
    let sealed = match &cipher {
        Cipher::A128(cipher) => cipher.encrypt(&Nonce::from(nonce), payload),
        Cipher::A256(cipher) => cipher.encrypt(&Nonce::from(nonce), payload),
    };
    let mut out = Vec::from((NONCE_LEN as u16).to_be_bytes());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed.map_err(|_| MalformedToken::Content)?);
    Ok(out)
}

enum Cipher {
    A128(Box<Aes128Gcm>),
    A256(Box<Aes256Gcm>),
}

impl Cipher {
    /// The length of the key says which of the two it is.
    fn new(key: &[u8]) -> Option<Cipher> {
        let a128 = || Aes128Gcm::new_from_slice(key).ok().map(|it| Cipher::A128(Box::new(it)));
        let a256 = || Aes256Gcm::new_from_slice(key).ok().map(|it| Cipher::A256(Box::new(it)));
        a128().or_else(a256)
    }
}

/// Reads what was sealed, all of it.
fn read_block(block: &[u8]) -> Option<AccessToken> {
    let (length, rest) = block.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    if !(MAC_KEY_LEN_MIN..=MAC_KEY_LEN_MAX).contains(&key.len()) {
        return None;
    }
    let (timestamp, rest) = rest.split_first_chunk()?;
    let lifetime: &[u8; LIFETIME_LEN] = rest.try_into().ok()?;
    Some(AccessToken {
        mac_key: Key::shared(key),
        issued: from_timestamp(u64::from_be_bytes(*timestamp)),
        lifetime: Duration::from_secs(u32::from_be_bytes(*lifetime).into()),
    })
}

fn write_block(token: &AccessToken) -> Option<Vec<u8>> {
    let key = token.mac_key.as_bytes();
    if !(MAC_KEY_LEN_MIN..=MAC_KEY_LEN_MAX).contains(&key.len()) {
        return None;
    }
    let mut block = Vec::from(u16::try_from(key.len()).ok()?.to_be_bytes());
    block.extend_from_slice(key);
    block.extend_from_slice(&to_timestamp(token.issued)?.to_be_bytes());
    block.extend_from_slice(&u32::try_from(token.lifetime.as_secs()).ok()?.to_be_bytes());
    Some(block)
}

/// Seconds in 48 bits, and behind them 16 bits that count 64,000ths of a second. A fraction past
/// the second is what it says.
fn from_timestamp(timestamp: u64) -> Duration {
    let fraction = timestamp & FRACTION_MASK;
    Duration::from_secs(timestamp >> FRACTION_BITS)
        + Duration::from_nanos(fraction * NANOS_OF_A_FRACTION)
}

fn to_timestamp(since_1970: Duration) -> Option<u64> {
    let seconds = since_1970.as_secs();
    let fraction = u64::from(since_1970.subsec_nanos()) / NANOS_OF_A_FRACTION;
    (seconds >> (u64::BITS - FRACTION_BITS) == 0).then_some(seconds << FRACTION_BITS | fraction)
}

/// The length of a nonce of AES-GCM.
pub const NONCE_LEN: usize = 12;

/// The shortest and the longest key that a token may carry. HMAC-SHA-1 uses 20 bytes and
/// HMAC-SHA-256 32; a key that can be guessed is none.
const MAC_KEY_LEN_MIN: usize = 16;
const MAC_KEY_LEN_MAX: usize = 128;

const TAG_LEN: usize = 16;
const LIFETIME_LEN: usize = 4;
const FRACTION_BITS: u32 = 16;
const FRACTION_MASK: u64 = 0xffff;
const NANOS_OF_A_FRACTION: u64 = 1_000_000_000 / 64_000;

#[cfg(test)]
mod tests;
