//! PolicyKeeper: who may relay what, and everybody who has to know.
//!
//! - Owns: the policy, and what the stores say of realms.
//! - Started by: the server, once.
//! - Hears from: the server (another policy), the StoreActor (the realms of the stores).
//! - Stops when: the server does.
//! - If it panics: healed in place; the policy stays, and everybody is told of it once more.

mod terms;

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, info, warn};

use crate::authenticator::SetSources;
use crate::listener::SetTerms;
use crate::policy::Policy;
use crate::quota_keeper::SetQuotas;
use crate::store_actor::{RealmsRead, SetStores};
use crate::supervision::{self, Spent};

pub use terms::{Merged, ServerTerms};

/// Let this policy hold from now on.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetPolicy(pub Policy);

/// Tell these of the policy from now on.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Introduce(pub PolicyNeighbours);

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// Who is told of the policy.
#[derive(Clone, Default)]
pub struct PolicyNeighbours {
    /// The listeners, each with the realm of its own, if it has one.
    pub listeners: Vec<(Option<Arc<str>>, Recipient<SetTerms>)>,
    /// The Authenticators.
    pub authenticators: Vec<Recipient<SetSources>>,
    /// The StoreActor.
    pub stores: Option<Recipient<SetStores>>,
    /// The QuotaKeeper.
    pub quotas: Option<Recipient<SetQuotas>>,
}

/// See the head of this file.
pub struct PolicyKeeper {
    terms: ServerTerms,
    policy: Policy,
    stored: RealmsRead,
    neighbours: PolicyNeighbours,
    log: Logger,
}

impl PolicyKeeper {
    /// Starts the actor of a server that was started with `terms`, `policy`, and what its stores
    /// had told of realms by then.
    pub fn start(
        terms: ServerTerms,
        policy: Policy,
        stored: RealmsRead,
        log: Logger,
        on_spent: impl FnOnce(Spent) + 'static,
    ) -> Addr<PolicyKeeper> {
        let actor = PolicyKeeper {
            terms,
            policy,
            stored,
            neighbours: PolicyNeighbours::default(),
            log: log.clone(),
        };
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        supervision::heal(supervision::POLICY_KEEPER, log, context, actor, on_spent)
    }

    /// Tells everybody. Who was let in by another policy is asked for its credential by the
    /// StoreActor, and for its peers by its allocation.
    fn tell(&self) {
        let merged = Merged::of(&self.policy, &self.stored);
        let sources = Arc::new(self.terms.sources(&merged));
        // First, so that whoever knows of other stores asks those.
        if let Some(stores) = &self.neighbours.stores {
            let sources = sources.clone();
            stores.do_send(SetStores { stores: self.policy.stores.clone(), sources });
        }
        for authenticator in &self.neighbours.authenticators {
            authenticator.do_send(SetSources(sources.clone()));
        }
        if let Some(quotas) = &self.neighbours.quotas {
            quotas.do_send(SetQuotas(merged.quotas()));
        }
        let allocation = Arc::new(self.terms.allocation(&merged));
        let mut by_realm = HashMap::new();
        for (realm, listener) in &self.neighbours.listeners {
            let index = merged.default_of(realm.as_ref()).unwrap_or_else(|| {
                warn!(self.log, "the realm of a listener is gone: it goes on with the first one";
                    "realm" => realm.as_deref());
                0
            });
            let session = by_realm
                .entry(index)
                .or_insert_with(|| Arc::new(self.terms.session(&merged, index)))
                .clone();
            listener.do_send(SetTerms { session, allocation: allocation.clone() });
        }
    }
}

impl Actor for PolicyKeeper {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.tell();
    }
}

impl Supervised for PolicyKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // `started` follows, which tells everybody: some may not have been told before the panic.
    }
}

impl Handler<Introduce> for PolicyKeeper {
    type Result = ();

    fn handle(&mut self, Introduce(neighbours): Introduce, _: &mut Context<Self>) {
        self.neighbours = neighbours;
        self.tell();
    }
}

impl Handler<SetPolicy> for PolicyKeeper {
    type Result = ();

    fn handle(&mut self, SetPolicy(policy): SetPolicy, _: &mut Context<Self>) {
        self.policy = policy;
        self.tell();
        info!(self.log, "another policy holds"; "realms" => self.policy.realms.len(),
            "stores" => self.policy.stores.len());
    }
}

impl Handler<RealmsRead> for PolicyKeeper {
    type Result = ();

    fn handle(&mut self, read: RealmsRead, _: &mut Context<Self>) {
        if read == self.stored {
            return;
        }
        self.stored = read;
        self.tell();
        info!(self.log, "realms of the stores have changed";
            "realms" => self.stored.realms.len());
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for PolicyKeeper {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the PolicyKeeper");
    }
}

/// Policies that wait to be told of.
const MAILBOX: usize = 16;
