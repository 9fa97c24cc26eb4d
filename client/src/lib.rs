//! A small TURN client over UDP, TCP and TLS, for `sterna probe`, the benchmarks and the tests.
//!
//! One [`Client`] is one conversation: one socket, one server, at most one allocation. Calls block
//! until the server answered or the time-outs of RFC 8489 ran out, so a thread of its own suits it
//! and an arbiter does not. What carries the messages is a [`Transport`]; the client knows of it
//! only whether it is reliable. What it does, it does by the book: it answers the server's
//! challenge, checks the integrity of what comes back, and tells apart what was refused, what was
//! not answered, and what was answered by somebody without the key.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use sterna_client::{AllocateOptions, Client, ClientOptions, Credentials};
//! use sterna_proto::address::PeerAddr;
//! use sterna_proto::channel_data::ChannelNumber;
//!
//! # fn main() -> Result<(), sterna_client::ClientError> {
//! let options = ClientOptions {
//!     credentials: Some(Credentials::new("alice", "secret")),
//!     ..ClientOptions::default()
//! };
//! let mut client = Client::connect("192.0.2.1:3478".parse().unwrap(), options)?;
//! let allocated = client.allocate(&AllocateOptions::default())?;
//! println!("peers reach us at {}", allocated.relayed);
//!
//! let peer = PeerAddr("198.51.100.7:5000".parse().unwrap());
//! let channel = ChannelNumber::new(0x4000).unwrap();
//! client.bind_channel(channel, peer)?;
//! client.send_channel_data(channel, b"hello")?;
//! let answer = client.receive(Duration::from_secs(1))?;
//! println!("{answer:?}");
//! client.release()?;
//! # Ok(())
//! # }
//! ```

mod authentication;
mod client;
mod clock;
mod error;
mod framed;
mod incoming;
mod options;
mod tls;
mod transaction;
mod transport;

pub use client::{Allocated, Client};
pub use error::{AnswerProblem, ClientError, Refusal};
pub use framed::{ByteStream, Framed};
pub use incoming::Incoming;
pub use options::{AllocateOptions, ClientOptions, Credentials, Retransmission};
pub use tls::{TlsOptions, TlsStream, Trust};
pub use transport::{Protocol, Transport};
