//! The one place where time is read.
//!
//! Everything else takes `now` as an argument. The monotonic clock is tokio's, so that a paused
//! runtime gives scripts virtual time.

#![allow(clippy::disallowed_methods, reason = "this module is the clock that the ban points to")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The present moment of the monotonic clock, virtual under a paused runtime.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds and fractions since 1970, for credentials that name a date. Zero on a machine whose
/// clock stands before it. Under a paused runtime it goes as [`now`] does.
pub fn unix_now() -> Duration {
    let real = Instant::now();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Virtual time is ahead of the real one, or behind it; otherwise there is no difference.
    match now().checked_duration_since(real) {
        Some(ahead) => unix + ahead,
        None => unix.saturating_sub(real.duration_since(now())),
    }
}
