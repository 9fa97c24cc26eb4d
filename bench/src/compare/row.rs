//! The rows of the tables: kinds of load.

use super::ComparePlan;
use crate::load::Direction;
use crate::target::{Kind, Transport};

/// One kind of load.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) direction: Direction,
    pub(crate) payload: usize,
    pub(crate) burst: usize,
    pub(crate) rate: u32,
}

impl Row {
    /// Whether a relay can be loaded this way.
    pub(crate) fn suits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Turn => true,
            Kind::Floor => self.transport == Transport::Udp,
        }
    }
}

/// The rows of a plan, by transport.
pub(crate) fn rows(plan: &ComparePlan) -> Vec<Row> {
    plan.transports.iter().flat_map(|transport| rows_over(*transport, plan)).collect()
}

fn rows_over(transport: Transport, plan: &ComparePlan) -> Vec<Row> {
    match transport {
        Transport::Udp => datagram_rows(plan.payload),
        Transport::Tcp | Transport::Tls => {
            let payloads = plan.stream_payloads.iter();
            payloads.flat_map(|payload| stream_rows(transport, *payload)).collect()
        }
    }
}

/// The last shows what wake-ups cost where there is nothing to batch.
fn datagram_rows(payload: usize) -> Vec<Row> {
    let row = |name: &str, direction, burst, rate| Row {
        name: name.to_owned(),
        transport: Transport::Udp,
        direction,
        payload,
        burst,
        rate,
    };
    vec![
        row("client → peer", Direction::ClientToPeer, 1, 0),
        row("peer → client", Direction::PeerToClient, 1, 0),
        row("client → peer, bursts of 8", Direction::ClientToPeer, STREAM_BURST, 0),
        row("peer → client, bursts of 8", Direction::PeerToClient, STREAM_BURST, 0),
        row("client ↔ client", Direction::ClientToClient, 1, 0),
        row("client → peer, 20,000/s", Direction::ClientToPeer, 1, 20_000),
    ]
}

fn stream_rows(transport: Transport, payload: usize) -> [Row; 2] {
    let over = transport.name().to_uppercase();
    let row = |way: &str, direction| Row {
        name: format!("{over}: {way}, {payload} B"),
        transport,
        direction,
        payload,
        burst: STREAM_BURST,
        rate: 0,
    };
    [row("client → peer", Direction::ClientToPeer), row("peer → client", Direction::PeerToClient)]
}

/// Frames in a write of a client, and datagrams in a row of a peer.
const STREAM_BURST: usize = 8;
