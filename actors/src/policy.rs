//! Who may relay what: realms, credential sources, quotas and peers. All of it can be replaced
//! while the server runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use crate::credential_store::CredentialStore;

pub use sterna_proto::account::ExpiryPolicy;

/// See the head of this file. It holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct Policy {
    /// The realms of the configuration; stores may add others. Never empty: the first is the one
    /// whose users are asked for where neither listener nor ORIGIN names another.
    pub realms: Vec<Realm>,
    /// Where users and secrets are looked up that the configuration does not name, in this order.
    pub stores: Vec<Arc<dyn CredentialStore>>,
    /// How long what a store said is believed without asking again, and for how many users.
    pub cache: CacheTerms,
    /// What the end of a credential ends.
    pub expiry: ExpiryPolicy,
    /// Access tokens of a third party (RFC 7635); `None` takes none.
    pub oauth: Option<OAuth>,
    /// Which peers may be relayed to, for everybody.
    pub peers: PeerLists,
    /// What all realms may have together.
    pub quotas: QuotaLimits,
}

/// One realm: whose users they are, and what they may.
#[derive(Clone)]
pub struct Realm {
    /// Its name (RFC 8489 §14.9).
    pub name: Arc<str>,
    /// Values of ORIGIN that ask for it.
    pub origins: Vec<String>,
    /// Static users.
    pub users: Vec<(String, StaticUser)>,
    /// Secrets of time-limited credentials; any of them is good, so that they can rotate.
    pub rest_secrets: Vec<Vec<u8>>,
    /// Secrets of signed tokens as user names (JWT, HS256); any of them is good.
    pub jwt_secrets: Vec<Vec<u8>>,
    /// What its users may have; `allocations` and `bandwidth` are those of the realm as a whole.
    pub quotas: QuotaLimits,
    /// Peers allowed or denied to its users.
    pub peers: PeerLists,
}

impl Realm {
    /// A realm with these users and nothing else of its own.
    pub fn of_users(name: &str, users: Vec<(String, UserSecret)>) -> Realm {
        let user = |(name, secret)| (name, StaticUser::plain(secret));
        Realm {
            name: name.into(),
            origins: Vec::new(),
            users: users.into_iter().map(user).collect(),
            rest_secrets: Vec::new(),
            jwt_secrets: Vec::new(),
            quotas: QuotaLimits::default(),
            peers: PeerLists::default(),
        }
    }
}

/// A user of the configuration.
#[derive(Clone, Debug)]
pub struct StaticUser {
    /// How it proves itself.
    pub secret: UserSecret,
    /// What it may have, where that differs from its realm's.
    pub limits: UserLimits,
    /// Peers allowed or denied to it alone.
    pub peers: Option<Arc<PeerLists>>,
}

impl StaticUser {
    /// A user without limits or peers of its own.
    pub fn plain(secret: UserSecret) -> StaticUser {
        StaticUser { secret, limits: UserLimits::default(), peers: None }
    }
}

/// How a user proves itself.
#[derive(Clone, PartialEq, Eq)]
pub enum UserSecret {
    /// The password; keys are derived from it.
    Password(String),
    /// Keys already derived for the user's realm.
    Keys {
        /// `MD5(username:realm:password)`.
        md5: Option<[u8; 16]>,
        /// `SHA-256(username:realm:password)`.
        sha256: Option<[u8; 32]>,
    },
}

// Secrets must not reach a log by way of `{:?}`.
impl fmt::Debug for UserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UserSecret::Password(_) => "Password(..)",
            UserSecret::Keys { .. } => "Keys(..)",
        })
    }
}

/// Bounds of what an Authenticator remembers of its stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTerms {
    /// Users of one Authenticator; the one that was asked for least recently goes first.
    pub entries: usize,
    /// How long an answer is good without asking again.
    pub lifetime: Duration,
    /// How long after its store confirmed it an answer stands in for a store that is down.
    pub outage: Duration,
}

/// Access tokens of a third party (RFC 7635).
#[derive(Clone)]
pub struct OAuth {
    /// This server's name, which tokens are made for and THIRD-PARTY-AUTHORIZATION tells clients.
    pub server_name: String,
    /// The keys that tokens are encrypted with; stores may have others.
    pub keys: Vec<TokenKey>,
}

/// A key that this server shares with an authorization server.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name, which clients send as USERNAME.
    pub kid: String,
    /// The key of AES-GCM: 32 bytes for A256GCM, 16 for A128GCM.
    pub key: Vec<u8>,
    /// The realm that its users belong to; `None` is the default one.
    pub realm: Option<Arc<str>>,
    /// When it becomes good and when it ends, in seconds since 1970.
    pub valid: Option<(u64, u64)>,
}

impl TokenKey {
    /// What may be kept of the key, to know it again.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.key).into()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}
