//! The requests of TURN as values: read from a message with the checks that need no state, in the
//! order of the RFC. Each error is one fault and has one error code.

mod allocate;
mod connect;
mod error;

use std::time::Duration;

use smallvec::SmallVec;

use crate::address::{Family, PeerAddr, TransportProtocol};
use crate::channel_data::ChannelNumber;
use crate::drops::DropReason;
use crate::stun::{
    Attribute, AttributeError, AttributeType, Data, DontFragment, Lifetime, Message, Method,
    RequestedAddressFamily, XorPeerAddress,
};

pub use allocate::{AllocateRequest, Families, PortWish};
pub use connect::{ConnectRequest, ConnectionBindRequest};
pub use error::RequestError;

/// What this server offers; a request for anything else is turned down by its shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// IPv4 relayed transport addresses.
    pub v4: bool,
    /// IPv6 relayed transport addresses.
    pub v6: bool,
    /// TCP relayed transport addresses, for clients that come by TCP or TLS (RFC 6062).
    pub tcp: bool,
    /// Datagrams to peers with the DF bit set.
    pub dont_fragment: bool,
    /// Which channel numbers may be bound.
    pub channel_numbers: ChannelNumbers,
}

/// A range of channel numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelNumbers {
    /// 0x4000 to 0x4FFF.
    #[default]
    Rfc8656,
    /// 0x4000 to 0x7FFE, for clients that follow the older RFC.
    Rfc5766,
}

impl Offer {
    /// The comprehension-required attributes that are understood, in whatever message they come:
    /// one that is known but not expected is ignored and does not make a request fail.
    pub fn known_attributes(&self) -> &'static [AttributeType] {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
        //# If it does,
        //# but the server does not support sending UDP datagrams with the
        //# DF bit set to 1 (see Sections 14 and 15), then the server treats
        //# the DONT-FRAGMENT attribute in the Allocate request as an
        //# unknown comprehension-required attribute.
        if self.dont_fragment { &KNOWN_ATTRIBUTES } else { &KNOWN_WITHOUT_DONT_FRAGMENT }
    }

    /// Whether addresses of `family` are relayed.
    pub fn serves(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn allows(&self, number: ChannelNumber) -> bool {
        match self.channel_numbers {
            ChannelNumbers::Rfc8656 => number.is_rfc8656(),
            ChannelNumbers::Rfc5766 => true,
        }
    }
}

/// A request that an allocation, or the lack of one, is there to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make an allocation.
    Allocate(AllocateRequest),
    /// Extend it or end it.
    Refresh(RefreshRequest),
    /// Let peers send to the client.
    CreatePermission(CreatePermissionRequest),
    /// Bind a channel to a peer.
    ChannelBind(ChannelBindRequest),
    /// Open a TCP connection to a peer.
    Connect(ConnectRequest),
    /// Make the client's connection one end of a peer's.
    ConnectionBind(ConnectionBindRequest),
}

impl Request {
    /// Read a request that has passed authentication and has come by `protocol`.
    pub fn read(
        message: &Message<'_>,
        protocol: TransportProtocol,
        offer: &Offer,
    ) -> Result<Request, RequestError> {
        //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
        //# If the request contains one or more unknown comprehension-required
        //# attributes, the server replies with an error response with an error
        //# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
        //# attribute in the response that lists the unknown comprehension-
        //# required attributes.
        let unknown = message.unknown_required(offer.known_attributes());
        if !unknown.is_empty() {
            return Err(RequestError::UnknownAttributes(unknown));
        }
        match message.method() {
            Method::ALLOCATE => {
                AllocateRequest::read(message, protocol, offer).map(Request::Allocate)
            }
            Method::REFRESH => RefreshRequest::read(message).map(Request::Refresh),
            Method::CREATE_PERMISSION => {
                CreatePermissionRequest::read(message).map(Request::CreatePermission)
            }
            Method::CHANNEL_BIND => {
                ChannelBindRequest::read(message, offer).map(Request::ChannelBind)
            }
            Method::CONNECT => ConnectRequest::read(message).map(Request::Connect),
            Method::CONNECTION_BIND => {
                ConnectionBindRequest::read(message, protocol).map(Request::ConnectionBind)
            }
            _ => Err(RequestError::UnsupportedMethod),
        }
    }
}

/// A Refresh request (RFC 8656 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshRequest {
    /// How long the client would like it to last; zero ends it.
    pub lifetime: Option<Duration>,
    /// The one address of a dual allocation that is meant.
    pub family: Option<Family>,
}

impl RefreshRequest {
    fn read(message: &Message<'_>) -> Result<RefreshRequest, RequestError> {
        let family = match message.read::<RequestedAddressFamily>() {
            Ok(family) => family.map(|RequestedAddressFamily(family)| family),
            // No allocation has an address of a family that does not exist.
            Err(AttributeError::Family(..)) => return Err(RequestError::FamilyMismatch),
            Err(malformed) => return Err(RequestError::Malformed(malformed)),
        };
        Ok(RefreshRequest { lifetime: read_lifetime(message)?, family })
    }
}

/// A CreatePermission request (RFC 8656 §10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePermissionRequest {
    /// The peers, of which only the IP addresses count. There is at least one.
    pub peers: SmallVec<[PeerAddr; 4]>,
}

impl CreatePermissionRequest {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
    //# The CreatePermission request
    //# MUST contain at least one XOR-PEER-ADDRESS attribute and MAY contain
    //# multiple such attributes.  If no such attribute exists, or if any of
    //# these attributes are invalid, then a 400 (Bad Request) error is
    //# returned.
    fn read(message: &Message<'_>) -> Result<CreatePermissionRequest, RequestError> {
        let peers: SmallVec<[PeerAddr; 4]> = message
            .read_all::<XorPeerAddress>()
            .map(|peer| peer.map(|XorPeerAddress(peer)| PeerAddr(peer)))
            .collect::<Result<_, _>>()?;
        if peers.is_empty() {
            return Err(RequestError::Missing(AttributeType::XOR_PEER_ADDRESS));
        }
        Ok(CreatePermissionRequest { peers })
    }
}

/// A ChannelBind request (RFC 8656 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelBindRequest {
    /// The channel.
    pub number: ChannelNumber,
    /// The peer to bind it to. Its port is not zero.
    pub peer: PeerAddr,
}

impl ChannelBindRequest {
    fn read(message: &Message<'_>, offer: &Offer) -> Result<ChannelBindRequest, RequestError> {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
        //# The request contains both a CHANNEL-NUMBER and an XOR-PEER-ADDRESS
        //# attribute;
        let number: ChannelNumber = required(message)?;
        let XorPeerAddress(peer) = required(message)?;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
        //# The channel number is in the range 0x4000 through 0x4FFF
        //# (inclusive);
        if !offer.allows(number) {
            return Err(RequestError::ChannelNumber(number));
        }
        // Nothing can be sent to port 0, so that such a channel would only take up its place.
        if peer.port() == 0 {
            return Err(RequestError::PortZero);
        }
        Ok(ChannelBindRequest { number, peer: PeerAddr(peer) })
    }
}

/// A Send indication (RFC 8656 §11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendIndication<'a> {
    /// Where the data is to go.
    pub peer: PeerAddr,
    /// The application data, possibly none.
    pub data: &'a [u8],
    /// Whether the datagram to the peer may not be fragmented.
    pub dont_fragment: bool,
}

impl<'a> SendIndication<'a> {
    /// Read an indication of the Send method. Where that fails it is discarded without an answer.
    ///
    /// This is on the path of data, so that it walks the attributes once.
    pub fn read(message: &Message<'a>, offer: &Offer) -> Result<SendIndication<'a>, DropReason> {
        let known = offer.known_attributes();
        let (mut peer, mut data, mut dont_fragment) = (None, None, false);
        for attribute in message.attributes() {
            match attribute.kind {
                AttributeType::XOR_PEER_ADDRESS => _ = peer.get_or_insert(attribute.value),
                AttributeType::DATA => _ = data.get_or_insert(attribute.value),
                //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
                //# If
                //# the server is unable to set the DF bit on outgoing UDP datagrams when
                //# this attribute is present, then the server acts as if the DONT-
                //# FRAGMENT attribute is an unknown comprehension-required attribute
                //# (and thus the Send indication is discarded).
                AttributeType::DONT_FRAGMENT if offer.dont_fragment => dont_fragment = true,
                AttributeType::MESSAGE_INTEGRITY | AttributeType::MESSAGE_INTEGRITY_SHA256 => {}
                //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.2
                //# If the indication contains unknown comprehension-required attributes,
                //# the indication is discarded and processing ceases.
                kind if kind.is_comprehension_required() && !known.contains(&kind) => {
                    return Err(DropReason::UnknownAttribute);
                }
                _ => {}
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
        //# The Send indication MUST
        //# contain both an XOR-PEER-ADDRESS attribute and a DATA attribute.  If
        //# one of these attributes is missing or invalid, then the message is
        //# discarded.
        let (Some(peer), Some(data)) = (peer, data) else {
            return Err(DropReason::MalformedIndication);
        };
        let id = message.transaction_id();
        let XorPeerAddress(peer) =
            XorPeerAddress::decode(peer, &id).map_err(|_| DropReason::MalformedIndication)?;
        let Data(data) = Data::decode(data, &id).map_err(|_| DropReason::MalformedIndication)?;
        Ok(SendIndication { peer: PeerAddr(peer), data, dont_fragment })
    }
}

fn required<'a, A: Attribute<'a>>(message: &Message<'a>) -> Result<A, RequestError> {
    message.read()?.ok_or(RequestError::Missing(A::TYPE))
}

fn read_lifetime(message: &Message<'_>) -> Result<Option<Duration>, RequestError> {
    Ok(message.read()?.map(|Lifetime(lifetime)| lifetime))
}

/// What a server that can set the DF bit understands. The integrity attributes are the codec's own.
pub(crate) const KNOWN_ATTRIBUTES: [AttributeType; KNOWN_WITHOUT_DONT_FRAGMENT.len() + 1] = {
    let mut known = [DontFragment::TYPE; KNOWN_WITHOUT_DONT_FRAGMENT.len() + 1];
    let mut i = 0;
    while i < KNOWN_WITHOUT_DONT_FRAGMENT.len() {
        known[i] = KNOWN_WITHOUT_DONT_FRAGMENT[i];
        i += 1;
    }
    known
};

const KNOWN_WITHOUT_DONT_FRAGMENT: [AttributeType; 20] = [
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::XOR_RELAYED_ADDRESS,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::ACCESS_TOKEN,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::RESERVATION_TOKEN,
    AttributeType::CONNECTION_ID,
];

#[cfg(test)]
mod tests;
