//! `sterna user`: users in a store.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use sterna_proto::quotas::UserLimits;
use sterna_stores::admin::{ListedUser, NewUser, UserKeys};

use super::store::{Target, ask, block_on, refused};
use super::table::table;
use crate::cli::stores::{
    LimitArgs, PasswordArg, UserAddArgs, UserCommand, UserLimitArgs, UserListArgs,
    UserPasswordArgs, UserRemoveArgs,
};
use crate::config::cli_values::{Expiry, Limit};
use crate::config::{ANY_ALLOCATIONS, ANY_RATE, show_moment, show_rate};

pub(crate) fn run(command: &UserCommand) -> anyhow::Result<ExitCode> {
    match command {
        UserCommand::Add(args) => add(args),
        UserCommand::List(args) => list(args),
        UserCommand::Password(args) => password(args),
        UserCommand::Limit(args) => limit(args),
        UserCommand::Remove(args) => remove(args),
    }
}

fn add(args: &UserAddArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let (realm, name) = (target.realm(&args.realm), &args.name);
    let keys = keys(realm, name, &args.password)?;
    let mut user = NewUser {
        realm: realm.to_owned(),
        name: name.clone(),
        keys,
        limits: UserLimits::default(),
        expires: None,
    };
    apply(&args.limits, &mut user.limits, &mut user.expires);
    block_on(async {
        let store = target.open().await?;
        target.make_realm(&*store, realm).await?;
        store.add_user(user).await.map_err(refused(&*store))?;
        hint_at_static(&target, realm, name);
        Ok(format!("added {name} to {realm} in {}\n", store.label()))
    })
}

fn list(args: &UserListArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    block_on(async {
        let users = match target.look().await? {
            None => Vec::new(),
            Some(store) => {
                let listed = store.list_users(args.realm.as_deref()).await;
                listed.map_err(refused(&*store))?
            }
        };
        if args.json {
            let shown: Vec<Shown> = users.iter().map(Shown::from).collect();
            return Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?));
        }
        let head =
            ["REALM", "USER", "KEYS", "ALLOCATIONS", "BANDWIDTH", "PER ALLOCATION", "EXPIRES"];
        Ok(table(head, users.iter().map(row).collect()))
    })
}

fn password(args: &UserPasswordArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let (realm, name) = (target.realm(&args.realm), &args.name);
    let keys = keys(realm, name, &args.password)?;
    block_on(async {
        let store = target.open_to_change().await?;
        store.set_keys(realm, name, keys).await.map_err(refused(&*store))?;
        hint_at_static(&target, realm, name);
        Ok(format!("{name} of {realm} has another password in {}\n", store.label()))
    })
}

fn limit(args: &UserLimitArgs) -> anyhow::Result<ExitCode> {
    let LimitArgs { allocations, bandwidth, bandwidth_per_allocation, expires } = &args.limits;
    if allocations.is_none()
        && bandwidth.is_none()
        && bandwidth_per_allocation.is_none()
        && expires.is_none()
    {
        bail!("user limit: names no limit; see `sterna user limit --help`");
    }
    let target = Target::of(&args.store)?;
    let (realm, name) = (target.realm(&args.realm), &args.name);
    block_on(async {
        let store = target.open_to_change().await?;
        let refused = refused(&*store);
        // A user that is not there is refused by the store, in its own words.
        let user = store.find_user(realm, name).await.map_err(&refused)?;
        let mut limits = user.as_ref().map(|user| user.limits).unwrap_or_default();
        let mut ends = user.and_then(|user| user.expires);
        apply(&args.limits, &mut limits, &mut ends);
        store.set_limits(realm, name, limits, ends).await.map_err(&refused)?;
        Ok(format!("{name} of {realm} has other limits in {}\n", store.label()))
    })
}

fn remove(args: &UserRemoveArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let (realm, name) = (target.realm(&args.realm), &args.name);
    block_on(async {
        let store = target.open_to_change().await?;
        store.remove_user(realm, name).await.map_err(refused(&*store))?;
        hint_at_static(&target, realm, name);
        Ok(format!("removed {name} from {realm} in {}\n", store.label()))
    })
}

/// Both keys of the password, so that clients of either kind can prove themselves.
fn keys(realm: &str, name: &str, password: &PasswordArg) -> anyhow::Result<UserKeys> {
    let password = ask("password", "--password-file", password.password_file.as_deref())?;
    UserKeys::of_password(realm, name, password.expose())
        .ok()
        .context("the password holds characters it may not hold (RFC 8265)")
}

fn apply(args: &LimitArgs, limits: &mut UserLimits, expires: &mut Option<Duration>) {
    if let Some(limit) = args.allocations {
        limits.allocations = of_user(limit, ANY_ALLOCATIONS);
    }
    if let Some(limit) = args.bandwidth {
        limits.bandwidth = of_user(limit, ANY_RATE);
    }
    if let Some(limit) = args.bandwidth_per_allocation {
        limits.bandwidth_per_allocation = of_user(limit, ANY_RATE);
    }
    match args.expires {
        Some(Expiry::At(moment)) => *expires = Some(moment),
        Some(Expiry::Never) => *expires = None,
        None => {}
    }
}

fn of_user<T>(limit: Limit<T>, any: T) -> Option<T> {
    match limit {
        Limit::Of(limit) => Some(limit),
        Limit::Any => Some(any),
        Limit::OfRealm => None,
    }
}

/// A user of turn.yaml is not of a store, whatever its name.
fn hint_at_static(target: &Target, realm: &str, name: &str) {
    let config = target.config();
    let in_auth = realm == config.realm && config.auth.users.contains_key(name);
    let in_realm = config.realms.get(realm).is_some_and(|realm| realm.users.contains_key(name));
    if in_auth || in_realm {
        let origin = &target.loaded.origin;
        eprintln!("sterna: warning: {origin}: has a user {name} of {realm}, too, who comes first");
    }
}

fn row(user: &ListedUser) -> [String; 7] {
    [
        user.realm.clone(),
        user.name.clone(),
        keys_of(user).join(" "),
        limit_text(user.limits.allocations, ANY_ALLOCATIONS, |n| n.to_string()),
        limit_text(user.limits.bandwidth, ANY_RATE, |rate| show_rate(Some(rate))),
        limit_text(user.limits.bandwidth_per_allocation, ANY_RATE, |rate| show_rate(Some(rate))),
        user.expires.map_or("never".to_owned(), |at| show_moment(at.as_secs())),
    ]
}

fn keys_of(user: &ListedUser) -> Vec<&'static str> {
    let kinds = [("md5", user.md5), ("sha256", user.sha256)];
    kinds.into_iter().filter(|(_, has)| *has).map(|(kind, _)| kind).collect()
}

/// As it is typed: what the realm gives, any, or so much.
fn limit_text<T: PartialEq>(limit: Option<T>, any: T, show: impl Fn(T) -> String) -> String {
    match limit {
        None => "realm".to_owned(),
        Some(limit) if limit == any => "any".to_owned(),
        Some(limit) => show(limit),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a str,
    name: &'a str,
    keys: Vec<&'static str>,
    allocations: String,
    bandwidth: String,
    bandwidth_per_allocation: String,
    expires: Option<String>,
}

impl<'a> From<&'a ListedUser> for Shown<'a> {
    fn from(user: &'a ListedUser) -> Self {
        let [_, _, _, allocations, bandwidth, bandwidth_per_allocation, _] = row(user);
        Shown {
            realm: &user.realm,
            name: &user.name,
            keys: keys_of(user),
            allocations,
            bandwidth,
            bandwidth_per_allocation,
            expires: user.expires.map(|at| show_moment(at.as_secs())),
        }
    }
}
