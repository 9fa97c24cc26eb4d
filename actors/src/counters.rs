//! Dropped packets, counted by reason.

use std::fmt;

use slog::{KV, Record, Serializer};
use sterna_proto::drops::DropReason;

/// How many packets went no further, by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::COUNT]);

impl DropCounters {
    /// Counters that stand at zero.
    pub fn new() -> DropCounters {
        DropCounters([0; DropReason::COUNT])
    }

    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts several packets of one reason.
    pub fn count_many(&mut self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.0.get_mut(reason.index()) {
            *counter += packets;
        }
    }

    /// How many packets were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason.index()).copied().unwrap_or(0)
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &DropCounters) {
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            *own += more;
        }
    }

    /// The reasons that were met, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0).filter(|&(_, count)| count > 0)
    }

    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }
}

impl Default for DropCounters {
    fn default() -> DropCounters {
        DropCounters::new()
    }
}

/// A field for each reason that was met.
impl KV for DropCounters {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        for (reason, count) in self.iter() {
            serializer.emit_u64(reason.name(), count)?;
        }
        Ok(())
    }
}

impl fmt::Display for DropCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (reason, count)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{reason}={count}")?;
        }
        Ok(())
    }
}
