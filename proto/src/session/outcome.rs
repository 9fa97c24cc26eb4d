//! What came of a request, and the answer that says so.

use std::time::Duration;

use smallvec::SmallVec;

use crate::address::{Family, RelayedAddr, ServerReflexive};
use crate::stun::{
    AddressErrorCode, Class, ConnectionId, ErrorCode, Lifetime, MessageWriter, ReservationToken,
    XorMappedAddress, XorRelayedAddress,
};

/// What came of a request that was performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An allocation was made.
    Allocated(Allocated),
    /// The allocation lives this much longer; zero says that it is gone.
    Refreshed(Duration),
    /// The permissions are installed.
    PermissionsCreated,
    /// The channel is bound.
    ChannelBound,
    /// The peer is connected, and the connection waits for ConnectionBind.
    Connected(ConnectionId),
    /// The client's connection is one with the peer's from here on.
    ConnectionBound,
    /// It was refused.
    Refused(ErrorCode),
}

/// What a successful Allocate response tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// One relayed transport address, or one of each family.
    pub relayed: SmallVec<[RelayedAddr; 2]>,
    /// The time to expiry.
    pub lifetime: Duration,
    /// The token of the reserved next port.
    pub reservation: Option<ReservationToken>,
    /// The family of a dual allocation that could not be had, and why.
    pub missing: Option<(Family, ErrorCode)>,
}

impl Outcome {
    pub(super) fn class(&self) -> Class {
        match self {
            Outcome::Allocated(_)
            | Outcome::Refreshed(_)
            | Outcome::PermissionsCreated
            | Outcome::ChannelBound
            | Outcome::Connected(_)
            | Outcome::ConnectionBound => Class::Success,
            Outcome::Refused(_) => Class::Error,
        }
    }

    pub(super) fn write(&self, client: ServerReflexive, writer: &mut MessageWriter<'_>) {
        match self {
            Outcome::Allocated(allocated) => allocated.write(client, writer),
            Outcome::Refreshed(lifetime) => {
                writer.attribute(&Lifetime(*lifetime));
            }
            Outcome::PermissionsCreated | Outcome::ChannelBound | Outcome::ConnectionBound => {}
            //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
            //# The server MUST include the CONNECTION-ID attribute in the Connect
            //# success response.
            Outcome::Connected(id) => {
                writer.attribute(id);
            }
            Outcome::Refused(code) => {
                writer.error(*code);
            }
        }
    }
}

impl Allocated {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //# Once the allocation is created, the server replies with a success
    //# response.  The success response contains:
    fn write(&self, client: ServerReflexive, writer: &mut MessageWriter<'_>) {
        for relayed in &self.relayed {
            writer.attribute(&XorRelayedAddress(relayed.0));
        }
        writer.attribute(&XorMappedAddress(client.0));
        writer.optional(self.reservation.as_ref());
        writer.attribute(&Lifetime(self.lifetime));
        if let Some((family, code)) = self.missing {
            writer.attribute(&AddressErrorCode::new(family, code));
        }
    }
}
