//! Why an allocation turns a request down, and the one error code each reason has.

use std::fmt;
use std::net::IpAddr;

use crate::peer_rules::Denied;
use crate::stun::ErrorCode;

/// Why a Refresh fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshError {
    /// The allocation is over.
    NoAllocation,
    /// The allocation has no relayed transport address of the family that is to be refreshed.
    FamilyMismatch,
}

impl RefreshError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            RefreshError::NoAllocation => ErrorCode::AllocationMismatch,
            RefreshError::FamilyMismatch => ErrorCode::PeerAddressFamilyMismatch,
        }
    }
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefreshError::NoAllocation => NO_ALLOCATION,
            RefreshError::FamilyMismatch => "the allocation has no address of this family",
        })
    }
}

impl std::error::Error for RefreshError {}

/// Why a CreatePermission fails, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreatePermissionError {
    /// The allocation is over.
    NoAllocation,
    /// A peer is of a family in which the allocation has no relayed transport address.
    PeerFamily,
    /// The rules refuse a peer.
    Forbidden {
        /// The first that they refuse, by its internal address.
        peer: IpAddr,
        /// The rule.
        rule: Denied,
    },
    /// There is no room for as many permissions.
    Full,
}

impl CreatePermissionError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            CreatePermissionError::NoAllocation => ErrorCode::AllocationMismatch,
            CreatePermissionError::PeerFamily => ErrorCode::PeerAddressFamilyMismatch,
            CreatePermissionError::Forbidden { .. } => ErrorCode::Forbidden,
            CreatePermissionError::Full => ErrorCode::InsufficientCapacity,
        }
    }
}

impl fmt::Display for CreatePermissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreatePermissionError::NoAllocation => f.write_str(NO_ALLOCATION),
            CreatePermissionError::PeerFamily => f.write_str(PEER_FAMILY),
            CreatePermissionError::Forbidden { rule, .. } => write!(f, "peer refused by {rule}"),
            CreatePermissionError::Full => f.write_str(PERMISSIONS_FULL),
        }
    }
}

impl std::error::Error for CreatePermissionError {}

/// Why a ChannelBind fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBindError {
    /// The allocation is over.
    NoAllocation,
    /// The channel number is bound to another peer, or was until a short while ago.
    NumberInUse,
    /// The peer is bound to another channel number, or was until a short while ago.
    PeerInUse,
    /// The peer is of a family in which the allocation has no relayed transport address.
    PeerFamily,
    /// The rules refuse the peer.
    Forbidden(Denied),
    /// The allocation relays TCP.
    TcpAllocation,
    /// There is no room for another channel.
    ChannelsFull,
    /// There is no room for the permission that comes with the channel.
    PermissionsFull,
}

impl ChannelBindError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            ChannelBindError::NoAllocation => ErrorCode::AllocationMismatch,
            ChannelBindError::NumberInUse | ChannelBindError::PeerInUse => ErrorCode::BadRequest,
            ChannelBindError::PeerFamily => ErrorCode::PeerAddressFamilyMismatch,
            ChannelBindError::Forbidden(_) | ChannelBindError::TcpAllocation => {
                ErrorCode::Forbidden
            }
            ChannelBindError::ChannelsFull | ChannelBindError::PermissionsFull => {
                ErrorCode::InsufficientCapacity
            }
        }
    }
}

impl fmt::Display for ChannelBindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelBindError::NoAllocation => f.write_str(NO_ALLOCATION),
            ChannelBindError::NumberInUse => f.write_str("the channel has another peer"),
            ChannelBindError::PeerInUse => f.write_str("the peer has another channel"),
            ChannelBindError::PeerFamily => f.write_str(PEER_FAMILY),
            ChannelBindError::Forbidden(rule) => write!(f, "peer refused by {rule}"),
            ChannelBindError::TcpAllocation => f.write_str("the allocation relays TCP"),
            ChannelBindError::ChannelsFull => f.write_str("the allocation has all its channels"),
            ChannelBindError::PermissionsFull => f.write_str(PERMISSIONS_FULL),
        }
    }
}

impl std::error::Error for ChannelBindError {}

/// Why a Connect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The allocation is over.
    NoAllocation,
    /// The allocation relays UDP.
    NotTcp,
    /// There is a connection with this peer, or one in the making.
    Exists,
    /// The peer is of a family in which the allocation has no relayed transport address.
    PeerFamily,
    /// The rules refuse the peer.
    Forbidden(Denied),
    /// There is no room for another connection.
    Full,
    /// The peer did not answer in time, or refused.
    Failed,
    /// The server has a fault of its own.
    Fault,
}

impl ConnectError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
            //# If the request is received on a TCP connection for which no
            //# allocation exists, the server MUST return a 437 (Allocation Mismatch)
            //# error.
            ConnectError::NoAllocation => ErrorCode::AllocationMismatch,
            ConnectError::NotTcp | ConnectError::Forbidden(_) => ErrorCode::Forbidden,
            ConnectError::Exists => ErrorCode::ConnectionAlreadyExists,
            ConnectError::PeerFamily => ErrorCode::PeerAddressFamilyMismatch,
            ConnectError::Full => ErrorCode::InsufficientCapacity,
            //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
            //# If the connection attempt fails or times
            //# out, the server MUST return a 447 (Connection Timeout or Failure)
            //# error.
            ConnectError::Failed => ErrorCode::ConnectionTimeoutOrFailure,
            ConnectError::Fault => ErrorCode::ServerError,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::NoAllocation => f.write_str(NO_ALLOCATION),
            ConnectError::NotTcp => f.write_str("the allocation relays UDP"),
            ConnectError::Exists => f.write_str("the peer has a connection"),
            ConnectError::PeerFamily => f.write_str(PEER_FAMILY),
            ConnectError::Forbidden(rule) => write!(f, "peer refused by {rule}"),
            ConnectError::Full => f.write_str("the allocation has all its connections"),
            ConnectError::Fault => f.write_str("a fault of the server's own"),
            ConnectError::Failed => f.write_str("the peer cannot be connected to"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Why a ConnectionBind fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionBindError {
    /// No connection under this name waits to be bound.
    NotPending,
    /// The connection is another user's.
    WrongUser,
}

impl ConnectionBindError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            ConnectionBindError::NotPending => ErrorCode::BadRequest,
            ConnectionBindError::WrongUser => ErrorCode::WrongCredentials,
        }
    }
}

impl fmt::Display for ConnectionBindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionBindError::NotPending => "no such connection waits to be bound",
            ConnectionBindError::WrongUser => "the connection is another user's",
        })
    }
}

impl std::error::Error for ConnectionBindError {}

const NO_ALLOCATION: &str = "the allocation is over";
const PEER_FAMILY: &str = "the allocation has no address of the peer's family";
const PERMISSIONS_FULL: &str = "the allocation has all its permissions";
