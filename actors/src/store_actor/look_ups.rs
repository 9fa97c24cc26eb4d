//! What the stores are asked, one after the other.

use std::rc::Rc;
use std::sync::Arc;

use sterna_proto::guard::ClaimedUser;
use sterna_proto::session::StoresDown;

use crate::credential_store::UserLookup;
use crate::policy::TokenKey;

use super::health::Store;
use super::{LookedUp, RestSecrets};

/// The first store that knows the user is believed. Nobody can say that there is no such user while
/// one of them is down.
pub(super) async fn user(stores: Rc<[Store]>, wanted: UserLookup) -> Result<LookedUp, StoresDown> {
    let (mut down, mut for_this_client) = (false, false);
    let hashed = matches!(wanted.user, ClaimedUser::Hashed(_));
    for store in stores.iter().filter(|store| !hashed || store.finds_hashed()) {
        let looks_at_client = !store.can_revalidate();
        match store.ask(|store| store.user(wanted.clone())).await {
            Ok(Some(user)) => {
                return Ok(LookedUp { user: Some(user), for_this_client: looks_at_client });
            }
            Ok(None) => for_this_client |= looks_at_client,
            Err(_) => down = true,
        }
    }
    match down {
        true => Err(StoresDown),
        false => Ok(LookedUp { user: None, for_this_client }),
    }
}

/// The secrets of all stores that are there.
pub(super) async fn rest_secrets(stores: Rc<[Store]>, realm: Arc<str>) -> RestSecrets {
    let mut read = RestSecrets::default();
    for store in stores.iter() {
        match store.ask(|store| store.rest_secrets(realm.clone())).await {
            Ok(secrets) => read.secrets.extend(secrets),
            Err(_) => read.incomplete = true,
        }
    }
    // Anybody can sign with a secret that is none.
    read.secrets.retain(|secret| !secret.is_empty());
    read
}

/// The key of the first store that has one of this name.
pub(super) async fn token_key(
    stores: Rc<[Store]>,
    kid: String,
) -> Result<Option<TokenKey>, StoresDown> {
    match first_token_key(stores, kid).await {
        (None, true) => Err(StoresDown),
        (key, _) => Ok(key),
    }
}

/// The same, and whether a store that might have another one was down.
pub(super) async fn first_token_key(stores: Rc<[Store]>, kid: String) -> (Option<TokenKey>, bool) {
    let mut down = false;
    for store in stores.iter() {
        match store.ask(|store| store.token_key(kid.clone())).await {
            Ok(Some(key)) => return (Some(key), down),
            Ok(None) => {}
            Err(_) => down = true,
        }
    }
    (None, down)
}
