//! TCP and TLS clients behind the interfaces of [`crate::transport`].
//!
//! Every accepted connection is one future: PROXY header, first bytes, TLS handshake, then messages
//! in and messages out. The listening socket owns them all and polls them where it is polled
//! itself, so that no task runs outside an actor. Whole messages of all connections meet in an
//! [`inbox`](inbox::Inbox); each connection has an [`outbox`](outbox::Outbox) of its own, which
//! outlives a restart of the client's session, as a half-read message does.

mod connection;
mod conversation;
mod frames;
mod inbox;
mod link;
mod listen;
mod message_stream;
mod outbox;
mod rewound;
mod shared;
mod sniff;
#[cfg(test)]
mod tests;

pub use listen::StreamListenSocket;
pub use shared::StreamTerms;
