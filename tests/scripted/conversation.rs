//! One client's requests: repeated, queued, of the wrong user, of nobody; and how many clients a
//! listener takes.

use sterna_proto::drops::DropReason;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::stun::{AttributeType, Method, RequestedTransport, Username, XorMappedAddress};

use crate::kit::{Call, Heard, Setup, User, after, message, request, script, secs, settle};

#[test]
fn retransmission_gets_identical_bytes() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# The server MUST respond to retransmissions such that
    //# the following property is preserved
    script(async |world| {
        let call = world.call().await;
        let alice = &call.client;
        let requests = [
            alice.refresh_request(600),
            alice.signed(Method::CREATE_PERMISSION, |_| {}),
            alice.signed(Method::CHANNEL_BIND, |_| {}),
            alice.refresh_request(0),
            alice.allocate_request(),
        ];
        for request in &requests {
            let answer = alice.exchange(request).await;
            assert_eq!(answer, alice.exchange(request).await);
            after(secs(5)).await;
            assert_eq!(answer, alice.exchange(request).await);
        }
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
    });
}

#[test]
fn retransmission_while_the_request_is_served_is_answered_once() {
    script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.allocate_request();
        for _ in 0..3 {
            alice.queues(&request);
        }
        settle().await;

        let answer = alice.hears_answer().granted();
        // One that came when the answer was there already is answered with it.
        while let Some(again) = alice.next() {
            assert_eq!(Heard::Answer(answer.clone()), again);
        }
        assert_eq!(1, world.network.binds());
    });
}

#[test]
fn second_allocate_on_the_same_5_tuple_is_a_mismatch() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The server checks if the 5-tuple is currently in use by an
    //# existing allocation.  If yes, the server rejects the request
    //# with a 437 (Allocation Mismatch) error.
    script(async |world| {
        let call = world.call().await;
        let mut alice = call.client.clone();
        alice.allocate().await.refused(437);

        call.goes_on().await;
        assert_eq!(1, world.network.binds());
    });
}

#[test]
fn two_allocates_at_once_make_one_allocation() {
    script(async |world| {
        let alice = world.client("alice").await;
        alice.queues(&alice.allocate_request());
        alice.queues(&alice.allocate_request());
        settle().await;

        alice.hears_answer().granted();
        alice.hears_answer().refused(437);
        assert_eq!(1, world.network.binds());
    });
}

#[test]
fn request_of_another_user_on_the_same_5_tuple_is_refused() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-5
    //= type=test
    //# then the request MUST be rejected with a 441 (Wrong Credentials)
    //# error.
    script(async |world| {
        let call = world.call().await;
        let mut bob = call.client.clone();
        bob.user = User::named("bob");
        bob.refresh(0).await.refused(441);
        bob.permit(&call.peer).await.refused(441);
        bob.bind(Call::CHANNEL, &call.peer).await.refused(441);
        // An Allocate finds the 5-tuple taken, whoever asks.
        bob.allocate().await.refused(437);

        call.goes_on().await;
        call.client.clone().refresh(0).await.granted();
        // Without an allocation the 5-tuple is anybody's.
        bob.allocate().await.granted();
    });
}

#[test]
fn requests_without_an_allocation_are_a_mismatch() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-5
    //= type=test
    //# if the 5-tuple does not identify an existing
    //# allocation, then the message MUST either be rejected with a 437
    //# Allocation Mismatch error (if it is a request) or be silently ignored
    //# (if it is an indication or a ChannelData message).
    script(async |world| {
        let mut alice = world.client("alice").await;
        let peer = world.peer(1);
        alice.refresh(600).await.refused(437);
        alice.permit(&peer).await.refused(437);
        alice.bind(0x4000, &peer).await.refused(437);

        alice.says(0x4000, b"nothing is bound").await;
        alice.sends_to(&peer, b"nothing is permitted").await;
        peer.hears_nothing();
        alice.hears_nothing();
        assert_eq!(2, world.dropped(DropReason::NoAllocation).await);
    });
}

#[test]
fn session_that_proves_nobody_ends_at_once() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the resulting value
    //# does not match the contents of the MESSAGE-INTEGRITY attribute or the
    //# MESSAGE-INTEGRITY-SHA256 attribute, the server MUST reject the
    //# request with an error response.  This response MUST use an error code
    //# of 401 (Unauthenticated).  It MUST include the REALM and NONCE
    //# attributes and SHOULD NOT include the USERNAME, USERHASH,
    //# MESSAGE-INTEGRITY, or MESSAGE-INTEGRITY-SHA256 attribute.
    script(async |world| {
        let mut mallory = world.stranger(0, User::new("mallory", "guess"));
        mallory.knocks().await;
        let answer = mallory.exchange(&mallory.allocate_request()).await.refused(401);
        for present in [AttributeType::REALM, AttributeType::NONCE] {
            assert!(answer.has(present), "{present}");
        }
        for absent in [
            AttributeType::USERNAME,
            AttributeType::USERHASH,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
        ] {
            assert!(!answer.has(absent), "{absent}");
        }
        assert_eq!(0, world.sessions().await);
        world.log.expects_failed_login("mallory", mallory.address, "wrong_credentials");

        mallory.user = User::new("alice", "guess");
        mallory.exchange(&mallory.allocate_request()).await.refused(401);
        assert_eq!(0, world.sessions().await);
        world.log.expects_failed_login("alice", mallory.address, "wrong_credentials");

        // The right password right behind the wrong one is served all the same.
        let wrong = mallory.allocate_request();
        mallory.user = User::named("alice");
        mallory.queues(&wrong);
        mallory.queues(&mallory.allocate_request());
        settle().await;
        let _ = mallory.hears_answer().refused(401);
        let _ = mallory.hears_answer().granted();
        world.log.expects_failed_login("alice", mallory.address, "wrong_credentials");
    });
}

#[test]
fn wrong_password_costs_a_proved_client_nothing() {
    script(async |world| {
        let call = world.call().await;
        let mut typo = call.client.clone();
        typo.user = User::new("alice", "open sesame");
        typo.exchange(&typo.refresh_request(0)).await.refused(401);
        world.log.expects_failed_login("alice", typo.address, "wrong_credentials");

        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
    });
}

#[test]
fn credentials_without_a_realm_or_a_user_are_a_bad_request() {
    script(async |world| {
        let alice = world.client("alice").await;
        let bare = request(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::UDP);
            writer.attribute(&Username("alice"));
            writer.integrity(IntegrityAlgorithm::Sha1, &alice.user.key);
        });
        alice.exchange(&bare).await.refused(400);
        assert_eq!(0, world.sessions().await);
    });
}

#[test]
fn listener_takes_no_more_sessions_than_it_may() {
    Setup { sessions_max: 2, ..Setup::default() }.script(async |world| {
        let mut alice = world.client("alice").await;
        let mut bob = world.client("bob").await;
        alice.allocate().await.granted();
        bob.allocate().await.granted();

        // Unproved sources are answered as ever; who would be the third is not.
        let third = world.client("alice").await;
        third.sends(&third.allocate_request()).await;
        third.hears_nothing();
        assert_eq!(1, world.dropped(DropReason::SessionsFull).await);
        assert_eq!(2, world.sessions().await);
        alice.refresh(600).await.granted();

        // A place is free once a session is over.
        bob.refresh(0).await.granted();
        after(secs(61)).await;
        third.exchange(&third.allocate_request()).await.granted();
    });
}

#[test]
fn source_that_proved_nothing_is_not_remembered() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# Otherwise, the server MUST
    //# require that the request be authenticated.
    script(async |world| {
        for _ in 0..50 {
            let stranger = world.stranger(0, User::named("alice"));
            stranger.exchange(&request(Method::ALLOCATE, |_| {})).await.refused(401);
            stranger.exchange(&request(Method::REFRESH, |_| {})).await.refused(401);
        }
        assert_eq!(0, world.sessions().await);
    });
}

#[test]
fn nonce_is_good_for_its_client_alone() {
    script(async |world| {
        let alice = world.client("alice").await;
        let mut thief = world.stranger(0, User::named("alice"));
        thief.nonce = alice.nonce.clone();
        thief.exchange(&thief.allocate_request()).await.refused(438);
        assert_eq!(0, world.sessions().await);
    });
}

#[test]
fn binding_is_answered_without_a_session_and_with_one() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1.1
    //= type=test
    //# this
    //# attribute contains the source transport address of the request
    //# message.
    script(async |world| {
        let call = world.call().await;
        for client in [world.stranger(0, User::named("alice")), call.client.clone()] {
            client.sends(&request(Method::BINDING, |_| {})).await;
            let answer = match client.next() {
                Some(Heard::Answer(answer)) => answer.granted(),
                other => panic!("{other:?}"),
            };
            assert_eq!(Some(XorMappedAddress(client.address)), answer.read());
        }
        assert_eq!(1, world.sessions().await);
    });
}

#[test]
fn unproved_sources_get_so_many_answers_a_second() {
    Setup { answers_per_second: 5, ..Setup::default() }.script(async |world| {
        let stranger = world.stranger(0, User::named("alice"));
        for _ in 0..20 {
            stranger.queues(&request(Method::ALLOCATE, |_| {}));
        }
        settle().await;

        for _ in 0..5 {
            stranger.hears_answer().refused(401);
        }
        stranger.hears_nothing();
        assert_eq!(15, world.dropped(DropReason::RateLimited).await);

        after(secs(1)).await;
        stranger.exchange(&request(Method::ALLOCATE, |_| {})).await.refused(401);
    });
}

#[test]
fn proved_clients_are_not_rate_limited() {
    Setup { answers_per_second: 1, ..Setup::default() }.script(async |world| {
        let mut alice = world.client("alice").await;
        alice.allocate().await.granted();
        for _ in 0..20 {
            alice.refresh(600).await.granted();
        }
    });
}

#[test]
fn responses_and_data_indications_of_a_client_are_not_relayed() {
    use sterna_proto::stun::{Class, Data, XorPeerAddress};

    script(async |world| {
        let call = world.call().await;
        for (class, method) in [
            (Class::Indication, Method::DATA),
            (Class::Success, Method::ALLOCATE),
            (Class::Error, Method::SEND),
        ] {
            let bytes = message(class, method, |writer| {
                writer.attribute(&XorPeerAddress(call.peer.0)).attribute(&Data(b"odd"));
            });
            call.client.sends(&bytes).await;
        }
        call.client.hears_nothing();
        call.peer.hears_nothing();
        call.goes_on().await;
    });
}

#[test]
fn unknown_attribute_that_must_be_understood_is_named() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# the server replies with an error response with an error
    //# code of 420 (Unknown Attribute) and includes an UNKNOWN-ATTRIBUTES
    //# attribute in the response that lists the unknown comprehension-
    //# required attributes.
    script(async |world| {
        let mut alice = world.client("alice").await;
        let unknown = AttributeType::new(0x7F01);
        let answer = alice.allocate_with(|writer| _ = writer.raw(unknown, b"?")).await.refused(420);

        let listed = answer.message().raw(AttributeType::UNKNOWN_ATTRIBUTES).map(<[u8]>::to_vec);
        assert_eq!(Some(vec![0x7F, 0x01]), listed);
        alice
            .allocate_with(|writer| _ = writer.raw(AttributeType::new(0xFF01), b"?"))
            .await
            .granted();
    });
}
