//! What the stores are asked, one after the other.

use std::rc::Rc;
use std::sync::Arc;

use sterna_proto::guard::ClaimedUser;
use sterna_proto::session::StoresDown;

use crate::credential_store::UserLookup;
use crate::policy::TokenKey;

use super::LookedUp;
use super::health::{Failed, Store};
use super::told::ReadSecrets;

/// The first store that knows the user is believed. While one is down, what those behind it say is
/// not the last word: it may know the name with another key.
pub(super) async fn user(stores: Rc<[Store]>, wanted: UserLookup) -> Result<LookedUp, StoresDown> {
    let mut for_this_client = false;
    let hashed = matches!(wanted.user, ClaimedUser::Hashed(_));
    // Nor is a store passed over that cannot tell who is meant. Clients may not hide their names
    // where there is such a one, so that nobody is kept out who does as it is told.
    for store in stores.iter().take_while(|store| !hashed || store.finds_hashed()) {
        let looks_at_client = !store.can_revalidate();
        let asked = store.ask(|store| store.user(wanted.clone())).await;
        for_this_client |= looks_at_client;
        if let Some(user) = asked.map_err(|Failed| StoresDown)? {
            let store = Some(store.label().clone());
            return Ok(LookedUp { user: Some(user), store, for_this_client: looks_at_client });
        }
    }
    Ok(LookedUp { user: None, store: None, for_this_client })
}

/// The secrets of all stores: of those that are down what they said last.
pub(super) async fn rest_secrets(stores: &[Store], realm: &Arc<str>) -> ReadSecrets {
    let mut read = ReadSecrets::default();
    for store in stores {
        let asked = store.rest_secrets(realm).await;
        read.incomplete |= asked.is_err();
        read.of_stores.push(asked.unwrap_or_else(|of_old| of_old));
    }
    read
}

/// The key of the first store that has one of this name. While one is down, those behind it have no
/// say, as for users.
pub(super) async fn token_key(
    stores: Rc<[Store]>,
    kid: Arc<str>,
) -> Result<Option<TokenKey>, StoresDown> {
    for store in stores.iter() {
        if let Some(key) = store.token_key(&kid).await.map_err(|Failed| StoresDown)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}
