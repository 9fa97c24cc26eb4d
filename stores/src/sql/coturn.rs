//! Questions to coturn's tables, which are read as they stand and never written.
//!
//! Its lists name addresses, networks or ranges; a list without a realm holds for every realm. A
//! deny wins over an allow here, other than with coturn, and 0 is no limit. `max-bps` is in bytes
//! per second, of each allocation and in each direction.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sterna_actors::credential_store::{StoreError, StoredRealm, StoredUser, UserLookup};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::guard::ClaimedUser;
use sterna_proto::quotas::QuotaLimits;

use super::connection::{Row, Statement};
use super::own::{bounded, key, named};
use super::{Database, Entry, name_list};
use crate::ranges;

/// They have no date: the order is that of their texts, so that it is the same each time.
pub(super) const SECRETS: &str =
    "SELECT realm, value FROM turn_secret WHERE realm = ? ORDER BY value LIMIT 101";

pub(super) async fn user(
    database: &Database,
    wanted: &UserLookup,
) -> Result<Option<Entry<StoredUser>>, StoreError> {
    let ClaimedUser::Named(name) = &wanted.user else { return Ok(None) };
    let names = [Arc::from(name.as_str())];
    Ok(users(database, &wanted.realm, &names).await?.into_iter().next())
}

pub(super) async fn users(
    database: &Database,
    realm: &str,
    names: &[Arc<str>],
) -> Result<Vec<Entry<StoredUser>>, StoreError> {
    let (list, values) = name_list(names);
    let text = format!(
        "SELECT name, hmackey, realm FROM turnusers_lt WHERE realm = ? AND name IN ({list})"
    );
    let values = std::iter::once(realm.into()).chain(values).collect();
    let rows = database.rows(&Statement::new(text, values)).await?;
    // The key of "ann" would be good for "Ann" too where MySQL takes one for the other, and a user
    // with many names dodges its quota.
    let exact = |row: &&Row| {
        row.text(2) == Some(realm) && names.iter().any(|name| row.text(0) == Some(name))
    };
    Ok(rows.iter().filter(exact).map(read_user).collect())
}

pub(super) async fn token_key(
    database: &Database,
    kid: &str,
) -> Result<Option<Entry<TokenKey>>, StoreError> {
    let text = "SELECT kid, ikm_key, as_rs_alg, realm, timestamp, lifetime FROM oauth_key \
         WHERE kid = ?";
    let rows = database.rows(&Statement::new(text, vec![kid.into()])).await?;
    let Some(row) = rows.iter().find(|row| row.text(0) == Some(kid)) else { return Ok(None) };
    let number = |column| row.int(column).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let material = row.text(1).unwrap_or_default();
    Ok(Some(read_token_key(kid, material, row.text(2), row.text(3), number(4), number(5))))
}

/// A token key as coturn keeps it. Of longer material it uses the beginning.
pub(crate) fn read_token_key(
    kid: &str,
    material: &str,
    algorithm: Option<&str>,
    realm: Option<&str>,
    from: u64,
    lifetime: u64,
) -> Result<TokenKey, StoreError> {
    let length = match algorithm.unwrap_or_default() {
        "" | "A256GCM" => 32,
        "A128GCM" => 16,
        other => {
            return Err(StoreError::Answered(format!("oauth key {kid}: no algorithm {other}")));
        }
    };
    let key = STANDARD.decode(material.trim()).ok();
    let Some(key) = key.as_ref().and_then(|key| key.get(..length)) else {
        return Err(StoreError::Answered(format!("oauth key {kid}: not {length} bytes in base64")));
    };
    Ok(TokenKey {
        kid: kid.to_owned(),
        key: key.to_vec(),
        realm: realm.filter(|realm| !realm.is_empty()).map(Into::into),
        valid: (lifetime > 0).then(|| (from, from.saturating_add(lifetime))),
    })
}

pub(super) async fn realms(
    database: &Database,
    configured: &[Arc<str>],
) -> Result<Vec<StoredRealm>, StoreError> {
    let mut realms = BTreeMap::new();
    for name in configured {
        named(&mut realms, name);
    }
    for row in bounded(database, ORIGINS).await? {
        if let (Some(realm), Some(origin)) = (row.text(0), row.text(1)) {
            named(&mut realms, realm).origins.push(origin.to_owned());
        }
    }
    for row in bounded(database, OPTIONS).await? {
        if let (Some(realm), Some(option)) = (row.text(0), row.text(1)) {
            set_option(&mut named(&mut realms, realm).quotas, realm, option, row.int(2))?;
        }
    }
    let allowed = peers(&bounded(database, ALLOWED).await?, "allowed_peer_ip")?;
    let denied = peers(&bounded(database, DENIED).await?, "denied_peer_ip")?;
    for (realm, networks) in allowed {
        named(&mut realms, &realm).peers.allow.extend(networks);
    }
    for (realm, networks) in denied {
        named(&mut realms, &realm).peers.deny.extend(networks);
    }
    spread(&mut realms);
    Ok(realms.into_values().collect())
}

/// Say of every realm what is said of the one without a name, which is none.
pub(crate) fn spread(realms: &mut BTreeMap<String, StoredRealm>) {
    let Some(nobody) = realms.remove("") else { return };
    for realm in realms.values_mut() {
        realm.peers.allow.splice(..0, nobody.peers.allow.iter().copied());
        realm.peers.deny.splice(..0, nobody.peers.deny.iter().copied());
        fill(&mut realm.quotas, &nobody.quotas);
    }
}

/// Take over one of coturn's options of a realm.
pub(crate) fn set_option(
    quotas: &mut QuotaLimits,
    realm: &str,
    option: &str,
    value: Option<i64>,
) -> Result<(), StoreError> {
    // coturn passes over what it does not know, and a database may be newer than this.
    if !OPTIONS_KNOWN.contains(&option) {
        return Ok(());
    }
    let bad = || StoreError::Answered(format!("realm {realm}: {option} is not a number that fits"));
    let value = value.ok_or_else(bad)?;
    let count = || u32::try_from(value).map(|count| (count > 0).then_some(count));
    match option {
        "total-quota" => quotas.allocations = count().map_err(|_| bad())?,
        "user-quota" => quotas.allocations_per_user = count().map_err(|_| bad())?,
        _ => {
            let rate = u64::try_from(value).map_err(|_| bad())?;
            quotas.bandwidth_per_allocation = (rate > 0).then_some(rate);
        }
    }
    Ok(())
}

fn read_user(row: &Row) -> Result<StoredUser, StoreError> {
    let name = row.text(0).unwrap_or_default();
    Ok(StoredUser::lasting(name, secret(name, row.text(1).unwrap_or_default())?))
}

/// The key as coturn keeps it. PostgreSQL fills the column up with blanks.
pub(crate) fn secret(name: &str, text: &str) -> Result<UserSecret, StoreError> {
    let text = text.trim();
    if let Ok(md5) = key(text) {
        return Ok(UserSecret::Keys { md5: Some(md5), sha256: None });
    }
    if let Ok(sha256) = key(text) {
        return Ok(UserSecret::Keys { md5: None, sha256: Some(sha256) });
    }
    let why = "its key is not MD5 in 32 hexadecimal digits; encrypted passwords are not supported";
    Err(StoreError::Answered(format!("user {name}: {why}")))
}

fn peers(rows: &[Row], table: &str) -> Result<Vec<(String, Vec<ipnet::IpNet>)>, StoreError> {
    let read = |row: &Row| {
        let (realm, text) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
        let networks = ranges::networks(text).ok_or_else(|| {
            StoreError::Answered(format!("{table}: {text:?} is no range of addresses"))
        })?;
        Ok((realm.to_owned(), networks))
    };
    rows.iter().map(read).collect()
}

fn fill(quotas: &mut QuotaLimits, from: &QuotaLimits) {
    quotas.allocations = quotas.allocations.or(from.allocations);
    quotas.allocations_per_user = quotas.allocations_per_user.or(from.allocations_per_user);
    quotas.bandwidth_per_allocation =
        quotas.bandwidth_per_allocation.or(from.bandwidth_per_allocation);
}

/// Its options of a realm.
pub(crate) const OPTIONS_KNOWN: [&str; 3] = ["total-quota", "user-quota", "max-bps"];
const ORIGINS: &str = "SELECT realm, origin FROM turn_origin_to_realm ORDER BY origin LIMIT 20001";
const OPTIONS: &str = "SELECT realm, opt, value FROM turn_realm_option ORDER BY realm LIMIT 20001";
const ALLOWED: &str = "SELECT realm, ip_range FROM allowed_peer_ip ORDER BY realm LIMIT 20001";
const DENIED: &str = "SELECT realm, ip_range FROM denied_peer_ip ORDER BY realm LIMIT 20001";
