//! A client that says exactly what the test tells it to.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};

use sterna_proto::credentials::{Key, PasswordAlgorithm, user_hash};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AttributeType, Class, Data, MessageWriter, Method, Nonce, PasswordAlgorithmAttribute, Realm,
    RequestedTransport, TransactionId, UserHash, Username, XorPeerAddress,
};

use super::{Answer, Heard, PATIENCE, REALM, Random, V6, at, own_host};

/// Who a client says it is, and how it proves it.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
    /// Named by PASSWORD-ALGORITHM; `None` is a client of RFC 5389.
    pub(crate) algorithm: Option<PasswordAlgorithm>,
    /// The integrity attribute of its requests.
    pub(crate) integrity: IntegrityAlgorithm,
    /// USERHASH in place of USERNAME.
    pub(crate) hashed: bool,
}

impl User {
    /// A client of RFC 5389, which most are.
    pub(crate) fn named(name: &str, password: &str) -> User {
        User {
            name: name.to_owned(),
            password: password.to_owned(),
            algorithm: None,
            integrity: IntegrityAlgorithm::Sha1,
            hashed: false,
        }
    }

    pub(crate) fn alice() -> User {
        User::named("alice", "sesame")
    }

    pub(crate) fn bob() -> User {
        User::named("bob", "tern")
    }

    pub(crate) fn key(&self) -> Key {
        let algorithm = self.algorithm.unwrap_or(PasswordAlgorithm::Md5);
        Key::long_term(algorithm, &self.name, REALM, &self.password).expect("a usable password")
    }

    /// Writes what says who it is, all but the integrity attribute.
    pub(crate) fn write(&self, nonce: &str, writer: &mut MessageWriter<'_>) {
        if self.hashed {
            let hash = user_hash(&self.name, REALM).expect("a usable name");
            writer.attribute(&UserHash(hash));
        } else {
            writer.attribute(&Username(&self.name));
        }
        writer.attribute(&Realm(REALM)).attribute(&Nonce(nonce));
        if let Some(algorithm) = self.algorithm {
            writer.raw(AttributeType::PASSWORD_ALGORITHMS, OFFERED);
            writer.attribute(&PasswordAlgorithmAttribute::from(algorithm));
        }
    }
}

/// An attribute by its type and the bytes of its value.
pub(crate) type Raw = (AttributeType, &'static [u8]);

/// What every Allocate request has.
pub(crate) const UDP: Raw = (AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);

/// Writes attributes as they are given.
pub(crate) fn raws(attributes: &[Raw]) -> impl FnOnce(&mut MessageWriter<'_>) {
    move |writer| attributes.iter().for_each(|(kind, value)| _ = writer.raw(*kind, value))
}

/// One request that nobody signs.
pub(crate) fn request(method: Method, fill: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    fill(&mut MessageWriter::new(&mut bytes, Class::Request, method, transaction_id()));
    bytes
}

/// A transaction ID that no other transaction of this process has, nor one with a few bits altered.
pub(crate) fn transaction_id() -> TransactionId {
    let number = Random::seeded(TRANSACTIONS.fetch_add(1, Ordering::Relaxed)).number();
    let mut bytes = *b"wire........";
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    TransactionId::from_bytes(bytes)
}

/// What carries the messages of a client.
pub(crate) trait Carrier {
    /// The client's transport address.
    fn address(&self) -> SocketAddr;

    /// Sends one message.
    fn send(&self, message: &[u8]);

    /// The next message, without what a stream pads it with.
    fn receive(&self) -> Vec<u8>;
}

impl Carrier for UdpSocket {
    fn address(&self) -> SocketAddr {
        self.local_addr().expect("the socket is bound")
    }

    fn send(&self, message: &[u8]) {
        self.send(message).expect("loopback takes it");
    }

    fn receive(&self) -> Vec<u8> {
        let mut room = vec![0; 65_536];
        let length = self.recv(&mut room).expect("something arrives");
        room.truncate(length);
        room
    }
}

/// See the head of this file.
pub(crate) struct Client<C = UdpSocket> {
    pub(crate) socket: C,
    pub(crate) user: User,
    pub(crate) nonce: String,
}

impl Client {
    /// Alice, so far without a nonce, from a host of her own where the family has several: a port
    /// that an earlier client has left would make her that client to the server.
    pub(crate) fn new(server: SocketAddr) -> Client {
        Client::from_ip(if server.is_ipv4() { own_host() } else { V6 }, server)
    }

    pub(crate) fn from_ip(ip: IpAddr, server: SocketAddr) -> Client {
        Client::from(at(ip, 0), server)
    }

    pub(crate) fn from(address: SocketAddr, server: SocketAddr) -> Client {
        let socket = UdpSocket::bind(address).expect("the port is free");
        socket.connect(server).expect("the server is within reach");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Client::over(socket)
    }
}

impl<C: Carrier> Client<C> {
    /// Alice, so far without a nonce.
    pub(crate) fn over(socket: C) -> Client<C> {
        Client { socket, user: User::alice(), nonce: String::new() }
    }

    pub(crate) fn is(mut self, user: User) -> Client<C> {
        self.user = user;
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.address()
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        Carrier::send(&self.socket, bytes);
    }

    /// The next datagram, or message of a stream.
    pub(crate) fn receive(&self) -> Vec<u8> {
        self.socket.receive()
    }

    pub(crate) fn hear(&self) -> Heard {
        Heard::read(self.receive())
    }

    /// Sends a request; the next datagram has to be its answer.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Answer {
        self.send(bytes);
        self.answer_to(bytes)
    }

    /// The next datagram, which has to be the answer to this request.
    pub(crate) fn answer_to(&self, bytes: &[u8]) -> Answer {
        let Heard::Answer(answer) = self.hear() else { panic!("the next thing is no answer") };
        let id: [u8; 12] = bytes[8..20].try_into().expect("12 bytes");
        assert_eq!(TransactionId::from_bytes(id), answer.transaction_id(), "another answer");
        answer
    }

    /// Gets a nonce, unless it has one.
    pub(crate) fn knock(&mut self) {
        if self.nonce.is_empty() {
            self.nonce = self.exchange(&request(Method::REFRESH, |_| {})).nonce();
        }
    }

    /// A request with credentials and integrity.
    pub(crate) fn signed(
        &mut self,
        method: Method,
        fill: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Vec<u8> {
        self.knock();
        request(method, |writer| {
            fill(writer);
            self.sign(writer);
        })
    }

    /// Writes credentials and integrity behind the other attributes.
    pub(crate) fn sign(&self, writer: &mut MessageWriter<'_>) {
        self.user.write(&self.nonce, writer);
        writer.integrity(self.user.integrity, &self.user.key());
    }

    /// Sends a request with credentials; the next datagram has to be its answer.
    pub(crate) fn ask(
        &mut self,
        method: Method,
        fill: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Answer {
        let bytes = self.signed(method, fill);
        self.exchange(&bytes)
    }

    /// The same, and the answer has to be a success.
    pub(crate) fn get(
        &mut self,
        method: Method,
        fill: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Answer {
        let answer = self.ask(method, fill);
        assert_eq!(0, answer.code(), "{method} succeeds");
        answer
    }

    /// Makes an allocation; the relayed transport address.
    pub(crate) fn allocate(&mut self) -> SocketAddr {
        self.allocate_with(|_| {}).relayed()[0]
    }

    /// Makes an allocation with more than REQUESTED-TRANSPORT in the request.
    pub(crate) fn allocate_with(&mut self, fill: impl FnOnce(&mut MessageWriter<'_>)) -> Answer {
        self.get(Method::ALLOCATE, |writer| {
            fill(writer.attribute(&RequestedTransport::UDP));
        })
    }

    /// Installs permissions; the error code, 0 for success.
    pub(crate) fn permit(&mut self, peers: &[SocketAddr]) -> u16 {
        let fill = |writer: &mut MessageWriter<'_>| {
            peers.iter().for_each(|&peer| _ = writer.attribute(&XorPeerAddress(peer)));
        };
        self.ask(Method::CREATE_PERMISSION, fill).code()
    }

    /// Binds a channel; the error code, 0 for success.
    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) -> u16 {
        let [high, low] = number.to_be_bytes();
        self.ask(Method::CHANNEL_BIND, |writer| {
            writer.raw(AttributeType::CHANNEL_NUMBER, &[high, low, 0, 0]);
            writer.attribute(&XorPeerAddress(peer));
        })
        .code()
    }

    /// Sends data on a channel.
    pub(crate) fn say(&self, number: u16, data: &[u8]) {
        self.send(&channel_data(number, data));
    }

    /// Sends data by a Send indication.
    pub(crate) fn indicate(&self, peer: SocketAddr, data: &[u8]) {
        self.indicate_with(|writer| {
            writer.attribute(&XorPeerAddress(peer)).attribute(&Data(data));
        });
    }

    pub(crate) fn indicate_with(&self, fill: impl FnOnce(&mut MessageWriter<'_>)) {
        let mut bytes = Vec::new();
        let id = transaction_id();
        fill(&mut MessageWriter::new(&mut bytes, Class::Indication, Method::SEND, id));
        self.send(&bytes);
    }

    /// Shows that all earlier requests and messages have been answered as far as they ever are: the
    /// next datagram is the answer to a request that its session, or the lack of one, answers after
    /// them.
    pub(crate) fn hears_nothing(&mut self) {
        let answer = self.ask(Method::REFRESH, |_| {});
        assert!(matches!(answer.code(), 0 | 437 | 438), "an answer of {}", answer.code());
    }
}

/// ChannelData as RFC 8656 §12.4 draws it.
pub(crate) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("it fits one message");
    let mut bytes = [number.to_be_bytes(), length.to_be_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes
}

/// SHA-256 and MD5, in the order in which the server lists them.
const OFFERED: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];

static TRANSACTIONS: AtomicU64 = AtomicU64::new(1);
