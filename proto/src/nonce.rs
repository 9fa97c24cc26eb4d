//! Nonces that the server recognises without remembering them (RFC 8489 §9.2 and §14.10).
//!
//! A nonce is the cookie of RFC 8489, which tells the client what the server can do, and behind it
//! the time of its making with a keyed hash over that time, the client's address and the cookie's
//! bits. So a nonce is good for one address, for a limited time and for unchanged features, and a
//! source that has not proved its address costs no memory.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::stun::Nonce;

/// The security features that a nonce says the server has (RFC 8489 §18.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityFeatures {
    /// Other password algorithms than MD5: the response carries PASSWORD-ALGORITHMS.
    pub password_algorithms: bool,
    /// Requests may name their user by USERHASH.
    pub username_anonymity: bool,
}

impl SecurityFeatures {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-18.1
    //# Bits are assigned starting from the most significant side of the bit
    //# set, so Bit 0 is the leftmost bit and Bit 23 is the rightmost bit.
    fn to_bytes(self) -> [u8; FEATURES_LEN] {
        let password_algorithms =
            if self.password_algorithms { PASSWORD_ALGORITHMS_BIT } else { 0 };
        let username_anonymity = if self.username_anonymity { USERNAME_ANONYMITY_BIT } else { 0 };
        [password_algorithms | username_anonymity, 0, 0]
    }

    /// Bits that are not assigned say nothing.
    fn from_bytes([first, _, _]: [u8; FEATURES_LEN]) -> SecurityFeatures {
        SecurityFeatures {
            password_algorithms: first & PASSWORD_ALGORITHMS_BIT != 0,
            username_anonymity: first & USERNAME_ANONYMITY_BIT != 0,
        }
    }
}

/// The features in a nonce of any server; `None` if the nonce does not start with the cookie.
//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
//# If the response is an error response with an error code of 401
//# (Unauthenticated) or 438 (Stale Nonce), the client MUST test if the
//# NONCE attribute value starts with the "nonce cookie".
pub fn features_in(nonce: &[u8]) -> Option<SecurityFeatures> {
    let encoded = nonce.strip_prefix(COOKIE)?.first_chunk::<FEATURES_TEXT_LEN>()?;
    let mut features = [0; FEATURES_LEN];
    let length = STANDARD.decode_slice(encoded, &mut features).ok()?;
    (length == FEATURES_LEN).then(|| SecurityFeatures::from_bytes(features))
}

/// Makes nonces and recognises them. A copy recognises what the others have made.
#[derive(Clone)]
pub struct NonceMinter {
    keyed: Hmac<Sha256>,
    lifetime: Duration,
    epoch: Instant,
}

impl NonceMinter {
    /// A minter whose nonces are good for `lifetime`, under a `secret` that nobody else knows.
    /// Times are counted from `epoch`, which lies before every `now`.
    pub fn new(secret: [u8; 32], lifetime: Duration, epoch: Instant) -> NonceMinter {
        let keyed = KeyInit::new_from_slice(&secret).expect("HMAC takes keys of every length");
        NonceMinter { keyed, lifetime, epoch }
    }

    /// A minter of nonces that go out together with `list`, the value of PASSWORD-ALGORITHMS or
    /// nothing. It does not recognise those that went out with another one.
    #[must_use]
    pub fn sent_with(&self, list: &[u8]) -> NonceMinter {
        let mut minter = self.clone();
        // The length ends the list: what follows it is of one length for each family.
        minter.keyed.update(&(list.len() as u64).to_be_bytes());
        minter.keyed.update(list);
        minter
    }

    /// A nonce for the client at this address, which says that the server has these features.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //# The server MUST NOT choose the
    //# same NONCE for two requests unless they have the same source IP
    //# address and port.
    pub fn mint(
        &self,
        client: SocketAddr,
        features: SecurityFeatures,
        now: Instant,
    ) -> MintedNonce {
        let seconds = self.seconds(now);
        let features = features.to_bytes();
        let mut sealed = [0; SEALED_LEN];
        let (time, rest) = sealed.split_at_mut(TIME_LEN);
        let (port, tag) = rest.split_at_mut(PORT_LEN);
        time.copy_from_slice(&seconds.to_be_bytes());
        port.copy_from_slice(&client.port().to_be_bytes());
        tag.copy_from_slice(&self.tag(client, seconds, features));

        let mut nonce = [0; NONCE_LEN];
        let (head, sealed_text) = nonce.split_at_mut(COOKIE_LEN);
        head.copy_from_slice(&cookie(features));
        STANDARD_NO_PAD
            .encode_slice(sealed, sealed_text)
            .expect("the constant is the length of the encoding");
        MintedNonce(nonce)
    }

    /// Whether `nonce` was made here for this client, no longer than the lifetime ago. Everything
    /// else is stale: the client gets a good one and tries again.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //# If the NONCE is no longer valid, the server MUST generate an error
    //# response with an error code of 438 (Stale Nonce).
    pub fn check(&self, nonce: &[u8], client: SocketAddr, now: Instant) -> NonceCheck {
        match self.open(nonce) {
            Some(opened) if opened.port == client.port() => self.judge(&opened, client, now),
            Some(_) | None => NonceCheck::Stale,
        }
    }

    /// The same for a client that got the nonce on another connection from the same IP address.
    pub fn check_any_port(&self, nonce: &[u8], client: IpAddr, now: Instant) -> NonceCheck {
        let Some(opened) = self.open(nonce) else { return NonceCheck::Stale };
        self.judge(&opened, SocketAddr::new(client, opened.port), now)
    }

    fn judge(&self, opened: &Opened, client: SocketAddr, now: Instant) -> NonceCheck {
        let tag = self.tag(client, opened.seconds, opened.features);
        let genuine = bool::from(tag.ct_eq(&opened.tag));
        let age = self.seconds(now).checked_sub(opened.seconds);
        match age.map(|age| Duration::from_secs(u64::from(age))) {
            Some(age) if genuine && age <= self.lifetime => NonceCheck::Valid,
            Some(_) | None => NonceCheck::Stale,
        }
    }

    /// Takes a nonce apart, without belief in what it says.
    fn open(&self, nonce: &[u8]) -> Option<Opened> {
        let (encoded, sealed_text) =
            nonce.strip_prefix(COOKIE)?.split_first_chunk::<FEATURES_TEXT_LEN>()?;
        let mut features = [0; FEATURES_LEN];
        STANDARD
            .decode_slice(encoded, &mut features)
            .ok()
            .filter(|&length| length == FEATURES_LEN)?;
        let mut sealed = [0; SEALED_LEN];
        // A text of another length fills less than the array or does not fit into it.
        let length = STANDARD_NO_PAD.decode_slice(sealed_text, &mut sealed).ok()?;
        let (time, rest) = sealed.get(..length)?.split_first_chunk()?;
        let (port, tag) = rest.split_first_chunk()?;
        Some(Opened {
            seconds: u32::from_be_bytes(*time),
            port: u16::from_be_bytes(*port),
            features,
            tag: tag.try_into().ok()?,
        })
    }

    fn tag(&self, client: SocketAddr, seconds: u32, features: [u8; FEATURES_LEN]) -> [u8; TAG_LEN] {
        let mut mac = self.keyed.clone();
        match client.ip() {
            IpAddr::V4(ip) => mac.update(&ip.octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        mac.update(&client.port().to_be_bytes());
        mac.update(&seconds.to_be_bytes());
        mac.update(&features);
        let mut tag = [0; TAG_LEN];
        tag.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        tag
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.epoch).as_secs()).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for NonceMinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceMinter").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// What a nonce says of itself.
struct Opened {
    /// When it was made, since the epoch.
    seconds: u32,
    /// The port that it was made for.
    port: u16,
    /// What it says that the server can do.
    features: [u8; FEATURES_LEN],
    tag: [u8; TAG_LEN],
}

/// What a server makes of the nonce in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceCheck {
    /// It is one of its own and still good.
    Valid,
    /// It is too old, was made for another client, or was not made here.
    Stale,
}

/// A nonce, ready to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MintedNonce([u8; NONCE_LEN]);

impl MintedNonce {
    /// The characters as they go into the message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("cookie and base64 are ASCII")
    }

    /// The attribute that carries the nonce.
    pub fn as_attribute(&self) -> Nonce<'_> {
        Nonce(self.as_str())
    }
}

impl fmt::Debug for MintedNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MintedNonce(redacted)")
    }
}

/// What every nonce with these features starts with.
//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2
//# To indicate that it supports this specification, a server MUST
//# prepend the NONCE attribute value with the character string composed
//# of "obMatJos2" concatenated with the (4-character) base64 [RFC4648]
//# encoding of the 24-bit STUN Security Features as defined in
//# Section 18.1.
//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2
//# If no security
//# features are used, then a byte array with all 24 bits set to zero
//# MUST be encoded instead.
fn cookie(features: [u8; FEATURES_LEN]) -> [u8; COOKIE_LEN] {
    let mut cookie = [0; COOKIE_LEN];
    let (prefix, features_text) = cookie.split_at_mut(COOKIE.len());
    prefix.copy_from_slice(COOKIE);
    STANDARD.encode_slice(features, features_text).expect("three bytes are four characters");
    cookie
}

const COOKIE: &[u8] = b"obMatJos2";
const PASSWORD_ALGORITHMS_BIT: u8 = 0x80;
const USERNAME_ANONYMITY_BIT: u8 = 0x40;
const FEATURES_LEN: usize = 3;
const FEATURES_TEXT_LEN: usize = 4;
const COOKIE_LEN: usize = COOKIE.len() + FEATURES_TEXT_LEN;
const TIME_LEN: usize = 4;
/// 112 bits, which nobody guesses, and few enough that a challenge stays small.
const TAG_LEN: usize = 14;
const PORT_LEN: usize = 2;
const SEALED_LEN: usize = TIME_LEN + PORT_LEN + TAG_LEN;
/// Base64 without padding: four characters for three bytes.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.10
//# The NONCE attribute
//# MUST be fewer than 128 characters (which can be as long as 509 bytes
//# when encoding them and a long as 763 bytes when decoding them).
const NONCE_LEN: usize = COOKIE_LEN + (SEALED_LEN * 4).div_ceil(3);
