//! Medians and ratios in Markdown.

use std::fmt::Write;

use super::Results;
use super::row::Row;
use crate::handshakes::HandshakesReport;
use crate::idle::Round;
use crate::load::Report;

/// The tables of all that was measured.
pub(super) fn markdown(rows: &[Row], results: &[Results]) -> String {
    let mut text = String::new();
    text.push_str("### Server CPU per delivered packet (ns)\n\n");
    let cpu = |report: &Report| report.server_cpu_ns_per_packet;
    table(&mut text, rows, results, &|results, row| {
        let reports = &results.rows[row];
        let value = median(reports.iter().filter_map(cpu))?;
        let unsaturated =
            reports.iter().any(|report| report.rate.is_none() && report.saturated == Some(false));
        Some((value, if unsaturated { "†" } else { "" }))
    });
    text.push_str("\n† The server was below 95 % of its core in at least one round.\n");

    text.push_str("\n### Payload relayed per second of server CPU (MB)\n\n");
    table(&mut text, rows, results, &|results, row| {
        let bytes = |report: &Report| Some(report.bytes_per_server_cpu_second? / 1e6);
        Some((median(results.rows[row].iter().filter_map(bytes))?, ""))
    });
    text.push_str("\n### Delivered packets per second\n\n");
    table(&mut text, rows, results, &|results, row| {
        let rates = results.rows[row].iter().map(|report| report.delivered_per_second);
        Some((median(rates)?, ""))
    });
    text.push_str("\n### Latency, 99 % at most (µs)\n\n");
    table(&mut text, rows, results, &|results, row| {
        let latencies = results.rows[row].iter().filter_map(|report| report.latency_p99_us);
        Some((median(latencies)?, ""))
    });
    text.push_str("\n### Packets lost (per million)\n\n");
    plain_table(&mut text, rows, results, &|results, row| {
        median(results.rows[row].iter().map(|report| report.loss * 1e6))
    });
    handshakes(&mut text, results);
    idle(&mut text, results);
    text
}

/// What a contender has in a row, and a mark behind it.
type Cell<'a> = &'a dyn Fn(&Results, usize) -> Option<(f64, &'static str)>;

/// A table with a column for each contender, and ratios to the first and to the last.
fn table(text: &mut String, rows: &[Row], results: &[Results], value: Cell<'_>) {
    let pairs = pairs(results.len());
    let names = results.iter().map(|results| results.name.to_owned());
    let ratios = pairs
        .iter()
        .map(|(over, under)| format!("{} / {}", results[*over].name, results[*under].name));
    head(text, names.chain(ratios));
    for (index, row) in rows.iter().enumerate() {
        let values: Vec<_> = results.iter().map(|results| value(results, index)).collect();
        let figures = values.iter().map(|value| match value {
            Some((figure, mark)) => format!("{figure:.0}{mark}"),
            None => MISSING.to_owned(),
        });
        let ratios = pairs.iter().map(|(over, under)| match (values[*over], values[*under]) {
            (Some((over, _)), Some((under, _))) if under > 0.0 => format!("{:.2}", over / under),
            _ => MISSING.to_owned(),
        });
        line(text, &row.name, figures.chain(ratios));
    }
}

fn plain_table(
    text: &mut String,
    rows: &[Row],
    results: &[Results],
    value: &dyn Fn(&Results, usize) -> Option<f64>,
) {
    head(text, results.iter().map(|results| results.name.to_owned()));
    for (index, row) in rows.iter().enumerate() {
        let figures = results.iter().map(|results| match value(results, index) {
            Some(figure) => format!("{figure:.0}"),
            None => MISSING.to_owned(),
        });
        line(text, &row.name, figures);
    }
}

/// Each but the first over the first; and, of three or more, the second over the later ones.
fn pairs(contenders: usize) -> Vec<(usize, usize)> {
    let to_first = (1..contenders).map(|over| (over, 0));
    let to_later = (2..contenders).map(|under| (1, under));
    to_first.chain(to_later).collect()
}

fn handshakes(text: &mut String, results: &[Results]) {
    if results.iter().all(|results| results.handshakes.is_empty()) {
        return;
    }
    text.push_str("\n### TLS handshakes\n\n");
    head(text, results.iter().map(|results| results.name.to_owned()));
    let figures = |value: fn(&HandshakesReport) -> f64| -> Vec<String> {
        let figure = |results: &Results| median(results.handshakes.iter().map(value));
        results.iter().map(|results| shown(figure(results))).collect()
    };
    let per_cpu = figures(|report| report.per_server_cpu_second);
    line(text, "per second of server CPU", per_cpu.into_iter());
    let cpu = figures(|report| report.server_cpu_us_per_handshake);
    line(text, "server CPU for each, with its connection (µs)", cpu.into_iter());
}

/// One table for each transport; each is of one number of allocations.
fn idle(text: &mut String, results: &[Results]) {
    let mut transports: Vec<_> =
        results.iter().flat_map(|results| &results.idle).map(|(transport, _)| *transport).collect();
    transports.sort_by_key(|transport| transport.name());
    transports.dedup();
    for transport in transports {
        let round = |results: &Results| {
            let (_, report) = results.idle.iter().find(|(over, _)| *over == transport)?;
            report.rounds.first().cloned()
        };
        let Some(first) = results.iter().find_map(round) else { continue };
        let over = transport.name().to_uppercase();
        let _ = writeln!(text, "\n### {} idle allocations over {over}\n", first.allocations);
        head(text, results.iter().map(|results| results.name.to_owned()));
        let figures = |value: fn(Round) -> f64| -> Vec<String> {
            results.iter().map(|results| shown(round(results).map(value))).collect()
        };
        let memory = figures(|round| round.resident_bytes_per_allocation);
        line(text, "resident bytes per allocation", memory.into_iter());
        let cpu = figures(|round| round.cpu_us_per_allocation);
        line(text, "CPU per allocate, bind, release (µs)", cpu.into_iter());
        let made = figures(|round| round.made_per_second);
        line(text, "made per second by one client", made.into_iter());
    }
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or_else(|| MISSING.to_owned(), |figure| format!("{figure:.0}"))
}

fn head(text: &mut String, columns: impl Iterator<Item = String>) {
    let mut rule = String::from("|---|");
    text.push_str("| |");
    for column in columns {
        let _ = write!(text, " {column} |");
        rule.push_str("---:|");
    }
    let _ = writeln!(text, "\n{rule}");
}

fn line(text: &mut String, name: &str, figures: impl Iterator<Item = String>) {
    let _ = write!(text, "| {name} |");
    for figure in figures {
        let _ = write!(text, " {figure} |");
    }
    text.push('\n');
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Direction;
    use crate::target::Transport;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(None, median([].into_iter()));
        assert_eq!(Some(2.0), median([9.0, 1.0, 2.0].into_iter()));
        assert_eq!(Some(3.0), median([9.0, 1.0, 2.0, 4.0].into_iter()));
    }

    #[test]
    fn every_contender_is_set_against_the_first_and_the_second_against_the_rest() {
        assert_eq!(vec![(1, 0), (2, 0), (1, 2)], pairs(3));
        assert!(pairs(1).is_empty());
    }

    #[test]
    fn what_was_not_measured_is_shown_as_missing() {
        let row = Row {
            name: "client → peer".to_owned(),
            transport: Transport::Udp,
            direction: Direction::ClientToPeer,
            payload: 160,
            burst: 1,
            rate: 0,
        };
        let nothing = |name| Results {
            name,
            rows: vec![Vec::new()],
            idle: Vec::new(),
            handshakes: Vec::new(),
        };
        let text = markdown(&[row], &[nothing("floor"), nothing("sterna")]);
        assert!(text.contains("| | floor | sterna | sterna / floor |"), "{text}");
        assert!(text.contains("| client → peer | – | – | – |"), "{text}");
    }
}
