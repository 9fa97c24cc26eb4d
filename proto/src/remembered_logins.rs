//! Which users have proved themselves from which source, in memory that does not grow with them.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use crate::failed_logins::Source;

/// Pairs of a source and a user that has proved itself from there. Where a set of the table is
/// full, the pair that was heard of least recently is forgotten.
#[derive(Debug)]
pub struct RememberedLogins {
    /// Sets of [`WAYS`] fingerprints each, the latest first. None until somebody proves itself.
    slots: Vec<u64>,
    hasher: ahash::RandomState,
}

impl RememberedLogins {
    /// Knows nobody. `seeds` key the hash and have to be random: whoever could find two pairs of
    /// one fingerprint would be taken for somebody else.
    pub fn new(seeds: [u64; 4]) -> RememberedLogins {
        let hasher = ahash::RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
        RememberedLogins { slots: Vec::new(), hasher }
    }

    /// `user` has proved itself from `source`.
    pub fn remember(&mut self, source: IpAddr, user: &[u8]) {
        if self.slots.is_empty() {
            self.slots = vec![NOBODY; SETS * WAYS];
        }
        let pair = self.fingerprint(source, user);
        let Some(set) = self.slots.get_mut(set_of(pair)) else { return };
        let place = set.iter().position(|slot| *slot == pair).unwrap_or(WAYS - 1);
        if let Some(known) = set.get_mut(..=place) {
            known.rotate_right(1);
        }
        if let Some(latest) = set.first_mut() {
            *latest = pair;
        }
    }

    /// `user` has not proved itself from `source` this time.
    pub fn forget(&mut self, source: IpAddr, user: &[u8]) {
        let pair = self.fingerprint(source, user);
        let Some(set) = self.slots.get_mut(set_of(pair)) else { return };
        if let Some(slot) = set.iter_mut().find(|slot| **slot == pair) {
            *slot = NOBODY;
        }
    }

    /// Whether `user` is remembered to have proved itself from `source`.
    pub fn knows(&self, source: IpAddr, user: &[u8]) -> bool {
        let pair = self.fingerprint(source, user);
        self.slots.get(set_of(pair)).is_some_and(|set| set.contains(&pair))
    }

    fn fingerprint(&self, source: IpAddr, user: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        Source::of(source).hash_into(&mut hasher);
        hasher.write(user);
        // One pair shares its fingerprint with another, and none has that of an empty slot.
        hasher.finish().max(NOBODY + 1)
    }
}

fn set_of(pair: u64) -> std::ops::Range<usize> {
    let start = (pair as usize) % SETS * WAYS;
    start..start + WAYS
}

const NOBODY: u64 = 0;

/// Together 8,192 pairs and 64 KiB for each listener, once somebody has proved itself.
const SETS: usize = 2048;
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + last))
    }

    #[test]
    fn a_pair_is_a_user_at_a_source() {
        let mut logins = RememberedLogins::new([1, 2, 3, 4]);
        assert!(!logins.knows(ip(1), b"ann"));
        logins.forget(ip(1), b"ann");
        logins.remember(ip(1), b"ann");
        logins.remember(ip(1), b"bob");

        assert!(logins.knows(ip(1), b"ann") && logins.knows(ip(1), b"bob"));
        assert!(!logins.knows(ip(1), b"Ann") && !logins.knows(ip(2), b"ann"));
        logins.forget(ip(1), b"ann");
        assert!(!logins.knows(ip(1), b"ann") && logins.knows(ip(1), b"bob"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let mut logins = RememberedLogins::new([1, 2, 3, 4]);
        let v6 = |text: &str| IpAddr::V6(text.parse().expect("an address"));
        logins.remember(v6("2001:db8:1:2::1"), b"ann");

        assert!(logins.knows(v6("2001:db8:1:2:ffff::9"), b"ann"));
        assert!(!logins.knows(v6("2001:db8:1:3::1"), b"ann"));
    }

    #[test]
    fn many_pairs_cost_no_more_memory_and_push_out_whom_nobody_hears_of() {
        let mut logins = RememberedLogins::new([1, 2, 3, 4]);
        logins.remember(ip(0), b"silent");
        for source in 1..100_000 {
            logins.remember(ip(source), b"ann");
            logins.remember(ip(0), b"ann");
        }

        assert_eq!(SETS * WAYS, logins.slots.len());
        assert!(logins.knows(ip(0), b"ann") && !logins.knows(ip(0), b"silent"));
        assert!(logins.knows(ip(99_999), b"ann"));
    }
}
