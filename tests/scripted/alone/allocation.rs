//! AllocationActor: typed requests and data in, sockets, lease and client played.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Addr, Context, MailboxError, dev::SendError};
use sterna_actors::allocation::{
    AllocationActor, AllocationSeed, Attach, BindChannel, ClientData, CreatePermission,
    EndAllocation, EndReason, Panic, ReadAllocation, Refresh,
};
use sterna_actors::clock;
use sterna_actors::port_allocator::{AnnounceRelay, FindRelay, LeaseEnded};
use sterna_actors::quota_keeper::{LeaseQuota, QuotaKeeper};
use sterna_actors::session::SessionId;
use sterna_actors::socket::ReceiveBatch;
use sterna_actors::supervision::{self, Ended};
use sterna_actors::transport::{HeaderFields, RelaySockets};
use sterna_proto::address::{Family, FiveTuple, PeerAddr, RelayedAddr, TransportProtocol};
use sterna_proto::allocation::{
    Allocation, ChannelBindError, CreatePermissionError, RefreshError, Refreshed, Relay, Relays,
};
use sterna_proto::channel_data::ChannelNumber;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::drops::DropReason;
use sterna_proto::request::RefreshRequest;
use sterna_proto::session::Owner;

use super::stage::{attachment, lease};
use crate::kit::{
    Client, Deadline, Ear, Log, Network, Peer, Setup, User, account, channel_data, directory,
    neighbour, relayed_at, secs, send_indication, server_address, settle, virtual_time,
};

const RELAYED: u16 = 50_000;
const REPLY: &[u8] = b"what the client was told";

struct Alone {
    actor: Addr<AllocationActor>,
    client: Client,
    network: Network,
    lease_ended: Ear<LeaseEnded>,
    announced: Ear<AnnounceRelay>,
    finds: Ear<FindRelay>,
    ended: Rc<RefCell<Option<Ended>>>,
    log: Log,
}

/// The request, from the user whose the allocation is.
fn asks(request: RefreshRequest) -> Refresh {
    let user = User::named("alice");
    let (account, key) = (account(user.name), user.key);
    let owner = Owner { account, key, password_algorithm: PasswordAlgorithm::Md5 };
    Refresh { request, owner, ends: None }
}

/// Plays with an allocation of ten minutes.
fn play(script: impl AsyncFnOnce(&mut Alone)) {
    virtual_time(async move || {
        let mut alone = Alone::start().await;
        script(&mut alone).await;
        settle().await;
        alone.network.is_silent();
        alone.log.is_calm();
    });
}

impl Alone {
    async fn start() -> Alone {
        let (network, log, setup) = (Network::default(), Log::default(), Setup::default());
        let address = SocketAddr::from(([198, 51, 100, 1], 40_001));
        let server = server_address(0);
        let client = Client {
            network: network.clone(),
            address,
            server,
            user: User::named("alice"),
            nonce: String::new(),
        };
        let relayed = RelayedAddr(relayed_at(RELAYED));
        let (lease_ended, lease) = lease(RELAYED);
        let (announced, finds, directory) = directory();
        let terms = Arc::new(setup.allocation_terms());
        let relays = Relays { v4: Some(Relay { relayed, advertised: relayed }), v6: None };
        let told = attachment(&client.user, &client.allocate_request(), REPLY);
        let quotas =
            QuotaKeeper::start(setup.quotas.clone(), log.logger(), |what| panic!("{what}"));
        let (_, end) = neighbour();
        let session = SessionId::new(0, 1);
        let owner = told.owner.clone();
        let place = LeaseQuota { session, owner, client: address, end };
        let quota = quotas.send(place).await.expect("it is alive").expect("there is no limit");
        let seed = AllocationSeed {
            core: Allocation::new(terms, relays, secs(600), clock::now()),
            offer: setup.session_terms(clock::now()).offer,
            tcp: None,
            sockets: [network.bind(relayed).expect("the port is free")].into_iter().collect(),
            leases: [lease].into_iter().collect(),
            directory,
            quota,
            owner: told.owner,
            answered: told.answered,
        };
        let five_tuple = FiveTuple { client: address, server, protocol: TransportProtocol::Udp };
        let actor = AllocationActor::new(
            session,
            seed,
            network.transport(five_tuple),
            Rc::new(RefCell::new(ReceiveBatch::new())),
            log.logger(),
        );
        let ended = Rc::new(RefCell::new(None));
        let tell = ended.clone();
        let on_end = move |how| _ = tell.borrow_mut().insert(how);
        let actor = supervision::watch(Context::new(), actor, on_end);
        Alone { actor, client, network, lease_ended, announced, finds, ended, log }
    }

    fn peer(&self, number: u8) -> Peer {
        Peer(SocketAddr::from(([203, 0, 113, number], 7000)), self.network.clone())
    }

    /// A port of the server's own relay address.
    fn own_port(&self, port: u16) -> Peer {
        Peer(relayed_at(port), self.network.clone())
    }

    async fn permits(&self, peers: &[&Peer]) -> Result<(), CreatePermissionError> {
        let peers = peers.iter().map(|peer| PeerAddr(peer.0)).collect();
        self.actor.send(CreatePermission { peers }).await.expect("the allocation is alive")
    }

    async fn binds(&self, number: u16, peer: &Peer) -> Result<(), ChannelBindError> {
        let number = ChannelNumber::new(number).expect("a channel's number");
        let wanted = BindChannel { number, peer: PeerAddr(peer.0) };
        self.actor.send(wanted).await.expect("the allocation is alive")
    }

    async fn refreshes(
        &self,
        seconds: u64,
    ) -> Result<Result<Refreshed, RefreshError>, MailboxError> {
        let wanted = RefreshRequest { lifetime: Some(secs(seconds)), family: None };
        self.actor.send(asks(wanted)).await
    }

    async fn gets(&self, datagrams: &[Vec<u8>]) {
        let mut data = ClientData::default();
        for datagram in datagrams {
            data.push(datagram, HeaderFields::default());
        }
        self.actor.do_send(data);
        settle().await;
    }

    /// How the allocation ended, if it has.
    async fn ended(&self) -> Option<Ended> {
        settle().await;
        self.ended.borrow().clone()
    }

    fn reason(&self) -> String {
        self.log.expects(slog::Level::Info, "allocation ended").field("reason").to_owned()
    }
}

#[test]
fn permission_lasts_three_hundred_seconds() {
    play(async |alone| {
        let peer = alone.peer(1);
        let permission = Deadline::after(secs(300));
        assert_eq!(Ok(()), alone.permits(&[&peer]).await);

        permission.just_before().await;
        peer.sends(relayed_at(RELAYED), b"in time").await;
        alone.client.hears_data(&peer, b"in time");

        permission.just_after().await;
        peer.sends(relayed_at(RELAYED), b"late").await;
        alone.client.hears_nothing();
    });
}

#[test]
fn permissions_are_installed_all_or_none() {
    play(async |alone| {
        let (peer, other) = (alone.peer(1), alone.peer(2));
        let loopback = Peer(([127, 0, 0, 1], 80).into(), alone.network.clone());
        let v6 = Peer(([0x2001, 0xdb8, 0, 7, 0, 0, 0, 1], 80).into(), alone.network.clone());
        let forbidden = alone.permits(&[&peer, &loopback]).await;
        assert!(matches!(forbidden, Err(CreatePermissionError::Forbidden { .. })), "{forbidden:?}");
        let family = alone.permits(&[&peer, &v6]).await;
        assert_eq!(Err(CreatePermissionError::PeerFamily), family);
        peer.sends(relayed_at(RELAYED), b"none").await;
        alone.client.hears_nothing();

        assert_eq!(Ok(()), alone.permits(&[&peer, &other]).await);
        peer.sends(relayed_at(RELAYED), b"one").await;
        other.sends(relayed_at(RELAYED), b"all").await;
        alone.client.hears_data(&peer, b"one");
        alone.client.hears_data(&other, b"all");
    });
}

#[test]
fn permissions_and_channels_have_a_limit() {
    play(async |alone| {
        for number in 0..16 {
            let channel = 0x4000 + u16::from(number);
            assert_eq!(Ok(()), alone.binds(channel, &alone.peer(number)).await);
        }
        let peer = alone.peer(99);
        assert_eq!(Err(ChannelBindError::ChannelsFull), alone.binds(0x4100, &peer).await);
        assert_eq!(Err(CreatePermissionError::Full), alone.permits(&[&peer]).await);

        // What there is can be refreshed.
        assert_eq!(Ok(()), alone.binds(0x4000, &alone.peer(0)).await);
        assert_eq!(Ok(()), alone.permits(&[&alone.peer(15)]).await);
    });
}

#[test]
fn channel_and_peer_are_bound_to_each_other_alone() {
    play(async |alone| {
        let (peer, other) = (alone.peer(1), alone.peer(2));
        assert_eq!(Ok(()), alone.binds(0x4000, &peer).await);
        assert_eq!(Err(ChannelBindError::NumberInUse), alone.binds(0x4000, &other).await);
        assert_eq!(Err(ChannelBindError::PeerInUse), alone.binds(0x4001, &peer).await);
        assert_eq!(Ok(()), alone.binds(0x4001, &other).await);
    });
}

#[test]
fn batch_of_data_goes_out_in_its_order() {
    play(async |alone| {
        let (peer, other) = (alone.peer(1), alone.peer(2));
        alone.binds(0x4000, &peer).await.expect("it is bound");
        alone.permits(&[&other]).await.expect("it is permitted");
        alone
            .gets(&[
                channel_data(0x4000, b"one"),
                send_indication(other.0, b"two"),
                channel_data(0x4001, b"unbound"),
                vec![0x40],
                channel_data(0x4000, b"three"),
            ])
            .await;

        peer.hears(relayed_at(RELAYED), b"one");
        peer.hears(relayed_at(RELAYED), b"three");
        other.hears(relayed_at(RELAYED), b"two");
        let counters = alone.actor.send(ReadAllocation).await.expect("it is alive");
        let drops: Vec<_> = counters.drops.iter().collect();
        let expected = [(DropReason::UnboundChannel, 1), (DropReason::MalformedChannelData, 1)];
        assert_eq!(expected, drops[..]);
        let usage = counters.usage;
        assert_eq!((5, 3), (usage.client.received_packets, usage.peer.sent_packets));
        assert_eq!(11, usage.peer.sent_bytes);
    });
}

#[test]
fn empty_batch_is_no_harm() {
    play(async |alone| {
        alone.gets(&[]).await;
        assert_eq!(None, alone.ended().await);
    });
}

#[test]
fn allocation_that_expires_gives_back_socket_and_lease() {
    play(async |alone| {
        let allocation = Deadline::after(secs(600));
        allocation.just_before().await;
        assert_eq!(None, alone.ended().await);
        assert!(alone.network.is_open(relayed_at(RELAYED)));

        allocation.just_after().await;
        assert_eq!(Some(Ended::Finished), alone.ended().await);
        assert_eq!("allocation timeout", alone.reason());
        assert_eq!(relayed_at(RELAYED), alone.lease_ended.hears().await.message.address().0);
        assert!(!alone.network.is_open(relayed_at(RELAYED)));
    });
}

#[test]
fn refresh_moves_the_end() {
    play(async |alone| {
        let first = Deadline::after(secs(600));
        first.just_before().await;
        let second = Deadline::after(secs(900));
        assert_eq!(Ok(Ok(Refreshed::Until(secs(900)))), alone.refreshes(900).await);

        second.just_before().await;
        assert_eq!(None, alone.ended().await);
        second.just_after().await;
        assert_eq!(Some(Ended::Finished), alone.ended().await);
        alone.lease_ended.hears().await;
    });
}

#[test]
fn refresh_of_a_family_that_is_not_there_is_a_mismatch() {
    play(async |alone| {
        let wanted = RefreshRequest { lifetime: Some(secs(0)), family: Some(Family::V6) };
        let refreshed = alone.actor.send(asks(wanted)).await.expect("it is alive");
        assert_eq!(Err(RefreshError::FamilyMismatch), refreshed);
        assert_eq!(None, alone.ended().await);
    });
}

#[test]
fn refresh_to_zero_is_answered_before_the_end() {
    play(async |alone| {
        assert_eq!(Ok(Ok(Refreshed::Deleted)), alone.refreshes(0).await);
        assert_eq!(Some(Ended::Finished), alone.ended().await);
        assert_eq!("deleted by client", alone.reason());
        alone.lease_ended.hears().await;
        assert_eq!(Err(MailboxError::Closed), alone.refreshes(600).await);
    });
}

#[test]
fn allocation_ends_when_it_is_told_to() {
    for (reason, text) in
        [(EndReason::Shutdown, "server shutdown"), (EndReason::SessionFailed, "session failed")]
    {
        play(async |alone| {
            alone.actor.do_send(EndAllocation(reason));
            assert_eq!(Some(Ended::Finished), alone.ended().await);
            assert_eq!(text, alone.reason());
            alone.lease_ended.hears().await;
        });
    }
}

#[test]
fn panic_gives_back_socket_and_lease_before_anybody_hears_of_it() {
    play(async |alone| {
        alone.actor.do_send(Panic);
        let asked = alone.refreshes(600).await;

        assert_eq!(Err(MailboxError::Closed), asked);
        let panicked = Ended::Panicked("injected into an AllocationActor".to_owned());
        assert_eq!(Some(panicked), *alone.ended.borrow());
        assert!(!alone.network.is_open(relayed_at(RELAYED)));
        alone.lease_ended.hears().await;
    });
}

#[test]
fn allocation_tells_whose_it_is_and_what_its_client_was_told() {
    play(async |alone| {
        let told = alone.actor.send(Attach).await.expect("it is alive");
        assert_eq!(("alice", REPLY), (&*told.owner.account.username, &*told.answered.reply));
        assert_eq!(alone.client.user.key, told.owner.key);
    });
}

#[test]
fn data_that_finds_no_room_in_the_mailbox_is_refused() {
    play(async |alone| {
        let peer = alone.peer(1);
        alone.binds(0x4000, &peer).await.expect("it is bound");
        let mut taken = 0_u16;
        loop {
            let mut data = ClientData::default();
            data.push(&channel_data(0x4000, &taken.to_be_bytes()), HeaderFields::default());
            match alone.actor.try_send(data) {
                Ok(()) => taken += 1,
                Err(SendError::Full(_)) => break,
                Err(SendError::Closed(_)) => panic!("it is alive"),
            }
        }
        settle().await;

        // The bound is kept, and everything within it arrives.
        assert!((64..=66).contains(&taken), "{taken} batches");
        for number in 0..taken {
            peer.hears(relayed_at(RELAYED), &number.to_be_bytes());
        }
    });
}

#[test]
fn allocation_announces_its_relay_once() {
    play(async |alone| {
        alone.announced.hears().await;
        alone.announced.hears_nothing().await;
        assert_eq!(Ok(Ok(Refreshed::Until(secs(900)))), alone.refreshes(900).await);
        alone.announced.hears_nothing().await;
    });
}

#[test]
fn peer_elsewhere_is_nothing_to_ask_about() {
    play(async |alone| {
        let (peer, below) = (alone.peer(1), alone.own_port(80));
        alone.permits(&[&peer]).await.expect("it is permitted");
        assert!(alone.permits(&[&below]).await.is_ok(), "a permission has no port");
        alone.gets(&[send_indication(peer.0, b"out"), send_indication(below.0, b"down")]).await;

        peer.hears(relayed_at(RELAYED), b"out");
        below.hears(relayed_at(RELAYED), b"down");
        alone.finds.hears_nothing().await;
    });
}

#[test]
fn address_where_nobody_relays_is_asked_about_every_two_seconds() {
    play(async |alone| {
        let foreign = alone.own_port(50_001);
        alone.binds(0x4000, &foreign).await.expect("it is bound");
        let word = [channel_data(0x4000, b"word")];

        // While the question waits, and for two seconds from its answer on, none is asked.
        alone.gets(&word).await;
        let asked = alone.finds.hears().await;
        assert_eq!(foreign.0, asked.message.address.0);
        alone.gets(&word).await;
        alone.finds.hears_nothing().await;
        let again = Deadline::after(secs(2));
        asked.answers(None).await;
        again.just_before().await;
        alone.gets(&word).await;
        alone.finds.hears_nothing().await;

        again.just_after().await;
        alone.gets(&word).await;
        alone.finds.hears().await.answers(None).await;
        for _ in 0..4 {
            foreign.hears(relayed_at(RELAYED), b"word");
        }
    });
}

#[test]
fn allocator_that_does_not_answer_is_asked_again() {
    play(async |alone| {
        let foreign = alone.own_port(50_001);
        alone.binds(0x4000, &foreign).await.expect("it is bound");
        alone.gets(&[channel_data(0x4000, b"one")]).await;
        let asked = alone.finds.hears().await;
        let again = Deadline::after(secs(2));
        drop(asked);

        again.just_before().await;
        alone.gets(&[channel_data(0x4000, b"two")]).await;
        alone.finds.hears_nothing().await;
        again.just_after().await;
        alone.gets(&[channel_data(0x4000, b"three")]).await;
        alone.finds.hears().await;
        for word in [&b"one"[..], b"two", b"three"] {
            foreign.hears(relayed_at(RELAYED), word);
        }
    });
}

#[test]
fn questions_about_own_ports_have_a_limit() {
    play(async |alone| {
        let peers: Vec<Peer> = (50_100..50_200).map(|port| alone.own_port(port)).collect();
        alone.permits(&[&peers[0]]).await.expect("a permission has no port");
        let scan: Vec<_> = peers.iter().map(|peer| send_indication(peer.0, b"knock")).collect();
        alone.gets(&scan).await;

        for peer in &peers {
            peer.hears(relayed_at(RELAYED), b"knock");
        }
        let mut asked = Vec::new();
        for _ in 0..32 {
            asked.push(alone.finds.hears().await);
        }
        alone.finds.hears_nothing().await;
        for asked in asked {
            asked.answers(None).await;
        }

        // Those that are over make room for others.
        alone.gets(&[send_indication(peers[99].0, b"knock")]).await;
        alone.finds.hears_nothing().await;
        let over = Deadline::after(secs(2));
        over.just_after().await;
        alone.gets(&[send_indication(peers[99].0, b"knock")]).await;
        assert_eq!(peers[99].0, alone.finds.hears().await.message.address.0);
        for _ in 0..2 {
            peers[99].hears(relayed_at(RELAYED), b"knock");
        }
    });
}
