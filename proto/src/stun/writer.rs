//! Writing a message behind what a buffer holds (RFC 8489 §5 and §14).

use super::attribute::{ATTRIBUTE_HEADER_LEN, padding};
use super::attributes::ErrorCodeAttribute;
use super::fingerprint::{FINGERPRINT_LEN, fingerprint};
use super::{
    Attribute, AttributeType, Class, ErrorCode, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId,
};
use crate::credentials::Key;
use crate::integrity::{self, IntegrityAlgorithm};

/// Appends one message to a buffer, attribute by attribute.
///
/// The length field is right after each call, so that dropping the writer early leaves a
/// well-formed message. An attribute that would make the message longer than its length field can
/// say is left out, which [`MessageWriter::overflowed`] tells.
#[derive(Debug)]
pub struct MessageWriter<'b> {
    out: &'b mut Vec<u8>,
    start: usize,
    transaction_id: TransactionId,
    overflowed: bool,
}

impl<'b> MessageWriter<'b> {
    /// Appends the header to `out`.
    pub fn new(
        out: &'b mut Vec<u8>,
        class: Class,
        method: Method,
        transaction_id: TransactionId,
    ) -> MessageWriter<'b> {
        let start = out.len();
        out.extend_from_slice(&method.message_type(class).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(transaction_id.as_bytes());
        MessageWriter { out, start, transaction_id, overflowed: false }
    }

    /// Appends an attribute.
    pub fn attribute<'a, A: Attribute<'a>>(&mut self, attribute: &A) -> &mut Self {
        let transaction_id = self.transaction_id;
        self.append(A::TYPE, |out| attribute.encode(out, &transaction_id))
    }

    /// Appends an attribute if there is one.
    pub fn optional<'a, A: Attribute<'a>>(&mut self, attribute: Option<&A>) -> &mut Self {
        match attribute {
            Some(attribute) => self.attribute(attribute),
            None => self,
        }
    }

    /// Appends ERROR-CODE with the registered reason phrase.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.1
    //# For an error response, the server MUST add an ERROR-CODE attribute
    //# containing the error code specified in the processing above.
    pub fn error(&mut self, code: ErrorCode) -> &mut Self {
        self.attribute(&ErrorCodeAttribute::from(code))
    }

    /// Appends ERROR-CODE without a reason phrase, for answers to sources that have not proved
    /// their address: the shorter these are, the less is an attack by reflection worth.
    pub fn error_without_reason(&mut self, code: ErrorCode) -> &mut Self {
        self.attribute(&ErrorCodeAttribute { code, reason: "" })
    }

    /// Appends an attribute whose value the caller has encoded.
    pub fn raw(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        self.append(kind, |out| out.extend_from_slice(value))
    }

    /// Appends MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 over all that has been written.
    /// Receivers ignore what is appended behind it, FINGERPRINT excepted.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.5
    //# The text used as input to HMAC is the STUN message, up to and
    //# including the attribute preceding the MESSAGE-INTEGRITY attribute.
    //# The Length field of the STUN message header is adjusted to point to
    //# the end of the MESSAGE-INTEGRITY attribute.
    pub fn integrity(&mut self, algorithm: IntegrityAlgorithm, key: &Key) -> &mut Self {
        let length = self.body_len() + ATTRIBUTE_HEADER_LEN + algorithm.value_len();
        let Ok(length) = u16::try_from(length) else {
            return self.overflow();
        };
        let value = integrity::compute(algorithm, key, self.message(), length);
        self.raw(algorithm.attribute_type(), &value)
    }

    /// Appends FINGERPRINT, which has to be the last attribute.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14.7
    //# Therefore, prior to computation of the CRC, this
    //# value must be correct and include the CRC attribute as part of the
    //# message length.
    pub fn fingerprint(&mut self) -> &mut Self {
        let Ok(length) = u16::try_from(self.body_len() + FINGERPRINT_LEN) else {
            return self.overflow();
        };
        self.set_length(length);
        let value = fingerprint(self.message());
        self.raw(AttributeType::FINGERPRINT, &value.to_be_bytes())
    }

    /// The length of the message so far, header included.
    pub fn finish(&mut self) -> usize {
        self.message().len()
    }

    /// Whether an attribute has been left out because the message cannot be that long.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Writes header, value and padding of one attribute, or nothing of it.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14
    //# Each attribute
    //# MUST be TLV encoded, with a 16-bit type, 16-bit length, and value.
    //# Each STUN attribute MUST end on a 32-bit boundary.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-14
    //# The value in the Length field MUST contain the length of the Value
    //# part of the attribute, prior to padding, measured in bytes.
    fn append(&mut self, kind: AttributeType, encode: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let header = self.out.len();
        self.out.extend_from_slice(&kind.number().to_be_bytes());
        self.out.extend_from_slice(&[0, 0]);
        let value = self.out.len();
        encode(self.out);
        let value_len = self.out.len().saturating_sub(value);
        //= https://www.rfc-editor.org/rfc/rfc8656#section-18
        //# By the rules of STUN, any attribute whose length is not a multiple of
        //# 4 bytes MUST be immediately followed by 1 to 3 padding bytes to
        //# ensure the next attribute (if any) would start on a 4-byte boundary
        //= https://www.rfc-editor.org/rfc/rfc8489#section-14
        //# The
        //# padding bits MUST be set to zero on sending and MUST be ignored by
        //# the receiver.
        self.out.resize(self.out.len() + padding(value_len), 0);
        match (u16::try_from(value_len), u16::try_from(self.body_len())) {
            (Ok(value_len), Ok(body_len)) => {
                put_u16(self.out, header + LENGTH_OFFSET, value_len);
                self.set_length(body_len);
                self
            }
            (Err(_), _) | (_, Err(_)) => {
                self.out.truncate(header);
                self.overflow()
            }
        }
    }

    /// Remembers that something is missing. The length field says what is there.
    fn overflow(&mut self) -> &mut Self {
        self.overflowed = true;
        self
    }

    fn message(&self) -> &[u8] {
        self.out.get(self.start..).unwrap_or_default()
    }

    fn body_len(&self) -> usize {
        self.message().len().saturating_sub(HEADER_LEN)
    }

    //= https://www.rfc-editor.org/rfc/rfc8489#section-5
    //# The message length MUST contain the size of the message in bytes, not
    //# including the 20-byte STUN header.
    fn set_length(&mut self, length: u16) {
        put_u16(self.out, self.start + LENGTH_OFFSET, length);
    }
}

fn put_u16(out: &mut [u8], at: usize, value: u16) {
    if let Some(field) = out.get_mut(at..).and_then(|tail| tail.first_chunk_mut()) {
        *field = value.to_be_bytes();
    }
}

/// Where the length field is, in the message header as in that of an attribute.
const LENGTH_OFFSET: usize = 2;
