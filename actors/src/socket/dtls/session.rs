//! One DTLS 1.2 session over a pipe of datagrams, by OpenSSL.

use std::io::{self, Read, Write};
use std::mem;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream,
    SslVersion,
};
use openssl::x509::X509;

use super::hello::{ALERT, COOKIE, Hello, Record, records};
use crate::tls::Identity;

/// Bytes of application data that fit one record, and so one datagram.
pub(super) const MESSAGE_MAX: usize = 16_384;

/// Makes the context of sessions that show `identity`.
///
/// # Errors
/// What OpenSSL says of the certificate or the key: of the wrong form, too weak, not a pair.
pub(super) fn context(identity: &Identity) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::dtls_server())?;
    builder.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    builder.set_cipher_list(CIPHERS)?;
    // An empty chain leaves the context without a certificate, which the check of the key refuses.
    for (place, certificate) in X509::stack_from_pem(&identity.chain)?.into_iter().enumerate() {
        match place {
            0 => builder.set_certificate(&certificate)?,
            _ => builder.add_extra_chain_cert(certificate)?,
        }
    }
    let key = PKey::private_key_from_pem(&identity.key)?;
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    builder.set_options(
        SslOptions::COOKIE_EXCHANGE
            | SslOptions::NO_QUERY_MTU
            | SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION,
    );
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // The cookie has been verified when a session is made. OpenSSL wants to go through the exchange
    // all the same: its request goes nowhere, and the true cookie answers it.
    builder.set_cookie_generate_cb(|_, room| {
        let Some(cookie) = room.get_mut(..COOKIE) else { return Ok(0) };
        cookie.fill(0);
        Ok(COOKIE)
    });
    builder.set_cookie_verify_cb(|_, cookie| cookie.len() == COOKIE);
    Ok(builder.build())
}

/// What a session reads from and writes to. Sessions of one socket take turns with one pipe.
#[derive(Default)]
pub(super) struct Pipe {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Where each datagram of `outgoing` ends.
    ends: Vec<usize>,
}

impl Pipe {
    /// Takes up the records of a datagram that pass. Returns whether there is any.
    fn fill(&mut self, datagram: &[u8], pass: impl Fn(&Record<'_>) -> bool) -> bool {
        self.incoming.clear();
        for record in records(datagram).filter(pass) {
            self.incoming.extend_from_slice(record.bytes);
        }
        !self.incoming.is_empty()
    }

    /// The datagrams that were written.
    pub(super) fn outgoing(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, &end)| self.outgoing.get(start..end))
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.outgoing.clear();
        self.ends.clear();
    }
}

impl Read for Pipe {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A datagram is read whole or cut off, as from a socket.
        let read = self.incoming.as_slice().read(room);
        self.incoming.clear();
        read
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(datagram);
        self.ends.push(self.outgoing.len());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing in it was for the session.
    Ignored,
    /// It is read; this many bytes of application data are in the room, if any.
    Read(Option<usize>),
    /// The client has ended the session.
    Closed,
    /// The session cannot go on, for this reason.
    Failed(String),
}

/// See the head of this file.
pub(super) struct Session {
    stream: SslStream<Pipe>,
    established: bool,
    /// Bytes of the shortest record that can be authentic.
    record_min: usize,
}

impl Session {
    /// Begins a session for a client whose hello has come with a good cookie. The datagram of that
    /// hello has to be given to [`Session::open`] next.
    ///
    /// # Errors
    /// What OpenSSL says, for want of memory.
    pub(super) fn begin(context: &SslContext, hello: &Hello<'_>) -> Result<Session, ErrorStack> {
        let mut ssl = Ssl::new(context)?;
        ssl.set_accept_state();
        ssl.set_mtu(HANDSHAKE_MTU)?;
        let mut stream = SslStream::new(ssl, Pipe::default())?;
        stream.get_mut().fill(&hello.as_first(), |_| true);
        // It wants to read: what it has written is the HelloVerifyRequest that the client has had.
        // Anything else shows when the hello itself is read.
        let _ = stream.do_handshake();
        *stream.get_mut() = Pipe::default();
        Ok(Session { stream, established: false, record_min: GCM_RECORD_MIN })
    }

    /// Whether the handshake is over.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// Answers the hello that the session began with; the flight is in `pipe` afterwards.
    ///
    /// # Errors
    /// Why there is no session with this client.
    pub(super) fn open(&mut self, pipe: &mut Pipe, hello: &[u8]) -> Result<(), String> {
        pipe.fill(hello, |record| self.may_see(record));
        self.tick(pipe)
    }

    /// Takes a datagram. The first message in it is written to `room` if that holds it, those
    /// behind it are given to `more`, all by way of `spare`, which has to hold [`MESSAGE_MAX`]
    /// bytes. What there is to send is in `pipe` afterwards, whatever became of the datagram.
    pub(super) fn receive(
        &mut self,
        pipe: &mut Pipe,
        length: usize,
        room: &mut [u8],
        spare: &mut [u8],
        mut more: impl FnMut(&[u8]),
    ) -> Taken {
        let datagram = room.get(..length).unwrap_or(&[]);
        if !pipe.fill(datagram, |record| self.may_see(record)) {
            return Taken::Ignored;
        }
        self.with(pipe, |session| {
            if let Err(why) = session.shake_hands() {
                return Taken::Failed(why);
            }
            // Where the first message finds no room, those behind it have to stay behind it.
            let (mut first, mut has_more) = (None, false);
            while session.established {
                match session.stream.ssl_read(spare) {
                    Ok(length) => {
                        let message = spare.get(..length).unwrap_or(&[]);
                        match room.get_mut(..length) {
                            Some(room) if first.is_none() && !has_more => {
                                room.copy_from_slice(message);
                                first = Some(length);
                            }
                            Some(_) | None => {
                                has_more = true;
                                more(message);
                            }
                        }
                    }
                    Err(error) if error.code() == ErrorCode::WANT_READ => break,
                    Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Taken::Closed,
                    Err(error) => return Taken::Failed(error.to_string()),
                }
            }
            Taken::Read(first)
        })
    }

    /// Goes on with the handshake without having heard anything: sends a flight again when that is
    /// due.
    ///
    /// # Errors
    /// Why the session cannot go on.
    pub(super) fn tick(&mut self, pipe: &mut Pipe) -> Result<(), String> {
        self.with(pipe, Session::shake_hands)
    }

    /// Writes a message as one record to `pipe`, behind what is there. False when it fits none, or
    /// the session is not established.
    pub(super) fn seal(&mut self, pipe: &mut Pipe, message: &[u8]) -> bool {
        let fits = self.established && !message.is_empty() && message.len() <= MESSAGE_MAX;
        fits && self.with(pipe, |session| session.stream.ssl_write(message).is_ok())
    }

    /// Writes the word that the session is over to `pipe`.
    pub(super) fn close(&mut self, pipe: &mut Pipe) {
        if self.established {
            // Best effort, as all of UDP is.
            let _ = self.with(pipe, |session| session.stream.shutdown());
        }
    }

    /// Whether the session may see a record. Whoever knows the two addresses can send what is not
    /// authenticated: it must harm no session, and no alert a handshake, which ends by its deadline
    /// if the client gives up.
    fn may_see(&self, record: &Record<'_>) -> bool {
        match record.epoch {
            0 => !self.established && record.content != ALERT,
            // A shorter one would not be passed over by OpenSSL but end the session.
            1 => record.bytes.len() >= self.record_min,
            // Without renegotiation there is no other.
            _ => false,
        }
    }

    fn shake_hands(&mut self) -> Result<(), String> {
        if self.established {
            return Ok(());
        }
        match self.stream.do_handshake() {
            Ok(()) => {
                self.established = true;
                let cipher = self.stream.ssl().current_cipher().map_or("", |cipher| cipher.name());
                if cipher.contains("CHACHA20") {
                    self.record_min = CHACHA20_RECORD_MIN;
                }
            }
            Err(error) if error.code() == ErrorCode::WANT_READ => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Works with `pipe` in place of the session's own, which is empty.
    fn with<T>(&mut self, pipe: &mut Pipe, work: impl FnOnce(&mut Session) -> T) -> T {
        // What another session has left in the thread's queue of errors would pass for this one's.
        drop(ErrorStack::get());
        mem::swap(self.stream.get_mut(), pipe);
        let result = work(self);
        mem::swap(self.stream.get_mut(), pipe);
        result
    }
}

/// Forward secrecy and authenticated encryption: all that WebRTC clients and OpenSSL offer first.
const CIPHERS: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";

/// Bytes of a record's header, of a nonce that is sent, and of a tag; ChaCha20 sends no nonce.
const GCM_RECORD_MIN: usize = 13 + 8 + 16;
const CHACHA20_RECORD_MIN: usize = 13 + 16;

/// Bytes of a handshake datagram: what every path carries.
const HANDSHAKE_MTU: u32 = 1200;
