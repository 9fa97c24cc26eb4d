//! Connections in virtual time: their deadlines, what waits for whom, and how they end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use slog::{Discard, Logger, o};
use socket2::SockRef;
use sterna_proto::address::{FiveTuple, TransportProtocol};
use sterna_proto::drops::DropReason;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::coop::poll_proceed;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::connection::Connection;
use super::conversation::{Conversation, GoesOver};
use super::link::Entered;
use super::listen::StreamListenSocket;
use super::message_stream::MessageStream;
use super::outbox::Outbox;
use super::shared::{Shared, StreamTerms};
use crate::clock;
use crate::config::Limits;
use crate::peer_connection::PeerConnection;
use crate::socket::ended::Ended;
use crate::socket::{ListenOptions, ReceiveBatch};
use crate::transport::{Frame, HeaderFields, ListenSocket, Sent};

const SETUP: Duration = Duration::from_secs(10);

/// Bytes that a stream of the tests holds on its way.
const ON_THE_WAY: usize = 4096;

/// Bytes that may wait for a client.
const BUFFER: usize = 8192;

fn limits() -> Limits {
    Limits {
        sessions_per_listener: 10,
        permissions_per_allocation: 10,
        channels_per_allocation: 10,
        connections_per_allocation: 10,
        unauthenticated_answers_per_second: 0,
        failed_logins_per_minute: 0,
        connections_per_listener: 10,
        unproved_connections_per_listener: 2,
        unproved_connections_per_source: 2,
        connection_setup: SETUP,
        stream_buffer: BUFFER,
    }
}

fn terms(limits: Limits) -> StreamTerms {
    let log = Logger::root(Discard, o!());
    StreamTerms { limits, proxy: None, plain: true, tls: None, log }
}

fn shared() -> Rc<Shared> {
    Rc::new(Shared::new(([192, 0, 2, 9], 3478).into(), terms(limits())))
}

fn five_tuple(port: u16) -> FiveTuple {
    FiveTuple {
        client: ([192, 0, 2, 1], port).into(),
        server: ([192, 0, 2, 9], 3478).into(),
        protocol: TransportProtocol::Tcp,
    }
}

impl MessageStream for DuplexStream {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &Outbox,
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(self).poll_write_vectored(cx, &waiting.slices())
    }
}

/// A client, and the future that is the server's side of its connection.
fn connect(
    shared: &Rc<Shared>,
    port: u16,
) -> (DuplexStream, impl Future<Output = (Result<GoesOver, Ended>, DuplexStream)> + use<>) {
    let (client, mut stream) = duplex(ON_THE_WAY);
    let shared = shared.clone();
    let served = async move {
        let unproved = shared.caps.unproved(Some(five_tuple(port).client.ip()));
        let unproved = unproved.expect("there is a place");
        let entered = Entered::new(shared.clone(), five_tuple(port));
        let now = clock::now();
        let early = BytesMut::new();
        let mut conversation =
            Conversation::new(&mut stream, entered.link(), &shared, early, unproved, now);
        let outcome = poll_fn(|cx| conversation.poll(cx)).await;
        drop(conversation);
        (outcome, stream)
    };
    (client, served)
}

/// Runs a script beside the connection, which has to go on until the script is over.
async fn beside<T, F: Future>(connection: &mut Pin<&mut F>, script: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        _ = connection.as_mut() => panic!("the connection has ended"),
        done = script => done,
    }
}

fn reason<S>(outcome: (Result<GoesOver, Ended>, S)) -> DropReason {
    let ended = outcome.0.err().expect("it does not go over");
    ended.reason().unwrap_or_else(|| panic!("ended otherwise: {ended}"))
}

/// A STUN message of 20 bytes with this type.
fn stun(kind: u16) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend([0, 0, 0x21, 0x12, 0xA4, 0x42]);
    message.extend([7; 12]);
    message
}

const REQUEST: u16 = 0x0001;
const INDICATION: u16 = 0x0011;

/// Takes what the listener would take.
fn heard(shared: &Shared) -> Vec<Vec<u8>> {
    let mut batch = ReceiveBatch::new();
    shared.inbox.borrow_mut().drain_into(&mut batch);
    batch.iter().map(|(_, bytes)| bytes.to_vec()).collect()
}

#[tokio::test(start_paused = true)]
async fn client_that_asks_for_nothing_has_to_go() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let began = clock::now();
    // Neither an indication nor ChannelData asks for anything.
    client.write_all(&stun(INDICATION)).await.expect("it is taken");
    client.write_all(&[0x40, 0, 0, 0]).await.expect("it is taken");
    assert_eq!(DropReason::SetupTimeout, reason(served.await));
    assert_eq!(SETUP, clock::now() - began);
}

#[tokio::test(start_paused = true)]
async fn client_may_stay_as_long_as_it_asks_for_something() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        for _ in 0..5 {
            sleep(SETUP - Duration::from_millis(2)).await;
            client.write_all(&stun(REQUEST)).await.expect("it is taken");
            sleep(Duration::from_millis(1)).await;
            assert_eq!(vec![stun(REQUEST)], heard(&shared));
        }
    };
    beside(&mut served, script).await;
    assert_eq!(DropReason::SetupTimeout, reason(served.await));
}

#[tokio::test(start_paused = true)]
async fn proved_client_may_be_silent_until_its_session_has_ended() {
    let shared = shared();
    let (_client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        sleep(SETUP / 2).await;
        let transport = shared.transport(five_tuple(1));
        sleep(100 * SETUP).await;
        drop(transport);
        sleep(SETUP / 2).await;
        clock::now()
    };
    let half_time = beside(&mut served, script).await;
    assert_eq!(DropReason::SetupTimeout, reason(served.await));
    assert_eq!(SETUP / 2, clock::now() - half_time);
}

#[tokio::test(start_paused = true)]
async fn unproved_places_are_for_those_who_have_proved_nothing() {
    let shared = shared();
    let connections: Vec<_> = (1..=2).map(|port| connect(&shared, port)).collect();
    let mut clients = Vec::new();
    let mut served = Vec::new();
    for (client, connection) in connections {
        clients.push(client);
        served.push(Box::pin(connection));
    }
    for connection in &mut served {
        poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_pending())).await;
    }
    let source = Some(five_tuple(1).client.ip());
    assert!(shared.caps.unproved(source).is_none());
    let transport = shared.transport(five_tuple(1));
    let mut first = served.remove(0);
    poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
    let taken = shared.caps.unproved(source);
    assert!(taken.is_some(), "the one that is proved has left its place");

    // When its session has ended, there is no place to go back to.
    drop(transport);
    assert_eq!(DropReason::UnprovedFull, reason(first.await));
}

#[tokio::test(start_paused = true)]
async fn client_that_only_asks_gives_way_to_a_newcomer_when_it_has_had_its_time() {
    let shared = shared();
    let newcomer = || shared.caps.unproved(Some(five_tuple(1).client.ip()));
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let asks = async |client: &mut DuplexStream| {
        client.write_all(&stun(REQUEST)).await.expect("it is taken");
        sleep(SETUP / 2).await;
    };
    beside(&mut served, asks(&mut client)).await;
    let _second = newcomer().expect("there is a place");
    beside(&mut served, async { assert!(newcomer().is_none(), "its time is not over") }).await;
    beside(&mut served, asks(&mut client)).await;
    let now = clock::now();

    let third = newcomer();

    assert!(third.is_some(), "the one that only asks has had its time");
    assert_eq!(DropReason::UnprovedFull, reason(served.await));
    assert_eq!(now, clock::now());
    assert!(newcomer().is_none(), "the others have their time");
}

#[tokio::test(start_paused = true)]
async fn message_has_to_come_to_its_end() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let (message, began) = (stun(REQUEST), clock::now());
    let script = async {
        let transport = shared.transport(five_tuple(1));
        for byte in &message[..19] {
            client.write_all(&[*byte]).await.expect("it is taken");
            sleep(SETUP / 20).await;
        }
        transport
    };
    let _transport = beside(&mut served, script).await;
    assert_eq!(DropReason::SlowWriter, reason(served.await));
    assert_eq!(SETUP, clock::now() - began);
    assert!(heard(&shared).is_empty());
}

#[tokio::test(start_paused = true)]
async fn client_that_takes_nothing_has_to_go() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        let transport = shared.transport(five_tuple(1));
        assert_eq!(1, transport.send(&[Frame::control(&[0; ON_THE_WAY + 4])]).packets);
        // A client that takes anything at all is only slow.
        sleep(Duration::from_secs(59)).await;
        client.read_exact(&mut [0; 4]).await.expect("something waits");
        assert_eq!(1, transport.send(&[Frame::control(&[0; 4])]).packets);
        sleep(Duration::from_secs(59)).await;
        transport
    };
    let _transport = beside(&mut served, script).await;
    let since = clock::now();
    assert_eq!(DropReason::SlowReader, reason(served.await));
    assert_eq!(Duration::from_secs(1), clock::now() - since);
}

#[tokio::test(start_paused = true)]
async fn client_that_asks_and_never_reads_has_to_go() {
    let shared = shared();
    let (_client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let transport = shared.transport(five_tuple(1));
    assert_eq!(1, transport.send(&[Frame::control(&[0])]).failed, "nobody has connected");
    beside(&mut served, sleep(Duration::from_millis(1))).await;
    let transport = shared.transport(five_tuple(1));
    let answers = (BUFFER / 100) as u32;
    for _ in 0..answers {
        assert_eq!(1, transport.send(&[Frame::control(&[0; 100])]).packets);
    }
    assert_eq!(1, transport.send(&[Frame::control(&[0; 100])]).failed);
    assert_eq!(DropReason::SlowReader, reason(served.await));
}

#[tokio::test(start_paused = true)]
async fn oldest_media_goes_and_answers_stay_while_a_client_does_not_read() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        sleep(Duration::from_millis(1)).await;
        let transport = shared.transport(five_tuple(1));
        let mut sent = Sent::default();
        for number in 0..100_u8 {
            let mut frame = [number; 256];
            frame[..4].copy_from_slice(&[0x40, 0, 0, 252]);
            sent.add(transport.send(&[Frame::media(&frame, HeaderFields::default())]));
            sleep(Duration::from_millis(1)).await;
        }
        sent.add(transport.send(&[Frame::control(&stun(0x0101))]));
        // What was on the way, and what waited behind the gap.
        let mut numbers = Vec::new();
        loop {
            let mut head = [0; 20];
            client.read_exact(&mut head).await.expect("there is more");
            if head[0] == 0x01 {
                break;
            }
            client.read_exact(&mut [0; 236]).await.expect("messages are whole");
            numbers.push(head[19]);
        }
        (numbers, sent)
    };
    let (numbers, sent) = beside(&mut served, script).await;
    let on_the_way = (ON_THE_WAY / 256) as u8;
    // The answer took the place of one more.
    let waited = (BUFFER / 256 - 1) as u8;
    let expected: Vec<u8> = (0..on_the_way).chain(100 - waited..100).collect();
    assert_eq!(expected, numbers);
    assert_eq!(100 - expected.len() as u32, sent.no_room);
    assert_eq!((101, 0), (sent.packets, sent.failed));
}

#[tokio::test(start_paused = true)]
async fn client_waits_while_the_listener_is_busy() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        let _transport = shared.transport(five_tuple(1));
        let messages = 10_000_u32;
        let write = async {
            for number in 0..messages {
                let mut message = vec![0x40, 0, 0, 4];
                message.extend(number.to_be_bytes());
                client.write_all(&message).await.expect("it is taken in the end");
            }
        };
        let read = async {
            // Far longer than a message may take: it is not the client that is slow.
            sleep(10 * SETUP).await;
            let mut next = 0;
            while next < messages {
                for message in heard(&shared) {
                    assert_eq!(next.to_be_bytes(), message[4..]);
                    next += 1;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(write, read);
    };
    beside(&mut served, script).await;
}

#[tokio::test(start_paused = true)]
async fn newer_connection_of_a_5_tuple_takes_the_place_of_the_older() {
    let shared = shared();
    let (mut older, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    older.write_all(&stun(REQUEST)).await.expect("it is taken");
    beside(&mut served, sleep(Duration::from_millis(1))).await;
    let transport = shared.transport(five_tuple(1));

    let (mut newer, newer_served) = connect(&shared, 1);
    let mut newer_served = std::pin::pin!(newer_served);
    newer.write_all(&stun(0x0003)).await.expect("it is taken");
    let ended = beside(&mut newer_served, served).await;

    assert_eq!(DropReason::ConnectionReplaced, reason(ended));
    assert_eq!(1, transport.send(&[Frame::control(&stun(0x0101))]).failed);
    assert_eq!(vec![stun(REQUEST)], heard(&shared));
    assert!(heard(&shared).is_empty(), "the listener is to be told first");
    assert_eq!(Some(five_tuple(1)), shared.inbox.borrow_mut().take_left());
    assert_eq!(vec![stun(0x0003)], heard(&shared));
    assert_eq!(None, shared.inbox.borrow_mut().take_left());
}

#[tokio::test(start_paused = true)]
async fn listener_is_told_of_the_end_behind_the_last_message() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    client.write_all(&stun(REQUEST)).await.expect("it is taken");
    drop(client);
    let (outcome, _) = served.await;
    assert!(matches!(outcome, Err(Ended::ByClient)));
    assert_eq!(None, shared.inbox.borrow_mut().take_left());
    assert_eq!(vec![stun(REQUEST)], heard(&shared));
    // Its session may be made only at this point; it has nobody to talk to.
    let transport = shared.transport(five_tuple(1));
    assert_eq!(1, transport.send(&[Frame::control(&stun(0x0101))]).failed);
    assert_eq!(Some(five_tuple(1)), shared.inbox.borrow_mut().take_left());
}

#[tokio::test(start_paused = true)]
async fn client_that_has_said_all_still_gets_the_answers_that_are_due() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        sleep(Duration::from_millis(1)).await;
        let transport = shared.transport(five_tuple(1));
        client.write_all(&stun(REQUEST).repeat(2)).await.expect("it is taken");
        client.shutdown().await.expect("its own side can be closed");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(2, heard(&shared).len());
        transport.send(&[Frame::control(&stun(0x0101))]);
        // The answer to one of them is not that to the other.
        sleep(Duration::from_millis(100)).await;
        transport
    };
    let transport = beside(&mut served, script).await;
    assert_eq!(1, transport.send(&[Frame::control(&stun(0x0111))]).packets);
    let ((outcome, _), began) = (served.await, clock::now());
    assert!(matches!(outcome, Err(Ended::ByClient)));
    assert_eq!(began, clock::now(), "nothing more is due");
    let mut answers = [0; 40];
    client.read_exact(&mut answers).await.expect("both have come");
    assert_eq!([stun(0x0101), stun(0x0111)].concat(), answers);
}

#[tokio::test(start_paused = true)]
async fn client_that_has_said_all_does_not_wait_long_for_what_may_never_come() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    client.write_all(&stun(REQUEST)).await.expect("it is taken");
    client.shutdown().await.expect("its own side can be closed");
    let began = clock::now();
    assert!(matches!(served.await.0, Err(Ended::ByClient)));
    assert_eq!(Duration::from_secs(1), clock::now() - began);
}

#[tokio::test(start_paused = true)]
async fn client_that_has_asked_nothing_is_gone_when_it_says_so() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    client.write_all(&stun(INDICATION)).await.expect("it is taken");
    client.shutdown().await.expect("its own side can be closed");
    let began = clock::now();
    assert!(matches!(served.await.0, Err(Ended::ByClient)));
    assert_eq!(began, clock::now());
}

/// A TCP connection, as far as a peer's is of interest here.
fn peer_connection() -> PeerConnection {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    PeerConnection::new(std::net::TcpStream::connect(address).expect("it listens"))
}

#[tokio::test(start_paused = true)]
async fn connection_goes_over_to_a_peer_behind_what_was_sent_on_it() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let begun = b"\x40\x00\x00\x08data";
    let script = async {
        sleep(Duration::from_millis(1)).await;
        let transport = shared.transport(five_tuple(1));
        client.write_all(begun).await.expect("it is taken");
        sleep(Duration::from_millis(1)).await;
        // More than can be on the way: the client has to read before the connection goes over.
        let answer = stun(0x0101).repeat(ON_THE_WAY / 20 + 1);
        assert_eq!(1, transport.send(&[Frame::control(&answer)]).packets);
        transport.join(peer_connection()).expect("there is a connection");
        assert!(transport.join(peer_connection()).is_err(), "it goes over once");
        assert_eq!(1, transport.send(&[Frame::control(&stun(0x0101))]).failed);
        sleep(Duration::from_millis(1)).await;
        answer.len()
    };
    let waiting = beside(&mut served, script).await;
    let mut answer = vec![0; waiting];
    let read = client.read_exact(&mut answer);
    let ((outcome, _), read) = tokio::join!(served, read);
    read.expect("all of the answer comes");
    let over = outcome.expect("it goes over");
    assert_eq!(begun.as_slice(), over.early);
}

#[tokio::test(start_paused = true)]
async fn connection_that_goes_over_is_bound_by_no_deadline_of_the_unproved() {
    let shared = shared();
    let (mut client, served) = connect(&shared, 1);
    let mut served = std::pin::pin!(served);
    let script = async {
        sleep(Duration::from_millis(1)).await;
        let transport = shared.transport(five_tuple(1));
        transport.send(&[Frame::control(&[0; ON_THE_WAY + 4])]);
        transport.join(peer_connection()).expect("there is a connection");
        drop(transport);
        sleep(2 * SETUP).await;
        client.read_exact(&mut [0; 4]).await.expect("something waits");
    };
    beside(&mut served, script).await;
    assert!(served.await.0.is_ok());
}

/// A listening socket on loopback, and where it is.
fn listening() -> (StreamListenSocket, std::net::SocketAddr) {
    listening_for(limits())
}

fn listening_for(limits: Limits) -> (StreamListenSocket, std::net::SocketAddr) {
    let options = ListenOptions { share_port: false };
    let any = "127.0.0.1:0".parse().expect("an address");
    let socket = StreamListenSocket::bind(TransportProtocol::Tcp, any, options);
    let socket = StreamListenSocket::watch(socket.expect("a port is free"), terms(limits));
    let socket = socket.expect("it can be watched");
    let address = socket.local();
    (socket, address)
}

/// Polls the socket for a while; the messages that came.
async fn receive(socket: &mut StreamListenSocket, within: Duration) -> Vec<Vec<u8>> {
    let mut batch = ReceiveBatch::new();
    let received = poll_fn(|cx| socket.poll_receive(cx, &mut batch));
    // What has not come by then is not there: the batch says so.
    let _ = tokio::time::timeout(within, received).await;
    batch.iter().map(|(_, bytes)| bytes.to_vec()).collect()
}

#[tokio::test]
async fn nothing_is_accepted_for_a_moment_when_the_system_has_no_room() {
    let (mut socket, address) = listening();
    let mut client = std::net::TcpStream::connect(address).expect("it listens");
    client.write_all(&stun(REQUEST)).expect("it is taken");
    let began = clock::now();
    socket.inject(libc::EMFILE);
    assert_eq!(vec![stun(REQUEST)], receive(&mut socket, Duration::from_secs(20)).await);
    assert!(clock::now() - began >= Duration::from_millis(100));
    assert_eq!(1, socket.take_drops().get(DropReason::AcceptFailed));
}

/// Connects clients to a listening socket that has room for all of them.
fn connect_all(clients: usize) -> (StreamListenSocket, Vec<std::net::TcpStream>) {
    let (socket, address) = listening_for(Limits {
        connections_per_listener: clients,
        unproved_connections_per_listener: clients,
        unproved_connections_per_source: clients,
        ..limits()
    });
    let connect = |_| std::net::TcpStream::connect(address).expect("it listens");
    (socket, (0..clients).map(connect).collect())
}

/// Uses up what tokio lets a task do at once, but for this many steps.
fn leave_of_the_budget(steps: usize, cx: &mut Context<'_>) {
    for _ in steps..128 {
        if let Poll::Ready(step) = poll_proceed(cx) {
            step.made_progress();
        }
    }
}

#[tokio::test]
async fn all_clients_are_heard_however_little_their_task_may_do_at_once() {
    const CLIENTS: usize = 20;
    let (mut socket, mut clients) = connect_all(CLIENTS);
    for client in &mut clients {
        client.write_all(&stun(REQUEST)).expect("it is taken");
    }
    let port = |client: &std::net::TcpStream| client.local_addr().map(|own| own.port());
    let ports: Vec<u16> = clients.iter().filter_map(|client| port(client).ok()).collect();
    let mut heard = [0; CLIENTS];
    let mut batch = ReceiveBatch::new();
    while heard.iter().sum::<u32>() < 50 * CLIENTS as u32 {
        let received = poll_fn(|cx| {
            leave_of_the_budget(4, cx);
            socket.poll_receive(cx, &mut batch)
        });
        received.await.expect("the socket is well");
        for (from, _) in batch.iter() {
            let client = ports.iter().position(|port| *port == from.from.port());
            let client = client.expect("it is one of these");
            heard[client] += 1;
            // Who is answered has something to say again, before those who have waited longer.
            clients[client].write_all(&stun(REQUEST)).expect("it is taken");
        }
        yield_now().await;
    }
    assert!(heard.iter().all(|times| (40..=60).contains(times)), "{heard:?}");
}

#[tokio::test]
async fn client_that_sends_without_end_keeps_nobody_waiting() {
    let (mut socket, mut clients) = connect_all(2);
    let (mut greedy, mut modest) = (clients.remove(0), clients.remove(0));
    greedy.set_nonblocking(true).expect("the kernel does that");
    let messages = [0x40, 0, 0, 0].repeat(1 << 12);
    // Whatever is too much stays away, at a boundary or not: the stream goes on where it was.
    let mut at = 0;
    let mut send_without_end = || {
        while let Ok(sent) = greedy.write(&messages[at % 4..]) {
            at += sent;
        }
    };
    send_without_end();
    assert_eq!(64, receive(&mut socket, Duration::from_secs(20)).await.len());
    modest.write_all(&stun(REQUEST)).expect("it is taken");
    for batches in 1.. {
        send_without_end();
        let heard = receive(&mut socket, Duration::from_secs(20)).await;
        if heard.contains(&stun(REQUEST)) {
            break;
        }
        assert!(batches < 10, "others have been heard so often");
        yield_now().await;
    }
}

#[tokio::test]
async fn round_of_turns_ends_and_the_next_goes_on_behind_it() {
    let shared = shared();
    let polled = RefCell::new(Vec::new());
    let connection = |number: usize| {
        let (shared, polled) = (&shared, &polled);
        poll_fn(move |cx| {
            shared.take_turn(cx, |_| {
                polled.borrow_mut().push(number);
                Poll::<()>::Pending
            })
        })
    };
    let mut connections: FuturesUnordered<_> = (0..20).map(connection).collect();
    while polled.borrow().len() < 20 {
        let before = polled.borrow().len();
        shared.turns.set(5);
        poll_fn(|cx| Poll::Ready(connections.poll_next_unpin(cx).is_pending())).await;
        // The first one without a turn ends the round.
        assert!((1..=6).contains(&(polled.borrow().len() - before)));
    }
    assert!(polled.borrow().iter().take(20).copied().eq(0..20), "{polled:?}");
}

#[tokio::test]
async fn connections_have_the_options_of_their_listening_socket() {
    let (mut socket, address) = listening();
    let _client = std::net::TcpStream::connect(address).expect("it listens");
    let accepted = socket.accept_one().await;
    let options = SockRef::from(&accepted);
    assert!(options.tcp_nodelay().expect("the kernel tells"));
    assert!(options.keepalive().expect("the kernel tells"));
    assert_eq!(Duration::from_secs(60), options.tcp_keepalive_time().expect("the kernel tells"));
    let timeout = options.tcp_user_timeout().expect("the kernel tells");
    assert_eq!(Some(Duration::from_secs(60)), timeout);
    assert_eq!(128 << 10, options.tcp_notsent_lowat().expect("the kernel tells"));
}

#[tokio::test]
async fn panic_in_one_connection_ends_that_one() {
    let (mut socket, address) = listening();
    let mut client = std::net::TcpStream::connect(address).expect("it listens");
    let shared = socket.shared().clone();
    let connection = Connection {
        stream: socket.accept_one().await,
        from: client.local_addr().expect("it is bound"),
        connected: shared.caps.connect().expect("there is a place"),
        unproved: shared.caps.unproved(None).expect("there is a place"),
        shared: shared.clone(),
    };
    client.write_all(&stun(REQUEST)).expect("it is taken");
    // Whoever holds the inbox makes the next message panic.
    let mut serve = std::pin::pin!(connection.serve());
    poll_fn(|cx| {
        let _held = shared.inbox.borrow_mut();
        serve.as_mut().poll(cx)
    })
    .await;
    assert_eq!(1, shared.take_drops().get(DropReason::ConnectionPanicked));
    assert_eq!(0, client.read(&mut [0]).expect("it was closed"));
    assert!(shared.links.get(&five_tuple(1)).is_none());
}
