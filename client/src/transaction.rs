//! Requests: sent again until answered where the transport loses messages (RFC 8489 §6.2.1), sent
//! once where it does not (§6.2.2).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use sterna_proto::stun::{
    AttributeError, Class, ErrorCodeAttribute, HEADER_LEN, Message, Method, TransactionId,
};

use crate::clock::Deadline;
use crate::error::ClientError;
use crate::options::Retransmission;
use crate::transport::Transport;

/// A transport that leads to the server, and what came while an answer was waited for.
#[derive(Debug)]
pub(crate) struct Wire<T> {
    transport: T,
    retransmission: Retransmission,
    /// Messages for [`Wire::receive`], at most [`WAITING_MAX`]; the oldest goes when it is full.
    waiting: VecDeque<Vec<u8>>,
}

impl<T: Transport> Wire<T> {
    pub(crate) fn new(transport: T, retransmission: Retransmission) -> Wire<T> {
        Wire { transport, retransmission, waiting: VecDeque::new() }
    }

    pub(crate) fn transport(&self) -> &T {
        &self.transport
    }

    pub(crate) fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Sends a message that nobody answers.
    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.transport.send(message)
    }

    /// The next message that is no answer, or `None` when none came in time.
    pub(crate) fn receive(&mut self, deadline: &Deadline) -> io::Result<Option<Vec<u8>>> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(Some(message));
        }
        let mut buffer = vec![0; MESSAGE_MAX];
        let Some(len) = self.receive_into(&mut buffer, deadline)? else {
            return Ok(None);
        };
        buffer.truncate(len);
        Ok(Some(buffer))
    }

    /// Sends a request, where necessary several times, until an answer comes that `believes`
    /// accepts.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //# Retransmissions continue until a response is received or until a
    //# total of Rc requests have been sent.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.2
    //# Reliability of STUN over TCP and TLS-over-TCP is handled by TCP
    //# itself, and there are no retransmissions at the STUN protocol level.
    pub(crate) fn exchange(
        &mut self,
        request: &[u8],
        method: Method,
        believes: impl Fn(&Message<'_>) -> bool,
    ) -> Result<Vec<u8>, ClientError> {
        let Some(id) = transaction_id(request) else {
            return Err(ClientError::NoRequest { len: request.len() });
        };
        let mut buffer = vec![0; MESSAGE_MAX];
        let mut discarded = None;
        let mut waited = Duration::ZERO;
        for wait in self.waits() {
            self.transport.send(request).map_err(|error| failed(error, method))?;
            waited += wait;
            let deadline = Deadline::after(wait);
            while let Some(len) =
                self.receive_into(&mut buffer, &deadline).map_err(|error| failed(error, method))?
            {
                let message = buffer.get(..len).unwrap_or_default();
                let Some(answer) = answer_to(message, id) else {
                    self.keep(message);
                    continue;
                };
                if believes(&answer) {
                    return Ok(message.to_vec());
                }
                let discarded = *discarded.insert(error_number(&answer));
                //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
                //# If the request was sent over a reliable transport, the response MUST
                //# be discarded, and the layer MUST immediately end the transaction and
                //# signal that the integrity protection was violated.
                if self.transport.is_reliable() {
                    return Err(ClientError::IntegrityViolated { method, discarded });
                }
            }
        }
        match discarded {
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
            //# If all the responses
            //# received are discarded, then instead of signaling a timeout after
            //# ending the transaction, the layer MUST signal that the integrity
            //# protection was violated.
            Some(discarded) => Err(ClientError::IntegrityViolated { method, discarded }),
            None => Err(ClientError::NoAnswer { method, waited }),
        }
    }

    /// How long is waited after each send.
    fn waits(&self) -> Vec<Duration> {
        if self.transport.is_reliable() {
            return vec![self.retransmission.total()];
        }
        self.retransmission.waits().collect()
    }

    fn keep(&mut self, message: &[u8]) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(message.to_vec());
    }

    fn receive_into(
        &mut self,
        buffer: &mut [u8],
        deadline: &Deadline,
    ) -> io::Result<Option<usize>> {
        match deadline.remaining() {
            Some(remaining) => self.transport.receive(buffer, remaining),
            None => Ok(None),
        }
    }
}

/// The transaction that a request belongs to, whatever else is in it.
fn transaction_id(request: &[u8]) -> Option<TransactionId> {
    let id = request.get(HEADER_LEN - ID_LEN..HEADER_LEN)?;
    Some(TransactionId::from_bytes(id.try_into().ok()?))
}

fn answer_to(bytes: &[u8], id: TransactionId) -> Option<Message<'_>> {
    let message = Message::parse(bytes).ok()?;
    let is_answer = match message.class() {
        Class::Success | Class::Error => message.transaction_id() == id,
        Class::Request | Class::Indication => false,
    };
    is_answer.then_some(message)
}

/// The number in ERROR-CODE, known or not.
pub(crate) fn error_number(answer: &Message<'_>) -> Option<u16> {
    match answer.read::<ErrorCodeAttribute<'_>>() {
        Ok(error) => Some(error?.code.number()),
        Err(AttributeError::ErrorNumber(_, number)) => Some(number),
        Err(_) => None,
    }
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
//# A STUN
//# transaction over UDP or DTLS-over-UDP is also considered failed if
//# there has been a hard ICMP error [RFC1122].
fn failed(error: io::Error, method: Method) -> ClientError {
    match error.kind() {
        ErrorKind::ConnectionRefused => ClientError::PortUnreachable { method },
        //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.2
        //# In addition, if the client is unable to establish the TCP connection,
        //# or the TCP connection is reset or fails before a response is
        //# received, any request/response transaction in progress is considered
        //# to have failed.
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => ClientError::Closed { method },
        _ => ClientError::Socket(error),
    }
}

const ID_LEN: usize = 12;

/// The longest ChannelData message with its padding; no datagram and no STUN message is longer.
const MESSAGE_MAX: usize = 65_540;

/// Relayed packets kept while an answer is waited for; more than that were lost on a slow link too.
const WAITING_MAX: usize = 256;
