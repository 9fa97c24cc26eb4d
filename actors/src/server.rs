//! The server: arbiters, actors and sockets, wired together from a [`ServerConfig`].

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, info, warn};
use socket2::Socket;
use sterna_proto::allocation::Terms;
use sterna_proto::guard::Guard;
use sterna_proto::limiter::SourceLimiter;
use sterna_proto::nonce::{NonceMinter, SecurityFeatures};
use sterna_proto::peer_rules::{External, PeerRules, RelayAddresses};
use sterna_proto::request::{ChannelNumbers, Offer};
use sterna_proto::session::SessionTerms;
use tokio::sync::{mpsc, oneshot};

use crate::authenticator::{Authenticator, CredentialSources};
use crate::clock;
use crate::config::ServerConfig;
use crate::listener::{ListenerActor, ListenerSeed, Shutdown};
use crate::port_allocator::PortAllocator;
use crate::session::SessionNeighbours;
use crate::socket::{
    BindError, ListenOptions, ReceiveBatch, RelayOptions, UdpListenSocket, UdpRelaySockets,
};
use crate::supervision::Spent;
use crate::transport::RelaySockets;

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
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(error) => error.fmt(f),
            StartError::Relay { address, cause } => {
                write!(f, "cannot relay from {address}: {cause}")
            }
            StartError::Arbiter(cause) => write!(f, "cannot start an arbiter: {cause}"),
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
    addresses: Vec<SocketAddr>,
    ports: Addr<PortAllocator>,
    listeners: Vec<Addr<ListenerActor>>,
    arbiters: Vec<Arbiter>,
    spent: mpsc::Receiver<Spent>,
    log: Logger,
}

/// What every arbiter gets.
#[derive(Clone)]
struct Shared {
    config: Arc<ServerConfig>,
    session_terms: Arc<SessionTerms>,
    allocation_terms: Arc<Terms>,
    relay_sockets: Arc<dyn RelaySockets>,
    ports: Addr<PortAllocator>,
    started: Instant,
    spent: mpsc::Sender<Spent>,
    log: Logger,
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
        let sockets = bind_listeners(&config)?;
        let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
        let (spent, spent_receiver) = mpsc::channel(SPENT_MAX);
        let ports = PortAllocator::start(
            config.relay.addresses.clone(),
            config.relay.ports.clone(),
            config.reservation,
            log.clone(),
            tell_spent(&spent),
        );
        let shared = Shared {
            session_terms: Arc::new(session_terms(&config)),
            allocation_terms: Arc::new(allocation_terms(&config, &addresses)),
            relay_sockets: Arc::new(UdpRelaySockets::new(relay_options)),
            ports: ports.clone(),
            started: clock::now(),
            spent,
            log: log.clone(),
            config: Arc::new(config),
        };
        let mut server = Server {
            addresses,
            ports,
            listeners: Vec::new(),
            arbiters: Vec::new(),
            spent: spent_receiver,
            log,
        };
        server.start_arbiters(shared, sockets).await?;
        for address in &server.addresses {
            info!(server.log, "listening"; "url" => format!("udp://{address}"));
        }
        Ok(server)
    }

    /// One arbiter for each worker, each with a listener on every address.
    async fn start_arbiters(
        &mut self,
        shared: Shared,
        sockets: Vec<(SocketAddr, Vec<Socket>)>,
    ) -> Result<(), StartError> {
        let mut by_worker: Vec<Vec<Socket>> = Vec::new();
        by_worker.resize_with(shared.config.workers, Vec::new);
        for (_, of_address) in sockets {
            for (worker, socket) in by_worker.iter_mut().zip(of_address) {
                worker.push(socket);
            }
        }
        let mut number = 0;
        for sockets in by_worker {
            let arbiter = Arbiter::new();
            let (first, count) = (number, sockets.len() as u16);
            let (done, started) = oneshot::channel();
            let shared = shared.clone();
            arbiter.spawn(async move {
                // The server has given up waiting only if it is gone itself.
                let _ = done.send(start_listeners(&shared, first, sockets));
            });
            number += count;
            self.arbiters.push(arbiter);
            let gone = |_| io::Error::other("the arbiter ended");
            match started.await.map_err(gone).and_then(|started| started) {
                Ok(listeners) => self.listeners.extend(listeners),
                Err(cause) => {
                    self.end_arbiters().await;
                    return Err(StartError::Arbiter(cause));
                }
            }
        }
        Ok(())
    }

    /// The addresses listened on, with their real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
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
        let arbiters = std::mem::take(&mut self.arbiters);
        let (done, joined) = oneshot::channel();
        std::thread::spawn(move || {
            for arbiter in arbiters {
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

/// The actors of one arbiter, on that arbiter: an Authenticator, and a listener for each socket.
fn start_listeners(
    shared: &Shared,
    first: u16,
    sockets: Vec<Socket>,
) -> io::Result<Vec<Addr<ListenerActor>>> {
    let config = &shared.config;
    let authenticator = Authenticator::start(
        credential_sources(config),
        shared.log.clone(),
        tell_spent(&shared.spent),
    );
    let scratch = Rc::new(RefCell::new(ReceiveBatch::new()));
    let mut listeners = Vec::new();
    for (number, socket) in (first..).zip(sockets) {
        let seed = ListenerSeed {
            number,
            socket: Box::new(UdpListenSocket::watch(socket)?),
            scratch: scratch.clone(),
            limiter: SourceLimiter::new(
                config.limits.unauthenticated_answers_per_second,
                rand::random(),
                shared.started,
            ),
            sessions_max: config.limits.sessions_per_listener,
        };
        let neighbours = |listener: &Addr<ListenerActor>| SessionNeighbours {
            find_keys: authenticator.clone().recipient(),
            lease_port: shared.ports.clone().recipient(),
            claim_reservation: shared.ports.clone().recipient(),
            start_allocation: listener.clone().recipient(),
            dropped: listener.clone().recipient(),
            relay_sockets: shared.relay_sockets.clone(),
            session_terms: shared.session_terms.clone(),
            allocation_terms: shared.allocation_terms.clone(),
        };
        let log = shared.log.clone();
        let spent = tell_spent(&shared.spent);
        listeners.push(ListenerActor::start(seed, neighbours, log, spent));
    }
    Ok(listeners)
}

/// A socket on every address for every worker; all are bound before anything starts.
fn bind_listeners(config: &ServerConfig) -> Result<Vec<(SocketAddr, Vec<Socket>)>, StartError> {
    let options = ListenOptions { share_port: config.workers > 1 };
    let mut bound = Vec::new();
    for &address in &config.listen {
        // Sockets that share a port also share it with another process of the same user, which
        // would take half of the clients: one that shares nothing tells whether the address is
        // free.
        let alone = UdpListenSocket::bind(address, ListenOptions { share_port: false })?;
        let local = alone.local_addr().ok().and_then(|local| local.as_socket());
        let address = local.unwrap_or(address);
        let sockets = if options.share_port {
            drop(alone);
            (0..config.workers)
                .map(|_| UdpListenSocket::bind(address, options))
                .collect::<Result<Vec<Socket>, BindError>>()?
        } else {
            vec![alone]
        };
        bound.push((address, sockets));
    }
    Ok(bound)
}

/// A relay address that is not this machine's, or a device that does not exist, is found at start
/// and not by the first client.
fn check_relay_addresses(config: &ServerConfig, options: &RelayOptions) -> Result<(), StartError> {
    for &address in &config.relay.addresses {
        options.check(address).map_err(|cause| StartError::Relay { address, cause })?;
    }
    Ok(())
}

fn credential_sources(config: &ServerConfig) -> CredentialSources {
    CredentialSources {
        realm: config.realm.clone(),
        users: config.users.clone(),
        rest_secrets: config.rest_secrets.clone(),
    }
}

fn session_terms(config: &ServerConfig) -> SessionTerms {
    let sources = credential_sources(config);
    let algorithms = sources.password_algorithms();
    let features = SecurityFeatures {
        password_algorithms: Guard::offers_choice(&algorithms),
        username_anonymity: sources.username_anonymity(),
    };
    let secret: [u8; 32] = rand::random();
    let nonces = NonceMinter::new(secret, features, config.nonce_lifetime, clock::now());
    let has = |is_v4| config.relay.addresses.iter().any(|ip| ip.is_ipv4() == is_v4);
    SessionTerms {
        guard: Guard::new(config.realm.clone(), nonces, algorithms),
        offer: Offer {
            v4: has(true),
            v6: has(false),
            dont_fragment: true,
            channel_numbers: match config.rfc5766_channel_numbers {
                true => ChannelNumbers::Rfc5766,
                false => ChannelNumbers::Rfc8656,
            },
        },
        software: config.software.clone(),
    }
}

fn allocation_terms(config: &ServerConfig, listening: &[SocketAddr]) -> Terms {
    let relay =
        RelayAddresses { ips: config.relay.addresses.clone(), ports: config.relay.ports.clone() };
    Terms {
        lifetimes: config.lifetimes,
        permissions_max: config.limits.permissions_per_allocation,
        channels_max: config.limits.channels_per_allocation,
        rules: PeerRules::new(
            config.peers.allow.clone(),
            config.peers.deny.clone(),
            own_addresses(config, listening),
            relay,
            External::new(config.relay.external.clone()),
        ),
    }
}

/// The listening addresses as a peer could name them: a wildcard is every address of the machine
/// that is known here.
fn own_addresses(config: &ServerConfig, listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut own = Vec::new();
    for &address in listening {
        own.push(address);
        if address.ip().is_unspecified() {
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == address.is_ipv4();
            let known = config.relay.addresses.iter().filter(of_family);
            own.extend(known.map(|&ip| SocketAddr::new(ip, address.port())));
        }
    }
    own
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

/// Failures that wait to be heard of.
const SPENT_MAX: usize = 4;
