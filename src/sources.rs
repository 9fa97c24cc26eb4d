//! What a configuration names beside itself: stores, the HTTP service, files with secrets.

mod embedded;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slog::Logger;
use sterna_actors::credential_store::CredentialStore;
use sterna_stores::{HookTerms, OpenError, OpenOptions, StoreUrl};

use crate::commands::store::Failed;
use crate::config::{Config, Fault, Hook, Sources, Store, short_secret};
use crate::secret::{SHOWN, Secret};
use crate::state;

pub(crate) use embedded::{file_in as embedded_file, make as make_embedded, make_file};

/// What was opened for a configuration. The next one takes over what is the same.
#[derive(Clone, Default)]
pub(crate) struct Opened {
    /// For the actors.
    pub(crate) sources: Sources,
    /// The secret that a first run made for itself.
    pub(crate) made: Option<Secret>,
    /// Stores that do not answer, each as a fault of its key; they are asked again when needed.
    pub(crate) away: Vec<String>,
    /// What an operator should look at although it is valid.
    pub(crate) warnings: Vec<String>,
    realms: Vec<Arc<str>>,
    stores: Vec<(Store, Arc<dyn CredentialStore>)>,
    /// Where stores say what of them cannot be read.
    log: Option<Logger>,
}

/// Why a configuration cannot be served with.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// A key names what is of no use, until somebody changes it.
    Unfit(Fault),
    /// A store does not answer, which may be over in a while.
    Unreachable(Fault),
    /// The state folder does not do what it is for.
    State(anyhow::Error),
}

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceError::Unfit(fault) | SourceError::Unreachable(fault) => fault.fmt(f),
            SourceError::State(error) => write!(f, "state_folder: {error:#}"),
        }
    }
}

impl SourceError {
    /// As the command's error: a wrong configuration, or a store that may be back in a while.
    pub(crate) fn at(self, origin: &str) -> anyhow::Error {
        match self {
            SourceError::Unfit(fault) => anyhow::anyhow!("{origin}: {fault}"),
            SourceError::Unreachable(fault) => {
                Failed(format!("{origin}: {fault}; is the URL right, and does the store run?"))
                    .into()
            }
            SourceError::State(error) => anyhow::anyhow!("{origin}: state_folder: {error:#}"),
        }
    }
}

impl Opened {
    /// Opens and reads what `config` names for a server that starts. A store that does not answer
    /// is one to be asked later: a machine may come up before its database.
    pub(crate) async fn at_start(
        config: &Config,
        folder: Option<&Path>,
        log: &Logger,
    ) -> Result<Opened, SourceError> {
        let opened = Opened { log: Some(log.clone()), ..Opened::default() };
        let read = opened.read(config, folder, Absence::IsTold).await?;
        opened.with_first_secret(read, config, folder)
    }

    /// Opens and reads what `config` names for a server that runs. What `self` has open is not
    /// opened a second time; what is new has to answer, since all stays as it was if it does not.
    pub(crate) async fn again(
        &self,
        config: &Config,
        folder: Option<&Path>,
    ) -> Result<Opened, SourceError> {
        let read = self.look(config, folder).await?;
        self.with_first_secret(read, config, folder)
    }

    /// The same, but for a server that is not started: no secret is made.
    pub(crate) async fn look(
        &self,
        config: &Config,
        folder: Option<&Path>,
    ) -> Result<Opened, SourceError> {
        self.read(config, folder, Absence::IsFault).await
    }

    async fn read(
        &self,
        config: &Config,
        folder: Option<&Path>,
        absence: Absence,
    ) -> Result<Opened, SourceError> {
        let auth = &config.auth;
        let realms = realms_of(config);
        let rest_secrets = match &auth.rest_secrets_file {
            Some(path) => secrets_in("auth.rest_secrets_file", path).map_err(SourceError::Unfit)?,
            None => Vec::new(),
        };
        let mut warnings = Vec::new();
        short_secret("auth.rest_secrets_file", &rest_secrets, &mut warnings);
        let (mut opened, mut away) = (Vec::new(), Vec::new());
        for store in &auth.stores {
            let known = self.stores.iter().find(|(other, _)| other == store);
            let at = match known.filter(|_| self.realms == realms) {
                Some((_, known)) => {
                    // A store that is away stays as it was, one that cannot be read is refused.
                    if known.realms().await.is_err()
                        && let Err(error @ SourceError::Unfit(_)) =
                            self.open(store, folder, &realms, true).await
                    {
                        return Err(error);
                    }
                    known.clone()
                }
                None => match self.open(store, folder, &realms, true).await {
                    // One that was good before is opened for other realms, and may be down.
                    Err(SourceError::Unreachable(fault))
                        if absence == Absence::IsTold || known.is_some() =>
                    {
                        away.push(fault.to_string());
                        self.open(store, folder, &realms, false).await?
                    }
                    opened => opened?,
                },
            };
            opened.push((store.clone(), at));
        }
        let mut stores: Vec<_> = opened.iter().map(|(_, store)| store.clone()).collect();
        if let Some(terms) = &auth.hook {
            stores.push(hook(terms).map_err(SourceError::Unfit)?);
        }
        if let Some(folder) = folder.filter(|folder| takes_first_secret(config, folder)) {
            // What is kept has to be of use, be it asked for or not.
            state::read_rest_secret(folder).map_err(SourceError::State)?;
        } else if let Some(folder) = folder.filter(|_| config.names_nobody())
            && self.made.is_none()
            && embedded::is_vacant(folder).await
        {
            let path = embedded_file(folder);
            warnings.push(format!(
                "auth: nobody can log in: no user or secret is configured, and {} has none; \
                 `sterna user add` or `sterna secret add` puts one there",
                path.display()
            ));
        }
        let sources = Sources { stores, rest_secrets };
        let log = self.log.clone();
        Ok(Opened { sources, made: None, away, warnings, realms, stores: opened, log })
    }

    async fn open(
        &self,
        store: &Store,
        folder: Option<&Path>,
        realms: &[Arc<str>],
        must_answer: bool,
    ) -> Result<Arc<dyn CredentialStore>, SourceError> {
        let unfit = |why: &str| SourceError::Unfit(Fault::new(STORES, why));
        let options = OpenOptions { realms: realms.to_vec(), must_answer, log: self.log.clone() };
        match store {
            Store::OfStateFolder => match folder {
                Some(folder) => embedded::open(folder, options).await,
                None => Err(unfit(
                    "sqlite: the environment names no folder for state; set state_folder",
                )),
            },
            Store::At { url, .. } => open_at(url, options).await,
        }
    }

    /// What was `read`, with the secret of a first run if it takes one.
    fn with_first_secret(
        &self,
        mut read: Opened,
        config: &Config,
        folder: Option<&Path>,
    ) -> Result<Opened, SourceError> {
        read.made = self.first_secret(config, folder)?;
        read.sources.rest_secrets.extend(read.made.clone());
        Ok(read)
    }

    /// The secret of a server that nobody has configured a user for: it is made at the first start
    /// and stays as long as nobody is configured. One that is in force stays until the next start.
    fn first_secret(
        &self,
        config: &Config,
        folder: Option<&Path>,
    ) -> Result<Option<Secret>, SourceError> {
        if !config.names_nobody() {
            return Ok(None);
        }
        if self.made.is_some() {
            return Ok(self.made.clone());
        }
        let Some(folder) = folder else {
            let why = "the environment names no folder for state; set an absolute path";
            return Err(SourceError::Unfit(Fault::new("state_folder", why)));
        };
        if !takes_first_secret(config, folder) {
            return Ok(None);
        }
        state::keep_rest_secret(folder).map(Some).map_err(SourceError::State)
    }
}

/// What it means that a store does not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// The configuration is of no use while it is so.
    IsFault,
    /// It is said, and the store is asked again later.
    IsTold,
}

/// Whether nobody is configured, so that a secret of the server's own is in force: turn.yaml names
/// nobody, and the store of the state folder was not made or is not asked.
pub(crate) fn takes_first_secret(config: &Config, folder: &Path) -> bool {
    let is_asked = config.auth.stores.contains(&Store::OfStateFolder);
    config.names_nobody() && !(is_asked && embedded_file(folder).exists())
}

/// The realms that the configuration has, the default one first.
pub(crate) fn realms_of(config: &Config) -> Vec<Arc<str>> {
    let others = config.realms.keys().filter(|name| **name != config.realm);
    [&config.realm].into_iter().chain(others).map(|name| name.as_str().into()).collect()
}

async fn open_at(
    url: &StoreUrl,
    options: OpenOptions,
) -> Result<Arc<dyn CredentialStore>, SourceError> {
    check_file(STORES, url).map_err(SourceError::Unfit)?;
    sterna_stores::open(url, options).await.map_err(|error| {
        let fault = Fault::new(STORES, &format!("{url}: {error}"));
        match error {
            OpenError::Unfit(_) => SourceError::Unfit(fault),
            OpenError::Unreachable(_) => SourceError::Unreachable(fault),
        }
    })
}

/// An SQLite file holds keys, so that it is nobody else's to read. `key` is what named it.
pub(crate) fn check_file(key: &str, url: &StoreUrl) -> Result<(), Fault> {
    let Some(path) = url.sqlite_file() else { return Ok(()) };
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & state::OF_ALL != 0 => {
            Err(readable(key, path, "660"))
        }
        Ok(_) => Ok(()),
        // Whoever opens it says so.
        Err(_) => Ok(()),
    }
}

fn hook(terms: &Hook) -> Result<Arc<dyn CredentialStore>, Fault> {
    let token = match &terms.token_file {
        Some(path) => secrets_in("auth.hook.token_file", path)?.into_iter().next(),
        None => None,
    };
    let authorities = match &terms.ca {
        Some(path) => Some(certificates_in("auth.hook.ca", path)?),
        None => None,
    };
    let terms = HookTerms {
        token: token.map(|token| token.expose().clone()),
        ca: authorities,
        timeout: terms.timeout,
        failures: terms.failures,
        pause: terms.pause,
        finds_hashed: terms.userhash,
        ..HookTerms::new(terms.url.expose())
    };
    sterna_stores::hook(terms).map_err(|error| Fault::new("auth.hook", &error.to_string()))
}

/// A file of certificates, as text that somebody else makes sense of.
fn certificates_in(key: &str, path: &Path) -> Result<Vec<u8>, Fault> {
    let fault =
        |cause: &dyn std::fmt::Display| Fault::new(key, &format!("{}: {cause}", path.display()));
    let file = File::open(path).map_err(|cause| fault(&cause))?;
    let mut bytes = Vec::new();
    file.take(CERTIFICATES_MAX + 1).read_to_end(&mut bytes).map_err(|cause| fault(&cause))?;
    match bytes.len() as u64 > CERTIFICATES_MAX {
        true => Err(fault(&format!("is larger than {CERTIFICATES_MAX} bytes"))),
        false => Ok(bytes),
    }
}

/// The secrets of a file, one on each line.
pub(crate) fn secrets_in(key: &str, path: &PathBuf) -> Result<Vec<Secret>, Fault> {
    let fault =
        |cause: &dyn std::fmt::Display| Fault::new(key, &format!("{}: {cause}", path.display()));
    let file = File::open(path).map_err(|cause| fault(&cause))?;
    let mode = file.metadata().map_err(|cause| fault(&cause))?.permissions().mode();
    if mode & state::OF_ALL != 0 {
        return Err(readable(key, path, "640"));
    }
    let mut text = String::new();
    let mut bounded = file.take(SECRETS_MAX + 1);
    bounded.read_to_string(&mut text).map_err(|cause| fault(&cause))?;
    if text.len() as u64 > SECRETS_MAX {
        return Err(fault(&format!("is larger than {SECRETS_MAX} bytes, not a file of secrets")));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<Secret> = lines.map(|line| Secret::new(line.to_owned())).collect();
    if secrets.iter().any(|secret| secret.expose().contains(SHOWN)) {
        return Err(fault(&"holds the placeholder of a printed configuration"));
    }
    match secrets.is_empty() {
        true => Err(fault(&"holds no secret")),
        false => Ok(secrets),
    }
}

fn readable(key: &str, path: &Path, mode: &str) -> Fault {
    let path = path.display();
    Fault::new(key, &format!("{path}: every user of this machine may use it; chmod {mode} it"))
}

const STORES: &str = "auth.stores";

/// A secret is less than a hundred bytes, and rotating takes a handful of them.
const SECRETS_MAX: u64 = 65_536;

/// The authorities that a system trusts are a quarter of that.
const CERTIFICATES_MAX: u64 = 1_048_576;

#[cfg(test)]
mod tests;
