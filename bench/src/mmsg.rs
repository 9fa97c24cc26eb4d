//! Many datagrams with one system call.
//!
//! IPv4 only, as all measuring here is on loopback; an address of fixed size lets the message
//! headers be reused without being set up again.

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, recvmmsg,
    send, sendmmsg, sendmsg, sendto,
};
use nix::sys::time::TimeSpec;
use sterna_proto::channel_data::stream_padding;

/// Datagrams moved by one call at most.
pub const BATCH: usize = 64;

/// Free bytes in front of a received datagram, so that a ChannelData header fits without a copy.
pub const HEADROOM: usize = 4;

/// The longest datagram received whole; longer ones are cut and counted as such by the caller.
pub const DATAGRAM_MAX: usize = 2048 - HEADROOM;

const BUFFER: usize = HEADROOM + DATAGRAM_MAX;

/// Buffers and headers for receiving a batch.
pub struct Receiver {
    headers: MultiHeaders<SockaddrIn>,
    buffers: Box<[[u8; BUFFER]]>,
    arrived: [Arrived; BATCH],
}

/// What is known of a received datagram.
#[derive(Clone, Copy)]
struct Arrived {
    source: SockaddrIn,
    len: usize,
    /// The time of day in nanoseconds at which the kernel had it.
    at: Option<u64>,
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver::with_headers(MultiHeaders::preallocate(BATCH, None))
    }
}

impl Receiver {
    /// A receiver for sockets with `SO_TIMESTAMPNS` set, and only for those: headers that have once
    /// come back without a time have no room for one any more.
    pub fn with_arrival_times() -> Receiver {
        Receiver::with_headers(MultiHeaders::preallocate(BATCH, Some(cmsg_space!(TimeSpec))))
    }

    fn with_headers(headers: MultiHeaders<SockaddrIn>) -> Receiver {
        let nothing = Arrived { source: SockaddrIn::new(0, 0, 0, 0, 0), len: 0, at: None };
        Receiver {
            headers,
            buffers: vec![[0; BUFFER]; BATCH].into_boxed_slice(),
            arrived: [nothing; BATCH],
        }
    }

    /// Takes what waits at the socket, up to `limit` datagrams, and returns how many.
    /// An empty socket gives zero; other errors are the caller's to judge.
    pub fn receive(&mut self, socket: &UdpSocket, limit: usize) -> Result<usize, Errno> {
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| {
            let buffer = buffers.next().map(|buffer| &mut buffer[HEADROOM..]);
            [IoSliceMut::new(buffer.unwrap_or_default())]
        });
        let slices = slices.iter_mut().take(limit.min(BATCH));
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices, flags, None) {
            Ok(messages) => messages,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut count = 0;
        for (message, arrived) in messages.zip(&mut self.arrived) {
            if let Some(source) = message.address {
                *arrived = Arrived { source, len: message.bytes, at: arrival_time(&message) };
                count += 1;
            }
        }
        Ok(count)
    }

    /// The datagram at `index` of the last batch, and who sent it.
    pub fn datagram(&self, index: usize) -> (SockaddrIn, &[u8]) {
        let Arrived { source, len, .. } = self.arrived[index];
        (source, &self.buffers[index][HEADROOM..HEADROOM + len])
    }

    /// The time of day, in nanoseconds, at which the kernel had the datagram at `index`.
    pub fn arrival_time(&self, index: usize) -> Option<u64> {
        self.arrived[index].at
    }

    /// The same with [`HEADROOM`] writable bytes in front of it.
    pub fn datagram_with_headroom(&mut self, index: usize) -> (SockaddrIn, &mut [u8]) {
        let Arrived { source, len, .. } = self.arrived[index];
        (source, &mut self.buffers[index][..HEADROOM + len])
    }
}

fn arrival_time(message: &RecvMsg<'_, '_, SockaddrIn>) -> Option<u64> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => {
            let seconds = u64::try_from(at.tv_sec()).ok()?;
            Some(seconds * 1_000_000_000 + u64::try_from(at.tv_nsec()).ok()?)
        }
        _ => None,
    })
}

/// A batch of datagrams of one length to be sent.
pub struct Sender {
    segments: Option<u16>,
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<Vec<u8>>,
    addresses: [Option<SockaddrIn>; BATCH],
    filled: usize,
}

impl Sender {
    /// A sender of datagrams with `len` bytes each.
    pub fn new(len: usize) -> Sender {
        Sender {
            segments: None,
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![vec![0; len]; BATCH],
            addresses: [None; BATCH],
            filled: 0,
        }
    }

    /// One that hands a batch to the kernel as a single piece to be cut up (`UDP_SEGMENT`). The
    /// batch must have one destination.
    pub fn segmented(len: usize) -> Sender {
        // The caller's datagrams are shorter than 65,536 bytes.
        Sender { segments: Some(len as u16), ..Sender::new(len) }
    }

    /// Datagrams that wait for [`Sender::flush`].
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Room for one more; when `false`, flush first.
    pub fn has_room(&self) -> bool {
        self.filled < BATCH
    }

    /// The buffer of the next datagram. `to` is `None` on a connected socket. The caller has asked
    /// [`Sender::has_room`].
    pub fn push(&mut self, to: Option<SockaddrIn>) -> &mut [u8] {
        let index = self.filled;
        self.filled += 1;
        self.addresses[index] = to;
        &mut self.buffers[index]
    }

    /// Moves what waits to the end of a stream's bytes, each padded to four, and returns how many
    /// they were.
    pub fn append_padded(&mut self, bytes: &mut Vec<u8>) -> usize {
        let filled = std::mem::take(&mut self.filled);
        for frame in &self.buffers[..filled] {
            bytes.extend_from_slice(frame);
            bytes.resize(bytes.len() + stream_padding(frame.len()), 0);
        }
        filled
    }

    /// Sends nothing of what waits.
    pub fn forget(&mut self) {
        self.filled = 0;
    }

    /// Sends what waits and returns how many the kernel took. What it did not take is forgotten.
    pub fn flush(&mut self, socket: &UdpSocket) -> Result<usize, Errno> {
        let filled = std::mem::take(&mut self.filled);
        match filled {
            0 => return Ok(0),
            1 => return self.send_first(socket),
            _ => {}
        }
        if let Some(segment) = self.segments {
            return self.send_segments(socket, filled, segment);
        }
        let buffers = &self.buffers;
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            array::from_fn(|index| [IoSlice::new(&buffers[index])]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            &slices[..filled],
            &self.addresses[..filled],
            [],
            flags,
        );
        match sent {
            Ok(messages) => Ok(messages.count()),
            Err(Errno::EAGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn send_segments(
        &self,
        socket: &UdpSocket,
        filled: usize,
        segment: u16,
    ) -> Result<usize, Errno> {
        let slices: [IoSlice<'_>; BATCH] =
            array::from_fn(|index| IoSlice::new(&self.buffers[index]));
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        let to = self.addresses[0].as_ref();
        match sendmsg(fd, &slices[..filled], &control, flags, to) {
            Ok(_) => Ok(filled),
            Err(Errno::EAGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// For one datagram the plain call is cheaper than setting up a batch.
    fn send_first(&self, socket: &UdpSocket) -> Result<usize, Errno> {
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let sent = match &self.addresses[0] {
            Some(address) => sendto(fd, &self.buffers[0], address, flags),
            None => send(fd, &self.buffers[0], flags),
        };
        match sent {
            Ok(_) => Ok(1),
            Err(Errno::EAGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// The address in the form that the standard library speaks.
pub fn to_std(address: SockaddrIn) -> SocketAddrV4 {
    SocketAddrV4::new(address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> (UdpSocket, SocketAddrV4) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else {
            unreachable!("bound to an IPv4 address");
        };
        (socket, address)
    }

    #[test]
    fn a_batch_arrives_as_it_was_sent() {
        let (from, from_address) = socket();
        let (to, to_address) = socket();
        let mut sender = Sender::new(3);
        for number in 0..5 {
            sender.push(Some(to_address.into())).copy_from_slice(&[number; 3]);
        }
        assert_eq!(Ok(5), sender.flush(&from));
        assert!(sender.is_empty());

        let mut receiver = Receiver::default();
        assert_eq!(Ok(4), receiver.receive(&to, 4));
        for number in 0..4_u8 {
            let (source, datagram) = receiver.datagram(usize::from(number));
            assert_eq!(from_address, to_std(source));
            assert_eq!([number; 3], datagram);
        }
        assert_eq!(Ok(1), receiver.receive(&to, BATCH));
        assert_eq!(Ok(0), receiver.receive(&to, BATCH));
    }

    #[test]
    fn a_single_datagram_arrives_from_a_connected_socket_and_from_another() {
        let (from, _) = socket();
        let (to, to_address) = socket();
        let mut sender = Sender::new(1);
        sender.push(Some(to_address.into()))[0] = 1;
        assert_eq!(Ok(1), sender.flush(&from));
        from.connect(to_address).unwrap();
        sender.push(None)[0] = 2;
        assert_eq!(Ok(1), sender.flush(&from));
        let mut receiver = Receiver::default();
        assert_eq!(Ok(2), receiver.receive(&to, BATCH));
        assert_eq!([1], receiver.datagram(0).1);
        assert_eq!([2], receiver.datagram(1).1);
    }

    #[test]
    fn a_batch_sent_in_segments_arrives_as_datagrams() {
        let (from, _) = socket();
        let (to, to_address) = socket();
        let mut sender = Sender::segmented(3);
        for number in 0..5 {
            sender.push(Some(to_address.into())).copy_from_slice(&[number; 3]);
        }
        assert_eq!(Ok(5), sender.flush(&from));
        let mut receiver = Receiver::default();
        assert_eq!(Ok(5), receiver.receive(&to, BATCH));
        assert_eq!([4; 3], receiver.datagram(4).1);
    }

    #[test]
    fn the_kernel_says_when_a_datagram_arrived_however_late_it_is_read() {
        let (from, _) = socket();
        let (to, to_address) = socket();
        nix::sys::socket::setsockopt(&to, nix::sys::socket::sockopt::ReceiveTimestampns, &true)
            .unwrap();
        let clock = crate::clock::Clock::start();
        let mut receiver = Receiver::with_arrival_times();
        for _ in 0..3 {
            let before = clock.nanos();
            from.send_to(&[1], to_address).unwrap();
            let after = clock.nanos();
            assert_eq!(Ok(1), receiver.receive(&to, BATCH));
            let at = clock.at_time_of_day(receiver.arrival_time(0).unwrap());
            // The two clocks are read one after the other at the start.
            assert!(at + 100_000 >= before && at <= after + 100_000, "{before} {at} {after}");
        }
    }

    #[test]
    fn a_header_fits_in_front_of_what_arrived() {
        let (from, _) = socket();
        let (to, to_address) = socket();
        from.send_to(&[9, 9], to_address).unwrap();
        let mut receiver = Receiver::default();
        assert_eq!(Ok(1), receiver.receive(&to, BATCH));
        let (_, framed) = receiver.datagram_with_headroom(0);
        framed[..HEADROOM].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!([1, 2, 3, 4, 9, 9], *framed);
    }
}
