//! Whose credentials are gone: allocations live no longer than the user, the secret or the key that
//! proved their owner.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use slog::{Logger, info};
use sterna_proto::account::CredentialKind;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::session::Owner;

use crate::authenticator::{CredentialSources, Forget, KnownRealm};
use crate::clock;
use crate::credential_store::StoredUser;
use crate::quota_keeper::{LeaseId, ListOwners, OwnerInUse, RevokeLeases};
use crate::usage::OneLine;

use super::health::Store;
use super::told::Told;
use super::{StoreNeighbours, look_ups};

/// One look at all owners of allocations.
pub(super) struct Check {
    pub(super) stores: Rc<[Store]>,
    pub(super) sources: Arc<CredentialSources>,
    pub(super) configured: Rc<Configured>,
    pub(super) neighbours: StoreNeighbours,
    pub(super) before: Checked,
    pub(super) log: Logger,
}

/// What the configuration has said of secrets and keys: it is a store that is never down.
#[derive(Default)]
pub(super) struct Configured {
    secrets: Told,
    token_keys: Told,
}

impl Configured {
    pub(super) fn hear(&self, sources: &CredentialSources, now: Instant) {
        let secrets = sources.realms.iter();
        let secrets = secrets.map(|realm| (realm.name.clone(), realm.rest_secrets.clone()));
        self.secrets.hear_all(secrets.collect(), now);
        let mut keys: BTreeMap<Arc<str>, Vec<Vec<u8>>> = BTreeMap::new();
        for key in sources.oauth.iter().flat_map(|oauth| &oauth.keys) {
            keys.entry(key.kid.as_str().into()).or_default().push(key.fingerprint().to_vec());
        }
        self.token_keys.hear_all(keys, now);
    }
}

/// What the last look has seen, so that the next one need not compute it again.
#[derive(Default)]
pub(super) struct Checked {
    sources: Option<Arc<CredentialSources>>,
    known: HashMap<Arc<str>, Rc<KnownRealm>>,
    /// The stores' secrets of each realm whose credentials are in use.
    secrets: HashMap<Arc<str>, SecretsSeen>,
    /// Leases whose owners were left alone by these. Whose end was asked for are none of them: if
    /// the word was lost, the next look says it again.
    leases: HashSet<LeaseId>,
    has_revoked: bool,
}

impl Checked {
    /// Whether somebody's credential was gone.
    pub(super) fn has_revoked(&self) -> bool {
        self.has_revoked
    }
}

/// What is known of a realm's secrets in the stores.
#[derive(PartialEq, Eq)]
struct SecretsSeen {
    /// Those that are good, and those that a store which is down named last.
    good: Vec<Vec<u8>>,
    /// While a store is down: those that were taken back, by others or before.
    dropped: Vec<Vec<u8>>,
    /// Whether a store is down, so that there may be others.
    incomplete: bool,
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
struct Seen<'a> {
    realm: Arc<str>,
    /// Its secrets, if they were read.
    secrets: Option<SecretsSeen>,
    gone: Owners<'a>,
}

/// An owner, while the stores are asked for its user in turn.
struct Sought<'a> {
    owner: &'a OwnerInUse,
    /// Where it came from there is no such user any more, or another one.
    dropped: bool,
    /// A store has told of the user with this key.
    confirmed: bool,
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
        let mut all_gone: Owners<'_> = Vec::new();
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
            all_gone.append(&mut gone);
        }
        by_realm.retain(|_, owners| !owners.is_empty());
        let mut after = Checked { sources: Some(self.sources.clone()), ..Checked::default() };
        let mut asked = FuturesUnordered::new();
        let mut realms = by_realm.iter();
        loop {
            while asked.len() < REALMS_AT_ONCE
                && let Some((realm, owners)) = realms.next()
            {
                asked.push(self.ask_stores(realm, owners, known.get(*realm).map(|known| &**known)));
            }
            let Some(mut seen) = asked.next().await else { break };
            all_gone.append(&mut seen.gone);
            if let Some(secrets) = seen.secrets {
                after.secrets.insert(seen.realm, secrets);
            }
        }
        drop(asked);
        after.leases = leases_of(&owners.iter().collect());
        for lease in leases_of(&all_gone) {
            after.leases.remove(&lease);
        }
        after.has_revoked = !all_gone.is_empty();
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
            // Who is asked for a client's request alone says nothing between two of them.
            CredentialKind::Hook => self.stores.iter().any(|store| !store.can_revalidate()),
            CredentialKind::TimeLimited => return Verdict::Ask,
            CredentialKind::SignedToken => {
                self.same_sources() && self.is_known(owner) || is_token(&owner.owner, known)
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

    async fn ask_stores<'a>(
        &self,
        realm: &Arc<str>,
        owners: &Owners<'a>,
        known: Option<&KnownRealm>,
    ) -> Seen<'a> {
        let mut seen = Seen { realm: realm.clone(), secrets: None, gone: Vec::new() };
        let mut gone = self.without_stored_users(realm, owners).await;
        self.end(realm, &gone).await;
        seen.gone.append(&mut gone);
        if let Some(known) = known {
            let mut gone = self.without_secret(known, owners, &mut seen).await;
            self.end(realm, &gone).await;
            seen.gone.append(&mut gone);
        }
        let mut gone = self.without_token_key(owners).await;
        self.end(realm, &gone).await;
        seen.gone.append(&mut gone);
        seen
    }

    /// Those whose user is gone from the stores, has come to its end, or has another key or other
    /// peers there.
    async fn without_stored_users<'a>(&self, realm: &Arc<str>, owners: &Owners<'a>) -> Owners<'a> {
        let mut gone = Vec::new();
        let mut stored: BTreeMap<Arc<str>, Vec<Sought<'a>>> = BTreeMap::new();
        for &owner in of_kind(owners, CredentialKind::LongTerm) {
            // The configuration knows no such user, or the stores would not be asked.
            let dropped = owner.owner.account.stored_in.is_none();
            let sought = Sought { owner, dropped, confirmed: false };
            stored.entry(owner.owner.account.username.clone()).or_default().push(sought);
        }
        while !stored.is_empty() {
            let later = stored.keys().nth(USERS_AT_ONCE).cloned();
            let later = later.map(|name| stored.split_off(&name)).unwrap_or_default();
            let wanted = std::mem::replace(&mut stored, later);
            self.without_stored_user(realm, wanted, &mut gone).await;
        }
        gone
    }

    /// Asks the stores in their order for the users that are `wanted`. The first that knows one is
    /// believed. What the stores behind one that is down say is not the last word on anybody but
    /// those who have come from there: what gave is what takes away.
    async fn without_stored_user<'a>(
        &self,
        realm: &Arc<str>,
        mut wanted: BTreeMap<Arc<str>, Vec<Sought<'a>>>,
        gone: &mut Owners<'a>,
    ) {
        let (mut down, now) = (false, clock::unix_now());
        let has_ended = |end: Duration| {
            self.sources.outlives.is_some_and(|outlives| end.saturating_add(outlives) <= now)
        };
        for store in self.stores.iter().filter(|store| store.can_revalidate()) {
            if wanted.is_empty() {
                return;
            }
            let names = wanted.keys().cloned().collect();
            let Ok(users) = store.ask(|store| store.users(realm.clone(), names)).await else {
                down = true;
                continue;
            };
            let users: BTreeMap<_, _> = users.iter().map(|user| (&user.name, user)).collect();
            wanted.retain(|name, sought| {
                let user = users.get(name).copied();
                let ended = user.and_then(|user| user.expires).is_some_and(has_ended);
                for sought in sought.iter_mut() {
                    let is_user = user.is_some_and(|user| is_user(&sought.owner.owner, user));
                    let lives = is_user && !ended;
                    let from_here = sought.owner.owner.account.stored_in.as_ref();
                    sought.confirmed |= lives;
                    sought.dropped |= !lives && from_here == Some(store.label());
                }
                let is_last_word = user.is_some() && !down;
                if is_last_word {
                    let others = sought.iter().filter(|sought| !sought.confirmed);
                    gone.extend(others.map(|sought| sought.owner));
                }
                !is_last_word
            });
        }
        let left = wanted.values().flatten();
        let left = left.filter(|sought| !down || sought.dropped && !sought.confirmed);
        gone.extend(left.map(|sought| sought.owner));
    }

    /// Those whose credential was signed with a secret that is gone.
    async fn without_secret<'a>(
        &self,
        known: &KnownRealm,
        owners: &Owners<'a>,
        seen: &mut Seen<'a>,
    ) -> Owners<'a> {
        let signed: Owners<'a> = of_kind(owners, CredentialKind::TimeLimited).copied().collect();
        if signed.is_empty() {
            return Vec::new();
        }
        let realm = &seen.realm;
        let read = look_ups::rest_secrets(&self.stores, realm).await;
        let incomplete = read.incomplete;
        let mut dropped = Vec::new();
        if incomplete {
            dropped = self.configured.secrets.dropped(realm);
            dropped.extend(self.stores.iter().flat_map(|store| store.dropped_secrets(realm)));
        }
        let secrets = SecretsSeen { good: read.all(), dropped, incomplete };
        let same = self.same_sources() && self.before.secrets.get(realm) == Some(&secrets);
        let gone = signed
            .into_iter()
            .filter(|owner| !(same && self.is_known(owner)))
            .filter(|owner| {
                // It may be one of those that cannot be read, unless it is one that was taken back.
                !is_signed(&owner.owner, known, &secrets.good)
                    && (!incomplete || is_signed_with(&owner.owner, known, secrets.dropped.iter()))
            })
            .collect();
        seen.secrets = Some(secrets);
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
            let (mut good, mut dropped) = (Vec::new(), self.configured.token_keys.dropped(kid));
            let mut down = false;
            for store in self.stores.iter() {
                let asked = store.token_key(kid).await;
                let (told, taken_back) = store.told_token_keys(kid);
                good.extend(told);
                dropped.extend(taken_back);
                down |= asked.is_err();
                // The first that has one is believed.
                if !down && matches!(asked, Ok(Some(_))) {
                    break;
                }
            }
            let lives = |owner: &OwnerInUse| {
                let is_opener = |key: &Vec<u8>| {
                    owner.owner.account.opened_by.is_some_and(|opener| **key == opener)
                };
                good.iter().any(is_opener) || down && !dropped.iter().any(is_opener)
            };
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

fn leases_of(owners: &Owners<'_>) -> HashSet<LeaseId> {
    owners.iter().flat_map(|owner| owner.leases.iter().copied()).collect()
}

/// Whether the owner is this user with its key, under its peers.
fn is_user(owner: &Owner, user: &StoredUser) -> bool {
    let key = user.secret.key(owner.password_algorithm, &user.name, &owner.account.realm);
    key.as_ref() == Some(&owner.key) && same_peers(&user.peers, &owner.account.peers)
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

/// Whether one of the secrets makes the owner's key, be it of the configuration or a stored one.
fn is_signed(owner: &Owner, known: &KnownRealm, stored: &[Vec<u8>]) -> bool {
    is_signed_with(owner, known, known.realm.rest_secrets.iter().chain(stored))
}

fn is_signed_with<'a>(
    owner: &'a Owner,
    known: &'a KnownRealm,
    secrets: impl Iterator<Item = &'a Vec<u8>> + 'a,
) -> bool {
    let Owner { account, key, password_algorithm } = owner;
    let (realm, name) = (&known.realm, &account.username);
    realm.time_limited_keys(secrets, name, *password_algorithm).any(|made| made == *key)
}

/// Whether one of the secrets of signed tokens makes the owner's key.
fn is_token(owner: &Owner, known: &KnownRealm) -> bool {
    let Owner { account, key, password_algorithm } = owner;
    known.realm.signed_token_keys(&account.username, *password_algorithm).any(|made| made == *key)
}

/// Realms that are looked at at once, so that one whose store is slow does not keep the others.
const REALMS_AT_ONCE: usize = 8;

/// Users that a store is asked for in one question.
const USERS_AT_ONCE: usize = 500;
