//! The plots of made-up results.

use super::*;
use crate::load::example;

fn line(contender: &str, program: Program, row: &str, report: Report) -> Line {
    Line {
        contender: contender.to_owned(),
        program,
        reference: program == Program::Coturn,
        round: 1,
        row: row.to_owned(),
        name: row.to_owned(),
        percent: row.starts_with("latency").then_some(10),
        report: Measured::Load(Box::new(report)),
    }
}

fn cpu_report(nanos: f64) -> Report {
    Report { server_cpu_ns_per_packet: Some(nanos), ..example() }
}

#[test]
fn a_bar_is_the_median_over_that_of_the_reference() {
    let lines = [
        line("sterna", Program::Sterna, "a", cpu_report(1000.0)),
        line("sterna", Program::Sterna, "a", cpu_report(2000.0)),
        line("sterna", Program::Sterna, "a", cpu_report(9000.0)),
        line("coturn", Program::Coturn, "a", cpu_report(4000.0)),
        line("sterna", Program::Sterna, "only sterna", cpu_report(1.0)),
    ];
    let plot = cpu(&Results::of(&lines)).unwrap();
    assert_eq!(1, plot.groups.len());
    let bars = &plot.groups[0].bars;
    assert_eq!((0.5, "2.00 µs"), (bars[0].ratio, bars[0].figure.as_str()));
    assert_eq!((1.0, "4.00 µs"), (bars[1].ratio, bars[1].figure.as_str()));
    assert!(bursts(&Results::of(&lines)).is_none());
}

#[test]
fn without_a_reference_there_are_no_bars() {
    let lines = [line("sterna", Program::Sterna, "a", cpu_report(1.0))];
    assert!(cpu(&Results::of(&lines)).is_none());
}

#[test]
fn latency_is_by_direction_and_says_what_was_lost() {
    let timed = Report {
        kernel_time: true,
        latency_p50_us: Some(1.0),
        latency_p99_us: Some(2.0),
        latency_p999_us: Some(3.0),
        loss: 0.25,
        ..example()
    };
    let lines = [
        line("sterna", Program::Sterna, "latency-client-to-client-10", timed.clone()),
        line("floor", Program::Floor, "latency-client-to-peer-10", timed),
    ];
    let plot = latency(&Results::of(&lines)).unwrap();
    let names: Vec<&str> = plot.panels.iter().map(|panel| panel.name.as_str()).collect();
    assert_eq!(["client → peer", "client ↔ client"], *names);
    let range = &plot.panels[1].groups[0].ranges[0];
    assert_eq!([1.0, 2.0, 3.0], range.micros);
    assert_eq!("25.0 % lost", range.note);
    assert_eq!(2, plot.legend.len());
    assert!(flood(&Results::of(&lines)).is_none());
}

#[test]
fn no_two_relays_have_one_colour() {
    let programs =
        [Program::Floor, Program::Sterna, Program::Sterna, Program::Sterna, Program::TurnServer];
    let column = |program| Column { name: String::new(), program, reference: false };
    let shades = shades(&programs.map(column));
    for (index, shade) in shades.iter().enumerate() {
        assert!(!shades[..index].contains(shade), "{index}");
    }
}
