//! The error codes of RFC 8489 §14.8, RFC 8656 §19, RFC 6062 §6.3, RFC 8016 §3 and RFC 8445 §7.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $reason:literal;)*) => {
        /// An error code that a response can carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl ErrorCode {
            /// Every code, in rising order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The number from 300 to 699.
            pub const fn number(self) -> u16 {
                match self {
                    $(ErrorCode::$variant => $number,)*
                }
            }

            /// The reason phrase that the IANA registry of error codes recommends.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $reason,)*
                }
            }

            /// The code with this number, if a supported RFC defines one.
            pub const fn from_number(number: u16) -> Option<ErrorCode> {
                match number {
                    $($number => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    /// The client should turn to another server.
    TryAlternate = 300, "Try Alternate";
    /// The request was malformed.
    BadRequest = 400, "Bad Request";
    /// The request did not carry the credentials that it needs.
    Unauthorized = 401, "Unauthenticated";
    /// The request was valid but an administrator does not allow it.
    Forbidden = 403, "Forbidden";
    /// The server does not allow an allocation to move to another address.
    MobilityForbidden = 405, "Mobility Forbidden";
    /// A comprehension-required attribute was not understood.
    UnknownAttribute = 420, "Unknown Attribute";
    /// There is no allocation where one is needed, or one where none may be.
    AllocationMismatch = 437, "Allocation Mismatch";
    /// The nonce has expired, or was made for another client.
    StaleNonce = 438, "Stale Nonce";
    /// The server does not relay the requested address family.
    AddressFamilyNotSupported = 440, "Address Family not Supported";
    /// The credentials are not those that made the allocation.
    WrongCredentials = 441, "Wrong Credentials";
    /// The server does not relay the requested transport protocol.
    UnsupportedTransportProtocol = 442, "Unsupported Transport Protocol";
    /// A peer is of another family than the relayed transport address.
    PeerAddressFamilyMismatch = 443, "Peer Address Family Mismatch";
    /// The client has a connection to this peer already.
    ConnectionAlreadyExists = 446, "Connection Already Exists";
    /// The connection to the peer could not be made.
    ConnectionTimeoutOrFailure = 447, "Connection Timeout or Failure";
    /// The user has as many allocations as it may have.
    AllocationQuotaReached = 486, "Allocation Quota Reached";
    /// Both ICE agents claim the same role.
    RoleConflict = 487, "Role Conflict";
    /// The server has a temporary fault.
    ServerError = 500, "Server Error";
    /// The server has nothing left of what the request asks for.
    InsufficientCapacity = 508, "Insufficient Capacity";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.reason())
    }
}
