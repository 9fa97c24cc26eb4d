//! What a flood of requests that lead nowhere costs the server.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{
    Class, Message, MessageWriter, Method, Nonce, Realm, RequestedTransport, TransactionId,
    Username,
};

use crate::clock::{self, Clock};
use crate::error::{BenchError, DuringExt};
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

/// A flood from one source address, at a steady rate for a while.
#[derive(Clone, Debug)]
pub struct FloodPlan {
    /// Where the server listens for UDP.
    pub server: SocketAddrV4,
    /// Its process.
    pub pid: u32,
    /// What is sent.
    pub kind: FloodKind,
    /// The address it comes from.
    pub source: Ipv4Addr,
    /// Ports of that address that take turns.
    pub ports: usize,
    /// Requests per second.
    pub rate: u64,
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
    if plan.rate == 0 || plan.rate > RATE_MAX || plan.duration > DURATION_MAX {
        let seconds = DURATION_MAX.as_secs();
        let problem =
            format!("a flood has a rate of 1 to {RATE_MAX} and lasts {seconds} s at most");
        return Err(BenchError::Argument(problem));
    }
    if plan.ports == 0 || plan.ports > PORTS_MAX {
        return Err(BenchError::Argument(format!("ports: 1 to {PORTS_MAX}")));
    }
    let mut sources = Vec::with_capacity(plan.ports);
    for number in 0..plan.ports {
        sources.push(Source::open(plan, number)?);
    }
    let process = Process::new(plan.pid);
    let before = process.cpu_nanos()?;
    let clock = Clock::start();
    let (mut sent, mut answers) = (0, 0);
    while clock.elapsed() < plan.duration {
        let due = due(plan.rate, clock.nanos());
        for number in sent..due {
            let turn = usize::try_from(number).unwrap_or(0);
            let index = turn % sources.len();
            if let Some(source) = sources.get_mut(index) {
                source.send(turn / plan.ports)?;
            }
        }
        sent = due;
        answers += sources.iter_mut().map(Source::drain).sum::<u64>();
        clock::sleep(TICK);
    }
    let elapsed = clock.elapsed().as_secs_f64();
    let spent = process.cpu_nanos()?.saturating_sub(before) as f64 / 1e9;
    Ok(FloodReport {
        kind: plan.kind,
        sent,
        sent_per_second: sent as f64 / elapsed,
        answers,
        server_cpu_share: spent / elapsed,
        server_cpu_us_per_request: spent * 1e6 / sent.max(1) as f64,
    })
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
}

impl Source {
    fn open(plan: &FloodPlan, number: usize) -> Result<Source, BenchError> {
        let socket = UdpSocket::bind((plan.source, 0)).during("binding the source")?;
        socket.connect(plan.server).during("binding the source")?;
        grow_buffers(&socket);
        let challenge = match plan.kind {
            FloodKind::FailedLogin => Some(Challenge::of(&socket)?),
            FloodKind::Binding | FloodKind::Unauthenticated => None,
        };
        socket.set_nonblocking(true).during("binding the source")?;
        let request = |count| request(plan.kind, number, count, challenge.as_ref());
        let requests = (0..REQUESTS_OF_A_PORT).map(request).collect::<Result<_, _>>()?;
        Ok(Source { socket, requests })
    }

    fn send(&mut self, turn: usize) -> Result<(), BenchError> {
        let Some(request) = self.requests.get(turn % REQUESTS_OF_A_PORT) else { return Ok(()) };
        match self.socket.send(request) {
            Ok(_) => Ok(()),
            // The network is full, as in a flood it may be.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).during("sending"),
        }
    }

    /// How many answers have come since the last time.
    fn drain(&mut self) -> u64 {
        let mut room = [0; 1024];
        let mut count = 0;
        while self.socket.recv(&mut room).is_ok() {
            count += 1;
        }
        count
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
        socket.send(&asked).during("asking for a nonce")?;
        let mut room = [0; 2048];
        let length = socket.recv(&mut room).during("asking for a nonce")?;
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

const TICK: Duration = Duration::from_micros(200);

const ANSWER_WAIT: Duration = Duration::from_secs(2);
