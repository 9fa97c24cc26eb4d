//! Drives a real store through all that can be asked of it and changed in it, and fails at the
//! first answer that is not as it should be. The database must be one that may be spoiled.
//!
//!     cargo run -p sterna-stores --example exercise -- postgres://user:password@host/database
//!     cargo run -p sterna-stores --example exercise -- URL ask REALM NAME
//!
//! The second form asks for one user at each line of its input, to see what an outage does.

use std::env;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use sterna_actors::clock;
use sterna_actors::credential_store::{CredentialStore, UserLookup};
use sterna_actors::policy::{TokenKey, UserSecret};
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::quotas::{QuotaLimits, UserLimits};
use sterna_stores::admin::{self, Admin, AdminError, NewUser, PeerRule, UserKeys, Verdict};
use sterna_stores::{OpenOptions, StoreUrl};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.as_slice() {
        [url] => runtime.block_on(exercise(&StoreUrl::parse(url)?)),
        [url, "ask", realm, name] => runtime.block_on(ask(&StoreUrl::parse(url)?, realm, name)),
        _ => Err("exercise URL [ask REALM NAME]".into()),
    }
}

async fn ask(url: &StoreUrl, realm: &str, name: &str) -> Result<(), Fault> {
    let store = sterna_stores::open(url, OpenOptions::default()).await?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let begun = clock::now();
        let answer = store.user(lookup(realm, name)).await;
        let took = clock::now() - begun;
        match answer {
            Ok(Some(user)) => println!("{} {:?} {took:?}", user.name, user.limits),
            Ok(None) => println!("nobody {took:?}"),
            Err(error) => println!("error {error} {took:?}"),
        }
    }
    Ok(())
}

async fn exercise(url: &StoreUrl) -> Result<(), Fault> {
    let options = OpenOptions { must_answer: true, ..OpenOptions::default() };
    let admin = admin::open(url).await?;
    let store = sterna_stores::open(url, options).await?;
    users(&*admin, &*store).await?;
    many_users(&*admin, &*store).await?;
    secrets(&*admin, &*store).await?;
    realms(&*admin, &*store).await?;
    token_keys(&*admin, &*store).await?;
    println!("{url}: all as it should be");
    Ok(())
}

async fn users(admin: &dyn Admin, store: &dyn CredentialStore) -> Result<(), Fault> {
    let limits = UserLimits { allocations: Some(2), bandwidth: Some(1 << 40), ..NO_LIMITS };
    let expires = Some(Duration::from_secs(4_000_000_000));
    admin.add_user(NewUser { limits, expires, ..new("ann")? }).await?;
    let again = admin.add_user(new("ann")?).await;
    assert!(matches!(again, Err(AdminError::Exists(_))), "{again:?}");
    for name in ["Ann", "ann ", "an*", "ann/key", "á'; DROP TABLE sterna_users; --"] {
        assert_eq!(None, store.user(lookup(REALM, name)).await?, "{name:?}");
        admin.add_user(new(name)?).await?;
        let found = store.user(lookup(REALM, name)).await?.ok_or("nobody")?;
        assert_eq!(name, &*found.name);
    }
    assert_eq!(6, admin.list_users(Some(REALM)).await?.len());
    for verdict in [Verdict::Allow, Verdict::Deny] {
        admin.add_peer(rule(Some("ann"), verdict, "10.0.0.0/8")).await?;
        admin.add_peer(rule(Some("ann"), verdict, "fd00::/8")).await?;
    }
    let ann = store.user(lookup(REALM, "ann")).await?.ok_or("nobody")?;
    assert_eq!((limits, expires), (ann.limits, ann.expires));
    let peers = ann.peers.ok_or("no peers")?;
    assert_eq!((2, 2), (peers.allow.len(), peers.deny.len()));
    let UserKeys { md5, sha256 } = new("ann")?.keys;
    assert!(ann.secret == UserSecret::Keys { md5, sha256 });

    admin.set_keys(REALM, "ann", UserKeys { md5: Some([7; 16]), sha256: None }).await?;
    admin.set_limits(REALM, "ann", NO_LIMITS, None).await?;
    let ann = store.user(lookup(REALM, "ann")).await?.ok_or("nobody")?;
    assert_eq!((NO_LIMITS, None), (ann.limits, ann.expires));
    assert!(ann.secret == UserSecret::Keys { md5: Some([7; 16]), sha256: None });
    let found = store.users(REALM.into(), vec!["ann".into(), "bob".into()]).await?;
    assert_eq!(1, found.len());

    admin.remove_peer(rule(Some("ann"), Verdict::Deny, "10.0.0.0/8")).await?;
    assert_eq!(3, admin.list_peers(Some(REALM)).await?.len());
    for user in admin.list_users(None).await? {
        admin.remove_user(&user.realm, &user.name).await?;
    }
    assert_eq!(None, store.user(lookup(REALM, "ann")).await?);
    assert!(matches!(admin.remove_user(REALM, "ann").await, Err(AdminError::Missing(_))));
    Ok(())
}

async fn many_users(admin: &dyn Admin, store: &dyn CredentialStore) -> Result<(), Fault> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for number in 0..MANY {
        let name = format!("user{number}");
        let keys = UserKeys { md5: Some([7; 16]), sha256: Some([7; 32]) };
        admin.add_user(NewUser { name: name.clone(), keys, ..new("anybody")? }).await?;
        names.push(name.into());
    }
    names.extend((0..MANY * 4).map(|number| format!("nobody{number}").into()));
    let begun = clock::now();
    assert_eq!(MANY, store.users(REALM.into(), names.clone()).await?.len());
    println!("{} names at once: {:?}", names.len(), clock::now() - begun);
    let begun = clock::now();
    for name in names.iter().take(MANY) {
        store.user(lookup(REALM, name)).await?.ok_or("nobody")?;
    }
    println!("one look-up: {:?}", (clock::now() - begun) / u32::try_from(MANY)?);
    for name in names.iter().take(MANY) {
        admin.remove_user(REALM, name).await?;
    }
    Ok(())
}

async fn secrets(admin: &dyn Admin, store: &dyn CredentialStore) -> Result<(), Fault> {
    admin.add_secret(REALM, "one").await?;
    assert!(matches!(admin.add_secret(REALM, "one").await, Err(AdminError::Exists(_))));
    assert_eq!(0, admin.rotate_secret(REALM, "two", 1).await?.len());
    assert_eq!(2, store.rest_secrets(REALM.into()).await?.len());
    assert_eq!(2, admin.rotate_secret(REALM, "three", 0).await?.len());
    assert_eq!(vec![b"three".to_vec()], store.rest_secrets(REALM.into()).await?);
    let listed = admin.list_secrets(None).await?.pop().ok_or("no secret")?;
    admin.remove_secret(&listed.realm, &listed.fingerprint).await?;
    assert_eq!(0, store.rest_secrets(REALM.into()).await?.len());
    Ok(())
}

async fn realms(admin: &dyn Admin, store: &dyn CredentialStore) -> Result<(), Fault> {
    let quotas = QuotaLimits {
        allocations: Some(1),
        allocations_per_user: Some(2),
        allocations_per_source: Some(3),
        bandwidth: Some(4),
        bandwidth_per_user: Some(5),
        bandwidth_per_allocation: Some(6),
    };
    admin.set_realm(REALM, quotas).await?;
    admin.add_origin("https://elsewhere.example:443", "elsewhere").await?;
    admin.add_origin("https://example.org:443", "elsewhere").await?;
    admin.add_origin("https://example.org:443", REALM).await?;
    admin.add_peer(rule(None, Verdict::Allow, "192.0.2.0/24")).await?;
    let twice = admin.add_peer(rule(None, Verdict::Allow, "192.0.2.0/24")).await;
    assert!(matches!(twice, Err(AdminError::Exists(_))), "{twice:?}");
    admin.add_peer(rule(None, Verdict::Deny, "2001:db8::/32")).await?;

    let realms = store.realms().await?;
    let [elsewhere, realm] = realms.as_slice() else { return Err("two realms".into()) };
    assert_eq!("elsewhere", &*elsewhere.name);
    assert_eq!((REALM, quotas), (&*realm.name, realm.quotas));
    assert_eq!(vec!["https://example.org:443"], realm.origins);
    assert_eq!((1, 1), (realm.peers.allow.len(), realm.peers.deny.len()));

    admin.set_realm(REALM, QuotaLimits::default()).await?;
    assert_eq!(2, admin.list_realms().await?.len());
    admin.remove_peer(rule(None, Verdict::Deny, "2001:db8::/32")).await?;
    admin.remove_realm(REALM).await?;
    admin.remove_origin("https://elsewhere.example:443").await?;
    assert_eq!(0, admin.list_realms().await?.len());
    Ok(())
}

async fn token_keys(admin: &dyn Admin, store: &dyn CredentialStore) -> Result<(), Fault> {
    let realm = Some(REALM.into());
    let key = TokenKey { kid: "k".into(), key: vec![7; 16], realm, valid: Some((10, 20)) };
    admin.set_token_key(TokenKey { key: vec![8; 32], ..key.clone() }).await?;
    admin.set_token_key(key.clone()).await?;
    assert_eq!(Some(key.clone()), store.token_key("k".into()).await?);
    assert_eq!(vec![key], admin.list_token_keys().await?);
    admin.remove_token_key("k").await?;
    assert_eq!(None, store.token_key("k".into()).await?);
    Ok(())
}

fn new(name: &str) -> Result<NewUser, Fault> {
    let keys = UserKeys::of_password(REALM, name, "secret")?;
    let (realm, name) = (REALM.to_owned(), name.to_owned());
    Ok(NewUser { realm, name, keys, limits: NO_LIMITS, expires: None })
}

fn rule(user: Option<&str>, verdict: Verdict, network: &str) -> PeerRule {
    let network = network.parse().expect("a network");
    PeerRule { realm: REALM.into(), user: user.map(str::to_owned), verdict, network }
}

fn lookup(realm: &str, name: &str) -> UserLookup {
    UserLookup {
        realm: realm.into(),
        user: ClaimedUser::Named(name.into()),
        password_algorithm: PasswordAlgorithm::Md5,
        client: [192, 0, 2, 1].into(),
    }
}

const REALM: &str = "north[1].gov";
const NO_LIMITS: UserLimits =
    UserLimits { allocations: None, bandwidth: None, bandwidth_per_allocation: None };
const MANY: usize = 300;
