//! The right to an allocation, and with it what the allocation may relay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use sterna_proto::quotas::{Ask, Direction, Gate, GateTerms, Grant, PerDirection};

use super::{AskCredit, AttachAllocation, LeaseEnded, LeaseId, QuotaKeeper};
use crate::allocation::{GrantCredit, SetBandwidth};
use crate::clock;

/// The right to an allocation. It gives itself back, and the credit that is left with it.
#[derive(Debug)]
pub struct QuotaLease {
    id: LeaseId,
    gate: Option<Box<Gate>>,
    /// Packets that found no credit, since the keeper was told last.
    dropped: u64,
    keeper: Arc<Keeper>,
}

/// The way back to the keeper, one for all leases.
#[derive(Debug)]
pub(super) struct Keeper {
    attach: Recipient<AttachAllocation>,
    ask: Recipient<AskCredit>,
    ended: Recipient<LeaseEnded>,
}

impl Keeper {
    pub(super) fn of(keeper: &Addr<QuotaKeeper>) -> Keeper {
        Keeper {
            attach: keeper.clone().recipient(),
            ask: keeper.clone().recipient(),
            ended: keeper.clone().recipient(),
        }
    }
}

impl QuotaLease {
    pub(super) fn new(id: LeaseId, terms: GateTerms, keeper: Arc<Keeper>) -> QuotaLease {
        let gate = Gate::new(terms, clock::now()).map(Box::new);
        QuotaLease { id, gate, dropped: 0, keeper }
    }

    /// Tells the keeper whom to tell of limits and credit, and asks for the first credit.
    pub fn attach(
        &mut self,
        set_bandwidth: Recipient<SetBandwidth>,
        grant_credit: Recipient<GrantCredit>,
    ) {
        // Once for each lease, so that the number of leases bounds how many wait.
        let (set_bandwidth, grant_credit) = (set_bandwidth.downgrade(), grant_credit.downgrade());
        let attached = AttachAllocation { lease: self.id, set_bandwidth, grant_credit };
        self.keeper.attach.do_send(attached);
        self.ask_ahead(clock::now());
    }

    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether so many bytes of application data may be relayed; they count if so.
    pub fn pass(&mut self, direction: Direction, bytes: usize, now: Instant) -> bool {
        let Some(gate) = &mut self.gate else { return true };
        let passes = gate.pass(direction, bytes as u64, now);
        self.dropped += u64::from(!passes);
        passes
    }

    /// Takes up to `most` bytes for a stream.
    ///
    /// # Errors
    /// How long to wait before the next try.
    pub fn draw(&mut self, direction: Direction, most: u64, now: Instant) -> Result<u64, Duration> {
        let Some(gate) = &mut self.gate else { return Ok(most) };
        let drawn = gate.draw(direction, most, now);
        self.ask_ahead(now);
        drawn
    }

    /// Takes back what a stream has drawn and not used.
    pub fn put_back(&mut self, unused: PerDirection<u64>) {
        let Some(gate) = &mut self.gate else { return };
        for (direction, bytes) in Direction::BOTH.into_iter().zip(unused) {
            gate.put_back(direction, bytes);
        }
    }

    /// Asks for credit where there will soon be too little. Called once for a batch of packets.
    pub fn ask_ahead(&mut self, now: Instant) {
        let Some(ask) = self.gate.as_mut().and_then(|gate| gate.poll_ask(now)) else { return };
        self.tell(ask);
    }

    /// Changes the limits.
    pub fn set_terms(&mut self, terms: GateTerms, now: Instant) {
        match &mut self.gate {
            None => self.gate = Gate::new(terms, now).map(Box::new),
            Some(gate) => {
                gate.set_terms(terms, now);
                if !gate.limits() {
                    self.gate = None;
                }
            }
        }
        self.ask_ahead(now);
    }

    /// Takes what was asked for.
    pub fn grant(&mut self, grant: Grant, now: Instant) {
        if let Some(gate) = &mut self.gate {
            gate.grant(grant, now);
        }
    }

    fn tell(&mut self, ask: Ask) {
        let dropped = std::mem::take(&mut self.dropped);
        // One at a time for each lease, so that the number of leases bounds how many wait.
        self.keeper.ask.do_send(AskCredit { lease: self.id, ask, dropped });
    }
}

impl Drop for QuotaLease {
    fn drop(&mut self) {
        let left = self.gate.as_mut().map_or([0; 2], |gate| gate.left(clock::now()));
        // With the keeper gone nobody counts any more.
        self.keeper.ended.do_send(LeaseEnded { lease: self.id, left, dropped: self.dropped });
    }
}
