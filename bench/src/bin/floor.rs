//! Runs the straight-line forwarder that relays are measured against.

use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sterna_bench::error::BenchError;
use sterna_bench::floor::{DEFAULT_LISTEN, Floor};
use sterna_bench::pin::{pin_to, raise_descriptor_limit};

/// The straight-line forwarder: recvmmsg, one lookup, one send per packet, nothing else.
///
/// `load --kind floor` sets it up with the datagrams described in the source (floor_setup).
#[derive(Parser)]
struct Arguments {
    /// Where clients send to; loopback only.
    #[arg(long, default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddrV4,
    /// The core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// End when nothing came for this many seconds.
    #[arg(long, default_value_t = 120)]
    idle_seconds: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(dropped) => {
            eprintln!("floor: stopped, {dropped} packets dropped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<u64, BenchError> {
    if let Some(core) = arguments.core {
        pin_to(core)?;
    }
    raise_descriptor_limit(65_536)?;
    let mut floor = Floor::bind(arguments.listen)?;
    floor.run(Duration::from_secs(arguments.idle_seconds.into()))
}
