//! What a server sends unasked: relayed data, and news of failed deliveries.

use sterna_proto::address::PeerAddr;
use sterna_proto::channel_data::{ChannelData, ChannelNumber};
use sterna_proto::stun::{Class, Data, Icmp, Kind, Message, Method, XorPeerAddress, peek_kind};

/// Something that arrived at the client's socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incoming {
    /// A peer's packet by way of a channel.
    ChannelData {
        /// The channel bound to the peer.
        number: ChannelNumber,
        /// What the peer sent.
        data: Vec<u8>,
    },
    /// A peer's packet in a Data indication.
    Data {
        /// Who sent it.
        peer: PeerAddr,
        /// What the peer sent.
        data: Vec<u8>,
    },
    /// An ICMP error on the way to a peer.
    Icmp {
        /// The peer that was not reached.
        peer: PeerAddr,
        /// What the router or the peer's host said.
        icmp: Icmp,
    },
}

impl Incoming {
    /// Reads a datagram; `None` where it is none of these and is discarded.
    pub(crate) fn read(datagram: &[u8]) -> Option<Incoming> {
        match peek_kind(datagram) {
            Kind::ChannelData => {
                let ChannelData { number, data } = ChannelData::parse_datagram(datagram).ok()?;
                let data = data.to_vec();
                Some(Incoming::ChannelData { number, data })
            }
            Kind::Stun => Incoming::read_indication(&Message::parse(datagram).ok()?),
            Kind::Other => None,
        }
    }

    fn read_indication(message: &Message<'_>) -> Option<Incoming> {
        if message.class() != Class::Indication || message.method() != Method::DATA {
            return None;
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.4
        //# When the client receives a Data indication, it checks that the Data
        //# indication contains an XOR-PEER-ADDRESS attribute and discards the
        //# indication if it does not.
        let XorPeerAddress(peer) = message.read().ok()??;
        let peer = PeerAddr(peer);
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.4
        //# If the XOR-PEER-ADDRESS is present and valid, the client checks that
        //# the Data indication contains either a DATA attribute or an ICMP
        //# attribute and discards the indication if it does not.
        if let Some(icmp) = message.read::<Icmp>().ok()? {
            return Some(Incoming::Icmp { peer, icmp });
        }
        let Data(data) = message.read().ok()??;
        let data = data.to_vec();
        Some(Incoming::Data { peer, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_proto::stun::{MessageWriter, TransactionId};

    const PEER: &str = "192.0.2.1:7000";

    fn indication(write: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let id = TransactionId::from_bytes([3; 12]);
        let mut writer = MessageWriter::new(&mut bytes, Class::Indication, Method::DATA, id);
        write(&mut writer);
        writer.finish();
        bytes
    }

    #[test]
    fn an_empty_packet_in_a_data_indication_arrives() {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.4
        //= type=test
        //# Note that a
        //# DATA attribute is allowed to contain zero bytes of data.
        let address = PEER.parse().unwrap();
        let datagram = indication(|writer| {
            writer.attribute(&XorPeerAddress(address)).attribute(&Data(b""));
        });
        let data = Incoming::Data { peer: PeerAddr(address), data: Vec::new() };
        assert_eq!(Some(data), Incoming::read(&datagram));
    }

    #[test]
    fn a_data_indication_without_a_peer_or_without_data_is_discarded() {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.4
        //= type=test
        //# When the client receives a Data indication, it checks that the Data
        //# indication contains an XOR-PEER-ADDRESS attribute and discards the
        //# indication if it does not.
        let no_peer = indication(|writer| {
            writer.attribute(&Data(b"x"));
        });
        assert_eq!(None, Incoming::read(&no_peer));
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.4
        //= type=test
        //# If the XOR-PEER-ADDRESS is present and valid, the client checks that
        //# the Data indication contains either a DATA attribute or an ICMP
        //# attribute and discards the indication if it does not.
        let no_data = indication(|writer| {
            writer.attribute(&XorPeerAddress(PEER.parse().unwrap()));
        });
        assert_eq!(None, Incoming::read(&no_data));
    }

    #[test]
    fn an_icmp_error_names_its_peer() {
        let address = PEER.parse().unwrap();
        let icmp = Icmp { kind: 3, code: 3, data: 0 };
        let datagram = indication(|writer| {
            writer.attribute(&XorPeerAddress(address)).attribute(&icmp);
        });
        let peer = PeerAddr(address);
        assert_eq!(Some(Incoming::Icmp { peer, icmp }), Incoming::read(&datagram));
    }

    #[test]
    fn what_is_neither_stun_nor_channel_data_is_discarded() {
        assert_eq!(None, Incoming::read(b""));
        assert_eq!(None, Incoming::read(&[0x80, 0, 0, 0]));
        assert_eq!(None, Incoming::read(&[0x40, 0, 0, 9, 1]));
    }
}
