//! The terms that an allocation lives by, and what they refuse it.

use std::fmt;
use std::sync::Arc;

use actix::prelude::*;
use slog::info;
use sterna_proto::account::ExpiryPolicy;
use sterna_proto::allocation::Terms;
use sterna_proto::peer_rules::Denied;
use sterna_proto::request::Offer;

use super::AllocationActor;
use crate::clock;
use crate::usage::OneLine;

/// Live by other terms from now on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SetTerms {
    /// Lifetimes, limits and peer rules.
    pub terms: Arc<Terms>,
    /// What the client's indications may ask for.
    pub offer: Offer,
    /// What the end of its credential ends.
    pub expiry: ExpiryPolicy,
}

impl Handler<SetTerms> for AllocationActor {
    type Result = ();

    fn handle(&mut self, set: SetTerms, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.offer = set.offer;
        self.core.set_terms(set.terms, now);
        self.core.end_by(self.owner.account.allocation_ends(set.expiry));
        self.core.handle_timeout(now);
        self.flush(ctx);
    }
}

impl AllocationActor {
    /// One line for each request that the peer rules refuse; data to refused peers is counted.
    pub(super) fn log_refused_peer(&self, peer: &dyn fmt::Display, rule: Denied) {
        info!(self.log, "session {}: peer refused: {} by {}", self.session, peer, rule;
            "session" => %self.session, "peer" => %peer, "rule" => %rule,
            "realm" => %OneLine(&self.owner.account.realm),
            "username" => %OneLine(&self.owner.account.username));
    }
}
