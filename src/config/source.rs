//! Layers turn.yaml and the environment, and holds both against the tree of known keys.

use std::collections::BTreeMap;
use std::ffi::OsString;

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};
use serde::Deserialize;

use super::Fault;
use super::keys::{self, Node};
use super::raw::RawConfig;

/// What file and environment say together.
pub(super) struct Layered {
    pub(super) raw: RawConfig,
    /// The variable that set a key, for messages about its value.
    pub(super) variables: BTreeMap<String, String>,
}

/// The variables of `environment` that are ours, as a layer.
pub(super) fn overrides(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Overrides, Fault> {
    Overrides::read(&Node::root(), environment)
}

/// Reads `yaml` and lays `overrides` over it.
pub(super) fn layer(yaml: &str, overrides: Overrides) -> Result<Layered, Fault> {
    let root = Node::root();
    let variables = overrides.variables.clone();
    let table = config::Config::builder()
        .add_source(File::from_str(yaml, FileFormat::Yaml))
        .add_source(overrides)
        .build()
        .and_then(|layered| layered.collect())
        .map_err(fault)?;
    let table = known(&root, &root, "", table)?;
    let raw = RawConfig::deserialize(Value::new(None, ValueKind::Table(table))).map_err(fault)?;
    Ok(Layered { raw, variables })
}

/// The environment as a layer of configuration.
///
/// `config::Environment` is not used because it lower-cases every name, which changes user names,
/// and because it takes a variable with a misspelt name for somebody else's.
#[derive(Clone, Debug)]
pub(super) struct Overrides {
    table: Map<String, Value>,
    variables: BTreeMap<String, String>,
}

impl Overrides {
    fn read(
        root: &Node,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Overrides, Fault> {
        let mut overrides = Overrides { table: Map::new(), variables: BTreeMap::new() };
        for (variable, value) in environment {
            if !variable.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let Ok(variable) = variable.into_string() else {
                return Err(Fault::new(PREFIX, "a variable's name is not UTF-8"));
            };
            let Ok(value) = value.into_string() else {
                return Err(Fault::new(&variable, "the value is not UTF-8"));
            };
            overrides.insert(root, &variable, &value)?;
        }
        Ok(overrides)
    }

    fn insert(&mut self, root: &Node, variable: &str, value: &str) -> Result<(), Fault> {
        let (mut path, node) = locate(root, variable)?;
        let value = match node {
            Node::Value => ValueKind::String(value.to_owned()),
            Node::List => ValueKind::Array(split(value).map(text).collect()),
            Node::Open => ValueKind::Table(pairs(variable, value)?),
            Node::Group(_) if let Some(main) = node.main_key() => {
                path.push(main.to_owned());
                ValueKind::String(value.to_owned())
            }
            Node::Group(_) => return Err(names_a_group(variable, "", node)),
            Node::Named(below) => return Err(names_a_group(variable, "NAME__", below)),
        };
        self.variables.insert(path.join("."), variable.to_owned());
        put(&mut self.table, &path, Value::new(None, value));
        Ok(())
    }
}

impl Source for Overrides {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.table.clone())
    }
}

fn names_a_group(variable: &str, name: &str, group: &Node) -> Fault {
    let keys = group.names().join("|").to_uppercase();
    Fault::new(variable, &format!("names a group of keys; set {variable}__{name}{keys}"))
}

/// The key that a variable names: `STERNA__RELAY__PORTS` is `relay.ports`. What follows a group of
/// the operator's own keys keeps its case: `STERNA__AUTH__USERS__Alice` is the user `Alice`, and
/// `STERNA__REALMS__north__LIMITS__ALLOCATIONS` is `realms.north.limits.allocations`.
fn locate<'a>(root: &'a Node, variable: &str) -> Result<(Vec<String>, &'a Node), Fault> {
    let mut path = Vec::new();
    let mut node = root;
    let mut rest = variable.strip_prefix(PREFIX).unwrap_or(variable);
    loop {
        let (name, below) = match rest.split_once(SEPARATOR) {
            Some((name, below)) => (name, Some(below)),
            None => (rest, None),
        };
        node = match node {
            Node::Group(keys) => {
                let key = name.to_lowercase();
                path.push(key.clone());
                keys.get(&key).ok_or_else(|| unknown_variable(root, variable, &path))?
            }
            Node::Named(group) if !name.is_empty() => {
                path.push(name.to_owned());
                group
            }
            Node::Named(_) | Node::Value | Node::List | Node::Open => {
                path.push(name.to_lowercase());
                return Err(unknown_variable(root, variable, &path));
            }
        };
        match (node, below) {
            (_, None) => return Ok((path, node)),
            (Node::Open, Some(own)) if !own.is_empty() => {
                path.push(own.to_owned());
                return Ok((path, &Node::Value));
            }
            (_, Some(below)) => rest = below,
        }
    }
}

fn unknown_variable(root: &Node, variable: &str, path: &[String]) -> Fault {
    let why = match keys::nearest(root, &path.join(".")) {
        Some(near) => {
            let near = near.replace('.', SEPARATOR).to_uppercase();
            format!("sets no known key; did you mean {PREFIX}{near}?")
        }
        None => format!("sets no known key; known groups and keys: {}", root.names().join(", ")),
    };
    Fault::new(variable, &why)
}

/// Puts `value` where `path` leads, making the groups on the way.
fn put(table: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((key, below)) = path.split_first() else {
        return;
    };
    if below.is_empty() {
        match (table.get_mut(key).map(|there| &mut there.kind), value.kind) {
            // `STERNA__AUTH__USERS` and `STERNA__AUTH__USERS__Alice` in one environment add up.
            (Some(ValueKind::Table(there)), ValueKind::Table(more)) => there.extend(more),
            (_, kind) => {
                table.insert(key.clone(), Value::new(None, kind));
            }
        }
        return;
    }
    let group =
        table.entry(key.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
    if let ValueKind::Table(group) = &mut group.kind {
        put(group, below, value);
    }
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn text(item: &str) -> Value {
    Value::new(None, ValueKind::String(item.to_owned()))
}

/// `a=b,c=d`.
fn pairs(variable: &str, list: &str) -> Result<Map<String, Value>, Fault> {
    let pair = |item: &str| match item.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), text(value.trim()))),
        None => Err(Fault::new(variable, "is not of the form name=value,name=value")),
    };
    split(list).map(pair).collect()
}

/// The table without empty keys, after every key in it was found in the tree with the right shape.
fn known(
    root: &Node,
    node: &Node,
    here: &str,
    table: Map<String, Value>,
) -> Result<Map<String, Value>, Fault> {
    let Node::Group(keys) = node else {
        return Ok(table);
    };
    let mut kept = Map::new();
    // The map has no order of its own; the first fault must be the same one at every start.
    let sorted: BTreeMap<String, Value> = table.into_iter().collect();
    for (key, value) in sorted {
        let path = keys::join(here, &key);
        let below = keys.get(&key).ok_or_else(|| unknown_key(root, node, &path))?;
        let value = match (below, value.kind) {
            // `relay:` with nothing but comments under it sets nothing.
            (_, ValueKind::Nil) => continue,
            (Node::Group(_), ValueKind::Table(table)) => {
                ValueKind::Table(known(root, below, &path, table)?)
            }
            (Node::Open, ValueKind::Table(table)) => ValueKind::Table(table),
            (Node::Named(group), ValueKind::Table(table)) => {
                ValueKind::Table(named(root, group, &path, table)?)
            }
            (Node::List, ValueKind::Array(list)) => ValueKind::Array(list),
            (Node::Value, ValueKind::Array(_) | ValueKind::Table(_)) => {
                return Err(Fault::new(&path, "takes a single value"));
            }
            (Node::Value, value) => value,
            (Node::List, _) => return Err(Fault::new(&path, "takes a list, as in [a, b]")),
            (Node::Open, _) => return Err(Fault::new(&path, "takes a map, as in {a: b}")),
            (Node::Named(group), _) => return Err(takes_groups(&path, group)),
            (Node::Group(_), ValueKind::Array(_)) => return Err(is_a_group(&path, below)),
            (Node::Group(_), value) if let Some(main) = below.main_key() => {
                ValueKind::Table(Map::from([(main.to_owned(), Value::new(None, value))]))
            }
            (Node::Group(_), _) => return Err(is_a_group(&path, below)),
        };
        kept.insert(key, Value::new(None, value));
    }
    Ok(kept)
}

/// Under each name of the operator's own choice a group, which may be empty.
fn named(
    root: &Node,
    group: &Node,
    here: &str,
    table: Map<String, Value>,
) -> Result<Map<String, Value>, Fault> {
    let mut kept = Map::new();
    let sorted: BTreeMap<String, Value> = table.into_iter().collect();
    for (name, value) in sorted {
        let path = keys::join(here, &name);
        let below = match value.kind {
            ValueKind::Nil => Map::new(),
            ValueKind::Table(table) => known(root, group, &path, table)?,
            _ => return Err(is_a_group(&path, group)),
        };
        kept.insert(name, Value::new(None, ValueKind::Table(below)));
    }
    Ok(kept)
}

fn is_a_group(path: &str, group: &Node) -> Fault {
    Fault::new(path, &format!("is a group of keys: {}", group.names().join(", ")))
}

fn takes_groups(path: &str, group: &Node) -> Fault {
    let names = group.names().join(", ");
    Fault::new(path, &format!("takes names, and under each of them a group of keys: {names}"))
}

fn unknown_key(root: &Node, group: &Node, path: &str) -> Fault {
    // A typing error is likelier than a key in the wrong group.
    let beside = keys::nearest_in(group, path);
    let why = match beside.or_else(|| keys::nearest(root, path)) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; known here: {}", group.names().join(", ")),
    };
    Fault::new(path, &why)
}

/// The `config` crate's error as one of ours.
fn fault(error: ConfigError) -> Fault {
    match error {
        ConfigError::At { error, key: Some(key), .. } => Fault::new(&key, &error.to_string()),
        // The value found is not repeated: it may be a secret.
        ConfigError::Type { expected, key: Some(key), .. } => {
            Fault::new(&key, &format!("is not {expected}"))
        }
        other => Fault::whole(&other.to_string()),
    }
}

const PREFIX: &str = "STERNA__";
const SEPARATOR: &str = "__";
