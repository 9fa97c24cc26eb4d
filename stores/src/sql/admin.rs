//! Changes to Sterna's own tables.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sterna_actors::clock;
use sterna_actors::credential_store::{StoreError, StoredRealm};
use sterna_actors::policy::TokenKey;
use sterna_proto::credentials::user_hash;
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use super::connection::{Row, Statement, Value, fault};
use super::coturn_admin::CoturnAdmin;
use super::{Database, own};
use crate::OpenError;
use crate::admin::{
    Admin, AdminError, Counts, KID_MAX, ListedSecret, ListedUser, NAME_MAX, NewUser, ORIGIN_MAX,
    PeerRule, REALM_MAX, SECRET_MAX, UserKeys, Verdict, check_name, fingerprint, secret_named,
};
use crate::url::{SchemaKind, StoreUrl};

pub(crate) async fn open(url: &StoreUrl) -> Result<Box<dyn Admin>, OpenError> {
    let database = Database::new(url.clone(), ADMIN_TIMEOUT);
    match database.kind().await? {
        SchemaKind::Sterna => Ok(Box::new(SqlAdmin { database })),
        SchemaKind::Coturn => Ok(Box::new(CoturnAdmin { database })),
    }
}

struct SqlAdmin {
    database: Database,
}

pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, AdminError>>;

impl Admin for SqlAdmin {
    fn label(&self) -> &str {
        self.database.url.label()
    }

    fn add_user(&self, user: NewUser) -> Answer<'_, ()> {
        Box::pin(async move {
            check_name("the realm", &user.realm, REALM_MAX)?;
            check_name("the user's name", &user.name, NAME_MAX)?;
            let hash = user_hash(&user.name, &user.realm)
                .map_err(|error| AdminError::Invalid(format!("user {}: {error}", user.name)))?;
            let text = "INSERT INTO sterna_users (realm, name, user_hash, md5_key, sha256_key, \
                 allocations, bandwidth, bandwidth_per_allocation, expires) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
            let mut values = vec![
                user.realm.as_str().into(),
                user.name.as_str().into(),
                hex::encode(hash).into(),
            ];
            values.extend(keys(&user.keys)?);
            values.extend(limits(&user.limits, user.expires)?);
            let what = || format!("user {} of realm {}", user.name, user.realm);
            self.insert(text, values, what).await
        })
    }

    fn list_users<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<ListedUser>> {
        Box::pin(async move {
            let text = "SELECT realm, name, md5_key, sha256_key, allocations, bandwidth, \
                 bandwidth_per_allocation, expires FROM sterna_users";
            let rows = self.database.of_realm(text, realm, "realm, name").await?;
            Ok(rows.iter().map(listed_user).collect())
        })
    }

    fn find_user<'a>(&'a self, realm: &'a str, name: &'a str) -> Answer<'a, Option<ListedUser>> {
        Box::pin(async move {
            let text = "SELECT realm, name, md5_key, sha256_key, allocations, bandwidth, \
                 bandwidth_per_allocation, expires FROM sterna_users WHERE realm = ? AND name = ?";
            let wanted = Statement::new(text, vec![realm.into(), name.into()]);
            Ok(self.database.rows(&wanted).await?.first().map(listed_user))
        })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let users = self.database.count("sterna_users").await?;
            let secrets = self.database.count("sterna_secrets").await?;
            let realms = own::realms(&self.database).await?.len() as u64;
            Ok(Counts { users, secrets, realms })
        })
    }

    fn set_keys<'a>(&'a self, realm: &'a str, name: &'a str, new: UserKeys) -> Answer<'a, ()> {
        Box::pin(async move {
            let text =
                "UPDATE sterna_users SET md5_key = ?, sha256_key = ? WHERE realm = ? AND name = ?";
            let mut values = keys(&new)?;
            values.extend([realm.into(), name.into()]);
            self.change_one(text, values, || format!("user {name} of realm {realm}")).await
        })
    }

    fn set_limits<'a>(
        &'a self,
        realm: &'a str,
        name: &'a str,
        new: UserLimits,
        expires: Option<Duration>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let text = "UPDATE sterna_users SET allocations = ?, bandwidth = ?, \
                 bandwidth_per_allocation = ?, expires = ? WHERE realm = ? AND name = ?";
            let mut values = limits(&new, expires)?;
            values.extend([realm.into(), name.into()]);
            self.change_one(text, values, || format!("user {name} of realm {realm}")).await
        })
    }

    fn remove_user<'a>(&'a self, realm: &'a str, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            check_name("the user's name", name, NAME_MAX)?;
            let of = |table| {
                let text = format!("DELETE FROM {table} WHERE realm = ? AND name = ?");
                Statement::new(text, vec![realm.into(), name.into()])
            };
            let changed = self.change(&[of("sterna_users"), of("sterna_peers")]).await?;
            match changed.first() {
                Some(1..) => Ok(()),
                _ => Err(AdminError::Missing(format!("user {name} of realm {realm}"))),
            }
        })
    }

    fn add_secret<'a>(&'a self, realm: &'a str, secret: &'a str) -> Answer<'a, ListedSecret> {
        Box::pin(async move {
            check_name("the realm", realm, REALM_MAX)?;
            check_name("the secret", secret, SECRET_MAX)?;
            // Of two secrets of one second the server could not tell which is the newer.
            let newest = self.secrets(Some(realm)).await?.last().and_then(|(last, _)| last.added);
            let now = Duration::from_secs(clock::unix_now().as_secs());
            let added = newest.map_or(now, |newest| now.max(newest + Duration::from_secs(1)));
            let text = "INSERT INTO sterna_secrets (realm, secret, added) VALUES (?, ?, ?)";
            let values = vec![realm.into(), secret.into(), Value::Int(seconds(added).ok())];
            self.insert(text, values, || "that secret".into()).await?;
            let (realm, fingerprint) = (realm.to_owned(), fingerprint(secret));
            Ok(ListedSecret { realm, fingerprint, added: Some(added) })
        })
    }

    fn list_secrets<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<ListedSecret>> {
        Box::pin(async move {
            let secrets = self.secrets(realm).await?;
            Ok(secrets.into_iter().map(|(listed, _)| listed).collect())
        })
    }

    fn rotate_secret<'a>(
        &'a self,
        realm: &'a str,
        secret: &'a str,
        keep: usize,
    ) -> Answer<'a, Vec<ListedSecret>> {
        Box::pin(async move {
            let mut gone = self.secrets(Some(realm)).await?;
            gone.truncate(gone.len().saturating_sub(keep));
            self.add_secret(realm, secret).await?;
            let statements: Vec<Statement> =
                gone.iter().map(|(_, text)| without_secret(realm, text)).collect();
            self.change(&statements).await?;
            Ok(gone.into_iter().map(|(listed, _)| listed).collect())
        })
    }

    fn remove_secret<'a>(&'a self, realm: &'a str, wanted: &'a str) -> Answer<'a, ListedSecret> {
        Box::pin(async move {
            let mut secrets = self.secrets(Some(realm)).await?;
            let fingerprints = secrets.iter().map(|(listed, _)| listed.fingerprint.as_str());
            let (listed, text) =
                secrets.swap_remove(secret_named(fingerprints.enumerate(), wanted)?);
            self.change(&[without_secret(realm, &text)]).await?;
            Ok(listed)
        })
    }

    fn list_realms(&self) -> Answer<'_, Vec<StoredRealm>> {
        Box::pin(async move { Ok(own::realms(&self.database).await?) })
    }

    fn set_realm<'a>(&'a self, realm: &'a str, quotas: QuotaLimits) -> Answer<'a, ()> {
        Box::pin(async move {
            check_name("the realm", realm, REALM_MAX)?;
            let text = "INSERT INTO sterna_realms (realm, allocations, allocations_per_user, \
                 allocations_per_source, bandwidth, bandwidth_per_user, \
                 bandwidth_per_allocation) VALUES (?, ?, ?, ?, ?, ?, ?)";
            let values = vec![
                realm.into(),
                Value::Int(quotas.allocations.map(i64::from)),
                Value::Int(quotas.allocations_per_user.map(i64::from)),
                Value::Int(quotas.allocations_per_source.map(i64::from)),
                rate(quotas.bandwidth)?,
                rate(quotas.bandwidth_per_user)?,
                rate(quotas.bandwidth_per_allocation)?,
            ];
            let without = Statement::new(WITHOUT_REALM, vec![realm.into()]);
            self.change(&[without, Statement::new(text, values)]).await.map(|_| ())
        })
    }

    fn remove_realm<'a>(&'a self, realm: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let of = |text| Statement::new(text, vec![realm.into()]);
            let changed = self
                .change(&[
                    of(WITHOUT_REALM),
                    of("DELETE FROM sterna_origins WHERE realm = ?"),
                    of("DELETE FROM sterna_peers WHERE realm = ? AND name = ''"),
                ])
                .await?;
            match changed.iter().sum() {
                0_u64 => Err(AdminError::Missing(format!("realm {realm}"))),
                _ => Ok(()),
            }
        })
    }

    fn add_origin<'a>(&'a self, origin: &'a str, realm: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            check_name("the realm", realm, REALM_MAX)?;
            check_name("the origin", origin, ORIGIN_MAX)?;
            let text = "INSERT INTO sterna_origins (origin, realm) VALUES (?, ?)";
            let without = Statement::new(WITHOUT_ORIGIN, vec![origin.into()]);
            let with = Statement::new(text, vec![origin.into(), realm.into()]);
            self.change(&[without, with]).await.map(|_| ())
        })
    }

    fn remove_origin<'a>(&'a self, origin: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let values = vec![origin.into()];
            self.change_one(WITHOUT_ORIGIN, values, || format!("origin {origin}")).await
        })
    }

    fn add_peer(&self, rule: PeerRule) -> Answer<'_, ()> {
        Box::pin(async move {
            check_name("the realm", &rule.realm, REALM_MAX)?;
            if let Some(name) = &rule.user {
                check_name("the user's name", name, NAME_MAX)?;
            }
            let text = "INSERT INTO sterna_peers (realm, name, verdict, network) \
                 VALUES (?, ?, ?, ?)";
            self.insert(text, rule_values(&rule), || format!("rule for {}", rule.network)).await
        })
    }

    fn list_peers<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<PeerRule>> {
        Box::pin(async move {
            let text = "SELECT realm, name, verdict, network FROM sterna_peers";
            let order = "realm, name, verdict, network";
            let rows = self.database.of_realm(text, realm, order).await?;
            rows.iter().map(listed_rule).collect()
        })
    }

    fn remove_peer(&self, rule: PeerRule) -> Answer<'_, ()> {
        Box::pin(async move {
            let text = "DELETE FROM sterna_peers \
                 WHERE realm = ? AND name = ? AND verdict = ? AND network = ?";
            let what = || format!("rule for {}", rule.network);
            self.change_one(text, rule_values(&rule), what).await
        })
    }

    fn set_token_key(&self, key: TokenKey) -> Answer<'_, ()> {
        Box::pin(async move {
            check_name("the key's name", &key.kid, KID_MAX)?;
            if !matches!(key.key.len(), 16 | 32) {
                return Err(AdminError::Invalid("the key is not of 16 or 32 bytes".into()));
            }
            let date = |date: Option<u64>| Value::Int(date.and_then(|d| i64::try_from(d).ok()));
            let text = "INSERT INTO sterna_token_keys (kid, key_hex, realm, valid_from, \
                 valid_until) VALUES (?, ?, ?, ?, ?)";
            let values = vec![
                key.kid.as_str().into(),
                hex::encode(&key.key).into(),
                Value::Text(key.realm.as_deref().map(str::to_owned)),
                date(key.valid.map(|(from, _)| from)),
                date(key.valid.map(|(_, until)| until)),
            ];
            let without = Statement::new(WITHOUT_TOKEN_KEY, vec![key.kid.as_str().into()]);
            self.change(&[without, Statement::new(text, values)]).await.map(|_| ())
        })
    }

    fn list_token_keys(&self) -> Answer<'_, Vec<TokenKey>> {
        Box::pin(async move {
            let text = format!("{} ORDER BY kid", own::TOKEN_KEYS);
            let rows = self.database.rows(&Statement::new(text, Vec::new())).await?;
            Ok(rows.iter().map(own::read_token_key).collect::<Result<_, _>>()?)
        })
    }

    fn remove_token_key<'a>(&'a self, kid: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let values = vec![kid.into()];
            self.change_one(WITHOUT_TOKEN_KEY, values, || format!("token key {kid}")).await
        })
    }
}

impl SqlAdmin {
    async fn change(&self, statements: &[Statement]) -> Result<Vec<u64>, AdminError> {
        self.database.change(statements).await.map_err(|error| fault(&error).into())
    }

    async fn insert(
        &self,
        text: &str,
        values: Vec<Value>,
        what: impl FnOnce() -> String,
    ) -> Result<(), AdminError> {
        match self.database.change(&[Statement::new(text, values)]).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(AdminError::Exists(what()))
            }
            Err(error) => Err(fault(&error).into()),
        }
    }

    async fn change_one(
        &self,
        text: &str,
        values: Vec<Value>,
        what: impl FnOnce() -> String,
    ) -> Result<(), AdminError> {
        match self.change(&[Statement::new(text, values)]).await?.first() {
            Some(1..) => Ok(()),
            _ => Err(AdminError::Missing(what())),
        }
    }

    /// Secrets with their texts, oldest first.
    async fn secrets(
        &self,
        realm: Option<&str>,
    ) -> Result<Vec<(ListedSecret, String)>, StoreError> {
        let text = "SELECT realm, secret, added FROM sterna_secrets";
        let rows = self.database.of_realm(text, realm, "realm, added, secret").await?;
        let read = |row: &Row| {
            let secret = row.text(1).unwrap_or_default();
            let listed = ListedSecret {
                realm: row.text(0).unwrap_or_default().to_owned(),
                fingerprint: fingerprint(secret),
                added: date(row, 2),
            };
            (listed, secret.to_owned())
        };
        Ok(rows.iter().map(read).collect())
    }
}

fn listed_user(row: &Row) -> ListedUser {
    let number = |column| row.int(column).and_then(|number| u64::try_from(number).ok());
    ListedUser {
        realm: row.text(0).unwrap_or_default().to_owned(),
        name: row.text(1).unwrap_or_default().to_owned(),
        md5: row.text(2).is_some(),
        sha256: row.text(3).is_some(),
        limits: UserLimits {
            allocations: number(4).and_then(|number| u32::try_from(number).ok()),
            bandwidth: number(5),
            bandwidth_per_allocation: number(6),
        },
        expires: date(row, 7),
    }
}

fn listed_rule(row: &Row) -> Result<PeerRule, AdminError> {
    let text = row.text(3).unwrap_or_default();
    let bad = |_| StoreError::Answered(format!("sterna_peers: {text:?} is no network"));
    Ok(PeerRule {
        realm: row.text(0).unwrap_or_default().to_owned(),
        user: row.text(1).filter(|name| !name.is_empty()).map(str::to_owned),
        verdict: if row.text(2) == Some("allow") { Verdict::Allow } else { Verdict::Deny },
        network: text.parse().map_err(bad)?,
    })
}

fn rule_values(rule: &PeerRule) -> Vec<Value> {
    let verdict = match rule.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    };
    let name = rule.user.as_deref().unwrap_or_default();
    let network = rule.network.trunc().to_string();
    vec![rule.realm.as_str().into(), name.into(), verdict.into(), network.into()]
}

fn without_secret(realm: &str, secret: &str) -> Statement {
    let text = "DELETE FROM sterna_secrets WHERE realm = ? AND secret = ?";
    Statement::new(text, vec![realm.into(), secret.into()])
}

fn keys(keys: &UserKeys) -> Result<Vec<Value>, AdminError> {
    if keys.md5.is_none() && keys.sha256.is_none() {
        return Err(AdminError::Invalid("a user needs a key".into()));
    }
    Ok(vec![Value::Text(keys.md5.map(hex::encode)), Value::Text(keys.sha256.map(hex::encode))])
}

fn limits(limits: &UserLimits, expires: Option<Duration>) -> Result<Vec<Value>, AdminError> {
    Ok(vec![
        Value::Int(limits.allocations.map(i64::from)),
        rate(limits.bandwidth)?,
        rate(limits.bandwidth_per_allocation)?,
        Value::Int(expires.map(seconds).transpose()?),
    ])
}

fn rate(rate: Option<u64>) -> Result<Value, AdminError> {
    let fits = |rate| i64::try_from(rate).map_err(|_| too_large());
    Ok(Value::Int(rate.map(fits).transpose()?))
}

fn seconds(date: Duration) -> Result<i64, AdminError> {
    i64::try_from(date.as_secs()).map_err(|_| too_large())
}

fn date(row: &Row, column: usize) -> Option<Duration> {
    row.int(column).and_then(|date| u64::try_from(date).ok()).map(Duration::from_secs)
}

fn too_large() -> AdminError {
    AdminError::Invalid("a number is too large".into())
}

/// A person waits longer than a client: a million users take seconds to list.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(60);
const WITHOUT_REALM: &str = "DELETE FROM sterna_realms WHERE realm = ?";
const WITHOUT_ORIGIN: &str = "DELETE FROM sterna_origins WHERE origin = ?";
const WITHOUT_TOKEN_KEY: &str = "DELETE FROM sterna_token_keys WHERE kid = ?";
