//! What this machine has: cores, addresses, network devices, file descriptors.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::num::NonZero;
use std::{io, thread};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::SockaddrStorage;

/// What a configuration is fitted to.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Cores that this process may run on.
    pub cores: usize,
    /// Addresses of the interfaces that are up and have a carrier.
    pub addresses: Vec<IpAddr>,
    /// Names of the network devices.
    pub devices: BTreeSet<String>,
    /// Whether sockets can be bound to IPv6 addresses at all.
    pub has_ipv6: bool,
}

impl Machine {
    /// Looks at the machine the process runs on.
    pub fn inspect() -> io::Result<Machine> {
        let mut addresses = Vec::new();
        let mut devices = BTreeSet::new();
        // An interface without a carrier, such as a bridge without containers, leads nowhere.
        let usable = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        for interface in getifaddrs()? {
            let ip = interface.address.as_ref().and_then(ip_of);
            if let Some(ip) = ip.filter(|_| interface.flags.contains(usable)) {
                addresses.push(ip);
            }
            devices.insert(interface.interface_name);
        }
        Ok(Machine {
            cores: thread::available_parallelism().map_or(1, NonZero::get),
            addresses,
            devices,
            has_ipv6: UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok(),
        })
    }

    /// The addresses that a client elsewhere can reach, of the family of `wildcard`. Loopback is
    /// among them only where `alone`: the machine has nothing else.
    pub fn reachable(&self, wildcard: IpAddr, alone: bool) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(move |ip| {
            ip.is_ipv4() == wildcard.is_ipv4()
                && !is_link_local(*ip)
                && (alone || !ip.is_loopback())
        })
    }

    /// Whether nothing outside this machine can be reached from it.
    pub fn is_alone(&self) -> bool {
        self.addresses.iter().all(|ip| ip.is_loopback() || is_link_local(*ip))
    }
}

/// Raises the limit of open files as far as the process may. Each allocation holds a socket.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
