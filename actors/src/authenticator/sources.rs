//! Where credentials come from, and the keys of the users that the configuration names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_proto::account::{Account, CredentialKind};
use sterna_proto::credentials::{Key, PasswordAlgorithm, user_hash};

use crate::credential_store::{CredentialStore, StoredUser};
use crate::policy::{CacheTerms, OAuth, Realm, StaticUser, UserSecret};

use super::minted;

/// Where credentials come from. It holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct CredentialSources {
    /// The realms, with their users and secrets; the first is the default one.
    pub realms: Vec<Realm>,
    /// Access tokens of a third party.
    pub oauth: Option<OAuth>,
    /// Bounds of what is remembered of the stores.
    pub cache: CacheTerms,
    /// How long an allocation may outlive the end of its user, whatever that was when it was made;
    /// `None` is for ever.
    pub outlives: Option<Duration>,
    /// What the stores can do.
    pub stores: StoreTraits,
}

impl CredentialSources {
    /// One realm of the configuration, and no stores.
    pub fn of_realm(realm: Realm) -> CredentialSources {
        CredentialSources {
            realms: vec![realm],
            oauth: None,
            cache: CacheTerms { entries: 0, lifetime: Duration::ZERO, outage: Duration::ZERO },
            outlives: None,
            stores: StoreTraits::default(),
        }
    }
}

/// What the stores can do together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTraits {
    /// Whether there are any.
    pub any: bool,
    /// Which there are, in their order: what was heard of others is forgotten.
    pub labels: Vec<String>,
    /// The algorithms under which all users of all stores can be proved, best first.
    pub algorithms: Vec<PasswordAlgorithm>,
    /// Whether all of them find users by the hash of their name.
    pub find_hashed: bool,
    /// Whether one of them answers for the client that asks and for no other.
    pub look_at_clients: bool,
}

impl Default for StoreTraits {
    fn default() -> StoreTraits {
        StoreTraits::of(&[])
    }
}

impl StoreTraits {
    /// The traits of these stores.
    pub fn of(stores: &[Arc<dyn CredentialStore>]) -> StoreTraits {
        let mut algorithms = vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
        algorithms.retain(|algorithm| {
            stores.iter().all(|store| store.password_algorithms().contains(algorithm))
        });
        StoreTraits {
            any: !stores.is_empty(),
            labels: stores.iter().map(|store| store.label().to_owned()).collect(),
            algorithms,
            find_hashed: stores.iter().all(|store| store.finds_hashed()),
            look_at_clients: stores.iter().any(|store| !store.can_revalidate()),
        }
    }
}

impl Realm {
    /// The password algorithms under which every static user can be proved, best first.
    pub fn password_algorithms(&self) -> Vec<PasswordAlgorithm> {
        let has = |algorithm| {
            self.users.iter().all(|(_, user)| match (&user.secret, algorithm) {
                (UserSecret::Password(_), _) => true,
                (UserSecret::Keys { md5, .. }, PasswordAlgorithm::Md5) => md5.is_some(),
                (UserSecret::Keys { sha256, .. }, PasswordAlgorithm::Sha256) => sha256.is_some(),
            })
        };
        let mut algorithms = vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
        algorithms.retain(|&algorithm| has(algorithm));
        algorithms
    }

    /// The keys of the time-limited credential `name`: for each of `secrets` the one whose password
    /// was made with HMAC-SHA1, as everybody makes it, and the one made with HMAC-SHA256.
    pub(crate) fn time_limited_keys<'a>(
        &'a self,
        secrets: impl Iterator<Item = &'a Vec<u8>> + 'a,
        name: &'a str,
        algorithm: PasswordAlgorithm,
    ) -> impl Iterator<Item = Key> + 'a {
        let passwords = secrets.take(SECRETS_MAX).flat_map(move |secret| {
            let sha1 = minted::time_limited_password(secret, name);
            [sha1, minted::time_limited_password_sha256(secret, name)]
        });
        passwords
            .flatten()
            .filter_map(move |word| Key::long_term(algorithm, name, &self.name, &word).ok())
    }

    /// The keys of the signed token `name`, one for each secret.
    pub(crate) fn signed_token_keys<'a>(
        &'a self,
        name: &'a str,
        algorithm: PasswordAlgorithm,
    ) -> impl Iterator<Item = Key> + 'a {
        self.jwt_secrets.iter().take(SECRETS_MAX).filter_map(move |secret| {
            let password = minted::token_password(secret, name)?;
            Key::long_term(algorithm, name, &self.name, &password).ok()
        })
    }
}

impl UserSecret {
    /// The key of the user `name` of `realm`; `None` where there is none for the algorithm.
    pub(crate) fn key(&self, algorithm: PasswordAlgorithm, name: &str, realm: &str) -> Option<Key> {
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

/// The keys of one user.
#[derive(Clone)]
pub(crate) struct UserKeys {
    md5: Option<Key>,
    sha256: Option<Key>,
}

impl UserKeys {
    pub(crate) fn of(secret: &UserSecret, name: &str, realm: &str) -> UserKeys {
        UserKeys {
            md5: secret.key(PasswordAlgorithm::Md5, name, realm),
            sha256: secret.key(PasswordAlgorithm::Sha256, name, realm),
        }
    }

    pub(crate) fn get(&self, algorithm: PasswordAlgorithm) -> Option<&Key> {
        match algorithm {
            PasswordAlgorithm::Md5 => self.md5.as_ref(),
            PasswordAlgorithm::Sha256 => self.sha256.as_ref(),
        }
    }
}

/// A user that can be proved.
#[derive(Clone)]
pub(crate) struct KnownUser {
    pub(crate) account: Arc<Account>,
    pub(crate) keys: UserKeys,
    /// Whether this is of old, and the stores could not be asked whether it still is so.
    pub(crate) stands_in: bool,
}

impl KnownUser {
    fn configured(realm: &Arc<str>, name: &str, user: &StaticUser) -> KnownUser {
        let account = Account {
            limits: user.limits,
            peers: user.peers.clone(),
            ..Account::lasting(realm.clone(), name.into())
        };
        let keys = UserKeys::of(&user.secret, name, realm);
        KnownUser { account: Arc::new(account), keys, stands_in: false }
    }

    /// A user of the store of this label, who is called `name` by itself.
    pub(crate) fn stored(
        realm: &Arc<str>,
        name: Arc<str>,
        (user, stored_in): (StoredUser, Option<Arc<str>>),
        credential: CredentialKind,
        clock: Clock,
    ) -> KnownUser {
        let keys = UserKeys::of(&user.secret, &name, realm);
        let account = Account {
            realm: realm.clone(),
            username: name,
            quota_name: user.name,
            credential,
            opened_by: None,
            stored_in,
            expires: user.expires.map(|date| clock.instant_of(date)),
            limits: user.limits,
            peers: user.peers,
        };
        KnownUser { account: Arc::new(account), keys, stands_in: false }
    }
}

/// A realm with the keys of its static users.
pub(crate) struct KnownRealm {
    pub(crate) realm: Realm,
    users: HashMap<Arc<str>, KnownUser>,
    by_hash: HashMap<[u8; 32], Arc<str>>,
}

impl KnownRealm {
    pub(crate) fn new(realm: Realm) -> KnownRealm {
        let (mut users, mut by_hash) = (HashMap::new(), HashMap::new());
        for (name, user) in &realm.users {
            let known = KnownUser::configured(&realm.name, name, user);
            let name = known.account.username.clone();
            if let Ok(hash) = user_hash(&name, &realm.name) {
                by_hash.insert(hash, name.clone());
            }
            users.insert(name, known);
        }
        KnownRealm { realm, users, by_hash }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&KnownUser> {
        self.users.get(name)
    }

    pub(crate) fn hashed(&self, hash: &[u8; 32]) -> Option<&KnownUser> {
        self.named(self.by_hash.get(hash)?)
    }
}

/// Both clocks at one moment: credentials name dates, and the server counts by the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    pub(crate) unix: Duration,
}

impl Clock {
    /// When it is `date`, given since 1970. What is over is over now, and what is too far away to
    /// be counted is as far as can be counted.
    pub(crate) fn instant_of(self, date: Duration) -> Instant {
        let wait = date.saturating_sub(self.unix).min(FAR_AWAY);
        self.now + wait
    }
}

/// Thirty years: longer than anything here runs.
const FAR_AWAY: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Secrets of one realm that are tried, the first ones: each costs every login two keys.
pub(crate) const SECRETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn algorithms_are_those_that_every_user_has() {
        let realm = |users| Realm::of_users("r", users);
        let md5_only = UserSecret::Keys { md5: Some([0; 16]), sha256: None };
        let password = UserSecret::Password("p".into());

        let both = realm(vec![("a".into(), password.clone())]).password_algorithms();
        let common =
            realm(vec![("a".into(), password), ("b".into(), md5_only)]).password_algorithms();

        assert_eq!(vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5], both);
        assert_eq!(vec![PasswordAlgorithm::Md5], common);
    }

    #[test]
    fn dates_are_counted_from_the_present() {
        let unix = Duration::from_secs(1_700_000_000);
        let clock = Clock { now: clock::now(), unix };
        let second = Duration::from_secs(1);
        assert_eq!(clock.now + second, clock.instant_of(unix + second));
        assert_eq!(clock.now, clock.instant_of(unix));
        assert_eq!(clock.now, clock.instant_of(Duration::ZERO));
        assert_eq!(clock.now + FAR_AWAY, clock.instant_of(Duration::MAX));
    }
}
