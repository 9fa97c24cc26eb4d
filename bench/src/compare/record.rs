//! What was measured, as lines of JSON that tables and plots are made from.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::contender::Program;
use crate::error::{BenchError, DuringExt};
use crate::handshakes::HandshakesReport;
use crate::idle::IdleReport;
use crate::load::Report;

/// One measurement of one relay.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Line {
    /// The head of the relay's column.
    pub contender: String,
    /// Its program.
    pub program: Program,
    /// Whether the goals are set against it.
    pub reference: bool,
    /// From one.
    pub round: usize,
    /// The row's name on the command line.
    pub row: String,
    /// The row's name in tables.
    pub name: String,
    /// The part of a direction's saturation that was asked for, in percent.
    #[serde(default)]
    pub percent: Option<u32>,
    /// What was found.
    pub report: Measured,
}

/// What a row finds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// Packets.
    Load(Box<Report>),
    /// Allocations made and released in a server that has done other things before.
    Control(IdleReport),
    /// Allocations in a server of their own.
    Memory(IdleReport),
    /// TLS handshakes.
    Handshakes(HandshakesReport),
}

/// Reads the lines of an earlier run.
pub fn read(path: &Path) -> Result<Vec<Line>, BenchError> {
    let text = fs::read_to_string(path).during(&path.display().to_string())?;
    let parse = |line: &str| serde_json::from_str(line).map_err(std::io::Error::from);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| parse(line).during(&path.display().to_string())).collect()
}

/// The lines of a run, and the file they are appended to as they come.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) lines: Vec<Line>,
    file: Option<File>,
}

impl Records {
    pub(super) fn open(path: Option<&Path>) -> Result<Records, BenchError> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.during(&path.display().to_string())
        };
        Ok(Records { lines: Vec::new(), file: path.map(open).transpose()? })
    }

    pub(super) fn add(&mut self, line: Line) -> Result<(), BenchError> {
        if let Some(file) = &mut self.file {
            let text = serde_json::to_string(&line).map_err(std::io::Error::from);
            writeln!(file, "{}", text.during("writing JSON")?).during("writing JSON")?;
        }
        self.lines.push(line);
        Ok(())
    }
}
