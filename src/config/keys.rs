//! The tree of keys that exist, and the nearest one to a key that does not.

use std::collections::BTreeMap;

use super::raw::RawConfig;

/// What may stand at a key.
#[derive(Debug)]
pub(super) enum Node {
    /// One value.
    Value,
    /// A list of values.
    List,
    /// Keys of the operator's own choice, such as user names.
    Open,
    /// These keys and no others.
    Group(BTreeMap<String, Node>),
}

impl Node {
    /// The tree of turn.yaml, read off the one list of keys that there is.
    pub(super) fn root() -> Node {
        let keys = serde_json::to_value(RawConfig::default())
            .expect("keys are strings and values are null, so JSON can hold them");
        Node::of(keys)
    }

    /// The group's keys, for a message.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Node::Group(keys) => keys.keys().map(String::as_str).collect(),
            Node::Value | Node::List | Node::Open => Vec::new(),
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
        let Node::Group(keys) = self else { return };
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

/// Typing errors further away than this are another word.
const FARTHEST: usize = 3;
