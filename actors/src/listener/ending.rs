//! How clients are ended, one of them or all.

use actix::prelude::*;
use slog::info;
use tokio::sync::oneshot;

use super::ListenerActor;
use crate::allocation::{EndAllocation, EndReason};
use crate::session::{EndSession, SessionId};

/// End a session and its allocation; the log gives the reason. Its client may come again.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct EndClient {
    /// The session.
    pub session: SessionId,
    /// Why.
    pub reason: EndReason,
}

/// Stop: take no new work, answer what is in flight, end every session and allocation.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// Told when the last of them has ended.
    pub done: oneshot::Sender<()>,
}

impl Handler<EndClient> for ListenerActor {
    type Result = ();

    fn handle(&mut self, EndClient { session, reason }: EndClient, _: &mut Context<Self>) {
        let key = self.clients.of(session);
        let Some(client) = key.and_then(|key| self.clients.get_mut(key)) else { return };
        client.ended.get_or_insert(reason);
        if let Some((_, allocation)) = &client.allocation {
            allocation.do_send(EndAllocation(reason));
        }
        client.session.do_send(EndSession);
    }
}

impl Handler<Shutdown> for ListenerActor {
    type Result = ();

    fn handle(&mut self, shutdown: Shutdown, ctx: &mut Context<Self>) {
        self.closing = Some(shutdown.done);
        for client in self.clients.iter() {
            client.session.do_send(EndSession);
        }
        self.finish_if_closed(ctx);
    }
}

impl ListenerActor {
    pub(super) fn finish_if_closed(&mut self, ctx: &mut Context<Self>) {
        if self.clients.is_empty()
            && let Some(done) = self.closing.take()
        {
            for listen in &self.listen {
                info!(self.log, "listener closed"; "url" => %listen);
            }
            // Whoever asked has not waited this long.
            let _ = done.send(());
            ctx.stop();
        }
    }
}
