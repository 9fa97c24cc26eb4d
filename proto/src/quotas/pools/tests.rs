//! The pools against what has to hold: nobody together more than the rate, and a fair share each.

use proptest::prelude::*;

use super::super::bucket::burst_of;
use super::super::{Direction, Gate, GateTerms, QuotaLimits};
use super::*;
use crate::quotas::UserLimits;
use crate::testing::epoch;

fn account(realm: &str, name: &str) -> Arc<Account> {
    Arc::new(Account::lasting(realm.into(), name.into()))
}

fn server_rate(rate: u64) -> QuotaTerms {
    let server = QuotaLimits { bandwidth: Some(rate), ..QuotaLimits::default() };
    QuotaTerms { server, ..QuotaTerms::default() }
}

/// Allocations with gates, and the pools that they ask at once, in steps of a millisecond.
struct Play {
    pools: Pools,
    now: Instant,
    gates: Vec<(Gate, Arc<Account>)>,
    passed: Vec<u64>,
    next_round: Instant,
}

impl Play {
    fn new(terms: QuotaTerms) -> Play {
        Play {
            pools: Pools::new(terms, epoch()),
            now: epoch(),
            gates: Vec::new(),
            passed: Vec::new(),
            next_round: epoch(),
        }
    }

    fn joins(&mut self, account: &Arc<Account>) -> usize {
        let id = self.gates.len();
        self.pools.join(id as u64, UserName::of(account), account.clone(), self.now);
        let terms = GateTerms { rate: None, pooled: self.pools.limit(id as u64) };
        let gate = Gate::new(terms, self.now).expect("it shares a limit");
        self.gates.push((gate, account.clone()));
        self.passed.push(0);
        self.asks(id);
        id
    }

    fn asks(&mut self, id: usize) {
        let (gate, _) = &mut self.gates[id];
        if let Some(ask) = gate.poll_ask(self.now)
            && let Some(grant) = self.pools.ask(id as u64, ask, self.now)
        {
            gate.grant(grant, self.now);
        }
    }

    fn sends(&mut self, id: usize, bytes: u64) -> bool {
        let passes = self.gates[id].0.pass(Direction::ToPeers, bytes, self.now);
        self.passed[id] += if passes { bytes } else { 0 };
        self.asks(id);
        passes
    }

    fn waits(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        if self.now >= self.next_round {
            self.next_round = self.now + ROUND;
            for (id, grant) in self.pools.share_out(self.now) {
                self.gates[id as usize].0.grant(grant, self.now);
            }
        }
    }
}

#[test]
fn all_together_use_the_rate_and_no_more() {
    let rate = 1_000_000;
    let mut play = Play::new(server_rate(rate));
    for n in 0..20 {
        play.joins(&account("r", &format!("user{n}")));
    }

    for _ in 0..10_000 {
        for id in 0..20 {
            play.sends(id, 1200);
        }
        play.waits(1);
    }

    let passed: u64 = play.passed.iter().sum();
    assert!(passed <= rate * 10 + burst_of(rate), "{passed}");
    assert!(passed >= rate * 95 / 10, "what there is is used: {passed}");
}

#[test]
fn who_wants_little_has_it_beside_who_wants_all() {
    let mut play = Play::new(server_rate(1_000_000));
    let (greedy, modest) = (account("r", "greedy"), account("r", "modest"));
    for _ in 0..50 {
        play.joins(&greedy);
    }
    let modest = play.joins(&modest);
    let mut lost = 0;

    for millis in 0..10_000 {
        for id in 0..50 {
            play.sends(id, 1200);
        }
        // A call: 50 packets of 200 bytes in a second.
        if millis % 20 == 0 && !play.sends(modest, 200) && millis > 1000 {
            lost += 1;
        }
        play.waits(1);
    }

    assert!(lost <= 5, "{lost} of 450 packets");
}

#[test]
fn two_who_want_all_have_half_each_over_however_many_allocations() {
    let rate = 1_000_000;
    let mut play = Play::new(server_rate(rate));
    let (many, one) = (account("r", "many"), account("r", "one"));
    for _ in 0..9 {
        play.joins(&many);
    }
    let one = play.joins(&one);

    for _ in 0..20_000 {
        for id in 0..10 {
            play.sends(id, 1200);
            play.sends(id, 1200);
        }
        play.waits(1);
    }

    let of_one = play.passed[one];
    assert!(of_one > rate * 20 * 4 / 10, "{of_one}");
}

#[test]
fn a_user_has_its_limit_over_all_its_allocations() {
    let mut terms = QuotaTerms::default();
    terms.server.bandwidth_per_user = Some(200_000);
    let mut play = Play::new(terms);
    let mut generous = Account::lasting("r".into(), "generous".into());
    generous.limits = UserLimits { bandwidth: Some(400_000), ..UserLimits::default() };
    let (plain, generous) = (account("r", "plain"), Arc::new(generous));
    for who in [&plain, &plain, &plain, &generous, &generous, &generous] {
        play.joins(who);
    }

    for _ in 0..10_000 {
        for id in 0..6 {
            play.sends(id, 1000);
        }
        play.waits(1);
    }

    let plain: u64 = play.passed[..3].iter().sum();
    let generous: u64 = play.passed[3..].iter().sum();
    assert!((1_900_000..=2_200_000).contains(&plain), "{plain}");
    assert!((3_800_000..=4_400_000).contains(&generous), "{generous}");
}

#[test]
fn a_packet_after_a_long_pause_passes() {
    let mut play = Play::new(server_rate(1_000_000));
    let id = play.joins(&account("r", "sparse"));

    for _ in 0..20 {
        assert!(play.sends(id, 1200));
        play.waits(5000);
    }
}

#[test]
fn coming_again_does_not_fill_the_bucket() {
    let mut terms = QuotaTerms::default();
    terms.server.bandwidth_per_user = Some(100_000);
    let mut play = Play::new(terms);
    let user = account("r", "again");

    for _ in 0..1000 {
        let id = play.joins(&user);
        for _ in 0..10 {
            play.sends(id, 1000);
            play.waits(1);
        }
        let left = play.gates[id].0.left(play.now);
        play.pools.leave(id as u64, left, play.now);
    }

    let passed: u64 = play.passed.iter().sum();
    assert!(passed <= 100_000 * 10 + 100_000, "{passed}");
    play.waits(2000);
    let id = play.joins(&account("r", "other"));
    play.pools.leave(id as u64, [0; 2], play.now);
    let Buckets { realms, users, .. } = &play.pools.buckets;
    assert_eq!(1, realms.len() + users.len(), "one that is full is forgotten");
}

#[test]
fn those_beyond_one_round_have_their_turn_in_the_next() {
    let mut terms = server_rate(50_000_000);
    terms.server.bandwidth_per_user = Some(0);
    let mut pools = Pools::new(terms, epoch());
    let mut free = Account::lasting("r".into(), "free".into());
    free.limits = UserLimits { bandwidth: Some(1_000_000), ..UserLimits::default() };
    let (stuck, free) = (account("r", "stuck"), Arc::new(free));
    let ask = |pools: &mut Pools, id| {
        let ask = Ask { left: [0; 2], returned: [0; 2], wants: [60_000; 2], heard: 0 };
        assert_eq!(None, pools.ask(id, ask, epoch()));
    };
    // More than a round takes, of whom none ever gets anything but a first burst.
    for id in 0..2500 {
        pools.join(id, UserName::of(&stuck), stuck.clone(), epoch());
        ask(&mut pools, id);
    }
    pools.join(9999, UserName::of(&free), free, epoch());
    pools.ask(9999, Ask { left: [0; 2], returned: [0; 2], wants: [900_000; 2], heard: 0 }, epoch());

    let rounds: Vec<bool> = (1..=4)
        .map(|n| pools.share_out(epoch() + ROUND * n).iter().any(|(id, _)| *id == 9999))
        .collect();

    assert_eq!([false, false, true, false], rounds[..]);
}

#[test]
fn a_grant_that_is_lost_costs_a_second() {
    let mut play = Play::new(server_rate(1_000_000));
    let id = play.joins(&account("r", "user"));
    let ask = loop {
        let (gate, _) = &mut play.gates[id];
        gate.pass(Direction::ToPeers, 600, play.now);
        if let Some(ask) = gate.poll_ask(play.now) {
            break ask;
        }
    };
    assert!(play.pools.ask(id as u64, ask, play.now).is_some(), "and nobody hears of it");

    for _ in 0..2000 {
        play.sends(id, 1200);
        play.waits(1);
    }
    let before = play.passed[id];
    for _ in 0..5000 {
        play.sends(id, 1000);
        play.waits(1);
    }

    assert!(play.passed[id] - before >= 4_500_000, "{}", play.passed[id] - before);
}

#[test]
fn limits_change_for_those_who_are_there() {
    let mut play = Play::new(server_rate(1_000_000));
    let id = play.joins(&account("r", "user"));
    for _ in 0..2000 {
        play.sends(id, 2000);
        play.waits(1);
    }
    let before = play.passed[id];

    play.pools.set_terms(server_rate(100_000), play.now);
    for _ in 0..10_000 {
        play.sends(id, 2000);
        play.waits(1);
    }

    let since = play.passed[id] - before;
    // What it held is still good.
    assert!((900_000..=1_400_000).contains(&since), "{since}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever joins, sends, pauses, leaves, loses an answer, and however limits fall: what passes
    /// is at most rate × time + burst of the server.
    #[test]
    fn no_more_passes_than_rate_and_burst(
        steps in prop::collection::vec((0_u8..12, 0_usize..8, 1_u64..3000, 0_u64..400), 1..400),
    ) {
        let rate = 200_000;
        let mut terms = server_rate(rate);
        terms.server.bandwidth_per_user = Some(rate / 2);
        let mut play = Play::new(terms.clone());
        let mut there: Vec<usize> = Vec::new();
        for (what, who, bytes, millis) in steps {
            let one = there.get(who % there.len().max(1)).copied();
            match (what, one) {
                (0, _) | (_, None) => {
                    let id = play.joins(&account("r", &format!("user{}", who % 3)));
                    there.push(id);
                }
                (1, Some(id)) => {
                    let left = play.gates[id].0.left(play.now);
                    play.pools.leave(id as u64, left, play.now);
                    there.retain(|&other| other != id);
                }
                (2, Some(id)) => {
                    // Its end goes without a word of what was left.
                    play.pools.leave(id as u64, [0; 2], play.now);
                    there.retain(|&other| other != id);
                }
                (3, _) => play.pools.heal(|id| there.contains(&(id as usize)), play.now),
                (4, _) => play.waits(millis),
                (5, Some(id)) => {
                    // A grant that is lost.
                    if let Some(ask) = play.gates[id].0.poll_ask(play.now) {
                        let _ = play.pools.ask(id as u64, ask, play.now);
                    }
                }
                (_, Some(id)) => {
                    for _ in 0..30 {
                        play.sends(id, bytes);
                    }
                    play.waits(millis / 20);
                }
            }
            let time = play.now.duration_since(epoch());
            let most = time.as_millis() as u64 * rate / 1000 + burst_of(rate);
            prop_assert!(play.passed.iter().sum::<u64>() <= most);
        }
    }
}

/// The account of a user whose own limit is so many bytes per second.
fn limited(rate: Option<u64>) -> Arc<Account> {
    let limits = UserLimits { bandwidth: rate, ..UserLimits::default() };
    Arc::new(Account { limits, ..Account::lasting("r".into(), "u".into()) })
}

/// What an allocation that wants more than there is gets past its gate in ten seconds.
fn in_ten_seconds(play: &mut Play, id: usize) -> u64 {
    let before = play.passed[id];
    for _ in 0..10_000 {
        play.sends(id, 1000);
        play.waits(1);
    }
    play.passed[id] - before
}

#[test]
fn a_large_packet_now_and_then_passes_a_shared_limit() {
    for bytes in [2049, 3000, 9000, 60_000] {
        for pause in [100, 300, 700] {
            let mut play = Play::new(server_rate(1_000_000));
            let id = play.joins(&account("r", "u"));

            let lost = (0..20).filter(|_| {
                let lost = !play.sends(id, bytes);
                (0..pause).for_each(|_| play.waits(1));
                lost
            });

            assert!(lost.count() <= 1, "{bytes} bytes every {pause} ms");
        }
    }
}

#[test]
fn the_strictest_limit_of_those_who_are_there_holds() {
    for (first, second) in [(100_000, 300_000), (300_000, 100_000)] {
        let mut play = Play::new(server_rate(10_000_000));
        let one = play.joins(&limited(Some(first)));
        let other = play.joins(&limited(Some(second)));
        let (strict, mild) = if first < second { (one, other) } else { (other, one) };

        let passed = in_ten_seconds(&mut play, mild);
        assert!(passed <= 100_000 * 10 + burst_of(300_000), "{passed}");

        let terms = play.pools.terms().clone();
        play.pools.set_terms(terms, play.now);
        let passed = in_ten_seconds(&mut play, mild);
        assert!(passed <= 100_000 * 10 + burst_of(100_000), "{passed}");

        // With the last of the strict ones, their word is gone.
        play.pools.leave(strict as u64, [0; 2], play.now);
        let passed = in_ten_seconds(&mut play, mild);
        assert!(passed >= 250_000 * 10, "{passed}");
    }
}

#[test]
fn a_limit_that_comes_later_brings_no_burst() {
    let mut play = Play::new(server_rate(10_000_000));
    let one = play.joins(&limited(None));
    let user = UserName::of(&limited(None));
    let is_news = |play: &mut Play, rate| play.pools.join(9, user.clone(), limited(rate), play.now);

    assert!(!is_news(&mut play, None));
    assert!(is_news(&mut play, Some(500_000)));

    let passed = in_ten_seconds(&mut play, one);
    assert!(passed <= 500_000 * 10 + 10_000_000 / 4, "what it held, and the rate: {passed}");
    assert!(play.passed[one] > 0);
}
