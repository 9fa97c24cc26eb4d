//! SessionActor and TCP peers: a Connect that waits for its peer.

use sterna_proto::address::PeerAddr;
use sterna_proto::allocation::{ConnectError, Refreshed};
use sterna_proto::stun::ConnectionId;

use super::stage::stage;
use crate::kit::{Peer, secs, settle};

#[test]
fn requests_behind_a_connect_do_not_wait_for_it() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        let peer = Peer(([203, 0, 113, 1], 7000).into(), stage.network.clone());
        let connect = stage.client.connect_request(&peer);
        stage.gets(&connect);
        let asked = allocation.connect.hears().await;
        assert_eq!(PeerAddr(peer.0), asked.message.peer);

        stage.gets(&stage.client.refresh_request(600));
        let refresh = allocation.refresh.hears().await;
        refresh.answers(Ok(Refreshed::Until(secs(600)))).await;
        assert_eq!(600, stage.hears_answer().granted().lifetime());
        asked.answers(Ok(ConnectionId(7))).await;

        let answer = stage.hears_answer().granted();
        assert_eq!(connect[8..20], answer.0[8..20]);
        assert_eq!(Some(ConnectionId(7)), answer.read());
    });
}

#[test]
fn each_reason_against_a_connect_has_its_code() {
    for (error, code) in [
        (ConnectError::NoAllocation, 437),
        (ConnectError::NotTcp, 403),
        (ConnectError::Exists, 446),
        (ConnectError::PeerFamily, 443),
        (ConnectError::Full, 508),
        (ConnectError::Failed, 447),
        (ConnectError::Fault, 500),
    ] {
        stage(async move |stage| {
            let (mut allocation, _lease_ended) = stage.allocates().await;
            let peer = Peer(([203, 0, 113, 1], 7000).into(), stage.network.clone());
            stage.gets(&stage.client.connect_request(&peer));
            allocation.connect.hears().await.answers(Err(error)).await;
            let _ = stage.hears_answer().refused(code);
        });
    }
}

#[test]
fn an_allocation_that_dies_in_a_connect_is_a_mismatch() {
    stage(async |stage| {
        let (mut allocation, _lease_ended) = stage.allocates().await;
        let peer = Peer(([203, 0, 113, 1], 7000).into(), stage.network.clone());
        stage.gets(&stage.client.connect_request(&peer));
        drop(allocation.connect.hears().await);
        settle().await;
        let _ = stage.hears_answer().refused(437);
    });
}
