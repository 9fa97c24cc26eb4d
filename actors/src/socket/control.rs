//! Control messages: the IP header fields that travel beside a datagram.

use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::transport::HeaderFields;

/// Bytes that the control messages of one datagram need at most: hop limit, traffic class, packet
/// information and segment length, with room for one more that the kernel may add.
pub(super) const CONTROL_LEN: usize = 128;

/// A buffer for control messages, aligned as `CMSG_FIRSTHDR` wants it.
#[repr(C, align(8))]
pub(super) struct Control(MaybeUninit<[u8; CONTROL_LEN]>);

impl Control {
    pub(super) const fn new() -> Control {
        Control(MaybeUninit::uninit())
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }

    /// Writes the control message that has the kernel cut a send into datagrams of `segment` bytes
    /// behind the `used` bytes of others, and returns the length of all.
    pub(super) fn write_segment(&mut self, used: usize, segment: u16) -> usize {
        used + self.put(used, libc::SOL_UDP, libc::UDP_SEGMENT, segment)
    }

    /// Writes the control messages for a datagram to `to`: its header fields, and the local address
    /// it leaves from. Returns their length, 0 when none is needed.
    pub(super) fn write(
        &mut self,
        to: IpAddr,
        fields: HeaderFields,
        from: Option<IpAddr>,
    ) -> usize {
        let mut used = 0;
        let hop_limit = fields.hop_limit.map(libc::c_int::from);
        let class = (fields.traffic_class != 0).then_some(libc::c_int::from(fields.traffic_class));
        match to {
            IpAddr::V4(_) => {
                if let Some(hop_limit) = hop_limit {
                    used += self.put(used, libc::IPPROTO_IP, libc::IP_TTL, hop_limit);
                }
                if let Some(class) = class {
                    used += self.put(used, libc::IPPROTO_IP, libc::IP_TOS, class);
                }
            }
            IpAddr::V6(_) => {
                if let Some(hop_limit) = hop_limit {
                    used += self.put(used, libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, hop_limit);
                }
                if let Some(class) = class {
                    used += self.put(used, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class);
                }
            }
        }
        match from {
            Some(IpAddr::V4(ip)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: ip.to_bits().to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                used += self.put(used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Some(IpAddr::V6(ip)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    ipi6_ifindex: 0,
                };
                used += self.put(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            None => {}
        }
        used
    }

    /// Writes one control message at `offset` and returns the space it took.
    fn put<T: Copy>(
        &mut self,
        offset: usize,
        level: libc::c_int,
        kind: libc::c_int,
        value: T,
    ) -> usize {
        let size = mem::size_of::<T>() as libc::c_uint;
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
        let space = space as usize;
        assert!(offset + space <= CONTROL_LEN, "the four messages above fit by their sizes");
        // SAFETY: `offset` is a sum of CMSG_SPACEs and so aligned for a cmsghdr, and `space` bytes
        // from it lie within the buffer; CMSG_DATA is within them and written unaligned.
        unsafe {
            let header = self.0.as_mut_ptr().cast::<u8>().add(offset).cast::<libc::cmsghdr>();
            (&raw mut (*header).cmsg_level).write(level);
            (&raw mut (*header).cmsg_type).write(kind);
            (&raw mut (*header).cmsg_len).write(length as _);
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        space
    }
}

/// What the kernel tells of a datagram, or of several that it hands over as one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) fields: HeaderFields,
    /// The local address it was sent to.
    pub(super) to: Option<IpAddr>,
    /// Several datagrams of this length lie behind each other, the last may be shorter.
    pub(super) segment: Option<usize>,
}

/// What came beside a datagram.
///
/// # Safety
/// `header` and the control buffer it points to are as a successful `recvmsg` or `recvmmsg` left
/// them.
pub(super) unsafe fn read(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: as promised by the caller; the macros walk the messages within msg_controllen.
    let mut cursor = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: a non-null cursor points to a whole cmsghdr within the control buffer.
    while let Some(message) = unsafe { cursor.as_ref() } {
        // SAFETY: the data of the message follows its header within the buffer, and each read takes
        // no more than the kernel writes for that level and type.
        unsafe {
            let data = libc::CMSG_DATA(cursor);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    let value = data.cast::<libc::c_int>().read_unaligned();
                    told.fields.hop_limit = u8::try_from(value).ok();
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => told.fields.traffic_class = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let value = data.cast::<libc::c_int>().read_unaligned();
                    told.fields.traffic_class = u8::try_from(value).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                    told.to = Some(IpAddr::V4(ip));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    told.to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let value = data.cast::<libc::c_int>().read_unaligned();
                    told.segment = usize::try_from(value).ok().filter(|length| *length > 0);
                }
                _ => {}
            }
            cursor = libc::CMSG_NXTHDR(header, cursor);
        }
    }
    told
}
