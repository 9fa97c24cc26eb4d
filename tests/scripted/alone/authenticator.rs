//! Authenticator: which keys a claim may be proved with.

use std::net::Ipv4Addr;

use actix::Addr;
use sterna_actors::authenticator::{
    AskStores, Authenticator, CredentialSources, FindKeys, Panic, time_limited_password,
    time_limited_password_sha256,
};
use sterna_actors::clock;
use sterna_actors::policy::{Realm, UserSecret};
use sterna_actors::store_actor::StoreActor;
use sterna_proto::account::CredentialKind;
use sterna_proto::credentials::{Key, PasswordAlgorithm, user_hash};
use sterna_proto::guard::{Claim, ClaimedUser};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::session::FoundKeys;

use crate::kit::{Log, PASSWORDS, REALM, credentials, secs, settle, virtual_time};

fn play(sources: CredentialSources, script: impl AsyncFnOnce(&Addr<Authenticator>, &Log)) {
    virtual_time(async move || {
        let log = Log::default();
        let spent = |spent| panic!("{spent}");
        let nobody = StoreActor::start(log.logger(), |spent| panic!("{spent}"));
        let ask = AskStores::of(&nobody);
        let authenticator = Authenticator::start(sources.into(), ask, log.logger(), spent);
        script(&authenticator, &log).await;
        log.is_calm();
    });
}

async fn find(
    authenticator: &Addr<Authenticator>,
    user: ClaimedUser,
    password_algorithm: PasswordAlgorithm,
) -> FoundKeys {
    let asked = asking(user, password_algorithm);
    authenticator.send(asked).await.expect("it is alive").expect("no store is down")
}

fn named(name: &str) -> ClaimedUser {
    ClaimedUser::Named(name.to_owned())
}

fn key(algorithm: PasswordAlgorithm, name: &str, password: &str) -> Key {
    Key::long_term(algorithm, name, REALM, password).expect("a usable password")
}

const ALGORITHMS: [PasswordAlgorithm; 2] = [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256];

fn asking(user: ClaimedUser, password_algorithm: PasswordAlgorithm) -> FindKeys {
    let answer_integrity = IntegrityAlgorithm::Sha1;
    let claim = Claim { realm: REALM.into(), user, password_algorithm, answer_integrity };
    FindKeys { claim, client: Ipv4Addr::LOCALHOST.into(), afresh: false }
}

fn name_in(found: &FoundKeys) -> Option<&str> {
    found.account.as_ref().map(|account| &*account.username)
}

#[test]
fn user_is_found_by_name_and_by_hash() {
    play(credentials(), async |authenticator, _| {
        for (name, password) in PASSWORDS {
            for algorithm in ALGORITHMS {
                let hash = user_hash(name, REALM).expect("a usable name");
                for user in [named(name), ClaimedUser::Hashed(hash)] {
                    let found = find(authenticator, user, algorithm).await;
                    assert_eq!(Some(name), name_in(&found));
                    assert_eq!([key(algorithm, name, password)], found.keys[..]);
                }
            }
        }
    });
}

#[test]
fn unknown_user_gets_a_key_that_nobody_has() {
    play(credentials(), async |authenticator, _| {
        for algorithm in ALGORITHMS {
            for user in [named("mallory"), named(""), ClaimedUser::Hashed([0; 32])] {
                let found = find(authenticator, user.clone(), algorithm).await;
                let again = find(authenticator, user, algorithm).await;
                assert_eq!((None, 1), (name_in(&found), found.keys.len()));
                assert_ne!(found.keys, again.keys);
            }
        }
    });
}

#[test]
fn names_are_not_folded() {
    play(credentials(), async |authenticator, _| {
        for name in ["Alice", "alice ", "ALICE"] {
            let found = find(authenticator, named(name), PasswordAlgorithm::Md5).await;
            assert_eq!(None, name_in(&found), "{name:?}");
        }
    });
}

#[test]
fn user_without_a_key_for_the_algorithm_is_not_found() {
    let keys = UserSecret::Keys { md5: Some([5; 16]), sha256: None };
    let users = vec![("carol".to_owned(), keys)];
    let sources = CredentialSources::of_realm(Realm::of_users(REALM, users));
    play(sources, async |authenticator, _| {
        let found = find(authenticator, named("carol"), PasswordAlgorithm::Md5).await;
        assert_eq!(Some("carol"), name_in(&found));
        assert_eq!([5; 16], found.keys[0].as_bytes());

        let found = find(authenticator, named("carol"), PasswordAlgorithm::Sha256).await;
        assert_eq!(None, name_in(&found));
    });
}

#[test]
fn time_limited_credential_is_good_under_each_secret_until_it_expires() {
    let secrets: [&[u8]; 2] = [b"of last month", b"of this month"];
    let rest_secrets = secrets.iter().map(|secret| secret.to_vec()).collect();
    let [realm] = &credentials().realms[..] else { panic!("there is one realm") };
    let sources = CredentialSources::of_realm(Realm { rest_secrets, ..realm.clone() });
    play(sources, async |authenticator, _| {
        // In the year 2100.
        let name = "4102444800:dave";
        let found = find(authenticator, named(name), PasswordAlgorithm::Sha256).await;
        let expected = secrets.map(|secret| {
            [time_limited_password, time_limited_password_sha256].map(|password| {
                let password = password(secret, name).expect("a secret of any length");
                key(PasswordAlgorithm::Sha256, name, &password)
            })
        });
        assert_eq!(Some(name), name_in(&found));
        assert_eq!(expected.as_flattened(), &found.keys[..]);
        let account = found.account.expect("the user is known");
        assert_eq!(
            ("dave", CredentialKind::TimeLimited),
            (&*account.quota_name, account.credential)
        );
        assert!(account.expires.expect("it ends") > clock::now() + secs(3600));

        // What has expired is known all the same: the session says what that means.
        for expired in ["1000000000:dave", "0", "1:"] {
            let found = find(authenticator, named(expired), PasswordAlgorithm::Sha256).await;
            let account = found.account.expect("the user is known");
            assert_eq!((4, expired), (found.keys.len(), &*account.username));
            assert!(account.expires.expect("it ends") <= clock::now(), "{expired:?}");
        }
        for nobody in ["-1:dave", "18446744073709551616:dave", ":dave", "soon:dave"] {
            let found = find(authenticator, named(nobody), PasswordAlgorithm::Sha256).await;
            assert_eq!((None, 1), (name_in(&found), found.keys.len()), "{nobody:?}");
        }
        let found = find(authenticator, named("alice"), PasswordAlgorithm::Md5).await;
        assert_eq!(Some("alice"), name_in(&found));
    });
}

#[test]
fn healed_authenticator_knows_everybody_again() {
    play(credentials(), async |authenticator, log| {
        let before = find(authenticator, named("alice"), PasswordAlgorithm::Md5).await;
        authenticator.do_send(Panic);
        let after = find(authenticator, named("alice"), PasswordAlgorithm::Md5).await;
        settle().await;

        log.expects(slog::Level::Warning, "actor panicked and is healed in place");
        assert_eq!((name_in(&before), &before.keys), (name_in(&after), &after.keys));
        let hash = user_hash("bob", REALM).expect("a usable name");
        let found = find(authenticator, ClaimedUser::Hashed(hash), PasswordAlgorithm::Md5).await;
        assert_eq!(Some("bob"), name_in(&found));
    });
}

#[test]
fn claims_that_wait_survive_a_panic() {
    play(credentials(), async |authenticator, log| {
        let claim = || asking(named("alice"), PasswordAlgorithm::Md5);
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(authenticator.send(claim()));
            authenticator.do_send(Panic);
        }
        for found in waiting {
            let found = found.await.expect("it is answered").expect("no store is down");
            assert_eq!(Some("alice"), name_in(&found));
        }
        crate::kit::after(secs(1)).await;
        for _ in 0..3 {
            log.expects(slog::Level::Warning, "actor panicked and is healed in place");
        }
    });
}
