//! The requests of RFC 6062, with the checks that need no state.

use super::{RequestError, required};
use crate::address::{PeerAddr, TransportProtocol};
use crate::stun::{ConnectionId, Message, XorPeerAddress};

/// A Connect request (RFC 6062 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The peer to connect to. Its port is not zero.
    pub peer: PeerAddr,
}

impl ConnectRequest {
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //# If the request does not contain an XOR-PEER-ADDRESS attribute, or if
    //# such attribute is invalid, the server MUST return a 400 (Bad Request)
    //# error.
    pub(super) fn read(message: &Message<'_>) -> Result<ConnectRequest, RequestError> {
        let XorPeerAddress(peer) = required(message)?;
        if peer.port() == 0 {
            return Err(RequestError::PortZero);
        }
        Ok(ConnectRequest { peer: PeerAddr(peer) })
    }
}

/// A ConnectionBind request (RFC 6062 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBindRequest {
    /// The peer's connection.
    pub id: ConnectionId,
}

impl ConnectionBindRequest {
    pub(super) fn read(
        message: &Message<'_>,
        protocol: TransportProtocol,
    ) -> Result<ConnectionBindRequest, RequestError> {
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
        //# If the client connection transport is not TCP or TLS, the server MUST
        //# return a 400 (Bad Request) error.
        if !protocol.is_stream() {
            return Err(RequestError::NotAStream);
        }
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
        //# If the request does not contain the CONNECTION-ID attribute, or if
        //# this attribute does not refer to an existing pending connection, the
        //# server MUST return a 400 (Bad Request) error.
        Ok(ConnectionBindRequest { id: required(message)? })
    }
}
