//! Virtual time: it stands still while anybody has something to do, and jumps when nobody has.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sterna_actors::clock;
use tokio::runtime::Builder;

/// Plays on an actix system whose clock only moves when everybody waits for it.
pub(crate) fn virtual_time(play: impl AsyncFnOnce()) {
    let runtime = || {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O needs nothing of the system")
    };
    actix::System::with_tokio_rt(runtime).block_on(play());
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets everything happen that can happen at this moment.
pub(crate) async fn settle() {
    tokio::time::sleep(INSTANT).await;
}

/// Lets time pass.
pub(crate) async fn after(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// Does `what` when everybody who has something to do at this moment has had so many turns; without
/// any it is done at once. A question from one actor to another takes a turn, and so does the
/// answer.
pub(crate) fn after_turns(turns: usize, what: impl FnOnce() + 'static) {
    if turns == 0 {
        return what();
    }
    actix_rt::spawn(async move {
        // The first turn passes before this task is run.
        for _ in 1..turns {
            turn().await;
        }
        what();
    });
}

/// What `look` sees at each of the next thousand turns of those who have something to do.
pub(crate) fn each_turn<T: 'static>(look: impl Fn() -> T + 'static) -> Rc<RefCell<Vec<T>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = seen.clone();
    actix_rt::spawn(async move {
        for _ in 0..1_000 {
            noted.borrow_mut().push(look());
            turn().await;
        }
    });
    seen
}

/// Goes to the end of the queue of those that have something to do. (tokio's `yield_now` waits
/// until the queue is empty.)
async fn turn() {
    let mut queued = false;
    poll_fn(|context| {
        if std::mem::replace(&mut queued, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A moment at which something is to end, and the two moments beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// What begins with the next line of the script ends `wait` later.
    pub(crate) fn after(wait: Duration) -> Deadline {
        Deadline(clock::now() + wait)
    }

    /// Waits for the last moment before.
    pub(crate) async fn just_before(self) {
        self.until(self.0 - MARGIN).await;
    }

    /// Waits for the first moment after.
    pub(crate) async fn just_after(self) {
        self.until(self.0 + MARGIN).await;
    }

    async fn until(self, moment: Instant) {
        assert!(clock::now() < moment, "the script has come too late for this deadline");
        tokio::time::sleep_until(moment.into()).await;
    }
}

/// The least wait there is: timers have a raster of a millisecond.
const INSTANT: Duration = Duration::from_millis(1);

/// Longer than the lines of a script take at a deadline, and short beside what they measure.
const MARGIN: Duration = Duration::from_millis(40);
