//! StoreActor: which realms there are.

use std::sync::Arc;

use actix::Addr;
use sterna_actors::credential_store::StoredRealm;
use sterna_actors::quota_keeper::{ListOwners, RevokeLeases};
use sterna_actors::store_actor::{
    Introduce, ReadRealms, RealmsRead, SetStores, StoreActor, StoreNeighbours,
};
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::QuotaLimits;

use super::store_actor::{configured, no_users, play};
use crate::kit::{Ear, Log, PlayedStore, REALM, after, neighbour, secs, virtual_time};

fn stored_realm(name: &str) -> StoredRealm {
    StoredRealm {
        name: name.into(),
        origins: vec![format!("https://{name}")],
        quotas: QuotaLimits::default(),
        peers: PeerLists::default(),
    }
}

/// Who is told of realms, and those who are asked and say nothing.
fn introduce(actor: &Addr<StoreActor>) -> (Ear<RealmsRead>, (Ear<ListOwners>, Ear<RevokeLeases>)) {
    let (owners, list_owners) = neighbour();
    let (revoked, revoke) = neighbour();
    let (told, realms) = neighbour();
    let authenticators = Vec::new();
    actor.do_send(Introduce(StoreNeighbours { list_owners, revoke, authenticators, realms }));
    (told, (owners, revoked))
}

#[test]
fn realms_are_read_at_once_and_every_five_seconds() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has_realms(vec![stored_realm("south.gov")]);
    second.has_secrets(&[b"secret"]);
    virtual_time(async move || {
        let log = Log::default();
        let actor = StoreActor::start(log.logger(), |spent| panic!("{spent}"));
        let stores = vec![first.as_store(), second.as_store()];
        actor.do_send(SetStores { stores, sources: Arc::new(configured(no_users())) });
        let (mut realms, _silent) = introduce(&actor);
        let expected = |realms: &[&str]| RealmsRead {
            realms: realms.iter().map(|name| stored_realm(name)).collect(),
            with_secrets: [REALM.into()].into(),
            told: ["first", "second"].map(str::to_owned).into(),
        };
        let asked = realms.hears().await;
        assert_eq!(expected(&["south.gov"]), asked.message);
        second.has_realms(vec![stored_realm("west.gov")]);
        after(secs(5)).await;
        assert_eq!(expected(&["south.gov", "west.gov"]), realms.hears().await.message);
        // What is down goes on to be what it was.
        first.goes_down();
        second.has_realms(Vec::new());
        after(secs(5)).await;
        assert_eq!(expected(&["south.gov"]), realms.hears().await.message);
        log.expects(slog::Level::Error, "credential store is down");
        after(secs(60)).await;
        realms.hears_nothing().await;
        first.comes_back();
        first.has_realms(Vec::new());
        after(secs(10)).await;
        assert_eq!(expected(&[]), realms.hears().await.message);
        log.is_calm();
    });
}

#[test]
fn a_store_that_has_not_told_its_realms_is_asked_each_second() {
    let (first, second) = (PlayedStore::new("first"), PlayedStore::new("second"));
    first.has_realms(vec![stored_realm("south.gov")]);
    second.has_realms(vec![stored_realm("west.gov")]);
    virtual_time(async move || {
        let log = Log::default();
        let actor = StoreActor::start(log.logger(), |spent| panic!("{spent}"));
        let stores = vec![first.as_store(), second.as_store()];
        second.goes_down();
        actor.do_send(SetStores { stores, sources: Arc::new(configured(no_users())) });
        let expected = |realms: &[&str], told: &[&str]| RealmsRead {
            realms: realms.iter().map(|name| stored_realm(name)).collect(),
            told: told.iter().map(|label| (*label).to_owned()).collect(),
            ..RealmsRead::default()
        };
        // Whoever starts the server asks for them first.
        let read = actor.send(ReadRealms).await.expect("it is alive");
        assert_eq!(expected(&["south.gov"], &["first"]), read);
        log.expects(slog::Level::Error, "credential store is down");
        let line = log.expects(slog::Level::Error, "no allocations before a store has told");
        assert_eq!("second", line.field("store"));
        let (mut realms, _silent) = introduce(&actor);
        // Whoever asked may not have waited so long.
        assert_eq!(expected(&["south.gov"], &["first"]), realms.hears().await.message);
        after(secs(60)).await;
        realms.hears_nothing().await;
        log.is_calm();

        second.comes_back();
        after(secs(2)).await;
        let all = expected(&["south.gov", "west.gov"], &["first", "second"]);
        assert_eq!(all, realms.hears().await.message);
        log.expects(slog::Level::Info, "credential store answers again");
        log.expects(slog::Level::Info, "all stores have told their realms");
        // What it has told is known while it is down once more.
        second.goes_down();
        after(secs(60)).await;
        realms.hears_nothing().await;
        log.expects(slog::Level::Error, "credential store is down");
        log.is_calm();
    });
}

#[test]
fn whoever_asks_for_realms_waits_until_the_stores_have_told_them() {
    let (slow, quick) = (PlayedStore::new("slow"), PlayedStore::new("quick"));
    slow.has_realms(vec![stored_realm("south.gov")]);
    play(no_users(), &[&slow, &quick], async |round| {
        slow.hesitates();
        let asked = round.actor.send(ReadRealms);
        let asked = actix_rt::spawn(asked);
        assert!(quick.was_asked_in_rounds().await.contains(&"realms".to_owned()));
        assert!(!asked.is_finished());
        slow.answers().await;
        let read = asked.await.expect("it was not aborted").expect("it is alive");
        assert_eq!([stored_realm("south.gov")], read.realms[..]);
    });
}
