//! The frames, as the codec reads them.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::{FrameHeader, TooLong, icmp_for_client, icmp_indication};
use crate::address::{Family, PeerAddr};
use crate::channel_data::{ChannelData, ChannelNumber};
use crate::drops::DropReason;
use crate::stun::{
    AttributeType, Class, Data, Icmp, Message, MessageWriter, Method, TransactionId, XorPeerAddress,
};

fn id() -> TransactionId {
    TransactionId::from_bytes(*b"transaction!")
}

fn peer(text: &str) -> PeerAddr {
    PeerAddr(text.parse().expect("the test writes valid addresses"))
}

/// What the client gets.
fn framed(header: &FrameHeader, payload: &[u8]) -> Vec<u8> {
    [header.as_ref(), payload, &[0; 3][..header.padding()]].concat()
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.3
//= type=test
//# The DATA
//# attribute is set to the value of the "data octets" field from the
//# datagram, and the XOR-PEER-ADDRESS attribute is set to the source
//# transport address of the received UDP datagram.
#[test]
fn a_data_indication_is_what_the_codec_would_write() {
    for peer in [peer("198.51.100.1:40000"), peer("[2001:db8::7]:9")] {
        for payload in [&b""[..], b"1", b"12", b"123", b"1234", b"12345"] {
            let mut expected = Vec::new();
            MessageWriter::new(&mut expected, Class::Indication, Method::DATA, id())
                .attribute(&XorPeerAddress(peer.0))
                .attribute(&Data(payload));

            let header =
                FrameHeader::data_indication(peer, id(), payload.len()).expect("it is short");

            assert_eq!(expected, framed(&header, payload), "{peer} {payload:?}");
        }
    }
}

#[test]
fn channel_data_has_four_bytes_before_and_none_behind() {
    let number = ChannelNumber::new(0x4001).expect("a channel");
    for payload in [&b""[..], b"1", b"12345"] {
        let header = FrameHeader::channel_data(number, payload.len()).expect("it is short");

        assert_eq!((4, 0), (header.as_ref().len(), header.padding()));
        let frame = framed(&header, payload);
        assert_eq!(Ok(ChannelData { number, data: payload }), ChannelData::parse_datagram(&frame));
    }
}

#[test]
fn a_payload_that_no_frame_can_hold_is_refused() {
    let number = ChannelNumber::new(0x4000).expect("a channel");
    let (v4, v6) = (peer("198.51.100.1:1"), peer("[2001:db8::7]:9"));
    let longest = |peer| {
        let fits = |&length: &usize| FrameHeader::data_indication(peer, id(), length).is_ok();
        (65_400..=65_535).rfind(fits)
    };

    // All of the body counts: the peer's address, both attribute headers and the padding.
    assert_eq!(Some(65_535 - 3 - 12 - 4), longest(v4));
    assert_eq!(Some(65_535 - 3 - 24 - 4), longest(v6));
    assert_eq!(Err(TooLong), FrameHeader::channel_data(number, 65_536).map(|_| ()));
    assert!(FrameHeader::channel_data(number, 65_535).is_ok());
    assert_eq!(Err(TooLong), FrameHeader::data_indication(v4, id(), 65_536).map(|_| ()));
    assert_eq!(DropReason::Oversized, TooLong.into());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
//= type=test
//# When the server receives an ICMP packet, the server verifies that the
//# type is either 3 or 11 for an ICMPv4 [RFC0792] packet or either 1, 2,
//# or 3 for an ICMPv6 [RFC4443] packet.
#[test]
fn icmp_of_some_types_is_passed_on_and_the_mtu_with_one_of_them() {
    for (family, kind, code, data) in [
        (Family::V4, 3, 1, Some(0)),
        (Family::V4, 3, 3, Some(0)),
        (Family::V4, 3, 4, Some(1400)),
        (Family::V4, 11, 0, Some(0)),
        (Family::V4, 11, 4, Some(0)),
        (Family::V4, 0, 0, None),
        (Family::V4, 5, 0, None),
        (Family::V4, 8, 0, None),
        (Family::V4, 12, 0, None),
        (Family::V6, 1, 4, Some(0)),
        (Family::V6, 2, 0, Some(1400)),
        (Family::V6, 3, 0, Some(0)),
        (Family::V6, 4, 0, None),
        (Family::V6, 11, 0, None),
        (Family::V6, 128, 0, None),
    ] {
        let icmp = icmp_for_client(family, kind, code, 1400);
        let expected = data.map(|data| Icmp { kind, code, data });
        assert_eq!(expected, icmp, "{family} type {kind} code {code}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
//= type=test
//# The Data indication MUST contain both an XOR-PEER-
//# ADDRESS and an ICMP attribute.
#[test]
fn an_icmp_indication_names_peer_and_reason_and_has_no_data() {
    let icmp = Icmp { kind: 3, code: 4, data: 1400 };
    for peer in [peer("198.51.100.1:40000"), peer("[2001:db8::7]:0")] {
        let mut out = vec![0xAA];

        icmp_indication(&mut out, id(), peer, icmp);

        let message = Message::parse(&out[1..]).expect("it is a message");
        assert_eq!((Class::Indication, Method::DATA), (message.class(), message.method()));
        assert_eq!(id(), message.transaction_id());
        assert_eq!(Ok(Some(XorPeerAddress(peer.0))), message.read());
        assert_eq!(Ok(Some(icmp)), message.read());
        assert!(!message.has(AttributeType::DATA));
    }
}

proptest! {
    #[test]
    fn a_frame_carries_its_payload(
        payload in prop::collection::vec(any::<u8>(), 0..1500),
        address in any::<SocketAddr>(),
        id in any::<[u8; 12]>(),
        number in 0x4000..=0x4fff_u16,
    ) {
        let id = TransactionId::from_bytes(id);
        let number = ChannelNumber::new(number).expect("a channel");
        let peer = PeerAddr(SocketAddr::new(address.ip(), address.port()));

        let header = FrameHeader::data_indication(peer, id, payload.len()).expect("it is short");
        let indication = framed(&header, &payload);
        let message = Message::parse(&indication).expect("it is a message");
        prop_assert_eq!(id, message.transaction_id());
        prop_assert_eq!(Ok(Some(XorPeerAddress(peer.0))), message.read());
        prop_assert_eq!(Ok(Some(Data(&payload))), message.read());

        let header = FrameHeader::channel_data(number, payload.len()).expect("it is short");
        let channel_data = framed(&header, &payload);
        let read = ChannelData::parse_datagram(&channel_data);
        prop_assert_eq!(Ok(ChannelData { number, data: &payload }), read);
    }
}
