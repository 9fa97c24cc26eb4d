//! `sterna token-key`: keys of access tokens (RFC 7635) in a store.

use std::process::ExitCode;

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sterna_actors::policy::TokenKey;

use super::store::{Target, ask, block_on, refused};
use super::table::table;
use crate::cli::stores::{TokenKeyAddArgs, TokenKeyCommand, TokenKeyListArgs, TokenKeyRemoveArgs};
use crate::config::{read_token_key, show_moment};
use crate::state;

pub(crate) fn run(command: &TokenKeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenKeyCommand::Add(args) => add(args),
        TokenKeyCommand::List(args) => list(args),
        TokenKeyCommand::Remove(args) => remove(args),
    }
}

fn add(args: &TokenKeyAddArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let (from, until) = (args.valid_from.unwrap_or(0), args.valid_until.unwrap_or(FOR_EVER));
    if from >= until {
        bail!("--valid-from: is not before --valid-until");
    }
    let key = match args.random {
        true => state::random_bytes()?.to_vec(),
        false => {
            let text = ask("key", "--key-file", args.key_file.as_deref())?;
            read_token_key(text.expose()).map_err(|why| anyhow::anyhow!("the key {why}"))?
        }
    };
    let (kid, realm) = (args.kid.clone(), args.realm.realm.as_deref());
    let valid = (args.valid_from.is_some() || args.valid_until.is_some()).then_some((from, until));
    let added = TokenKey { kid, key: key.clone(), realm: realm.map(Into::into), valid };
    block_on(async {
        let store = target.open().await?;
        if let Some(realm) = realm {
            target.make_realm(&*store, realm).await?;
        }
        store.set_token_key(added).await.map_err(refused(&*store))?;
        let done = format!("added {} to {}\n", args.kid, store.label());
        if !args.random {
            return Ok(done);
        }
        // Nobody has it yet.
        eprint!("sterna: {done}");
        Ok(format!("{}\n", STANDARD.encode(key)))
    })
}

fn list(args: &TokenKeyListArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    block_on(async {
        let keys = match target.look().await? {
            None => Vec::new(),
            Some(store) => store.list_token_keys().await.map_err(refused(&*store))?,
        };
        let shown: Vec<Shown> = keys.iter().map(Shown::from).collect();
        if args.json {
            return Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?));
        }
        let row = |key: Shown| {
            let or = |text: Option<String>, other: &str| text.unwrap_or_else(|| other.to_owned());
            [
                key.kid.to_owned(),
                key.algorithm.to_owned(),
                or(key.realm.map(str::to_owned), "default"),
                or(key.valid_from, "ever"),
                or(key.valid_until, "ever"),
            ]
        };
        Ok(table(
            ["KEY", "ALGORITHM", "REALM", "FROM", "UNTIL"],
            shown.into_iter().map(row).collect(),
        ))
    })
}

fn remove(args: &TokenKeyRemoveArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    block_on(async {
        let store = target.open_to_change().await?;
        store.remove_token_key(&args.kid).await.map_err(refused(&*store))?;
        Ok(format!("removed {} from {}\n", args.kid, store.label()))
    })
}

#[derive(Serialize)]
struct Shown<'a> {
    kid: &'a str,
    algorithm: &'static str,
    realm: Option<&'a str>,
    valid_from: Option<String>,
    valid_until: Option<String>,
}

impl<'a> From<&'a TokenKey> for Shown<'a> {
    fn from(key: &'a TokenKey) -> Self {
        let (from, until) = key.valid.unwrap_or((0, FOR_EVER));
        Shown {
            kid: &key.kid,
            algorithm: if key.key.len() == 32 { "A256GCM" } else { "A128GCM" },
            realm: key.realm.as_deref(),
            valid_from: (from != 0).then(|| show_moment(from)),
            valid_until: (until < FOR_EVER).then(|| show_moment(until)),
        }
    }
}

/// The last moment that a store can hold.
const FOR_EVER: u64 = i64::MAX.unsigned_abs();
