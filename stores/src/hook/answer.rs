//! What the HTTP service answers with.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use sterna_actors::credential_store::{StoreError, StoredUser, UserLookup};
use sterna_actors::policy::UserSecret;
use sterna_proto::credentials::{opaque_string, user_hash};
use sterna_proto::guard::ClaimedUser;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::UserLimits;

use crate::admin::NAME_MAX;
use crate::ranges;
use crate::sql::own::key;

/// See the head of this file. A field that is not one of these is a failure: a limit that is
/// spelled wrong would be none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// There is no such user.
    #[serde(default)]
    pub(super) refuse: bool,
    /// The name that the user is counted by; where it was asked for by its hash, its name.
    username: Option<String>,
    password: Option<String>,
    /// In hexadecimal.
    md5_key: Option<String>,
    sha256_key: Option<String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    peers: Peers,
    /// Seconds since 1970.
    expires: Option<u64>,
    /// Seconds for which the answer may be kept.
    keep: Option<u64>,
}

/// Allocations at once, and bytes per second.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    allocations: Option<u32>,
    bandwidth: Option<u64>,
    bandwidth_per_allocation: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peers {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl Answer {
    pub(super) fn user(self, wanted: &UserLookup) -> Result<Option<StoredUser>, StoreError> {
        let name = self.name(wanted)?;
        let bad = |what: &str| StoreError::Answered(format!("its answer for {name}: {what}"));
        let secret = match (self.password, self.md5_key, self.sha256_key) {
            (Some(password), None, None) if !password.is_empty() => UserSecret::Password(password),
            (None, md5, sha256) if md5.is_some() || sha256.is_some() => {
                let md5 = md5.map(|text| key(&text)).transpose();
                let sha256 = sha256.map(|text| key(&text)).transpose();
                UserSecret::Keys {
                    md5: md5.map_err(|()| bad("md5_key is not 32 hexadecimal digits"))?,
                    sha256: sha256.map_err(|()| bad("sha256_key is not 64 hexadecimal digits"))?,
                }
            }
            _ => return Err(bad("it needs a password, or md5_key and sha256_key")),
        };
        let peers = PeerLists {
            allow: networks(&self.peers.allow).map_err(|text| bad(&text))?,
            deny: networks(&self.peers.deny).map_err(|text| bad(&text))?,
        };
        let mut user = StoredUser::lasting(&name, secret);
        user.limits = UserLimits {
            allocations: self.limits.allocations,
            bandwidth: self.limits.bandwidth,
            bandwidth_per_allocation: self.limits.bandwidth_per_allocation,
        };
        user.peers = (peers != PeerLists::default()).then(|| Arc::new(peers));
        user.expires = self.expires.map(Duration::from_secs);
        user.keep = self.keep.map(Duration::from_secs);
        Ok(Some(user))
    }

    /// The name that quotas count by. A service that ignores case or takes aliases names the user
    /// the same each time, lest every spelling had quotas of its own.
    fn name(&self, wanted: &UserLookup) -> Result<String, StoreError> {
        let bad = |what: &str| Err(StoreError::Answered(format!("its answer {what}")));
        match (&wanted.user, &self.username) {
            (ClaimedUser::Named(wanted), None) => Ok(wanted.clone()),
            (ClaimedUser::Named(_), Some(name)) => match opaque_string(name) {
                Ok(prepared) if prepared.len() <= NAME_MAX => Ok(prepared.into_owned()),
                Ok(_) | Err(_) => bad("has a username that is none"),
            },
            (ClaimedUser::Hashed(hash), Some(name)) => {
                match user_hash(name, &wanted.realm).is_ok_and(|of_name| of_name == *hash) {
                    true => Ok(name.clone()),
                    false => bad("is for another user"),
                }
            }
            (ClaimedUser::Hashed(_), None) => bad("to a userhash has no username"),
            (ClaimedUser::Token { .. }, _) => bad("is to a token"),
        }
    }
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    for text in texts {
        let found = ranges::networks(text);
        networks.extend(found.ok_or_else(|| format!("{text:?} is no range of addresses"))?);
    }
    Ok(networks)
}
