//! What a credential store is to the actors: somebody who is asked and takes a while to answer.
//!
//! The stores themselves (SQL, Redis, HTTP) are in the crate `sterna-stores`, which depends on this
//! one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use crate::policy::{TokenKey, UserSecret};

/// Where users, secrets and realms are kept. Every answer may take as long as a network takes; an
/// implementation bounds that by a time-out of its own, and may be asked again while it still
/// answers.
pub trait CredentialStore: Send + Sync {
    /// Names the store in logs: its URL without user and password.
    fn label(&self) -> &str;

    /// The algorithms under which each of its users can be proved.
    fn password_algorithms(&self) -> &[PasswordAlgorithm];

    /// Whether it finds users by the hash of their name (USERHASH).
    fn finds_hashed(&self) -> bool;

    /// Whether [`CredentialStore::users`] may be asked again and again, to see whose account is
    /// gone. A store that cannot tell without the client's request answers false.
    fn can_revalidate(&self) -> bool;

    /// How long an answer is waited for at most. This is for an implementation whose own time-out
    /// fails: what has not come then is taken for no answer.
    fn answers_within(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// The same for [`CredentialStore::realms`], which may have to look through all that there is.
    fn realms_within(&self) -> Duration {
        self.answers_within()
    }

    /// Whether it decides by itself when nobody is asked for a while, after questions that were not
    /// answered. Others are left alone by whoever asks them.
    fn rests_by_itself(&self) -> bool {
        false
    }

    /// The user, or `None` if there is no such user.
    fn user(&self, wanted: UserLookup) -> BoxFuture<'_, Result<Option<StoredUser>, StoreError>>;

    /// Those of the named users that there are, for accounts that are in use.
    fn users(
        &self,
        realm: Arc<str>,
        names: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>>;

    /// The secrets of time-limited credentials of a realm.
    fn rest_secrets(&self, realm: Arc<str>) -> BoxFuture<'_, Result<Vec<Vec<u8>>, StoreError>>;

    /// The key that access tokens are encrypted with (RFC 7635), by its name.
    fn token_key(&self, kid: String) -> BoxFuture<'_, Result<Option<TokenKey>, StoreError>>;

    /// What it says of realms: origins, limits, peers. Realms that are named here and nowhere else
    /// are realms of the server.
    fn realms(&self) -> BoxFuture<'_, Result<Vec<StoredRealm>, StoreError>>;
}

/// Whom a store is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserLookup {
    /// The realm the user claims to be of.
    pub realm: Arc<str>,
    /// The user: by name or by hash, never by token.
    pub user: ClaimedUser,
    /// The algorithm that the client has chosen.
    pub password_algorithm: PasswordAlgorithm,
    /// The client's address.
    pub client: IpAddr,
}

/// A user as a store tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUser {
    /// The name as the store spells it.
    pub name: Arc<str>,
    /// How it proves itself.
    pub secret: UserSecret,
    /// What it may have, where that differs from its realm's.
    pub limits: UserLimits,
    /// Peers allowed or denied to it alone.
    pub peers: Option<Arc<PeerLists>>,
    /// When it ends, since 1970.
    pub expires: Option<Duration>,
    /// How long this answer may be kept, where the store says so; never longer than the cache's
    /// lifetime.
    pub keep: Option<Duration>,
}

impl StoredUser {
    /// A user that lasts and has no limits of its own.
    pub fn lasting(name: &str, secret: UserSecret) -> StoredUser {
        StoredUser {
            name: name.into(),
            secret,
            limits: UserLimits::default(),
            peers: None,
            expires: None,
            keep: None,
        }
    }
}

/// A realm as a store tells of it. What the configuration says of the same realm is added to it,
/// and wins where both name a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRealm {
    /// Its name.
    pub name: Arc<str>,
    /// Values of ORIGIN that ask for it.
    pub origins: Vec<String>,
    /// What its users may have.
    pub quotas: QuotaLimits,
    /// Peers allowed or denied to its users.
    pub peers: PeerLists,
}

/// A store could not answer. The text is for the log and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It is not there: no connection, or no answer in time. Others will fare no better.
    Lost(String),
    /// It has answered, but not what it was asked: this question may be the only one.
    Answered(String),
}

impl StoreError {
    /// What went wrong.
    pub fn text(&self) -> &str {
        let (StoreError::Lost(text) | StoreError::Answered(text)) = self;
        text
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for StoreError {}
