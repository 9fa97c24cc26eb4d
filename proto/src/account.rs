//! Accounts: what a server knows of a user whose key it has found.

use std::sync::Arc;
use std::time::Instant;

use crate::peer_rules::PeerLists;
use crate::quotas::UserLimits;

/// A user of a realm, as a credential source tells of it.
///
/// Two accounts are the same user if realm, user name and kind of credential agree; see
/// [`Account::is_same_user`]. What else is in it may have changed between two look-ups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The realm whose key proved the user.
    pub realm: Arc<str>,
    /// The user's name as the client says it, an expiry at its head included.
    pub username: Arc<str>,
    /// The name that quotas and reports count by: without what makes each credential of the same
    /// user another one.
    pub quota_name: Arc<str>,
    /// Which kind of credential proves it.
    pub credential: CredentialKind,
    /// The SHA-256 of the key that opened its access token: all that is kept of it, to see whether
    /// that key still is one.
    pub opened_by: Option<[u8; 32]>,
    /// The store that told of the user, by the label that the log knows it by; `None` for users of
    /// the configuration, and for credentials that need no entry for each user.
    pub stored_in: Option<Arc<str>>,
    /// When the credential ends; `None` for one that does not.
    pub expires: Option<Instant>,
    /// What this user may have at most, where that differs from what its realm gives everybody.
    pub limits: UserLimits,
    /// Peers that are allowed or denied to this user alone.
    pub peers: Option<Arc<PeerLists>>,
}

impl Account {
    /// A user that lasts and has no limits of its own.
    pub fn lasting(realm: Arc<str>, username: Arc<str>) -> Account {
        Account {
            realm,
            quota_name: username.clone(),
            username,
            credential: CredentialKind::LongTerm,
            opened_by: None,
            stored_in: None,
            expires: None,
            limits: UserLimits::default(),
            peers: None,
        }
    }

    /// Whether the credential is over at `now`.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// When an allocation of this credential ends, whatever lifetime was granted; `None` if it may
    /// outlive the credential. A token of a third party binds its allocation under every policy:
    /// RFC 7635 bounds the lifetime by the token's.
    pub fn allocation_ends(&self, policy: ExpiryPolicy) -> Option<Instant> {
        match (self.credential, policy) {
            (CredentialKind::AccessToken, _) | (_, ExpiryPolicy::Strict) => self.expires,
            (_, ExpiryPolicy::Allocate | ExpiryPolicy::Refresh) => None,
        }
    }

    /// Whether `other` is the same user of the same realm. A token of a third party goes by the
    /// name of the key that opens it, so that a newer token is the same user's; nobody with a
    /// password is, whatever name it goes by.
    pub fn is_same_user(&self, other: &Account) -> bool {
        self.realm == other.realm
            && self.username == other.username
            && self.credential == other.credential
    }

    /// Whether `other` has what this user has made. Of those whose tokens one key opens, each has
    /// its own.
    pub fn is_same_holder(&self, other: &Account) -> bool {
        let is_token = self.credential == CredentialKind::AccessToken;
        self.is_same_user(other) && (!is_token || self.quota_name == other.quota_name)
    }
}

/// What the end of a credential ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpiryPolicy {
    /// No new allocation; the one that there is may be refreshed.
    #[default]
    Allocate,
    /// No refresh either: the allocation lives until its lifetime ends.
    Refresh,
    /// The allocation, at that moment.
    Strict,
}

/// The kinds of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A user with a key of its own (RFC 8489 §9.2), in the configuration or in a store.
    LongTerm,
    /// A name with its expiry, signed with a shared secret ("TURN REST API").
    TimeLimited,
    /// A signed token (JWT) as the name.
    SignedToken,
    /// An access token of a third party (RFC 7635).
    AccessToken,
    /// What the HTTP service said.
    Hook,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(username: &str, quota_name: &str, credential: CredentialKind) -> Account {
        let lasting = Account::lasting("r".into(), username.into());
        Account { quota_name: quota_name.into(), credential, ..lasting }
    }

    #[test]
    fn what_one_token_holds_is_neither_another_tokens_nor_a_password_users() {
        let token = account("kid", "kid/1", CredentialKind::AccessToken);
        let newer = account("kid", "kid/2", CredentialKind::AccessToken);
        let named_alike = account("kid", "kid/1", CredentialKind::LongTerm);

        assert!(token.is_same_user(&token) && token.is_same_holder(&token));
        assert!(token.is_same_user(&newer) && !token.is_same_holder(&newer));
        assert!(!token.is_same_user(&named_alike) && !named_alike.is_same_user(&token));
        assert!(!token.is_same_holder(&named_alike) && !named_alike.is_same_holder(&token));
    }

    #[test]
    fn a_password_users_limits_may_change_between_two_look_ups() {
        let before = account("alice", "alice", CredentialKind::LongTerm);
        let limits = UserLimits { allocations: Some(1), ..UserLimits::default() };
        let after = Account { limits, ..before.clone() };

        assert!(before.is_same_user(&after) && before.is_same_holder(&after));
        let other_realm = Account { realm: "s".into(), ..before.clone() };
        assert!(!before.is_same_user(&other_realm));
    }
}
