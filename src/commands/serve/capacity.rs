//! How many clients the limits of this machine and of the configuration have room for.

use slog::{Logger, info, o, warn};

use crate::config::{Resolved, by_socket};
use crate::machine;

pub(super) fn raise_limits(log: &Logger, resolved: &Resolved) {
    let files = match machine::raise_open_files() {
        Ok(files) => files,
        Err(cause) => {
            warn!(log, "the limit of open files cannot be raised"; "cause" => %cause);
            return;
        }
    };
    let capacity = Capacity::of(files, resolved);
    let log = log.new(o!("open_files" => files, "relay_ports" => capacity.ports));
    let (allocations, bound_by) = (capacity.allocations(), capacity.bound_by());
    if has_streams(resolved) {
        let over_streams = capacity.over_streams();
        info!(log, "capacity"; "allocations" => allocations, "bound_by" => bound_by,
            "over_streams" => over_streams);
    } else {
        info!(log, "capacity"; "allocations" => allocations, "bound_by" => bound_by);
    }
}

fn has_streams(resolved: &Resolved) -> bool {
    resolved.listen.iter().any(|listener| listener.protocol.is_stream())
}

/// How many allocations there can be at once.
struct Capacity {
    /// Descriptors that are left for clients.
    sockets: u64,
    ports: u64,
}

impl Capacity {
    fn of(files: u64, resolved: &Resolved) -> Capacity {
        let listening = (by_socket(&resolved.listen).len() * resolved.workers) as u64;
        // Per arbiter: the runtime's poller, its waker and its signal pipe.
        let arbiters = 4 * resolved.workers as u64;
        let ports = &resolved.config.relay.ports;
        Capacity {
            sockets: files.saturating_sub(listening + arbiters + FILES_BESIDE),
            ports: resolved.relay_addresses.len() as u64
                * (u64::from(*ports.end()) - u64::from(*ports.start()) + 1),
        }
    }

    /// Where all clients come by datagrams: each takes a relay socket.
    fn allocations(&self) -> u64 {
        self.sockets.min(self.ports)
    }

    /// Where all clients come over TCP: each takes its connection beside the relay socket.
    fn over_streams(&self) -> u64 {
        (self.sockets / 2).min(self.ports)
    }

    fn bound_by(&self) -> &'static str {
        if self.sockets < self.ports { "open_files" } else { "relay_ports" }
    }
}

/// Standard streams, log, epoll and what a library opens for a moment.
const FILES_BESIDE: u64 = 32;
