//! Every timer that a client can notice: the moment before, and the moment after.

use slog::Level;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{EvenPort, Method};

use crate::kit::{Deadline, Setup, after, relayed_at, script, secs};

#[test]
fn permission_ends_after_five_minutes() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-9
    //= type=test
    //# The Permission Lifetime MUST be 300 seconds (= 5 minutes).
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate().await.granted().relayed();
        let peer = world.peer(1);
        let permission = Deadline::after(secs(300));
        alice.permit(&peer).await.granted();

        permission.just_before().await;
        peer.sends(relayed, b"in time").await;
        alice.hears_data(&peer, b"in time");
        alice.sends_to(&peer, b"in time").await;
        peer.hears(relayed, b"in time");

        permission.just_after().await;
        peer.sends(relayed, b"late").await;
        alice.hears_nothing();
        alice.sends_to(&peer, b"late").await;
        peer.hears_nothing();
        let drops = world.allocation_counters(&alice).await.drops;
        assert_eq!(2, drops.get(DropReason::NoPermission));
    });
}

#[test]
fn permission_that_is_refreshed_lasts_from_then_on() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate().await.granted().relayed();
        let peer = world.peer(1);
        alice.permit(&peer).await.granted();
        after(secs(200)).await;
        let refreshed = Deadline::after(secs(300));
        alice.permit(&peer).await.granted();

        refreshed.just_before().await;
        peer.sends(relayed, b"in time").await;
        alice.hears_data(&peer, b"in time");

        refreshed.just_after().await;
        peer.sends(relayed, b"late").await;
        alice.hears_nothing();
    });
}

#[test]
fn data_does_not_refresh_a_permission() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate().await.granted().relayed();
        let peer = world.peer(1);
        let permission = Deadline::after(secs(300));
        alice.permit(&peer).await.granted();

        for _ in 0..29 {
            after(secs(10)).await;
            peer.sends(relayed, b"here").await;
            alice.hears_data(&peer, b"here");
            alice.sends_to(&peer, b"there").await;
            peer.hears(relayed, b"there");
        }
        permission.just_after().await;
        peer.sends(relayed, b"late").await;
        alice.hears_nothing();
    });
}

#[test]
fn channel_ends_after_ten_minutes() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12
    //= type=test
    //# A channel binding lasts for 10 minutes unless refreshed.
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate_for(3600).await.granted().relayed();
        let peer = world.peer(1);
        let channel = Deadline::after(secs(600));
        alice.bind(0x4000, &peer).await.granted();
        // Permissions have clocks of their own.
        after(secs(299)).await;
        alice.permit(&peer).await.granted();
        after(secs(299)).await;
        alice.permit(&peer).await.granted();

        channel.just_before().await;
        alice.says(0x4000, b"in time").await;
        peer.hears(relayed, b"in time");
        peer.sends(relayed, b"in time").await;
        alice.hears(0x4000, b"in time");

        channel.just_after().await;
        alice.says(0x4000, b"late").await;
        peer.hears_nothing();
        peer.sends(relayed, b"not on a channel").await;
        alice.hears_data(&peer, b"not on a channel");
        let drops = world.allocation_counters(&alice).await.drops;
        assert_eq!(1, drops.get(DropReason::UnboundChannel));
    });
}

#[test]
fn permission_of_a_channel_ends_before_the_channel_does() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# On the server, the receipt of a ChannelData message MUST NOT refresh
    //# either the channel binding or the permission towards the peer.
    script(async |world| {
        let call = world.call().await;
        let permission = Deadline::after(secs(300));
        let mut alice = call.client.clone();
        alice.bind(0x4001, &call.peer).await.granted();

        permission.just_before().await;
        call.goes_on().await;

        permission.just_after().await;
        call.peer.sends(call.relayed, b"unasked").await;
        alice.hears_nothing();
        alice.says(0x4001, b"still bound").await;
        call.peer.hears(call.relayed, b"still bound");
    });
}

#[test]
fn number_and_peer_of_an_expired_channel_stay_paired_for_five_minutes() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        alice.allocate_for(3600).await.granted();
        let (peer, other) = (world.peer(1), world.peer(2));
        let forgotten = Deadline::after(secs(600 + 300));
        alice.bind(0x4000, &peer).await.granted();

        forgotten.just_before().await;
        alice.bind(0x4000, &other).await.refused(400);
        alice.bind(0x4001, &peer).await.refused(400);

        forgotten.just_after().await;
        alice.bind(0x4000, &other).await.granted();
        alice.bind(0x4001, &peer).await.granted();
    });
}

#[test]
fn expired_channel_is_bound_again_as_it_was() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate_for(3600).await.granted().relayed();
        let peer = world.peer(1);
        let channel = Deadline::after(secs(600));
        alice.bind(0x4000, &peer).await.granted();

        channel.just_after().await;
        alice.bind(0x4000, &peer).await.granted();

        alice.says(0x4000, b"again").await;
        peer.hears(relayed, b"again");
    });
}

#[test]
fn allocation_lives_for_ten_minutes_where_its_client_says_nothing() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let allocation = Deadline::after(secs(600));
        let answer = alice.allocate().await.granted();
        assert_eq!(600, answer.lifetime());

        allocation.just_before().await;
        assert!(world.network.is_open(answer.relayed()));
        assert_eq!(1, world.allocations().await);

        allocation.just_after().await;
        assert!(!world.network.is_open(answer.relayed()));
        assert_eq!(0, world.allocations().await);
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!("allocation timeout", line.field("reason"));
        alice.refresh(600).await.refused(437);
        alice.allocate().await.granted();
    });
}

#[test]
fn refreshed_allocation_lives_from_then_on() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate().await.granted().relayed();
        after(secs(400)).await;
        let allocation = Deadline::after(secs(700));
        assert_eq!(700, alice.refresh(700).await.granted().lifetime());

        allocation.just_before().await;
        assert!(world.network.is_open(relayed));

        allocation.just_after().await;
        assert!(!world.network.is_open(relayed));
    });
}

#[test]
fn refresh_can_bring_the_end_nearer() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let answer = alice.allocate_for(3600).await.granted();
        assert_eq!(3600, answer.lifetime());
        after(secs(10)).await;
        let allocation = Deadline::after(secs(600));
        assert_eq!(600, alice.refresh(1).await.granted().lifetime());

        allocation.just_before().await;
        assert!(world.network.is_open(answer.relayed()));

        allocation.just_after().await;
        assert!(!world.network.is_open(answer.relayed()));
    });
}

#[test]
fn no_allocation_lives_longer_than_the_maximum_unrefreshed() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the request contains a LIFETIME attribute, then the
    //# server computes the minimum of the client's proposed lifetime and the
    //# server's maximum allowed lifetime.
    script(async |world| {
        let mut alice = world.client("alice").await;
        let allocation = Deadline::after(secs(3600));
        let answer = alice.allocate_for(1_000_000).await.granted();
        assert_eq!(3600, answer.lifetime());

        allocation.just_before().await;
        assert!(world.network.is_open(answer.relayed()));

        allocation.just_after().await;
        assert!(!world.network.is_open(answer.relayed()));
    });
}

#[test]
fn reserved_port_is_kept_for_thirty_seconds() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The
    //# server MUST hold this reservation for at least 30 seconds
    let pair = || Setup { ports: 50_000..=50_001, ..Setup::default() };
    pair().script(async |world| {
        let mut alice = world.client("alice").await;
        let reservation = Deadline::after(secs(30));
        let token = alice
            .allocate_with(|writer| _ = writer.attribute(&EvenPort { reserve_next: true }))
            .await
            .granted()
            .token();

        reservation.just_before().await;
        assert_eq!(0, world.free_ports().await);
        let mut second = world.client("alice").await;
        let answer = second.allocate_with(|writer| _ = writer.attribute(&token)).await.granted();
        assert_eq!(relayed_at(50_001), answer.relayed());
    });
    pair().script(async |world| {
        let mut alice = world.client("alice").await;
        let reservation = Deadline::after(secs(30));
        let token = alice
            .allocate_with(|writer| _ = writer.attribute(&EvenPort { reserve_next: true }))
            .await
            .granted()
            .token();

        reservation.just_after().await;
        assert_eq!(1, world.free_ports().await);
        let mut second = world.client("alice").await;
        second.allocate_with(|writer| _ = writer.attribute(&token)).await.refused(508);
        assert_eq!(relayed_at(50_001), second.allocate().await.granted().relayed());
    });
}

#[test]
fn nonce_is_good_for_its_lifetime() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=test
    //# If the NONCE is no longer valid, the server MUST generate an error
    //# response with an error code of 438 (Stale Nonce).
    Setup { nonce_lifetime: secs(120), ..Setup::default() }.script(async |world| {
        // A nonce knows its age to the second.
        let (good, stale) = (Deadline::after(secs(120)), Deadline::after(secs(121)));
        let mut alice = world.client("alice").await;
        let _ = alice.exchange(&alice.allocate_request()).await.granted();

        good.just_before().await;
        alice.exchange(&alice.refresh_request(600)).await.granted();

        stale.just_after().await;
        let answer = alice.exchange(&alice.refresh_request(600)).await.refused(438);
        alice.nonce = answer.nonce();
        alice.exchange(&alice.refresh_request(600)).await.granted();
    });
}

#[test]
fn stale_nonce_makes_no_session() {
    Setup { nonce_lifetime: secs(120), ..Setup::default() }.script(async |world| {
        let stale = Deadline::after(secs(121));
        let alice = world.client("alice").await;

        stale.just_after().await;
        alice.exchange(&alice.allocate_request()).await.refused(438);

        assert_eq!(0, world.sessions().await);
    });
}

#[test]
fn answer_is_remembered_for_forty_seconds() {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
    //= type=test
    //# the server to remember all transaction IDs
    //# received over UDP or DTLS-over-UDP and their corresponding responses
    //# in the last 40 seconds.
    script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.allocate_request();
        let remembered = Deadline::after(secs(40));
        let answer = alice.exchange(&request).await.granted();

        remembered.just_before().await;
        assert_eq!(answer, alice.exchange(&request).await);

        remembered.just_after().await;
        alice.exchange(&request).await.refused(437);
    });
}

#[test]
fn session_without_allocation_ends_after_40_seconds() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let session = Deadline::after(secs(40));
        alice.refresh(600).await.refused(437);

        session.just_before().await;
        assert_eq!(1, world.sessions().await);

        session.just_after().await;
        assert_eq!(0, world.sessions().await);
        alice.allocate().await.granted();
    });
}

#[test]
fn each_request_gives_a_session_another_40_seconds() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        alice.refresh(600).await.refused(437);
        after(secs(50)).await;
        let session = Deadline::after(secs(40));
        alice.ask(Method::CREATE_PERMISSION, |_| {}).await.refused(437);

        session.just_before().await;
        assert_eq!(1, world.sessions().await);

        session.just_after().await;
        assert_eq!(0, world.sessions().await);
    });
}

#[test]
fn session_outlives_its_allocation_by_40_seconds() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let (allocation, session) = (Deadline::after(secs(600)), Deadline::after(secs(640)));
        alice.allocate().await.granted();

        allocation.just_after().await;
        assert_eq!((0, 1), (world.allocations().await, world.sessions().await));

        session.just_before().await;
        assert_eq!(1, world.sessions().await);

        session.just_after().await;
        assert_eq!(0, world.sessions().await);
    });
}

#[test]
fn port_of_a_foreign_program_is_left_alone_for_half_a_minute() {
    Setup { ports: 50_000..=50_000, ..Setup::default() }.script(async |world| {
        let relayed = relayed_at(50_000);
        let mut alice = world.client("alice").await;
        world.network.holds(relayed);
        let left_alone = Deadline::after(secs(30));
        alice.allocate().await.refused(508);
        world.network.lets_go(relayed);

        left_alone.just_before().await;
        alice.allocate().await.refused(508);
        assert_eq!(1, world.network.binds());

        left_alone.just_after().await;
        assert_eq!(relayed, alice.allocate().await.granted().relayed());
        assert_eq!(2, world.network.binds());
    });
}

#[test]
fn relayed_address_that_is_deleted_early_leaves_no_timer_behind() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let first = Deadline::after(secs(600));
        alice.allocate().await.granted();
        after(secs(300)).await;
        assert_eq!(0, alice.refresh(0).await.granted().lifetime());
        let relayed = alice.allocate().await.granted().relayed();

        first.just_after().await;
        assert!(world.network.is_open(relayed));
        assert_eq!(600, alice.refresh(600).await.granted().lifetime());
    });
}
