//! One row of one relay: which program measures it, with what arguments.

use std::process::Command;

use super::ComparePlan;
use super::contender::{Contender, Program, reference};
use super::record::Measured;
use super::row::{LoadRow, Rate, Row, What};
use super::server::{Server, Setting};
use super::table::median;
use crate::error::BenchError;
use crate::load::{Direction, Report};
use crate::target::Transport;

/// Packets per second that saturate the reference, by direction: rates that are a part of it are
/// the same for every relay.
#[derive(Debug, Default)]
pub(super) struct Saturation(Vec<(Direction, f64)>);

impl Saturation {
    /// Measures the directions in which a row asks for it.
    pub(super) fn find(
        plan: &ComparePlan,
        rows: &[Row],
        progress: &mut impl FnMut(&str),
    ) -> Result<Saturation, BenchError> {
        let mut loads = Vec::new();
        for row in rows {
            let What::Load(load) = &row.what else { continue };
            let known = loads.iter().any(|known: &LoadRow| known.direction == load.direction);
            if matches!(load.rate, Rate::Percent(_)) && !known {
                loads.push(LoadRow { rate: Rate::Saturation, timed: false, ..*load });
            }
        }
        if loads.is_empty() {
            return Ok(Saturation::default());
        }
        // Without a coturn another server is set against itself.
        let other = || plan.contenders.iter().find(|one| one.program != Program::Floor);
        let Some(reference) = reference(&plan.contenders).or_else(other) else {
            return Err(BenchError::Argument("a part of nobody's saturation".to_owned()));
        };
        let server = Server::start(reference, plan, &Setting::with_workers(1))?;
        let mut found = Vec::new();
        for load in loads {
            let mut rates = Vec::with_capacity(FINDINGS);
            for _ in 0..FINDINGS {
                let command = load_command(plan, &load, 0);
                let report: Report = server.run_turn(command, Transport::Udp, plan.load_core)?;
                rates.push(report.delivered_per_second);
            }
            let rate = median(rates.into_iter()).unwrap_or(0.0);
            let way = load.direction.name();
            progress(&format!("{way}: {rate:.0}/s saturate {}", reference.name));
            found.push((load.direction, rate));
        }
        Ok(Saturation(found))
    }

    /// Packets per second of a row; zero is saturation.
    fn rate(&self, load: &LoadRow) -> u32 {
        match load.rate {
            Rate::Saturation => 0,
            Rate::Fixed(rate) => rate,
            Rate::Percent(percent) => {
                let found = self.0.iter().find(|(direction, _)| *direction == load.direction);
                let all = found.map_or(0.0, |(_, rate)| *rate);
                ((all * f64::from(percent) / 100.0) as u32).max(1)
            }
        }
    }
}

/// Measures a row.
pub(super) fn measure(
    plan: &ComparePlan,
    contender: &Contender,
    row: &Row,
    server: &Server,
    saturation: &Saturation,
) -> Result<Measured, BenchError> {
    let core = plan.load_core;
    match &row.what {
        What::Load(load) => {
            let command = load_command(plan, load, saturation.rate(load));
            server.run_turn(command, row.transport, core).map(Box::new).map(Measured::Load)
        }
        What::Control { allocations, clients } => {
            let mut idle = idle_command(plan, contender, *allocations);
            idle.args(["--settle-ms", "200", "--clients", &clients.to_string()]);
            server.run_turn(idle, row.transport, core).map(Measured::Control)
        }
        What::Memory(count) => {
            let idle = idle_command(plan, contender, *count);
            server.run_turn(idle, row.transport, core).map(Measured::Memory)
        }
        What::Handshakes(count) => {
            let mut handshakes = Command::new(plan.programs.join("handshakes"));
            handshakes.args(["--handshakes", &count.to_string()]);
            server.run(handshakes, Transport::Tls, core).map(Measured::Handshakes)
        }
    }
}

fn load_command(plan: &ComparePlan, load: &LoadRow, rate: u32) -> Command {
    let mut command = Command::new(plan.programs.join("load"));
    command
        .args(["--direction", load.direction.name()])
        .args(["--burst", &load.burst.to_string()])
        .args(["--rate", &rate.to_string()])
        .args(["--seconds", &plan.seconds.to_string()])
        .args(["--warm-up", &plan.warm_up.to_string()])
        .args(["--allocations", &plan.allocations.to_string()])
        .args(["--payload", &load.payload.to_string()]);
    if load.gso {
        command.arg("--gso");
    }
    if load.timed {
        command.arg("--kernel-time");
    }
    if let Some((kind, rate)) = load.flood {
        command.args(["--flood", kind.name(), "--flood-rate", &rate.to_string()]);
    }
    command
}

fn idle_command(plan: &ComparePlan, contender: &Contender, count: usize) -> Command {
    let mut idle = Command::new(plan.programs.join("idle"));
    let count = count.min(contender.allocations_max());
    idle.args(["--allocations", &count.to_string()]);
    if contender.program == Program::TurnServer {
        idle.arg("--among-clients");
    }
    idle
}

/// How often the saturation is measured, for the median.
const FINDINGS: usize = 3;
