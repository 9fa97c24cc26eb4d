//! The tables of made-up results.

use super::*;
use crate::load::example;

fn line(contender: &str, program: Program, row: &str, report: Report) -> Line {
    Line {
        contender: contender.to_owned(),
        program,
        reference: program == Program::Coturn,
        round: 1,
        row: row.to_owned(),
        name: format!("the row {row}"),
        percent: None,
        report: Measured::Load(Box::new(report)),
    }
}

fn report(cpu: f64) -> Report {
    Report { server_cpu_ns_per_packet: Some(cpu), ..example() }
}

#[test]
fn the_median_is_in_the_middle() {
    assert_eq!(None, median([].into_iter()));
    assert_eq!(Some(2.0), median([9.0, 1.0, 2.0].into_iter()));
    assert_eq!(Some(3.0), median([9.0, 1.0, 2.0, 4.0].into_iter()));
}

#[test]
fn a_row_has_medians_and_ratios_and_what_was_not_measured_is_missing() {
    let text = markdown(&[
        line("sterna", Program::Sterna, "a", report(100.0)),
        line("sterna", Program::Sterna, "a", report(300.0)),
        line("sterna", Program::Sterna, "a", report(200.0)),
        line("coturn 4.17", Program::Coturn, "a", report(400.0)),
        line("sterna", Program::Sterna, "b", report(100.0)),
    ]);
    assert!(text.contains("| | sterna | coturn 4.17 | sterna / coturn 4.17 |"), "{text}");
    assert!(text.contains("| the row a | 200 | 400 | 0.50 |"), "{text}");
    assert!(text.contains("| the row b | 100 | – | – |"), "{text}");
}

#[test]
fn a_row_that_did_not_keep_the_server_busy_is_marked() {
    let idle = Report { saturated: Some(false), ..report(100.0) };
    let text = markdown(&[line("sterna", Program::Sterna, "a", idle)]);
    assert!(text.contains("| the row a | 100† |"), "{text}");
}

#[test]
fn latency_at_a_rate_has_three_figures_and_three_ratios() {
    let timed = |latency: f64| Report {
        kernel_time: true,
        latency_p50_us: Some(latency),
        latency_p99_us: Some(2.0 * latency),
        latency_p999_us: Some(4.0 * latency),
        ..report(1.0)
    };
    let text = markdown(&[
        line("sterna", Program::Sterna, "a", timed(10.0)),
        line("coturn", Program::Coturn, "a", timed(20.0)),
    ]);
    assert!(text.contains("| 10 / 20 / 40 | 20 / 40 / 80 | 0.50 / 0.50 / 0.50 |"), "{text}");
    assert!(!text.contains("### Server CPU per delivered packet (ns)"), "{text}");
}

#[test]
fn a_second_sterna_is_set_against_the_first_as_well() {
    let one = |name, program| line(name, program, "a", report(1.0));
    let lines = [
        one("floor", Program::Floor),
        one("sterna", Program::Sterna),
        one("before", Program::Sterna),
        one("coturn", Program::Coturn),
    ];
    let pairs = Results::of(&lines).pairs(true);
    assert_eq!(vec![(1, 0), (1, 3), (2, 3), (2, 1)], pairs);
}
