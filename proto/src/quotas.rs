//! How much users may have: allocations at once, and bytes per second.
//!
//! Where the server, the realm and the user each name a limit of one user or of one allocation, the
//! narrowest word stands: the user's, else the realm's, else the server's. Limits of everybody
//! together, and of one source address, hold side by side: those of the server over all realms,
//! those of a realm over its users.

mod bucket;
mod counts;
mod gate;
mod pools;

use std::collections::HashMap;
use std::sync::Arc;

use crate::account::Account;

pub use bucket::{DATAGRAM_MAX, TokenBucket, burst_of};
pub use counts::{Holder, QuotaExceeded, Quotas, UserName};
pub use gate::{Direction, Gate, GateTerms, PerDirection};
pub use pools::{Ask, CREDIT_LIFETIME, Grant, Pools, QUANTUM, ROUND};

/// What a server, or one realm of it, gives. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Allocations in all.
    pub allocations: Option<u32>,
    /// Allocations of one user, by [`Account::quota_name`](crate::account::Account::quota_name).
    pub allocations_per_user: Option<u32>,
    /// Allocations from one source address; an IPv6 source counts by its /64.
    pub allocations_per_source: Option<u32>,
    /// Bytes per second, in each direction, of everybody together.
    pub bandwidth: Option<u64>,
    /// Bytes per second, in each direction, of one user.
    pub bandwidth_per_user: Option<u64>,
    /// Bytes per second, in each direction, of one allocation.
    pub bandwidth_per_allocation: Option<u64>,
}

/// What one user may have. `None` is what the realm gives; a number stands in its place, be it
/// higher or lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Allocations at once.
    pub allocations: Option<u32>,
    /// Bytes per second, in each direction, of all its allocations together.
    pub bandwidth: Option<u64>,
    /// Bytes per second, in each direction, of each of its allocations.
    pub bandwidth_per_allocation: Option<u64>,
}

/// The limits of the server and of its realms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaTerms {
    /// What all realms may have together.
    pub server: QuotaLimits,
    /// What the users of each realm may have. A realm that is missing has no limits of its own.
    pub realms: HashMap<Arc<str>, QuotaLimits>,
}

impl QuotaTerms {
    /// The limits of a realm alone.
    pub fn realm(&self, name: &str) -> QuotaLimits {
        self.realms.get(name).copied().unwrap_or_default()
    }

    /// Allocations that the user may have at once.
    pub fn allocations_of(&self, user: &Account) -> Option<u32> {
        let realm = self.realm(&user.realm).allocations_per_user;
        user.limits.allocations.or(realm).or(self.server.allocations_per_user)
    }

    /// Bytes per second, in each direction, of all the user's allocations together.
    pub fn bandwidth_of(&self, user: &Account) -> Option<u64> {
        let realm = self.realm(&user.realm).bandwidth_per_user;
        user.limits.bandwidth.or(realm).or(self.server.bandwidth_per_user)
    }

    /// Bytes per second, in each direction, of each of the user's allocations.
    pub fn bandwidth_of_allocation(&self, user: &Account) -> Option<u64> {
        let realm = self.realm(&user.realm).bandwidth_per_allocation;
        let of_all = realm.or(self.server.bandwidth_per_allocation);
        user.limits.bandwidth_per_allocation.or(of_all)
    }
}
