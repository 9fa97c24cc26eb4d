//! An Authenticator, the StoreActor, and stores that the script plays.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, MailboxError};
use sterna_actors::authenticator::{
    self, AskStores, Authenticator, CredentialSources, FindKeys, Forget, SetSources, StoreTraits,
};
use sterna_actors::clock;
use sterna_actors::credential_store::StoredUser;
use sterna_actors::policy::{CacheTerms, OAuth, Realm, UserSecret};
use sterna_actors::store_actor::{self, SetStores, StoreActor};
use sterna_proto::account::CredentialKind;
use sterna_proto::credentials::{Key, PasswordAlgorithm, user_hash};
use sterna_proto::guard::{Claim, ClaimedUser};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::session::{FoundKeys, StoresDown};

use crate::kit::{Log, PlayedStore, REALM, after, secs, settle, virtual_time};

/// What an Authenticator is asked, and those it asks.
pub(crate) struct Desk {
    pub(crate) authenticator: Addr<Authenticator>,
    pub(crate) store_actor: Addr<StoreActor>,
    pub(crate) log: Log,
    pub(crate) sources: CredentialSources,
}

type Answer = Result<FoundKeys, StoresDown>;

/// What the configuration says here.
pub(crate) struct Configured {
    pub(crate) realm: Realm,
    pub(crate) cache: CacheTerms,
    pub(crate) oauth: Option<OAuth>,
}

impl Default for Configured {
    fn default() -> Configured {
        Configured {
            realm: Realm::of_users(REALM, Vec::new()),
            cache: remembering(100),
            oauth: None,
        }
    }
}

/// So many users, each for a minute, and for an hour while a store is down.
pub(crate) fn remembering(entries: usize) -> CacheTerms {
    CacheTerms { entries, lifetime: LIFETIME, outage: OUTAGE }
}

pub(crate) const LIFETIME: Duration = secs(60);
pub(crate) const OUTAGE: Duration = secs(3600);

impl Configured {
    pub(crate) fn play(self, stores: &[&PlayedStore], script: impl AsyncFnOnce(&Desk)) {
        virtual_time(async move || {
            let log = Log::default();
            let spent = |spent| panic!("{spent}");
            let stores: Vec<_> = stores.iter().map(|store| store.as_store()).collect();
            let sources = CredentialSources {
                cache: self.cache,
                oauth: self.oauth,
                stores: StoreTraits::of(&stores),
                ..CredentialSources::of_realm(self.realm)
            };
            let shared = Arc::new(sources.clone());
            let store_actor = StoreActor::start(log.logger(), spent);
            store_actor.do_send(SetStores { stores, sources: shared.clone() });
            let ask = AskStores::of(&store_actor);
            let authenticator = Authenticator::start(shared, ask, log.logger(), spent);
            let desk = Desk { authenticator, store_actor, log, sources };
            script(&desk).await;
            desk.log.is_calm();
        });
    }
}

pub(crate) fn play(stores: &[&PlayedStore], script: impl AsyncFnOnce(&Desk)) {
    Configured::default().play(stores, script);
}

pub(crate) fn named(name: &str) -> ClaimedUser {
    ClaimedUser::Named(name.to_owned())
}

impl Desk {
    pub(crate) fn asks(
        &self,
        user: ClaimedUser,
        client: IpAddr,
    ) -> impl Future<Output = Result<Answer, MailboxError>> + 'static {
        self.authenticator.send(find_keys(user, client))
    }

    pub(crate) async fn answer(&self, user: ClaimedUser) -> Answer {
        self.asks(user, CLIENT).await.expect("it is alive")
    }

    pub(crate) async fn finds(&self, user: ClaimedUser) -> FoundKeys {
        self.answer(user).await.expect("no store is down")
    }

    /// Whether the user of this name is let in with this password, as the Authenticator says.
    pub(crate) async fn lets_in(&self, name: &str, password: &str) -> bool {
        let found = self.finds(named(name)).await;
        found.account.is_some() && found.keys.contains(&key(name, password))
    }

    /// Other stores, as the PolicyKeeper tells of them.
    pub(crate) async fn has_stores(&self, stores: &[&PlayedStore]) {
        let stores: Vec<_> = stores.iter().map(|store| store.as_store()).collect();
        let traits = StoreTraits::of(&stores);
        let sources = Arc::new(CredentialSources { stores: traits, ..self.sources.clone() });
        let set = SetStores { stores, sources: sources.clone() };
        self.store_actor.send(set).await.expect("it is alive");
        self.authenticator.send(SetSources(sources)).await.expect("it is alive");
    }

    pub(crate) async fn knows_nobody(&self, name: &str) {
        let found = self.finds(named(name)).await;
        assert_eq!((None, 1), (found.account, found.keys.len()), "{name}");
    }

    pub(crate) fn outage_begins(&self, store: &str) {
        let line = self.log.expects(slog::Level::Error, "credential store is down");
        assert_eq!((store, "no connection"), (line.field("store"), line.field("cause")));
    }

    pub(crate) fn outage_ends(&self, store: &str) {
        let line = self.log.expects(slog::Level::Info, "credential store answers again");
        assert_eq!(store, line.field("store"));
    }
}

pub(crate) fn find_keys(user: ClaimedUser, client: IpAddr) -> FindKeys {
    let claim = Claim {
        realm: REALM.into(),
        user,
        password_algorithm: PasswordAlgorithm::Md5,
        answer_integrity: IntegrityAlgorithm::Sha1,
    };
    FindKeys { claim, client, afresh: false }
}

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn key(name: &str, password: &str) -> Key {
    let key = Key::long_term(PasswordAlgorithm::Md5, name, REALM, password);
    key.expect("a usable password")
}

#[test]
fn an_answer_is_good_for_its_lifetime() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        store.has("carol", "wren");
        after(LIFETIME - secs(1)).await;
        assert!(desk.lets_in("carol", "lark").await);
        assert_eq!(["user carol"], *store.was_asked().await);
        after(secs(1)).await;
        assert!(desk.lets_in("carol", "wren").await);
        assert_eq!(["user carol"], *store.was_asked().await);
    });
}

#[test]
fn a_user_who_is_gone_is_gone_when_the_answer_is_old() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        store.loses("carol");
        after(LIFETIME).await;
        desk.knows_nobody("carol").await;
        // And not by what was known before, should the store go down.
        store.goes_down();
        after(LIFETIME).await;
        assert_eq!(Err(StoresDown), desk.answer(named("carol")).await.map(|_| ()));
        desk.outage_begins("db");
    });
}

#[test]
fn nobody_is_remembered_for_a_shorter_time() {
    let store = PlayedStore::new("db");
    play(&[&store], async |desk| {
        desk.knows_nobody("dave").await;
        desk.knows_nobody("dave").await;
        assert_eq!(["user dave"], *store.was_asked().await);
        store.has("dave", "rook");
        after(secs(5)).await;
        assert!(desk.lets_in("dave", "rook").await);
        assert_eq!(["user dave"], *store.was_asked().await);
    });
}

#[test]
fn made_up_names_push_no_user_out() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    let cache = remembering(3);
    Configured { cache, ..Configured::default() }.play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        for number in 0..20 {
            desk.knows_nobody(&format!("made up {number}")).await;
        }
        assert_eq!(21, store.was_asked().await.len());
        assert!(desk.lets_in("carol", "lark").await);
        assert!(store.was_asked().await.is_empty());
    });
}

#[test]
fn the_cache_is_bounded_and_forgets_whom_it_has_not_heard_of_for_longest() {
    let store = PlayedStore::new("db");
    for name in ["a", "b", "c"] {
        store.has(name, "p");
    }
    let cache = remembering(2);
    Configured { cache, ..Configured::default() }.play(&[&store], async |desk| {
        for name in ["a", "b", "a", "c"] {
            assert!(desk.lets_in(name, "p").await);
        }
        assert_eq!(["user a", "user b", "user c"], *store.was_asked().await);
        assert!(desk.lets_in("a", "p").await);
        assert!(store.was_asked().await.is_empty());
        assert!(desk.lets_in("b", "p").await);
        assert_eq!(["user b"], *store.was_asked().await);
    });
}

#[test]
fn a_cache_of_nothing_asks_each_time() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    let cache = remembering(0);
    Configured { cache, ..Configured::default() }.play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        assert!(desk.lets_in("carol", "lark").await);
        desk.knows_nobody("dave").await;
        assert_eq!(["user carol", "user carol", "user dave"], *store.was_asked().await);
    });
}

#[test]
fn users_are_found_by_hash_as_well() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        let hash = ClaimedUser::Hashed(user_hash("carol", REALM).expect("a usable name"));
        for _ in 0..2 {
            let found = desk.finds(hash.clone()).await;
            assert_eq!("carol", &*found.account.expect("the user is known").username);
            assert_eq!([key("carol", "lark")], found.keys[..]);
        }
        assert_eq!(["user by hash"], *store.was_asked().await);
        let found = desk.finds(ClaimedUser::Hashed([0; 32])).await;
        assert_eq!(None, found.account);
    });
}

#[test]
fn a_store_that_folds_case_does_not_make_two_users_of_one() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        desk.knows_nobody("Carol").await;
        desk.knows_nobody("Carol").await;
        assert_eq!(["user Carol"], *store.was_asked().await);
        assert!(desk.lets_in("carol", "lark").await);
    });
}

#[test]
fn what_a_store_says_of_a_user_is_in_the_account() {
    let store = PlayedStore::new("db");
    let mut carol = StoredUser::lasting("carol", UserSecret::Password("lark".to_owned()));
    carol.limits.allocations = Some(3);
    carol.expires = Some(clock::unix_now() + secs(100));
    store.keeps(carol);
    play(&[&store], async |desk| {
        let account = desk.finds(named("carol")).await.account.expect("the user is known");
        assert_eq!(Some(3), account.limits.allocations);
        assert_eq!(CredentialKind::LongTerm, account.credential);
        let left = account.expires.expect("it ends") - clock::now();
        assert!((secs(90)..=secs(100)).contains(&left), "{left:?}");
    });
}

#[test]
fn stores_are_asked_in_their_order() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has("carol", "lark");
    second.has("carol", "other");
    second.has("dave", "rook");
    play(&[&first, &second], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        assert!(second.was_asked().await.is_empty());
        assert!(desk.lets_in("dave", "rook").await);
        desk.knows_nobody("erin").await;
        assert_eq!(["user carol", "user dave", "user erin"], *first.was_asked().await);
        assert_eq!(["user dave", "user erin"], *second.was_asked().await);

        // What the second says is not the last word while the first is down: it may know the name
        // with another password.
        first.goes_down();
        second.has("frank", "gull");
        for name in ["frank", "grace"] {
            assert!(desk.answer(named(name)).await.is_err(), "{name}");
        }
        desk.outage_begins("first");
        assert!(second.was_asked().await.is_empty());
        first.comes_back();
        after(secs(2)).await;
        assert!(desk.lets_in("frank", "gull").await);
        desk.outage_ends("first");
    });
}

#[test]
fn a_store_that_finds_no_hashes_is_not_passed_over_by_hash() {
    let (first, second) = (PlayedStore::finding_no_hashes("first"), PlayedStore::new("second"));
    first.has("alice", "changed");
    second.has("alice", "leaked");
    play(&[&first, &second], async |desk| {
        let hash = ClaimedUser::Hashed(user_hash("alice", REALM).expect("a usable name"));
        assert_eq!(None, desk.finds(hash).await.account);
        assert!(desk.lets_in("alice", "changed").await);
    });
}

#[test]
fn static_users_are_asked_of_nobody() {
    let store = PlayedStore::new("db");
    store.has("alice", "other");
    let alice = ("alice".to_owned(), UserSecret::Password("sesame".to_owned()));
    let realm = Realm::of_users(REALM, vec![alice]);
    Configured { realm, ..Configured::default() }.play(&[&store], async |desk| {
        store.goes_down();
        assert!(desk.lets_in("alice", "sesame").await);
        assert!(!desk.lets_in("alice", "other").await);
        assert!(store.was_asked().await.is_empty());
    });
}

#[test]
fn those_who_ask_for_one_user_at_once_share_one_question() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        store.hesitates();
        let asking: Vec<_> = (0..50).map(|_| desk.asks(named("carol"), CLIENT)).collect();
        let asking: Vec<_> = asking.into_iter().map(actix_rt::spawn).collect();
        let other = actix_rt::spawn(desk.asks(named("dave"), CLIENT));
        assert_eq!(["user carol", "user dave"], *store.was_asked().await);
        store.answers().await;
        for found in asking {
            let found = found.await.expect("it was not aborted").expect("it is alive");
            assert_eq!([key("carol", "lark")], found.expect("no store is down").keys[..]);
        }
        let found = other.await.expect("it was not aborted").expect("it is alive");
        assert_eq!(None, found.expect("no store is down").account);
        assert!(store.was_asked().await.is_empty());
    });
}

#[test]
fn names_that_nobody_can_have_are_nobody_without_a_question() {
    let oauth = OAuth { server_name: "turn".to_owned(), keys: Vec::new() };
    let store = PlayedStore::new("db");
    Configured { oauth: Some(oauth), ..Configured::default() }.play(&[&store], async |desk| {
        for name in ["a\0b", "a\u{1}", "\n", ""] {
            desk.knows_nobody(name).await;
            let token = ClaimedUser::Token { kid: name.to_owned(), token: vec![1; 60].into() };
            assert_eq!(None, desk.finds(token).await.account);
        }
        assert!(store.was_asked().await.is_empty());
    });
}

#[test]
fn what_a_store_says_of_one_client_holds_for_no_other() {
    let store = PlayedStore::looking_at_clients("https://hook.example");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        let elsewhere = IpAddr::from([203, 0, 113, 1]);
        for client in [CLIENT, CLIENT, elsewhere, elsewhere] {
            let found = desk.asks(named("carol"), client).await.expect("it is alive");
            let account = found.expect("no store is down").account.expect("the user is known");
            assert_eq!(CredentialKind::Hook, account.credential);
        }
        assert_eq!(["user carol", "user carol"], *store.was_asked().await);
        // It may know the user by another name than the client says, which counts.
        let found = desk.finds(named("CAROL")).await;
        let account = found.account.expect("the user is known");
        assert_eq!(("CAROL", "carol"), (&*account.username, &*account.quota_name));
        assert_eq!([key("CAROL", "lark")], found.keys[..]);
    });
}

#[test]
fn an_answer_is_kept_no_longer_than_its_store_says() {
    let store = PlayedStore::new("db");
    let secret = UserSecret::Password("lark".to_owned());
    let kept = |name: &str, keep| StoredUser {
        keep: Some(keep),
        ..StoredUser::lasting(name, secret.clone())
    };
    store.keeps(kept("not", Duration::ZERO));
    store.keeps(kept("shorter", secs(10)));
    store.keeps(kept("longer", LIFETIME * 2));
    play(&[&store], async |desk| {
        let all = ["not", "shorter", "longer"];
        for (wait, asked) in [
            (secs(0), &all[..]),
            (secs(9), &all[..1]),
            (secs(1), &all[..2]),
            (LIFETIME - secs(10), &all),
        ] {
            after(wait).await;
            for name in all {
                assert!(desk.lets_in(name, "lark").await);
            }
            let asked: Vec<_> = asked.iter().map(|name| format!("user {name}")).collect();
            assert_eq!(asked, store.was_asked().await, "{wait:?} later");
        }
    });
}

#[test]
fn forgotten_users_are_asked_for_again() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    store.has("dave", "rook");
    play(&[&store], async |desk| {
        let hash = ClaimedUser::Hashed(user_hash("carol", REALM).expect("a usable name"));
        for user in [named("carol"), hash.clone(), named("dave")] {
            assert!(desk.finds(user).await.account.is_some());
        }
        store.was_asked().await;
        store.loses("carol");
        let forget = Forget { realm: REALM.into(), users: vec!["carol".into()] };
        desk.authenticator.send(forget).await.expect("it is alive");
        for user in [named("carol"), hash] {
            assert!(desk.finds(user).await.account.is_none());
        }
        assert!(desk.lets_in("dave", "rook").await);
        assert_eq!(["user carol", "user by hash"], *store.was_asked().await);
    });
}

#[test]
fn panics_cost_nobody_an_answer() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    store.has("dave", "rook");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        store.hesitates();
        let waiting = actix_rt::spawn(desk.asks(named("dave"), CLIENT));
        settle().await;
        desk.store_actor.do_send(store_actor::Panic);
        desk.authenticator.do_send(authenticator::Panic);
        settle().await;
        for _ in 0..2 {
            desk.log.expects(slog::Level::Warning, "actor panicked and is healed in place");
        }
        store.answers().await;
        let found = waiting.await.expect("it was not aborted").expect("it is answered");
        assert_eq!([key("dave", "rook")], found.expect("no store is down").keys[..]);
        // The cache has survived, and so have the stores.
        assert!(desk.lets_in("carol", "lark").await);
        assert_eq!(["user carol", "user dave"], *store.was_asked().await);
        desk.knows_nobody("mallory").await;
    });
}

#[test]
fn more_questions_than_a_store_takes_at_once_wait_for_their_turn() {
    let store = PlayedStore::new("db");
    play(&[&store], async |desk| {
        store.hesitates();
        let ask = |number| actix_rt::spawn(desk.asks(named(&format!("user {number}")), CLIENT));
        let asking: Vec<_> = (0..200).map(ask).collect();
        assert_eq!(64, store.was_asked().await.len());
        store.answers().await;
        assert_eq!(136, store.was_asked().await.len());
        for found in asking {
            let found = found.await.expect("it was not aborted").expect("it is alive");
            assert!(found.expect("no store is down").account.is_none());
        }
    });
}
