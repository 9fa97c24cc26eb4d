//! What clients write, and how the answers read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use sterna_proto::address::Family;
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AddressErrorCode, Attribute, AttributeType, Class, ConnectionId, Data, ErrorCodeAttribute,
    Icmp, Kind, Lifetime, Message, MessageWriter, Method, Nonce, Realm, ReservationToken,
    TransactionId, Username, XorMappedAddress, XorPeerAddress, XorRelayedAddress, peek_kind,
};

use super::REALM;

/// Who a client says it is, and the key that proves it.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) key: Key,
}

impl User {
    pub(crate) fn new(name: &'static str, password: &str) -> User {
        let key = Key::long_term(PasswordAlgorithm::Md5, name, REALM, password);
        User { name, key: key.expect("a usable password") }
    }

    /// Somebody who knows the password that [`super::PASSWORDS`] has for the name.
    pub(crate) fn named(name: &'static str) -> User {
        let known = super::PASSWORDS.iter().find(|(known, _)| *known == name);
        User::new(name, known.expect("the server knows the user").1)
    }
}

/// A request that nobody signs.
pub(crate) fn request(method: Method, fill: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
    message(Class::Request, method, fill)
}

/// A message of any class.
pub(crate) fn message(
    class: Class,
    method: Method,
    fill: impl FnOnce(&mut MessageWriter<'_>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    fill(&mut MessageWriter::new(&mut bytes, class, method, transaction_id()));
    bytes
}

/// A request with credentials and integrity.
pub(crate) fn signed(
    user: &User,
    nonce: &str,
    method: Method,
    fill: impl FnOnce(&mut MessageWriter<'_>),
) -> Vec<u8> {
    request(method, |writer| {
        fill(writer);
        writer.attribute(&Username(user.name)).attribute(&Realm(REALM)).attribute(&Nonce(nonce));
        writer.integrity(IntegrityAlgorithm::Sha1, &user.key);
    })
}

/// A Send indication.
pub(crate) fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    message(Class::Indication, Method::SEND, |writer| {
        writer.attribute(&XorPeerAddress(peer)).attribute(&Data(data));
    })
}

/// A ChannelData message as UDP carries it, without padding.
pub(crate) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("it fits into a datagram");
    [&number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

/// The value of CHANNEL-NUMBER, whatever the number.
pub(crate) fn channel_number(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [high, low, 0, 0]
}

fn transaction_id() -> TransactionId {
    let mut bytes = *b"play\0\0\0\0\0\0\0\0";
    bytes[4..].copy_from_slice(&TRANSACTIONS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    TransactionId::from_bytes(bytes)
}

static TRANSACTIONS: AtomicU64 = AtomicU64::new(1);

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    /// A success.
    pub(crate) fn granted(self) -> Answer {
        assert_eq!(0, self.code(), "refused");
        self
    }

    /// An error with this code.
    pub(crate) fn refused(self, code: u16) -> Answer {
        assert_eq!(code, self.code(), "the error code");
        self
    }

    /// The error code; 0 for success.
    pub(crate) fn code(&self) -> u16 {
        match self.message().class() {
            Class::Success => 0,
            Class::Error => {
                let error: ErrorCodeAttribute<'_> = self.read().expect("an error has a code");
                error.code.number()
            }
            class => panic!("{class:?} is no answer"),
        }
    }

    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("the server sends whole messages")
    }

    pub(crate) fn read<'a, A: Attribute<'a>>(&'a self) -> Option<A> {
        self.message().read().expect("the server's attributes are well-formed")
    }

    pub(crate) fn has(&self, kind: AttributeType) -> bool {
        self.message().has(kind)
    }

    /// Whether it carries integrity, which then has to be this user's.
    pub(crate) fn is_signed_by(&self, user: &User) -> bool {
        let message = self.message();
        let signed = message.integrity_algorithm().is_some();
        assert!(!signed || message.verify_integrity(&user.key).is_ok(), "somebody else's key");
        signed
    }

    /// The one relayed transport address.
    pub(crate) fn relayed(&self) -> SocketAddr {
        let all = self.all_relayed();
        assert_eq!(1, all.len(), "one relayed transport address: {all:?}");
        all[0]
    }

    pub(crate) fn all_relayed(&self) -> Vec<SocketAddr> {
        let message = self.message();
        let all = message.read_all::<XorRelayedAddress>();
        all.map(|relayed| relayed.expect("it is well-formed").0).collect()
    }

    pub(crate) fn mapped(&self) -> SocketAddr {
        self.read::<XorMappedAddress>().expect("XOR-MAPPED-ADDRESS is there").0
    }

    /// LIFETIME in seconds.
    pub(crate) fn lifetime(&self) -> u64 {
        self.read::<Lifetime>().expect("LIFETIME is there").0.as_secs()
    }

    pub(crate) fn token(&self) -> ReservationToken {
        self.read().expect("RESERVATION-TOKEN is there")
    }

    pub(crate) fn nonce(&self) -> String {
        self.read::<Nonce<'_>>().expect("NONCE is there").0.to_owned()
    }

    /// What ADDRESS-ERROR-CODE says.
    pub(crate) fn missing(&self) -> Option<(Family, u16)> {
        self.read::<AddressErrorCode<'_>>().map(|missing| (missing.family, missing.code.number()))
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
            assert_eq!(channel_data(u16::from_be_bytes([header[0], header[1]]), data), bytes);
            return Heard::Channel(u16::from_be_bytes([header[0], header[1]]), data.to_vec());
        }
        let answer = Answer(bytes);
        if answer.message().class() != Class::Indication {
            return Heard::Answer(answer);
        }
        if answer.message().method() == Method::CONNECTION_ATTEMPT {
            let peer = answer.read::<XorPeerAddress>().expect("it names the peer").0;
            return Heard::Attempt(peer, answer.read().expect("it names the connection"));
        }
        assert_eq!(Method::DATA, answer.message().method());
        let peer = answer.read::<XorPeerAddress>().expect("a Data indication names the peer").0;
        match (answer.read::<Icmp>(), answer.read::<Data<'_>>()) {
            (Some(icmp), None) => Heard::Icmp(peer, icmp),
            (None, Some(data)) => Heard::Data(peer, data.0.to_vec()),
            (icmp, data) => panic!("neither data nor ICMP alone: {icmp:?} {data:?}"),
        }
    }
}
