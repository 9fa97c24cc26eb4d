//! The tree of keys that exist, and the nearest one to a key that does not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::raw::{RawConfig, RawRealm, RawTokenKey};

/// What may stand at a key.
#[derive(Debug)]
pub(super) enum Node {
    /// One value.
    Value,
    /// A list of values.
    List,
    /// Keys of the operator's own choice, such as user names.
    Open,
    /// Names of the operator's own choice, and under each of them this group.
    Named(Box<Node>),
    /// These keys and no others.
    Group(BTreeMap<String, Node>),
}

impl Node {
    /// The tree of turn.yaml, read off the one list of keys that there is.
    pub(super) fn root() -> Node {
        let mut root = Node::of_default(&RawConfig::default());
        // The default has none of these, so that what is under each of them cannot be read off it.
        root.put_named(&["realms"], Node::of_default(&RawRealm::default()));
        root.put_named(&["auth", "oauth", "keys"], Node::of_default(&RawTokenKey::default()));
        root
    }

    fn of_default(default: &impl Serialize) -> Node {
        let keys = serde_json::to_value(default)
            .expect("keys are strings and values are null, so JSON can hold them");
        Node::of(keys)
    }

    fn put_named(&mut self, path: &[&str], below: Node) {
        match (self, path) {
            (Node::Group(keys), [key, rest @ ..]) => {
                let node = keys.get_mut(*key).expect("the path leads through groups");
                node.put_named(rest, below);
            }
            (node, _) => *node = Node::Named(Box::new(below)),
        }
    }

    /// The key of this group that says all by itself where the group's place has a single value.
    pub(super) fn main_key(&self) -> Option<&'static str> {
        match self {
            Node::Group(keys) => keys.contains_key(URL).then_some(URL),
            Node::Value | Node::List | Node::Open | Node::Named(_) => None,
        }
    }

    /// The group's keys, for a message.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Node::Group(keys) => keys.keys().map(String::as_str).collect(),
            Node::Value | Node::List | Node::Open | Node::Named(_) => Vec::new(),
        }
    }

    fn of(keys: serde_json::Value) -> Node {
        match keys {
            serde_json::Value::Array(_) => Node::List,
            serde_json::Value::Object(keys) if keys.is_empty() => Node::Open,
            serde_json::Value::Object(keys) => {
                Node::Group(keys.into_iter().map(|(key, below)| (key, Node::of(below))).collect())
            }
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => Node::Value,
        }
    }

    fn paths(&self, here: &str, paths: &mut Vec<String>) {
        let keys = match self {
            Node::Group(keys) => keys,
            Node::Named(below) => return below.paths(&join(here, "NAME"), paths),
            Node::Value | Node::List | Node::Open => return,
        };
        for (key, below) in keys {
            let path = join(here, key);
            below.paths(&path, paths);
            paths.push(path);
        }
    }
}

/// `below` in the group `here`.
pub(super) fn join(here: &str, below: &str) -> String {
    if here.is_empty() { below.to_owned() } else { format!("{here}.{below}") }
}

/// The known key that an operator most likely meant by `unknown`, where one is near enough.
pub(super) fn nearest(root: &Node, unknown: &str) -> Option<String> {
    let mut paths = Vec::new();
    root.paths("", &mut paths);
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let wanted = last(unknown);
    let distance = |path: &String| {
        let whole = strsim::damerau_levenshtein(unknown, path);
        // A key in the wrong group is one step away from itself, so that it loses to a mere typing
        // error.
        let misplaced = strsim::damerau_levenshtein(&wanted, &last(path)) + 1;
        whole.min(misplaced)
    };
    let (distance, path) = paths.into_iter().map(|path| (distance(&path), path)).min()?;
    (distance <= FARTHEST.min(wanted.chars().count() / 2 + 1)).then_some(path)
}

/// The key of `group` that is a typing error away from the last word of `unknown`.
pub(super) fn nearest_in(group: &Node, unknown: &str) -> Option<String> {
    let (here, wanted) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let names = group.names().into_iter();
    let near = names.map(|name| (strsim::damerau_levenshtein(wanted, name), name));
    let (distance, name) = near.min()?;
    let is_near = distance <= TYPING_ERROR.min(wanted.chars().count() / 2);
    is_near.then(|| join(here, name))
}

/// Two letters the wrong way round and one that is missing.
const TYPING_ERROR: usize = 2;

/// Typing errors further away than this are another word.
const FARTHEST: usize = 3;

const URL: &str = "url";
