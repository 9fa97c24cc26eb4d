//! What an Authenticator has heard of the stores, what it asks them, and who waits for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use sterna_proto::account::CredentialKind;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::session::{FoundKeys, StoresDown};

use crate::credential_store::UserLookup;
use crate::later::Promise;
use crate::policy::TokenKey;
use crate::store_actor::{LookUpTokenKey, LookUpUser, LookedUp, ReadRestSecrets, RestSecrets};

use super::cache::{Cache, Cached};
use super::sources::{Clock, CredentialSources, KnownUser};
use super::{AskStores, FindKeys, Forget};

/// The secrets of a realm's time-limited credentials.
pub(super) type Secrets = Arc<RestSecrets>;

/// A user as it is asked for and remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct UserKey {
    pub(super) realm: Arc<str>,
    pub(super) user: ClaimedUser,
    /// Who asks, where the answer depends on it.
    pub(super) asker: Option<(IpAddr, PasswordAlgorithm)>,
}

/// What is asked of the stores. Those who want to know the same wait for the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    User(UserKey),
    Secrets(Arc<str>),
    TokenKey(String),
}

/// What the StoreActor answered.
pub(super) struct Heard {
    /// Which stores were asked: those that were the `asked`th.
    asked: u64,
    answer: Answer,
}

enum Answer {
    User(UserKey, Result<LookedUp, StoresDown>),
    Secrets(Arc<str>, Result<RestSecrets, StoresDown>),
    TokenKey(String, Result<Option<TokenKey>, StoresDown>),
}

/// Somebody who waits for keys, and what it has been told so far: an answer counts for those who
/// have waited for it, however short a time it is good for.
pub(super) struct Waiter {
    pub(super) wanted: FindKeys,
    pub(super) told: Told,
    pub(super) promise: Promise<Result<FoundKeys, StoresDown>>,
}

#[derive(Clone, Default)]
pub(super) struct Told {
    pub(super) user: Option<Result<Option<KnownUser>, StoresDown>>,
    pub(super) secrets: Option<Result<Secrets, StoresDown>>,
    pub(super) token_key: Option<Result<Option<TokenKey>, StoresDown>>,
}

impl Told {
    /// Whether a store has said something.
    pub(super) fn is_any(&self) -> bool {
        self.user.is_some() || self.secrets.is_some() || self.token_key.is_some()
    }

    pub(super) fn add(&mut self, told: &Told) {
        self.user = told.user.clone().or(self.user.take());
        self.secrets = told.secrets.clone().or(self.secrets.take());
        self.token_key = told.token_key.clone().or(self.token_key.take());
    }
}

/// See the head of this file.
pub(super) struct Asking {
    ask: AskStores,
    lifetime: Duration,
    /// The stores whose answers are remembered, by their labels.
    stores: Vec<String>,
    /// How often they were others.
    changes: u64,
    users: Cache<UserKey, KnownUser>,
    /// Users that were asked for a moment ago: whoever wants to know afresh has it from there. True
    /// of those of whom the stores could not tell, so that what was known before stands in.
    fresh: Cache<UserKey, bool>,
    /// Names that nobody has, apart from the users: whoever makes up names pushes nobody out.
    nobodies: Cache<UserKey, ()>,
    /// Users that no store could tell of: one that is asked for again and again is no reason to
    /// ask the stores again and again.
    untold: Cache<UserKey, ()>,
    secrets: Cache<Arc<str>, Secrets>,
    token_keys: Cache<String, TokenKey>,
    /// Those that were asked for a moment ago.
    fresh_token_keys: Cache<String, ()>,
    /// Names that no such key has, apart for the same reason.
    no_token_keys: Cache<String, ()>,
    /// Of those who wait for one answer there are no more than sessions, each of which asks for one
    /// thing at a time.
    waiting: HashMap<Question, Vec<Waiter>>,
    pub(super) answers: FuturesUnordered<LocalBoxFuture<'static, Heard>>,
}

impl Asking {
    pub(super) fn new(ask: AskStores, sources: &CredentialSources) -> Asking {
        let outage = sources.cache.outage;
        Asking {
            ask,
            lifetime: sources.cache.lifetime,
            stores: sources.stores.labels.clone(),
            changes: 0,
            users: Cache::bridging(outage, sources.cache.entries),
            fresh: Cache::new(NOBODIES_MAX),
            nobodies: Cache::new(sources.cache.entries.min(NOBODIES_MAX)),
            untold: Cache::new(NOBODIES_MAX),
            secrets: Cache::bridging(outage, REALMS_MAX),
            token_keys: Cache::bridging(outage, TOKEN_KEYS_MAX),
            fresh_token_keys: Cache::new(TOKEN_KEYS_MAX),
            no_token_keys: Cache::new(TOKEN_KEYS_MAX),
            waiting: HashMap::new(),
            answers: FuturesUnordered::new(),
        }
    }

    pub(super) fn set_terms(&mut self, sources: &CredentialSources, now: Instant) {
        let outage = sources.cache.outage;
        self.lifetime = sources.cache.lifetime;
        self.users.set_max(sources.cache.entries);
        self.users.set_outage(outage);
        self.secrets.set_outage(outage);
        self.token_keys.set_outage(outage);
        if self.stores != sources.stores.labels {
            self.forget_all();
            self.stores.clone_from(&sources.stores.labels);
        }
        self.users.age(now);
        self.fresh.age(now);
        self.fresh_token_keys.age(now);
        self.nobodies = Cache::new(sources.cache.entries.min(NOBODIES_MAX));
        self.untold = Cache::new(NOBODIES_MAX);
        self.secrets.age(now);
        self.token_keys.age(now);
        self.no_token_keys.age(now);
    }

    /// Forgets what was heard of other stores, what they are about to answer included: nobody comes
    /// in by a store that is none any more, nor by one that stands behind another one now.
    fn forget_all(&mut self) {
        self.changes += 1;
        self.users.clear();
        self.fresh.clear();
        self.secrets.clear();
        self.token_keys.clear();
        self.fresh_token_keys.clear();
        self.no_token_keys.clear();
    }

    pub(super) fn forget(&mut self, forget: &Forget) {
        self.users.retain(|key, user| {
            key.realm != forget.realm || !forget.users.contains(&user.account.username)
        });
        self.secrets.remove(&forget.realm);
        self.token_keys.retain(|_, _| false);
    }

    pub(super) fn cached_user(
        &mut self,
        key: &UserKey,
        afresh: bool,
        now: Instant,
    ) -> Option<Result<Option<KnownUser>, StoresDown>> {
        let for_all = UserKey { asker: None, ..key.clone() };
        for key in [&for_all, key] {
            let fresh = self.fresh.get(key, now);
            if let Cached::Good(user) = self.users.get(key, now)
                && (!afresh || matches!(fresh, Cached::Good(_)))
            {
                let stands_in = fresh == Cached::Good(true);
                return Some(Ok(Some(KnownUser { stands_in, ..user })));
            }
            if let Cached::Good(()) = self.nobodies.get(key, now) {
                return Some(Ok(None));
            }
        }
        matches!(self.untold.get(key, now), Cached::Good(())).then_some(Err(StoresDown))
    }

    pub(super) fn cached_secrets(
        &mut self,
        realm: &Arc<str>,
        now: Instant,
    ) -> Option<Result<Secrets, StoresDown>> {
        match self.secrets.get(realm, now) {
            Cached::Good(secrets) => Some(Ok(secrets)),
            Cached::Stale(_) | Cached::Nothing => None,
        }
    }

    pub(super) fn cached_token_key(
        &mut self,
        kid: &str,
        afresh: bool,
        now: Instant,
    ) -> Option<Result<Option<TokenKey>, StoresDown>> {
        let kid = kid.to_owned();
        let is_fresh = !afresh || self.fresh_token_keys.get(&kid, now) == Cached::Good(());
        if let Cached::Good(key) = self.token_keys.get(&kid, now)
            && is_fresh
        {
            return Some(Ok(Some(key)));
        }
        matches!(self.no_token_keys.get(&kid, now), Cached::Good(())).then_some(Ok(None))
    }

    /// Lets `waiter` wait for the answer to `question`, which is asked if nobody has asked it yet.
    /// False where too many questions wait: then the waiter is told that the stores are down.
    pub(super) fn ask(&mut self, question: Question, waiter: Waiter) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&question) {
            waiting.push(waiter);
            return true;
        }
        if self.waiting.len() >= QUESTIONS_MAX {
            waiter.promise.keep(Err(StoresDown));
            return false;
        }
        let client = waiter.wanted.client;
        let algorithm = waiter.wanted.claim.password_algorithm;
        self.answers.push(self.put(question.clone(), client, algorithm));
        self.waiting.insert(question, vec![waiter]);
        true
    }

    fn put(
        &self,
        question: Question,
        client: IpAddr,
        password_algorithm: PasswordAlgorithm,
    ) -> LocalBoxFuture<'static, Heard> {
        let asked = self.changes;
        // Whoever does not answer at all is down as well.
        let answer: LocalBoxFuture<'static, Answer> = match question {
            Question::User(key) => {
                let (realm, user) = (key.realm.clone(), key.user.clone());
                let wanted = UserLookup { realm, user, password_algorithm, client };
                let asked = self.ask.user.send(LookUpUser(wanted));
                Box::pin(async { Answer::User(key, asked.await.unwrap_or(Err(StoresDown))) })
            }
            Question::Secrets(realm) => {
                let asked = self.ask.rest_secrets.send(ReadRestSecrets { realm: realm.clone() });
                Box::pin(async { Answer::Secrets(realm, asked.await.unwrap_or(Err(StoresDown))) })
            }
            Question::TokenKey(kid) => {
                let asked = self.ask.token_key.send(LookUpTokenKey { kid: kid.clone() });
                Box::pin(async { Answer::TokenKey(kid, asked.await.unwrap_or(Err(StoresDown))) })
            }
        };
        Box::pin(answer.map(move |answer| Heard { asked, answer }))
    }

    /// Remembers an answer: what it tells, and who has waited for it. What other stores than the
    /// present ones have said tells nothing, so that those who have waited for it ask again.
    pub(super) fn hear(&mut self, heard: Heard, clock: Clock) -> (Told, Vec<Waiter>) {
        let of_present = heard.asked == self.changes;
        let mut told = Told::default();
        let question = match heard.answer {
            Answer::User(key, answer) => {
                told.user = of_present.then(|| self.hear_user(&key, answer, clock));
                Question::User(key)
            }
            Answer::Secrets(realm, answer) => {
                told.secrets = of_present.then(|| self.hear_secrets(&realm, answer, clock.now));
                Question::Secrets(realm)
            }
            Answer::TokenKey(kid, answer) => {
                told.token_key = of_present.then(|| self.hear_token_key(&kid, answer, clock.now));
                Question::TokenKey(kid)
            }
        };
        let mut waiting = self.waiting.remove(&question).unwrap_or_default();
        if !of_present {
            waiting.iter_mut().for_each(|waiter| waiter.told = Told::default());
        }
        (told, waiting)
    }

    fn hear_user(
        &mut self,
        key: &UserKey,
        answer: Result<LookedUp, StoresDown>,
        clock: Clock,
    ) -> Result<Option<KnownUser>, StoresDown> {
        let Ok(LookedUp { user, store, for_this_client }) = answer else {
            let for_all = UserKey { asker: None, ..key.clone() };
            let known =
                [&for_all, key].into_iter().find_map(|key| stale(&mut self.users, key, clock.now));
            if known.is_some() {
                self.fresh.put(for_all, true, clock.now + ASK_AGAIN);
                self.fresh.put(key.clone(), true, clock.now + ASK_AGAIN);
            } else {
                self.untold.put(key.clone(), (), clock.now + ASK_AGAIN);
            }
            let known = known.map(|user| Some(KnownUser { stands_in: true, ..user }));
            return known.ok_or(StoresDown);
        };
        let asker = key.asker.filter(|_| for_this_client);
        let remembered = UserKey { asker, ..key.clone() };
        // A database that folds case may have found somebody else.
        let is_other = |name: &str| match &key.user {
            ClaimedUser::Named(named) => named != name && !for_this_client,
            ClaimedUser::Hashed(_) | ClaimedUser::Token { .. } => false,
        };
        let Some(user) = user.filter(|user| !is_other(&user.name)) else {
            self.users.remove(&remembered);
            let lifetime = self.lifetime.min(NOBODY_LIFETIME);
            self.nobodies.put(remembered, (), clock.now + lifetime);
            return Ok(None);
        };
        let (name, credential) = match &key.user {
            // Such a store may know the client's user by another name than the client says.
            ClaimedUser::Named(name) if for_this_client => {
                (name.as_str().into(), CredentialKind::Hook)
            }
            _ if for_this_client => (user.name.clone(), CredentialKind::Hook),
            _ => (user.name.clone(), CredentialKind::LongTerm),
        };
        let lifetime = user.keep.unwrap_or(self.lifetime).min(self.lifetime);
        let known = KnownUser::stored(&key.realm, name, (user, store), credential, clock);
        if lifetime.is_zero() {
            self.users.remove(&remembered);
        } else {
            self.fresh.put(remembered.clone(), false, clock.now + NOBODY_LIFETIME);
            self.users.confirm(remembered, known.clone(), clock.now, clock.now + lifetime);
        }
        Ok(Some(known))
    }

    fn hear_secrets(
        &mut self,
        realm: &Arc<str>,
        answer: Result<RestSecrets, StoresDown>,
        now: Instant,
    ) -> Result<Secrets, StoresDown> {
        let Ok(secrets) = answer else {
            return stale(&mut self.secrets, realm, now).ok_or(StoresDown);
        };
        let secrets = Arc::new(secrets);
        let (realm, known) = (realm.clone(), secrets.clone());
        if secrets.incomplete {
            // Some of them may be of before the outage, whose end the StoreActor knows.
            self.secrets.put(realm, known, now + self.lifetime.min(ASK_AGAIN));
        } else {
            let lifetime = self.lifetime.min(SECRETS_LIFETIME);
            self.secrets.confirm(realm, known, now, now + lifetime);
        }
        Ok(secrets)
    }

    fn hear_token_key(
        &mut self,
        kid: &str,
        answer: Result<Option<TokenKey>, StoresDown>,
        now: Instant,
    ) -> Result<Option<TokenKey>, StoresDown> {
        let Ok(key) = answer else {
            return stale(&mut self.token_keys, &kid.to_owned(), now).map(Some).ok_or(StoresDown);
        };
        match &key {
            Some(key) => {
                self.fresh_token_keys.put(kid.to_owned(), (), now + NOBODY_LIFETIME);
                self.token_keys.confirm(kid.to_owned(), key.clone(), now, now + self.lifetime);
            }
            None => {
                self.token_keys.remove(&kid.to_owned());
                let lifetime = self.lifetime.min(NOBODY_LIFETIME);
                self.no_token_keys.put(kid.to_owned(), (), now + lifetime);
            }
        }
        Ok(key)
    }
}

/// What was known before the store went down. It is good for a while without asking again.
fn stale<K, V>(cache: &mut Cache<K, V>, key: &K, now: Instant) -> Option<V>
where
    K: std::hash::Hash + Eq,
    V: Clone,
{
    let (Cached::Stale(value) | Cached::Good(value)) = cache.get(key, now) else { return None };
    cache.prolong(key, now + ASK_AGAIN);
    Some(value)
}

/// How long nobody is nobody, and an answer of before good enough to refuse somebody: who was just
/// made, or has another password, waits no longer than this.
const NOBODY_LIFETIME: Duration = Duration::from_secs(5);

/// Names that nobody has; the one that was asked for least recently is asked for again.
const NOBODIES_MAX: usize = 10_000;

/// How long the secrets of a realm are good: so long a fresh one may be refused.
const SECRETS_LIFETIME: Duration = Duration::from_secs(5);

/// How long an answer of old stands in for a store that is down, until the store is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Realms whose secrets are remembered.
const REALMS_MAX: usize = 4096;

/// Keys of access tokens that are remembered; clients name them, so that most may be made up.
const TOKEN_KEYS_MAX: usize = 1024;

/// Questions that wait at once; whoever has another one is told that the stores are down.
const QUESTIONS_MAX: usize = 16_384;
