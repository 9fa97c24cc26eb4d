//! `sterna realm`: realms in a store.

use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;
use sterna_actors::credential_store::StoredRealm;
use sterna_proto::quotas::QuotaLimits;
use sterna_stores::admin::{PeerRule, Verdict};

use super::store::{Target, block_on, refused};
use super::table::table;
use crate::cli::stores::{
    RealmCommand, RealmListArgs, RealmOriginArgs, RealmPeerArgs, RealmRemoveArgs, RealmSetArgs,
};
use crate::config::cli_values::Limit;
use crate::config::show_rate;

pub(crate) fn run(command: &RealmCommand) -> anyhow::Result<ExitCode> {
    match command {
        RealmCommand::List(args) => list(args),
        RealmCommand::Set(args) => set(args),
        RealmCommand::Remove(args) => remove(args),
        RealmCommand::Origin(args) => origin(args),
        RealmCommand::Allow(args) => peer(args, Verdict::Allow),
        RealmCommand::Deny(args) => peer(args, Verdict::Deny),
    }
}

fn list(args: &RealmListArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    block_on(async {
        let (realms, rules) = match target.look().await? {
            None => (Vec::new(), Vec::new()),
            Some(store) => {
                let refused = refused(&*store);
                let realms = store.list_realms().await.map_err(&refused)?;
                (realms, store.list_peers(None).await.map_err(&refused)?)
            }
        };
        if args.json {
            let shown: Vec<Shown> = realms.iter().map(|realm| Shown::of(realm, &rules)).collect();
            return Ok(format!("{}\n", serde_json::to_string_pretty(&shown)?));
        }
        let mut lines = Vec::new();
        for realm in &realms {
            lines.extend(rows(realm, &rules));
        }
        Ok(table(["REALM", "WHAT", "VALUE"], lines))
    })
}

fn set(args: &RealmSetArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let realm = &args.realm;
    block_on(async {
        let store = target.open().await?;
        let refused = refused(&*store);
        let realms = store.list_realms().await.map_err(&refused)?;
        let known = realms.iter().find(|known| &*known.name == realm);
        let mut quotas = known.map(|known| known.quotas).unwrap_or_default();
        apply(args, &mut quotas);
        store.set_realm(realm, quotas).await.map_err(&refused)?;
        Ok(format!("set {realm} in {}\n", store.label()))
    })
}

fn remove(args: &RealmRemoveArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    block_on(async {
        let store = target.open_to_change().await?;
        store.remove_realm(&args.realm).await.map_err(refused(&*store))?;
        Ok(format!("removed {} from {}\n", args.realm, store.label()))
    })
}

fn origin(args: &RealmOriginArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let RealmOriginArgs { realm, origin, remove, .. } = args;
    block_on(async {
        let store = match *remove {
            true => target.open_to_change().await?,
            false => target.open().await?,
        };
        let refused = refused(&*store);
        if *remove {
            let realms = store.list_realms().await.map_err(&refused)?;
            let is_its =
                |known: &StoredRealm| &*known.name == realm && known.origins.contains(origin);
            if !realms.iter().any(is_its) {
                bail!("{}: {origin} is no origin of {realm}", store.label());
            }
            store.remove_origin(origin).await.map_err(&refused)?;
            return Ok(format!("removed {origin} from {realm} in {}\n", store.label()));
        }
        store.add_origin(origin, realm).await.map_err(&refused)?;
        Ok(format!("{origin} asks for {realm} in {}\n", store.label()))
    })
}

fn peer(args: &RealmPeerArgs, verdict: Verdict) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store)?;
    let (user, network) = (args.user.clone(), args.network);
    let rule = PeerRule { realm: args.realm.clone(), user, verdict, network };
    let text = format!("{} for {}", rule_text(&rule), whom(&rule));
    block_on(async {
        let store = match args.remove {
            true => target.open_to_change().await?,
            false => target.open().await?,
        };
        let refused = refused(&*store);
        match args.remove {
            true => store.remove_peer(rule).await.map_err(&refused)?,
            false => store.add_peer(rule).await.map_err(&refused)?,
        }
        let done = if args.remove { "removed" } else { "added" };
        Ok(format!("{done} {text} in {}\n", store.label()))
    })
}

fn apply(args: &RealmSetArgs, quotas: &mut QuotaLimits) {
    fn set<T: Copy>(given: Option<Limit<T>>, limit: &mut Option<T>) {
        match given {
            Some(Limit::Of(given)) => *limit = Some(given),
            Some(Limit::Any | Limit::OfRealm) => *limit = None,
            None => {}
        }
    }
    set(args.allocations, &mut quotas.allocations);
    set(args.allocations_per_user, &mut quotas.allocations_per_user);
    set(args.allocations_per_source, &mut quotas.allocations_per_source);
    set(args.bandwidth, &mut quotas.bandwidth);
    set(args.bandwidth_per_user, &mut quotas.bandwidth_per_user);
    set(args.bandwidth_per_allocation, &mut quotas.bandwidth_per_allocation);
}

/// The limits that there are, by the names that turn.yaml has for them.
fn limits(quotas: &QuotaLimits) -> Vec<(&'static str, String)> {
    let count = |limit: Option<u32>| limit.map(|limit| limit.to_string());
    let rate = |limit: Option<u64>| limit.map(|limit| show_rate(Some(limit)));
    let all = [
        ("allocations", count(quotas.allocations)),
        ("allocations_per_user", count(quotas.allocations_per_user)),
        ("allocations_per_source", count(quotas.allocations_per_source)),
        ("bandwidth", rate(quotas.bandwidth)),
        ("bandwidth_per_user", rate(quotas.bandwidth_per_user)),
        ("bandwidth_per_allocation", rate(quotas.bandwidth_per_allocation)),
    ];
    all.into_iter().filter_map(|(name, limit)| Some((name, limit?))).collect()
}

/// One line for each thing that is said of the realm; one that says so where there is none.
fn rows(realm: &StoredRealm, rules: &[PeerRule]) -> Vec<[String; 3]> {
    let row = |what: String, value: String| [realm.name.to_string(), what, value];
    let limits = limits(&realm.quotas).into_iter().map(|(name, limit)| row(name.into(), limit));
    let origins = realm.origins.iter().map(|origin| row("origin".into(), origin.clone()));
    let of_realm = rules.iter().filter(|rule| rule.realm == *realm.name);
    let rules = of_realm.map(|rule| match &rule.user {
        None => row(verdict(rule).into(), rule.network.to_string()),
        Some(user) => row(verdict(rule).into(), format!("{} for {user} alone", rule.network)),
    });
    let rows: Vec<_> = limits.chain(origins).chain(rules).collect();
    match rows.is_empty() {
        true => vec![row("no limits".into(), String::new())],
        false => rows,
    }
}

fn rule_text(rule: &PeerRule) -> String {
    format!("{} {}", verdict(rule), rule.network)
}

fn verdict(rule: &PeerRule) -> &'static str {
    match rule.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn whom(rule: &PeerRule) -> String {
    match &rule.user {
        Some(user) => format!("{user} of {}", rule.realm),
        None => rule.realm.clone(),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    realm: &'a str,
    limits: serde_json::Map<String, serde_json::Value>,
    origins: &'a [String],
    peers: Vec<ShownRule<'a>>,
}

#[derive(Serialize)]
struct ShownRule<'a> {
    rule: &'static str,
    network: String,
    user: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(realm: &'a StoredRealm, rules: &'a [PeerRule]) -> Shown<'a> {
        let limits = limits(&realm.quotas).into_iter();
        let of_realm = rules.iter().filter(|rule| rule.realm == *realm.name);
        let rule = |rule: &'a PeerRule| ShownRule {
            rule: verdict(rule),
            network: rule.network.to_string(),
            user: rule.user.as_deref(),
        };
        Shown {
            realm: &realm.name,
            limits: limits.map(|(name, limit)| (name.to_owned(), limit.into())).collect(),
            origins: &realm.origins,
            peers: of_realm.map(rule).collect(),
        }
    }
}
