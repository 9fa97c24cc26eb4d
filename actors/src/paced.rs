//! A stream that is not read for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// After so many reads in a row that all brought something, the next one has to wait for a turn.
///
/// Connections are polled without tokio's budget for a task. What reads them may go on as long as
/// anything comes: TLS, while records hold no data, and copying.
pub(crate) struct Paced<S> {
    stream: S,
    reads_left: u32,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S) -> Paced<S> {
        Paced { stream, reads_left: READS_IN_ONE_TURN }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.reads_left.checked_sub(1) else {
            self.reads_left = READS_IN_ONE_TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let polled = Pin::new(&mut self.stream).poll_read(cx, room);
        self.reads_left = if polled.is_ready() { left } else { READS_IN_ONE_TURN };
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Of 4 KiB each under TLS, as much as a connection delivers in a turn.
const READS_IN_ONE_TURN: u32 = 16;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::task::coop::unconstrained;

    use super::*;

    #[tokio::test]
    async fn reading_where_there_is_always_more_takes_turns() {
        let mut stream = Paced::new(tokio::io::repeat(7));
        let mut turns = 0;
        let mut read = 0;
        let mut reading = std::pin::pin!(unconstrained(async {
            loop {
                read += stream.read(&mut [0; 10]).await.unwrap_or(0);
                if read == 1000 {
                    return;
                }
            }
        }));
        std::future::poll_fn(|cx| {
            turns += 1;
            reading.as_mut().poll(cx)
        })
        .await;
        assert_eq!((100_u32).div_ceil(READS_IN_ONE_TURN), turns);
    }
}
