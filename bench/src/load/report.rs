//! What a measurement found, as one line of JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine::Counts;
use super::{Direction, LoadPlan};
use crate::flood::FloodKind;
use crate::process::Thread;
use crate::target::Kind;

/// One measurement's result. Figures of the server are missing when its process was not named.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// `turn` or `floor`.
    pub kind: String,
    /// What clients spoke to the relay.
    pub transport: String,
    /// Which way packets went.
    pub direction: String,
    /// Allocations that shared the load.
    pub allocations: usize,
    /// Bytes of a packet without headers.
    pub payload: usize,
    /// Packets a flow sent in a row.
    pub burst: usize,
    /// Whether a burst was one piece for the kernel to cut up.
    #[serde(default)]
    pub gso: bool,
    /// Whether latency ended when the kernel had a packet.
    #[serde(default)]
    pub kernel_time: bool,
    /// Packets per second wanted; none is saturation.
    pub rate: Option<u32>,
    /// How long was measured.
    pub seconds: f64,
    /// Packets handed to the kernel.
    pub sent: u64,
    /// Packets that arrived in that time.
    pub delivered: u64,
    /// The same per second.
    pub delivered_per_second: f64,
    /// The part of the packets that did not arrive.
    pub loss: f64,
    /// Packets that came after a later one of their flow.
    pub late: u64,
    /// Datagrams that were not what was expected.
    pub unexpected: u64,
    /// Latency that half of the packets did not exceed, in microseconds.
    pub latency_p50_us: Option<f64>,
    /// Latency that 99 % did not exceed.
    pub latency_p99_us: Option<f64>,
    /// Latency that 99.9 % did not exceed.
    pub latency_p999_us: Option<f64>,
    /// With a rate: how much later than planned 99 % of the packets were sent at most, in
    /// microseconds. It is not part of the latency.
    #[serde(default)]
    pub behind_p99_us: Option<f64>,
    /// What came at the server besides.
    #[serde(default)]
    pub flood: Option<Flooded>,
    /// CPU time of the server, all threads, per delivered packet, in nanoseconds.
    pub server_cpu_ns_per_packet: Option<f64>,
    /// Bytes of payload delivered for each second of the server's CPU time.
    pub bytes_per_server_cpu_second: Option<f64>,
    /// CPU time of the server over elapsed time: 1 is one core kept busy.
    pub server_cpu_share: Option<f64>,
    /// Whether the server was the bottleneck: its share of a core was 95 % or more.
    pub saturated: Option<bool>,
    /// The server's threads that did anything, the busiest first, with their share of a core.
    #[serde(default)]
    pub threads: Vec<ThreadShare>,
    /// Resident memory of the server before the allocations, in bytes.
    pub server_resident_bytes: Option<u64>,
    /// What an allocation with one channel added to it, in bytes.
    pub resident_bytes_per_allocation: Option<f64>,
}

/// A flood beside the packets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Flooded {
    /// Of what.
    pub kind: FloodKind,
    /// Requests per second wanted.
    pub rate: u64,
    /// Requests per second sent.
    pub sent_per_second: f64,
    /// Answers per second that came back.
    pub answers_per_second: f64,
}

/// What one thread of the server did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ThreadShare {
    /// Its name.
    pub name: String,
    /// Its CPU time over elapsed time.
    pub share: f64,
}

impl Report {
    pub(super) fn new(plan: &LoadPlan, counts: &Counts, elapsed: Duration) -> Report {
        let kind = match plan.target.kind {
            Kind::Turn => "turn",
            Kind::Floor => "floor",
        };
        let micros = |per_mille| {
            let nanos = counts.latency.quantile(per_mille)?;
            Some(nanos as f64 / 1e3)
        };
        let seconds = elapsed.as_secs_f64();
        let flood = plan.flood.as_ref().map(|flood| Flooded {
            kind: flood.kind,
            rate: flood.rate,
            sent_per_second: counts.flood_sent as f64 / seconds,
            answers_per_second: counts.flood_answers as f64 / seconds,
        });
        Report {
            kind: kind.to_owned(),
            transport: plan.target.transport.name().to_owned(),
            direction: Direction::name(plan.direction).to_owned(),
            allocations: plan.allocations,
            payload: plan.payload,
            burst: plan.burst,
            gso: plan.gso,
            kernel_time: plan.kernel_time,
            rate: plan.rate,
            seconds,
            sent: counts.sent,
            delivered: counts.delivered,
            delivered_per_second: counts.delivered as f64 / seconds,
            // Packets of the warm-up may be among those lost.
            loss: (counts.lost as f64 / counts.sent.max(1) as f64).min(1.0),
            late: counts.late,
            unexpected: counts.unexpected,
            latency_p50_us: micros(500),
            latency_p99_us: micros(990),
            latency_p999_us: micros(999),
            behind_p99_us: counts.behind.quantile(990).map(|nanos| nanos as f64 / 1e3),
            flood,
            server_cpu_ns_per_packet: None,
            bytes_per_server_cpu_second: None,
            server_cpu_share: None,
            saturated: None,
            threads: Vec::new(),
            server_resident_bytes: None,
            resident_bytes_per_allocation: None,
        }
    }

    pub(super) fn with_cpu(mut self, before_and_after: Option<(u64, u64)>) -> Report {
        if let Some((before, after)) = before_and_after {
            let spent = after.saturating_sub(before) as f64;
            let share = spent / (self.seconds * 1e9);
            self.server_cpu_ns_per_packet = Some(spent / self.delivered.max(1) as f64);
            let bytes = (self.delivered * self.payload as u64) as f64;
            self.bytes_per_server_cpu_second = Some(bytes * 1e9 / spent.max(1.0));
            self.server_cpu_share = Some(share);
            self.saturated = Some(share >= SATURATED_SHARE);
        }
        self
    }

    /// Threads that began in between count from zero.
    pub(super) fn with_threads(
        mut self,
        before_and_after: Option<(Vec<Thread>, Vec<Thread>)>,
    ) -> Report {
        let Some((before, after)) = before_and_after else { return self };
        let share = |thread: Thread| {
            let earlier = before.iter().find(|earlier| earlier.id == thread.id);
            let spent =
                thread.cpu_nanos.saturating_sub(earlier.map_or(0, |earlier| earlier.cpu_nanos));
            ThreadShare { name: thread.name, share: spent as f64 / (self.seconds * 1e9) }
        };
        let mut threads: Vec<_> = after.into_iter().map(share).collect();
        threads.retain(|thread| thread.share > 0.0);
        threads.sort_by(|one, other| other.share.total_cmp(&one.share));
        threads.truncate(THREADS_MAX);
        self.threads = threads;
        self
    }

    pub(super) fn with_memory(
        mut self,
        before_and_after: Option<(u64, u64)>,
        allocations: usize,
    ) -> Report {
        if let Some((before, after)) = before_and_after {
            let added = after.saturating_sub(before) as f64;
            self.server_resident_bytes = Some(before);
            self.resident_bytes_per_allocation = Some(added / allocations as f64);
        }
        self
    }
}

/// More are of no interest, and a line stays readable.
const THREADS_MAX: usize = 8;

/// Below this the generator, and not the server, may have been the bottleneck.
const SATURATED_SHARE: f64 = 0.95;

/// A report to make tables of.
#[cfg(test)]
pub(crate) fn example() -> Report {
    let text = r#"{"kind":"turn","transport":"udp","direction":"client-to-peer","allocations":1,
        "payload":160,"burst":1,"seconds":1.0,"sent":1,"delivered":1,"delivered_per_second":1.0,
        "loss":0.0,"late":0,"unexpected":0}"#;
    serde_json::from_str(text).expect("as a report is written")
}
