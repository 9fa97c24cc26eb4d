//! The terms that a listener, its sessions and their allocations live by, and how they change.

use std::sync::Arc;

use actix::prelude::*;
use sterna_proto::allocation::Terms;
use sterna_proto::session::SessionTerms;

use super::ListenerActor;
use crate::allocation;
use crate::session::{SessionNeighbours, SetNeighbours};

/// Serve by other terms: clients to come at once, living sessions from their next request on, and
/// allocations end what the new rules refuse.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SetTerms {
    /// The realms, their nonces, what may be asked for.
    pub session: Arc<SessionTerms>,
    /// Lifetimes, limits and peer rules of allocations.
    pub allocation: Arc<Terms>,
}

impl Handler<SetTerms> for ListenerActor {
    type Result = ();

    fn handle(&mut self, SetTerms { session, allocation }: SetTerms, _: &mut Context<Self>) {
        let mut neighbours = SessionNeighbours::clone(&self.neighbours);
        neighbours.session_terms = session;
        neighbours.allocation_terms = allocation;
        self.neighbours = Arc::new(neighbours);
        for client in self.clients.iter() {
            client.session.do_send(SetNeighbours(self.neighbours.clone()));
            if let Some((_, allocation)) = &client.allocation {
                allocation.do_send(self.allocation_terms());
            }
        }
    }
}

impl ListenerActor {
    pub(super) fn allocation_terms(&self) -> allocation::SetTerms {
        let SessionNeighbours { session_terms, allocation_terms, .. } = &*self.neighbours;
        allocation::SetTerms {
            terms: allocation_terms.clone(),
            offer: session_terms.offer,
            expiry: session_terms.expiry,
        }
    }
}
