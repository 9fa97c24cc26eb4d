//! Socket addresses and message headers as the kernel writes and reads them.

use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;

/// The address in `name`; `None` where it is neither IPv4 nor IPv6.
///
/// # Safety
/// `length` bytes of `name` have been written by the kernel.
pub(super) unsafe fn address(
    name: *const libc::sockaddr_storage,
    length: libc::socklen_t,
) -> Option<SocketAddr> {
    // The whole storage need not be initialised, so it is read as the type that its family names.
    if (length as usize) < mem::size_of::<libc::sa_family_t>() {
        return None;
    }
    // SAFETY: the family was written, as `length` covers it; the pointer is aligned for it.
    let family = libc::c_int::from(unsafe { *name.cast::<libc::sa_family_t>() });
    match family {
        libc::AF_INET if length as usize >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: a `sockaddr_in` was written whole, and sockaddr_storage is aligned for it.
            let v4 = unsafe { *name.cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 if length as usize >= mem::size_of::<libc::sockaddr_in6>() => {
            // SAFETY: a `sockaddr_in6` was written whole, and sockaddr_storage is aligned for it.
            let v6 = unsafe { *name.cast::<libc::sockaddr_in6>() };
            let ip = std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr);
            // Flow label 0: answers carry their own, and addresses compare without it.
            let address =
                std::net::SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id);
            Some(SocketAddr::V6(address))
        }
        _ => None,
    }
}

/// Writes `address` as the kernel wants it, and returns its length.
pub(super) fn write_address(
    name: &mut MaybeUninit<libc::sockaddr_storage>,
    address: SocketAddr,
) -> usize {
    match address {
        SocketAddr::V4(address) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every sockaddr type.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in>().write(v4) };
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every sockaddr type.
            unsafe { name.as_mut_ptr().cast::<libc::sockaddr_in6>().write(v6) };
            mem::size_of::<libc::sockaddr_in6>()
        }
    }
}

/// The header of a message whose name, slices and control messages lie where it says.
pub(super) fn header(
    name: *mut libc::c_void,
    name_len: usize,
    vectors: &mut [libc::iovec],
    control: *mut libc::c_void,
    control_len: usize,
) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid `mmsghdr`: null pointers and zero lengths. (musl pads the struct
    // with private fields, so it cannot be written as a literal everywhere.)
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_len as libc::socklen_t;
    header.msg_hdr.msg_iov = vectors.as_mut_ptr();
    header.msg_hdr.msg_iovlen = vectors.len() as _;
    header.msg_hdr.msg_control = if control_len == 0 { std::ptr::null_mut() } else { control };
    header.msg_hdr.msg_controllen = control_len as _;
    header
}
