//! StoreActor: asks the credential stores, and nobody else does.
//!
//! - Owns: the stores, in their order, what is known of their health, and the secrets they named.
//! - Started by: the server, once.
//! - Hears from: Authenticators (users, secrets, keys), the PolicyKeeper (which stores there are).
//! - Stops when: the server does.
//! - If it panics: healed in place; the stores stay, and who waits for them is answered.

mod health;
mod look_ups;
mod realms;
mod revocation;
mod told;

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use slog::{Logger, debug, error, info, warn};
use sterna_proto::session::StoresDown;
use tokio::time::{Interval, MissedTickBehavior};

use crate::authenticator::{CredentialSources, Forget};
use crate::clock;
use crate::credential_store::{CredentialStore, StoredRealm, StoredUser, UserLookup};
use crate::later::{Later, Promise, later};
use crate::policy::TokenKey;
use crate::quota_keeper::{ListOwners, RevokeLeases};
use crate::supervision::{self, Spent};

use health::Store;
use realms::KnownRealms;
use revocation::{Check, Checked, Configured};

/// Look up a user. The first store that knows it is believed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<LookedUp, StoresDown>")]
pub struct LookUpUser(pub UserLookup);

/// What the stores know of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedUp {
    /// The user, or `None` if no store has such a one.
    pub user: Option<StoredUser>,
    /// The store that knows it, by its label.
    pub store: Option<Arc<str>>,
    /// Whether this holds for the client that asked and for no other.
    pub for_this_client: bool,
}

/// Read the secrets of a realm's time-limited credentials, those of all stores.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<RestSecrets, StoresDown>")]
pub struct ReadRestSecrets {
    /// The realm.
    pub realm: Arc<str>,
}

/// The secrets of a realm's time-limited credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RestSecrets {
    /// Those of the stores that are there, and what the others named last, unless it is too long
    /// ago.
    pub secrets: Vec<Vec<u8>>,
    /// Whether a store could not be asked, which may have others.
    pub incomplete: bool,
}

/// Look up the key that access tokens are encrypted with.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Option<TokenKey>, StoresDown>")]
pub struct LookUpTokenKey {
    /// Its name.
    pub kid: String,
}

/// Ask these stores from now on.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetStores {
    /// The stores, in the order in which they are asked.
    pub stores: Vec<Arc<dyn CredentialStore>>,
    /// What the configuration says of users and secrets: allocations live on these as well.
    pub sources: Arc<CredentialSources>,
}

/// Talk to these from now on. Until then nobody's credentials are looked at again.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Introduce(pub StoreNeighbours);

/// Whom the StoreActor tells what has changed in the stores.
#[derive(Clone)]
pub struct StoreNeighbours {
    /// Knows whose allocations there are.
    pub list_owners: Recipient<ListOwners>,
    /// Ends those whose credential is gone.
    pub revoke: Recipient<RevokeLeases>,
    /// Remember users.
    pub authenticators: Vec<Recipient<Forget>>,
    /// Wants to know the realms.
    pub realms: Recipient<RealmsRead>,
}

/// The realms of the stores are these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct RealmsRead {
    /// What the stores say of realms, in the order of the stores.
    pub realms: Vec<StoredRealm>,
    /// The realms for which a store has secrets of time-limited credentials.
    pub with_secrets: BTreeSet<Arc<str>>,
    /// The labels of the stores that have told theirs, be it of old. Of the others it is not known
    /// what they limit and refuse.
    pub told: BTreeSet<String>,
}

/// Read what the stores say of realms. Answered when each of them has told it, or could not.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "RealmsRead")]
pub struct ReadRealms;

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// See the head of this file.
pub struct StoreActor {
    stores: Rc<[Store]>,
    sources: Arc<CredentialSources>,
    /// What the configuration has said, and says no more.
    configured: Rc<Configured>,
    neighbours: Option<StoreNeighbours>,
    /// Questions that are being answered.
    asked: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    /// Questions that wait for one of these to end.
    waiting: VecDeque<LocalBoxFuture<'static, ()>>,
    check: Option<LocalBoxFuture<'static, Checked>>,
    checked: Checked,
    /// Checks that are due although nothing can change in the stores.
    checks_due: u32,
    reading: Option<LocalBoxFuture<'static, KnownRealms>>,
    /// Who waits for it.
    readers: Vec<Promise<RealmsRead>>,
    realms: KnownRealms,
    /// Stores that have not told their realms, as the log has it.
    untold: BTreeSet<String>,
    ticks: u32,
    overload_logged: Option<Instant>,
    log: Logger,
}

impl StoreActor {
    /// Starts the actor, which knows no stores yet.
    pub fn start(log: Logger, on_spent: impl FnOnce(Spent) + 'static) -> Addr<StoreActor> {
        let no_realm = crate::policy::Realm::of_users("", Vec::new());
        let actor = StoreActor {
            stores: Rc::new([]),
            sources: Arc::new(CredentialSources::of_realm(no_realm)),
            configured: Rc::default(),
            neighbours: None,
            asked: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            check: None,
            checked: Checked::default(),
            checks_due: 0,
            reading: None,
            readers: Vec::new(),
            realms: KnownRealms::default(),
            untold: BTreeSet::new(),
            ticks: 0,
            overload_logged: None,
            log: log.clone(),
        };
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        supervision::heal(supervision::STORE_ACTOR, log, context, actor, on_spent)
    }

    /// Answers by what `ask` comes to, when it is its turn.
    fn answer<T, F>(&mut self, ask: F) -> Later<Result<T, StoresDown>>
    where
        T: 'static,
        F: Future<Output = Result<T, StoresDown>> + 'static,
    {
        if self.waiting.len() >= WAITING_MAX {
            self.log_overload(clock::now());
            return Later::at_once(Err(StoresDown));
        }
        let (promise, answer) = later();
        self.waiting.push_back(keep(promise, ask).boxed_local());
        answer
    }

    fn log_overload(&mut self, now: Instant) {
        if self.overload_logged.is_none_or(|then| now - then >= LOG_OVERLOAD_EVERY) {
            self.overload_logged = Some(now);
            warn!(self.log, "too many questions wait for the credential stores");
        }
    }

    fn look_again(&mut self) {
        // While some are not known nobody is let in.
        let after = if self.untold.is_empty() { READ_REALMS_AFTER } else { READ_UNTOLD_AFTER };
        let realms_due = self.ticks.is_multiple_of(after);
        self.ticks = self.ticks.wrapping_add(1);
        if realms_due && self.reading.is_none() && self.neighbours.is_some() {
            self.read_realms();
        }
        let can_change = self.stores.iter().any(Store::can_revalidate) || self.checks_due > 0;
        if can_change && self.check.is_none() {
            self.checks_due = self.checks_due.saturating_sub(1);
            self.check_owners();
        }
    }

    fn read_realms(&mut self) {
        let configured = self.sources.realms.iter().map(|realm| realm.name.clone()).collect();
        let read = realms::read(self.stores.clone(), configured, self.realms.clone());
        self.reading = Some(read.boxed_local());
    }

    fn check_owners(&mut self) {
        let Some(neighbours) = self.neighbours.clone() else { return };
        let check = Check {
            stores: self.stores.clone(),
            sources: self.sources.clone(),
            configured: self.configured.clone(),
            neighbours,
            before: std::mem::take(&mut self.checked),
            log: self.log.clone(),
        };
        self.check = Some(check.run().boxed_local());
    }

    fn realms_read(&mut self, known: KnownRealms) {
        let before = std::mem::replace(&mut self.realms, known);
        let read = self.realms.told();
        self.log_untold();
        self.readers.drain(..).for_each(|reader| reader.keep(read.clone()));
        if let Some(neighbours) = self.neighbours.as_ref().filter(|_| read != before.told()) {
            neighbours.realms.do_send(read);
        }
    }

    fn log_untold(&mut self) {
        let untold = self.realms.untold();
        for store in untold.difference(&self.untold) {
            error!(self.log, "no allocations before a store has told its realms: their limits and \
                peers are not known, and Allocate is answered 500"; "store" => store);
        }
        if untold.is_empty() && !self.untold.is_empty() {
            info!(self.log, "all stores have told their realms: allocations are granted");
        }
        self.untold = untold;
    }
}

/// Keeps a promise by what `ask` comes to.
async fn keep<T>(
    promise: Promise<Result<T, StoresDown>>,
    ask: impl Future<Output = Result<T, StoresDown>>,
) {
    promise.keep(ask.await);
}

impl Actor for StoreActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let first = clock::now() + LOOK_AGAIN_EVERY;
        let mut looks = tokio::time::interval_at(first.into(), LOOK_AGAIN_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ctx.spawn(Work { looks });
    }
}

impl Supervised for StoreActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // What was being done may have stopped half-way; it is begun again.
        (self.check, self.reading) = (None, None);
        // `started` follows, which works and looks again.
    }
}

/// Does what the stores are asked, within a bound, and hears what came of it.
struct Work {
    /// When it is time to look again. What is to be done then is polled right behind it.
    looks: Interval,
}

impl ActorFuture<StoreActor> for Work {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut StoreActor,
        _: &mut Context<StoreActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        while self.looks.poll_tick(task).is_ready() {
            actor.look_again();
        }
        loop {
            while actor.asked.len() < ASKED_MAX
                && let Some(question) = actor.waiting.pop_front()
            {
                actor.asked.push(question);
            }
            match actor.asked.poll_next_unpin(task) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Some(Poll::Ready(checked)) = actor.check.as_mut().map(|check| check.poll_unpin(task))
        {
            // Whether they have ended is seen by looking once more.
            actor.checks_due = actor.checks_due.max(u32::from(checked.has_revoked()));
            (actor.check, actor.checked) = (None, checked);
        }
        if let Some(Poll::Ready(known)) = actor.reading.as_mut().map(|read| read.poll_unpin(task)) {
            actor.reading = None;
            actor.realms_read(known);
        }
        Poll::Pending
    }
}

impl Handler<LookUpUser> for StoreActor {
    type Result = Later<Result<LookedUp, StoresDown>>;

    fn handle(&mut self, LookUpUser(wanted): LookUpUser, _: &mut Context<Self>) -> Self::Result {
        self.answer(look_ups::user(self.stores.clone(), wanted))
    }
}

impl Handler<ReadRestSecrets> for StoreActor {
    type Result = Later<Result<RestSecrets, StoresDown>>;

    fn handle(&mut self, read: ReadRestSecrets, _: &mut Context<Self>) -> Self::Result {
        let (stores, outage) = (self.stores.clone(), self.sources.cache.outage);
        self.answer(async move {
            let read = look_ups::rest_secrets(&stores, &read.realm).await;
            Ok(read.within(outage, clock::now()))
        })
    }
}

impl Handler<LookUpTokenKey> for StoreActor {
    type Result = Later<Result<Option<TokenKey>, StoresDown>>;

    fn handle(&mut self, wanted: LookUpTokenKey, _: &mut Context<Self>) -> Self::Result {
        self.answer(look_ups::token_key(self.stores.clone(), wanted.kid.into()))
    }
}

impl Handler<SetStores> for StoreActor {
    type Result = ();

    fn handle(&mut self, set: SetStores, _: &mut Context<Self>) {
        self.stores = Store::all(set.stores, &self.stores, &self.log);
        self.sources = set.sources;
        self.configured.hear(&self.sources, clock::now());
        self.checks_due = CHECKS_AFTER_A_CHANGE;
        // A look that has begun goes by what does not hold any more.
        self.check = None;
        if self.neighbours.is_some() {
            self.read_realms();
            self.check_owners();
        }
        debug!(self.log, "credential stores set"; "stores" => self.stores.len());
    }
}

impl Handler<ReadRealms> for StoreActor {
    type Result = Later<RealmsRead>;

    fn handle(&mut self, _: ReadRealms, _: &mut Context<Self>) -> Self::Result {
        let (promise, answer) = later();
        self.readers.push(promise);
        if self.reading.is_none() {
            self.read_realms();
        }
        answer
    }
}

impl Handler<Introduce> for StoreActor {
    type Result = ();

    fn handle(&mut self, Introduce(neighbours): Introduce, _: &mut Context<Self>) {
        // What was read before there was anybody to tell.
        let read = self.realms.told();
        if read != RealmsRead::default() {
            neighbours.realms.do_send(read);
        }
        self.neighbours = Some(neighbours);
        self.read_realms();
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for StoreActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the StoreActor");
    }
}

/// Messages that wait; an Authenticator that finds no room waits for it.
const MAILBOX: usize = 1024;

/// Questions that the stores work on at once: more than their connections, so that none idles.
const ASKED_MAX: usize = 64;

/// Questions that wait for that; whoever asks another one is told that the stores are down.
const WAITING_MAX: usize = 16_384;

/// The least time between two lines of the log that say so.
const LOG_OVERLOAD_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whose credentials are gone: with the time that it takes, a session ends
/// within a second of them.
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(500);

/// Every how many looks the realms are read: every five seconds.
const READ_REALMS_AFTER: u32 = 10;

/// The same where a store has not told its realms yet: every second.
const READ_UNTOLD_AFTER: u32 = 2;

/// Looks after a change of the configuration, for who was let in by what stood there before and has
/// its allocation only a moment later.
const CHECKS_AFTER_A_CHANGE: u32 = 10;
