//! What DTLS says before there is a session: hellos, cookies, and the records they come in.
//!
//! Nothing of a client is kept until it has sent a cookie back, which shows that it receives at the
//! address it sends from (RFC 6347 §4.2.1). OpenSSL's own exchange cannot be used without holding a
//! session for each hello, so this one stands before it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// One record of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Its content type.
    pub(super) content: u8,
    /// 0 is what nobody has encrypted or authenticated.
    pub(super) epoch: u16,
    /// The record with its header.
    pub(super) bytes: &'a [u8],
}

/// The whole records of a datagram. A rest that is none ends it.
pub(super) fn records(mut datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; RECORD_HEADER] = datagram.first_chunk()?;
        let &[content, _, _, epoch_high, epoch_low, .., high, low] = header;
        let length = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        let bytes = datagram.split_off(..length)?;
        Some(Record { content, epoch: u16::from_be_bytes([epoch_high, epoch_low]), bytes })
    })
}

/// A ClientHello that stands in one piece at the head of a datagram. One in fragments would have to
/// be put together, which is state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello<'a> {
    /// Epoch and sequence number of its record.
    place: &'a [u8],
    message_seq: u16,
    body: &'a [u8],
    cookie: Range<usize>,
    /// Where the parameters end that both hellos of a client have in common.
    extensions: usize,
}

impl<'a> Hello<'a> {
    /// Reads the hello of a datagram, if that is what it is.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Hello<'a>> {
        // Most of what arrives is application data.
        if *datagram.first()? != HANDSHAKE {
            return None;
        }
        let record = records(datagram).next().filter(|record| record.epoch == 0)?;
        let (header, message) = record.bytes.split_first_chunk::<RECORD_HEADER>()?;
        let (&[kind, ref fields @ ..], body) = message.split_first_chunk::<MESSAGE_HEADER>()?;
        let &[l2, l1, l0, s1, s0, o2, o1, o0, f2, f1, f0] = fields;
        let length = u32::from_be_bytes([0, l2, l1, l0]);
        let whole = [o2, o1, o0] == [0; 3] && [f2, f1, f0] == [l2, l1, l0];
        let is_hello = kind == CLIENT_HELLO && header.get(1) == Some(&0xFE);
        if !(is_hello && whole && usize::try_from(length) == Ok(body.len())) {
            return None;
        }
        let (cookie, extensions) = layout(body)?;
        let message_seq = u16::from_be_bytes([s1, s0]);
        Some(Hello { place: header.get(3..11)?, message_seq, body, cookie, extensions })
    }

    /// Its number among the client's handshake messages: 0 for the first hello, 1 for the one that
    /// answers a HelloVerifyRequest.
    pub(super) fn message_seq(&self) -> u16 {
        self.message_seq
    }

    /// Whether the client speaks DTLS 1.2. Versions count down from 0xFEFF, which is 1.0.
    pub(super) fn offers_dtls12(&self) -> bool {
        matches!(self.body, &[0xFE, minor, ..] if minor <= 0xFD)
    }

    /// What the client has drawn for this handshake alone.
    pub(super) fn random(&self) -> [u8; RANDOM] {
        let random = self.body.get(2..2 + RANDOM).and_then(|random| random.try_into().ok());
        random.unwrap_or([0; RANDOM])
    }

    fn cookie(&self) -> &'a [u8] {
        self.body.get(self.cookie.clone()).unwrap_or(&[])
    }

    /// The parts before the length of the cookie and behind the cookie.
    fn around_cookie(&self) -> (&'a [u8], &'a [u8]) {
        let before = self.body.get(..self.cookie.start - 1).unwrap_or(&[]);
        (before, self.body.get(self.cookie.end..).unwrap_or(&[]))
    }

    /// The client's first hello as a datagram, made of its second: the same without a cookie.
    pub(super) fn as_first(&self) -> Vec<u8> {
        let (before, behind) = self.around_cookie();
        let body = [before, &[0], behind].concat();
        handshake_record(CLIENT_HELLO, &body)
    }

    /// The alert for a client that speaks nothing served here, which would wait for an answer
    /// otherwise. It takes the place of the hello's record, so that it passes as an answer to it.
    pub(super) fn refusal(&self) -> Vec<u8> {
        let mut alert = vec![ALERT, 0xFE, 0xFF];
        alert.extend_from_slice(self.place);
        alert.extend_from_slice(&[0, 2, FATAL, PROTOCOL_VERSION]);
        alert
    }
}

/// Where the cookie lies in the body of a hello, and where the extensions begin. `None` when a
/// length in it lies.
fn layout(body: &[u8]) -> Option<(Range<usize>, usize)> {
    let mut rest = body;
    rest.split_off(..2 + RANDOM)?;
    let session_id = vector8(&mut rest)?;
    let start = body.len() - rest.len() + 1;
    let cookie = vector8(&mut rest)?;
    let suites = vector16(&mut rest)?;
    let compression = vector8(&mut rest)?;
    let extensions = body.len() - rest.len();
    if !rest.is_empty() {
        vector16(&mut rest)?;
    }
    let sound = session_id.len() <= 32
        && suites.len() >= 2
        && suites.len().is_multiple_of(2)
        && !compression.is_empty()
        && rest.is_empty();
    sound.then(|| (start..start + cookie.len(), extensions))
}

fn vector8<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *rest.split_off_first()?;
    rest.split_off(..usize::from(length))
}

fn vector16<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length: [u8; 2] = rest.split_off(..2)?.try_into().ok()?;
    rest.split_off(..usize::from(u16::from_be_bytes(length)))
}

/// The HelloVerifyRequest with this cookie, as a datagram. It is smaller than any hello, so nobody
/// gains by having it sent elsewhere. Its record has the number 0 each time: the ServerHello of the
/// session has 1.
pub(super) fn hello_verify_request(cookie: &[u8; COOKIE]) -> Vec<u8> {
    // The version says nothing about the one that is agreed on (RFC 6347 §4.2.1).
    let mut body = vec![0xFE, 0xFF, COOKIE as u8];
    body.extend_from_slice(cookie);
    handshake_record(HELLO_VERIFY_REQUEST, &body)
}

/// A handshake message with the number 0 in a record with the number 0.
fn handshake_record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let in_record = u16::try_from(MESSAGE_HEADER + body.len()).unwrap_or(0).to_be_bytes();
    let mut record = vec![HANDSHAKE, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&in_record);
    record.push(kind);
    record.extend_from_slice(&length[1..]);
    record.extend_from_slice(&[0; 5]);
    record.extend_from_slice(&length[1..]);
    record.extend_from_slice(body);
    record
}

/// Mints cookies and knows its own again, without keeping any.
pub(super) struct Cookies {
    secret: [u8; 32],
    /// The one before: cookies that are on their way when it changes stay good.
    previous: [u8; 32],
    since: Instant,
}

impl Cookies {
    /// Begins with a secret of the operating system's.
    pub(super) fn new(now: Instant) -> Cookies {
        Cookies { secret: rand::random(), previous: rand::random(), since: now }
    }

    /// The cookie for this hello from this address.
    pub(super) fn mint(
        &mut self,
        hello: &Hello<'_>,
        client: SocketAddr,
        now: Instant,
    ) -> [u8; COOKIE] {
        self.rotate(now);
        cookie_mac(&self.secret, hello, client).finalize().into_bytes().into()
    }

    /// Whether the hello brings a cookie that was minted for it.
    pub(super) fn verify(&mut self, hello: &Hello<'_>, client: SocketAddr, now: Instant) -> bool {
        self.rotate(now);
        let cookie = hello.cookie();
        let minted_with = |secret| cookie_mac(secret, hello, client).verify_slice(cookie).is_ok();
        cookie.len() == COOKIE && (minted_with(&self.secret) || minted_with(&self.previous))
    }

    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < SECRET_LIFETIME {
            return;
        }
        let followed_at_once = age < 2 * SECRET_LIFETIME;
        self.previous = if followed_at_once { self.secret } else { rand::random() };
        self.secret = rand::random();
        self.since = now;
    }
}

/// Over the client's address and what both of its hellos have in common: version, random, session,
/// cipher suites and compression methods, not the extensions (RFC 6347 §4.2.1).
fn cookie_mac(secret: &[u8; 32], hello: &Hello<'_>, client: SocketAddr) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    let ip = match client.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    mac.update(&ip.octets());
    mac.update(&client.port().to_be_bytes());
    let (before, _) = hello.around_cookie();
    mac.update(before);
    mac.update(hello.body.get(hello.cookie.end..hello.extensions).unwrap_or(&[]));
    mac
}

/// Content types of records.
pub(super) const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Handshake messages.
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

const FATAL: u8 = 2;
const PROTOCOL_VERSION: u8 = 70;

/// Bytes of the header of a record, and of that of a handshake message.
const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;

/// Bytes of a hello's random.
pub(super) const RANDOM: usize = 32;

/// Bytes of a cookie.
pub(super) const COOKIE: usize = 32;

/// How long cookies are minted with a secret; they are good for at least as long again.
const SECRET_LIFETIME: Duration = Duration::from_secs(3600);

#[cfg(test)]
pub(super) mod tests;
