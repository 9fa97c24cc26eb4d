//! Plots of what `compare` found, as SVG.

mod bars;
mod canvas;
mod ranges;

use std::fs;
use std::path::{Path, PathBuf};

use plotters::style::RGBColor;

use crate::compare::{Column, Line, Measured, Program, Results};
use crate::error::{BenchError, DuringExt};
use crate::load::Report;
use bars::{Bar, Bars};
use ranges::{Panel, Range, Ranges};

/// Draws what the lines of a run have figures for, and says which files there are.
pub fn draw(lines: &[Line], folder: &Path) -> Result<Vec<PathBuf>, BenchError> {
    fs::create_dir_all(folder).during(&folder.display().to_string())?;
    let results = Results::of(lines);
    let drawn = [
        ("cpu.svg", cpu(&results).as_ref().map(Bars::svg)),
        ("bursts.svg", bursts(&results).as_ref().map(Bars::svg)),
        ("allocations.svg", allocations(&results).as_ref().map(Bars::svg)),
        ("latency.svg", latency(&results).as_ref().map(Ranges::svg)),
        ("flood.svg", flood(&results).as_ref().map(Ranges::svg)),
    ];
    let mut files = Vec::new();
    for (name, svg) in drawn {
        let Some(svg) = svg else { continue };
        let path = folder.join(name);
        fs::write(&path, svg?).during(&path.display().to_string())?;
        files.push(path);
    }
    Ok(files)
}

fn cpu(results: &Results<'_>) -> Option<Bars> {
    let plain = |report: &Report| !is_at_a_part(report) && report.burst == 1;
    cpu_bars(results, "Server CPU per delivered packet", plain)
}

fn bursts(results: &Results<'_>) -> Option<Bars> {
    cpu_bars(results, "Server CPU per delivered packet, in bursts", |report| report.burst > 1)
}

fn is_at_a_part(report: &Report) -> bool {
    report.kernel_time || report.flood.is_some()
}

fn cpu_bars(results: &Results<'_>, title: &str, is: impl Fn(&Report) -> bool) -> Option<Bars> {
    let rows = results.rows_with(is).into_iter().filter(|(key, _)| !key.starts_with("workers"));
    let groups = rows.filter_map(|(key, name)| {
        let figure = |column: &Column| {
            let nanos = results.median(column, key, |measured| match measured {
                Measured::Load(report) => report.server_cpu_ns_per_packet,
                _ => None,
            })?;
            Some((nanos, format!("{:.2} µs", nanos / 1000.0)))
        };
        group(results, name, &figure)
    });
    bars(title, results, groups.collect())
}

/// The control path and memory.
fn allocations(results: &Results<'_>) -> Option<Bars> {
    let mut groups = Vec::new();
    for (key, name) in results.rows() {
        let control = |column: &Column| {
            let micros = results.median(column, key, |measured| match measured {
                Measured::Control(report) => Some(report.rounds.first()?.cpu_us_per_allocation),
                _ => None,
            })?;
            Some((micros, format!("{micros:.0} µs")))
        };
        groups.extend(group(results, &format!("CPU: {name}"), &control));
        let memory = |column: &Column| {
            let bytes = results.median(column, key, |measured| match measured {
                Measured::Memory(report) => {
                    Some(report.rounds.first()?.resident_bytes_per_allocation)
                }
                _ => None,
            })?;
            Some((bytes, format!("{:.1} KiB", bytes / 1024.0)))
        };
        groups.extend(group(results, &format!("memory: {name}"), &memory));
    }
    bars("What an allocation costs", results, groups)
}

/// A relay's figure in a row, and how it is shown.
type FigureOf<'a> = &'a dyn Fn(&Column) -> Option<(f64, String)>;

/// Nothing where the reference has no figure.
fn group(results: &Results<'_>, name: &str, figure: FigureOf<'_>) -> Option<bars::Group> {
    let (one, _) = results.columns().iter().find(|column| column.reference).and_then(figure)?;
    let shades = shades(results.columns());
    let bars = results.columns().iter().zip(shades).filter_map(|(column, color)| {
        let (value, figure) = figure(column)?;
        Some(Bar { name: column.name.clone(), color, ratio: value / one, figure })
    });
    Some(bars::Group { name: name.to_owned(), bars: bars.collect() }).filter(|_| one > 0.0)
}

fn bars(title: &str, results: &Results<'_>, groups: Vec<bars::Group>) -> Option<Bars> {
    let reference = results.columns().iter().find(|column| column.reference)?;
    let subtitle = format!(
        "{}: medians. Length: ratio to {}, which is the line at 1; shorter is better.",
        rounds(results),
        reference.name
    );
    Some(Bars { title: title.to_owned(), subtitle, groups }).filter(|bars| !bars.groups.is_empty())
}

fn rounds(results: &Results<'_>) -> String {
    match results.rounds() {
        1 => "one round".to_owned(),
        rounds => format!("{rounds} rounds"),
    }
}

fn latency(results: &Results<'_>) -> Option<Ranges> {
    let ways = [
        ("client-to-peer", "client → peer"),
        ("peer-to-client", "peer → client"),
        ("client-to-client", "client ↔ client"),
    ];
    let mut panels = Vec::new();
    for (direction, name) in ways {
        let rows = results.rows().iter().filter_map(|(key, _)| {
            let percent = results.percent(key)?;
            let rest = key.strip_prefix("latency-")?.strip_prefix(direction)?;
            (rest == format!("-{percent}")).then(|| (*key, format!("{percent} %")))
        });
        panels.extend(panel(results, name, rows));
    }
    let subtitle = format!(
        "{}: medians. Load: percent of what saturates the newest coturn, the same packets per \
         second for all.",
        rounds(results)
    );
    ranges("Latency through the relay", subtitle, results, panels)
}

fn flood(results: &Results<'_>) -> Option<Ranges> {
    let names = [
        ("flood-none", "no flood"),
        ("flood-binding", "Binding"),
        ("flood-unauthenticated", "no credentials"),
        ("flood-failed-login", "failed logins"),
    ];
    let shown = |key: &str| names.iter().find(|(name, _)| *name == key).map(|(_, name)| *name);
    let rows = results.rows().iter();
    let rows = rows.filter_map(|(key, _)| Some((*key, shown(key)?.to_owned())));
    let panels = panel(results, "5,000 packets/s of media", rows).into_iter().collect();
    let rates = results.floods().map(|flood| flood.sent_per_second / 1000.0);
    let (least, most) =
        rates.fold((f64::INFINITY, 0.0), |(least, most), rate| (rate.min(least), rate.max(most)));
    let thousands = match most - least < 1.0 {
        true => format!("{most:.0}"),
        false => format!("{least:.0} to {most:.0}"),
    };
    let subtitle = format!(
        "{}: medians. {thousands} thousand requests per second from one address.",
        rounds(results)
    );
    let subtitle = if least.is_finite() { subtitle } else { rounds(results) };
    ranges("Latency of media beside a flood", subtitle, results, panels)
}

fn panel<'a>(
    results: &Results<'_>,
    name: &str,
    rows: impl Iterator<Item = (&'a str, String)>,
) -> Option<Panel> {
    let groups = rows.map(|(key, name)| {
        let shades = shades(results.columns());
        let ranges = results.columns().iter().zip(shades);
        let ranges = ranges.filter_map(|(column, color)| range(results, column, key, color));
        ranges::Group { name, ranges: ranges.collect() }
    });
    let groups: Vec<_> = groups.collect();
    Some(Panel { name: name.to_owned(), groups }).filter(|panel| !panel.groups.is_empty())
}

fn range(results: &Results<'_>, column: &Column, key: &str, color: RGBColor) -> Option<Range> {
    let of = |value: fn(&Report) -> Option<f64>| {
        results.median(column, key, |measured| match measured {
            Measured::Load(report) => value(report),
            _ => None,
        })
    };
    let micros = [
        of(|report| report.latency_p50_us)?,
        of(|report| report.latency_p99_us)?,
        of(|report| report.latency_p999_us)?,
    ];
    let loss = of(|report| Some(report.loss)).unwrap_or(0.0);
    let note = match loss {
        loss if loss >= LOSS_SHOWN => format!("{:.1} % lost", loss * 100.0),
        _ => String::new(),
    };
    Some(Range { color, micros, note })
}

fn ranges(
    title: &str,
    subtitle: String,
    results: &Results<'_>,
    panels: Vec<Panel>,
) -> Option<Ranges> {
    let used: Vec<RGBColor> = panels
        .iter()
        .flat_map(|panel| &panel.groups)
        .flat_map(|group| group.ranges.iter().map(|range| range.color))
        .collect();
    let names = results.columns().iter().map(|column| column.name.clone());
    let legend = names.zip(shades(results.columns()));
    let legend = legend.filter(|(_, color)| used.contains(color)).collect();
    Some(Ranges { title: title.to_owned(), subtitle, legend, panels })
        .filter(|ranges| !ranges.panels.is_empty())
}

/// A colour for each column: a family for each program, lighter where there are several of it.
fn shades(columns: &[Column]) -> Vec<RGBColor> {
    let shade = |(index, column): (usize, &Column)| {
        let earlier = columns.get(..index).unwrap_or_default();
        let same = earlier.iter().filter(|other| other.program == column.program).count();
        match column.program {
            Program::Floor => RGBColor(0xa8, 0xb0, 0xb8),
            Program::Coturn if column.reference => RGBColor(0xd9, 0x6b, 0x1f),
            Program::Coturn => RGBColor(0xf2, 0xb9, 0x80),
            Program::TurnServer => RGBColor(0x7b, 0x5f, 0xb0),
            Program::Sterna => match same {
                0 => RGBColor(0x0b, 0x5c, 0xad),
                1 => RGBColor(0x4f, 0xa3, 0xd9),
                2 => RGBColor(0x2a, 0x9d, 0x8f),
                _ => RGBColor(0x8f, 0xc9, 0xee),
            },
        }
    };
    columns.iter().enumerate().map(shade).collect()
}

/// A tenth of a percent.
const LOSS_SHOWN: f64 = 0.001;

#[cfg(test)]
mod tests;
