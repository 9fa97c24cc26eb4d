//! One connection to a SQL database, whichever it is, with rows and values that are the same for
//! all.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ColumnIndex, ConnectOptions, Decode, Type};
use sterna_actors::credential_store::StoreError;
use tokio::time::{sleep, timeout};

use crate::url::Place;
use crate::{CONNECT_TIMEOUT, OpenError};

/// What a statement is given for one of its question marks.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Some(text))
    }
}

/// A statement with its values. Its text never holds any of them.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(sql: impl Into<String>, values: Vec<Value>) -> Statement {
        Statement { sql: sql.into(), values }
    }
}

/// A row of an answer.
pub(crate) struct Row(Vec<Cell>);

enum Cell {
    Null,
    Int(i64),
    Text(String),
    /// What is neither, nor text that can be shown.
    Other,
}

impl Row {
    /// Whether there is nothing in a column.
    pub(crate) fn is_null(&self, column: usize) -> bool {
        matches!(self.0.get(column), Some(Cell::Null) | None)
    }

    /// The text in a column; `None` for NULL and for a number.
    pub(crate) fn text(&self, column: usize) -> Option<&str> {
        match self.0.get(column) {
            Some(Cell::Text(text)) => Some(text),
            Some(Cell::Null | Cell::Int(_) | Cell::Other) | None => None,
        }
    }

    /// The number in a column, also where the column is of text.
    pub(crate) fn int(&self, column: usize) -> Option<i64> {
        match self.0.get(column)? {
            Cell::Null | Cell::Other => None,
            Cell::Int(number) => Some(*number),
            Cell::Text(text) => text.trim().parse().ok(),
        }
    }
}

pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

macro_rules! with_each {
    ($connection:expr, $open:ident => $body:expr) => {
        match $connection {
            Connection::Sqlite($open) => $body,
            Connection::Postgres($open) => $body,
            Connection::MySql($open) => $body,
        }
    };
}

macro_rules! prepared {
    ($text:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($text));
        for value in $values {
            query = match value.clone() {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
            };
        }
        query
    }};
}

impl Connection {
    /// Connect. An SQLite database is opened to be read alone if `read_only`.
    pub(crate) async fn open(place: &Place, read_only: bool) -> Result<Connection, OpenError> {
        match timeout(CONNECT_TIMEOUT, connect(place, read_only)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => {
                let text = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                Err(OpenError::Unreachable(StoreError::Lost(text)))
            }
        }
    }

    /// Ask for rows.
    pub(crate) async fn rows(&mut self, statement: &Statement) -> Result<Vec<Row>, sqlx::Error> {
        let text = self.spelled(&statement.sql);
        with_each!(self, open => {
            let rows = prepared!(text, &statement.values).fetch_all(open).await?;
            Ok(rows.iter().map(row).collect())
        })
    }

    /// Change rows; the answer is how many.
    pub(crate) async fn change(&mut self, statement: &Statement) -> Result<u64, sqlx::Error> {
        let text = self.spelled(&statement.sql);
        with_each!(self, open => {
            Ok(prepared!(text, &statement.values).execute(open).await?.rows_affected())
        })
    }

    /// Run a statement that cannot be prepared, such as the bounds of a transaction.
    pub(crate) async fn run(&mut self, text: &str) -> Result<(), sqlx::Error> {
        with_each!(self, open => {
            sqlx::raw_sql(AssertSqlSafe(text)).execute(open).await.map(|_| ())
        })
    }

    /// Begin a transaction that writes.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.run(match self {
            // It waits for its turn here, and not in the middle, where SQLite would refuse.
            Connection::Sqlite(_) => "BEGIN IMMEDIATE",
            Connection::Postgres(_) | Connection::MySql(_) => "BEGIN",
        })
        .await
    }

    /// PostgreSQL numbers its question marks.
    fn spelled(&self, text: &str) -> String {
        match self {
            Connection::Sqlite(_) | Connection::MySql(_) => text.to_owned(),
            Connection::Postgres(_) => numbered(text),
        }
    }
}

/// Whether an error says that the connection, or the server, is gone.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut => true,
        // A server that is stopping or starting says so.
        sqlx::Error::Database(error) => {
            let code = error.code();
            code.is_some_and(|code| ["57P01", "57P02", "57P03"].contains(&&*code))
                || mysql_number(&**error).is_some_and(|number| [1053, 1927].contains(&number))
        }
        _ => false,
    }
}

/// Whether an error says that the database may be back in a while: it is gone, full or busy.
pub(crate) fn is_away(error: &sqlx::Error) -> bool {
    let full = match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("53"))
                || mysql_number(&**error).is_some_and(|number| [1040, 1203].contains(&number))
        }
        _ => false,
    };
    is_lost(error) || full || is_busy(error)
}

/// Whether another process holds an SQLite database.
fn is_busy(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    let is_sqlite = error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some();
    is_sqlite && error.code().is_some_and(|code| is_busy_code(&code))
}

/// The low byte of an SQLite error is what it is, the rest says more of it: 5 is SQLITE_BUSY, 6
/// SQLITE_LOCKED.
fn is_busy_code(code: &str) -> bool {
    code.parse().is_ok_and(|code: u32| matches!(code & 0xff, 5 | 6))
}

fn refused(error: &sqlx::Error) -> OpenError {
    match is_away(error) {
        true => OpenError::Unreachable(fault(error)),
        false => OpenError::Unfit(fault(error).to_string()),
    }
}

/// The error as it is logged: none of these texts holds the URL.
pub(crate) fn fault(error: &sqlx::Error) -> StoreError {
    let text = match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        error => error.to_string(),
    };
    if is_lost(error) { StoreError::Lost(text) } else { StoreError::Answered(text) }
}

/// SQLite's own database file, readable for its owner alone from its first moment. What SQLite puts
/// beside it gets the same mode.
pub(crate) fn make_file(path: &Path) -> Result<(), OpenError> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(OpenError::Unfit(format!("cannot be made: {error}"))),
    }
}

/// Refuse a database of keys that everybody on this machine can read.
pub(crate) fn check_mode(path: &Path) -> Result<(), OpenError> {
    let mode = fs::metadata(path).map(|data| data.permissions().mode()).unwrap_or(0);
    if mode & 0o007 == 0 {
        return Ok(());
    }
    let why = "others can read the keys in it";
    Err(OpenError::Unfit(format!("mode {:o}: {why}; chmod 600 it", mode & 0o777)))
}

async fn connect(place: &Place, read_only: bool) -> Result<Connection, sqlx::Error> {
    match place {
        Place::Sqlite { path, .. } => {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .busy_timeout(BUSY_TIMEOUT)
                .read_only(read_only)
                .disable_statement_logging();
            let options = match read_only {
                true => options,
                // With WAL a writer does not stop readers; a commit that a power failure takes
                // back leaves the database whole.
                false => options
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Normal),
            };
            // SQLite does not wait for its turn to switch to WAL.
            let mut tries = 0;
            loop {
                match options.connect().await {
                    Err(error) if !read_only && tries < WAL_TRIES && is_busy(&error) => tries += 1,
                    opened => return opened.map(Connection::Sqlite),
                }
                sleep(WAL_PAUSE).await;
            }
        }
        Place::Postgres(url) => {
            let options = PgConnectOptions::from_url(url)?.disable_statement_logging();
            options.connect().await.map(Connection::Postgres)
        }
        Place::MySql(url) => {
            let options = MySqlConnectOptions::from_url(url)?.disable_statement_logging();
            options.connect().await.map(Connection::MySql)
        }
        Place::Redis(_) => Err(sqlx::Error::Configuration("Redis speaks no SQL".into())),
    }
}

fn mysql_number(error: &dyn sqlx::error::DatabaseError) -> Option<u16> {
    error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(|error| error.number())
}

fn numbered(text: &str) -> String {
    let mut number = 0;
    let mut spelled = String::with_capacity(text.len() + 8);
    for part in text.split_inclusive('?') {
        match part.strip_suffix('?') {
            Some(part) => {
                number += 1;
                spelled.push_str(part);
                spelled.push_str(&format!("${number}"));
            }
            None => spelled.push_str(part),
        }
    }
    spelled
}

fn row<R>(row: &R) -> Row
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i32>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
{
    Row((0..row.len()).map(|column| cell(row, column)).collect())
}

/// The cell as text or as a number, whichever fits its type: coturn's columns are of different
/// types in different databases, and some people's of others still. What is neither spoils its own
/// row and no other.
fn cell<R>(row: &R, column: usize) -> Cell
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i32>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
{
    if let Ok(text) = row.try_get::<Option<String>, _>(column) {
        return text.map_or(Cell::Null, Cell::Text);
    }
    if let Ok(number) = row.try_get::<Option<i64>, _>(column) {
        return number.map_or(Cell::Null, Cell::Int);
    }
    if let Ok(number) = row.try_get::<Option<i32>, _>(column) {
        return number.map_or(Cell::Null, |number| Cell::Int(number.into()));
    }
    match row.try_get::<Option<Vec<u8>>, _>(column) {
        Ok(None) => Cell::Null,
        Ok(Some(bytes)) => String::from_utf8(bytes).map_or(Cell::Other, Cell::Text),
        Err(_) => Cell::Other,
    }
}

/// How long SQLite waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often a connection tries again to switch to WAL while another process holds the database.
const WAL_TRIES: u32 = 5;
const WAL_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_sqlite_database_is_told_from_a_wrong_one() {
        for (code, busy) in [("5", true), ("517", true), ("262", true), ("1", false), ("", false)] {
            assert_eq!(busy, is_busy_code(code), "{code}");
        }
    }

    #[test]
    fn postgresql_numbers_the_question_marks() {
        assert_eq!("a = $1 AND b = $2", numbered("a = ? AND b = ?"));
        assert_eq!("a", numbered("a"));
    }
}
