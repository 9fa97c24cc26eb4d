//! Sterna's tables: how they are made and migrated, and how they are told from coturn's.

use sterna_actors::credential_store::StoreError;

use super::connection::{Connection, Statement, Value, fault};
use crate::OpenError;
use crate::url::SchemaKind;

/// Sterna's tables, one list of statements for each version of the schema. A version that has been
/// released is never changed: another follows it.
///
/// Text is compared byte by byte. MySQL takes "Ann" and "ann " for "ann" and has no collation that
/// does not, in all its versions; there the columns are VARBINARY, which is why all lengths are in
/// bytes: those of RFC 8489. `user_hash` is USERHASH and finds users who hide their names. Peers of
/// a realm as a whole have an empty name.
const MIGRATIONS: [&[&str]; 1] = [&[
    "CREATE TABLE IF NOT EXISTS sterna_users (
        realm VARCHAR(763) NOT NULL,
        name VARCHAR(508) NOT NULL,
        user_hash VARCHAR(64) NOT NULL,
        md5_key VARCHAR(32),
        sha256_key VARCHAR(64),
        allocations BIGINT,
        bandwidth BIGINT,
        bandwidth_per_allocation BIGINT,
        expires BIGINT,
        PRIMARY KEY (realm, name),
        UNIQUE (user_hash)
    )",
    "CREATE TABLE IF NOT EXISTS sterna_secrets (
        realm VARCHAR(763) NOT NULL,
        secret VARCHAR(1024) NOT NULL,
        added BIGINT NOT NULL,
        PRIMARY KEY (realm, secret)
    )",
    "CREATE TABLE IF NOT EXISTS sterna_realms (
        realm VARCHAR(763) NOT NULL PRIMARY KEY,
        allocations BIGINT,
        allocations_per_user BIGINT,
        allocations_per_source BIGINT,
        bandwidth BIGINT,
        bandwidth_per_user BIGINT,
        bandwidth_per_allocation BIGINT
    )",
    "CREATE TABLE IF NOT EXISTS sterna_origins (
        origin VARCHAR(267) NOT NULL PRIMARY KEY,
        realm VARCHAR(763) NOT NULL
    )",
    "CREATE TABLE IF NOT EXISTS sterna_peers (
        realm VARCHAR(763) NOT NULL,
        name VARCHAR(508) NOT NULL,
        verdict VARCHAR(5) NOT NULL,
        network VARCHAR(64) NOT NULL,
        PRIMARY KEY (realm, name, verdict, network)
    )",
    "CREATE TABLE IF NOT EXISTS sterna_token_keys (
        kid VARCHAR(512) NOT NULL PRIMARY KEY,
        key_hex VARCHAR(64) NOT NULL,
        realm VARCHAR(763),
        valid_from BIGINT,
        valid_until BIGINT
    )",
]];

/// A look at each of Sterna's tables that costs nothing and fails if one is not as it should be.
const STERNA_TABLES: [(&str, &str); 6] = [
    (
        "sterna_users",
        "realm, name, user_hash, md5_key, sha256_key, allocations, bandwidth, \
         bandwidth_per_allocation, expires",
    ),
    ("sterna_secrets", "realm, secret, added"),
    (
        "sterna_realms",
        "realm, allocations, allocations_per_user, allocations_per_source, bandwidth, \
         bandwidth_per_user, bandwidth_per_allocation",
    ),
    ("sterna_origins", "origin, realm"),
    ("sterna_peers", "realm, name, verdict, network"),
    ("sterna_token_keys", "kid, key_hex, realm, valid_from, valid_until"),
];

const COTURN_TABLES: [(&str, &str); 7] = [
    ("turnusers_lt", "realm, name, hmackey"),
    ("turn_secret", "realm, value"),
    ("allowed_peer_ip", "realm, ip_range"),
    ("denied_peer_ip", "realm, ip_range"),
    ("turn_origin_to_realm", "origin, realm"),
    ("turn_realm_option", "realm, opt, value"),
    ("oauth_key", "kid, ikm_key, timestamp, lifetime, as_rs_alg, realm"),
];

/// Whose tables these are. Tables of nobody's are Sterna's to make.
pub(crate) async fn detect(
    connection: &mut Connection,
    forced: Option<SchemaKind>,
) -> Result<SchemaKind, OpenError> {
    if let Some(forced) = forced {
        return Ok(forced);
    }
    let sterna = has_table(connection, "sterna_schema").await?;
    match !sterna && has_table(connection, "turnusers_lt").await? {
        true => Ok(SchemaKind::Coturn),
        false => Ok(SchemaKind::Sterna),
    }
}

/// Fail with the name of the table that is missing or lacks a column.
pub(crate) async fn check(connection: &mut Connection, kind: SchemaKind) -> Result<(), OpenError> {
    let (tables, cure) = match kind {
        SchemaKind::Sterna => (&STERNA_TABLES[..], "restore it from a copy"),
        SchemaKind::Coturn => (&COTURN_TABLES[..], "load coturn's schema.sql into the database"),
    };
    for (table, columns) in tables {
        if !has_table(connection, table).await? {
            return Err(OpenError::Unfit(format!("has no table {table}; {cure}")));
        }
        let look = format!("SELECT {columns} FROM {table} WHERE 1 = 0");
        if let Err(error) = connection.rows(&Statement::new(look, Vec::new())).await {
            return Err(unfit(&format!("table {table}"), &error));
        }
    }
    Ok(())
}

/// Make Sterna's tables, or bring them up to date. Of several processes that start at once one
/// does it and the others wait. Who may not make tables can use those that there are.
pub(crate) async fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    if has_table(connection, "sterna_schema").await? && version(connection).await? == LATEST {
        return Ok(());
    }
    lock(connection).await?;
    let done = apply(connection).await;
    let end = match (&done, &connection) {
        (_, Connection::MySql(_)) => "DO RELEASE_LOCK('sterna_schema')",
        (Ok(()), _) => "COMMIT",
        (Err(_), _) => "ROLLBACK",
    };
    let ended = connection.run(end).await.map_err(|error| unfit("schema", &error));
    done.and(ended)
}

async fn apply(connection: &mut Connection) -> Result<(), OpenError> {
    let failed = |error| unfit("cannot make its tables", &error);
    let versions = "CREATE TABLE IF NOT EXISTS sterna_schema (version BIGINT NOT NULL PRIMARY KEY)";
    if !has_table(connection, "sterna_schema").await? {
        connection.run(versions).await.map_err(failed)?;
    }
    let present = version(connection).await?;
    for (number, statements) in (1_i64..).zip(MIGRATIONS).filter(|(n, _)| *n > present) {
        for statement in statements {
            let statement = match connection {
                Connection::MySql(_) => statement.replace("VARCHAR", "VARBINARY"),
                Connection::Sqlite(_) | Connection::Postgres(_) => (*statement).to_owned(),
            };
            connection.run(&statement).await.map_err(failed)?;
        }
        let insert = "INSERT INTO sterna_schema (version) VALUES (?)";
        let insert = Statement::new(insert, vec![Value::Int(Some(number))]);
        connection.change(&insert).await.map_err(failed)?;
    }
    Ok(())
}

async fn lock(connection: &mut Connection) -> Result<(), OpenError> {
    let locked = match connection {
        Connection::Sqlite(_) => connection.begin().await,
        Connection::Postgres(_) => {
            let begun = connection.begin().await;
            begun.map_err(|error| unfit("schema", &error))?;
            // The number is anybody's; it only has to be the same in every sterna.
            connection.run("SELECT pg_advisory_xact_lock(3478534900)").await
        }
        // Its CREATE TABLE ends a transaction, so that a lock has to stand outside of it.
        Connection::MySql(_) => {
            let ask = Statement::new("SELECT GET_LOCK('sterna_schema', 2)", Vec::new());
            let answer = connection.rows(&ask).await;
            let answer = answer.map_err(|error| unfit("schema", &error))?;
            if answer.first().and_then(|row| row.int(0)) != Some(1) {
                let why = "another process makes its tables, and is not done";
                return Err(OpenError::Unreachable(StoreError::Lost(why.into())));
            }
            Ok(())
        }
    };
    locked.map_err(|error| unfit("schema", &error))
}

async fn version(connection: &mut Connection) -> Result<i64, OpenError> {
    let text = "SELECT MAX(version) FROM sterna_schema";
    let rows = connection.rows(&Statement::new(text, Vec::new())).await;
    let rows = rows.map_err(|error| unfit("table sterna_schema", &error))?;
    let version = rows.first().and_then(|row| row.int(0)).unwrap_or(0);
    if version > LATEST {
        let known = format!("this sterna knows versions up to {LATEST}");
        return Err(OpenError::Unfit(format!("has schema version {version}, and {known}")));
    }
    Ok(version)
}

async fn has_table(connection: &mut Connection, table: &str) -> Result<bool, OpenError> {
    let text = match connection {
        Connection::Sqlite(_) => "SELECT name FROM sqlite_master WHERE name = ?",
        // As the search path finds it, whichever schema of PostgreSQL's it is in.
        Connection::Postgres(_) => "SELECT to_regclass(?)::text",
        Connection::MySql(_) => {
            "SELECT table_name FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?"
        }
    };
    let rows = connection.rows(&Statement::new(text, vec![table.into()])).await;
    let rows = rows.map_err(|error| unfit("cannot be read", &error))?;
    Ok(rows.first().is_some_and(|row| row.text(0).is_some()))
}

fn unfit(what: &str, error: &sqlx::Error) -> OpenError {
    let why = fault(error);
    match super::connection::is_away(error) {
        true => OpenError::Unreachable(why),
        false => OpenError::Unfit(format!("{what}: {why}")),
    }
}

const LATEST: i64 = MIGRATIONS.len() as i64;
