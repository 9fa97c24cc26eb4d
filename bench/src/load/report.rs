//! What a measurement found, as one line of JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine::Counts;
use super::{Direction, LoadPlan};
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
    /// CPU time of the server, all threads, per delivered packet, in nanoseconds.
    pub server_cpu_ns_per_packet: Option<f64>,
    /// Bytes of payload delivered for each second of the server's CPU time.
    pub bytes_per_server_cpu_second: Option<f64>,
    /// CPU time of the server over elapsed time: 1 is one core kept busy.
    pub server_cpu_share: Option<f64>,
    /// Whether the server was the bottleneck: its share of a core was 95 % or more.
    pub saturated: Option<bool>,
    /// Resident memory of the server before the allocations, in bytes.
    pub server_resident_bytes: Option<u64>,
    /// What an allocation with one channel added to it, in bytes.
    pub resident_bytes_per_allocation: Option<f64>,
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
        Report {
            kind: kind.to_owned(),
            transport: plan.target.transport.name().to_owned(),
            direction: Direction::name(plan.direction).to_owned(),
            allocations: plan.allocations,
            payload: plan.payload,
            burst: plan.burst,
            rate: plan.rate,
            seconds: elapsed.as_secs_f64(),
            sent: counts.sent,
            delivered: counts.delivered,
            delivered_per_second: counts.delivered as f64 / elapsed.as_secs_f64(),
            loss: counts.lost as f64 / counts.sent.max(1) as f64,
            late: counts.late,
            unexpected: counts.unexpected,
            latency_p50_us: micros(500),
            latency_p99_us: micros(990),
            latency_p999_us: micros(999),
            server_cpu_ns_per_packet: None,
            bytes_per_server_cpu_second: None,
            server_cpu_share: None,
            saturated: None,
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

/// Below this the generator, and not the server, may have been the bottleneck.
const SATURATED_SHARE: f64 = 0.95;
