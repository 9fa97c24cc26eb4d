//! Clients and peers: what a script lets them do, and what it says they hear.

use std::net::SocketAddr;

use sterna_actors::transport::HeaderFields;
use sterna_proto::address::{FiveTuple, TransportProtocol};
use sterna_proto::stun::{
    AttributeType, ConnectionId, Icmp, Lifetime, MessageWriter, Method, RequestedTransport,
    XorPeerAddress,
};

use super::messages::{channel_data, channel_number, request, send_indication, signed};
use super::network::Packet;
use super::{Answer, Heard, Network, User, secs, settle};

/// A client of one 5-tuple.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) network: Network,
    pub(crate) address: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) user: User,
    pub(crate) nonce: String,
}

impl Client {
    pub(crate) fn five_tuple(&self) -> FiveTuple {
        let protocol = TransportProtocol::Udp;
        FiveTuple { client: self.address, server: self.server, protocol }
    }
}

// What it asks for. Each waits until everybody has done what there is to do.
impl Client {
    /// Gets a nonce, which proves its address from then on.
    pub(crate) async fn knocks(&mut self) {
        let challenge = self.exchange(&request(Method::ALLOCATE, |_| {})).await.refused(401);
        self.nonce = challenge.nonce();
    }

    /// A request with its credentials, not yet sent.
    pub(crate) fn signed(
        &self,
        method: Method,
        fill: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Vec<u8> {
        signed(&self.user, &self.nonce, method, fill)
    }

    /// An Allocate request, not yet sent.
    pub(crate) fn allocate_request(&self) -> Vec<u8> {
        self.signed(Method::ALLOCATE, |writer| _ = writer.attribute(&RequestedTransport::UDP))
    }

    /// A Refresh request, not yet sent.
    pub(crate) fn refresh_request(&self, seconds: u64) -> Vec<u8> {
        self.signed(Method::REFRESH, |writer| _ = writer.attribute(&Lifetime(secs(seconds))))
    }

    /// A ChannelBind request, not yet sent.
    pub(crate) fn bind_request(&self, number: u16, peer: &Peer) -> Vec<u8> {
        self.signed(Method::CHANNEL_BIND, |writer| write_binding(number, peer, writer))
    }

    /// Sends a request; the next thing it hears has to be the answer.
    #[must_use]
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Answer {
        self.sends(bytes).await;
        let answer = self.hears_answer();
        assert_eq!(bytes[8..20], answer.0[8..20], "the answer to another request");
        answer
    }

    /// Asks, with a fresh nonce if the server wants one.
    #[must_use]
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        fill: impl Fn(&mut MessageWriter<'_>),
    ) -> Answer {
        let answer = self.exchange(&self.signed(method, &fill)).await;
        if answer.code() != 438 {
            return answer;
        }
        self.nonce = answer.nonce();
        self.exchange(&self.signed(method, &fill)).await
    }

    #[must_use]
    pub(crate) async fn allocate(&mut self) -> Answer {
        self.allocate_with(|_| {}).await
    }

    /// Allocates for so many seconds, if the server lets it.
    #[must_use]
    pub(crate) async fn allocate_for(&mut self, seconds: u64) -> Answer {
        self.allocate_with(|writer| _ = writer.attribute(&Lifetime(secs(seconds)))).await
    }

    /// Allocates with more than REQUESTED-TRANSPORT in the request.
    #[must_use]
    pub(crate) async fn allocate_with(&mut self, fill: impl Fn(&mut MessageWriter<'_>)) -> Answer {
        self.ask(Method::ALLOCATE, |writer| fill(writer.attribute(&RequestedTransport::UDP))).await
    }

    /// Allocates a TCP relay.
    #[must_use]
    pub(crate) async fn allocate_tcp(&mut self) -> Answer {
        self.ask(Method::ALLOCATE, |writer| _ = writer.attribute(&RequestedTransport::TCP)).await
    }

    /// A Connect request, not yet sent.
    pub(crate) fn connect_request(&self, peer: &Peer) -> Vec<u8> {
        self.signed(Method::CONNECT, |writer| _ = writer.attribute(&XorPeerAddress(peer.0)))
    }

    #[must_use]
    pub(crate) async fn connect(&mut self, peer: &Peer) -> Answer {
        let fill = |writer: &mut MessageWriter<'_>| _ = writer.attribute(&XorPeerAddress(peer.0));
        self.ask(Method::CONNECT, fill).await
    }

    #[must_use]
    pub(crate) async fn bind_connection(&mut self, id: ConnectionId) -> Answer {
        self.ask(Method::CONNECTION_BIND, |writer| _ = writer.attribute(&id)).await
    }

    /// It hears that the peer has connected.
    pub(crate) fn hears_attempt(&self, peer: &Peer) -> ConnectionId {
        match self.next() {
            Some(Heard::Attempt(from, id)) if from == peer.0 => id,
            other => panic!("no attempt but {other:?}"),
        }
    }

    #[must_use]
    pub(crate) async fn refresh(&mut self, seconds: u64) -> Answer {
        self.ask(Method::REFRESH, |writer| _ = writer.attribute(&Lifetime(secs(seconds)))).await
    }

    #[must_use]
    pub(crate) async fn permit(&mut self, peer: &Peer) -> Answer {
        let fill = |writer: &mut MessageWriter<'_>| _ = writer.attribute(&XorPeerAddress(peer.0));
        self.ask(Method::CREATE_PERMISSION, fill).await
    }

    #[must_use]
    pub(crate) async fn bind(&mut self, number: u16, peer: &Peer) -> Answer {
        self.ask(Method::CHANNEL_BIND, |writer| write_binding(number, peer, writer)).await
    }
}

fn write_binding(number: u16, peer: &Peer, writer: &mut MessageWriter<'_>) {
    writer.raw(AttributeType::CHANNEL_NUMBER, &channel_number(number));
    writer.attribute(&XorPeerAddress(peer.0));
}

// What it sends and hears.
impl Client {
    /// Sends, and leaves it to the script when anybody acts on it.
    pub(crate) fn queues(&self, bytes: &[u8]) {
        self.network.send(self.address, self.server, bytes);
    }

    pub(crate) async fn sends(&self, bytes: &[u8]) {
        self.queues(bytes);
        settle().await;
    }

    pub(crate) async fn sends_with(&self, fields: HeaderFields, bytes: &[u8]) {
        self.network.send_with(self.address, self.server, bytes, fields);
        settle().await;
    }

    /// Sends data on a channel.
    pub(crate) async fn says(&self, number: u16, data: &[u8]) {
        self.sends(&channel_data(number, data)).await;
    }

    /// Sends data in a Send indication.
    pub(crate) async fn sends_to(&self, peer: &Peer, data: &[u8]) {
        self.sends(&send_indication(peer.0, data)).await;
    }

    pub(crate) fn hears(&self, number: u16, data: &[u8]) {
        assert_eq!(Some(Heard::Channel(number, data.to_vec())), self.next());
    }

    pub(crate) fn hears_data(&self, peer: &Peer, data: &[u8]) {
        assert_eq!(Some(Heard::Data(peer.0, data.to_vec())), self.next());
    }

    pub(crate) fn hears_icmp(&self, peer: &Peer, icmp: Icmp) {
        assert_eq!(Some(Heard::Icmp(peer.0, icmp)), self.next());
    }

    #[must_use]
    pub(crate) fn hears_answer(&self) -> Answer {
        match self.next() {
            Some(Heard::Answer(answer)) => {
                let signed = answer.is_signed_by(&self.user);
                assert!(signed || matches!(answer.code(), 400 | 401 | 438 | 500), "who says this?");
                answer
            }
            other => panic!("no answer but {other:?}"),
        }
    }

    /// An answer that nobody could sign, since nobody knows the key.
    #[must_use]
    pub(crate) fn hears_unsigned_answer(&self) -> Answer {
        match self.next() {
            Some(Heard::Answer(answer)) => {
                assert_eq!(None, answer.message().integrity_algorithm());
                answer
            }
            other => panic!("no answer but {other:?}"),
        }
    }

    pub(crate) fn hears_nothing(&self) {
        assert_eq!(None, self.next());
    }

    pub(crate) fn next(&self) -> Option<Heard> {
        self.network.heard_by(self.address).map(|packet| {
            assert_eq!(self.server, packet.from, "answers come from where the client asked");
            Heard::read(packet.bytes)
        })
    }
}

/// A peer: an address, and the network it is in.
#[derive(Clone)]
pub(crate) struct Peer(pub(crate) SocketAddr, pub(crate) Network);

impl Peer {
    pub(crate) fn queues(&self, relayed: SocketAddr, data: &[u8]) {
        self.1.send(self.0, relayed, data);
    }

    pub(crate) async fn sends(&self, relayed: SocketAddr, data: &[u8]) {
        self.queues(relayed, data);
        settle().await;
    }

    pub(crate) fn hears(&self, relayed: SocketAddr, data: &[u8]) {
        let heard = self.next().map(|packet| (packet.from, packet.bytes));
        assert_eq!(Some((relayed, data.to_vec())), heard);
    }

    pub(crate) fn hears_nothing(&self) {
        assert_eq!(None, self.next());
    }

    pub(crate) fn next(&self) -> Option<Packet> {
        self.1.heard_by(self.0)
    }
}

/// A client with an allocation and a channel to a peer, in the middle of a call.
pub(crate) struct Call {
    pub(crate) client: Client,
    pub(crate) peer: Peer,
    pub(crate) relayed: SocketAddr,
}

impl Call {
    pub(crate) const CHANNEL: u16 = 0x4001;

    pub(crate) async fn between(mut client: Client, peer: Peer) -> Call {
        let relayed = client.allocate().await.granted().relayed();
        client.bind(Call::CHANNEL, &peer).await.granted();
        Call { client, peer, relayed }
    }

    /// Data flows both ways, unchanged and unrepeated.
    pub(crate) async fn goes_on(&self) {
        self.speaks(b"from here to there").await;
        self.client.says(Call::CHANNEL, b"out").await;
        self.peer.hears(self.relayed, b"out");
        self.peer.sends(self.relayed, b"back").await;
        self.client.hears(Call::CHANNEL, b"back");
        self.client.hears_nothing();
        self.peer.hears_nothing();
    }

    /// Both speak at the same moment.
    pub(crate) async fn speaks(&self, data: &[u8]) {
        self.queues(data);
        settle().await;
        self.is_heard(data);
    }

    /// Both speak, and it is left to the script when anybody acts on it.
    pub(crate) fn queues(&self, data: &[u8]) {
        self.client.queues(&channel_data(Call::CHANNEL, data));
        self.peer.queues(self.relayed, data);
    }

    /// Both hear it.
    pub(crate) fn is_heard(&self, data: &[u8]) {
        self.peer.hears(self.relayed, data);
        self.client.hears(Call::CHANNEL, data);
    }
}
