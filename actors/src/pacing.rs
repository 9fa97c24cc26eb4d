//! How often a busy arbiter wakes.
//!
//! A wake-up costs several times what a packet costs that is there already: the thread leaves its
//! core and comes back to cold caches. Under a load that leaves pauses between packets, an arbiter
//! would pay for one with each. So it looks at its sockets at most once in an interval, and finds
//! what has come in the meantime together.
//!
//! It pauses only where that is of use. Who is woken less often than once in the interval answers
//! at once; and where a pause has found less than two datagrams with data, as with clients that
//! ask, wait for the answer and ask again, the next pauses are left out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use tokio::runtime::{Builder, Runtime};

use crate::clock;

/// The runtime of an arbiter that keeps this pace. To be called on the arbiter's thread.
///
/// # Errors
/// What the system says of the runtime's own descriptors.
pub(crate) fn runtime(pace: Arc<Pace>) -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if !pace.interval.is_zero() {
        // The kernel may else add 50 µs to each pause, and where this is forbidden it does.
        let _ = prctl::set_timerslack(TIMER_SLACK);
        builder.on_thread_park(move || pace.keep());
    }
    builder.build()
}

/// The pace of one arbiter.
///
/// The numbers are those of a single thread; they are atomic because tokio's hook has to be one
/// that any thread could call.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    origin: Instant,
    /// Datagrams with data that have come since the last wait.
    found: AtomicU64,
    /// Nanoseconds from `origin` to when the last wait began.
    waits_since: AtomicU64,
    /// Waits without pause that are left; `PAUSED` when the last wait had one.
    unpaused: AtomicU64,
}

impl Pace {
    /// The pace of an arbiter that wakes at most once in `interval` while it is busy. Zero leaves
    /// it all out.
    pub(crate) fn new(interval: Duration) -> Pace {
        Pace {
            interval,
            origin: clock::now(),
            found: AtomicU64::new(0),
            waits_since: AtomicU64::new(0),
            unpaused: AtomicU64::new(0),
        }
    }

    /// Notes datagrams with data.
    pub(crate) fn note_found(&self, datagrams: usize) {
        // Only this thread writes it.
        let found = self.found.load(Ordering::Relaxed) + datagrams as u64;
        self.found.store(found, Ordering::Relaxed);
    }

    /// Called when there is nothing left to do.
    fn keep(&self) {
        let now = clock::now().saturating_duration_since(self.origin);
        let since = Duration::from_nanos(self.waits_since.load(Ordering::Relaxed));
        let found = self.found.swap(0, Ordering::Relaxed);
        let before = Waits::read(self.unpaused.load(Ordering::Relaxed));
        let busy_for = now.saturating_sub(since);
        let (waits, pause) = before.next(busy_for, found, self.interval);
        if !pause.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "to have the thread sleep is the aim")]
            thread::sleep(pause);
        }
        let begins = u64::try_from((now + pause).as_nanos()).unwrap_or(u64::MAX);
        self.waits_since.store(begins, Ordering::Relaxed);
        self.unpaused.store(waits.write(), Ordering::Relaxed);
    }
}

/// How an arbiter waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// It has paused before its last wait.
    Paused,
    /// It has not, and will not for so many waits.
    Unpaused(u64),
}

impl Waits {
    /// How it waits next, and how long it pauses before that: its last wait began `busy_for` ago,
    /// and since then so many datagrams with data have come.
    fn next(self, busy_for: Duration, found: u64, interval: Duration) -> (Waits, Duration) {
        let rest = interval.saturating_sub(busy_for);
        match self {
            _ if rest.is_zero() => (Waits::Unpaused(0), Duration::ZERO),
            Waits::Paused if found < WORTH_A_PAUSE => {
                (Waits::Unpaused(WAITS_UNPAUSED), Duration::ZERO)
            }
            Waits::Unpaused(left @ 1..) => (Waits::Unpaused(left - 1), Duration::ZERO),
            Waits::Paused | Waits::Unpaused(0) => (Waits::Paused, rest),
        }
    }

    fn read(number: u64) -> Waits {
        if number == PAUSED { Waits::Paused } else { Waits::Unpaused(number) }
    }

    fn write(self) -> u64 {
        match self {
            Waits::Paused => PAUSED,
            Waits::Unpaused(left) => left,
        }
    }
}

const PAUSED: u64 = u64::MAX;

/// Datagrams that a pause has to find: two of them would have been two wake-ups.
const WORTH_A_PAUSE: u64 = 2;

/// Waits until a pause is tried again after one that was of no use: one in a hundred wake-ups of an
/// arbiter that is kept busy by a single client comes late.
const WAITS_UNPAUSED: u64 = 100;

/// Nanoseconds.
const TIMER_SLACK: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = micros(300);

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn who_waits_again_within_the_interval_pauses_for_the_rest_of_it() {
        for (busy_for, expected) in [(0, 300), (60, 240), (299, 1)] {
            let next = Waits::Unpaused(0).next(micros(busy_for), 1, INTERVAL);
            assert_eq!((Waits::Paused, micros(expected)), next);
            let next = Waits::Paused.next(micros(busy_for), 2, INTERVAL);
            assert_eq!((Waits::Paused, micros(expected)), next);
        }
    }

    #[test]
    fn who_is_woken_less_often_or_is_busy_for_longer_does_not_pause() {
        for waits in [Waits::Paused, Waits::Unpaused(0), Waits::Unpaused(7)] {
            for busy_for in [300, 301, 20_000] {
                let next = waits.next(micros(busy_for), 9, INTERVAL);
                assert_eq!((Waits::Unpaused(0), Duration::ZERO), next);
            }
        }
    }

    #[test]
    fn after_a_pause_of_no_use_the_next_hundred_are_left_out() {
        let mut waits = Waits::Paused;
        let mut unpaused = 0;
        loop {
            let (next, pause) = waits.next(micros(90), 1, INTERVAL);
            waits = next;
            if !pause.is_zero() {
                break;
            }
            unpaused += 1;
        }
        assert_eq!((Waits::Paused, WAITS_UNPAUSED + 1), (waits, unpaused));
    }

    #[test]
    fn how_it_waits_is_read_as_it_was_written() {
        for waits in [Waits::Paused, Waits::Unpaused(0), Waits::Unpaused(WAITS_UNPAUSED)] {
            assert_eq!(waits, Waits::read(waits.write()));
        }
    }
}
