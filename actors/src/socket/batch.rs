//! Many datagrams in one system call: `recvmmsg` into a reused batch. The kernel may hand over
//! several of one sender as one (UDP_GRO); they lie behind each other then.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use sterna_proto::address::{FiveTuple, TransportProtocol};

use super::control::{self, CONTROL_LEN, Control, Told};
use super::{BATCH, names};
use crate::pacing::Pace;
use crate::transport::HeaderFields;

/// Bytes of the largest message: that of a stream, a STUN header and what its length can say in
/// steps of four. No UDP payload is larger.
const SLOT: usize = 20 + 65_532;

/// Room for one wake's datagrams, reused for every socket of an arbiter: [`BATCH`] slots of the
/// largest size. Pages no datagram reached are never touched, and so not resident.
pub struct ReceiveBatch {
    bytes: Vec<u8>,
    received: Vec<Received>,
    /// Hears how much data comes; a test's batch has nobody to tell.
    pace: Option<Arc<Pace>>,
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
    /// Where the free room behind the payload ends: with its slot, or with itself where another
    /// datagram follows in the slot.
    room_end: usize,
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
        let received = Vec::with_capacity(BATCH);
        ReceiveBatch { bytes: vec![0; BATCH * SLOT], received, pace: None }
    }

    /// The same, for an arbiter that keeps this pace.
    pub(crate) fn of_arbiter(pace: Arc<Pace>) -> ReceiveBatch {
        ReceiveBatch { pace: Some(pace), ..ReceiveBatch::new() }
    }

    /// Tells the arbiter's pace of data that has come, by a socket or by message. Requests do not
    /// count: each costs more than a wake-up, and its client waits for the answer.
    pub(crate) fn note_data(&self, datagrams: usize) {
        if let Some(pace) = &self.pace {
            pace.note_found(datagrams);
        }
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

    /// Appends a datagram as if it had been received, for sockets that are played by a test. False
    /// when the batch is full or the payload too large.
    pub fn push(&mut self, from: SocketAddr, fields: HeaderFields, payload: &[u8]) -> bool {
        let protocol = TransportProtocol::Udp;
        let received = Received { from, to: None, fields, protocol, payload: 0..0, room_end: 0 };
        self.append(&received, payload)
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
            room_end: 0,
        };
        self.append(&received, message)
    }

    /// Appends a message that was received as `received` says, to a batch that has not been
    /// rewritten. False when the batch is full or the message too large.
    pub(super) fn append(&mut self, received: &Received, message: &[u8]) -> bool {
        let index = self.received.len();
        if index >= BATCH || message.len() > SLOT {
            return false;
        }
        let start = index * SLOT;
        let payload = start..start + message.len();
        self.bytes[payload.clone()].copy_from_slice(message);
        self.received.push(Received { payload, room_end: start + SLOT, ..received.clone() });
        true
    }

    /// Shows each datagram to `pass`, for a protocol between the socket and its listener: what is
    /// known of it, its payload with the free room behind, and the payload's length. It gives back
    /// what of that room is the message; `None` takes the datagram out.
    pub(super) fn rewrite(
        &mut self,
        mut pass: impl FnMut(&mut Received, &mut [u8], usize) -> Option<Range<usize>>,
    ) {
        let bytes = &mut self.bytes;
        self.received.retain_mut(|received| {
            let Range { start, end } = received.payload;
            let Some(room) = bytes.get_mut(start..received.room_end) else { return false };
            let Some(message) = pass(received, room, end - start) else { return false };
            received.payload = start + message.start..start + message.end.min(room.len());
            true
        });
    }

    /// Reads what waits in `socket` into up to [`BATCH`] slots, without blocking, and returns how
    /// many were filled. Fewer than [`BATCH`] means that the socket is drained.
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
        for (index, room) in self.bytes.chunks_exact_mut(SLOT).enumerate() {
            let vector = vectors[index]
                .write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
            headers[index].write(names::header(
                names[index].as_mut_ptr().cast(),
                mem::size_of::<libc::sockaddr_storage>(),
                std::slice::from_mut(vector),
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
            let name = unsafe { names::address(names[index].as_ptr(), header.msg_hdr.msg_namelen) };
            // SAFETY: the header and the control buffer it points to are as the kernel left them.
            let told = unsafe { control::read(&header.msg_hdr) };
            self.note(index, name, told, header.msg_len as usize);
        }
        Ok(count)
    }

    /// Enters what the kernel has put into a slot: a datagram, or several behind each other.
    fn note(&mut self, slot: usize, name: Option<SocketAddr>, told: Told, length: usize) {
        let (start, end) = (slot * SLOT, slot * SLOT + length.min(SLOT));
        let received = |payload: Range<usize>, room_end: usize| Received {
            // A datagram without a source address cannot be answered; the unspecified source is
            // refused by whoever looks at it.
            from: name.unwrap_or(UNKNOWN_SOURCE),
            to: told.to,
            fields: told.fields,
            protocol: TransportProtocol::Udp,
            payload,
            room_end,
        };
        let segment = told.segment.unwrap_or(SLOT);
        let mut at = start;
        while end - at > segment {
            self.received.push(received(at..at + segment, at + segment));
            at += segment;
        }
        self.received.push(received(at..end, start + SLOT));
    }
}

impl Default for ReceiveBatch {
    fn default() -> ReceiveBatch {
        ReceiveBatch::new()
    }
}

const UNKNOWN_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
