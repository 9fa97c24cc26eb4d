//! Credentials that somebody else mints: time-limited ones, signed tokens, access tokens.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sterna_actors::authenticator::{
    time_limited_password, time_limited_password_sha256, token_password,
};
use sterna_actors::clock;
use sterna_actors::policy::{OAuth, Realm, TokenKey};
use sterna_proto::access_token::{AccessToken, seal};
use sterna_proto::account::CredentialKind;
use sterna_proto::credentials::Key;
use sterna_proto::guard::ClaimedUser;

use super::credentials::{Configured, Desk, key, named};
use crate::kit::{PlayedStore, REALM, after, secs};

type Password = fn(&[u8], &str) -> Option<String>;

const BOTH: [Password; 2] = [time_limited_password, time_limited_password_sha256];

impl Desk {
    /// Whether the name, with the password that this makes of the secret, is let in.
    async fn takes(&self, password: Password, secret: &[u8], name: &str) -> bool {
        let password = password(secret, name).expect("a secret of any length");
        let found = self.finds(named(name)).await;
        found.account.is_some() && found.keys.contains(&key(name, &password))
    }
}

fn in_an_hour(name: &str) -> String {
    format!("{}:{name}", (clock::unix_now() + secs(3600)).as_secs())
}

fn with_secrets(secrets: &[&[u8]]) -> Configured {
    let rest_secrets = secrets.iter().map(|secret| secret.to_vec()).collect();
    let realm = Realm { rest_secrets, ..Realm::of_users(REALM, Vec::new()) };
    Configured { realm, ..Configured::default() }
}

#[test]
fn all_secrets_of_the_realm_are_good_with_both_hashes() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has_secrets(&[b"of the first", b""]);
    second.has_secrets(&[b"of the second", b"and another"]);
    with_secrets(&[b"configured"]).play(&[&first, &second], async |desk| {
        let name = in_an_hour("dave");
        for secret in ["configured", "of the first", "of the second", "and another"] {
            for password in BOTH {
                assert!(desk.takes(password, secret.as_bytes(), &name).await, "{secret}");
            }
        }
        for secret in ["", "unknown"] {
            assert!(!desk.takes(time_limited_password, secret.as_bytes(), &name).await);
        }
        assert_eq!(["secrets"], *first.was_asked().await);
        assert_eq!(["secrets"], *second.was_asked().await);
    });
}

#[test]
fn secrets_rotate() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[b"of June"]);
    with_secrets(&[]).play(&[&store], async |desk| {
        let name = in_an_hour("dave");
        assert!(desk.takes(time_limited_password, b"of June", &name).await);
        store.has_secrets(&[b"of June", b"of July"]);
        after(secs(5)).await;
        for secret in [b"of June", b"of July"] {
            assert!(desk.takes(time_limited_password, secret, &name).await);
        }
        store.has_secrets(&[b"of July"]);
        after(secs(5)).await;
        assert!(!desk.takes(time_limited_password, b"of June", &name).await);
        assert!(desk.takes(time_limited_password, b"of July", &name).await);
    });
}

#[test]
fn secrets_are_known_during_an_outage() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[b"stored"]);
    with_secrets(&[]).play(&[&store], async |desk| {
        let name = in_an_hour("dave");
        assert!(desk.takes(time_limited_password, b"stored", &name).await);
        store.goes_down();
        after(secs(600)).await;
        assert!(desk.takes(time_limited_password, b"stored", &name).await);
        desk.log.expects(slog::Level::Error, "credential store is down");
    });
    // Those of the configuration need no store, and where there is none nothing can be said.
    for (secrets, known) in [(&[&b"configured"[..]][..], true), (&[], false)] {
        with_secrets(secrets).play(&[&store], async |desk| {
            assert_eq!(known, desk.answer(named(&in_an_hour("dave"))).await.is_ok());
            desk.log.expects(slog::Level::Error, "credential store is down");
        });
    }
}

#[test]
fn secrets_of_before_an_outage_are_good_for_an_hour_and_others_go_when_they_are_gone() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has_secrets(&[b"of the first"]);
    second.has_secrets(&[b"of the second", b"and another"]);
    with_secrets(&[]).play(&[&first, &second], async |desk| {
        let name = (clock::unix_now() + secs(9999)).as_secs().to_string() + ":dave";
        let takes =
            async |secret: &str| desk.takes(time_limited_password, secret.as_bytes(), &name).await;
        assert!(takes("of the first").await && takes("of the second").await);
        // What a store that is there has taken back is gone, whichever other one is down.
        first.goes_down();
        second.has_secrets(&[b"and another"]);
        after(secs(5)).await;
        assert!(!takes("of the second").await);
        assert!(takes("of the first").await && takes("and another").await);
        desk.log.expects(slog::Level::Error, "credential store is down");
        after(secs(3600 - 6)).await;
        assert!(takes("of the first").await);
        after(secs(2)).await;
        assert!(!takes("of the first").await);
        assert!(takes("and another").await);
    });
}

#[test]
fn the_end_of_a_time_limited_credential_is_in_the_account() {
    with_secrets(&[b"secret"]).play(&[], async |desk| {
        let name = in_an_hour("dave:phone");
        let account = desk.finds(named(&name)).await.account.expect("the user is known");
        assert_eq!((&*name, "dave:phone"), (&*account.username, &*account.quota_name));
        let left = account.expires.expect("it ends") - clock::now();
        assert!((secs(3590)..=secs(3600)).contains(&left), "{left:?}");
        after(secs(3601)).await;
        let account = desk.finds(named(&name)).await.account.expect("the user is known");
        assert!(account.expires.expect("it ends") <= clock::now());
        let name = format!("{}:far", u64::MAX);
        let account = desk.finds(named(&name)).await.account.expect("the user is known");
        assert!(account.expires.expect("it ends") > clock::now());
    });
}

#[test]
fn users_may_be_called_by_a_number() {
    let store = PlayedStore::new("db");
    store.has("491511234567", "lark");
    store.has("1:1", "wren");
    with_secrets(&[b"secret"]).play(&[&store], async |desk| {
        let found = desk.finds(named("491511234567")).await;
        let account = found.account.expect("the user is known");
        assert_eq!((CredentialKind::LongTerm, None), (account.credential, account.expires));
        assert_eq!([key("491511234567", "lark")], found.keys[..]);
        // Another number is a credential, store or no store.
        let number = (clock::unix_now() + secs(60)).as_secs().to_string();
        assert!(desk.takes(time_limited_password, b"secret", &number).await);
    });
    // Without secrets there are no time-limited credentials, so that such names are free.
    with_secrets(&[]).play(&[&store], async |desk| {
        assert_eq!([key("1:1", "wren")], desk.finds(named("1:1")).await.keys[..]);
        assert!(desk.finds(named("1:2")).await.account.is_none());
    });
}

fn token(header: &str, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn ending(unix: Duration) -> String {
    token(HS256, &format!(r#"{{"sub":"dave","exp":{}}}"#, unix.as_secs()))
}

#[test]
fn a_signed_token_is_good_under_each_secret_of_its_kind() {
    let jwt_secrets = vec![b"old".to_vec(), b"fresh".to_vec()];
    let rest_secrets = vec![b"rest".to_vec()];
    let realm = Realm { jwt_secrets, rest_secrets, ..Realm::of_users(REALM, Vec::new()) };
    Configured { realm, ..Configured::default() }.play(&[], async |desk| {
        let name = ending(clock::unix_now() + secs(60));
        for (secret, good) in [("old", true), ("fresh", true), ("rest", false), ("", false)] {
            assert_eq!(good, desk.takes(token_password, secret.as_bytes(), &name).await);
        }
        let account = desk.finds(named(&name)).await.account.expect("the user is known");
        assert_eq!(("dave", &*name), (&*account.quota_name, &*account.username));
        assert_eq!(CredentialKind::SignedToken, account.credential);
        assert!(account.expires.expect("it ends") > clock::now());

        let expired = ending(clock::unix_now() - secs(1));
        let account = desk.finds(named(&expired)).await.account.expect("the user is known");
        assert!(account.expires.expect("it ends") <= clock::now());
    });
}

#[test]
fn a_malformed_token_is_nobody_and_no_store_is_asked() {
    let store = PlayedStore::new("db");
    store.has("jane.doe", "lark");
    let jwt_secrets = vec![b"secret".to_vec()];
    let realm = Realm { jwt_secrets, ..Realm::of_users(REALM, Vec::new()) };
    Configured { realm, ..Configured::default() }.play(&[&store], async |desk| {
        let payload = r#"{"sub":"dave","exp":4102444800}"#;
        let not_yet = format!(r#"{{"sub":"dave","exp":4102444800,"nbf":{}}}"#, 4_102_444_000_u64);
        for name in [
            token(r#"{"alg":"none"}"#, payload),
            token(r#"{"alg":"HS512"}"#, payload),
            token(HS256, r#"{"sub":"dave"}"#),
            token(HS256, r#"{"exp":4102444800}"#),
            token(HS256, &not_yet),
            token(HS256, &" ".repeat(500)),
            format!("{}.!!", URL_SAFE_NO_PAD.encode(HS256)),
            format!("{}.", token(HS256, payload)),
        ] {
            assert!(!desk.takes(token_password, b"secret", &name).await, "{name}");
            assert!(desk.finds(named(&name)).await.account.is_none(), "{name}");
        }
        assert!(store.was_asked().await.is_empty());
        assert_eq!([key("jane.doe", "lark")], desk.finds(named("jane.doe")).await.keys[..]);
    });
}

#[test]
fn tokens_are_names_like_others_where_no_secret_is() {
    let store = PlayedStore::new("db");
    with_secrets(&[]).play(&[&store], async |desk| {
        let name = ending(clock::unix_now() + secs(60));
        assert!(desk.finds(named(&name)).await.account.is_none());
        assert_eq!(1, store.was_asked().await.len());
    });
}

const SERVER: &str = "turn.north.gov";

fn token_key(kid: &str, key: &[u8]) -> TokenKey {
    TokenKey { kid: kid.to_owned(), key: key.to_vec(), realm: None, valid: None }
}

fn with_oauth(keys: Vec<TokenKey>) -> Configured {
    let oauth = OAuth { server_name: SERVER.to_owned(), keys };
    Configured { oauth: Some(oauth), ..Configured::default() }
}

/// A token with a client's key of `mac_key`, made for `server`.
fn sealed(issued: Duration, key: &[u8], mac_key: &[u8], server: &str) -> Bytes {
    let token = AccessToken { mac_key: Key::shared(mac_key), issued, lifetime: secs(600) };
    seal(&token, key, [7; 12], server).expect("keys of the right length").into()
}

fn claim(kid: &str, token: Bytes) -> ClaimedUser {
    ClaimedUser::Token { kid: kid.to_owned(), token }
}

#[test]
fn an_access_token_carries_the_key_and_its_end() {
    with_oauth(vec![token_key("2026", &[1; 32]), token_key("2025", &[2; 16])]).play(
        &[],
        async |desk| {
            for (kid, key) in [("2026", &[1; 32][..]), ("2025", &[2; 16])] {
                let token = sealed(clock::unix_now(), key, &[9; 20], SERVER);
                let found = desk.finds(claim(kid, token)).await;
                assert_eq!([Key::shared(&[9; 20])], found.keys[..]);
                let account = found.account.expect("the token is good");
                assert_eq!(
                    (kid, CredentialKind::AccessToken),
                    (&*account.username, account.credential)
                );
                assert!(account.quota_name.starts_with(&format!("{kid}/")));
                let left = account.expires.expect("it ends") - clock::now();
                assert!((secs(590)..=secs(600)).contains(&left), "{left:?}");
            }
        },
    );
}

#[test]
fn access_tokens_that_are_not_good_are_nobody() {
    let past = clock::unix_now() - secs(1000);
    let outdated = TokenKey { valid: Some((0, past.as_secs())), ..token_key("outdated", &[1; 32]) };
    let elsewhere = TokenKey { realm: Some("south.gov".into()), ..token_key("south", &[1; 32]) };
    let keys = vec![token_key("2026", &[1; 32]), outdated, elsewhere, token_key("odd", &[1; 7])];
    with_oauth(keys).play(&[], async |desk| {
        let now = clock::unix_now();
        let good = sealed(now, &[1; 32], &[9; 20], SERVER);
        let mut changed = good.to_vec();
        changed[20] ^= 1;
        for (kid, token) in [
            ("2026", sealed(now - secs(606), &[1; 32], &[9; 20], SERVER)),
            ("2026", sealed(now + secs(700), &[1; 32], &[9; 20], SERVER)),
            ("2026", sealed(now, &[2; 32], &[9; 20], SERVER)),
            ("2026", sealed(now, &[1; 32], &[9; 20], "turn.south.gov")),
            ("2026", changed.into()),
            ("2026", good.slice(..good.len() - 1)),
            ("2026", Bytes::new()),
            ("unknown", good.clone()),
            ("outdated", good.clone()),
            ("south", good.clone()),
            ("odd", good.clone()),
        ] {
            assert!(desk.finds(claim(kid, token)).await.account.is_none(), "{kid}");
        }
        assert!(desk.finds(claim("2026", good)).await.account.is_some());
    });
}

#[test]
fn stores_know_keys_of_access_tokens() {
    let store = PlayedStore::new("db");
    store.has_token_keys(vec![token_key("stored", &[3; 32])]);
    with_oauth(vec![token_key("2026", &[1; 32])]).play(&[&store], async |desk| {
        let token = || sealed(clock::unix_now(), &[3; 32], &[9; 32], SERVER);
        for _ in 0..2 {
            assert!(desk.finds(claim("stored", token())).await.account.is_some());
            assert!(desk.finds(claim("unknown", token())).await.account.is_none());
        }
        assert_eq!(["token key stored", "token key unknown"], *store.was_asked().await);
        store.goes_down();
        after(secs(100)).await;
        assert!(desk.finds(claim("stored", token())).await.account.is_some());
        assert!(desk.answer(claim("unknown", token())).await.is_err());
        desk.log.expects(slog::Level::Error, "credential store is down");
    });
    Configured::default().play(&[&store], async |desk| {
        let token = sealed(clock::unix_now(), &[3; 32], &[9; 32], SERVER);
        assert!(desk.finds(claim("stored", token)).await.account.is_none());
    });
}

#[test]
fn a_store_that_is_down_may_have_another_key_of_the_same_name() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    second.has_token_keys(vec![token_key("stored", &[3; 32])]);
    with_oauth(Vec::new()).play(&[&first, &second], async |desk| {
        let token = || claim("stored", sealed(clock::unix_now(), &[3; 32], &[9; 32], SERVER));
        first.goes_down();
        assert!(desk.answer(token()).await.is_err());
        desk.log.expects(slog::Level::Error, "credential store is down");
        first.comes_back();
        assert!(desk.finds(token()).await.account.is_some());
        desk.log.expects(slog::Level::Info, "credential store answers again");
    });
}
