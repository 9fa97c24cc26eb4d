//! What one allocation may relay: by a bucket of its own, and by credit from those that it shares.

use std::time::{Duration, Instant};

use super::bucket::{DATAGRAM_MAX, TokenBucket};
use super::pools::{Ask, CREDIT_LIFETIME, Grant, QUANTUM, ROUND};

/// Which way data goes. Each is limited by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to its peers.
    ToPeers,
    /// From the peers to the client.
    ToClient,
}

impl Direction {
    /// Both, in the order of [`PerDirection`].
    pub const BOTH: [Direction; 2] = [Direction::ToPeers, Direction::ToClient];

    const fn index(self) -> usize {
        match self {
            Direction::ToPeers => 0,
            Direction::ToClient => 1,
        }
    }
}

/// One of each, in the order of [`Direction::BOTH`].
pub type PerDirection<T> = [T; 2];

/// What limits an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateTerms {
    /// Bytes per second, in each direction, of this allocation.
    pub rate: Option<u64>,
    /// Whether it shares a limit with others: the user's, the realm's or the server's.
    pub pooled: bool,
}

/// See the head of this file. What counts are the bytes of application data, without any header.
#[derive(Debug)]
pub struct Gate {
    own: Option<PerDirection<TokenBucket>>,
    credit: Option<Credit>,
}

/// What the holder of the shared buckets has handed out.
#[derive(Debug)]
struct Credit {
    bytes: PerDirection<u64>,
    /// So much of it stays good for as long as it is not used.
    keeps: PerDirection<u64>,
    void_at: Instant,
    /// What was to be relayed since `measured`.
    offered: PerDirection<u64>,
    /// The largest packet among that.
    largest: PerDirection<u64>,
    measured: Instant,
    /// What a quarter of a second seems to need.
    target: PerDirection<u64>,
    asked: Option<Instant>,
    heard: u64,
}

impl Gate {
    /// A gate under these terms, or none where nothing limits the allocation.
    pub fn new(terms: GateTerms, now: Instant) -> Option<Gate> {
        let mut gate = Gate { own: None, credit: None };
        gate.set_terms(terms, now);
        gate.limits().then_some(gate)
    }

    /// Changes the terms from `now` on. Credit that is held stays.
    pub fn set_terms(&mut self, terms: GateTerms, now: Instant) {
        match (&mut self.own, terms.rate) {
            (Some(buckets), Some(rate)) => {
                buckets.iter_mut().for_each(|bucket| bucket.set_rate(rate, now));
            }
            (own, rate) => {
                *own = rate.map(|rate| [TokenBucket::new(rate, now), TokenBucket::new(rate, now)]);
            }
        }
        match (&self.credit, terms.pooled) {
            (Some(_), true) => {}
            (_, pooled) => self.credit = pooled.then(|| Credit::none(now)),
        }
    }

    /// Whether anything is limited.
    pub fn limits(&self) -> bool {
        self.own.is_some() || self.credit.is_some()
    }

    /// Whether so many bytes may be relayed at `now`; they count if so.
    pub fn pass(&mut self, direction: Direction, bytes: u64, now: Instant) -> bool {
        if self.room(direction, now) < bytes {
            // What its own limit refuses is not asked of the shared ones.
            if self.own_room(direction, now) >= bytes {
                self.offer_packet(direction, bytes);
            }
            return false;
        }
        self.offer_packet(direction, bytes);
        self.take(direction, bytes);
        true
    }

    /// Takes up to `most` bytes for a stream, which can wait.
    ///
    /// # Errors
    /// How long to wait before the next try.
    pub fn draw(&mut self, direction: Direction, most: u64, now: Instant) -> Result<u64, Duration> {
        let least = most.min(QUANTUM);
        let own = self.own_room(direction, now);
        if own < least {
            let bucket = self.own.as_ref().map(|own| &own[direction.index()]);
            return Err(bucket.map_or(ROUND, |bucket| bucket.time_until(least)).max(ROUND / 4));
        }
        self.offer(direction, most.min(own));
        let room = self.room(direction, now);
        if room < least {
            return Err(ROUND);
        }
        let taken = room.min(most);
        self.take(direction, taken);
        Ok(taken)
    }

    /// Takes back what was drawn and not used. Of credit nothing comes back: that it is spent may
    /// have been told already.
    pub fn put_back(&mut self, direction: Direction, bytes: u64) {
        if let Some(own) = &mut self.own {
            own[direction.index()].put_back(bytes);
        }
    }

    /// What to ask of the holder of the shared buckets, if it is time to. Asked ahead, so that what
    /// is relayed steadily does not run dry.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        let credit = self.credit.as_mut()?;
        credit.void(now);
        credit.is_due(now).then(|| credit.ask(now))
    }

    /// Takes what was asked for.
    pub fn grant(&mut self, grant: Grant, now: Instant) {
        let Some(credit) = &mut self.credit else { return };
        credit.void(now);
        for (held, more) in credit.bytes.iter_mut().zip(grant.bytes) {
            *held = held.saturating_add(more);
        }
        credit.keeps = grant.keeps;
        credit.void_at = grant.void_at;
        credit.asked = None;
        credit.heard += 1;
    }

    /// The credit that is left, for its return.
    pub fn left(&mut self, now: Instant) -> PerDirection<u64> {
        let Some(credit) = &mut self.credit else { return [0; 2] };
        credit.void(now);
        credit.bytes
    }

    fn own_room(&mut self, direction: Direction, now: Instant) -> u64 {
        let Some(own) = &mut self.own else { return u64::MAX };
        let bucket = &mut own[direction.index()];
        bucket.fill(now);
        bucket.available()
    }

    fn room(&mut self, direction: Direction, now: Instant) -> u64 {
        let own = self.own_room(direction, now);
        let Some(credit) = &mut self.credit else { return own };
        credit.void(now);
        own.min(credit.bytes[direction.index()])
    }

    fn offer(&mut self, direction: Direction, bytes: u64) {
        if let Some(credit) = &mut self.credit {
            let offered = &mut credit.offered[direction.index()];
            *offered = offered.saturating_add(bytes);
        }
    }

    /// A packet passes whole or not at all, so that what is asked for has to be enough for it.
    fn offer_packet(&mut self, direction: Direction, bytes: u64) {
        self.offer(direction, bytes);
        if let Some(credit) = &mut self.credit {
            let largest = &mut credit.largest[direction.index()];
            *largest = (*largest).max(bytes.min(DATAGRAM_MAX));
        }
    }

    fn take(&mut self, direction: Direction, bytes: u64) {
        if let Some(own) = &mut self.own {
            own[direction.index()].take(bytes);
        }
        if let Some(credit) = &mut self.credit {
            credit.bytes[direction.index()] -= bytes;
        }
    }
}

impl Credit {
    fn none(now: Instant) -> Credit {
        Credit {
            bytes: [0; 2],
            keeps: [0; 2],
            void_at: now,
            offered: [0; 2],
            largest: [0; 2],
            measured: now,
            target: [QUANTUM; 2],
            asked: None,
            heard: 0,
        }
    }

    fn void(&mut self, now: Instant) {
        if now >= self.void_at {
            for (held, keeps) in self.bytes.iter_mut().zip(self.keeps) {
                *held = (*held).min(keeps);
            }
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        // What was asked may have been lost with a panic of who was asked.
        if self.asked.is_some_and(|asked| now < asked + CREDIT_LIFETIME) {
            return false;
        }
        let ages = self.void_at.saturating_duration_since(now) < CREDIT_LIFETIME / 2;
        let runs_low =
            |n: usize| self.bytes[n] < self.target[n] / 2 || self.bytes[n] < self.largest[n];
        let never_asked = self.heard == 0;
        never_asked || (0..2).any(|n| self.offered[n] > 0 && (ages || runs_low(n)))
    }

    fn ask(&mut self, now: Instant) -> Ask {
        let elapsed = now.saturating_duration_since(self.measured).max(Duration::from_millis(1));
        let (mut wants, mut returned) = ([0; 2], [0; 2]);
        for n in 0..2 {
            let needed = u128::from(self.offered[n]) * AHEAD.as_nanos() / elapsed.as_nanos();
            // Twice what it was at most: a single burst says little.
            let most = self.target[n].saturating_mul(2).min(CHUNK_MAX);
            let needed = u64::try_from(needed).unwrap_or(u64::MAX);
            self.target[n] = needed.clamp(QUANTUM, most.max(QUANTUM)).max(self.largest[n]);
            let surplus = self.bytes[n].saturating_sub(self.target[n]);
            if surplus > self.target[n] {
                returned[n] = surplus;
                self.bytes[n] -= surplus;
            }
            wants[n] = self.target[n].saturating_sub(self.bytes[n]);
        }
        (self.offered, self.largest) = ([0; 2], [0; 2]);
        (self.measured, self.asked) = (now, Some(now));
        Ask { left: self.bytes, returned, wants, heard: self.heard }
    }
}

/// What is asked for is meant to last so long.
const AHEAD: Duration = Duration::from_millis(250);

/// More than this is not asked for at once.
const CHUNK_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    const POOLED: GateTerms = GateTerms { rate: None, pooled: true };

    fn at(millis: u64) -> Instant {
        epoch() + Duration::from_millis(millis)
    }

    fn grant(bytes: u64, keeps: u64, void_at: Instant) -> Grant {
        Grant { bytes: [bytes; 2], keeps: [keeps; 2], void_at }
    }

    #[test]
    fn without_limits_there_is_no_gate() {
        assert!(Gate::new(GateTerms::default(), epoch()).is_none());
    }

    #[test]
    fn its_own_limit_holds_for_each_direction() {
        let terms = GateTerms { rate: Some(100_000), pooled: false };
        let mut gate = Gate::new(terms, epoch()).expect("there is a limit");

        for direction in Direction::BOTH {
            let passed = (0..200).filter(|_| gate.pass(direction, 1000, epoch())).count();
            assert_eq!(100, passed, "{direction:?}");
        }
        assert!(gate.pass(Direction::ToPeers, 1000, at(10)));
        assert!(!gate.pass(Direction::ToPeers, 1000, at(10)));
        assert_eq!(None, gate.poll_ask(at(10)), "nobody else is asked");
    }

    #[test]
    fn without_credit_nothing_passes_and_it_is_asked_for_once() {
        let mut gate = Gate::new(POOLED, epoch()).expect("there is a limit");

        assert!(!gate.pass(Direction::ToPeers, 1000, epoch()));
        let ask = gate.poll_ask(epoch()).expect("it has nothing");
        assert_eq!((0, [0; 2], [0; 2]), (ask.heard, ask.left, ask.returned));
        assert!(ask.wants[0] >= 1000);
        assert_eq!(None, gate.poll_ask(at(900)));
        assert!(gate.poll_ask(at(1000)).is_some(), "the answer has got lost");
    }

    #[test]
    fn credit_is_void_after_its_time_but_for_what_it_keeps() {
        let mut gate = Gate::new(POOLED, epoch()).expect("there is a limit");
        gate.grant(grant(5000, 1500, at(1000)), epoch());

        assert!(gate.pass(Direction::ToClient, 1000, at(999)));
        assert_eq!([5000, 4000], gate.left(at(999)));
        assert!(!gate.pass(Direction::ToClient, 1501, at(1000)));
        assert!(gate.pass(Direction::ToClient, 1500, at(9000)));
        assert!(!gate.pass(Direction::ToClient, 1, at(9000)));
    }

    #[test]
    fn what_is_not_needed_goes_back() {
        let mut gate = Gate::new(POOLED, epoch()).expect("there is a limit");
        let _ = gate.poll_ask(epoch()).expect("it has nothing");
        gate.grant(grant(100_000, 0, at(1000)), epoch());

        assert!(gate.pass(Direction::ToPeers, 100, at(600)));
        let ask = gate.poll_ask(at(600)).expect("the credit ages");

        assert_eq!([QUANTUM, QUANTUM], ask.left);
        assert_eq!([99_900 - QUANTUM, 100_000 - QUANTUM], ask.returned);
    }

    #[test]
    fn steady_traffic_asks_a_few_times_per_second() {
        let mut gate = Gate::new(POOLED, epoch()).expect("there is a limit");
        let mut asks = Vec::new();
        let mut dropped = 0;
        for millis in 0..10_000 {
            let now = at(millis);
            dropped += usize::from(!gate.pass(Direction::ToPeers, 1200, now));
            if let Some(ask) = gate.poll_ask(now) {
                asks.push(millis);
                let void_at = now + CREDIT_LIFETIME;
                gate.grant(Grant { bytes: ask.wants, keeps: [0; 2], void_at }, now);
            }
        }

        assert!(dropped <= 1, "{dropped}");
        let late = asks.iter().filter(|&&millis| millis >= 5000).count();
        assert!(late <= 60, "{late} asks in five seconds");
    }

    #[test]
    fn a_stream_waits_for_what_it_may_take() {
        let terms = GateTerms { rate: Some(100_000), pooled: false };
        let mut gate = Gate::new(terms, epoch()).expect("there is a limit");

        assert_eq!(Ok(65_536), gate.draw(Direction::ToPeers, 65_536, epoch()));
        assert_eq!(Ok(34_464), gate.draw(Direction::ToPeers, 65_536, epoch()));
        let wait = gate.draw(Direction::ToPeers, 65_536, epoch()).expect_err("it is empty");
        assert!(gate.draw(Direction::ToPeers, 65_536, epoch() + wait).is_ok());
        gate.put_back(Direction::ToPeers, 500);
        assert!(gate.pass(Direction::ToPeers, 500, epoch() + wait));
    }
}
