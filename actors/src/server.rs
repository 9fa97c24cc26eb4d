//! The server: arbiters, actors and sockets, wired together from a [`ServerConfig`].

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, info, warn};
use socket2::Socket;
use sterna_proto::address::TransportProtocol;
use sterna_proto::allocation::Terms;
use sterna_proto::limiter::SourceLimiter;
use sterna_proto::login_limits::LoginLimits;
use tokio::sync::{mpsc, oneshot};

use crate::authenticator::{AskStores, Authenticator, CredentialSources};
use crate::clock;
use crate::config::{Listen, ServerConfig};
use crate::connection_broker::ConnectionBroker;
use crate::listener::{self, ListenerActor, ListenerSeed, Shutdown};
use crate::pacing::{self, Pace};
use crate::places::{Bound, Carrier, Place};
use crate::policy::Policy;
use crate::policy_keeper::{self, Merged, PolicyKeeper, PolicyNeighbours, ServerTerms, SetPolicy};
use crate::port_allocator::{PortAllocator, RelayDirectory};
use crate::quota_keeper::QuotaKeeper;
use crate::session::SessionNeighbours;
use crate::socket::{
    BindError, KernelRelaySockets, ProxiedListenSocket, ReceiveBatch, RelayOptions,
    StreamListenSocket, StreamTerms, UdpListenSocket,
};
use crate::store_actor::{self, ReadRealms, RealmsRead, SetStores, StoreActor, StoreNeighbours};
use crate::supervision::Spent;
use crate::transport::{ListenSocket, RelaySockets};

/// Why the server did not start. Nothing of it is left running.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(BindError),
    /// A relay address cannot be bound.
    Relay {
        /// The relay address.
        address: IpAddr,
        /// What the kernel says.
        cause: io::Error,
    },
    /// An arbiter did not take its socket.
    Arbiter(io::Error),
    /// DTLS is asked for and cannot be served.
    Dtls {
        /// The listener that asks for it.
        listen: Listen,
        /// What is missing.
        cause: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(error) => error.fmt(f),
            StartError::Relay { address, cause } => {
                write!(f, "cannot relay from {address}: {cause}")
            }
            StartError::Arbiter(cause) => write!(f, "cannot start an arbiter: {cause}"),
            StartError::Dtls { listen, cause } => write!(f, "cannot serve {listen}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<BindError> for StartError {
    fn from(error: BindError) -> StartError {
        StartError::Listen(error)
    }
}

/// A running server.
pub struct Server {
    addresses: Vec<Listen>,
    ports: Addr<PortAllocator>,
    connections: Addr<ConnectionBroker>,
    policy: Addr<PolicyKeeper>,
    stores: Addr<StoreActor>,
    quotas: Addr<QuotaKeeper>,
    listeners: Vec<Addr<ListenerActor>>,
    workers: Vec<Worker>,
    spent: mpsc::Receiver<Spent>,
    log: Logger,
}

/// What every arbiter gets.
#[derive(Clone)]
struct Shared {
    config: Arc<ServerConfig>,
    terms: ServerTerms,
    policy: Arc<Merged>,
    sources: Arc<CredentialSources>,
    allocation_terms: Arc<Terms>,
    stores: Addr<StoreActor>,
    relay_sockets: Arc<dyn RelaySockets>,
    ports: Addr<PortAllocator>,
    connections: Addr<ConnectionBroker>,
    quotas: Addr<QuotaKeeper>,
    started: Instant,
    spent: mpsc::Sender<Spent>,
    log: Logger,
}

/// A listener before it is started.
struct Seat {
    /// What is spoken there.
    listen: Vec<Listen>,
    carrier: Carrier,
    realm: Option<Arc<str>>,
    socket: Socket,
}

/// The actors of one arbiter that others talk to.
struct Started {
    authenticator: Addr<Authenticator>,
    listeners: Vec<(Option<Arc<str>>, Addr<ListenerActor>)>,
}

impl Server {
    /// Binds every listening address and starts the actors. Has to be called within an actix
    /// system.
    ///
    /// # Errors
    /// The first address that cannot be bound, and why; nothing is left running then.
    pub async fn start(config: ServerConfig, log: Logger) -> Result<Server, StartError> {
        let relay_options = RelayOptions { device: config.relay.device.clone() };
        check_relay_addresses(&config, &relay_options)?;
        check_dtls(&config)?;
        let bound = bind_listeners(&config)?;
        let addresses: Vec<Listen> =
            bound.iter().flat_map(|bound| bound.listen.iter().cloned()).collect();
        let (spent, spent_receiver) = mpsc::channel(SPENT_MAX);
        // Each new allocation asks for a port and a place: whoever allocates on the first worker
        // does so without waking another thread, which would cost more than the answers.
        let home = Worker::start(&config)?;
        let ports = start_ports(&home, &config, &spent, &log).await?;
        let connections = ConnectionBroker::start(log.clone(), tell_spent(&spent));
        let stores = StoreActor::start(log.clone(), tell_spent(&spent));
        let config = Arc::new(config);
        let terms = ServerTerms::new(config.clone(), &addresses);
        // Before there is anybody to ask for a user: one that is in a store would be none.
        let read = first_realms(&stores, &terms, &config.policy).await;
        let merged = Arc::new(Merged::of(&config.policy, &read));
        let policy = PolicyKeeper::start(
            terms.clone(),
            config.policy.clone(),
            read,
            log.clone(),
            tell_spent(&spent),
        );
        let quotas = {
            let (terms, spent, log) = (merged.quotas(), spent.clone(), log.clone());
            home.run(move || QuotaKeeper::start(terms, log, tell_spent(&spent))).await?
        };
        let shared = Shared {
            sources: Arc::new(terms.sources(&merged)),
            allocation_terms: Arc::new(terms.allocation(&merged)),
            relay_sockets: Arc::new(KernelRelaySockets::new(relay_options)),
            terms,
            policy: merged,
            stores: stores.clone(),
            ports: ports.clone(),
            connections: connections.clone(),
            quotas: quotas.clone(),
            started: clock::now(),
            spent,
            log: log.clone(),
            config,
        };
        let mut server = Server {
            addresses,
            ports,
            connections,
            policy,
            stores,
            quotas,
            listeners: Vec::new(),
            workers: vec![home],
            spent: spent_receiver,
            log,
        };
        if let Err(error) = server.start_arbiters(shared, bound).await {
            server.end_arbiters().await;
            return Err(error);
        }
        for listen in &server.addresses {
            info!(server.log, "listening"; "url" => %listen);
        }
        Ok(server)
    }

    /// One arbiter for each worker, each with a listener on every address.
    async fn start_arbiters(
        &mut self,
        shared: Shared,
        bound: Vec<Bound>,
    ) -> Result<(), StartError> {
        let mut by_worker: Vec<Vec<Seat>> = Vec::new();
        by_worker.resize_with(shared.config.workers, Vec::new);
        for Bound { carrier, listen, realm, sockets } in bound {
            for (worker, socket) in by_worker.iter_mut().zip(sockets) {
                let (carrier, listen) = (carrier.clone(), listen.clone());
                worker.push(Seat { carrier, listen, realm: realm.clone(), socket });
            }
        }
        let (mut number, mut all) = (0, Vec::<Started>::new());
        for (worker, seats) in by_worker.into_iter().enumerate() {
            if worker == self.workers.len() {
                self.workers.push(Worker::start(&shared.config)?);
            }
            let Some(worker) = self.workers.get(worker) else { break };
            let (first, count) = (number, seats.len() as u16);
            let (of_arbiter, pace) = (shared.clone(), worker.pace.clone());
            let start = move || start_listeners(&of_arbiter, pace, first, seats);
            all.push(worker.run(start).await?.map_err(StartError::Arbiter)?);
            number += count;
        }
        let listeners = all.iter().flat_map(|started| &started.listeners);
        self.listeners.extend(listeners.map(|(_, listener)| listener.clone()));
        self.introduce(all);
        Ok(())
    }

    /// Tells the actors of those that were started after them.
    fn introduce(&self, started: Vec<Started>) {
        let authenticators = || started.iter().map(|started| &started.authenticator);
        let of_stores = StoreNeighbours {
            list_owners: self.quotas.clone().recipient(),
            revoke: self.quotas.clone().recipient(),
            authenticators: authenticators().map(|one| one.clone().recipient()).collect(),
            realms: self.policy.clone().recipient(),
        };
        self.stores.do_send(store_actor::Introduce(of_stores));
        for (this, listener) in self.listeners.iter().enumerate() {
            let others = self.listeners.iter().enumerate().filter(|(other, _)| *other != this);
            let others = others.map(|(_, other)| other.clone().recipient()).collect();
            listener.do_send(listener::Introduce(others));
        }
        let listeners = started.iter().flat_map(|started| &started.listeners);
        let of_policy = PolicyNeighbours {
            listeners: listeners
                .map(|(realm, listener)| (realm.clone(), listener.clone().recipient()))
                .collect(),
            authenticators: authenticators().map(|one| one.clone().recipient()).collect(),
            stores: Some(self.stores.clone().recipient()),
            quotas: Some(self.quotas.clone().recipient()),
        };
        self.policy.do_send(policy_keeper::Introduce(of_policy));
    }

    /// Lets another policy hold, for those as well who have an allocation: they lose it where their
    /// user or secret is gone, and the peers that are not allowed any more.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.do_send(SetPolicy(policy));
    }

    /// The PolicyKeeper.
    pub fn policy_keeper(&self) -> &Addr<PolicyKeeper> {
        &self.policy
    }

    /// Where clients arrive, with the real ports.
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// The listeners: for each worker, one on every address.
    pub fn listeners(&self) -> &[Addr<ListenerActor>] {
        &self.listeners
    }

    /// The PortAllocator.
    pub fn port_allocator(&self) -> &Addr<PortAllocator> {
        &self.ports
    }

    /// The ConnectionBroker.
    pub fn connection_broker(&self) -> &Addr<ConnectionBroker> {
        &self.connections
    }

    /// The QuotaKeeper.
    pub fn quota_keeper(&self) -> &Addr<QuotaKeeper> {
        &self.quotas
    }

    /// Waits until an actor that the server cannot do without keeps failing. Pending for ever
    /// otherwise.
    pub async fn failed(&mut self) -> Spent {
        match self.spent.recv().await {
            Some(spent) => spent,
            None => std::future::pending().await,
        }
    }

    /// Takes no new work, answers what is in flight, ends every allocation, and returns when that
    /// is done or [`STOP_WITHIN`] is over.
    pub async fn stop(mut self) {
        let mut waiting = Vec::new();
        for listener in &self.listeners {
            let (done, ended) = oneshot::channel();
            listener.do_send(Shutdown { done });
            waiting.push(ended);
        }
        let all = async {
            for ended in waiting {
                // A listener that is gone already has nothing left to end.
                let _ = ended.await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            warn!(self.log, "some sessions did not end in time");
        }
        if tokio::time::timeout(JOIN_WITHIN, self.end_arbiters()).await.is_err() {
            warn!(self.log, "some arbiters did not end in time");
        }
    }

    /// Stops the arbiters and waits for their threads, on a thread of its own: one that hangs must
    /// not keep the caller.
    async fn end_arbiters(&mut self) {
        let workers = std::mem::take(&mut self.workers);
        let (done, joined) = oneshot::channel();
        std::thread::spawn(move || {
            // The first is the home of those whom the others ask.
            for Worker { arbiter, .. } in workers.into_iter().rev() {
                arbiter.stop();
                // Fails only for an arbiter whose thread panicked, which has been logged.
                let _ = arbiter.join();
            }
            // Whoever asked has not waited this long.
            let _ = done.send(());
        });
        // An error would say that the thread panicked before it was done: then nothing is left to
        // wait for.
        let _ = joined.await;
    }
}

/// An arbiter and its pace.
struct Worker {
    arbiter: Arbiter,
    pace: Arc<Pace>,
}

impl Worker {
    fn start(config: &ServerConfig) -> Result<Worker, StartError> {
        let pace = Arc::new(Pace::new(config.wake_interval));
        let kept = pace.clone();
        let arbiter = Arbiter::try_with_tokio_rt(move || pacing::runtime(kept));
        Ok(Worker { arbiter: arbiter.map_err(StartError::Arbiter)?, pace })
    }

    /// Starts actors on the arbiter, and waits for what they are known by.
    async fn run<T: Send + 'static>(
        &self,
        start: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StartError> {
        let (done, started) = oneshot::channel();
        self.arbiter.spawn(async move {
            // Whoever waits is gone only if the server is.
            let _ = done.send(start());
        });
        let gone = |_| StartError::Arbiter(io::Error::other("the arbiter ended"));
        started.await.map_err(gone)
    }
}

/// Tells the StoreActor of its stores, and asks for what they say of realms: whoever comes first is
/// held to that. Where one of them does not answer the listeners start all the same, and grant
/// nothing until it does.
async fn first_realms(
    stores: &Addr<StoreActor>,
    terms: &ServerTerms,
    policy: &Policy,
) -> RealmsRead {
    let nothing = RealmsRead::default();
    let sources = Arc::new(terms.sources(&Merged::of(policy, &nothing)));
    stores.do_send(SetStores { stores: policy.stores.clone(), sources });
    if policy.stores.is_empty() {
        return nothing;
    }
    let read = tokio::time::timeout(FIRST_REALMS_WITHIN, stores.send(ReadRealms)).await;
    // An actor that does not answer either is watched by others.
    read.map_or(Ok(nothing), |read| read).unwrap_or_default()
}

async fn start_ports(
    home: &Worker,
    config: &ServerConfig,
    spent: &mpsc::Sender<Spent>,
    log: &Logger,
) -> Result<Addr<PortAllocator>, StartError> {
    let (addresses, ports) = (config.relay.addresses.clone(), config.relay.ports.clone());
    let (hold, spent, log) = (config.reservation, spent.clone(), log.clone());
    home.run(move || PortAllocator::start(addresses, ports, hold, log, tell_spent(&spent))).await
}

/// The actors of one arbiter, on that arbiter: an Authenticator, and a listener for each socket.
fn start_listeners(
    shared: &Shared,
    pace: Arc<Pace>,
    first: u16,
    seats: Vec<Seat>,
) -> io::Result<Started> {
    let config = &shared.config;
    let authenticator = Authenticator::start(
        shared.sources.clone(),
        AskStores::of(&shared.stores),
        shared.log.clone(),
        tell_spent(&shared.spent),
    );
    let scratch = Rc::new(RefCell::new(ReceiveBatch::of_arbiter(pace)));
    let directory = Arc::new(RelayDirectory::of(&shared.ports));
    let mut listeners = Vec::new();
    for (number, Seat { carrier, listen, realm, socket }) in (first..).zip(seats) {
        let own_realm = shared.policy.default_of(realm.as_ref()).unwrap_or_default();
        let session_terms = Arc::new(shared.terms.session(&shared.policy, own_realm));
        let seed = ListenerSeed {
            number,
            socket: listen_socket(shared, carrier, &listen, socket)?,
            listen,
            scratch: scratch.clone(),
            limiter: SourceLimiter::new(
                config.limits.unauthenticated_answers_per_second,
                rand::random(),
                shared.started,
            ),
            logins: LoginLimits::new(
                config.limits.failed_logins_per_minute,
                rand::random(),
                shared.started,
            ),
            sessions_max: config.limits.sessions_per_listener,
        };
        let neighbours = |listener: &Addr<ListenerActor>| SessionNeighbours {
            find_keys: authenticator.clone().recipient(),
            lease_quota: shared.quotas.clone().recipient(),
            end_client: listener.clone().recipient(),
            lease_port: shared.ports.clone().recipient(),
            claim_reservation: shared.ports.clone().recipient(),
            name_connection: shared.connections.clone().recipient(),
            find_connection: shared.connections.clone().recipient(),
            start_allocation: listener.clone().recipient(),
            dropped: listener.clone().recipient(),
            login_failed: listener.clone().recipient(),
            login_unanswered: listener.clone().recipient(),
            login_proved: listener.clone().recipient(),
            relay_directory: directory.clone(),
            relay_sockets: shared.relay_sockets.clone(),
            session_terms,
            allocation_terms: shared.allocation_terms.clone(),
        };
        let log = shared.log.clone();
        let spent = tell_spent(&shared.spent);
        listeners.push((realm, ListenerActor::start(seed, neighbours, log, spent)));
    }
    Ok(Started { authenticator, listeners })
}

/// The socket as its listener sees it: PROXY protocol headers are taken off first, then what
/// encrypts.
fn listen_socket(
    shared: &Shared,
    carrier: Carrier,
    listen: &[Listen],
    socket: Socket,
) -> io::Result<Box<dyn ListenSocket>> {
    let (limits, tls) = (shared.config.limits.clone(), shared.config.tls.clone());
    let log = shared.log.clone();
    let has = |protocol| listen.iter().any(|listen| listen.protocol == protocol);
    match carrier {
        Carrier::Streams { proxy } => {
            let plain = has(TransportProtocol::Tcp);
            let terms = StreamTerms { limits, proxy, plain, tls, log };
            Ok(Box::new(StreamListenSocket::watch(socket, terms)?))
        }
        Carrier::Datagrams { proxy } => {
            let mut socket: Box<dyn ListenSocket> = Box::new(UdpListenSocket::watch(socket)?);
            if let Some(trusted) = proxy {
                socket = Box::new(ProxiedListenSocket::new(socket, trusted, log.clone()));
            }
            #[cfg(feature = "dtls")]
            // Clients of DTLS are not asked for certificates.
            if let Some(terms) = tls
                && (has(TransportProtocol::Dtls) || !terms.borrow().asks_clients)
            {
                socket = Box::new(crate::socket::DtlsListenSocket::new(socket, terms, limits, log));
            }
            Ok(socket)
        }
    }
}

/// A certificate that DTLS cannot be served with is found at start where `dtls://` is asked for.
fn check_dtls(config: &ServerConfig) -> Result<(), StartError> {
    let asks = |listen: &&Listen| listen.protocol == TransportProtocol::Dtls;
    let Some(listen) = config.listen.iter().find(asks) else { return Ok(()) };
    let refused = |cause: String| StartError::Dtls { listen: listen.clone(), cause };
    #[cfg(feature = "dtls")]
    {
        let terms = config.tls.as_ref().ok_or_else(|| refused("no certificate".to_owned()))?;
        let checked = crate::socket::IdentityError::check(&terms.borrow().datagrams);
        checked.map_err(|cause| refused(cause.to_string()))
    }
    #[cfg(not(feature = "dtls"))]
    Err(refused("this program was built without DTLS".to_owned()))
}

/// A socket on every address for every worker; all are bound before anything starts.
fn bind_listeners(config: &ServerConfig) -> Result<Vec<Bound>, StartError> {
    let places = Place::all(&config.listen)?;
    let bound = places.into_iter().map(|place| place.bind(config.workers));
    bound.collect::<Result<_, BindError>>().map_err(StartError::from)
}

/// A relay address that is not this machine's, or a device that does not exist, is found at start
/// and not by the first client.
fn check_relay_addresses(config: &ServerConfig, options: &RelayOptions) -> Result<(), StartError> {
    for &address in &config.relay.addresses {
        options.check(address).map_err(|cause| StartError::Relay { address, cause })?;
    }
    Ok(())
}

fn tell_spent(spent: &mpsc::Sender<Spent>) -> impl FnOnce(Spent) + 'static {
    let spent = spent.clone();
    // One is enough to stop the server; who finds no room comes after it.
    move |what| drop(spent.try_send(what))
}

/// How long a stop waits for sessions to end.
pub const STOP_WITHIN: Duration = Duration::from_millis(1200);

/// How long a stop waits after that for the arbiters' threads.
pub const JOIN_WITHIN: Duration = Duration::from_millis(150);

/// How long a start waits for what the stores say of realms.
const FIRST_REALMS_WITHIN: Duration = Duration::from_secs(5);

/// Failures that wait to be heard of.
const SPENT_MAX: usize = 4;
