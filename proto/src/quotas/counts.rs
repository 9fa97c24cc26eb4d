//! How many allocations there are, and whose they are.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::QuotaTerms;
use crate::account::Account;
use crate::credentials::{opaque_string, unquoted};

/// Which limit refused an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaExceeded {
    /// That of the server.
    Server,
    /// That of the realm.
    Realm,
    /// That of the user.
    User,
    /// That of the client's address, the server's or the realm's.
    Source,
}

impl QuotaExceeded {
    /// The limit's name in logs. Names are an interface: they stay.
    pub const fn name(self) -> &'static str {
        match self {
            QuotaExceeded::Server => "server",
            QuotaExceeded::Realm => "realm",
            QuotaExceeded::User => "user",
            QuotaExceeded::Source => "source",
        }
    }
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user as quotas know it.
///
/// Names that prove the same key are the same name: a client may put quotes around it and nulls
/// behind it, and spell a letter in several ways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName {
    /// The realm.
    pub realm: Arc<str>,
    /// The name, prepared.
    pub name: Arc<str>,
}

impl UserName {
    /// The name under which this account's allocations count.
    pub fn of(user: &Account) -> UserName {
        let bare = unquoted(&user.quota_name);
        let name = match opaque_string(bare) {
            Ok(prepared) if *prepared == *user.quota_name => user.quota_name.clone(),
            Ok(prepared) => prepared.as_ref().into(),
            // What the profile does not allow is nobody else's name either.
            Err(_) => bare.into(),
        };
        UserName { realm: user.realm.clone(), name }
    }
}

/// Where a client comes from: an address of IPv4, or the /64 of one of IPv6, since a host has all
/// of one to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    fn of(client: IpAddr) -> Source {
        match client.to_canonical() {
            IpAddr::V4(ip) => Source::V4(ip.to_bits()),
            IpAddr::V6(ip) => Source::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

/// For whom an allocation counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    user: UserName,
    source: Source,
}

impl Holder {
    /// The allocation of `user`, whose client comes from `client`.
    pub fn new(user: &Account, client: IpAddr) -> Holder {
        Holder { user: UserName::of(user), source: Source::of(client) }
    }

    /// The user.
    pub fn user(&self) -> &UserName {
        &self.user
    }
}

/// The allocations that count, by all that limits them. The tables hold who has one and nobody
/// else.
#[derive(Debug, Default)]
pub struct Quotas {
    all: u32,
    by_realm: Counts<Arc<str>>,
    by_user: Counts<UserName>,
    by_source: Counts<Source>,
    by_realm_and_source: Counts<(Arc<str>, Source)>,
}

impl Quotas {
    /// Counts one more allocation, everywhere or nowhere. The limits are looked at from the widest
    /// to the narrowest; the first that is reached is the one that is named.
    ///
    /// # Errors
    /// The limit that leaves no room.
    pub fn take(
        &mut self,
        terms: &QuotaTerms,
        user: &Account,
        holder: &Holder,
    ) -> Result<(), QuotaExceeded> {
        let realm = terms.realm(&user.realm);
        let of_user = self.by_user.get(&holder.user);
        let of_source = self.by_source.get(&holder.source);
        let of_realm_source = self.by_realm_and_source.get(&holder.realm_and_source());
        let limits = [
            (QuotaExceeded::Server, terms.server.allocations, self.all),
            (QuotaExceeded::Realm, realm.allocations, self.by_realm.get(&user.realm)),
            (QuotaExceeded::User, terms.allocations_of(user), of_user),
            (QuotaExceeded::Source, terms.server.allocations_per_source, of_source),
            (QuotaExceeded::Source, realm.allocations_per_source, of_realm_source),
        ];
        for (limit, most, count) in limits {
            // The counter itself is a limit, far beyond what there are ports for.
            if count >= most.unwrap_or(u32::MAX) {
                return Err(limit);
            }
        }
        self.add(holder);
        Ok(())
    }

    /// Counts an allocation that is there already, whatever the limits say.
    pub fn add(&mut self, holder: &Holder) {
        self.all = self.all.saturating_add(1);
        self.by_realm.add(holder.user.realm.clone());
        self.by_user.add(holder.user.clone());
        self.by_source.add(holder.source);
        self.by_realm_and_source.add(holder.realm_and_source());
    }

    /// Counts an allocation no more.
    pub fn give_back(&mut self, holder: &Holder) {
        debug_assert!(self.all > 0, "more is given back than was taken");
        self.all = self.all.saturating_sub(1);
        self.by_realm.remove(&holder.user.realm);
        self.by_user.remove(&holder.user);
        self.by_source.remove(&holder.source);
        self.by_realm_and_source.remove(&holder.realm_and_source());
    }

    /// Allocations of one user.
    pub fn allocations_of(&self, user: &UserName) -> u32 {
        self.by_user.get(user)
    }
}

impl Holder {
    fn realm_and_source(&self) -> (Arc<str>, Source) {
        (self.user.realm.clone(), self.source)
    }
}

/// A count for each key that has one. Its memory follows the keys it holds, down as well as up.
#[derive(Debug)]
struct Counts<K>(HashMap<K, u32>);

impl<K> Default for Counts<K> {
    fn default() -> Counts<K> {
        Counts(HashMap::default())
    }
}

impl<K: Eq + Hash> Counts<K> {
    fn get(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: K) {
        let count = self.0.entry(key).or_insert(0);
        *count = count.saturating_add(1);
    }

    fn remove(&mut self, key: &K) {
        let Some(count) = self.0.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(key);
            if self.0.capacity() > KEEP_ROOM && self.0.capacity() / 4 > self.0.len() {
                self.0.shrink_to(2 * self.0.len());
            }
        }
    }
}

/// Room for this many keys stays, however few there are.
const KEEP_ROOM: usize = 1024;

#[cfg(test)]
mod tests;
