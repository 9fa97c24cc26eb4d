//! What time does to an allocation. Tables are bounded, so that a sweep looks at everything and the
//! next timeout is computed, not maintained.

use std::time::Instant;

use super::{Allocation, Channels, Connections, Effect, Halves, Permissions};
use crate::address::Family;

impl Allocation {
    /// The moment at which [`Allocation::handle_timeout`] has something to do. `None` once the
    /// allocation is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// Remove what is over at `now`. [`Allocation::poll_effect`] tells what that was.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sweep(now);
    }

    /// What ended, in the order in which it did. Ask until there is nothing more.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        // The room that a mass expiry took is not kept for the rest of the allocation's life.
        if effect.is_none() && self.effects.capacity() > EFFECTS_KEPT {
            self.effects.shrink_to(EFFECTS_KEPT);
        }
        effect
    }

    /// Bring the tables up to `now`.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.timeout.is_none_or(|timeout| now < timeout) {
            return;
        }
        let mut ended: Vec<(Instant, Effect)> = Vec::new();
        self.permissions.retain(
            |_, expires| now < expires,
            |ip, expires| ended.push((expires, Effect::PermissionExpired(ip))),
        );
        self.channels.sweep(now, |number, peer, expires| {
            ended.push((expires, Effect::ChannelExpired(number, peer)));
        });
        if let Some(connections) = &mut self.connections {
            connections.sweep(now, |id, peer, expires| {
                ended.push((expires, Effect::ConnectionClosed(id, peer)));
            });
        }
        for family in self.halves.by_expiry() {
            self.sweep_half(family, now, &mut ended);
        }
        ended.sort_by_key(|&(expires, _)| expires);
        self.effects.extend(ended.into_iter().map(|(_, effect)| effect));
        self.rearm();
    }

    fn sweep_half(&mut self, family: Family, now: Instant, ended: &mut Vec<(Instant, Effect)>) {
        let Some(expires) = self.halves.of(family).map(|half| half.expires) else { return };
        if now < expires {
            return;
        }
        self.remove_half(family);
        // What would have outlived the address ended with it.
        ended.retain(|&(at, effect)| at < expires || !concerns(effect, family));
        // The half that ends last is the end of the allocation.
        if self.halves.is_empty() {
            self.clear();
            ended.push((
                expires,
                match self.ends {
                    Some(ends) if ends <= expires => Effect::CredentialExpired,
                    Some(_) | None => Effect::Expired,
                },
            ));
        } else {
            ended.push((expires, Effect::RelayExpired(family)));
        }
    }

    /// Remove the half of `family` with all that hangs on it, and nothing of the other.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.1
    //# Deleting a single
    //# allocation destroys any permissions or channels associated with that
    //# particular allocation; it MUST NOT affect any permissions or channels
    //# associated with allocations for the other address family.
    pub(super) fn remove_half(&mut self, family: Family) {
        self.halves.remove(family);
        self.permissions.remove_family(family);
        self.channels.remove_family(family);
        //= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
        //# If the allocation associated with a data connection expires, the data
        //# connection MUST be closed.
        if let Some(connections) = &mut self.connections {
            connections.remove_family(family);
        }
    }

    pub(super) fn clear(&mut self) {
        self.halves = Halves::none();
        self.permissions = Permissions::default();
        self.channels = Channels::default();
        if let Some(connections) = &mut self.connections {
            **connections = Connections::default();
        }
    }

    pub(super) fn rearm(&mut self) {
        let halves = self.halves.iter().map(|half| half.expires).min();
        let connections = self.connections.as_ref();
        let tables = [
            self.permissions.next_timeout(),
            self.channels.next_timeout(),
            connections.and_then(|connections| connections.next_timeout()),
        ];
        self.timeout = tables.into_iter().flatten().chain(halves).min();
    }
}

fn concerns(effect: Effect, family: Family) -> bool {
    match effect {
        Effect::PermissionExpired(ip) => Family::of(ip) == family,
        Effect::ChannelExpired(_, peer) | Effect::ConnectionClosed(_, peer) => {
            Family::of(peer.0.ip()) == family
        }
        Effect::RelayExpired(_) | Effect::Expired | Effect::CredentialExpired => false,
    }
}

/// Effects that the queue holds room for between sweeps.
const EFFECTS_KEPT: usize = 4;
