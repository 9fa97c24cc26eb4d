//! Where a store is, as `auth.stores` of turn.yaml names it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

/// The address of a store, read and checked. It may hold a password, which neither `Display` nor
/// `Debug` shows.
///
/// | URL | store |
/// |---|---|
/// | `sqlite:///var/lib/sterna/users.db` | SQLite; `?mode=rwc` makes the file |
/// | `postgres://user:password@host:5432/database` | PostgreSQL |
/// | `mysql://user:password@host:3306/database` (or `mariadb://`) | MySQL, MariaDB |
/// | `redis://user:password@host:6379/0`, `rediss://…` with TLS, `redis+unix:///path` | Redis |
/// | `redis+sentinel://host,host:26379/0?master=NAME` | Redis with Sentinel |
/// | `redis+cluster://host,host:6379` | Redis Cluster |
///
/// SQL databases take `?schema=coturn` and `?schema=sterna`; without it the tables tell. In Redis
/// both lie beside each other; there `?schema=sterna` says that each user has a key for SHA-256,
/// as those have that `sterna user` adds. Other parameters of SQL databases, such as `sslmode`, are
/// those of the database's client.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    pub(crate) place: Place,
    pub(crate) schema: Option<SchemaKind>,
    label: String,
}

/// What stands behind a URL.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Sqlite { path: PathBuf, create: bool },
    Postgres(Url),
    MySql(Url),
    Redis(RedisPlace),
}

/// How Redis is reached.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisPlace {
    pub(crate) nodes: RedisNodes,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RedisNodes {
    One(String, u16),
    Unix(PathBuf),
    Sentinel {
        hosts: Vec<(String, u16)>,
        master: String,
        username: Option<String>,
        password: Option<String>,
    },
    Cluster(Vec<(String, u16)>),
}

/// Whose tables a SQL database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// Sterna's own, made and migrated by it.
    Sterna,
    /// coturn's, read as it stands.
    Coturn,
}

impl StoreUrl {
    /// Read a URL. The error says what is wrong with it and shows no password.
    pub fn parse(text: &str) -> Result<StoreUrl, StoreUrlError> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(wrong("not a URL; it begins with sqlite:, postgres:, mysql: or redis:"));
        };
        match scheme {
            "sqlite" => sqlite(rest),
            "postgres" | "postgresql" => {
                database("postgres", 5432, rest, &POSTGRES_PARAMETERS, |url| {
                    PgConnectOptions::from_url(url).map(|_| Place::Postgres(url.clone()))
                })
            }
            "mysql" | "mariadb" => database("mysql", 3306, rest, &MYSQL_PARAMETERS, |url| {
                MySqlConnectOptions::from_url(url).map(|_| Place::MySql(url.clone()))
            }),
            "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel"
            | "redis+cluster" | "rediss+cluster" => redis(scheme, rest),
            _ => {
                let known = "sqlite, postgres, mysql, redis, rediss, redis+sentinel, redis+cluster";
                Err(wrong(format!("{scheme}: is no store; there are {known}")))
            }
        }
    }

    /// The embedded database of the state folder, which is made when it is first needed.
    pub fn embedded(file: &Path) -> StoreUrl {
        let label = format!("sqlite://{}", file.display());
        StoreUrl {
            place: Place::Sqlite { path: file.into(), create: true },
            schema: Some(SchemaKind::Sterna),
            label,
        }
    }

    /// The file of an SQLite database.
    pub fn sqlite_file(&self) -> Option<&Path> {
        match &self.place {
            Place::Sqlite { path, .. } => Some(path),
            Place::Postgres(_) | Place::MySql(_) | Place::Redis(_) => None,
        }
    }

    /// Whether a password is in it.
    pub fn has_password(&self) -> bool {
        let has_some = |password: Option<&str>| password.is_some_and(|text| !text.is_empty());
        match &self.place {
            Place::Sqlite { .. } => false,
            Place::Postgres(url) | Place::MySql(url) => has_some(url.password()),
            Place::Redis(RedisPlace { nodes, password, .. }) => {
                let of_sentinel = match nodes {
                    RedisNodes::Sentinel { password, .. } => password.as_deref(),
                    RedisNodes::One(..) | RedisNodes::Unix(_) | RedisNodes::Cluster(_) => None,
                };
                has_some(password.as_deref()) || has_some(of_sentinel)
            }
        }
    }

    /// The URL without user, password and parameters.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<StoreUrl, StoreUrlError> {
        StoreUrl::parse(text)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreUrl").field(&self.label).finish()
    }
}

/// A store's URL is wrong; the text says how and holds no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrlError(String);

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreUrlError {}

fn sqlite(rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = decode(path)?;
    if path.is_empty() || path == ":memory:" {
        return Err(wrong("sqlite: needs a file, as in sqlite:///var/lib/sterna/users.db"));
    }
    let (mut schema, mut create) = (None, false);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value) {
            ("schema", value) => schema = Some(schema_kind(value)?),
            ("mode", "rwc") => create = true,
            ("mode", "rw") => create = false,
            ("mode", value) => return Err(wrong(format!("mode={value}: there are rw and rwc"))),
            (key, _) => return Err(no_parameter("sqlite", key)),
        }
    }
    let label = format!("sqlite://{path}");
    Ok(StoreUrl { place: Place::Sqlite { path: path.into(), create }, schema, label })
}

fn database(
    scheme: &str,
    port: u16,
    rest: &str,
    parameters: &[&str],
    place: fn(&Url) -> Result<Place, sqlx::Error>,
) -> Result<StoreUrl, StoreUrlError> {
    let url = Url::parse(&format!("{scheme}:{rest}"))
        .map_err(|error| wrong(format!("{scheme}: is not a URL: {error}")))?;
    if !rest.starts_with("//") || !url.has_host() {
        let example = "user:password@host/database";
        return Err(wrong(format!("{scheme}: needs a host, as in {scheme}://{example}")));
    }
    if url.path().trim_start_matches('/').is_empty() {
        return Err(wrong(format!("{scheme}: names no database; it is the path of the URL")));
    }
    if url.path().contains('@') {
        let spelled = "a slash in a password is written %2F, an @ in a database's name %40";
        return Err(wrong(format!("{scheme}: has an @ in its path; {spelled}")));
    }
    let mut url = url;
    let (mut schema, mut others) = (None, Vec::new());
    for (key, value) in url.query_pairs() {
        match &*key {
            "schema" => schema = Some(schema_kind(&value)?),
            // The clients pass over what they do not know: a mistyped sslmode would be none.
            key if !parameters.contains(&key) => {
                return Err(no_parameter(scheme, key));
            }
            key => others.push((key.to_owned(), value.into_owned())),
        }
    }
    url.set_query(None);
    if !others.is_empty() {
        url.query_pairs_mut().extend_pairs(others);
    }
    let host = decode(url.host_str().unwrap_or(""))?;
    let database = decode(url.path())?;
    let label = format!("{scheme}://{host}:{}{database}", url.port().unwrap_or(port));
    let place = place(&url).map_err(|error| match error {
        sqlx::Error::Configuration(error) => wrong(format!("{scheme}: {error}")),
        error => wrong(format!("{scheme}: {error}")),
    })?;
    Ok(StoreUrl { place, schema, label })
}

fn redis(scheme: &str, rest: &str) -> Result<StoreUrl, StoreUrlError> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(wrong(format!("{scheme}: needs a host, as in {scheme}://host")));
    };
    // A password may hold a slash or a question mark that nobody has encoded, a host never an @.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parameters = RedisParameters::read(query)?;
    let schema = parameters.schema;
    let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((name, password)) => (given(name)?, given(password)?),
        None => (None, None),
    };
    if scheme == "redis+unix" {
        let path = PathBuf::from(decode(rest)?);
        let label = format!("redis+unix://{}", path.display());
        let database = parameters.database.unwrap_or(0);
        let nodes = RedisNodes::Unix(path);
        let place = RedisPlace { nodes, tls: false, username, password, database };
        return Ok(StoreUrl { place: Place::Redis(place), schema, label });
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let database = match path.trim_matches('/') {
        "" => parameters.database.unwrap_or(0),
        path => path.parse().map_err(|_| {
            wrong(format!("{scheme}: its path is no database, which is a number, as in /0"))
        })?,
    };
    let kind = scheme.split_once('+').map_or("", |(_, kind)| kind);
    let port = if kind == "sentinel" { 26379 } else { 6379 };
    let hosts = hosts(scheme, authority, port)?;
    let label = format!("{scheme}://{authority}/{database}");
    let nodes = match (kind, parameters.master) {
        ("sentinel", Some(master)) => RedisNodes::Sentinel {
            hosts,
            master,
            username: parameters.sentinel_username,
            password: parameters.sentinel_password,
        },
        ("sentinel", None) => {
            return Err(wrong(format!("{scheme}: needs ?master=NAME, as the Sentinels name it")));
        }
        ("cluster", _) if database != 0 => {
            return Err(wrong(format!("{scheme}: a cluster has no database but 0")));
        }
        ("cluster", _) => RedisNodes::Cluster(hosts),
        _ => match <[(String, u16); 1]>::try_from(hosts) {
            Ok([(host, port)]) => RedisNodes::One(host, port),
            Err(_) => {
                let several = "several hosts are redis+sentinel: or redis+cluster:";
                return Err(wrong(format!("{scheme}: names one host; {several}")));
            }
        },
    };
    let tls = scheme.starts_with("rediss");
    let place = RedisPlace { nodes, tls, username, password, database };
    Ok(StoreUrl { place: Place::Redis(place), schema, label })
}

#[derive(Default)]
struct RedisParameters {
    schema: Option<SchemaKind>,
    database: Option<i64>,
    master: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password: Option<String>,
}

impl RedisParameters {
    fn read(query: &str) -> Result<RedisParameters, StoreUrlError> {
        let mut parameters = RedisParameters::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*key {
                "db" => {
                    let number = value.parse().map_err(|_| wrong("db: is not a number"))?;
                    parameters.database = Some(number);
                }
                "master" if !value.is_empty() => parameters.master = Some(value),
                "sentinel_username" => parameters.sentinel_username = Some(value),
                "sentinel_password" => parameters.sentinel_password = Some(value),
                "schema" => parameters.schema = Some(schema_kind(&value)?),
                key => return Err(no_parameter("redis", key)),
            }
        }
        Ok(parameters)
    }
}

fn hosts(scheme: &str, authority: &str, port: u16) -> Result<Vec<(String, u16)>, StoreUrlError> {
    let host = |text: &str| {
        // What is no host may be a password that lacks its @ and host.
        let bad = || wrong(format!("{scheme}: what is behind // or @ is no host"));
        let url = Url::parse(&format!("http://{text}")).map_err(|_| bad())?;
        // The brackets belong to the spelling of an IPv6 address in a URL, not to the address.
        let name = url.host_str().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        // http:// has a default port of its own, which the URL then does not tell.
        let given = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let ipv6 = text.ends_with(']');
        Ok((name, given.filter(|_| !ipv6).unwrap_or(port)))
    };
    authority.split(',').map(host).collect()
}

fn given(part: &str) -> Result<Option<String>, StoreUrlError> {
    Ok(Some(decode(part)?).filter(|part| !part.is_empty()))
}

fn decode(text: &str) -> Result<String, StoreUrlError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| wrong("it is not UTF-8 when decoded"))
}

fn schema_kind(name: &str) -> Result<SchemaKind, StoreUrlError> {
    match name {
        "sterna" => Ok(SchemaKind::Sterna),
        "coturn" => Ok(SchemaKind::Coturn),
        _ => Err(wrong(format!("schema={name}: there are sterna and coturn"))),
    }
}

/// The name of a parameter is repeated if it is like one: it may be the end of a password.
fn no_parameter(scheme: &str, name: &str) -> StoreUrlError {
    match name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'-')) {
        true => wrong(format!("{scheme}: has no parameter {name}")),
        false => wrong(format!("{scheme}: has parameters that are none; a ? is written %3F")),
    }
}

fn wrong(text: impl Into<String>) -> StoreUrlError {
    StoreUrlError(text.into())
}

const POSTGRES_PARAMETERS: [&str; 12] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "application_name",
    "statement-cache-capacity",
];
const MYSQL_PARAMETERS: [&str; 9] = [
    "sslmode", "ssl-mode", "sslca", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key", "socket",
];

#[cfg(test)]
mod tests;
