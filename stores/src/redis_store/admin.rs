//! Changes to Redis: coturn's keys, and Sterna's beside them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use redis::{Cmd, cmd};
use sterna_actors::clock;
use sterna_actors::credential_store::{StoreError, StoredRealm, StoredUser};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use super::keys::{self, RealmKey};
use super::{Database, read};
use crate::OpenError;
use crate::admin::{
    Admin, AdminError, Counts, KID_MAX, ListedSecret, ListedUser, NAME_MAX, NewUser, ORIGIN_MAX,
    PeerRule, REALM_MAX, SECRET_MAX, UserKeys, Verdict, check_name, fingerprint, secret_named,
};
use crate::ranges;
use crate::url::{RedisPlace, StoreUrl};

pub(crate) async fn open(url: &StoreUrl, place: &RedisPlace) -> Result<Box<dyn Admin>, OpenError> {
    let database = Database::new(url, place)?;
    database.look().await?;
    Ok(Box::new(RedisAdmin { database }))
}

struct RedisAdmin {
    database: Database,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, AdminError>>;

impl Admin for RedisAdmin {
    fn label(&self) -> &str {
        &self.database.label
    }

    fn add_user(&self, user: NewUser) -> Answer<'_, ()> {
        Box::pin(async move {
            check_name("the user's name", &user.name, NAME_MAX)?;
            let keys = user_keys(&user.realm, &user.name)?;
            if user.keys.md5.is_none() && user.keys.sha256.is_none() {
                return Err(AdminError::Invalid("a user needs a key".into()));
            }
            if self.find(&user.realm, &user.name).await?.is_some() {
                let what = format!("user {} of realm {}", user.name, user.realm);
                return Err(AdminError::Exists(what));
            }
            // What limits a user is there before the user is.
            self.change(limit_commands(&keys.more, &user.limits, user.expires)).await?;
            self.change(key_commands(&keys, &user.keys)).await
        })
    }

    fn list_users<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<ListedUser>> {
        Box::pin(async move {
            let mut names: HashMap<String, BTreeSet<String>> = HashMap::new();
            for pattern in keys::user_patterns(realm) {
                for key in self.database.matching(&pattern).await? {
                    if let Some((realm, name)) = keys::read_user(&key) {
                        names.entry(realm).or_default().insert(name);
                    }
                }
            }
            let mut users = Vec::new();
            for (realm, names) in names {
                let names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
                let found = self.database.users(&realm, &names).await?;
                users.extend(found.into_iter().flatten().map(|user| listed_user(&realm, user)));
            }
            users.sort_by(|a, b| (&a.realm, &a.name).cmp(&(&b.realm, &b.name)));
            Ok(users)
        })
    }

    fn find_user<'a>(&'a self, realm: &'a str, name: &'a str) -> Answer<'a, Option<ListedUser>> {
        Box::pin(
            async move { Ok(self.find(realm, name).await?.map(|user| listed_user(realm, user))) },
        )
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let mut users = BTreeSet::new();
            for pattern in keys::user_patterns(None) {
                let found = self.database.matching(&pattern).await?;
                users.extend(found.iter().filter_map(|key| keys::read_user(key)));
            }
            let mut secrets = 0;
            for key in self.database.matching(keys::SECRETS_PATTERN).await? {
                secrets += read::<u64>(self.database.ask_one(cmd("SCARD").arg(key)).await?)?;
            }
            let realms = self.database.whole(&[]).await?.len() as u64;
            Ok(Counts { users: users.len() as u64, secrets, realms })
        })
    }

    fn set_keys<'a>(&'a self, realm: &'a str, name: &'a str, new: UserKeys) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = user_keys(realm, name)?;
            if new.md5.is_none() && new.sha256.is_none() {
                return Err(AdminError::Invalid("a user needs a key".into()));
            }
            self.known(realm, name).await?;
            self.change(key_commands(&keys, &new)).await
        })
    }

    fn set_limits<'a>(
        &'a self,
        realm: &'a str,
        name: &'a str,
        limits: UserLimits,
        expires: Option<Duration>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = user_keys(realm, name)?;
            self.known(realm, name).await?;
            self.change(limit_commands(&keys.more, &limits, expires)).await
        })
    }

    fn remove_user<'a>(&'a self, realm: &'a str, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = user_keys(realm, name)?;
            self.known(realm, name).await?;
            // The keys first: what is left after a crash in the middle must not be a user.
            let del = |key: &String| cmd("DEL").arg(key).clone();
            let order = [&keys.md5, &keys.more, &keys.allow, &keys.deny];
            self.change(order.into_iter().map(del).collect()).await
        })
    }

    fn add_secret<'a>(&'a self, realm: &'a str, secret: &'a str) -> Answer<'a, ListedSecret> {
        Box::pin(async move {
            check_realm(realm)?;
            check_name("the secret", secret, SECRET_MAX)?;
            // Of two secrets of one second the server could not tell which is the newer.
            let newest = self.secrets(realm).await?.last().and_then(|(last, _)| last.added);
            let now = Duration::from_secs(clock::unix_now().as_secs());
            let added = newest.map_or(now, |newest| now.max(newest + Duration::from_secs(1)));
            let fingerprint = fingerprint(secret);
            let add = cmd("SADD").arg(keys::secrets(realm)).arg(secret).clone();
            if read::<u32>(self.database.ask_one(&add).await?)? == 0 {
                return Err(AdminError::Exists("that secret".into()));
            }
            let dates = keys::secret_dates(realm);
            let date = cmd("HSET").arg(dates).arg(&fingerprint).arg(added.as_secs()).clone();
            self.change(vec![date]).await?;
            Ok(ListedSecret { realm: realm.to_owned(), fingerprint, added: Some(added) })
        })
    }

    fn list_secrets<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<ListedSecret>> {
        Box::pin(async move {
            let realms = match realm {
                Some(realm) => vec![realm.to_owned()],
                None => {
                    let keys = self.database.matching(keys::SECRETS_PATTERN).await?;
                    keys.iter().filter_map(|key| keys::read_secrets(key)).map(Into::into).collect()
                }
            };
            let mut secrets = Vec::new();
            for realm in realms {
                let found = self.secrets(&realm).await?;
                secrets.extend(found.into_iter().map(|(listed, _)| listed));
            }
            Ok(secrets)
        })
    }

    fn rotate_secret<'a>(
        &'a self,
        realm: &'a str,
        secret: &'a str,
        keep: usize,
    ) -> Answer<'a, Vec<ListedSecret>> {
        Box::pin(async move {
            let mut gone = self.secrets(realm).await?;
            gone.truncate(gone.len().saturating_sub(keep));
            self.add_secret(realm, secret).await?;
            for (listed, text) in &gone {
                self.forget_secret(realm, listed, text).await?;
            }
            Ok(gone.into_iter().map(|(listed, _)| listed).collect())
        })
    }

    fn remove_secret<'a>(&'a self, realm: &'a str, wanted: &'a str) -> Answer<'a, ListedSecret> {
        Box::pin(async move {
            let mut secrets = self.secrets(realm).await?;
            let fingerprints = secrets.iter().map(|(listed, _)| listed.fingerprint.as_str());
            let (listed, text) =
                secrets.swap_remove(secret_named(fingerprints.enumerate(), wanted)?);
            self.forget_secret(realm, &listed, &text).await?;
            Ok(listed)
        })
    }

    fn list_realms(&self) -> Answer<'_, Vec<StoredRealm>> {
        Box::pin(async move { Ok(self.database.whole(&[]).await?) })
    }

    fn set_realm<'a>(&'a self, realm: &'a str, quotas: QuotaLimits) -> Answer<'a, ()> {
        Box::pin(async move {
            check_realm(realm)?;
            let coturns = [
                ("max-bps", quotas.bandwidth_per_allocation),
                ("total-quota", quotas.allocations.map(u64::from)),
                ("user-quota", quotas.allocations_per_user.map(u64::from)),
            ];
            let coturns = coturns.into_iter().map(|(option, value)| {
                let key = RealmKey::Option(realm.to_owned(), option).name();
                match value {
                    Some(value) => cmd("SET").arg(key).arg(value).clone(),
                    None => cmd("DEL").arg(key).clone(),
                }
            });
            let ours = [
                ("allocations_per_source", quotas.allocations_per_source.map(u64::from)),
                ("bandwidth", quotas.bandwidth),
                ("bandwidth_per_user", quotas.bandwidth_per_user),
            ];
            let limits = RealmKey::Limits(realm.to_owned()).name();
            let ours = ours.into_iter().map(|(field, value)| set_field(&limits, field, value));
            // A realm without limits is one all the same, and Redis keeps no empty hash.
            let named = cmd("HSET").arg(&limits).arg("realm").arg(realm).clone();
            self.change(coturns.chain(ours).chain([named]).collect()).await
        })
    }

    fn remove_realm<'a>(&'a self, realm: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = self.database.realm_keys().await?;
            let mut gone = Vec::new();
            for key in keys {
                let of_it = match &key {
                    RealmKey::Origin(_) => {
                        let owner = self.database.ask_one(&key.command()).await?;
                        read::<Option<String>>(owner)?.as_deref() == Some(realm)
                    }
                    RealmKey::Option(of, _)
                    | RealmKey::Allowed(of)
                    | RealmKey::Denied(of)
                    | RealmKey::Limits(of) => of == realm,
                };
                gone.extend(of_it.then(|| cmd("DEL").arg(key.name()).clone()));
            }
            match gone.is_empty() {
                true => Err(AdminError::Missing(format!("realm {realm}"))),
                false => self.change(gone).await,
            }
        })
    }

    fn add_origin<'a>(&'a self, origin: &'a str, realm: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            check_realm(realm)?;
            check_name("the origin", origin, ORIGIN_MAX)?;
            let key = RealmKey::Origin(origin.to_owned()).name();
            self.change(vec![cmd("SET").arg(key).arg(realm).clone()]).await
        })
    }

    fn remove_origin<'a>(&'a self, origin: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = RealmKey::Origin(origin.to_owned()).name();
            self.change_one(cmd("DEL").arg(key), || format!("origin {origin}")).await
        })
    }

    fn add_peer(&self, rule: PeerRule) -> Answer<'_, ()> {
        Box::pin(async move {
            check_realm(&rule.realm)?;
            let add = cmd("SADD").arg(peers_key(&rule)?).arg(rule.network.to_string()).clone();
            match read::<u32>(self.database.ask_one(&add).await?)? {
                0 => Err(AdminError::Exists(format!("rule for {}", rule.network))),
                _ => Ok(()),
            }
        })
    }

    fn list_peers<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<PeerRule>> {
        Box::pin(async move {
            let mut rules = Vec::new();
            for stored in self.list_realms().await? {
                if realm.is_none_or(|realm| *realm == *stored.name) {
                    add_rules(&mut rules, &stored.name, None, &stored.peers);
                }
            }
            for user in self.list_users(realm).await? {
                let found = self.find(&user.realm, &user.name).await?;
                if let Some(peers) = found.and_then(|user| user.peers) {
                    add_rules(&mut rules, &user.realm, Some(&user.name), &peers);
                }
            }
            rules.sort();
            Ok(rules)
        })
    }

    fn remove_peer(&self, rule: PeerRule) -> Answer<'_, ()> {
        Box::pin(async move {
            let key = peers_key(&rule)?;
            let texts = self.database.ask_one(cmd("SMEMBERS").arg(&key)).await?;
            // coturn may have spelled the same network another way.
            let same = |text: &String| ranges::networks(text) == Some(vec![rule.network.trunc()]);
            let mut texts = read::<Vec<String>>(texts)?.into_iter().filter(same).peekable();
            if texts.peek().is_none() {
                return Err(AdminError::Missing(format!("rule for {}", rule.network)));
            }
            self.change(texts.map(|text| cmd("SREM").arg(&key).arg(text).clone()).collect()).await
        })
    }

    fn set_token_key(&self, key: TokenKey) -> Answer<'_, ()> {
        Box::pin(async move {
            check_name("the key's name", &key.kid, KID_MAX)?;
            let algorithm = match key.key.len() {
                32 => "A256GCM",
                16 => "A128GCM",
                _ => {
                    let why = "the key is not of 16 or 32 bytes";
                    return Err(AdminError::Invalid(why.into()));
                }
            };
            let (from, until) = key.valid.unwrap_or((0, 0));
            let name = keys::token_key(&key.kid);
            let mut set = cmd("HSET");
            set.arg(&name).arg("ikm_key").arg(STANDARD.encode(&key.key));
            set.arg("as_rs_alg").arg(algorithm).arg("timestamp").arg(from);
            set.arg("lifetime").arg(until.saturating_sub(from));
            set.arg("realm").arg(key.realm.as_deref().unwrap_or_default());
            self.change(vec![set]).await
        })
    }

    fn list_token_keys(&self) -> Answer<'_, Vec<TokenKey>> {
        Box::pin(async move {
            let mut found = Vec::new();
            for name in self.database.matching(keys::TOKEN_KEYS_PATTERN).await? {
                if let Some(kid) = keys::read_token_key(&name) {
                    found.extend(self.database.token_key(kid).await?.transpose()?);
                }
            }
            Ok(found)
        })
    }

    fn remove_token_key<'a>(&'a self, kid: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let key = keys::token_key(kid);
            self.change_one(cmd("DEL").arg(key), || format!("token key {kid}")).await
        })
    }
}

impl RedisAdmin {
    async fn change(&self, commands: Vec<Cmd>) -> Result<(), AdminError> {
        self.database.ask(&commands).await?;
        Ok(())
    }

    async fn change_one(
        &self,
        command: &Cmd,
        what: impl FnOnce() -> String,
    ) -> Result<(), AdminError> {
        match read::<u32>(self.database.ask_one(command).await?)? {
            0 => Err(AdminError::Missing(what())),
            _ => Ok(()),
        }
    }

    async fn find(&self, realm: &str, name: &str) -> Result<Option<StoredUser>, StoreError> {
        self.database.users(realm, &[name.into()]).await?.into_iter().next().transpose()
    }

    /// Also of a user whose entry cannot be read, which can be mended or removed.
    async fn known(&self, realm: &str, name: &str) -> Result<(), AdminError> {
        match self.find(realm, name).await {
            Ok(Some(_)) => Ok(()),
            Err(_) if self.has_key(realm, name).await? => Ok(()),
            Err(error) => Err(error.into()),
            Ok(None) => Err(AdminError::Missing(format!("user {name} of realm {realm}"))),
        }
    }

    async fn has_key(&self, realm: &str, name: &str) -> Result<bool, AdminError> {
        let keys = user_keys(realm, name)?;
        let ask = [cmd("EXISTS").arg(&keys.md5).clone(), cmd("EXISTS").arg(&keys.more).clone()];
        let found = self.database.ask(&ask).await?;
        let found: Vec<u32> = found.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(found.into_iter().any(|count| count > 0))
    }

    /// Secrets with their texts, oldest first; those that coturn has added have no date.
    async fn secrets(&self, realm: &str) -> Result<Vec<(ListedSecret, String)>, StoreError> {
        let texts = cmd("SMEMBERS").arg(keys::secrets(realm)).clone();
        let dates = cmd("HGETALL").arg(keys::secret_dates(realm)).clone();
        let mut answers = self.database.ask(&[texts, dates]).await?.into_iter();
        let (Some(texts), Some(dates)) = (answers.next(), answers.next()) else {
            return Err(StoreError::Answered("an answer is missing".into()));
        };
        let (texts, dates): (Vec<String>, HashMap<String, u64>) = (read(texts)?, read(dates)?);
        let listed = |text: String| {
            let fingerprint = fingerprint(&text);
            let added = dates.get(&fingerprint).copied().map(Duration::from_secs);
            (ListedSecret { realm: realm.to_owned(), fingerprint, added }, text)
        };
        let mut secrets: Vec<(ListedSecret, String)> = texts.into_iter().map(listed).collect();
        secrets.sort_by(|(a, _), (b, _)| (a.added, &a.fingerprint).cmp(&(b.added, &b.fingerprint)));
        Ok(secrets)
    }

    async fn forget_secret(
        &self,
        realm: &str,
        listed: &ListedSecret,
        text: &str,
    ) -> Result<(), AdminError> {
        let secret = cmd("SREM").arg(keys::secrets(realm)).arg(text).clone();
        let dates = keys::secret_dates(realm);
        let date = cmd("HDEL").arg(dates).arg(&listed.fingerprint).clone();
        self.change(vec![secret, date]).await
    }
}

fn user_keys(realm: &str, name: &str) -> Result<keys::UserKeys, AdminError> {
    check_realm(realm)?;
    let why = "the user's name cannot be a part of a key in Redis: it has user/ in it";
    keys::user(realm, name).ok_or_else(|| AdminError::Invalid(why.into()))
}

fn check_realm(realm: &str) -> Result<(), AdminError> {
    check_name("the realm", realm, REALM_MAX)?;
    match keys::is_realm(realm) {
        true => Ok(()),
        false => {
            let why = "the realm cannot be a part of a key in Redis: it has /user in it";
            Err(AdminError::Invalid(why.into()))
        }
    }
}

fn key_commands(names: &keys::UserKeys, new: &UserKeys) -> Vec<Cmd> {
    let md5 = match new.md5 {
        Some(key) => cmd("SET").arg(&names.md5).arg(hex::encode(key)).clone(),
        None => cmd("DEL").arg(&names.md5).clone(),
    };
    vec![set_field(&names.more, "sha256_key", new.sha256.map(hex::encode)), md5]
}

fn limit_commands(hash: &str, limits: &UserLimits, expires: Option<Duration>) -> Vec<Cmd> {
    vec![
        set_field(hash, "allocations", limits.allocations),
        set_field(hash, "bandwidth", limits.bandwidth),
        set_field(hash, "bandwidth_per_allocation", limits.bandwidth_per_allocation),
        set_field(hash, "expires", expires.map(|date| date.as_secs())),
    ]
}

fn set_field<T: redis::ToSingleRedisArg>(hash: &str, field: &str, value: Option<T>) -> Cmd {
    match value {
        Some(value) => cmd("HSET").arg(hash).arg(field).arg(value).clone(),
        None => cmd("HDEL").arg(hash).arg(field).clone(),
    }
}

fn peers_key(rule: &PeerRule) -> Result<String, AdminError> {
    let realm = rule.realm.clone();
    Ok(match (&rule.user, rule.verdict) {
        (None, Verdict::Allow) => RealmKey::Allowed(realm).name(),
        (None, Verdict::Deny) => RealmKey::Denied(realm).name(),
        (Some(name), Verdict::Allow) => user_keys(&realm, name)?.allow,
        (Some(name), Verdict::Deny) => user_keys(&realm, name)?.deny,
    })
}

fn add_rules(
    rules: &mut Vec<PeerRule>,
    realm: &str,
    user: Option<&str>,
    peers: &sterna_proto::peer_rules::PeerLists,
) {
    let rule = |verdict, network: &IpNet| PeerRule {
        realm: realm.to_owned(),
        user: user.map(str::to_owned),
        verdict,
        network: *network,
    };
    rules.extend(peers.allow.iter().map(|network| rule(Verdict::Allow, network)));
    rules.extend(peers.deny.iter().map(|network| rule(Verdict::Deny, network)));
}

fn listed_user(realm: &str, user: StoredUser) -> ListedUser {
    let (md5, sha256) = match &user.secret {
        UserSecret::Keys { md5, sha256 } => (md5.is_some(), sha256.is_some()),
        UserSecret::Password(_) => (true, true),
    };
    ListedUser {
        realm: realm.to_owned(),
        name: (*user.name).to_owned(),
        md5,
        sha256,
        limits: user.limits,
        expires: user.expires,
    }
}
