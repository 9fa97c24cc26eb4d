//! What allocations cost that do nothing, and whether all of it comes back.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, sleep};
use crate::error::BenchError;
use crate::process::Process;
use crate::target::{Path, Target, client_address};

/// Many allocations at once, several times over.
#[derive(Clone, Debug)]
pub struct IdlePlan {
    /// The relay.
    pub target: Target,
    /// Its process.
    pub pid: u32,
    /// Allocations that exist at the same time, with one channel each.
    pub allocations: usize,
    /// Clients that ask at the same time, each of which waits for its answers.
    pub clients: usize,
    /// How often they are made and given back.
    pub rounds: usize,
    /// Whether the peer of each is the allocation made before it, where a server relays to no one
    /// else.
    pub among_clients: bool,
    /// What passes before memory is read, so that the server can finish what it does behind.
    pub settle: Duration,
    /// What passes in each round between the release and the last reading. Servers remember
    /// released clients for a while, to answer retransmissions: a pause longer than that shows what
    /// stays.
    pub pause: Duration,
}

/// One round's figures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Round {
    /// From one.
    pub round: usize,
    /// Allocations made, each with its channel.
    pub allocations: usize,
    /// How many addresses the relay has spread them over.
    #[serde(default)]
    pub relayed_addresses: usize,
    /// Resident memory with all of them in place.
    pub resident_bytes: u64,
    /// What each of them added to the server's memory before the first round.
    pub resident_bytes_per_allocation: f64,
    /// Open descriptors with all of them in place.
    pub descriptors: usize,
    /// Allocations with their channel made per second, by clients that wait for each answer.
    pub made_per_second: f64,
    /// The server's CPU time for making one allocation, binding its channel and giving it back.
    pub cpu_us_per_allocation: f64,
    /// Resident memory when all were given back.
    pub resident_bytes_after: u64,
    /// Open descriptors when all were given back.
    pub descriptors_after: usize,
    /// Whether one more allocation could be made and given back after that.
    pub allocates_after: bool,
}

/// The whole result, as one line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct IdleReport {
    /// Resident memory of the server before the first round.
    pub resident_bytes_before: u64,
    /// Open descriptors before the first round.
    pub descriptors_before: usize,
    /// What was found in each round.
    pub rounds: Vec<Round>,
}

/// Runs all rounds. `progress` hears of each as it ends.
pub fn run(plan: &IdlePlan, mut progress: impl FnMut(&Round)) -> Result<IdleReport, BenchError> {
    let rounds_fit = (1..=ROUNDS_MAX).contains(&plan.rounds);
    if plan.allocations == 0 || !rounds_fit || !(1..=CLIENTS_MAX).contains(&plan.clients) {
        let problem = format!(
            "at least one allocation, 1 to {ROUNDS_MAX} rounds, 1 to {CLIENTS_MAX} clients"
        );
        return Err(BenchError::Argument(problem));
    }
    let process = Process::new(plan.pid);
    // One allocation beforehand, so that what a server sets up once is not counted as memory of
    // one.
    plan.target.open(client_address(0))?.close()?;
    sleep(plan.settle);
    let mut report = IdleReport {
        resident_bytes_before: process.resident_bytes()?,
        descriptors_before: process.descriptors()?,
        rounds: Vec::new(),
    };
    for round in 1..=plan.rounds {
        let round = one_round(plan, round, report.resident_bytes_before)?;
        progress(&round);
        report.rounds.push(round);
    }
    Ok(report)
}

fn one_round(plan: &IdlePlan, round: usize, before: u64) -> Result<Round, BenchError> {
    let process = Process::new(plan.pid);
    let cpu_before = process.cpu_nanos()?;
    let clock = Clock::start();
    let paths = make(plan)?;
    let elapsed = clock.elapsed();
    let relayed: HashSet<_> = paths.iter().map(|path| *path.relayed().ip()).collect();

    sleep(plan.settle);
    let resident_bytes = process.resident_bytes()?;
    let descriptors = process.descriptors()?;

    release(paths, plan.clients)?;
    sleep(plan.settle);
    // Before the pause, in which a server spends time on other things.
    let cpu = process.cpu_nanos()?.saturating_sub(cpu_before);
    sleep(plan.pause);
    let count = plan.allocations as f64;
    Ok(Round {
        round,
        allocations: plan.allocations,
        relayed_addresses: relayed.len(),
        resident_bytes,
        resident_bytes_per_allocation: resident_bytes.saturating_sub(before) as f64 / count,
        descriptors,
        made_per_second: count / elapsed.as_secs_f64(),
        cpu_us_per_allocation: cpu as f64 / 1e3 / count,
        resident_bytes_after: process.resident_bytes()?,
        descriptors_after: process.descriptors()?,
        allocates_after: plan.target.open(client_address(0)).and_then(Path::close).is_ok(),
    })
}

fn make(plan: &IdlePlan) -> Result<Vec<Path>, BenchError> {
    let shares = (0..plan.clients).map(|first| (first..plan.allocations).step_by(plan.clients));
    let made = at_once(shares, |indices| make_some(plan, indices))?;
    Ok(made.into_iter().flatten().collect())
}

fn release(paths: Vec<Path>, clients: usize) -> Result<(), BenchError> {
    let mut shares: Vec<Vec<Path>> = Vec::new();
    shares.resize_with(clients, Vec::new);
    for (index, path) in paths.into_iter().enumerate() {
        shares[index % clients].push(path);
    }
    at_once(shares, |share| share.into_iter().try_for_each(Path::close)).map(|_| ())
}

/// Does `work` with each share, a thread for each.
fn at_once<S: Send, T: Send>(
    shares: impl IntoIterator<Item = S>,
    work: impl Fn(S) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || work(share))).collect();
        let gone = |_| Err(BenchError::Argument("a client panicked".to_owned()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
    })
}

fn make_some(
    plan: &IdlePlan,
    indices: impl Iterator<Item = usize>,
) -> Result<Vec<Path>, BenchError> {
    let mut paths = Vec::new();
    let mut before = None;
    for index in indices {
        let mut path = plan.target.open(client_address(index))?;
        // The first has nobody before it, and goes without a channel.
        let peer = if plan.among_clients { before } else { Some(PEER) };
        if let Some(peer) = peer {
            path.bind_channel(CHANNEL, peer)?;
        }
        before = Some(path.relayed());
        paths.push(path);
    }
    Ok(paths)
}

const CHANNEL: u16 = 0x4000;

/// Nobody listens there, and nothing is sent.
const PEER: std::net::SocketAddrV4 = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9);

const ROUNDS_MAX: usize = 1000;
const CLIENTS_MAX: usize = 256;
