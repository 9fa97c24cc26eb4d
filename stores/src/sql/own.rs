//! Questions to Sterna's own tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sterna_actors::credential_store::{StoreError, StoredRealm, StoredUser, UserLookup};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::guard::ClaimedUser;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use super::connection::{Row, Statement, Value};
use super::{Database, Entry, REALM_ROWS_MAX, name_list};

pub(super) const SECRETS: &str = "SELECT realm, secret FROM sterna_secrets \
     WHERE realm = ? ORDER BY added DESC, secret DESC LIMIT 101";

pub(super) async fn user(
    database: &Database,
    wanted: &UserLookup,
) -> Result<Option<Entry<StoredUser>>, StoreError> {
    let (condition, value) = match &wanted.user {
        ClaimedUser::Named(name) => ("u.name = ?", name.as_str().into()),
        ClaimedUser::Hashed(hash) => ("u.user_hash = ?", Value::from(hex::encode(hash))),
        ClaimedUser::Token { .. } => return Ok(None),
    };
    let text = format!("{USERS} WHERE u.realm = ? AND {condition}");
    let statement = Statement::new(text, vec![(&*wanted.realm).into(), value]);
    Ok(read_users(&database.rows(&statement).await?).into_iter().next())
}

pub(super) async fn users(
    database: &Database,
    realm: &str,
    names: &[Arc<str>],
) -> Result<Vec<Entry<StoredUser>>, StoreError> {
    let (list, names) = name_list(names);
    let text = format!("{USERS} WHERE u.realm = ? AND u.name IN ({list})");
    let values = std::iter::once(realm.into()).chain(names).collect();
    Ok(read_users(&database.rows(&Statement::new(text, values)).await?))
}

pub(super) async fn token_key(
    database: &Database,
    kid: &str,
) -> Result<Option<Entry<TokenKey>>, StoreError> {
    let text = format!("{TOKEN_KEYS} WHERE kid = ?");
    let rows = database.rows(&Statement::new(text, vec![kid.into()])).await?;
    Ok(rows.iter().find(|row| row.text(0) == Some(kid)).map(read_token_key))
}

pub(super) fn read_token_key(row: &Row) -> Result<TokenKey, StoreError> {
    let kid = row.text(0).unwrap_or_default().to_owned();
    let key = hex::decode(row.text(1).unwrap_or_default()).ok();
    let Some(key) = key.filter(|key| matches!(key.len(), 16 | 32)) else {
        return Err(StoreError::Answered(format!("token key {kid} is not one of 16 or 32 bytes")));
    };
    if row.text(2).is_none() && !row.is_null(2) {
        return Err(StoreError::Answered(format!("token key {kid}: its realm is no text")));
    }
    let valid = match (limit::<i64>(row, 3)?, limit::<i64>(row, 4)?) {
        (None, None) => None,
        (from, until) => {
            let date = |date: i64| u64::try_from(date).unwrap_or(0);
            Some((from.map_or(0, date), until.map_or(u64::MAX, date)))
        }
    };
    Ok(TokenKey { kid, key, realm: row.text(2).map(Into::into), valid })
}

/// All that is said of realms. A realm is one as soon as anything is said of it, or has a user.
pub(super) async fn realms(database: &Database) -> Result<Vec<StoredRealm>, StoreError> {
    let mut realms = BTreeMap::new();
    let origins = format!("SELECT realm, origin FROM sterna_origins {LIMIT}");
    for row in bounded(database, &origins).await? {
        realm(&mut realms, &row).origins.extend(row.text(1).map(str::to_owned));
    }
    let peers = format!("SELECT realm, verdict, network FROM sterna_peers WHERE name = '' {LIMIT}");
    for row in bounded(database, &peers).await? {
        add_peer(&mut realm(&mut realms, &row).peers, row.text(1), row.text(2))?;
    }
    let quotas = format!(
        "SELECT realm, allocations, allocations_per_user, allocations_per_source, bandwidth, \
         bandwidth_per_user, bandwidth_per_allocation FROM sterna_realms {LIMIT}"
    );
    for row in bounded(database, &quotas).await? {
        realm(&mut realms, &row).quotas = QuotaLimits {
            allocations: limit(&row, 1)?,
            allocations_per_user: limit(&row, 2)?,
            allocations_per_source: limit(&row, 3)?,
            bandwidth: limit(&row, 4)?,
            bandwidth_per_user: limit(&row, 5)?,
            bandwidth_per_allocation: limit(&row, 6)?,
        };
    }
    Ok(realms.into_values().collect())
}

/// The rows of a question that must not have more than a bounded number.
pub(super) async fn bounded(database: &Database, text: &str) -> Result<Vec<Row>, StoreError> {
    let rows = database.rows(&Statement::new(text, Vec::new())).await?;
    match rows.len() > REALM_ROWS_MAX {
        false => Ok(rows),
        true => Err(StoreError::Answered(format!("more than {REALM_ROWS_MAX} rows about realms"))),
    }
}

/// The realm that a row begins with.
pub(super) fn realm<'a>(
    realms: &'a mut BTreeMap<String, StoredRealm>,
    row: &Row,
) -> &'a mut StoredRealm {
    named(realms, row.text(0).unwrap_or_default())
}

pub(crate) fn named<'a>(
    realms: &'a mut BTreeMap<String, StoredRealm>,
    name: &str,
) -> &'a mut StoredRealm {
    realms.entry(name.to_owned()).or_insert_with(|| StoredRealm {
        name: name.into(),
        origins: Vec::new(),
        quotas: QuotaLimits::default(),
        peers: PeerLists::default(),
    })
}

/// One user for all rows of the same name; the rows differ in their peers. Without a peer that
/// cannot be read a user may have more than is meant, so that it is left out.
fn read_users(rows: &[Row]) -> Vec<Entry<StoredUser>> {
    let mut users: Vec<(&str, Entry<(StoredUser, PeerLists)>)> = Vec::new();
    for row in rows {
        let name = row.text(0).unwrap_or_default();
        let index = match users.iter().position(|(known, _)| *known == name) {
            Some(index) => index,
            None => {
                users.push((name, read_user(row).map(|user| (user, PeerLists::default()))));
                users.len() - 1
            }
        };
        let Some((_, entry)) = users.get_mut(index).filter(|_| !row.is_null(7)) else { continue };
        let added = entry.as_mut().map(|(_, peers)| add_peer(peers, row.text(7), row.text(8)));
        if let Ok(Err(why)) = added {
            *entry = Err(StoreError::Answered(format!("user {name}: {why}")));
        }
    }
    let whole = |(user, peers): (StoredUser, PeerLists)| {
        let peers = (peers != PeerLists::default()).then(|| Arc::new(peers));
        StoredUser { peers, ..user }
    };
    users.into_iter().map(|(_, entry)| entry.map(whole)).collect()
}

fn read_user(row: &Row) -> Result<StoredUser, StoreError> {
    let name = row.text(0).unwrap_or_default();
    let bad = |what: &str| StoreError::Answered(format!("user {name}: {what}"));
    if [1, 2].iter().any(|&column| row.text(column).is_none() && !row.is_null(column)) {
        return Err(bad("a key is no text"));
    }
    let md5 = row.text(1).map(key).transpose().map_err(|()| bad("md5_key is not 32 digits"))?;
    let sha256 = row.text(2).map(key).transpose().map_err(|()| bad("sha256_key is not 64"))?;
    let mut user = StoredUser::lasting(name, UserSecret::Keys { md5, sha256 });
    let number = |column| limit(row, column).map_err(|why| bad(why.text()));
    user.limits = UserLimits {
        allocations: limit(row, 3).map_err(|why| bad(why.text()))?,
        bandwidth: number(4)?,
        bandwidth_per_allocation: number(5)?,
    };
    user.expires = number(6)?.map(Duration::from_secs);
    Ok(user)
}

pub(crate) fn key<const LENGTH: usize>(text: &str) -> Result<[u8; LENGTH], ()> {
    let mut key = [0; LENGTH];
    hex::decode_to_slice(text.trim(), &mut key).map(|()| key).map_err(|_| ())
}

/// A limit that cannot be read must not be none.
fn limit<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<Option<T>, StoreError> {
    if row.is_null(column) {
        return Ok(None);
    }
    let number = row.int(column).and_then(|number| T::try_from(number).ok());
    let bad = || StoreError::Answered("a limit or a date is no number, or out of range".into());
    number.map(Some).ok_or_else(bad)
}

fn add_peer(
    peers: &mut PeerLists,
    verdict: Option<&str>,
    network: Option<&str>,
) -> Result<(), StoreError> {
    let network = network.unwrap_or_default();
    let bad = |_| StoreError::Answered(format!("sterna_peers: {network:?} is no network"));
    let parsed: IpNet = network.parse().map_err(bad)?;
    match verdict {
        Some("allow") => peers.allow.push(parsed),
        // What is neither must not open anything.
        _ => peers.deny.push(parsed),
    }
    Ok(())
}

const USERS: &str = "SELECT u.name, u.md5_key, u.sha256_key, u.allocations, u.bandwidth, \
     u.bandwidth_per_allocation, u.expires, p.verdict, p.network FROM sterna_users u \
     LEFT JOIN sterna_peers p ON p.realm = u.realm AND p.name = u.name";
pub(super) const TOKEN_KEYS: &str =
    "SELECT kid, key_hex, realm, valid_from, valid_until FROM sterna_token_keys";
const LIMIT: &str = "ORDER BY realm LIMIT 20001";
