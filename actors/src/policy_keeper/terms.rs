//! What a policy comes to: the sources of credentials, and the terms of sessions and allocations.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_proto::account::ExpiryPolicy;
use sterna_proto::allocation::Terms;
use sterna_proto::guard::{Guard, GuardedRealm};
use sterna_proto::nonce::NonceMinter;
use sterna_proto::peer_rules::{External, PeerLists, PeerRules, RelayAddresses};
use sterna_proto::quotas::{QuotaLimits, QuotaTerms};
use sterna_proto::request::{ChannelNumbers, Offer};
use sterna_proto::session::SessionTerms;

use crate::authenticator::{CredentialSources, StoreTraits};
use crate::clock;
use crate::config::{Listen, ServerConfig};
use crate::credential_store::{CredentialStore, StoredRealm};
use crate::policy::{CacheTerms, OAuth, Policy, Realm};
use crate::store_actor::RealmsRead;

/// A policy with what the stores say of realms.
pub struct Merged {
    /// The realms of the configuration, then those that only a store knows.
    realms: Vec<Realm>,
    with_secrets: BTreeSet<Arc<str>>,
    /// Whether all stores have told what they say of realms.
    realms_known: bool,
    stores: StoreTraits,
    oauth: Option<OAuth>,
    cache: CacheTerms,
    expiry: ExpiryPolicy,
    peers: PeerLists,
    quotas: QuotaLimits,
}

impl Merged {
    /// Puts both together. What the configuration says of a limit wins.
    pub fn of(policy: &Policy, stored: &RealmsRead) -> Merged {
        let mut realms = policy.realms.clone();
        assert!(!realms.is_empty(), "a policy has a realm");
        for of_store in &stored.realms {
            match realms.iter_mut().find(|realm| realm.name == of_store.name) {
                Some(realm) => merge(realm, of_store),
                None => {
                    let mut realm = Realm::of_users(&of_store.name, Vec::new());
                    merge(&mut realm, of_store);
                    realms.push(realm);
                }
            }
        }
        let has_told = |store: &Arc<dyn CredentialStore>| stored.told.contains(store.label());
        Merged {
            realms,
            with_secrets: stored.with_secrets.clone(),
            realms_known: policy.stores.iter().all(has_told),
            stores: StoreTraits::of(&policy.stores),
            oauth: policy.oauth.clone(),
            cache: policy.cache,
            expiry: policy.expiry,
            peers: policy.peers.clone(),
            quotas: policy.quotas,
        }
    }

    fn realm_peers(&self) -> HashMap<Arc<str>, Arc<PeerLists>> {
        let of_realm = |realm: &Realm| (realm.name.clone(), Arc::new(realm.peers.clone()));
        self.realms.iter().map(of_realm).collect()
    }

    /// How much everybody may have.
    pub fn quotas(&self) -> QuotaTerms {
        let realms = self.realms.iter().map(|realm| (realm.name.clone(), realm.quotas));
        QuotaTerms { server: self.quotas, realms: realms.collect() }
    }

    /// The place of a listener's own realm; of one that has none, the first. `None` where there is
    /// no such realm.
    pub fn default_of(&self, listener: Option<&Arc<str>>) -> Option<usize> {
        let Some(name) = listener else { return Some(0) };
        self.realms.iter().position(|realm| realm.name == *name)
    }

    fn guarded(&self, realm: &Realm) -> GuardedRealm {
        let mut algorithms = realm.password_algorithms();
        algorithms.retain(|algorithm| self.stores.algorithms.contains(algorithm));
        // A minted name is made up by whoever mints it, so that its hash tells nothing.
        let minted = !realm.rest_secrets.is_empty()
            || !realm.jwt_secrets.is_empty()
            || self.with_secrets.contains(&realm.name);
        GuardedRealm {
            name: realm.name.clone(),
            origins: realm.origins.clone(),
            algorithms,
            username_anonymity: self.stores.find_hashed && !minted,
        }
    }
}

/// Adds what a store says of a realm. A limit that is known already stays.
fn merge(realm: &mut Realm, stored: &StoredRealm) {
    for origin in &stored.origins {
        if !realm.origins.contains(origin) {
            realm.origins.push(origin.clone());
        }
    }
    let (own, other) = (realm.quotas, stored.quotas);
    realm.quotas = QuotaLimits {
        allocations: own.allocations.or(other.allocations),
        allocations_per_user: own.allocations_per_user.or(other.allocations_per_user),
        allocations_per_source: own.allocations_per_source.or(other.allocations_per_source),
        bandwidth: own.bandwidth.or(other.bandwidth),
        bandwidth_per_user: own.bandwidth_per_user.or(other.bandwidth_per_user),
        bandwidth_per_allocation: own.bandwidth_per_allocation.or(other.bandwidth_per_allocation),
    };
    realm.peers.allow.extend(stored.peers.allow.iter().copied());
    realm.peers.deny.extend(stored.peers.deny.iter().copied());
}

/// What of a server no policy changes.
#[derive(Clone)]
pub struct ServerTerms {
    config: Arc<ServerConfig>,
    own: Vec<SocketAddr>,
    /// Nonces outlive a policy, so that its change costs no client a question.
    nonce_secret: [u8; 32],
    epoch: Instant,
}

impl ServerTerms {
    /// The terms of a server that listens at these addresses.
    pub fn new(config: Arc<ServerConfig>, listening: &[Listen]) -> ServerTerms {
        let own = own_addresses(&config, listening);
        ServerTerms { config, own, nonce_secret: rand::random(), epoch: clock::now() }
    }

    /// Where Authenticators take credentials from.
    pub fn sources(&self, merged: &Merged) -> CredentialSources {
        CredentialSources {
            realms: merged.realms.clone(),
            oauth: merged.oauth.clone(),
            cache: merged.cache,
            outlives: match merged.expiry {
                ExpiryPolicy::Allocate => None,
                // Refreshed for the last time right before the end.
                ExpiryPolicy::Refresh => Some(self.config.lifetimes.allocation_max),
                ExpiryPolicy::Strict => Some(Duration::ZERO),
            },
            stores: merged.stores.clone(),
        }
    }

    /// The terms of a listener whose own realm is the one at `index`.
    pub fn session(&self, merged: &Merged, index: usize) -> SessionTerms {
        let config = &self.config;
        let nonces = NonceMinter::new(self.nonce_secret, config.nonce_lifetime, self.epoch);
        let realms = merged.realms.iter().map(|realm| merged.guarded(realm)).collect();
        // The client gives this name to the authorization server, which makes its tokens for it.
        let third_party = merged.oauth.as_ref().map(|oauth| oauth.server_name.clone());
        let has = |is_v4| config.relay.addresses.iter().any(|ip| ip.is_ipv4() == is_v4);
        SessionTerms {
            guard: Guard::new(realms, index, third_party, nonces),
            offer: Offer {
                v4: has(true),
                v6: has(false),
                tcp: config.relay.tcp,
                dont_fragment: true,
                channel_numbers: match config.rfc5766_channel_numbers {
                    true => ChannelNumbers::Rfc5766,
                    false => ChannelNumbers::Rfc8656,
                },
            },
            software: config.software.clone(),
            expiry: merged.expiry,
            realms_known: merged.realms_known,
        }
    }

    /// The terms of all allocations.
    pub fn allocation(&self, merged: &Merged) -> Terms {
        let config = &self.config;
        let relay = RelayAddresses {
            ips: config.relay.addresses.clone(),
            ports: config.relay.ports.clone(),
        };
        Terms {
            lifetimes: config.lifetimes,
            permissions_max: config.limits.permissions_per_allocation,
            channels_max: config.limits.channels_per_allocation,
            connections_max: config.limits.connections_per_allocation,
            realm_peers: merged.realm_peers(),
            rules: PeerRules::new(
                merged.peers.clone(),
                self.own.clone(),
                relay,
                External::new(config.relay.external.clone()),
            ),
        }
    }
}

/// The listening addresses as a peer could name them: a wildcard is every address of the machine
/// that is known here.
fn own_addresses(config: &ServerConfig, listening: &[Listen]) -> Vec<SocketAddr> {
    let mut own = Vec::new();
    for &Listen { address, .. } in listening {
        own.push(address);
        if address.ip().is_unspecified() {
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == address.is_ipv4();
            let known = config.relay.addresses.iter().filter(of_family);
            own.extend(known.map(|&ip| SocketAddr::new(ip, address.port())));
        }
    }
    own
}
