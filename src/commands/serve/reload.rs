//! What HUP changes while calls go on: the policy, of which turn.yaml and the files that it names
//! are read again.

use std::path::PathBuf;

use actix::Addr;
use slog::{Logger, error, info, warn};
use sterna_actors::policy::Policy;
use sterna_actors::policy_keeper::{PolicyKeeper, SetPolicy};
use tokio::task::spawn_blocking;

use super::tell_of_sources;
use crate::commands::load;
use crate::config::{Config, Limits, Loaded, resolve};
use crate::machine::Machine;
use crate::sources::Opened;

/// The configuration of a running relay.
pub(super) struct Reload {
    pub(super) path: Option<PathBuf>,
    /// What the relay was started with. Most of it holds until the next start.
    pub(super) started: Config,
    pub(super) machine: Machine,
    /// The state folder of the start.
    pub(super) folder: Option<PathBuf>,
    pub(super) opened: Opened,
}

impl Reload {
    /// Reads the configuration again. A fault in it changes nothing.
    pub(super) async fn again(&mut self, keeper: &Addr<PolicyKeeper>, log: &Logger) {
        let (loaded, policy, opened) = match self.read().await {
            Ok(read) => read,
            Err(cause) => {
                error!(log, "the configuration is of no use, the one before stays in use";
                    "cause" => format!("{cause:#}"));
                return;
            }
        };
        for warning in &loaded.warnings {
            warn!(log, "{warning}");
        }
        let waiting = needs_restart(&self.started, &loaded.config);
        if !waiting.is_empty() {
            warn!(log, "needs a restart: {}", waiting.join(", "));
        }
        tell_of_sources(log, &opened);
        self.opened = opened;
        keeper.do_send(SetPolicy(policy));
        info!(log, "the configuration was read again"; "configuration" => %loaded.origin);
    }

    async fn read(&self) -> anyhow::Result<(Loaded, Policy, Opened)> {
        let path = self.path.clone();
        let loaded = spawn_blocking(move || load(path.as_deref())).await??;
        let origin = &loaded.origin;
        let fault = |error: &dyn std::fmt::Display| anyhow::anyhow!("{origin}: {error}");
        let resolved =
            resolve(loaded.config.clone(), &self.machine).map_err(|error| fault(&error))?;
        let opened = self.opened.again(&loaded.config, self.folder.as_deref()).await;
        let opened = opened.map_err(|error| fault(&error))?;
        let policy = resolved.policy(&opened.sources);
        Ok((loaded, policy, opened))
    }
}

/// The keys that are not what they were and hold from the start to the end of a relay.
fn needs_restart(started: &Config, now: &Config) -> Vec<&'static str> {
    let keys = [
        ("listen", started.listen != now.listen),
        ("tls", started.tls != now.tls),
        ("workers", started.workers != now.workers),
        ("wake_interval", started.wake_interval != now.wake_interval),
        ("relay", started.relay != now.relay),
        ("lifetimes", started.lifetimes != now.lifetimes),
        ("stun", started.stun != now.stun),
        ("log", started.log != now.log),
        ("state_folder", started.state_folder != now.state_folder),
    ];
    let limits = limits_that_differ(&started.limits, &now.limits);
    keys.into_iter().chain(limits).filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Those that hold from start to end: a reload changes quotas.
fn limits_that_differ(started: &Limits, now: &Limits) -> [(&'static str, bool); 11] {
    macro_rules! differ {
        ($($name:ident),* $(,)?) => {{
            let Limits { quotas: _, $($name),* } = now;
            [$((concat!("limits.", stringify!($name)), started.$name != *$name)),*]
        }};
    }
    differ![
        failed_logins_per_minute,
        sessions_per_listener,
        permissions_per_allocation,
        channels_per_allocation,
        connections_per_allocation,
        unauthenticated_answers_per_second,
        connections_per_listener,
        unproved_connections_per_listener,
        unproved_connections_per_source,
        connection_setup,
        stream_buffer,
    ]
}

#[cfg(test)]
mod tests;
