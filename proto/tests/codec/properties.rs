//! Properties over generated messages and over bytes that are none.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sterna_proto::address::Family;
use sterna_proto::channel_data::{
    ChannelData, ChannelNumber, frame_len, stream_padding, write_header,
};
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    AccessToken, AdditionalAddressFamily, AddressErrorCode, AlternateDomain, AlternateServer,
    Attribute, AttributeType, ChangeRequest, Class, ConnectionId, Data, DontFragment, ErrorCode,
    ErrorCodeAttribute, EvenPort, Icmp, Lifetime, MappedAddress, Message, MessageWriter, Method,
    MobilityTicket, Nonce, Origin, OtherAddress, Padding, PasswordAlgorithmAttribute,
    PasswordAlgorithms, Realm, RequestedAddressFamily, RequestedTransport, ReservationToken,
    ResponseOrigin, ResponsePort, Software, ThirdPartyAuthorization, TransactionId,
    UnknownAttributes, UserHash, Username, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};

use crate::{TRANSACTION, parsed, request};

/// Writes the attribute between two others and reads it back.
macro_rules! comes_back {
    ($id:expr, $($attribute:expr),* $(,)?) => {$({
        let mut out = Vec::new();
        let (attribute, id) = ($attribute, $id);
        MessageWriter::new(&mut out, Class::Success, Method::ALLOCATE, id)
            .raw(AttributeType::PRIORITY, b"odd")
            .attribute(&attribute)
            .raw(AttributeType::PRIORITY, b"after");
        let message = Message::parse(&out).unwrap();
        prop_assert_eq!(id, message.transaction_id());
        prop_assert_eq!(3, message.attributes().count());
        prop_assert_eq!(Ok(Some(attribute)), message.read());
    })*};
}

proptest! {
    #[test]
    fn addresses_come_back(id in transaction_ids(), address in any::<SocketAddr>()) {
        let address = SocketAddr::new(address.ip(), address.port());
        comes_back!(
            id,
            MappedAddress(address),
            XorMappedAddress(address),
            XorPeerAddress(address),
            XorRelayedAddress(address),
            AlternateServer(address),
            ResponseOrigin(address),
            OtherAddress(address),
        );
    }

    #[test]
    fn texts_come_back(
        id in transaction_ids(),
        text in "\\PC{0,127}",
        domain in "[a-z0-9.-]{1,255}",
    ) {
        comes_back!(
            id,
            Username(&text),
            Realm(&text),
            Nonce(&text),
            Software(&text),
            Origin(&text),
            ThirdPartyAuthorization(&text),
            AlternateDomain(&domain),
        );
    }

    #[test]
    fn numbers_come_back(
        id in transaction_ids(),
        number: u32,
        short: u16,
        [a, b] in any::<[u8; 2]>(),
    ) {
        comes_back!(
            id,
            Lifetime(Duration::from_secs(u64::from(number))),
            ConnectionId(number),
            ResponsePort(short),
            RequestedTransport(a),
            Icmp { kind: a, code: b, data: number },
        );
    }

    #[test]
    fn flags_come_back(id in transaction_ids(), one: bool, other: bool, family in families()) {
        comes_back!(
            id,
            EvenPort { reserve_next: one },
            ChangeRequest { ip: one, port: other },
            DontFragment,
            RequestedAddressFamily(family),
            AdditionalAddressFamily(family),
        );
    }

    #[test]
    fn bytes_come_back(
        id in transaction_ids(),
        bytes in vec(any::<u8>(), 0..300),
        hash: [u8; 32],
        token: [u8; 8],
    ) {
        let (nonce, encrypted_block) = bytes.split_at(bytes.len() / 3);
        comes_back!(
            id,
            Data(&bytes),
            MobilityTicket(&bytes),
            Padding(&bytes),
            AccessToken { nonce, encrypted_block },
            UserHash(hash),
            ReservationToken(token),
        );
    }

    #[test]
    fn errors_come_back(
        id in transaction_ids(),
        code in proptest::sample::select(ErrorCode::ALL),
        reason in "\\PC{0,127}",
        family in families(),
        unknown in vec(any::<u16>(), 0..32),
    ) {
        comes_back!(
            id,
            ErrorCodeAttribute { code, reason: &reason },
            AddressErrorCode { family, code, reason: &reason },
            UnknownAttributes(unknown.into_iter().map(AttributeType::new).collect()),
        );
    }

    #[test]
    fn password_algorithms_come_back(
        id in transaction_ids(),
        entries in vec((any::<u16>(), vec(any::<u8>(), 0..9)), 0..16),
    ) {
        let entries = || {
            entries.iter().map(|(number, parameters)| PasswordAlgorithmAttribute {
                number: *number,
                parameters,
            })
        };
        for entry in entries() {
            comes_back!(id, entry);
        }
        comes_back!(id, PasswordAlgorithms(entries().collect()));
    }

    #[test]
    fn channel_numbers_come_back(id in transaction_ids(), number in 0x4000..=0x7FFE_u16) {
        comes_back!(id, ChannelNumber::wide(number).unwrap());
    }

    /// Whatever a stranger sends, reading it ends and does not panic.
    #[test]
    fn arbitrary_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..600)) {
        read_everything(&bytes);
    }

    /// The same behind a header that passes, so that the attributes are reached.
    #[test]
    fn arbitrary_attributes_are_read_without_panic(
        message_type in 0..0x4000_u16,
        attributes in vec((attribute_types(), vec(any::<u8>(), 0..40)), 0..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        let mut writer =
            MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TRANSACTION);
        for (kind, value) in &attributes {
            writer.raw(*kind, value);
        }
        bytes[..2].copy_from_slice(&message_type.to_be_bytes());
        read_everything(&bytes);
        read_everything(&bytes[..cut.index(bytes.len())]);
    }

    /// Two messages that differ only in what follows MESSAGE-INTEGRITY are read alike.
    #[test]
    fn what_follows_message_integrity_is_ignored(
        algorithm in algorithms(),
        tail in vec((attribute_types(), vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let signed = |writer: &mut MessageWriter<'_>| {
            writer.attribute(&Username("alice")).integrity(algorithm, &key());
        };
        let bare = request(signed);
        let extended = request(|writer| {
            signed(writer);
            for (kind, value) in &tail {
                let counts = *kind == AttributeType::FINGERPRINT
                    || *kind == AttributeType::MESSAGE_INTEGRITY_SHA256;
                if !counts {
                    writer.raw(*kind, value);
                }
            }
        });
        let (bare, extended) = (parsed(&bare), parsed(&extended));
        prop_assert_eq!(Ok(algorithm), extended.verify_integrity(&key()));
        prop_assert!(bare.attributes().eq(extended.attributes()));
    }

    #[test]
    fn stream_is_framed_alike_at_each_split(
        frames in vec(frames(), 1..5),
        cuts in vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let stream = frames.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();

        let mut found = Vec::new();
        let mut start = 0;
        for cut in cuts {
            while let Some(length) = frame_len(&stream[start..cut]).unwrap() {
                let Some(frame) = stream[start..cut].get(..length) else { break };
                found.push(frame.to_vec());
                start += length;
            }
        }
        prop_assert_eq!(frames, found);
    }

    /// More of the stream never changes what is known about its first frame.
    #[test]
    fn frame_length_once_known_stays(bytes in stream_starts()) {
        let mut known = None;
        for end in 0..=bytes.len() {
            let found = frame_len(&bytes[..end]);
            if let Some(known) = known {
                prop_assert_eq!(known, found);
            } else if found != Ok(None) {
                known = Some(found);
            }
        }
    }

    #[test]
    fn channel_data_comes_back(
        number in 0x4000..=0x7FFE_u16,
        data in vec(any::<u8>(), 0..200),
        padded: bool,
    ) {
        let number = ChannelNumber::wide(number).unwrap();
        let mut datagram = write_header(number, data.len()).unwrap().to_vec();
        datagram.extend_from_slice(&data);
        if padded {
            datagram.resize(datagram.len() + stream_padding(data.len()), 0);
        }
        let expected = ChannelData { number, data: &data };
        prop_assert_eq!(Ok(expected), ChannelData::parse_datagram(&datagram));
    }
}

proptest! {
    // Each case verifies as often as the message has bits.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_flipped_bit_of_an_authenticated_message_is_noticed(
        algorithm in algorithms(),
        username in "[a-z]{1,12}",
        address in any::<SocketAddr>(),
        marked: bool,
    ) {
        let good = request(|writer| {
            writer.attribute(&Username(&username)).attribute(&XorPeerAddress(address));
            writer.integrity(algorithm, &key());
            if marked {
                writer.fingerprint();
            }
        });
        prop_assert_eq!(Ok(algorithm), parsed(&good).verify_integrity(&key()));
        // What a changed bit makes of FINGERPRINT is ignored, like all that follows the integrity.
        let protected = good.len() - if marked { 8 } else { 0 };
        for bit in 0..protected * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let passed = Message::parse(&bad)
                .is_ok_and(|message| message.verify_integrity(&key()).is_ok());
            prop_assert!(!passed, "bit {} of {}", bit, protected * 8);
        }
    }
}

/// Reads `bytes` in every way that a server does.
fn read_everything(bytes: &[u8]) {
    _ = frame_len(bytes);
    if let Ok(ChannelData { data, .. }) = ChannelData::parse_datagram(bytes) {
        assert!(data.len() + 4 <= bytes.len());
    }
    let Ok(message) = Message::parse(bytes) else {
        return;
    };
    _ = format!("{message:?}");
    _ = message.verify_integrity(&key());
    let listed = message.attributes().count();
    assert!(message.unknown_required(&[]).len() <= listed);
    read::<MappedAddress>(&message);
    read::<XorMappedAddress>(&message);
    read::<XorPeerAddress>(&message);
    read::<Username<'_>>(&message);
    read::<UserHash>(&message);
    read::<Realm<'_>>(&message);
    read::<Nonce<'_>>(&message);
    read::<PasswordAlgorithms<'_>>(&message);
    read::<PasswordAlgorithmAttribute<'_>>(&message);
    read::<ErrorCodeAttribute<'_>>(&message);
    read::<AddressErrorCode<'_>>(&message);
    read::<UnknownAttributes>(&message);
    read::<ChannelNumber>(&message);
    read::<Lifetime>(&message);
    read::<RequestedAddressFamily>(&message);
    read::<EvenPort>(&message);
    read::<RequestedTransport>(&message);
    read::<ReservationToken>(&message);
    read::<Icmp>(&message);
    read::<AccessToken<'_>>(&message);
    read::<ResponsePort>(&message);
    read::<AlternateDomain<'_>>(&message);
}

fn read<'a, A: Attribute<'a>>(message: &Message<'a>) {
    let first = message.read::<A>().is_ok_and(|attribute| attribute.is_some());
    assert!(!first || message.has(A::TYPE));
    assert_eq!(message.has(A::TYPE), message.read_all::<A>().next().is_some());
}

fn key() -> Key {
    Key::long_term(PasswordAlgorithm::Md5, "alice", "example.org", "password").unwrap()
}

fn transaction_ids() -> impl Strategy<Value = TransactionId> {
    any::<[u8; 12]>().prop_map(TransactionId::from_bytes)
}

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn algorithms() -> impl Strategy<Value = IntegrityAlgorithm> {
    prop_oneof![Just(IntegrityAlgorithm::Sha1), Just(IntegrityAlgorithm::Sha256)]
}

/// Known types as often as any other.
fn attribute_types() -> impl Strategy<Value = AttributeType> {
    let known: Vec<AttributeType> =
        (0..=u16::MAX).map(AttributeType::new).filter(|kind| kind.name().is_some()).collect();
    prop_oneof![proptest::sample::select(known), any::<u16>().prop_map(AttributeType::new)]
}

/// One frame of a stream.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let channel_data = (0x4000..0x8000_u16, vec(any::<u8>(), 0..40)).prop_map(|(number, data)| {
        let length = u16::try_from(data.len()).unwrap();
        let mut frame = [number.to_be_bytes(), length.to_be_bytes()].concat();
        frame.extend_from_slice(&data);
        frame.resize(frame.len() + stream_padding(data.len()), 0);
        frame
    });
    let stun = vec(any::<u8>(), 0..40)
        .prop_map(|data| request(|writer| _ = writer.attribute(&Data(&data))));
    prop_oneof![channel_data, stun]
}

/// What a stream may start with, good or not.
fn stream_starts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..12),
        (0..4_u8, vec(any::<u8>(), 0..12)).prop_map(|(first, rest)| [vec![first], rest].concat()),
        frames(),
    ]
}
