//! Requests over UDP: sent again until answered (RFC 8489 §6.2.1).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::Duration;

use sterna_proto::stun::{
    AttributeError, Class, ErrorCodeAttribute, HEADER_LEN, Message, Method, TransactionId,
};

use crate::clock::Deadline;
use crate::error::ClientError;
use crate::options::Retransmission;

/// A socket that is connected to the server, and what came while an answer was waited for.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: UdpSocket,
    retransmission: Retransmission,
    /// Datagrams for [`Wire::receive`], at most [`WAITING_MAX`]; the oldest goes when it is full.
    waiting: VecDeque<Vec<u8>>,
}

impl Wire {
    pub(crate) fn new(socket: UdpSocket, retransmission: Retransmission) -> Wire {
        Wire { socket, retransmission, waiting: VecDeque::new() }
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends a datagram that nobody answers.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).map(drop)
    }

    /// The next datagram that is no answer, or `None` when none came in time.
    pub(crate) fn receive(&mut self, deadline: &Deadline) -> io::Result<Option<Vec<u8>>> {
        if let Some(datagram) = self.waiting.pop_front() {
            return Ok(Some(datagram));
        }
        let mut buffer = vec![0; DATAGRAM_MAX];
        let Some(len) = self.receive_into(&mut buffer, deadline)? else {
            return Ok(None);
        };
        buffer.truncate(len);
        Ok(Some(buffer))
    }

    /// Sends a request until an answer comes that `believes` accepts.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //# Retransmissions continue until a response is received or until a
    //# total of Rc requests have been sent.
    pub(crate) fn exchange(
        &mut self,
        request: &[u8],
        method: Method,
        believes: impl Fn(&Message<'_>) -> bool,
    ) -> Result<Vec<u8>, ClientError> {
        let Some(id) = transaction_id(request) else {
            return Err(ClientError::NoRequest { len: request.len() });
        };
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut discarded = None;
        let mut waited = Duration::ZERO;
        for wait in self.retransmission.waits() {
            self.socket.send(request).map_err(|error| failed(error, method))?;
            waited += wait;
            let deadline = Deadline::after(wait);
            while let Some(len) =
                self.receive_into(&mut buffer, &deadline).map_err(|error| failed(error, method))?
            {
                let datagram = buffer.get(..len).unwrap_or_default();
                let Some(answer) = answer_to(datagram, id) else {
                    self.keep(datagram);
                    continue;
                };
                if believes(&answer) {
                    return Ok(datagram.to_vec());
                }
                discarded = Some(error_number(&answer));
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

    fn keep(&mut self, datagram: &[u8]) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(datagram.to_vec());
    }

    fn receive_into(&self, buffer: &mut [u8], deadline: &Deadline) -> io::Result<Option<usize>> {
        while let Some(remaining) = deadline.remaining() {
            self.socket.set_read_timeout(Some(remaining))?;
            match self.socket.recv(buffer) {
                Ok(len) => return Ok(Some(len)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(None),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(None)
    }
}

/// The transaction that a request belongs to, whatever else is in it.
fn transaction_id(request: &[u8]) -> Option<TransactionId> {
    let id = request.get(HEADER_LEN - ID_LEN..HEADER_LEN)?;
    Some(TransactionId::from_bytes(id.try_into().ok()?))
}

fn answer_to(datagram: &[u8], id: TransactionId) -> Option<Message<'_>> {
    let message = Message::parse(datagram).ok()?;
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
        _ => ClientError::Socket(error),
    }
}

const ID_LEN: usize = 12;

/// The longest datagram that UDP can carry.
const DATAGRAM_MAX: usize = 65_535;

/// Relayed packets kept while an answer is waited for; more than that were lost on a slow link too.
const WAITING_MAX: usize = 256;
