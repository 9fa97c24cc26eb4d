//! Programs that measure TURN relays over loopback, and the floor that relays are measured against.
//!
//! `floor` is the straight-line forwarder: what any relay must do for a packet and nothing else.
//! `load` makes packets for a relay (or the floor), counts what arrives and what it cost the
//! server. `idle` makes many allocations that do nothing and looks at the memory they take.
//! `compare` runs the others alternately, prints medians and draws plots. They are programs to be
//! run on a quiet machine, not tests: a test that fails when a neighbour compiles something teaches
//! nobody anything.

pub mod clock;
pub mod compare;
pub mod error;
pub mod flood;
pub mod floor;
pub mod floor_setup;
pub mod handshakes;
pub mod histogram;
pub mod idle;
pub mod link;
pub mod load;
pub mod mmsg;
pub mod outcome;
pub mod payload;
pub mod pin;
pub mod plots;
pub mod process;
pub mod target;
