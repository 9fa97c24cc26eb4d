//! The rows of the tables: what is measured.

use super::ComparePlan;
use super::contender::{Contender, Program};
use crate::flood::FloodKind;
use crate::load::Direction;
use crate::target::{Kind, Transport};

/// One kind of measurement.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) key: String,
    /// What it is called in tables.
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) what: What,
}

/// What a row does.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Load(LoadRow),
    /// So many allocations made and released, in every round, by so many clients at a time.
    Control {
        allocations: usize,
        clients: usize,
    },
    /// So many allocations in a server of their own, once.
    Memory(usize),
    /// So many TLS handshakes.
    Handshakes(usize),
}

/// Packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadRow {
    pub(crate) direction: Direction,
    pub(crate) payload: usize,
    pub(crate) burst: usize,
    pub(crate) gso: bool,
    pub(crate) rate: Rate,
    pub(crate) flood: Option<(FloodKind, u64)>,
    /// Whether it is about latency, and older releases need not take part.
    pub(crate) timed: bool,
    /// Threads that serve, in rows that are about them; else one.
    pub(crate) workers: Option<usize>,
}

/// How many packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rate {
    /// As many as the relay can.
    Saturation,
    /// So many per second.
    Fixed(u32),
    /// So many percent of what saturates the reference.
    Percent(u32),
}

impl Row {
    /// Whether a relay can be measured this way.
    pub(crate) fn suits(&self, contender: &Contender, is_reference: bool) -> bool {
        let (program, kind) = (contender.program, contender.program.kind());
        let speaks = match program {
            Program::Floor | Program::TurnServer => self.transport == Transport::Udp,
            Program::Sterna | Program::Coturn => true,
        };
        speaks
            && match &self.what {
                What::Load(load) => load.suits(program, is_reference),
                What::Control { .. } | What::Memory(_) => true,
                What::Handshakes(_) => kind == Kind::Turn,
            }
    }

    pub(crate) fn workers(&self) -> usize {
        match &self.what {
            What::Load(load) => load.workers.unwrap_or(1),
            What::Control { .. } | What::Memory(_) | What::Handshakes(_) => 1,
        }
    }

    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.what, What::Memory(_))
    }

    pub(crate) fn percent(&self) -> Option<u32> {
        match &self.what {
            What::Load(LoadRow { rate: Rate::Percent(percent), .. }) => Some(*percent),
            _ => None,
        }
    }

    fn is_chosen(&self, choice: &str, exact: bool) -> bool {
        self.key == choice || (!exact && (self.key.contains(choice) || self.name.contains(choice)))
    }
}

impl LoadRow {
    /// Packets of this size one by one to peers, as many as the relay can.
    fn plain(payload: usize) -> LoadRow {
        LoadRow {
            direction: Direction::ClientToPeer,
            payload,
            burst: 1,
            gso: false,
            rate: Rate::Saturation,
            flood: None,
            timed: false,
            workers: None,
        }
    }

    fn suits(&self, program: Program, is_reference: bool) -> bool {
        match program {
            Program::Sterna => true,
            _ if self.workers.is_some() => false,
            // It gives no nonce that a login could fail with.
            Program::Floor => !matches!(self.flood, Some((FloodKind::FailedLogin, _))),
            Program::Coturn => is_reference || !self.timed,
            Program::TurnServer => self.direction == Direction::ClientToClient,
        }
    }
}

/// The rows of a plan, by transport, that were chosen.
pub(crate) fn rows(plan: &ComparePlan) -> Vec<Row> {
    let mut rows: Vec<Row> =
        plan.transports.iter().flat_map(|transport| rows_over(*transport, plan)).collect();
    choose(&mut rows, &plan.rows);
    rows
}

/// A choice that is a row's key is that row; else it is every row that has it in its name.
fn choose(rows: &mut Vec<Row>, choices: &[String]) {
    if choices.is_empty() {
        return;
    }
    let exact: Vec<bool> =
        choices.iter().map(|choice| rows.iter().any(|row| row.key == *choice)).collect();
    rows.retain(|row| {
        choices.iter().zip(&exact).any(|(choice, exact)| row.is_chosen(choice, *exact))
    });
}

fn rows_over(transport: Transport, plan: &ComparePlan) -> Vec<Row> {
    let over = transport.name();
    let allocations = |key: &str, name: &str, what| Row {
        key: format!("{key}{}", suffix(transport)),
        name: format!("{name} over {}", over.to_uppercase()),
        transport,
        what,
    };
    let mut rows = match transport {
        Transport::Udp => datagram_rows(plan),
        Transport::Tcp | Transport::Tls => {
            let payloads = plan.stream_payloads.iter();
            payloads.flat_map(|payload| stream_rows(transport, *payload)).collect()
        }
    };
    if let (Transport::Udp, Some(count)) = (transport, plan.control) {
        let one_after_the_other = What::Control { allocations: count, clients: 1 };
        let at_once = What::Control { allocations: count, clients: CLIENTS_AT_ONCE };
        let several = format!("allocations, {CLIENTS_AT_ONCE} clients");
        rows.push(allocations("control", &several, at_once));
        rows.push(allocations("control-one", "allocations, 1 client", one_after_the_other));
    }
    if let (Transport::Tls, Some(count)) = (transport, plan.handshakes) {
        let name = "handshakes".to_owned();
        rows.push(Row { key: name.clone(), name, transport, what: What::Handshakes(count) });
    }
    let memory = match transport {
        Transport::Udp => plan.idle,
        Transport::Tcp | Transport::Tls => plan.idle_streams,
    };
    if let Some(count) = memory {
        rows.push(allocations("memory", "idle allocations", What::Memory(count)));
    }
    rows
}

fn suffix(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => "-tcp",
        Transport::Tls => "-tls",
    }
}

fn datagram_rows(plan: &ComparePlan) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |key: String, name: String, load: LoadRow| {
        rows.push(Row { key, name, transport: Transport::Udp, what: What::Load(load) });
    };
    let plain = LoadRow::plain(plan.payload);
    let ways = [Direction::ClientToPeer, Direction::PeerToClient, Direction::ClientToClient];
    for direction in ways {
        let load = LoadRow { direction, ..plain };
        let (key, name) = (direction.name(), arrow(direction));
        row(key.to_owned(), name.to_owned(), load);
        let burst = LoadRow { burst: BURST, ..load };
        row(format!("{key}-burst"), format!("{name}, bursts of {BURST}"), burst);
        if direction != Direction::ClientToClient {
            let name = format!("{name}, bursts of {BURST} in one piece");
            row(format!("{key}-gso"), name, LoadRow { gso: true, ..burst });
        }
    }
    for direction in [Direction::ClientToPeer, Direction::PeerToClient] {
        let load = LoadRow { direction, rate: Rate::Fixed(ORDINARY), ..plain };
        let name = format!("{}, 20,000/s", arrow(direction));
        row(format!("{}-20k", direction.name()), name, load);
    }
    for direction in ways {
        for percent in SHARES {
            let load = LoadRow { direction, rate: Rate::Percent(percent), timed: true, ..plain };
            let name = format!("{}, {percent} %", arrow(direction));
            row(format!("latency-{}-{percent}", direction.name()), name, load);
        }
    }
    for kind in [None, Some("binding"), Some("unauthenticated"), Some("failed-login")] {
        let (flood, name) = flood_of(kind, plan.flood_rate);
        let load = LoadRow { rate: Rate::Fixed(BESIDE), timed: true, flood, ..plain };
        row(format!("flood-{}", kind.unwrap_or("none")), name, load);
    }
    for (rate, shown) in [(ORDINARY, "20"), (BUSY, "100")] {
        for (workers, threads) in [(1, "1 worker"), (2, "2 workers")] {
            let load = LoadRow { rate: Rate::Fixed(rate), workers: Some(workers), ..plain };
            let name = format!("client → peer, {shown},000/s, {threads}");
            row(format!("workers-{workers}-{shown}k"), name, load);
        }
    }
    rows
}

fn flood_of(kind: Option<&str>, rate: u64) -> (Option<(FloodKind, u64)>, String) {
    let (kind, name) = match kind {
        Some("binding") => (FloodKind::Binding, "Binding requests"),
        Some("unauthenticated") => (FloodKind::Unauthenticated, "requests without credentials"),
        Some(_) => (FloodKind::FailedLogin, "failed logins"),
        None => return (None, "5,000/s, no flood".to_owned()),
    };
    (Some((kind, rate)), format!("5,000/s beside {name}"))
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::ClientToPeer => "client → peer",
        Direction::PeerToClient => "peer → client",
        Direction::Both => "client → peer and back",
        Direction::ClientToClient => "client ↔ client",
    }
}

fn stream_rows(transport: Transport, payload: usize) -> Vec<Row> {
    let over = transport.name();
    let row = |direction: Direction| Row {
        key: format!("{over}-{}-{payload}", direction.name()),
        name: format!("{}: {}, {payload} B", over.to_uppercase(), arrow(direction)),
        transport,
        what: What::Load(LoadRow {
            direction,
            payload,
            burst: BURST,
            gso: false,
            rate: Rate::Saturation,
            flood: None,
            timed: false,
            workers: None,
        }),
    };
    vec![row(Direction::ClientToPeer), row(Direction::PeerToClient)]
}

/// Packets that a flow sends in a row: frames in a write of a client, datagrams of a peer.
const BURST: usize = 8;

/// Packets per second of some hundred calls: there is nothing to batch, and wake-ups cost most.
const ORDINARY: u32 = 20_000;

/// A rate at which one worker is about half busy.
const BUSY: u32 = 100_000;

/// Packets per second beside a flood: those of 100 calls.
const BESIDE: u32 = 5000;

/// Clients that make allocations at the same time, as behind a server that is in use.
const CLIENTS_AT_ONCE: usize = 16;

/// Percent of saturation at which latency is looked at.
const SHARES: [u32; 3] = [10, 50, 90];

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> Row {
        let what = What::Memory(1);
        let transport = Transport::Udp;
        Row { key: key.to_owned(), name: format!("name of {key}"), transport, what }
    }

    fn chosen(choices: &[&str]) -> Vec<String> {
        let mut rows = ["client-to-peer", "client-to-peer-gso", "memory"].map(row).to_vec();
        let choices: Vec<String> = choices.iter().map(|choice| (*choice).to_owned()).collect();
        choose(&mut rows, &choices);
        rows.into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn without_a_choice_every_row_is_measured() {
        assert_eq!(3, chosen(&[]).len());
    }

    #[test]
    fn a_whole_key_is_one_row_and_a_part_of_it_is_all_that_have_it() {
        assert_eq!(["client-to-peer"], *chosen(&["client-to-peer"]));
        assert_eq!(["client-to-peer", "client-to-peer-gso"], *chosen(&["client"]));
        assert_eq!(["client-to-peer-gso", "memory"], *chosen(&["gso", "memory"]));
        assert_eq!(["memory"], *chosen(&["name of mem"]));
        assert!(chosen(&["nothing"]).is_empty());
    }

    #[test]
    fn who_cannot_do_a_row_is_left_out_of_it() {
        let load = LoadRow::plain(160);
        assert!(load.suits(Program::Floor, false));
        assert!(!load.suits(Program::TurnServer, false));
        assert!(load.suits(Program::Coturn, false));
        let timed = LoadRow { timed: true, ..load };
        assert!(!timed.suits(Program::Coturn, false));
        assert!(timed.suits(Program::Coturn, true));
        let workers = LoadRow { workers: Some(1), ..load };
        assert!(workers.suits(Program::Sterna, false));
        assert!(!workers.suits(Program::Coturn, true));
        let logins = LoadRow { flood: Some((FloodKind::FailedLogin, 1)), ..load };
        assert!(!logins.suits(Program::Floor, false));
    }
}
