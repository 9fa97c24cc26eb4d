//! Compares relays on this machine and prints Markdown.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sterna_bench::compare::{self, ComparePlan, Contender, Program};
use sterna_bench::error::{BenchError, DuringExt};
use sterna_bench::target::Transport;

/// Runs the floor, Sterna, and coturn where it is installed, in turn on one core, and prints
/// medians and ratios. With the defaults it takes about four minutes; the machine should be quiet.
#[derive(Parser)]
struct Arguments {
    /// How often each row is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Allocations that share the load.
    #[arg(long, default_value_t = 50)]
    allocations: usize,
    /// What clients speak to the relays.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp")]
    transports: Vec<Transport>,
    /// Bytes of a packet without any header, in the rows over UDP.
    #[arg(long, default_value_t = 160)]
    payload: usize,
    /// The same in the rows over TCP and TLS, each of which there is once for each size.
    #[arg(long, value_delimiter = ',', default_value = "160,1200")]
    stream_payloads: Vec<usize>,
    /// Allocations of the memory row over UDP; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Allocations, with a connection each, of the memory rows over TCP and TLS; 0 leaves them out.
    #[arg(long, default_value_t = 5000)]
    idle_streams: usize,
    /// TLS handshakes in each round; 0 leaves them out.
    #[arg(long, default_value_t = 3000)]
    handshakes: usize,
    /// The relay's core.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The generator's core.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// The port that relays listen at; for TLS the one above.
    #[arg(long, default_value_t = 3490)]
    port: u16,
    /// Sterna's program; without it, the one beside this program.
    #[arg(long)]
    sterna: Option<PathBuf>,
    /// coturn's program; without it, the `turnserver` in the search path.
    #[arg(long)]
    coturn: Option<PathBuf>,
    /// A file to append every single result to, as lines of JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(tables) => {
            println!("{tables}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<String, BenchError> {
    let own = env::current_exe().during("finding the other programs")?;
    let programs = own.parent().map(Path::to_owned).unwrap_or_default();
    let plan = ComparePlan {
        contenders: contenders(&arguments, &programs),
        programs,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        allocations: arguments.allocations,
        transports: arguments.transports,
        payload: arguments.payload,
        stream_payloads: arguments.stream_payloads,
        idle: Some(arguments.idle).filter(|idle| *idle > 0),
        idle_streams: Some(arguments.idle_streams).filter(|idle| *idle > 0),
        handshakes: Some(arguments.handshakes).filter(|handshakes| *handshakes > 0),
        server_core: arguments.server_core,
        load_core: arguments.load_core,
        port: arguments.port,
        json: arguments.json,
    };
    compare::run(&plan, |doing| eprintln!("{doing}"))
}

/// A program that was named and is not there fails when it is started; one that was not named is
/// left out.
fn contenders(arguments: &Arguments, programs: &Path) -> Vec<Contender> {
    let beside = Some(programs.join("sterna")).filter(|path| path.is_file());
    // The floor forwards datagrams alone.
    let floor = arguments.transports.contains(&Transport::Udp).then(|| programs.join("floor"));
    let found = [
        (Program::Floor, floor),
        (Program::Sterna, arguments.sterna.clone().or(beside)),
        (Program::Coturn, arguments.coturn.clone().or_else(installed_coturn)),
    ];
    let contender =
        |(program, path): (Program, Option<PathBuf>)| Some(Contender { program, path: path? });
    found.into_iter().filter_map(contender).collect()
}

fn installed_coturn() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut candidates = env::split_paths(&path).map(|folder| folder.join("turnserver"));
    candidates.find(|candidate| candidate.is_file())
}
