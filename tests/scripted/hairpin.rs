//! Two clients of this server in a call with each other: their data goes from one allocation to the
//! other by message, and all that holds for data on a network holds for it.

use std::net::SocketAddr;
use std::time::Duration;

use sterna_actors::allocation::AllocationCounters;
use sterna_actors::clock;
use sterna_actors::counters::DropCounters;
use sterna_actors::credential_store::StoredUser;
use sterna_actors::policy::UserSecret;
use sterna_actors::transport::HeaderFields;
use sterna_actors::usage::Usage;
use sterna_proto::address::Family;
use sterna_proto::allocation::Terms;
use sterna_proto::drops::DropReason;
use sterna_proto::peer_rules::{External, PeerLists, PeerRules, RelayAddresses};
use sterna_proto::quotas::{QuotaLimits, QuotaTerms, UserLimits, burst_of};
use sterna_proto::stun::{AdditionalAddressFamily, Lifetime, Method, RequestedAddressFamily};

use crate::kit::{
    Client, Heard, Peer, PlayedStore, Setup, Trap, User, World, after, channel_data, each_turn,
    script, secs, send_indication, settle,
};

/// The channel of either to the other.
const CHANNEL: u16 = 0x4000;

/// Two clients, each with an allocation.
struct Pair {
    alice: Client,
    bob: Client,
    /// Their relayed transport addresses, as the other's peers.
    at_alice: Peer,
    at_bob: Peer,
}

impl Pair {
    async fn allocate(world: &World) -> Pair {
        Pair::allocate_at(world, [0, 0]).await
    }

    /// Each at the listener with this number.
    async fn allocate_at(world: &World, listeners: [u8; 2]) -> Pair {
        let alice = world.client_of(listeners[0], "alice").await;
        let bob = world.client_of(listeners[1], "bob").await;
        Pair::of(world, alice, bob).await
    }

    async fn of(world: &World, mut alice: Client, mut bob: Client) -> Pair {
        let peer = |relayed: SocketAddr| Peer(relayed, world.network.clone());
        let at_alice = peer(alice.allocate().await.granted().relayed());
        let at_bob = peer(bob.allocate().await.granted().relayed());
        Pair { alice, bob, at_alice, at_bob }
    }

    /// A call over channels, in which the ways are known.
    async fn call(world: &World) -> Pair {
        Pair::allocate(world).await.calls().await
    }

    async fn calls(mut self) -> Pair {
        self.alice.bind(CHANNEL, &self.at_bob).await.granted();
        self.bob.bind(CHANNEL, &self.at_alice).await.granted();
        self.goes_on().await;
        self
    }

    /// Data flows both ways, unchanged and unrepeated.
    async fn goes_on(&self) {
        self.alice.says(CHANNEL, b"from alice").await;
        self.bob.hears(CHANNEL, b"from alice");
        self.bob.says(CHANNEL, b"from bob").await;
        self.alice.hears(CHANNEL, b"from bob");
        self.alice.hears_nothing();
        self.bob.hears_nothing();
    }

    /// How often either relay socket has been read.
    fn reads(&self, world: &World) -> [usize; 2] {
        [&self.at_alice, &self.at_bob].map(|peer| world.network.reads(peer.0))
    }

    async fn counters(&self, world: &World) -> [AllocationCounters; 2] {
        let alice = world.allocation_counters(&self.alice).await;
        [alice, world.allocation_counters(&self.bob).await]
    }
}

/// Packets and bytes without what is only of interest to reports.
fn carried(usage: &Usage) -> [u64; 9] {
    let Usage { client, peer, over_bandwidth, .. } = usage;
    [
        client.received_packets,
        client.received_bytes,
        client.sent_packets,
        client.sent_bytes,
        peer.received_packets,
        peer.received_bytes,
        peer.sent_packets,
        peer.sent_bytes,
        *over_bandwidth,
    ]
}

#[test]
fn first_packet_takes_the_kernels_way_and_the_others_none() {
    script(async |world| {
        let pair = Pair::call(world).await;
        let reads = pair.reads(world);
        assert_eq!([1, 1], reads, "one word went each way while the other was looked for");

        for _ in 0..10 {
            pair.goes_on().await;
        }
        assert_eq!(reads, pair.reads(world));
    });
}

#[test]
fn clients_of_two_listeners_find_each_other() {
    Setup { listeners: 2, ..Setup::default() }.script(async |world| {
        let pair = Pair::allocate_at(world, [0, 1]).await.calls().await;
        let reads = pair.reads(world);
        pair.goes_on().await;
        assert_eq!(reads, pair.reads(world));
    });
}

#[test]
fn indications_go_by_message_too() {
    script(async |world| {
        let mut pair = Pair::allocate(world).await;
        pair.alice.permit(&pair.at_bob).await.granted();
        pair.bob.permit(&pair.at_alice).await.granted();
        for _ in 0..3 {
            pair.alice.sends_to(&pair.at_bob, b"indicated").await;
            pair.bob.hears_data(&pair.at_alice, b"indicated");
        }
        assert_eq!([0, 1], pair.reads(world));
    });
}

#[test]
fn batch_for_several_keeps_the_order_of_each() {
    script(async |world| {
        let mut pair = Pair::call(world).await;
        let peer = world.peer(1);
        pair.alice.bind(CHANNEL + 1, &peer).await.granted();
        let itself = pair.at_alice.clone();
        pair.alice.bind(CHANNEL + 2, &itself).await.granted();
        pair.alice.says(CHANNEL + 2, b"to itself").await;
        pair.alice.hears(CHANNEL + 2, b"to itself");
        let reads = pair.reads(world);

        for word in [&b"one"[..], b"two", b"three"] {
            for channel in [CHANNEL, CHANNEL + 1, CHANNEL + 2] {
                pair.alice.queues(&channel_data(channel, word));
            }
        }
        settle().await;

        for word in [&b"one"[..], b"two", b"three"] {
            pair.bob.hears(CHANNEL, word);
            peer.hears(pair.at_alice.0, word);
            pair.alice.hears(CHANNEL + 2, word);
        }
        assert_eq!(reads, pair.reads(world));
    });
}

#[test]
fn who_has_no_permission_is_not_heard() {
    script(async |world| {
        let mut pair = Pair::allocate(world).await;
        pair.alice.bind(CHANNEL, &pair.at_bob).await.granted();
        for _ in 0..3 {
            pair.alice.says(CHANNEL, b"let me in").await;
        }
        pair.bob.hears_nothing();
        let [alice, bob] = pair.counters(world).await;
        assert!(alice.drops.is_empty(), "{}", alice.drops);
        assert_eq!((3, 27), (alice.usage.peer.sent_packets, alice.usage.peer.sent_bytes));
        assert_eq!(3, bob.drops.get(DropReason::NoPermission));
        assert_eq!(1, world.network.reads(pair.at_bob.0));

        // A permission lets in at once, without another look for the way.
        pair.bob.permit(&pair.at_alice).await.granted();
        pair.alice.says(CHANNEL, b"thanks").await;
        pair.bob.hears_data(&pair.at_alice, b"thanks");
        assert_eq!(1, world.network.reads(pair.at_bob.0));
    });
}

#[test]
fn permission_that_lapses_ends_what_is_heard() {
    script(async |world| {
        let mut pair = Pair::allocate(world).await;
        pair.bob.permit(&pair.at_alice).await.granted();
        pair.alice.bind(CHANNEL, &pair.at_bob).await.granted();
        pair.alice.says(CHANNEL, b"in time").await;
        pair.bob.hears_data(&pair.at_alice, b"in time");
        // Often enough that the way is still known when the permission is over.
        for _ in 0..5 {
            after(secs(51)).await;
            pair.alice.says(CHANNEL, b"in time").await;
            pair.bob.hears_data(&pair.at_alice, b"in time");
        }
        after(secs(51)).await;
        pair.alice.says(CHANNEL, b"late").await;
        pair.bob.hears_nothing();
        let [_, bob] = pair.counters(world).await;
        assert_eq!(1, bob.drops.get(DropReason::NoPermission));
        assert_eq!([0, 1], pair.reads(world), "all but the first went by message");
    });
}

#[test]
fn data_for_an_allocation_that_was_deleted_goes_to_the_network() {
    script(async |world| {
        let mut pair = Pair::call(world).await;
        pair.bob.refresh(0).await.granted();

        // Nothing is lost: the very next packet is the network's.
        pair.alice.says(CHANNEL, b"anybody there?").await;
        pair.at_bob.hears(pair.at_alice.0, b"anybody there?");
        let [peer, drops] = {
            let alice = world.allocation_counters(&pair.alice).await;
            [alice.usage.peer.sent_packets, alice.drops.iter().map(|(_, count)| count).sum()]
        };
        assert_eq!([2, 0], [peer, drops]);
    });
}

#[test]
fn panic_of_the_other_side_is_the_end_of_the_way_to_it() {
    script(async |world| {
        let pair = Pair::call(world).await;
        world.panic_in_allocation(&pair.bob).await;
        pair.alice.says(CHANNEL, b"anybody there?").await;
        pair.at_bob.hears(pair.at_alice.0, b"anybody there?");
    });
}

#[test]
fn panic_over_what_came_by_message_is_the_receivers_alone() {
    script(async |world| {
        let pair = Pair::call(world).await;
        world.network.sets(Trap::Send(pair.bob.address));
        pair.alice.says(CHANNEL, b"a trap").await;
        world.log.expects(slog::Level::Error, "allocation panicked and is gone");
        pair.alice.says(CHANNEL, b"anybody there?").await;
        pair.at_bob.hears(pair.at_alice.0, b"anybody there?");
    });
}

#[test]
fn port_that_moves_to_another_allocation_takes_its_data_along() {
    Setup { ports: 50_000..=50_001, ..Setup::default() }.script(async |world| {
        let mut pair = Pair::call(world).await;
        pair.bob.refresh(0).await.granted();
        let mut next = world.client("bob").await;
        assert_eq!(pair.at_bob.0, next.allocate().await.granted().relayed());

        // It has not permitted anything.
        for _ in 0..2 {
            pair.alice.says(CHANNEL, b"bob?").await;
        }
        next.hears_nothing();
        let counters = world.allocation_counters(&next).await;
        assert_eq!(2, counters.drops.get(DropReason::NoPermission));

        next.permit(&pair.at_alice).await.granted();
        pair.alice.says(CHANNEL, b"bob?").await;
        next.hears_data(&pair.at_alice, b"bob?");
        assert_eq!(1, world.network.reads(pair.at_bob.0), "it was found at the first packet");
    });
}

#[test]
fn family_that_was_given_up_is_no_way_any_more() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let mut bob = world.client("bob").await;
        let peer = |relayed: SocketAddr| Peer(relayed, world.network.clone());
        let mut relayed = Vec::new();
        for client in [&mut alice, &mut bob] {
            let both = client.allocate_with(|writer| {
                writer.attribute(&AdditionalAddressFamily(Family::V6));
            });
            relayed.push(both.await.granted().all_relayed());
        }
        let [at_alice, at_bob] = [&relayed[0], &relayed[1]];
        for (number, family) in [(CHANNEL, 0), (CHANNEL + 1, 1)] {
            alice.bind(number, &peer(at_bob[family])).await.granted();
            bob.bind(number, &peer(at_alice[family])).await.granted();
            for _ in 0..2 {
                alice.says(number, b"both").await;
                bob.hears(number, b"both");
            }
            assert_eq!(1, world.network.reads(at_bob[family]));
        }

        let deleted = bob.ask(Method::REFRESH, |writer| {
            writer.attribute(&Lifetime(secs(0))).attribute(&RequestedAddressFamily(Family::V4));
        });
        deleted.await.granted();

        alice.says(CHANNEL, b"v4").await;
        peer(at_bob[0]).hears(at_alice[0], b"v4");
        alice.says(CHANNEL + 1, b"v6").await;
        bob.hears(CHANNEL + 1, b"v6");
        assert_eq!(1, world.network.reads(at_bob[1]));
    });
}

#[test]
fn client_that_sends_to_itself_hears_itself() {
    script(async |world| {
        let mut alice = world.client("alice").await;
        let itself = Peer(alice.allocate().await.granted().relayed(), world.network.clone());
        alice.bind(CHANNEL, &itself).await.granted();
        for _ in 0..3 {
            alice.says(CHANNEL, b"echo").await;
            alice.hears(CHANNEL, b"echo");
        }
        assert_eq!(1, world.network.reads(itself.0));
        let usage = world.allocation_counters(&alice).await.usage;
        assert_eq!(usage.peer.sent_bytes, usage.peer.received_bytes);
    });
}

#[test]
fn more_than_may_wait_takes_the_kernels_way_and_stays_on_it_for_a_while() {
    script(async |world| {
        let pair = Pair::call(world).await;
        let [before, bob_before] = pair.counters(world).await;
        // Each fills a message of its own, and all of them come in one batch of the listener.
        let numbered = |number| [number; 60_000];
        for number in 0..64 {
            pair.alice.queues(&channel_data(CHANNEL, &numbered(number)));
        }
        settle().await;

        let [after_burst, bob] = pair.counters(world).await;
        let sent = after_burst.usage.peer.sent_packets - before.usage.peer.sent_packets;
        assert_eq!(64, sent);
        let drops = (after_burst.drops, bob.drops);
        assert!(drops.0.is_empty() && drops.1.is_empty(), "{} {}", drops.0, drops.1);
        assert!(bob.reads > bob_before.reads, "some came by its socket");
        for number in 0..64 {
            pair.bob.hears(CHANNEL, &numbered(number));
        }

        // What follows overtakes nothing that is under way there.
        let [_, by_socket] = pair.reads(world);
        pair.goes_on().await;
        assert_eq!(by_socket + 1, pair.reads(world)[1]);
        after(secs(3)).await;
        pair.goes_on().await;
        let reads = pair.reads(world);
        pair.goes_on().await;
        assert_eq!(reads, pair.reads(world));
    });
}

#[test]
fn those_who_send_much_leave_others_their_turn() {
    Setup { listeners: 2, ..Setup::default() }.script(async |world| {
        let mut pair = Pair::call(world).await;
        let mut carol = world.client_of(1, "alice").await;
        let relayed = carol.allocate().await.granted().relayed();
        carol.bind(CHANNEL, &pair.at_bob).await.granted();
        pair.bob.bind(CHANNEL + 1, &Peer(relayed, world.network.clone())).await.granted();
        carol.says(CHANNEL, b"carol").await;
        pair.bob.hears(CHANNEL + 1, b"carol");

        const EACH: usize = 256;
        for _ in 0..EACH {
            pair.alice.queues(&channel_data(CHANNEL, b"a"));
            carol.queues(&channel_data(CHANNEL, b"c"));
        }
        let heard = each_turn({
            let (network, bob) = (world.network.clone(), pair.bob.address);
            move || network.unheard_by(bob)
        });
        settle().await;

        let heard = heard.borrow();
        assert_eq!(Some(&(2 * EACH)), heard.last(), "all of it arrived");
        let most = heard.windows(2).map(|turn| turn[1] - turn[0]).max();
        assert!(most.is_some_and(|most| most <= EACH), "{most:?} in one turn");
        while pair.bob.next().is_some() {}
    });
}

#[test]
fn what_no_datagram_can_carry_is_left_to_the_kernel() {
    script(async |world| {
        let mut alice = world.tcp_client("alice").await;
        let mut bob = world.client("bob").await;
        let peer = |relayed: SocketAddr| Peer(relayed, world.network.clone());
        let at_alice = peer(alice.allocate().await.granted().relayed());
        let at_bob = peer(bob.allocate().await.granted().relayed());
        alice.bind(CHANNEL, &at_bob).await.granted();
        bob.bind(CHANNEL, &at_alice).await.granted();
        alice.says(CHANNEL, b"short").await;
        bob.hears(CHANNEL, b"short");
        assert_eq!(1, world.network.reads(at_bob.0));

        // The played network takes it, so that it can be seen there.
        alice.says(CHANNEL, &[7; 65_508]).await;
        bob.hears(CHANNEL, &[7; 65_508]);
        assert_eq!(2, world.network.reads(at_bob.0));
        alice.says(CHANNEL, &[7; 65_507]).await;
        bob.hears(CHANNEL, &[7; 65_507]);
        assert_eq!(2, world.network.reads(at_bob.0));
    });
}

#[test]
fn allocator_that_was_healed_finds_those_that_came_after() {
    script(async |world| {
        let known = Pair::call(world).await;
        let unknown = Pair::allocate(world).await;
        world.panic_in_port_allocator().await;

        // A way that is known is the allocations' own affair.
        let reads = known.reads(world);
        known.goes_on().await;
        assert_eq!(reads, known.reads(world));

        // Who has announced itself before the panic is not found, and heard all the same.
        let unknown = unknown.calls().await;
        unknown.goes_on().await;
        assert_eq!([2, 2], unknown.reads(world));

        let later = Pair::call(world).await;
        later.goes_on().await;
        assert_eq!([1, 1], later.reads(world));
    });
}

/// What a scene comes to: what bob heard, with header fields, and both allocations' counters.
type Told = (Vec<(HeaderFields, Heard)>, [([u64; 9], DropCounters); 2]);

/// The same scene with the ways known to nobody, and with all of them known.
fn both_ways(setup: impl Fn() -> Setup, scene: impl AsyncFn(&World, &Pair)) -> [Told; 2] {
    [false, true].map(|by_message| {
        let mut told = None;
        setup().script(async |world| {
            let pair = Pair::allocate(world).await;
            if !by_message {
                world.panic_in_port_allocator().await;
            }
            let pair = pair.calls().await;
            let reads = pair.reads(world);
            scene(world, &pair).await;
            settle().await;
            assert_eq!(by_message, reads == pair.reads(world));
            let mut heard = Vec::new();
            while let Some(packet) = world.network.heard_by(pair.bob.address) {
                heard.push((packet.fields, Heard::read(packet.bytes)));
            }
            let counters = pair.counters(world).await;
            told = Some((heard, counters.map(|told| (carried(&told.usage), told.drops))));
        });
        told.expect("the script has been played")
    })
}

#[test]
fn header_fields_drops_and_usage_are_those_of_the_kernels_way() {
    let [by_kernel, by_message] = both_ways(Setup::default, async |_, pair| {
        for hops in [255, 64, 3, 2, 1, 0] {
            for traffic_class in [0, 0xBA, 0x8B, 0xFF] {
                let fields = HeaderFields { hop_limit: Some(hops), traffic_class };
                pair.alice.sends_with(fields, &channel_data(CHANNEL, b"marked")).await;
                let indicated = send_indication(pair.at_bob.0, b"marked");
                pair.alice.sends_with(fields, &indicated).await;
            }
        }
        let fields = HeaderFields { hop_limit: Some(9), traffic_class: 4 };
        for bytes in [
            channel_data(CHANNEL, b""),
            channel_data(CHANNEL + 1, b"unbound"),
            vec![0x40],
            channel_data(CHANNEL, &[7; 1400]),
        ] {
            pair.alice.sends_with(fields, &bytes).await;
        }
    });
    assert_eq!(3 * 4 * 2 + 2, by_message.0.len());
    let (fields, _) = &by_message.0[2];
    assert_eq!(HeaderFields { hop_limit: Some(253), traffic_class: 0xBA }, *fields);
    assert_eq!(by_kernel, by_message);
}

#[test]
fn datagram_without_hops_of_its_own_arrives_with_those_of_the_kernel() {
    script(async |world| {
        let pair = Pair::call(world).await;
        pair.alice.says(CHANNEL, b"from a stream").await;
        let packet = world.network.heard_by(pair.bob.address).expect("it is heard");
        assert_eq!(Some(63), packet.fields.hop_limit);
    });
}

/// Alice sends a kilobyte each millisecond, for so long.
async fn flood(pair: &Pair, millis: u64) {
    let fields = HeaderFields { hop_limit: Some(64), traffic_class: 0 };
    for _ in 0..millis {
        pair.alice.sends_with(fields, &channel_data(CHANNEL, &[7; 1000])).await;
        after(Duration::from_millis(1)).await;
    }
}

#[test]
fn bandwidth_of_an_allocation_holds_where_it_is_sent() {
    let limited = || Setup {
        quotas: QuotaTerms {
            server: QuotaLimits {
                bandwidth_per_allocation: Some(100_000),
                ..QuotaLimits::default()
            },
            ..QuotaTerms::default()
        },
        ..Setup::default()
    };
    let [by_kernel, by_message] = both_ways(limited, async |_, pair| flood(pair, 300).await);
    assert_eq!(by_kernel, by_message);
    let [(_, alice), _] = &by_message.1;
    assert!(alice.get(DropReason::BandwidthExceeded) > 0, "{alice}");
}

#[test]
fn bandwidth_of_a_user_who_receives_holds_where_it_is_received() {
    // Nothing limits alice, so that all of it comes to the other's gate.
    const RATE: u64 = 200_000;
    let store = PlayedStore::new("played");
    store.keeps(StoredUser {
        limits: UserLimits { bandwidth: Some(RATE), ..UserLimits::default() },
        ..StoredUser::lasting("carol", UserSecret::Password("puffin".to_owned()))
    });
    Setup { stores: vec![store], ..Setup::default() }.script(async |world| {
        let mut carol = world.stranger(0, User::new("carol", "puffin"));
        carol.knocks().await;
        let pair = Pair::of(world, world.client("alice").await, carol).await.calls().await;
        let reads = pair.reads(world);
        let start = clock::now();
        flood(&pair, 1000).await;
        let seconds = (clock::now() - start).as_secs_f64();
        let most = (RATE as f64 * seconds) as u64 + burst_of(RATE);
        let mut heard = 0;
        while let Some(packet) = world.network.heard_by(pair.bob.address) {
            heard += packet.bytes.len() as u64 - 4;
        }
        assert!((RATE..=most).contains(&heard), "{heard} of {most}");
        assert_eq!(reads, pair.reads(world));
        let [alice, carol] = pair.counters(world).await;
        assert!(alice.drops.is_empty(), "{}", alice.drops);
        let dropped = carol.drops.get(DropReason::BandwidthExceeded);
        assert!(dropped > 0, "{}", carol.drops);
        assert_eq!(1_000_000, heard + 1000 * dropped);
    });
}

#[test]
fn peer_that_new_rules_refuse_is_not_sent_to_by_message_either() {
    script(async |world| {
        let pair = Pair::call(world).await;
        let setup = Setup::default();
        let deny = vec![format!("{}/32", pair.at_bob.0.ip()).parse().expect("a network")];
        let lists = PeerLists { allow: Vec::new(), deny };
        let relay = RelayAddresses { ips: setup.relays.clone(), ports: setup.ports.clone() };
        let rules = PeerRules::new(lists, Vec::new(), relay, External::default());
        let terms = Terms { rules, ..setup.allocation_terms() };
        world.lives_by(setup.session_terms(clock::now()), terms).await;
        pair.alice.says(CHANNEL, b"refused").await;
        pair.bob.hears_nothing();
        let [alice, _] = pair.counters(world).await;
        assert_eq!(1, alice.drops.get(DropReason::UnboundChannel));
    });
}

#[test]
fn way_that_was_not_used_for_long_is_looked_for_again() {
    script(async |world| {
        let pair = Pair::call(world).await;
        after(secs(59)).await;
        pair.goes_on().await;
        assert_eq!([1, 1], pair.reads(world));
        after(secs(61)).await;
        pair.goes_on().await;
        assert_eq!([2, 2], pair.reads(world));
        pair.goes_on().await;
        assert_eq!([2, 2], pair.reads(world));
    });
}
