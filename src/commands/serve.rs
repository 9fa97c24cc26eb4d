//! `sterna serve`: runs the relay until it is told to stop.

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::System;
use actix_rt::time::timeout;
use anyhow::Context;
use humantime::format_duration;
use sd_notify::NotifyState;
use slog::{Logger, crit, error, info, warn};
use sterna_actors::Server;
use sterna_actors::clock;
use sterna_actors::policy_keeper::PolicyKeeper;
use tokio::time::{MissedTickBehavior, interval};

use super::{load, print, state_folder};
use crate::certificates::{LOOK_EVERY, Look};
use crate::cli::{ConfigArg, FAILED};
use crate::config::{LoadError, Resolved, resolve};
use crate::control::Control;
use crate::credential::{Algorithm, RtcConfiguration, mint, urls};
use crate::logging;
use crate::machine::Machine;
use crate::secret::Secret;
use crate::signals::{Hangups, Signals, StopSignal};
use crate::sources::Opened;

mod capacity;
mod certificates;
mod reload;
mod sessions;

use capacity::raise_limits;
use certificates::Certificates;
use reload::Reload;
use sessions::Keeper;

pub(crate) fn run(args: &ConfigArg) -> anyhow::Result<ExitCode> {
    let signals = Signals::watch().context("signals")?;
    let loaded = load(args.path.as_deref())?;
    let origin = loaded.origin.to_string();
    let machine = Machine::inspect().context("network interfaces")?;
    let fault = |fault| LoadError::Fault { origin: origin.clone(), fault };
    let resolved = resolve(loaded.config, &machine).map_err(fault)?;
    let folder = state_folder(&resolved.config.state_folder).ok();
    // The stores' connections belong to the runtime that they are made in.
    let system = System::new();
    let mut log = logging::start(&resolved.config.log);
    let opened = open(&origin, &resolved, folder.as_deref(), &log.logger);
    let opened = system.block_on(opened)?;
    let certificates = Certificates::of(&resolved, &machine)?.map_err(fault)?;
    let version = env!("CARGO_PKG_VERSION");
    info!(log.logger, "starting"; "version" => version, "configuration" => &origin);
    for warning in loaded.warnings.iter().chain(&resolved.warnings) {
        warn!(log.logger, "{warning}");
    }
    tell_of_sources(&log.logger, &opened);
    raise_limits(&log.logger, &resolved);
    let reload = Reload {
        path: args.path.clone(),
        started: resolved.config.clone(),
        machine: machine.clone(),
        folder,
        opened,
    };
    let relay = Relay { resolved, machine, reload, certificates, log: log.logger.clone() };
    let stopped = system.block_on(relay.run(signals))?;
    // Everything that logs has ended; the log gets what is left of the time for stopping.
    let taken = clock::now() - stopped.since;
    log.flush_within = STOP_WITHIN.saturating_sub(taken).max(FLUSH_AT_LEAST);
    Ok(stopped.code)
}

struct Relay {
    resolved: Resolved,
    machine: Machine,
    reload: Reload,
    certificates: Certificates,
    log: Logger,
}

/// How a relay that was ready came to its end.
struct Stopped {
    code: ExitCode,
    since: Instant,
}

enum Ended {
    Told(StopSignal),
    Failed(String),
}

impl Relay {
    async fn run(mut self, signals: Signals) -> anyhow::Result<Stopped> {
        let (mut signals, mut hangups) = signals.streams().context("signals")?;
        self.certificates.announce(&self.log);
        let shown = self.certificates.shown.clone();
        let config = self.resolved.server_config(&self.reload.opened.sources, shown);
        let log = self.log.clone();
        let mut server = Server::start(config, self.log.clone()).await?;
        let sessions = Keeper(server.quota_keeper().clone());
        let policy = server.policy_keeper().clone();
        let control = self.open_control();
        self.announce(&server);
        notify(&self.log, NotifyState::Ready);

        let ended = tokio::select! {
            signal = signals.next() => Ended::Told(signal),
            reason = server.failed() => Ended::Failed(reason.to_string()),
            never = self.keep_up(&mut hangups, &policy) => match never {},
            never = serve_control(control.as_ref(), &sessions, &log) => match never {},
        };
        let since = clock::now();
        notify(&self.log, NotifyState::Stopping);
        let code = match ended {
            Ended::Told(signal) => {
                info!(self.log, "stopping"; "signal" => signal.name());
                ExitCode::SUCCESS
            }
            Ended::Failed(reason) => {
                crit!(self.log, "stopping after too many restarts"; "reason" => reason);
                ExitCode::from(FAILED)
            }
        };
        if timeout(STOP_MAX, server.stop()).await.is_err() {
            let limit = format_duration(STOP_MAX);
            error!(self.log, "not everything stopped in time"; "limit" => %limit);
        }
        info!(self.log, "stopped");
        Ok(Stopped { code, since })
    }

    /// Follows the certificates' files, and reads them and the configuration when told to.
    async fn keep_up(&mut self, hangups: &mut Hangups, policy: &Addr<PolicyKeeper>) -> Infallible {
        let mut regular = interval(LOOK_EVERY);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = hangups.next() => {
                    info!(self.log, "told to reload: certificates and the configuration are read \
                                     again"; "signal" => "HUP");
                    self.certificates.look(Look::Told, &self.log).await;
                    self.reload.again(policy, &self.log).await;
                }
                _ = regular.tick() => self.certificates.look(Look::Regular, &self.log).await,
            }
        }
    }

    /// The socket for `sterna session`. Calls do not need it.
    fn open_control(&self) -> Option<Control> {
        let opened = match &self.reload.folder {
            Some(folder) => Control::open(folder).map_err(|cause| cause.to_string()),
            None => Err("the environment names no folder for state".to_owned()),
        };
        opened
            .map_err(|cause| {
                warn!(self.log, "there will be no `sterna session`: the control socket cannot be \
                                 opened"; "cause" => cause);
            })
            .ok()
    }

    fn announce(&self, server: &Server) {
        let listening: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
        let relaying: Vec<String> =
            self.resolved.relay_addresses.iter().map(ToString::to_string).collect();
        let ports = &self.resolved.config.relay.ports;
        info!(self.log, "ready";
            "listen" => listening.join(" "),
            "relay" => relaying.join(" "),
            "ports" => format!("{}-{}", ports.start(), ports.end()),
            "workers" => self.resolved.workers,
        );
        if let Some(secret) = &self.reload.opened.made {
            self.print_first_credential(server, secret);
        }
    }

    /// Without configured credentials nobody could use the relay, so that one is printed.
    fn print_first_credential(&self, server: &Server, secret: &Secret) {
        let credential =
            mint(secret, Algorithm::Sha1, "first-run", clock::unix_now(), FIRST_CREDENTIAL_TTL);
        let bound = server.addresses().iter();
        let clients = bound.flat_map(|at| self.resolved.as_clients_see(at, &self.machine));
        let urls = urls(&clients.collect::<Vec<_>>(), self.certificates.first());
        let json = RtcConfiguration::new(urls, &credential).to_json();
        info!(self.log, "no credentials are configured; one to try with is on standard output";
            "good_for" => %format_duration(FIRST_CREDENTIAL_TTL),
            "another" => "sterna credential --user NAME --ttl 24h",
        );
        if let Err(cause) = print(&format!("{json}\n")) {
            warn!(self.log, "standard output cannot be written"; "cause" => %cause);
        }
    }
}

/// Opens the stores and reads the files that the configuration names.
async fn open(
    origin: &str,
    resolved: &Resolved,
    folder: Option<&Path>,
    log: &Logger,
) -> anyhow::Result<Opened> {
    let opened = Opened::at_start(&resolved.config, folder, log).await;
    opened.map_err(|error| error.at(origin))
}

/// Stores that are away, and what an operator should look at.
fn tell_of_sources(log: &Logger, opened: &Opened) {
    for cause in &opened.away {
        error!(log, "a store does not answer: no allocation is granted until it does";
            "cause" => cause);
    }
    for warning in &opened.warnings {
        warn!(log, "{warning}");
    }
}

async fn serve_control(control: Option<&Control>, sessions: &Keeper, log: &Logger) -> Infallible {
    match control {
        Some(control) => control.serve(sessions, log).await,
        None => std::future::pending().await,
    }
}

/// Tells systemd, where it started us and waits to be told.
fn notify(log: &Logger, state: NotifyState<'_>) {
    if let Err(cause) = sd_notify::notify(&[state]) {
        warn!(log, "the service manager cannot be notified"; "cause" => %cause);
    }
}

/// What the actors may take to stop.
const STOP_MAX: Duration = Duration::from_millis(1700);

/// What a stop may take in all, log included: two seconds, less what the process needs to end.
const STOP_WITHIN: Duration = Duration::from_millis(1950);

/// What the log gets in any case.
const FLUSH_AT_LEAST: Duration = Duration::from_millis(100);

/// Long enough to try the relay out with, short enough for a credential that scrolls by on a
/// screen.
const FIRST_CREDENTIAL_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
