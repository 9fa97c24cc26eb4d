//! Makes packets for a relay, counts what arrives, and what it cost the server.
//!
//! Packets are sent as fast as a *window* permits: each flow keeps a bounded number of packets
//! under way. The relay always has work and yet loses nothing, so that its CPU time divides by
//! packets that were delivered. With a rate given, packets are sent by the clock, arrive or not.

mod engine;
mod flow;
mod report;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use clap::ValueEnum;

use crate::clock::Clock;
use crate::error::{BenchError, DuringExt};
use crate::flood::FloodSettings;
use crate::mmsg::DATAGRAM_MAX;
use crate::payload::MARK_LEN;
use crate::process::Process;
use crate::target::{Path, Target, Transport, client_address, grow_buffers};
use engine::Engine;
#[cfg(test)]
pub(crate) use report::example;
pub use report::{Flooded, Report};

/// Which way packets go.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, ValueEnum)]
pub enum Direction {
    /// ChannelData in, UDP out.
    ClientToPeer,
    /// UDP in, ChannelData out.
    PeerToClient,
    /// Both of these at once.
    Both,
    /// Two clients of the same relay, each the other's peer.
    ClientToClient,
}

impl Direction {
    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Direction::ClientToPeer => "client-to-peer",
            Direction::PeerToClient => "peer-to-client",
            Direction::Both => "both",
            Direction::ClientToClient => "client-to-client",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The relay.
    pub target: Target,
    /// Its process, when CPU and memory are to be reported.
    pub pid: Option<u32>,
    /// Which way packets go.
    pub direction: Direction,
    /// How many allocations share the load.
    pub allocations: usize,
    /// Bytes of a packet without any header.
    pub payload: usize,
    /// Packets that one flow sends in a row.
    pub burst: usize,
    /// Packets per second over all flows; `None` is saturation.
    pub rate: Option<u32>,
    /// Packets that a flow has under way at most, in saturation.
    pub window: u32,
    /// Whether a burst is handed to the kernel as one piece to be cut up (`UDP_SEGMENT`), as the
    /// receive offload of a network card would hand it to the relay.
    pub gso: bool,
    /// Whether latency ends when the kernel has a packet, and not when the generator reads it.
    pub kernel_time: bool,
    /// What else comes at the relay meanwhile.
    pub flood: Option<FloodSettings>,
    /// What passes before the measurement starts.
    pub warm_up: Duration,
    /// How long is measured.
    pub duration: Duration,
}

impl LoadPlan {
    /// Refuses what cannot be measured.
    fn check(&self) -> Result<(), BenchError> {
        let longest = DATAGRAM_MAX - 4;
        let problem = if !(1..=ALLOCATIONS_MAX).contains(&self.allocations) {
            format!("allocations: 1 to {ALLOCATIONS_MAX}")
        } else if !(MARK_LEN..=longest).contains(&self.payload) {
            format!("payload: {MARK_LEN} to {longest} bytes")
        } else if !(1..=BURST_MAX).contains(&self.burst) {
            format!("burst: 1 to {BURST_MAX}")
        } else if (self.window as usize) < self.burst {
            "window: at least a burst".to_owned()
        } else if self.warm_up + self.duration > LONGEST {
            format!("warm-up and duration: at most {} s", LONGEST.as_secs())
        } else if self.direction == Direction::ClientToClient && self.allocations % 2 == 1 {
            "client-to-client needs an even number of allocations".to_owned()
        } else if self.target.transport != Transport::Udp && (self.gso || self.kernel_time) {
            "segments and arrival times are of UDP alone".to_owned()
        } else if self.flood.is_some() && self.rate.is_none() {
            "beside a flood there is a rate".to_owned()
        } else if self.gso && self.burst * (self.payload + 4) > SEGMENTS_BYTES_MAX {
            format!("a burst in segments: {SEGMENTS_BYTES_MAX} bytes at most")
        } else {
            return Ok(());
        };
        Err(BenchError::Argument(problem))
    }
}

/// Sets up the allocations, measures, and gives the allocations back.
pub fn run(plan: &LoadPlan) -> Result<Report, BenchError> {
    plan.check()?;
    let process = plan.pid.map(Process::new);
    let peer = peer_socket()?;
    let memory_before = process.map(|process| process.resident_bytes()).transpose()?;
    let mut paths = open_paths(plan, &peer)?;
    let memory_after = process.map(|process| process.resident_bytes()).transpose()?;

    let mut engine = Engine::new(plan, &mut paths, &peer)?;
    engine.run_for(plan.warm_up)?;
    engine.start_measuring();
    let cpu_before = process.map(|process| process.cpu_nanos()).transpose()?;
    let threads_before = process.map(|process| process.threads()).transpose()?;
    let clock = Clock::start();
    engine.run_for(plan.duration)?;
    let elapsed = clock.elapsed();
    let cpu_after = process.map(|process| process.cpu_nanos()).transpose()?;
    let threads_after = process.map(|process| process.threads()).transpose()?;
    let counts = engine.finish()?;

    for path in paths {
        path.close()?;
    }
    Ok(Report::new(plan, &counts, elapsed)
        .with_cpu(cpu_before.zip(cpu_after))
        .with_threads(threads_before.zip(threads_after))
        .with_memory(memory_before.zip(memory_after), plan.allocations))
}

/// One socket plays all peers: what one peer's socket can take, a relay's loss is not blamed for.
fn peer_socket() -> Result<UdpSocket, BenchError> {
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("binding the peer")?;
    grow_buffers(&peer);
    Ok(peer)
}

fn open_paths(plan: &LoadPlan, peer: &UdpSocket) -> Result<Vec<Path>, BenchError> {
    let mut paths = Vec::with_capacity(plan.allocations);
    for index in 0..plan.allocations {
        paths.push(plan.target.open(client_address(index))?);
    }
    let relayed: Vec<SocketAddrV4> = paths.iter().map(Path::relayed).collect();
    let SocketAddr::V4(peer) = peer.local_addr().during("the peer's address")? else {
        return Err(BenchError::Argument("the peer is IPv4".to_owned()));
    };
    for (index, path) in paths.iter_mut().enumerate() {
        let other = match plan.direction {
            Direction::ClientToClient => relayed[index ^ 1],
            Direction::ClientToPeer | Direction::PeerToClient | Direction::Both => peer,
        };
        path.bind_channel(CHANNEL, other)?;
    }
    Ok(paths)
}

/// The one channel of every allocation.
const CHANNEL: u16 = 0x4000;

/// Each allocation is a socket here and one at the relay.
const ALLOCATIONS_MAX: usize = 10_000;

/// What one datagram of IPv4 can carry, cut up or not.
const SEGMENTS_BYTES_MAX: usize = 65_507;

/// A burst is one batch.
const BURST_MAX: usize = crate::mmsg::BATCH;

/// Shorter than the 300 s of a permission, so that nothing has to be refreshed.
const LONGEST: Duration = Duration::from_secs(240);
