//! Whose session it is.

use std::sync::Arc;

use crate::account::{Account, CredentialKind};
use crate::credentials::{Key, PasswordAlgorithm, user_hash};
use crate::guard::{Claim, ClaimedUser};

/// The user that a session and its allocation belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who it is.
    pub account: Arc<Account>,
    /// The key that proved it.
    pub key: Key,
    /// How the key was derived.
    pub password_algorithm: PasswordAlgorithm,
}

impl Owner {
    /// Whether this is the owner of a token, and `user` the name of the key that opens it.
    pub(super) fn goes_by(&self, user: &ClaimedUser) -> bool {
        let is_token = self.account.credential == CredentialKind::AccessToken;
        is_token && matches!(user, ClaimedUser::Named(name) if **name == *self.account.username)
    }

    /// Whether `claim` is that of this user, by the same kind of key.
    pub(super) fn is(&self, claim: &Claim) -> bool {
        // A token's key is the client's own, whatever passwords are made into, and the token's key
        // has a realm of its own. Only with some of its requests does a client send the token.
        let is_token = self.account.credential == CredentialKind::AccessToken;
        let same_user = match &claim.user {
            ClaimedUser::Named(name) => **name == *self.account.username,
            ClaimedUser::Hashed(hash) => {
                user_hash(&self.account.username, &self.account.realm).is_ok_and(|own| own == *hash)
            }
            // The key is in the token; nobody has to be asked, but it has to be opened again.
            ClaimedUser::Token { .. } => false,
        };
        let same_kind = claim.password_algorithm == self.password_algorithm
            && claim.realm == self.account.realm;
        same_user && (is_token || same_kind)
    }
}
