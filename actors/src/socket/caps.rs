//! How many connections or DTLS sessions a listener has, in all and of clients that have proved
//! nothing.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::config::Limits;

/// Counts connections against the limits. What it admits gives its place back when dropped.
pub(super) struct Caps {
    connections_max: usize,
    unproved_max: usize,
    unproved_per_source_max: usize,
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    unproved: usize,
    unproved_by_source: ahash::HashMap<Source, usize>,
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

/// The place of a connection whose client has proved nothing.
pub(super) struct Unproved {
    caps: Rc<Caps>,
    source: Option<Source>,
}

impl Caps {
    pub(super) fn new(limits: &Limits) -> Rc<Caps> {
        Rc::new(Caps {
            connections_max: limits.connections_per_listener,
            unproved_max: limits.unproved_connections_per_listener,
            unproved_per_source_max: limits.unproved_connections_per_source,
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
    /// speaks for many.
    pub(super) fn unproved(self: &Rc<Caps>, source: Option<IpAddr>) -> Option<Unproved> {
        let mut counts = self.counts.borrow_mut();
        if counts.unproved >= self.unproved_max {
            return None;
        }
        let source = source.map(Source::of);
        if let Some(source) = source {
            let of_source = counts.unproved_by_source.get(&source).copied().unwrap_or(0);
            if of_source >= self.unproved_per_source_max {
                return None;
            }
            counts.unproved_by_source.insert(source, of_source + 1);
        }
        counts.unproved += 1;
        Some(Unproved { caps: self.clone(), source })
    }

    /// The place of a client that has to prove itself anew, whatever the limits say.
    #[cfg(feature = "dtls")]
    pub(super) fn unproved_again(self: &Rc<Caps>, source: IpAddr) -> Unproved {
        let source = Source::of(source);
        let mut counts = self.counts.borrow_mut();
        *counts.unproved_by_source.entry(source).or_insert(0) += 1;
        counts.unproved += 1;
        Unproved { caps: self.clone(), source: Some(source) }
    }
}

impl Unproved {
    /// Whose place it is.
    #[cfg(feature = "dtls")]
    pub(super) fn caps(&self) -> Rc<Caps> {
        self.caps.clone()
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
        let mut counts = self.caps.counts.borrow_mut();
        counts.unproved -= 1;
        let Some(source) = self.source else { return };
        if let Some(of_source) = counts.unproved_by_source.get_mut(&source) {
            *of_source -= 1;
            // The table follows those that are here, not those that once were.
            if *of_source == 0 {
                counts.unproved_by_source.remove(&source);
            }
        }
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
        assert_eq!(1, caps.counts.borrow().unproved);
    }
}
