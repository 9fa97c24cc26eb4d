//! Which relay port a client gets: even ones, reserved ones, those that a foreign program holds.

use sterna_proto::address::Family;
use sterna_proto::stun::{
    AdditionalAddressFamily, AttributeType, EvenPort, MessageWriter, Method,
    RequestedAddressFamily, RequestedTransport, ReservationToken,
};

use crate::kit::{
    Answer, Client, RELAY_V4, RELAY_V6, Setup, Trap, after, relayed_at, script, secs, settle,
};

fn ports(ports: std::ops::RangeInclusive<u16>) -> Setup {
    Setup { ports, ..Setup::default() }
}

async fn allocate_even(client: &mut Client, reserve_next: bool) -> Answer {
    client.allocate_with(|writer| _ = writer.attribute(&EvenPort { reserve_next })).await
}

async fn allocate_reserved(client: &mut Client, token: ReservationToken) -> Answer {
    client.allocate_with(|writer| _ = writer.attribute(&token)).await
}

async fn allocate_both(client: &mut Client) -> Answer {
    let fill = |writer: &mut MessageWriter<'_>| {
        writer.attribute(&AdditionalAddressFamily(Family::V6));
    };
    client.allocate_with(fill).await
}

#[test]
fn even_port_is_even_and_reserves_nothing() {
    ports(50_001..=50_004).script(async |world| {
        for _ in 0..2 {
            let answer = allocate_even(&mut world.client("alice").await, false).await.granted();
            assert_eq!(0, answer.relayed().port() % 2);
            assert!(!answer.has(AttributeType::RESERVATION_TOKEN));
        }
        // Two ports are left, neither of them even.
        assert_eq!(2, world.free_ports().await);
        allocate_even(&mut world.client("alice").await, false).await.refused(508);
    });
}

#[test]
fn reserved_port_is_the_next_one_and_goes_to_who_shows_the_token() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# The
    //# server MUST hold this reservation for at least 30 seconds and MAY
    //# choose to hold longer
    ports(50_000..=50_001).script(async |world| {
        let mut alice = world.client("alice").await;
        let answer = allocate_even(&mut alice, true).await.granted();
        assert_eq!(relayed_at(50_000), answer.relayed());
        world.client("alice").await.allocate().await.refused(508);

        let mut second = world.client("alice").await;
        let reserved = allocate_reserved(&mut second, answer.token()).await.granted();

        assert_eq!(relayed_at(50_001), reserved.relayed());
        assert!(!reserved.has(AttributeType::RESERVATION_TOKEN));
        assert_eq!(2, world.allocations().await);
    });
}

#[test]
fn token_is_good_once() {
    script(async |world| {
        let token = allocate_even(&mut world.client("alice").await, true).await.granted().token();
        let mut second = world.client("alice").await;
        allocate_reserved(&mut second, token).await.granted();

        allocate_reserved(&mut world.client("alice").await, token).await.refused(508);

        second.refresh(0).await.granted();
        allocate_reserved(&mut second, token).await.refused(508);
    });
}

#[test]
fn token_of_another_user_is_worth_nothing_and_stays_good() {
    script(async |world| {
        let token = allocate_even(&mut world.client("alice").await, true).await.granted().token();

        allocate_reserved(&mut world.client("bob").await, token).await.refused(508);

        allocate_reserved(&mut world.client("alice").await, token).await.granted();
    });
}

#[test]
fn made_up_token_is_refused() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If
    //# the token is not valid for some reason, the server rejects the
    //# request with a 508 (Insufficient Capacity) error.
    script(async |world| {
        let mut alice = world.client("alice").await;
        allocate_reserved(&mut alice, ReservationToken([1; 8])).await.refused(508);
        alice.allocate().await.granted();
    });
}

#[test]
fn retransmitted_even_port_request_gets_the_same_token() {
    ports(50_000..=50_001).script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.signed(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::UDP);
            writer.attribute(&EvenPort { reserve_next: true });
        });
        let answer = alice.exchange(&request).await.granted();

        assert_eq!(answer, alice.exchange(&request).await);
        allocate_reserved(&mut world.client("alice").await, answer.token()).await.granted();
    });
}

#[test]
fn reservation_outlives_the_allocation_it_was_made_with() {
    ports(50_000..=50_001).script(async |world| {
        let mut alice = world.client("alice").await;
        let token = allocate_even(&mut alice, true).await.granted().token();
        alice.refresh(0).await.granted();

        let reserved = allocate_reserved(&mut world.client("alice").await, token).await.granted();
        assert_eq!(relayed_at(50_001), reserved.relayed());
    });
}

#[test]
fn reservations_that_nobody_claims_come_back() {
    ports(50_000..=50_007).script(async |world| {
        for name in ["alice", "bob", "alice", "bob"] {
            let mut client = world.client(name).await;
            allocate_even(&mut client, true).await.granted();
            client.refresh(0).await.granted();
            after(secs(5)).await;
        }
        // Each has given up the first for the second.
        assert_eq!(6, world.free_ports().await);
        after(secs(30)).await;
        assert_eq!(8, world.free_ports().await);
    });
}

#[test]
fn reserved_port_that_a_foreign_program_took_is_refused() {
    ports(50_000..=50_001).script(async |world| {
        let token = allocate_even(&mut world.client("alice").await, true).await.granted().token();
        world.network.holds(relayed_at(50_001));

        let mut second = world.client("alice").await;
        allocate_reserved(&mut second, token).await.refused(508);

        // It is left alone, and free again once the other program is gone.
        world.network.lets_go(relayed_at(50_001));
        assert_eq!(0, world.free_ports().await);
        after(secs(31)).await;
        assert_eq!(1, world.free_ports().await);
    });
}

#[test]
fn pair_whose_even_port_is_held_elsewhere_is_reserved_for_nobody() {
    ports(50_000..=50_001).script(async |world| {
        world.network.holds(relayed_at(50_000));
        let mut alice = world.client("alice").await;
        allocate_even(&mut alice, true).await.refused(508);

        // The odd one is nobody's, before the time of a reservation is over.
        assert_eq!(1, world.free_ports().await);
        assert_eq!(relayed_at(50_001), alice.allocate().await.granted().relayed());
    });
}

#[test]
fn port_that_a_foreign_program_holds_is_passed_over() {
    ports(50_000..=50_009).script(async |world| {
        (50_000..50_009).for_each(|port| world.network.holds(relayed_at(port)));
        let mut alice = world.client("alice").await;

        assert_eq!(relayed_at(50_009), alice.allocate().await.granted().relayed());

        // Each was tried at most once, and is not tried again so soon.
        let binds = world.network.binds();
        assert!((1..=10).contains(&binds), "{binds} attempts");
        world.client("alice").await.allocate().await.refused(508);
        assert_eq!(10, world.network.binds());
    });
}

#[test]
fn search_for_a_port_is_bounded() {
    ports(50_000..=50_099).script(async |world| {
        (50_000..=50_099).for_each(|port| world.network.holds(relayed_at(port)));

        world.client("alice").await.allocate().await.refused(508);

        assert_eq!(16, world.network.binds());
        assert_eq!(84, world.free_ports().await);
    });
}

#[test]
fn relay_address_that_is_gone_is_an_error_and_no_search() {
    ports(50_000..=50_099).script(async |world| {
        world.network.lacks(RELAY_V4);

        world.client("alice").await.allocate().await.refused(508);

        assert_eq!(1, world.network.binds());
        assert_eq!(100, world.free_ports().await);
    });
}

#[test]
fn dual_allocation_has_an_address_of_each_family() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let answer = allocate_both(&mut alice).await.granted();

        let [v4, v6] = answer.all_relayed()[..] else { panic!("two addresses") };
        assert_eq!((RELAY_V4, RELAY_V6), (v4.ip(), v6.ip()));
        assert_eq!(None, answer.missing());
        let (peer, peer_v6) = (world.peer(1), world.peer_v6(1));
        alice.bind(0x4000, &peer).await.granted();
        alice.bind(0x4001, &peer_v6).await.granted();
        alice.says(0x4000, b"four").await;
        alice.says(0x4001, b"six").await;
        peer.hears(v4, b"four");
        peer_v6.hears(v6, b"six");
        peer_v6.sends(v6, b"back").await;
        alice.hears(0x4001, b"back");
        alice.refresh(0).await.granted();
        assert_eq!(vec![alice.server], world.network.open());
    });
}

#[test]
fn dual_allocation_without_one_half_is_half_a_success() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
    //= type=test
    //# If the
    //# server can partially meet the request, i.e., if it can only
    //# allocate one relayed transport address of a specific address
    //# type, then it includes ADDRESS-ERROR-CODE attribute in the
    //# success response to inform the client the reason for partial
    //# failure of the request.
    for (lacking, present, missing) in
        [(RELAY_V6, RELAY_V4, Family::V6), (RELAY_V4, RELAY_V6, Family::V4)]
    {
        script(async |world| {
            world.network.lacks(lacking);
            let mut alice = world.client("alice").await;

            let answer = allocate_both(&mut alice).await.granted();

            assert_eq!(present, answer.relayed().ip());
            assert_eq!(Some((missing, 508)), answer.missing());
            let peer = if missing == Family::V6 { world.peer(1) } else { world.peer_v6(1) };
            let absent = if missing == Family::V6 { world.peer_v6(1) } else { world.peer(1) };
            alice.permit(&peer).await.granted();
            alice.permit(&absent).await.refused(443);
            assert_eq!(2, world.network.open().len());
        });
    }
}

#[test]
fn dual_allocation_on_a_server_of_one_family_says_so() {
    Setup { relays: vec![RELAY_V4], ..Setup::default() }.script(async |world| {
        let answer = allocate_both(&mut world.client("alice").await).await.granted();

        assert_eq!(RELAY_V4, answer.relayed().ip());
        assert_eq!(Some((Family::V6, 440)), answer.missing());
    });
}

#[test]
fn dual_allocation_without_either_half_is_refused_and_leaks_nothing() {
    ports(50_000..=50_001).script(async |world| {
        world.network.lacks(RELAY_V4);
        world.network.lacks(RELAY_V6);

        allocate_both(&mut world.client("alice").await).await.refused(508);

        assert_eq!(2, world.free_ports().await);
        assert_eq!(0, world.allocations().await);
    });
}

#[test]
fn family_that_is_not_served_is_refused() {
    Setup { relays: vec![RELAY_V4], ..Setup::default() }.script(async |world| {
        let mut alice = world.client("alice").await;
        let v6 = RequestedAddressFamily(Family::V6);
        alice.allocate_with(|writer| _ = writer.attribute(&v6)).await.refused(440);
        alice.allocate().await.granted();
    });
}

#[test]
fn client_gets_the_relay_address_it_reached_the_server_at() {
    let relays = ["192.0.2.7", "192.0.2.1", "192.0.2.9"].map(|ip| ip.parse().expect("an IP"));
    Setup { relays: relays.to_vec(), ports: 50_000..=50_001, ..Setup::default() }.script(
        async |world| {
            let mut used = Vec::new();
            for _ in 0..6 {
                let answer = world.client("alice").await.allocate().await.granted();
                used.push(answer.relayed().ip().to_string());
            }
            assert_eq!(["192.0.2.1", "192.0.2.1"], used[..2]);
            // The others follow in turn once that one is full.
            assert_eq!(["192.0.2.7", "192.0.2.9", "192.0.2.7", "192.0.2.9"], used[2..]);
            world.client("alice").await.allocate().await.refused(508);
        },
    );
}

#[test]
fn ports_are_back_once_their_allocations_have_ended() {
    ports(50_000..=50_007).script(async |world| {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = world.client("alice").await;
            client.allocate().await.granted();
            clients.push(client);
        }
        assert_eq!(0, world.free_ports().await);
        for client in &mut clients {
            client.refresh(0).await.granted();
        }
        assert_eq!(8, world.free_ports().await);
        assert_eq!(1, world.network.open().len());
    });
}

#[test]
fn death_of_a_dual_allocation_in_the_making_leaks_neither_port() {
    ports(50_000..=50_000).script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.signed(Method::ALLOCATE, |writer| {
            writer.attribute(&RequestedTransport::UDP);
            writer.attribute(&AdditionalAddressFamily(Family::V6));
        });
        // The first half has its lease and its socket when the second one fails.
        world.network.sets(Trap::Bind);
        alice.sends(&request).await;
        settle().await;
        world.log.expects(slog::Level::Warning, "session panicked and is restarted");

        assert_eq!(2, alice.exchange(&request).await.granted().all_relayed().len());
    });
}
