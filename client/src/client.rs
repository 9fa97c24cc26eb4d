//! One conversation with one server.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sterna_proto::address::{Family, PeerAddr, RelayedAddr, ServerReflexive};
use sterna_proto::channel_data::{ChannelNumber, write_header};
use sterna_proto::stun::{
    AdditionalAddressFamily, AddressErrorCode, AlternateServer, Attribute, AttributeType, Class,
    Data, DontFragment, ErrorCode, ErrorCodeAttribute, Lifetime, Message, MessageWriter, Method,
    Realm, RequestedAddressFamily, RequestedTransport, ReservationToken, Software, TransactionId,
    UnknownAttributes, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};

use crate::authentication::{Authentication, is_bid_down};
use crate::clock::Deadline;
use crate::error::{AnswerProblem, ClientError, Refusal};
use crate::incoming::Incoming;
use crate::options::{AllocateOptions, ClientOptions};
use crate::transaction::{Wire, error_number};
use crate::transport::{Protocol, Transport, connect_udp};

/// What an Allocate success response says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allocated {
    /// Where peers send to.
    pub relayed: RelayedAddr,
    /// The second address of a dual allocation.
    pub additional: Option<RelayedAddr>,
    /// Why there is no second address where one was asked for.
    pub address_error: Option<(Family, ErrorCode)>,
    /// Our address as the server sees it.
    pub reflexive: ServerReflexive,
    /// When the allocation ends unless it is refreshed.
    pub lifetime: Duration,
    /// The token for the next higher port, where EVEN-PORT reserved it.
    pub reservation: Option<ReservationToken>,
}

/// A TURN client over a transport, by default UDP.
#[derive(Debug)]
pub struct Client<T = UdpSocket> {
    wire: Wire<T>,
    options: ClientOptions,
    authentication: Option<Authentication>,
}

impl Client {
    /// A conversation over UDP from a port of the system's choice.
    pub fn connect(server: SocketAddr, options: ClientOptions) -> Result<Client, ClientError> {
        Client::over(connect_udp(server)?, options)
    }

    /// A conversation over a blocking socket that is connected to the server.
    pub fn over(socket: UdpSocket, options: ClientOptions) -> Result<Client, ClientError> {
        socket.peer_addr()?;
        Ok(Client::with(socket, options))
    }

    /// The socket, for callers that send and receive by themselves.
    pub fn socket(&self) -> &UdpSocket {
        self.transport()
    }
}

impl Client<Box<dyn Transport>> {
    /// A conversation over a protocol that is known only when the program runs. Connecting and the
    /// TLS handshake may each take as long as a request.
    pub fn dial(
        server: SocketAddr,
        protocol: &Protocol,
        options: ClientOptions,
    ) -> Result<Client<Box<dyn Transport>>, ClientError> {
        let transport = protocol.connect(server, options.retransmission.total())?;
        Ok(Client::with(transport, options))
    }
}

impl<T: Transport> Client<T> {
    /// A conversation over a transport that is connected to the server.
    pub fn with(transport: T, options: ClientOptions) -> Client<T> {
        let wire = Wire::new(transport, options.retransmission);
        Client { wire, options, authentication: None }
    }

    /// What carries the messages.
    pub fn transport(&self) -> &T {
        self.wire.transport()
    }

    /// The same, for callers that send and receive by themselves. They leave it where a message
    /// ends.
    pub fn transport_mut(&mut self) -> &mut T {
        self.wire.transport_mut()
    }

    /// Asks for our address as the server sees it. No credentials are shown.
    pub fn binding(&mut self) -> Result<ServerReflexive, ClientError> {
        let method = Method::BINDING;
        let request = self.write(method, None, |_| {});
        let answer = self.wire.exchange(&request, method, |_| true)?;
        let answer = parse(&answer, method)?;
        accept(&answer)?;
        let XorMappedAddress(reflexive) = required(&answer)?;
        Ok(ServerReflexive(reflexive))
    }

    /// Makes an allocation.
    pub fn allocate(&mut self, options: &AllocateOptions) -> Result<Allocated, ClientError> {
        let options = *options;
        let answer = self.transact(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::UDP);
            writer.optional(options.lifetime.map(Lifetime).as_ref());
            writer.optional(options.family.map(RequestedAddressFamily).as_ref());
            //= https://www.rfc-editor.org/rfc/rfc8656#section-18.11
            //# The attribute value of 0x02 (IPv6 address) is the only
            //# valid value in Allocate request.
            if options.additional_family {
                writer.attribute(&AdditionalAddressFamily(Family::V6));
            }
            writer.optional(options.even_port.as_ref());
            writer.optional(options.reservation.as_ref());
            writer.optional(options.dont_fragment.then_some(&DontFragment));
        })?;
        allocated(&parse(&answer, Method::ALLOCATE)?)
    }

    /// Keeps the allocation, or one family of it, for longer. Returns what the server granted; the
    /// server's default is asked for without `lifetime`.
    pub fn refresh(
        &mut self,
        lifetime: Option<Duration>,
        family: Option<Family>,
    ) -> Result<Duration, ClientError> {
        let answer = self.transact(Method::REFRESH, |writer| {
            writer.optional(lifetime.map(Lifetime).as_ref());
            writer.optional(family.map(RequestedAddressFamily).as_ref());
        })?;
        let Lifetime(granted) = required(&parse(&answer, Method::REFRESH)?)?;
        Ok(granted)
    }

    /// Gives the allocation back.
    pub fn release(&mut self) -> Result<(), ClientError> {
        match self.refresh(Some(Duration::ZERO), None) {
            Ok(_) => Ok(()),
            //= https://www.rfc-editor.org/rfc/rfc8656#section-8.3
            //# If the client receives a 437 (Allocation Mismatch) error response to
            //# a request to delete the allocation, then the allocation no longer
            //# exists and it should consider its request as having effectively
            //# succeeded.
            Err(error) if error.refusal_code() == Some(ErrorCode::AllocationMismatch.number()) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Permits the peers' addresses, all of them or none.
    pub fn create_permission(&mut self, peers: &[PeerAddr]) -> Result<(), ClientError> {
        self.transact(Method::CREATE_PERMISSION, |writer| {
            for peer in peers {
                writer.attribute(&XorPeerAddress(peer.0));
            }
        })?;
        Ok(())
    }

    /// Binds a channel to a peer, or keeps it bound; permits the peer's address as well.
    pub fn bind_channel(
        &mut self,
        number: ChannelNumber,
        peer: PeerAddr,
    ) -> Result<(), ClientError> {
        self.transact(Method::CHANNEL_BIND, |writer| {
            writer.attribute(&number);
            writer.attribute(&XorPeerAddress(peer.0));
        })?;
        Ok(())
    }

    /// Sends a packet to the peer of a channel.
    pub fn send_channel_data(
        &mut self,
        number: ChannelNumber,
        data: &[u8],
    ) -> Result<(), ClientError> {
        let len = data.len();
        let header = write_header(number, len).map_err(|_| ClientError::TooLong { len })?;
        let frame = [&header, data].concat();
        Ok(self.wire.send(&frame)?)
    }

    /// Sends a packet to a permitted peer in a Send indication.
    pub fn send_indication(
        &mut self,
        peer: PeerAddr,
        data: &[u8],
        dont_fragment: bool,
    ) -> Result<(), ClientError> {
        let mut indication = Vec::new();
        let id = fresh_id();
        let mut writer = MessageWriter::new(&mut indication, Class::Indication, Method::SEND, id);
        writer.attribute(&XorPeerAddress(peer.0));
        writer.optional(dont_fragment.then_some(&DontFragment));
        writer.attribute(&Data(data));
        if writer.overflowed() {
            return Err(ClientError::TooLong { len: data.len() });
        }
        Ok(self.wire.send(&indication)?)
    }

    /// The next relayed packet or ICMP error, or `None` when nothing came in time. Anything else
    /// that arrives is discarded.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Incoming>, ClientError> {
        let deadline = Deadline::after(timeout);
        while let Some(message) = self.wire.receive(&deadline)? {
            if let Some(incoming) = Incoming::read(&message) {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    /// Sends bytes of the caller's making as a request and returns the answer's, unjudged. Only the
    /// transaction ID must be in its place, as the answer is known by it.
    pub fn request(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ClientError> {
        let method = Message::parse(bytes).map_or(Method::BINDING, |message| message.method());
        self.wire.exchange(bytes, method, |_| true)
    }

    /// Sends a request with attributes of the caller's choice, takes up the server's challenge, and
    /// returns the success response. `write` is called once for each attempt.
    pub fn transact(
        &mut self,
        method: Method,
        write: impl Fn(&mut MessageWriter<'_>),
    ) -> Result<Vec<u8>, ClientError> {
        let mut challenges = 0;
        loop {
            let authentication = self.authentication.as_ref();
            let request = self.write(method, authentication, &write);
            let answer = self
                .wire
                .exchange(&request, method, |answer| is_believable(answer, authentication))?;
            let message = parse(&answer, method)?;
            let challenge = message.class() == Class::Error
                && self.is_worth_another_try(error_number(&message));
            if !challenge || challenges == CHALLENGES_MAX {
                accept(&message)?;
                return Ok(answer);
            }
            challenges += 1;
            self.take_up(&message)?;
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //# The client MUST NOT perform this retry if it is not
    //# changing the USERNAME, USERHASH, REALM, or its associated password
    //# from the previous attempt.
    fn is_worth_another_try(&self, error: Option<u16>) -> bool {
        match error.and_then(ErrorCode::from_number) {
            Some(ErrorCode::Unauthorized) => self.authentication.is_none(),
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
            //# If the response is an error response with an error code of 438 (Stale
            //# Nonce), the client MUST retry the request, using the new NONCE
            //# attribute supplied in the 438 (Stale Nonce) response.
            Some(ErrorCode::StaleNonce) => true,
            Some(_) | None => false,
        }
    }

    fn take_up(&mut self, challenge: &Message<'_>) -> Result<(), ClientError> {
        let Some(credentials) = &self.options.credentials else {
            let realm = challenge.read::<Realm<'_>>().ok().flatten();
            return Err(ClientError::CredentialsWanted {
                method: challenge.method(),
                realm: realm.map(|Realm(realm)| realm.to_owned()),
            });
        };
        let wanted = self.options.password_algorithm;
        let previous = self.authentication.as_ref();
        let authentication = Authentication::take_up(challenge, credentials, wanted, previous)?;
        self.authentication = Some(authentication);
        Ok(())
    }

    fn write(
        &self,
        method: Method,
        authentication: Option<&Authentication>,
        write: impl Fn(&mut MessageWriter<'_>),
    ) -> Vec<u8> {
        let mut request = Vec::new();
        let mut writer = MessageWriter::new(&mut request, Class::Request, method, fresh_id());
        writer.optional(self.options.software.as_deref().map(Software).as_ref());
        write(&mut writer);
        if let Some(authentication) = authentication {
            authentication.sign(&mut writer);
        }
        if self.options.fingerprint {
            writer.fingerprint();
        }
        request
    }
}

fn fresh_id() -> TransactionId {
    TransactionId::from_bytes(rand::random())
}

/// Whether an answer may be acted upon.
fn is_believable(answer: &Message<'_>, authentication: Option<&Authentication>) -> bool {
    // The server that refuses to authenticate us has no key to sign with, and what a false 401 or
    // 438 can do is have the request made again.
    let is_challenge = answer.class() == Class::Error
        && matches!(
            error_number(answer).and_then(ErrorCode::from_number),
            Some(ErrorCode::Unauthorized | ErrorCode::StaleNonce)
        );
    if is_challenge {
        return true;
    }
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //# For all other responses, if the NONCE attribute starts with the
    //# "nonce cookie" with the STUN Security Feature "Password algorithms"
    //# bit set to 1 but PASSWORD-ALGORITHMS is not present, the response
    //# MUST be ignored.
    if is_bid_down(answer) {
        return false;
    }
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //# If the request was sent over an unreliable transport, the response
    //# MUST be discarded, as if it had never been received.
    authentication.is_none_or(|authentication| authentication.is_authentic(answer))
}

/// Reads an answer once more: it was parsed to be recognised, and only its bytes were kept.
fn parse(answer: &[u8], method: Method) -> Result<Message<'_>, ClientError> {
    Message::parse(answer)
        .map_err(|error| ClientError::BadAnswer { method, problem: AnswerProblem::NotStun(error) })
}

/// A success response that is understood; everything else is an error.
fn accept(answer: &Message<'_>) -> Result<(), ClientError> {
    let method = answer.method();
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.3
    //# If the success response contains unknown comprehension-required
    //# attributes, the response is discarded and the transaction is
    //# considered to have failed.
    let unknown = answer.unknown_required(KNOWN);
    if !unknown.is_empty() {
        let problem = AnswerProblem::Unknown(unknown.to_vec());
        return Err(ClientError::BadAnswer { method, problem });
    }
    if answer.class() == Class::Success {
        return Ok(());
    }
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.4
    //# If the error response contains unknown comprehension-required
    //# attributes, or if the error response does not contain an ERROR-CODE
    //# attribute, then the transaction is simply considered to have failed.
    let Some(code) = error_number(answer) else {
        let problem = AnswerProblem::Missing(AttributeType::ERROR_CODE);
        return Err(ClientError::BadAnswer { method, problem });
    };
    Err(ClientError::Refused(Box::new(refusal(answer, code))))
}

fn refusal(answer: &Message<'_>, code: u16) -> Refusal {
    let said = answer.read::<ErrorCodeAttribute<'_>>().ok().flatten();
    let said = said.map(|error| error.reason).filter(|reason| !reason.is_empty());
    let registered = ErrorCode::from_number(code).map(ErrorCode::reason);
    let unknown = answer.read::<UnknownAttributes>().ok().flatten();
    let alternate = answer.read::<AlternateServer>().ok().flatten();
    Refusal {
        method: answer.method(),
        code,
        reason: said.or(registered).unwrap_or("no reason given").to_owned(),
        unknown: unknown.map(|UnknownAttributes(list)| list.to_vec()).unwrap_or_default(),
        alternate: alternate.map(|AlternateServer(address)| address),
    }
}

fn allocated(answer: &Message<'_>) -> Result<Allocated, ClientError> {
    let method = Method::ALLOCATE;
    let bad = |error| ClientError::BadAnswer { method, problem: AnswerProblem::Attribute(error) };
    let XorRelayedAddress(relayed) = required(answer)?;
    let XorMappedAddress(reflexive) = required(answer)?;
    let Lifetime(lifetime) = required(answer)?;
    let additional = answer.read_all::<XorRelayedAddress>().nth(1).transpose().map_err(bad)?;
    let address_error = answer.read::<AddressErrorCode<'_>>().map_err(bad)?;
    Ok(Allocated {
        relayed: RelayedAddr(relayed),
        additional: additional.map(|XorRelayedAddress(address)| RelayedAddr(address)),
        address_error: address_error.map(|error| (error.family, error.code)),
        reflexive: ServerReflexive(reflexive),
        lifetime,
        reservation: answer.read().map_err(bad)?,
    })
}

fn required<'a, A: Attribute<'a>>(answer: &Message<'a>) -> Result<A, ClientError> {
    let method = answer.method();
    let problem = match answer.read() {
        Ok(Some(attribute)) => return Ok(attribute),
        Ok(None) => AnswerProblem::Missing(A::TYPE),
        Err(error) => AnswerProblem::Attribute(error),
    };
    Err(ClientError::BadAnswer { method, problem })
}

/// What answers may have that must be understood.
const KNOWN: &[AttributeType] = &[
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::XOR_RELAYED_ADDRESS,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::DONT_FRAGMENT,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::RESERVATION_TOKEN,
];

/// A server that finds every fresh nonce stale would otherwise keep us for ever.
const CHALLENGES_MAX: usize = 3;
