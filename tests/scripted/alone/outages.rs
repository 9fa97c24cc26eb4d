//! An Authenticator and the StoreActor, while stores are away or are replaced.

use std::sync::Arc;
use std::time::Duration;

use sterna_actors::authenticator::{FindKeys, SetSources};
use sterna_actors::policy::CacheTerms;
use sterna_proto::session::StoresDown;

use super::credentials::{
    CLIENT, Configured, LIFETIME, OUTAGE, find_keys, key, named, play, remembering,
};
use crate::kit::{PlayedStore, after, secs, settle};

#[test]
fn a_store_that_is_down_lets_nobody_in_by_what_the_next_one_says() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has("alice", "changed");
    second.has("alice", "leaked");
    play(&[&first, &second], async |desk| {
        assert!(desk.lets_in("alice", "changed").await);
        first.goes_down();
        // Whoever comes with the old password has the stores asked again, and hears of the key that
        // is remembered.
        after(secs(6)).await;
        let afresh = FindKeys { afresh: true, ..find_keys(named("alice"), CLIENT) };
        let found = desk.authenticator.send(afresh).await.expect("it is alive");
        assert_eq!([key("alice", "changed")], found.expect("she is known").keys[..]);
        desk.outage_begins("first");
        after(LIFETIME).await;
        assert!(desk.lets_in("alice", "changed").await);
        assert!(second.was_asked().await.is_empty());
    });
}

#[test]
fn an_outage_is_bridged_by_what_is_known_and_lets_nobody_else_in() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    store.has("dave", "rook");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        desk.knows_nobody("mallory").await;
        store.goes_down();
        after(LIFETIME * 10).await;

        assert!(desk.lets_in("carol", "lark").await);
        desk.outage_begins("db");
        for name in ["dave", "mallory"] {
            assert!(desk.answer(named(name)).await.is_err(), "{name}");
        }
        // Others are not kept waiting by a store that does not answer, nor is it asked by all.
        store.was_asked().await;
        for _ in 0..20 {
            assert!(desk.answer(named("dave")).await.is_err());
        }
        assert!(store.was_asked().await.is_empty());
        after(LIFETIME).await;
        assert!(desk.lets_in("carol", "lark").await);
        assert_eq!(["user carol"], *store.was_asked().await);

        store.comes_back();
        store.has("carol", "wren");
        after(secs(2)).await;
        assert!(desk.lets_in("carol", "wren").await);
        desk.outage_ends("db");
        assert!(desk.lets_in("dave", "rook").await);
        desk.knows_nobody("mallory").await;
    });
}

#[test]
fn what_is_known_bridges_an_outage_for_a_while_after_it_was_confirmed() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        after(LIFETIME).await;
        // It is confirmed once more, and from here on it counts.
        assert!(desk.lets_in("carol", "lark").await);
        store.goes_down();
        after(OUTAGE - secs(1)).await;
        assert!(desk.lets_in("carol", "lark").await);
        desk.outage_begins("db");
        after(secs(1)).await;
        for _ in 0..3 {
            assert!(desk.answer(named("carol")).await.is_err());
            after(secs(2)).await;
        }
        store.comes_back();
        assert!(desk.lets_in("carol", "lark").await);
        desk.outage_ends("db");
    });
}

#[test]
fn without_a_time_for_outages_an_answer_is_good_for_its_lifetime_alone() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    let cache = CacheTerms { outage: Duration::ZERO, ..remembering(100) };
    Configured { cache, ..Configured::default() }.play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        store.goes_down();
        after(LIFETIME - secs(1)).await;
        assert!(desk.lets_in("carol", "lark").await);
        assert!(store.was_asked().await.starts_with(&["user carol".to_owned()]));
        after(secs(1)).await;
        assert!(desk.answer(named("carol")).await.is_err());
        desk.outage_begins("db");
    });
}

#[test]
fn what_other_stores_said_is_forgotten_with_them() {
    let (before, after_it) = (PlayedStore::new("before"), PlayedStore::new("after"));
    before.has("carol", "lark");
    before.has("dave", "rook");
    play(&[&before], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        before.hesitates();
        let waiting = actix_rt::spawn(desk.asks(named("dave"), CLIENT));
        settle().await;

        after_it.goes_down();
        desk.has_stores(&[&after_it]).await;
        assert!(desk.answer(named("carol")).await.is_err());
        desk.outage_begins("after");
        // Nor is what comes in late remembered, or told.
        before.answers().await;
        let told = waiting.await.expect("it was not aborted").expect("it is alive");
        assert!(told.is_err());
        assert!(desk.answer(named("dave")).await.is_err());
    });
}

#[test]
fn a_store_that_is_put_in_front_has_the_first_word() {
    let (front, store) = (PlayedStore::new("front"), PlayedStore::new("db"));
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        front.goes_down();
        desk.has_stores(&[&front, &store]).await;
        assert!(desk.answer(named("carol")).await.is_err());
        desk.outage_begins("front");
        // Back to what it was, what is asked is answered.
        desk.has_stores(&[&store]).await;
        after(secs(1)).await;
        assert!(desk.lets_in("carol", "lark").await);
    });
}

#[test]
fn a_store_that_never_answers_is_one_that_is_down() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        store.hesitates();
        assert!(desk.answer(named("carol")).await.is_err());
        let line = desk.log.expects(slog::Level::Error, "credential store is down");
        assert_eq!("has not answered", line.field("cause"));
        store.answers().await;
        after(secs(1)).await;
        assert!(desk.lets_in("carol", "lark").await);
    });
}

#[test]
fn a_user_whom_the_store_cannot_tell_of_is_asked_for_once_in_a_second() {
    let store = PlayedStore::new("db");
    play(&[&store], async |desk| {
        for _ in 0..3 {
            store.goes_down();
            for _ in 0..10 {
                assert!(desk.answer(named("carol")).await.is_err());
            }
            assert_eq!(["user carol"], *store.was_asked().await);
            store.comes_back();
            desk.knows_nobody("dave").await;
            after(secs(5)).await;
            store.was_asked().await;
        }
        // One that fails now and then is not told of each time.
        desk.outage_begins("db");
        desk.outage_ends("db");
        desk.outage_begins("db");
        desk.outage_ends("db");
    });
}

#[test]
fn one_question_that_cannot_be_answered_spoils_nobody_elses() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    store.chokes_on("mallory");
    play(&[&store], async |desk| {
        for number in 0..10 {
            assert!(desk.answer(named(&format!("mallory {number}"))).await.is_err());
        }
        assert!(desk.lets_in("carol", "lark").await);
        let line = desk.log.expects(slog::Level::Error, "cannot answer what it was asked");
        assert_eq!("syntax error", line.field("cause"));
        assert_eq!(1, desk.log.takes("answered 500").len());
    });
}

#[test]
fn a_store_that_panics_answers_nobody_and_is_told_of_once() {
    let store = PlayedStore::new("db");
    play(&[&store], async |desk| {
        store.panics();
        for number in 0..10 {
            assert!(desk.answer(named(&format!("user {number}"))).await.is_err());
        }
        let line = desk.log.expects(slog::Level::Error, "cannot answer what it was asked");
        assert!(line.field("cause").contains("told to panic"), "{line:?}");
    });
}

#[test]
fn another_policy_asks_again_and_keeps_what_it_knows_for_an_outage() {
    let store = PlayedStore::new("db");
    store.has("carol", "lark");
    play(&[&store], async |desk| {
        assert!(desk.lets_in("carol", "lark").await);
        store.was_asked().await;
        let set = SetSources(Arc::new(desk.sources.clone()));
        desk.authenticator.send(set.clone()).await.expect("it is alive");
        assert!(desk.lets_in("carol", "lark").await);
        assert_eq!(["user carol"], *store.was_asked().await);

        store.goes_down();
        desk.authenticator.send(set).await.expect("it is alive");
        assert!(desk.lets_in("carol", "lark").await);
        desk.outage_begins("db");
    });
}

#[test]
fn a_store_has_the_time_that_it_says_it_takes() {
    let store = PlayedStore::new("slow");
    store.has("carol", "lark");
    store.takes(secs(35));
    play(&[&store], async |desk| {
        store.hesitates();
        let asking = actix_rt::spawn(desk.asks(named("carol"), CLIENT));
        after(secs(34)).await;
        store.answers().await;
        let found = asking.await.expect("it was not aborted").expect("it is alive");
        assert_eq!([key("carol", "lark")], found.expect("it has answered").keys[..]);

        store.hesitates();
        let asking = actix_rt::spawn(desk.asks(named("dave"), CLIENT));
        after(secs(36)).await;
        let found = asking.await.expect("it was not aborted").expect("it is alive");
        assert_eq!(Err(StoresDown), found.map(|_| ()));
        let line = desk.log.expects(slog::Level::Error, "credential store is down");
        assert_eq!("has not answered", line.field("cause"));
    });
}

/// How many failures are too many, and for how long, is the service's own to say.
#[test]
fn a_store_that_rests_by_itself_is_asked_however_often_it_has_failed() {
    let (db, hook) = (PlayedStore::new("db"), PlayedStore::looking_at_clients("hook"));
    for (store, questions) in [(&db, 3), (&hook, 10)] {
        play(&[store], async |desk| {
            store.goes_down();
            for number in 0..10 {
                assert!(desk.answer(named(&format!("user{number}"))).await.is_err());
            }
            assert_eq!(questions, store.was_asked().await.len());
            desk.log.expects(slog::Level::Error, "credential store is down");
        });
    }
}
