//! A server on a thread of its own, stopped when the test is over.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use sterna_actors::allocation::{AllocationCounters, ReadAllocation};
use sterna_actors::config::{Limits, Listen, RelayConfig};
use sterna_actors::connection_broker::ConnectionBroker;
use sterna_actors::counters::DropCounters;
use sterna_actors::listener::{
    ClientActors, FindClient, ListenerActor, ListenerCounters, ReadListener,
};
use sterna_actors::policy::{CacheTerms, ExpiryPolicy, Policy, Realm, UserSecret};
use sterna_actors::policy_keeper::PolicyKeeper;
use sterna_actors::port_allocator::PortAllocator;
use sterna_actors::quota_keeper::QuotaKeeper;
use sterna_actors::{Server, ServerConfig};
use sterna_proto::address::TransportProtocol;
use sterna_proto::allocation::Lifetimes;
use sterna_proto::drops::DropReason;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::QuotaLimits;
use tokio::sync::oneshot;

use super::{Lines, PATIENCE, REALM, V4, V6, at, own_host};

/// A UDP listener.
pub(crate) fn udp(address: SocketAddr) -> Listen {
    Listen::direct(TransportProtocol::Udp, address)
}

/// A listener for TCP and, where there is a certificate, TLS.
pub(crate) fn tcp(address: SocketAddr) -> Listen {
    Listen::direct(TransportProtocol::Tcp, address)
}

/// A server that relays from and to loopback, to alice and bob.
pub(crate) fn config() -> ServerConfig {
    let user =
        |name: &str, password: &str| (name.to_owned(), UserSecret::Password(password.to_owned()));
    ServerConfig {
        listen: vec![udp(at(V4, 0)), udp(at(V6, 0))],
        tls: None,
        workers: 1,
        wake_interval: Duration::from_micros(600),
        software: Some("Sterna".to_owned()),
        relay: RelayConfig {
            // Away from 127.0.0.1, whose ports others on this machine take as they please.
            addresses: vec![own_host(), V6],
            external: Vec::new(),
            ports: 49_152..=65_535,
            tcp: true,
            device: None,
        },
        lifetimes: Lifetimes::default(),
        nonce_lifetime: Duration::from_secs(600),
        reservation: Duration::from_secs(30),
        limits: Limits {
            sessions_per_listener: 1000,
            permissions_per_allocation: 1024,
            channels_per_allocation: 1024,
            connections_per_allocation: 64,
            unauthenticated_answers_per_second: 0,
            failed_logins_per_minute: 0,
            connections_per_listener: 65_536,
            unproved_connections_per_listener: 4096,
            unproved_connections_per_source: 64,
            connection_setup: Duration::from_secs(10),
            stream_buffer: 256 * 1024,
        },
        rfc5766_channel_numbers: false,
        policy: Policy {
            realms: vec![Realm::of_users(
                REALM,
                vec![user("alice", "sesame"), user("bob", "tern")],
            )],
            stores: Vec::new(),
            cache: CacheTerms {
                entries: 1000,
                lifetime: Duration::from_secs(60),
                outage: Duration::from_secs(3600),
            },
            expiry: ExpiryPolicy::default(),
            oauth: None,
            peers: PeerLists {
                allow: ["127.0.0.0/8", "::1/128"]
                    .map(|net| net.parse().expect("a network"))
                    .to_vec(),
                deny: Vec::new(),
            },
            quotas: QuotaLimits::default(),
        },
    }
}

/// Lets these users in, in place of those there were.
pub(crate) fn set_users(config: &mut ServerConfig, users: Vec<(String, UserSecret)>) {
    config.policy.realms = vec![Realm::of_users(REALM, users)];
}

/// A running server.
pub(crate) struct Serving {
    pub(crate) addresses: Vec<Listen>,
    pub(crate) policy: Addr<PolicyKeeper>,
    pub(crate) listeners: Vec<Addr<ListenerActor>>,
    pub(crate) ports: Addr<PortAllocator>,
    pub(crate) connections: Addr<ConnectionBroker>,
    pub(crate) quotas: Addr<QuotaKeeper>,
    pub(crate) log: Lines,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a server.
pub(crate) fn serve(config: ServerConfig) -> Serving {
    let log = Lines::default();
    let logger = log.logger();
    let (ready, started) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        actix_rt::System::new().block_on(async move {
            let server = Server::start(config, logger).await.expect("the server starts");
            let addresses = server.addresses().to_vec();
            let actors = (
                server.listeners().to_vec(),
                server.port_allocator().clone(),
                server.connection_broker().clone(),
                server.policy_keeper().clone(),
                server.quota_keeper().clone(),
            );
            ready.send((addresses, actors)).expect("the test waits for it");
            // An error says that the test is gone, which is a reason to stop as well.
            let _ = stopped.await;
            server.stop().await;
        });
    };
    let thread = std::thread::Builder::new().name("server".to_owned()).spawn(run);
    let thread = thread.expect("a thread can be started");
    let (addresses, actors) = started.recv().expect("the server starts");
    let (listeners, ports, connections, policy, quotas) = actors;
    let (stop, thread) = (Some(stop), Some(thread));
    Serving { addresses, listeners, ports, connections, policy, quotas, log, stop, thread }
}

impl Serving {
    /// The first listening address of IPv4.
    pub(crate) fn v4(&self) -> SocketAddr {
        self.at(SocketAddr::is_ipv4)
    }

    /// The first listening address of IPv6.
    pub(crate) fn v6(&self) -> SocketAddr {
        self.at(SocketAddr::is_ipv6)
    }

    /// The first listening address for this protocol.
    pub(crate) fn of(&self, protocol: TransportProtocol) -> SocketAddr {
        let mut listening = self.addresses.iter();
        listening.find(|listen| listen.protocol == protocol).expect("it listens so").address
    }

    fn at(&self, of_family: fn(&SocketAddr) -> bool) -> SocketAddr {
        let mut addresses = self.addresses.iter().map(|listen| listen.address);
        addresses.find(of_family).expect("it listens there")
    }

    /// How many sessions and allocations there are, and what has been dropped before a session or
    /// an allocation was found for it.
    pub(crate) fn counters(&self) -> ListenerCounters {
        let mut total = ListenerCounters {
            connections: 0,
            sessions: 0,
            allocations: 0,
            batches: Default::default(),
            drops: DropCounters::new(),
        };
        for listener in &self.listeners {
            let counters = ask(listener, ReadListener);
            total.connections += counters.connections;
            total.sessions += counters.sessions;
            total.allocations += counters.allocations;
            total.batches.add(&counters.batches);
            total.drops.add(&counters.drops);
        }
        total
    }

    /// Waits until the counters are as they should be in the end: an answer is on its way before
    /// the end of the session or the allocation that gave it is known everywhere.
    pub(crate) fn wait_for(&self, holds: impl Fn(&ListenerCounters) -> bool) {
        let mut last = None;
        for _ in 0..PATIENT_LOOKS {
            let counters = self.counters();
            if holds(&counters) {
                return;
            }
            last = Some(counters);
            std::thread::yield_now();
        }
        panic!("the counters stay at {last:?}");
    }

    /// Packets that the listeners have dropped for `reason`.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.counters().drops.get(reason)
    }

    /// The actors of the client at this address.
    pub(crate) fn actors_of(&self, client: SocketAddr) -> Option<ClientActors> {
        self.listeners.iter().find_map(|listener| ask(listener, FindClient(client)))
    }

    /// What the client's allocation has carried and dropped.
    pub(crate) fn allocation_of(&self, client: SocketAddr) -> AllocationCounters {
        let actors = self.actors_of(client).expect("the client has a session");
        ask(&actors.allocation.expect("the client has an allocation"), ReadAllocation)
    }

    /// Packets that the client's allocation has dropped for `reason`.
    pub(crate) fn dropped_for(&self, client: SocketAddr, reason: DropReason) -> u64 {
        self.allocation_of(client).drops.get(reason)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The server may have ended by a panic, which is the test's failure already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a message to an actor on another thread and waits for its answer.
pub(crate) fn ask<A, M>(actor: &Addr<A>, message: M) -> M::Result
where
    A: Actor<Context = Context<A>> + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send + MessageResponse<A, M>,
{
    deliver(actor, message).expect("the actor is alive")
}

/// Sends a message that makes the actor panic, and waits until it has.
pub(crate) fn inject<A, M>(actor: &Addr<A>, message: M)
where
    A: Actor<Context = Context<A>> + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send + MessageResponse<A, M>,
{
    assert!(deliver(actor, message).is_err(), "it has panicked");
}

/// Sends a message to an actor on another thread; an error is the word of its end.
fn deliver<A, M>(actor: &Addr<A>, message: M) -> Result<M::Result, MailboxError>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send + MessageResponse<A, M>,
{
    let runtime = actix_rt::Runtime::new().expect("a runtime can be made");
    let request = actor.send(message);
    let answer = runtime.block_on(async { actix_rt::time::timeout(PATIENCE, request).await });
    answer.expect("the actor takes the message in time")
}

/// Each look takes a message there and back.
const PATIENT_LOOKS: usize = 20_000;

/// Waits until something is as it should be in the end.
pub(crate) fn wait_until(holds: impl Fn() -> bool) {
    for _ in 0..PATIENT_LOOKS {
        if holds() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("it does not come to that");
}
