//! StoreActor: whose credentials are gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use sterna_actors::authenticator::{
    CredentialSources, Forget, StoreTraits, time_limited_password, time_limited_password_sha256,
    token_password,
};
use sterna_actors::clock;
use sterna_actors::credential_store::StoredUser;
use sterna_actors::policy::{OAuth, Realm, TokenKey, UserSecret};
use sterna_actors::quota_keeper::{LeaseId, ListOwners, OwnerInUse, RevokeLeases};
use sterna_actors::store_actor::{
    Introduce, Panic, RealmsRead, SetStores, StoreActor, StoreNeighbours,
};
use sterna_proto::account::{Account, CredentialKind};
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::session::Owner;

use super::credentials::key;
use crate::kit::{
    Asked, Ear, Log, PlayedStore, REALM, after, neighbour, secs, settle, virtual_time,
};

/// The StoreActor, and everybody it talks to of its own accord.
pub(super) struct Round {
    pub(super) actor: Addr<StoreActor>,
    list_owners: Ear<ListOwners>,
    revoke: Ear<RevokeLeases>,
    forget: Ear<Forget>,
    realms: Ear<RealmsRead>,
    stores: Vec<PlayedStore>,
    log: Log,
}

pub(super) fn configured(realm: Realm) -> CredentialSources {
    CredentialSources::of_realm(realm)
}

pub(super) fn no_users() -> Realm {
    Realm::of_users(REALM, Vec::new())
}

pub(super) fn play(realm: Realm, stores: &[&PlayedStore], script: impl AsyncFnOnce(&mut Round)) {
    let stores: Vec<PlayedStore> = stores.iter().map(|&store| store.clone()).collect();
    virtual_time(async move || {
        let log = Log::default();
        let actor = StoreActor::start(log.logger(), |spent| panic!("{spent}"));
        let (list_owners, to_list_owners) = neighbour();
        let (revoke, to_revoke) = neighbour();
        let (forget, to_forget) = neighbour();
        let (realms, to_realms) = neighbour();
        let mut round = Round { actor, list_owners, revoke, forget, realms, stores, log };
        round.set(configured(realm));
        round.actor.do_send(Introduce(StoreNeighbours {
            list_owners: to_list_owners,
            revoke: to_revoke,
            authenticators: vec![to_forget],
            realms: to_realms,
        }));
        if !round.stores.is_empty() {
            // The first of what the stores say of realms.
            let _ = round.realms.hears().await;
        }
        script(&mut round).await;
        round.revoke.hears_nothing().await;
        round.forget.hears_nothing().await;
        round.realms.hears_nothing().await;
        round.log.is_calm();
    });
}

impl Round {
    /// Another configuration.
    fn set(&self, sources: CredentialSources) {
        let stores: Vec<_> = self.stores.iter().map(PlayedStore::as_store).collect();
        let sources = CredentialSources { stores: StoreTraits::of(&stores), ..sources };
        self.actor.do_send(SetStores { stores, sources: Arc::new(sources) });
    }

    /// The next look at these owners, who are all left alone.
    async fn leaves(&mut self, owners: &[OwnerInUse]) {
        self.looks_at(owners).await;
        self.forget.hears_nothing().await;
        self.revoke.hears_nothing().await;
    }

    /// The next look, at which these of them have lost their credential.
    async fn revokes(&mut self, owners: &[OwnerInUse], gone: &[OwnerInUse]) {
        self.tells_of(owners, gone).await.answers(()).await;
    }

    /// The same, and the word is lost.
    async fn revokes_in_vain(&mut self, owners: &[OwnerInUse], gone: &[OwnerInUse]) {
        drop(self.tells_of(owners, gone).await);
        settle().await;
    }

    async fn tells_of(
        &mut self,
        owners: &[OwnerInUse],
        gone: &[OwnerInUse],
    ) -> Asked<RevokeLeases> {
        self.looks_at(owners).await;
        let forget = self.forget.hears().await;
        let names: BTreeSet<_> = gone.iter().map(|owner| &owner.owner.account.username).collect();
        assert_eq!(REALM, &*forget.message.realm);
        assert_eq!(names, forget.message.users.iter().collect());
        forget.answers(()).await;
        let revoke = self.revoke.hears().await;
        let mut leases = revoke.message.0.clone();
        leases.sort();
        let mut expected: Vec<_> = gone.iter().flat_map(|owner| owner.leases.clone()).collect();
        expected.sort();
        assert_eq!(expected, leases);
        for _ in gone {
            self.log.expects(slog::Level::Info, "credential is gone");
        }
        revoke
    }

    async fn looks_at(&mut self, owners: &[OwnerInUse]) {
        after(LOOK).await;
        self.list_owners.hears().await.answers(owners.to_vec()).await;
    }
}

const LOOK: Duration = Duration::from_millis(500);

fn owner(lease: u64, kind: CredentialKind, name: &str, key: Key) -> OwnerInUse {
    let account = Account { credential: kind, ..Account::lasting(REALM.into(), name.into()) };
    let password_algorithm = PasswordAlgorithm::Md5;
    let owner = Owner { account: Arc::new(account), key, password_algorithm };
    OwnerInUse { owner, leases: vec![LeaseId(lease), LeaseId(lease + 1000)] }
}

fn user(lease: u64, name: &str, password: &str) -> OwnerInUse {
    owner(lease, CredentialKind::LongTerm, name, key(name, password))
}

/// The same, as the store of this label has told of it.
fn stored_in(label: &str, mut of: OwnerInUse) -> OwnerInUse {
    let stored_in = Some(label.into());
    let account = Account { stored_in, ..Account::clone(&of.owner.account) };
    of.owner.account = Arc::new(account);
    of
}

fn without_one(owners: &[OwnerInUse], index: usize) -> Vec<OwnerInUse> {
    let mut owners = owners.to_vec();
    owners.remove(index);
    owners
}

#[test]
fn users_of_stores_live_as_long_as_their_key() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has("carol", "lark");
    second.has("dave", "rook");
    play(no_users(), &[&first, &second], async |round| {
        let all = [user(1, "carol", "lark"), user(2, "dave", "rook")];
        round.leaves(&all).await;
        // Another password is another key.
        second.has("dave", "gull");
        round.revokes(&all, &all[1..]).await;
        let all = [user(1, "carol", "lark"), user(3, "dave", "gull")];
        round.leaves(&all).await;
        // The first store that knows a user is believed.
        first.has("dave", "wren");
        round.revokes(&all, &all[1..]).await;
        first.loses("dave");
        first.loses("carol");
        round.revokes(&all, &all[..1]).await;
    });
}

#[test]
fn static_users_live_as_long_as_the_configuration_has_them() {
    let password = |word: &str| UserSecret::Password(word.to_owned());
    let realm = |users: &[(&str, &str)]| {
        let users = users.iter().map(|(name, word)| ((*name).to_owned(), password(word)));
        Realm::of_users(REALM, users.collect())
    };
    play(realm(&[("alice", "sesame"), ("bob", "tern")]), &[], async |round| {
        let all = [user(1, "alice", "sesame"), user(2, "bob", "tern")];
        round.leaves(&all).await;
        round.set(configured(realm(&[("alice", "sesame"), ("bob", "gull")])));
        round.revokes(&all, &all[1..]).await;
        round.set(configured(realm(&[("bob", "gull")])));
        round.revokes(&all[..1], &all[..1]).await;
        // Without a store nothing changes by itself, so that nobody looks for ever.
        for _ in 0..10 {
            round.leaves(&[]).await;
        }
        after(secs(60)).await;
        round.list_owners.hears_nothing().await;
    });
}

#[test]
fn an_outage_revokes_nobody_whom_the_store_may_know() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has("carol", "lark");
    first.has_secrets(&[b"secret"]);
    second.has("dave", "rook");
    second.has("erin", "ruff");
    second.has("gwen", "knot");
    let realm = |users: &[(&str, &str)]| {
        let secret = |word: &str| UserSecret::Password(word.to_owned());
        let users = users.iter().map(|(name, word)| ((*name).to_owned(), secret(word)));
        Realm::of_users(REALM, users.collect())
    };
    play(realm(&[("alice", "sesame")]), &[&first, &second], async |round| {
        let name = "4102444800:frank";
        let password = time_limited_password(b"secret", name).expect("a secret");
        let all = [
            stored_in("first", user(1, "carol", "lark")),
            stored_in("second", user(2, "dave", "rook")),
            owner(3, CredentialKind::TimeLimited, name, key(name, &password)),
            stored_in("second", user(4, "erin", "ruff")),
            stored_in("second", user(5, "gwen", "knot")),
            user(6, "alice", "sesame"),
        ];
        round.leaves(&all).await;
        // What the second says of those whom it has let in is so, whatever the first might say of
        // the same names; of those of the first it has nothing to say.
        first.goes_down();
        second.has("carol", "another");
        for _ in 0..10 {
            round.leaves(&all).await;
        }
        round.log.expects(slog::Level::Error, "credential store is down");
        second.loses("erin");
        second.has("gwen", "stint");
        round.revokes(&all, &all[3..5]).await;
        // Whom the configuration has let in it takes away as well.
        round.set(configured(realm(&[])));
        round.revokes(&all, &all[3..]).await;
        round.leaves(&all[..3]).await;

        first.comes_back();
        first.loses("carol");
        after(secs(1)).await;
        round.list_owners.hears().await.answers(Vec::new()).await;
        round.revokes(&all[..3], &all[..1]).await;
        round.log.expects(slog::Level::Info, "credential store answers again");
    });
}

#[test]
fn users_may_move_from_one_store_to_another() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    let (third, carol) = (PlayedStore::new("third"), user(1, "carol", "lark"));
    first.has("carol", "lark");
    play(no_users(), &[&first, &second, &third], async |round| {
        let all = [stored_in("first", carol)];
        round.leaves(&all).await;
        third.has("carol", "lark");
        first.loses("carol");
        round.leaves(&all).await;
        // Also while another one is away that might know her differently.
        second.goes_down();
        round.leaves(&all).await;
        round.log.expects(slog::Level::Error, "credential store is down");
        third.loses("carol");
        round.revokes(&all, &all).await;
    });
}

#[test]
fn secrets_are_taken_back_while_another_store_is_down() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has_secrets(&[b"of the first"]);
    second.has_secrets(&[b"of the second", b"shared"]);
    let realm = |secrets: &[&[u8]]| Realm {
        rest_secrets: secrets.iter().map(|secret| secret.to_vec()).collect(),
        ..no_users()
    };
    play(realm(&[b"configured"]), &[&first, &second], async |round| {
        let name = "4102444800:dave";
        let minted = |lease, secret: &[u8]| {
            let password = time_limited_password(secret, name).expect("a secret");
            owner(lease, CredentialKind::TimeLimited, name, key(name, &password))
        };
        let all = [
            minted(1, b"of the first"),
            minted(2, b"of the second"),
            minted(3, b"shared"),
            minted(4, b"configured"),
            minted(5, b"that nobody has told of"),
        ];
        round.leaves(&all[..4]).await;
        first.goes_down();
        round.leaves(&all).await;
        round.log.expects(slog::Level::Error, "credential store is down");
        second.has_secrets(&[b"shared"]);
        round.revokes(&all, &all[1..2]).await;
        // Whoever comes with it a moment later is seen as well.
        let late = [minted(6, b"of the second")];
        round.revokes(&late, &late).await;
        let left = without_one(&all, 1);
        round.leaves(&left).await;
        round.set(configured(realm(&[])));
        round.revokes(&left, &left[2..3]).await;
        let left = without_one(&left, 2);
        round.leaves(&left).await;

        first.comes_back();
        after(secs(1)).await;
        round.list_owners.hears().await.answers(Vec::new()).await;
        round.revokes(&left, &left[2..]).await;
        round.log.expects(slog::Level::Info, "credential store answers again");
    });
}

#[test]
fn whoever_is_gone_is_revoked_until_it_is() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[b"secret", b"other"]);
    let realm = |secret: &[u8]| Realm { jwt_secrets: vec![secret.to_vec()], ..no_users() };
    play(realm(b"old"), &[&store], async |round| {
        let minted = |lease, kind, name: &str, password: Option<String>| {
            owner(lease, kind, name, key(name, &password.expect("a secret")))
        };
        let (name, token) = ("4102444800:dave", "header.payload");
        let password = time_limited_password(b"secret", name);
        let limited = minted(1, CredentialKind::TimeLimited, name, password);
        let signed = token_password(b"old", token);
        let signed = minted(2, CredentialKind::SignedToken, token, signed);
        let all = [limited, signed];
        round.leaves(&all).await;
        // The keeper panics over it, so that nobody has ended.
        store.has_secrets(&[b"other"]);
        round.revokes_in_vain(&all, &all[..1]).await;
        round.revokes_in_vain(&all, &all[..1]).await;
        round.set(configured(realm(b"fresh")));
        round.revokes_in_vain(&all[1..], &all[1..]).await;
        round.revokes(&all[1..], &all[1..]).await;
    });
    // With no store there is nothing that would change by itself, and yet it is looked again.
    play(realm(b"old"), &[], async |round| {
        let token = "header.payload";
        let password = token_password(b"old", token).expect("a secret");
        let signed = [owner(2, CredentialKind::SignedToken, token, key(token, &password))];
        round.leaves(&signed).await;
        round.set(configured(realm(b"fresh")));
        for _ in 0..20 {
            round.revokes_in_vain(&signed, &signed).await;
        }
        round.revokes(&signed, &signed).await;
    });
}

#[test]
fn time_limited_credentials_live_as_long_as_their_secret() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[b"stored", b"other"]);
    let realm = |secrets: &[&[u8]]| Realm {
        rest_secrets: secrets.iter().map(|secret| secret.to_vec()).collect(),
        ..no_users()
    };
    play(realm(&[b"configured"]), &[&store], async |round| {
        let name = "4102444800:dave";
        let minted = |lease, secret: &[u8], sha256: bool| {
            let password = match sha256 {
                false => time_limited_password(secret, name),
                true => time_limited_password_sha256(secret, name),
            };
            let key = key(name, &password.expect("a secret"));
            owner(lease, CredentialKind::TimeLimited, name, key)
        };
        let all = [
            minted(1, b"configured", false),
            minted(2, b"stored", true),
            minted(3, b"other", false),
        ];
        round.leaves(&all).await;
        round.leaves(&all).await;
        store.has_secrets(&[b"other"]);
        round.revokes(&all, &all[1..2]).await;
        let left = without_one(&all, 1);
        round.leaves(&left).await;
        round.set(configured(realm(&[])));
        round.revokes(&left, &left[..1]).await;
        // Whoever comes with what was good a moment ago is seen as well.
        round.revokes(&all[1..], &all[1..2]).await;
    });
}

#[test]
fn signed_tokens_live_as_long_as_their_secret() {
    let realm = |secret: &[u8]| Realm { jwt_secrets: vec![secret.to_vec()], ..no_users() };
    play(realm(b"old"), &[], async |round| {
        let name = "header.payload";
        let signed = |lease, secret: &[u8]| {
            let password = token_password(secret, name).expect("a secret");
            owner(lease, CredentialKind::SignedToken, name, key(name, &password))
        };
        let all = [signed(1, b"old"), signed(2, b"fresh")];
        round.leaves(&all[..1]).await;
        round.set(configured(realm(b"fresh")));
        round.revokes(&all, &all[..1]).await;
    });
}

#[test]
fn access_tokens_live_as_long_as_the_key_that_opens_them() {
    let store = PlayedStore::new("db");
    let token_key = |kid: &str, byte| TokenKey {
        kid: kid.to_owned(),
        key: vec![byte; 32],
        realm: None,
        valid: None,
    };
    let with = |keys| {
        let oauth = Some(OAuth { server_name: "turn".to_owned(), keys });
        CredentialSources { oauth, ..configured(no_users()) }
    };
    store.has_token_keys(vec![token_key("stored", 1), token_key("other", 1)]);
    let away = PlayedStore::new("away");
    play(no_users(), &[&away, &store], async |round| {
        round.set(with(vec![token_key("configured", 1)]));
        let of = |lease, kid: &str, byte| {
            let mut of = owner(lease, CredentialKind::AccessToken, kid, Key::shared(&[7; 20]));
            let mut account = Account::clone(&of.owner.account);
            account.opened_by = Some(token_key(kid, byte).fingerprint());
            of.owner.account = Arc::new(account);
            of
        };
        let all = [of(1, "configured", 1), of(2, "stored", 1), of(3, "other", 1)];
        round.leaves(&all).await;
        store.has_token_keys(vec![token_key("stored", 2), token_key("other", 1)]);
        round.revokes(&all, &all[1..2]).await;
        let left = [of(1, "configured", 1), of(4, "stored", 2), of(3, "other", 1)];
        round.leaves(&left).await;
        // Who is seen for the first time while the store is down is judged when it is back, and
        // what has changed in the meantime as well.
        store.goes_down();
        let all = [of(1, "configured", 1), of(5, "stored", 2), of(3, "other", 1)];
        round.leaves(&all).await;
        round.log.expects(slog::Level::Error, "credential store is down");
        store.comes_back();
        round.leaves(&all).await;
        let late = [of(6, "stored", 1)];
        round.revokes(&late, &late).await;
        store.has_token_keys(vec![token_key("stored", 2)]);
        let left = [of(1, "configured", 1), of(3, "other", 1)];
        round.revokes(&left, &left[1..]).await;
        // What gave a key takes it away, whichever other store is down.
        away.goes_down();
        let left = [of(1, "configured", 1), of(5, "stored", 2), of(7, "stored", 9)];
        round.leaves(&left).await;
        round.log.expects(slog::Level::Error, "credential store is down");
        store.has_token_keys(vec![token_key("stored", 3)]);
        round.revokes(&left, &left[1..2]).await;
        round.set(with(vec![]));
        round.revokes(&left[..1], &left[..1]).await;
    });
}

#[test]
fn users_of_a_realm_that_is_gone_are_gone_with_it() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(no_users(), &[&store], async |round| {
        let all = [user(1, "carol", "lark")];
        round.leaves(&all).await;
        round.set(configured(Realm::of_users("another", Vec::new())));
        round.revokes(&all, &all).await;
    });
}

#[test]
fn who_comes_during_an_outage_is_judged_after_it() {
    let store = PlayedStore::new("db");
    store.has_secrets(&[b"secret"]);
    play(no_users(), &[&store], async |round| {
        let name = "4102444800:frank";
        let signed = |lease, secret: &[u8]| {
            let password = time_limited_password(secret, name).expect("a secret");
            [owner(lease, CredentialKind::TimeLimited, name, key(name, &password))]
        };
        round.leaves(&signed(1, b"secret")).await;
        store.goes_down();
        let late = signed(2, b"of old");
        round.leaves(&late).await;
        round.log.expects(slog::Level::Error, "credential store is down");
        store.comes_back();
        round.revokes(&late, &late).await;
    });
}

#[test]
fn whom_a_store_knows_by_its_client_alone_is_not_looked_for() {
    let hook = PlayedStore::looking_at_clients("https://hook.example");
    play(no_users(), &[&hook], async |round| {
        let carol = [owner(1, CredentialKind::Hook, "carol", key("carol", "lark"))];
        for _ in 0..10 {
            round.leaves(&carol).await;
        }
        after(secs(60)).await;
        round.list_owners.hears_nothing().await;
    });
}

#[test]
fn those_of_an_http_service_are_gone_with_it() {
    let (hook, store) = (PlayedStore::looking_at_clients("hook"), PlayedStore::new("db"));
    play(no_users(), &[&hook, &store], async |round| {
        let carol = owner(1, CredentialKind::Hook, "carol", key("carol", "lark"));
        let carol = [stored_in("hook", carol)];
        round.leaves(&carol).await;
        // Another one may know the same users.
        round.stores[0] = PlayedStore::looking_at_clients("another");
        round.set(configured(no_users()));
        let _ = round.realms.hears().await;
        round.leaves(&carol).await;
        round.stores.remove(0);
        round.set(configured(no_users()));
        let _ = round.realms.hears().await;
        round.revokes(&carol, &carol).await;
        // A server without any store looks as well.
        round.stores.clear();
        round.set(configured(no_users()));
        let _ = round.realms.hears().await;
        round.revokes(&carol, &carol).await;
    });
}

#[test]
fn users_live_no_longer_than_their_end_allows() {
    let store = PlayedStore::new("db");
    let ends_in = |seconds| StoredUser {
        expires: Some(clock::unix_now() + secs(seconds)),
        ..StoredUser::lasting("carol", UserSecret::Password("lark".to_owned()))
    };
    let outliving = |outlives| CredentialSources { outlives, ..configured(no_users()) };
    play(no_users(), &[&store], async |round| {
        store.keeps(ends_in(3600));
        let carol = [stored_in("db", user(1, "carol", "lark"))];
        for outlives in [None, Some(Duration::ZERO), Some(secs(60))] {
            round.set(outliving(outlives));
            round.leaves(&carol).await;
        }
        // What it is in the store now counts, and not what it was when the allocation was made.
        store.keeps(ends_in(0));
        after(secs(30)).await;
        round.list_owners.hears().await.answers(Vec::new()).await;
        round.leaves(&carol).await;
        after(secs(30)).await;
        round.list_owners.hears().await.answers(Vec::new()).await;
        round.revokes(&carol, &carol).await;
        round.set(outliving(None));
        round.leaves(&carol).await;
        round.set(outliving(Some(Duration::ZERO)));
        round.revokes(&carol, &carol).await;
    });
}

#[test]
fn owners_are_asked_for_in_batches() {
    let store = PlayedStore::new("db");
    let owners: Vec<_> = (0..1001)
        .map(|number| {
            let name = format!("user{number}");
            store.has(&name, "p");
            owner(number, CredentialKind::LongTerm, &name, key(&name, "p"))
        })
        .collect();
    play(no_users(), &[&store], async |round| {
        store.was_asked_in_rounds().await;
        round.leaves(&owners).await;
        let mut asked = store.was_asked_in_rounds().await;
        asked.retain(|what| what.starts_with("users"));
        let names: Vec<_> = asked.iter().map(|what| what.split(' ').count() - 1).collect();
        assert_eq!([500, 500, 1], *names);
    });
}

#[test]
fn a_healed_store_actor_looks_again() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(no_users(), &[&store], async |round| {
        let carol = [user(1, "carol", "lark")];
        round.leaves(&carol).await;
        // In the middle of a look.
        after(LOOK).await;
        let asked = round.list_owners.hears().await;
        round.actor.do_send(Panic);
        settle().await;
        drop(asked);
        round.log.expects(slog::Level::Warning, "actor panicked and is healed in place");
        round.leaves(&carol).await;
        store.loses("carol");
        round.revokes(&carol, &carol).await;
    });
}
