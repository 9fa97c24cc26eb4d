//! `sterna secret`: secrets of time-limited credentials in a store.

use std::process::ExitCode;

use serde::Serialize;
use sterna_stores::admin::ListedSecret;

use super::store::{Target, ask, block_on, refused};
use super::table::table;
use crate::cli::stores::{
    SecretAddArgs, SecretArg, SecretCommand, SecretListArgs, SecretRemoveArgs, SecretRotateArgs,
};
use crate::config::show_moment;
use crate::secret::Secret;
use crate::state;

pub(crate) fn run(command: &SecretCommand) -> anyhow::Result<ExitCode> {
    match command {
        SecretCommand::Add(args) => add(args),
        SecretCommand::Rotate(args) => rotate(args),
        SecretCommand::List(args) => list(args),
        SecretCommand::Remove(args) => remove(args),
    }
}

fn add(args: &SecretAddArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let realm = target.realm(&args.realm);
    let secret = given(&args.secret)?;
    block_on(async {
        let store = target.open().await?;
        target.make_realm(&*store, realm).await?;
        let added = store.add_secret(realm, secret.expose()).await.map_err(refused(&*store))?;
        Ok(told(&args.secret, &secret, &added, store.label()))
    })
}

fn rotate(args: &SecretRotateArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let realm = target.realm(&args.realm);
    let secret = given(&args.secret)?;
    block_on(async {
        let store = target.open().await?;
        target.make_realm(&*store, realm).await?;
        let rotated = store.rotate_secret(realm, secret.expose(), usize::from(args.keep)).await;
        let removed = rotated.map_err(refused(&*store))?;
        for secret in &removed {
            eprintln!("sterna: removed {} from {realm} in {}", secret.fingerprint, store.label());
        }
        let fingerprint = sterna_stores::admin::fingerprint(secret.expose());
        let added = ListedSecret { realm: realm.to_owned(), fingerprint, added: None };
        Ok(told(&args.secret, &secret, &added, store.label()))
    })
}

fn list(args: &SecretListArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    block_on(async {
        let secrets = match target.look().await? {
            None => Vec::new(),
            Some(store) => {
                let listed = store.list_secrets(args.realm.as_deref()).await;
                listed.map_err(refused(&*store))?
            }
        };
        let added = |secret: &ListedSecret| secret.added.map(|at| show_moment(at.as_secs()));
        if args.json {
            let shown = secrets.iter().map(|secret| Shown {
                realm: &secret.realm,
                fingerprint: &secret.fingerprint,
                added: added(secret),
            });
            let shown: Vec<Shown> = shown.collect();
            return Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?));
        }
        let row = |secret: &ListedSecret| {
            let added = added(secret).unwrap_or_else(|| "unknown".to_owned());
            [secret.realm.clone(), secret.fingerprint.clone(), added]
        };
        Ok(table(["REALM", "FINGERPRINT", "ADDED"], secrets.iter().map(row).collect()))
    })
}

fn remove(args: &SecretRemoveArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let realm = target.realm(&args.realm);
    block_on(async {
        let store = target.open_to_change().await?;
        let removed = store.remove_secret(realm, &args.fingerprint).await;
        let fingerprint = removed.map_err(refused(&*store))?.fingerprint;
        Ok(format!("removed {fingerprint} from {realm} in {}\n", store.label()))
    })
}

fn given(args: &SecretArg) -> anyhow::Result<Secret> {
    if args.random {
        return Ok(state::random_secret()?);
    }
    let secret = ask("secret", "--secret-file", args.secret_file.as_deref())?;
    if secret.expose().len() < SECRET_MIN {
        eprintln!(
            "sterna: warning: the secret is shorter than {SECRET_MIN} bytes; whoever has a \
             credential can try guesses against it"
        );
    }
    Ok(secret)
}

/// The secret itself where nobody has it yet, so that it can be piped to where it is needed; else
/// what was done.
fn told(args: &SecretArg, secret: &Secret, added: &ListedSecret, store: &str) -> String {
    let done = format!("added {} to {} in {store}\n", added.fingerprint, added.realm);
    match args.random {
        true => {
            eprint!("sterna: {done}");
            format!("{}\n", secret.expose())
        }
        false => done,
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a str,
    fingerprint: &'a str,
    added: Option<String>,
}

/// Half the 32 bytes that `--random` makes.
const SECRET_MIN: usize = 16;
