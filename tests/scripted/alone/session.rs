//! SessionActor: whom it asks, in which order, and what it makes of the answers.

use std::time::Duration;

use sterna_actors::session::{AllocationEnded, EndSession};
use sterna_actors::supervision::Ended;
use sterna_proto::address::Family;
use sterna_proto::allocation::{ChannelBindError, CreatePermissionError, RefreshError, Refreshed};
use sterna_proto::drops::DropReason;
use sterna_proto::guard::ClaimedUser;
use sterna_proto::peer_rules::Denied;
use sterna_proto::port_pool::Parity;
use sterna_proto::session::LoginFailureReason;
use sterna_proto::stun::{
    AttributeType, EvenPort, Lifetime, Method, RequestedAddressFamily, RequestedTransport,
    ReservationToken, XorPeerAddress,
};

use super::stage::{Stage, attachment, keys_of, lease, play_allocation, stage, stage_restarted};
use crate::kit::{Deadline, RELAY_V4, User, after, channel_number, relayed_at, secs, settle};

fn bind_request(stage: &Stage) -> Vec<u8> {
    stage.client.signed(Method::CHANNEL_BIND, |writer| {
        writer.raw(AttributeType::CHANNEL_NUMBER, &channel_number(0x4000));
        writer.attribute(&XorPeerAddress(([203, 0, 113, 1], 7000).into()));
    })
}

fn permit_request(stage: &Stage) -> Vec<u8> {
    stage.client.signed(Method::CREATE_PERMISSION, |writer| {
        writer.attribute(&XorPeerAddress(([203, 0, 113, 1], 7000).into()));
    })
}

#[test]
fn allocate_asks_for_keys_then_a_port_then_the_start() {
    stage(async |stage| {
        stage.gets(&stage.client.allocate_request());

        let asked = stage.find_keys.hears().await;
        assert_eq!(ClaimedUser::Named("alice".to_owned()), asked.message.claim.user);
        stage.lease_port.hears_nothing().await;
        asked.answers(Ok(keys_of(&stage.client.user))).await;

        let asked = stage.lease_port.hears().await;
        assert_eq!((Family::V4, RELAY_V4), (asked.message.family, asked.message.prefer));
        assert_eq!((Parity::Any, "alice"), (asked.message.parity, &*asked.message.user.username));
        stage.starts.hears_nothing().await;
        let (mut lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;

        let asked = stage.starts.hears().await;
        assert!(stage.network.is_open(relayed_at(50_000)));
        let seed = &asked.message.seed;
        assert_eq!(
            ("alice", "north.gov"),
            (&*seed.owner.account.username, &*seed.owner.account.realm)
        );
        assert_eq!((1, 1), (seed.sockets.len(), seed.leases.len()));
        stage.client.hears_nothing();
        // The answer in the seed, for later sessions, is the one that the client gets.
        let reply = seed.answered.reply.to_vec();
        let seed = play_allocation();
        asked.answers(Ok(seed.1)).await;

        let answer = stage.hears_answer().granted();
        assert_eq!(reply, answer.0);
        assert_eq!((relayed_at(50_000), 600), (answer.relayed(), answer.lifetime()));
        assert_eq!(stage.client.address, answer.mapped());
        lease_ended.hears().await;
    });
}

#[test]
fn keys_are_asked_for_once() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        for _ in 0..3 {
            stage.gets(&stage.client.refresh_request(600));
            let asked = allocation.refresh.hears().await;
            asked.answers(Ok(Refreshed::Until(secs(600)))).await;
            assert_eq!(600, stage.hears_answer().granted().lifetime());
        }
        stage.find_keys.hears_nothing().await;
    });
}

#[test]
fn keys_are_asked_for_again_when_the_known_one_does_not_fit() {
    stage(async |stage| {
        let (_allocation, _lease_ended) = stage.allocates().await;
        let mut other = stage.client.clone();
        other.user = User::new("alice", "changed meanwhile");
        stage.gets(&other.refresh_request(600));

        let asked = stage.find_keys.hears().await;
        asked.answers(Ok(keys_of(&stage.client.user))).await;
        let _ = other.hears_answer().refused(401);
        stage.hears_of_failure(LoginFailureReason::WrongCredentials).await;
    });
}

#[test]
fn wishes_are_passed_on() {
    stage(async |stage| {
        let wish = stage.client.signed(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::UDP).attribute(&Lifetime(secs(1800)));
            writer.attribute(&EvenPort { reserve_next: true });
            writer.attribute(&RequestedAddressFamily(Family::V6));
        });
        stage.gets(&wish);
        stage.proves().await;

        let asked = stage.lease_port.hears().await;
        assert_eq!(
            (Family::V6, Parity::EvenWithNext),
            (asked.message.family, asked.message.parity)
        );
        let (_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;
        let asked = stage.starts.hears().await;
        let left = asked.message.seed.core.remaining(sterna_actors::clock::now());
        assert!(left > secs(1799) && left <= secs(1800), "{left:?}");
        drop(asked);
        settle().await;
        let _ = stage.hears_answer().refused(500);
    });
}

#[test]
fn reservation_is_claimed_for_its_user() {
    stage(async |stage| {
        let token = ReservationToken([7; 8]);
        let wish = stage.client.signed(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::UDP).attribute(&token);
        });
        stage.gets(&wish);
        stage.proves().await;

        let asked = stage.claims.hears().await;
        assert_eq!((token, "alice"), (asked.message.token, &*asked.message.user.username));
        asked.answers(Err(sterna_actors::port_allocator::UnknownToken)).await;
        let _ = stage.hears_answer().refused(508);
    });
}

#[test]
fn requests_are_served_one_after_the_other() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        stage.gets(&stage.client.refresh_request(700));
        stage.gets(&permit_request(stage));
        stage.gets(&bind_request(stage));

        let asked = allocation.refresh.hears().await;
        allocation.create_permission.hears_nothing().await;
        allocation.bind_channel.hears_nothing().await;
        stage.client.hears_nothing();
        asked.answers(Ok(Refreshed::Until(secs(700)))).await;
        assert_eq!(700, stage.hears_answer().granted().lifetime());

        let asked = allocation.create_permission.hears().await;
        allocation.bind_channel.hears_nothing().await;
        asked.answers(Ok(())).await;
        let answer = stage.hears_answer().granted();
        assert_eq!(Method::CREATE_PERMISSION, answer.message().method());

        allocation.bind_channel.hears().await.answers(Ok(())).await;
        let answer = stage.hears_answer().granted();
        assert_eq!(Method::CHANNEL_BIND, answer.message().method());
    });
}

#[test]
fn eight_requests_wait_and_no_more() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        let requests: Vec<Vec<u8>> = (0..12).map(|_| stage.client.refresh_request(600)).collect();
        for request in &requests {
            stage.gets(request);
        }
        for served in &requests[..9] {
            let asked = allocation.refresh.hears().await;
            asked.answers(Ok(Refreshed::Until(secs(600)))).await;
            assert_eq!(served[8..20], stage.hears_answer().granted().0[8..20]);
        }
        allocation.refresh.hears_nothing().await;
        stage.client.hears_nothing();

        stage.session.do_send(EndSession);
        assert_eq!(Some(Ended::Finished), stage.ended().await);
        let told = stage.dropped.hears().await;
        assert_eq!(3, told.message.0.get(DropReason::MailboxFull));
    });
}

#[test]
fn retransmission_is_answered_without_asking_anybody() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        let request = stage.client.refresh_request(0);
        stage.gets(&request);
        let asked = allocation.refresh.hears().await;
        stage.gets(&request);
        stage.client.hears_nothing();
        asked.answers(Ok(Refreshed::Deleted)).await;
        let answer = stage.hears_answer().granted();

        stage.gets(&request);
        allocation.refresh.hears_nothing().await;
        assert_eq!(answer, stage.hears_answer());
        // The one that came while the first was served had its answer with that one.
        stage.session.do_send(EndSession);
        let told = stage.dropped.hears().await;
        assert_eq!(1, told.message.0.get(DropReason::Replayed));
    });
}

#[test]
fn each_answer_of_the_allocation_has_its_code() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        for (error, code) in
            [(RefreshError::NoAllocation, 437), (RefreshError::FamilyMismatch, 443)]
        {
            stage.gets(&stage.client.refresh_request(600));
            allocation.refresh.hears().await.answers(Err(error)).await;
            let _ = stage.hears_answer().refused(code);
        }
        let rule = Denied::BuiltIn("loopback");
        for (error, code) in [
            (CreatePermissionError::NoAllocation, 437),
            (CreatePermissionError::PeerFamily, 443),
            (CreatePermissionError::Forbidden { peer: RELAY_V4, rule }, 403),
            (CreatePermissionError::Full, 508),
        ] {
            stage.gets(&permit_request(stage));
            allocation.create_permission.hears().await.answers(Err(error)).await;
            let _ = stage.hears_answer().refused(code);
        }
        for (error, code) in [
            (ChannelBindError::NoAllocation, 437),
            (ChannelBindError::NumberInUse, 400),
            (ChannelBindError::PeerInUse, 400),
            (ChannelBindError::PeerFamily, 443),
            (ChannelBindError::Forbidden(rule), 403),
            (ChannelBindError::ChannelsFull, 508),
            (ChannelBindError::PermissionsFull, 508),
        ] {
            stage.gets(&bind_request(stage));
            allocation.bind_channel.hears().await.answers(Err(error)).await;
            let _ = stage.hears_answer().refused(code);
        }
        let half = stage.client.refresh_request(0);
        stage.gets(&half);
        let asked = allocation.refresh.hears().await;
        asked.answers(Ok(Refreshed::RelayDeleted(Family::V6))).await;
        assert_eq!(0, stage.hears_answer().granted().lifetime());
    });
}

#[test]
fn deleted_allocation_is_forgotten_before_the_listener_says_so() {
    stage(async |stage| {
        let (mut first, _first_ended) = stage.allocates().await;
        stage.gets(&stage.client.refresh_request(0));
        stage.gets(&stage.client.allocate_request());
        first.refresh.hears().await.answers(Ok(Refreshed::Deleted)).await;
        assert_eq!(0, stage.hears_answer().granted().lifetime());

        // The word of the first one's end comes while the second is in the making.
        stage.proves().await;
        let asked = stage.lease_port.hears().await;
        stage.session.do_send(AllocationEnded);
        let (_second_ended, lease) = lease(50_002);
        asked.answers(Ok(lease)).await;
        let asked = stage.starts.hears().await;
        let (mut second, handle) = play_allocation();
        asked.answers(Ok(handle)).await;
        assert_eq!(relayed_at(50_002), stage.hears_answer().granted().relayed());

        stage.gets(&stage.client.refresh_request(600));
        second.refresh.hears().await.answers(Ok(Refreshed::Until(secs(600)))).await;
        assert_eq!(600, stage.hears_answer().granted().lifetime());
        first.refresh.hears_nothing().await;
    });
}

#[test]
fn end_of_the_allocation_is_a_mismatch_from_then_on() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        stage.session.do_send(AllocationEnded);
        stage.gets(&stage.client.refresh_request(600));
        settle().await;

        let _ = stage.hears_answer().refused(437);
        allocation.refresh.hears_nothing().await;
    });
}

#[test]
fn session_without_allocation_lasts_40_seconds_after_its_last_request() {
    stage(async |stage| {
        let session = Deadline::after(secs(40));
        stage.gets(&stage.client.refresh_request(600));
        stage.proves().await;
        let _ = stage.hears_answer().refused(437);

        session.just_before().await;
        assert_eq!(None, stage.ended().await);

        session.just_after().await;
        assert_eq!(Some(Ended::Finished), stage.ended().await);
    });
}

#[test]
fn session_with_an_allocation_lasts_without_requests() {
    stage(async |stage| {
        let (_allocation, _lease_ended) = stage.allocates().await;
        after(secs(100_000)).await;
        assert_eq!(None, stage.ended().await);

        let session = Deadline::after(secs(40));
        stage.session.do_send(AllocationEnded);
        session.just_before().await;
        assert_eq!(None, stage.ended().await);
        session.just_after().await;
        assert_eq!(Some(Ended::Finished), stage.ended().await);
    });
}

#[test]
fn session_with_an_allocation_forgets_its_answers_after_40_seconds() {
    stage(async |stage| {
        let asked = stage.asks_for_a_port().await;
        let (_lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;
        let asked = stage.starts.hears().await;
        // Its bytes are shared with what the session remembers.
        let reply = asked.message.seed.answered.reply.clone();
        let remembered = Deadline::after(secs(40));
        let (_allocation, handle) = play_allocation();
        asked.answers(Ok(handle)).await;
        assert_eq!(reply, stage.hears_answer().granted().0);

        remembered.just_before().await;
        assert!(!reply.is_unique());
        remembered.just_after().await;
        assert!(reply.is_unique(), "nobody asks, and it is forgotten");
    });
}

#[test]
fn session_that_is_told_to_end_answers_first() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        stage.gets(&stage.client.refresh_request(600));
        let asked = allocation.refresh.hears().await;
        stage.session.do_send(EndSession);
        assert_eq!(None, stage.ended().await);

        asked.answers(Ok(Refreshed::Until(secs(600)))).await;

        let _ = stage.hears_answer().granted();
        assert_eq!(Some(Ended::Finished), stage.ended().await);
    });
}

#[test]
fn restarted_session_serves_once_it_knows_whose_it_is() {
    stage_restarted(async |stage, allocation| {
        let allocate = stage.client.allocate_request();
        stage.gets(&stage.client.refresh_request(600));
        stage.gets(&allocate);
        let asked = allocation.attach.hears().await;
        allocation.refresh.hears_nothing().await;
        stage.client.hears_nothing();

        asked.answers(attachment(&stage.client.user, &allocate, ANSWER)).await;

        // No key has to be asked for, and the Allocate is known to have been answered.
        allocation.refresh.hears().await.answers(Ok(Refreshed::Until(secs(600)))).await;
        let heard = stage.network.heard_by(stage.client.address).expect("an answer");
        assert_eq!(ANSWER, heard.bytes);
        let _ = stage.hears_answer().granted();
        stage.gets(&stage.client.allocate_request());
        stage.proves().await;
        let _ = stage.hears_answer().refused(437);
    });
}

#[test]
fn restarted_session_whose_allocation_is_gone_has_none() {
    stage_restarted(async |stage, allocation| {
        let session = Deadline::after(secs(40));
        stage.gets(&stage.client.refresh_request(600));
        drop(allocation.attach.hears().await);

        stage.proves().await;
        let _ = stage.hears_answer().refused(437);
        allocation.refresh.hears_nothing().await;
        session.just_after().await;
        assert_eq!(Some(Ended::Finished), stage.ended().await);
    });
}

#[test]
fn restarted_session_without_a_word_from_its_allocation_waits() {
    stage_restarted(async |stage, allocation| {
        let asked = allocation.attach.hears().await;
        stage.gets(&stage.client.refresh_request(600));
        after(Duration::from_millis(300)).await;
        stage.client.hears_nothing();

        let allocate = stage.client.allocate_request();
        asked.answers(attachment(&stage.client.user, &allocate, ANSWER)).await;
        allocation.refresh.hears().await.answers(Ok(Refreshed::Until(secs(600)))).await;
        let _ = stage.hears_answer().granted();
    });
}

const ANSWER: &[u8] = b"\x01\x03\x00\x00\x21\x12\xA4\x42twelve bytes";
