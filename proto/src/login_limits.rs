//! What each source may try: logins that fail, and logins that nobody can answer.

use std::net::IpAddr;
use std::time::Instant;

use crate::failed_logins::FailedLogins;
use crate::remembered_logins::RememberedLogins;

/// The limits of a listener. What the stores could not answer, because they were away, is no guess:
/// it has a bucket of its own, of the same size, and whoever has proved itself from a source is
/// heard however many others there had to be told to try again.
#[derive(Debug)]
pub struct LoginLimits {
    failed: FailedLogins,
    unanswered: FailedLogins,
    remembered: RememberedLogins,
}

impl LoginLimits {
    /// `per_minute` logins of one source of each kind, of which 0 is no limit. `seeds` key the
    /// hashes and have to be random.
    pub fn new(per_minute: u32, seeds: [u64; 4], epoch: Instant) -> LoginLimits {
        LoginLimits {
            failed: FailedLogins::new(per_minute, seeds, epoch),
            unanswered: FailedLogins::new(per_minute, seeds, epoch),
            remembered: RememberedLogins::new(seeds),
        }
    }

    /// Whether a login from `source` is dropped before anything of it is looked at but the name,
    /// which is asked for where it matters.
    pub fn shuts_out<'a>(
        &self,
        source: IpAddr,
        user: impl FnOnce() -> Option<&'a [u8]>,
        now: Instant,
    ) -> bool {
        let is_known = || user().is_some_and(|user| self.remembered.knows(source, user));
        self.failed.is_shut_out(source, now)
            || self.unanswered.is_shut_out(source, now) && !is_known()
    }

    /// Counts ahead a login that is let try, as either kind: many at the same time are no way
    /// around the limit. How it ends is told by one of the next four. False, and nothing counts,
    /// where there is no limit.
    pub fn reserve(&mut self, source: IpAddr, now: Instant) -> bool {
        // Most servers never have an outage, and need no memory for it.
        if self.unanswered.has_counted() {
            self.unanswered.reserve(source, now);
        }
        self.failed.reserve(source, now)
    }

    /// A login has failed, which was `reserved` or comes unannounced. True if it is within the
    /// limit, and worth a line in the log.
    pub fn fail(&mut self, source: IpAddr, reserved: bool, now: Instant) -> bool {
        if reserved {
            // Counted when it was let in, which was within the limit.
            self.unanswered.give_back(source, 1, now);
            return true;
        }
        self.failed.note(source, now)
    }

    /// A login of `user` could not be answered. True if it is within the limit.
    pub fn leave_unanswered(
        &mut self,
        source: IpAddr,
        user: Option<&[u8]>,
        reserved: bool,
        now: Instant,
    ) -> bool {
        if let Some(user) = user {
            self.remembered.forget(source, user);
        }
        if reserved {
            self.failed.give_back(source, 1, now);
        }
        reserved && self.unanswered.has_counted() || self.unanswered.note(source, now)
    }

    /// `user` has proved itself; so many logins were reserved for it.
    pub fn prove(&mut self, source: IpAddr, user: Option<&[u8]>, reserved: u32, now: Instant) {
        if let Some(user) = user {
            self.remembered.remember(source, user);
        }
        self.give_back(source, reserved, now);
    }

    /// Takes back so many logins that were reserved and have neither failed nor gone unanswered.
    pub fn give_back(&mut self, source: IpAddr, reserved: u32, now: Instant) {
        self.failed.give_back(source, reserved, now);
        self.unanswered.give_back(source, reserved, now);
    }

    /// Counts a login that has failed at another listener: the limits are the server's.
    pub fn note_failed(&mut self, source: IpAddr, now: Instant) {
        self.failed.note(source, now);
    }

    /// The same for one that could not be answered there.
    pub fn note_unanswered(&mut self, source: IpAddr, now: Instant) {
        self.unanswered.note(source, now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn limits(per_minute: u32) -> LoginLimits {
        LoginLimits::new(per_minute, [1, 2, 3, 4], epoch())
    }

    fn shuts_out(limits: &LoginLimits, user: &str) -> bool {
        limits.shuts_out(SOURCE, || Some(user.as_bytes()), epoch())
    }

    #[test]
    fn what_nobody_can_answer_is_limited_and_is_no_guess() {
        let mut limits = limits(3);
        for _ in 0..3 {
            assert!(!shuts_out(&limits, "ann"));
            assert!(limits.reserve(SOURCE, epoch()));
            assert!(limits.leave_unanswered(SOURCE, Some(b"ann"), true, epoch()));
        }

        assert!(shuts_out(&limits, "ann"));
        assert!(!limits.failed.is_shut_out(SOURCE, epoch()), "nobody has guessed");
        assert!(!limits.leave_unanswered(SOURCE, None, false, epoch()));
        let later = epoch() + Duration::from_secs(20);
        assert!(!limits.shuts_out(SOURCE, || None, later), "one more each twenty seconds");
    }

    #[test]
    fn who_has_proved_itself_is_heard_among_those_who_try_in_vain() {
        let mut limits = limits(3);
        limits.reserve(SOURCE, epoch());
        limits.prove(SOURCE, Some(b"ann"), 1, epoch());
        for _ in 0..3 {
            limits.note_unanswered(SOURCE, epoch());
        }

        assert!(shuts_out(&limits, "bob") && !shuts_out(&limits, "ann"));
        // A wrong password under its name is not heard again.
        limits.leave_unanswered(SOURCE, Some(b"ann"), false, epoch());
        assert!(shuts_out(&limits, "ann"));
    }

    #[test]
    fn whoever_guesses_shuts_out_its_source_whoever_is_known_there() {
        let mut limits = limits(3);
        limits.prove(SOURCE, Some(b"ann"), 0, epoch());
        for _ in 0..2 {
            limits.reserve(SOURCE, epoch());
            assert!(limits.fail(SOURCE, true, epoch()));
        }
        assert!(!shuts_out(&limits, "ann"));
        limits.note_failed(SOURCE, epoch());

        assert!(shuts_out(&limits, "ann"));
        assert!(!limits.unanswered.is_shut_out(SOURCE, epoch()), "each was answered");
        assert!(!limits.fail(SOURCE, false, epoch()));
    }

    #[test]
    fn what_is_under_way_counts_as_both_until_it_is_known() {
        let mut limits = limits(3);
        limits.note_failed(SOURCE, epoch());
        limits.note_unanswered(SOURCE, epoch());
        for _ in 0..2 {
            limits.reserve(SOURCE, epoch());
        }
        let is_over = |limits: &LoginLimits| {
            [&limits.failed, &limits.unanswered].map(|kind| kind.is_shut_out(SOURCE, epoch()))
        };
        assert_eq!([true; 2], is_over(&limits));
        limits.give_back(SOURCE, 2, epoch());
        assert_eq!([false; 2], is_over(&limits));
        limits.reserve(SOURCE, epoch());
        limits.prove(SOURCE, None, 1, epoch());
        assert_eq!([false; 2], is_over(&limits));
    }

    #[test]
    fn without_a_limit_nobody_is_shut_out() {
        let mut limits = limits(0);
        assert!(!limits.reserve(SOURCE, epoch()));
        for _ in 0..1000 {
            limits.leave_unanswered(SOURCE, None, false, epoch());
        }
        assert!(!shuts_out(&limits, "ann"));
    }
}
