//! The 20-byte STUN header (RFC 8489 §5): message type, magic cookie and transaction ID.

use std::fmt;

/// The fixed value in the header of every STUN message (RFC 8489 §5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// The size of the STUN header in bytes.
pub const HEADER_LEN: usize = 20;

/// The class of a message: the two C bits of its type (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Expects a response.
    Request,
    /// Expects none.
    Indication,
    /// Answers a request that was carried out.
    Success,
    /// Answers a request that was refused.
    Error,
}

impl Class {
    /// The class in the C1 and C0 bits of a message type.
    pub(crate) fn of_message_type(message_type: u16) -> Class {
        match message_type & CLASS_BITS {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        }
    }

    fn bits(self) -> u16 {
        match self {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        }
    }
}

/// The method of a message: the twelve M bits of its type (RFC 8489 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(u16);

impl Method {
    /// Reflexive transport address discovery (RFC 8489 §18.2).
    pub const BINDING: Method = Method(0x001);
    /// Creates an allocation (RFC 8656 §17).
    pub const ALLOCATE: Method = Method(0x003);
    /// Extends or ends an allocation (RFC 8656 §17).
    pub const REFRESH: Method = Method(0x004);
    /// Data from the client to a peer, indication only (RFC 8656 §17).
    pub const SEND: Method = Method(0x006);
    /// Data from a peer to the client, indication only (RFC 8656 §17).
    pub const DATA: Method = Method(0x007);
    /// Installs or refreshes permissions (RFC 8656 §17).
    pub const CREATE_PERMISSION: Method = Method(0x008);
    /// Binds a channel to a peer (RFC 8656 §17).
    pub const CHANNEL_BIND: Method = Method(0x009);
    /// Opens a TCP connection to a peer (RFC 6062 §6.1).
    pub const CONNECT: Method = Method(0x00A);
    /// Joins a client data connection to a peer connection (RFC 6062 §6.1).
    pub const CONNECTION_BIND: Method = Method(0x00B);
    /// Tells the client that a peer connected, indication only (RFC 6062 §6.1).
    pub const CONNECTION_ATTEMPT: Method = Method(0x00C);

    /// The method with this number, or `None` beyond the twelve bits that a message type has for
    /// it.
    pub fn from_number(number: u16) -> Option<Method> {
        (number <= METHOD_MAX).then_some(Method(number))
    }

    /// The twelve-bit method number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The name that the RFC gives the method, if one of the supported RFCs defines it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Method::BINDING => "Binding",
            Method::ALLOCATE => "Allocate",
            Method::REFRESH => "Refresh",
            Method::SEND => "Send",
            Method::DATA => "Data",
            Method::CREATE_PERMISSION => "CreatePermission",
            Method::CHANNEL_BIND => "ChannelBind",
            Method::CONNECT => "Connect",
            Method::CONNECTION_BIND => "ConnectionBind",
            Method::CONNECTION_ATTEMPT => "ConnectionAttempt",
            Method(_) => return None,
        })
    }

    /// The method in the M bits of a message type, around the two class bits.
    pub(crate) fn of_message_type(message_type: u16) -> Method {
        Method(
            (message_type & 0x000F)
                | ((message_type & 0x00E0) >> 1)
                | ((message_type & 0x3E00) >> 2),
        )
    }

    /// The message type of this method with `class`.
    pub(crate) fn message_type(self, class: Class) -> u16 {
        (self.0 & 0x000F) | ((self.0 & 0x0070) << 1) | ((self.0 & 0x0F80) << 2) | class.bits()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "method {:#05x}", self.0),
        }
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The 96-bit identifier that ties a response to its request (RFC 8489 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId([u8; 12]);

impl TransactionId {
    /// The transaction ID with these bytes; who starts a transaction takes them from a CSPRNG.
    pub const fn from_bytes(bytes: [u8; 12]) -> TransactionId {
        TransactionId(bytes)
    }

    /// The bytes as they are on the wire.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionId({self})")
    }
}

/// What the first byte of a datagram says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A ChannelData message; whether the channel number is a good one is seen when it is parsed.
    ChannelData,
    /// A STUN message.
    Stun,
    /// Another protocol (DTLS, RTP, …) or nothing at all.
    Other,
}

/// Sorts a datagram by its first byte, as RFC 8656 §12 and RFC 7983 divide the values.
///
/// 80 to 127 count as ChannelData too: RFC 5766 gave these to channels, and no channel is ever
/// bound there unless the server is told to speak with clients of that RFC.
//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//# ChannelData messages can be distinguished
//# from other multiplexed protocols by examining the first byte of the
//# message:
pub fn peek_kind(bytes: &[u8]) -> Kind {
    match bytes.first() {
        Some(64..=127) => Kind::ChannelData,
        Some(0..=3) => Kind::Stun,
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12
        //# Others     |              Reserved; MUST be dropped
        Some(_) | None => Kind::Other,
    }
}

/// The class that the first two bytes of a STUN message tell; `None` where there are no two.
pub fn peek_class(bytes: &[u8]) -> Option<Class> {
    let message_type = u16::from_be_bytes(*bytes.first_chunk()?);
    Some(match message_type & CLASS_BITS {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    })
}

const CLASS_BITS: u16 = 0x0110;
const METHOD_MAX: u16 = 0x0FFF;
