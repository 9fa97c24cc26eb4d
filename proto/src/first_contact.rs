//! What is answered without knowing the client: Binding, and requests that prove nothing.
//!
//! Nothing is remembered about their source, and no answer is much larger than its request.

use std::time::Instant;

use crate::address::ServerReflexive;
use crate::drops::DropReason;
use crate::guard::{Challenge, Guard, finish};
use crate::request::KNOWN_ATTRIBUTES;
use crate::stun::{
    Class, ErrorCode, Message, MessageWriter, Method, UnknownAttributes, XorMappedAddress,
};

/// What becomes of a message for which no session is needed, or none exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstContact {
    /// The answer stands in the buffer.
    Answered(Answer),
    /// The source has proved its address: a session may be made for it.
    Admit,
    /// It goes no further.
    Discard(DropReason),
}

/// Which answer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A Binding response.
    Binding,
    /// 420 to a Binding request.
    UnknownAttributes,
    /// 401, 438 or 400.
    Challenge(Challenge),
}

impl Guard {
    /// Decides over `message` from `client`, and appends the answer to `out` if there is one.
    pub fn first_contact(
        &self,
        message: &Message<'_>,
        client: ServerReflexive,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> FirstContact {
        match message.class() {
            Class::Request => {}
            // A Binding indication keeps a NAT binding alive and asks for nothing (RFC 8489
            // §6.3.2). The others need an allocation.
            Class::Indication => return FirstContact::Discard(DropReason::NoSession),
            // Silently discarded: the server has asked nothing.
            Class::Success | Class::Error => {
                return FirstContact::Discard(DropReason::UnexpectedClass);
            }
        }
        match message.method() {
            Method::BINDING => FirstContact::Answered(answer_binding(message, client, out)),
            method if is_for_session(method) => match self.claim(message, client, now) {
                Ok(_) => FirstContact::Admit,
                Err(challenge) => {
                    self.write_challenge(challenge, message, client, now, out);
                    FirstContact::Answered(Answer::Challenge(challenge))
                }
            },
            //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
            //# If any errors are detected, the message is silently discarded.
            _ => FirstContact::Discard(DropReason::UnknownMethod),
        }
    }
}

/// Whether requests of this method are served, and by a session.
pub(crate) fn is_for_session(method: Method) -> bool {
    matches!(
        method,
        Method::ALLOCATE
            | Method::REFRESH
            | Method::CREATE_PERMISSION
            | Method::CHANNEL_BIND
            | Method::CONNECT
            | Method::CONNECTION_BIND
    )
}

fn answer_binding(message: &Message<'_>, client: ServerReflexive, out: &mut Vec<u8>) -> Answer {
    // Credentials are passed over: the answer is the same for everybody, and a key would have to be
    // looked up to check them.
    let unknown = message.unknown_required(&KNOWN_ATTRIBUTES);
    let (method, transaction_id) = (message.method(), message.transaction_id());
    if !unknown.is_empty() {
        //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
        //# If the request contains one or more unknown comprehension-required
        //# attributes, the server replies with an error response with an error
        //# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
        //# attribute in the response that lists the unknown comprehension-
        //# required attributes.
        let mut writer = MessageWriter::new(out, Class::Error, method, transaction_id);
        writer.error_without_reason(ErrorCode::UnknownAttribute);
        writer.attribute(&UnknownAttributes(unknown));
        finish(&mut writer, message);
        return Answer::UnknownAttributes;
    }
    let mut writer = MessageWriter::new(out, Class::Success, method, transaction_id);
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.1
    //# When forming the success response, the
    //# server adds an XOR-MAPPED-ADDRESS attribute to the response;
    writer.attribute(&XorMappedAddress(client.0));
    finish(&mut writer, message);
    Answer::Binding
}
