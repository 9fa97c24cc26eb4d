//! What a client gets to read.

use std::net::SocketAddr;
use std::time::Duration;

use sterna_proto::credentials::Key;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    Attribute, AttributeType, Class, ConnectionId, Data, ErrorCodeAttribute, Icmp, Kind, Lifetime,
    Message, Method, Nonce, ReservationToken, TransactionId, XorMappedAddress, XorPeerAddress,
    XorRelayedAddress, peek_kind,
};

/// One answer of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("the server sends whole messages")
    }

    /// The error code; 0 for success.
    pub(crate) fn code(&self) -> u16 {
        let message = self.message();
        match message.class() {
            Class::Success => 0,
            Class::Error => {
                let error = message.read::<ErrorCodeAttribute<'_>>();
                let error = error.expect("ERROR-CODE is well-formed").expect("an error has a code");
                error.code.number()
            }
            class => panic!("{class:?} is no answer"),
        }
    }

    pub(crate) fn transaction_id(&self) -> TransactionId {
        self.message().transaction_id()
    }

    /// The types of its attributes in their order.
    pub(crate) fn kinds(&self) -> Vec<AttributeType> {
        self.message().attributes().map(|attribute| attribute.kind).collect()
    }

    pub(crate) fn has(&self, kind: AttributeType) -> bool {
        self.message().has(kind)
    }

    pub(crate) fn read<'a, A: Attribute<'a>>(&'a self) -> Option<A> {
        self.message().read::<A>().expect("the server's attributes are well-formed")
    }

    /// The integrity attribute that it is proved by with `key`, if it has one.
    pub(crate) fn proved_by(&self, key: &Key) -> Option<IntegrityAlgorithm> {
        let message = self.message();
        message.integrity_algorithm()?;
        Some(message.verify_integrity(key).expect("the integrity is the client's own"))
    }

    pub(crate) fn nonce(&self) -> String {
        self.read::<Nonce<'_>>().expect("a challenge has a nonce").0.to_owned()
    }

    pub(crate) fn relayed(&self) -> Vec<SocketAddr> {
        let all = self.message();
        let all = all.read_all::<XorRelayedAddress>();
        all.map(|relayed| relayed.expect("XOR-RELAYED-ADDRESS is well-formed").0).collect()
    }

    pub(crate) fn mapped(&self) -> SocketAddr {
        self.read::<XorMappedAddress>().expect("there is an XOR-MAPPED-ADDRESS").0
    }

    /// LIFETIME in seconds.
    pub(crate) fn lifetime(&self) -> u64 {
        let lifetime: Duration = self.read::<Lifetime>().expect("there is a LIFETIME").0;
        lifetime.as_secs()
    }

    pub(crate) fn token(&self) -> ReservationToken {
        self.read().expect("there is a RESERVATION-TOKEN")
    }

    /// The value of the attribute as it stands there.
    pub(crate) fn raw(&self, kind: AttributeType) -> Vec<u8> {
        self.message().raw(kind).expect("the attribute is there").to_vec()
    }
}

/// One datagram for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// ChannelData: the number and the data.
    Channel(u16, Vec<u8>),
    /// A Data indication with data from a peer.
    Data(SocketAddr, Vec<u8>),
    /// A Data indication with an ICMP message about a datagram to a peer.
    Icmp(SocketAddr, Icmp),
    /// A ConnectionAttempt indication.
    Attempt(SocketAddr, ConnectionId),
    /// The answer to a request.
    Answer(Answer),
}

impl Heard {
    pub(crate) fn read(bytes: Vec<u8>) -> Heard {
        if peek_kind(&bytes) == Kind::ChannelData {
            let (header, data) = bytes.split_at(4);
            let number = u16::from_be_bytes([header[0], header[1]]);
            let length = u16::from_be_bytes([header[2], header[3]]);
            assert_eq!(usize::from(length), data.len(), "ChannelData over UDP has no padding");
            return Heard::Channel(number, data.to_vec());
        }
        let message = Message::parse(&bytes).expect("the server sends whole messages");
        assert_padding_is_zero(&bytes);
        if message.class() != Class::Indication {
            return Heard::Answer(Answer(bytes));
        }
        if message.method() == Method::CONNECTION_ATTEMPT {
            return attempt(&message);
        }
        assert_eq!(Method::DATA, message.method());
        let peer = message.read::<XorPeerAddress>().expect("it is well-formed");
        let peer = peer.expect("a Data indication names the peer").0;
        let kinds: Vec<AttributeType> = message.attributes().map(|a| a.kind).collect();
        match message.read::<Icmp>().expect("it is well-formed") {
            Some(icmp) => {
                assert_eq!([AttributeType::XOR_PEER_ADDRESS, AttributeType::ICMP], *kinds);
                Heard::Icmp(peer, icmp)
            }
            None => {
                assert_eq!([AttributeType::XOR_PEER_ADDRESS, AttributeType::DATA], *kinds);
                let data = message.read::<Data<'_>>().expect("it is well-formed");
                Heard::Data(peer, data.expect("checked above").0.to_vec())
            }
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc6062#section-5.3
//= type=test
//# The indication MUST include an
//# XOR-PEER-ADDRESS attribute containing the peer's transport address,
//# as well as a CONNECTION-ID attribute uniquely identifying the peer
//# data connection.
fn attempt(message: &Message<'_>) -> Heard {
    let kinds: Vec<AttributeType> = message.attributes().map(|a| a.kind).collect();
    assert_eq!([AttributeType::XOR_PEER_ADDRESS, AttributeType::CONNECTION_ID], *kinds);
    let peer = message.read::<XorPeerAddress>().expect("it is well-formed").expect("it is there");
    let id = message.read::<ConnectionId>().expect("it is well-formed").expect("it is there");
    Heard::Attempt(peer.0, id)
}

/// No byte of what a buffer held before may show between the attributes.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14
//= type=test
//# The
//# padding bits MUST be set to zero on sending and MUST be ignored by
//# the receiver.
fn assert_padding_is_zero(message: &[u8]) {
    let mut rest = &message[20..];
    while let Some((&[_, _, high, low], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let padding = &behind[length..length.next_multiple_of(4)];
        assert!(padding.iter().all(|byte| *byte == 0), "padding of {padding:?}");
        rest = &behind[length.next_multiple_of(4)..];
    }
}
