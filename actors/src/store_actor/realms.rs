//! The realms that the stores name.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::credential_store::StoredRealm;

use super::health::Store;
use super::{RealmsRead, look_ups};

/// What is known of the realms. What a store said last stands while it is down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownRealms {
    /// By the label of the store.
    by_store: Vec<(Arc<str>, Vec<StoredRealm>)>,
    with_secrets: BTreeSet<Arc<str>>,
}

impl KnownRealms {
    pub(super) fn told(&self) -> RealmsRead {
        let realms = self.realms().cloned().collect();
        RealmsRead { realms, with_secrets: self.with_secrets.clone() }
    }

    fn realms(&self) -> impl Iterator<Item = &StoredRealm> {
        self.by_store.iter().flat_map(|(_, realms)| realms).take(REALMS_MAX)
    }

    fn of_store(&self, label: &str) -> Vec<StoredRealm> {
        let same = self.by_store.iter().find(|(of, _)| **of == *label);
        same.map(|(_, realms)| realms.clone()).unwrap_or_default()
    }
}

/// Reads the realms of all stores, and which of them have secrets.
pub(super) async fn read(
    stores: Rc<[Store]>,
    configured: BTreeSet<Arc<str>>,
    before: KnownRealms,
) -> KnownRealms {
    let mut known = KnownRealms::default();
    for store in stores.iter() {
        let read = store.ask(|store| store.realms()).await;
        let realms = read.unwrap_or_else(|_| before.of_store(store.label()));
        known.by_store.push((store.label().clone(), realms));
    }
    let mut names = configured;
    names.extend(known.realms().map(|realm| realm.name.clone()));
    for name in names {
        let read = look_ups::rest_secrets(&stores, &name).await;
        let had_some = read.incomplete && before.with_secrets.contains(&name);
        if had_some || !read.all().is_empty() {
            known.with_secrets.insert(name);
        }
    }
    known
}

/// Realms of all stores together; further ones are not realms of the server.
const REALMS_MAX: usize = 4096;
