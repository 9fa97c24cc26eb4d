//! How messages are put on what they travel on: in the clear, or under TLS.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::outbox::Outbox;
use crate::paced::Paced;
use crate::socket::BATCH;

/// A stream that carries messages.
pub(super) trait MessageStream: AsyncRead + AsyncWrite + Unpin {
    /// Takes as much of what waits as there is room for, and says how many bytes that is. All of it
    /// is on its way when the stream is flushed.
    ///
    /// # Errors
    /// When the connection is broken.
    fn poll_take(&mut self, cx: &mut Context<'_>, waiting: &Outbox) -> Poll<io::Result<usize>>;
}

/// In the clear nothing shows where one message ends: one call for all that waits.
impl<S: AsyncRead + AsyncWrite + Unpin> MessageStream for Paced<S> {
    fn poll_take(&mut self, cx: &mut Context<'_>, waiting: &Outbox) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(cx, &waiting.slices())
    }
}

/// Every message has a record of its own, since some clients (coturn's among them) take what one
/// record holds for one message and lose the others. The records then go out together: one call
/// writes as many as are taken here.
impl<S: AsyncRead + AsyncWrite + Unpin> MessageStream for TlsStream<S> {
    fn poll_take(&mut self, cx: &mut Context<'_>, waiting: &Outbox) -> Poll<io::Result<usize>> {
        // A message that TLS has room for a part of would get two records: TLS is emptied before it
        // is filled again.
        ready!(Pin::new(&mut *self).poll_flush(cx))?;
        let (_, tls) = self.get_mut();
        let (mut taken, mut held) = (0, KEY_UPDATE);
        for message in waiting.messages().take(RECORDS_AT_ONCE) {
            held += message.len() + RECORD_OVERHEAD;
            if taken > 0 && held > TLS_BUFFER {
                break;
            }
            let written = tls.writer().write(message)?;
            taken += written;
            if written < message.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }
}

impl<S: MessageStream> MessageStream for Box<S> {
    fn poll_take(&mut self, cx: &mut Context<'_>, waiting: &Outbox) -> Poll<io::Result<usize>> {
        (**self).poll_take(cx, waiting)
    }
}

/// Bytes that wait within TLS for the kernel: two records of the largest size. What waits before
/// that can make room.
pub(super) const TLS_BUFFER: usize = 32 << 10;

/// Records that wait within TLS for the kernel, and are given to it in one call: rustls takes so
/// many slices.
const RECORDS_AT_ONCE: usize = BATCH;

/// What a record takes beside its message, at most: header, explicit nonce and tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 16;

/// What TLS 1.3 puts before the first of them now and then, to have another key.
const KEY_UPDATE: usize = RECORD_OVERHEAD + 5;

#[cfg(test)]
mod tests;
