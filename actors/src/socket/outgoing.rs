//! Many datagrams in one system call: `sendmmsg` from borrowed slices, and within it one send for
//! each run of datagrams that the kernel can cut apart itself (UDP_SEGMENT): one way through its
//! layers instead of one for each.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use smallvec::SmallVec;

use super::control::Control;
use super::{BATCH, names};
use crate::transport::{Frame, Sent};

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    /// The destination.
    pub(super) to: SocketAddr,
    /// The payload, and the header fields it is sent with where they are chosen for each.
    pub(super) frame: Frame<'a>,
}

impl Datagram<'_> {
    fn len(&self) -> usize {
        self.frame.len()
    }

    /// What it is made of, without what is empty.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let Frame { header, bytes, padding, .. } = self.frame;
        let padding = ZEROS.get(..padding).unwrap_or(ZEROS);
        [header, bytes, padding].into_iter().filter(|slice| !slice.is_empty())
    }
}

/// How the header fields and the source address of a `sendmmsg` are chosen.
#[derive(Clone, Copy)]
pub(super) enum HeaderChoice {
    /// As the socket's own options say.
    Socket,
    /// By control messages of each datagram, from this local address where one is given.
    EachDatagram { from: Option<IpAddr> },
}

/// The longest datagram that the kernel cuts from a longer send on a way. It refuses those that do
/// not fit the path (EINVAL, EMSGSIZE), or any where it cannot be done there (EIO); what it has
/// refused once is not tried again.
#[derive(Debug)]
pub(super) struct SegmentMax(Cell<usize>);

impl SegmentMax {
    pub(super) const fn new() -> SegmentMax {
        SegmentMax(Cell::new(usize::MAX))
    }

    /// Remembers that a run of datagrams of this length was refused for `error`, where one of them
    /// alone was not.
    fn lower(&self, length: usize, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::EMSGSIZE) => self.0.set(length.saturating_sub(1)),
            Some(libc::EIO | libc::EOPNOTSUPP) => self.0.set(0),
            _ => {}
        }
    }

    /// How many of these datagrams, from the first on, can be one send: they go to the same place
    /// with the same header, and all but the last have the same length.
    fn run_length(&self, datagrams: &[Datagram<'_>]) -> usize {
        let Some(first) = datagrams.first() else { return 0 };
        let length = first.len();
        if length == 0 || length > self.0.get() {
            return 1;
        }
        let fitting = (RUN_BYTES_MAX / length).clamp(1, RUN_MAX);
        let mut run = 1;
        for next in datagrams.iter().take(fitting).skip(1) {
            let alike = next.to == first.to && next.frame.fields == first.frame.fields;
            if !alike || next.len() > length || next.len() == 0 {
                break;
            }
            run += 1;
            if next.len() < length {
                break;
            }
        }
        run
    }
}

/// Sends `datagrams` one after the other; one that fails is counted and passed over, and the socket
/// lives on.
pub(super) fn send_all(
    socket: &impl AsFd,
    datagrams: &[Datagram<'_>],
    choice: HeaderChoice,
    segment_max: &SegmentMax,
) -> Sent {
    let mut sent = Sent::default();
    let mut rest = datagrams;
    let mut retried = false;
    // Why a run was refused, while its first datagram is tried alone.
    let mut run_refused: Option<io::Error> = None;
    while let Some(first) = rest.first() {
        let tried = if run_refused.is_some() { std::slice::from_ref(first) } else { rest };
        match send(socket.as_fd(), tried, choice, segment_max) {
            Ok(Taken { datagrams, sends }) => {
                if let Some(error) = run_refused.take() {
                    segment_max.lower(first.len(), &error);
                }
                let (taken, left) = rest.split_at(datagrams.clamp(1, rest.len()));
                sent.packets += taken.len() as u32;
                sent.sends += sends as u32;
                sent.bytes += taken.iter().map(|datagram| datagram.len() as u64).sum::<u64>();
                rest = left;
                retried = false;
            }
            // A pending error of an earlier datagram is reported to whoever sends next, and cleared
            // by the report: this datagram has not been tried yet.
            Err(error) if !retried && is_pending_error(&error, first) => retried = true,
            Err(error) => {
                let run = segment_max.run_length(tried).min(rest.len());
                let is_full = error.kind() == io::ErrorKind::WouldBlock;
                retried = false;
                if run > 1 && !is_full {
                    run_refused = Some(error);
                    continue;
                }
                run_refused = None;
                match is_full {
                    true => sent.no_room += run as u32,
                    false => sent.failed += run as u32,
                }
                rest = rest.get(run..).unwrap_or_default();
            }
        }
    }
    sent
}

fn is_pending_error(error: &io::Error, datagram: &Datagram<'_>) -> bool {
    // Port 0 is refused as such each time.
    let told_by_icmp = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EMSGSIZE,
        libc::EPROTO,
        libc::EACCES,
    ];
    datagram.to.port() != 0 && error.raw_os_error().is_some_and(|code| told_by_icmp.contains(&code))
}

/// What one system call has taken.
struct Taken {
    datagrams: usize,
    sends: usize,
}

/// Sends as many of `datagrams` as one system call can, in order and without blocking. Fewer than
/// there are may mean that the next one failed, and why is what the next call says.
///
/// # Errors
/// The reason why the first run of datagrams was not taken.
fn send(
    socket: BorrowedFd<'_>,
    datagrams: &[Datagram<'_>],
    choice: HeaderChoice,
    segment_max: &SegmentMax,
) -> io::Result<Taken> {
    let datagrams = datagrams.get(..BATCH).unwrap_or(datagrams);
    let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
    let mut controls = [const { Control::new() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut runs: SmallVec<[usize; BATCH]> = SmallVec::new();
    // A datagram has a header, bytes and padding at most.
    let mut vectors: SmallVec<[libc::iovec; BATCH]> = SmallVec::with_capacity(3 * datagrams.len());
    vectors.extend(datagrams.iter().flat_map(Datagram::slices).map(|slice| libc::iovec {
        iov_base: slice.as_ptr().cast_mut().cast(),
        iov_len: slice.len(),
    }));
    let mut vectors_left = vectors.as_mut_slice();
    let mut rest = datagrams;
    while let Some(first) = rest.first() {
        let index = runs.len();
        let (run, behind) = rest.split_at(segment_max.run_length(rest));
        let slices = run.iter().map(|datagram| datagram.slices().count()).sum();
        let (own, others) = vectors_left.split_at_mut(slices);
        (rest, vectors_left) = (behind, others);
        let name_len = names::write_address(&mut names[index], first.to);
        let control = &mut controls[index];
        let mut control_len = match choice {
            HeaderChoice::Socket => 0,
            HeaderChoice::EachDatagram { from } => {
                control.write(first.to.ip(), first.frame.fields, from)
            }
        };
        if run.len() > 1 {
            // A run's datagrams are at most as long as a send, which 16 bits can say.
            control_len = control.write_segment(control_len, first.len() as u16);
        }
        headers[index].write(names::header(
            names[index].as_mut_ptr().cast(),
            name_len,
            own,
            control.as_mut_ptr(),
            control_len,
        ));
        runs.push(run.len());
    }
    // SAFETY: as many headers as there are runs were initialised above; the names, control buffers,
    // vectors and payloads they point to outlive the call, are as long as said, and sendmmsg only
    // reads them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            runs.len() as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    let sends = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(Taken { datagrams: runs.iter().take(sends).sum(), sends })
}

const ZEROS: &[u8; 3] = &[0; 3];

/// Datagrams that one send may be cut into: UDP_MAX_SEGMENTS of the oldest kernel that has it.
const RUN_MAX: usize = 64;

/// Bytes of one send: what the length field of an IPv4 header can say, less headers.
const RUN_BYTES_MAX: usize = 65_535 - 20 - 8;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::transport::HeaderFields;

    fn datagram<'a>(to: &str, header: &'a [u8], bytes: &'a [u8]) -> Datagram<'a> {
        let to = to.parse().expect("an address");
        Datagram { to, frame: Frame { header, ..Frame::media(bytes, HeaderFields::default()) } }
    }

    #[test]
    fn a_run_has_one_place_one_header_and_one_length_but_for_its_last() {
        let (a, b) = ("192.0.2.1:1", "192.0.2.1:2");
        let long = [0; 30_000];
        let marked = HeaderFields { hop_limit: Some(9), traffic_class: 0 };
        let marked = Datagram { to: datagram(a, b"", b"").to, frame: Frame::media(b"1", marked) };
        let rows: [(&[Datagram<'_>], usize); 9] = [
            (&[], 0),
            (&[datagram(a, b"head", b"data")], 1),
            (&[datagram(a, b"head", b"data"), datagram(a, b"", b"headdata")], 2),
            (&[datagram(a, b"", b"12"), datagram(a, b"", b"1"), datagram(a, b"", b"1")], 2),
            (&[datagram(a, b"", b"1"), datagram(a, b"", b"12")], 1),
            (&[datagram(a, b"", b"12"), datagram(b, b"", b"12")], 1),
            (&[datagram(a, b"", b""), datagram(a, b"", b"")], 1),
            (&[datagram(a, b"", &long), datagram(a, b"", &long), datagram(a, b"", &long)], 2),
            (&[datagram(a, b"", b"1"), marked], 1),
        ];
        for (datagrams, expected) in rows {
            assert_eq!(expected, SegmentMax::new().run_length(datagrams), "{datagrams:?}");
        }
        let many = vec![datagram(a, b"", b"1"); 100];
        assert_eq!(RUN_MAX, SegmentMax::new().run_length(&many));
    }

    #[test]
    fn what_was_refused_once_is_not_tried_again() {
        let segment_max = SegmentMax::new();
        let (long, short) = ([0; 1500], [0; 1400]);
        let long = vec![datagram("192.0.2.1:1", b"", &long); 3];
        let short = vec![datagram("192.0.2.1:1", b"", &short); 3];

        segment_max.lower(1500, &io::Error::from_raw_os_error(libc::ENETUNREACH));
        assert_eq!(3, segment_max.run_length(&long));
        segment_max.lower(1500, &io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!((1, 3), (segment_max.run_length(&long), segment_max.run_length(&short)));
        segment_max.lower(1400, &io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(1, segment_max.run_length(&short));
    }

    /// A socket that sends without checksums, for which the kernel cuts nothing apart, and another.
    fn socket_without_runs() -> (UdpSocket, UdpSocket) {
        let [socket, receiver] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port"));
        let (on, size) = (1, libc::socklen_t::try_from(size_of::<libc::c_int>()));
        // SAFETY: the option is an integer, which is there during the call and as long as said.
        let set = unsafe {
            let (fd, on) = (socket.as_raw_fd(), std::ptr::from_ref::<libc::c_int>(&on));
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, on.cast(), size.expect("4"))
        };
        assert_eq!(0, set, "{}", io::Error::last_os_error());
        receiver.set_nonblocking(true).expect("an option");
        (socket, receiver)
    }

    fn received(receiver: &UdpSocket) -> Vec<Vec<u8>> {
        let next = || {
            let mut buffer = [0; 100];
            let length = receiver.recv(&mut buffer).ok()?;
            Some(buffer[..length].to_vec())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_refused_run_is_sent_one_by_one_in_order_and_no_other_is_tried() {
        let (socket, receiver) = socket_without_runs();
        let to = receiver.local_addr().expect("bound").to_string();
        let numbers: [[u8; 2]; 9] = std::array::from_fn(|number| [0, number as u8]);
        let datagrams: Vec<_> =
            numbers.iter().map(|number| datagram(&to, &number[..1], &number[1..])).collect();
        let segment_max = SegmentMax::new();
        for _ in 0..2 {
            let sent = send_all(&socket, &datagrams, HeaderChoice::Socket, &segment_max);
            let expected = Sent { packets: 9, sends: 9, bytes: 18, ..Sent::default() };
            assert_eq!(expected, sent);
            assert_eq!(numbers.map(Vec::from).to_vec(), received(&receiver));
            assert_eq!(1, segment_max.0.get(), "what was refused is not tried again");
        }
    }

    #[test]
    fn where_nothing_can_be_sent_a_refused_run_fails_whole_and_says_nothing_of_runs() {
        let (socket, receiver) = socket_without_runs();
        let to = receiver.local_addr().expect("bound").to_string();
        // Nobody may send to port 0.
        let datagrams = [
            datagram("127.0.0.1:0", b"", b"12"),
            datagram("127.0.0.1:0", b"", b"34"),
            datagram("127.0.0.1:0", b"", b"56"),
            datagram(&to, b"", b"78"),
        ];
        let segment_max = SegmentMax::new();
        let sent = send_all(&socket, &datagrams, HeaderChoice::Socket, &segment_max);
        let expected = Sent { packets: 1, sends: 1, bytes: 2, failed: 3, ..Sent::default() };
        assert_eq!(expected, sent);
        assert_eq!(vec![b"78".to_vec()], received(&receiver));
        assert_eq!(usize::MAX, segment_max.0.get());
    }
}
