//! The permissions of one allocation: IP addresses with a time to expiry (RFC 8656 §9).

use std::net::IpAddr;
use std::time::Instant;

use hashbrown::HashMap;

use crate::address::Family;

/// The permissions, found by IP address in constant time. Most allocations have one or two, which
/// stand in a short list; a table is made for more.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    few: Vec<(IpAddr, Instant)>,
    many: Option<Box<HashMap<IpAddr, Instant>>>,
}

impl Permissions {
    pub(super) fn len(&self) -> usize {
        self.few.len() + self.many.as_ref().map_or(0, |many| many.len())
    }

    /// Whether a permission for `ip` is in force at `now`, whatever was swept.
    pub(super) fn allows(&self, ip: IpAddr, now: Instant) -> bool {
        self.expiry(ip).is_some_and(|expires| now < expires)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.expiry(ip).is_some()
    }

    /// Install the permission for `ip` or reset its time to expiry.
    pub(super) fn install(&mut self, ip: IpAddr, expires: Instant) {
        if let Some(many) = &mut self.many {
            many.insert(ip, expires);
        } else if let Some((_, known)) = self.few.iter_mut().find(|(known, _)| *known == ip) {
            *known = expires;
        } else if self.few.len() < FEW {
            // The first is often the only one, and a list grows to four by itself.
            if self.few.capacity() == 0 {
                self.few.reserve_exact(1);
            }
            self.few.push((ip, expires));
        } else {
            let few = std::mem::take(&mut self.few);
            let many = few.into_iter().chain([(ip, expires)]).collect();
            self.many = Some(Box::new(many));
        }
    }

    /// Remove those that `keep` does not want, and hand each to `removed`.
    pub(super) fn retain(
        &mut self,
        mut keep: impl FnMut(IpAddr, Instant) -> bool,
        mut removed: impl FnMut(IpAddr, Instant),
    ) {
        self.few.retain(|&(ip, expires)| {
            let keeps = keep(ip, expires);
            if !keeps {
                removed(ip, expires);
            }
            keeps
        });
        if self.few.is_empty() {
            self.few = Vec::new();
        }
        let Some(many) = &mut self.many else { return };
        for (ip, expires) in many.extract_if(|&ip, &mut expires| !keep(ip, expires)) {
            removed(ip, expires);
        }
        // An allocation that once had many permissions goes back to the size of an idle one.
        if many.len() <= FEW / 2 {
            self.few = many.drain().collect();
            self.many = None;
        }
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.retain(|ip, _| Family::of(ip) != family, |_, _| {});
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let many = self.many.iter().flat_map(|many| many.values());
        self.few.iter().map(|(_, expires)| expires).chain(many).min().copied()
    }

    fn expiry(&self, ip: IpAddr) -> Option<Instant> {
        match &self.many {
            Some(many) => many.get(&ip).copied(),
            None => self.few.iter().find(|(known, _)| *known == ip).map(|&(_, expires)| expires),
        }
    }

    #[cfg(test)]
    pub(super) fn heap_size(&self) -> usize {
        self.few.capacity() * size_of::<(IpAddr, Instant)>()
            + self.many.as_ref().map_or(0, |many| size_of_val(&**many) + many.allocation_size())
    }
}

/// So many are looked through one by one, which costs no more than a hash.
const FEW: usize = 4;
