//! How many handshakes there are, however many hellos come with good cookies.

use std::future::poll_fn;

use rcgen::{CertificateParams, KeyPair};
use slog::{Discard, o};
use tokio::time::sleep;
use tokio_rustls::rustls::server::ResolvesServerCertUsingSni;

use super::super::hello::tests::both_hellos;
use super::*;
use crate::tls::stream_config;
use crate::transport::HeaderFields;

type Datagrams = Vec<(SocketAddr, Vec<u8>)>;

/// A socket on which the test says what comes, and from which nothing gets anywhere.
struct Played(Rc<RefCell<VecDeque<Datagrams>>>);

impl ListenSocket for Played {
    fn local(&self) -> SocketAddr {
        ([192, 0, 2, 9], 3478).into()
    }

    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        batch.clear();
        let Some(datagrams) = self.0.borrow_mut().pop_front() else { return Poll::Pending };
        for (from, datagram) in datagrams {
            assert!(batch.push(from, HeaderFields::default(), &datagram));
        }
        Poll::Ready(Ok(batch.len()))
    }

    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        Rc::new(DtlsTransport::over(None, five_tuple))
    }

    fn answer(&mut self, _: FiveTuple, _: &[u8]) -> Sent {
        Sent::default()
    }
}

struct Stage {
    socket: DtlsListenSocket,
    arriving: Rc<RefCell<VecDeque<Datagrams>>>,
    _renewal: watch::Sender<Arc<TlsTerms>>,
}

impl Stage {
    fn new() -> Stage {
        let arriving = Rc::new(RefCell::new(VecDeque::new()));
        let limits = Limits {
            sessions_per_listener: 1000,
            permissions_per_allocation: 1,
            channels_per_allocation: 1,
            connections_per_allocation: 1,
            unauthenticated_answers_per_second: 0,
            failed_logins_per_minute: 0,
            connections_per_listener: 1000,
            unproved_connections_per_listener: 1000,
            unproved_connections_per_source: 1000,
            connection_setup: Duration::from_secs(10),
            stream_buffer: 1,
        };
        let log = Logger::root(Discard, o!());
        let below = Box::new(Played(arriving.clone()));
        // The certificate is there as long as somebody may renew it.
        let (renewal, terms) = watch::channel(Arc::new(terms()));
        let socket = DtlsListenSocket::new(below, terms, limits, log);
        Stage { socket, arriving, _renewal: renewal }
    }

    /// A hello of this client that has its cookie.
    fn hello(&mut self, client: SocketAddr) -> (SocketAddr, Vec<u8>) {
        let cookies = &mut self.socket.cookies;
        let mint = |hello: &Hello<'_>| cookies.mint(hello, client, clock::now());
        (client, both_hellos(mint).1)
    }

    /// Has these datagrams come at one look at the socket.
    async fn receives(&mut self, datagrams: &[(SocketAddr, Vec<u8>)]) {
        self.arriving.borrow_mut().push_back(datagrams.to_vec());
        let mut batch = ReceiveBatch::new();
        let received = poll_fn(|cx| self.socket.poll_receive(cx, &mut batch)).await;
        assert_eq!(0, received.expect("nothing fails"), "hellos are for nobody else");
    }

    fn refused(&mut self) -> u64 {
        self.socket.take_drops().get(DropReason::HandshakesLimited)
    }
}

fn terms() -> TlsTerms {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["turn.example".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("it can be signed");
    let datagrams =
        Identity { chain: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
    let nobody = Arc::new(ResolvesServerCertUsingSni::new());
    let stream = Arc::new(stream_config(nobody, None).expect("TLS is there"));
    TlsTerms { stream, datagrams, asks_clients: false }
}

#[tokio::test(start_paused = true)]
async fn few_handshakes_begin_at_one_look_at_the_socket() {
    let mut stage = Stage::new();
    let hosts = 1..=2 * HANDSHAKES_AT_ONCE as u8 + 1;
    let hellos: Vec<_> = hosts.map(|host| stage.hello(([192, 0, 2, host], 5000).into())).collect();

    stage.receives(&hellos).await;
    assert_eq!(HANDSHAKES_AT_ONCE, stage.socket.connections());
    assert_eq!((HANDSHAKES_AT_ONCE + 1) as u64, stage.refused());

    // Those that were passed over say hello again.
    stage.receives(&hellos).await;
    assert_eq!(2 * HANDSHAKES_AT_ONCE, stage.socket.connections());
    stage.receives(&hellos).await;
    assert_eq!(hellos.len(), stage.socket.connections());
}

#[tokio::test(start_paused = true)]
async fn source_has_so_many_handshakes_in_a_second() {
    let mut stage = Stage::new();
    let most = HANDSHAKES_PER_SECOND as usize;
    let ports = 1..=2 * HANDSHAKES_PER_SECOND as u16 + 1;
    let hellos: Vec<_> = ports.map(|port| stage.hello(([192, 0, 2, 1], port).into())).collect();
    for some in hellos.chunks(HANDSHAKES_AT_ONCE) {
        stage.receives(some).await;
    }
    assert_eq!(most, stage.socket.connections());
    assert_eq!((most + 1) as u64, stage.refused());
    let other = stage.hello(([192, 0, 2, 2], 1).into());
    stage.receives(&[other]).await;
    assert_eq!(most + 1, stage.socket.connections());

    sleep(Duration::from_secs(1)).await;
    for some in hellos.chunks(HANDSHAKES_AT_ONCE) {
        stage.receives(some).await;
    }
    assert_eq!(2 * most + 1, stage.socket.connections());
}

#[tokio::test(start_paused = true)]
async fn two_hellos_in_turn_are_one_handshake_that_is_looked_after_once() {
    let mut stage = Stage::new();
    let client = ([192, 0, 2, 1], 5000).into();
    let both = [stage.hello(client), stage.hello(client)];
    for seconds in 1..=5 {
        for _ in 0..10 {
            stage.receives(&both).await;
        }
        assert_eq!((1, 1), (stage.socket.connections(), stage.socket.handshakes.len()));
        // The one whose turn it is not has to wait for its second: each begins every other time.
        let refused = if seconds % 2 == 1 { 10 } else { 9 };
        assert_eq!(refused, stage.refused());
        sleep(Duration::from_secs(1)).await;
    }
}
