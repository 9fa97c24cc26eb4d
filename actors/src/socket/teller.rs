//! Lines of the log about clients that are refused: without their addresses, and not many at once.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slog::{Logger, info};

use crate::clock;

/// Writes some lines in a second about one listening socket: the counters say how many there were.
pub(super) struct Teller {
    local: SocketAddr,
    log: Logger,
    since: Cell<Instant>,
    lines: Cell<u32>,
}

impl Teller {
    pub(super) fn new(local: SocketAddr, log: Logger) -> Teller {
        Teller { local, log, since: Cell::new(clock::now()), lines: Cell::new(0) }
    }

    /// Writes what has happened, and why, unless there were enough lines in this second.
    pub(super) fn tell(&self, what: fmt::Arguments<'_>, why: &dyn fmt::Display) {
        let now = clock::now();
        if now.saturating_duration_since(self.since.get()) >= SECOND {
            self.since.set(now);
            self.lines.set(0);
        }
        if self.lines.get() < LINES_A_SECOND {
            self.lines.set(self.lines.get() + 1);
            info!(self.log, "{what}"; "listener" => %self.local, "reason" => %why);
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Lines about one listening socket in a second.
const LINES_A_SECOND: u32 = 5;
