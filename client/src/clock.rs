//! How long to wait.
//!
//! The client has no arbiter and no timer: it blocks in `recv` until a deadline, and a deadline
//! needs a clock.

#![allow(
    clippy::disallowed_methods,
    reason = "a blocking client measures its own time-outs; nothing here runs on an arbiter"
)]

use std::time::{Duration, Instant};

/// A moment after which nothing more is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start: Instant,
    length: Duration,
}

impl Deadline {
    pub(crate) fn after(length: Duration) -> Deadline {
        Deadline { start: Instant::now(), length }
    }

    /// What is left; `None` when the moment has passed.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let remaining = self.length.checked_sub(self.start.elapsed())?;
        // A zero time-out means "for ever" to a socket.
        (!remaining.is_zero()).then_some(remaining)
    }
}
