//! What a session tells besides its answers.

use std::borrow::Cow;
use std::sync::Arc;

use crate::guard::ClaimedUser;
use crate::stun::{ErrorCode, Method};

/// What has happened that the log has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A request of a proven user was refused here, before anybody else was asked.
    Refused {
        /// The method.
        method: Method,
        /// The code of the answer.
        code: ErrorCode,
        /// What was wrong with the request.
        why: Cow<'static, str>,
    },
    /// A request was refused because nothing proved its user.
    LoginFailed(LoginFailure),
    /// A request of this user was told to try again, because the stores could not be asked: nobody
    /// knows whether it would have failed.
    LoginUnanswered(ClaimedUser),
}

/// Who has not proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFailure {
    /// The realm.
    pub realm: Arc<str>,
    /// The user as the request names it.
    pub user: ClaimedUser,
    /// Why its proof was not enough.
    pub reason: LoginFailureReason,
}

/// Why a login failed. That there is no such user is none of the reasons: nobody is told who has an
/// account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFailureReason {
    /// No key of such a user proves the request.
    WrongCredentials,
    /// The credential is proved, and over.
    Expired,
    /// The access token cannot be opened.
    MalformedToken,
}

impl LoginFailureReason {
    /// Its name in the log. Names are an interface: they stay.
    pub const fn name(self) -> &'static str {
        match self {
            LoginFailureReason::WrongCredentials => "wrong_credentials",
            LoginFailureReason::Expired => "expired",
            LoginFailureReason::MalformedToken => "malformed_token",
        }
    }
}
