//! ChannelBind and what a channel carries (RFC 8656 §12).

use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AttributeType, Method};

use crate::kit::{Call, Client, Heard, Peer, Raw, V4, at, channel_data, config, ip, raws, serve};

#[test]
fn channel_numbers_are_those_of_rfc_8656() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# The channel number is in the range 0x4000 through 0x4FFF
    //# (inclusive);
    let numbers = [
        (0x0000, 400, 400),
        (0x3FFF, 400, 400),
        (0x4000, 0, 0),
        (0x4001, 0, 0),
        (0x4FFF, 0, 0),
        (0x5000, 400, 0),
        (0x6666, 400, 0),
        (0x7FFE, 400, 0),
        (0x7FFF, 400, 400),
        (0x8000, 400, 400),
        (0xFFFF, 400, 400),
    ];
    for old in [false, true] {
        let mut config = config();
        config.rfc5766_channel_numbers = old;
        let server = serve(config);
        let mut client = Client::new(server.v4());
        let relayed = client.allocate();
        for (number, now, then) in numbers {
            let code = if old { then } else { now };
            let peer = Peer::new(V4);
            assert_eq!(code, client.bind(number, peer.address()), "{number:#06x}");
            if code == 0 {
                client.say(number, b"out");
                assert_eq!((b"out".to_vec(), relayed), peer.hear(), "{number:#06x}");
                peer.tell(relayed, b"in");
                assert_eq!(Heard::Channel(number, b"in".to_vec()), client.hear());
            }
        }
    }
}

#[test]
fn a_channel_needs_a_number_and_a_peer() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# The request contains both a CHANNEL-NUMBER and an XOR-PEER-ADDRESS
    //# attribute;
    const NUMBER: AttributeType = AttributeType::CHANNEL_NUMBER;
    const PEER: AttributeType = AttributeType::XOR_PEER_ADDRESS;
    const CHANNEL: Raw = (NUMBER, &[0x40, 0, 0, 0]);
    const HOST: Raw = (PEER, &[0, 1, 0x21, 0x12 ^ 9, 127 ^ 0x21, 0x12, 0xA4, 9 ^ 0x42]);
    let rows: [(&str, &[Raw], u16); 9] = [
        ("nothing", &[], 400),
        ("no number", &[HOST], 400),
        ("no peer", &[CHANNEL], 400),
        ("a short number", &[(NUMBER, &[0x40, 0]), HOST], 400),
        ("a long number", &[(NUMBER, &[0x40, 0, 0, 0, 0]), HOST], 400),
        ("a broken peer", &[CHANNEL, (PEER, &[0, 1, 0, 0])], 400),
        ("port 0", &[CHANNEL, (PEER, &[0, 1, 0x21, 0x12, 127 ^ 0x21, 0x12, 0xA4, 9 ^ 0x42])], 400),
        ("reserved bytes are ignored", &[(NUMBER, &[0x40, 0, 0xFF, 0xFF]), HOST], 0),
        ("the first of two counts", &[CHANNEL, HOST, (NUMBER, &[0x50, 0, 0, 0])], 0),
    ];
    let server = serve(config());
    let mut client = Client::new(server.v4());
    client.allocate();
    for (name, attributes, code) in rows {
        let answer = client.ask(Method::CHANNEL_BIND, raws(attributes));
        assert_eq!(code, answer.code(), "{name}");
        if code == 0 {
            let kinds = [AttributeType::SOFTWARE, AttributeType::MESSAGE_INTEGRITY];
            assert_eq!(kinds, *answer.kinds());
        }
    }
}

#[test]
fn a_channel_has_one_peer_and_a_peer_one_channel() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# The channel number is not currently bound to a different transport
    //# address (same transport address is OK);
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# The transport address is not currently bound to a different
    //# channel number.
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let peer = call.peer.address();
    let neighbour = Peer::new(V4);
    let same_port = at(ip("127.0.0.2"), peer.port());

    assert_eq!(400, call.client.bind(Call::CHANNEL, neighbour.address()), "another port");
    assert_eq!(400, call.client.bind(Call::CHANNEL, same_port), "another host");
    assert_eq!(400, call.client.bind(0x4000, peer), "another number");
    call.goes_on();
    assert_eq!(0, call.client.bind(Call::CHANNEL, peer), "the same again");
    assert_eq!(0, call.client.bind(0x4000, neighbour.address()));
    assert_eq!(0, call.client.bind(0x4001, same_port));
    call.goes_on();
    // Another allocation may use the same number and the same peer otherwise.
    let mut other = Client::new(server.v4());
    let relayed = other.allocate();
    assert_eq!(0, other.bind(0x4000, peer));
    other.say(0x4000, b"hello");
    assert_eq!((b"hello".to_vec(), relayed), call.peer.hear());
}

#[test]
fn channels_have_a_number_and_bound_ones_can_be_refreshed_at_it() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# If the request is valid, but the server is unable to fulfill the
    //# request due to some capacity limit or similar, the server replies
    //# with a 508 (Insufficient Capacity) error.
    let mut config = config();
    config.limits.channels_per_allocation = 2;
    let server = serve(config);
    let mut call = Call::through(server.v4());
    let peers = [Peer::new(V4), Peer::new(V4)];
    assert_eq!(0, call.client.bind(0x4000, peers[0].address()));
    assert_eq!(508, call.client.bind(0x4001, peers[1].address()));
    assert_eq!(0, call.client.bind(0x4000, peers[0].address()));
    assert_eq!(0, call.client.bind(Call::CHANNEL, call.peer.address()));
    call.goes_on();
}

#[test]
fn a_bound_peer_is_heard_on_its_channel_and_its_host_by_indications() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //= type=test
    //# The server, on the other hand, MUST
    //# use the ChannelData message if a channel has been bound to the peer.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //= type=test
    //# The server also installs or refreshes a
    //# permission for the IP address in the XOR-PEER-ADDRESS attribute as
    //# described in Section 9.
    let server = serve(config());
    let call = Call::through(server.v4());
    call.goes_on();
    // No CreatePermission was sent: the channel has brought the permission for the host.
    let housemate = Peer::new(V4);
    housemate.tell(call.relayed, b"me too");
    assert_eq!(Heard::Data(housemate.address(), b"me too".to_vec()), call.client.hear());
    call.client.indicate(housemate.address(), b"you too");
    assert_eq!((b"you too".to_vec(), call.relayed), housemate.hear());
    // The client may use indications beside the channel.
    call.client.indicate(call.peer.address(), b"this way as well");
    assert_eq!((b"this way as well".to_vec(), call.relayed), call.peer.hear());
    call.goes_on();
}

#[test]
fn a_channel_can_be_bound_after_data_has_flowed() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let peer = Peer::new(V4);
    assert_eq!(0, client.permit(&[peer.address()]));
    peer.tell(relayed, b"before");
    assert_eq!(Heard::Data(peer.address(), b"before".to_vec()), client.hear());
    assert_eq!(0, client.bind(0x4000, peer.address()));
    peer.tell(relayed, b"after");
    assert_eq!(Heard::Channel(0x4000, b"after".to_vec()), client.hear());
}

#[test]
fn channel_data_on_a_channel_that_is_not_bound_is_discarded() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# If the ChannelData message is received on a channel that is not bound
    //# to any peer, then the message is silently discarded.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# If the message uses a value in the reserved range (0x5000
    //# through 0xFFFF), then the message is silently discarded.
    let server = serve(config());
    let call = Call::through(server.v4());
    for number in [0x4000, 0x4FFE, 0x5000, 0x5FFF, 0x7FFE] {
        call.client.say(number, b"nowhere");
        call.goes_on();
    }
    call.client.say(0x7FFF, b"nowhere");
    call.goes_on();
    let dropped = server.allocation_of(call.client.address()).drops;
    assert_eq!(5, dropped.get(DropReason::UnboundChannel));
    assert_eq!(1, dropped.get(DropReason::MalformedChannelData));
}

#[test]
fn channel_data_shorter_than_it_says_is_discarded_and_padding_is_not() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# If the ChannelData message is received in a UDP datagram, and if the
    //# UDP datagram is too short to contain the claimed length of the
    //# ChannelData message (i.e., the UDP header length field value is less
    //# than the ChannelData header length field value + 4 + 8), then the
    //# message is silently discarded.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //= type=test
    //# Over UDP, the padding
    //# is not required but MAY be included.
    let server = serve(config());
    let call = Call::through(server.v4());
    let whole = channel_data(Call::CHANNEL, b"whole");
    for length in 1..whole.len() {
        call.client.send(&whole[..length]);
        call.goes_on();
    }
    let reason = DropReason::MalformedChannelData;
    assert_eq!(8, server.dropped_for(call.client.address(), reason));
    for padding in [0, 1, 2, 3, 4, 100] {
        let padded = [whole.clone(), vec![0xEE; padding]].concat();
        call.client.send(&padded);
        assert_eq!((b"whole".to_vec(), call.relayed), call.peer.hear(), "{padding}");
    }
    // A length that wraps in sixteen bits is a length that is not there.
    for length in [u16::MAX, u16::MAX - 3, 0x8000] {
        let mut lie = whole.clone();
        lie[2..4].copy_from_slice(&length.to_be_bytes());
        call.client.send(&lie);
        call.goes_on();
    }
    assert_eq!(11, server.dropped_for(call.client.address(), reason));
}
