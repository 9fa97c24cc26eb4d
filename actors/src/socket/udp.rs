//! UDP behind the interfaces of [`crate::transport`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use socket2::Socket;
use sterna_proto::address::{FiveTuple, RelayedAddr, TransportProtocol};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio_util::sync::ReusableBoxFuture;

use super::options::{self, BindError, ListenOptions, RelayOptions};
use super::outgoing::{Datagram, HeaderChoice, SegmentMax, send_all};
use super::{BATCH, ReceiveBatch, icmp};
use crate::transport::{
    ClientTransport, Frame, HeaderFields, IcmpError, ListenSocket, Readiness, RelaySocket, Sent,
    ToPeer,
};

/// A UDP socket on which clients arrive, shared with the transports of its clients.
pub struct UdpListenSocket {
    socket: AsyncFd<Arc<Socket>>,
    local: SocketAddr,
}

impl UdpListenSocket {
    /// Binds a socket to `address`. Needs no runtime, so that a bad address is found before
    /// anything else has started.
    ///
    /// # Errors
    /// The address and what the kernel says of it.
    pub fn bind(address: SocketAddr, options: ListenOptions) -> Result<Socket, BindError> {
        let bound = options::listen(address, options);
        bound.map_err(|cause| BindError { protocol: TransportProtocol::Udp, address, cause })
    }

    /// Puts a bound socket under the care of the runtime of this thread.
    ///
    /// # Errors
    /// When the runtime cannot watch it, or the kernel does not tell its address.
    pub fn watch(socket: Socket) -> io::Result<UdpListenSocket> {
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        let socket = watched(Arc::new(socket), Interest::READABLE)?;
        Ok(UdpListenSocket { socket, local })
    }

    /// On a wildcard address each answer names the address that it leaves from.
    fn source(&self, five_tuple: &FiveTuple) -> Option<IpAddr> {
        self.local.ip().is_unspecified().then_some(five_tuple.server.ip())
    }
}

impl ListenSocket for UdpListenSocket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = match self.socket.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => ready?,
            };
            match batch.receive(self.socket.get_ref().as_fd()) {
                // A short read has met the end of the queue: asking again would only hear so.
                Ok(count) if count < BATCH => {
                    ready.clear_ready();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                result => return Poll::Ready(result),
            }
        }
    }

    fn transport(&mut self, five_tuple: FiveTuple) -> Rc<dyn ClientTransport> {
        Rc::new(UdpClientTransport {
            socket: self.socket.get_ref().clone(),
            segment_max: SegmentMax::new(),
            source: self.source(&five_tuple),
            five_tuple,
        })
    }

    fn answer(&mut self, five_tuple: FiveTuple, bytes: &[u8]) -> Sent {
        let choice = HeaderChoice::EachDatagram { from: self.source(&five_tuple) };
        let datagram = Datagram { to: five_tuple.client, frame: Frame::control(bytes) };
        send_all(self.socket.get_ref(), &[datagram], choice, &SegmentMax::new())
    }
}

/// The way back to one client of a [`UdpListenSocket`].
struct UdpClientTransport {
    socket: Arc<Socket>,
    /// The way to this client, which others do not share.
    segment_max: SegmentMax,
    source: Option<IpAddr>,
    five_tuple: FiveTuple,
}

impl ClientTransport for UdpClientTransport {
    fn five_tuple(&self) -> FiveTuple {
        self.five_tuple
    }

    // The socket belongs to all clients of its listener, so header fields travel with each
    // datagram. A setsockopt would leak one client's TTL into another's packets.
    fn send(&self, frames: &[Frame<'_>]) -> Sent {
        let choice = HeaderChoice::EachDatagram { from: self.source };
        let to = self.five_tuple.client;
        let datagrams: Datagrams<'_> = frames.iter().map(|&frame| Datagram { to, frame }).collect();
        send_all(&self.socket, &datagrams, choice, &self.segment_max)
    }
}

/// A UDP socket on a relayed transport address.
///
/// It belongs to one allocation, so the header fields of what it sends are options of the socket,
/// set when they change: a control message with each datagram costs a tenth of the system call.
pub(super) struct UdpRelaySocket {
    socket: Arc<AsyncFd<Socket>>,
    ready: ReusableBoxFuture<'static, io::Result<Ready>>,
    local: RelayedAddr,
    fields: HeaderFields,
    dont_fragment: bool,
    segment_max: SegmentMax,
}

fn watched<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: both types given here, `Socket` and `Arc<Socket>`, own their descriptor and name the
    // same one each time; it is open until the AsyncFd drops its inner value.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(io::Error::from)
}

async fn ready(socket: Arc<AsyncFd<Socket>>) -> io::Result<Ready> {
    Ok(socket.ready(Interest::READABLE | Interest::ERROR).await?.ready())
}

impl UdpRelaySocket {
    pub(super) fn bind(address: RelayedAddr, options: &RelayOptions) -> io::Result<UdpRelaySocket> {
        let socket = options::relay(address, options)?;
        let interest = Interest::READABLE | Interest::ERROR;
        let socket = Arc::new(watched(socket, interest)?);
        Ok(UdpRelaySocket {
            ready: ReusableBoxFuture::new(ready(socket.clone())),
            socket,
            local: address,
            fields: HeaderFields::default(),
            dont_fragment: false,
            segment_max: SegmentMax::new(),
        })
    }

    /// Runs `operation`; `WouldBlock` from it takes the readiness back, so that the next
    /// `poll_ready` waits.
    fn attempt<T>(
        &self,
        interest: Interest,
        operation: impl FnOnce(&Socket) -> io::Result<T>,
    ) -> io::Result<T> {
        self.socket.try_io(interest, operation)
    }

    fn forget_readiness(&self, interest: Interest) {
        let _ = self.attempt::<()>(interest, |_| Err(io::ErrorKind::WouldBlock.into()));
    }

    fn apply(&mut self, fields: HeaderFields, dont_fragment: bool) -> nix::Result<()> {
        let (socket, family) = (self.socket.get_ref(), self.local.0.ip());
        if fields.hop_limit != self.fields.hop_limit {
            options::set_hop_limit(socket, family, fields.hop_limit)?;
            self.fields.hop_limit = fields.hop_limit;
        }
        if fields.traffic_class != self.fields.traffic_class {
            options::set_traffic_class(socket, family, fields.traffic_class)?;
            self.fields.traffic_class = fields.traffic_class;
        }
        if dont_fragment != self.dont_fragment {
            options::set_dont_fragment(socket, family, dont_fragment)?;
            self.dont_fragment = dont_fragment;
        }
        Ok(())
    }
}

impl RelaySocket for UdpRelaySocket {
    fn local(&self) -> RelayedAddr {
        self.local
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Readiness> {
        let Poll::Ready(result) = self.ready.poll(cx) else {
            return Poll::Pending;
        };
        self.ready.set(ready(self.socket.clone()));
        // An error here means that the runtime shuts down; nothing is read any more then.
        let Ok(ready) = result else {
            return Poll::Pending;
        };
        Poll::Ready(Readiness { readable: ready.is_readable(), errors: ready.is_error() })
    }

    fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        let count = self.attempt(Interest::READABLE, |socket| batch.receive(socket.as_fd()))?;
        if count < BATCH {
            self.forget_readiness(Interest::READABLE);
        }
        Ok(count)
    }

    fn send(&mut self, datagrams: &[ToPeer<'_>]) -> Sent {
        let mut sent = Sent::default();
        let same_header = |a: &ToPeer<'_>, b: &ToPeer<'_>| {
            a.fields == b.fields && a.dont_fragment == b.dont_fragment
        };
        for run in datagrams.chunk_by(same_header) {
            let Some(first) = run.first() else { continue };
            if self.apply(first.fields, first.dont_fragment).is_err() {
                sent.failed += run.len() as u32;
                continue;
            }
            let datagrams: Datagrams<'_> = run
                .iter()
                .map(|to| Datagram { to: to.peer.0, frame: Frame::media(to.data, to.fields) })
                .collect();
            let socket = self.socket.get_ref();
            sent.add(send_all(socket, &datagrams, HeaderChoice::Socket, &self.segment_max));
        }
        sent
    }

    fn take_error(&mut self) -> Option<IcmpError> {
        let error = icmp::take_error(self.socket.get_ref().as_fd());
        if error.is_none() {
            self.forget_readiness(Interest::ERROR);
        }
        error
    }
}

/// The datagrams of one call; the few of an ordinary wake need no heap.
type Datagrams<'a> = SmallVec<[Datagram<'a>; 8]>;
