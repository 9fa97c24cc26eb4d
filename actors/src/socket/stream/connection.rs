//! One connection from its first byte to its last.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::FutureExt;
use slog::error;
use sterna_proto::address::{FiveTuple, TransportProtocol};
use sterna_proto::drops::DropReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use super::conversation::{Conversation, GoesOver};
use super::link::Entered;
use super::message_stream::{MessageStream, TLS_BUFFER};
use super::rewound::Rewound;
use super::shared::Shared;
use super::sniff::{Spoken, sniff};
use crate::clock;
use crate::paced::Paced;
use crate::peer_connection::Duplex;
use crate::socket::caps::{Connected, Unproved};
use crate::socket::ended::Ended;
use crate::socket::proxy::{self, Client};

/// A connection that was accepted and admitted.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Where it comes from: the client, or a proxy.
    pub(super) from: SocketAddr,
    pub(super) connected: Connected,
    pub(super) unproved: Unproved,
    pub(super) shared: Rc<Shared>,
}

/// The client of a connection, as far as it is known before its first message.
struct Opening {
    client: SocketAddr,
    server: SocketAddr,
    unproved: Unproved,
    /// What was read of the layer that comes next.
    early: BytesMut,
}

/// What messages travel on.
enum Opened {
    Plain(Paced<TcpStream>),
    Tls(Box<TlsStream<Rewound<Paced<TcpStream>>>>),
    /// None do: it speaks HTTP.
    Http(Box<dyn Duplex>),
}

impl Connection {
    /// Serves the client to the end. A panic ends this connection and no other.
    pub(super) async fn serve(self) {
        let (shared, from) = (self.shared.clone(), self.from);
        let mut run = pin!(AssertUnwindSafe(self.run()).catch_unwind());
        let ended = poll_fn(|cx| shared.take_turn(cx, |cx| run.as_mut().poll(cx))).await;
        if ended.is_err() {
            error!(shared.terms.log, "connection panicked and is closed";
                "listener" => %shared.local);
            shared.note_end(from, &Ended::Refused(DropReason::ConnectionPanicked));
        }
    }

    // What the connection is made of is taken apart before its future is made, which would
    // otherwise have room for it twice, as long as it lives.
    fn run(self) -> impl Future<Output = ()> {
        let Connection { stream, from, connected, unproved, shared } = self;
        let since = clock::now();
        let deadline = since + shared.terms.limits.connection_setup;
        // Boxed, so that the room which a handshake takes is given back when it is over.
        let opened = open(stream, from, unproved, shared.clone());
        let opened = Box::pin(timeout_at(deadline.into(), opened));
        async move {
            match opened.await.unwrap_or(Err(Ended::Refused(DropReason::SetupTimeout))) {
                Err(ended) => shared.note_end(from, &ended),
                Ok((Opened::Plain(stream), opening)) => {
                    converse(stream, TransportProtocol::Tcp, opening, since, shared).await;
                }
                Ok((Opened::Tls(stream), opening)) => {
                    converse(stream, TransportProtocol::Tls, opening, since, shared).await;
                }
                Ok((Opened::Http(stream), _opening)) => {
                    shared.note_end(from, &Ended::Refused(DropReason::HttpRequest));
                    // Whether the answer is of interest is the client's affair.
                    let _ = timeout(CLOSE_WITHIN, answer_http(stream)).await;
                }
            }
            drop(connected);
        }
    }
}

/// PROXY header, first bytes and TLS handshake.
async fn open(
    stream: TcpStream,
    from: SocketAddr,
    unproved: Unproved,
    shared: Rc<Shared>,
) -> Result<(Opened, Opening), Ended> {
    let shared = &*shared;
    let (client, server) = (from, stream.local_addr()?);
    let mut stream = Paced::new(stream);
    let mut opening = Opening { client, server, unproved, early: BytesMut::new() };
    if shared.terms.proxy.is_some() {
        opening = unwrap_proxy(&mut stream, opening, shared).await?;
    }
    match first_bytes(&mut stream, &mut opening.early, shared).await? {
        Spoken::Messages if shared.serves_plain() => Ok((Opened::Plain(stream), opening)),
        Spoken::Messages => Err(Ended::Refused(DropReason::PlainRefused)),
        Spoken::Tls => {
            let early = std::mem::take(&mut opening.early);
            let mut tls = Box::new(shake_hands(Rewound::new(early, stream), shared).await?);
            match first_bytes(&mut tls, &mut opening.early, shared).await? {
                Spoken::Messages => Ok((Opened::Tls(tls), opening)),
                Spoken::Http => Ok((Opened::Http(tls), opening)),
                Spoken::Tls | Spoken::Other => Err(Ended::Refused(DropReason::BadFraming)),
            }
        }
        Spoken::Http => Ok((Opened::Http(Box::new(stream)), opening)),
        Spoken::Other => Err(Ended::Refused(DropReason::BadFraming)),
    }
}

/// Reads the PROXY header, which names the client.
async fn unwrap_proxy(
    stream: &mut Paced<TcpStream>,
    mut opening: Opening,
    shared: &Shared,
) -> Result<Opening, Ended> {
    let header = loop {
        let found = proxy::read_of_stream(&opening.early);
        match found.map_err(|fault| Ended::Faulty(DropReason::ProxyHeader, fault.to_string()))? {
            Some(header) => break header,
            None => shared.read_more(stream, &mut opening.early).await?,
        }
    };
    let _ = opening.early.split_to(header.length);
    if let Client::Named(client) = header.client {
        opening.client = client;
    }
    let place = opening.unproved.of(opening.client.ip());
    let unproved = place.ok_or(Ended::Refused(DropReason::UnprovedFull))?;
    Ok(Opening { unproved, ..opening })
}

/// Reads until it is clear what the client speaks.
async fn first_bytes<S: AsyncRead + Unpin>(
    stream: &mut S,
    early: &mut BytesMut,
    shared: &Shared,
) -> Result<Spoken, Ended> {
    loop {
        match sniff(early) {
            Some(spoken) => return Ok(spoken),
            None => shared.read_more(stream, early).await?,
        }
    }
}

async fn shake_hands(
    stream: Rewound<Paced<TcpStream>>,
    shared: &Shared,
) -> Result<TlsStream<Rewound<Paced<TcpStream>>>, Ended> {
    let terms = shared.tls().ok_or(Ended::Refused(DropReason::TlsNotServed))?;
    let fault = |error: std::io::Error| Ended::Faulty(DropReason::TlsFailed, error.to_string());
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(fault)?;
    let limit = |connection: &mut tokio_rustls::rustls::ServerConnection| {
        connection.set_buffer_limit(Some(TLS_BUFFER));
    };
    shared.spend_turns(TURNS_OF_A_HANDSHAKE);
    hello.into_stream_with(terms, limit).await.map_err(fault)
}

/// Tells a web browser, or who wonders what listens here, and waits until it has read that.
async fn answer_http(mut stream: Box<dyn Duplex>) -> std::io::Result<u64> {
    let length = HTTP_BODY.len();
    let answer = format!("{HTTP_HEAD}Content-Length: {length}\r\n\r\n{HTTP_BODY}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing on what is unread would reset the connection, and the answer with it.
    tokio::io::copy(&mut stream.take(HTTP_REQUEST_MAX), &mut tokio::io::sink()).await
}

/// Carries messages; then perhaps a peer's data; then closes.
async fn converse<S: MessageStream>(
    mut stream: S,
    protocol: TransportProtocol,
    opening: Opening,
    since: Instant,
    shared: Rc<Shared>,
) {
    let Opening { client, server, unproved, early } = opening;
    let entered = Entered::new(shared.clone(), FiveTuple { client, server, protocol });
    let mut conversation =
        Conversation::new(&mut stream, entered.link(), &shared, early, unproved, since);
    let outcome = poll_fn(|cx| conversation.poll(cx)).await;
    drop(conversation);
    match outcome {
        Ok(GoesOver { peer, early }) => {
            // Boxed, since most connections never go this way.
            let relayed = Box::pin(peer.relay(Rewound::new(early, stream))).await;
            drop(entered);
            let ended = relayed.map_or_else(Ended::from, |()| Ended::ByClient);
            shared.note_end(client, &ended);
        }
        Err(ended) => {
            drop(entered);
            shared.note_end(client, &ended);
            // With a close_notify under TLS; who does not take it in time goes without.
            let _ = timeout(CLOSE_WITHIN, stream.shutdown()).await;
        }
    }
}

/// Signing and agreeing on a key take some 0.3 ms, in which a connection reads and hands on dozens
/// of messages.
const TURNS_OF_A_HANDSHAKE: usize = 8;

/// How long an orderly close may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What is read of an HTTP request before the connection is closed regardless.
const HTTP_REQUEST_MAX: u64 = 64 << 10;

const HTTP_HEAD: &str = "HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n";
const HTTP_BODY: &str = "This is a TURN server (RFC 8656). It speaks STUN and no HTTP.\n";
