//! Panics in the middle of a message: the connection is nobody's but its listener's.

use std::io::{Read, Write};
use std::net::SocketAddr;

use sterna_actors::{listener, session};
use sterna_proto::stun::Method;

use crate::kit::{Call, Client, Heard, Stream, TlsStream, channel_data, inject, serve};
use crate::streams::{certificate, stream_config};

fn half_a_message_outlives<S: Read + Write>(connect: fn(SocketAddr) -> Stream<S>) {
    let server = serve(stream_config(&certificate()));
    let mut client = Client::over(connect(server.v4()));
    let relayed = client.allocate();
    let mut call = Call::with(client, relayed);
    let address = call.client.address();
    let refresh = call.client.signed(Method::REFRESH, |_| {});
    // Two of the restarts that a session has within ten seconds.
    for split in [1, refresh.len() - 1] {
        let (begun, rest) = refresh.split_at(split);
        call.client.socket.write(begun);
        // An answer to somebody else shows that the server has had its turn.
        Client::over(connect(server.v4())).knock();
        let old = server.actors_of(address).expect("the client has a session").session;
        inject(&old, session::Panic);
        server.wait_for(|_| server.actors_of(address).is_some_and(|a| a.session != old));
        call.client.socket.write(rest);
        assert_eq!(600, call.client.answer_to(&refresh).lifetime());
        call.goes_on();
    }
    let word = channel_data(Call::CHANNEL, b"in halves");
    call.client.socket.write(&word[..7]);
    inject(&server.listeners[0], listener::Panic);
    call.client.socket.write(&[&word[7..], &[0; 3]].concat());
    assert_eq!((b"in halves".to_vec(), relayed), call.peer.hear());
    call.peer.tell(relayed, b"back");
    assert_eq!(Heard::Channel(Call::CHANNEL, b"back".to_vec()), call.client.hear());
}

#[test]
fn half_a_message_outlives_session_and_listener_over_tcp() {
    half_a_message_outlives(Stream::to);
}

#[test]
fn half_a_message_outlives_session_and_listener_over_tls() {
    half_a_message_outlives(TlsStream::tls_to);
}
