//! Credentials that carry their own expiry and are good under a shared secret: the time-limited
//! ones of the "TURN REST API", and signed tokens (JWT) as user names.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha1::Sha1;
use sha2::Sha256;

/// The password that goes with a time-limited user name: `base64(HMAC-SHA1(secret, name))`.
pub fn time_limited_password(secret: &[u8], name: &str) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(name.as_bytes());
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

/// The same with HMAC-SHA256, which is as good here.
pub fn time_limited_password_sha256(secret: &[u8], name: &str) -> Option<String> {
    Some(STANDARD.encode(hmac_sha256(secret, name)?))
}

/// The password that goes with a signed token's `header.payload`: its signature, HS256.
pub fn token_password(secret: &[u8], name: &str) -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(hmac_sha256(secret, name)?))
}

fn hmac_sha256(secret: &[u8], name: &str) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().into())
}

/// The moment at the head of a time-limited user name, `expiry` or `expiry:name`, in seconds since
/// 1970. Digits only: neither sign nor space nor a number past 64 bits.
pub(crate) fn expiry_of(name: &str) -> Option<Duration> {
    let digits = name.split_once(':').map_or(name, |(digits, _)| digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Duration::from_secs)
}

/// The name behind the expiry, by which the user is counted: another credential of the same user
/// has another expiry. The whole where there is nothing behind it.
pub(crate) fn name_behind_expiry(name: &str) -> &str {
    name.split_once(':').map(|(_, rest)| rest).filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// What a user name is, read as a signed token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignedToken {
    /// Not a token: some other user name.
    No,
    /// A token that is good for nobody.
    Unusable,
    /// A token, if its signature is the password.
    Of {
        /// Whom it was made for.
        subject: String,
        /// When it ends, since 1970.
        expires: Duration,
        /// When it begins, since 1970.
        not_before: Option<Duration>,
    },
}

impl SignedToken {
    /// Reads `header.payload`, both JSON in base64url.
    pub(crate) fn read(name: &str) -> SignedToken {
        let Some((header, payload)) = name.split_once('.') else { return SignedToken::No };
        // Names such as `jane.doe` are no tokens; a header in base64url of an object is one.
        if !header.starts_with(OBJECT_IN_BASE64) {
            return SignedToken::No;
        }
        SignedToken::parse(name, header, payload).unwrap_or(SignedToken::Unusable)
    }

    fn parse(name: &str, header: &str, payload: &str) -> Option<SignedToken> {
        if name.len() > TOKEN_MAX {
            return None;
        }
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        // A header that asks for something to be understood (`crit`) is one that is not.
        if header.alg != "HS256" || header.crit.is_some() {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        if claims.sub.is_empty() || claims.sub.chars().any(char::is_control) {
            return None;
        }
        let not_before = match &claims.nbf {
            Some(date) => Some(numeric_date(date)?),
            None => None,
        };
        let expires = numeric_date(&claims.exp)?;
        Some(SignedToken::Of { subject: claims.sub, expires, not_before })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: serde_json::Number,
    nbf: Option<serde_json::Number>,
}

/// Seconds since 1970, with or without a fraction.
fn numeric_date(number: &serde_json::Number) -> Option<Duration> {
    match number.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Duration::try_from_secs_f64(number.as_f64()?).ok(),
    }
}

/// How base64 of `{"` begins, with which every header does.
const OBJECT_IN_BASE64: &str = "eyJ";

/// The longest USERNAME there is (RFC 8489 §14.3: fewer than 509 bytes).
const TOKEN_MAX: usize = 508;

#[cfg(test)]
mod tests;
