//! Dropped packets, counted by reason, and batches, counted by length.

use std::fmt;

use slog::{KV, Record, Serializer};
use sterna_proto::drops::DropReason;

/// How many packets went no further, by reason.
///
/// Most sessions and allocations never drop a packet, and hold no array of zeros for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropCounters(Option<Box<[u64; DropReason::COUNT]>>);

impl DropCounters {
    /// Counters that stand at zero.
    pub fn new() -> DropCounters {
        DropCounters(None)
    }

    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts several packets of one reason.
    pub fn count_many(&mut self, reason: DropReason, packets: u64) {
        if packets > 0 {
            self.counters()[reason.index()] += packets;
        }
    }

    /// How many packets were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.as_ref().map_or(0, |counters| counters[reason.index()])
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &DropCounters) {
        let Some(other) = &other.0 else { return };
        for (own, more) in self.counters().iter_mut().zip(other.iter()) {
            *own += more;
        }
    }

    /// The reasons that were met, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counters = self.0.iter().flat_map(|counters| counters.iter().copied());
        DropReason::ALL.into_iter().zip(counters).filter(|&(_, count)| count > 0)
    }

    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The counters, made where nothing has been counted so far.
    fn counters(&mut self) -> &mut [u64; DropReason::COUNT] {
        self.0.get_or_insert_with(|| Box::new([0; DropReason::COUNT]))
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

/// How many datagrams the reads of a socket have found, as a histogram: a batch is worth its while
/// when it is long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLengths([u64; BatchLengths::NAMES.len()]);

impl BatchLengths {
    /// The buckets; each ends at a power of two.
    pub const NAMES: [&'static str; 8] = [
        "batches_of_1",
        "batches_of_2",
        "batches_to_4",
        "batches_to_8",
        "batches_to_16",
        "batches_to_32",
        "batches_to_64",
        "longer_batches",
    ];

    /// Counts a batch of so many datagrams; an empty one is none.
    pub fn count(&mut self, datagrams: usize) {
        let Some(below) = datagrams.checked_sub(1) else { return };
        let bucket = (usize::BITS - below.leading_zeros()) as usize;
        let last = self.0.len() - 1;
        self.0[bucket.min(last)] += 1;
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &BatchLengths) {
        for (own, more) in self.0.iter_mut().zip(other.0) {
            *own += more;
        }
    }

    /// Each bucket's name and count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        BatchLengths::NAMES.into_iter().zip(self.0)
    }
}

/// A field for each length that was met.
impl KV for BatchLengths {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        for (name, count) in self.iter().filter(|&(_, count)| count > 0) {
            serializer.emit_u64(name, count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_by_the_power_of_two_that_holds_them() {
        let mut lengths = BatchLengths::default();
        for datagrams in [0, 1, 2, 2, 3, 4, 5, 8, 9, 64, 65, 4096] {
            lengths.count(datagrams);
        }
        let counts: Vec<u64> = lengths.iter().map(|(_, count)| count).collect();
        assert_eq!(vec![1, 2, 2, 2, 1, 0, 1, 2], counts);

        let mut twice = lengths;
        twice.add(&lengths);
        assert_eq!(Some(("batches_of_2", 4)), twice.iter().nth(1));
    }

    #[test]
    fn who_has_dropped_nothing_holds_no_counters() {
        let mut drops = DropCounters::new();
        drops.count_many(DropReason::SendFailed, 0);
        drops.add(&DropCounters::new());
        assert_eq!(DropCounters::new(), drops);
        assert!(drops.is_empty());
        assert!(size_of::<DropCounters>() <= 8);
    }

    #[test]
    fn what_is_counted_adds_up_by_reason() {
        let (mut all, mut one) = (DropCounters::new(), DropCounters::new());
        one.count(DropReason::NotStun);
        one.count_many(DropReason::SendFailed, 2);
        all.add(&one);
        all.add(&one);
        let counted: Vec<(DropReason, u64)> = all.iter().collect();
        assert_eq!(vec![(DropReason::NotStun, 2), (DropReason::SendFailed, 4)], counted);
        assert_eq!(4, all.get(DropReason::SendFailed));
        assert_eq!(0, all.get(DropReason::NoSession));
    }
}
