//! Stores in SQL databases: SQLite, PostgreSQL, MySQL and MariaDB, with tables of Sterna's or of
//! coturn's.

pub(crate) mod admin;
mod connection;
pub(crate) mod coturn;
mod coturn_admin;
pub(crate) mod own;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sterna_actors::credential_store::{
    CredentialStore, StoreError, StoredRealm, StoredUser, UserLookup,
};
use sterna_actors::policy::TokenKey;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use self::connection::{Connection, Row, Statement, fault, is_lost};
use crate::pool::Pool;
use crate::unreadable::Unreadable;
use crate::url::{Place, SchemaKind, StoreUrl};
use crate::{CONNECT_TIMEOUT, OpenError, OpenOptions, QUERY_TIMEOUT};

pub(crate) async fn open(
    url: &StoreUrl,
    options: OpenOptions,
) -> Result<Arc<dyn CredentialStore>, OpenError> {
    let database = Database::new(url.clone(), QUERY_TIMEOUT);
    match database.kind().await {
        Err(OpenError::Unreachable(_)) if !options.must_answer => {}
        Err(error) => return Err(error),
        Ok(_) => {
            if let Err(why) = database.realms(&options.realms).await {
                // Rows that cannot be read are there to stay, a database that is gone may be back.
                return match look(url).await {
                    Err(error @ OpenError::Unreachable(_)) if options.must_answer => Err(error),
                    Err(OpenError::Unreachable(_)) => {
                        Ok(Arc::new(SqlStore::new(database, options)))
                    }
                    Err(OpenError::Unfit(_)) | Ok(_) => {
                        Err(OpenError::Unfit(why.text().to_owned()))
                    }
                };
            }
        }
    }
    Ok(Arc::new(SqlStore::new(database, options)))
}

struct SqlStore {
    database: Database,
    unreadable: Unreadable,
    realms: Vec<Arc<str>>,
}

impl SqlStore {
    fn new(database: Database, options: OpenOptions) -> SqlStore {
        let unreadable = Unreadable::new(options.log, database.url.label());
        SqlStore { database, realms: options.realms, unreadable }
    }
}

impl CredentialStore for SqlStore {
    fn label(&self) -> &str {
        self.database.url.label()
    }

    /// While it is not known whose tables these are, what users of either have.
    fn password_algorithms(&self) -> &[PasswordAlgorithm] {
        match self.database.kind.get() {
            Some(SchemaKind::Sterna) => &[PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256],
            Some(SchemaKind::Coturn) | None => &[PasswordAlgorithm::Md5],
        }
    }

    fn finds_hashed(&self) -> bool {
        self.database.kind.get() == Some(&SchemaKind::Sterna)
    }

    fn can_revalidate(&self) -> bool {
        true
    }

    fn user(&self, wanted: UserLookup) -> BoxFuture<'_, Result<Option<StoredUser>, StoreError>> {
        Box::pin(async move {
            if matches!(&wanted.user, ClaimedUser::Named(name) if !can_be_asked(name)) {
                return Ok(None);
            }
            let found = match self.database.kind().await? {
                SchemaKind::Sterna => own::user(&self.database, &wanted).await?,
                SchemaKind::Coturn => coturn::user(&self.database, &wanted).await?,
            };
            Ok(found.and_then(|user| self.unreadable.or_none(user)))
        })
    }

    fn users(
        &self,
        realm: Arc<str>,
        names: Vec<Arc<str>>,
    ) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>> {
        Box::pin(async move {
            let names: Vec<_> = names.into_iter().filter(|name| can_be_asked(name)).collect();
            let mut users = Vec::with_capacity(names.len());
            for names in names.chunks(NAMES_AT_ONCE) {
                let found = match self.database.kind().await? {
                    SchemaKind::Sterna => own::users(&self.database, &realm, names).await?,
                    SchemaKind::Coturn => coturn::users(&self.database, &realm, names).await?,
                };
                users.extend(found.into_iter().filter_map(|user| self.unreadable.or_none(user)));
            }
            Ok(users)
        })
    }

    fn rest_secrets(&self, realm: Arc<str>) -> BoxFuture<'_, Result<Vec<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            let text = match self.database.kind().await? {
                SchemaKind::Sterna => own::SECRETS,
                SchemaKind::Coturn => coturn::SECRETS,
            };
            let statement = Statement::new(text, vec![(&*realm).into()]);
            let rows = self.database.rows(&statement).await?;
            if rows.len() > SECRETS_MAX {
                let text = format!("realm {realm} has more than {SECRETS_MAX} secrets");
                return Err(StoreError::Answered(text));
            }
            let secrets = rows.iter().filter(|row| is_exactly(row.text(0), &realm));
            let secrets = secrets.filter_map(|row| row.text(1)).filter(|text| !text.is_empty());
            Ok(secrets.map(|secret| secret.as_bytes().to_vec()).collect())
        })
    }

    fn token_key(&self, kid: String) -> BoxFuture<'_, Result<Option<TokenKey>, StoreError>> {
        Box::pin(async move {
            if !can_be_asked(&kid) {
                return Ok(None);
            }
            let found = match self.database.kind().await? {
                SchemaKind::Sterna => own::token_key(&self.database, &kid).await?,
                SchemaKind::Coturn => coturn::token_key(&self.database, &kid).await?,
            };
            Ok(found.and_then(|key| self.unreadable.or_none(key)))
        })
    }

    fn realms(&self) -> BoxFuture<'_, Result<Vec<StoredRealm>, StoreError>> {
        Box::pin(self.database.realms(&self.realms))
    }
}

/// A database, looked at when it first answers.
pub(crate) struct Database {
    url: StoreUrl,
    kind: OnceCell<SchemaKind>,
    pool: Pool<Connection>,
    /// How long an answer may take.
    limit: Duration,
}

impl Database {
    fn new(url: StoreUrl, limit: Duration) -> Database {
        Database { url, kind: OnceCell::new(), pool: Pool::new(), limit }
    }

    /// Whose tables it has; Sterna's are made and migrated before this answers.
    async fn kind(&self) -> Result<SchemaKind, OpenError> {
        let look = self.kind.get_or_try_init(|| look(&self.url));
        match timeout(LOOK_TIMEOUT, look).await {
            Ok(kind) => kind.copied(),
            Err(_) => {
                let text = format!("no answer within {} s", LOOK_TIMEOUT.as_secs());
                Err(OpenError::Unreachable(StoreError::Lost(text)))
            }
        }
    }

    async fn realms(&self, configured: &[Arc<str>]) -> Result<Vec<StoredRealm>, StoreError> {
        match self.kind().await? {
            SchemaKind::Sterna => own::realms(self).await,
            SchemaKind::Coturn => coturn::realms(self, configured).await,
        }
    }

    /// Ask for rows. Nothing is changed by asking twice, so that a connection that has died while
    /// it was idle is replaced.
    async fn rows(&self, statement: &Statement) -> Result<Vec<Row>, StoreError> {
        // One limit for all of it, the wait for a turn and for a connection included.
        let whole = timeout(self.limit + CONNECT_TIMEOUT, self.rows_in_turn(statement));
        whole.await.unwrap_or_else(|_| Err(self.no_answer()))
    }

    async fn rows_in_turn(&self, statement: &Statement) -> Result<Vec<Row>, StoreError> {
        let _turn = self.pool.turn().await?;
        if let Some(mut connection) = self.pool.idle() {
            match timeout(self.limit, connection.rows(statement)).await {
                Ok(Ok(rows)) => {
                    self.pool.give_back(connection);
                    return Ok(rows);
                }
                Ok(Err(error)) if is_lost(&error) => self.pool.forget(),
                Ok(Err(error)) => return Err(fault(&error)),
                Err(_) => {
                    self.pool.forget();
                    return Err(self.no_answer());
                }
            }
        }
        let mut connection = self.connect().await?;
        match timeout(self.limit, connection.rows(statement)).await {
            Ok(Ok(rows)) => {
                self.pool.give_back(connection);
                Ok(rows)
            }
            Ok(Err(error)) => Err(fault(&error)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Change rows, all of it or nothing; the answer is how many rows each statement has changed.
    async fn change(&self, statements: &[Statement]) -> Result<Vec<u64>, sqlx::Error> {
        let mut connection = self
            .connect()
            .await
            .map_err(|error| sqlx::Error::Io(std::io::Error::other(error.to_string())))?;
        let changes = async {
            connection.begin().await?;
            let mut changed = Vec::with_capacity(statements.len());
            for statement in statements {
                changed.push(connection.change(statement).await?);
            }
            connection.run("COMMIT").await?;
            Ok(changed)
        };
        // A connection that is dropped in the middle takes its transaction with it.
        let late = || sqlx::Error::Io(std::io::Error::other(self.no_answer().to_string()));
        timeout(self.limit, changes).await.unwrap_or_else(|_| Err(late()))
    }

    async fn count(&self, table: &str) -> Result<u64, StoreError> {
        let text = format!("SELECT COUNT(*) FROM {table}");
        let rows = self.rows(&Statement::new(text, Vec::new())).await?;
        let count = rows.first().and_then(|row| row.int(0));
        let none = || StoreError::Answered("a count is missing".into());
        count.and_then(|count| u64::try_from(count).ok()).ok_or_else(none)
    }

    /// Rows of one realm, or of all.
    async fn of_realm(
        &self,
        text: &str,
        realm: Option<&str>,
        order: &str,
    ) -> Result<Vec<Row>, StoreError> {
        let (condition, values) = match realm {
            Some(realm) => (" WHERE realm = ?", vec![connection::Value::from(realm)]),
            None => ("", Vec::new()),
        };
        let text = format!("{text}{condition} ORDER BY {order}");
        self.rows(&Statement::new(text, values)).await
    }

    fn no_answer(&self) -> StoreError {
        StoreError::Lost(format!("no answer within {} s", self.limit.as_secs()))
    }

    async fn connect(&self) -> Result<Connection, OpenError> {
        let coturn = self.kind.get() == Some(&SchemaKind::Coturn);
        Connection::open(&self.url.place, coturn).await
    }
}

/// See whose tables a database has, and whether they are whole.
async fn look(url: &StoreUrl) -> Result<SchemaKind, OpenError> {
    if let Place::Sqlite { path, create } = &url.place
        && !path.exists()
    {
        if !create {
            let cure = "`sterna user add` makes it, and so does ?mode=rwc behind the path";
            return Err(OpenError::Unfit(format!("there is no such file; {cure}")));
        }
        connection::make_file(path)?;
    }
    // Whoever only looks at a coturn database must not change it, not even by its journal mode.
    let mut connection = Connection::open(&url.place, true).await?;
    let kind = schema::detect(&mut connection, url.schema).await?;
    if kind == SchemaKind::Sterna {
        if let Place::Sqlite { path, .. } = &url.place {
            connection::check_mode(path)?;
        }
        connection = Connection::open(&url.place, false).await?;
        schema::migrate(&mut connection).await?;
    }
    schema::check(&mut connection, kind).await?;
    Ok(kind)
}

/// Whether every database takes this text. PostgreSQL answers a NUL with an error, and a client
/// that sends one in its name must not make that an outage.
fn can_be_asked(name: &str) -> bool {
    !name.contains('\0')
}

/// What is read of an entry, or why it cannot be: that is no fault of the store as a whole.
type Entry<T> = Result<T, StoreError>;

/// Whether a database that takes letters of either case for the same has found what was asked for.
fn is_exactly(found: Option<&str>, wanted: &str) -> bool {
    found == Some(wanted)
}

/// Question marks for a list of names. There are few sizes, so that few statements are prepared;
/// the last name fills the rest.
fn name_list(names: &[Arc<str>]) -> (String, Vec<connection::Value>) {
    let size = LIST_SIZES.into_iter().find(|&size| size >= names.len()).unwrap_or(NAMES_AT_ONCE);
    let fill = names.last().into_iter().cycle();
    let values = names.iter().chain(fill).take(size).map(|name| (&**name).into()).collect();
    (vec!["?"; size].join(", "), values)
}

/// Names in one question for several users.
const NAMES_AT_ONCE: usize = 500;
const LIST_SIZES: [usize; 4] = [1, 10, 100, NAMES_AT_ONCE];
/// Secrets of a realm. Each costs the server two HMACs for each user that none of them fits.
const SECRETS_MAX: usize = 100;
/// Rows about realms. Statements ask for one more, so that too many are seen.
const REALM_ROWS_MAX: usize = 20_000;
/// How long the first look at a database may take, with a migration in it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
