//! Users, secrets and realms in Redis, under coturn's keys. What coturn has no key for lies beside
//! them, under keys that begin with `sterna/`.

pub(crate) mod admin;
mod connection;
mod keys;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use futures_util::future::BoxFuture;
use redis::{Cmd, FromRedisValue, Value, cmd};
use sterna_actors::clock;
use sterna_actors::credential_store::{
    CredentialStore, StoreError, StoredRealm, StoredUser, UserLookup,
};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::{QuotaLimits, UserLimits};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::connection::{Connection, Connector, fault, refused};
use self::keys::RealmKey;
use crate::admin::fingerprint;
use crate::pool::Pool;
use crate::sql::{coturn, own};
use crate::unreadable::Unreadable;
use crate::url::{RedisPlace, SchemaKind, StoreUrl};
use crate::{CONNECT_TIMEOUT, OpenError, OpenOptions, QUERY_TIMEOUT, ranges};

pub(crate) async fn open(
    url: &StoreUrl,
    place: &RedisPlace,
    options: OpenOptions,
) -> Result<Arc<dyn CredentialStore>, OpenError> {
    let unreadable = Unreadable::new(options.log, url.label());
    let database = Database::new(url, place)?;
    let realm_keys = ArrayQueue::new(1);
    match database.look().await {
        Err(OpenError::Unreachable(_)) if !options.must_answer => {}
        Err(error) => return Err(error),
        Ok(()) => {
            let began = clock::now();
            match database.look_through(&options.realms).await {
                // Whoever asks for the realms first does not walk once more.
                Ok(keys) => drop(realm_keys.push((good_until(began), keys))),
                // Keys that cannot be read are there to stay, a server that is gone may be back.
                Err(why) => match database.look().await {
                    Err(OpenError::Unreachable(_)) if !options.must_answer => {}
                    Err(error @ OpenError::Unreachable(_)) => return Err(error),
                    Err(OpenError::Unfit(_)) | Ok(()) => {
                        return Err(OpenError::Unfit(why.text().to_owned()));
                    }
                },
            }
        }
    }
    let algorithms: &[PasswordAlgorithm] = match url.schema {
        Some(SchemaKind::Sterna) => &[PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256],
        Some(SchemaKind::Coturn) | None => &[PasswordAlgorithm::Md5],
    };
    let realms = options.realms;
    Ok(Arc::new(RedisStore { database, algorithms, realms, realm_keys, unreadable }))
}

struct RedisStore {
    database: Database,
    unreadable: Unreadable,
    algorithms: &'static [PasswordAlgorithm],
    /// Those of the configuration.
    realms: Vec<Arc<str>>,
    /// The keys about realms, as they were found last, and until when that is good.
    realm_keys: ArrayQueue<(Instant, Vec<RealmKey>)>,
}

impl CredentialStore for RedisStore {
    fn label(&self) -> &str {
        &self.database.label
    }

    fn password_algorithms(&self) -> &[PasswordAlgorithm] {
        self.algorithms
    }

    fn finds_hashed(&self) -> bool {
        false
    }

    fn realms_within(&self) -> Duration {
        WALK_TIMEOUT * WALKS + self.answers_within()
    }

    fn can_revalidate(&self) -> bool {
        true
    }

    fn user(&self, wanted: UserLookup) -> BoxFuture<'_, Result<Option<StoredUser>, StoreError>> {
        Box::pin(async move {
            let ClaimedUser::Named(name) = &wanted.user else { return Ok(None) };
            let names = [Arc::from(name.as_str())];
            let found = self.database.users(&wanted.realm, &names).await?.into_iter().next();
            Ok(found.and_then(|user| self.unreadable.or_none(user)))
        })
    }

    fn users(
        &self,
        realm: Arc<str>,
        names: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>> {
        Box::pin(async move {
            let found = self.database.users(&realm, &names).await?;
            Ok(found.into_iter().filter_map(|user| self.unreadable.or_none(user)).collect())
        })
    }

    fn rest_secrets(&self, realm: Arc<str>) -> BoxFuture<'_, Result<Vec<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            let count = self.database.ask_one(cmd("SCARD").arg(keys::secrets(&realm))).await?;
            if read::<usize>(count)? > SECRETS_MAX {
                let text = format!("realm {realm} has more than {SECRETS_MAX} secrets");
                return Err(StoreError::Answered(text));
            }
            let secrets = self.database.ask_one(cmd("SMEMBERS").arg(keys::secrets(&realm))).await?;
            let secrets: Vec<Vec<u8>> = read(secrets)?;
            let dates = match self.database.reaches_ours().await? {
                true => self.database.ask_one(cmd("HGETALL").arg(keys::secret_dates(&realm))).await,
                false => Ok(Value::Nil),
            };
            // Without their dates they are good all the same.
            let dates = dates.and_then(read).unwrap_or_default();
            let some = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
            Ok(newest_first(some, &dates))
        })
    }

    fn token_key(&self, kid: String) -> BoxFuture<'_, Result<Option<TokenKey>, StoreError>> {
        Box::pin(async move {
            let found = self.database.token_key(&kid).await?;
            Ok(found.and_then(|key| self.unreadable.or_none(key)))
        })
    }

    fn realms(&self) -> BoxFuture<'_, Result<Vec<StoredRealm>, StoreError>> {
        Box::pin(async move {
            let now = clock::now();
            let kept = self.realm_keys.pop().filter(|(until, _)| now < *until);
            let (until, keys) = match kept {
                Some(kept) => kept,
                None => {
                    let keys = self.database.realm_keys().await?;
                    (good_until(now), keys)
                }
            };
            let realms = self.database.realms(&keys, &self.realms).await;
            drop(self.realm_keys.push((until, keys)));
            realms
        })
    }
}

pub(crate) struct Database {
    label: String,
    connector: Connector,
    pool: Pool<Connection>,
    /// Whether the account may read the keys that are Sterna's.
    reaches_ours: OnceCell<bool>,
}

impl Database {
    fn new(url: &StoreUrl, place: &RedisPlace) -> Result<Database, OpenError> {
        let connector = Connector::new(place)?;
        Ok(Database {
            label: url.label().to_owned(),
            connector,
            pool: Pool::new(),
            reaches_ours: OnceCell::new(),
        })
    }

    /// See whether it answers, and lets us read.
    async fn look(&self) -> Result<(), OpenError> {
        let mut connection = self.connector.open().await?;
        let look = [
            cmd("EXISTS").arg("turn/realm").clone(),
            cmd("GET").arg("turn/realm//user//key").clone(),
            cmd("SMEMBERS").arg("turn/realm//secret").clone(),
        ];
        match timeout(QUERY_TIMEOUT, connection.ask(&look)).await {
            Ok(answer) => answer.map(|_| ()).map_err(|error| refused(&error)),
            Err(_) => Err(OpenError::Unreachable(no_answer())),
        }
    }

    /// An account that was made for coturn may read `turn/*` alone. Then there is nothing of
    /// Sterna's, as there was nothing when it was made.
    async fn reaches_ours(&self) -> Result<bool, StoreError> {
        let look = || async {
            let mut connection = self.connector.open().await?;
            let ask = [cmd("EXISTS").arg("sterna/realm").clone()];
            match timeout(QUERY_TIMEOUT, connection.ask(&ask)).await {
                Ok(Ok(_)) => Ok(true),
                Ok(Err(error)) if connection::is_forbidden(&error) => Ok(false),
                Ok(Err(error)) => Err(fault(&error)),
                Err(_) => Err(no_answer()),
            }
        };
        self.reaches_ours.get_or_try_init(look).await.copied()
    }

    async fn ask_one(&self, command: &Cmd) -> Result<Value, StoreError> {
        let answers = self.ask(std::slice::from_ref(command)).await?;
        answers.into_iter().next().ok_or_else(|| StoreError::Answered("an empty answer".into()))
    }

    /// Ask several things at once. A connection that has died while it was idle is replaced; all
    /// commands here may be given twice.
    async fn ask(&self, commands: &[Cmd]) -> Result<Vec<Value>, StoreError> {
        // One limit for all of it, the wait for a turn and for a connection included.
        let whole = timeout(QUERY_TIMEOUT + CONNECT_TIMEOUT, self.ask_in_turn(commands));
        whole.await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn ask_in_turn(&self, commands: &[Cmd]) -> Result<Vec<Value>, StoreError> {
        let _turn = self.pool.turn().await?;
        if let Some(mut connection) = self.pool.idle() {
            match timeout(QUERY_TIMEOUT, connection.ask(commands)).await {
                Ok(Ok(answers)) => {
                    self.pool.give_back(connection);
                    return Ok(answers);
                }
                Ok(Err(error)) if connection::is_lost(&error) => self.pool.forget(),
                Ok(Err(error)) => return Err(fault(&error)),
                Err(_) => {
                    self.pool.forget();
                    return Err(no_answer());
                }
            }
        }
        let mut connection = self.connector.open().await?;
        match timeout(QUERY_TIMEOUT, connection.ask(commands)).await {
            Ok(Ok(answers)) => {
                self.pool.give_back(connection);
                Ok(answers)
            }
            Ok(Err(error)) => Err(fault(&error)),
            Err(_) => Err(no_answer()),
        }
    }

    /// The keys that match a pattern.
    async fn matching(&self, pattern: &str) -> Result<Vec<String>, StoreError> {
        let _turn = self.pool.turn().await?;
        let mut connection = self.connector.open().await?;
        let walk = timeout(WALK_TIMEOUT, connection.matching(pattern)).await;
        let keys = walk.map_err(|_| no_answer())?.map_err(|error| fault(&error))?;
        self.pool.give_back(connection);
        Ok(keys)
    }

    async fn users(
        &self,
        realm: &str,
        names: &[Arc<str>],
    ) -> Result<Vec<Entry<StoredUser>>, StoreError> {
        let names: Vec<(&Arc<str>, keys::UserKeys)> =
            names.iter().filter_map(|name| Some((name, keys::user(realm, name)?))).collect();
        let mut users = Vec::new();
        let asked = if self.reaches_ours().await? { USER_COMMANDS } else { 1 };
        for names in names.chunks(NAMES_AT_ONCE) {
            let of_user =
                |(_, keys): &(_, keys::UserKeys)| user_commands(keys).into_iter().take(asked);
            let commands: Vec<Cmd> = names.iter().flat_map(of_user).collect();
            let answers = self.ask(&commands).await?;
            for ((name, _), answers) in names.iter().zip(answers.chunks(asked)) {
                users.extend(read_user(name, answers).transpose());
            }
        }
        Ok(users)
    }

    async fn token_key(&self, kid: &str) -> Result<Option<Entry<TokenKey>>, StoreError> {
        let fields = self.ask_one(cmd("HGETALL").arg(keys::token_key(kid))).await?;
        let fields: HashMap<String, String> = match read(fields) {
            Ok(fields) => fields,
            Err(error) => return Ok(Some(Err(error))),
        };
        let Some(material) = fields.get("ikm_key") else { return Ok(None) };
        let text = |field: &str| fields.get(field).map(String::as_str);
        let number = |field| text(field).and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        let (from, lifetime) = (number("timestamp"), number("lifetime"));
        let (algorithm, realm) = (text("as_rs_alg"), text("realm"));
        Ok(Some(coturn::read_token_key(kid, material, algorithm, realm, from, lifetime)))
    }

    async fn realm_keys(&self) -> Result<Vec<RealmKey>, StoreError> {
        let mut found = Vec::new();
        for pattern in keys::REALM_PATTERNS {
            let keys = self.matching(pattern).await?;
            found.extend(keys.into_iter().filter_map(RealmKey::read));
        }
        if !self.reaches_ours().await? {
            found.retain(|key| !matches!(key, RealmKey::Limits(_)));
        }
        found.sort();
        found.dedup();
        match found.len() > REALM_KEYS_MAX {
            false => Ok(found),
            true => {
                Err(StoreError::Answered(format!("more than {REALM_KEYS_MAX} keys about realms")))
            }
        }
    }

    /// The keys about realms, all of which can be read.
    async fn look_through(&self, configured: &[Arc<str>]) -> Result<Vec<RealmKey>, StoreError> {
        let keys = self.realm_keys().await?;
        self.realms(&keys, configured).await?;
        Ok(keys)
    }

    /// What all keys say of the realms.
    async fn whole(&self, configured: &[Arc<str>]) -> Result<Vec<StoredRealm>, StoreError> {
        let keys = self.realm_keys().await?;
        self.realms(&keys, configured).await
    }

    /// Keys without a realm hold for those that are found here, and for those of the
    /// configuration.
    async fn realms(
        &self,
        found: &[RealmKey],
        configured: &[Arc<str>],
    ) -> Result<Vec<StoredRealm>, StoreError> {
        let mut realms = BTreeMap::new();
        for name in configured {
            own::named(&mut realms, name);
        }
        for some in found.chunks(KEYS_AT_ONCE) {
            let commands: Vec<Cmd> = some.iter().map(RealmKey::command).collect();
            for (key, answer) in some.iter().zip(self.ask(&commands).await?) {
                take_realm_key(&mut realms, key, answer)?;
            }
        }
        coturn::spread(&mut realms);
        Ok(realms.into_values().collect())
    }
}

fn take_realm_key(
    realms: &mut BTreeMap<String, StoredRealm>,
    key: &RealmKey,
    answer: Value,
) -> Result<(), StoreError> {
    if answer == Value::Nil {
        return Ok(());
    }
    match key {
        RealmKey::Origin(origin) => {
            let realm: String = read(answer)?;
            own::named(realms, &realm).origins.push(origin.clone());
        }
        RealmKey::Option(realm, option) => {
            let value: String = read(answer)?;
            let quotas = &mut own::named(realms, realm).quotas;
            coturn::set_option(quotas, realm, option, value.trim().parse().ok())?;
        }
        RealmKey::Allowed(realm) => {
            let networks = networks(realm, read(answer)?)?;
            own::named(realms, realm).peers.allow.extend(networks);
        }
        RealmKey::Denied(realm) => {
            let networks = networks(realm, read(answer)?)?;
            own::named(realms, realm).peers.deny.extend(networks);
        }
        RealmKey::Limits(realm) => {
            let fields: HashMap<String, String> = read(answer)?;
            let quotas = &mut own::named(realms, realm).quotas;
            *quotas = QuotaLimits {
                allocations_per_source: number(&fields, "allocations_per_source")?,
                bandwidth: number(&fields, "bandwidth")?,
                bandwidth_per_user: number(&fields, "bandwidth_per_user")?,
                ..*quotas
            };
        }
    }
    Ok(())
}

/// Secrets in the order of their dates; those that coturn has added have none and come last, in the
/// order of their texts.
fn newest_first(mut secrets: Vec<Vec<u8>>, dates: &HashMap<String, u64>) -> Vec<Vec<u8>> {
    let date = |secret: &[u8]| {
        let text = std::str::from_utf8(secret).ok()?;
        dates.get(&fingerprint(text)).copied()
    };
    secrets.sort_by_cached_key(|secret| (Reverse(date(secret)), secret.clone()));
    secrets
}

/// What is read of an entry, or why it cannot be: that is no fault of the store as a whole.
type Entry<T> = Result<T, StoreError>;

fn user_commands(keys: &keys::UserKeys) -> [Cmd; USER_COMMANDS] {
    [
        cmd("GET").arg(&keys.md5).clone(),
        cmd("HGETALL").arg(&keys.more).clone(),
        cmd("SMEMBERS").arg(&keys.allow).clone(),
        cmd("SMEMBERS").arg(&keys.deny).clone(),
    ]
}

fn read_user(name: &Arc<str>, answers: &[Value]) -> Result<Option<StoredUser>, StoreError> {
    let [md5, more, allow, deny] = match answers {
        [md5, more, allow, deny] => [md5, more, allow, deny],
        [md5] => [md5, &Value::Nil, &Value::Nil, &Value::Nil],
        _ => return Err(StoreError::Answered("an answer is missing".into())),
    };
    let coturns: Option<String> = read(md5.clone())?;
    let more: HashMap<String, String> = read(more.clone())?;
    let (mut md5, mut sha256) = (None, None);
    if let Some(text) = coturns {
        let secret = coturn::secret(name, &text)?;
        if let UserSecret::Keys { md5: coturns, sha256: longer } = secret {
            (md5, sha256) = (coturns, longer);
        }
    }
    if let Some(text) = more.get("sha256_key") {
        let bad = |()| StoreError::Answered(format!("user {name}: sha256_key is not 64 digits"));
        sha256 = Some(own::key(text).map_err(bad)?);
    }
    if md5.is_none() && sha256.is_none() {
        return Ok(None);
    }
    let peers = PeerLists {
        allow: networks(name, read(allow.clone())?)?,
        deny: networks(name, read(deny.clone())?)?,
    };
    let mut user = StoredUser::lasting(name, UserSecret::Keys { md5, sha256 });
    user.peers = (peers != PeerLists::default()).then(|| Arc::new(peers));
    user.limits = read_limits(&more)?;
    user.expires = number(&more, "expires")?.map(Duration::from_secs);
    Ok(Some(user))
}

fn read_limits(fields: &HashMap<String, String>) -> Result<UserLimits, StoreError> {
    Ok(UserLimits {
        allocations: number(fields, "allocations")?,
        bandwidth: number(fields, "bandwidth")?,
        bandwidth_per_allocation: number(fields, "bandwidth_per_allocation")?,
    })
}

/// A limit that cannot be read must not be none.
fn number<T: std::str::FromStr>(
    fields: &HashMap<String, String>,
    field: &str,
) -> Result<Option<T>, StoreError> {
    let bad = || StoreError::Answered(format!("{field} is not a number that fits"));
    fields.get(field).map(|text| text.trim().parse().map_err(|_| bad())).transpose()
}

fn networks(of: &str, texts: Vec<String>) -> Result<Vec<ipnet::IpNet>, StoreError> {
    let mut networks = Vec::new();
    for text in texts {
        let bad =
            || StoreError::Answered(format!("peers of {of}: {text:?} is no range of addresses"));
        networks.extend(ranges::networks(&text).ok_or_else(bad)?);
    }
    // Sets have no order, and lists that differ in theirs alone would count as changed.
    networks.sort();
    Ok(networks)
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Answered(error.to_string()))
}

/// Until when it is good what a walk has found that has just ended. A walk over a million keys
/// costs the server a second; it is worth a twentieth of Redis's time at most.
fn good_until(began: Instant) -> Instant {
    let took = clock::now().saturating_duration_since(began);
    began + (took * 20).clamp(WALK_OFTEN, WALK_SELDOM)
}

fn no_answer() -> StoreError {
    StoreError::Lost(format!("no answer within {} s", QUERY_TIMEOUT.as_secs()))
}

const USER_COMMANDS: usize = 4;
/// Names in one question for several users.
const NAMES_AT_ONCE: usize = 100;
const KEYS_AT_ONCE: usize = 400;
/// Secrets of a realm. Each costs the server two HMACs for each user that none of them fits.
const SECRETS_MAX: usize = 100;
const REALM_KEYS_MAX: usize = 20_000;
/// How long one walk over all keys may take.
const WALK_TIMEOUT: Duration = Duration::from_secs(20);
/// So many walks find the keys about realms.
const WALKS: u32 = keys::REALM_PATTERNS.len() as u32;
const WALK_OFTEN: Duration = Duration::from_secs(2);
const WALK_SELDOM: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_newest_first_and_those_without_a_date_last() {
        let dates = [("old", 1), ("new", 2)].map(|(text, date)| (fingerprint(text), date));
        let secrets = ["b", "old", "a", "new"].map(|text| text.as_bytes().to_vec()).to_vec();
        let sorted = newest_first(secrets, &dates.into());
        assert_eq!(["new", "old", "a", "b"].map(|text| text.as_bytes().to_vec()).to_vec(), sorted);
    }

    #[test]
    fn a_user_is_read_where_sternas_keys_may_not_be() {
        let key = Value::SimpleString("7da2270ccfa49786e0115366d3a3d14d".into());
        let found = read_user(&"ann".into(), &[key]).unwrap().expect("ann");
        assert_eq!((None, None), (found.peers, found.expires));
        assert_eq!(Ok(None), read_user(&"ann".into(), &[Value::Nil]));
    }
}
