//! How long a look-up takes in an SQLite database of many users, and what it costs in memory.
//!
//!     cargo run --release -p sterna-stores --example lookups -- users.db 1000000
//!
//! The database is filled if it is not there, and can be used again. Users are looked up by name in
//! a random order: one after the other, then by eight askers at once as a server's store is asked.

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use sterna_actors::clock;
use sterna_actors::credential_store::{CredentialStore, UserLookup};
use sterna_proto::credentials::{PasswordAlgorithm, user_hash};
use sterna_proto::guard::ClaimedUser;
use sterna_stores::{OpenOptions, StoreUrl, admin};

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, users] = arguments.as_slice() else {
        return Err("lookups FILE USERS".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(Path::new(file), users.parse()?))
}

async fn measure(file: &Path, users: u64) -> Result<(), Fault> {
    let url = StoreUrl::embedded(file);
    if !file.exists() {
        let begun = clock::now();
        drop(admin::open(&url).await?);
        fill(file, users).await?;
        println!("filled in {:.0?}, {} MiB", clock::now() - begun, size(file)? >> 20);
    }
    let before = memory_kib()?;
    let store = sterna_stores::open(&url, OpenOptions::default()).await?;
    let mut names = Names { state: 88_172_645_463_325_252, users };
    report("one asker", one_asker(&store, &mut names, true).await?);
    report("one asker, nobody found", one_asker(&store, &mut names, false).await?);
    report("eight askers", askers(&store, &mut names).await?);
    println!("memory: {} KiB before, {} KiB after", before, memory_kib()?);
    Ok(())
}

async fn one_asker(
    store: &Arc<dyn CredentialStore>,
    names: &mut Names,
    there: bool,
) -> Result<Vec<Duration>, Fault> {
    let mut took = Vec::with_capacity(LOOK_UPS);
    for _ in 0..LOOK_UPS {
        let name = if there { names.next() } else { format!("nobody{}", names.next()) };
        took.push(look_up(store, name, there).await?);
    }
    Ok(took)
}

async fn askers(
    store: &Arc<dyn CredentialStore>,
    names: &mut Names,
) -> Result<Vec<Duration>, Fault> {
    let tasks = (0..ASKERS).map(|_| {
        let (store, wanted) = (store.clone(), (0..LOOK_UPS / ASKERS).map(|_| names.next()));
        let wanted: Vec<String> = wanted.collect();
        tokio::spawn(async move {
            let mut took = Vec::with_capacity(wanted.len());
            for name in wanted {
                took.push(look_up(&store, name, true).await?);
            }
            Ok::<_, Fault>(took)
        })
    });
    let mut all = Vec::with_capacity(LOOK_UPS);
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await??);
    }
    Ok(all)
}

async fn look_up(
    store: &Arc<dyn CredentialStore>,
    name: String,
    there: bool,
) -> Result<Duration, Fault> {
    let wanted = UserLookup {
        realm: REALM.into(),
        user: ClaimedUser::Named(name),
        password_algorithm: PasswordAlgorithm::Sha256,
        client: [192, 0, 2, 1].into(),
    };
    let begun: Instant = clock::now();
    let found = store.user(wanted).await?;
    let took = clock::now() - begun;
    match found.is_some() == there {
        true => Ok(took),
        false => Err("a user is not where it should be".into()),
    }
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    println!("{what}: p50 {p50:.0?}, p99 {p99:.0?}, p99.9 {p999:.0?}, most {:.0?}", at(1.0));
}

/// Fills the table past the store, which adds users one by one.
async fn fill(file: &Path, users: u64) -> Result<(), Fault> {
    // Hashes come in no order: with a small cache each would cost a page read and a page written.
    let options = SqliteConnectOptions::new().filename(file).pragma("cache_size", "-1000000");
    let options = options.disable_statement_logging();
    let mut connection = options.connect().await?;
    sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
    for first in (0..users).step_by(ROWS_AT_ONCE) {
        insert(&mut connection, first..users.min(first + ROWS_AT_ONCE as u64)).await?;
    }
    sqlx::raw_sql("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    numbers: std::ops::Range<u64>,
) -> Result<(), Fault> {
    let rows = vec!["(?, ?, ?, ?, ?)"; numbers.clone().count()].join(", ");
    let columns = "realm, name, user_hash, md5_key, sha256_key";
    let text = format!("INSERT INTO sterna_users ({columns}) VALUES {rows}");
    let mut query = sqlx::query(AssertSqlSafe(text));
    for number in numbers {
        let name = format!("user{number}");
        let hash = hex::encode(user_hash(&name, REALM)?);
        // What stands in the keys costs nothing to look up; their length does.
        let md5 = hash[..32].to_owned();
        query = query.bind(REALM).bind(name).bind(hash.clone()).bind(md5).bind(hash);
    }
    query.execute(connection).await?;
    Ok(())
}

/// Names of users in an order that no cache likes; the same at each run.
struct Names {
    state: u64,
    users: u64,
}

impl Names {
    fn next(&mut self) -> String {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        format!("user{}", self.state % self.users)
    }
}

fn memory_kib() -> Result<u64, Fault> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(number.parse()?)
}

fn size(file: &Path) -> Result<u64, Fault> {
    Ok(std::fs::metadata(file)?.len())
}

const REALM: &str = "example.org";
const LOOK_UPS: usize = 100_000;
const ASKERS: usize = 8;
const ROWS_AT_ONCE: usize = 500;
