//! How a service that fails is spared: a circuit breaker, and a budget of retries.
//!
//! Questions are asked from several tasks at once, so that both count with atomics. They decide
//! how often somebody is asked and nothing else: a count that is one off harms nobody.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets everybody ask until so many have failed in a row, then nobody for a while, then one.
pub(super) struct Breaker {
    limit: u32,
    pause: Duration,
    since: Instant,
    failures: AtomicU32,
    /// When somebody may try again, in milliseconds after `since`.
    again: AtomicU64,
    trying: AtomicBool,
}

impl Breaker {
    pub(super) fn new(limit: u32, pause: Duration, now: Instant) -> Breaker {
        Breaker {
            limit: limit.max(1),
            pause,
            since: now,
            failures: AtomicU32::new(0),
            again: AtomicU64::new(0),
            trying: AtomicBool::new(false),
        }
    }

    /// Ask for leave; `None` is a refusal.
    pub(super) fn admit(&self, now: Instant) -> Option<Trial<'_>> {
        if self.failures.load(Ordering::Relaxed) < self.limit {
            return Some(Trial { breaker: self, probe: false });
        }
        let again = self.since + Duration::from_millis(self.again.load(Ordering::Relaxed));
        let probe = now >= again && !self.trying.swap(true, Ordering::Relaxed);
        probe.then_some(Trial { breaker: self, probe: true })
    }
}

/// Leave to ask once. The one that tries whether the service is back gives its place up when it is
/// dropped, however it ended.
pub(super) struct Trial<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Trial<'_> {
    pub(super) fn succeeded(self) {
        self.breaker.failures.store(0, Ordering::Relaxed);
    }

    pub(super) fn failed(self, now: Instant) {
        let Breaker { pause, since, failures, again, .. } = self.breaker;
        let until = now.saturating_duration_since(*since) + *pause;
        again.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        // It stays at its highest: a count that wraps would close the circuit.
        let raised = failures.load(Ordering::Relaxed).saturating_add(1);
        failures.store(raised, Ordering::Relaxed);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.trying.store(false, Ordering::Relaxed);
        }
    }
}

/// One retry for each ten questions, and no more than ten in a row.
pub(super) struct RetryBudget {
    /// Tenths of a retry.
    saved: AtomicU32,
}

impl RetryBudget {
    pub(super) fn new() -> RetryBudget {
        RetryBudget { saved: AtomicU32::new(0) }
    }

    pub(super) fn count_question(&self) {
        let add = |saved: u32| (saved < SAVED_MAX).then(|| saved + 1);
        // A full budget stays as it is.
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub(super) fn take_retry(&self) -> bool {
        let take = |saved: u32| saved.checked_sub(RETRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What a retry costs, where a question brings one.
const RETRY: u32 = 10;
const SAVED_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use sterna_actors::clock;

    use super::*;

    fn fail(breaker: &Breaker, now: Instant) {
        breaker.admit(now).expect("leave").failed(now);
    }

    #[test]
    fn after_failures_in_a_row_nobody_asks_until_one_tries() {
        let start = clock::now();
        let breaker = Breaker::new(3, Duration::from_secs(10), start);
        fail(&breaker, start);
        fail(&breaker, start);
        breaker.admit(start).expect("leave").succeeded();
        for _ in 0..3 {
            fail(&breaker, start);
        }
        assert!(breaker.admit(start + Duration::from_millis(9_999)).is_none());

        let later = start + Duration::from_secs(10);
        let trial = breaker.admit(later).expect("one tries");
        assert!(breaker.admit(later).is_none(), "one, and no other");
        trial.failed(later);
        assert!(breaker.admit(later + Duration::from_secs(9)).is_none());

        let later = later + Duration::from_secs(10);
        drop(breaker.admit(later).expect("one tries"));
        breaker.admit(later).expect("it gave its place up").succeeded();
        assert!(breaker.admit(later).is_some() && breaker.admit(later).is_some());
    }

    #[test]
    fn one_question_in_ten_may_be_asked_again() {
        let budget = RetryBudget::new();
        assert!(!budget.take_retry());
        let mut retries = 0;
        for _ in 0..100 {
            budget.count_question();
            retries += u32::from(budget.take_retry());
        }
        assert_eq!(10, retries);
        (0..1_000).for_each(|_| budget.count_question());
        assert_eq!(10, (0..100).filter(|_| budget.take_retry()).count());
    }
}
