//! The clock of the measuring programs.
//!
//! A benchmark is about time, so this module reads and spends it; everything else in the crate asks
//! here.

#![allow(
    clippy::disallowed_methods,
    reason = "a meter must read a clock, and a program without an arbiter may sleep"
)]

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that counts nanoseconds from its own start, small enough to travel in a
/// packet.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// What the time of day was at the start, in nanoseconds: the kernel stamps packets by it.
    start_of_day: u64,
}

impl Clock {
    /// A clock that reads zero at this moment.
    pub fn start() -> Clock {
        let start = Instant::now();
        let of_day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start, start_of_day: u64::try_from(of_day.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// Nanoseconds since the start; saturates after five centuries.
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A time of day on this clock. Both are slewed alike; only a step of the time of day while
    /// something is measured would show.
    pub fn at_time_of_day(&self, nanos: u64) -> u64 {
        nanos.saturating_sub(self.start_of_day)
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Blocks this thread.
pub fn sleep(duration: Duration) {
    thread::sleep(duration);
}
