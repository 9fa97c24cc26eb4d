//! A server that answers each datagram by the next step of a script.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sterna_client::{Client, ClientOptions};
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::nonce::{NonceMinter, SecurityFeatures};
use sterna_proto::stun::{Class, Message, MessageWriter, PasswordAlgorithms};

/// Anybody's address.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)), 7777);
pub(crate) const NONCE: &str = "a plain nonce";
pub(crate) const REALM: &str = "example.org";
pub(crate) const USERNAME: &str = "alice";
pub(crate) const PASSWORD: &str = "secret";

/// Looks at a datagram and says what to send back.
type Step = Box<dyn FnOnce(&[u8]) -> Vec<Vec<u8>> + Send>;

/// A server with a script, which it follows as soon as it has a client.
pub(crate) struct Script {
    socket: UdpSocket,
    steps: Vec<Step>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    pub(crate) fn new() -> Script {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // A client that sends nothing fails its test and does not hang it.
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Script { socket, steps: Vec::new(), thread: None }
    }

    /// What is done with the next datagram.
    pub(crate) fn then(
        mut self,
        step: impl FnOnce(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Script {
        self.steps.push(Box::new(step));
        self
    }

    /// A client of this server. The script is complete.
    pub(crate) fn client(&mut self, options: ClientOptions) -> Client {
        let socket = self.socket.try_clone().unwrap();
        let steps = mem::take(&mut self.steps);
        self.thread = Some(thread::spawn(move || play(&socket, steps)));
        Client::connect(self.socket.local_addr().unwrap(), options).unwrap()
    }

    /// Every step was taken, and what each expected was true.
    pub(crate) fn finish(self) {
        self.thread.expect("a script has a client").join().unwrap();
    }
}

fn play(socket: &UdpSocket, steps: Vec<Step>) {
    let mut buffer = vec![0; 65_536];
    for step in steps {
        let (len, client) = socket.recv_from(&mut buffer).expect("the client sends for each step");
        for datagram in step(&buffer[..len]) {
            socket.send_to(&datagram, client).unwrap();
        }
    }
}

/// An answer to `request` with what `write` adds.
pub(crate) fn answer(
    request: &[u8],
    class: Class,
    write: impl FnOnce(&mut MessageWriter<'_>),
) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut bytes = Vec::new();
    let id = request.transaction_id();
    let mut writer = MessageWriter::new(&mut bytes, class, request.method(), id);
    write(&mut writer);
    bytes
}

/// The user's key.
pub(crate) fn key(algorithm: PasswordAlgorithm) -> Key {
    Key::long_term(algorithm, USERNAME, REALM, PASSWORD).unwrap()
}

/// What a server that knows RFC 8489 offers.
pub(crate) fn algorithms<'a>() -> PasswordAlgorithms<'a> {
    [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5].into_iter().collect()
}

/// A nonce with these features in its cookie.
pub(crate) fn nonce(features: SecurityFeatures) -> String {
    #[allow(clippy::disallowed_methods, reason = "the nonce wants a time, whichever it is")]
    let now = Instant::now();
    let minter = NonceMinter::new([1; 32], Duration::from_secs(60), now);
    minter.mint(ADDRESS, features, now).as_str().to_owned()
}
