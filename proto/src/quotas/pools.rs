//! The buckets that allocations share: a user's, a realm's, the server's.
//!
//! Allocations draw credit from them ahead of need and spend it where they are; nobody asks for a
//! packet. Credit that is held counts against the burst of each bucket it came from, so that all
//! allocations together never relay more than rate × time + burst of any bucket.
//!
//! Who asks while the buckets are more than half full is answered at once. Otherwise those who have
//! asked are answered together, once in a [`ROUND`]: what there is is shared equally among the
//! users who ask, what one user does not want among the others, and a user's share among its
//! allocations. So a user who wants little has it, however much another one asks for and over
//! however many allocations.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::bucket::TokenBucket;
use super::gate::PerDirection;
use super::{QuotaTerms, UserName};
use crate::account::Account;

/// What an allocation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What it holds.
    pub left: PerDirection<u64>,
    /// What it has held beside that and does not need.
    pub returned: PerDirection<u64>,
    /// What it wants in addition.
    pub wants: PerDirection<u64>,
    /// How many grants it has heard of: one that is on its way is not among what is left.
    pub heard: u64,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Bytes that it may relay in addition to what it holds.
    pub bytes: PerDirection<u64>,
    /// So much of what it holds stays good, for the first packet after a pause...
    pub keeps: PerDirection<u64>,
    /// ...while the rest is void from this moment on.
    pub void_at: Instant,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Pools {
    terms: QuotaTerms,
    buckets: Buckets,
    // Boxed: ids come in order, which leaves the nodes of the tree half empty.
    members: BTreeMap<u64, Box<Member>>,
    /// When credit is void, for each member that holds some.
    voids: BTreeSet<(Instant, u64)>,
    /// Users without allocations whose buckets are not full yet, by when they will be.
    resting: BTreeSet<(Instant, UserName)>,
    /// Who has asked, in the order of asking.
    waiting: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Buckets {
    server: Pool,
    realms: HashMap<Arc<str>, Pool>,
    users: HashMap<UserName, Pool>,
}

/// A bucket for each direction, where there is a limit, and how many share it.
#[derive(Debug, Default)]
struct Pool {
    buckets: Option<PerDirection<TokenBucket>>,
    members: u32,
    /// What members hold for good, in each direction.
    kept: u64,
    /// Whether its members do not all have the same limit, of which the strictest holds.
    mixed: bool,
    /// Its place among those that nobody shares.
    rests_until: Option<Instant>,
}

/// An allocation that shares buckets.
#[derive(Debug)]
struct Member {
    user: UserName,
    /// Limits of the user's own, which a bucket of a user needs again when terms change.
    account: Arc<Account>,
    held: PerDirection<u64>,
    keeps: u64,
    void_at: Instant,
    given: u64,
    wants: PerDirection<u64>,
    waits: bool,
}

impl Buckets {
    /// What a user's allocations share.
    fn of(&mut self, user: &UserName) -> Option<[&mut Pool; 3]> {
        let realm = self.realms.get_mut(&user.realm)?;
        Some([&mut self.server, realm, self.users.get_mut(user)?])
    }

    /// The same, made where it is missing.
    fn make(&mut self, user: &UserName) -> [&mut Pool; 3] {
        let realm = self.realms.entry(user.realm.clone()).or_default();
        [&mut self.server, realm, self.users.entry(user.clone()).or_default()]
    }
}

impl Pool {
    fn rate(&self) -> Option<u64> {
        self.buckets.as_ref().map(|[bucket, _]| bucket.rate())
    }

    /// A limit that is new to members who are there gives them no burst.
    fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        let is_shared = self.members > 0;
        match (&mut self.buckets, rate) {
            (Some(buckets), Some(rate)) => {
                buckets.iter_mut().for_each(|bucket| bucket.set_rate(rate, now));
            }
            (buckets, rate) => {
                *buckets = rate.map(|rate| {
                    let mut bucket = TokenBucket::new(rate, now);
                    if is_shared {
                        bucket.take(bucket.burst());
                    }
                    [bucket.clone(), bucket]
                });
            }
        }
    }

    fn available(&mut self, n: usize, now: Instant) -> u64 {
        let Some(buckets) = &mut self.buckets else { return u64::MAX };
        buckets[n].fill(now);
        buckets[n].available()
    }

    /// What can be lent without falling below half of the burst.
    fn plenty(&mut self, n: usize, now: Instant) -> u64 {
        let available = self.available(n, now);
        match &self.buckets {
            Some(buckets) => available.saturating_sub(buckets[n].burst() / 2),
            None => u64::MAX,
        }
    }

    fn time_until_full(&mut self, now: Instant) -> Duration {
        let Some(buckets) = &mut self.buckets else { return Duration::ZERO };
        let waits = buckets.iter_mut().map(|bucket| {
            bucket.fill(now);
            bucket.time_until(bucket.burst())
        });
        waits.max().unwrap_or_default()
    }

    /// Does something to the bucket of each direction.
    fn each(&mut self, bytes: PerDirection<u64>, with: impl Fn(&mut TokenBucket, u64)) {
        for (bucket, bytes) in self.buckets.iter_mut().flatten().zip(bytes) {
            with(bucket, bytes);
        }
    }

    /// Whether one more member can hold a packet's worth for good: half of the burst at most is
    /// held so.
    fn can_keep(&self) -> bool {
        match &self.buckets {
            Some(buckets) => self.kept + QUANTUM <= buckets[0].burst() / 2,
            None => true,
        }
    }
}

impl Pools {
    /// The buckets of these limits, full.
    pub fn new(terms: QuotaTerms, now: Instant) -> Pools {
        let mut buckets = Buckets::default();
        buckets.server.set_rate(terms.server.bandwidth, now);
        Pools {
            terms,
            buckets,
            members: BTreeMap::new(),
            voids: BTreeSet::new(),
            resting: BTreeSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether this allocation shares a limit with others.
    pub fn limit(&self, id: u64) -> bool {
        let Some(member) = self.members.get(&id) else { return false };
        let realm = self.buckets.realms.get(&member.user.realm);
        let user = self.buckets.users.get(&member.user);
        let mut pools = [Some(&self.buckets.server), realm, user].into_iter().flatten();
        pools.any(|pool| pool.buckets.is_some())
    }

    /// An allocation begins. What is known of its user's own limits is as the account says; where
    /// those of its other allocations say something else, the strictest word holds. True if its
    /// user's allocations had nothing to share so far.
    pub fn join(&mut self, id: u64, user: UserName, account: Arc<Account>, now: Instant) -> bool {
        let of_realm = self.terms.realm(&user.realm).bandwidth;
        let of_user = self.terms.bandwidth_of(&account);
        let [server, realm, of_this] = self.buckets.make(&user);
        if realm.members == 0 {
            realm.set_rate(of_realm, now);
        }
        if let Some(full) = of_this.rests_until.take() {
            self.resting.remove(&(full, user.clone()));
        }
        let is_first = of_this.members == 0;
        let is_first_limit = of_this.buckets.is_none() && of_user.is_some() && !is_first;
        of_this.mixed = !is_first && (of_this.mixed || of_this.rate() != of_user);
        let rate = if is_first { of_user } else { strictest(of_this.rate(), of_user) };
        of_this.set_rate(rate, now);
        let pools = [server, realm, of_this];
        let keeps = if pools.iter().all(|pool| pool.can_keep()) { QUANTUM } else { 0 };
        for pool in pools {
            pool.members += 1;
            pool.kept += keeps;
        }
        let member = Member {
            user,
            account,
            held: [0; 2],
            keeps,
            void_at: now,
            given: 0,
            wants: [0; 2],
            waits: false,
        };
        self.members.insert(id, Box::new(member));
        if is_first_limit {
            self.recount();
        }
        is_first_limit
    }

    /// An allocation has ended, with so much credit left.
    pub fn leave(&mut self, id: u64, left: PerDirection<u64>, now: Instant) {
        self.void(now);
        let Some(member) = self.members.remove(&id) else { return };
        self.voids.remove(&(member.void_at, id));
        if member.waits {
            self.waiting.retain(|&waiting| waiting != id);
        }
        let mut back = left;
        let mut spent = member.held;
        for ((back, spent), held) in back.iter_mut().zip(&mut spent).zip(member.held) {
            *back = (*back).min(held);
            *spent = held - *back;
        }
        for pool in self.buckets.make(&member.user) {
            pool.each(back, TokenBucket::return_lent);
            pool.each(spent, TokenBucket::spend_lent);
            pool.members = pool.members.saturating_sub(1);
            pool.kept = pool.kept.saturating_sub(member.keeps);
        }
        self.relax(&member.user, now);
        self.rest(member.user, now);
    }

    /// Lets the strictest limit of those who are left hold.
    fn relax(&mut self, user: &UserName, now: Instant) {
        let Some(pool) = self.buckets.users.get_mut(user) else { return };
        if !pool.mixed || pool.members == 0 {
            return;
        }
        let left = self.members.values().filter(|member| member.user == *user);
        let mut limits = left.map(|member| self.terms.bandwidth_of(&member.account));
        let first = limits.next().flatten();
        let (mut rate, mut mixed) = (first, false);
        for limit in limits {
            (rate, mixed) = (strictest(rate, limit), mixed || limit != first);
        }
        pool.mixed = mixed;
        pool.set_rate(rate, now);
    }

    /// Lets a bucket go that nobody shares any more: when it is full again, so that nobody gains by
    /// coming anew. That of a realm stays for as long as there is a limit.
    fn rest(&mut self, user: UserName, now: Instant) {
        let users = &mut self.buckets.users;
        let Some(pool) = users.get_mut(&user).filter(|pool| pool.members == 0) else { return };
        match pool.time_until_full(now) {
            Duration::ZERO => _ = users.remove(&user),
            // One that takes for ever is full long before this.
            wait => {
                let full = now + wait.min(RESTS_AT_MOST);
                pool.rests_until = Some(full);
                self.resting.insert((full, user.clone()));
            }
        }
        let unused = |pool: &Pool| pool.members == 0 && pool.buckets.is_none();
        if self.buckets.realms.get(&user.realm).is_some_and(unused) {
            self.buckets.realms.remove(&user.realm);
        }
        while let Some((_, user)) = self.resting.first().filter(|(full, _)| *full <= now).cloned() {
            self.forget_first(&user);
        }
        if self.resting.len() > RESTING_MAX
            && let Some((_, user)) = self.resting.first().cloned()
        {
            self.forget_first(&user);
        }
    }

    fn forget_first(&mut self, user: &UserName) {
        self.resting.pop_first();
        let users = &mut self.buckets.users;
        if users.get(user).is_some_and(|pool| pool.members == 0) {
            users.remove(user);
            if users.capacity() > KEEP_ROOM && users.capacity() / 4 > users.len() {
                users.shrink_to(2 * users.len());
            }
        }
    }

    /// Changes the limits from `now` on, for those who are there too.
    pub fn set_terms(&mut self, terms: QuotaTerms, now: Instant) {
        self.terms = terms;
        let buckets = &mut self.buckets;
        buckets.server.set_rate(self.terms.server.bandwidth, now);
        for (name, pool) in &mut buckets.realms {
            pool.set_rate(self.terms.realm(name).bandwidth, now);
        }
        let mut limits: HashMap<&UserName, (Option<u64>, bool)> = HashMap::new();
        for member in self.members.values() {
            let limit = self.terms.bandwidth_of(&member.account);
            let (rate, mixed) = limits.entry(&member.user).or_insert((limit, false));
            *mixed |= *rate != limit;
            *rate = strictest(*rate, limit);
        }
        for (user, (rate, mixed)) in limits {
            if let Some(pool) = buckets.users.get_mut(user) {
                pool.mixed = mixed;
                pool.set_rate(rate, now);
            }
        }
        self.recount();
    }

    /// The limits.
    pub fn terms(&self) -> &QuotaTerms {
        &self.terms
    }

    /// Mends what a panic may have left half-way: those who do not live go, and what follows from
    /// the others is counted anew.
    pub fn heal(&mut self, lives: impl Fn(u64) -> bool, now: Instant) {
        self.members.retain(|&id, _| lives(id));
        let Buckets { server, realms, users } = &mut self.buckets;
        for pool in realms.values_mut().chain(users.values_mut()).chain([server]) {
            (pool.members, pool.kept) = (0, 0);
        }
        for member in self.members.values() {
            for pool in self.buckets.make(&member.user) {
                pool.members += 1;
                pool.kept += member.keeps;
            }
        }
        let terms = self.terms.clone();
        self.set_terms(terms, now);
        let idle = self.buckets.users.iter().filter(|(_, pool)| pool.members == 0);
        let idle: Vec<UserName> = idle.map(|(user, _)| user.clone()).collect();
        self.resting.clear();
        idle.into_iter().for_each(|user| self.rest(user, now));
    }

    /// Counts anew what is lent, from what the members hold, and who waits.
    fn recount(&mut self) {
        let Pools { buckets, members, voids, waiting, .. } = self;
        let Buckets { server, realms, users } = buckets;
        let every = realms.values_mut().chain(users.values_mut()).chain([server]);
        every.for_each(|pool| pool.each([0; 2], TokenBucket::set_lent));
        voids.clear();
        for (&id, member) in members.iter() {
            for pool in buckets.make(&member.user) {
                pool.each(member.held, TokenBucket::add_lent);
            }
            voids.insert((member.void_at, id));
        }
        waiting.clear();
        waiting.extend(members.iter().filter(|(_, member)| member.waits).map(|(&id, _)| id));
    }

    /// An allocation asks. Its grant, or `None` if it has to wait for
    /// [`Pools::share_out`].
    pub fn ask(&mut self, id: u64, ask: Ask, now: Instant) -> Option<Grant> {
        self.void(now);
        self.settle(id, &ask, now)?;
        let member = self.members.get_mut(&id)?;
        member.wants = ask.wants;
        let mut pools = self.buckets.of(&member.user)?;
        let mut plenty = true;
        for (n, wants) in ask.wants.into_iter().enumerate() {
            let has = |pool: &mut &mut Pool| wants == 0 || pool.plenty(n, now) >= wants;
            plenty &= pools.iter_mut().all(has);
        }
        if plenty {
            for pool in pools {
                pool.each(ask.wants, |bucket, bytes| _ = bucket.lend(bytes));
            }
            for (held, more) in member.held.iter_mut().zip(ask.wants) {
                *held = held.saturating_add(more);
            }
            return self.note_grant(id, ask.wants, now);
        }
        if !std::mem::replace(&mut member.waits, true) {
            self.waiting.push_back(id);
        }
        None
    }

    /// Whether somebody waits for [`Pools::share_out`].
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Shares what there is among those who wait. Whoever gets nothing goes on waiting, in front of
    /// those who ask later.
    pub fn share_out(&mut self, now: Instant) -> Vec<(u64, Grant)> {
        self.void(now);
        let count = self.waiting.len().min(AT_ONE_ROUND);
        let turn: Vec<u64> = self.waiting.drain(..count).collect();
        let mut given = vec![[0; 2]; turn.len()];
        for n in 0..2 {
            for _ in 0..PASSES {
                if !self.share_once(n, &turn, &mut given, now) {
                    break;
                }
            }
        }
        let mut grants = Vec::new();
        for (id, bytes) in turn.into_iter().zip(given) {
            if bytes == [0; 2] {
                self.waiting.push_back(id);
            } else if let Some(grant) = self.note_grant(id, bytes, now) {
                grants.push((id, grant));
            }
        }
        grants
    }

    /// One turn of everybody who waits for bytes of a direction; whether anybody got some.
    fn share_once(
        &mut self,
        n: usize,
        turn: &[u64],
        given: &mut [PerDirection<u64>],
        now: Instant,
    ) -> bool {
        let (mut budgets, of_users) = self.budgets(n, turn, now);
        let mut any = false;
        for ((&id, given), user) in turn.iter().zip(given).zip(of_users) {
            if let Some(budget) = user.and_then(|user| budgets.get_mut(user)) {
                let bytes = self.share_with(id, n, budget, now);
                given[n] += bytes;
                any |= bytes > 0;
            }
        }
        any
    }

    /// What each user may get in this turn; and for each who waits, the place of its user among
    /// them.
    fn budgets(
        &mut self,
        n: usize,
        turn: &[u64],
        now: Instant,
    ) -> (Vec<Budget>, Vec<Option<usize>>) {
        let Pools { buckets, members, .. } = self;
        let mut places: HashMap<&UserName, usize> = HashMap::new();
        let mut users_of: HashMap<&str, u64> = HashMap::new();
        let (mut counts, mut of_users) = (Vec::new(), Vec::new());
        for id in turn {
            let member = members.get(id).filter(|member| member.wants[n] > 0);
            of_users.push(member.map(|member| {
                let place = *places.entry(&member.user).or_insert(counts.len());
                if place == counts.len() {
                    *users_of.entry(&*member.user.realm).or_default() += 1;
                    counts.push((&member.user, 0));
                }
                counts[place].1 += 1;
                place
            }));
        }
        let of_server = share(buckets.server.available(n, now), counts.len() as u64);
        let budget = |(user, waiting): (&UserName, u64)| {
            let bytes = buckets.of(user).map_or(0, |[_, realm, own]| {
                let users = users_of.get(&*user.realm).copied().unwrap_or(1);
                of_server.min(share(realm.available(n, now), users)).min(own.available(n, now))
            });
            Budget { bytes, waiting }
        };
        (counts.into_iter().map(budget).collect(), of_users)
    }

    /// Gives one allocation its share of what its user may get.
    fn share_with(&mut self, id: u64, n: usize, budget: &mut Budget, now: Instant) -> u64 {
        let Some(member) = self.members.get_mut(&id) else { return 0 };
        let Some(mut pools) = self.buckets.of(&member.user) else { return 0 };
        let room = pools.iter_mut().map(|pool| pool.available(n, now)).min().unwrap_or(0);
        let wants = member.wants[n].min(share(budget.bytes, budget.waiting));
        budget.waiting = budget.waiting.saturating_sub(1);
        // Less than a packet helps nobody; it waits until there is more.
        if room < wants.min(QUANTUM) {
            return 0;
        }
        let bytes = wants.min(room);
        let mut lent = [0; 2];
        lent[n] = bytes;
        for pool in pools {
            pool.each(lent, |bucket, bytes| _ = bucket.lend(bytes));
        }
        member.held[n] = member.held[n].saturating_add(bytes);
        member.wants[n] -= bytes;
        budget.bytes = budget.bytes.saturating_sub(bytes);
        bytes
    }

    fn note_grant(&mut self, id: u64, bytes: PerDirection<u64>, now: Instant) -> Option<Grant> {
        let member = self.members.get_mut(&id)?;
        self.voids.remove(&(member.void_at, id));
        member.void_at = now + CREDIT_LIFETIME;
        self.voids.insert((member.void_at, id));
        member.wants = [0; 2];
        member.waits = false;
        member.given += 1;
        Some(Grant { bytes, keeps: [member.keeps; 2], void_at: member.void_at })
    }

    /// Takes note of what has been spent of what was held, and takes back what is returned. `None`
    /// while a grant may be on its way: whoever does not get it asks again.
    fn settle(&mut self, id: u64, ask: &Ask, now: Instant) -> Option<()> {
        let member = self.members.get_mut(&id)?;
        if member.given != ask.heard {
            if now < member.void_at {
                return None;
            }
            // It has got lost with a panic, and would be void by now.
            member.given = ask.heard;
        }
        let (mut back, mut spent) = (ask.returned, ask.left);
        for (n, held) in member.held.iter_mut().enumerate() {
            back[n] = back[n].min(*held);
            let left = ask.left[n].min(*held - back[n]);
            spent[n] = *held - back[n] - left;
            *held = left;
        }
        for pool in self.buckets.of(&member.user)? {
            pool.each(back, TokenBucket::return_lent);
            pool.each(spent, TokenBucket::spend_lent);
        }
        Some(())
    }

    /// Credit that is void does not come back: whether it was spent is not known.
    fn void(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.voids.first().filter(|(at, _)| *at <= now) {
            self.voids.remove(&(at, id));
            let Some(member) = self.members.get_mut(&id) else { continue };
            let void = member.held.map(|held| held.saturating_sub(member.keeps));
            member.held = member.held.map(|held| held.min(member.keeps));
            for pool in self.buckets.of(&member.user).into_iter().flatten() {
                pool.each(void, TokenBucket::spend_lent);
            }
        }
    }
}

/// What a user may get in one turn, and how many of its allocations wait for it.
struct Budget {
    bytes: u64,
    waiting: u64,
}

/// The lower one; `None` is no limit.
fn strictest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// An equal share of so much for so many; at least a packet's worth, in turn.
fn share(available: u64, among: u64) -> u64 {
    (available / among.max(1)).max(QUANTUM).min(available)
}

/// How long credit is good that is not asked for again.
pub const CREDIT_LIFETIME: Duration = Duration::from_secs(1);

/// How often those who wait are answered.
pub const ROUND: Duration = Duration::from_millis(20);

/// A packet's worth: less is not given, and not asked for.
pub const QUANTUM: u64 = 2048;

/// How long a bucket is remembered that nobody shares.
const RESTS_AT_MOST: Duration = Duration::from_secs(600);

/// Buckets that are remembered so; beyond them the one that is full first is forgotten.
const RESTING_MAX: usize = 65_536;

/// Room for this many users stays, however few there are.
const KEEP_ROOM: usize = 1024;

/// Of those who wait, so many have their turn in one round; the others have it in the next.
const AT_ONE_ROUND: usize = 1024;

/// Turns within a round, in which what some do not want is given to others.
const PASSES: usize = 8;

#[cfg(test)]
mod tests;
