//! Messages cut out of a stream (RFC 8656 §12.5, RFC 8489 §6.2.2).

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sterna_proto::channel_data::{frame_len, stream_padding};

use crate::clock::Deadline;
use crate::transport::Transport;

/// A connection that bytes come out of in the order in which they went in.
pub trait ByteStream: Read + Write + fmt::Debug {
    /// What is beneath, for its time-outs and its descriptor.
    fn tcp(&self) -> &TcpStream;
}

impl ByteStream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// A stream of STUN and ChannelData messages.
#[derive(Debug)]
pub struct Framed<S> {
    stream: S,
    /// What was read, from `taken` to `filled`; what lies before has been taken as messages.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl<S: ByteStream> Framed<S> {
    /// The messages of a stream of which nothing has been read.
    pub fn new(stream: S) -> Framed<S> {
        Framed { stream, buffer: vec![0; READ_LEAST], taken: 0, filled: 0 }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, to write whole messages to, padded to four bytes.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Takes the next message, with its padding, of what has been read. `None`: more has to be.
    /// After an error, which is [`ErrorKind::InvalidData`], the stream cannot be understood.
    pub fn next_message(&mut self) -> io::Result<Option<&[u8]>> {
        let unread = self.buffer.get(self.taken..self.filled).unwrap_or_default();
        let len = frame_len(unread).map_err(|error| io::Error::new(ErrorKind::InvalidData, error));
        let Some(message) = len?.and_then(|len| unread.get(..len)) else {
            return Ok(None);
        };
        self.taken += message.len();
        Ok(Some(message))
    }

    /// Reads once from the stream. Its end is [`ErrorKind::UnexpectedEof`].
    pub fn read_more(&mut self) -> io::Result<()> {
        if self.taken > 0 {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        // Twice the longest message: a buffer that is full of them has at least one to be taken.
        if self.filled == self.buffer.len() && self.filled < READ_MOST {
            self.buffer.resize(self.filled * 2, 0);
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match self.stream.read(room)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            len => {
                self.filled += len;
                Ok(())
            }
        }
    }
}

impl<S: ByteStream> Transport for Framed<S> {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
    //# Over TCP and TLS-over-TCP, the ChannelData message MUST be padded to
    //# a multiple of four bytes in order to ensure the alignment of
    //# subsequent messages.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let padding = [0; 3].into_iter().take(stream_padding(message.len()));
        let padded: Vec<u8> = message.iter().copied().chain(padding).collect();
        self.stream.write_all(&padded)?;
        self.stream.flush()
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<usize>> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(message) = self.next_message()? {
                let len = message.len().min(buffer.len());
                buffer.iter_mut().zip(message).for_each(|(to, from)| *to = *from);
                return Ok(Some(len));
            }
            let Some(remaining) = deadline.remaining() else {
                return Ok(None);
            };
            self.stream.tcp().set_read_timeout(Some(remaining))?;
            match self.read_more().map_err(|error| (error.kind(), error)) {
                Ok(()) | Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock | ErrorKind::TimedOut, _)) => return Ok(None),
                Err((_, error)) => return Err(error),
            }
        }
    }

    fn is_reliable(&self) -> bool {
        true
    }
}

/// Enough for the answers of a server; connections that carry more read more at a time.
const READ_LEAST: usize = 2048;

/// More than the longest message, ChannelData with 65,535 bytes.
const READ_MOST: usize = 128 << 10;
