//! Medians and ratios in Markdown.

use std::fmt::Write;

use super::contender::Program;
use super::record::{Line, Measured};
use crate::handshakes::HandshakesReport;
use crate::idle::{IdleReport, Round};
use crate::load::{Flooded, Report};

/// The tables of all that was measured.
pub fn markdown(lines: &[Line]) -> String {
    let results = Results::of(lines);
    let mut text = String::new();
    results.throughput(&mut text);
    results.timed(&mut text);
    results.workers(&mut text);
    results.control(&mut text);
    results.memory(&mut text);
    results.handshakes(&mut text);
    text.trim_start().to_owned()
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) reference: bool,
}

/// What was measured, with the columns and rows in the order in which they first come.
pub(crate) struct Results<'a> {
    lines: &'a [Line],
    columns: Vec<Column>,
    rows: Vec<(&'a str, &'a str)>,
}

/// What a column has in a row: figures that belong together, and a mark behind them.
struct Cell {
    figures: Vec<f64>,
    mark: &'static str,
}

/// What a line is called, and what of a report it shows.
type Figure<R> = (&'static str, fn(&R) -> f64);

type CellOf<'a> = &'a dyn Fn(&[&Report]) -> Option<Cell>;

impl<'a> Results<'a> {
    pub(crate) fn of(lines: &'a [Line]) -> Results<'a> {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for line in lines {
            let name = line.contender.clone();
            let column = Column { name, program: line.program, reference: line.reference };
            if !columns.contains(&column) {
                columns.push(column);
            }
            let row = (line.row.as_str(), line.name.as_str());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        Results { lines, columns, rows }
    }

    fn throughput(&self, text: &mut String) {
        let rows = self.rows_with(|report| report.flood.is_none() && !is_timed(report));
        let rows: Vec<_> =
            rows.into_iter().filter(|(key, _)| !key.starts_with("workers")).collect();
        if rows.is_empty() {
            return;
        }
        text.push_str("\n### Server CPU per delivered packet (ns)\n\n");
        self.table(text, &rows, true, &cpu);
        text.push_str("\n† The server was below 95 % of its core in at least one round.\n");
        text.push_str("\n### Delivered packets per second\n\n");
        self.table(text, &rows, true, &|reports| {
            one(reports.iter().map(|report| report.delivered_per_second))
        });
        text.push_str("\n### Payload relayed per second of server CPU (MB)\n\n");
        self.table(text, &rows, false, &|reports| {
            one(reports.iter().filter_map(|report| Some(report.bytes_per_server_cpu_second? / 1e6)))
        });
        text.push_str("\n### Latency at most of 50 % / 99 % / 99.9 % of the packets (µs)\n\n");
        self.table(text, &rows, false, &latency);
        self.loss_and_order(text, &rows);
    }

    fn loss_and_order(&self, text: &mut String, rows: &[(&str, &str)]) {
        text.push_str("\n### Packets lost (per million)\n\n");
        self.table(text, rows, false, &|reports| {
            one(reports.iter().map(|report| report.loss * 1e6))
        });
        text.push_str("\n### Packets that came after a later one of their flow (per million)\n\n");
        self.table(text, rows, false, &|reports| {
            one(reports.iter().map(|report| report.late as f64 * 1e6 / report.sent.max(1) as f64))
        });
    }

    /// Rows whose rate is a part of a saturation, and those beside a flood.
    fn timed(&self, text: &mut String) {
        let rows = self.rows_with(is_timed);
        if rows.is_empty() {
            return;
        }
        text.push_str("\n### Latency at a rate: 50 % / 99 % / 99.9 % (µs)\n\n");
        self.table(text, &rows, true, &latency);
        text.push_str("\n### The same rows: server CPU per delivered packet (ns)\n\n");
        self.table(text, &rows, true, &cpu);
        text.push_str("\n### The same rows: packets delivered per second\n\n");
        self.table(text, &rows, false, &|reports| {
            one(reports.iter().map(|report| report.delivered_per_second))
        });
        self.loss_and_order(text, &rows);
        text.push_str("\n### The same rows: server CPU, in percent of a core\n\n");
        self.table(text, &rows, false, &|reports| {
            one(reports.iter().filter_map(|report| Some(report.server_cpu_share? * 100.0)))
        });
        text.push_str("\n### The same rows: packets sent behind plan, 99 % at most (µs)\n\n");
        self.table(text, &rows, false, &|reports| {
            one(reports.iter().filter_map(|report| report.behind_p99_us))
        });
        let floods = self.rows_with(|report| report.flood.is_some());
        if floods.is_empty() {
            return;
        }
        text.push_str("\n### Requests of the flood sent / answered per second\n\n");
        self.table(text, &floods, false, &|reports| {
            let floods = || reports.iter().filter_map(|report| report.flood.as_ref());
            let sent = median(floods().map(|flood| flood.sent_per_second))?;
            let answers = median(floods().map(|flood| flood.answers_per_second))?;
            Some(Cell { figures: vec![sent, answers], mark: "" })
        });
    }

    fn workers(&self, text: &mut String) {
        let rows = self.rows_with(|_| true);
        let rows: Vec<_> = rows.into_iter().filter(|(key, _)| key.starts_with("workers")).collect();
        if rows.is_empty() {
            return;
        }
        text.push_str("\n### Workers: server CPU per delivered packet (ns)\n\n");
        self.table(text, &rows, false, &cpu);
        text.push_str("\n### Workers: the busiest threads, in percent of a core\n\n");
        self.table(text, &rows, false, &|reports| {
            let share =
                |report: &Report, index: usize| Some(report.threads.get(index)?.share * 100.0);
            let of = |index| median(reports.iter().filter_map(|report| share(report, index)));
            let figures: Vec<f64> = (0..THREADS_SHOWN).map_while(of).collect();
            Some(figures)
                .filter(|figures| !figures.is_empty())
                .map(|figures| Cell { figures, mark: "" })
        });
        self.loss_and_order(text, &rows);
    }

    fn control(&self, text: &mut String) {
        self.round_tables(
            text,
            |measured| match measured {
                Measured::Control(report) => Some(report),
                _ => None,
            },
            "Control path",
            &[
                ("server CPU for each (µs)", |round| round.cpu_us_per_allocation),
                ("made per second", |round| round.made_per_second),
            ],
        );
    }

    fn memory(&self, text: &mut String) {
        self.round_tables(
            text,
            |measured| match measured {
                Measured::Memory(report) => Some(report),
                _ => None,
            },
            "Memory",
            &[
                ("allocations", |round| round.allocations as f64),
                ("addresses they were spread over", |round| round.relayed_addresses as f64),
                ("resident bytes for each", |round| round.resident_bytes_per_allocation),
                ("server CPU for allocate, bind, release (µs)", |round| {
                    round.cpu_us_per_allocation
                }),
                ("made per second", |round| round.made_per_second),
            ],
        );
    }

    fn round_tables(
        &self,
        text: &mut String,
        idle: fn(&'a Measured) -> Option<&'a IdleReport>,
        title: &str,
        figures: &[Figure<Round>],
    ) {
        let rounds = |column: &Column, row: &str| -> Vec<&'a Round> {
            let reports = self.reports(column, row).filter_map(idle);
            reports.flat_map(|report| &report.rounds).collect()
        };
        for (key, name) in &self.rows {
            if self.columns.iter().all(|column| rounds(column, key).is_empty()) {
                continue;
            }
            let _ = writeln!(text, "\n### {title}: {name}\n");
            self.head(text, true);
            for (line, value) in figures {
                let cell =
                    |column: &Column| one(rounds(column, key).iter().map(|round| value(round)));
                self.line(text, line, true, &cell);
            }
        }
    }

    fn handshakes(&self, text: &mut String) {
        let reports = |column: &Column| -> Vec<&HandshakesReport> {
            let lines = self.lines.iter().filter(|line| line.contender == column.name);
            let reports = lines.filter_map(|line| match &line.report {
                Measured::Handshakes(report) => Some(report),
                _ => None,
            });
            reports.collect()
        };
        if self.columns.iter().all(|column| reports(column).is_empty()) {
            return;
        }
        text.push_str("\n### TLS handshakes\n\n");
        self.head(text, true);
        let figures: [Figure<HandshakesReport>; 2] = [
            ("per second of server CPU", |report| report.per_server_cpu_second),
            ("server CPU for each, with its connection (µs)", |report| {
                report.server_cpu_us_per_handshake
            }),
        ];
        for (line, value) in figures {
            let cell = |column: &Column| one(reports(column).into_iter().map(value));
            self.line(text, line, true, &cell);
        }
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The keys and names of the rows.
    pub(crate) fn rows(&self) -> &[(&'a str, &'a str)] {
        &self.rows
    }

    /// How often rows were measured.
    pub(crate) fn rounds(&self) -> usize {
        self.lines.iter().map(|line| line.round).max().unwrap_or(0)
    }

    /// The part of saturation that a row is measured at.
    pub(crate) fn percent(&self, row: &str) -> Option<u32> {
        self.lines.iter().find(|line| line.row == row)?.percent
    }

    pub(crate) fn floods(&self) -> impl Iterator<Item = &'a Flooded> {
        self.lines.iter().filter_map(|line| match &line.report {
            Measured::Load(report) => report.flood.as_ref(),
            _ => None,
        })
    }

    /// The median of a figure of one column in one row.
    pub(crate) fn median(
        &self,
        column: &Column,
        row: &str,
        figure: impl Fn(&Measured) -> Option<f64>,
    ) -> Option<f64> {
        median(self.reports(column, row).filter_map(figure))
    }

    /// The rows that have a report of packets of this kind.
    pub(crate) fn rows_with(&self, is: impl Fn(&Report) -> bool) -> Vec<(&'a str, &'a str)> {
        let has = |key: &str| {
            let mut lines = self.lines.iter().filter(|line| line.row == key);
            lines.any(|line| matches!(&line.report, Measured::Load(report) if is(report)))
        };
        self.rows.iter().copied().filter(|(key, _)| has(key)).collect()
    }

    fn reports(&self, column: &Column, row: &str) -> impl Iterator<Item = &'a Measured> {
        let lines = self.lines.iter();
        let mine = lines.filter(move |line| line.contender == column.name && line.row == row);
        mine.map(|line| &line.report)
    }

    fn table(&self, text: &mut String, rows: &[(&str, &str)], ratios: bool, cell: CellOf<'_>) {
        self.head(text, ratios);
        for (key, name) in rows {
            let cell = |column: &Column| {
                let reports = self.reports(column, key).filter_map(|report| match report {
                    Measured::Load(report) => Some(&**report),
                    _ => None,
                });
                let reports: Vec<&Report> = reports.collect();
                cell(&reports)
            };
            self.line(text, name, ratios, &cell);
        }
    }

    fn head(&self, text: &mut String, ratios: bool) {
        let mut rule = String::from("|---|");
        text.push_str("| |");
        for column in &self.columns {
            let _ = write!(text, " {} |", column.name);
            rule.push_str("---:|");
        }
        for (over, under) in self.pairs(ratios) {
            let (over, under) = (&self.columns[over].name, &self.columns[under].name);
            let _ = write!(text, " {over} / {under} |");
            rule.push_str("---:|");
        }
        let _ = writeln!(text, "\n{rule}");
    }

    fn line(
        &self,
        text: &mut String,
        name: &str,
        ratios: bool,
        cell: &dyn Fn(&Column) -> Option<Cell>,
    ) {
        let cells: Vec<Option<Cell>> = self.columns.iter().map(cell).collect();
        let _ = write!(text, "| {name} |");
        for cell in &cells {
            let _ = write!(text, " {} |", cell.as_ref().map_or(MISSING.to_owned(), Cell::shown));
        }
        for (over, under) in self.pairs(ratios) {
            let ratio =
                cells[over].as_ref().zip(cells[under].as_ref()).map(|(one, other)| one.over(other));
            let _ = write!(text, " {} |", ratio.unwrap_or(MISSING.to_owned()));
        }
        text.push('\n');
    }

    /// Sterna over the floor, the reference and turn-server; each further Sterna over the reference
    /// and the first.
    fn pairs(&self, wanted: bool) -> Vec<(usize, usize)> {
        let at = |is: &dyn Fn(&Column) -> bool| -> Vec<usize> {
            (0..self.columns.len()).filter(|index| is(&self.columns[*index])).collect()
        };
        let sternas = at(&|column| column.program == Program::Sterna);
        let reference = at(&|column| column.reference);
        let others = at(&|column| match column.program {
            Program::Floor | Program::TurnServer => true,
            Program::Coturn => column.reference,
            Program::Sterna => false,
        });
        let mut pairs = Vec::new();
        if let Some((first, variants)) = sternas.split_first() {
            pairs.extend(others.iter().map(|other| (*first, *other)));
            for variant in variants {
                pairs.extend(reference.iter().map(|other| (*variant, *other)));
                pairs.push((*variant, *first));
            }
        }
        pairs.retain(|_| wanted);
        pairs
    }
}

impl Cell {
    fn shown(&self) -> String {
        let figures: Vec<String> =
            self.figures.iter().map(|figure| format!("{figure:.0}")).collect();
        format!("{}{}", figures.join(" / "), self.mark)
    }

    fn over(&self, other: &Cell) -> String {
        let pairs = self.figures.iter().zip(&other.figures);
        let ratios: Vec<String> = pairs
            .map(|(one, other)| match *other > 0.0 {
                true => format!("{:.2}", one / other),
                false => MISSING.to_owned(),
            })
            .collect();
        ratios.join(" / ")
    }
}

/// Whether it is about latency at a rate: in such a row the kernel tells when packets arrive.
fn is_timed(report: &Report) -> bool {
    report.kernel_time
}

fn one(values: impl Iterator<Item = f64>) -> Option<Cell> {
    median(values).map(|figure| Cell { figures: vec![figure], mark: "" })
}

fn cpu(reports: &[&Report]) -> Option<Cell> {
    let value = median(reports.iter().filter_map(|report| report.server_cpu_ns_per_packet))?;
    let idle = |report: &&&Report| report.rate.is_none() && report.saturated == Some(false);
    let mark = if reports.iter().any(|report| idle(&report)) { "†" } else { "" };
    Some(Cell { figures: vec![value], mark })
}

fn latency(reports: &[&Report]) -> Option<Cell> {
    let of = |value: fn(&Report) -> Option<f64>| {
        median(reports.iter().filter_map(|report| value(report)))
    };
    let figures = vec![
        of(|report| report.latency_p50_us)?,
        of(|report| report.latency_p99_us)?,
        of(|report| report.latency_p999_us)?,
    ];
    Some(Cell { figures, mark: "" })
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

const MISSING: &str = "–";

/// Workers, and the thread beside them that does most.
const THREADS_SHOWN: usize = 3;

#[cfg(test)]
mod tests;
