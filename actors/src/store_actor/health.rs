//! A store, and how it is: one that does not answer is not asked by everybody again and again.

use std::any::Any;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use slog::{Logger, error, info};

use crate::clock;
use crate::credential_store::{CredentialStore, StoreError, StoredRealm};
use crate::policy::TokenKey;

use super::told::{OfStore, Told};

/// One of the stores.
pub(super) struct Store {
    store: Arc<dyn CredentialStore>,
    health: Health,
    label: Arc<str>,
    secrets: Told,
    token_keys: Told,
    log: Logger,
}

/// What the last answers of a store say of it.
#[derive(Default)]
struct Health {
    /// Answers in a row that were none.
    failures: Cell<u32>,
    /// When it may be tried again.
    rests_until: Cell<Option<Instant>>,
    /// Whether the log says that it is down.
    logged: Cell<bool>,
    /// When the log last said that it could not answer a question.
    fault_logged: Cell<Option<Instant>>,
    /// Until when a failure that does not last is not worth another line.
    quiet_until: Cell<Option<Instant>>,
}

/// The store could not be asked, or has not answered; the log knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

impl Store {
    /// These stores, with the health of those that are among `known`, and with what those have said
    /// that were at the same place.
    pub(super) fn all(
        stores: Vec<Arc<dyn CredentialStore>>,
        known: &[Store],
        log: &Logger,
    ) -> Rc<[Store]> {
        let with_health = |store: Arc<dyn CredentialStore>| {
            let same = known.iter().find(|known| Arc::ptr_eq(&known.store, &store));
            let health = Health::default();
            if let Some(same) = same {
                health.failures.set(same.health.failures.get());
                health.rests_until.set(same.health.rests_until.get());
                health.logged.set(same.health.logged.get());
                health.fault_logged.set(same.health.fault_logged.get());
                health.quiet_until.set(same.health.quiet_until.get());
            }
            let label: Arc<str> = store.label().into();
            let same = known.iter().find(|known| known.label == label);
            let secrets = same.map(|same| same.secrets.clone()).unwrap_or_default();
            let token_keys = same.map(|same| same.token_keys.clone()).unwrap_or_default();
            Store { store, health, label, secrets, token_keys, log: log.clone() }
        };
        stores.into_iter().map(with_health).collect()
    }

    pub(super) fn finds_hashed(&self) -> bool {
        self.store.finds_hashed()
    }

    pub(super) fn can_revalidate(&self) -> bool {
        self.store.can_revalidate()
    }

    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Asks for the secrets of a realm; while the store is down, they are those that it named last.
    pub(super) async fn rest_secrets(&self, realm: &Arc<str>) -> Result<OfStore, OfStore> {
        let asked = self.ask(|store| store.rest_secrets(realm.clone())).await;
        let Ok(mut secrets) = asked else { return Err(self.secrets.last(realm)) };
        // Anybody can sign with a secret that is none.
        secrets.retain(|secret| !secret.is_empty());
        self.secrets.hear(realm, &secrets, clock::now());
        Ok(OfStore { values: secrets, of_old: None })
    }

    /// The secrets of a realm that it named once, and has taken back.
    pub(super) fn dropped_secrets(&self, realm: &Arc<str>) -> Vec<Vec<u8>> {
        self.secrets.dropped(realm)
    }

    /// Asks for a key of access tokens.
    pub(super) async fn token_key(&self, kid: &Arc<str>) -> Result<Option<TokenKey>, Failed> {
        let key = self.ask(|store| store.token_key((**kid).to_owned())).await?;
        let said: Vec<_> = key.iter().map(|key| key.fingerprint().to_vec()).collect();
        self.token_keys.hear(kid, &said, clock::now());
        Ok(key)
    }

    /// The fingerprints of keys of access tokens as it named them last, and of those that it has
    /// taken back.
    pub(super) fn told_token_keys(&self, kid: &Arc<str>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        (self.token_keys.last(kid).values, self.token_keys.dropped(kid))
    }

    /// Asks the store, unless it rests.
    pub(super) async fn ask<T, Q>(&self, question: Q) -> Result<T, Failed>
    where
        Q: for<'a> FnOnce(&'a dyn CredentialStore) -> BoxFuture<'a, Result<T, StoreError>>,
    {
        self.ask_within(self.store.answers_within(), question).await
    }

    /// Asks for what it says of realms, which may take longer.
    pub(super) async fn realms(&self) -> Result<Vec<StoredRealm>, Failed> {
        self.ask_within(self.store.realms_within(), |store| store.realms()).await
    }

    async fn ask_within<T, Q>(&self, within: Duration, question: Q) -> Result<T, Failed>
    where
        Q: for<'a> FnOnce(&'a dyn CredentialStore) -> BoxFuture<'a, Result<T, StoreError>>,
    {
        if !self.may_be_asked(clock::now()) {
            return Err(Failed);
        }
        // A fault in a store is the store's failure, and not that of everybody who asks another.
        let asked = AssertUnwindSafe(async { question(&*self.store).await }).catch_unwind();
        let answer = match tokio::time::timeout(within, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => Err(StoreError::Answered(format!("panicked: {}", text_of(&*panic)))),
            Err(_) => Err(StoreError::Lost("has not answered".to_owned())),
        };
        match answer {
            Ok(answer) => {
                self.has_answered(clock::now());
                Ok(answer)
            }
            Err(StoreError::Lost(cause)) => {
                self.is_lost(&cause, clock::now());
                Err(Failed)
            }
            Err(StoreError::Answered(cause)) => {
                self.has_failed(&cause, clock::now());
                Err(Failed)
            }
        }
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        match self.health.rests_until.get() {
            None => true,
            Some(until) if now < until => false,
            // One tries whether it is back; the others go on as if it were not.
            Some(_) => {
                self.health.rests_until.set(Some(now + REST));
                true
            }
        }
    }

    fn has_answered(&self, now: Instant) {
        self.health.rests_until.set(None);
        self.health.failures.set(0);
        if self.health.logged.replace(false) {
            self.health.quiet_until.set(Some(now + QUIET));
            info!(self.log, "credential store answers again"; "store" => &*self.label);
        }
    }

    /// It is there, and cannot answer one question. Clients choose whom it is asked for, so that
    /// this is no reason to leave it alone, nor for a line each time.
    fn has_failed(&self, cause: &str, now: Instant) {
        self.has_answered(now);
        if self.health.fault_logged.get().is_none_or(|then| now - then >= QUIET) {
            self.health.fault_logged.set(Some(now));
            error!(self.log, "credential store cannot answer what it was asked";
                "store" => &*self.label, "cause" => cause);
        }
    }

    fn is_lost(&self, cause: &str, now: Instant) {
        let failures = self.health.failures.get().saturating_add(1);
        self.health.failures.set(failures);
        let lasts = failures >= RESTS_AFTER;
        let quiet = self.health.quiet_until.get().is_some_and(|until| now < until);
        if (lasts || !quiet) && !self.health.logged.replace(true) {
            error!(self.log, "credential store is down: users that are known already get in, \
                others are answered 500";
                "store" => &*self.label, "cause" => cause);
        }
        if lasts && !self.store.rests_by_itself() {
            self.health.rests_until.set(Some(now + REST));
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Failures in a row after which a store is left alone...
const RESTS_AFTER: u32 = 3;

/// ...for so long, and then tried by one.
const REST: Duration = Duration::from_secs(1);

/// How long after an outage one question that fails is not logged as another, and how long after a
/// line about a question that could not be answered there is no other: a store may fail for one
/// user alone, and clients choose whom it is asked for.
const QUIET: Duration = Duration::from_secs(10);
