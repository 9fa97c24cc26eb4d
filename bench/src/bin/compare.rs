//! Compares relays on this machine and prints Markdown.

use std::env;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sterna_bench::compare::{
    self, ComparePlan, Contender, Line, Program, installed, installed_by_cargo, markdown,
};
use sterna_bench::error::{BenchError, DuringExt};
use sterna_bench::plots;
use sterna_bench::target::Transport;

/// Runs the floor, Sterna, and coturn and turn-server where they are installed, in turn on one
/// core, and prints medians and ratios. With the defaults it takes about a quarter of an hour; the
/// machine should be quiet.
#[derive(Parser)]
struct Arguments {
    /// Measure these rows only, by their names or parts of them (see --list).
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Print the rows, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Print the tables (and draw the plots) of an earlier run (--json), and measure nothing.
    #[arg(long)]
    from: Option<PathBuf>,
    /// How often each row is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds of the same load before each measurement.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
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
    /// Requests per second of the floods.
    #[arg(long, default_value_t = 200_000)]
    flood_rate: u64,
    /// Allocations made and released in each round over UDP; 0 leaves them out.
    #[arg(long, default_value_t = 2000)]
    control: usize,
    /// Allocations of the memory row over UDP; 0 leaves it out.
    #[arg(long, default_value_t = 50_000)]
    idle: usize,
    /// Addresses that the memory rows are relayed from: one has too few ports.
    #[arg(long, value_delimiter = ',', default_values_t = relay_addresses())]
    relay_addresses: Vec<Ipv4Addr>,
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
    /// One more Sterna, as NAME=PATH or NAME=PATH,KEY=VALUE with keys of its configuration
    /// (RELAY__PORTS for relay.ports); may be given several times.
    #[arg(long)]
    variant: Vec<String>,
    /// coturn's program; without it, the `turnserver` in the search path.
    #[arg(long)]
    coturn: Option<PathBuf>,
    /// Another coturn, as one built from source.
    #[arg(long)]
    coturn_source: Option<PathBuf>,
    /// The program `turn-server`; without it, the one in the search path or where cargo installs.
    #[arg(long)]
    turn_server: Option<PathBuf>,
    /// Leave these out: floor, sterna, coturn, turn-server, or one by the head of its column.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// A folder to draw plots into, as SVG.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// A file to append every single result to, as lines of JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// 127.0.2.1 to 127.0.2.8: none that clients come from or reach the relay at, as a server may
/// prefer to relay from where it is reached.
fn relay_addresses() -> Vec<Ipv4Addr> {
    (1..=8).map(|last| Ipv4Addr::new(127, 0, 2, last)).collect()
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
    if let Some(path) = &arguments.from {
        return shown(&compare::read(path)?, arguments.plots.as_deref());
    }
    let own = env::current_exe().during("finding the other programs")?;
    let programs = own.parent().map(Path::to_owned).unwrap_or_default();
    let (list, folder) = (arguments.list, arguments.plots.clone());
    let plan = plan(arguments, programs)?;
    if list {
        let rows = compare::row_names(&plan).into_iter();
        let lines: Vec<String> = rows.map(|(key, name)| format!("{key:32} {name}")).collect();
        return Ok(lines.join("\n"));
    }
    let lines = compare::run(&plan, |doing| eprintln!("{doing}"))?;
    shown(&lines, folder.as_deref())
}

fn shown(lines: &[Line], plots: Option<&Path>) -> Result<String, BenchError> {
    if let Some(folder) = plots {
        for file in plots::draw(lines, folder)? {
            eprintln!("drawn: {}", file.display());
        }
    }
    Ok(markdown(lines))
}

fn plan(arguments: Arguments, programs: PathBuf) -> Result<ComparePlan, BenchError> {
    Ok(ComparePlan {
        contenders: contenders(&arguments, &programs)?,
        programs,
        rows: arguments.rows,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        warm_up: arguments.warm_up,
        allocations: arguments.allocations,
        transports: arguments.transports,
        payload: arguments.payload,
        stream_payloads: arguments.stream_payloads,
        flood_rate: arguments.flood_rate,
        control: Some(arguments.control).filter(|control| *control > 0),
        idle: Some(arguments.idle).filter(|idle| *idle > 0),
        relay_addresses: arguments.relay_addresses,
        idle_streams: Some(arguments.idle_streams).filter(|idle| *idle > 0),
        handshakes: Some(arguments.handshakes).filter(|handshakes| *handshakes > 0),
        server_core: arguments.server_core,
        load_core: arguments.load_core,
        port: arguments.port,
        json: arguments.json,
    })
}

/// A program that was named and is not there fails when it is started; one that was not named is
/// left out.
fn contenders(arguments: &Arguments, programs: &Path) -> Result<Vec<Contender>, BenchError> {
    let beside = Some(programs.join("sterna")).filter(|path| path.is_file());
    // These two forward datagrams alone.
    let datagrams = arguments.transports.contains(&Transport::Udp);
    let turn_server = arguments
        .turn_server
        .clone()
        .or_else(|| installed("turn-server"))
        .or_else(|| installed_by_cargo("turn-server"));
    let sterna = arguments.sterna.clone().or(beside);
    let coturn = arguments.coturn.clone().or_else(|| installed("turnserver"));
    let found = [
        (Program::Floor, datagrams.then(|| programs.join("floor"))),
        (Program::Sterna, sterna),
        (Program::Coturn, coturn),
        (Program::Coturn, arguments.coturn_source.clone()),
        (Program::TurnServer, turn_server.filter(|_| datagrams)),
    ];
    let mut contenders = Vec::new();
    for (program, path) in found {
        let left_out = |name: &str| arguments.without.iter().any(|without| without == name);
        if let Some(path) = path.filter(|_| !left_out(program.name())) {
            let contender = Contender::new(program, path);
            contenders.extend(Some(contender).filter(|contender| !left_out(&contender.name)));
        }
        if program == Program::Sterna {
            for variant in &arguments.variant {
                contenders.push(Contender::variant(variant)?);
            }
        }
    }
    Ok(contenders)
}
