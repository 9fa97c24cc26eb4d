//! An AllocationActor that panics ends alone: socket and lease go back, its client gets 437 and may
//! allocate again.

use slog::Level;
use sterna_actors::allocation;
use sterna_proto::stun::{Icmp, Lifetime};

use crate::kit::{Call, Setup, Trap, World, channel_data, relayed_at, script, settle};

#[test]
fn panic_in_an_allocation_ends_that_allocation_alone() {
    script(async |world| {
        let call = world.call().await;
        let other = Call::between(world.client("bob").await, world.peer(2)).await;

        world.panic_in_allocation(&call.client).await;

        assert!(!world.network.is_open(call.relayed));
        assert_eq!((2, 1), (world.sessions().await, world.allocations().await));
        other.goes_on().await;
        assert_eq!(700, other.client.clone().refresh(700).await.granted().lifetime());
    });
}

#[test]
fn port_of_an_allocation_that_panicked_is_leased_anew() {
    Setup { ports: 50_000..=50_000, ..Setup::default() }.script(async |world| {
        let call = world.call().await;
        let mut bob = world.client("bob").await;
        bob.allocate().await.refused(508);

        world.panic_in_allocation(&call.client).await;

        assert_eq!(relayed_at(50_000), bob.allocate().await.granted().relayed());
        assert_eq!(2, world.network.binds());
    });
}

#[test]
fn client_whose_allocation_panicked_gets_437_and_allocates_again() {
    script(async |world| {
        let call = world.call().await;
        world.panic_in_allocation(&call.client).await;

        let mut alice = call.client.clone();
        alice.permit(&call.peer).await.refused(437);
        alice.bind(Call::CHANNEL, &call.peer).await.refused(437);
        alice.refresh(600).await.refused(437);
        alice.says(Call::CHANNEL, b"into the void").await;
        call.peer.hears_nothing();

        Call::between(alice, call.peer.clone()).await.goes_on().await;
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
    });
}

#[test]
fn request_that_the_panicking_allocation_was_asked_is_answered_437() {
    script(async |world| {
        let call = world.call().await;
        let allocation = world.allocation_of(&call.client).await;
        let request = call.client.refresh_request(600);
        call.client.queues(&request);
        allocation.do_send(allocation::Panic);
        settle().await;
        world.log.expects(Level::Error, "allocation panicked and is gone");

        let _ = call.client.hears_answer().refused(437);
        call.client.clone().allocate().await.granted();
    });
}

#[test]
fn log_says_that_a_panic_ended_the_allocation() {
    script(async |world| {
        let call = world.call().await;
        world.allocation_of(&call.client).await.do_send(allocation::Panic);
        settle().await;

        let line = world.log.expects(Level::Error, "allocation panicked and is gone");
        assert_eq!("injected into an AllocationActor", line.field("panic"));
        assert_eq!("000000000000000001", line.field("session"));
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_ne!("allocation timeout", line.field("reason"));
        assert_eq!(1, world.log.takes(": usage: ").len());
        assert_eq!(1, world.log.takes(": peer usage: ").len());
    });
}

#[test]
fn panic_anywhere_on_the_way_of_data_ends_that_allocation_alone() {
    let traps: [fn(&Call) -> Trap; 3] = [
        |call| Trap::Read(call.relayed),
        |call| Trap::Send(call.peer.0),
        |call| Trap::Send(call.client.address),
    ];
    for trap in traps {
        script(async |world| {
            let call = world.call().await;
            let other = Call::between(world.client("bob").await, world.peer(2)).await;
            world.network.sets(trap(&call));

            // Each of the two directions may meet the trap; both share the arbiter's room for data.
            call.queues(b"lost");
            other.queues(b"heard");
            settle().await;

            other.is_heard(b"heard");
            is_gone_alone(world, &call, &other).await;
        });
    }
}

async fn is_gone_alone(world: &World, call: &Call, other: &Call) {
    // What was on its way when the trap sprang may have arrived on the other side of the call.
    while call.client.next().is_some() || call.peer.next().is_some() {}
    world.log.expects(Level::Error, "allocation panicked and is gone");
    assert!(!world.network.is_open(call.relayed));
    other.goes_on().await;
    call.client.clone().refresh(600).await.refused(437);
    call.client.clone().allocate().await.granted();
}

#[test]
fn panics_of_allocations_have_no_budget_to_spend() {
    Setup { ports: 50_000..=50_001, ..Setup::default() }.script(async |world| {
        for _ in 0..20 {
            let mut alice = world.client("alice").await;
            alice.allocate().await.granted();
            world.panic_in_allocation(&alice).await;
        }
        assert_eq!(2, world.free_ports().await);
        assert_eq!(0, world.allocations().await);
    });
}

#[test]
fn refresh_to_zero_and_an_allocate_right_behind_it_are_two_allocations() {
    // A message about the end of the first must not be taken for the end of the second.
    script(async |world| {
        let mut alice = world.client("alice").await;
        let first = alice.allocate().await.granted().relayed();
        alice.queues(&alice.refresh_request(0));
        alice.queues(&alice.allocate_request());
        settle().await;

        assert_eq!(0, alice.hears_answer().granted().lifetime());
        let second = alice.hears_answer().granted().relayed();
        assert!(!world.network.is_open(first));
        let call = Call { client: alice.clone(), peer: world.peer(1), relayed: second };
        alice.bind(Call::CHANNEL, &call.peer).await.granted();
        call.goes_on().await;
        assert_eq!(600, alice.refresh(600).await.granted().lifetime());
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
    });
}

#[test]
fn allocations_that_follow_each_other_leave_nothing_behind() {
    Setup { ports: 50_000..=50_002, ..Setup::default() }.script(async |world| {
        let alice = world.client("alice").await;
        for _ in 0..100 {
            alice.queues(&alice.allocate_request());
            alice.queues(&alice.refresh_request(0));
            settle().await;
            alice.hears_answer().granted();
            alice.hears_answer().granted();
        }
        assert_eq!(3, world.free_ports().await);
        assert_eq!((1, 0), (world.sessions().await, world.allocations().await));
        assert_eq!(vec![alice.server], world.network.open());
    });
}

#[test]
fn data_for_an_allocation_that_just_ended_goes_nowhere() {
    script(async |world| {
        let call = world.call().await;
        call.client.queues(&call.client.refresh_request(0));
        settle().await;
        let _ = call.client.hears_answer().granted();
        call.client.queues(&channel_data(Call::CHANNEL, b"too late"));
        call.peer.queues(call.relayed, b"too late");
        world.network.icmp(call.relayed, call.peer.0, Icmp { kind: 3, code: 3, data: 0 });
        settle().await;

        call.peer.hears_nothing();
        call.client.hears_nothing();
    });
}

#[test]
fn one_half_of_a_dual_allocation_ends_without_the_other() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.1
    //= type=test
    //# it MUST NOT affect any permissions or channels
    //# associated with allocations for the other address family.
    use sterna_proto::address::Family;
    use sterna_proto::stun::{AdditionalAddressFamily, Method, RequestedAddressFamily};

    script(async |world| {
        let mut alice = world.client("alice").await;
        let answer = alice
            .allocate_with(|writer| _ = writer.attribute(&AdditionalAddressFamily(Family::V6)))
            .await
            .granted();
        let [v4, v6] = answer.all_relayed()[..] else { panic!("an address of each family") };
        let (peer, peer_v6) = (world.peer(1), world.peer_v6(1));
        alice.bind(0x4000, &peer).await.granted();
        alice.bind(0x4001, &peer_v6).await.granted();

        let deleted = alice
            .ask(Method::REFRESH, |writer| {
                writer.attribute(&Lifetime(std::time::Duration::ZERO));
                writer.attribute(&RequestedAddressFamily(Family::V6));
            })
            .await
            .granted();

        assert_eq!(0, deleted.lifetime());
        assert!(world.network.is_open(v4) && !world.network.is_open(v6));
        alice.says(0x4001, b"gone").await;
        peer_v6.hears_nothing();
        alice.says(0x4000, b"here").await;
        peer.hears(v4, b"here");
        peer.sends(v4, b"there").await;
        alice.hears(0x4000, b"there");
    });
}
