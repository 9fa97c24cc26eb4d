//! DTLS 1.2 on the port of plain UDP: a layer between a socket of datagrams and its listener.
//!
//! A client costs a session of about 70 KB, so it has to show first that it receives at the address
//! it sends from ([`hello`]). Sessions are OpenSSL's ([`session`]); the listener ([`listen`]) owns
//! them, and the transports that SessionActor and AllocationActor hold share them ([`link`]): an
//! actor that is restarted goes on with the same session.

mod hello;
mod link;
mod listen;
mod session;

pub use listen::{DtlsListenSocket, IdentityError};
