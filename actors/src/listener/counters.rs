//! What a listener counts, for whoever asks and for the log.

use actix::prelude::*;
use slog::{debug, info};

use super::ListenerActor;
use crate::clients::Client;
use crate::counters::{BatchLengths, DropCounters};

/// Tell how many clients there are and what was dropped.
#[derive(Debug, Message)]
#[rtype(result = "ListenerCounters")]
pub struct ReadListener;

/// How many clients a listener has, and what it has dropped.
#[derive(Clone, Debug, MessageResponse)]
pub struct ListenerCounters {
    /// Connections, those of clients without a session included.
    pub connections: usize,
    /// Sessions, with and without allocation.
    pub sessions: usize,
    /// Allocations.
    pub allocations: usize,
    /// Reads of the socket, by the number of datagrams that each has found.
    pub batches: BatchLengths,
    /// Packets that went no further, those of ended sessions included.
    pub drops: DropCounters,
}

impl Handler<ReadListener> for ListenerActor {
    type Result = ListenerCounters;

    fn handle(&mut self, _: ReadListener, _: &mut Context<Self>) -> ListenerCounters {
        self.drops.add(&self.socket.take_drops());
        let has_allocation = |client: &&Client| client.allocation.is_some();
        ListenerCounters {
            connections: self.socket.connections(),
            sessions: self.clients.len(),
            allocations: self.clients.iter().filter(has_allocation).count(),
            batches: self.batches,
            drops: self.drops.clone(),
        }
    }
}

impl ListenerActor {
    /// Logs what has been read and dropped, where it is not what it was the last time.
    pub(super) fn log_counters(&mut self) {
        if self.batches != self.batches_logged {
            debug!(self.log, "datagrams read so far"; "address" => %self.local, self.batches);
            self.batches_logged = self.batches;
        }
        self.drops.add(&self.socket.take_drops());
        if self.drops != self.drops_logged {
            info!(self.log, "packets dropped so far"; "address" => %self.local,
                self.drops.clone());
            self.drops_logged = self.drops.clone();
        }
    }
}
