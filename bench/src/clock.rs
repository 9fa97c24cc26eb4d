//! The clock of the measuring programs.
//!
//! A benchmark is about time, so this module reads and spends it; everything else in the crate asks
//! here.

#![allow(
    clippy::disallowed_methods,
    reason = "a meter must read a clock, and a program without an arbiter may sleep"
)]

use std::thread;
use std::time::{Duration, Instant};

/// A monotonic clock that counts nanoseconds from its own start, small enough to travel in a
/// packet.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads zero at this moment.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Nanoseconds since the start; saturates after five centuries.
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
