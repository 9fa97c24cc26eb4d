//! Writes who may relay what as turn.yaml, without its secrets.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use sterna_actors::policy::ExpiryPolicy;
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use super::access::{Auth, Hook, OAuth, Peers, Realm, Store, TokenKey, User, UserSecret};
use super::show::seconds;
use super::values::{ANY_ALLOCATIONS, ANY_RATE, show_moment, show_rate};
use crate::secret::{SHOWN, Secret};

#[derive(Serialize)]
pub(super) struct ShownAuth<'a> {
    users: BTreeMap<&'a str, ShownUser>,
    rest_secrets: Vec<&'static str>,
    rest_secrets_file: &'a Path,
    stores: Vec<String>,
    expiry: &'static str,
    cache: ShownCache,
    jwt: ShownJwt,
    oauth: ShownOAuth<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<ShownHook<'a>>,
}

#[derive(Serialize)]
struct ShownCache {
    entries: usize,
    lifetime: String,
    outage: String,
}

#[derive(Serialize)]
struct ShownJwt {
    secrets: Vec<&'static str>,
}

#[derive(Default, Serialize)]
struct ShownOAuth<'a> {
    server_name: &'a str,
    keys: BTreeMap<&'a str, ShownTokenKey<'a>>,
}

#[derive(Serialize)]
struct ShownTokenKey<'a> {
    key: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
}

#[derive(Serialize)]
struct ShownHook<'a> {
    url: String,
    token_file: &'a Path,
    ca: &'a Path,
    timeout: String,
    failures: u32,
    pause: String,
    userhash: bool,
}

#[derive(Serialize)]
pub(super) struct ShownRealm<'a> {
    origins: &'a [String],
    users: BTreeMap<&'a str, ShownUser>,
    rest_secrets: Vec<&'static str>,
    jwt: ShownJwt,
    limits: ShownQuotas,
    peers: ShownPeers,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownUser {
    Password(&'static str),
    Map(ShownUserMap),
}

#[derive(Serialize)]
struct ShownUserMap {
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<ShownUserLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<ShownPeers>,
}

#[derive(Serialize)]
struct ShownUserLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    allocations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth_per_allocation: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ShownQuotas {
    allocations: u32,
    allocations_per_user: u32,
    allocations_per_source: u32,
    bandwidth: String,
    bandwidth_per_user: String,
    bandwidth_per_allocation: String,
}

#[derive(Serialize)]
pub(super) struct ShownPeers {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl<'a> From<&'a Auth> for ShownAuth<'a> {
    fn from(auth: &'a Auth) -> Self {
        ShownAuth {
            users: users(&auth.users),
            rest_secrets: hidden(&auth.rest_secrets),
            rest_secrets_file: auth.rest_secrets_file.as_deref().unwrap_or(Path::new("")),
            stores: auth.stores.iter().map(Store::shown).collect(),
            expiry: match auth.expiry {
                ExpiryPolicy::Allocate => "allocate",
                ExpiryPolicy::Refresh => "refresh",
                ExpiryPolicy::Strict => "strict",
            },
            cache: ShownCache {
                entries: auth.cache.entries,
                lifetime: seconds(auth.cache.lifetime),
                outage: seconds(auth.cache.outage),
            },
            jwt: ShownJwt { secrets: hidden(&auth.jwt_secrets) },
            oauth: auth.oauth.as_ref().map(ShownOAuth::from).unwrap_or_default(),
            hook: auth.hook.as_ref().map(ShownHook::from),
        }
    }
}

impl<'a> From<&'a OAuth> for ShownOAuth<'a> {
    fn from(oauth: &'a OAuth) -> Self {
        let key = |(name, key): (&'a String, &'a TokenKey)| (name.as_str(), key.into());
        ShownOAuth { server_name: &oauth.server_name, keys: oauth.keys.iter().map(key).collect() }
    }
}

impl<'a> From<&'a TokenKey> for ShownTokenKey<'a> {
    fn from(key: &'a TokenKey) -> Self {
        let (from, until) = key.valid.unwrap_or((0, u64::MAX));
        ShownTokenKey {
            key: SHOWN,
            realm: key.realm.as_deref(),
            valid_from: (from != 0).then(|| show_moment(from)),
            valid_until: (until != u64::MAX).then(|| show_moment(until)),
        }
    }
}

impl<'a> From<&'a Hook> for ShownHook<'a> {
    fn from(hook: &'a Hook) -> Self {
        ShownHook {
            url: hook.shown_url(),
            token_file: hook.token_file.as_deref().unwrap_or(Path::new("")),
            ca: hook.ca.as_deref().unwrap_or(Path::new("")),
            timeout: seconds(hook.timeout),
            failures: hook.failures,
            pause: seconds(hook.pause),
            userhash: hook.userhash,
        }
    }
}

impl<'a> From<&'a Realm> for ShownRealm<'a> {
    fn from(realm: &'a Realm) -> Self {
        ShownRealm {
            origins: &realm.origins,
            users: users(&realm.users),
            rest_secrets: hidden(&realm.rest_secrets),
            jwt: ShownJwt { secrets: hidden(&realm.jwt_secrets) },
            limits: ShownQuotas::from(&realm.quotas),
            peers: ShownPeers::from(&realm.peers),
        }
    }
}

impl From<&User> for ShownUser {
    fn from(user: &User) -> Self {
        let has_limits = user.limits != UserLimits::default();
        let has_peers = user.peers != Peers::default();
        let is_plain = !has_limits && !has_peers;
        let (password, md5_key, sha256_key) = match &user.secret {
            UserSecret::Password(_) if is_plain => return ShownUser::Password(SHOWN),
            UserSecret::Password(_) => (Some(SHOWN), None, None),
            UserSecret::Keys { md5, sha256 } => {
                (None, md5.as_ref().map(|_| SHOWN), sha256.as_ref().map(|_| SHOWN))
            }
        };
        let rate = |rate: u64| show_rate((rate != ANY_RATE).then_some(rate));
        let limits = ShownUserLimits {
            allocations: user.limits.allocations.map(|n| if n == ANY_ALLOCATIONS { 0 } else { n }),
            bandwidth: user.limits.bandwidth.map(rate),
            bandwidth_per_allocation: user.limits.bandwidth_per_allocation.map(rate),
        };
        ShownUser::Map(ShownUserMap {
            password,
            md5_key,
            sha256_key,
            limits: has_limits.then_some(limits),
            peers: has_peers.then(|| ShownPeers::from(&user.peers)),
        })
    }
}

impl From<&QuotaLimits> for ShownQuotas {
    fn from(quotas: &QuotaLimits) -> Self {
        ShownQuotas {
            allocations: quotas.allocations.unwrap_or(0),
            allocations_per_user: quotas.allocations_per_user.unwrap_or(0),
            allocations_per_source: quotas.allocations_per_source.unwrap_or(0),
            bandwidth: show_rate(quotas.bandwidth),
            bandwidth_per_user: show_rate(quotas.bandwidth_per_user),
            bandwidth_per_allocation: show_rate(quotas.bandwidth_per_allocation),
        }
    }
}

impl From<&Peers> for ShownPeers {
    fn from(peers: &Peers) -> Self {
        ShownPeers {
            allow: peers.allow.iter().map(ToString::to_string).collect(),
            deny: peers.deny.iter().map(ToString::to_string).collect(),
        }
    }
}

fn users(users: &BTreeMap<String, User>) -> BTreeMap<&str, ShownUser> {
    users.iter().map(|(name, user)| (name.as_str(), user.into())).collect()
}

fn hidden(secrets: &[Secret]) -> Vec<&'static str> {
    secrets.iter().map(|_| SHOWN).collect()
}
