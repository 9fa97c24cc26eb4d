//! A credential store that answers as the script says, and tells what it was asked.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sterna_actors::credential_store::{
    CredentialStore, StoreError, StoredRealm, StoredUser, UserLookup,
};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::credentials::{PasswordAlgorithm, user_hash};
use sterna_proto::guard::ClaimedUser;
use tokio::sync::Notify;

use super::{REALM, settle};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The played store; its clones are the same.
#[derive(Clone)]
pub(crate) struct PlayedStore(Arc<Inner>);

struct Inner {
    label: String,
    looks_at_clients: bool,
    finds_hashed: bool,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Default)]
struct State {
    users: BTreeMap<String, StoredUser>,
    secrets: Vec<Vec<u8>>,
    token_keys: Vec<TokenKey>,
    realms: Vec<StoredRealm>,
    down: bool,
    /// The name that it cannot be asked for.
    chokes_on: Option<String>,
    panics: bool,
    hesitates: bool,
    /// The bound of its answers, where it is not what others have.
    takes: Option<Duration>,
    asked: Vec<String>,
}

impl PlayedStore {
    /// A store without users.
    pub(crate) fn new(label: &str) -> PlayedStore {
        PlayedStore::made(label, false, true)
    }

    /// One that knows nobody by the hash of the name.
    pub(crate) fn finding_no_hashes(label: &str) -> PlayedStore {
        PlayedStore::made(label, false, false)
    }

    /// One that answers for the client that asks and for no other, as an HTTP service does.
    pub(crate) fn looking_at_clients(label: &str) -> PlayedStore {
        PlayedStore::made(label, true, true)
    }

    fn made(label: &str, looks_at_clients: bool, finds_hashed: bool) -> PlayedStore {
        let (label, state, released) = (label.to_owned(), Mutex::default(), Notify::new());
        PlayedStore(Arc::new(Inner { label, looks_at_clients, finds_hashed, state, released }))
    }

    pub(crate) fn as_store(&self) -> Arc<dyn CredentialStore> {
        self.0.clone()
    }

    /// A user of [`REALM`] with this password.
    pub(crate) fn has(&self, name: &str, password: &str) {
        self.keeps(StoredUser::lasting(name, UserSecret::Password(password.to_owned())));
    }

    pub(crate) fn keeps(&self, user: StoredUser) {
        self.state().users.insert(user.name.to_string(), user);
    }

    pub(crate) fn loses(&self, name: &str) {
        self.state().users.remove(name).expect("it has the user");
    }

    pub(crate) fn has_secrets(&self, secrets: &[&[u8]]) {
        self.state().secrets = secrets.iter().map(|secret| secret.to_vec()).collect();
    }

    pub(crate) fn has_token_keys(&self, keys: Vec<TokenKey>) {
        self.state().token_keys = keys;
    }

    pub(crate) fn has_realms(&self, realms: Vec<StoredRealm>) {
        self.state().realms = realms;
    }

    pub(crate) fn goes_down(&self) {
        self.state().down = true;
    }

    pub(crate) fn comes_back(&self) {
        self.state().down = false;
    }

    /// It answers whoever asks for this name with an error.
    pub(crate) fn chokes_on(&self, name: &str) {
        self.state().chokes_on = Some(name.to_owned());
    }

    /// Whoever asks from now on makes it panic.
    pub(crate) fn panics(&self) {
        self.state().panics = true;
    }

    /// It may take so long to answer.
    pub(crate) fn takes(&self, bound: Duration) {
        self.state().takes = Some(bound);
    }

    /// Keeps everybody waiting until [`PlayedStore::answers`].
    pub(crate) fn hesitates(&self) {
        self.state().hesitates = true;
    }

    pub(crate) async fn answers(&self) {
        self.state().hesitates = false;
        self.0.released.notify_waiters();
        settle().await;
    }

    /// What it was asked since the last time, but for what is asked in rounds.
    pub(crate) async fn was_asked(&self) -> Vec<String> {
        settle().await;
        let asked = std::mem::take(&mut self.state().asked);
        asked.into_iter().filter(|what| !what.starts_with("round:")).collect()
    }

    /// The same for what is asked in rounds.
    pub(crate) async fn was_asked_in_rounds(&self) -> Vec<String> {
        settle().await;
        let asked = std::mem::take(&mut self.state().asked);
        asked.iter().filter_map(|what| what.strip_prefix("round: ")).map(str::to_owned).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn asked<T: Send + 'static>(
        &self,
        what: String,
        answer: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Answer<'_, T> {
        let chokes = self.state().chokes_on.as_ref().is_some_and(|name| what.contains(&**name));
        self.state().asked.push(what);
        Box::pin(async move {
            loop {
                // Who waits is told of everything that comes after this line.
                let released = self.released.notified();
                if !self.state().hesitates {
                    break;
                }
                released.await;
            }
            assert!(!self.state().panics, "the store was told to panic");
            match self.state() {
                _ if chokes => Err(StoreError::Answered("syntax error".to_owned())),
                state if state.down => Err(StoreError::Lost("no connection".to_owned())),
                state => Ok(answer(&state)),
            }
        })
    }
}

impl CredentialStore for Inner {
    fn label(&self) -> &str {
        &self.label
    }

    fn password_algorithms(&self) -> &[PasswordAlgorithm] {
        &[PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256]
    }

    fn finds_hashed(&self) -> bool {
        self.finds_hashed
    }

    fn answers_within(&self) -> Duration {
        self.state().takes.unwrap_or(super::secs(10))
    }

    fn rests_by_itself(&self) -> bool {
        self.looks_at_clients
    }

    fn can_revalidate(&self) -> bool {
        !self.looks_at_clients
    }

    fn user(&self, wanted: UserLookup) -> Answer<'_, Option<StoredUser>> {
        let what = match &wanted.user {
            ClaimedUser::Named(name) => format!("user {name}"),
            ClaimedUser::Hashed(_) => "user by hash".to_owned(),
            ClaimedUser::Token { .. } => panic!("a store knows no tokens"),
        };
        self.asked(what, move |state| match wanted.user {
            _ if *wanted.realm != *REALM => None,
            ClaimedUser::Named(name) => state.users.get(&name.to_lowercase()).cloned(),
            ClaimedUser::Hashed(hash) => {
                let is = |user: &&StoredUser| user_hash(&user.name, REALM) == Ok(hash);
                state.users.values().find(is).cloned()
            }
            ClaimedUser::Token { .. } => None,
        })
    }

    fn users(&self, realm: Arc<str>, names: Vec<Arc<str>>) -> Answer<'_, Vec<StoredUser>> {
        self.asked(format!("round: users {}", names.join(" ")), move |state| {
            let named = names.iter().filter(|_| *realm == *REALM);
            named.filter_map(|name| state.users.get(&**name).cloned()).collect()
        })
    }

    fn rest_secrets(&self, realm: Arc<str>) -> Answer<'_, Vec<Vec<u8>>> {
        let what = "secrets".to_owned();
        self.asked(what, move |state| match *realm == *REALM {
            true => state.secrets.clone(),
            false => Vec::new(),
        })
    }

    fn token_key(&self, kid: String) -> Answer<'_, Option<TokenKey>> {
        self.asked(format!("token key {kid}"), move |state| {
            state.token_keys.iter().find(|key| key.kid == kid).cloned()
        })
    }

    fn realms(&self) -> Answer<'_, Vec<StoredRealm>> {
        self.asked("round: realms".to_owned(), |state| state.realms.clone())
    }
}
