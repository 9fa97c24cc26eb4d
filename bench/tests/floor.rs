//! The floor forwards what it must and drops what no relay may forward.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sterna_bench::error::BenchError;
use sterna_bench::floor::{Floor, ask};
use sterna_bench::floor_setup::Setup;

const CHANNEL: u16 = 0x4001;

/// A floor on a thread of its own, one client of it, and a peer.
struct World {
    floor: JoinHandle<Result<u64, BenchError>>,
    client: UdpSocket,
    peer: UdpSocket,
    relayed: SocketAddrV4,
}

impl World {
    fn new() -> World {
        let (tell, hear) = mpsc::channel();
        let floor = thread::spawn(move || {
            let mut floor = Floor::bind("127.0.0.1:0".parse().unwrap())?;
            tell.send(floor.address().unwrap()).unwrap();
            floor.run(Duration::from_secs(30))
        });
        let address = hear.recv().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let Setup::Opened { relayed } = ask(&client, Setup::Open).unwrap() else {
            panic!("the floor opened no relay");
        };
        World { floor, client, peer, relayed }
    }

    fn bind(&self) {
        let bind = Setup::Bind { channel: CHANNEL, peer: v4(self.peer.local_addr().unwrap()) };
        assert_eq!(Setup::Bound, ask(&self.client, bind).unwrap());
    }

    /// Stops the floor and returns how many packets it dropped.
    fn stop(self) -> u64 {
        assert_eq!(Setup::Stopping, ask(&self.client, Setup::Stop).unwrap());
        self.floor.join().unwrap().unwrap()
    }
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address} is no IPv4 address"),
    }
}

fn channel_data(channel: u16, len: u16, data: &[u8]) -> Vec<u8> {
    let mut frame = channel.to_be_bytes().to_vec();
    frame.extend(len.to_be_bytes());
    frame.extend(data);
    frame
}

#[test]
fn packets_go_both_ways_unchanged() {
    let world = World::new();
    world.bind();

    // One byte of padding, which the length field leaves out.
    world.client.send(&channel_data(CHANNEL, 3, b"up!\0")).unwrap();
    let mut buffer = [0; 64];
    let (len, from) = world.peer.recv_from(&mut buffer).unwrap();
    assert_eq!(b"up!", &buffer[..len]);
    assert_eq!(SocketAddr::V4(world.relayed), from);

    world.peer.send_to(b"down", world.relayed).unwrap();
    let len = world.client.recv(&mut buffer).unwrap();
    assert_eq!(channel_data(CHANNEL, 4, b"down"), &buffer[..len]);
    assert_eq!(0, world.stop());
}

#[test]
fn wrong_packets_are_dropped() {
    let world = World::new();
    // Before the channel is bound nobody is a permitted peer.
    world.client.send(&channel_data(CHANNEL, 1, b"x")).unwrap();
    world.bind();
    // A length beyond the datagram, another channel, and too short for a header.
    world.client.send(&channel_data(CHANNEL, 5, b"1234")).unwrap();
    world.client.send(&channel_data(CHANNEL + 1, 1, b"x")).unwrap();
    world.client.send(&[0x40]).unwrap();
    // A stranger is neither client nor peer.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = world.client.peer_addr().unwrap();
    stranger.send_to(&channel_data(CHANNEL, 1, b"x"), listen).unwrap();
    stranger.send_to(b"x", world.relayed).unwrap();
    // The good packet at each socket is behind the wrong ones, so it arrives when they are done.
    world.client.send(&channel_data(CHANNEL, 4, b"good")).unwrap();
    world.peer.send_to(b"good", world.relayed).unwrap();

    let mut buffer = [0; 64];
    let (len, _) = world.peer.recv_from(&mut buffer).unwrap();
    assert_eq!(b"good", &buffer[..len]);
    let len = world.client.recv(&mut buffer).unwrap();
    assert_eq!(channel_data(CHANNEL, 4, b"good"), &buffer[..len]);
    assert_eq!(6, world.stop());
}

#[test]
fn a_closed_relay_is_gone_and_its_place_is_used_again() {
    let world = World::new();
    assert_eq!(Setup::Closed, ask(&world.client, Setup::Close).unwrap());
    assert!(ask(&world.client, Setup::Close).is_err());
    let opened = ask(&world.client, Setup::Open).unwrap();
    assert!(matches!(opened, Setup::Opened { .. }));
    assert_eq!(opened, ask(&world.client, Setup::Open).unwrap());
    world.stop();
}

#[test]
fn the_floor_listens_on_loopback_only() {
    let refused = Floor::bind("0.0.0.0:0".parse().unwrap());
    assert!(matches!(refused, Err(BenchError::Argument(_))));
}
