//! The IPv4 headers of what arrives at an address, seen by a raw socket.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, socket,
};

/// Sees every UDP datagram for one IPv4 address.
pub(crate) struct Sniffer(OwnedFd);

impl Sniffer {
    /// `None` where raw sockets are not for everybody.
    pub(crate) fn at(ip: Ipv4Addr) -> Option<Sniffer> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let made = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Udp);
        let raw = match made {
            Err(Errno::EPERM | Errno::EACCES) => return None,
            made => made.expect("a raw socket can be made"),
        };
        let address = SockaddrIn::from(SocketAddrV4::new(ip, 0));
        bind(raw.as_raw_fd(), &address).expect("a raw socket can be bound");
        let sniffer = Sniffer(raw);
        // Until it was bound, it saw everybody's.
        sniffer.dont_fragment();
        Some(sniffer)
    }

    /// Whether the DF bit was set in the datagrams that have arrived, in their order.
    pub(crate) fn dont_fragment(&self) -> Vec<bool> {
        let mut seen = Vec::new();
        let mut packet = vec![0; 65_536];
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            assert!(length > 20, "an IPv4 header is 20 bytes");
            seen.push(packet[6] & 0x40 != 0);
        }
        seen
    }
}
