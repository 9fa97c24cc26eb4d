//! The STUN codec (RFC 8489 §5 and §14): a zero-copy parser and a writer into the caller's buffer.
//!
//! [`Message::parse`] checks the framing of a whole message once; attributes are then read by type,
//! each decoded into a value that borrows from the datagram. [`MessageWriter`] appends one message
//! to a buffer and keeps its length field right after every step, which is what the integrity
//! attributes are computed over.

mod attribute;
mod attribute_type;
pub mod attributes;
mod error_code;
mod fingerprint;
mod header;
mod message;
mod writer;

pub use attribute::{Attribute, AttributeError, RawAttribute};
pub use attribute_type::AttributeType;
pub use attributes::*;
pub use error_code::ErrorCode;
pub use header::{
    Class, HEADER_LEN, Kind, MAGIC_COOKIE, Method, TransactionId, peek_class, peek_kind,
};
pub use message::{ATTRIBUTES_MAX, Attributes, Message, ParseError, UNKNOWN_MAX};
pub use writer::MessageWriter;

pub(crate) use attribute::{ATTRIBUTE_HEADER_LEN, padding};
