//! Reading a message (RFC 8489 §5, §6.3 and §14).

use std::fmt;

use smallvec::SmallVec;

use super::attribute::split_attribute;
use super::fingerprint::fingerprint;
use super::{
    Attribute, AttributeError, AttributeType, Class, HEADER_LEN, MAGIC_COOKIE, Method,
    RawAttribute, TransactionId,
};

/// A message whose framing has been checked, borrowed from the datagram or stream buffer it came
/// in.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Method,
    transaction_id: TransactionId,
    layout: Layout<'a>,
}

impl<'a> Message<'a> {
    /// Reads `bytes`, which have to be one message from the first to the last.
    ///
    /// Header, length and the framing of every attribute are checked, and FINGERPRINT where the
    /// message has one. Values are left for [`Message::read`] to look at.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
    //# It checks that the first two
    //# bits are 0, that the Magic Cookie field has the correct value, that
    //# the message length is sensible, and that the method value is a
    //# supported method.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ParseError> {
        let (header, body) = bytes.split_first_chunk().ok_or(ParseError::TooShort)?;
        let header = Header::read(header)?;
        //= https://www.rfc-editor.org/rfc/rfc8489#section-5
        //# Since all STUN attributes are
        //# padded to a multiple of 4 bytes, the last 2 bits of this field are
        //# always zero.
        if header.length % 4 != 0 || header.length != body.len() {
            return Err(ParseError::Length);
        }
        let layout = Layout::read(body)?;
        //= https://www.rfc-editor.org/rfc/rfc8489#section-12
        //# It MAY utilize the FINGERPRINT mechanism
        //# but MUST NOT require it.
        if let Some(fingerprint) = layout.fingerprint {
            check_fingerprint(bytes, &fingerprint)?;
        }
        Ok(Message {
            bytes,
            class: Class::of_message_type(header.message_type),
            method: Method::of_message_type(header.message_type),
            transaction_id: header.transaction_id,
            layout,
        })
    }

    /// Whether this is a request, an indication or a response.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What the message is about.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The transaction that the message belongs to.
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// The message as it came.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes that count, in their order.
    ///
    /// What follows the first integrity attribute is neither protected nor looked at, but for the
    /// MESSAGE-INTEGRITY-SHA256 after a MESSAGE-INTEGRITY and the FINGERPRINT at the end.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9
    //# Note that agents MUST ignore all attributes that follow MESSAGE-
    //# INTEGRITY, with the exception of the MESSAGE-INTEGRITY-SHA256 and
    //# FINGERPRINT attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        let body = self.bytes.get(HEADER_LEN..self.layout.counted_end);
        let behind = |attribute: &Located<'a>| attribute.offset >= self.layout.counted_end;
        Attributes {
            body: body.unwrap_or_default(),
            sha256: self.layout.sha256.filter(behind),
            fingerprint: self.layout.fingerprint.filter(behind),
        }
    }

    /// The value of the first attribute of this type.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14
    //# Unless specified otherwise, the order of appearance is significant:
    //# only the first occurrence needs to be processed by a receiver, and
    //# any duplicates MAY be ignored by a receiver.
    pub fn raw(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes().find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    /// Whether an attribute of this type is there.
    pub fn has(&self, kind: AttributeType) -> bool {
        self.raw(kind).is_some()
    }

    /// The first attribute of type `A`, decoded.
    pub fn read<A: Attribute<'a>>(&self) -> Result<Option<A>, AttributeError> {
        self.raw(A::TYPE).map(|value| A::decode(value, &self.transaction_id)).transpose()
    }

    /// Every attribute of type `A`, decoded.
    pub fn read_all<A: Attribute<'a>>(&self) -> impl Iterator<Item = Result<A, AttributeError>> {
        let transaction_id = self.transaction_id;
        self.attributes()
            .filter(|attribute| attribute.kind == A::TYPE)
            .map(move |attribute| A::decode(attribute.value, &transaction_id))
    }

    /// The types that a receiver has to understand and that are not in `known`, each once, the
    /// first [`UNKNOWN_MAX`] of them. The integrity attributes are understood here and never
    /// listed.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //# If the request contains one or more unknown comprehension-required
    //# attributes, the server replies with an error response with an error
    //# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
    //# attribute in the response that lists the unknown comprehension-
    //# required attributes.
    pub fn unknown_required(&self, known: &[AttributeType]) -> SmallVec<[AttributeType; 8]> {
        let mut unknown = SmallVec::new();
        for RawAttribute { kind, .. } in self.attributes() {
            //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
            //# Unknown comprehension-optional attributes MUST be ignored
            //# by the agent.
            let counts = kind.is_comprehension_required()
                && kind != AttributeType::MESSAGE_INTEGRITY
                && kind != AttributeType::MESSAGE_INTEGRITY_SHA256
                && !known.contains(&kind);
            if counts && !unknown.contains(&kind) {
                unknown.push(kind);
            }
            if unknown.len() == UNKNOWN_MAX {
                break;
            }
        }
        unknown
    }

    /// The MESSAGE-INTEGRITY attribute, unless it comes after MESSAGE-INTEGRITY-SHA256.
    pub(crate) fn integrity_sha1(&self) -> Option<Located<'a>> {
        self.layout.sha1
    }

    /// The first MESSAGE-INTEGRITY-SHA256 attribute.
    pub(crate) fn integrity_sha256(&self) -> Option<Located<'a>> {
        self.layout.sha256
    }
}

impl fmt::Debug for Message<'_> {
    /// Names the attributes without their values, some of which identify users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {} ", self.method, self.class, self.transaction_id)?;
        f.debug_list().entries(self.attributes().map(|attribute| attribute.kind)).finish()
    }
}

/// The attributes of a message that count, from [`Message::attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    body: &'a [u8],
    sha256: Option<Located<'a>>,
    fingerprint: Option<Located<'a>>,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<RawAttribute<'a>> {
        if let Some((attribute, rest)) = split_attribute(self.body) {
            self.body = rest;
            return Some(attribute);
        }
        if let Some(Located { value, .. }) = self.sha256.take() {
            return Some(RawAttribute { kind: AttributeType::MESSAGE_INTEGRITY_SHA256, value });
        }
        let Located { value, .. } = self.fingerprint.take()?;
        Some(RawAttribute { kind: AttributeType::FINGERPRINT, value })
    }
}

/// Why bytes are not a message. All of these are silently discarded (RFC 8489 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer bytes than a header has.
    TooShort,
    /// The two most significant bits are not zero.
    NotStun,
    /// Another value where the magic cookie should be; RFC 3489 clients send none.
    MagicCookie,
    /// The length field does not fit what was received, or is no multiple of four.
    Length,
    /// An attribute reaches beyond the end of the message.
    Attribute,
    /// More than [`ATTRIBUTES_MAX`] attributes.
    TooManyAttributes,
    /// FINGERPRINT is wrong, or is not the last attribute.
    Fingerprint,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ParseError::TooShort => "shorter than a STUN header",
            ParseError::NotStun => "the first two bits are not zero",
            ParseError::MagicCookie => "no magic cookie",
            ParseError::Length => "the length field is wrong",
            ParseError::Attribute => "an attribute reaches beyond the message",
            ParseError::TooManyAttributes => "too many attributes",
            ParseError::Fingerprint => "FINGERPRINT is wrong",
        })
    }
}

impl std::error::Error for ParseError {}

struct Header {
    message_type: u16,
    length: usize,
    transaction_id: TransactionId,
}

impl Header {
    fn read(header: &[u8; HEADER_LEN]) -> Result<Header, ParseError> {
        let &[t0, t1, l0, l1, c0, c1, c2, c3, ref transaction_id @ ..] = header;
        let message_type = u16::from_be_bytes([t0, t1]);
        //= https://www.rfc-editor.org/rfc/rfc8489#section-5
        //# The most significant 2 bits of every STUN message MUST be zeroes.
        if message_type & 0xC000 != 0 {
            return Err(ParseError::NotStun);
        }
        //= https://www.rfc-editor.org/rfc/rfc8489#section-5
        //# The Magic Cookie field MUST contain the fixed value 0x2112A442 in
        //# network byte order.
        if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
            return Err(ParseError::MagicCookie);
        }
        Ok(Header {
            message_type,
            length: usize::from(u16::from_be_bytes([l0, l1])),
            transaction_id: TransactionId::from_bytes(*transaction_id),
        })
    }
}

/// An attribute and the offset of its header from the start of the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub(crate) offset: usize,
    pub(crate) value: &'a [u8],
}

/// Where the attributes are that give meaning to the others by their position.
#[derive(Clone, Copy)]
struct Layout<'a> {
    /// The end of the first integrity attribute, or of the message.
    counted_end: usize,
    sha1: Option<Located<'a>>,
    sha256: Option<Located<'a>>,
    fingerprint: Option<Located<'a>>,
}

impl<'a> Layout<'a> {
    /// Walks the attributes once, from `body` on.
    fn read(body: &'a [u8]) -> Result<Layout<'a>, ParseError> {
        let end = HEADER_LEN + body.len();
        let mut layout = Layout { counted_end: end, sha1: None, sha256: None, fingerprint: None };
        let mut rest = body;
        let mut count = 0;
        while !rest.is_empty() {
            //= https://www.rfc-editor.org/rfc/rfc8489#section-14.7
            //# When present, the FINGERPRINT attribute MUST be the last attribute in
            //# the message and thus will appear after MESSAGE-INTEGRITY and MESSAGE-
            //# INTEGRITY-SHA256.
            if layout.fingerprint.is_some() {
                return Err(ParseError::Fingerprint);
            }
            if count == ATTRIBUTES_MAX {
                return Err(ParseError::TooManyAttributes);
            }
            let (attribute, behind) = split_attribute(rest).ok_or(ParseError::Attribute)?;
            layout.note(&attribute, end - rest.len(), end - behind.len());
            rest = behind;
            count += 1;
        }
        Ok(layout)
    }

    /// Takes note of an attribute that stretches from `offset` to `end`.
    ///
    /// A MESSAGE-INTEGRITY behind a MESSAGE-INTEGRITY-SHA256 is ignored although the RFC would let
    /// it count: only the SHA-256 value is verified, so nothing behind it is protected.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9
    //# Similarly, agents MUST ignore all attributes
    //# that follow the MESSAGE-INTEGRITY-SHA256 attribute if the MESSAGE-
    //# INTEGRITY attribute is not present, with the exception of the
    //# FINGERPRINT attribute.
    fn note(&mut self, attribute: &RawAttribute<'a>, offset: usize, end: usize) {
        let located = Some(Located { offset, value: attribute.value });
        let first = self.sha1.is_none() && self.sha256.is_none();
        match attribute.kind {
            AttributeType::MESSAGE_INTEGRITY if first => {
                self.sha1 = located;
                self.counted_end = end;
            }
            AttributeType::MESSAGE_INTEGRITY_SHA256 if first => {
                self.sha256 = located;
                self.counted_end = end;
            }
            AttributeType::MESSAGE_INTEGRITY_SHA256 if self.sha256.is_none() => {
                self.sha256 = located;
            }
            AttributeType::FINGERPRINT => self.fingerprint = located,
            _ => {}
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-7
//# the agent also checks that the
//# message contains a FINGERPRINT attribute and that the attribute
//# contains the correct value.
fn check_fingerprint(bytes: &[u8], attribute: &Located<'_>) -> Result<(), ParseError> {
    let covered = bytes.get(..attribute.offset).ok_or(ParseError::Fingerprint)?;
    let value = <[u8; 4]>::try_from(attribute.value).map_err(|_| ParseError::Fingerprint)?;
    if u32::from_be_bytes(value) == fingerprint(covered) {
        Ok(())
    } else {
        Err(ParseError::Fingerprint)
    }
}

/// The most attributes a message may have; each look-up walks them, so that their number is a cost
/// that a stranger sets. A request of one datagram holds far fewer.
pub const ATTRIBUTES_MAX: usize = 256;

/// The most types that [`Message::unknown_required`] lists, which bounds the response to a request.
pub const UNKNOWN_MAX: usize = 32;
