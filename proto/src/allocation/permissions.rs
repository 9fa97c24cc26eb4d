//! The permissions of one allocation: IP addresses with a time to expiry (RFC 8656 §9).

use std::net::IpAddr;
use std::time::Instant;

use hashbrown::HashMap;

use crate::address::Family;

/// The permissions, found by IP address in constant time.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    expiries: HashMap<IpAddr, Instant>,
}

impl Permissions {
    pub(super) fn len(&self) -> usize {
        self.expiries.len()
    }

    /// Whether a permission for `ip` is in force at `now`, whatever was swept.
    pub(super) fn allows(&self, ip: IpAddr, now: Instant) -> bool {
        self.expiries.get(&ip).is_some_and(|&expires| now < expires)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.expiries.contains_key(&ip)
    }

    /// Install the permission for `ip` or reset its time to expiry.
    pub(super) fn install(&mut self, ip: IpAddr, expires: Instant) {
        self.expiries.insert(ip, expires);
    }

    /// Remove those that `keep` does not want, and hand each to `removed`.
    pub(super) fn retain(
        &mut self,
        mut keep: impl FnMut(IpAddr, Instant) -> bool,
        mut removed: impl FnMut(IpAddr, Instant),
    ) {
        for (ip, expires) in self.expiries.extract_if(|&ip, &mut expires| !keep(ip, expires)) {
            removed(ip, expires);
        }
        // An allocation that once had many permissions goes back to the size of an idle one.
        if self.expiries.is_empty() {
            self.expiries = HashMap::default();
        }
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.retain(|ip, _| Family::of(ip) != family, |_, _| {});
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.expiries.values().min().copied()
    }

    #[cfg(test)]
    pub(super) fn heap_size(&self) -> usize {
        self.expiries.allocation_size()
    }
}
