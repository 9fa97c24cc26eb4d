//! What the commands `sterna user`, `sterna secret` and `sterna realm` do to a store.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use sterna_actors::credential_store::{StoreError, StoredRealm};
use sterna_actors::policy::TokenKey;
use sterna_proto::credentials::{Key, OpaqueStringError, PasswordAlgorithm};
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use crate::url::{Place, StoreUrl};
use crate::{OpenError, redis_store, sql};

/// Open a store to change it. An SQLite database that is missing is made: who adds the first user
/// means that.
pub async fn open(url: &StoreUrl) -> Result<Box<dyn Admin>, OpenError> {
    let mut url = url.clone();
    if let Place::Sqlite { create, .. } = &mut url.place {
        *create = true;
    }
    look(&url).await
}

/// Open a store to list what is in it. What is missing is an error.
pub async fn look(url: &StoreUrl) -> Result<Box<dyn Admin>, OpenError> {
    match url.place {
        Place::Redis(ref place) => redis_store::admin::open(url, place).await,
        Place::Sqlite { .. } | Place::Postgres(_) | Place::MySql(_) => sql::admin::open(url).await,
    }
}

/// A store that can be changed.
pub trait Admin: Send + Sync {
    /// The store's URL without user and password.
    fn label(&self) -> &str;

    /// Add a user; one of that name is an error.
    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<(), AdminError>>;

    /// The users of a realm, or of all realms, by realm and name.
    fn list_users<'a>(
        &'a self,
        realm: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ListedUser>, AdminError>>;

    /// One user, without a look at the others.
    fn find_user<'a>(
        &'a self,
        realm: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<ListedUser>, AdminError>>;

    /// How much there is in the store.
    fn counts(&self) -> BoxFuture<'_, Result<Counts, AdminError>>;

    /// Replace a user's keys.
    fn set_keys<'a>(
        &'a self,
        realm: &'a str,
        name: &'a str,
        keys: UserKeys,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Replace a user's limits and the date of its end.
    fn set_limits<'a>(
        &'a self,
        realm: &'a str,
        name: &'a str,
        limits: UserLimits,
        expires: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Remove a user, its limits and its peers.
    fn remove_user<'a>(
        &'a self,
        realm: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Add a secret of time-limited credentials.
    fn add_secret<'a>(
        &'a self,
        realm: &'a str,
        secret: &'a str,
    ) -> BoxFuture<'a, Result<ListedSecret, AdminError>>;

    /// The secrets of a realm, or of all realms, oldest first; never their text.
    fn list_secrets<'a>(
        &'a self,
        realm: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ListedSecret>, AdminError>>;

    /// Add a secret and remove all but the newest `keep` of those that were there before, so that
    /// what they have signed is good until the next rotation. Answers those that are removed.
    fn rotate_secret<'a>(
        &'a self,
        realm: &'a str,
        secret: &'a str,
        keep: usize,
    ) -> BoxFuture<'a, Result<Vec<ListedSecret>, AdminError>>;

    /// Remove the secret with this fingerprint, or the only one whose fingerprint begins so.
    fn remove_secret<'a>(
        &'a self,
        realm: &'a str,
        fingerprint: &'a str,
    ) -> BoxFuture<'a, Result<ListedSecret, AdminError>>;

    /// The realms with what the store says of each.
    fn list_realms(&self) -> BoxFuture<'_, Result<Vec<StoredRealm>, AdminError>>;

    /// Replace the limits of a realm, which is made by that.
    fn set_realm<'a>(
        &'a self,
        realm: &'a str,
        quotas: QuotaLimits,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Remove the limits, origins and peers of a realm. Its users and secrets stay.
    fn remove_realm<'a>(&'a self, realm: &'a str) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Let an ORIGIN ask for a realm; it asks for no other from then on.
    fn add_origin<'a>(
        &'a self,
        origin: &'a str,
        realm: &'a str,
    ) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Forget an ORIGIN.
    fn remove_origin<'a>(&'a self, origin: &'a str) -> BoxFuture<'a, Result<(), AdminError>>;

    /// Allow or deny peers to a realm, or to one user of it.
    fn add_peer(&self, rule: PeerRule) -> BoxFuture<'_, Result<(), AdminError>>;

    /// The peer rules of a realm and of its users, or of all realms.
    fn list_peers<'a>(
        &'a self,
        realm: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<PeerRule>, AdminError>>;

    /// Remove a peer rule.
    fn remove_peer(&self, rule: PeerRule) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Add a key of access tokens, or replace the one of that name.
    fn set_token_key(&self, key: TokenKey) -> BoxFuture<'_, Result<(), AdminError>>;

    /// The keys of access tokens.
    fn list_token_keys(&self) -> BoxFuture<'_, Result<Vec<TokenKey>, AdminError>>;

    /// Remove a key of access tokens.
    fn remove_token_key<'a>(&'a self, kid: &'a str) -> BoxFuture<'a, Result<(), AdminError>>;
}

/// How much there is in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Users of all realms.
    pub users: u64,
    /// Secrets of all realms.
    pub secrets: u64,
    /// Realms of which it says something.
    pub realms: u64,
}

/// A user to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// Its realm.
    pub realm: String,
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: UserKeys,
    /// What it may have, where that differs from its realm's.
    pub limits: UserLimits,
    /// When it ends, since 1970.
    pub expires: Option<Duration>,
}

/// The keys of a user, one at least. Keys are kept, not passwords: who reads a store cannot try the
/// passwords elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct UserKeys {
    /// `MD5(username:realm:password)`, for clients of RFC 5389.
    pub md5: Option<[u8; 16]>,
    /// `SHA-256(username:realm:password)`, for clients of RFC 8489.
    pub sha256: Option<[u8; 32]>,
}

impl UserKeys {
    /// Both keys of a password.
    pub fn of_password(
        realm: &str,
        name: &str,
        password: &str,
    ) -> Result<UserKeys, OpaqueStringError> {
        let key = |algorithm| Key::long_term(algorithm, name, realm, password);
        let md5 = key(PasswordAlgorithm::Md5)?.as_bytes().try_into().ok();
        let sha256 = key(PasswordAlgorithm::Sha256)?.as_bytes().try_into().ok();
        Ok(UserKeys { md5, sha256 })
    }
}

// A key is as good as the password.
impl fmt::Debug for UserKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserKeys(..)")
    }
}

/// A user as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// Its realm.
    pub realm: String,
    /// Its name.
    pub name: String,
    /// Whether it can prove itself with MD5.
    pub md5: bool,
    /// Whether it can prove itself with SHA-256.
    pub sha256: bool,
    /// What it may have, where that differs from its realm's.
    pub limits: UserLimits,
    /// When it ends, since 1970.
    pub expires: Option<Duration>,
}

/// A secret as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSecret {
    /// Its realm.
    pub realm: String,
    /// What it is called, since its text is not shown; see [`fingerprint`].
    pub fingerprint: String,
    /// When it was added, since 1970; `None` if the store does not tell.
    pub added: Option<Duration>,
}

/// Peers that are allowed or denied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerRule {
    /// The realm.
    pub realm: String,
    /// The user of that realm, or everybody in it.
    pub user: Option<String>,
    /// Which of the two.
    pub verdict: Verdict,
    /// The peers.
    pub network: IpNet,
}

/// Whether peers are allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// They may be relayed to.
    Allow,
    /// They may not.
    Deny,
}

/// What a secret is called where its text must not be shown: the first half of the bytes that tell
/// it from others are public, and give nothing of the secret away.
pub fn fingerprint(secret: &str) -> String {
    let digest = Sha256::new().chain_update("sterna secret ").chain_update(secret).finalize();
    hex::encode(digest.as_slice().get(..FINGERPRINT_BYTES).unwrap_or_default())
}

/// Why a store was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// There is one already; the text names it.
    Exists(String),
    /// There is none; the text names it.
    Missing(String),
    /// What was given cannot be kept; the text says why.
    Invalid(String),
    /// The store has coturn's tables, which are read and not written; the text says what does.
    ReadOnly(String),
    /// The store did not answer, or answered with an error.
    Store(StoreError),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Exists(what) => write!(f, "{what} exists already"),
            AdminError::Missing(what) => write!(f, "there is no {what}"),
            AdminError::Invalid(why) | AdminError::ReadOnly(why) => f.write_str(why),
            AdminError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AdminError {}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> AdminError {
        AdminError::Store(error)
    }
}

/// The one secret whose fingerprint is, or begins with, what was typed.
pub(crate) fn secret_named<'a>(
    fingerprints: impl Iterator<Item = (usize, &'a str)>,
    wanted: &str,
) -> Result<usize, AdminError> {
    let what = || format!("secret with the fingerprint {wanted}");
    let found: Vec<usize> = fingerprints
        .filter(|(_, fingerprint)| !wanted.is_empty() && fingerprint.starts_with(wanted))
        .map(|(index, _)| index)
        .collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(AdminError::Missing(what())),
        _ => Err(AdminError::Invalid(format!("several secrets begin with {wanted}"))),
    }
}

/// Names that RFC 8489 and the columns of a database can hold.
pub(crate) fn check_name(what: &str, name: &str, longest: usize) -> Result<(), AdminError> {
    let invalid = |why: &str| Err(AdminError::Invalid(format!("{what} {why}")));
    match name {
        "" => invalid("is empty"),
        _ if name.len() > longest => invalid(&format!("has more than {longest} bytes")),
        _ if name.chars().any(char::is_control) => invalid("has a control character in it"),
        _ => Ok(()),
    }
}

/// Bytes of a realm (RFC 8489 §14.9).
pub(crate) const REALM_MAX: usize = 763;
/// Bytes of a user's name (RFC 8489 §14.3).
pub(crate) const NAME_MAX: usize = 508;
/// Bytes of a secret.
pub(crate) const SECRET_MAX: usize = 1024;
/// Bytes of an ORIGIN.
pub(crate) const ORIGIN_MAX: usize = 267;
/// Bytes of the name of a token key.
pub(crate) const KID_MAX: usize = 508;
const FINGERPRINT_BYTES: usize = 6;
