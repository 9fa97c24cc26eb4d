//! Measures one relay once and prints one line of JSON.

use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sterna_bench::error::BenchError;
use sterna_bench::flood::{FLOOD_PORTS, FloodKind, FloodSettings};
use sterna_bench::load::{self, Direction, LoadPlan, Report};
use sterna_bench::outcome;
use sterna_bench::pin::{pin_to, raise_descriptor_limit};
use sterna_bench::target::{Kind, Target, Transport};

/// Loads a TURN server (or the floor) over loopback and reports what it delivered and what it cost.
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
    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Which way packets go.
    #[arg(long, value_enum, default_value_t = Direction::ClientToPeer)]
    direction: Direction,
    /// How many allocations share the load.
    #[arg(long, default_value_t = 50)]
    allocations: usize,
    /// Bytes of a packet without any header.
    #[arg(long, default_value_t = 160)]
    payload: usize,
    /// Packets that one flow sends in a row.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Hand each burst to the kernel as one piece to be cut up (UDP_SEGMENT), as the receive
    /// offload of a network card would hand it to the relay.
    #[arg(long)]
    gso: bool,
    /// Latency ends when the kernel has a packet, and not when this program reads it.
    #[arg(long)]
    kernel_time: bool,
    /// Requests that lead nowhere, sent besides.
    #[arg(long, value_enum)]
    flood: Option<FloodKind>,
    /// So many of them per second.
    #[arg(long, default_value_t = 200_000)]
    flood_rate: u64,
    /// Packets per second over all flows; 0 saturates the server.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Packets that a flow has under way at most; 0 picks eight, or two bursts if that is more.
    #[arg(long, default_value_t = 0)]
    window: u32,
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of the same load before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// The core to run on: another than the server's.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    outcome::print("load", run(Arguments::parse()))
}

fn run(arguments: Arguments) -> Result<Report, BenchError> {
    if let Some(core) = arguments.core {
        pin_to(core)?;
    }
    raise_descriptor_limit(arguments.allocations as u64 + 64)?;
    let window = match arguments.window {
        0 => LEAST_WINDOW.max(u32::try_from(arguments.burst).unwrap_or(u32::MAX).saturating_mul(2)),
        window => window,
    };
    load::run(&LoadPlan {
        target: Target {
            kind: arguments.kind,
            transport: arguments.transport,
            server: arguments.server,
            user: arguments.user,
            password: arguments.password,
        },
        pid: arguments.pid,
        direction: arguments.direction,
        allocations: arguments.allocations,
        payload: arguments.payload,
        burst: arguments.burst,
        gso: arguments.gso,
        kernel_time: arguments.kernel_time,
        flood: arguments.flood.map(|kind| FloodSettings {
            server: arguments.server,
            kind,
            source: kind.source(),
            ports: FLOOD_PORTS,
            rate: arguments.flood_rate,
        }),
        rate: Some(arguments.rate).filter(|rate| *rate > 0),
        window,
        warm_up: seconds(arguments.warm_up)?,
        duration: seconds(arguments.seconds)?,
    })
}

fn seconds(value: f64) -> Result<Duration, BenchError> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| BenchError::Argument(format!("{value} seconds: {error}")))
}

const LEAST_WINDOW: u32 = 8;
