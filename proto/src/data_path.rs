//! Application data through an allocation: what comes from the client, what goes to it.

use std::time::Instant;

use crate::address::{FiveTuple, PeerAddr, TransportProtocol};
use crate::allocation::{Allocation, Inbound};
use crate::channel_data::{ChannelData, ChannelDataError};
use crate::drops::DropReason;
use crate::relay_frames::{FrameHeader, icmp_indication};
use crate::request::{Offer, SendIndication};
use crate::stun::{Class, Icmp, Kind, Message, Method, ParseError, TransactionId, peek_kind};

/// Application data on its way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound<'a> {
    /// The peer, as the relay reaches it.
    pub peer: PeerAddr,
    /// The application data.
    pub data: &'a [u8],
    /// Whether it may not be fragmented.
    pub dont_fragment: bool,
}

impl Outbound<'_> {
    /// Whether the datagram is sent with the DF bit set, where the client has come by `five_tuple`.
    pub fn sets_df(&self, five_tuple: &FiveTuple) -> bool {
        //= https://www.rfc-editor.org/rfc/rfc8656#section-13.1
        //# For both preferred and alternate behavior, the DONT-FRAGMENT
        //# attribute MUST be ignored by the server.
        //= https://www.rfc-editor.org/rfc/rfc8656#section-13.2
        //# For both preferred and alternate behavior, the DONT-FRAGMENT
        //# attribute MUST be ignored by the server.
        //= https://www.rfc-editor.org/rfc/rfc8656#section-13.3
        //# For both preferred and alternate behavior, the DONT-FRAGMENT
        //# attribute MUST be ignored by the server.
        let is_honoured = match five_tuple.protocol {
            TransportProtocol::Udp | TransportProtocol::Dtls => {
                five_tuple.client.is_ipv4() && self.peer.0.is_ipv4()
            }
            //= https://www.rfc-editor.org/rfc/rfc8656#section-13
            //# ignoring the DONT-FRAGMENT attribute is only applicable for UDP-to-
            //# UDP relay and not for TCP-to-UDP relay.
            TransportProtocol::Tcp | TransportProtocol::Tls => true,
        };
        self.dont_fragment && is_honoured
    }
}

impl Allocation {
    /// Where the data in `datagram`, a ChannelData message or a Send indication of the client,
    /// goes.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn from_client<'a>(
        &self,
        datagram: &'a [u8],
        offer: &Offer,
        now: Instant,
    ) -> Result<Outbound<'a>, DropReason> {
        match peek_kind(datagram) {
            Kind::ChannelData => {
                let ChannelData { number, data } = ChannelData::parse_datagram(datagram)?;
                let peer = self.channel_peer(number, now)?;
                Ok(Outbound { peer, data, dont_fragment: false })
            }
            Kind::Stun => {
                let message = Message::parse(datagram)?;
                if (message.class(), message.method()) != (Class::Indication, Method::SEND) {
                    return Err(DropReason::UnexpectedClass);
                }
                let SendIndication { peer, data, dont_fragment } =
                    SendIndication::read(&message, offer)?;
                let peer = self.indication_peer(peer, now)?;
                Ok(Outbound { peer, data, dont_fragment })
            }
            Kind::Other => Err(DropReason::NotStun),
        }
    }

    /// What stands around `length` bytes of data from the peer `from` on the way to the client.
    /// `transaction_id` is asked only where a Data indication is needed.
    ///
    /// # Errors
    /// Why the client does not get it.
    pub fn header_for_client(
        &self,
        from: PeerAddr,
        length: usize,
        transaction_id: impl FnOnce() -> TransactionId,
        now: Instant,
    ) -> Result<FrameHeader, DropReason> {
        let header = match self.from_peer(from, now)? {
            Inbound::Channel(number) => FrameHeader::channel_data(number, length),
            Inbound::Indication(peer) => {
                FrameHeader::data_indication(peer, transaction_id(), length)
            }
        };
        header.map_err(DropReason::from)
    }

    /// Appends the Data indication that tells the client of an ICMP answer to a datagram of its own
    /// for `destination`.
    ///
    /// # Errors
    /// Why the client does not hear of it.
    pub fn icmp_for_client(
        &self,
        destination: PeerAddr,
        icmp: Icmp,
        transaction_id: TransactionId,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let peer = self.from_icmp(destination, now)?;
        icmp_indication(out, transaction_id, peer, icmp);
        Ok(())
    }
}

impl From<ChannelDataError> for DropReason {
    fn from(error: ChannelDataError) -> DropReason {
        match error {
            ChannelDataError::TooShort
            | ChannelDataError::ChannelNumber
            | ChannelDataError::Truncated => DropReason::MalformedChannelData,
        }
    }
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> DropReason {
        match error {
            ParseError::NotStun | ParseError::MagicCookie => DropReason::NotStun,
            ParseError::Fingerprint => DropReason::BadFingerprint,
            ParseError::TooShort
            | ParseError::Length
            | ParseError::Attribute
            | ParseError::TooManyAttributes => DropReason::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_is_set_from_ipv4_to_ipv4_and_for_streams() {
        let (v4, v6) = ("192.0.2.1:50000", "[2001:db8::1]:50000");
        let rows = [
            (TransportProtocol::Udp, v4, v4, true),
            //= https://www.rfc-editor.org/rfc/rfc8656#section-13.1
            //= type=test
            //# For both preferred and alternate behavior, the DONT-FRAGMENT
            //# attribute MUST be ignored by the server.
            (TransportProtocol::Udp, v4, v6, false),
            //= https://www.rfc-editor.org/rfc/rfc8656#section-13.2
            //= type=test
            //# For both preferred and alternate behavior, the DONT-FRAGMENT
            //# attribute MUST be ignored by the server.
            (TransportProtocol::Udp, v6, v6, false),
            (TransportProtocol::Udp, v6, v4, false),
            (TransportProtocol::Dtls, v4, v4, true),
            (TransportProtocol::Dtls, v6, v4, false),
            (TransportProtocol::Tcp, v6, v4, true),
            (TransportProtocol::Tls, v4, v6, true),
        ];
        for (protocol, client, peer, expected) in rows {
            let address = |text: &str| text.parse().expect("an address");
            let five_tuple =
                FiveTuple { client: address(client), server: address(client), protocol };
            for dont_fragment in [true, false] {
                let peer = PeerAddr(address(peer));
                let outbound = Outbound { peer, data: &[], dont_fragment };
                let name = format!("{protocol} from {client} to {peer:?}");
                assert_eq!(expected && dont_fragment, outbound.sets_df(&five_tuple), "{name}");
            }
        }
    }
}
