//! What the server grants: lifetimes, limits and the peer rules, shared by its allocations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::peer_rules::{PeerLayers, PeerLists, PeerRules};

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An allocation's, where the client asks for no more.
    pub allocation: Duration,
    /// The longest an allocation gets.
    pub allocation_max: Duration,
    /// A permission's. 300 s by RFC 8656 §9.
    pub permission: Duration,
    /// A channel binding's. 600 s by RFC 8656 §12.
    pub channel: Duration,
}

impl Default for Lifetimes {
    /// The values of RFC 8656.
    fn default() -> Lifetimes {
        Lifetimes {
            allocation: Duration::from_secs(600),
            allocation_max: Duration::from_secs(3600),
            //= https://www.rfc-editor.org/rfc/rfc8656#section-9
            //# The Permission Lifetime MUST be 300 seconds (= 5 minutes).
            permission: Duration::from_secs(300),
            //= https://www.rfc-editor.org/rfc/rfc8656#section-12
            //# A channel binding lasts for 10 minutes unless refreshed.
            channel: Duration::from_secs(600),
        }
    }
}

impl Lifetimes {
    /// The lifetime an allocation gets when its client asks for `requested`. That zero deletes on
    /// Refresh is the caller's to see first.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //# If the request contains a LIFETIME attribute, then the
    //# server computes the minimum of the client's proposed lifetime and the
    //# server's maximum allowed lifetime.  If this computed value is greater
    //# than the default lifetime, then the server uses the computed lifetime
    //# as the initial value of the time-to-expiry field.  Otherwise, the
    //# server uses the default lifetime.
    pub fn grant(&self, requested: Option<Duration>) -> Duration {
        requested.unwrap_or_default().min(self.allocation_max).max(self.allocation)
    }
}

/// The terms on which allocations live. They are replaced as a whole when the configuration changes
/// (see [`Allocation::set_terms`](super::Allocation::set_terms)).
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// How many permissions one allocation may hold.
    pub permissions_max: usize,
    /// How many channels one allocation may hold.
    pub channels_max: usize,
    /// How many TCP connections one allocation may have.
    pub connections_max: usize,
    /// Who may be a peer.
    pub rules: PeerRules,
    /// What single realms allow and deny besides.
    pub realm_peers: HashMap<Arc<str>, Arc<PeerLists>>,
}

impl Terms {
    /// The lists that count for this user besides the server's.
    pub fn layers_of(&self, account: &Account) -> PeerLayers {
        PeerLayers {
            user: account.peers.clone(),
            realm: self.realm_peers.get(&account.realm).cloned(),
        }
    }
}
