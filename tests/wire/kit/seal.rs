//! Integrity attributes made without the code under test.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use sterna_proto::credentials::Key;
use sterna_proto::integrity::IntegrityAlgorithm;

/// Appends an integrity attribute whose value is the first `length` bytes of the right one, as
/// RFC 8489 §14.6 has it, or the right one and zeros behind it. The length of the message says so.
pub(crate) fn seal(message: &mut Vec<u8>, algorithm: IntegrityAlgorithm, key: &Key, length: usize) {
    let body = u16::try_from(message.len() - 20 + 4 + length).expect("it fits a datagram");
    message[2..4].copy_from_slice(&body.to_be_bytes());
    let (kind, mut value) = match algorithm {
        IntegrityAlgorithm::Sha1 => (0x0008_u16, hmac::<Hmac<Sha1>>(key, message)),
        IntegrityAlgorithm::Sha256 => (0x001C_u16, hmac::<Hmac<Sha256>>(key, message)),
    };
    value.resize(length, 0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&u16::try_from(length).expect("it is short").to_be_bytes());
    message.extend_from_slice(&value);
}

fn hmac<M: Mac + KeyInit>(key: &Key, message: &[u8]) -> Vec<u8> {
    let mut mac = M::new_from_slice(key.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}
