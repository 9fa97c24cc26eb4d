//! Numbers on what clients can fill, and that nothing is kept of who has proved nothing.

use sterna_proto::drops::DropReason;
use sterna_proto::stun::{AttributeType, Method};

use crate::kit::{Call, Client, Raw, UDP, User, config, raws, request, serve};

#[test]
fn sessions_have_a_number_and_those_there_are_go_on() {
    let mut config = config();
    config.limits.sessions_per_listener = 2;
    let server = serve(config);
    let mut call = Call::through(server.v4());
    let mut second = Client::new(server.v4());
    second.allocate();
    let mut third = Client::new(server.v4());
    third.knock();

    let signed = third.signed(Method::ALLOCATE, raws(&[UDP]));
    third.send(&signed);

    // Unanswered; what needs no session is answered still.
    assert_eq!(0, third.exchange(&request(Method::BINDING, |_| {})).code());
    assert_eq!(401, third.exchange(&request(Method::ALLOCATE, |_| {})).code());
    assert_eq!(1, server.dropped(DropReason::SessionsFull));
    call.goes_on();
    call.client.get(Method::REFRESH, |_| {});
    second.get(Method::REFRESH, |_| {});
    // The other listener has sessions of its own to give.
    Client::new(server.v6()).allocate();
}

#[test]
fn a_wrong_password_takes_no_session_from_others() {
    let mut config = config();
    config.limits.sessions_per_listener = 1;
    let server = serve(config);
    for _ in 0..20 {
        let mut mallory = Client::new(server.v4()).is(User::named("alice", "guess"));
        assert_eq!(401, mallory.ask(Method::ALLOCATE, raws(&[UDP])).code());
        server.wait_for(|counters| counters.sessions == 0);
    }
    Client::new(server.v4()).allocate();
}

#[test]
fn who_mistypes_the_password_can_try_again_at_once() {
    let server = serve(config());
    for _ in 0..20 {
        let mut client = Client::new(server.v4()).is(User::named("alice", "sesami"));
        assert_eq!(401, client.ask(Method::ALLOCATE, raws(&[UDP])).code());
        client.user = User::alice();
        client.allocate();
    }
}

#[test]
fn nothing_is_remembered_of_a_source_that_has_proved_nothing() {
    let server = serve(config());
    let unknown: Raw = (AttributeType::new(0x7777), b"?");
    for _ in 0..50 {
        let client = Client::new(server.v4());
        for method in [Method::BINDING, Method::ALLOCATE, Method::REFRESH] {
            client.exchange(&request(method, |_| {}));
            client.exchange(&request(method, raws(&[unknown])));
        }
        client.say(0x4000, b"data");
        client.indicate(client.address(), b"data");
        client.exchange(&request(Method::BINDING, |_| {}));
    }
    let counters = server.counters();
    assert_eq!((0, 0), (counters.sessions, counters.allocations));
    assert_eq!(100, counters.drops.get(DropReason::NoSession));
}

#[test]
fn allocations_come_and_go_without_a_trace() {
    let server = serve(config());
    let end: Raw = (AttributeType::LIFETIME, &[0; 4]);
    let mut client = Client::new(server.v4());
    for _ in 0..100 {
        client.allocate();
        client.get(Method::REFRESH, raws(&[end]));
    }
    server.wait_for(|counters| counters.allocations == 0);
    assert_eq!(1, server.counters().sessions, "one client is one session");
    let relayed = client.allocate();
    Call::with(client, relayed).goes_on();
}
