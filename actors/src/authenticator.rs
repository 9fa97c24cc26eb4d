//! Authenticator: whose key proves a claim.
//!
//! - Owns: the keys of the static users, and a cache of what the stores have said.
//! - Started by: the server, once on each arbiter.
//! - Hears from: the SessionActors of its arbiter, the PolicyKeeper, the StoreActor.
//! - Stops when: the server does.
//! - If it panics: healed in place, keys derived anew; the cache and those who wait stay.

mod asking;
mod cache;
mod minted;
mod sources;

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use slog::{Logger, debug, info};
use smallvec::smallvec;
use sterna_proto::access_token;
use sterna_proto::account::{Account, CredentialKind};
use sterna_proto::credentials::{Key, PasswordAlgorithm, opaque_string};
use sterna_proto::guard::{Claim, ClaimedUser};
use sterna_proto::session::{FoundKeys, Otherwise, StoresDown};

use crate::clock;
use crate::later::{Later, later};
use crate::policy::{Realm, TokenKey};
use crate::store_actor::{LookUpTokenKey, LookUpUser, ReadRestSecrets, RestSecrets};
use crate::supervision::{self, Spent};
use crate::usage::OneLine;

use asking::{Asking, Heard, Question, Secrets, Told, UserKey, Waiter};
use minted::SignedToken;
use sources::{Clock, KnownUser};

pub(crate) use minted::{expiry_of, name_behind_expiry};
pub(crate) use sources::KnownRealm;

pub use minted::{time_limited_password, time_limited_password_sha256, token_password};
pub use sources::{CredentialSources, StoreTraits};

/// Find the keys under which a claim may be proved. Always answered: a user that does not exist has
/// a decoy for a key.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<FoundKeys, StoresDown>")]
pub struct FindKeys {
    /// Who a request says it comes from.
    pub claim: Claim,
    /// The client's address.
    pub client: IpAddr,
    /// Whether no key of the answer of before has proved the claim, so that a store is asked again
    /// unless it was a moment ago.
    pub afresh: bool,
}

/// Take credentials from these sources from now on. What is remembered of the stores is asked for
/// again, and stands in only while they are down; what other stores said is forgotten.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetSources(pub Arc<CredentialSources>);

/// Forget what the stores have said of these users of a realm, and of its secrets: it is not so any
/// more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Forget {
    /// The realm.
    pub realm: Arc<str>,
    /// The users.
    pub users: Vec<Arc<str>>,
}

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// Who is asked for what the configuration does not say: the StoreActor.
#[derive(Clone)]
pub struct AskStores {
    /// Knows users.
    pub user: Recipient<LookUpUser>,
    /// Knows the secrets of time-limited credentials.
    pub rest_secrets: Recipient<ReadRestSecrets>,
    /// Knows the keys of access tokens.
    pub token_key: Recipient<LookUpTokenKey>,
}

impl AskStores {
    /// Any actor that answers as the StoreActor does.
    pub fn of<A>(address: &Addr<A>) -> AskStores
    where
        A: Actor<Context = Context<A>>
            + Handler<LookUpUser>
            + Handler<ReadRestSecrets>
            + Handler<LookUpTokenKey>,
    {
        AskStores {
            user: address.clone().recipient(),
            rest_secrets: address.clone().recipient(),
            token_key: address.clone().recipient(),
        }
    }
}

/// See the head of this file.
pub struct Authenticator {
    sources: Arc<CredentialSources>,
    realms: HashMap<Arc<str>, Rc<KnownRealm>>,
    asking: Asking,
    /// Claims that could not be answered, since the log has told of some.
    unanswered: u64,
    told_unanswered: Option<Instant>,
    log: Logger,
}

impl Authenticator {
    /// Starts an authenticator over `sources`.
    pub fn start(
        sources: Arc<CredentialSources>,
        ask: AskStores,
        log: Logger,
        on_spent: impl FnOnce(Spent) + 'static,
    ) -> Addr<Authenticator> {
        let mut actor = Authenticator {
            asking: Asking::new(ask, &sources),
            sources,
            realms: HashMap::new(),
            unanswered: 0,
            told_unanswered: None,
            log: log.clone(),
        };
        actor.derive_keys();
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        supervision::heal(supervision::AUTHENTICATOR, log, context, actor, on_spent)
    }

    fn derive_keys(&mut self) {
        let known = |realm: &Realm| (realm.name.clone(), Rc::new(KnownRealm::new(realm.clone())));
        self.realms = self.sources.realms.iter().map(known).collect();
    }
}

impl Actor for Authenticator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(HearStores);
    }
}

impl Supervised for Authenticator {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.derive_keys();
        // `started` follows, which hears the stores again.
    }
}

impl Handler<FindKeys> for Authenticator {
    type Result = Later<Result<FoundKeys, StoresDown>>;

    fn handle(&mut self, wanted: FindKeys, _: &mut Context<Self>) -> Self::Result {
        let told = Told::default();
        match self.find(&wanted, &told) {
            Err(Missing::Answer(question)) => {
                let (promise, answer) = later();
                self.ask(question, Waiter { wanted, told, promise });
                answer
            }
            known => Later::at_once(self.answer(&wanted, &told, known)),
        }
    }
}

impl Handler<SetSources> for Authenticator {
    type Result = ();

    fn handle(&mut self, SetSources(sources): SetSources, _: &mut Context<Self>) {
        self.sources = sources;
        self.derive_keys();
        self.asking.set_terms(&self.sources, clock::now());
    }
}

impl Handler<Forget> for Authenticator {
    type Result = ();

    fn handle(&mut self, forget: Forget, _: &mut Context<Self>) {
        self.asking.forget(&forget);
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for Authenticator {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the Authenticator");
    }
}

/// Hears what the stores answer.
struct HearStores;

impl ActorFuture<Authenticator> for HearStores {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut Authenticator,
        _: &mut Context<Authenticator>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        // A question that is put later is put by a message, at whose wake this is polled again.
        while let Poll::Ready(Some(heard)) = actor.asking.answers.poll_next_unpin(task) {
            actor.hear(heard);
        }
        Poll::Pending
    }
}

/// Why a claim has no keys yet.
enum Missing {
    /// This has to be asked first.
    Answer(Question),
    /// It was asked, and could not be answered.
    Stores,
}

type Found = Result<Option<FoundKeys>, Missing>;

// What is asked of the stores, and what they say.
impl Authenticator {
    fn ask(&mut self, question: Question, waiter: Waiter) {
        if !self.asking.ask(question, waiter) {
            debug!(self.log, "too many questions wait for the credential stores");
        }
    }

    fn hear(&mut self, heard: Heard) {
        let now = Clock { now: clock::now(), unix: clock::unix_now() };
        let (told, waiting) = self.asking.hear(heard, now);
        for mut waiter in waiting {
            waiter.told.add(&told);
            match self.find(&waiter.wanted, &waiter.told) {
                Err(Missing::Answer(question)) => self.ask(question, waiter),
                known => {
                    let answer = self.answer(&waiter.wanted, &waiter.told, known);
                    waiter.promise.keep(answer);
                }
            }
        }
    }

    fn stored_user(
        &mut self,
        key: UserKey,
        afresh: bool,
        told: &Told,
    ) -> Result<Option<KnownUser>, Missing> {
        if !self.sources.stores.any {
            return Ok(None);
        }
        let known = match &told.user {
            Some(known) => known.clone(),
            None => {
                let cached = self.asking.cached_user(&key, afresh, clock::now());
                cached.ok_or_else(|| Missing::user(key))?
            }
        };
        known.map_err(|StoresDown| Missing::Stores)
    }

    fn stored_secrets(&mut self, realm: &Arc<str>, told: &Told) -> Result<Secrets, Missing> {
        if !self.sources.stores.any {
            return Ok(Secrets::default());
        }
        let known = match &told.secrets {
            Some(known) => known.clone(),
            None => {
                let cached = self.asking.cached_secrets(realm, clock::now());
                cached.ok_or_else(|| Missing::Answer(Question::Secrets(realm.clone())))?
            }
        };
        known.map_err(|StoresDown| Missing::Stores)
    }

    fn stored_token_key(
        &mut self,
        kid: &str,
        afresh: bool,
        told: &Told,
    ) -> Result<Option<TokenKey>, Missing> {
        if !self.sources.stores.any {
            return Ok(None);
        }
        let known = match &told.token_key {
            Some(known) => known.clone(),
            None => {
                let cached = self.asking.cached_token_key(kid, afresh, clock::now());
                cached.ok_or_else(|| Missing::Answer(Question::TokenKey(kid.to_owned())))?
            }
        };
        known.map_err(|StoresDown| Missing::Stores)
    }
}

impl Missing {
    fn user(key: UserKey) -> Missing {
        Missing::Answer(Question::User(key))
    }
}

// Whom a claim may come from.
impl Authenticator {
    fn find(&mut self, wanted: &FindKeys, told: &Told) -> Found {
        let claim = &wanted.claim;
        let Some(known) = self.realms.get(&claim.realm).cloned() else { return Ok(None) };
        let algorithm = claim.password_algorithm;
        if let ClaimedUser::Named(name) | ClaimedUser::Token { kid: name, .. } = &claim.user
            && opaque_string(name).is_err()
        {
            // Nobody is called so, and no store need be asked what it makes of it.
            return Ok(None);
        }
        let configured = match &claim.user {
            ClaimedUser::Token { kid, token } => return self.find_token(wanted, kid, token, told),
            ClaimedUser::Hashed(hash) => known.hashed(hash),
            ClaimedUser::Named(name) => known.named(name),
        };
        if let Some(user) = configured {
            let keys = keys_of(user, algorithm);
            // The stores have no say; but neither how long a refusal takes nor its code tells whom
            // they do not know.
            return match wanted.afresh.then(|| self.find_stored(wanted, told)) {
                Some(Err(Missing::Answer(question))) => Err(Missing::Answer(question)),
                Some(Err(Missing::Stores)) => {
                    keys.map(|keys| Some(standing_in(keys))).ok_or(Missing::Stores)
                }
                Some(Ok(_)) | None => Ok(keys),
            };
        }
        let ClaimedUser::Named(name) = &claim.user else {
            return self.find_stored(wanted, told);
        };
        if !known.realm.jwt_secrets.is_empty() {
            match SignedToken::read(name) {
                SignedToken::No => {}
                SignedToken::Unusable => return Ok(None),
                SignedToken::Of { subject, expires, not_before } => {
                    let keys = known.realm.signed_token_keys(name, algorithm);
                    return Ok(found_token(&known, name, &subject, (not_before, expires), keys));
                }
            }
        }
        match expiry_of(name) {
            Some(_) => self.find_time_limited(&known, name, wanted, told),
            None => self.find_stored(wanted, told),
        }
    }

    fn find_stored(&mut self, wanted: &FindKeys, told: &Told) -> Found {
        let claim = &wanted.claim;
        let asker = (wanted.client, claim.password_algorithm);
        let key = UserKey {
            realm: claim.realm.clone(),
            user: claim.user.clone(),
            asker: self.sources.stores.look_at_clients.then_some(asker),
        };
        let Some(user) = self.stored_user(key, wanted.afresh, told)? else { return Ok(None) };
        let keys = keys_of(&user, claim.password_algorithm);
        Ok(if user.stands_in { keys.map(standing_in) } else { keys })
    }

    /// The keys of a time-limited credential, two for each secret. Where there is no secret, the
    /// name is a user's like any other.
    fn find_time_limited(
        &mut self,
        known: &KnownRealm,
        name: &str,
        wanted: &FindKeys,
        told: &Told,
    ) -> Found {
        let claim = &wanted.claim;
        // Some users are called by a number; they have the number to themselves.
        let user = match name.contains(':') {
            true => None,
            false => Some(self.find_stored(wanted, told)),
        };
        match user {
            Some(Ok(None) | Err(Missing::Stores)) | None => {}
            Some(known) => return known,
        }
        let configured = &known.realm.rest_secrets;
        let stored = match self.stored_secrets(&claim.realm, told) {
            // Those of the configuration are as good as ever.
            Err(Missing::Stores) => RestSecrets { secrets: Vec::new(), incomplete: true }.into(),
            other => other?,
        };
        if configured.is_empty() && stored.secrets.is_empty() {
            return match user {
                _ if stored.incomplete => Err(Missing::Stores),
                Some(asked) => asked,
                None => self.find_stored(wanted, told),
            };
        }
        let secrets = configured.iter().chain(&stored.secrets);
        let keys = known.realm.time_limited_keys(secrets, name, claim.password_algorithm);
        let mut found = found_time_limited(known, name, keys);
        let user_unknown = matches!(user, Some(Err(Missing::Stores)));
        if let Some(found) = found.as_mut().filter(|_| stored.incomplete || user_unknown) {
            found.otherwise = Otherwise::StoresDown;
        }
        Ok(found)
    }

    /// The key inside an access token (RFC 7635 §6.2).
    fn find_token(&mut self, wanted: &FindKeys, kid: &str, token: &[u8], told: &Told) -> Found {
        let claim = &wanted.claim;
        let Some(oauth) = self.sources.oauth.clone() else { return Ok(None) };
        let of_name = |key: &&TokenKey| key.kid == kid;
        let mut keys: Vec<TokenKey> = oauth.keys.iter().filter(of_name).cloned().collect();
        if keys.is_empty() {
            keys.extend(self.stored_token_key(kid, wanted.afresh, told)?);
        }
        let clock = Clock { now: clock::now(), unix: clock::unix_now() };
        let default = self.sources.realms.first().map(|realm| realm.name.clone());
        for key in keys {
            if key.realm.as_ref().or(default.as_ref()) != Some(&claim.realm) {
                continue;
            }
            if key.valid.is_some_and(|(from, to)| !(from..to).contains(&clock.unix.as_secs())) {
                continue;
            }
            match access_token::open(token, &key.key, &oauth.server_name) {
                Ok(opened) => return Ok(found_by_token(claim, &key, opened, clock)),
                Err(fault) => {
                    debug!(self.log, "access token is not usable: {fault}"; "kid" => %OneLine(kid))
                }
            }
        }
        Ok(None)
    }
}

impl Authenticator {
    fn answer(
        &mut self,
        wanted: &FindKeys,
        told: &Told,
        found: Found,
    ) -> Result<FoundKeys, StoresDown> {
        match found {
            Ok(found) => {
                let mut found = found.unwrap_or_else(|| decoy(wanted.claim.password_algorithm));
                let is_final = wanted.afresh || told.is_any() || !self.sources.stores.any;
                if found.otherwise == Otherwise::Refuse && !is_final {
                    found.otherwise = Otherwise::AskAgain;
                }
                Ok(found)
            }
            Err(_) => {
                self.log_unanswered(clock::now());
                Err(StoresDown)
            }
        }
    }

    /// Strangers are answered so, so that there is not a line for each of them.
    fn log_unanswered(&mut self, now: Instant) {
        self.unanswered += 1;
        if self.told_unanswered.is_none_or(|then| now - then >= TELL_UNANSWERED_EVERY) {
            self.told_unanswered = Some(now);
            let claims = std::mem::take(&mut self.unanswered);
            info!(self.log, "answered 500: the credential stores are down"; "requests" => claims);
        }
    }
}

fn keys_of(user: &KnownUser, algorithm: PasswordAlgorithm) -> Option<FoundKeys> {
    let key = user.keys.get(algorithm)?.clone();
    Some(FoundKeys {
        account: Some(user.account.clone()),
        keys: smallvec![key],
        otherwise: Otherwise::Refuse,
    })
}

/// Keys that let in who has one of them, while nobody can be asked whether there is another.
fn standing_in(keys: FoundKeys) -> FoundKeys {
    FoundKeys { otherwise: Otherwise::StoresDown, ..keys }
}

fn found_time_limited(
    known: &KnownRealm,
    name: &str,
    keys: impl Iterator<Item = Key>,
) -> Option<FoundKeys> {
    let clock = Clock { now: clock::now(), unix: clock::unix_now() };
    let account = Account {
        quota_name: minted::name_behind_expiry(name).into(),
        credential: CredentialKind::TimeLimited,
        expires: Some(clock.instant_of(expiry_of(name)?)),
        ..Account::lasting(known.realm.name.clone(), name.into())
    };
    Some(FoundKeys {
        account: Some(Arc::new(account)),
        keys: keys.collect(),
        otherwise: Otherwise::Refuse,
    })
}

fn found_token(
    known: &KnownRealm,
    name: &str,
    subject: &str,
    (not_before, expires): (Option<Duration>, Duration),
    keys: impl Iterator<Item = Key>,
) -> Option<FoundKeys> {
    let clock = Clock { now: clock::now(), unix: clock::unix_now() };
    if not_before.is_some_and(|begins| clock.unix + CLOCKS_DIFFER < begins) {
        return None;
    }
    let account = Account {
        quota_name: subject.into(),
        credential: CredentialKind::SignedToken,
        expires: Some(clock.instant_of(expires)),
        ..Account::lasting(known.realm.name.clone(), name.into())
    };
    Some(FoundKeys {
        account: Some(Arc::new(account)),
        keys: keys.collect(),
        otherwise: Otherwise::Refuse,
    })
}

/// The user that an access token was made for is its key's name on the wire; what tells two of them
/// apart is the key that the token gives the client.
fn found_by_token(
    claim: &Claim,
    key: &TokenKey,
    token: access_token::AccessToken,
    clock: Clock,
) -> Option<FoundKeys> {
    // What RFC 7635 §4.1.1 asks: lifetime + delta > |now - timestamp|.
    if token.lifetime + CLOCKS_DIFFER <= clock.unix.abs_diff(token.issued) {
        return None;
    }
    let account = Account {
        quota_name: format!("{}/{}", key.kid, fingerprint(&token.mac_key)).into(),
        credential: CredentialKind::AccessToken,
        opened_by: Some(key.fingerprint()),
        expires: Some(clock.instant_of(token.ends())),
        ..Account::lasting(claim.realm.clone(), key.kid.as_str().into())
    };
    Some(FoundKeys {
        account: Some(Arc::new(account)),
        keys: smallvec![token.mac_key],
        otherwise: Otherwise::Refuse,
    })
}

/// What may be shown of a key: enough to tell it from others.
fn fingerprint(key: &Key) -> String {
    let hash = Sha256::digest(key.as_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A key that nobody has, for users that do not exist: refusing them takes as long as refusing a
/// wrong password.
fn decoy(algorithm: PasswordAlgorithm) -> FoundKeys {
    let bytes: [u8; 32] = rand::random();
    let key = bytes.get(..algorithm.key_len()).map(|bytes| Key::from_bytes(algorithm, bytes));
    FoundKeys {
        account: None,
        keys: key.into_iter().flatten().collect(),
        otherwise: Otherwise::Refuse,
    }
}

/// How far the clock of whoever makes tokens may be from ours (RFC 7635 §4.1.1: five seconds).
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

/// The least time between two lines of the log about claims that the stores could not answer.
const TELL_UNANSWERED_EVERY: Duration = Duration::from_secs(10);

/// Claims that wait at once; further sessions wait for room.
const MAILBOX: usize = 1024;
