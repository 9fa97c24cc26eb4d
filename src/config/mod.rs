//! The configuration: read, layered, checked, and fitted to this machine.
//!
//! `raw` is what the file says, `checked` makes a typed [`Config`] of it without looking at the
//! machine,
//! `resolve` fits that to the machine's addresses and cores.

mod access;
mod checked;
pub(crate) mod cli_values;
mod fault;
mod keys;
mod policy;
mod raw;
mod resolve;
mod show;
mod show_access;
mod source;
mod values;
mod warnings;
mod ways_in;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use access::{Auth, Hook, OAuth, Peers, Realm, Store, TokenKey, User, UserSecret};
pub(crate) use access::{store as parse_store, token_key_bytes as read_token_key};
pub use checked::{
    Config, Lifetimes, Limits, LogConfig, LogFormat, Relay, RelayAddresses, StateFolder, Stun,
    Workers,
};
pub use fault::Fault;
pub use policy::Sources;
pub use resolve::{Resolved, resolve};
pub use show::show;
pub(crate) use values::{ANY_ALLOCATIONS, ANY_RATE, show_moment, show_rate};
pub(crate) use warnings::short_secret;
pub use ways_in::{CertificateFiles, DTLS, Tls, by_socket};

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// No file was named or found.
    BuiltIn,
}

/// A checked configuration and what is worth saying about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where it came from.
    pub origin: Origin,
    /// The environment variables that changed it.
    pub variables: Vec<String>,
    /// What an operator should look at, one line each; none of it stops the start.
    pub warnings: Vec<String>,
}

/// Reads and checks the configuration.
///
/// `path` is the file that the command line names. Without one, the first of [`SEARCHED`] that
/// exists is read, and without any the built-in defaults hold. The environment's `STERNA__`
/// variables override either.
pub fn load(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, LoadError> {
    let (origin, yaml, mode) = match path {
        Some(path) => read(path)?,
        None => search(SEARCHED.iter().map(Path::new))?,
    };
    let mut loaded = parse(&yaml, &origin, environment)?;
    if loaded.config.has_secrets() && mode & READABLE_BY_OTHERS != 0 {
        loaded.warnings.push(format!(
            "{origin}: holds secrets and every user of this machine may read it; chmod 640 it"
        ));
    }
    Ok(loaded)
}

/// Checks a configuration text and the environment over it.
pub fn parse(
    yaml: &str,
    origin: &Origin,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, LoadError> {
    let at = |fault| LoadError::Fault { origin: origin.to_string(), fault };
    let overrides = source::overrides(environment).map_err(LoadError::Variable)?;
    let layered = source::layer(yaml, overrides).map_err(at)?;
    let config = checked::check(&layered.raw).map_err(|fault: Fault| {
        match layered.variables.get(fault.key()) {
            Some(variable) => LoadError::Fault { origin: variable.clone(), fault },
            None => at(fault),
        }
    })?;
    let warnings = warnings::of(&config);
    let variables = layered.variables.into_values().collect();
    Ok(Loaded { config, origin: origin.clone(), variables, warnings })
}

/// A configuration that cannot be used: one line with file or variable, key, value and cure.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file is too large to be a configuration.
    TooLarge(PathBuf),
    /// An environment variable is not one that there can be.
    Variable(Fault),
    /// A key or its value is wrong.
    Fault {
        /// The file or the environment variable.
        origin: String,
        /// What is wrong.
        fault: Fault,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreadable { path, cause } => write!(f, "{}: {cause}", path.display()),
            LoadError::TooLarge(path) => {
                write!(f, "{}: larger than {FILE_MAX} bytes, not a turn.yaml", path.display())
            }
            LoadError::Variable(fault) => write!(f, "environment: {fault}"),
            LoadError::Fault { origin, fault } => write!(f, "{origin}: {fault}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::BuiltIn => f.write_str("built-in defaults"),
        }
    }
}

type Text = (Origin, String, u32);

fn search<'a>(candidates: impl Iterator<Item = &'a Path>) -> Result<Text, LoadError> {
    for path in candidates {
        match read(path) {
            Err(LoadError::Unreadable { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            }
            found => return found,
        }
    }
    Ok((Origin::BuiltIn, String::new(), 0))
}

fn read(path: &Path) -> Result<Text, LoadError> {
    let unreadable = |cause| LoadError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut yaml = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut yaml).map_err(unreadable)?;
    if yaml.len() as u64 > FILE_MAX {
        return Err(LoadError::TooLarge(path.to_owned()));
    }
    Ok((Origin::File(path.to_owned()), yaml, mode))
}

/// The files that are looked for when the command line names none, in this order.
pub const SEARCHED: [&str; 2] = ["turn.yaml", "/etc/sterna/turn.yaml"];

/// Far above any configuration, far below what would hurt to read by mistake.
const FILE_MAX: u64 = 4 * 1024 * 1024;

const READABLE_BY_OTHERS: u32 = 0o004;

#[cfg(test)]
mod tests;
