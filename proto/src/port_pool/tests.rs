//! The pool against a model that keeps its ports in plain sets, and its edges by name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Parity, PortPool};
use crate::testing::epoch;

fn at(seconds: u64) -> Instant {
    epoch() + Duration::from_secs(seconds)
}

#[test]
fn every_port_is_given_once() {
    let mut pool = PortPool::new(50_000..=50_099);

    let taken: BTreeSet<u16> = (0..100).filter_map(|_| pool.take(Parity::Any, 7)).collect();

    assert_eq!((50_000..=50_099).collect::<BTreeSet<u16>>(), taken);
    assert_eq!(None, pool.take(Parity::Any, 7));
    assert_eq!(0, pool.free());
    assert_eq!(100, pool.size());
}

#[test]
fn the_random_number_alone_decides_which_port() {
    let ports = 50_000..=50_099;
    let step = u64::MAX / 100 + 1;

    let picked: BTreeSet<u16> =
        (0..100).filter_map(|n| PortPool::new(ports.clone()).take(Parity::Any, n * step)).collect();

    assert_eq!(100, picked.len());
}

#[test]
fn an_even_port_is_even_while_there_is_one() {
    let mut pool = PortPool::new(50_001..=50_004);

    let taken = [(); 3].map(|()| pool.take(Parity::Even, u64::MAX));

    assert_eq!([Some(50_004), Some(50_002), None], taken);
    assert_eq!(2, pool.free());
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
//= type=test
//# If the request contains an EVEN-PORT attribute with the R bit set
//# to 1, then the server looks for a pair of port numbers N and N+1
//# on the same IP address, where N is even.
#[test]
fn a_pair_starts_at_an_even_port_and_takes_both() {
    let mut pool = PortPool::new(50_001..=50_005);
    assert!(pool.take_exact(50_003));

    assert_eq!(Some(50_004), pool.take(Parity::EvenWithNext, 0));
    assert_eq!(None, pool.take(Parity::EvenWithNext, 0));
    assert!(!pool.take_exact(50_005));

    pool.release(50_003);
    assert_eq!(Some(50_002), pool.take(Parity::EvenWithNext, 0));
    assert_eq!(1, pool.free());
}

#[test]
fn the_members_of_a_pair_go_back_one_by_one() {
    let mut pool = PortPool::new(50_000..=50_001);
    pool.take(Parity::EvenWithNext, 0);

    pool.release(50_001);
    assert_eq!(None, pool.take(Parity::EvenWithNext, 0));
    assert_eq!(1, pool.free());

    pool.release(50_000);
    assert_eq!(Some(50_000), pool.take(Parity::EvenWithNext, 0));
}

#[test]
fn the_ends_of_the_port_space_are_ordinary_ports() {
    let mut pool = PortPool::new(0..=u16::MAX);
    assert_eq!(65_535, pool.free());
    assert!(!pool.take_exact(0));

    assert!(pool.take_exact(1));
    assert!(pool.take_exact(65_535));
    let mut pairs = 0;
    while pool.take(Parity::EvenWithNext, u64::MAX).is_some() {
        pairs += 1;
    }

    assert_eq!(32_766, pairs);
    assert_eq!(Some(65_534), pool.take(Parity::Any, 0));
    assert_eq!(0, pool.free());
}

#[test]
fn a_range_that_ends_before_it_starts_is_empty() {
    #[expect(clippy::reversed_empty_ranges, reason = "this is what is tested")]
    let mut pool = PortPool::new(50_001..=50_000);

    assert_eq!(0, pool.size());
    assert_eq!(None, pool.take(Parity::Any, 0));
    assert!(!pool.take_exact(50_000));
}

#[test]
fn giving_back_what_is_not_taken_changes_nothing() {
    let mut pool = PortPool::new(50_000..=50_001);
    let taken = pool.take(Parity::Even, 0);
    assert_eq!(Some(50_000), taken);

    for port in [50_000, 50_000, 50_001, 49_999, 50_002, 0] {
        pool.release(port);
    }

    assert_eq!(2, pool.free());
}

#[test]
fn a_busy_port_is_left_alone_until_its_time_is_over() {
    let mut pool = PortPool::new(50_000..=50_000);
    assert!(pool.take_exact(50_000));
    pool.mark_busy(50_000, at(60));

    pool.release(50_000);
    pool.tick(at(59));
    assert_eq!(None, pool.take(Parity::Any, 0));
    assert_eq!(Some(at(60)), pool.poll_timeout());

    pool.tick(at(60));
    assert_eq!(Some(50_000), pool.take(Parity::Any, 0));
    assert_eq!(None, pool.poll_timeout());
}

#[test]
fn a_port_found_busy_again_waits_for_the_later_report() {
    let mut pool = PortPool::new(50_000..=50_000);
    pool.mark_busy(50_000, at(60));
    pool.mark_busy(50_000, at(90));
    pool.mark_busy(40_000, at(10));

    pool.tick(at(89));
    assert_eq!(0, pool.free());
    pool.tick(at(90));
    assert_eq!(1, pool.free());
}

#[derive(Clone, Debug)]
enum Step {
    Take(Parity, u64),
    TakeExact(u16),
    Release(u16),
    MarkBusy(u16, u64),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let parity = prop_oneof![Just(Parity::Any), Just(Parity::Even), Just(Parity::EvenWithNext)];
    let port = FIRST - 2..=LAST + 2;
    prop_oneof![
        6 => (parity, any::<u64>()).prop_map(|(parity, random)| Step::Take(parity, random)),
        1 => port.clone().prop_map(Step::TakeExact),
        4 => port.clone().prop_map(Step::Release),
        1 => (port, 0..50_u64).prop_map(|(port, seconds)| Step::MarkBusy(port, seconds)),
        1 => (0..20_u64).prop_map(Step::Tick),
    ]
}

/// What the pool should hold, without any of its speed.
struct Model {
    now: Instant,
    free: BTreeSet<u16>,
    taken: BTreeSet<u16>,
    busy: BTreeMap<u16, Instant>,
}

impl Model {
    fn new() -> Model {
        Model {
            now: epoch(),
            free: (FIRST..=LAST).collect(),
            taken: BTreeSet::new(),
            busy: BTreeMap::new(),
        }
    }

    fn fits(&self, parity: Parity, port: u16) -> bool {
        self.free.contains(&port)
            && match parity {
                Parity::Any => true,
                Parity::Even => port.is_multiple_of(2),
                Parity::EvenWithNext => port.is_multiple_of(2) && self.free.contains(&(port + 1)),
            }
    }

    fn take(&mut self, port: u16) {
        assert!(self.free.remove(&port));
        self.taken.insert(port);
    }

    fn apply(&mut self, pool: &mut PortPool, step: Step) {
        match step {
            Step::Take(parity, random) => match pool.take(parity, random) {
                None => assert!(!(FIRST..=LAST).any(|port| self.fits(parity, port))),
                Some(port) => {
                    assert!(self.fits(parity, port), "{port} for {parity:?}");
                    self.take(port);
                    if parity == Parity::EvenWithNext {
                        self.take(port + 1);
                    }
                }
            },
            Step::TakeExact(port) => {
                let free = self.free.contains(&port);
                assert_eq!(free, pool.take_exact(port));
                if free {
                    self.take(port);
                }
            }
            Step::Release(port) => {
                pool.release(port);
                if self.taken.remove(&port) {
                    self.free.insert(port);
                }
            }
            Step::MarkBusy(port, seconds) => {
                let until = self.now + Duration::from_secs(seconds);
                pool.mark_busy(port, until);
                if (FIRST..=LAST).contains(&port) {
                    self.free.remove(&port);
                    self.taken.remove(&port);
                    self.busy.insert(port, until);
                }
            }
            Step::Tick(seconds) => {
                self.now += Duration::from_secs(seconds);
                pool.tick(self.now);
                let over: Vec<u16> = self
                    .busy
                    .iter()
                    .filter(|(_, until)| **until <= self.now)
                    .map(|(p, _)| *p)
                    .collect();
                for port in over {
                    self.busy.remove(&port);
                    self.free.insert(port);
                }
            }
        }
        assert_eq!(self.free.len(), pool.free());
        assert_eq!(self.busy.values().min().copied(), pool.poll_timeout());
    }
}

proptest! {
    #[test]
    fn no_port_is_lost_or_given_twice(steps in prop::collection::vec(step(), 0..200)) {
        let (mut pool, mut model) = (PortPool::new(FIRST..=LAST), Model::new());

        for step in steps {
            model.apply(&mut pool, step);
        }

        let rest: BTreeSet<u16> = std::iter::from_fn(|| pool.take(Parity::Any, 0)).collect();
        prop_assert_eq!(model.free, rest);
    }
}

const FIRST: u16 = 50_001;
const LAST: u16 = 50_024;
