//! A bounded table of answers that are good for a while, from which the one that was asked for
//! least recently goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the head of this file.
pub(super) struct Cache<K, V> {
    entries: HashMap<Rc<K>, Entry<V>, ahash::RandomState>,
    /// The keys by the moment of their last use.
    order: BTreeMap<u64, Rc<K>>,
    uses: u64,
    max: usize,
    outage: Duration,
}

struct Entry<V> {
    value: V,
    good_until: Instant,
    /// When it was confirmed last, if it may stand in for an answer when its time is over.
    confirmed: Option<Instant>,
    used: u64,
}

/// What a cache has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cached<V> {
    /// An answer that is good.
    Good(V),
    /// An answer whose time is over: for a while better than none.
    Stale(V),
    /// Nothing.
    Nothing,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// A cache of at most `max` entries.
    pub(super) fn new(max: usize) -> Cache<K, V> {
        let (entries, order) = (HashMap::default(), BTreeMap::new());
        Cache { entries, order, uses: 0, max, outage: Duration::ZERO }
    }

    /// The same, in which what was confirmed is stale for so long, and then nothing.
    pub(super) fn bridging(outage: Duration, max: usize) -> Cache<K, V> {
        Cache { outage, ..Cache::new(max) }
    }

    /// Changes how long that is.
    pub(super) fn set_outage(&mut self, outage: Duration) {
        self.outage = outage;
    }

    /// Changes the bound, and forgets what is beyond it.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.shrink();
    }

    /// What there is for `key`, which counts as a use of it.
    pub(super) fn get(&mut self, key: &K, now: Instant) -> Cached<V> {
        self.uses += 1;
        let uses = self.uses;
        let Some(entry) = self.entries.get_mut(key) else { return Cached::Nothing };
        let used = std::mem::replace(&mut entry.used, uses);
        if let Some(key) = self.order.remove(&used) {
            self.order.insert(uses, key);
        }
        if now < entry.good_until {
            return Cached::Good(entry.value.clone());
        }
        if entry.confirmed.is_some_and(|confirmed| now < confirmed + self.outage) {
            return Cached::Stale(entry.value.clone());
        }
        self.remove(key);
        Cached::Nothing
    }

    /// Keeps `value` until `good_until`.
    pub(super) fn put(&mut self, key: K, value: V, good_until: Instant) {
        self.insert(key, value, good_until, None);
    }

    /// Keeps what was confirmed at `now` until `good_until`, and then as stale.
    pub(super) fn confirm(&mut self, key: K, value: V, now: Instant, good_until: Instant) {
        self.insert(key, value, good_until, Some(now));
    }

    fn insert(&mut self, key: K, value: V, good_until: Instant, confirmed: Option<Instant>) {
        self.remove(&key);
        self.uses += 1;
        let (key, used) = (Rc::new(key), self.uses);
        self.order.insert(used, key.clone());
        self.entries.insert(key, Entry { value, good_until, confirmed, used });
        self.shrink();
    }

    /// Lets a stale value be good until `good_until`, and no longer than it is stale.
    pub(super) fn prolong(&mut self, key: &K, good_until: Instant) {
        if let Some(entry) = self.entries.get_mut(key)
            && let Some(confirmed) = entry.confirmed
        {
            let good_until = good_until.min(confirmed + self.outage);
            entry.good_until = entry.good_until.max(good_until);
        }
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
        }
    }

    /// Forgets those of which `keep` says false.
    pub(super) fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        let order = &mut self.order;
        self.entries.retain(|key, entry| {
            let kept = keep(key, &entry.value);
            if !kept {
                order.remove(&entry.used);
            }
            kept
        });
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    /// Makes all of them stale.
    pub(super) fn age(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.good_until = entry.good_until.min(now);
        }
    }

    fn shrink(&mut self) {
        while self.entries.len() > self.max {
            let Some((_, key)) = self.order.pop_first() else { break };
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MINUTE: Duration = Duration::from_secs(60);
    const MOMENT: Duration = Duration::from_nanos(1);

    #[test]
    fn the_least_recently_used_goes_first() {
        let now = clock::now();
        let mut cache = Cache::new(2);
        cache.put("a", 1, now + MINUTE);
        cache.put("b", 2, now + MINUTE);
        assert_eq!(Cached::Good(1), cache.get(&"a", now));
        cache.put("c", 3, now + MINUTE);

        assert_eq!(Cached::Nothing, cache.get(&"b", now));
        assert_eq!(Cached::Good(1), cache.get(&"a", now));
        assert_eq!(Cached::Good(3), cache.get(&"c", now));
        cache.set_max(1);
        assert_eq!(Cached::Nothing, cache.get(&"a", now));
        assert_eq!((1, 1), (cache.entries.len(), cache.order.len()));
    }

    #[test]
    fn a_value_is_good_for_its_time_and_stale_after_it() {
        let now = clock::now();
        let mut cache = Cache::bridging(MINUTE * 3, 2);
        cache.confirm("a", 1, now, now + MINUTE);
        assert_eq!(Cached::Good(1), cache.get(&"a", now + MINUTE - MOMENT));
        assert_eq!(Cached::Stale(1), cache.get(&"a", now + MINUTE));
        cache.prolong(&"a", now + MINUTE * 2);
        assert_eq!(Cached::Good(1), cache.get(&"a", now + MINUTE));
        cache.age(now);
        assert_eq!(Cached::Stale(1), cache.get(&"a", now));
        cache.confirm("a", 2, now, now + MINUTE);
        assert_eq!(Cached::Good(2), cache.get(&"a", now));
        assert_eq!((1, 1), (cache.entries.len(), cache.order.len()));
    }

    #[test]
    fn a_stale_value_has_an_end_that_nobody_puts_off() {
        let now = clock::now();
        let mut cache = Cache::bridging(MINUTE * 3, 2);
        cache.confirm("a", 1, now, now + MINUTE);
        cache.prolong(&"a", now + MINUTE * 9);
        let end = now + MINUTE * 3;
        assert_eq!(Cached::Good(1), cache.get(&"a", end - MOMENT));
        assert_eq!(Cached::Nothing, cache.get(&"a", end));
        assert_eq!((0, 0), (cache.entries.len(), cache.order.len()));

        // A shorter one holds for what is there; what is good still is not asked for.
        cache.confirm("a", 1, now, now + MINUTE);
        cache.set_outage(Duration::ZERO);
        cache.prolong(&"a", now + MINUTE * 9);
        assert_eq!(Cached::Good(1), cache.get(&"a", now + MINUTE - MOMENT));
        assert_eq!(Cached::Nothing, cache.get(&"a", now + MINUTE));

        // What nobody has confirmed is never stale.
        cache.set_outage(MINUTE * 3);
        cache.put("b", 2, now + MINUTE);
        cache.prolong(&"b", now + MINUTE * 2);
        assert_eq!(Cached::Nothing, cache.get(&"b", now + MINUTE));
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_behind() {
        let now = clock::now();
        let mut cache = Cache::new(10);
        for number in 0..10 {
            cache.put(number, number, now + MINUTE);
        }
        cache.retain(|key, _| key % 2 == 0);
        cache.remove(&0);
        assert_eq!((4, 4), (cache.entries.len(), cache.order.len()));
        cache.clear();
        assert_eq!((0, 0), (cache.entries.len(), cache.order.len()));
    }

    #[test]
    fn a_cache_without_room_keeps_nothing() {
        let now = clock::now();
        let mut cache = Cache::new(0);
        cache.put("a", 1, now + MINUTE);
        assert_eq!(Cached::Nothing, cache.get(&"a", now));
    }
}
