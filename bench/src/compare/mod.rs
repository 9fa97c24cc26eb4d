//! Several relays measured in turn, so that what happens to the machine happens to all of them.
//!
//! In every round each relay is started, measured in each row, and stopped; the order turns from
//! round to round. Relay and generator have a core each. What is printed are medians over the
//! rounds and their ratios: the figures belong to the machine, the ratios to the programs.

mod contender;
mod measure;
mod record;
mod row;
mod server;
mod table;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use crate::error::{BenchError, DuringExt};
use crate::pin::{pin_to, raise_descriptor_limit};
use crate::target::Transport;
pub use contender::{Contender, Program, installed, installed_by_cargo};
use measure::{Saturation, measure};
use record::Records;
pub use record::{Line, Measured, read};
use row::Row;
use server::{Server, Setting};
pub use table::markdown;
pub(crate) use table::{Column, Results};

/// What is compared, and how long.
#[derive(Clone, Debug)]
pub struct ComparePlan {
    /// The relays, in the order of the table's columns.
    pub contenders: Vec<Contender>,
    /// Where `load` and `idle` are.
    pub programs: PathBuf,
    /// Rows to measure, by their names or parts of them; none is all.
    pub rows: Vec<String>,
    /// How often each row is measured.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Seconds of the same load before each.
    pub warm_up: f64,
    /// Allocations that share the load.
    pub allocations: usize,
    /// What clients speak to the relays.
    pub transports: Vec<Transport>,
    /// Bytes of a packet in the rows over UDP.
    pub payload: usize,
    /// The same in the rows over streams, each of which there is once for each size.
    pub stream_payloads: Vec<usize>,
    /// Requests per second of the floods.
    pub flood_rate: u64,
    /// Allocations made and released in each round; none leaves them out.
    pub control: Option<usize>,
    /// Allocations of the memory row over UDP; none leaves it out.
    pub idle: Option<usize>,
    /// Addresses that these are relayed from.
    pub relay_addresses: Vec<Ipv4Addr>,
    /// Allocations of the memory row over streams, where each has a connection of its own.
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

/// The rows that a plan would measure: what they are called on the command line, and in tables.
pub fn row_names(plan: &ComparePlan) -> Vec<(String, String)> {
    row::rows(plan).into_iter().map(|row| (row.key, row.name)).collect()
}

/// Measures everything. `progress` hears what is being done.
pub fn run(plan: &ComparePlan, mut progress: impl FnMut(&str)) -> Result<Vec<Line>, BenchError> {
    check(plan)?;
    let plan = &within_descriptors(plan, &mut progress)?;
    let rows = row::rows(plan);
    if rows.is_empty() {
        return Err(BenchError::Argument("no row has such a name".to_owned()));
    }
    pin_to(plan.load_core)?;
    let records = Records::open(plan.json.as_deref())?;
    let saturation = Saturation::find(plan, &rows, &mut progress)?;
    let mut session = Session { plan, records, saturation, progress: &mut progress };
    for round in 1..=plan.rounds {
        for turn in 0..plan.contenders.len() {
            // Whoever goes first in one round goes later in the next.
            let contender = &plan.contenders[(turn + round - 1) % plan.contenders.len()];
            (session.progress)(&format!("round {round} of {}: {}", plan.rounds, contender.name));
            session.one_round(contender, round, &rows)?;
            for row in rows.iter().filter(|row| row.is_memory()) {
                session.memory(contender, round, row)?;
            }
        }
    }
    Ok(session.records.lines)
}

fn check(plan: &ComparePlan) -> Result<(), BenchError> {
    let names = || plan.contenders.iter().map(|contender| &contender.name);
    let problem = if plan.contenders.is_empty() {
        "there is nothing to compare"
    } else if names().enumerate().any(|(index, name)| names().take(index).any(|one| one == name)) {
        "each contender needs a name of its own"
    } else if !(1..=ROUNDS_MAX).contains(&plan.rounds) {
        "rounds: 1 to 50"
    } else if !(0.1..=60.0).contains(&plan.seconds) || !(0.0..=60.0).contains(&plan.warm_up) {
        "seconds: 0.1 to 60, of warm-up 0 to 60"
    } else if plan.transports.is_empty() {
        "transports: one at least"
    } else if plan.relay_addresses.is_empty() {
        "relay addresses: one at least"
    } else if plan.server_core == plan.load_core {
        "relay and generator need a core each"
    } else {
        return Ok(());
    };
    Err(BenchError::Argument(problem.to_owned()))
}

/// An allocation is a socket at the relay and one here: no more of them than may be open.
fn within_descriptors(
    plan: &ComparePlan,
    progress: &mut impl FnMut(&str),
) -> Result<ComparePlan, BenchError> {
    let mut plan = plan.clone();
    let Some(wanted) = plan.idle else { return Ok(plan) };
    let limit = raise_descriptor_limit(wanted as u64 + DESCRIPTORS_BESIDE)?;
    let room = usize::try_from(limit.saturating_sub(DESCRIPTORS_BESIDE)).unwrap_or(usize::MAX);
    if room < wanted {
        progress(&format!(
            "{limit} descriptors may be open, so {room} allocations are idle at most"
        ));
        plan.idle = Some(room);
    }
    Ok(plan)
}

/// A run under way.
struct Session<'a> {
    plan: &'a ComparePlan,
    records: Records,
    saturation: Saturation,
    progress: &'a mut dyn FnMut(&str),
}

impl Session<'_> {
    /// All rows but those of memory, each number of workers in a process of its own.
    fn one_round(
        &mut self,
        contender: &Contender,
        round: usize,
        rows: &[Row],
    ) -> Result<(), BenchError> {
        let mine = |row: &&Row| {
            !row.is_memory() && row.suits(contender, self.plan.is_reference(contender))
        };
        let rows: Vec<&Row> = rows.iter().filter(mine).collect();
        let mut workers: Vec<usize> = rows.iter().map(|row| row.workers()).collect();
        workers.sort_unstable();
        workers.dedup();
        for workers in workers {
            let setting = Setting::with_workers(workers);
            let Some(server) = self.start(contender, &setting) else { continue };
            for row in rows.iter().filter(|row| row.workers() == workers) {
                self.one_row(contender, round, row, &server)?;
            }
        }
        Ok(())
    }

    /// In a process of its own, so that no earlier load has made its memory larger.
    fn memory(&mut self, contender: &Contender, round: usize, row: &Row) -> Result<(), BenchError> {
        if !row.suits(contender, self.plan.is_reference(contender)) {
            return Ok(());
        }
        let setting = Setting { workers: 1, relay: self.plan.relay_addresses.clone() };
        let Some(server) = self.start(contender, &setting) else { return Ok(()) };
        self.one_row(contender, round, row, &server)
    }

    /// A relay that does not start is missing in the tables; the others go on.
    fn start(&mut self, contender: &Contender, setting: &Setting) -> Option<Server> {
        let server = Server::start(contender, self.plan, setting);
        server.map_err(|error| (self.progress)(&error.to_string())).ok()
    }

    fn one_row(
        &mut self,
        contender: &Contender,
        round: usize,
        row: &Row,
        server: &Server,
    ) -> Result<(), BenchError> {
        let report = match measure(self.plan, contender, row, server, &self.saturation) {
            Ok(report) => report,
            // The others go on; the tables show that it is missing.
            Err(error) => {
                (self.progress)(&format!("{}: {}: {error}", contender.name, row.name));
                return Ok(());
            }
        };
        self.records.add(Line {
            contender: contender.name.clone(),
            program: contender.program,
            reference: self.plan.is_reference(contender),
            round,
            row: row.key.clone(),
            name: row.name.clone(),
            percent: row.percent(),
            report,
        })
    }
}

impl ComparePlan {
    fn is_reference(&self, contender: &Contender) -> bool {
        contender::reference(&self.contenders) == Some(contender)
    }
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

const ROUNDS_MAX: usize = 50;

/// Descriptors that are not those of allocations.
const DESCRIPTORS_BESIDE: u64 = 1000;
