//! Messages and their attributes.

use sterna_proto::channel_data::ChannelNumber;
use sterna_proto::credentials::Key;
use sterna_proto::stun::{
    ATTRIBUTES_MAX, AccessToken, AdditionalAddressFamily, AddressErrorCode, AlternateDomain,
    AlternateServer, Attribute, AttributeType, ChangeRequest, ConnectionId, Data, DontFragment,
    ErrorCodeAttribute, EvenPort, Icmp, Lifetime, MappedAddress, Message, MessageWriter,
    MobilityTicket, Nonce, Origin, OtherAddress, Padding, PasswordAlgorithmAttribute,
    PasswordAlgorithms, Realm, RequestedAddressFamily, RequestedTransport, ReservationToken,
    ResponseOrigin, ResponsePort, Software, ThirdPartyAuthorization, UNKNOWN_MAX,
    UnknownAttributes, UserHash, Username, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};

/// Reads `bytes` as a message and writes it again.
pub fn decode(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else {
        return;
    };
    assert_eq!(bytes, message.as_bytes());
    assert!(message.attributes().count() <= ATTRIBUTES_MAX);
    let unknown = message.unknown_required(&[]);
    assert!(unknown.len() <= UNKNOWN_MAX);
    assert!(unknown.iter().all(|kind| message.has(*kind)));
    assert!(!format!("{message:?}").is_empty());
    // Nobody holds this key.
    assert!(message.verify_integrity(&Key::shared(b"\x00fuzz")).is_err());
    rewritten(&message);
    attributes(&message);
}

/// A message with the same attributes is read like the first.
fn rewritten(message: &Message<'_>) {
    let mut out = Vec::new();
    let (class, method, id) = (message.class(), message.method(), message.transaction_id());
    let mut writer = MessageWriter::new(&mut out, class, method, id);
    for attribute in message.attributes() {
        if attribute.kind != AttributeType::FINGERPRINT {
            writer.raw(attribute.kind, attribute.value);
        }
    }
    if message.has(AttributeType::FINGERPRINT) {
        writer.fingerprint();
    }
    assert!(!writer.overflowed());
    let again = Message::parse(&out).expect("what is written can be read");
    assert_eq!((class, method, id), (again.class(), again.method(), again.transaction_id()));
    let value_less_fingerprint = |message: &Message<'_>| {
        message
            .attributes()
            .filter(|attribute| attribute.kind != AttributeType::FINGERPRINT)
            .map(|attribute| (attribute.kind, attribute.value.to_vec()))
            .collect::<Vec<_>>()
    };
    assert_eq!(value_less_fingerprint(message), value_less_fingerprint(&again));
}

/// Attributes of a type, once read, are written as bytes that are read as the same again.
macro_rules! written_and_read {
    ($message:expr, $($attribute:ident),* $(,)?) => {$(
        for attribute in $message.read_all::<$attribute>().flatten() {
            let id = $message.transaction_id();
            let (mut first, mut second) = (Vec::new(), Vec::new());
            attribute.encode(&mut first, &id);
            let again = $attribute::decode(&first, &id).expect("what is written can be read");
            again.encode(&mut second, &id);
            assert_eq!(first, second);
            assert!(!format!("{attribute:?}").is_empty());
        }
    )*};
}

fn attributes(message: &Message<'_>) {
    written_and_read!(
        message,
        MappedAddress,
        XorMappedAddress,
        XorPeerAddress,
        XorRelayedAddress,
        AlternateServer,
        ResponseOrigin,
        OtherAddress,
        Username,
        UserHash,
        Realm,
        Nonce,
        PasswordAlgorithmAttribute,
        PasswordAlgorithms,
        ErrorCodeAttribute,
        AddressErrorCode,
        UnknownAttributes,
        Software,
        AlternateDomain,
        ConnectionId,
        MobilityTicket,
        Origin,
        ChangeRequest,
        ResponsePort,
        Padding,
        AccessToken,
        ThirdPartyAuthorization,
        ChannelNumber,
        Lifetime,
        Data,
        RequestedAddressFamily,
        AdditionalAddressFamily,
        EvenPort,
        RequestedTransport,
        DontFragment,
        ReservationToken,
        Icmp,
    );
}
