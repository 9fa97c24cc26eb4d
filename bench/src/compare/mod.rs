//! Several relays measured in turn, so that what happens to the machine happens to all of them.
//!
//! In every round each relay is started, measured in each row, and stopped; the order turns from
//! round to round. Relay and generator have a core each. What is printed are medians over the
//! rounds and their ratios: the figures belong to the machine, the ratios to the programs.

mod row;
mod server;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, DuringExt};
use crate::handshakes::HandshakesReport;
use crate::idle::IdleReport;
use crate::load::Report;
use crate::pin::pin_to;
use crate::target::{Kind, Transport};
use row::Row;
use server::Server;
pub use server::{Contender, Program};

/// What is compared, and how long.
#[derive(Clone, Debug)]
pub struct ComparePlan {
    /// The relays, in the order of the table's columns.
    pub contenders: Vec<Contender>,
    /// Where `load` and `idle` are.
    pub programs: PathBuf,
    /// How often each row is measured.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Allocations that share the load.
    pub allocations: usize,
    /// What clients speak to the relays.
    pub transports: Vec<Transport>,
    /// Bytes of a packet in the rows over UDP.
    pub payload: usize,
    /// The same in the rows over streams, each of which there is once for each size.
    pub stream_payloads: Vec<usize>,
    /// Allocations of the memory row over UDP; none leaves it out.
    pub idle: Option<usize>,
    /// The same over streams, where each has a connection of its own.
    pub idle_streams: Option<usize>,
    /// Counted TLS handshakes; none leaves them out.
    pub handshakes: Option<usize>,
    /// The relay's core.
    pub server_core: usize,
    /// The generator's core.
    pub load_core: usize,
    /// The port that relays listen at.
    pub port: u16,
    /// Where each result is appended as a line of JSON.
    pub json: Option<PathBuf>,
}

/// All that was measured of one contender.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) name: &'static str,
    /// For each row, a report for each round.
    pub(crate) rows: Vec<Vec<Report>>,
    pub(crate) idle: Vec<(Transport, IdleReport)>,
    /// One for each round.
    pub(crate) handshakes: Vec<HandshakesReport>,
}

/// A line of the JSON file.
#[derive(Debug, Deserialize, Serialize)]
struct Line<R> {
    server: String,
    round: usize,
    report: R,
}

/// Measures everything and returns the tables in Markdown. `progress` hears what is being done.
pub fn run(plan: &ComparePlan, mut progress: impl FnMut(&str)) -> Result<String, BenchError> {
    check(plan)?;
    let rows = row::rows(plan);
    pin_to(plan.load_core)?;
    let mut json = plan.json.as_deref().map(open_for_append).transpose()?;
    let mut results: Vec<Results> = plan
        .contenders
        .iter()
        .map(|contender| Results {
            name: contender.program.name(),
            rows: vec![Vec::new(); rows.len()],
            idle: Vec::new(),
            handshakes: Vec::new(),
        })
        .collect();
    for round in 1..=plan.rounds {
        for turn in 0..plan.contenders.len() {
            // Whoever goes first in one round goes later in the next.
            let index = (turn + round - 1) % plan.contenders.len();
            let name = results[index].name;
            progress(&format!("round {round} of {}: {name}", plan.rounds));
            let server = Server::start(&plan.contenders[index], plan)?;
            for (row, report) in measure_rows(plan, &rows, &server)? {
                append(json.as_mut(), name, round, &report)?;
                results[index].rows[row].push(report);
            }
            if let Some(report) = measure_handshakes(plan, &server)? {
                append(json.as_mut(), name, round, &report)?;
                results[index].handshakes.push(report);
            }
        }
    }
    for (contender, results) in plan.contenders.iter().zip(&mut results) {
        for (transport, allocations) in idle_rows(plan, contender.program.kind()) {
            let over = transport.name();
            progress(&format!("{allocations} idle allocations over {over}: {}", results.name));
            let report = measure_idle(plan, contender, transport, allocations)?;
            append(json.as_mut(), results.name, 0, &report)?;
            results.idle.push((transport, report));
        }
    }
    Ok(table::markdown(&rows, &results))
}

fn check(plan: &ComparePlan) -> Result<(), BenchError> {
    let problem = if plan.contenders.is_empty() {
        "there is nothing to compare"
    } else if !(1..=ROUNDS_MAX).contains(&plan.rounds) {
        "rounds: 1 to 50"
    } else if !(0.1..=60.0).contains(&plan.seconds) {
        "seconds: 0.1 to 60"
    } else if plan.transports.is_empty() {
        "transports: one at least"
    } else if plan.server_core == plan.load_core {
        "relay and generator need a core each"
    } else {
        return Ok(());
    };
    Err(BenchError::Argument(problem.to_owned()))
}

fn measure_rows(
    plan: &ComparePlan,
    rows: &[Row],
    server: &Server,
) -> Result<Vec<(usize, Report)>, BenchError> {
    let mut reports = Vec::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.suits(server.kind())) {
        let mut load = Command::new(plan.programs.join("load"));
        load.args(["--direction", row.direction.name()])
            .args(["--burst", &row.burst.to_string()])
            .args(["--rate", &row.rate.to_string()])
            .args(["--seconds", &plan.seconds.to_string()])
            .args(["--allocations", &plan.allocations.to_string()])
            .args(["--payload", &row.payload.to_string()]);
        reports.push((index, server.run_turn(load, row.transport, plan.load_core)?));
    }
    Ok(reports)
}

fn measure_handshakes(
    plan: &ComparePlan,
    server: &Server,
) -> Result<Option<HandshakesReport>, BenchError> {
    let Some(count) = plan.handshakes else { return Ok(None) };
    if server.kind() == Kind::Floor || !plan.transports.contains(&Transport::Tls) {
        return Ok(None);
    }
    let mut handshakes = Command::new(plan.programs.join("handshakes"));
    handshakes.args(["--handshakes", &count.to_string()]);
    server.run(handshakes, Transport::Tls, plan.load_core).map(Some)
}

/// The transports and numbers of the memory rows.
fn idle_rows(plan: &ComparePlan, kind: Kind) -> Vec<(Transport, usize)> {
    let count = |transport: Transport| match transport {
        Transport::Udp => plan.idle,
        Transport::Tcp | Transport::Tls => plan.idle_streams.filter(|_| kind == Kind::Turn),
    };
    plan.transports.iter().filter_map(|over| Some((*over, count(*over)?))).collect()
}

/// In a process of its own, so that no earlier load has made its memory larger.
fn measure_idle(
    plan: &ComparePlan,
    contender: &Contender,
    transport: Transport,
    allocations: usize,
) -> Result<IdleReport, BenchError> {
    let server = Server::start(contender, plan)?;
    let mut idle = Command::new(plan.programs.join("idle"));
    idle.args(["--allocations", &allocations.to_string()]);
    server.run_turn(idle, transport, plan.load_core)
}

/// Runs a program to its end and reads the JSON that it prints.
fn json_of<R: DeserializeOwned>(mut command: Command) -> Result<R, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().during(&program)?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(BenchError::Program { program, problem });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| BenchError::Program { program, problem: error.to_string() })
}

fn open_for_append(path: &Path) -> Result<File, BenchError> {
    let open = File::options().create(true).append(true).open(path);
    open.during(&path.display().to_string())
}

fn append<R: Serialize>(
    file: Option<&mut File>,
    server: &str,
    round: usize,
    report: &R,
) -> Result<(), BenchError> {
    let Some(file) = file else {
        return Ok(());
    };
    let server = server.to_owned();
    let line = Line { server, round, report };
    let text = serde_json::to_string(&line).map_err(std::io::Error::from);
    writeln!(file, "{}", text.during("writing JSON")?).during("writing JSON")
}

const ROUNDS_MAX: usize = 50;
