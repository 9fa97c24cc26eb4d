//! What a probe found out.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use sterna_proto::address::RelayedAddr;

/// The packets that were sent and how long those that arrived took.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) sent: u32,
    pub(super) round_trips: Vec<Duration>,
}

#[derive(Debug)]
pub(super) struct Report {
    pub(super) server: SocketAddr,
    /// From the first packet to the first allocation, challenge included.
    pub(super) allocate: Duration,
    pub(super) relayed: [RelayedAddr; 2],
    pub(super) measured: Measured,
}

/// The figures, in the units they are shown in.
#[derive(Serialize)]
struct Figures {
    server: String,
    relayed: [String; 2],
    allocate_ms: f64,
    sent: u32,
    received: usize,
    loss_percent: f64,
    round_trip_min_ms: Option<f64>,
    round_trip_median_ms: Option<f64>,
    round_trip_p99_ms: Option<f64>,
}

impl Report {
    pub(super) fn loss_percent(&self) -> f64 {
        let Measured { sent, round_trips } = &self.measured;
        if *sent == 0 {
            return 100.0;
        }
        100.0 * (1.0 - round_trips.len() as f64 / f64::from(*sent))
    }

    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string(&self.figures()).expect("texts and numbers are JSON");
        format!("{json}\n")
    }

    fn figures(&self) -> Figures {
        let mut sorted = self.measured.round_trips.clone();
        sorted.sort_unstable();
        let at = |part| quantile(&sorted, part).map(milliseconds);
        Figures {
            server: self.server.to_string(),
            relayed: self.relayed.map(|relayed| relayed.0.to_string()),
            allocate_ms: milliseconds(self.allocate),
            sent: self.measured.sent,
            received: sorted.len(),
            loss_percent: (self.loss_percent() * 100.0).round() / 100.0,
            round_trip_min_ms: at(0.0),
            round_trip_median_ms: at(0.5),
            round_trip_p99_ms: at(0.99),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures();
        let [from, to] = &figures.relayed;
        let ms = |figure: Option<f64>| figure.map_or("-".to_owned(), |ms| format!("{ms:.3} ms"));
        writeln!(f, "server      {}", figures.server)?;
        writeln!(f, "relayed     {from} and {to}")?;
        writeln!(f, "allocate    {}", ms(Some(figures.allocate_ms)))?;
        writeln!(
            f,
            "packets     {} sent, {} received, {:.2} % lost",
            figures.sent, figures.received, figures.loss_percent
        )?;
        writeln!(
            f,
            "round trip  min {}, median {}, p99 {}",
            ms(figures.round_trip_min_ms),
            ms(figures.round_trip_median_ms),
            ms(figures.round_trip_p99_ms)
        )
    }
}

/// The smallest value that `part` of all values do not exceed.
fn quantile(sorted: &[Duration], part: f64) -> Option<Duration> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sent: u32, milliseconds: impl IntoIterator<Item = u64>) -> Report {
        let relayed = |port| RelayedAddr(SocketAddr::from(([192, 0, 2, 1], port)));
        Report {
            server: SocketAddr::from(([192, 0, 2, 1], 3478)),
            allocate: Duration::from_micros(1500),
            relayed: [relayed(50_000), relayed(50_001)],
            measured: Measured {
                sent,
                round_trips: milliseconds.into_iter().map(Duration::from_millis).collect(),
            },
        }
    }

    #[test]
    fn quantiles_are_of_the_sorted_round_trips() {
        let text = report(200, (1..=100).rev()).to_string();

        assert!(text.contains("min 1.000 ms, median 50.000 ms, p99 99.000 ms"), "{text}");
        assert!(text.contains("200 sent, 100 received, 50.00 % lost"), "{text}");
    }

    #[test]
    fn without_an_arrival_there_is_no_round_trip() {
        let report = report(10, []);

        assert_eq!(100.0, report.loss_percent());
        assert!(report.to_string().contains("min -, median -, p99 -"));
        assert!(report.to_json().contains(r#""round_trip_min_ms":null"#));
    }

    #[test]
    fn one_arrival_is_every_quantile() {
        let json = report(1, [7]).to_json();

        assert!(json.contains(r#""round_trip_median_ms":7.0"#), "{json}");
        assert!(json.contains(r#""round_trip_p99_ms":7.0"#), "{json}");
    }
}
