//! The realms that the stores name.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::credential_store::StoredRealm;

use super::health::Store;
use super::{RealmsRead, look_ups};

/// What is known of the realms. What a store said last stands while it is down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownRealms {
    /// By the label of the store; `None` of one that has never told.
    by_store: Vec<(Arc<str>, Option<Vec<StoredRealm>>)>,
    with_secrets: BTreeSet<Arc<str>>,
}

impl KnownRealms {
    pub(super) fn told(&self) -> RealmsRead {
        let told = self.by_store.iter().filter(|(_, realms)| realms.is_some());
        RealmsRead {
            realms: self.realms().cloned().collect(),
            with_secrets: self.with_secrets.clone(),
            told: told.map(|(label, _)| (**label).to_owned()).collect(),
        }
    }

    /// The stores that have never told.
    pub(super) fn untold(&self) -> BTreeSet<String> {
        let untold = self.by_store.iter().filter(|(_, realms)| realms.is_none());
        untold.map(|(label, _)| (**label).to_owned()).collect()
    }

    fn realms(&self) -> impl Iterator<Item = &StoredRealm> {
        self.by_store.iter().filter_map(|(_, realms)| realms.as_ref()).flatten().take(REALMS_MAX)
    }

    fn of_store(&self, label: &str) -> Option<Vec<StoredRealm>> {
        let same = self.by_store.iter().find(|(of, _)| **of == *label);
        same.and_then(|(_, realms)| realms.clone())
    }
}

/// Reads the realms of all stores, and which of them have secrets.
pub(super) async fn read(
    stores: Rc<[Store]>,
    configured: BTreeSet<Arc<str>>,
    before: KnownRealms,
) -> KnownRealms {
    // All at once: the slowest of them is waited for, and not the sum.
    let read = join_all(stores.iter().map(Store::realms)).await;
    let of_store = |(store, read): (&Store, Result<_, _>)| {
        let realms = read.ok().or_else(|| before.of_store(store.label()));
        (store.label().clone(), realms)
    };
    let mut known = KnownRealms {
        by_store: stores.iter().zip(read).map(of_store).collect(),
        with_secrets: BTreeSet::new(),
    };
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
