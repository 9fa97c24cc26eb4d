//! Copying between two connections, until both have ended or one is left alone.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::sleep_until;

use crate::clock;
use crate::paced::Paced;

/// Copies what comes on either side to the other. The end of one direction is passed on as such,
/// and the other goes on until it ends, or moves nothing for [`LEFT_ALONE_MAX`].
///
/// # Errors
/// What broke one of the connections.
pub(super) async fn copy(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    peer: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    let last = Last(Cell::new(None));
    let mut client = Watched { stream: Paced::new(client), last: &last };
    let mut peer = Watched { stream: Paced::new(peer), last: &last };
    tokio::select! {
        // In this order, so that the end of a direction is seen in the poll that meets it.
        biased;
        copied = copy_bidirectional_with_sizes(&mut client, &mut peer, BUFFER, BUFFER) => {
            copied.map(|_| ())
        }
        () = last.is_long_ago() => Ok(()),
    }
}

/// When bytes were moved last, once one of the directions has ended.
struct Last(Cell<Option<Instant>>);

impl Last {
    fn direction_ended(&self) {
        self.0.set(Some(clock::now()));
    }

    fn moved(&self) {
        if self.0.get().is_some() {
            self.0.set(Some(clock::now()));
        }
    }

    /// Waits until one direction has ended and the other has not moved for too long. It is polled
    /// wherever the copying is.
    async fn is_long_ago(&self) {
        loop {
            let last = poll_fn(|_| self.0.get().map_or(Poll::Pending, Poll::Ready)).await;
            let over = last + LEFT_ALONE_MAX;
            if over <= clock::now() {
                return;
            }
            sleep_until(over.into()).await;
        }
    }
}

/// A stream whose moves are noted.
struct Watched<'a, S> {
    stream: S,
    last: &'a Last,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, room);
        if let Poll::Ready(Ok(())) = polled {
            match room.filled().len() > before {
                true => self.last.moved(),
                false => self.last.direction_ended(),
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(_)) = polled {
            self.last.moved();
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

/// Bytes in flight in each direction of one connection, beside what the kernel holds.
const BUFFER: usize = 16 << 10;

/// How long the other direction may be silent when one has ended. Whoever has closed its connection
/// altogether looks like one that has only said all it had to say, until something is sent to it:
/// that may take for ever. Linux itself keeps the rest of a connection that nobody owns any more
/// for as long (tcp_fin_timeout), so that a later answer would have found nobody.
const LEFT_ALONE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::coop::unconstrained;

    use super::*;

    #[tokio::test]
    async fn copying_from_where_there_is_always_more_lets_others_have_their_turn() {
        // Neither end ever has to wait.
        let mut client = tokio::io::join(tokio::io::repeat(7), tokio::io::sink());
        let mut peer = tokio::io::join(tokio::io::repeat(8), tokio::io::sink());
        let mut copying = std::pin::pin!(unconstrained(copy(&mut client, &mut peer)));
        for _ in 0..3 {
            let is_waiting = poll_fn(|cx| Poll::Ready(copying.as_mut().poll(cx).is_pending()));
            assert!(is_waiting.await);
        }
    }
}
