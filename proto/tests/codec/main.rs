//! The codec as its users see it: test vectors, tables of good and bad input, properties.

mod attributes;
mod channel_data;
mod credentials;
mod integrity;
mod messages;
mod nonces;
mod properties;
mod vectors;
mod writer;

use sterna_proto::stun::{Attribute, Class, Message, MessageWriter, Method, TransactionId};

/// The transaction of messages whose transaction does not matter.
const TRANSACTION: TransactionId = TransactionId::from_bytes(*b"transaction!");

/// The bytes that `text` spells in hexadecimal; spaces and line breaks are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    let (pairs, rest) = digits.as_chunks();
    assert!(rest.is_empty(), "half a byte in {text}");
    pairs.iter().map(|[high, low]| (high << 4) | low).collect()
}

/// A Binding request with these attributes as they are, header and padding included.
fn request_with(attributes: &[u8]) -> Vec<u8> {
    let mut message = hex("0001 0000 2112a442");
    message.extend_from_slice(TRANSACTION.as_bytes());
    message.extend_from_slice(attributes);
    let length = u16::try_from(attributes.len()).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// A Binding request that `write` has added attributes to.
fn request(write: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut MessageWriter::new(&mut out, Class::Request, Method::BINDING, TRANSACTION));
    out
}

/// The bytes of an attribute's value.
fn encoded<'a, A: Attribute<'a>>(attribute: &A) -> Vec<u8> {
    let mut value = Vec::new();
    attribute.encode(&mut value, &TRANSACTION);
    value
}

/// `bytes` as a message.
fn parsed(bytes: &[u8]) -> Message<'_> {
    Message::parse(bytes).unwrap()
}
