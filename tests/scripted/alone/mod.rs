//! One real actor at a time; every neighbour is the script.

mod allocation;
mod authenticator;
mod credentials;
mod minted;
mod outages;
mod policy_keeper;
mod port_allocator;
mod session;
mod session_faults;
mod session_tcp;
mod stage;
mod store_actor;
mod stored_realms;
