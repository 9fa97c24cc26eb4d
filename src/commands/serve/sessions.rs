//! The sessions of a running relay, for whoever asks over the control socket.

use actix::Addr;
use sterna_actors::quota_keeper::{EndOneSession, ListSessions, QuotaKeeper, SessionSummary};
use sterna_actors::session::SessionId;

use crate::control::{SessionLine, Sessions};

/// The actor that knows them.
pub(super) struct Keeper(pub(super) Addr<QuotaKeeper>);

impl Sessions for Keeper {
    async fn list(&self) -> Option<Vec<SessionLine>> {
        let listed = self.0.send(ListSessions).await.ok()?;
        Some(listed.into_iter().map(line).collect())
    }

    async fn end(&self, session: SessionId) -> Option<bool> {
        self.0.send(EndOneSession(session)).await.ok()
    }
}

fn line(summary: SessionSummary) -> SessionLine {
    SessionLine {
        session: summary.session.to_string(),
        realm: summary.account.realm.to_string(),
        username: summary.account.username.to_string(),
        client: summary.client.to_string(),
        age: summary.age.as_secs(),
    }
}
