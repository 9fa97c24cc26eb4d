//! coturn's tables, as its package makes them and its documentation fills them.

use std::fs;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use sterna_actors::credential_store::{CredentialStore, StoredRealm, StoredUser, UserLookup};
use sterna_actors::policy::UserSecret;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use sterna_stores::admin::{self, UserKeys};
use sterna_stores::{OpenError, OpenOptions, StoreUrl};
use tempfile::TempDir;

struct Database(TempDir);

impl Database {
    /// coturn's own schema where its package is installed, the same tables elsewhere.
    async fn new(rows: &str) -> Database {
        let database = Database(tempfile::tempdir().expect("a folder for temporary files"));
        let schema = fs::read_to_string("/usr/share/coturn/schema.sql");
        database.run(&schema.unwrap_or_else(|_| SCHEMA.to_owned())).await;
        database.run(rows).await;
        database
    }

    fn url(&self) -> StoreUrl {
        let file = self.0.path().join("turndb");
        StoreUrl::parse(&format!("sqlite://{}", file.display())).expect("a URL")
    }

    async fn run(&self, text: &str) {
        let file = self.0.path().join("turndb");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = options.create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn store(&self) -> Arc<dyn CredentialStore> {
        let options = OpenOptions {
            realms: vec!["ours".into()],
            must_answer: true,
            ..OpenOptions::default()
        };
        sterna_stores::open(&self.url(), options).await.expect("coturn's tables")
    }

    async fn realms(&self) -> Vec<StoredRealm> {
        self.store().await.realms().await.expect("realms")
    }
}

async fn find(store: &Arc<dyn CredentialStore>, realm: &str, name: &str) -> Option<StoredUser> {
    let wanted = UserLookup {
        realm: realm.into(),
        user: ClaimedUser::Named(name.into()),
        password_algorithm: PasswordAlgorithm::Md5,
        client: [192, 0, 2, 1].into(),
    };
    store.user(wanted).await.expect("an answer")
}

#[tokio::test]
async fn users_have_the_key_that_coturn_keeps() {
    let database = Database::new(
        "INSERT INTO turnusers_lt VALUES
         ('north.gov', 'gorst', '7da2270ccfa49786e0115366d3a3d14d'),
         ('crinna.org', 'whirrun', '6972e85e51f36e53b0b61759c5a5219a')",
    )
    .await;
    let store = database.store().await;
    let gorst = find(&store, "north.gov", "gorst").await.expect("gorst");
    let UserKeys { md5, .. } = UserKeys::of_password("north.gov", "gorst", "hero").unwrap();
    assert!(gorst.secret == UserSecret::Keys { md5, sha256: None });
    for (realm, name) in [("crinna.org", "gorst"), ("north.gov", "Gorst"), ("", "gorst")] {
        assert_eq!(None, find(&store, realm, name).await);
    }
    let names = ["gorst", "whirrun"].map(Arc::from).to_vec();
    assert_eq!(vec![gorst], store.users("north.gov".into(), names).await.unwrap());
    assert_eq!([PasswordAlgorithm::Md5], store.password_algorithms());
    assert!(!store.finds_hashed() && store.can_revalidate());
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_nobodys_and_stops_nobody_else() {
    let database = Database::new(
        "INSERT INTO turnusers_lt VALUES ('r', 'ann', 'U2FsdGVkX1/encrypted'),
         ('r', 'bob', '7da2270ccfa49786e0115366d3a3d14d'), ('r', 'eve', NULL),
         ('r', 'joe', x'ff00')",
    )
    .await;
    let store = database.store().await;
    assert_eq!(None, find(&store, "r", "ann").await);
    let names = ["ann", "bob", "eve", "joe"].map(Arc::from).to_vec();
    let users = store.users("r".into(), names).await.unwrap();
    assert_eq!(vec!["bob"], users.iter().map(|user| &*user.name).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_name_with_a_nul_in_it_is_nobodys() {
    let key = "7da2270ccfa49786e0115366d3a3d14d";
    let row = format!("INSERT INTO turnusers_lt VALUES ('r', 'ann' || char(0), '{key}')");
    let database = Database::new(&row).await;
    let store = database.store().await;
    assert_eq!(None, find(&store, "r", "ann\0").await);
    assert_eq!(Ok(Vec::new()), store.users("r".into(), vec!["ann\0".into()]).await);
    assert_eq!(Ok(None), store.token_key("k\0".into()).await);
}

#[tokio::test]
async fn several_secrets_of_a_realm_are_all_good() {
    let database = Database::new(
        "INSERT INTO turn_secret VALUES ('north.gov', 'logen'), ('north.gov', 'bloody9'),
         ('crinna.org', 'north'), ('north.gov', '')",
    )
    .await;
    let store = database.store().await;
    let mut secrets = store.rest_secrets("north.gov".into()).await.unwrap();
    secrets.sort();
    assert_eq!(vec![b"bloody9".to_vec(), b"logen".to_vec()], secrets);
    let secrets: Vec<String> = (0..101).map(|n| format!("('north.gov', '{n}')")).collect();
    database.run(&format!("INSERT INTO turn_secret VALUES {}", secrets.join(","))).await;
    assert!(store.rest_secrets("north.gov".into()).await.is_err());
}

#[tokio::test]
async fn realms_have_their_options_origins_and_peers() {
    let database = Database::new(
        "INSERT INTO turn_realm_option VALUES ('north.gov', 'max-bps', '500000'),
         ('north.gov', 'total-quota', '12000'), ('north.gov', 'user-quota', '0'),
         ('crinna.org', 'something-else', 'x'), ('', 'user-quota', '7');
         INSERT INTO turn_origin_to_realm VALUES ('http://crinna.org:80', 'crinna.org'),
         ('https://bligh.edu:443', 'crinna.org');
         INSERT INTO allowed_peer_ip (ip_range) VALUES ('172.17.13.200');
         INSERT INTO allowed_peer_ip (realm, ip_range) VALUES ('north.gov', '172.17.13.201');
         INSERT INTO denied_peer_ip (ip_range) VALUES ('123::45');
         INSERT INTO denied_peer_ip (realm, ip_range)
             VALUES ('crinna.org', '172.17.13.4-172.17.13.9')",
    )
    .await;
    let realms = database.realms().await;
    let [crinna, north, ours] = realms.as_slice() else { panic!("{realms:?}") };
    let nets =
        |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };

    assert_eq!("crinna.org", &*crinna.name);
    assert_eq!(vec!["http://crinna.org:80", "https://bligh.edu:443"], crinna.origins);
    assert_eq!(nets(&["123::45/128", "172.17.13.4/30", "172.17.13.8/31"]), crinna.peers.deny);
    assert_eq!(Some(7), crinna.quotas.allocations_per_user);

    assert_eq!("north.gov", &*north.name);
    assert_eq!(Some(12_000), north.quotas.allocations);
    assert_eq!(Some(500_000), north.quotas.bandwidth_per_allocation);
    assert_eq!(nets(&["172.17.13.200/32", "172.17.13.201/32"]), north.peers.allow);

    assert_eq!("ours", &*ours.name, "what holds for every realm holds for those of turn.yaml");
    assert_eq!(nets(&["172.17.13.200/32"]), ours.peers.allow);
    assert_eq!(nets(&["123::45/128"]), ours.peers.deny);
}

#[tokio::test]
async fn a_list_or_an_option_that_cannot_be_read_is_an_error_and_not_nothing() {
    for rows in [
        "INSERT INTO denied_peer_ip VALUES ('r', '10.0.0.9-10.0.0.1')",
        "INSERT INTO allowed_peer_ip VALUES ('r', 'everything')",
        "INSERT INTO turn_realm_option VALUES ('r', 'user-quota', 'ten')",
        "INSERT INTO turn_realm_option VALUES ('r', 'max-bps', '-1')",
        "INSERT INTO turn_realm_option VALUES ('r', 'total-quota', '99999999999')",
    ] {
        let database = Database::new(rows).await;
        let opened = sterna_stores::open(&database.url(), OpenOptions::default()).await;
        assert!(matches!(opened, Err(OpenError::Unfit(_))), "{rows}");
    }
    let database = Database::new("").await;
    let store = database.store().await;
    database.run("INSERT INTO denied_peer_ip VALUES ('r', 'everything')").await;
    assert!(store.realms().await.is_err());
}

#[tokio::test]
async fn token_keys_are_the_beginning_of_their_material() {
    let long = STANDARD.encode(b"01234567890123456789012345678901\n");
    let short = STANDARD.encode(b"1234567890123456\n");
    let database = Database::new(&format!(
        "INSERT INTO oauth_key VALUES ('north', '{long}', 0, 0, 'A256GCM', 'crinna.org'),
         ('union', '{short}', 100, 50, 'A128GCM', ''), ('bare', '{long}', 0, 0, '', NULL),
         ('short', '{short}', 0, 0, 'A256GCM', ''), ('other', '{short}', 0, 0, 'CBC', '')"
    ))
    .await;
    let store = database.store().await;
    let key = async |kid: &str| store.token_key(kid.to_owned()).await;
    let north = key("north").await.unwrap().expect("north");
    assert_eq!(b"01234567890123456789012345678901".to_vec(), north.key);
    assert_eq!((Some("crinna.org".into()), None), (north.realm, north.valid));
    let union = key("union").await.unwrap().expect("union");
    assert_eq!(b"1234567890123456".to_vec(), union.key);
    assert_eq!((None, Some((100, 150))), (union.realm, union.valid));
    assert_eq!(32, key("bare").await.unwrap().expect("bare").key.len());
    assert_eq!((Ok(None), Ok(None)), (key("short").await, key("other").await));
    assert_eq!(Ok(None), key("nobody").await);
}

#[tokio::test]
async fn the_database_is_read_and_never_written() {
    let database = Database::new("INSERT INTO turn_secret VALUES ('r', 's')").await;
    let file = database.0.path().join("turndb");
    let before = fs::read(&file).unwrap();
    let store = database.store().await;
    find(&store, "r", "ann").await;
    store.realms().await.unwrap();
    assert!(before == fs::read(&file).unwrap());
    assert_eq!(1, fs::read_dir(database.0.path()).unwrap().count(), "no file beside it");

    let admin = admin::open(&database.url()).await.unwrap();
    let refused = admin.add_secret("r", "another").await.unwrap_err().to_string();
    assert!(refused.contains("turnadmin does"), "{refused}");
    assert_eq!(1, admin.list_secrets(Some("r")).await.unwrap().len());
    assert_eq!(0, admin.list_secrets(Some("other")).await.unwrap().len());
    assert_eq!(0, admin.list_users(None).await.unwrap().len());
    assert!(before == fs::read(&file).unwrap());
}

#[tokio::test]
async fn all_of_it_can_be_listed() {
    let database = Database::new(
        "INSERT INTO turnusers_lt VALUES ('b', 'bob', '7da2270ccfa49786e0115366d3a3d14d'),
         ('a', 'ann', '7da2270ccfa49786e0115366d3a3d14d');
         INSERT INTO denied_peer_ip VALUES ('', '10.0.0.0-10.0.0.2');
         INSERT INTO oauth_key (kid, ikm_key) VALUES
             ('k', 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEK')",
    )
    .await;
    let admin = admin::look(&database.url()).await.unwrap();
    let users = admin.list_users(None).await.unwrap();
    let users: Vec<_> = users.iter().map(|u| (&*u.realm, &*u.name, u.md5, u.sha256)).collect();
    assert_eq!(vec![("a", "ann", true, false), ("b", "bob", true, false)], users);
    assert_eq!(2, admin.list_peers(None).await.unwrap().len());
    assert_eq!(1, admin.list_token_keys().await.unwrap().len());
}

#[tokio::test]
async fn what_coturn_writes_meanwhile_is_seen() {
    let database = Database::new("INSERT INTO turn_secret VALUES ('r', 's')").await;
    let store = database.store().await;
    assert_eq!(None, find(&store, "r", "ann").await);
    let key = "7da2270ccfa49786e0115366d3a3d14d";
    database.run(&format!("INSERT INTO turnusers_lt VALUES ('r', 'ann', '{key}')")).await;
    assert!(find(&store, "r", "ann").await.is_some());
    database.run("DELETE FROM turnusers_lt").await;
    assert_eq!(None, find(&store, "r", "ann").await);
}

#[tokio::test]
async fn sternas_tables_beside_coturns_win_unless_the_url_says_otherwise() {
    let key = "7da2270ccfa49786e0115366d3a3d14d";
    let rows = format!("INSERT INTO turnusers_lt VALUES ('r', 'ann', '{key}')");
    let database = Database::new(&rows).await;
    let file = database.0.path().join("turndb");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, mode).unwrap();
    let forced = |kind: &str| {
        StoreUrl::parse(&format!("sqlite://{}?schema={kind}", file.display())).unwrap()
    };
    let open = async |url: StoreUrl| {
        sterna_stores::open(&url, OpenOptions::default()).await.expect("tables")
    };
    assert!(find(&open(database.url()).await, "r", "ann").await.is_some());
    assert!(find(&open(forced("sterna")).await, "r", "ann").await.is_none());
    assert!(find(&open(database.url()).await, "r", "ann").await.is_none());
    assert!(find(&open(forced("coturn")).await, "r", "ann").await.is_some());
}

#[tokio::test]
async fn a_table_that_is_missing_is_named() {
    let database = Database::new("DROP TABLE turn_realm_option").await;
    let opened = sterna_stores::open(&database.url(), OpenOptions::default()).await;
    let Err(OpenError::Unfit(why)) = opened else { panic!("a table is missing") };
    assert!(why.contains("has no table turn_realm_option; load coturn's schema.sql"), "{why}");
}

/// The tables that coturn documents.
const SCHEMA: &str = "
    CREATE TABLE turnusers_lt (realm VARCHAR(127) DEFAULT '', name VARCHAR(512),
        hmackey CHAR(128), PRIMARY KEY (realm, name));
    CREATE TABLE turn_secret (realm VARCHAR(127) DEFAULT '', value VARCHAR(256),
        PRIMARY KEY (realm, value));
    CREATE TABLE allowed_peer_ip (realm VARCHAR(127) DEFAULT '', ip_range VARCHAR(256),
        PRIMARY KEY (realm, ip_range));
    CREATE TABLE denied_peer_ip (realm VARCHAR(127) DEFAULT '', ip_range VARCHAR(256),
        PRIMARY KEY (realm, ip_range));
    CREATE TABLE turn_origin_to_realm (origin VARCHAR(127), realm VARCHAR(127),
        PRIMARY KEY (origin));
    CREATE TABLE turn_realm_option (realm VARCHAR(127) DEFAULT '', opt VARCHAR(32),
        value VARCHAR(128), PRIMARY KEY (realm, opt));
    CREATE TABLE oauth_key (kid VARCHAR(128), ikm_key VARCHAR(256), timestamp BIGINT DEFAULT 0,
        lifetime INTEGER DEFAULT 0, as_rs_alg VARCHAR(64) DEFAULT '', realm VARCHAR(127),
        PRIMARY KEY (kid));";
