//! Connections to one store: a bounded number, kept while they work.
//!
//! The pools of the database clients hide why a connection could not be made behind a time-out of
//! their own, and ask the server whether it lives before each question. Here a connection that
//! fails is dropped, and a question that an idle one fails is asked once more over a fresh one.

use crossbeam_queue::ArrayQueue;
use sterna_actors::credential_store::StoreError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::{CONNECTIONS, QUERY_TIMEOUT};

/// See the head of this file.
pub(crate) struct Pool<C> {
    idle: ArrayQueue<C>,
    turns: Semaphore,
}

impl<C> Pool<C> {
    pub(crate) fn new() -> Pool<C> {
        Pool { idle: ArrayQueue::new(CONNECTIONS), turns: Semaphore::new(CONNECTIONS) }
    }

    /// Wait for the right to use a connection.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let busy = || StoreError::Lost(format!("all {CONNECTIONS} connections are busy"));
        let turn = timeout(QUERY_TIMEOUT, self.turns.acquire()).await.map_err(|_| busy())?;
        turn.map_err(|_| busy())
    }

    /// A connection that worked when it was last used.
    pub(crate) fn idle(&self) -> Option<C> {
        self.idle.pop()
    }

    /// Keep a connection that works.
    pub(crate) fn give_back(&self, connection: C) {
        // There are no more connections than turns, and the queue holds as many.
        drop(self.idle.push(connection));
    }

    /// Drop what is kept: when one connection is found dead, the server has been away.
    pub(crate) fn forget(&self) {
        while self.idle.pop().is_some() {}
    }
}
