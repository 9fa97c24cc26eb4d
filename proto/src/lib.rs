//! The TURN and STUN protocol without I/O.
//!
//! Everything here is a pure function of its arguments: no socket, no clock, no randomness of its
//! own. Time comes in as [`std::time::Instant`], random bytes as values, and answers are written
//! into the caller's buffer. Actors own sockets and timers; the decisions are made here, where
//! tables and properties can test them.

pub mod access_token;
pub mod account;
pub mod address;
pub mod allocation;
pub mod channel_data;
pub mod credentials;
pub mod data_path;
pub mod drops;
pub mod failed_logins;
pub mod first_contact;
pub mod guard;
pub mod integrity;
pub mod limiter;
pub mod login_limits;
pub mod nonce;
pub mod peer_rules;
pub mod port_pool;
pub mod quotas;
pub mod relay_frames;
pub mod remembered_logins;
pub mod request;
pub mod session;
pub mod stun;

#[cfg(test)]
mod testing;
