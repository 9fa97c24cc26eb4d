//! How many connections or DTLS sessions a listener has, in all and of clients that have proved
//! nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::Limits;

/// Counts connections against the limits. What it admits gives its place back when dropped.
pub(super) struct Caps {
    connections_max: usize,
    unproved_max: usize,
    unproved_per_source_max: usize,
    setup: Duration,
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    /// Those that have proved nothing, by number: the oldest first.
    unproved: BTreeMap<u64, Rc<Seat>>,
    unproved_by_source: ahash::HashMap<Source, BTreeSet<u64>>,
    last_number: u64,
}

/// What a place among those that have proved nothing is known by.
struct Seat {
    source: Option<Source>,
    since: Instant,
    is_evicted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What counts as one source: an IPv4 address, or a /64 of IPv6, all of which one host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    fn of(ip: IpAddr) -> Source {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Source::V4(ip.to_bits()),
            IpAddr::V6(ip) => Source::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

/// The place of a connection.
pub(super) struct Connected(Rc<Caps>);

/// The place of a connection whose client has proved nothing. When its time is over it may be given
/// to a newcomer.
pub(super) struct Unproved {
    caps: Rc<Caps>,
    number: u64,
    seat: Rc<Seat>,
}

impl Caps {
    pub(super) fn new(limits: &Limits) -> Rc<Caps> {
        Rc::new(Caps {
            connections_max: limits.connections_per_listener,
            unproved_max: limits.unproved_connections_per_listener,
            unproved_per_source_max: limits.unproved_connections_per_source,
            setup: limits.connection_setup,
            counts: RefCell::default(),
        })
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.counts.borrow().connections
    }

    /// A place for one more connection.
    pub(super) fn connect(self: &Rc<Caps>) -> Option<Connected> {
        let mut counts = self.counts.borrow_mut();
        if counts.connections >= self.connections_max {
            return None;
        }
        counts.connections += 1;
        Some(Connected(self.clone()))
    }

    /// A place for one more client that has proved nothing; `None` as its source is a proxy, which
    /// speaks for many. Where all are taken, the oldest has to go if it has had its time: who keeps
    /// a place by asking again and again keeps nobody out.
    pub(super) fn unproved(self: &Rc<Caps>, source: Option<IpAddr>) -> Option<Unproved> {
        let source = source.map(Source::of);
        let mut counts = self.counts.borrow_mut();
        let of_source = source.and_then(|source| counts.unproved_by_source.get(&source));
        let of_source = of_source.filter(|seats| seats.len() >= self.unproved_per_source_max);
        if let Some(seats) = of_source {
            let oldest = seats.first().copied();
            counts.evict(oldest?, self.setup)?;
        }
        if counts.unproved.len() >= self.unproved_max {
            let oldest = counts.unproved.first_key_value().map(|(number, _)| *number);
            counts.evict(oldest?, self.setup)?;
        }
        Some(counts.seat(self.clone(), source))
    }

    /// The place of a client that has to prove itself anew, whatever the limits say.
    #[cfg(feature = "dtls")]
    pub(super) fn unproved_again(self: &Rc<Caps>, source: IpAddr) -> Unproved {
        self.counts.borrow_mut().seat(self.clone(), Some(Source::of(source)))
    }
}

impl Counts {
    fn seat(&mut self, caps: Rc<Caps>, source: Option<Source>) -> Unproved {
        self.last_number += 1;
        let (number, since) = (self.last_number, clock::now());
        let (is_evicted, waker) = (Cell::new(false), RefCell::new(None));
        let seat = Rc::new(Seat { source, since, is_evicted, waker });
        if let Some(source) = source {
            self.unproved_by_source.entry(source).or_default().insert(number);
        }
        self.unproved.insert(number, seat.clone());
        Unproved { caps, number, seat }
    }

    /// Takes a place away from who has had it for longer than `setup`.
    fn evict(&mut self, number: u64, setup: Duration) -> Option<()> {
        let seat = self.unproved.get(&number)?;
        if clock::now().saturating_duration_since(seat.since) < setup {
            return None;
        }
        seat.is_evicted.set(true);
        if let Some(waker) = seat.waker.take() {
            waker.wake();
        }
        self.leave(number);
        Some(())
    }

    fn leave(&mut self, number: u64) {
        let Some(seat) = self.unproved.remove(&number) else { return };
        let Some(source) = seat.source else { return };
        if let Some(of_source) = self.unproved_by_source.get_mut(&source) {
            of_source.remove(&number);
            // The table follows those that are here, not those that once were.
            if of_source.is_empty() {
                self.unproved_by_source.remove(&source);
            }
        }
    }
}

impl Unproved {
    /// Whose place it is.
    #[cfg(feature = "dtls")]
    pub(super) fn caps(&self) -> Rc<Caps> {
        self.caps.clone()
    }

    /// Whether a newcomer has got the place.
    pub(super) fn is_evicted(&self) -> bool {
        self.seat.is_evicted.get()
    }

    /// Wakes the one behind `waker` when a newcomer gets the place.
    pub(super) fn watch(&self, waker: &Waker) {
        let mut own = self.seat.waker.borrow_mut();
        match &mut *own {
            Some(own) => own.clone_from(waker),
            None => *own = Some(waker.clone()),
        }
    }

    /// The same place, in the name of the client that the proxy has named.
    pub(super) fn of(self, source: IpAddr) -> Option<Unproved> {
        let caps = self.caps.clone();
        drop(self);
        caps.unproved(Some(source))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.counts.borrow_mut().connections -= 1;
    }
}

impl Drop for Unproved {
    fn drop(&mut self) {
        self.caps.counts.borrow_mut().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn caps(connections: usize, unproved: usize, per_source: usize) -> Rc<Caps> {
        Caps::new(&Limits {
            sessions_per_listener: 1,
            permissions_per_allocation: 1,
            channels_per_allocation: 1,
            connections_per_allocation: 1,
            unauthenticated_answers_per_second: 0,
            failed_logins_per_minute: 0,
            connections_per_listener: connections,
            unproved_connections_per_listener: unproved,
            unproved_connections_per_source: per_source,
            connection_setup: Duration::from_secs(1),
            stream_buffer: 1,
        })
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an IP address"))
    }

    #[test]
    fn place_comes_back_with_its_guard() {
        let caps = caps(1, 1, 1);
        let connected = caps.connect();
        assert!(connected.is_some());
        assert!(caps.connect().is_none());
        drop(connected);
        assert!(caps.connect().is_some());

        let unproved = caps.unproved(ip("192.0.2.1"));
        assert!(unproved.is_some());
        assert!(caps.unproved(ip("192.0.2.2")).is_none());
        drop(unproved);
        assert!(caps.unproved(ip("192.0.2.2")).is_some());
        assert!(caps.counts.borrow().unproved_by_source.is_empty());
    }

    #[test]
    fn source_is_an_address_of_ipv4_and_a_64_of_ipv6() {
        let caps = caps(10, 10, 1);
        let _kept = [
            caps.unproved(ip("192.0.2.1")).expect("the first of its source"),
            caps.unproved(ip("192.0.2.2")).expect("another source"),
            caps.unproved(ip("2001:db8::1")).expect("the first of its source"),
            caps.unproved(ip("2001:db8:0:1::1")).expect("another source"),
        ];
        assert!(caps.unproved(ip("192.0.2.1")).is_none());
        assert!(caps.unproved(ip("::ffff:192.0.2.1")).is_none());
        assert!(caps.unproved(ip("2001:db8::2")).is_none());
    }

    #[test]
    fn proxy_speaks_for_many_and_each_of_them_counts_for_itself() {
        let caps = caps(10, 10, 1);
        let first = caps.unproved(None).and_then(|place| place.of(ip("192.0.2.1")?));
        assert!(first.is_some());
        let second = caps.unproved(None).expect("a proxy has no limit of its own");
        assert!(second.of(ip("192.0.2.1").expect("an address")).is_none());
        assert_eq!(1, caps.counts.borrow().unproved.len());
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_gives_its_place_away_when_it_has_had_its_time() {
        let wait = |millis| tokio::time::sleep(Duration::from_millis(millis));
        let caps = caps(10, 3, 2);
        let place = |text| caps.unproved(ip(text));
        let first = place("192.0.2.1").expect("the first");
        wait(600).await;
        let second = place("192.0.2.1").expect("the second of its source");
        let third = place("192.0.2.2").expect("the last that there is room for");
        wait(300).await;
        assert!(place("192.0.2.1").is_none() && place("192.0.2.3").is_none());

        wait(100).await;
        let fourth = place("192.0.2.1").expect("the first has had its time");
        assert!(first.is_evicted() && !second.is_evicted());
        assert!(place("192.0.2.3").is_none(), "the others have not");
        // Who has lost its place has none to give back.
        drop(first);
        assert!(place("192.0.2.3").is_none());

        wait(600).await;
        let fifth = place("192.0.2.3").expect("the second has had its time");
        assert!(second.is_evicted() && !third.is_evicted() && !fourth.is_evicted());
        drop((second, third, fourth, fifth));
        let counts = caps.counts.borrow();
        assert!(counts.unproved.is_empty() && counts.unproved_by_source.is_empty());
    }
}
