//! A connection to Redis: to one server, to the master that Sentinels name, or to a cluster.

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsMode, Value, cmd,
};
use sterna_actors::credential_store::StoreError;
use tokio::time::timeout;

use crate::url::{RedisNodes, RedisPlace};
use crate::{CONNECT_TIMEOUT, OpenError, QUERY_TIMEOUT};

pub(super) enum Connector {
    One(Client),
    Sentinel(RedisPlace),
    Cluster(Box<ClusterClient>),
}

pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connector {
    pub(super) fn new(place: &RedisPlace) -> Result<Connector, OpenError> {
        let connector = match &place.nodes {
            RedisNodes::One(host, port) => one(place, address(host, *port, place.tls)),
            RedisNodes::Unix(path) => one(place, ConnectionAddr::Unix(path.clone())),
            RedisNodes::Sentinel { .. } => Ok(Connector::Sentinel(place.clone())),
            RedisNodes::Cluster(hosts) => cluster(place, hosts),
        };
        connector.map_err(|error| OpenError::Unfit(fault(&error).to_string()))
    }

    pub(super) async fn open(&self) -> Result<Connection, OpenError> {
        // Sentinels are asked before the server is.
        let limit = match self {
            Connector::One(_) => CONNECT_TIMEOUT,
            Connector::Sentinel(_) | Connector::Cluster(_) => CONNECT_TIMEOUT * 2,
        };
        match timeout(limit, self.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => {
                let text = format!("no connection within {} s", limit.as_secs());
                Err(OpenError::Unreachable(StoreError::Lost(text)))
            }
        }
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(QUERY_TIMEOUT));
        match self {
            Connector::One(client) => {
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await.map(Connection::One)
            }
            // Asked anew for each connection: the master may be another by then.
            Connector::Sentinel(place) => {
                let mut client = sentinel(place)?.build()?;
                let connection = client.get_async_connection_with_config(&config);
                connection.await.map(Connection::One)
            }
            Connector::Cluster(client) => {
                client.get_async_connection().await.map(Connection::Cluster)
            }
        }
    }
}

impl Connection {
    /// Give several commands, each with keys of its own, and get as many answers.
    pub(super) async fn ask(&mut self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        match self {
            Connection::One(connection) => {
                // The error of a command alone reads better than that of a pipeline of one.
                if let [command] = commands {
                    return Ok(vec![command.query_async(connection).await?]);
                }
                let mut pipeline = redis::pipe();
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                pipeline.query_async(connection).await
            }
            Connection::Cluster(connection) => {
                let ask = |command: &Cmd| {
                    let (mut connection, command) = (connection.clone(), command.clone());
                    async move { command.query_async::<Value>(&mut connection).await }
                };
                try_join_all(commands.iter().map(ask)).await
            }
        }
    }

    /// The keys that match a pattern. One server is walked in small steps, between which it serves
    /// others; the nodes of a cluster are asked for all at once.
    pub(super) async fn matching(&mut self, pattern: &str) -> RedisResult<Vec<String>> {
        let connection = match self {
            Connection::One(connection) => connection,
            Connection::Cluster(connection) => {
                return cmd("KEYS").arg(pattern).query_async(connection).await;
            }
        };
        let (mut found, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
            let (next, keys): (u64, Vec<String>) = scan.query_async(connection).await?;
            found.extend(keys);
            cursor = next;
            if cursor == 0 {
                found.sort();
                found.dedup();
                return Ok(found);
            }
        }
    }
}

/// Whether an error says that the connection, or the server, is gone, or is not the master.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || is_away(error.kind())
}

/// Whether the account may not do that, or not with that key.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

pub(super) fn refused(error: &RedisError) -> OpenError {
    let absent = matches!(
        error.kind(),
        ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::EmptySentinelList
            | ErrorKind::ClusterConnectionNotFound
    );
    match error.is_io_error() || is_away(error.kind()) || absent {
        true => OpenError::Unreachable(fault(error)),
        false => OpenError::Unfit(fault(error).to_string()),
    }
}

pub(super) fn fault(error: &RedisError) -> StoreError {
    match is_lost(error) {
        true => StoreError::Lost(error.to_string()),
        false => StoreError::Answered(error.to_string()),
    }
}

fn is_away(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
        )
    )
}

fn one(place: &RedisPlace, address: ConnectionAddr) -> RedisResult<Connector> {
    let info = address.into_connection_info()?.set_redis_settings(settings(place));
    Client::open(info).map(Connector::One)
}

fn cluster(place: &RedisPlace, hosts: &[(String, u16)]) -> RedisResult<Connector> {
    let settings = settings(place);
    let node = |(host, port): &(String, u16)| {
        let info = address(host, *port, place.tls).into_connection_info()?;
        Ok(info.set_redis_settings(settings.clone()))
    };
    let nodes = hosts.iter().map(node).collect::<RedisResult<Vec<_>>>()?;
    let client = ClusterClient::builder(nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(QUERY_TIMEOUT)
        .retries(CLUSTER_RETRIES);
    client.build().map(|client| Connector::Cluster(Box::new(client)))
}

fn sentinel(place: &RedisPlace) -> RedisResult<SentinelClientBuilder> {
    let RedisNodes::Sentinel { hosts, master, username, password } = &place.nodes else {
        return Err((ErrorKind::InvalidClientConfig, "not a place with Sentinels").into());
    };
    let addresses = hosts.iter().map(|(host, port)| address(host, *port, place.tls));
    let mut client = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(place.database);
    if place.tls {
        client = client
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(name) = &place.username {
        client = client.set_client_to_redis_username(name);
    }
    if let Some(text) = &place.password {
        client = client.set_client_to_redis_password(text);
    }
    if let Some(name) = username {
        client = client.set_client_to_sentinel_username(name);
    }
    if let Some(text) = password {
        client = client.set_client_to_sentinel_password(text);
    }
    Ok(client)
}

fn settings(place: &RedisPlace) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_db(place.database);
    if let Some(name) = &place.username {
        settings = settings.set_username(name);
    }
    if let Some(text) = &place.password {
        settings = settings.set_password(text);
    }
    settings
}

fn address(host: &str, port: u16, tls: bool) -> ConnectionAddr {
    let host = host.to_owned();
    match tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    }
}

/// Keys that Redis looks at in one step of a walk.
const STEP: u32 = 1000;
/// How often a command may be sent to another node of a cluster than the first.
const CLUSTER_RETRIES: u32 = 3;
