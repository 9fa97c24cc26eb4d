//! The Allocate request with the checks 3 to 9 of RFC 8656 §7.2. Those before them, authentication
//! and the allocation that the 5-tuple may have, need state and belong to the session.

use std::time::Duration;

use super::{Offer, RequestError, read_lifetime, required};
use crate::address::{Family, RelayTransport, TransportProtocol};
use crate::stun::{
    AdditionalAddressFamily, AttributeError, AttributeType, DontFragment, EvenPort, Message,
    RequestedAddressFamily, RequestedTransport, ReservationToken,
};

/// An Allocate request (RFC 8656 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateRequest {
    /// What it is to relay.
    pub transport: RelayTransport,
    /// How long the client would like the allocation to last.
    pub lifetime: Option<Duration>,
    /// Whether the client asks if DONT-FRAGMENT will be honoured.
    pub dont_fragment: bool,
    /// The relay port it should get.
    pub port: PortWish,
    /// The families of its relayed transport addresses.
    pub families: Families,
}

/// What the client says about the port of its relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWish {
    /// Nothing.
    Any,
    /// It should be even.
    Even,
    /// It should be even, and the next one kept for a later allocation.
    EvenAndReserve,
    /// It was kept by an earlier allocation; one that is not kept any more is a 508.
    Reserved(ReservationToken),
}

/// The families that relayed transport addresses are wanted of, as far as they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// One address of this family.
    One(Family),
    /// One address of each.
    Both,
    /// One address of each was asked for, but only this family is served: the success response
    /// carries ADDRESS-ERROR-CODE 440 for the other.
    Half(Family),
    /// That of the reserved address.
    AsReserved,
}

impl Families {
    /// Whether an address of `family` is asked for by name. A reserved one has been named before.
    pub(crate) fn include(self, family: Family) -> bool {
        match self {
            Families::One(one) | Families::Half(one) => one == family,
            Families::Both => true,
            Families::AsReserved => false,
        }
    }
}

impl AllocateRequest {
    pub(super) fn read(
        message: &Message<'_>,
        protocol: TransportProtocol,
        offer: &Offer,
    ) -> Result<AllocateRequest, RequestError> {
        let transport = read_transport(message, offer)?;
        if transport == RelayTransport::Tcp {
            check_tcp(message, protocol)?;
        }
        // Check 4, DONT-FRAGMENT that is not offered, was made with the unknown attributes.
        let dont_fragment = message.read::<DontFragment>()?.is_some();
        let token = read_token(message)?;
        let requested = read_family(message, offer)?;
        let even_port = read_even_port(message)?;
        let families = match (token, read_additional_family(message)?) {
            (Some(_), _) => Families::AsReserved,
            (None, true) => both_families(offer)?,
            (None, false) => Families::One(requested),
        };
        let port = match (token, even_port) {
            (Some(token), _) => PortWish::Reserved(token),
            (None, None) => PortWish::Any,
            (None, Some(EvenPort { reserve_next: false })) => PortWish::Even,
            (None, Some(EvenPort { reserve_next: true })) => PortWish::EvenAndReserve,
        };
        let lifetime = read_lifetime(message)?;
        Ok(AllocateRequest { transport, lifetime, dont_fragment, port, families })
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//# If the REQUESTED-TRANSPORT attribute is not included
//# or is malformed, the server rejects the request with a 400 (Bad
//# Request) error.  Otherwise, if the attribute is included but
//# specifies a protocol that is not supported by the server, the
//# server rejects the request with a 442 (Unsupported Transport
//# Protocol) error.
//= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
//# If the REQUESTED-TRANSPORT attribute is included and specifies a
//# protocol other than UDP or TCP, the server MUST reject the
//# request with a 442 (Unsupported Transport Protocol) error.
fn read_transport(message: &Message<'_>, offer: &Offer) -> Result<RelayTransport, RequestError> {
    match required(message)? {
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //= type=exception
        //= reason=No policy of this server forbids UDP.
        //# If the value is UDP, and if UDP
        //# transport is forbidden by local policy, the server MUST reject
        //# the request with a 403 (Forbidden) error.
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
        //# If
        //# the value is UDP, and if UDP transport is allowed by local
        //# policy, the server MUST continue with the procedures of [RFC5766]
        //# instead of this document.
        RequestedTransport::UDP => Ok(RelayTransport::Udp),
        RequestedTransport::TCP if offer.tcp => Ok(RelayTransport::Tcp),
        RequestedTransport(protocol) => Err(RequestError::UnsupportedTransport(protocol)),
    }
}

/// What a TCP relay is asked for with. The address families are those of RFC 8656, which came after
/// RFC 6062: they say where the relayed transport addresses lie and nothing of what runs over them,
/// so that a TCP allocation may have one of each as well.
fn check_tcp(message: &Message<'_>, protocol: TransportProtocol) -> Result<(), RequestError> {
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
    //# If the client connection transport is not TCP or TLS, the server
    //# MUST reject the request with a 400 (Bad Request) error.
    if !protocol.is_stream() {
        return Err(RequestError::NotAStream);
    }
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
    //# If the request contains the DONT-FRAGMENT, EVEN-PORT, or
    //# RESERVATION-TOKEN attribute, the server MUST reject the request
    //# with a 400 (Bad Request) error.
    let udp_only =
        [AttributeType::DONT_FRAGMENT, AttributeType::EVEN_PORT, AttributeType::RESERVATION_TOKEN];
    match udp_only.into_iter().find(|&attribute| message.has(attribute)) {
        Some(attribute) => Err(RequestError::UdpOnly(attribute)),
        None => Ok(()),
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//# The server checks if the request contains a RESERVATION-TOKEN
//# attribute.  If yes, and the request also contains an EVEN-PORT
//# or REQUESTED-ADDRESS-FAMILY or ADDITIONAL-ADDRESS-FAMILY
//# attribute, the server rejects the request with a 400 (Bad
//# Request) error.
fn read_token(message: &Message<'_>) -> Result<Option<ReservationToken>, RequestError> {
    let Some(token) = message.read()? else { return Ok(None) };
    for excluded in [
        AttributeType::EVEN_PORT,
        AttributeType::REQUESTED_ADDRESS_FAMILY,
        AttributeType::ADDITIONAL_ADDRESS_FAMILY,
    ] {
        refuse_together(message, AttributeType::RESERVATION_TOKEN, excluded)?;
    }
    Ok(Some(token))
}

/// The family of a single allocation: the requested one, or the default.
fn read_family(message: &Message<'_>, offer: &Offer) -> Result<Family, RequestError> {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //# The server checks if the request contains both REQUESTED-
    //# ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY attributes.  If
    //# yes, then the server rejects the request with a 400 (Bad
    //# Request) error.
    refuse_together(
        message,
        AttributeType::REQUESTED_ADDRESS_FAMILY,
        AttributeType::ADDITIONAL_ADDRESS_FAMILY,
    )?;
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //# If the server does not support the address family requested by
    //# the client in REQUESTED-ADDRESS-FAMILY, or if the allocation of
    //# the requested address family is disabled by local policy, it
    //# MUST generate an Allocate error response, and it MUST include an
    //# ERROR-CODE attribute with the 440 (Address Family not Supported)
    //# response code.
    match message.read::<RequestedAddressFamily>() {
        Ok(Some(RequestedAddressFamily(family))) if offer.serves(family) => Ok(family),
        Ok(Some(_)) | Err(AttributeError::Family(..)) => Err(RequestError::FamilyNotSupported),
        Err(malformed) => Err(RequestError::Malformed(malformed)),
        Ok(None) => Ok(default_family(offer)),
    }
}

/// The family of an allocation whose client names none.
//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=exception
//= reason=A server of IPv6 alone serves the clients that name no family, not none of them.
//# If the REQUESTED-ADDRESS-FAMILY attribute is
//# absent and the server does not support the IPv4 address family,
//# the server MUST include an ERROR-CODE attribute with the 440
//# (Address Family not Supported) response code.
fn default_family(offer: &Offer) -> Family {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //# If the REQUESTED-
    //# ADDRESS-FAMILY attribute is absent and the server supports the
    //# IPv4 address family, the server MUST allocate an IPv4 relayed
    //# transport address for the TURN client.
    if offer.v4 { Family::V4 } else { Family::V6 }
}

fn read_even_port(message: &Message<'_>) -> Result<Option<EvenPort>, RequestError> {
    let even_port = message.read()?;
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //# The server checks if the request contains an EVEN-PORT attribute
    //# with the R bit set to 1.  If yes, and the request also contains
    //# an ADDITIONAL-ADDRESS-FAMILY attribute, the server rejects the
    //# request with a 400 (Bad Request) error.
    if even_port == Some(EvenPort { reserve_next: true }) {
        refuse_together(
            message,
            AttributeType::EVEN_PORT,
            AttributeType::ADDITIONAL_ADDRESS_FAMILY,
        )?;
    }
    Ok(even_port)
}

/// Whether a second address, of IPv6, is wanted.
//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//# The server checks if the request contains an ADDITIONAL-ADDRESS-
//# FAMILY attribute.  If yes, and the attribute value is 0x01 (IPv4
//# address family), then the server rejects the request with a 400
//# (Bad Request) error.
fn read_additional_family(message: &Message<'_>) -> Result<bool, RequestError> {
    match message.read()? {
        None => Ok(false),
        Some(AdditionalAddressFamily(Family::V6)) => Ok(true),
        Some(AdditionalAddressFamily(Family::V4)) => Err(RequestError::AdditionalFamily),
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//# If the
//# server can partially meet the request, i.e., if it can only
//# allocate one relayed transport address of a specific address
//# type, then it includes ADDRESS-ERROR-CODE attribute in the
//# success response to inform the client the reason for partial
//# failure of the request.
fn both_families(offer: &Offer) -> Result<Families, RequestError> {
    match (offer.v4, offer.v6) {
        (true, true) => Ok(Families::Both),
        (true, false) => Ok(Families::Half(Family::V4)),
        (false, true) => Ok(Families::Half(Family::V6)),
        (false, false) => Err(RequestError::FamilyNotSupported),
    }
}

fn refuse_together(
    message: &Message<'_>,
    one: AttributeType,
    other: AttributeType,
) -> Result<(), RequestError> {
    if message.has(one) && message.has(other) {
        return Err(RequestError::Contradiction(one, other));
    }
    Ok(())
}
