//! Data needs no thread but the one that it arrives on: it goes on while all others stand still.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, Handler, Message};
use sterna_actors::ServerConfig;
use sterna_actors::connection_broker::FindConnection;
use sterna_actors::listener::{FindClient, ReadListener};
use sterna_proto::address::TransportProtocol;
use sterna_proto::stun::ConnectionId;

use crate::kit::{
    Call, Carrier, Certificate, Client, Heard, PATIENCE, Peer, Serving, TlsStream, V4, ask, at,
    config, serve, tcp, udp,
};

/// A thread of the server that stands still until this is dropped.
struct Standing {
    _until: Sender<()>,
}

/// Holds the thread that wakes it.
struct Hold {
    held: Sender<()>,
    until: Mutex<Receiver<()>>,
}

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        // The test may have failed, and be gone.
        let _ = self.held.send(());
        if let Ok(until) = self.until.lock() {
            let _ = until.recv();
        }
    }
}

impl Standing {
    /// Stops the thread of an actor, which is about to say that its answer is there.
    fn thread_of<A, M>(actor: &Addr<A>, question: fn() -> M) -> Standing
    where
        A: Actor<Context = actix::Context<A>> + Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + Unpin + 'static,
        M::Result: Send + MessageResponse<A, M>,
    {
        loop {
            let ((held, is_held), (_until, until)) = (channel(), channel());
            let waker = Waker::from(Arc::new(Hold { held, until: Mutex::new(until) }));
            let mut answer = std::pin::pin!(actor.send(question()));
            match answer.as_mut().poll(&mut Context::from_waker(&waker)) {
                // It was faster than this.
                Poll::Ready(_) => continue,
                Poll::Pending => is_held.recv_timeout(PATIENCE).expect("the actor answers"),
            }
            return Standing { _until };
        }
    }
}

/// The worker that a client has come to.
fn worker_of(server: &Serving, client: SocketAddr) -> usize {
    let knows = |listener| ask(listener, FindClient(client)).is_some();
    let listener = server.listeners.iter().position(knows).expect("the client has a session");
    listener / ADDRESSES
}

/// A call for each worker, with a peer that has no channel beside the one that has.
fn call_on_each_worker<C: Carrier>(
    server: &Serving,
    connect: impl Fn() -> Client<C>,
) -> [(Call<C>, Peer); WORKERS] {
    let mut calls = [const { None }; WORKERS];
    // The kernel draws the worker.
    for _ in 0..100 {
        let mut client = connect();
        let relayed = client.allocate();
        let worker = worker_of(server, client.address());
        let mut call = Call::with(client, relayed);
        let other = call.another_peer(relayed.ip());
        calls[worker] = Some((call, other));
        if calls.iter().all(Option::is_some) {
            break;
        }
    }
    calls.map(|call| call.expect("clients come to every worker"))
}

/// Data both ways, over a channel and in indications.
fn goes_on<C: Carrier>((call, other): &(Call<C>, Peer)) {
    for _ in 0..50 {
        call.goes_on();
        call.client.indicate(other.address(), b"sent");
        assert_eq!((b"sent".to_vec(), call.relayed), other.hear());
        other.tell(call.relayed, b"told");
        assert_eq!(Heard::Data(other.address(), b"told".to_vec()), call.client.hear());
    }
}

#[test]
fn data_goes_on_while_all_other_threads_stand_still() {
    let listen = vec![udp(at(V4, 0)), tcp(at(V4, 0))];
    let tls = Certificate::new("turn.north.example").served();
    let server = serve(ServerConfig { workers: WORKERS, listen, tls, ..config() });
    assert_eq!(WORKERS * ADDRESSES, server.listeners.len());
    let datagrams = || Client::new(server.of(TransportProtocol::Udp));
    let stream = || Client::over(TlsStream::tls_to(server.of(TransportProtocol::Tcp)));
    let (datagrams, streams) =
        (call_on_each_worker(&server, datagrams), call_on_each_worker(&server, stream));
    for (worker, (datagrams, stream)) in datagrams.iter().zip(&streams).enumerate() {
        // The keepers of names and the policy live on one thread; those of ports and quotas with
        // the first worker, so that they stand still while the second one's data passes.
        let other = (worker + 1) % WORKERS;
        let _keepers = Standing::thread_of(&server.connections, || FindConnection(ConnectionId(0)));
        let _other = Standing::thread_of(&server.listeners[other * ADDRESSES], || ReadListener);

        goes_on(datagrams);
        goes_on(stream);
    }
}

const WORKERS: usize = 2;

/// Where each worker has a listener.
const ADDRESSES: usize = 2;
