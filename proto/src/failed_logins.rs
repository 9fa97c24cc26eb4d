//! How often each source has failed to log in, in memory that does not grow with the sources.
//!
//! Who fails has proved its address, so that sources are known by name here and nobody pays for a
//! neighbour in the table. Where a set of the table is full, who has failed least is forgotten.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// At most so many failures of one source in a minute. IPv6 sources count by their /64, since a
/// host has all of one to itself.
#[derive(Debug)]
pub struct FailedLogins {
    /// Whether who fails too often is shut out.
    limits: bool,
    /// What a failure costs of the minute that a source has.
    cost: Duration,
    /// Sets of [`WAYS`] slots each. None until somebody may fail.
    slots: Vec<Slot>,
    hasher: ahash::RandomState,
    epoch: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    source: Source,
    /// The moment, in microseconds since the epoch, at which all failures are forgiven.
    forgiven: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    #[default]
    Nobody,
    V4(u32),
    V6(u64),
}

impl FailedLogins {
    /// `per_minute` failures of one source, of which 0 shuts nobody out. `seeds` key the hash and
    /// have to be random.
    pub fn new(per_minute: u32, seeds: [u64; 4], epoch: Instant) -> FailedLogins {
        let counted = if per_minute == 0 { LOGGED_PER_MINUTE } else { per_minute };
        FailedLogins {
            limits: per_minute > 0,
            cost: MINUTE / counted,
            slots: Vec::new(),
            hasher: ahash::RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]),
            epoch,
        }
    }

    /// Counts a failure. True if it is within the limit, or where there is none, within
    /// [`LOGGED_PER_MINUTE`]: what is beyond that is not worth a line in the log.
    pub fn note(&mut self, source: IpAddr, now: Instant) -> bool {
        let (source, now) = (Source::of(source), self.micros(now));
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SETS * WAYS];
        }
        let (minute, cost) = (as_micros(MINUTE), as_micros(self.cost));
        let Some(set) = self.set_of(source).and_then(|set| self.slots.get_mut(set)) else {
            return true;
        };
        let place = set.iter().position(|slot| slot.source == source);
        let least = || set.iter().enumerate().min_by_key(|(_, slot)| slot.forgiven);
        let place = place.or_else(|| least().map(|(place, _)| place));
        let Some(slot) = place.and_then(|place| set.get_mut(place)) else { return true };
        if slot.source != source {
            *slot = Slot { source, forgiven: now };
        }
        let due = slot.forgiven.max(now) + cost;
        // Who goes on failing does not shut itself out for longer than a minute.
        let within = due - now <= minute;
        slot.forgiven = due.min(now + minute);
        within
    }

    /// Counts a failure ahead, of who has been let try and may fail. False, and nothing counts,
    /// where nobody is shut out.
    pub fn reserve(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.limits {
            self.note(source, now);
        }
        self.limits
    }

    /// Whether anything was ever counted.
    pub fn has_counted(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Takes back so many failures that were counted ahead and have not come.
    pub fn give_back(&mut self, source: IpAddr, failures: u32, now: Instant) {
        let (source, now) = (Source::of(source), self.micros(now));
        let Some(set) = self.set_of(source).and_then(|set| self.slots.get_mut(set)) else { return };
        if let Some(slot) = set.iter_mut().find(|slot| slot.source == source) {
            let less = as_micros(self.cost).saturating_mul(failures.into());
            slot.forgiven = slot.forgiven.saturating_sub(less).max(now);
        }
    }

    /// Whether `source` has failed so often that it is not listened to.
    pub fn is_shut_out(&self, source: IpAddr, now: Instant) -> bool {
        if !self.limits || self.slots.is_empty() {
            return false;
        }
        let (source, now) = (Source::of(source), self.micros(now));
        let set = self.set_of(source).and_then(|set| self.slots.get(set));
        let slot = set.and_then(|set| set.iter().find(|slot| slot.source == source));
        let spent = slot.map_or(0, |slot| slot.forgiven.saturating_sub(now));
        spent + as_micros(self.cost) > as_micros(MINUTE)
    }

    fn set_of(&self, source: Source) -> Option<std::ops::Range<usize>> {
        if source == Source::Nobody {
            return None;
        }
        let mut hasher = self.hasher.build_hasher();
        source.hash_into(&mut hasher);
        let start = (hasher.finish() as usize) % SETS * WAYS;
        Some(start..start + WAYS)
    }

    fn micros(&self, now: Instant) -> u64 {
        as_micros(now.saturating_duration_since(self.epoch))
    }
}

impl Source {
    pub(crate) fn of(ip: IpAddr) -> Source {
        match ip {
            IpAddr::V4(ip) => Source::V4(ip.to_bits()),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => Source::V4(ip.to_bits()),
                None => Source::V6((ip.to_bits() >> 64) as u64),
            },
        }
    }

    pub(crate) fn hash_into(self, hasher: &mut impl Hasher) {
        match self {
            Source::Nobody => {}
            Source::V4(ip) => hasher.write_u32(ip),
            Source::V6(network) => hasher.write_u64(network),
        }
    }
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Failures of one source that are logged in a minute where there is no limit on them.
pub const LOGGED_PER_MINUTE: u32 = 60;

/// Together 16,384 sources and 384 KiB for each listener, once somebody may fail.
const SETS: usize = 4096;
const WAYS: usize = 4;

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::testing::epoch;

    fn logins(per_minute: u32) -> FailedLogins {
        FailedLogins::new(per_minute, [1, 2, 3, 4], epoch())
    }

    fn ip(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + last))
    }

    fn at(seconds: u64) -> Instant {
        epoch() + Duration::from_secs(seconds)
    }

    #[test]
    fn who_fails_too_often_is_shut_out_and_comes_in_again_one_by_one() {
        let mut logins = logins(20);

        let logged = (0..1000).filter(|_| logins.note(ip(1), at(0))).count();

        assert_eq!(20, logged);
        assert!(logins.is_shut_out(ip(1), at(2)));
        assert!(!logins.is_shut_out(ip(1), at(3)));
        assert!(logins.note(ip(1), at(3)));
        assert!(logins.is_shut_out(ip(1), at(5)));
        assert!(!logins.is_shut_out(ip(2), at(0)));
        assert!(!logins.is_shut_out(ip(1), at(63)));
    }

    #[test]
    fn who_may_fail_counts_until_it_is_known() {
        let mut logins = logins(3);

        assert!((0..3).all(|_| logins.reserve(ip(1), at(0))));
        assert!(logins.is_shut_out(ip(1), at(0)));
        logins.give_back(ip(1), 2, at(0));
        assert!(logins.note(ip(1), at(0)) && !logins.is_shut_out(ip(1), at(0)));
        logins.give_back(ip(1), u32::MAX, at(0));
        logins.give_back(ip(2), 1, at(0));
        let left = (0..9).filter(|_| logins.note(ip(1), at(0))).count();
        assert_eq!(3, left, "no more than was counted comes back");

        let mut unlimited = FailedLogins::new(0, [1, 2, 3, 4], epoch());
        assert!(!unlimited.reserve(ip(1), at(0)));
    }

    #[test]
    fn without_a_limit_nobody_is_shut_out_and_the_log_is_spared() {
        let mut logins = logins(0);

        let logged = (0..1000).filter(|_| logins.note(ip(1), at(0))).count();

        assert_eq!(60, logged);
        assert!(!logins.is_shut_out(ip(1), at(0)));
    }

    #[test]
    fn a_source_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        let mut logins = logins(1);
        let v6 = |text: &str| IpAddr::V6(text.parse::<Ipv6Addr>().expect("an address"));
        logins.note(v6("2001:db8:1:2::1"), at(0));
        logins.note(v6("::ffff:192.0.2.1"), at(0));

        assert!(logins.is_shut_out(v6("2001:db8:1:2:ffff::9"), at(0)));
        assert!(!logins.is_shut_out(v6("2001:db8:1:3::1"), at(0)));
        assert!(logins.is_shut_out(ip(1), at(0)));
        assert!(!logins.is_shut_out(v6("::c000:201"), at(0)));
    }

    #[test]
    fn a_flood_of_sources_costs_no_more_memory_and_nobody_innocent() {
        let mut logins = logins(2);
        for source in 0..100_000 {
            logins.note(ip(source), at(0));
        }

        assert_eq!(SETS * WAYS, logins.slots.len());
        assert!((200_000..300_000).all(|innocent| !logins.is_shut_out(ip(innocent), at(0))));
        // Who fails more than others is not forgotten for them.
        for _ in 0..2 {
            logins.note(ip(400_000), at(1));
        }
        for source in 500_000..600_000 {
            logins.note(ip(source), at(1));
        }
        assert!(logins.is_shut_out(ip(400_000), at(2)));
    }
}
