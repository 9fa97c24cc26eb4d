//! Bytes over loopback: what a real server says to what clients and peers send.
//!
//! Each test starts a server of its own in process, on ports of the system's choice, and talks to
//! it over plain sockets. No test waits for time to pass, and none needs more rights than any user
//! has.

mod kit;

mod addresses;
mod allocate;
mod alone;
mod answers;
mod binding;
mod bursts;
mod challenge;
mod channels;
mod client_certificates;
mod credentials;
mod data;
#[cfg(feature = "dtls")]
mod dtls;
#[cfg(feature = "dtls")]
mod dtls_hostile;
mod hairpin;
mod headers;
mod hostile;
mod integrity;
mod limits;
mod peers;
mod permissions;
mod policy;
mod ports;
mod proxied;
mod quotas;
mod realms;
mod refresh;
mod secrets;
mod start;
mod streams;
mod streams_hostile;
mod streams_proxy;
mod streams_supervision;
mod supervision;
mod tcp_relay;
mod tcp_relay_ends;
mod tcp_relay_errors;
mod unreachable;
