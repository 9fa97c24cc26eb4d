//! The meter against the floor: what is sent is what is counted.

use std::net::SocketAddrV4;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sterna_bench::error::BenchError;
use sterna_bench::flood::{FloodKind, FloodSettings};
use sterna_bench::floor::{Floor, ask};
use sterna_bench::floor_setup::Setup;
use sterna_bench::idle::{self, IdlePlan};
use sterna_bench::load::{self, Direction, LoadPlan, Report};
use sterna_bench::target::{Kind, Target, Transport};

/// Generator and floor never sleep: with several of them at once some would not get a core while
/// they are measured.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A floor on a thread of its own.
struct World {
    _turn: MutexGuard<'static, ()>,
    floor: JoinHandle<Result<u64, BenchError>>,
    target: Target,
}

impl World {
    fn new() -> World {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (tell, hear) = mpsc::channel();
        let floor = thread::spawn(move || {
            let mut floor = Floor::bind("127.0.0.1:0".parse().unwrap())?;
            tell.send(floor.address().unwrap()).unwrap();
            floor.run(Duration::from_secs(30))
        });
        let server: SocketAddrV4 = hear.recv().unwrap().to_string().parse().unwrap();
        let target = Target {
            kind: Kind::Floor,
            transport: Transport::Udp,
            server,
            user: String::new(),
            password: String::new(),
        };
        World { _turn: turn, floor, target }
    }

    /// Stops the floor and returns how many packets it dropped.
    fn stop(self) -> u64 {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.target.server).unwrap();
        assert_eq!(Setup::Stopping, ask(&socket, Setup::Stop).unwrap());
        self.floor.join().unwrap().unwrap()
    }

    fn plan(&self, direction: Direction) -> LoadPlan {
        LoadPlan {
            target: self.target.clone(),
            pid: Some(std::process::id()),
            direction,
            allocations: 4,
            payload: 100,
            burst: 1,
            gso: false,
            kernel_time: false,
            flood: None,
            rate: None,
            window: 8,
            warm_up: Duration::from_millis(20),
            duration: Duration::from_millis(300),
        }
    }
}

/// Every packet is accounted for, and none is something else.
fn check(report: &Report) {
    assert!(report.delivered > 0, "{report:?}");
    assert_eq!(0, report.unexpected, "{report:?}");
    // Other tests' threads come and go in this process, so the figure means nothing here.
    assert!(report.server_cpu_ns_per_packet.is_some(), "{report:?}");
    assert!(report.latency_p50_us <= report.latency_p999_us, "{report:?}");
}

#[test]
fn every_direction_is_delivered_and_counted() {
    let world = World::new();
    let directions = [
        Direction::ClientToPeer,
        Direction::PeerToClient,
        Direction::Both,
        Direction::ClientToClient,
    ];
    for direction in directions {
        check(&load::run(&world.plan(direction)).unwrap());
    }
    assert_eq!(0, world.stop());
}

#[test]
fn bursts_in_one_piece_are_delivered_and_counted() {
    let world = World::new();
    for direction in [Direction::ClientToPeer, Direction::PeerToClient] {
        let plan = LoadPlan { burst: 8, window: 16, gso: true, ..world.plan(direction) };
        check(&load::run(&plan).unwrap());
    }
    assert_eq!(0, world.stop());
}

#[test]
fn latency_may_end_when_the_kernel_has_a_packet() {
    let world = World::new();
    for direction in [Direction::ClientToPeer, Direction::PeerToClient] {
        let plan = LoadPlan { kernel_time: true, rate: Some(1000), ..world.plan(direction) };
        let report = load::run(&plan).unwrap();
        check(&report);
        assert!(report.behind_p99_us.is_some(), "{report:?}");
    }
    assert_eq!(0, world.stop());
}

#[test]
fn packets_are_counted_beside_a_flood_and_the_flood_as_well() {
    let world = World::new();
    let flood = FloodSettings {
        server: world.target.server,
        kind: FloodKind::Binding,
        source: FloodKind::Binding.source(),
        ports: 2,
        rate: 1000,
    };
    let plan = LoadPlan {
        rate: Some(1000),
        flood: Some(flood.clone()),
        ..world.plan(Direction::ClientToPeer)
    };
    let report = load::run(&plan).unwrap();
    check(&report);
    assert!(report.flood.is_some_and(|flood| flood.sent_per_second > 0.0));
    let endless = LoadPlan { rate: None, ..plan };
    assert!(load::run(&endless).is_err());
    // The floor knows no Binding, which it drops.
    assert!(world.stop() > 0);
}

#[test]
fn bursts_are_delivered_and_counted() {
    let world = World::new();
    for direction in [Direction::ClientToPeer, Direction::PeerToClient] {
        let plan = LoadPlan { burst: 8, window: 16, ..world.plan(direction) };
        check(&load::run(&plan).unwrap());
    }
    assert_eq!(0, world.stop());
}

#[test]
fn a_rate_is_not_exceeded() {
    let world = World::new();
    let plan = LoadPlan {
        rate: Some(1000),
        duration: Duration::from_millis(200),
        ..world.plan(Direction::ClientToPeer)
    };
    let report = load::run(&plan).unwrap();
    check(&report);
    // What was due during a pause of the generator is sent after it, hence the measured time.
    assert!(report.sent as f64 <= 1000.0 * report.seconds + 2.0, "{report:?}");
    world.stop();
}

#[test]
fn a_plan_that_cannot_be_measured_is_refused() {
    let world = World::new();
    let plan = world.plan(Direction::ClientToPeer);
    let wrong = [
        LoadPlan { allocations: 0, ..plan.clone() },
        LoadPlan { payload: 15, ..plan.clone() },
        LoadPlan { payload: 65_000, ..plan.clone() },
        LoadPlan { burst: 9, ..plan.clone() },
        LoadPlan { duration: Duration::from_secs(3600), ..plan.clone() },
        LoadPlan { allocations: 3, direction: Direction::ClientToClient, ..plan.clone() },
    ];
    for plan in wrong {
        assert!(matches!(load::run(&plan), Err(BenchError::Argument(_))), "{plan:?}");
    }
    world.stop();
}

#[test]
fn idle_allocations_come_and_go() {
    let world = World::new();
    let plan = IdlePlan {
        target: world.target.clone(),
        pid: std::process::id(),
        allocations: 20,
        clients: 3,
        rounds: 2,
        among_clients: false,
        settle: Duration::ZERO,
        pause: Duration::ZERO,
    };
    let mut heard = 0;
    let report = idle::run(&plan, |_| heard += 1).unwrap();
    assert_eq!(2, heard);
    for round in &report.rounds {
        assert!(round.allocates_after, "{report:?}");
        // Each allocation is a socket of the client and one of the floor, both in this process.
        assert!(round.descriptors >= 40, "{report:?}");
    }
    world.stop();
}
