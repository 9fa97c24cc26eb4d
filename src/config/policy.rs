//! Makes of the configuration what the actors go by while they run, and go by anew after a reload.

use std::sync::Arc;

use sterna_actors::credential_store::CredentialStore;
use sterna_actors::policy::{self, Policy};
use sterna_proto::peer_rules::PeerLists;

use super::access::{OAuth, Peers, Realm, User, UserSecret};
use super::resolve::Resolved;
use crate::secret::Secret;

/// What a configuration names and what had to be opened, read or made for it.
#[derive(Clone, Default)]
pub struct Sources {
    /// The stores, in their order; the HTTP service last.
    pub stores: Vec<Arc<dyn CredentialStore>>,
    /// The secrets of `auth.rest_secrets_file`, or the one that a first run made for itself.
    pub rest_secrets: Vec<Secret>,
}

impl Resolved {
    /// What the actors go by. The default realm is the first.
    pub fn policy(&self, sources: &Sources) -> Policy {
        let config = &self.config;
        let auth = &config.auth;
        let mut default = match config.realms.get(&config.realm) {
            Some(more) => realm(&config.realm, more),
            None => policy::Realm::of_users(&config.realm, Vec::new()),
        };
        default.users.extend(auth.users.iter().map(user));
        let secrets = auth.rest_secrets.iter().chain(&sources.rest_secrets);
        default.rest_secrets.extend(secrets.map(bytes));
        default.jwt_secrets.extend(auth.jwt_secrets.iter().map(bytes));
        let others = config.realms.iter().filter(|(name, _)| **name != config.realm);
        let others = others.map(|(name, more)| realm(name, more));
        Policy {
            realms: [default].into_iter().chain(others).collect(),
            stores: sources.stores.clone(),
            cache: auth.cache,
            expiry: auth.expiry,
            oauth: auth.oauth.as_ref().map(oauth),
            peers: lists(&config.peers),
            quotas: config.limits.quotas,
        }
    }
}

fn realm(name: &str, realm: &Realm) -> policy::Realm {
    policy::Realm {
        name: name.into(),
        origins: realm.origins.clone(),
        users: realm.users.iter().map(user).collect(),
        rest_secrets: realm.rest_secrets.iter().map(bytes).collect(),
        jwt_secrets: realm.jwt_secrets.iter().map(bytes).collect(),
        quotas: realm.quotas,
        peers: lists(&realm.peers),
    }
}

fn user((name, user): (&String, &User)) -> (String, policy::StaticUser) {
    let static_user = policy::StaticUser {
        secret: secret(&user.secret),
        limits: user.limits,
        peers: (user.peers != Peers::default()).then(|| Arc::new(lists(&user.peers))),
    };
    (name.clone(), static_user)
}

fn secret(user: &UserSecret) -> policy::UserSecret {
    match user {
        UserSecret::Password(password) => policy::UserSecret::Password(password.expose().clone()),
        UserSecret::Keys { md5, sha256 } => policy::UserSecret::Keys {
            md5: md5.as_ref().map(|key| *key.expose()),
            sha256: sha256.as_ref().map(|key| *key.expose()),
        },
    }
}

fn oauth(oauth: &OAuth) -> policy::OAuth {
    let keys = oauth.keys.iter().map(|(kid, key)| policy::TokenKey {
        kid: kid.clone(),
        key: key.key.expose().clone(),
        realm: key.realm.as_deref().map(Arc::from),
        valid: key.valid,
    });
    policy::OAuth { server_name: oauth.server_name.clone(), keys: keys.collect() }
}

fn lists(peers: &Peers) -> PeerLists {
    PeerLists { allow: peers.allow.clone(), deny: peers.deny.clone() }
}

fn bytes(secret: &Secret) -> Vec<u8> {
    secret.expose().as_bytes().to_vec()
}
