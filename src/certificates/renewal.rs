//! Keeps what clients are shown in step with the certificate files.

use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, error, info, warn};
use sterna_actors::clock;
use sterna_actors::tls::TlsTerms;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};

use super::{Contents, Facts, Loaded, Sources};
use crate::config::Fault;

/// The owner of the terms: it alone replaces them. Connections begin with what is there when they
/// are made.
pub(crate) struct Renewal {
    sources: Sources,
    terms: watch::Sender<Arc<TlsTerms>>,
    certificates: Vec<Facts>,
    /// What the terms were made of.
    served: Contents,
    /// What was found last and is of no use.
    broken: Option<Broken>,
    /// The warning about the end of certificates that was logged last.
    warned: Vec<String>,
}

struct Broken {
    found: Contents,
    is_logged: bool,
}

/// Why the files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is time to.
    Regular,
    /// Somebody says that they have changed.
    Told,
}

/// Reads the certificates for the first time.
///
/// # Errors
/// The first file that is of no use.
pub(crate) fn start(sources: Sources) -> Result<(Renewal, watch::Receiver<Arc<TlsTerms>>), Fault> {
    let served = sources.read();
    let Loaded { terms, certificates } = sources.load(&served)?;
    let (terms, shown) = watch::channel(Arc::new(terms));
    let warned = Vec::new();
    Ok((Renewal { sources, terms, certificates, served, broken: None, warned }, shown))
}

impl Renewal {
    /// What the certificates in use say of themselves.
    pub(crate) fn certificates(&self) -> &[Facts] {
        &self.certificates
    }

    /// Looks at the files, and shows what is in them where that is another and good.
    ///
    /// A pair is two files, so that a regular look can find one replaced and the other not yet.
    /// What is of no use is logged when it is still the same at the next look, and once.
    pub(crate) async fn look(&mut self, why: Look, log: &Logger) {
        match self.read().await {
            Ok(None) => {
                self.broken = None;
                if why == Look::Told {
                    info!(log, "the certificates are what they were");
                }
            }
            Ok(Some((found, Ok(loaded)))) => self.renew(found, loaded, log),
            Ok(Some((found, Err(fault)))) => self.refuse(found, &fault, why, log),
            Err(cause) => error!(log, "the certificates cannot be read"; "cause" => %cause),
        }
        self.warn(log);
    }

    /// What is in the files, and what comes of it, unless it is what is served.
    async fn read(&self) -> Result<Option<(Contents, Result<Loaded, Fault>)>, JoinError> {
        let sources = self.sources.clone();
        let found = spawn_blocking(move || sources.read()).await?;
        if found == self.served {
            return Ok(None);
        }
        let sources = self.sources.clone();
        let judge = move || {
            let loaded = sources.load(&found);
            (found, loaded)
        };
        spawn_blocking(judge).await.map(Some)
    }

    fn renew(&mut self, found: Contents, loaded: Loaded, log: &Logger) {
        self.terms.send_replace(Arc::new(loaded.terms));
        self.certificates = loaded.certificates;
        self.served = found;
        self.broken = None;
        for facts in &self.certificates {
            tell("certificate renewed", facts, log);
        }
    }

    fn refuse(&mut self, found: Contents, fault: &Fault, why: Look, log: &Logger) {
        let (is_known, is_logged) = match &self.broken {
            Some(broken) if broken.found == found => (true, broken.is_logged),
            Some(_) | None => (false, false),
        };
        let is_due = why == Look::Told || (is_known && !is_logged);
        if is_due {
            error!(log, "the certificates are of no use, the ones before stay in use";
                "cause" => %fault);
        }
        self.broken = Some(Broken { found, is_logged: is_logged || is_due });
    }

    /// Warns of certificates that are near their end, each time that there is less of them in days.
    pub(crate) fn warn(&mut self, log: &Logger) {
        let now = clock::unix_now();
        let warnings: Vec<String> =
            self.certificates.iter().filter_map(|facts| facts.warning(now)).collect();
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            warn!(log, "tls.certificates: {warning}");
        }
        self.warned = warnings;
    }
}

/// Says which certificate is in use.
pub(crate) fn tell(what: &'static str, facts: &Facts, log: &Logger) {
    info!(log, "{what}";
        "file" => %facts.path.display(),
        "names" => facts.names(),
        "end" => facts.end(clock::unix_now()),
    );
}

/// The time between two looks. Renewals come weeks before the end of what they replace.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(3);
