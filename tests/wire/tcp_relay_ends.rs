//! What ends relayed TCP connections, and what does not.

use std::io::Write;
use std::net::TcpStream;

use sterna_actors::{allocation, connection_broker, session};
use sterna_proto::stun::{Lifetime, Method};

use crate::kit::{
    DataConnection, Serving, TcpCall, TcpPeer, V4, inject, is_closed, serve, tcp_config,
};

/// A call with a connection that is bound and another one that waits to be.
struct Busy {
    call: TcpCall,
    data: DataConnection,
    at_peer: TcpStream,
    waiting: TcpStream,
}

impl Busy {
    fn through(server: &Serving) -> Busy {
        let mut call = TcpCall::through(server.v4());
        let (one, other) = (TcpPeer::new(V4), TcpPeer::new(V4));
        let id = call.connects(one.address());
        let mut data = call.binds(id);
        let (mut at_peer, _) = one.accepts();
        data.goes_on(&mut at_peer);
        call.connects(other.address());
        let (waiting, _) = other.accepts();
        Busy { call, data, at_peer, waiting }
    }

    /// All connections are closed, and the port may be had again.
    fn ends(mut self, server: &Serving) {
        assert!(self.data.is_closed());
        assert!(is_closed(&mut self.at_peer));
        assert!(is_closed(&mut self.waiting));
        server.wait_for(|counters| counters.allocations == 0);
    }
}

//= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
//= type=test
//# If the allocation associated with a data connection expires, the data
//# connection MUST be closed.
#[test]
fn the_end_of_the_allocation_closes_its_connections() {
    let server = serve(tcp_config());
    let mut busy = Busy::through(&server);

    let zero = Lifetime(std::time::Duration::ZERO);
    busy.call.control.get(Method::REFRESH, |writer| _ = writer.attribute(&zero));

    busy.ends(&server);
    let usage = server.log.all();
    assert!(usage.iter().any(|line| line.contains("rp=1, rb=8, sp=1, sb=9")), "{usage:?}");
}

#[test]
fn the_end_of_the_control_connection_closes_the_others() {
    let server = serve(tcp_config());
    let Busy { call, mut data, mut at_peer, mut waiting } = Busy::through(&server);

    drop(call);

    assert!(data.is_closed() && is_closed(&mut at_peer) && is_closed(&mut waiting));
    server.wait_for(|counters| counters.allocations == 0 && counters.sessions == 0);
}

#[test]
fn a_panic_in_the_allocation_closes_its_connections() {
    let server = serve(tcp_config());
    let busy = Busy::through(&server);
    let other = Busy::through(&server);
    let actors = server.actors_of(busy.call.control.address()).expect("it has a session");

    inject(&actors.allocation.expect("it has one"), allocation::Panic);

    let Busy { mut data, mut at_peer, mut waiting, .. } = busy;
    assert!(data.is_closed() && is_closed(&mut at_peer) && is_closed(&mut waiting));
    let Busy { mut data, mut at_peer, .. } = other;
    data.goes_on(&mut at_peer);
}

#[test]
fn a_restarted_session_and_a_healed_broker_keep_the_connections() {
    let server = serve(tcp_config());
    let mut call = TcpCall::through(server.v4());
    let peer = TcpPeer::new(V4);
    let id = call.connects(peer.address());
    let (mut at_peer, _) = peer.accepts();
    let actors = server.actors_of(call.control.address()).expect("it has a session");

    inject(&actors.session, session::Panic);
    inject(&server.connections, connection_broker::Panic);

    at_peer.write_all(b"still here").expect("the kernel takes it");
    let mut data = call.binds(id);
    assert_eq!(*b"still here", crate::kit::read_some(&mut data));
    data.goes_on(&mut at_peer);
    let another = TcpPeer::new(V4);
    let id = call.connects(another.address());
    let mut data = call.binds(id);
    data.goes_on(&mut another.accepts().0);
}

//= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
//= type=test
//# When a client data connection is closed, the server MUST close the
//# corresponding peer data connection.
//= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
//= type=test
//# When a peer data connection is closed, the server MUST close the
//# corresponding client data connection.
#[test]
fn the_end_of_one_side_is_the_end_of_the_other() {
    let server = serve(tcp_config());
    for client_first in [true, false] {
        let Busy { call, mut data, mut at_peer, .. } = Busy::through(&server);
        if client_first {
            drop(data);
            assert!(is_closed(&mut at_peer));
        } else {
            drop(at_peer);
            assert!(data.is_closed());
        }
        drop(call);
    }
}
