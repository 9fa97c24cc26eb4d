//! A client's datagrams, with offers hidden that a server does not mean.
//!
//! turn-server lists PASSWORD-ALGORITHMS in its challenges and then refuses what RFC 8489 makes of
//! them (MESSAGE-INTEGRITY-SHA256). Its nonce does not promise them, so that to a client of
//! RFC 5766 the challenge reads as one of that time, and that is how it is taken up here.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use sterna_client::Transport;
use sterna_proto::nonce::features_in;
use sterna_proto::stun::{AttributeType, Message};

/// A blocking socket that is connected to the server.
#[derive(Debug)]
pub(crate) struct Datagrams(pub(crate) UdpSocket);

impl Transport for Datagrams {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        Transport::send(&mut self.0, message)
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let len = Transport::receive(&mut self.0, buffer, timeout)?;
        if let Some(message) = len.and_then(|len| buffer.get_mut(..len)) {
            hide_unmeant_offer(message);
        }
        Ok(len)
    }

    fn is_reliable(&self) -> bool {
        false
    }
}

/// Turns PASSWORD-ALGORITHMS into an attribute that nobody knows, where the nonce has no cookie.
fn hide_unmeant_offer(bytes: &mut [u8]) {
    let is_unmeant = Message::parse(bytes).is_ok_and(|message| {
        let promised = message.raw(AttributeType::NONCE).and_then(features_in).is_some();
        message.has(AttributeType::PASSWORD_ALGORITHMS) && !promised
    });
    if !is_unmeant {
        return;
    }
    let mut attributes = bytes.get_mut(HEADER..).unwrap_or_default();
    while let Some((header, rest)) = attributes.split_first_chunk_mut::<4>() {
        let [high, low, len_high, len_low] = header;
        let length = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        if [*high, *low] == PASSWORD_ALGORITHMS {
            [*high, *low] = UNKNOWN;
        }
        attributes = rest.get_mut(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

const HEADER: usize = 20;
const PASSWORD_ALGORITHMS: [u8; 2] = [0x80, 0x02];

/// Comprehension-optional and not assigned.
const UNKNOWN: [u8; 2] = [0xFF, 0xFE];

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_proto::stun::{Class, MessageWriter, Method, Nonce, TransactionId};

    fn challenge(nonce: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let id = TransactionId::from_bytes([1; 12]);
        let mut writer = MessageWriter::new(&mut bytes, Class::Error, Method::ALLOCATE, id);
        writer.attribute(&Nonce(nonce));
        writer.raw(AttributeType::PASSWORD_ALGORITHMS, &[0, 1, 0, 0]);
        writer.finish();
        bytes
    }

    fn is_offered(bytes: &[u8]) -> bool {
        Message::parse(bytes).unwrap().has(AttributeType::PASSWORD_ALGORITHMS)
    }

    #[test]
    fn an_offer_that_the_nonce_does_not_promise_is_hidden() {
        let mut bytes = challenge("plain");
        assert!(is_offered(&bytes));
        hide_unmeant_offer(&mut bytes);
        assert!(!is_offered(&bytes));
    }

    #[test]
    fn an_offer_that_the_nonce_promises_stays() {
        let mut bytes = challenge("obMatJos2gAAAtime");
        hide_unmeant_offer(&mut bytes);
        assert!(is_offered(&bytes));
    }

    #[test]
    fn what_is_no_message_stays_as_it_is() {
        let mut bytes = *b"\x40\x00\x00\x01x";
        hide_unmeant_offer(&mut bytes);
        assert_eq!(*b"\x40\x00\x00\x01x", bytes);
    }
}
