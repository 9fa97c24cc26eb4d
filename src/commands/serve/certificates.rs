//! The certificates of a running relay.

use std::net::IpAddr;
use std::sync::Arc;

use slog::{Logger, info, warn};
use sterna_actors::clock;
use sterna_actors::tls::TlsTerms;
use tokio::sync::watch;

use crate::certificates::{self, Facts, Kept, Look, Renewal, keep, tell};
use crate::commands::{certificate_sources, state_folder};
use crate::config::{Fault, Resolved};
use crate::machine::Machine;

/// The certificates, kept in step with their files, or that there are none.
pub(super) struct Certificates {
    /// What the server's connections look at.
    pub(super) shown: Option<watch::Receiver<Arc<TlsTerms>>>,
    renewal: Option<Renewal>,
    /// The one that a first run made for itself.
    own: Option<Kept>,
}

impl Certificates {
    /// Reads them, and makes one where the configuration says so and none is kept.
    pub(super) fn of(
        resolved: &Resolved,
        machine: &Machine,
    ) -> anyhow::Result<Result<Certificates, Fault>> {
        let own = match resolved.config.tls.makes_certificate() {
            true => Some(keep_own(resolved, machine)?),
            false => None,
        };
        let Some(sources) = certificate_sources(resolved)? else {
            return Ok(Ok(Certificates { shown: None, renewal: None, own: None }));
        };
        Ok(certificates::start(sources).map(|(renewal, shown)| Certificates {
            shown: Some(shown),
            renewal: Some(renewal),
            own,
        }))
    }

    /// The one that is shown to clients which name none.
    pub(super) fn first(&self) -> Option<&Facts> {
        self.renewal.as_ref()?.certificates().first()
    }

    /// Says in the log what clients are shown.
    pub(super) fn announce(&mut self, log: &Logger) {
        let Some(renewal) = &mut self.renewal else { return };
        for facts in renewal.certificates() {
            tell("certificate", facts, log);
        }
        renewal.warn(log);
        if let Some(own) = &self.own {
            warn!(log, "the certificate is signed by itself: clients must be told to accept it, \
                        and browsers refuse it for turns:";
                "file" => %own.path.display(), "made" => own.is_made);
        }
    }

    /// Looks at the files, and shows what is in them where that is another and good.
    pub(super) async fn look(&mut self, why: Look, log: &Logger) {
        match &mut self.renewal {
            Some(renewal) => renewal.look(why, log).await,
            None if why == Look::Told => info!(log, "there are no certificates"),
            None => {}
        }
    }
}

/// Makes or finds the certificate of a first run, for every address that clients may use.
fn keep_own(resolved: &Resolved, machine: &Machine) -> anyhow::Result<Kept> {
    let folder = state_folder(&resolved.config.state_folder)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for listener in &resolved.listen {
        for seen in resolved.as_clients_see(listener, machine) {
            if !addresses.contains(&seen.address.ip()) {
                addresses.push(seen.address.ip());
            }
        }
    }
    keep(&folder, &resolved.config.realm, &addresses, clock::unix_now())
}
