//! Where users, secrets and realms are kept: SQL databases, Redis, and an HTTP service that is
//! asked. Each is a [`CredentialStore`] of the actors; [`admin`] is what the command line changes
//! them with.
//!
//! A store that cannot be reached when it is opened is opened all the same and looked at again with
//! each question, so that a machine may come up before its database. What is wrong with a store
//! that does answer, such as a missing table, is an error at once.

pub mod admin;
mod hook;
mod pool;
mod ranges;
mod redis_store;
mod sql;
mod unreadable;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use slog::Logger;
use sterna_actors::credential_store::{CredentialStore, StoreError};

pub use crate::hook::{HookTerms, hook};
pub use crate::url::{SchemaKind, StoreUrl, StoreUrlError};

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The realms of the configuration: what a coturn database says for every realm is said for
    /// these as well as for those that the database names.
    pub realms: Vec<Arc<str>>,
    /// Whether a store that does not answer is an error, as `sterna check` wants it, and not one to
    /// be asked again later.
    pub must_answer: bool,
    /// Where it is said that a user or a key of the store cannot be read and is left out.
    pub log: Option<Logger>,
}

/// Open the store behind a URL, making and migrating Sterna's own tables where there are none.
pub async fn open(
    url: &StoreUrl,
    options: OpenOptions,
) -> Result<Arc<dyn CredentialStore>, OpenError> {
    match &url.place {
        url::Place::Redis(place) => redis_store::open(url, place, options).await,
        url::Place::Sqlite { .. } | url::Place::Postgres(_) | url::Place::MySql(_) => {
            sql::open(url, options).await
        }
    }
}

/// Why a store cannot be opened. The text holds no secret and fits behind the key's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// It does not answer. It may do so later.
    Unreachable(StoreError),
    /// It will not do until somebody changes it or its URL.
    Unfit(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Unreachable(error) => error.fmt(f),
            OpenError::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> StoreError {
        StoreError::Lost(error.to_string())
    }
}

/// How long a connection to a store may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a question may take to be answered, once there is a connection.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to one store; further questions wait for one to be free.
const CONNECTIONS: usize = 8;
