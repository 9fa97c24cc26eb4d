//! Several relays measured in turn, so that what happens to the machine happens to all of them.
//!
//! In every round each relay is started, measured in each row, and stopped; the order turns from
//! round to round. Relay and generator have a core each. What is printed are medians over the
//! rounds and their ratios: the figures belong to the machine, the ratios to the programs.

mod server;
mod table;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, DuringExt};
use crate::idle::IdleReport;
use crate::load::{Direction, Report};
use crate::pin::pin_to;
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
    /// Bytes of a packet.
    pub payload: usize,
    /// Allocations of the memory row; none leaves it out.
    pub idle: Option<usize>,
    /// The relay's core.
    pub server_core: usize,
    /// The generator's core.
    pub load_core: usize,
    /// The port that relays listen at.
    pub port: u16,
    /// Where each result is appended as a line of JSON.
    pub json: Option<PathBuf>,
}

/// One row of the table: a kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    direction: Direction,
    burst: usize,
    rate: u32,
}

/// All rows. The last shows what wake-ups cost where there is nothing to batch.
pub(crate) const ROWS: [Row; 6] = [
    row("client → peer", Direction::ClientToPeer, 1, 0),
    row("peer → client", Direction::PeerToClient, 1, 0),
    row("client → peer, bursts of 8", Direction::ClientToPeer, 8, 0),
    row("peer → client, bursts of 8", Direction::PeerToClient, 8, 0),
    row("client ↔ client", Direction::ClientToClient, 1, 0),
    row("client → peer, 20,000/s", Direction::ClientToPeer, 1, 20_000),
];

const fn row(name: &'static str, direction: Direction, burst: usize, rate: u32) -> Row {
    Row { name, direction, burst, rate }
}

/// All that was measured of one contender.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) name: &'static str,
    /// For each row, a report for each round.
    pub(crate) rows: [Vec<Report>; ROWS.len()],
    pub(crate) idle: Option<IdleReport>,
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
    pin_to(plan.load_core)?;
    let mut json = plan.json.as_deref().map(open_for_append).transpose()?;
    let mut results: Vec<Results> = plan
        .contenders
        .iter()
        .map(|contender| Results {
            name: contender.program.name(),
            rows: Default::default(),
            idle: None,
        })
        .collect();
    for round in 1..=plan.rounds {
        for turn in 0..plan.contenders.len() {
            // Whoever goes first in one round goes later in the next.
            let index = (turn + round - 1) % plan.contenders.len();
            let name = results[index].name;
            progress(&format!("round {round} of {}: {name}", plan.rounds));
            for (row, report) in measure_rows(plan, &plan.contenders[index])? {
                append(json.as_mut(), name, round, &report)?;
                results[index].rows[row].push(report);
            }
        }
    }
    for (contender, results) in plan.contenders.iter().zip(&mut results) {
        let Some(allocations) = plan.idle else { break };
        progress(&format!("{allocations} idle allocations: {}", results.name));
        let report = measure_idle(plan, contender, allocations)?;
        append(json.as_mut(), results.name, 0, &report)?;
        results.idle = Some(report);
    }
    Ok(table::markdown(&results))
}

fn check(plan: &ComparePlan) -> Result<(), BenchError> {
    let problem = if plan.contenders.is_empty() {
        "there is nothing to compare"
    } else if !(1..=ROUNDS_MAX).contains(&plan.rounds) {
        "rounds: 1 to 50"
    } else if !(0.1..=60.0).contains(&plan.seconds) {
        "seconds: 0.1 to 60"
    } else if plan.server_core == plan.load_core {
        "relay and generator need a core each"
    } else {
        return Ok(());
    };
    Err(BenchError::Argument(problem.to_owned()))
}

fn measure_rows(
    plan: &ComparePlan,
    contender: &Contender,
) -> Result<Vec<(usize, Report)>, BenchError> {
    let server = Server::start(contender, plan)?;
    let mut reports = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        let mut load = Command::new(plan.programs.join("load"));
        load.args(["--direction", row.direction.name()])
            .args(["--burst", &row.burst.to_string()])
            .args(["--rate", &row.rate.to_string()])
            .args(["--seconds", &plan.seconds.to_string()])
            .args(["--allocations", &plan.allocations.to_string()])
            .args(["--payload", &plan.payload.to_string()]);
        reports.push((index, server.run(load, plan.load_core)?));
    }
    Ok(reports)
}

/// In a process of its own, so that no earlier load has made its memory larger.
fn measure_idle(
    plan: &ComparePlan,
    contender: &Contender,
    allocations: usize,
) -> Result<IdleReport, BenchError> {
    let server = Server::start(contender, plan)?;
    let mut idle = Command::new(plan.programs.join("idle"));
    idle.args(["--allocations", &allocations.to_string()]);
    server.run(idle, plan.load_core)
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
