//! How often a busy arbiter wakes.
//!
//! A wake-up costs several times what a packet costs that is there already: the thread leaves its
//! core and comes back to cold caches. Under a load that leaves pauses between packets, an arbiter
//! would pay for one with each. So it looks at its sockets at most once in an interval, and finds
//! what has come in the meantime together. The interval ends when enough is likely to have come:
//! among fourteen datagrams a wake-up is cheap, and waiting for more would only make them late.
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
    if !pace.limit.is_zero() {
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
    /// The longest interval.
    limit: Duration,
    origin: Instant,
    /// Datagrams with data that have come since the last wait.
    found: AtomicU64,
    /// Nanoseconds from `origin` to when the last pause began, or the wait where there was none.
    turned: AtomicU64,
    /// Nanoseconds from `origin` to when the last wait began.
    waits_since: AtomicU64,
    /// The interval at present, in nanoseconds.
    interval: AtomicU64,
    /// Waits without pause that are left; `PAUSED` when the last wait had one.
    unpaused: AtomicU64,
}

impl Pace {
    /// The pace of an arbiter that wakes at most once in an interval of up to `limit` while it is
    /// busy. Zero leaves it all out.
    pub(crate) fn new(limit: Duration) -> Pace {
        Pace {
            limit,
            origin: clock::now(),
            found: AtomicU64::new(0),
            turned: AtomicU64::new(0),
            waits_since: AtomicU64::new(0),
            interval: AtomicU64::new(nanoseconds(limit)),
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
        let since = |mark: &AtomicU64| {
            now.saturating_sub(Duration::from_nanos(mark.load(Ordering::Relaxed)))
        };
        let found = self.found.swap(0, Ordering::Relaxed);
        let interval = Duration::from_nanos(self.interval.load(Ordering::Relaxed));
        let interval = adapted(interval, since(&self.turned), found, self.limit);
        let before = Waits::read(self.unpaused.load(Ordering::Relaxed));
        let (waits, pause) = before.next(since(&self.waits_since), found, interval);
        if !pause.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "to have the thread sleep is the aim")]
            thread::sleep(pause);
        }
        self.turned.store(nanoseconds(now), Ordering::Relaxed);
        self.waits_since.store(nanoseconds(now + pause), Ordering::Relaxed);
        self.interval.store(nanoseconds(interval), Ordering::Relaxed);
        self.unpaused.store(waits.write(), Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The interval after a turn of the arbiter in which so many datagrams with data have come: nearer
/// to the time that `ENOUGH` of them take, and never above the limit.
fn adapted(interval: Duration, turn: Duration, found: u64, limit: Duration) -> Duration {
    if found == 0 {
        return interval;
    }
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    let aim = limit.min(turn.saturating_mul(ENOUGH) / found);
    (interval * (SLOWNESS - 1) + aim) / SLOWNESS
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

/// Datagrams for which it is worth to wait. At half load twice as many would cost a tenth less CPU
/// and wait twice as long.
const ENOUGH: u32 = 14;

/// A turn moves the interval by a fourth of the way: one with a burst in it is no reason.
const SLOWNESS: u32 = 4;

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
    fn the_interval_is_what_fourteen_datagrams_take_up_to_the_limit() {
        for (between, expected) in [(1, 14), (8, 112), (20, 280), (50, 300), (5_000, 300)] {
            for found in [1, 3, 14, 200] {
                let turn = micros(between) * found;
                let settled = (0..40).fold(INTERVAL / 2, |interval, _| {
                    adapted(interval, turn, found.into(), INTERVAL)
                });
                let off = settled.abs_diff(micros(expected));
                assert!(off < micros(1), "{between} µs, {found} at a time: {settled:?}");
            }
        }
    }

    #[test]
    fn a_single_turn_moves_the_interval_by_a_fourth_of_the_way() {
        assert_eq!(micros(239), adapted(INTERVAL, micros(40), 10, INTERVAL));
        assert_eq!(micros(150), adapted(micros(100), micros(1_000), 1, INTERVAL));
    }

    #[test]
    fn a_turn_without_data_does_not_move_the_interval() {
        assert_eq!(micros(120), adapted(micros(120), micros(20_000), 0, INTERVAL));
    }

    #[test]
    fn nothing_is_too_much_to_compute_with() {
        for found in [1, u64::MAX] {
            assert!(adapted(INTERVAL, Duration::MAX, found, INTERVAL) <= INTERVAL);
        }
    }

    #[test]
    fn how_it_waits_is_read_as_it_was_written() {
        for waits in [Waits::Paused, Waits::Unpaused(0), Waits::Unpaused(WAITS_UNPAUSED)] {
            assert_eq!(waits, Waits::read(waits.write()));
        }
    }
}
