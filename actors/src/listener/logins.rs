//! Who has proved itself to a listener, and who has failed to.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use actix::prelude::*;
use slog::warn;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::session::LoginFailure;

use super::ListenerActor;
use crate::clock;
use crate::session::SessionId;
use crate::usage::OneLine;

/// A client has not proved who it is.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LoginFailed {
    /// Its session.
    pub session: SessionId,
    /// Its address.
    pub client: SocketAddr,
    /// Who it says it is, and what was wrong.
    pub failure: LoginFailure,
}

/// The client of a session has proved who it is, for the first time or after it had failed to.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LoginProved(pub SessionId);

/// A client from this address has failed to log in at another listener: the limit is the server's.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct FailedElsewhere(pub IpAddr);

/// Tell these of failed logins: the server's other listeners.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Introduce(pub Vec<Recipient<FailedElsewhere>>);

impl Handler<LoginFailed> for ListenerActor {
    type Result = ();

    /// The words and the order of this line are an interface: contrib/fail2ban reads it.
    fn handle(&mut self, failed: LoginFailed, _: &mut Context<Self>) {
        let LoginFailed { session, client, failure } = failed;
        let (now, source) = (clock::now(), client.ip());
        let key = self.clients.of(session);
        let mut known = key.and_then(|key| self.clients.get_mut(key));
        let on_trial = known.as_mut().map(|client| &mut client.on_trial);
        let within = match on_trial.filter(|on_trial| **on_trial > 0) {
            // Counted when it was let in, which was within the limit.
            Some(on_trial) => {
                *on_trial -= 1;
                true
            }
            None => self.failed_logins.note(source, now),
        };
        // Who is in must not guess what others have for a password.
        if let Some(client) = known.filter(|_| self.failed_logins.is_shut_out(source, now)) {
            client.proved = false;
        }
        if !within {
            return;
        }
        // The limit bounds these messages too.
        self.others.iter().for_each(|other| other.do_send(FailedElsewhere(source)));
        let (realm, user) = (OneLine(&failure.realm), user_text(&failure.user));
        let (user, reason) = (OneLine(&user), failure.reason.name());
        warn!(self.log,
            "auth failed: realm=<{realm}> username=<{user}> client=<{client}> reason=<{reason}>";
            "realm" => %realm, "username" => %user, "client" => %client, "reason" => reason);
    }
}

impl Handler<LoginProved> for ListenerActor {
    type Result = ();

    fn handle(&mut self, LoginProved(session): LoginProved, _: &mut Context<Self>) {
        let key = self.clients.of(session);
        if let Some(client) = key.and_then(|key| self.clients.get_mut(key)) {
            client.proved = true;
            let on_trial = std::mem::take(&mut client.on_trial);
            let source = client.five_tuple.client.ip();
            self.failed_logins.give_back(source, on_trial, clock::now());
        }
    }
}

impl Handler<FailedElsewhere> for ListenerActor {
    type Result = ();

    fn handle(&mut self, FailedElsewhere(source): FailedElsewhere, _: &mut Context<Self>) {
        self.failed_logins.note(source, clock::now());
    }
}

impl Handler<Introduce> for ListenerActor {
    type Result = ();

    fn handle(&mut self, Introduce(others): Introduce, _: &mut Context<Self>) {
        self.others = others;
    }
}

/// The user as the log names it. A hash tells no name, but it is the same for the same user.
fn user_text(user: &ClaimedUser) -> Cow<'_, str> {
    match user {
        ClaimedUser::Named(name) | ClaimedUser::Token { kid: name, .. } => Cow::Borrowed(name),
        ClaimedUser::Hashed(hash) => {
            let hex = hash
                .iter()
                .fold("userhash:".to_owned(), |text, byte| text + &format!("{byte:02x}"));
            Cow::Owned(hex)
        }
    }
}
