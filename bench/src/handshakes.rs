//! What a TLS handshake costs the server.

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddrV4};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sterna_client::{ByteStream, TlsOptions, TlsStream};

use crate::clock::Clock;
use crate::error::{BenchError, DuringExt};
use crate::link::{connect_tcp, connect_tls, tls_options};
use crate::process::Process;
use crate::target::client_address;

/// Many connections, each shaken hands over and closed.
#[derive(Clone, Debug)]
pub struct HandshakesPlan {
    /// Where the server listens for TLS.
    pub server: SocketAddrV4,
    /// Its process.
    pub pid: u32,
    /// Handshakes that are counted.
    pub handshakes: usize,
    /// Handshakes before that.
    pub warm_up: usize,
}

/// What was found, as one line of JSON.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HandshakesReport {
    /// Handshakes that were counted.
    pub handshakes: usize,
    /// CPU time of the server, all threads, for a connection with its handshake and its end.
    pub server_cpu_us_per_handshake: f64,
    /// Handshakes for each second of the server's CPU time.
    pub per_server_cpu_second: f64,
    /// Handshakes per second of one client that makes one after the other.
    pub per_second: f64,
    /// CPU time of the server over elapsed time: 1 is one core kept busy.
    pub server_cpu_share: f64,
}

/// Makes the handshakes one after the other. Each is a full one: no session is resumed.
pub fn run(plan: &HandshakesPlan) -> Result<HandshakesReport, BenchError> {
    if plan.handshakes == 0 || plan.handshakes + plan.warm_up > HANDSHAKES_MAX {
        let problem = format!("handshakes: 1 to {HANDSHAKES_MAX}, warm-up included");
        return Err(BenchError::Argument(problem));
    }
    let options = tls_options()?;
    for number in 0..plan.warm_up {
        one(plan, number, &options)?;
    }
    let process = Process::new(plan.pid);
    let before = process.cpu_nanos()?;
    let clock = Clock::start();
    for number in 0..plan.handshakes {
        one(plan, plan.warm_up + number, &options)?;
    }
    let elapsed = clock.elapsed().as_secs_f64();
    let spent = process.cpu_nanos()?.saturating_sub(before) as f64 / 1e9;
    let count = plan.handshakes as f64;
    Ok(HandshakesReport {
        handshakes: plan.handshakes,
        server_cpu_us_per_handshake: spent * 1e6 / count,
        per_server_cpu_second: count / spent.max(1e-9),
        per_second: count / elapsed,
        server_cpu_share: spent / elapsed,
    })
}

/// Connects, shakes hands, says goodbye, and waits until the server has done so, too: whatever the
/// connection costs the server is in its figure.
fn one(plan: &HandshakesPlan, number: usize, options: &TlsOptions) -> Result<(), BenchError> {
    let tcp = connect_tcp(client_address(number), plan.server)?;
    let mut tls = connect_tls(tcp, options)?;
    tls.close().during("closing")?;
    match tls.tcp().shutdown(Shutdown::Write) {
        // A server that was faster has ended the connection already, with a reset.
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
        shut => shut.during("closing")?,
    }
    tls.tcp().set_read_timeout(Some(END_WAIT)).during("closing")?;
    wait_for_end(tls)
}

fn wait_for_end(mut tls: TlsStream) -> Result<(), BenchError> {
    let mut nothing = [0; 1024];
    loop {
        match tls.read(&mut nothing) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => match error.kind() {
                // A server may end the connection without a word, or with a reset.
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => return Ok(()),
                ErrorKind::Interrupted => {}
                _ => return Err(error).during("waiting for the server to close"),
            },
        }
    }
}

/// Far fewer than the local ports of all the client addresses.
const HANDSHAKES_MAX: usize = 1_000_000;

const END_WAIT: Duration = Duration::from_secs(10);
