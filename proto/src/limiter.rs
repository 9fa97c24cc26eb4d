//! A limit on answers to sources that have proved nothing, in memory that does not grow with them.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// At most so many answers per second to one source address, with a second's worth as burst.
///
/// Addresses share a fixed table of buckets by a keyed hash: a flood from forged sources costs no
/// memory, and an attacker cannot choose whom to share a bucket with. IPv6 sources count by their
/// /64, since a host has all of one to itself.
#[derive(Debug)]
pub struct SourceLimiter {
    /// Per bucket: the moment, in microseconds since `epoch`, up to which answers are paid for.
    paid_until: Box<[u64]>,
    hasher: ahash::RandomState,
    epoch: Instant,
    cost: Duration,
}

impl SourceLimiter {
    /// A limiter of `per_second` answers; 0 lets everything pass. `seeds` key the hash and have to
    /// be random.
    pub fn new(per_second: u32, seeds: [u64; 4], epoch: Instant) -> SourceLimiter {
        let cost = match per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) / rate,
        };
        let buckets = if cost.is_zero() { 0 } else { BUCKETS };
        SourceLimiter {
            paid_until: vec![0; buckets].into_boxed_slice(),
            hasher: ahash::RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]),
            epoch,
            cost,
        }
    }

    /// Whether `source` may be answered once more at `now`; counts the answer if so.
    pub fn allow(&mut self, source: IpAddr, now: Instant) -> bool {
        let index = self.bucket_of(source);
        let Some(paid_until) = self.paid_until.get_mut(index) else {
            return true;
        };
        let now = micros(now.saturating_duration_since(self.epoch));
        let due = (*paid_until).max(now) + micros(self.cost);
        let allowed = due - now <= BURST_MICROS;
        if allowed {
            *paid_until = due;
        }
        allowed
    }

    fn bucket_of(&self, source: IpAddr) -> usize {
        let mut hasher = self.hasher.build_hasher();
        match source {
            IpAddr::V4(ip) => hasher.write_u32(ip.to_bits()),
            IpAddr::V6(ip) => hasher.write_u64((ip.to_bits() >> 64) as u64),
        }
        (hasher.finish() as usize) % BUCKETS
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// 512 KiB per listener; two of a thousand sources share one with a chance of one in a hundred.
const BUCKETS: usize = 65_536;

/// A second's worth of answers may come at once.
const BURST_MICROS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::testing::epoch;

    const SEEDS: [u64; 4] = [1, 2, 3, 4];

    fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    #[test]
    fn a_second_of_answers_at_once_and_then_one_by_one() {
        let start = epoch();
        let mut limiter = SourceLimiter::new(10, SEEDS, start);

        let allowed = (0..100).filter(|_| limiter.allow(ip(1), start)).count();

        assert_eq!(10, allowed);
        assert!(!limiter.allow(ip(1), start + Duration::from_millis(99)));
        assert!(limiter.allow(ip(1), start + Duration::from_millis(100)));
        assert!(!limiter.allow(ip(1), start + Duration::from_millis(100)));
    }

    #[test]
    fn one_source_does_not_use_up_anothers_answers() {
        let start = epoch();
        let mut limiter = SourceLimiter::new(1, SEEDS, start);

        assert!(limiter.allow(ip(1), start));
        assert!(!limiter.allow(ip(1), start));
        assert!(limiter.allow(ip(2), start));
    }

    #[test]
    fn hosts_of_one_ipv6_network_count_as_one() {
        let start = epoch();
        let mut limiter = SourceLimiter::new(1, SEEDS, start);

        assert!(limiter.allow("2001:db8:1:2::1".parse().expect("an address"), start));
        assert!(!limiter.allow("2001:db8:1:2::2".parse().expect("an address"), start));
        assert!(limiter.allow("2001:db8:1:3::1".parse().expect("an address"), start));
    }

    #[test]
    fn zero_is_no_limit_and_no_memory() {
        let start = epoch();
        let mut limiter = SourceLimiter::new(0, SEEDS, start);

        assert!((0..10_000).all(|_| limiter.allow(ip(1), start)));
        assert!(limiter.paid_until.is_empty());
    }
}
