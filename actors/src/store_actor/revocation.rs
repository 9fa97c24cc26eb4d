//! Whose credentials are gone: allocations live no longer than the user, the secret or the key that
//! proved their owner.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use slog::{Logger, info};
use sterna_proto::account::CredentialKind;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::session::Owner;

use crate::authenticator::{CredentialSources, Forget, KnownRealm};
use crate::quota_keeper::{LeaseId, ListOwners, OwnerInUse, RevokeLeases};
use crate::usage::OneLine;

use super::health::Store;
use super::{StoreNeighbours, look_ups};

/// One look at all owners of allocations.
pub(super) struct Check {
    pub(super) stores: Rc<[Store]>,
    pub(super) sources: Arc<CredentialSources>,
    pub(super) neighbours: StoreNeighbours,
    pub(super) before: Checked,
    pub(super) log: Logger,
}

/// What the last look has seen, so that the next one need not compute it again.
#[derive(Default)]
pub(super) struct Checked {
    sources: Option<Arc<CredentialSources>>,
    known: HashMap<Arc<str>, Rc<KnownRealm>>,
    /// The stores' secrets of each realm whose credentials are in use.
    secrets: HashMap<Arc<str>, Vec<Vec<u8>>>,
    /// Leases whose owners were seen to be proved by these.
    leases: HashSet<LeaseId>,
}

type Owners<'a> = Vec<&'a OwnerInUse>;

/// What the configuration says of an owner.
#[derive(PartialEq, Eq)]
enum Verdict {
    Lives,
    Gone,
    /// The stores have to be asked.
    Ask,
}

/// What the stores say of a realm's owners.
struct Seen {
    realm: Arc<str>,
    /// Its secrets, if they were read: all of them or none.
    secrets: Option<Vec<Vec<u8>>>,
    /// Leases of which nothing could be said.
    unjudged: Vec<LeaseId>,
}

impl Check {
    /// Looks, and ends what lives on credentials that are gone. While a store is down, nothing is
    /// known to be gone from it.
    pub(super) async fn run(self) -> Checked {
        let Ok(owners) = self.neighbours.list_owners.send(ListOwners).await else {
            return self.before;
        };
        let known = self.known_realms();
        let mut by_realm: BTreeMap<&Arc<str>, Owners<'_>> = BTreeMap::new();
        for owner in &owners {
            by_realm.entry(&owner.owner.account.realm).or_default().push(owner);
        }
        // Nobody waits for a store whose end needs none.
        for (realm, owners) in &mut by_realm {
            let known = known.get(*realm).map(|known| &**known);
            let mut gone = Vec::new();
            owners.retain(|&owner| match self.judge(known, owner) {
                Verdict::Lives => false,
                Verdict::Gone => {
                    gone.push(owner);
                    false
                }
                Verdict::Ask => true,
            });
            self.end(realm, &gone).await;
        }
        by_realm.retain(|_, owners| !owners.is_empty());
        let mut after = Checked { sources: Some(self.sources.clone()), ..Checked::default() };
        after.leases = owners.iter().flat_map(|owner| owner.leases.iter().copied()).collect();
        let mut asked = FuturesUnordered::new();
        let mut realms = by_realm.iter();
        loop {
            while asked.len() < REALMS_AT_ONCE
                && let Some((realm, owners)) = realms.next()
            {
                asked.push(self.ask_stores(realm, owners, known.get(*realm).map(|known| &**known)));
            }
            let Some(seen) = asked.next().await else { break };
            for lease in seen.unjudged {
                after.leases.remove(&lease);
            }
            if let Some(secrets) = seen.secrets {
                after.secrets.insert(seen.realm, secrets);
            }
        }
        drop(asked);
        after.known = known;
        after
    }

    fn same_sources(&self) -> bool {
        self.before.sources.as_ref().is_some_and(|before| Arc::ptr_eq(before, &self.sources))
    }

    fn known_realms(&self) -> HashMap<Arc<str>, Rc<KnownRealm>> {
        if self.same_sources() {
            return self.before.known.clone();
        }
        let known = self.sources.realms.iter();
        known.map(|realm| (realm.name.clone(), Rc::new(KnownRealm::new(realm.clone())))).collect()
    }

    /// Whether the lease was looked at before.
    fn is_known(&self, owner: &OwnerInUse) -> bool {
        owner.leases.iter().all(|lease| self.before.leases.contains(lease))
    }

    /// What can be said without a store. With a realm all its users are gone.
    fn judge(&self, known: Option<&KnownRealm>, owner: &OwnerInUse) -> Verdict {
        let Some(known) = known else { return Verdict::Gone };
        let Owner { account, key, password_algorithm } = &owner.owner;
        let lives = match account.credential {
            CredentialKind::Hook => true,
            CredentialKind::TimeLimited => return Verdict::Ask,
            CredentialKind::SignedToken => {
                self.same_sources() && self.is_known(owner) || is_signed(&owner.owner, known, &[])
            }
            CredentialKind::LongTerm => match known.named(&account.username) {
                Some(user) => {
                    user.keys.get(*password_algorithm) == Some(key)
                        && same_peers(&user.account.peers, &account.peers)
                }
                None => return Verdict::Ask,
            },
            CredentialKind::AccessToken => {
                let Some(oauth) = &self.sources.oauth else { return Verdict::Gone };
                let mut keys =
                    oauth.keys.iter().filter(|key| *key.kid == *account.username).peekable();
                if keys.peek().is_none() {
                    return Verdict::Ask;
                }
                keys.any(|key| account.opened_by == Some(key.fingerprint()))
            }
        };
        if lives { Verdict::Lives } else { Verdict::Gone }
    }

    async fn ask_stores(
        &self,
        realm: &Arc<str>,
        owners: &Owners<'_>,
        known: Option<&KnownRealm>,
    ) -> Seen {
        let mut seen = Seen { realm: realm.clone(), secrets: None, unjudged: Vec::new() };
        let gone = self.without_stored_users(realm, owners).await;
        self.end(realm, &gone).await;
        if let Some(known) = known {
            let gone = self.without_secret(known, owners, &mut seen).await;
            self.end(realm, &gone).await;
        }
        let gone = self.without_token_key(owners).await;
        self.end(realm, &gone).await;
        seen
    }

    /// Those whose user is gone from the stores, or has another key or other peers there.
    async fn without_stored_users<'a>(&self, realm: &Arc<str>, owners: &Owners<'a>) -> Owners<'a> {
        let mut gone = Vec::new();
        let mut stored: BTreeMap<Arc<str>, Owners<'a>> = BTreeMap::new();
        for &owner in of_kind(owners, CredentialKind::LongTerm) {
            stored.entry(owner.owner.account.username.clone()).or_default().push(owner);
        }
        let names: Vec<Arc<str>> = stored.keys().cloned().collect();
        for names in names.chunks(USERS_AT_ONCE) {
            let mut wanted: BTreeSet<Arc<str>> = names.iter().cloned().collect();
            self.without_stored_user(realm, &stored, &mut wanted, &mut gone).await;
        }
        gone
    }

    /// Asks the stores in their order for the users that are `wanted`.
    async fn without_stored_user<'a>(
        &self,
        realm: &Arc<str>,
        stored: &BTreeMap<Arc<str>, Owners<'a>>,
        wanted: &mut BTreeSet<Arc<str>>,
        gone: &mut Owners<'a>,
    ) {
        let owners_of = |name: &Arc<str>| stored.get(name).into_iter().flatten().copied();
        for store in self.stores.iter().filter(|store| store.can_revalidate()) {
            if wanted.is_empty() {
                return;
            }
            let names = wanted.iter().cloned().collect();
            // What the stores behind one that is down say is not the last word.
            let Ok(users) = store.ask(|store| store.users(realm.clone(), names)).await else {
                return;
            };
            for user in users.into_iter().filter(|user| wanted.remove(&user.name)) {
                let lives = |owner: &Owner| {
                    user.secret.key(owner.password_algorithm, &user.name, realm).as_ref()
                        == Some(&owner.key)
                        && same_peers(&user.peers, &owner.account.peers)
                };
                gone.extend(owners_of(&user.name).filter(|owner| !lives(&owner.owner)));
            }
        }
        gone.extend(wanted.iter().flat_map(owners_of));
    }

    /// Those whose credential was signed with a secret that is gone.
    async fn without_secret<'a>(
        &self,
        known: &KnownRealm,
        owners: &Owners<'a>,
        seen: &mut Seen,
    ) -> Owners<'a> {
        let signed: Owners<'a> = of_kind(owners, CredentialKind::TimeLimited).copied().collect();
        if signed.is_empty() {
            return Vec::new();
        }
        let read = look_ups::rest_secrets(self.stores.clone(), seen.realm.clone()).await;
        if read.incomplete {
            // It may be one of those that cannot be read.
            let leases = signed.iter().flat_map(|owner| owner.leases.iter().copied());
            seen.unjudged.extend(leases);
            return Vec::new();
        }
        let same = self.same_sources()
            && self.before.secrets.get(&seen.realm).is_some_and(|before| *before == read.secrets);
        let gone = signed
            .into_iter()
            .filter(|owner| !(same && self.is_known(owner)))
            .filter(|owner| !is_signed(&owner.owner, known, &read.secrets))
            .collect();
        seen.secrets = Some(read.secrets);
        gone
    }

    /// Those whose access token was opened with a key that is none any more.
    async fn without_token_key<'a>(&self, owners: &Owners<'a>) -> Owners<'a> {
        let mut by_kid: BTreeMap<&Arc<str>, Owners<'a>> = BTreeMap::new();
        for &owner in of_kind(owners, CredentialKind::AccessToken) {
            by_kid.entry(&owner.owner.account.username).or_default().push(owner);
        }
        let mut gone = Vec::new();
        for (kid, owners) in by_kid {
            let key = look_ups::token_key(self.stores.clone(), (**kid).to_owned()).await;
            let Ok(key) = key else { continue };
            let opens = key.map(|key| key.fingerprint());
            let lives =
                |owner: &OwnerInUse| opens.is_some() && owner.owner.account.opened_by == opens;
            gone.extend(owners.into_iter().filter(|owner| !lives(owner)));
        }
        gone
    }

    /// Ends their allocations, and lets nobody in again by what is remembered.
    async fn end(&self, realm: &Arc<str>, gone: &Owners<'_>) {
        if gone.is_empty() {
            return;
        }
        for owner in gone {
            info!(self.log, "credential is gone or was changed: its sessions end";
                "realm" => %OneLine(realm),
                "username" => %OneLine(&owner.owner.account.username),
                "allocations" => owner.leases.len());
        }
        let users: BTreeSet<_> = gone.iter().map(|owner| &owner.owner.account.username).collect();
        let forget = Forget { realm: realm.clone(), users: users.into_iter().cloned().collect() };
        for authenticator in &self.neighbours.authenticators {
            // One that is gone remembers nothing.
            let _ = authenticator.send(forget.clone()).await;
        }
        let leases = gone.iter().flat_map(|owner| owner.leases.iter().copied()).collect();
        // A keeper that was healed in the meantime is asked again at the next look.
        let _ = self.neighbours.revoke.send(RevokeLeases(leases)).await;
    }
}

fn of_kind<'o, 'a>(
    owners: &'o Owners<'a>,
    kind: CredentialKind,
) -> impl Iterator<Item = &'o &'a OwnerInUse> {
    owners.iter().filter(move |owner| owner.owner.account.credential == kind)
}

/// Whether a user's own peer lists say the same. An allocation lives by those that it was made
/// under: whose have changed comes in again under the new ones.
fn same_peers(some: &Option<Arc<PeerLists>>, others: &Option<Arc<PeerLists>>) -> bool {
    if some == others {
        return true;
    }
    // A store lists them in any order.
    let sorted = |lists: &Option<Arc<PeerLists>>| {
        let PeerLists { mut allow, mut deny } = lists.as_deref().cloned().unwrap_or_default();
        allow.sort_unstable();
        deny.sort_unstable();
        (allow, deny)
    };
    sorted(some) == sorted(others)
}

/// Whether one of the secrets makes the owner's key.
fn is_signed(owner: &Owner, known: &KnownRealm, stored: &[Vec<u8>]) -> bool {
    let Owner { account, key, password_algorithm } = owner;
    let (realm, name) = (&known.realm, &account.username);
    if account.credential == CredentialKind::SignedToken {
        return realm.signed_token_keys(name, *password_algorithm).any(|made| made == *key);
    }
    let secrets = realm.rest_secrets.iter().chain(stored);
    realm.time_limited_keys(secrets, name, *password_algorithm).any(|made| made == *key)
}

/// Realms that are looked at at once, so that one whose store is slow does not keep the others.
const REALMS_AT_ONCE: usize = 8;

/// Users that a store is asked for in one question.
const USERS_AT_ONCE: usize = 500;
