//! The actors of the Sterna relay, their supervision and their sockets.
//!
//! One file per actor: its messages are its interface and stand at the head of the file.
//! Supervision is a table in [`supervision`], the outside world a few small traits in
//! [`transport`]; decisions about the protocol are made in `sterna-proto`.

pub mod allocation;
pub mod authenticator;
mod clients;
pub mod clock;
pub mod config;
pub mod connection_broker;
pub mod counters;
pub mod credential_store;
mod later;
pub mod listener;
mod paced;
mod pacing;
pub mod peer_connection;
mod places;
pub mod policy;
pub mod policy_keeper;
pub mod port_allocator;
pub mod quota_keeper;
pub mod server;
pub mod session;
pub mod socket;
pub mod store_actor;
pub mod supervision;
pub mod tls;
pub mod transport;
pub mod usage;

pub use config::ServerConfig;
pub use policy::Policy;
pub use server::{Server, StartError};
