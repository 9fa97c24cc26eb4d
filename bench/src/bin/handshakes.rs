//! Measures what TLS handshakes cost a server and prints one line of JSON.

use std::net::SocketAddrV4;
use std::process::ExitCode;

use clap::Parser;
use sterna_bench::error::BenchError;
use sterna_bench::handshakes::{self, HandshakesPlan, HandshakesReport};
use sterna_bench::outcome;
use sterna_bench::pin::pin_to;

/// Connects, shakes hands and closes, many times one after the other.
#[derive(Parser)]
struct Arguments {
    /// Where the server listens for TLS.
    #[arg(long)]
    server: SocketAddrV4,
    /// Its process, for its CPU time.
    #[arg(long)]
    pid: u32,
    /// Handshakes that are counted.
    #[arg(long, default_value_t = 5000)]
    handshakes: usize,
    /// Handshakes before that.
    #[arg(long, default_value_t = 200)]
    warm_up: usize,
    /// The core to run on: another than the server's.
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    outcome::print("handshakes", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<HandshakesReport, BenchError> {
    if let Some(core) = arguments.core {
        pin_to(core)?;
    }
    handshakes::run(&HandshakesPlan {
        server: arguments.server,
        pid: arguments.pid,
        handshakes: arguments.handshakes,
        warm_up: arguments.warm_up,
    })
}
