//! A whole server over a played network: real actors of every kind, wired as the daemon wires them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Addr, Recipient};
use sterna_actors::allocation::{self, AllocationActor, AllocationCounters, ReadAllocation};
use sterna_actors::authenticator::{
    self, AskStores, Authenticator, CredentialSources, FindKeys, StoreTraits,
};
use sterna_actors::clock;
use sterna_actors::config::Listen;
use sterna_actors::connection_broker::{self, ConnectionBroker};
use sterna_actors::listener::{
    self, ClientActors, FindClient, ListenerActor, ListenerCounters, ListenerSeed, ReadListener,
    Shutdown,
};
use sterna_actors::policy::{CacheTerms, Realm, UserSecret};
use sterna_actors::port_allocator::{self, LeasePort, PortAllocator, RelayDirectory};
use sterna_actors::quota_keeper::{self, LeaseQuota, ListSessions, QuotaKeeper};
use sterna_actors::session::{self, SessionActor, SessionNeighbours};
use sterna_actors::socket::ReceiveBatch;
use sterna_actors::store_actor::{Introduce, SetStores, StoreActor, StoreNeighbours};
use sterna_actors::supervision::Spent;
use sterna_proto::account::ExpiryPolicy;
use sterna_proto::address::{Family, RelayTransport, TransportProtocol};
use sterna_proto::allocation::{Lifetimes, Terms};
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::drops::DropReason;
use sterna_proto::guard::{Guard, GuardedRealm};
use sterna_proto::limiter::SourceLimiter;
use sterna_proto::login_limits::LoginLimits;
use sterna_proto::nonce::NonceMinter;
use sterna_proto::peer_rules::{External, PeerLists, PeerRules, RelayAddresses};
use sterna_proto::port_pool::Parity;
use sterna_proto::quotas::QuotaTerms;
use sterna_proto::request::{ChannelNumbers, Offer};
use sterna_proto::session::SessionTerms;
use tokio::sync::oneshot;

use super::client::Call;
use super::{
    Client, Log, Network, PASSWORDS, Peer, PlayedStore, REALM, RELAY_V4, RELAY_V6, User, account,
    neighbour, secs, settle, virtual_time,
};

/// What a script's server is like.
pub(crate) struct Setup {
    pub(crate) listeners: u8,
    pub(crate) relays: Vec<IpAddr>,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) nonce_lifetime: Duration,
    pub(crate) sessions_max: usize,
    pub(crate) answers_per_second: u32,
    pub(crate) failed_logins_per_minute: u32,
    pub(crate) expiry: ExpiryPolicy,
    /// Who finds keys; the real Authenticator if nobody else does.
    pub(crate) find_keys: Option<Recipient<FindKeys>>,
    /// Who leases ports; the real PortAllocator if nobody else does.
    pub(crate) lease_port: Option<Recipient<LeasePort>>,
    /// Who knows users that the server does not.
    pub(crate) stores: Vec<PlayedStore>,
    pub(crate) quotas: QuotaTerms,
    /// Who leases places; the real QuotaKeeper if nobody else does.
    pub(crate) lease_quota: Option<Recipient<LeaseQuota>>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            listeners: 1,
            relays: vec![RELAY_V4, RELAY_V6],
            ports: 49_152..=65_535,
            lifetimes: Lifetimes::default(),
            nonce_lifetime: secs(600),
            sessions_max: 100,
            answers_per_second: 0,
            failed_logins_per_minute: 0,
            expiry: ExpiryPolicy::default(),
            find_keys: None,
            lease_port: None,
            stores: Vec::new(),
            quotas: QuotaTerms::default(),
            lease_quota: None,
        }
    }
}

impl Setup {
    /// Plays against such a server. At the end nothing may be left that the script did not mention:
    /// no datagram unheard, no warning unexpected.
    pub(crate) fn script(self, play: impl AsyncFnOnce(&World)) {
        virtual_time(async move || {
            let world = World::start(self);
            play(&world).await;
            world.ends().await;
        });
    }

    pub(crate) fn session_terms(&self, epoch: Instant) -> SessionTerms {
        let realm = GuardedRealm {
            name: REALM.into(),
            origins: Vec::new(),
            algorithms: vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5],
            username_anonymity: true,
        };
        let has = |is_v4| self.relays.iter().any(|ip| ip.is_ipv4() == is_v4);
        SessionTerms {
            guard: Guard::new(vec![realm], 0, None, self.nonces(epoch)),
            offer: Offer {
                v4: has(true),
                v6: has(false),
                tcp: true,
                dont_fragment: true,
                channel_numbers: ChannelNumbers::Rfc8656,
            },
            software: None,
            expiry: self.expiry,
            realms_known: true,
        }
    }

    pub(crate) fn nonces(&self, epoch: Instant) -> NonceMinter {
        NonceMinter::new([7; 32], self.nonce_lifetime, epoch)
    }

    pub(crate) fn allocation_terms(&self) -> Terms {
        let relay = RelayAddresses { ips: self.relays.clone(), ports: self.ports.clone() };
        let listening = (0..self.listeners).map(server_address).collect();
        Terms {
            lifetimes: self.lifetimes,
            permissions_max: 16,
            channels_max: 16,
            connections_max: 4,
            realm_peers: HashMap::new(),
            rules: PeerRules::new(PeerLists::default(), listening, relay, External::default()),
        }
    }
}

/// Plays against a server as it is by default.
pub(crate) fn script(play: impl AsyncFnOnce(&World)) {
    Setup::default().script(play);
}

/// The users of [`PASSWORDS`].
pub(crate) fn credentials() -> CredentialSources {
    let secret = |password: &str| UserSecret::Password(password.to_owned());
    let users = PASSWORDS.iter().map(|(name, word)| ((*name).to_owned(), secret(word)));
    CredentialSources {
        cache: CacheTerms { entries: 100, lifetime: secs(60), outage: secs(3600) },
        ..CredentialSources::of_realm(Realm::of_users(REALM, users.collect()))
    }
}

/// Where the `index`th listener listens.
pub(crate) fn server_address(index: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 3478 + u16::from(index)))
}

/// An Authenticator, and the StoreActor behind it.
fn start_authenticator<S: FnOnce(Spent) + 'static>(
    setup: &Setup,
    quotas: &Addr<QuotaKeeper>,
    log: &Log,
    tell_spent: impl Fn() -> S,
) -> (Addr<Authenticator>, Addr<StoreActor>) {
    let stores: Vec<_> = setup.stores.iter().map(PlayedStore::as_store).collect();
    let traits = StoreTraits::of(&stores);
    let outlives = match setup.expiry {
        ExpiryPolicy::Allocate => None,
        ExpiryPolicy::Refresh => Some(setup.lifetimes.allocation_max),
        ExpiryPolicy::Strict => Some(Duration::ZERO),
    };
    let sources = Arc::new(CredentialSources { stores: traits, outlives, ..credentials() });
    let store_actor = StoreActor::start(log.logger(), tell_spent());
    store_actor.do_send(SetStores { stores, sources: sources.clone() });
    let ask = AskStores::of(&store_actor);
    let authenticator = Authenticator::start(sources, ask, log.logger(), tell_spent());
    if !setup.stores.is_empty() {
        let (_, nobody) = neighbour();
        store_actor.do_send(Introduce(StoreNeighbours {
            list_owners: quotas.clone().recipient(),
            revoke: quotas.clone().recipient(),
            authenticators: vec![authenticator.clone().recipient()],
            realms: nobody,
        }));
    }
    (authenticator, store_actor)
}

/// What the listener of this number is made of.
fn seed(
    setup: &Setup,
    network: &Network,
    scratch: Rc<RefCell<ReceiveBatch>>,
    number: u8,
) -> ListenerSeed {
    let (address, seeds, now) = (server_address(number), [1, 2, 3, 4], clock::now());
    ListenerSeed {
        listen: vec![Listen::direct(TransportProtocol::Udp, address)],
        number: number.into(),
        socket: network.listen(address),
        scratch,
        limiter: SourceLimiter::new(setup.answers_per_second, seeds, now),
        logins: LoginLimits::new(setup.failed_logins_per_minute, seeds, now),
        sessions_max: setup.sessions_max,
    }
}

/// Tells the listeners of each other.
fn introduce(listeners: &[Addr<ListenerActor>]) {
    for this in listeners {
        let others = listeners.iter().filter(|other| *other != this);
        let others = others.map(|other| other.clone().recipient()).collect();
        this.do_send(listener::Introduce(others));
    }
}

/// A running server and the network around it.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) log: Log,
    pub(crate) listeners: Vec<Addr<ListenerActor>>,
    pub(crate) ports: Addr<PortAllocator>,
    pub(crate) authenticator: Addr<Authenticator>,
    pub(crate) connections: Addr<ConnectionBroker>,
    pub(crate) quotas: Addr<QuotaKeeper>,
    pub(crate) stores: Addr<StoreActor>,
    spent: Rc<RefCell<Vec<Spent>>>,
    clients: Cell<u16>,
}

impl World {
    pub(crate) fn start(setup: Setup) -> World {
        let (network, log) = (Network::default(), Log::default());
        let spent = Rc::new(RefCell::new(Vec::new()));
        let tell_spent = || {
            let spent = spent.clone();
            move |what| spent.borrow_mut().push(what)
        };
        let ports = PortAllocator::start(
            setup.relays.clone(),
            setup.ports.clone(),
            secs(30),
            log.logger(),
            tell_spent(),
        );
        let connections = ConnectionBroker::start(log.logger(), tell_spent());
        let quotas = QuotaKeeper::start(setup.quotas.clone(), log.logger(), tell_spent());
        let (authenticator, stores) = start_authenticator(&setup, &quotas, &log, tell_spent);
        let session_terms = Arc::new(setup.session_terms(clock::now()));
        let allocation_terms = Arc::new(setup.allocation_terms());
        let scratch = Rc::new(RefCell::new(ReceiveBatch::new()));
        let directory = Arc::new(RelayDirectory::of(&ports));
        let start = |number: u8| {
            let seed = seed(&setup, &network, scratch.clone(), number);
            let neighbours = |listener: &Addr<ListenerActor>| SessionNeighbours {
                find_keys: match &setup.find_keys {
                    Some(played) => played.clone(),
                    None => authenticator.clone().recipient(),
                },
                lease_quota: match &setup.lease_quota {
                    Some(played) => played.clone(),
                    None => quotas.clone().recipient(),
                },
                end_client: listener.clone().recipient(),
                lease_port: match &setup.lease_port {
                    Some(played) => played.clone(),
                    None => ports.clone().recipient(),
                },
                claim_reservation: ports.clone().recipient(),
                name_connection: connections.clone().recipient(),
                find_connection: connections.clone().recipient(),
                start_allocation: listener.clone().recipient(),
                dropped: listener.clone().recipient(),
                login_failed: listener.clone().recipient(),
                login_unanswered: listener.clone().recipient(),
                login_proved: listener.clone().recipient(),
                relay_directory: directory.clone(),
                relay_sockets: Arc::new(network.clone()),
                session_terms: session_terms.clone(),
                allocation_terms: allocation_terms.clone(),
            };
            ListenerActor::start(seed, neighbours, log.logger(), tell_spent())
        };
        let listeners: Vec<Addr<ListenerActor>> = (0..setup.listeners).map(start).collect();
        introduce(&listeners);
        let clients = Cell::new(0);
        World {
            network,
            log,
            listeners,
            ports,
            authenticator,
            connections,
            quotas,
            stores,
            spent,
            clients,
        }
    }

    /// Everything has been heard, and nobody has complained.
    pub(crate) async fn ends(&self) {
        settle().await;
        self.network.is_silent();
        self.log.is_calm();
        assert!(self.spent.borrow().is_empty(), "unexpected: {:?}", self.spent);
    }

    /// A client of this user at a 5-tuple of its own, with a nonce.
    pub(crate) async fn client(&self, user: &'static str) -> Client {
        self.client_of(0, user).await
    }

    /// The same, at the listener with this number.
    pub(crate) async fn client_of(&self, listener: u8, user: &'static str) -> Client {
        let mut client = self.stranger(listener, User::named(user));
        client.knocks().await;
        client
    }

    /// The same, over TCP.
    pub(crate) async fn tcp_client(&self, user: &'static str) -> Client {
        let mut client = self.stranger(0, User::named(user));
        self.network.comes_by_tcp(client.address);
        client.knocks().await;
        client
    }

    /// A client that has not spoken yet.
    pub(crate) fn stranger(&self, listener: u8, user: User) -> Client {
        self.clients.set(self.clients.get() + 1);
        Client {
            network: self.network.clone(),
            address: SocketAddr::from(([198, 51, 100, 1], 40_000 + self.clients.get())),
            server: server_address(listener),
            user,
            nonce: String::new(),
        }
    }

    /// The peer with this number, at an IP address of its own.
    pub(crate) fn peer(&self, number: u8) -> Peer {
        Peer(SocketAddr::from(([203, 0, 113, number], 7000)), self.network.clone())
    }

    /// A peer of IPv6.
    pub(crate) fn peer_v6(&self, number: u16) -> Peer {
        let ip = [0x2001, 0xdb8, 0, 7, 0, 0, 0, number];
        Peer(SocketAddr::from((ip, 7000)), self.network.clone())
    }

    /// Alice in a call with the first peer.
    pub(crate) async fn call(&self) -> Call {
        Call::between(self.client("alice").await, self.peer(1)).await
    }
}

// What is asked of the server from inside.
impl World {
    /// The counters of all listeners together.
    pub(crate) async fn counters(&self) -> ListenerCounters {
        let mut total = ListenerCounters {
            connections: 0,
            sessions: 0,
            allocations: 0,
            batches: Default::default(),
            drops: Default::default(),
        };
        for listener in &self.listeners {
            let counters = listener.send(ReadListener).await.expect("the listener is alive");
            total.sessions += counters.sessions;
            total.allocations += counters.allocations;
            total.batches.add(&counters.batches);
            total.drops.add(&counters.drops);
        }
        total
    }

    pub(crate) async fn sessions(&self) -> usize {
        self.counters().await.sessions
    }

    pub(crate) async fn allocations(&self) -> usize {
        self.counters().await.allocations
    }

    /// Packets that the listeners and ended sessions have dropped for this reason.
    pub(crate) async fn dropped(&self, reason: DropReason) -> u64 {
        self.counters().await.drops.get(reason)
    }

    pub(crate) async fn session_of(&self, client: &Client) -> Addr<SessionActor> {
        self.actors_of(client).await.session
    }

    pub(crate) async fn allocation_of(&self, client: &Client) -> Addr<AllocationActor> {
        self.actors_of(client).await.allocation.expect("the client has an allocation")
    }

    /// What the client's allocation has carried and dropped.
    pub(crate) async fn allocation_counters(&self, client: &Client) -> AllocationCounters {
        let allocation = self.allocation_of(client).await;
        allocation.send(ReadAllocation).await.expect("the allocation is alive")
    }

    async fn actors_of(&self, client: &Client) -> ClientActors {
        for listener in &self.listeners {
            let found = listener.send(FindClient(client.address)).await;
            if let Some(actors) = found.expect("the listener is alive") {
                return actors;
            }
        }
        panic!("the client has no session")
    }

    /// The terms of all listeners are replaced.
    pub(crate) async fn lives_by(&self, session: SessionTerms, allocation: Terms) {
        let (session, allocation) = (Arc::new(session), Arc::new(allocation));
        for listener in &self.listeners {
            let (session, allocation) = (session.clone(), allocation.clone());
            listener.do_send(listener::SetTerms { session, allocation });
        }
        settle().await;
    }

    /// How many places are taken, by allocations and by those who make one.
    pub(crate) async fn places(&self) -> usize {
        self.quotas.send(ListSessions).await.expect("it is alive").len()
    }

    /// How many ports can be leased on the relay addresses of IPv4.
    pub(crate) async fn free_ports(&self) -> usize {
        let lease = LeasePort {
            transport: RelayTransport::Udp,
            family: Family::V4,
            prefer: RELAY_V4,
            parity: Parity::Any,
            user: account("nobody"),
        };
        let mut leases = Vec::new();
        while let Ok(lease) = self.ports.send(lease.clone()).await.expect("it is alive") {
            leases.push(lease);
        }
        let free = leases.len();
        drop(leases);
        settle().await;
        free
    }

    /// Begins to stop the server. Told at the end.
    pub(crate) fn shuts_down(&self) -> Vec<oneshot::Receiver<()>> {
        let shut = |listener: &Addr<ListenerActor>| {
            let (done, ended) = oneshot::channel();
            listener.do_send(Shutdown { done });
            ended
        };
        self.listeners.iter().map(shut).collect()
    }

    /// Takes the word that restarts did not help, which has to have come.
    pub(crate) fn is_told_of_failing(&self, actor: &str) {
        let spent: Vec<Spent> = self.spent.borrow_mut().drain(..).collect();
        let [spent] = &spent[..] else { panic!("one actor keeps failing: {spent:?}") };
        assert_eq!(actor, spent.actor);
        let line = self.log.expects(slog::Level::Error, "restarts did not help");
        assert_eq!((actor, &*spent.panic), (line.field("actor"), line.field("panic")));
    }
}

// Faults.
impl World {
    /// Panics in the client's session, which is restarted.
    pub(crate) async fn panic_in_session(&self, client: &Client) {
        self.session_of(client).await.do_send(session::Panic);
        settle().await;
        self.log.expects(slog::Level::Warning, "session panicked and is restarted");
    }

    /// Panics in the client's allocation, which is its end.
    pub(crate) async fn panic_in_allocation(&self, client: &Client) {
        self.allocation_of(client).await.do_send(allocation::Panic);
        settle().await;
        self.log.expects(slog::Level::Error, "allocation panicked and is gone");
    }

    pub(crate) async fn panic_in_listener(&self) {
        self.listeners[0].do_send(listener::Panic);
        self.is_healed("ListenerActor").await;
    }

    pub(crate) async fn panic_in_port_allocator(&self) {
        self.ports.do_send(port_allocator::Panic);
        self.is_healed("PortAllocator").await;
    }

    pub(crate) async fn panic_in_connection_broker(&self) {
        self.connections.do_send(connection_broker::Panic);
        self.is_healed("ConnectionBroker").await;
    }

    pub(crate) async fn panic_in_quota_keeper(&self) {
        self.quotas.do_send(quota_keeper::Panic);
        self.is_healed("QuotaKeeper").await;
    }

    pub(crate) async fn panic_in_authenticator(&self) {
        self.authenticator.do_send(authenticator::Panic);
        self.is_healed("Authenticator").await;
    }

    /// The actor has panicked, and goes on.
    pub(crate) async fn is_healed(&self, actor: &str) {
        settle().await;
        let line = self.log.expects(slog::Level::Warning, "actor panicked and is healed in place");
        assert_eq!(actor, line.field("actor"));
    }
}
