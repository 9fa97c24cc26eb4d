//! Sterna's own tables in SQLite: what the commands write is what the server reads.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sterna_actors::credential_store::{CredentialStore, StoredUser, UserLookup};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::credentials::{PasswordAlgorithm, user_hash};
use sterna_proto::guard::ClaimedUser;
use sterna_proto::quotas::{QuotaLimits, UserLimits};
use sterna_stores::admin::{self, Admin, AdminError, NewUser, PeerRule, UserKeys, Verdict};
use sterna_stores::{OpenError, OpenOptions, StoreUrl};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder for temporary files"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("users.db")
    }

    fn url(&self) -> StoreUrl {
        StoreUrl::embedded(&self.file())
    }

    async fn admin(&self) -> Box<dyn Admin> {
        admin::open(&self.url()).await.expect("a database that can be made")
    }

    async fn store(&self) -> Arc<dyn CredentialStore> {
        sterna_stores::open(&self.url(), OpenOptions::default()).await.expect("a whole database")
    }
}

fn user(name: &str) -> NewUser {
    NewUser {
        realm: REALM.into(),
        name: name.into(),
        keys: UserKeys::of_password(REALM, name, "secret").unwrap(),
        limits: UserLimits::default(),
        expires: None,
    }
}

fn lookup(user: ClaimedUser) -> UserLookup {
    UserLookup {
        realm: REALM.into(),
        user,
        password_algorithm: PasswordAlgorithm::Md5,
        client: [192, 0, 2, 1].into(),
    }
}

async fn find(store: &Arc<dyn CredentialStore>, name: &str) -> Option<StoredUser> {
    store.user(lookup(ClaimedUser::Named(name.into()))).await.expect("an answer")
}

fn rule(user: Option<&str>, verdict: Verdict, network: &str) -> PeerRule {
    let user = user.map(str::to_owned);
    PeerRule { realm: REALM.into(), user, verdict, network: network.parse().unwrap() }
}

async fn refusal(url: &str) -> String {
    let url = StoreUrl::parse(url).expect("a URL");
    match sterna_stores::open(&url, OpenOptions::default()).await {
        Err(OpenError::Unfit(why)) => why,
        Err(OpenError::Unreachable(why)) => panic!("unreachable: {why}"),
        Ok(_) => panic!("{url} opens"),
    }
}

#[tokio::test]
async fn a_user_is_found_by_name_and_by_hash_with_all_that_is_its_own() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    let limits = UserLimits {
        allocations: Some(3),
        bandwidth: Some(1 << 40),
        bandwidth_per_allocation: Some(7),
    };
    let expires = Some(Duration::from_secs(2_000_000_000));
    admin.add_user(NewUser { limits, expires, ..user("ann") }).await.unwrap();
    admin.add_user(user("bob")).await.unwrap();
    admin.add_peer(rule(Some("ann"), Verdict::Allow, "10.0.0.0/8")).await.unwrap();
    admin.add_peer(rule(Some("ann"), Verdict::Deny, "10.1.0.0/16")).await.unwrap();

    let store = folder.store().await;
    let ann = find(&store, "ann").await.expect("ann");

    assert_eq!("ann", &*ann.name);
    assert_eq!((limits, expires), (ann.limits, ann.expires));
    let peers = ann.peers.clone().expect("peers of her own");
    assert_eq!(vec!["10.0.0.0/8".parse::<ipnet::IpNet>().unwrap()], peers.allow);
    assert_eq!(vec!["10.1.0.0/16".parse::<ipnet::IpNet>().unwrap()], peers.deny);
    let UserKeys { md5, sha256 } = UserKeys::of_password(REALM, "ann", "secret").unwrap();
    assert!(ann.secret == UserSecret::Keys { md5, sha256 });
    let hash = user_hash("ann", REALM).unwrap();
    let hashed = store.user(lookup(ClaimedUser::Hashed(hash))).await.unwrap();
    assert_eq!(Some(ann), hashed);
    assert_eq!(None, find(&store, "bob").await.expect("bob").peers);
    assert!(store.finds_hashed() && store.can_revalidate());
}

#[tokio::test]
async fn names_are_compared_as_they_are_spelled() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    admin.add_user(user("ann")).await.unwrap();
    let store = folder.store().await;
    for name in ["Ann", "ann ", " ann", "an_", "an%", "ann' OR '1'='1", "", "ann\0"] {
        assert_eq!(None, find(&store, name).await, "{name:?}");
    }
    let other =
        UserLookup { realm: "elsewhere".into(), ..lookup(ClaimedUser::Named("ann".into())) };
    assert_eq!(None, store.user(other).await.unwrap());
}

#[tokio::test]
async fn those_of_many_names_that_there_are_are_told_at_once() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    for name in ["ann", "bob", "eve"] {
        admin.add_user(user(name)).await.unwrap();
    }
    admin.add_peer(rule(Some("bob"), Verdict::Deny, "192.0.2.0/24")).await.unwrap();
    admin.add_peer(rule(Some("bob"), Verdict::Deny, "198.51.100.0/24")).await.unwrap();
    let store = folder.store().await;
    let mut names: Vec<Arc<str>> = (0..1200).map(|n| format!("nobody{n}").into()).collect();
    names.extend(["ann".into(), "bob".into()]);

    let users = store.users(REALM.into(), names).await.unwrap();

    let names: Vec<&str> = users.iter().map(|user| &*user.name).collect();
    assert_eq!(vec!["ann", "bob"], names);
    let counts = admin.counts().await.unwrap();
    assert_eq!((3, 0, 0), (counts.users, counts.secrets, counts.realms));
    let found = async |name| admin.find_user(REALM, name).await.unwrap();
    assert_eq!(Some("eve".into()), found("eve").await.map(|user| user.name));
    assert_eq!(None, found("Eve").await);
    assert_eq!(Some(2), users[1].peers.as_ref().map(|peers| peers.deny.len()));
    assert_eq!(0, store.users(REALM.into(), Vec::new()).await.unwrap().len());
}

#[tokio::test]
async fn a_user_is_added_once_changed_and_removed() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    admin.add_user(user("ann")).await.unwrap();
    let again = admin.add_user(user("ann")).await.unwrap_err();
    assert_eq!("user ann of realm example.org exists already", again.to_string());

    let keys = UserKeys { md5: Some([7; 16]), sha256: None };
    admin.set_keys(REALM, "ann", keys).await.unwrap();
    let limits = UserLimits { allocations: Some(0), ..UserLimits::default() };
    admin.set_limits(REALM, "ann", limits, None).await.unwrap();
    let listed = admin.list_users(Some(REALM)).await.unwrap();
    assert_eq!(
        vec![(true, false, limits)],
        listed.iter().map(|u| (u.md5, u.sha256, u.limits)).collect::<Vec<_>>()
    );

    admin.add_peer(rule(Some("ann"), Verdict::Deny, "192.0.2.0/24")).await.unwrap();
    admin.remove_user(REALM, "ann").await.unwrap();
    assert_eq!(None, find(&folder.store().await, "ann").await);
    assert_eq!(0, admin.list_peers(None).await.unwrap().len());
    let gone = AdminError::Missing("user ann of realm example.org".into());
    assert_eq!(Err(gone.clone()), admin.remove_user(REALM, "ann").await);
    assert_eq!(Err(gone.clone()), admin.set_limits(REALM, "ann", limits, None).await);
}

#[tokio::test]
async fn names_that_no_client_can_send_are_refused() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    for name in ["", "a\nb", &"x".repeat(509)] {
        let refused = admin.add_user(user("ann").named(name)).await;
        assert!(matches!(refused, Err(AdminError::Invalid(_))), "{name:?}: {refused:?}");
    }
    let keyless = NewUser { keys: UserKeys { md5: None, sha256: None }, ..user("ann") };
    assert!(matches!(admin.add_user(keyless).await, Err(AdminError::Invalid(_))));
}

#[tokio::test]
async fn secrets_rotate_and_are_listed_without_their_text() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    let first = admin.add_secret(REALM, "one").await.unwrap();
    assert_eq!(Err(AdminError::Exists("that secret".into())), admin.add_secret(REALM, "one").await);
    assert_eq!(0, admin.rotate_secret(REALM, "two", 1).await.unwrap().len());
    let store = folder.store().await;
    let mut secrets = store.rest_secrets(REALM.into()).await.unwrap();
    secrets.sort();
    assert_eq!(vec![b"one".to_vec(), b"two".to_vec()], secrets);

    let listed = format!("{:?}", admin.list_secrets(None).await.unwrap());
    assert!(!listed.contains("one") && !listed.contains("two"), "{listed}");
    assert!(listed.contains(&first.fingerprint));

    assert_eq!(Some(&b"two".to_vec()), store.rest_secrets(REALM.into()).await.unwrap().first());
    let removed = admin.rotate_secret(REALM, "three", 0).await.unwrap();
    assert_eq!(2, removed.len());
    assert_eq!(vec![b"three".to_vec()], store.rest_secrets(REALM.into()).await.unwrap());
    assert_eq!(0, store.rest_secrets("elsewhere".into()).await.unwrap().len());
    let last = admin.list_secrets(Some(REALM)).await.unwrap().remove(0).fingerprint;
    assert!(matches!(admin.remove_secret(REALM, "").await, Err(AdminError::Missing(_))));
    admin.remove_secret(REALM, &last[..6]).await.unwrap();
    assert_eq!(0, store.rest_secrets(REALM.into()).await.unwrap().len());
    assert!(matches!(admin.add_secret(REALM, "").await, Err(AdminError::Invalid(_))));
}

#[tokio::test]
async fn a_realm_has_origins_limits_and_peers() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    let quotas = QuotaLimits {
        allocations: Some(10),
        bandwidth: Some(1_000_000),
        allocations_per_source: Some(2),
        ..QuotaLimits::default()
    };
    admin.set_realm(REALM, QuotaLimits::default()).await.unwrap();
    admin.set_realm(REALM, quotas).await.unwrap();
    admin.add_origin("https://other.example", "other.example").await.unwrap();
    admin.add_origin("https://example.org", "other.example").await.unwrap();
    admin.add_origin("https://example.org", REALM).await.unwrap();
    admin.add_peer(rule(None, Verdict::Deny, "192.0.2.0/24")).await.unwrap();
    admin.add_peer(rule(Some("ann"), Verdict::Deny, "192.0.2.0/24")).await.unwrap();

    let realms = folder.store().await.realms().await.unwrap();

    let names: Vec<&str> = realms.iter().map(|realm| &*realm.name).collect();
    assert_eq!(vec![REALM, "other.example"], names);
    assert_eq!(quotas, realms[0].quotas);
    assert_eq!(vec!["https://example.org"], realms[0].origins);
    assert_eq!(1, realms[0].peers.deny.len());
    assert_eq!(vec!["https://other.example"], realms[1].origins);

    admin.remove_realm(REALM).await.unwrap();
    admin.remove_origin("https://other.example").await.unwrap();
    assert_eq!(0, admin.list_realms().await.unwrap().len());
    assert_eq!(1, admin.list_peers(None).await.unwrap().len());
    assert!(matches!(admin.remove_realm(REALM).await, Err(AdminError::Missing(_))));
}

#[tokio::test]
async fn token_keys_are_kept_with_their_dates() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    let key = TokenKey {
        kid: "k1".into(),
        key: vec![7; 32],
        realm: Some(REALM.into()),
        valid: Some((10, 20)),
    };
    admin.set_token_key(TokenKey { valid: None, ..key.clone() }).await.unwrap();
    admin.set_token_key(key.clone()).await.unwrap();
    let store = folder.store().await;
    assert_eq!(Some(key.clone()), store.token_key("k1".into()).await.unwrap());
    assert_eq!(None, store.token_key("K1".into()).await.unwrap());
    assert_eq!(vec![key.clone()], admin.list_token_keys().await.unwrap());
    let short = TokenKey { key: vec![7; 15], ..key };
    assert!(matches!(admin.set_token_key(short).await, Err(AdminError::Invalid(_))));
    admin.remove_token_key("k1").await.unwrap();
    assert_eq!(None, store.token_key("k1".into()).await.unwrap());
}

#[tokio::test]
async fn the_file_and_what_lies_beside_it_are_the_owners_alone() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    let store = folder.store().await;
    admin.add_user(user("ann")).await.unwrap();
    assert!(find(&store, "ann").await.is_some());
    for entry in std::fs::read_dir(folder.0.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(0o600, mode, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_database_that_will_not_do_is_refused_with_its_cure() {
    let folder = Folder::new();
    let url = format!("sqlite://{}", folder.file().display());
    assert!(refusal(&url).await.contains("`sterna user add` makes it"));
    assert!(admin::look(&StoreUrl::parse(&url).unwrap()).await.is_err());
    assert!(!folder.file().exists());

    std::fs::write(folder.file(), "not a database, and more than a hundred bytes".repeat(9))
        .unwrap();
    assert!(refusal(&url).await.contains("not a database"));

    std::fs::remove_file(folder.file()).unwrap();
    drop(folder.admin().await);
    std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(&url).await.contains("chmod 600"));
    std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(0o600)).unwrap();

    change(&folder, "INSERT INTO sterna_peers VALUES ('r', '', 'deny', 'everything')").await;
    assert!(refusal(&url).await.contains("\"everything\" is no network"));
    assert_eq!(0, folder.admin().await.list_users(None).await.unwrap().len());
    change(&folder, "DELETE FROM sterna_peers").await;
    change(&folder, "DROP TABLE sterna_secrets").await;
    assert!(refusal(&url).await.contains("no table sterna_secrets"));
    change(&folder, "INSERT INTO sterna_schema VALUES (99)").await;
    assert!(refusal(&url).await.contains("schema version 99"));
    assert!(refusal(&format!("{url}?schema=coturn")).await.contains("no table turnusers_lt"));
}

#[tokio::test]
async fn a_user_that_cannot_be_read_is_nobody_and_stops_nobody_else() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    for name in ["ann", "bob"] {
        admin.add_user(user(name)).await.unwrap();
    }
    admin.add_peer(rule(Some("ann"), Verdict::Deny, "192.0.2.0/24")).await.unwrap();
    let store = folder.store().await;
    for text in [
        "UPDATE sterna_users SET md5_key = 'xyz' WHERE name = 'ann'",
        "UPDATE sterna_users SET md5_key = x'ff' WHERE name = 'ann'",
        "UPDATE sterna_users SET md5_key = NULL, allocations = -1 WHERE name = 'ann'",
        "UPDATE sterna_users SET allocations = 'many' WHERE name = 'ann'",
        "UPDATE sterna_users SET allocations = NULL; UPDATE sterna_peers SET network = 'all'",
    ] {
        change(&folder, text).await;
        assert_eq!(None, find(&store, "ann").await, "{text}");
        let names = ["ann", "bob"].map(Arc::from).to_vec();
        let users = store.users(REALM.into(), names).await.unwrap();
        assert_eq!(vec!["bob"], users.iter().map(|user| &*user.name).collect::<Vec<_>>());
    }
    change(&folder, "DELETE FROM sterna_peers").await;
    assert!(find(&store, "ann").await.is_some());
}

#[tokio::test]
async fn a_token_key_that_cannot_be_read_is_none() {
    let folder = Folder::new();
    drop(folder.admin().await);
    let store = folder.store().await;
    change(
        &folder,
        "INSERT INTO sterna_token_keys VALUES ('k', 'xyz', NULL, NULL, NULL),
         ('l', '07070707070707070707070707070707', x'ff', NULL, NULL),
         ('m', '07070707070707070707070707070707', NULL, NULL, 'soon')",
    )
    .await;
    for kid in ["k", "l", "m", "k\0"] {
        assert_eq!(Ok(None), store.token_key(kid.into()).await);
    }
}

#[tokio::test]
async fn several_that_start_at_once_make_the_tables_together() {
    let folder = Folder::new();
    let opened = (0..8).map(|_| {
        let url = folder.url();
        tokio::spawn(async move {
            let admin = admin::open(&url).await.map_err(|error| error.to_string())?;
            admin.list_users(None).await.map_err(|error| error.to_string())
        })
    });
    for opened in opened.collect::<Vec<_>>() {
        assert_eq!(Ok(Vec::new()), opened.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_do_not_stop_each_other() {
    let folder = Folder::new();
    let admin = folder.admin().await;
    admin.add_user(user("ann")).await.unwrap();
    let store = folder.store().await;
    let writes = tokio::spawn(async move {
        for number in 0..50 {
            admin.add_user(user(&format!("user{number}"))).await.unwrap();
        }
    });
    while !writes.is_finished() {
        let asked = (0..16).map(|_| find(&store, "ann"));
        let found = futures_util::future::join_all(asked).await;
        assert!(found.iter().all(Option::is_some));
    }
    writes.await.unwrap();
    assert!(find(&store, "user49").await.is_some());
}

/// What another program does to the file.
async fn change(folder: &Folder, text: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.file());
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

trait Named {
    fn named(self, name: &str) -> NewUser;
}

impl Named for NewUser {
    fn named(self, name: &str) -> NewUser {
        NewUser { name: name.into(), ..self }
    }
}

const REALM: &str = "example.org";
