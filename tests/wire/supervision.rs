//! Panics in the middle of calls, over real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use sterna_actors::{allocation, listener, port_allocator, session, supervision};
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AttributeType, Method, XorPeerAddress};

use crate::kit::{
    Call, Client, Heard, Peer, Raw, Serving, UDP, User, V4, config, inject, leave_ports, raws,
    serve,
};

/// Makes the session of the client panic, and waits until the next one is in its place.
fn panic_session(server: &Serving, client: SocketAddr) {
    let old = server.actors_of(client).expect("the client has a session").session;
    inject(&old, session::Panic);
    let replaced = |_: &_| server.actors_of(client).is_some_and(|actors| actors.session != old);
    server.wait_for(replaced);
}

fn panic_allocation(server: &Serving, client: SocketAddr) {
    let actors = server.actors_of(client).expect("the client has a session");
    inject(&actors.allocation.expect("the client has an allocation"), allocation::Panic);
}

/// Packets on their way at once, each way.
const IN_FLIGHT: u32 = 16;

/// Talks both ways until told to stop; every packet has to arrive, in order.
fn talk(call: &Call, stop: &AtomicBool, rounds: &AtomicU64) -> u32 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let burst = number..number + IN_FLIGHT;
        for number in burst.clone() {
            call.client.say(Call::CHANNEL, &number.to_be_bytes());
            call.peer.tell(call.relayed, &number.to_be_bytes());
        }
        for number in burst {
            let word = number.to_be_bytes().to_vec();
            assert_eq!((word.clone(), call.relayed), call.peer.hear());
            assert_eq!(Heard::Channel(Call::CHANNEL, word), call.client.hear());
        }
        number += IN_FLIGHT;
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    number
}

#[test]
fn not_one_packet_is_lost_while_everything_around_the_allocation_panics() {
    let server = serve(config());
    let mut calls = [Call::through(server.v4()), Call::through(server.v4())];
    let (stop, rounds) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let flowing = |more: u64| {
        for rounds in &rounds {
            let until = rounds.load(Ordering::Relaxed) + more;
            while rounds.load(Ordering::Relaxed) < until {
                assert!(!stop.load(Ordering::Relaxed), "a flow has ended");
                thread::yield_now();
            }
        }
    };
    let address = calls[0].client.address();
    let listener = &server.listeners[0];
    thread::scope(|scope| {
        let flows: Vec<_> = calls
            .iter()
            .zip(&rounds)
            .map(|(call, rounds)| {
                scope.spawn(|| {
                    // A flow that fails ends the test and does not leave it waiting.
                    let stopper = StopAtEnd(&stop);
                    let sent = talk(call, &stop, rounds);
                    drop(stopper);
                    sent
                })
            })
            .collect();
        for _ in 0..3 {
            flowing(20);
            panic_session(&server, address);
            flowing(20);
            inject(listener, listener::Panic);
            flowing(20);
            inject(&server.ports, port_allocator::Panic);
        }
        flowing(20);
        stop.store(true, Ordering::Relaxed);
        for flow in flows {
            assert!(flow.join().expect("no packet is lost") >= 200 * IN_FLIGHT);
        }
    });
    for call in &mut calls {
        assert_eq!(600, call.client.get(Method::REFRESH, |_| {}).lifetime());
        assert_eq!(0, call.client.bind(Call::CHANNEL, call.peer.address()));
        call.goes_on();
        let drops = server.allocation_of(call.client.address()).drops;
        assert!(drops.is_empty(), "{drops}");
    }
    let counters = server.counters();
    assert_eq!((2, 2), (counters.sessions, counters.allocations));
    assert!(counters.drops.is_empty(), "{}", counters.drops);
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_session_that_failed_knows_its_client_and_its_answers_again() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let allocate = client.signed(Method::ALLOCATE, raws(&[UDP]));
    let allocated = client.exchange(&allocate);
    let relayed = allocated.relayed()[0];
    let mut call = Call::with(client, relayed);

    panic_session(&server, call.client.address());

    assert_eq!(allocated, call.client.exchange(&allocate), "the same answer as before");
    call.goes_on();
    assert_eq!(0, call.client.get(Method::REFRESH, |_| {}).code());
    assert_eq!(437, call.client.ask(Method::ALLOCATE, raws(&[UDP])).code());
    assert_eq!(400, call.client.bind(0x4000, call.peer.address()), "its channel is known");
    call.client.user = User::bob();
    assert_eq!(441, call.client.ask(Method::REFRESH, |_| {}).code());
    call.client.user = User::alice();
    let other = call.another_peer(call.relayed.ip());
    call.client.indicate(other.address(), b"hello");
    assert_eq!((b"hello".to_vec(), relayed), other.hear());
    let end: Raw = (AttributeType::LIFETIME, &[0; 4]);
    assert_eq!(0, call.client.get(Method::REFRESH, raws(&[end])).lifetime());
    server.wait_for(|counters| counters.allocations == 0);
    assert!(server.log.have("session panicked and is restarted"));
}

#[test]
fn a_session_without_an_allocation_is_replaced_as_well() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    assert_eq!(437, client.ask(Method::REFRESH, |_| {}).code());
    panic_session(&server, client.address());
    assert_eq!(437, client.ask(Method::REFRESH, |_| {}).code());
    client.allocate();
}

#[test]
fn a_session_that_keeps_failing_ends_with_its_allocation_and_no_other() {
    let server = serve(config());
    let call = Call::through(server.v4());
    let mut failing = Call::through(server.v4());
    let address = failing.client.address();
    for _ in 0..supervision::SESSION.budget.restarts {
        panic_session(&server, address);
        failing.goes_on();
    }
    let last = server.actors_of(address).expect("the client has a session").session;

    inject(&last, session::Panic);

    server.wait_for(|counters| counters.sessions == 1 && counters.allocations == 1);
    call.goes_on();
    assert!(server.log.have("restarts did not help: session and allocation end"));
    failing.client.say(Call::CHANNEL, b"nobody listens");
    assert_eq!(437, failing.client.ask(Method::REFRESH, |_| {}).code());
    server.wait_for(|counters| counters.drops.get(DropReason::NoSession) == 1);
    let relayed = failing.client.allocate();
    Call::with(failing.client, relayed).goes_on();
}

#[test]
fn an_allocation_that_panics_is_gone_alone_and_its_port_is_free() {
    let mut config = config();
    leave_ports(&mut config, 2);
    let server = serve(config);
    let call = Call::through(server.v4());
    let mut failing = Call::through(server.v4());
    let mut waiting = Client::new(server.v4());
    assert_eq!(508, waiting.ask(Method::ALLOCATE, raws(&[UDP])).code());
    let address = failing.client.address();

    panic_allocation(&server, address);

    server.wait_for(|counters| counters.allocations == 1);
    assert_eq!(437, failing.client.ask(Method::REFRESH, |_| {}).code());
    assert_eq!(437, failing.client.permit(&[failing.peer.address()]));
    assert_eq!(437, failing.client.bind(Call::CHANNEL, failing.peer.address()));
    failing.client.say(Call::CHANNEL, b"nobody listens");
    failing.peer.tell(failing.relayed, b"nobody listens");
    failing.client.hears_nothing();
    call.goes_on();
    // Its lease and its socket have gone back: the next client gets the very port.
    assert_eq!(failing.relayed, waiting.allocate());
    assert!(server.log.have("allocation panicked and is gone"));
    let end: Raw = (AttributeType::LIFETIME, &[0; 4]);
    waiting.get(Method::REFRESH, raws(&[end]));
    server.wait_for(|counters| counters.allocations == 1);
    // The client that it happened to allocates again, on the same 5-tuple.
    let relayed = failing.client.allocate();
    Call::with(failing.client, relayed).goes_on();
}

#[test]
fn a_listener_is_healed_with_its_clients_and_goes_on_to_serve() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let mut half_way = Client::new(server.v4());
    half_way.knock();
    for _ in 0..supervision::LISTENER.budget.restarts {
        inject(&server.listeners[0], listener::Panic);
        call.goes_on();
        call.client.get(Method::REFRESH, |_| {});
    }
    // The nonce of before is good, sessions are where they were, new clients come in.
    half_way.allocate();
    Call::through(server.v4()).goes_on();
    assert_eq!(3, server.counters().sessions);
    assert!(server.log.have("actor panicked and is healed in place"));
}

#[test]
fn a_port_allocator_that_was_healed_gives_no_port_twice() {
    let mut config = config();
    leave_ports(&mut config, 4);
    let server = serve(config);
    let call = Call::through(server.v4());
    let mut owner = Client::new(server.v4());
    let pair: Raw = (AttributeType::EVEN_PORT, &[0x80]);
    let reserving = owner.ask(Method::ALLOCATE, raws(&[UDP, pair]));
    let token = (reserving.code() == 0).then(|| reserving.token());

    inject(&server.ports, port_allocator::Panic);

    // What is leased is still bound: the kernel knows, although the pools were filled anew.
    let mut ports = vec![call.relayed];
    ports.extend(token.map(|_| reserving.relayed()[0]));
    let mut late: Vec<Client> = Vec::new();
    loop {
        let mut client = Client::new(server.v4());
        let answer = client.ask(Method::ALLOCATE, raws(&[UDP]));
        if answer.code() != 0 {
            assert_eq!(508, answer.code());
            break;
        }
        ports.extend(answer.relayed());
        late.push(client);
    }
    ports.sort();
    ports.dedup();
    assert_eq!(4, ports.len(), "each port once");
    if let Some(token) = token {
        let mut client = Client::new(server.v4());
        let claim = client.ask(Method::ALLOCATE, |writer| {
            raws(&[UDP])(writer);
            writer.attribute(&token);
        });
        assert_eq!(508, claim.code(), "reservations of before are void");
    }
    call.goes_on();
}

#[test]
fn permissions_and_channels_outlive_their_session() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let relayed = client.allocate();
    let (bound, permitted) = (Peer::new(V4), Peer::new(crate::kit::ip("127.0.0.2")));
    assert_eq!(0, client.bind(0x4000, bound.address()));
    let fill = |writer: &mut sterna_proto::stun::MessageWriter<'_>| {
        writer.attribute(&XorPeerAddress(permitted.address()));
    };
    assert_eq!(0, client.ask(Method::CREATE_PERMISSION, fill).code());
    for _ in 0..supervision::SESSION.budget.restarts {
        panic_session(&server, client.address());
        client.say(0x4000, b"bound");
        assert_eq!((b"bound".to_vec(), relayed), bound.hear());
        client.indicate(permitted.address(), b"permitted");
        assert_eq!((b"permitted".to_vec(), relayed), permitted.hear());
        permitted.tell(relayed, b"back");
        assert_eq!(Heard::Data(permitted.address(), b"back".to_vec()), client.hear());
    }
}
