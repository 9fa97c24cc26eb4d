//! Many datagrams in one system call: `recvmmsg` into a reused batch, `sendmmsg` from borrowed
//! slices.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use sterna_proto::address::{FiveTuple, TransportProtocol};
use sterna_proto::relay_frames::{DATA_HEADROOM, DATA_TAILROOM};

use super::BATCH;
use super::control::{self, CONTROL_LEN, Control};
use crate::transport::HeaderFields;

/// Bytes of the largest message: that of a stream, a STUN header and what its length can say in
/// steps of four. No UDP payload is larger.
const PAYLOAD_MAX: usize = 20 + 65_532;
const SLOT: usize = DATA_HEADROOM + PAYLOAD_MAX + DATA_TAILROOM;

/// Room for one wake's datagrams, reused for every socket of an arbiter.
///
/// Each payload has [`DATA_HEADROOM`] free bytes in front and [`DATA_TAILROOM`] behind, so that a
/// TURN header can be written around it in place. Pages no datagram reached are never touched, and
/// so not resident.
pub struct ReceiveBatch {
    bytes: Vec<u8>,
    received: Vec<Received>,
}

/// One received datagram: where its payload lies in the batch, and what the kernel said of it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The source transport address.
    pub from: SocketAddr,
    /// The local address it was sent to, where the socket was asked to tell.
    pub to: Option<IpAddr>,
    /// TTL or hop limit, DSCP and ECN.
    pub fields: HeaderFields,
    /// How it came.
    pub protocol: TransportProtocol,
    payload: Range<usize>,
}

impl Received {
    /// The conversation it belongs to, on a socket that is bound to `local`.
    pub fn five_tuple(&self, local: SocketAddr) -> FiveTuple {
        FiveTuple {
            client: self.from,
            server: self.to.map_or(local, |ip| SocketAddr::new(ip, local.port())),
            protocol: self.protocol,
        }
    }
}

impl ReceiveBatch {
    /// Room for [`BATCH`] datagrams of any size.
    pub fn new() -> ReceiveBatch {
        ReceiveBatch { bytes: vec![0; BATCH * SLOT], received: Vec::with_capacity(BATCH) }
    }

    /// Forgets the datagrams of the last read.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// How many datagrams the last read brought.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last read brought none.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The datagrams with their payloads, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&Received, &[u8])> {
        self.received.iter().map(|received| (received, &self.bytes[received.payload.clone()]))
    }

    /// The `index`th datagram and the whole of its slot: the payload lies at
    /// `DATA_HEADROOM..DATA_HEADROOM + len` of it.
    pub fn slot_mut(&mut self, index: usize) -> (&Received, &mut [u8], usize) {
        let received = &self.received[index];
        let slot = &mut self.bytes[index * SLOT..(index + 1) * SLOT];
        (received, slot, received.payload.len())
    }

    /// The whole of the `index`th datagram's slot, read-only.
    pub fn slot(&self, index: usize) -> &[u8] {
        &self.bytes[index * SLOT..(index + 1) * SLOT]
    }

    /// Appends a datagram as if it had been received, for sockets that are played by a test. False
    /// when the batch is full or the payload too large.
    pub fn push(&mut self, from: SocketAddr, fields: HeaderFields, payload: &[u8]) -> bool {
        let protocol = TransportProtocol::Udp;
        self.append(&Received { from, to: None, fields, protocol, payload: 0..0 }, payload)
    }

    /// Appends a message that did not come as a datagram. False when the batch is full or the
    /// message too large.
    pub fn push_message(&mut self, five_tuple: FiveTuple, message: &[u8]) -> bool {
        let received = Received {
            from: five_tuple.client,
            to: Some(five_tuple.server.ip()),
            fields: HeaderFields::default(),
            protocol: five_tuple.protocol,
            payload: 0..0,
        };
        self.append(&received, message)
    }

    /// Appends a message that was received as `received` says, to a batch that has not been
    /// rewritten. False when the batch is full or the message too large.
    pub(super) fn append(&mut self, received: &Received, message: &[u8]) -> bool {
        let index = self.received.len();
        if index == BATCH || message.len() > PAYLOAD_MAX {
            return false;
        }
        let start = index * SLOT + DATA_HEADROOM;
        let payload = start..start + message.len();
        self.bytes[payload.clone()].copy_from_slice(message);
        self.received.push(Received { payload, ..received.clone() });
        true
    }

    /// Shows each datagram to `pass`, for a protocol between the socket and its listener: what is
    /// known of it, its payload with the free room behind, and the payload's length. It gives back
    /// what of that room is the message; `None` takes the datagram out, and then slots have other
    /// numbers than datagrams.
    pub(super) fn rewrite(
        &mut self,
        mut pass: impl FnMut(&mut Received, &mut [u8], usize) -> Option<Range<usize>>,
    ) {
        let bytes = &mut self.bytes;
        self.received.retain_mut(|received| {
            let Range { start, end } = received.payload;
            let end_of_slot = (start / SLOT + 1) * SLOT;
            let Some(room) = bytes.get_mut(start..end_of_slot) else { return false };
            let Some(message) = pass(received, room, end - start) else { return false };
            received.payload = start + message.start..start + message.end.min(room.len());
            true
        });
    }

    /// Reads what waits in `socket`, up to [`BATCH`] datagrams, without blocking. Fewer than
    /// [`BATCH`] means that the socket is drained.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; otherwise the socket's pending error, such as
    /// `ConnectionRefused` for an earlier ICMP answer, which says nothing about later reads.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
        let mut controls = [const { Control::new() }; BATCH];
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        for (index, slot) in self.bytes.chunks_exact_mut(SLOT).enumerate() {
            let room = &mut slot[DATA_HEADROOM..DATA_HEADROOM + PAYLOAD_MAX];
            let vector = vectors[index]
                .write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
            headers[index].write(header(
                names[index].as_mut_ptr().cast(),
                mem::size_of::<libc::sockaddr_storage>(),
                vector,
                controls[index].as_mut_ptr(),
                CONTROL_LEN,
            ));
        }
        // SAFETY: all BATCH headers were initialised above; the names, control buffers, vectors and
        // payload rooms they point to live until the end of this function, are not moved, and are
        // as long as the headers say. The null timeout is ignored with MSG_DONTWAIT.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for index in 0..count.min(BATCH) {
            // SAFETY: initialised above, and filled in by the kernel for the first `count` headers.
            let header = unsafe { headers[index].assume_init_ref() };
            // SAFETY: the kernel wrote `msg_namelen` bytes of an address into this name.
            let name = unsafe { address(names[index].as_ptr(), header.msg_hdr.msg_namelen) };
            // SAFETY: the header and the control buffer it points to are as the kernel left them.
            let (fields, to) = unsafe { control::read(&header.msg_hdr) };
            let start = index * SLOT + DATA_HEADROOM;
            let length = (header.msg_len as usize).min(PAYLOAD_MAX);
            // A datagram without a source address cannot be answered; the empty range keeps slot
            // and index in step, and the unspecified source is refused by whoever looks at it.
            let from = name.unwrap_or(UNKNOWN_SOURCE);
            self.received.push(Received {
                from,
                to,
                fields,
                protocol: TransportProtocol::Udp,
                payload: start..start + length,
            });
        }
        Ok(count)
    }
}

impl Default for ReceiveBatch {
    fn default() -> ReceiveBatch {
        ReceiveBatch::new()
    }
}

const UNKNOWN_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The destination.
    pub to: SocketAddr,
    /// The payload.
    pub bytes: &'a [u8],
    /// The header fields it is sent with.
    pub fields: HeaderFields,
}

/// How the header fields and the source address of a `sendmmsg` are chosen.
#[derive(Clone, Copy)]
pub(super) enum HeaderChoice {
    /// As the socket's own options say.
    Socket,
    /// By control messages of each datagram, from this local address where one is given.
    EachDatagram { from: Option<IpAddr> },
}

/// Sends `datagrams` (at most [`BATCH`]) in order, without blocking, and returns how many were
/// taken; fewer means that the next one failed, and why is what the next call says.
///
/// # Errors
/// The reason why the first datagram was not taken.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    datagrams: &[Datagram<'_>],
    choice: HeaderChoice,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
    let mut controls = [const { Control::new() }; BATCH];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let count = datagrams.len().min(BATCH);
    for (index, datagram) in datagrams.iter().take(count).enumerate() {
        let name_len = write_address(&mut names[index], datagram.to);
        let vector = vectors[index].write(libc::iovec {
            iov_base: datagram.bytes.as_ptr().cast_mut().cast(),
            iov_len: datagram.bytes.len(),
        });
        let control_len = match choice {
            HeaderChoice::Socket => 0,
            HeaderChoice::EachDatagram { from } => {
                controls[index].write(datagram.to.ip(), datagram.fields, from)
            }
        };
        headers[index].write(header(
            names[index].as_mut_ptr().cast(),
            name_len,
            vector,
            controls[index].as_mut_ptr(),
            control_len,
        ));
    }
    // SAFETY: the first `count` headers were initialised above; the names, control buffers, vectors
    // and payloads they point to outlive the call, are as long as said, and sendmmsg only reads
    // them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn header(
    name: *mut libc::c_void,
    name_len: usize,
    vector: &mut libc::iovec,
    control: *mut libc::c_void,
    control_len: usize,
) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid `mmsghdr`: null pointers and zero lengths. (musl pads the struct
    // with private fields, so it cannot be written as a literal everywhere.)
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_len as libc::socklen_t;
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = if control_len == 0 { std::ptr::null_mut() } else { control };
    header.msg_hdr.msg_controllen = control_len as _;
    header
}

/// # Safety
/// `length` bytes of `name` have been written by the kernel.
unsafe fn address(
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

fn write_address(name: &mut MaybeUninit<libc::sockaddr_storage>, address: SocketAddr) -> usize {
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
