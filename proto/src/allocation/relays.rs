//! The relayed transport addresses of an allocation: one, or one of each family with a time to
//! expiry of its own (RFC 8656 §6).

use std::time::Instant;

use crate::address::{Family, RelayedAddr};

/// One relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// What the relay socket is bound to.
    pub relayed: RelayedAddr,
    /// What the client is told: the same, or its public form behind a 1:1 NAT.
    pub advertised: RelayedAddr,
}

/// The relayed transport addresses of one allocation, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relays {
    /// The IPv4 address.
    pub v4: Option<Relay>,
    /// The IPv6 address.
    pub v6: Option<Relay>,
}

impl Relays {
    /// The address of `family`.
    pub fn of(&self, family: Family) -> Option<Relay> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// A relayed transport address with its time to expiry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub(super) relay: Relay,
    pub(super) expires: Instant,
}

/// The halves of an allocation. A single allocation has one, mostly of IPv4.
#[derive(Clone, Debug)]
pub(super) struct Halves {
    v4: Option<Half>,
    v6: Option<Box<Half>>,
}

impl Halves {
    pub(super) fn new(relays: Relays, expires: Instant) -> Halves {
        let half = |relay| Half { relay, expires };
        Halves { v4: relays.v4.map(half), v6: relays.v6.map(half).map(Box::new) }
    }

    pub(super) fn none() -> Halves {
        Halves { v4: None, v6: None }
    }

    pub(super) fn of(&self, family: Family) -> Option<&Half> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_deref(),
        }
    }

    /// The half of `family`, unless its time is over.
    pub(super) fn live(&self, family: Family, now: Instant) -> Option<&Half> {
        self.of(family).filter(|half| now < half.expires)
    }

    /// Let the half of `family`, if there is one, last until `expires`.
    pub(super) fn extend(&mut self, family: Family, expires: Instant) {
        let half = match family {
            Family::V4 => self.v4.as_mut(),
            Family::V6 => self.v6.as_deref_mut(),
        };
        if let Some(half) = half {
            half.expires = expires;
        }
    }

    /// Let no half last longer than until `ends`.
    pub(super) fn shorten(&mut self, ends: Instant) {
        for half in self.v4.iter_mut().chain(self.v6.as_deref_mut()) {
            half.expires = half.expires.min(ends);
        }
    }

    pub(super) fn remove(&mut self, family: Family) -> Option<Half> {
        match family {
            Family::V4 => self.v4.take(),
            Family::V6 => self.v6.take().map(|half| *half),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Half> {
        self.v4.iter().chain(self.v6.as_deref())
    }

    /// The families in the order in which their halves end.
    pub(super) fn by_expiry(&self) -> [Family; 2] {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) if v6.expires < v4.expires => [Family::V6, Family::V4],
            _ => [Family::V4, Family::V6],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn relays(&self) -> Relays {
        Relays { v4: self.v4.map(|half| half.relay), v6: self.v6.as_ref().map(|half| half.relay) }
    }
}
