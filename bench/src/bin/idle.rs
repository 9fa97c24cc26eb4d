//! Makes many allocations that do nothing and reports what they cost the server.

use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sterna_bench::error::BenchError;
use sterna_bench::idle::{self, IdlePlan, IdleReport};
use sterna_bench::outcome;
use sterna_bench::pin::{pin_to, raise_descriptor_limit};
use sterna_bench::target::{Kind, Target, Transport};

/// Makes allocations with one channel each, reads the server's memory and descriptors, gives the
/// allocations back, and reads again; several rounds. Prints one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// Where the relay listens.
    #[arg(long)]
    server: SocketAddrV4,
    /// How it is spoken to.
    #[arg(long, value_enum, default_value_t = Kind::Turn)]
    kind: Kind,
    /// What it is spoken to over.
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    transport: Transport,
    /// The user name.
    #[arg(long, default_value = "u")]
    user: String,
    /// The password.
    #[arg(long, default_value = "p")]
    password: String,
    /// The server's process.
    #[arg(long)]
    pid: u32,
    /// Allocations at the same time.
    #[arg(long, default_value_t = 10_000)]
    allocations: usize,
    /// Clients that ask at the same time, each of which waits for its answers.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// How often they are made and given back.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// The peer of each is the allocation made before it: some servers relay to no one else.
    #[arg(long)]
    among_clients: bool,
    /// Milliseconds that pass before memory is read.
    #[arg(long, default_value_t = 1000)]
    settle_ms: u64,
    /// Seconds that pass in each round between the release and the last reading of memory. Servers
    /// remember released clients for a while (Sterna for 40 s).
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// The core to run on: another than the server's.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    outcome::print("idle", run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<IdleReport, BenchError> {
    if let Some(core) = arguments.core {
        pin_to(core)?;
    }
    let wanted = arguments.allocations as u64 + 64;
    let limit = raise_descriptor_limit(wanted)?;
    if limit < wanted {
        let problem = format!("each allocation needs a socket here; the limit is {limit}");
        return Err(BenchError::Argument(problem));
    }
    let plan = IdlePlan {
        target: Target {
            kind: arguments.kind,
            transport: arguments.transport,
            server: arguments.server,
            user: arguments.user,
            password: arguments.password,
        },
        pid: arguments.pid,
        allocations: arguments.allocations,
        clients: arguments.clients,
        rounds: arguments.rounds,
        among_clients: arguments.among_clients,
        settle: Duration::from_millis(arguments.settle_ms),
        pause: Duration::from_secs(arguments.pause),
    };
    idle::run(&plan, |round| {
        eprintln!(
            "round {}: {:.0} B/allocation, {} descriptors; after: {} KiB, {} descriptors{}",
            round.round,
            round.resident_bytes_per_allocation,
            round.descriptors,
            round.resident_bytes_after / 1024,
            round.descriptors_after,
            if round.allocates_after { "" } else { "; no further allocation possible" },
        );
    })
}
