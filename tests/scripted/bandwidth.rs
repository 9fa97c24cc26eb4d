//! Bytes per second, through real allocations in virtual time: what is relayed stays within rate
//! and burst, and what does not is dropped, counted and told.

use std::time::Duration;

use slog::Level;
use sterna_actors::clock;
use sterna_actors::quota_keeper::{EndOneSession, ListSessions, SetQuotas};
use sterna_proto::drops::DropReason;
use sterna_proto::quotas::{QuotaLimits, QuotaTerms, burst_of};

use crate::kit::{
    Call, Client, End, Heard, REALM, Setup, World, after, channel_data, script, secs, settle,
};

fn with(server: QuotaLimits) -> Setup {
    Setup {
        listeners: 2,
        quotas: QuotaTerms { server, ..QuotaTerms::default() },
        ..Setup::default()
    }
}

fn per_allocation(rate: u64) -> QuotaLimits {
    QuotaLimits { bandwidth_per_allocation: Some(rate), ..QuotaLimits::default() }
}

fn per_user(rate: u64) -> QuotaLimits {
    QuotaLimits { bandwidth_per_user: Some(rate), ..QuotaLimits::default() }
}

fn in_all(rate: u64) -> QuotaLimits {
    QuotaLimits { bandwidth: Some(rate), ..QuotaLimits::default() }
}

/// What was heard of application data, on both ends of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    by_peer: u64,
    by_client: u64,
}

fn heard(call: &Call) -> Bytes {
    let mut sum = Bytes::default();
    while let Some(packet) = call.peer.next() {
        sum.by_peer += packet.bytes.len() as u64;
    }
    while let Some(heard) = call.client.next() {
        let Heard::Channel(_, data) = heard else { panic!("{heard:?}") };
        sum.by_client += data.len() as u64;
    }
    sum
}

/// Each call sends so many packets of 1000 bytes both ways in each of so many milliseconds.
async fn talk(calls: &[&Call], packets: usize, millis: u64) -> Vec<Bytes> {
    let mut sums = vec![Bytes::default(); calls.len()];
    for _ in 0..millis {
        for (call, sum) in calls.iter().zip(&mut sums) {
            for _ in 0..packets {
                call.queues(&[7; 1000]);
            }
            let now = heard(call);
            sum.by_peer += now.by_peer;
            sum.by_client += now.by_client;
        }
        after(Duration::from_millis(1)).await;
    }
    for (call, sum) in calls.iter().zip(&mut sums) {
        let rest = heard(call);
        sum.by_peer += rest.by_peer;
        sum.by_client += rest.by_client;
    }
    sums
}

fn total(sums: &[Bytes]) -> Bytes {
    sums.iter().fold(Bytes::default(), |a, b| Bytes {
        by_peer: a.by_peer + b.by_peer,
        by_client: a.by_client + b.by_client,
    })
}

async fn call_of(world: &World, listener: u8, user: &'static str, peer: u8) -> Call {
    Call::between(world.client_of(listener, user).await, world.peer(peer)).await
}

#[test]
fn an_allocation_has_its_rate_in_each_direction_and_counts_what_it_drops() {
    with(per_allocation(100_000)).script(async |world| {
        let call = call_of(world, 0, "alice", 1).await;
        let start = clock::now();

        let sums = talk(&[&call], 1, 2000).await;

        let seconds = (clock::now() - start).as_secs_f64();
        let most = (100_000.0 * seconds) as u64 + burst_of(100_000);
        assert!(sums[0].by_peer <= most && sums[0].by_client <= most, "{sums:?} {most}");
        assert!(sums[0].by_peer >= most - 2000 && sums[0].by_client >= most - 2000, "{sums:?}");
        let sent = 2 * 2_000_000;
        let counters = world.allocation_counters(&call.client).await;
        let dropped = counters.drops.get(DropReason::BandwidthExceeded);
        assert_eq!(sent, dropped * 1000 + sums[0].by_peer + sums[0].by_client);
        assert_eq!(dropped, counters.usage.over_bandwidth);

        // The log tells it too: of the allocation, and of the user.
        call.client.clone().refresh(0).await.granted();
        settle().await;
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!(dropped.to_string(), line.field("bandwidth_exceeded"));
        let line = world.log.expects(Level::Info, "packets of a user dropped for bandwidth");
        assert_eq!(dropped.to_string(), line.field("bandwidth_exceeded"));
        assert_eq!((REALM, "alice"), (line.field("realm"), line.field("username")));
    });
}

/// Plays so many seconds; what all calls heard is within the rate.
async fn hold_together(world: &World, calls: &[&Call], rate: u64) {
    let start = clock::now();
    let sums = talk(calls, 1, 3000).await;
    settle().await;
    let seconds = (clock::now() - start).as_secs_f64();
    let most = (rate as f64 * seconds) as u64 + burst_of(rate);
    let sum = total(&sums);
    for heard in [sum.by_peer, sum.by_client] {
        assert!(heard <= most, "{heard} of {most}");
        assert!(heard >= (rate as f64 * seconds * 0.9) as u64, "{heard} of {most}");
    }
    assert!(world.log.takes("panicked").is_empty());
}

#[test]
fn a_user_has_its_rate_over_allocations_at_several_listeners() {
    with(per_user(300_000)).script(async |world| {
        let one = call_of(world, 0, "alice", 1).await;
        let two = call_of(world, 1, "alice", 2).await;
        let three = call_of(world, 1, "alice", 3).await;

        hold_together(world, &[&one, &two, &three], 300_000).await;
    });
}

#[test]
fn the_server_has_its_rate_over_all_users() {
    with(in_all(400_000)).script(async |world| {
        let one = call_of(world, 0, "alice", 1).await;
        let two = call_of(world, 1, "bob", 2).await;

        hold_together(world, &[&one, &two], 400_000).await;
    });
}

#[test]
fn a_realm_has_its_rate_over_all_users() {
    let quotas = QuotaTerms {
        server: QuotaLimits::default(),
        realms: [(REALM.into(), in_all(400_000))].into(),
    };
    Setup { quotas, listeners: 2, ..Setup::default() }.script(async |world| {
        let one = call_of(world, 0, "alice", 1).await;
        let two = call_of(world, 1, "bob", 2).await;

        hold_together(world, &[&one, &two], 400_000).await;
    });
}

#[test]
fn a_modest_user_does_not_notice_a_greedy_one() {
    with(in_all(500_000)).script(async |world| {
        let mut greedy = Vec::new();
        for number in 0..4 {
            greedy.push(call_of(world, number % 2, "alice", 10 + number).await);
        }
        let modest = call_of(world, 0, "bob", 1).await;
        let greedy: Vec<&Call> = greedy.iter().collect();
        talk(&greedy, 1, 1000).await;

        let mut lost = 0;
        for _ in 0..100 {
            modest.queues(b"a packet of a call, twenty milliseconds long");
            talk(&greedy, 1, 20).await;
            lost += u64::from(heard(&modest) != Bytes { by_peer: 44, by_client: 44 });
        }

        assert!(lost <= 3, "{lost} of 100 packets");
        let drops = world.allocation_counters(&greedy[0].client).await.drops;
        assert!(drops.get(DropReason::BandwidthExceeded) > 0);
    });
}

#[test]
fn the_first_packet_after_a_long_pause_passes() {
    with(QuotaLimits { bandwidth_per_user: Some(50_000), ..in_all(500_000) }).script(
        async |world| {
            let call = world.call().await;
            for _ in 0..10 {
                after(secs(25)).await;
                call.goes_on().await;
            }
        },
    );
}

#[test]
fn limits_change_for_calls_that_are_up() {
    with(QuotaLimits::default()).script(async |world| {
        let call = call_of(world, 0, "alice", 1).await;
        let sums = talk(&[&call], 1, 500).await;
        assert_eq!(Bytes { by_peer: 500_000, by_client: 500_000 }, sums[0]);

        for limits in [per_allocation(100_000), per_user(100_000), in_all(100_000)] {
            let terms = QuotaTerms { server: limits, ..QuotaTerms::default() };
            world.quotas.send(SetQuotas(terms)).await.expect("it is alive");
            settle().await;
            let sums = talk(&[&call], 1, 1000).await;
            assert!(sums[0].by_peer <= 420_000, "{limits:?}: {sums:?}");
            assert!(sums[0].by_peer >= 95_000, "{limits:?}: {sums:?}");
        }

        world.quotas.send(SetQuotas(QuotaTerms::default())).await.expect("it is alive");
        settle().await;
        let sums = talk(&[&call], 1, 500).await;
        assert_eq!(Bytes { by_peer: 500_000, by_client: 500_000 }, sums[0]);
    });
}

#[test]
fn credit_survives_a_panic_of_the_keeper() {
    with(in_all(200_000)).script(async |world| {
        let one = call_of(world, 0, "alice", 1).await;
        let two = call_of(world, 1, "bob", 2).await;
        let start = clock::now();
        let mut sum = Vec::new();
        for _ in 0..4 {
            sum.push(total(&talk(&[&one, &two], 1, 500).await));
            world.panic_in_quota_keeper().await;
        }
        sum.push(total(&talk(&[&one, &two], 1, 2000).await));

        let seconds = (clock::now() - start).as_secs_f64();
        let most = (200_000.0 * seconds) as u64 + burst_of(200_000);
        let heard = total(&sum);
        assert!(heard.by_peer <= most && heard.by_client <= most, "{heard:?} of {most}");
        assert!(heard.by_peer >= most * 7 / 10, "{heard:?} of {most}");
    });
}

#[test]
fn without_limits_nothing_is_asked_dropped_or_told() {
    script(async |world| {
        let call = world.call().await;
        let sums = talk(&[&call], 10, 300).await;

        assert_eq!(Bytes { by_peer: 3_000_000, by_client: 3_000_000 }, sums[0]);
        let counters = world.allocation_counters(&call.client).await;
        assert!(counters.drops.is_empty(), "{}", counters.drops);
        call.client.clone().refresh(0).await.granted();
        settle().await;
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!("", line.field("bandwidth_exceeded"));
        assert!(world.log.takes("dropped for bandwidth").is_empty());
    });
}

#[test]
fn permission_is_asked_before_credit() {
    with(per_allocation(1000)).script(async |world| {
        let call = world.call().await;
        let stranger = world.peer(9);
        for _ in 0..200 {
            stranger.queues(call.relayed, &[7; 1000]);
            call.client.queues(&channel_data(0x4fff, &[7; 1000]));
        }
        settle().await;

        // Nothing of that was to be relayed, so that the whole burst is left.
        call.goes_on().await;
        let drops = world.allocation_counters(&call.client).await.drops;
        assert_eq!(0, drops.get(DropReason::BandwidthExceeded));
        assert_eq!(200, drops.get(DropReason::NoPermission));
    });
}

/// Alice's connection to a peer that answers, both ends.
async fn connection(world: &World) -> (Client, End, End) {
    let mut alice = world.tcp_client("alice").await;
    let relayed = alice.allocate_tcp().await.granted().relayed();
    let peer = world.peer(1);
    world.network.answers(peer.0);
    let id = alice.connect(&peer).await.granted().read().expect("CONNECTION-ID is there");
    let at_peer = world.network.answered_by(peer.0, relayed);
    let mut data = world.tcp_client("alice").await;
    let _ = data.bind_connection(id).await.granted();
    (alice, world.network.joined_by(data.address), at_peer)
}

/// How long so many bytes take from one end to the other; all of them arrive.
async fn carries(from: &mut End, to: &mut End, bytes: usize) -> Duration {
    let start = clock::now();
    let data: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
    tokio::join!(from.says(&data), to.hears(&data));
    clock::now() - start
}

#[test]
fn a_tcp_connection_is_slowed_down_and_loses_nothing() {
    for limits in [per_allocation(100_000), per_user(100_000), in_all(100_000)] {
        with(limits).script(async |world| {
            let (alice, mut client, mut peer) = connection(world).await;

            let there = carries(&mut client, &mut peer, 600_000).await;
            let back = carries(&mut peer, &mut client, 600_000).await;

            // What is beyond the burst takes five seconds.
            for took in [there, back] {
                assert!((secs(4)..secs(7)).contains(&took), "{limits:?}: {took:?}");
            }
            let drops = world.allocation_counters(&alice).await.drops;
            assert_eq!(0, drops.get(DropReason::BandwidthExceeded));
        });
    }
}

#[test]
fn a_tcp_connection_without_limits_takes_no_time_and_gets_one_while_it_lasts() {
    with(QuotaLimits::default()).script(async |world| {
        let (_, mut client, mut peer) = connection(world).await;
        assert!(carries(&mut client, &mut peer, 600_000).await < secs(1));

        let terms = QuotaTerms { server: per_user(100_000), ..QuotaTerms::default() };
        world.quotas.send(SetQuotas(terms)).await.expect("it is alive");
        settle().await;
        assert!(carries(&mut client, &mut peer, 600_000).await > secs(4));

        world.quotas.send(SetQuotas(QuotaTerms::default())).await.expect("it is alive");
        settle().await;
        assert!(carries(&mut client, &mut peer, 600_000).await < secs(1));
    });
}

#[test]
fn a_tcp_connection_that_waits_for_credit_ends_with_its_session() {
    with(per_user(1)).script(async |world| {
        let (alice, mut client, mut peer) = connection(world).await;
        carries(&mut client, &mut peer, 60_000).await;
        // What is beyond the burst waits for hours.
        let sessions = world.quotas.send(ListSessions).await.expect("it is alive");
        let this = sessions.iter().find(|session| session.client == alice.address);
        let this = this.expect("it has an allocation").session;
        client.says(b"and one more word").await;

        let ended = world.quotas.send(EndOneSession(this)).await;

        assert_eq!(Ok(true), ended.map_err(drop));
        settle().await;
        client.is_closed().await;
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!("ended by operator", line.field("reason"));
        assert_eq!((0, 0), (world.allocations().await, world.places().await));
        drop(peer);
    });
}
