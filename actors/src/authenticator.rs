//! Authenticator: whose key proves a claim.
//!
//! - Owns: the keys of the static users, the secrets of time-limited credentials.
//! - Started by: the server, once on each arbiter.
//! - Hears from: the SessionActors of its arbiter.
//! - Stops when: the server does.
//! - If it panics: healed in place, keys derived anew from the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use slog::{Logger, debug};
use smallvec::{SmallVec, smallvec};
use sterna_proto::credentials::{Key, PasswordAlgorithm, user_hash};
use sterna_proto::guard::{Claim, ClaimedUser};
use sterna_proto::session::FoundKeys;

use crate::clock;
use crate::config::UserSecret;
use crate::supervision::{self, Spent};

/// Find the keys under which a claim may be proved. Always answered: a user that does not exist has
/// a decoy for a key.
#[derive(Clone, Debug, Message)]
#[rtype(result = "FoundKeys")]
pub struct FindKeys(pub Claim);

/// Panic, to test supervision.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

/// Where credentials come from. It holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct CredentialSources {
    /// The realm that keys are derived for.
    pub realm: String,
    /// Static users.
    pub users: Vec<(String, UserSecret)>,
    /// Secrets of time-limited credentials.
    pub rest_secrets: Vec<Vec<u8>>,
}

impl CredentialSources {
    /// The password algorithms under which every user can be proved, best first.
    pub fn password_algorithms(&self) -> Vec<PasswordAlgorithm> {
        let has = |algorithm| {
            self.users.iter().all(|(_, secret)| match (secret, algorithm) {
                (UserSecret::Password(_), _) => true,
                (UserSecret::Keys { md5, .. }, PasswordAlgorithm::Md5) => md5.is_some(),
                (UserSecret::Keys { sha256, .. }, PasswordAlgorithm::Sha256) => sha256.is_some(),
            })
        };
        let mut algorithms = vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
        algorithms.retain(|&algorithm| has(algorithm));
        algorithms
    }

    /// Whether a user can be found by the hash of its name. A time-limited credential's name is
    /// made up by whoever minted it, so its hash tells nothing.
    pub fn username_anonymity(&self) -> bool {
        self.rest_secrets.is_empty()
    }
}

/// See the head of this file.
pub struct Authenticator {
    sources: CredentialSources,
    users: HashMap<Arc<str>, UserKeys>,
    by_hash: HashMap<[u8; 32], Arc<str>>,
    log: Logger,
}

struct UserKeys {
    md5: Option<Key>,
    sha256: Option<Key>,
}

impl UserKeys {
    fn get(&self, algorithm: PasswordAlgorithm) -> Option<&Key> {
        match algorithm {
            PasswordAlgorithm::Md5 => self.md5.as_ref(),
            PasswordAlgorithm::Sha256 => self.sha256.as_ref(),
        }
    }
}

impl Authenticator {
    /// Starts an authenticator over `sources`.
    pub fn start(
        sources: CredentialSources,
        log: Logger,
        on_spent: impl FnOnce(Spent) + 'static,
    ) -> Addr<Authenticator> {
        let mut actor = Authenticator {
            sources,
            users: HashMap::new(),
            by_hash: HashMap::new(),
            log: log.clone(),
        };
        actor.derive_keys();
        let mut context = Context::new();
        context.set_mailbox_capacity(MAILBOX);
        supervision::heal(supervision::AUTHENTICATOR, log, context, actor, on_spent)
    }

    fn derive_keys(&mut self) {
        self.users.clear();
        self.by_hash.clear();
        let realm = &self.sources.realm;
        for (name, secret) in &self.sources.users {
            let name: Arc<str> = name.as_str().into();
            if let Ok(hash) = user_hash(&name, realm) {
                self.by_hash.insert(hash, name.clone());
            }
            let keys = UserKeys {
                md5: secret.key(PasswordAlgorithm::Md5, &name, realm),
                sha256: secret.key(PasswordAlgorithm::Sha256, &name, realm),
            };
            self.users.insert(name, keys);
        }
    }

    fn find(&self, claim: &Claim) -> Option<FoundKeys> {
        let name = match &claim.user {
            ClaimedUser::Named(name) => name.as_str(),
            ClaimedUser::Hashed(hash) => self.by_hash.get(hash)?,
        };
        if let Some((name, keys)) = self.users.get_key_value(name) {
            let key = keys.get(claim.password_algorithm)?.clone();
            return Some(FoundKeys { username: Some(name.clone()), keys: smallvec![key] });
        }
        self.find_time_limited(name, claim.password_algorithm)
    }

    /// The keys of a time-limited credential, one for each secret.
    fn find_time_limited(&self, name: &str, algorithm: PasswordAlgorithm) -> Option<FoundKeys> {
        let expiry = expiry_of(name)?;
        if expiry <= clock::unix_now() {
            debug!(self.log, "time-limited credential has expired"; "expiry" => expiry.as_secs());
            return None;
        }
        let keys: SmallVec<[Key; 1]> = self
            .sources
            .rest_secrets
            .iter()
            .filter_map(|secret| {
                let password = time_limited_password(secret, name)?;
                Key::long_term(algorithm, name, &self.sources.realm, &password).ok()
            })
            .collect();
        let username = (!keys.is_empty()).then(|| name.into());
        username.map(|username| FoundKeys { username: Some(username), keys })
    }
}

impl Actor for Authenticator {
    type Context = Context<Self>;
}

impl Supervised for Authenticator {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.derive_keys();
    }
}

impl Handler<FindKeys> for Authenticator {
    type Result = MessageResult<FindKeys>;

    fn handle(&mut self, FindKeys(claim): FindKeys, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.find(&claim).unwrap_or_else(|| decoy(claim.password_algorithm)))
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<Panic> for Authenticator {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("injected into the Authenticator");
    }
}

impl UserSecret {
    fn key(&self, algorithm: PasswordAlgorithm, name: &str, realm: &str) -> Option<Key> {
        match (self, algorithm) {
            (UserSecret::Password(password), _) => {
                Key::long_term(algorithm, name, realm, password).ok()
            }
            (UserSecret::Keys { md5, .. }, PasswordAlgorithm::Md5) => {
                Key::from_bytes(algorithm, md5.as_ref()?).ok()
            }
            (UserSecret::Keys { sha256, .. }, PasswordAlgorithm::Sha256) => {
                Key::from_bytes(algorithm, sha256.as_ref()?).ok()
            }
        }
    }
}

/// A key that nobody has, for users that do not exist: refusing them takes as long as refusing a
/// wrong password.
fn decoy(algorithm: PasswordAlgorithm) -> FoundKeys {
    let bytes: [u8; 32] = rand::random();
    let key = bytes.get(..algorithm.key_len()).map(|bytes| Key::from_bytes(algorithm, bytes));
    FoundKeys { username: None, keys: key.into_iter().flatten().collect() }
}

/// The moment at the head of a time-limited user name, `expiry` or `expiry:name`, in seconds since
/// 1970. Digits only: neither sign nor space nor a number past 64 bits.
fn expiry_of(name: &str) -> Option<Duration> {
    let digits = name.split_once(':').map_or(name, |(digits, _)| digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Duration::from_secs)
}

/// The password that goes with a time-limited user name: `base64(HMAC-SHA1(secret, name))`.
pub fn time_limited_password(secret: &[u8], name: &str) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(name.as_bytes());
    Some(base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        mac.finalize().into_bytes(),
    ))
}

/// Claims that wait at once; further sessions wait for room.
const MAILBOX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_read_strictly() {
        let cases = [
            ("1700000000", Some(1_700_000_000)),
            ("1700000000:alice", Some(1_700_000_000)),
            ("1700000000:alice:phone", Some(1_700_000_000)),
            ("", None),
            (":alice", None),
            ("-1:alice", None),
            ("+1700000000:alice", None),
            (" 1700000000:alice", None),
            ("0x10:alice", None),
            ("18446744073709551616:alice", None),
            ("alice:1700000000", None),
        ];
        for (name, seconds) in cases {
            assert_eq!(seconds.map(Duration::from_secs), expiry_of(name), "{name:?}");
        }
    }

    #[test]
    fn password_is_the_hmac_of_the_name() {
        // Computed with `printf 1700000000:alice | openssl dgst -sha1 -hmac secret -binary |
        // base64`.
        let password = time_limited_password(b"secret", "1700000000:alice");

        assert_eq!(Some(EXPECTED), password.as_deref());
    }

    #[test]
    fn algorithms_are_those_that_every_user_has() {
        let sources = |users: Vec<(String, UserSecret)>| CredentialSources {
            realm: "r".into(),
            users,
            rest_secrets: Vec::new(),
        };
        let md5_only = UserSecret::Keys { md5: Some([0; 16]), sha256: None };
        let password = UserSecret::Password("p".into());

        let both = sources(vec![("a".into(), password.clone())]).password_algorithms();
        let common =
            sources(vec![("a".into(), password), ("b".into(), md5_only)]).password_algorithms();

        assert_eq!(vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5], both);
        assert_eq!(vec![PasswordAlgorithm::Md5], common);
    }

    const EXPECTED: &str = "d8soP47RbdIKLDUOpnJPVQyq5Ts=";
}
