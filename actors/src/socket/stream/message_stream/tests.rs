//! What TLS makes of messages that wait together, looked at from both sides of the records.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::*;
use crate::transport::{Frame, HeaderFields};

/// The server's end of a stream, whose writes are counted.
struct Counted {
    stream: DuplexStream,
    writes: Rc<Cell<usize>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, room)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.writes.set(self.writes.get() + 1);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The two ends of a connection under TLS, with room for so many bytes on the way.
struct Ends {
    server: TlsStream<Counted>,
    client: client::TlsStream<DuplexStream>,
    writes: Rc<Cell<usize>>,
}

impl Ends {
    async fn meet(version: &'static SupportedProtocolVersion, on_the_way: usize) -> Ends {
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(["turn.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("it can be signed").der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("it can be trusted");
        let provider = || Arc::new(aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("the version is there")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("the version is there")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is the certificate's");
        // A ticket would stand in the way of the first message.
        server.send_tls13_tickets = 0;
        let (near, far) = duplex(on_the_way);
        let writes = Rc::new(Cell::new(0));
        let near = Counted { stream: near, writes: writes.clone() };
        let name = ServerName::try_from("turn.example").expect("a name");
        let limit = |tls: &mut tokio_rustls::rustls::ServerConnection| {
            tls.set_buffer_limit(Some(TLS_BUFFER));
        };
        let (server, client) = tokio::join!(
            TlsAcceptor::from(Arc::new(server)).accept_with(near, limit),
            TlsConnector::from(Arc::new(client)).connect(name, far),
        );
        let (mut server, mut client) = (server.expect("it serves"), client.expect("it trusts"));
        // Whatever the handshake leaves to be read is read.
        server.write_all(b"well").await.expect("it is taken");
        server.flush().await.expect("it goes out");
        client.read_exact(&mut [0; 4]).await.expect("it comes");
        writes.set(0);
        Ends { server, client, writes }
    }
}

/// What the next record holds for the client.
async fn record(client: &mut client::TlsStream<DuplexStream>) -> Vec<u8> {
    let (stream, tls) = client.get_mut();
    let mut record = vec![0; 5];
    stream.read_exact(&mut record).await.expect("a record begins");
    record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
    stream.read_exact(&mut record[5..]).await.expect("it comes to its end");
    let mut unread = record.as_slice();
    while !unread.is_empty() {
        tls.read_tls(&mut unread).expect("there is room for a record");
    }
    tls.process_new_packets().expect("it is the server's");
    let mut held = vec![0; record.len()];
    let length = io::Read::read(&mut tls.reader(), &mut held).expect("it holds data");
    held.truncate(length);
    held
}

fn outbox(messages: &[Vec<u8>]) -> Outbox {
    let mut outbox = Outbox::new(1 << 20);
    for (number, message) in messages.iter().enumerate() {
        let frame = match number % 5 {
            0 => Frame::control(message),
            _ => Frame::media(message, HeaderFields::default()),
        };
        outbox.push(&[frame]).expect("there is room");
    }
    outbox
}

fn messages(count: usize, length: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| vec![number as u8; length]).collect()
}

/// Takes once; the bytes taken, `None` where nothing more has room.
async fn take(stream: &mut impl MessageStream, outbox: &mut Outbox) -> Option<usize> {
    let taken = poll_fn(|cx| Poll::Ready(stream.poll_take(cx, outbox))).await;
    let Poll::Ready(taken) = taken else { return None };
    let taken = taken.expect("the connection stands");
    outbox.advance(taken);
    Some(taken)
}

#[tokio::test]
async fn records_of_all_that_waits_go_out_in_one_write() {
    for version in [&TLS12, &TLS13] {
        let mut ends = Ends::meet(version, 1 << 20).await;
        let sent = messages(RECORDS_AT_ONCE, 200);
        let mut outbox = outbox(&sent);
        assert_eq!(Some(RECORDS_AT_ONCE * 200), take(&mut ends.server, &mut outbox).await);
        ends.server.flush().await.expect("it goes out");
        assert_eq!(1, ends.writes.get());
        for message in sent {
            assert_eq!(message, record(&mut ends.client).await);
        }
    }
}

#[tokio::test]
async fn messages_are_whole_however_little_the_client_takes() {
    for (count, length) in [(1000, 20), (200, 1200), (40, 16_000), (3, 16_384)] {
        for on_the_way in [100, 5000] {
            let Ends { mut server, mut client, .. } = Ends::meet(&TLS13, on_the_way).await;
            let sent = messages(count, length);
            let mut outbox = outbox(&sent);
            let send = async {
                while !outbox.is_empty() {
                    let taken = poll_fn(|cx| server.poll_take(cx, &outbox)).await;
                    outbox.advance(taken.expect("the connection stands"));
                }
                server.flush().await.expect("it goes out");
            };
            let receive = async {
                let mut received = Vec::new();
                while received.len() < sent.len() {
                    received.push(record(&mut client).await);
                }
                received
            };
            let ((), received) = tokio::join!(send, receive);
            assert!(sent == received, "{count} of {length}");
        }
    }
}

#[tokio::test]
async fn what_waits_within_tls_is_bounded() {
    for (length, most) in [(4, RECORDS_AT_ONCE * 4), (1200, TLS_BUFFER), (60_000, TLS_BUFFER)] {
        // Nobody reads, so that all but these few bytes waits.
        let mut ends = Ends::meet(&TLS13, 100).await;
        let mut outbox = outbox(&messages(10_000_usize.min((1 << 20) / length), length));
        let first = take(&mut ends.server, &mut outbox).await.expect("TLS is empty");
        assert!(first > most / 2 && first <= most, "{first} of {most}");
        assert_eq!(None, take(&mut ends.server, &mut outbox).await);
    }
}

#[tokio::test]
async fn in_the_clear_all_that_waits_is_one_write() {
    let (near, mut client) = duplex(1 << 20);
    let writes = Rc::new(Cell::new(0));
    let mut stream = Paced::new(Counted { stream: near, writes: writes.clone() });
    let sent = messages(25, 200);
    let mut outbox = outbox(&sent);
    assert_eq!(Some(25 * 200), take(&mut stream, &mut outbox).await);
    assert_eq!(1, writes.get());
    let mut received = vec![0; 25 * 200];
    client.read_exact(&mut received).await.expect("all of it comes");
    assert_eq!(sent.concat(), received);
}
