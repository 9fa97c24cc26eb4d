//! Floods a server from one source and prints one line of JSON.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sterna_bench::error::BenchError;
use sterna_bench::flood::{self, FLOOD_PORTS, FloodKind, FloodPlan, FloodReport, FloodSettings};
use sterna_bench::outcome;
use sterna_bench::pin::pin_to;

/// Sends requests that lead nowhere at a steady rate, and reports what they cost the server.
#[derive(Parser)]
struct Arguments {
    /// Where the server listens for UDP.
    #[arg(long)]
    server: SocketAddrV4,
    /// Its process, for its CPU time.
    #[arg(long)]
    pid: u32,
    /// What is sent.
    #[arg(long, value_enum, default_value_t = FloodKind::FailedLogin)]
    kind: FloodKind,
    /// The address that all of it comes from; without it, one for each kind.
    #[arg(long)]
    source: Option<Ipv4Addr>,
    /// Ports of that address that take turns.
    #[arg(long, default_value_t = FLOOD_PORTS)]
    ports: usize,
    /// Requests per second.
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The core to run on: another than the server's.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    outcome::print("flood", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<FloodReport, BenchError> {
    if let Some(core) = arguments.core {
        pin_to(core)?;
    }
    flood::run(&FloodPlan {
        settings: FloodSettings {
            server: arguments.server,
            kind: arguments.kind,
            source: arguments.source.unwrap_or(arguments.kind.source()),
            ports: arguments.ports,
            rate: arguments.rate,
        },
        pid: arguments.pid,
        duration: Duration::from_secs(arguments.seconds),
    })
}
