//! Addresses and ports that no other socket of the machine gets: for ranges that are to run out,
//! and for places where nobody is to listen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

use sterna_actors::ServerConfig;

/// An address of this host that nobody else uses: all of 127/8 is loopback.
pub(crate) fn own_host() -> IpAddr {
    // Two runs of the tests at a time have hosts of their own.
    let run = 65 + (std::process::id() % 128) as u8;
    let [high, low] = HOSTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, run, high, low).into()
}

/// Leaves the server of `config` with `count` ports in a row on each of its relay addresses, the
/// first of them even, and tells the first.
pub(crate) fn leave_ports(config: &mut ServerConfig, count: u16) -> u16 {
    config.relay.ports = free_ports(count, &config.relay.addresses);
    *config.relay.ports.start()
}

/// A transport address of the family of `ip` where nobody listens.
pub(crate) fn closed(ip: IpAddr) -> SocketAddr {
    match ip {
        IpAddr::V4(_) => SocketAddr::new(own_host(), 9),
        IpAddr::V6(_) => SocketAddr::new(ip, *free_ports(1, &[ip]).start()),
    }
}

/// The ports lie below those that the system gives out, so that neither the sockets of other tests
/// nor those of other programs come there by chance.
fn free_ports(count: u16, ips: &[IpAddr]) -> RangeInclusive<u16> {
    let own = (std::process::id() % PLACES) as u16 * STEP;
    for _ in 0..PLACES {
        let next = PORTS.fetch_add(STEP, Ordering::Relaxed);
        let first = FIRST + own.wrapping_add(next) % SPAN;
        let ports = first..=first + count - 1;
        let free = |port| ips.iter().all(|&ip| UdpSocket::bind(SocketAddr::new(ip, port)).is_ok());
        if ports.clone().all(free) {
            return ports;
        }
    }
    panic!("no {count} ports in a row are free");
}

static HOSTS: AtomicU16 = AtomicU16::new(1);
static PORTS: AtomicU16 = AtomicU16::new(0);

/// Each range lies in a step of its own.
const STEP: u16 = 64;
const FIRST: u16 = 12_000;
const SPAN: u16 = 16_384;
const PLACES: u32 = (SPAN / STEP) as u32;
