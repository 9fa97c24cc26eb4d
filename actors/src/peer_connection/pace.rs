//! How fast one direction of a relayed connection is read, where its allocation has a limit: the
//! sender feels it as a window that is full, and nothing is dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix::Recipient;
use sterna_proto::quotas::Direction;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use crate::allocation::DrawBytes;

/// See the head of this file.
pub(super) struct Pace {
    /// Whether there is a limit; the other end is the allocation's, on its worker.
    is_paced: watch::Receiver<bool>,
    /// The same, as last looked at.
    paced: bool,
    direction: Direction,
    draw: Recipient<DrawBytes>,
    waits: Waits,
}

/// What for, while nothing may be read.
enum Waits {
    Nothing,
    Allocation(Pin<Box<dyn Future<Output = Result<u64, Duration>>>>),
    Time(Pin<Box<Sleep>>),
}

impl Pace {
    pub(super) fn new(
        mut is_paced: watch::Receiver<bool>,
        direction: Direction,
        draw: Recipient<DrawBytes>,
    ) -> Pace {
        let paced = *is_paced.borrow_and_update();
        Pace { is_paced, paced, direction, draw, waits: Waits::Nothing }
    }

    /// Whether there is a limit.
    fn is_paced(&mut self) -> bool {
        // The value has a lock; whether there is another one can be told without.
        if self.is_paced.has_changed().unwrap_or(false) {
            self.paced = *self.is_paced.borrow_and_update();
        }
        self.paced
    }

    /// Waits until something may be read: as much as is left of `allowance`, or without bound
    /// (`None`).
    pub(super) fn poll_allowance(
        &mut self,
        cx: &mut Context<'_>,
        allowance: &mut u64,
    ) -> Poll<Option<u64>> {
        loop {
            if !self.is_paced() {
                return Poll::Ready(None);
            }
            if *allowance > 0 {
                return Poll::Ready(Some(*allowance));
            }
            self.waits = match &mut self.waits {
                Waits::Nothing => Waits::Allocation(self.ask()),
                Waits::Allocation(answer) => match ready!(answer.as_mut().poll(cx)) {
                    Ok(bytes) => {
                        *allowance += bytes;
                        Waits::Nothing
                    }
                    Err(wait) => Waits::Time(Box::pin(sleep(wait))),
                },
                Waits::Time(over) => {
                    ready!(over.as_mut().poll(cx));
                    Waits::Nothing
                }
            };
        }
    }

    fn ask(&self) -> Pin<Box<dyn Future<Output = Result<u64, Duration>>>> {
        let asked = self.draw.send(DrawBytes { direction: self.direction, most: DRAW });
        // An allocation that is gone ends the connection before this time is over.
        Box::pin(async { asked.await.unwrap_or(Err(ALLOCATION_GONE)) })
    }
}

/// What is asked for at once, so that a fast connection does not ask for each read.
const DRAW: u64 = 64 << 10;

const ALLOCATION_GONE: Duration = Duration::from_secs(1);
