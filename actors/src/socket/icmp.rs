//! ICMP answers, read from a socket's error queue.

use std::io::IoSliceMut;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use sterna_proto::address::{Family, PeerAddr};
use sterna_proto::relay_frames::icmp_for_client;
use sterna_proto::stun::Icmp;

use crate::transport::IcmpError;

/// Takes the next ICMP error off the queue of `socket`; errors of the machine's own, such as a
/// filter that refused a packet, are taken off and passed over. `None` when the queue is empty.
pub(super) fn take_error(socket: BorrowedFd<'_>) -> Option<IcmpError> {
    for _ in 0..ERRORS_AT_ONCE {
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, [u8; 64]);
        // The datagram that caused the error comes back here; its first bytes are of no interest.
        let mut returned = [0u8; 1];
        let mut vectors = [IoSliceMut::new(&mut returned)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut vectors, Some(&mut control), flags)
                .ok()?;
        let Some(peer) = message.address.as_ref().and_then(socket_address) else {
            continue;
        };
        let Ok(messages) = message.cmsgs() else { continue };
        for control in messages {
            let error = match control {
                ControlMessageOwned::Ipv4RecvErr(error, _) => error,
                ControlMessageOwned::Ipv6RecvErr(error, _) => error,
                _ => continue,
            };
            if let Some(icmp) = icmp_of(&error) {
                return Some(IcmpError { peer: PeerAddr(peer), icmp });
            }
        }
    }
    None
}

/// Type, code and data of the ICMP message behind `error`, if one is and clients are told of it.
fn icmp_of(error: &libc::sock_extended_err) -> Option<Icmp> {
    let family = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => Family::V4,
        libc::SO_EE_ORIGIN_ICMP6 => Family::V6,
        _ => return None,
    };
    // The kernel passes the path MTU in `ee_info` beside a "too big".
    icmp_for_client(family, error.ee_type, error.ee_code, error.ee_info)
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*v4)));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
}

/// Entries passed over at one call; the rest waits for the next wake.
const ERRORS_AT_ONCE: usize = 16;
