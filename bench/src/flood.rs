//! What a flood of requests that lead nowhere costs the server.

use std::array;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use clap::ValueEnum;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use serde::{Deserialize, Serialize};
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    Class, Message, MessageWriter, Method, Nonce, Realm, RequestedTransport, TransactionId,
    Username,
};

use crate::clock::{self, Clock};
use crate::error::{BenchError, DuringExt};
use crate::mmsg::{BATCH, Receiver};
use crate::process::Process;
use crate::target::grow_buffers;

/// What the flood is made of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FloodKind {
    /// Binding requests.
    Binding,
    /// Allocate requests without a credential.
    Unauthenticated,
    /// Allocate requests with a good nonce, of users that there are not, signed with a wrong key.
    FailedLogin,
}

impl FloodKind {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            FloodKind::Binding => "binding",
            FloodKind::Unauthenticated => "unauthenticated",
            FloodKind::FailedLogin => "failed-login",
        }
    }
}

impl FloodKind {
    /// Where a flood comes from unless told otherwise: not from where clients are, and each kind
    /// from an address of its own, as a server may hold one against its source.
    pub fn source(self) -> Ipv4Addr {
        match self {
            FloodKind::Binding => Ipv4Addr::new(127, 0, 1, 1),
            FloodKind::Unauthenticated => Ipv4Addr::new(127, 0, 1, 2),
            FloodKind::FailedLogin => Ipv4Addr::new(127, 0, 1, 3),
        }
    }
}

/// Ports of that address that take turns unless told otherwise.
pub const FLOOD_PORTS: usize = 16;

/// Requests that lead nowhere, from one source address.
#[derive(Clone, Debug)]
pub struct FloodSettings {
    /// Where the server listens for UDP.
    pub server: SocketAddrV4,
    /// What is sent.
    pub kind: FloodKind,
    /// The address it comes from.
    pub source: Ipv4Addr,
    /// Ports of that address that take turns.
    pub ports: usize,
    /// Requests per second.
    pub rate: u64,
}

/// A flood at a steady rate for a while.
#[derive(Clone, Debug)]
pub struct FloodPlan {
    /// Of what.
    pub settings: FloodSettings,
    /// The server's process.
    pub pid: u32,
    /// How long.
    pub duration: Duration,
}

/// What was found, as one line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FloodReport {
    /// What was sent.
    pub kind: FloodKind,
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that were sent, per second.
    pub sent_per_second: f64,
    /// Answers that came back.
    pub answers: u64,
    /// CPU time of the server over elapsed time: 1 is one core kept busy.
    pub server_cpu_share: f64,
    /// CPU time of the server, all threads, for each request.
    pub server_cpu_us_per_request: f64,
}

/// Sends the flood and counts what comes back.
pub fn run(plan: &FloodPlan) -> Result<FloodReport, BenchError> {
    if plan.duration > DURATION_MAX {
        let problem = format!("a flood lasts {} s at most", DURATION_MAX.as_secs());
        return Err(BenchError::Argument(problem));
    }
    let mut flooder = Flooder::open(&plan.settings)?;
    let process = Process::new(plan.pid);
    let before = process.cpu_nanos()?;
    let clock = Clock::start();
    while clock.elapsed() < plan.duration {
        if !flooder.pump(clock.nanos())? {
            clock::sleep(TICK);
        }
    }
    let elapsed = clock.elapsed().as_secs_f64();
    let spent = process.cpu_nanos()?.saturating_sub(before) as f64 / 1e9;
    let (sent, answers) = flooder.counts();
    Ok(FloodReport {
        kind: plan.settings.kind,
        sent,
        sent_per_second: sent as f64 / elapsed,
        answers,
        server_cpu_share: spent / elapsed,
        server_cpu_us_per_request: spent * 1e6 / sent.max(1) as f64,
    })
}

/// A flood that is sent bit by bit, by whoever has other things to do as well.
pub(crate) struct Flooder {
    rate: u64,
    sources: Vec<Source>,
    headers: MultiHeaders<SockaddrIn>,
    receiver: Receiver,
    turn: usize,
    sent: u64,
    answers: u64,
}

impl Flooder {
    pub(crate) fn open(settings: &FloodSettings) -> Result<Flooder, BenchError> {
        if settings.rate == 0 || settings.rate > RATE_MAX {
            let problem = format!("a flood has a rate of 1 to {RATE_MAX}");
            return Err(BenchError::Argument(problem));
        }
        if settings.ports == 0 || settings.ports > PORTS_MAX {
            return Err(BenchError::Argument(format!("ports: 1 to {PORTS_MAX}")));
        }
        let sources = (0..settings.ports).map(|number| Source::open(settings, number));
        Ok(Flooder {
            rate: settings.rate,
            sources: sources.collect::<Result<_, _>>()?,
            headers: MultiHeaders::preallocate(PUMP, None),
            receiver: Receiver::default(),
            turn: 0,
            sent: 0,
            answers: 0,
        })
    }

    /// Sends a part of what is due so many nanoseconds after the start, from the port whose turn it
    /// is, and reads what has been answered to that port. Says whether there was anything to send.
    ///
    /// The part is small, so that packets beside the flood are not kept waiting.
    pub(crate) fn pump(&mut self, nanos: u64) -> Result<bool, BenchError> {
        let missing = due(self.rate, nanos).saturating_sub(self.sent);
        let count = usize::try_from(missing).unwrap_or(PUMP).min(PUMP);
        let index = self.turn % self.sources.len();
        self.turn += 1;
        let Some(source) = self.sources.get_mut(index) else { return Ok(false) };
        if count > 0 {
            source.send(&mut self.headers, count)?;
            self.sent += count as u64;
        }
        // An error is the ICMP answer to an earlier request.
        self.answers += self.receiver.receive(&source.socket, BATCH).unwrap_or(0) as u64;
        Ok(count > 0)
    }

    /// Begins to count from zero, at the time zero.
    pub(crate) fn restart(&mut self) {
        (self.sent, self.answers) = (0, 0);
    }

    /// Requests sent and answers read since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.sent, self.answers)
    }
}

/// Requests that should have been sent after so many nanoseconds.
fn due(rate: u64, nanos: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(nanos) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// One port of the source, with the requests it sends over and over: made before, so that signing
/// them is not what is measured.
struct Source {
    socket: UdpSocket,
    requests: Vec<Vec<u8>>,
    next: usize,
}

impl Source {
    fn open(settings: &FloodSettings, number: usize) -> Result<Source, BenchError> {
        let socket = UdpSocket::bind((settings.source, 0)).during("binding the source")?;
        socket.connect(settings.server).during("binding the source")?;
        grow_buffers(&socket);
        let challenge = match settings.kind {
            FloodKind::FailedLogin => Some(Challenge::of(&socket)?),
            FloodKind::Binding | FloodKind::Unauthenticated => None,
        };
        socket.set_nonblocking(true).during("binding the source")?;
        let request = |count| request(settings.kind, number, count, challenge.as_ref());
        let requests = (0..REQUESTS_OF_A_PORT).map(request).collect::<Result<_, _>>()?;
        Ok(Source { socket, requests, next: 0 })
    }

    fn send(
        &mut self,
        headers: &mut MultiHeaders<SockaddrIn>,
        count: usize,
    ) -> Result<(), BenchError> {
        let slices: [[IoSlice<'_>; 1]; PUMP] = array::from_fn(|index| {
            [IoSlice::new(&self.requests[(self.next + index) % self.requests.len()])]
        });
        self.next = (self.next + count) % self.requests.len();
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let to: [Option<SockaddrIn>; PUMP] = [None; PUMP];
        match sendmmsg(fd, headers, &slices[..count], &to[..count], [], flags) {
            // What the network has no room for is lost, as in a flood it may be.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error).during("sending"),
        }
    }
}

/// The realm and the nonce that the server gave one port.
struct Challenge {
    realm: String,
    nonce: String,
}

impl Challenge {
    fn of(socket: &UdpSocket) -> Result<Challenge, BenchError> {
        let silent = || BenchError::Floor("the server gave no nonce");
        socket.set_read_timeout(Some(ANSWER_WAIT)).during("asking for a nonce")?;
        let asked = request(FloodKind::Unauthenticated, usize::MAX, 0, None)?;
        let mut room = [0; 2048];
        let mut ask = || socket.send(&asked).and_then(|_| socket.recv(&mut room));
        let answers = (0..ASK_TRIES).find_map(|_| ask().ok());
        let length = answers.ok_or_else(silent)?;
        let answer = room.get(..length).and_then(|bytes| Message::parse(bytes).ok());
        let answer = answer.ok_or_else(silent)?;
        let realm: Option<Realm<'_>> = answer.read().ok().flatten();
        let nonce: Option<Nonce<'_>> = answer.read().ok().flatten();
        match (realm, nonce) {
            (Some(realm), Some(nonce)) => {
                Ok(Challenge { realm: realm.0.to_owned(), nonce: nonce.0.to_owned() })
            }
            _ => Err(silent()),
        }
    }
}

fn request(
    kind: FloodKind,
    port: usize,
    count: usize,
    challenge: Option<&Challenge>,
) -> Result<Vec<u8>, BenchError> {
    let mut id = [0; 12];
    for (place, byte) in id.iter_mut().zip(
        (port as u64).to_be_bytes().into_iter().rev().take(6).chain((count as u32).to_be_bytes()),
    ) {
        *place = byte;
    }
    let id = TransactionId::from_bytes(id);
    let mut bytes = Vec::new();
    let method = match kind {
        FloodKind::Binding => Method::BINDING,
        FloodKind::Unauthenticated | FloodKind::FailedLogin => Method::ALLOCATE,
    };
    let mut writer = MessageWriter::new(&mut bytes, Class::Request, method, id);
    if method == Method::ALLOCATE {
        writer.attribute(&RequestedTransport::UDP);
    }
    if let Some(challenge) = challenge {
        let user = format!("nobody{port}x{count}");
        let key = Key::long_term(PasswordAlgorithm::Md5, &user, &challenge.realm, "wrong")
            .map_err(|_| BenchError::Floor("the server's realm is none"))?;
        writer
            .attribute(&Username(&user))
            .attribute(&Realm(&challenge.realm))
            .attribute(&Nonce(&challenge.nonce))
            .integrity(IntegrityAlgorithm::Sha1, &key);
    }
    writer.finish();
    Ok(bytes)
}

/// Far above what one core of a load generator can send.
const RATE_MAX: u64 = 2_000_000;

const DURATION_MAX: Duration = Duration::from_secs(60);

const PORTS_MAX: usize = 1000;

/// So many different transactions of each port: more than a session remembers answers of.
const REQUESTS_OF_A_PORT: usize = 4096;

/// Requests sent at once.
const PUMP: usize = 16;

const TICK: Duration = Duration::from_micros(200);

const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// A server may answer strangers only so often in a second.
const ASK_TRIES: usize = 10;
