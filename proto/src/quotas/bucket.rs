//! A rate with a burst, counted in whole bytes and without drift.

use std::time::{Duration, Instant};

/// Bytes per second, with a second's worth as burst, but never less than the largest datagram,
/// which would not pass otherwise.
///
/// Bytes can be taken for good, or be lent: what is lent and neither spent nor returned counts
/// against the burst. So what is spent in any time is at most rate × time + burst, wherever it was
/// held in between.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    /// What can be taken, in billionths of a byte: a nanosecond adds `rate` of them, exactly.
    level: u128,
    lent: u64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: u64, now: Instant) -> TokenBucket {
        let level = scaled(burst_of(rate));
        TokenBucket { rate, level, lent: 0, at: now }
    }

    /// Bytes per second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// What may pass at once after a pause.
    pub fn burst(&self) -> u64 {
        burst_of(self.rate)
    }

    /// Changes the rate from `now` on.
    pub fn set_rate(&mut self, rate: u64, now: Instant) {
        self.fill(now);
        self.rate = rate;
        self.level = self.level.min(self.most());
    }

    /// Fills up for the time until `now`.
    pub fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        if elapsed.is_zero() {
            return;
        }
        self.at = now;
        let more = elapsed.as_nanos().saturating_mul(self.rate.into());
        self.level = self.level.saturating_add(more).min(self.most());
    }

    /// What could be taken when it was last filled.
    pub fn available(&self) -> u64 {
        u64::try_from(self.level / SCALE).unwrap_or(u64::MAX)
    }

    /// Takes so many bytes, or none.
    pub fn take(&mut self, bytes: u64) -> bool {
        let enough = self.level >= scaled(bytes);
        if enough {
            self.level -= scaled(bytes);
        }
        enough
    }

    /// How long it takes until so many bytes can be taken, if nothing else is. More than the burst
    /// never can: the answer is for the burst then.
    pub fn time_until(&self, bytes: u64) -> Duration {
        let missing = scaled(bytes.min(self.burst())).saturating_sub(self.level);
        if missing == 0 {
            return Duration::ZERO;
        }
        let Some(nanos) = missing.checked_div(self.rate.into()) else { return Duration::MAX };
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// Puts back what was taken and has not passed.
    pub fn put_back(&mut self, bytes: u64) {
        self.level = self.level.saturating_add(scaled(bytes)).min(self.most());
    }

    /// Takes so many bytes, or none, and remembers that they may come back.
    pub fn lend(&mut self, bytes: u64) -> bool {
        let enough = self.take(bytes);
        if enough {
            self.lent = self.lent.saturating_add(bytes);
        }
        enough
    }

    /// What was lent has passed, or will not come back.
    pub fn spend_lent(&mut self, bytes: u64) {
        self.lent = self.lent.saturating_sub(bytes);
    }

    /// What was lent comes back.
    pub fn return_lent(&mut self, bytes: u64) {
        let bytes = bytes.min(self.lent);
        self.lent -= bytes;
        self.put_back(bytes);
    }

    /// Sets what is lent, where that has been counted anew.
    pub fn set_lent(&mut self, bytes: u64) {
        self.lent = bytes;
        self.level = self.level.min(self.most());
    }

    /// Counts more as lent, without taking it.
    pub fn add_lent(&mut self, bytes: u64) {
        self.set_lent(self.lent.saturating_add(bytes));
    }

    fn most(&self) -> u128 {
        scaled(self.burst().saturating_sub(self.lent))
    }
}

/// A second's worth, and at least [`DATAGRAM_MAX`].
pub const fn burst_of(rate: u64) -> u64 {
    if rate > DATAGRAM_MAX { rate } else { DATAGRAM_MAX }
}

fn scaled(bytes: u64) -> u128 {
    u128::from(bytes) * SCALE
}

const SCALE: u128 = 1_000_000_000;

/// Bytes of the largest UDP datagram.
pub const DATAGRAM_MAX: u64 = 65_535;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let mut bucket = TokenBucket::new(100_000, epoch());

        assert!(bucket.take(100_000));
        assert!(!bucket.take(1));
        for (millis, bytes) in [(1, 100), (11, 1000), (1011, 100_000), (9_999, 100_000)] {
            bucket.fill(epoch() + Duration::from_millis(millis));
            assert_eq!(bytes, bucket.available(), "after {millis} ms");
            assert!(bucket.take(bytes) && !bucket.take(1));
        }
    }

    #[test]
    fn the_largest_datagram_passes_whatever_the_rate() {
        let mut bucket = TokenBucket::new(1, epoch());

        assert!(bucket.take(DATAGRAM_MAX));
        bucket.fill(epoch() + Duration::from_secs(65_534));
        assert!(!bucket.take(DATAGRAM_MAX));
        bucket.fill(epoch() + Duration::from_secs(65_535));
        assert!(bucket.take(DATAGRAM_MAX));
    }

    #[test]
    fn a_rate_that_no_nanosecond_divides_does_not_drift() {
        let mut bucket = TokenBucket::new(100_003, epoch());
        assert!(bucket.take(100_003));

        for step in 1..=1_000_000_u64 {
            bucket.fill(epoch() + Duration::from_nanos(999 * step));
        }
        assert_eq!(99_902, bucket.available());
        bucket.fill(epoch() + Duration::from_secs(1));
        assert_eq!(100_003, bucket.available());
    }

    #[test]
    fn the_ends_of_the_numbers_do_not_overflow() {
        let far = epoch() + Duration::from_secs(u32::MAX.into());
        for rate in [0, 1, u64::MAX - 1, u64::MAX] {
            let mut bucket = TokenBucket::new(rate, epoch());
            bucket.take(u64::MAX);
            bucket.fill(far);
            bucket.fill(epoch());
            bucket.put_back(u64::MAX);
            assert_eq!(burst_of(rate), bucket.available(), "{rate}");
            bucket.set_rate(0, far);
            assert_eq!(DATAGRAM_MAX, bucket.available(), "{rate}");
        }
        let mut empty = TokenBucket::new(0, epoch());
        assert!(empty.take(DATAGRAM_MAX));
        assert_eq!(Duration::MAX, empty.time_until(1));
    }

    #[test]
    fn time_until_is_when_it_can_be_taken() {
        for rate in [1, 7, 1000, 123_456_789] {
            let mut bucket = TokenBucket::new(rate, epoch());
            assert!(bucket.take(bucket.burst()));
            let bytes = 1500.min(rate);

            let wait = bucket.time_until(bytes);

            bucket.fill(epoch() + wait);
            assert!(bucket.take(bytes), "{rate}");
        }
    }

    proptest! {
        /// Whatever is taken, lent, spent and returned, and however the rate changes below its
        /// highest: what has passed is at most rate × time + burst.
        #[test]
        fn no_more_passes_than_rate_and_burst(
            rate in 1_u64..1_000_000,
            steps in prop::collection::vec((0_u8..5, 0_u64..200_000, 0_u64..300), 1..200),
        ) {
            let mut bucket = TokenBucket::new(rate, epoch());
            let (mut now, mut passed, mut held) = (epoch(), 0, 0);
            for (what, bytes, millis) in steps {
                now += Duration::from_millis(millis);
                bucket.fill(now);
                match what {
                    0 => passed += if bucket.take(bytes) { bytes } else { 0 },
                    1 => held += if bucket.lend(bytes) { bytes } else { 0 },
                    2 => {
                        let spent = bytes.min(held);
                        bucket.spend_lent(spent);
                        (held, passed) = (held - spent, passed + spent);
                    }
                    3 => {
                        let back = bytes.min(held);
                        bucket.return_lent(back);
                        held -= back;
                    }
                    _ => bucket.set_rate(bytes % rate + 1, now),
                }
                let time = now.duration_since(epoch());
                let most = time.as_nanos() * u128::from(rate) / SCALE
                    + u128::from(burst_of(rate));
                prop_assert!(u128::from(passed + held) <= most);
            }
        }
    }
}
