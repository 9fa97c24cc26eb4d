//! The store that a command works on, and the secrets that it is given.

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use actix_rt::System;
use anyhow::{Context, bail};
use sterna_proto::quotas::QuotaLimits;
use sterna_stores::admin::{self, Admin, AdminError, Counts};
use sterna_stores::{OpenError, StoreUrl};

use super::{load, print, state_folder};
use crate::cli::stores::{RealmArg, StoreArgs};
use crate::config::{Config, Fault, Loaded, Store, parse_store};
use crate::secret::{SHOWN, Secret};
use crate::sources::{check_file, embedded_file, make_embedded, make_file};
use crate::state;

/// What a command was asked for could not be done, though there is nothing wrong with how it was
/// asked: its exit code is another one.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// Which store of which configuration.
pub(super) struct Target {
    pub(super) loaded: Loaded,
    store: Store,
    /// Whether it is one of auth.stores, and not of the command line.
    is_configured: bool,
}

impl Target {
    pub(super) fn of(args: &StoreArgs) -> anyhow::Result<Target> {
        let loaded = load(args.config.path.as_deref())?;
        let store = match &args.store {
            Some(text) => named(text).map_err(|why| Fault::new("--store", &why))?,
            None => loaded.config.auth.stores.first().cloned().with_context(|| {
                let origin = &loaded.origin;
                format!("{origin}: auth.stores: is empty; name a store with --store URL")
            })?,
        };
        Ok(Target { loaded, store, is_configured: args.store.is_none() })
    }

    pub(super) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The realm of the command line, else the default one.
    pub(super) fn realm<'a>(&'a self, given: &'a RealmArg) -> &'a str {
        given.realm.as_deref().unwrap_or(&self.config().realm)
    }

    /// Opens it to add something. An SQLite file is made if it is not there.
    pub(super) async fn open(&self) -> anyhow::Result<Box<dyn Admin>> {
        let url = self.url()?;
        if let Some(path) = url.sqlite_file() {
            match self.store {
                Store::OfStateFolder => make_embedded(&self.folder()?),
                Store::At { .. } => make_file(path),
            }
            .with_context(|| path.display().to_string())?;
        }
        self.open_at(url).await
    }

    /// Opens it to change or remove what is there. An SQLite file that is not there is not made:
    /// the server would take it for a store that somebody keeps users in.
    pub(super) async fn open_to_change(&self) -> anyhow::Result<Box<dyn Admin>> {
        let url = self.url()?;
        if url.sqlite_file().is_some_and(|path| !path.exists()) {
            return Err(Failed(format!("{url}: nothing was ever put into it")).into());
        }
        self.open_at(url).await
    }

    async fn open_at(&self, url: StoreUrl) -> anyhow::Result<Box<dyn Admin>> {
        check_file(self.key(), &url)?;
        admin::open(&url).await.map_err(|error| self.cannot_open(&url, error))
    }

    /// Opens it to list what is in it; `None` where nothing was ever put into the file of the state
    /// folder.
    pub(super) async fn look(&self) -> anyhow::Result<Option<Box<dyn Admin>>> {
        let url = self.url()?;
        if self.store == Store::OfStateFolder && !url.sqlite_file().is_some_and(Path::exists) {
            return Ok(None);
        }
        check_file(self.key(), &url)?;
        admin::look(&url).await.map(Some).map_err(|error| self.cannot_open(&url, error))
    }

    /// What has named it.
    fn key(&self) -> &'static str {
        if self.is_configured { "auth.stores" } else { "--store" }
    }

    fn cannot_open(&self, url: &StoreUrl, error: OpenError) -> anyhow::Error {
        let fault = Fault::new(self.key(), &format!("{url}: {error}"));
        match error {
            OpenError::Unfit(_) => fault.into(),
            OpenError::Unreachable(_) => Failed(fault.to_string()).into(),
        }
    }

    /// A realm that neither turn.yaml nor the store names would be none of the server's, and its
    /// users nobody's.
    pub(super) async fn make_realm(&self, store: &dyn Admin, realm: &str) -> anyhow::Result<()> {
        let config = self.config();
        if realm == config.realm || config.realms.contains_key(realm) {
            return Ok(());
        }
        let refused = refused(store);
        let realms = store.list_realms().await.map_err(&refused)?;
        if realms.iter().any(|known| &*known.name == realm) {
            return Ok(());
        }
        store.set_realm(realm, QuotaLimits::default()).await.map_err(&refused)?;
        eprintln!("sterna: made the realm {realm} in {}", store.label());
        Ok(())
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        state_folder(&self.config().state_folder)
    }

    fn url(&self) -> anyhow::Result<StoreUrl> {
        match &self.store {
            Store::At { url, .. } => Ok(StoreUrl::clone(url)),
            Store::OfStateFolder => Ok(StoreUrl::embedded(&embedded_file(&self.folder()?))),
        }
    }
}

/// The store of the command line, whose arguments everybody on this machine can read.
fn named(text: &str) -> Result<Store, String> {
    match parse_store(text)? {
        Store::At { url, .. } if url.has_password() => Err(format!(
            "{url}: the password in it would be there for every user of this machine to read; put \
             the URL into auth.stores of a configuration (-c FILE) or into STERNA__AUTH__STORES"
        )),
        store => Ok(store),
    }
}

/// What is in a store, for a person.
pub(super) async fn contents(store: &Store, folder: Option<&Path>) -> anyhow::Result<String> {
    let url = match (store, folder) {
        (Store::At { url, .. }, _) => StoreUrl::clone(url),
        (Store::OfStateFolder, Some(folder)) if embedded_file(folder).exists() => {
            StoreUrl::embedded(&embedded_file(folder))
        }
        (Store::OfStateFolder, _) => {
            return Ok("sqlite: empty; `sterna user add` and the like make it".to_owned());
        }
    };
    let admin = admin::look(&url).await.map_err(|error| Failed(format!("{url}: {error}")))?;
    let refused = refused(&*admin);
    let Counts { users, secrets, realms } = admin.counts().await.map_err(&refused)?;
    Ok(format!("{url}: users: {users}, secrets: {secrets}, realms: {realms}"))
}

/// Runs a command that talks to a store.
pub(super) fn block_on(
    command: impl Future<Output = anyhow::Result<String>>,
) -> anyhow::Result<ExitCode> {
    let text = System::new().block_on(command)?;
    print(&text).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// A store's refusal as the command's.
pub(super) fn refused(store: &dyn Admin) -> impl Fn(AdminError) -> anyhow::Error + use<> {
    let label = store.label().to_owned();
    move |error| {
        let text = format!("{label}: {error}");
        match error {
            AdminError::Invalid(_) => anyhow::anyhow!(text),
            AdminError::Exists(_)
            | AdminError::Missing(_)
            | AdminError::ReadOnly(_)
            | AdminError::Store(_) => Failed(text).into(),
        }
    }
}

/// A password or secret from a file's first line, else typed twice, else from standard input.
pub(super) fn ask(what: &str, option: &str, file: Option<&Path>) -> anyhow::Result<Secret> {
    let secret = match file {
        Some(path) => {
            let (secret, is_public) = state::secret_file(path).context(option.to_owned())?;
            if is_public {
                let path = path.display();
                eprintln!(
                    "sterna: warning: {path}: every user of this machine may read it; chmod 600 it"
                );
            }
            secret
        }
        None if io::stdin().is_terminal() => ask_twice(what)?,
        None => {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            read.with_context(|| format!("{what} from standard input"))?;
            Secret::new(line.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    match secret.expose().as_str() {
        "" => bail!("the {what} is empty; it comes from {option} FILE or standard input"),
        SHOWN => bail!("the {what} is the placeholder of a printed configuration"),
        text if text.trim() != text => bail!("the {what} starts or ends with white space"),
        _ => Ok(secret),
    }
}

fn ask_twice(what: &str) -> anyhow::Result<Secret> {
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt).with_context(|| format!("{what} from the terminal"))
    };
    let first = ask(format!("New {what}: "))?;
    match ask(format!("The {what} again: "))? == first {
        true => Ok(Secret::new(first)),
        false => bail!("the two are not the same; nothing was changed"),
    }
}
