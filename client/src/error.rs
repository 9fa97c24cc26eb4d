//! What can go wrong, told apart by who is to blame.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use sterna_proto::credentials::OpaqueStringError;
use sterna_proto::stun::{AttributeError, AttributeType, ErrorCode, Method, ParseError};

/// Why a call did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket failed.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
    /// The host answered that nobody listens at this port.
    #[error("{method}: nobody listens at the server's port")]
    PortUnreachable {
        /// What was asked.
        method: Method,
    },
    /// The server could not be connected to.
    #[error("connecting to {server}: {source}")]
    NotConnected {
        /// Where it was looked for.
        server: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS handshake failed, as it does for a certificate that is not trusted.
    #[error("TLS handshake: {0}")]
    Tls(#[from] rustls::Error),
    /// The TLS handshake did not come to its end in time.
    #[error("TLS handshake: no answer within {waited:?}")]
    TlsStalled {
        /// How long was waited.
        waited: Duration,
    },
    /// Whom to trust, or which name to look for in the certificate, cannot be said.
    #[error("TLS: {0}")]
    TlsOptions(String),
    /// The connection ended before the answer came.
    #[error("{method}: the server closed the connection")]
    Closed {
        /// What was asked.
        method: Method,
    },
    /// Nothing came back to any of the retransmissions.
    #[error("{method}: no answer within {waited:?}")]
    NoAnswer {
        /// What was asked.
        method: Method,
        /// How long was waited in all.
        waited: Duration,
    },
    /// The server refused.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Only answers without the right MESSAGE-INTEGRITY came: the password is wrong on one side, or
    /// somebody else answers in the server's place.
    #[error("{method}: {}", describe_violation(*discarded))]
    IntegrityViolated {
        /// What was asked.
        method: Method,
        /// The error code of the last answer that could not be believed.
        discarded: Option<u16>,
    },
    /// The answer is authentic and makes no sense.
    #[error("{method}: the answer {problem}")]
    BadAnswer {
        /// What was asked.
        method: Method,
        /// What is wrong with it.
        problem: AnswerProblem,
    },
    /// The server wants credentials and the client was given none.
    #[error("{method}: the server asks for credentials{}", describe_realm(realm.as_deref()))]
    CredentialsWanted {
        /// What was asked.
        method: Method,
        /// For which realm.
        realm: Option<String>,
    },
    /// The nonce promises a choice of password algorithms and the choice is missing: somebody on
    /// the way took it out.
    #[error("{method}: PASSWORD-ALGORITHMS was taken out of the server's challenge")]
    BidDown {
        /// What was asked.
        method: Method,
    },
    /// None of the password algorithms offered may be used.
    #[error("{method}: the server offers no password algorithm that this client may use")]
    NoPasswordAlgorithm {
        /// What was asked.
        method: Method,
    },
    /// The user name or password has characters that credentials cannot have.
    #[error("credentials: {0}")]
    Credentials(#[from] OpaqueStringError),
    /// The bytes handed in as a request are shorter than a STUN header.
    #[error("{len} bytes are no request: a STUN header has 20")]
    NoRequest {
        /// How many they are.
        len: usize,
    },
    /// The data does not fit into one message.
    #[error("{len} bytes do not fit into one message")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

impl ClientError {
    /// The error code of the server's refusal, if it is one.
    pub fn refusal_code(&self) -> Option<u16> {
        match self {
            ClientError::Refused(refusal) => Some(refusal.code),
            ClientError::Socket(_)
            | ClientError::PortUnreachable { .. }
            | ClientError::NotConnected { .. }
            | ClientError::Tls(_)
            | ClientError::TlsStalled { .. }
            | ClientError::TlsOptions(_)
            | ClientError::Closed { .. }
            | ClientError::NoAnswer { .. }
            | ClientError::IntegrityViolated { .. }
            | ClientError::BadAnswer { .. }
            | ClientError::CredentialsWanted { .. }
            | ClientError::BidDown { .. }
            | ClientError::NoPasswordAlgorithm { .. }
            | ClientError::Credentials(_)
            | ClientError::NoRequest { .. }
            | ClientError::TooLong { .. } => None,
        }
    }
}

/// An error response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{method} refused: {code} ({reason})")]
pub struct Refusal {
    /// What was asked.
    pub method: Method,
    /// The number in ERROR-CODE.
    pub code: u16,
    /// Its reason phrase, the server's own or, if that was empty, the registered one.
    pub reason: String,
    /// What UNKNOWN-ATTRIBUTES lists.
    pub unknown: Vec<AttributeType>,
    /// Where ALTERNATE-SERVER sends the client to.
    pub alternate: Option<SocketAddr>,
}

impl Refusal {
    /// The code, where it is a known one.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_number(self.code)
    }
}

/// What is wrong with an answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerProblem {
    /// The bytes are no STUN message.
    #[error("is no STUN message: {0}")]
    NotStun(#[from] ParseError),
    /// An attribute that the answer must have is not there.
    #[error("has no {0}")]
    Missing(AttributeType),
    /// An attribute cannot be read.
    #[error("is malformed: {0}")]
    Attribute(#[from] AttributeError),
    /// It has attributes that have to be understood and are not.
    #[error("needs {0:?} to be understood")]
    Unknown(Vec<AttributeType>),
}

fn describe_violation(discarded: Option<u16>) -> String {
    let mut text = "only answers without the right MESSAGE-INTEGRITY came".to_owned();
    if let Some(code) = discarded {
        text.push_str(&format!("; the last one said {code}"));
    }
    text
}

fn describe_realm(realm: Option<&str>) -> String {
    realm.map_or_else(String::new, |realm| format!(" of realm {realm}"))
}
