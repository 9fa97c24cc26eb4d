//! Who is restarted after a panic, how often, and what happens when that does not help.
//!
//! A panic ends at the boundary of one actor's future: it is caught there, so it neither unwinds
//! through the arbiter nor meets a second panic half-way. What happens next is said by the rules
//! below, as data. actix's own supervisor restarts on stop, not on panic, and without limit; it has
//! no part in this.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::dev::ContextFut;
use actix::prelude::*;
use slog::{Logger, error, warn};

use crate::clock;

/// What is done about a panic in one kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The actor's name, for the log.
    pub actor: &'static str,
    /// What happens after a panic.
    pub on_panic: OnPanic,
    /// How many panics that may help against.
    pub budget: Budget,
    /// What happens when the budget is spent.
    pub then: Then,
}

/// What happens after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// The actor repairs its state (`Supervised::restarting`) and goes on at the same address; the
    /// messages in its mailbox survive.
    HealInPlace,
    /// Its watcher builds another in its place, at a new address.
    Rebuild,
    /// It ends, and its watcher is told. Half-changed state belongs to nobody.
    End,
}

/// What happens when restarts do not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The server stops with an error: it cannot serve without this actor.
    StopServer,
    /// The client's session and allocation end; everybody else goes on.
    EndSession,
    /// Nothing more is lost than the actor itself.
    Nothing,
}

/// So many restarts within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Restarts allowed...
    pub restarts: usize,
    /// ...within any period of this length.
    pub within: Duration,
}

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// The free ports: rebuilt in place, `bind` tells which are taken.
pub const PORT_ALLOCATOR: Rule = Rule {
    actor: "PortAllocator",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// A listening socket and its table of clients: both stay, the sessions live on.
pub const LISTENER: Rule = Rule {
    actor: "ListenerActor",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// Keys of static users, which are derived anew; what the stores have said stays.
pub const AUTHENTICATOR: Rule = Rule {
    actor: "Authenticator",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// The names of TCP connections: the table stays, the connections live on.
pub const CONNECTION_BROKER: Rule = Rule {
    actor: "ConnectionBroker",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// The credential stores: they stay, and who waits for them is answered.
pub const STORE_ACTOR: Rule = Rule {
    actor: "StoreActor",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// Who may relay what: the policy stays, and everybody is told of it once more.
pub const POLICY_KEEPER: Rule = Rule {
    actor: "PolicyKeeper",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// The leases of allocations: they stay, and what they count up to is counted anew.
pub const QUOTA_KEEPER: Rule = Rule {
    actor: "QuotaKeeper",
    on_panic: OnPanic::HealInPlace,
    budget: Budget { restarts: 5, within: TEN_SECONDS },
    then: Then::StopServer,
};

/// A client's conversation: another one is attached to the living allocation.
pub const SESSION: Rule = Rule {
    actor: "SessionActor",
    on_panic: OnPanic::Rebuild,
    budget: Budget { restarts: 3, within: TEN_SECONDS },
    then: Then::EndSession,
};

/// An allocation: never restarted. Socket and lease go back by Drop, the client gets 437.
pub const ALLOCATION: Rule = Rule {
    actor: "AllocationActor",
    on_panic: OnPanic::End,
    budget: Budget { restarts: 0, within: TEN_SECONDS },
    then: Then::Nothing,
};

/// The restarts that a budget has left.
#[derive(Debug)]
pub struct RestartWindow {
    budget: Budget,
    panics: Vec<Instant>,
}

impl RestartWindow {
    /// A window that has seen nothing yet.
    pub fn new(budget: Budget) -> RestartWindow {
        RestartWindow { budget, panics: Vec::new() }
    }

    /// Notes a panic at `now`: how long to wait before the restart, or `None` when the budget is
    /// spent. The first restart is at once, so that calls do not notice; the following ones back
    /// off.
    pub fn note_panic(&mut self, now: Instant) -> Option<Duration> {
        self.panics.retain(|&then| now - then < self.budget.within);
        if self.panics.len() >= self.budget.restarts {
            return None;
        }
        let earlier = u32::try_from(self.panics.len()).unwrap_or(u32::MAX);
        self.panics.push(now);
        Some(BACKOFF * earlier)
    }
}

/// Added to the wait before each further restart within the window.
const BACKOFF: Duration = Duration::from_millis(20);

/// How a watched actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By its own decision.
    Finished,
    /// By a panic with this message.
    Panicked(String),
}

/// Runs `actor` until it ends, and then calls `on_end` with how: once, whatever happened.
pub fn watch<A>(context: Context<A>, actor: A, on_end: impl FnOnce(Ended) + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let address = context.address();
    let mut guarded = Guarded(Some(context.into_future(actor)));
    actix_rt::spawn(async move {
        let ended = match std::future::poll_fn(|cx| guarded.poll(cx)).await {
            Ok(()) => Ended::Finished,
            Err(message) => Ended::Panicked(message),
        };
        // The actor's sockets and leases go back before anybody hears of its end.
        guarded.discard();
        on_end(ended);
    });
    address
}

/// Runs `actor` and heals it in place after a panic, as `rule` says; `on_spent` is called when the
/// restarts did not help, with the last panic's message.
pub fn heal<A>(
    rule: Rule,
    log: Logger,
    context: Context<A>,
    actor: A,
    on_spent: impl FnOnce(Spent) + 'static,
) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    debug_assert_eq!(OnPanic::HealInPlace, rule.on_panic);
    let address = context.address();
    let mut guarded = Guarded(Some(context.into_future(actor)));
    let mut window = RestartWindow::new(rule.budget);
    actix_rt::spawn(async move {
        loop {
            let Err(mut message) = std::future::poll_fn(|cx| guarded.poll(cx)).await else {
                return;
            };
            loop {
                let Some(wait) = window.note_panic(clock::now()) else {
                    error!(log, "restarts did not help";
                        "actor" => rule.actor, "panic" => &message);
                    guarded.discard();
                    return on_spent(Spent { actor: rule.actor, panic: message });
                };
                warn!(log, "actor panicked and is healed in place";
                    "actor" => rule.actor, "panic" => &message);
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                match guarded.restart() {
                    Ok(true) => break,
                    // Nobody holds its address any more.
                    Ok(false) => return guarded.discard(),
                    Err(again) => message = again,
                }
            }
        }
    });
    address
}

/// An actor whose restarts did not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Its name.
    pub actor: &'static str,
    /// The message of the last panic.
    pub panic: String,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keeps failing: {}", self.actor, self.panic)
    }
}

/// An actor's future, behind a wall that panics do not pass.
struct Guarded<A: Actor<Context = Context<A>>>(Option<ContextFut<A, Context<A>>>);

impl<A: Actor<Context = Context<A>>> Guarded<A> {
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), String>> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        // Unwind safety: after a panic the state is either healed by the actor itself or discarded.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(future).poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(message_of(panic.as_ref()))),
        }
    }

    fn restart(&mut self) -> Result<bool, String>
    where
        A: Supervised,
    {
        let Some(future) = &mut self.0 else {
            return Ok(false);
        };
        catch_unwind(AssertUnwindSafe(|| future.restart()))
            .map_err(|panic| message_of(panic.as_ref()))
    }

    /// Drops the actor. Its `stopped` runs here, outside of any unwinding, so that a panic there is
    /// one more message lost and not the end of the process.
    fn discard(&mut self) {
        let future = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(future)));
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { restarts: 3, within: TEN_SECONDS };

    #[test]
    fn three_restarts_in_ten_seconds_and_no_fourth() {
        let start = clock::now();
        let mut window = RestartWindow::new(BUDGET);
        assert_eq!(Some(Duration::ZERO), window.note_panic(start));
        assert_eq!(Some(BACKOFF), window.note_panic(start));
        assert_eq!(Some(BACKOFF * 2), window.note_panic(start + Duration::from_millis(9_999)));
        assert_eq!(None, window.note_panic(start + Duration::from_millis(9_999)));
    }

    #[test]
    fn a_restart_is_forgotten_after_the_period() {
        let start = clock::now();
        let mut window = RestartWindow::new(BUDGET);
        for _ in 0..3 {
            assert!(window.note_panic(start).is_some());
        }
        assert_eq!(Some(Duration::ZERO), window.note_panic(start + TEN_SECONDS));
    }

    #[test]
    fn a_budget_of_none_allows_none() {
        let mut window = RestartWindow::new(ALLOCATION.budget);
        assert_eq!(None, window.note_panic(clock::now()));
    }
}
