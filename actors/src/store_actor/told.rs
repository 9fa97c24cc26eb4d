//! What a store has told of, for as long as it is away, and what it has taken back: secrets by
//! their realm, fingerprints of keys by the key's name.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RestSecrets;

/// What one store has said under each name.
#[derive(Clone, Default)]
pub(super) struct Told(RefCell<HashMap<Arc<str>, OfName>>);

#[derive(Clone)]
struct OfName {
    last: Vec<Vec<u8>>,
    at: Instant,
    /// What it has told of before, and does not any more.
    dropped: Vec<Vec<u8>>,
}

impl Told {
    /// The store tells of these under the name, and of nothing else.
    pub(super) fn hear(&self, name: &Arc<str>, said: &[Vec<u8>], now: Instant) {
        let mut told = self.0.borrow_mut();
        let Some(known) = told.get_mut(name) else {
            if !said.is_empty() && told.len() < NAMES_MAX {
                let (last, dropped) = (said.to_vec(), Vec::new());
                told.insert(name.clone(), OfName { last, at: now, dropped });
            }
            return;
        };
        known.at = now;
        let before = std::mem::replace(&mut known.last, said.to_vec());
        known.dropped.extend(before);
        known.dropped.retain(|value| !said.contains(value));
        let over = known.dropped.len().saturating_sub(DROPPED_MAX);
        known.dropped.drain(..over);
    }

    /// The store tells of these, and of no other name.
    pub(super) fn hear_all(&self, mut said: BTreeMap<Arc<str>, Vec<Vec<u8>>>, now: Instant) {
        for name in self.0.borrow().keys() {
            said.entry(name.clone()).or_default();
        }
        for (name, said) in said {
            self.hear(&name, &said, now);
        }
    }

    /// What it said last, as somebody says who has not heard it just now.
    pub(super) fn last(&self, name: &Arc<str>) -> OfStore {
        match self.0.borrow().get(name) {
            Some(OfName { last, at, .. }) => OfStore { values: last.clone(), of_old: Some(*at) },
            None => OfStore { values: Vec::new(), of_old: None },
        }
    }

    /// What it has taken back.
    pub(super) fn dropped(&self, name: &Arc<str>) -> Vec<Vec<u8>> {
        self.0.borrow().get(name).map(|known| known.dropped.clone()).unwrap_or_default()
    }
}

/// What one store says under a name.
pub(super) struct OfStore {
    pub(super) values: Vec<Vec<u8>>,
    /// When the store said so, if it is down.
    pub(super) of_old: Option<Instant>,
}

/// The secrets of a realm, store by store.
#[derive(Default)]
pub(super) struct ReadSecrets {
    pub(super) of_stores: Vec<OfStore>,
    /// Whether a store could not be asked, which may have others.
    pub(super) incomplete: bool,
}

impl ReadSecrets {
    /// Those that let somebody in: what a store that is down said last does for `outage` after it.
    pub(super) fn within(self, outage: Duration, now: Instant) -> RestSecrets {
        let holds = |of_store: &OfStore| of_store.of_old.is_none_or(|at| now < at + outage);
        let of_stores = self.of_stores.into_iter().filter(holds);
        let secrets = of_stores.flat_map(|of_store| of_store.values).collect();
        RestSecrets { secrets, incomplete: self.incomplete }
    }

    /// Those that nobody is known to have taken back.
    pub(super) fn all(self) -> Vec<Vec<u8>> {
        self.of_stores.into_iter().flat_map(|of_store| of_store.values).collect()
    }
}

/// Names of one store; of further ones nothing is remembered.
const NAMES_MAX: usize = 4096;

/// What a store has taken back under one name, the last of it.
const DROPPED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn bytes(name: &str) -> Vec<u8> {
        name.as_bytes().to_vec()
    }

    #[test]
    fn what_a_store_takes_back_is_remembered_until_it_is_told_again() {
        let (realm, now) = (Arc::from("r"), clock::now());
        let told = Told::default();
        for (said, dropped) in [
            (vec!["a", "b"], vec![]),
            (vec!["b"], vec!["a"]),
            (vec!["b", "c"], vec!["a"]),
            (vec![], vec!["a", "b", "c"]),
            (vec!["a"], vec!["b", "c"]),
        ] {
            let said: Vec<_> = said.into_iter().map(bytes).collect();
            told.hear(&realm, &said, now);
            assert_eq!(said, told.last(&realm).values);
            let dropped: Vec<_> = dropped.into_iter().map(bytes).collect();
            assert_eq!(dropped, told.dropped(&realm));
        }
        for number in 0..=DROPPED_MAX {
            told.hear(&realm, &[bytes(&number.to_string())], now);
        }
        assert_eq!(DROPPED_MAX, told.dropped(&realm).len());
        assert!(told.dropped(&"another".into()).is_empty());
    }

    #[test]
    fn a_name_that_is_gone_has_taken_back_all() {
        let (told, now) = (Told::default(), clock::now());
        let [first, second] = ["first", "second"].map(Arc::<str>::from);
        told.hear_all([(first.clone(), vec![bytes("a")])].into(), now);
        told.hear_all([(second.clone(), vec![bytes("b")])].into(), now);
        assert_eq!(vec![bytes("a")], told.dropped(&first));
        assert!(told.last(&first).values.is_empty());
        assert_eq!(vec![bytes("b")], told.last(&second).values);
    }

    #[test]
    fn what_was_said_before_an_outage_lets_in_for_a_while() {
        let (now, second) = (clock::now(), Duration::from_secs(1));
        let let_in = |outage| {
            let of_store = |byte, of_old| OfStore { values: vec![vec![byte]], of_old };
            let of_stores = vec![of_store(1, Some(now)), of_store(2, None)];
            let read = ReadSecrets { of_stores, incomplete: true };
            read.within(outage, now + second).secrets
        };
        assert_eq!(vec![vec![1], vec![2]], let_in(second * 2));
        assert_eq!(vec![vec![2]], let_in(second));
    }
}
