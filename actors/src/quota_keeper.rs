//! QuotaKeeper: how many allocations there are, and whose they are.
//!
//! - Owns: a lease for each allocation, counted by realm, user and source; the buckets of bytes per
//!   second that allocations share.
//! - Started by: the server, once.
//! - Hears from: SessionActors (a lease before a port), AllocationActors (credit), dropped leases,
//!   who sets limits, who lists or ends sessions.
//! - Stops when: the server does.
//! - If it panics: healed in place; the leases stay.

mod lease;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use actix::WeakRecipient;
use actix::prelude::*;
use slog::{Logger, info};
use sterna_proto::account::Account;
use sterna_proto::quotas::{
    Ask, GateTerms, Grant, Holder, PerDirection, Pools, QuotaExceeded, QuotaTerms, Quotas, ROUND,
    UserName,
};
use sterna_proto::session::Owner;

use crate::allocation::{EndReason, GrantCredit, SetBandwidth};
use crate::clock;
use crate::listener::EndClient;
use crate::session::SessionId;
use crate::supervision::{self, Spent};
use crate::usage::OneLine;

use lease::Keeper;

pub use lease::QuotaLease;

/// Lease a place for an allocation. The lease ends when it is dropped.
#[derive(Clone, Message)]
#[rtype(result = "Result<QuotaLease, QuotaExceeded>")]
pub struct LeaseQuota {
    /// The session that allocates.
    pub session: SessionId,
    /// For whom.
    pub owner: Owner,
    /// The client's address.
    pub client: SocketAddr,
    /// Ends the session and its allocation, when somebody decides so.
    pub end: Recipient<EndClient>,
}

/// Replace the limits. Lower ones end nobody: they refuse new allocations, and slow down those that
/// there are.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SetQuotas(pub QuotaTerms);

/// A lease has ended: sent by its Drop.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LeaseEnded {
    lease: LeaseId,
    /// Credit that was not used.
    left: PerDirection<u64>,
    /// Packets dropped since they were told of last.
    dropped: u64,
}

/// An allocation lives on this lease: whom to tell of limits and of credit.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AttachAllocation {
    lease: LeaseId,
    set_bandwidth: WeakRecipient<SetBandwidth>,
    grant_credit: WeakRecipient<GrantCredit>,
}

/// An allocation asks for credit. Answered by [`GrantCredit`], at once or when there is some.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AskCredit {
    lease: LeaseId,
    ask: Ask,
    /// Packets dropped since they were told of last.
    dropped: u64,
}

/// Tell whose allocations there are, for somebody who looks whether their credentials still hold.
#[derive(Debug, Message)]
#[rtype(result = "Vec<OwnerInUse>")]
pub struct ListOwners;

/// The owner of one or more allocations.
#[derive(Clone, Debug)]
pub struct OwnerInUse {
    /// Who it is, with which key.
    pub owner: Owner,
    /// Its allocations that were made with this key.
    pub leases: Vec<LeaseId>,
}

/// Names a lease; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// End the allocations of these leases, and their sessions: their credentials have been taken away.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RevokeLeases(pub Vec<LeaseId>);

/// Tell which sessions have an allocation.
#[derive(Debug, Message)]
#[rtype(result = "Vec<SessionSummary>")]
pub struct ListSessions;

/// A session with an allocation, for `sterna session list`.
#[derive(Clone, Debug)]
pub struct SessionSummary {
    /// Its name in logs.
    pub session: SessionId,
    /// Whose it is.
    pub account: Arc<Account>,
    /// The client's address.
    pub client: SocketAddr,
    /// How long it has had its allocation.
    pub age: std::time::Duration,
}

/// End a session and its allocation. True if there is such a one.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "bool")]
pub struct EndOneSession(pub SessionId);

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// See the head of this file.
pub struct QuotaKeeper {
    /// The truth about who has what; the counts follow from it. Ids are given once, so that nothing
    /// can be given back twice, and in order of age.
    // Boxed: ids come in order, which leaves the nodes of the tree half empty.
    leases: BTreeMap<LeaseId, Box<Leased>>,
    /// The way back that all leases share, while there are any.
    way_back: Weak<Keeper>,
    quotas: Quotas,
    pools: Pools,
    /// Packets of users with allocations that were dropped for bandwidth.
    dropped: HashMap<UserName, u64>,
    leased: u64,
    round_armed: bool,
    log: Logger,
}

/// An allocation that is there, or is being made.
struct Leased {
    session: SessionId,
    owner: Owner,
    client: SocketAddr,
    holder: Holder,
    since: Instant,
    end: WeakRecipient<EndClient>,
    /// What limits its bytes, as it has been told.
    told: GateTerms,
    allocation: Option<AttachAllocation>,
}

impl QuotaKeeper {
    /// Starts a keeper of these limits that knows of no allocation yet.
    pub fn start(
        terms: QuotaTerms,
        log: Logger,
        on_spent: impl FnOnce(Spent) + 'static,
    ) -> Addr<QuotaKeeper> {
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        let actor = QuotaKeeper {
            leases: BTreeMap::new(),
            way_back: Weak::new(),
            quotas: Quotas::default(),
            pools: Pools::new(terms, clock::now()),
            dropped: HashMap::new(),
            leased: 0,
            round_armed: false,
            log: log.clone(),
        };
        supervision::heal(supervision::QUOTA_KEEPER, log, context, actor, on_spent)
    }
}

impl Actor for QuotaKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.arm_round(ctx);
    }
}

impl Supervised for QuotaKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // Leases are written whole. What is counted may have been half-way, so it is counted anew.
        self.quotas = Quotas::default();
        for leased in self.leases.values() {
            self.quotas.add(&leased.holder);
        }
        let leases = &self.leases;
        self.pools.heal(|id| leases.contains_key(&LeaseId(id)), clock::now());
        let quotas = &self.quotas;
        self.dropped.retain(|user, _| quotas.allocations_of(user) > 0);
        // The context that waited for it is gone; `started` follows.
        self.round_armed = false;
    }
}

impl Handler<LeaseQuota> for QuotaKeeper {
    type Result = Result<QuotaLease, QuotaExceeded>;

    fn handle(&mut self, wanted: LeaseQuota, ctx: &mut Context<Self>) -> Self::Result {
        let LeaseQuota { session, owner, client, end } = wanted;
        let holder = Holder::new(&owner.account, client.ip());
        let taken = self.quotas.take(self.pools.terms(), &owner.account, &holder);
        if let Err(limit) = taken {
            self.log_refusal(limit, session, &owner.account, client);
            return Err(limit);
        }
        self.leased += 1;
        let id = LeaseId(self.leased);
        let (now, user) = (clock::now(), holder.user().clone());
        if self.pools.join(id.0, user.clone(), owner.account.clone(), now) {
            self.tell_terms_of(&user);
        }
        let told = self.gate_terms(id, &owner.account);
        // Made before its entry: what happens in between is undone by its Drop.
        let way_back = self.way_back.upgrade().unwrap_or_else(|| {
            let way_back = Arc::new(Keeper::of(&ctx.address()));
            self.way_back = Arc::downgrade(&way_back);
            way_back
        });
        let lease = QuotaLease::new(id, told, way_back);
        let (allocation, end) = (None, end.downgrade());
        let leased = Leased { session, owner, client, holder, since: now, end, told, allocation };
        self.leases.insert(id, Box::new(leased));
        Ok(lease)
    }
}

impl Handler<AttachAllocation> for QuotaKeeper {
    type Result = ();

    fn handle(&mut self, attached: AttachAllocation, _: &mut Context<Self>) {
        let id = attached.lease;
        if let Some(leased) = self.leases.get_mut(&id) {
            leased.allocation = Some(attached);
            self.tell_terms(id);
        }
    }
}

impl Handler<AskCredit> for QuotaKeeper {
    type Result = ();

    fn handle(&mut self, asked: AskCredit, ctx: &mut Context<Self>) {
        let Some(leased) = self.leases.get(&asked.lease) else { return };
        let user = leased.holder.user().clone();
        self.count_dropped(user, asked.dropped);
        match self.pools.ask(asked.lease.0, asked.ask, clock::now()) {
            Some(grant) => self.give(asked.lease, grant),
            None => self.arm_round(ctx),
        }
    }
}

impl Handler<LeaseEnded> for QuotaKeeper {
    type Result = ();

    fn handle(&mut self, ended: LeaseEnded, _: &mut Context<Self>) {
        self.pools.leave(ended.lease.0, ended.left, clock::now());
        let Some(leased) = self.leases.remove(&ended.lease) else { return };
        self.quotas.give_back(&leased.holder);
        let user = leased.holder.user().clone();
        self.count_dropped(user, ended.dropped);
        self.log_dropped(leased.holder.user(), &leased.owner.account);
    }
}

impl Handler<SetQuotas> for QuotaKeeper {
    type Result = ();

    fn handle(&mut self, SetQuotas(terms): SetQuotas, _: &mut Context<Self>) {
        self.pools.set_terms(terms, clock::now());
        let leases: Vec<LeaseId> = self.leases.keys().copied().collect();
        leases.into_iter().for_each(|id| self.tell_terms(id));
    }
}

impl Handler<ListOwners> for QuotaKeeper {
    type Result = Vec<OwnerInUse>;

    fn handle(&mut self, _: ListOwners, _: &mut Context<Self>) -> Vec<OwnerInUse> {
        let mut owners: Vec<OwnerInUse> = Vec::new();
        let mut places: HashMap<(&str, &str, &[u8]), usize> = HashMap::new();
        for (&id, leased) in &self.leases {
            let owner = &leased.owner;
            let Owner { account, key, .. } = owner;
            let name = (&*account.realm, &*account.username, key.as_bytes());
            let place = *places.entry(name).or_insert(owners.len());
            match owners.get_mut(place) {
                Some(known) => known.leases.push(id),
                None => owners.push(OwnerInUse { owner: owner.clone(), leases: vec![id] }),
            }
        }
        owners
    }
}

impl Handler<RevokeLeases> for QuotaKeeper {
    type Result = ();

    fn handle(&mut self, RevokeLeases(leases): RevokeLeases, _: &mut Context<Self>) {
        for id in leases {
            if let Some(leased) = self.leases.get(&id) {
                leased.ends(EndReason::Revoked);
            }
        }
    }
}

impl Handler<ListSessions> for QuotaKeeper {
    type Result = Vec<SessionSummary>;

    fn handle(&mut self, _: ListSessions, _: &mut Context<Self>) -> Vec<SessionSummary> {
        let now = clock::now();
        let summary = |leased: &Leased| SessionSummary {
            session: leased.session,
            account: leased.owner.account.clone(),
            client: leased.client,
            age: now.saturating_duration_since(leased.since),
        };
        self.leases.values().map(|leased| summary(leased)).collect()
    }
}

impl Handler<EndOneSession> for QuotaKeeper {
    type Result = bool;

    fn handle(&mut self, EndOneSession(session): EndOneSession, _: &mut Context<Self>) -> bool {
        let mut found = false;
        for leased in self.leases.values().filter(|leased| leased.session == session) {
            leased.ends(EndReason::EndedByOperator);
            found = true;
        }
        found
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for QuotaKeeper {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the QuotaKeeper");
    }
}

impl QuotaKeeper {
    fn gate_terms(&self, id: LeaseId, account: &Account) -> GateTerms {
        let rate = self.pools.terms().bandwidth_of_allocation(account);
        GateTerms { rate, pooled: self.pools.limit(id.0) }
    }

    /// Tells an allocation what limits it, where that is something else than it was.
    fn tell_terms(&mut self, id: LeaseId) {
        let Some(account) = self.leases.get(&id).map(|leased| leased.owner.account.clone()) else {
            return;
        };
        let terms = self.gate_terms(id, &account);
        let Some(leased) = self.leases.get_mut(&id).filter(|leased| leased.told != terms) else {
            return;
        };
        if let Some(allocation) = &leased.allocation {
            leased.told = terms;
            if let Some(allocation) = allocation.set_bandwidth.upgrade() {
                allocation.do_send(SetBandwidth(terms));
            }
        }
    }

    /// The same for all of a user's.
    fn tell_terms_of(&mut self, user: &UserName) {
        let of_user = self.leases.iter().filter(|(_, leased)| leased.holder.user() == user);
        let leases: Vec<LeaseId> = of_user.map(|(&id, _)| id).collect();
        leases.into_iter().for_each(|id| self.tell_terms(id));
    }

    fn give(&self, id: LeaseId, grant: Grant) {
        let allocation = self.leases.get(&id).and_then(|leased| leased.allocation.as_ref());
        if let Some(allocation) = allocation.and_then(|known| known.grant_credit.upgrade()) {
            allocation.do_send(GrantCredit(grant));
        }
    }

    /// Answers those together who have to wait.
    fn arm_round(&mut self, ctx: &mut Context<Self>) {
        if self.round_armed || !self.pools.is_awaited() {
            return;
        }
        self.round_armed = true;
        ctx.run_later(ROUND, |actor, ctx| {
            actor.round_armed = false;
            for (id, grant) in actor.pools.share_out(clock::now()) {
                actor.give(LeaseId(id), grant);
            }
            actor.arm_round(ctx);
        });
    }

    fn count_dropped(&mut self, user: UserName, packets: u64) {
        if packets > 0 {
            *self.dropped.entry(user).or_default() += packets;
        }
    }

    /// Sums up what a user has lost, when its last allocation has ended.
    fn log_dropped(&mut self, user: &UserName, account: &Account) {
        if self.quotas.allocations_of(user) > 0 {
            return;
        }
        if let Some(packets) = self.dropped.remove(user) {
            info!(self.log, "packets of a user dropped for bandwidth";
                "realm" => %OneLine(&account.realm), "username" => %OneLine(&account.quota_name),
                "bandwidth_exceeded" => packets);
        }
    }

    fn log_refusal(
        &self,
        limit: QuotaExceeded,
        session: SessionId,
        account: &Account,
        client: SocketAddr,
    ) {
        info!(self.log, "allocation quota reached"; "limit" => limit.name(),
            "realm" => %OneLine(&account.realm), "username" => %OneLine(&account.username),
            "client" => %client, "session" => %session);
    }
}

impl Leased {
    /// Ends its session and allocation; the lease comes back with them.
    fn ends(&self, reason: EndReason) {
        // With its listener gone the session is gone too.
        if let Some(end) = self.end.upgrade() {
            end.do_send(EndClient { session: self.session, reason });
        }
    }
}

/// Leases asked for at once; a session waits for room in the mailbox, its client retransmits.
const MAILBOX: usize = 1024;
