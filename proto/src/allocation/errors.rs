//! Why an allocation turns a request down, and the one error code each reason has.

use std::fmt;

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
    Forbidden(Denied),
    /// There is no room for as many permissions.
    Full,
}

impl CreatePermissionError {
    /// The code of the error response.
    pub fn code(&self) -> ErrorCode {
        match self {
            CreatePermissionError::NoAllocation => ErrorCode::AllocationMismatch,
            CreatePermissionError::PeerFamily => ErrorCode::PeerAddressFamilyMismatch,
            CreatePermissionError::Forbidden(_) => ErrorCode::Forbidden,
            CreatePermissionError::Full => ErrorCode::InsufficientCapacity,
        }
    }
}

impl fmt::Display for CreatePermissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreatePermissionError::NoAllocation => f.write_str(NO_ALLOCATION),
            CreatePermissionError::PeerFamily => f.write_str(PEER_FAMILY),
            CreatePermissionError::Forbidden(rule) => write!(f, "peer refused by {rule}"),
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
            ChannelBindError::Forbidden(_) => ErrorCode::Forbidden,
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
            ChannelBindError::ChannelsFull => f.write_str("the allocation has all its channels"),
            ChannelBindError::PermissionsFull => f.write_str(PERMISSIONS_FULL),
        }
    }
}

impl std::error::Error for ChannelBindError {}

const NO_ALLOCATION: &str = "the allocation is over";
const PEER_FAMILY: &str = "the allocation has no address of the peer's family";
const PERMISSIONS_FULL: &str = "the allocation has all its permissions";
