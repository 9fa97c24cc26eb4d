//! What is done about a user or a key that a store holds and nobody can read: it is nobody's, and
//! the log says so. As an error it would be one of the store, which then rests for everybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use slog::{Logger, warn};
use sterna_actors::clock;
use sterna_actors::credential_store::StoreError;

/// What is said of the unreadable rows of one store: a line a minute, since clients choose how
/// often a row is asked for.
pub(crate) struct Unreadable {
    log: Option<Logger>,
    store: String,
    /// When the next line may be written.
    next: ArrayQueue<Instant>,
    unsaid: AtomicU64,
}

impl Unreadable {
    pub(crate) fn new(log: Option<Logger>, store: &str) -> Unreadable {
        let next = ArrayQueue::new(1);
        Unreadable { log, store: store.to_owned(), next, unsaid: AtomicU64::new(0) }
    }

    /// What could be read; the rest is left out.
    pub(crate) fn or_none<T>(&self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.say(&error)).ok()
    }

    fn say(&self, error: &StoreError) {
        let Some(log) = &self.log else { return };
        let now = clock::now();
        if let Some(next) = self.next.pop().filter(|next| now < *next) {
            // If another took the place meanwhile, it has the same date.
            let _ = self.next.push(next);
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let _ = self.next.push(now + OFTEN);
        let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
        warn!(log, "store: an entry cannot be read and is left out";
            "store" => &self.store, "cause" => error.text(), "others_since" => unsaid);
    }
}

const OFTEN: Duration = Duration::from_secs(60);
