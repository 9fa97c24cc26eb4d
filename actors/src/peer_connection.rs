//! A TCP connection between the server and a peer, and what becomes of it (RFC 6062).

mod copying;
mod pace;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix::Recipient;
use actix::dev::SendError;
use slog::Logger;
use sterna_proto::account::Account;
use sterna_proto::quotas::{Direction, PerDirection};
use sterna_proto::stun::ConnectionId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::allocation::{ConnectionReport, DrawBytes};
use crate::session::SessionId;
use crate::usage::{Traffic, Usage};

use copying::copy;
use pace::Pace;

/// A connection to a peer that no runtime watches: what the peer sends waits in the kernel, within
/// the bound that the kernel has for it.
pub trait PeerStream: Send {
    /// Puts it under the care of the runtime of this thread.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    fn open(self: Box<Self>) -> io::Result<Box<dyn Duplex>>;
}

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// The stream does not block.
impl PeerStream for std::net::TcpStream {
    fn open(self: Box<Self>) -> io::Result<Box<dyn Duplex>> {
        Ok(Box::new(tokio::net::TcpStream::from_std(*self)?))
    }
}

/// A TCP connection to a peer that waits for its client data connection. It travels to the arbiter
/// of the client's connection, which is not always that of the allocation.
pub struct PeerConnection {
    stream: Box<dyn PeerStream>,
    // Boxed, since a connection is handed on by value, as an error too.
    tie: Option<Box<Tie>>,
}

/// What ties a connection to its allocation: dropped at the end of either, it tells the other.
struct Tie {
    meter: Meter,
    is_paced: watch::Receiver<bool>,
}

impl fmt::Debug for PeerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConnection").finish_non_exhaustive()
    }
}

impl PeerConnection {
    /// The connection `stream`, which belongs to no allocation.
    pub fn new(stream: impl PeerStream + 'static) -> PeerConnection {
        PeerConnection { stream: Box::new(stream), tie: None }
    }

    /// The connection `stream` of an allocation, which hears through `meter` of what it carries and
    /// of its end. The other side of `is_paced` says whether its bytes are limited, and ends it
    /// when it is dropped.
    pub fn of_allocation(
        stream: Box<dyn PeerStream>,
        meter: Meter,
        is_paced: watch::Receiver<bool>,
    ) -> PeerConnection {
        PeerConnection { stream, tie: Some(Box::new(Tie { meter, is_paced })) }
    }

    /// Copies what comes on either side to the other, until both have ended, the allocation does,
    /// or the connection breaks. The end of one direction is passed on as such; the other ends at
    /// the latest when it has been silent for a minute after that. Each direction is read as fast
    /// as its far side takes it, and as the allocation's limits let it.
    ///
    /// # Errors
    /// What broke it.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
    //# Data received on it MUST be sent as-is to the associated
    //# peer data connection.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.4
    //# Data received on the associated peer data connection MUST be sent
    //# as-is on this client data connection.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
    //# When a client data connection is closed, the server MUST close the
    //# corresponding peer data connection.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.5
    //# When a peer data connection is closed, the server MUST close the
    //# corresponding client data connection.
    pub async fn relay<S: AsyncRead + AsyncWrite + Unpin>(self, mut client: S) -> io::Result<()> {
        let mut peer = self.stream.open()?;
        let Some(tie) = self.tie else {
            return copy(&mut client, &mut peer).await;
        };
        let Tie { meter, mut is_paced } = *tie;
        let pace = |direction| Pace::new(is_paced.clone(), direction, meter.draw.clone());
        let (to_peers, to_client) = (pace(Direction::ToPeers), pace(Direction::ToClient));
        // Dropped last: its word says that both connections are closed.
        let meter = RefCell::new(meter);
        let mut client = Metered {
            stream: client,
            leg: |usage| &mut usage.client,
            pace: to_peers,
            allowance: |[to_peers, _]| to_peers,
            meter: &meter,
        };
        let mut peer = Metered {
            stream: peer,
            leg: |usage| &mut usage.peer,
            pace: to_client,
            allowance: |[_, to_client]| to_client,
            meter: &meter,
        };
        let allocation_ended = async { while is_paced.changed().await.is_ok() {} };
        tokio::select! {
            copied = copy(&mut client, &mut peer) => copied,
            () = allocation_ended => Ok(()),
        }
    }
}

/// Counts what a connection carries, and tells its allocation: in passing, and at the end by Drop.
/// What the allocation does not hear because it is gone is reported to the log from here.
pub struct Meter {
    /// The connection.
    pub id: ConnectionId,
    /// Its allocation.
    pub allocation: Recipient<ConnectionReport>,
    /// Likewise, where it is asked for what may be carried.
    pub draw: Recipient<DrawBytes>,
    /// The allocation's session, for the log.
    pub session: SessionId,
    /// Likewise, its owner.
    pub account: Arc<Account>,
    /// Likewise.
    pub log: Logger,
    /// What has been carried and not told.
    pub untold: Usage,
    /// What may be carried without asking again.
    pub allowance: PerDirection<u64>,
}

impl Meter {
    fn report(&mut self, over: bool) -> ConnectionReport {
        let Usage { client, peer, .. } = std::mem::take(&mut self.untold);
        let unused = if over { self.allowance } else { [0; 2] };
        ConnectionReport { id: self.id, client, peer, over, unused }
    }

    fn tell_if_due(&mut self) {
        if self.untold.client.packets() + self.untold.peer.packets() < REPORT_EVERY {
            return;
        }
        let report = self.report(false);
        match self.allocation.try_send(report) {
            Ok(()) => {}
            // Told with what comes next, or in the end.
            Err(SendError::Full(report) | SendError::Closed(report)) => {
                self.untold.client.add(&report.client);
                self.untold.peer.add(&report.peer);
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.allocation.connected() {
            let report = self.report(true);
            self.allocation.do_send(report);
        } else if self.untold.client.packets() + self.untold.peer.packets() > 0 {
            self.untold.report(&self.log, self.session, &self.account);
        }
    }
}

/// One end of a relayed connection, with its traffic counted, and read as its pace allows.
struct Metered<'a, S> {
    stream: S,
    leg: fn(&mut Usage) -> &mut Traffic,
    pace: Pace,
    allowance: fn(&mut PerDirection<u64>) -> &mut u64,
    meter: &'a RefCell<Meter>,
}

impl<S> Metered<'_, S> {
    fn count(&self, count: impl FnOnce(&mut Traffic)) {
        let mut meter = self.meter.borrow_mut();
        count((self.leg)(&mut meter.untold));
        meter.tell_if_due();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let most = {
            let allowances = &mut this.meter.borrow_mut().allowance;
            ready!(this.pace.poll_allowance(cx, (this.allowance)(allowances)))
        };
        let before = buffer.filled().len();
        let polled = match most {
            None => Pin::new(&mut this.stream).poll_read(cx, buffer),
            Some(most) => poll_read_some(&mut this.stream, cx, buffer, most),
        };
        let read = buffer.filled().len() - before;
        if most.is_some() {
            let allowances = &mut this.meter.borrow_mut().allowance;
            *(this.allowance)(allowances) -= read as u64;
        }
        if read > 0 {
            self.count(|traffic| traffic.received(1, read as u64));
        }
        polled
    }
}

/// Reads no more than `most` bytes.
fn poll_read_some(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    most: u64,
) -> Poll<io::Result<()>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.remaining());
    let mut room = ReadBuf::new(buffer.initialize_unfilled_to(most));
    let polled = Pin::new(stream).poll_read(cx, &mut room);
    let read = room.filled().len();
    buffer.advance(read);
    polled
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.count(|traffic| traffic.sent(1, written as u64));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Reads and writes between two words to the allocation.
const REPORT_EVERY: u64 = 256;
