//! Who has proved itself to a listener, and who has failed to.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use actix::prelude::*;
use slog::warn;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::session::LoginFailure;
use sterna_proto::stun::{AttributeType, Message, Username};

use super::ListenerActor;
use crate::authenticator::name_behind_expiry;
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

/// The client of a session has proved who it is, for the first time or after it had not.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LoginProved {
    /// The session.
    pub session: SessionId,
    /// Who the client says it is, where its request is still known.
    pub user: Option<ClaimedUser>,
}

/// A client was told to try again: the stores, which may know it, could not be asked.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct LoginUnanswered {
    /// Its session.
    pub session: SessionId,
    /// Its address.
    pub client: SocketAddr,
    /// Who it says it is.
    pub user: ClaimedUser,
}

/// A login from this address has come to nothing at another listener: the limits are the server's.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum Elsewhere {
    /// It has failed.
    Failed(IpAddr),
    /// It could not be answered.
    Unanswered(IpAddr),
}

/// Tell these of logins that come to nothing: the server's other listeners.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Introduce(pub Vec<Recipient<Elsewhere>>);

impl Handler<LoginFailed> for ListenerActor {
    type Result = ();

    /// The words and the order of this line are an interface: contrib/fail2ban reads it.
    fn handle(&mut self, failed: LoginFailed, _: &mut Context<Self>) {
        let LoginFailed { session, client, failure } = failed;
        let (now, source) = (clock::now(), client.ip());
        let reserved = self.take_reserved(session);
        let within = self.logins.fail(source, reserved, now);
        self.doubt(session, source, &failure.user, now);
        if !within {
            return;
        }
        // The limit bounds these messages too.
        self.others.iter().for_each(|other| other.do_send(Elsewhere::Failed(source)));
        let (realm, user) = (OneLine(&failure.realm), user_text(&failure.user));
        let (user, reason) = (OneLine(&user), failure.reason.name());
        warn!(self.log,
            "auth failed: realm=<{realm}> username=<{user}> client=<{client}> reason=<{reason}>";
            "realm" => %realm, "username" => %user, "client" => %client, "reason" => reason);
    }
}

impl Handler<LoginUnanswered> for ListenerActor {
    type Result = ();

    /// Nobody has guessed, so that the log has no line for each; but each costs as much.
    fn handle(&mut self, unanswered: LoginUnanswered, _: &mut Context<Self>) {
        let LoginUnanswered { session, client, user } = unanswered;
        let (now, source) = (clock::now(), client.ip());
        let reserved = self.take_reserved(session);
        let within = self.logins.leave_unanswered(source, bytes_of(&user), reserved, now);
        self.doubt(session, source, &user, now);
        if within {
            self.others.iter().for_each(|other| other.do_send(Elsewhere::Unanswered(source)));
        }
    }
}

impl Handler<LoginProved> for ListenerActor {
    type Result = ();

    fn handle(&mut self, LoginProved { session, user }: LoginProved, _: &mut Context<Self>) {
        let key = self.clients.of(session);
        if let Some(client) = key.and_then(|key| self.clients.get_mut(key)) {
            client.proved = true;
            let on_trial = std::mem::take(&mut client.on_trial);
            let source = client.five_tuple.client.ip();
            let user = user.as_ref().and_then(bytes_of);
            self.logins.prove(source, user, on_trial, clock::now());
        }
    }
}

impl Handler<Elsewhere> for ListenerActor {
    type Result = ();

    fn handle(&mut self, elsewhere: Elsewhere, _: &mut Context<Self>) {
        match elsewhere {
            Elsewhere::Failed(source) => self.logins.note_failed(source, clock::now()),
            Elsewhere::Unanswered(source) => self.logins.note_unanswered(source, clock::now()),
        }
    }
}

impl ListenerActor {
    /// Whether the login was counted when it was let in; it is not any more.
    fn take_reserved(&mut self, session: SessionId) -> bool {
        let key = self.clients.of(session);
        let client = key.and_then(|key| self.clients.get_mut(key));
        let Some(client) = client.filter(|client| client.on_trial > 0) else { return false };
        client.on_trial -= 1;
        true
    }

    /// Who is in must not guess without end what others have for a password.
    fn doubt(&mut self, session: SessionId, source: IpAddr, user: &ClaimedUser, now: Instant) {
        if !self.logins.shuts_out(source, || bytes_of(user), now) {
            return;
        }
        let key = self.clients.of(session);
        if let Some(client) = key.and_then(|key| self.clients.get_mut(key)) {
            client.proved = false;
        }
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

/// What a user is remembered by. Another time-limited credential is the same user's; a token is
/// remembered by nobody.
fn bytes_of(user: &ClaimedUser) -> Option<&[u8]> {
    match user {
        ClaimedUser::Named(name) => Some(name_behind_expiry(name).as_bytes()),
        ClaimedUser::Hashed(hash) => Some(hash),
        ClaimedUser::Token { .. } => None,
    }
}

/// The same of whoever a request says it comes from.
pub(super) fn claimed_in<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    match message.read::<Username<'_>>() {
        Ok(Some(Username(name))) => Some(name_behind_expiry(name).as_bytes()),
        Ok(None) | Err(_) => message.raw(AttributeType::USERHASH),
    }
}
