//! The client over TCP and TLS.

mod server;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use server::{Authority, HOST, Script};
use sterna_client::{
    Client, ClientError, ClientOptions, Incoming, Protocol, Retransmission, TlsOptions, Trust,
};
use sterna_proto::address::{PeerAddr, ServerReflexive};
use sterna_proto::channel_data::ChannelNumber;
use sterna_proto::stun::{
    Class, Data, MessageWriter, Method, TransactionId, XorMappedAddress, XorPeerAddress,
};

use super::scripted::{ADDRESS, answer};
use super::{impatient, options, plain_challenge, refreshed};

/// Longer than anything that arrives takes.
const LONG: Duration = Duration::from_secs(20);

/// A Binding success response: the header and an XOR-MAPPED-ADDRESS of IPv4.
const BOUND_LEN: usize = 20 + 12;

fn bound(request: &[u8]) -> Vec<u8> {
    answer(request, Class::Success, |writer| {
        writer.attribute(&XorMappedAddress(ADDRESS));
    })
}

fn channel() -> ChannelNumber {
    ChannelNumber::new(0x4001).unwrap()
}

#[test]
fn an_answer_arrives_however_it_is_cut() {
    let mut script = Script::new();
    for cut in 1..BOUND_LEN {
        script = script.then(move |request| {
            let answer = bound(request);
            let (left, right) = answer.split_at(cut);
            vec![left.to_vec(), right.to_vec()]
        });
    }
    script = script.then(|request| bound(request).into_iter().map(|byte| vec![byte]).collect());
    let mut client = script.tcp_client(options());
    for _ in 0..BOUND_LEN {
        assert_eq!(ServerReflexive(ADDRESS), client.binding().unwrap());
    }
    script.finish();
}

#[test]
fn messages_that_come_together_are_told_apart() {
    let mut indication = Vec::new();
    let id = TransactionId::from_bytes([3; 12]);
    let mut writer = MessageWriter::new(&mut indication, Class::Indication, Method::DATA, id);
    writer.attribute(&XorPeerAddress(ADDRESS)).attribute(&Data(b"indication"));
    writer.finish();
    let mut script = Script::new().then(move |request| {
        let frame = [0x40, 1, 0, 5, b'f', b'r', b'a', b'm', b'e', 0, 0, 0];
        vec![[&frame[..], &indication, &bound(request), &frame].concat()]
    });
    let mut client = script.tcp_client(options());
    assert_eq!(ServerReflexive(ADDRESS), client.binding().unwrap());
    let frame = Some(Incoming::ChannelData { number: channel(), data: b"frame".to_vec() });
    assert_eq!(frame, client.receive(LONG).unwrap());
    let data = Incoming::Data { peer: PeerAddr(ADDRESS), data: b"indication".to_vec() };
    assert_eq!(Some(data), client.receive(LONG).unwrap());
    assert_eq!(frame, client.receive(LONG).unwrap());
    script.finish();
}

#[test]
fn channel_data_is_padded() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //= type=test
    //# Over TCP and TLS-over-TCP, the ChannelData message MUST be padded to
    //# a multiple of four bytes in order to ensure the alignment of
    //# subsequent messages.
    let mut script = Script::new()
        .then(|message| {
            assert_eq!([0x40, 1, 0, 5, b'f', b'r', b'a', b'm', b'e', 0, 0, 0], *message);
            Vec::new()
        })
        .then(|message| {
            assert_eq!([0x40, 1, 0, 0], *message);
            Vec::new()
        })
        .then(|request| vec![bound(request)]);
    let mut client = script.tcp_client(options());
    client.send_channel_data(channel(), b"frame").unwrap();
    client.send_channel_data(channel(), b"").unwrap();
    assert_eq!(ServerReflexive(ADDRESS), client.binding().unwrap());
    script.finish();
}

#[test]
fn the_longest_channel_data_arrives() {
    let data = vec![7; 65_535];
    let frame = [&[0x40, 1, 0xFF, 0xFF][..], &data, &[0]].concat();
    let mut script = Script::new().then(move |_| vec![[frame.as_slice(), &frame].concat()]);
    let mut client = script.tcp_client(options());
    client.send_channel_data(channel(), b"go on").unwrap();
    for _ in 0..2 {
        let incoming = Incoming::ChannelData { number: channel(), data: data.clone() };
        assert_eq!(Some(incoming), client.receive(LONG).unwrap());
    }
    script.finish();
}

#[test]
fn a_request_is_sent_once() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.2
    //= type=test
    //# Reliability of STUN over TCP and TLS-over-TCP is handled by TCP
    //# itself, and there are no retransmissions at the STUN protocol level.
    let mut script = Script::new().then(|_| Vec::new()).then(|message| {
        assert_eq!([0x40, 1, 0, 0], *message);
        Vec::new()
    });
    let mut client = script.tcp_client(impatient());
    let error = client.binding().unwrap_err();
    let waited = impatient().retransmission.total();
    let is_no_answer = matches!(
        error,
        ClientError::NoAnswer { method: Method::BINDING, waited: found } if found == waited
    );
    assert!(is_no_answer, "{error}");
    client.send_channel_data(channel(), b"").unwrap();
    script.finish();
}

#[test]
fn an_answer_without_integrity_ends_the_request() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //= type=test
    //# If the request was sent over a reliable transport, the response MUST
    //# be discarded, and the layer MUST immediately end the transaction and
    //# signal that the integrity protection was violated.
    let mut script = Script::new()
        .then(|request| vec![plain_challenge(request)])
        .then(|request| vec![answer(request, Class::Success, |_| {}), refreshed(request)]);
    let mut client = script.tcp_client(options());
    let error = client.refresh(None, None).unwrap_err();
    assert!(matches!(error, ClientError::IntegrityViolated { .. }), "{error}");
    script.finish();
}

#[test]
fn a_closed_connection_is_told_apart_from_silence() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.2
    //= type=test
    //# In addition, if the client is unable to establish the TCP connection,
    //# or the TCP connection is reset or fails before a response is
    //# received, any request/response transaction in progress is considered
    //# to have failed.
    let mut script = Script::new().then(|_| Vec::new());
    let mut client = script.tcp_client(options());
    let error = client.binding().unwrap_err();
    assert!(matches!(error, ClientError::Closed { method: Method::BINDING }), "{error}");
    script.finish();

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::dial(closed, &Protocol::Tcp, options()).unwrap_err();
    assert!(matches!(error, ClientError::NotConnected { server, .. } if server == closed));
}

#[test]
fn a_stream_of_something_else_is_an_error() {
    let mut script = Script::new().then(|_| vec![b"\x16\x03\x01 is TLS".to_vec()]);
    let mut client = script.tcp_client(options());
    let error = client.binding().unwrap_err();
    assert!(error.to_string().contains("neither STUN nor ChannelData"), "{error}");
    script.finish();
}

#[test]
fn requests_go_through_tls() {
    let authority = Authority::new();
    for trust in [Trust::File(authority.file()), Trust::Anyone] {
        let mut script = Script::new()
            .then(|request| vec![plain_challenge(request)])
            .then(|request| refreshed(request).into_iter().map(|byte| vec![byte]).collect());
        let mut client =
            script.tls_client(authority.server(), HOST, &trust, options()).expect("it is trusted");
        assert_eq!(super::LIFETIME, client.refresh(None, None).unwrap());
        script.finish();
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut script = Script::new();
    let trust = Trust::File(theirs.file());
    let error = script.tls_client(ours.server(), HOST, &trust, options()).unwrap_err();
    assert!(matches!(error, ClientError::Tls(_)), "{error}");
    script.finish();
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    for host in ["other.example.org", "127.0.0.1"] {
        let mut script = Script::new();
        let trust = Trust::File(authority.file());
        let error = script.tls_client(authority.server(), host, &trust, options()).unwrap_err();
        assert!(matches!(error, ClientError::Tls(_)), "{error}");
        script.finish();
    }
}

#[test]
fn a_file_without_certificates_cannot_be_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for file in [empty.as_path(), Path::new("/there/is/no/such.pem")] {
        let error = TlsOptions::new(HOST, &Trust::File(file.to_owned())).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
    assert!(TlsOptions::new("no host", &Trust::Anyone).is_err());
}

#[test]
fn a_stalled_handshake_ends_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let tls = Protocol::Tls(TlsOptions::new(HOST, &Trust::Anyone).unwrap());
    let retransmission =
        Retransmission { interval: Duration::from_millis(50), sends: 1, last_wait: 1 };
    let options = ClientOptions { retransmission, ..options() };
    let error = Client::dial(silent.local_addr().unwrap(), &tls, options).unwrap_err();
    assert!(matches!(error, ClientError::TlsStalled { .. }), "{error}");
}
