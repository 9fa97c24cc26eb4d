//! SessionActor: what becomes of leases and clients when somebody dies in the middle of a request.

use sterna_actors::listener::SessionGone;
use sterna_actors::port_allocator::NoPortsLeft;
use sterna_actors::session;
use sterna_actors::supervision::Ended;
use sterna_proto::allocation::Refreshed;
use sterna_proto::session::{FoundKeys, LoginFailureReason, Otherwise, StoresDown};

use super::stage::{keys_of, lease, play_allocation, stage};
use crate::kit::{User, relayed_at, secs, settle};

fn panicked() -> Option<Ended> {
    Some(Ended::Panicked("injected into a SessionActor".to_owned()))
}

#[test]
fn panic_before_the_keys_are_found_asks_for_nothing_more() {
    stage(async |stage| {
        stage.gets(&stage.client.allocate_request());
        let asked = stage.find_keys.hears().await;
        stage.session.do_send(session::Panic);
        assert_eq!(panicked(), stage.ended().await);

        asked.answers(Ok(keys_of(&stage.client.user))).await;
        stage.lease_port.hears_nothing().await;
    });
}

#[test]
fn lease_that_comes_too_late_goes_back() {
    stage(async |stage| {
        let asked = stage.asks_for_a_port().await;
        stage.session.do_send(session::Panic);
        assert_eq!(panicked(), stage.ended().await);

        let (mut lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;

        assert_eq!(relayed_at(50_000), lease_ended.hears().await.message.address().0);
        assert!(stage.network.open().is_empty());
    });
}

#[test]
fn lease_on_its_way_to_a_session_that_panics_goes_back() {
    stage(async |stage| {
        let asked = stage.asks_for_a_port().await;
        let (mut lease_ended, lease) = lease(50_000);
        // The session finds the fault in its mailbox first, and the lease unread.
        stage.session.do_send(session::Panic);
        asked.answers(Ok(lease)).await;

        assert_eq!(panicked(), stage.ended().await);
        lease_ended.hears().await;
        assert_eq!(0, stage.network.binds());
    });
}

#[test]
fn seed_of_a_session_that_panics_takes_its_lease_with_it() {
    stage(async |stage| {
        let asked = stage.asks_for_a_port().await;
        let (mut lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;
        let start = stage.starts.hears().await;
        stage.session.do_send(session::Panic);
        assert_eq!(panicked(), stage.ended().await);
        lease_ended.hears_nothing().await;
        assert!(stage.network.is_open(relayed_at(50_000)));

        // Whoever holds the seed decides: a listener that will not start it lets it go.
        start.answers(Err(SessionGone)).await;
        lease_ended.hears().await;
        assert!(stage.network.open().is_empty());
    });
}

#[test]
fn refused_start_is_a_server_error_and_gives_everything_back() {
    stage(async |stage| {
        let asked = stage.asks_for_a_port().await;
        let (mut lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;
        let start = stage.starts.hears().await;
        drop(start);
        settle().await;

        let _ = stage.hears_answer().refused(500);
        lease_ended.hears().await;
        assert!(stage.network.open().is_empty());
    });
}

#[test]
fn no_port_is_insufficient_capacity() {
    stage(async |stage| {
        let asked = stage.asks_for_a_port().await;
        asked.answers(Err(NoPortsLeft)).await;
        let _ = stage.hears_answer().refused(508);
    });
}

#[test]
fn death_of_the_port_allocator_is_a_server_error() {
    stage(async |stage| {
        drop(stage.asks_for_a_port().await);
        settle().await;
        let _ = stage.hears_answer().refused(500);

        // The session goes on; the next one may be luckier.
        stage.gets(&stage.client.allocate_request());
        stage.proves().await;
        let asked = stage.lease_port.hears().await;
        asked.answers(Err(NoPortsLeft)).await;
        let _ = stage.hears_answer().refused(508);
    });
}

#[test]
fn death_of_the_authenticator_lets_nobody_in() {
    stage(async |stage| {
        stage.gets(&stage.client.allocate_request());
        drop(stage.find_keys.hears().await);
        settle().await;

        let _ = stage.client.hears_unsigned_answer().refused(500);
        stage.hears_of_no_answer().await;
        assert_eq!(Some(Ended::Finished), stage.ended().await);
    });
}

#[test]
fn stores_that_are_down_let_nobody_in_and_the_next_try_may_succeed() {
    stage(async |stage| {
        let request = stage.client.allocate_request();
        stage.gets(&request);
        stage.find_keys.hears().await.answers(Err(StoresDown)).await;

        let _ = stage.client.hears_unsigned_answer().refused(500);
        stage.hears_of_no_answer().await;
        // Anybody can ask, so that there is no line of the log for it.
        assert_eq!(0, stage.log.takes("refused").len());
        // It is no failed login, and the client is a stranger again.
        assert_eq!(Some(Ended::Finished), stage.ended().await);
    });
    stage(async |stage| {
        let (_allocation, _lease_ended) = stage.allocates().await;
        stage.is_told_proved().await;
        let mut other = stage.client.clone();
        other.user = User::new("alice", "changed meanwhile");
        let request = other.refresh_request(600);
        stage.gets(&request);
        stage.find_keys.hears().await.answers(Err(StoresDown)).await;
        let _ = other.hears_unsigned_answer().refused(500);
        stage.hears_of_no_answer().await;

        // The retransmission is another try.
        stage.gets(&request);
        stage.find_keys.hears().await.answers(Ok(keys_of(&stage.client.user))).await;
        let _ = other.hears_answer().refused(401);
        stage.hears_of_failure(LoginFailureReason::WrongCredentials).await;
    });
}

#[test]
fn unknown_user_ends_the_session() {
    stage(async |stage| {
        stage.gets(&stage.client.allocate_request());
        // The decoy fits as little as any other key; even the right one would not help nobody.
        let key = stage.client.user.key.clone();
        let nobody = FoundKeys {
            account: None,
            keys: [key].into_iter().collect(),
            otherwise: Otherwise::Refuse,
        };
        stage.find_keys.hears().await.answers(Ok(nobody)).await;

        let _ = stage.hears_answer().refused(401);
        assert_eq!(Some(Ended::Finished), stage.ended().await);
        stage.hears_of_failure(LoginFailureReason::WrongCredentials).await;
    });
}

#[test]
fn one_of_several_keys_is_enough() {
    stage(async |stage| {
        stage.gets(&stage.client.refresh_request(600));
        let mut found = keys_of(&User::new("alice", "of last week"));
        found.keys.push(stage.client.user.key.clone());
        stage.find_keys.hears().await.answers(Ok(found)).await;

        let _ = stage.hears_answer().refused(437);
    });
}

#[test]
fn allocation_that_dies_while_it_is_asked_is_a_mismatch() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        stage.gets(&stage.client.refresh_request(600));
        drop(allocation.refresh.hears().await);
        settle().await;

        let _ = stage.hears_answer().refused(437);
    });
}

#[test]
fn reply_that_the_next_session_has_to_give_is_known_to_the_seed() {
    stage(async |stage| {
        let request = stage.client.allocate_request();
        stage.gets(&request);
        stage.proves().await;
        let asked = stage.lease_port.hears().await;
        let (_lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;
        let start = stage.starts.hears().await;

        let answered = &start.message.seed.answered;
        assert_eq!(request[8..20], *answered.transaction_id.as_bytes());
        let reply = answered.reply.to_vec();
        let (mut allocation, handle) = play_allocation();
        start.answers(Ok(handle)).await;
        assert_eq!(reply, stage.hears_answer().granted().0);

        stage.gets(&stage.client.refresh_request(600));
        allocation.refresh.hears().await.answers(Ok(Refreshed::Until(secs(600)))).await;
        let _ = stage.hears_answer().granted();
    });
}
