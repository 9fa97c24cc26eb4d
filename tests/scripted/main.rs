//! Scripts: real actors in virtual time, among neighbours and on a network that the test plays.
//!
//! A script reads like the play it is: what somebody does, then exactly what others hear of it.
//!
//! ```text
//! script(async |world| {
//!     let mut alice = world.client("alice").await;             // proves her address
//!     let relayed = alice.allocate().await.granted().relayed();
//!     let peer = world.peer(1);
//!     let permission = Deadline::after(secs(300));
//!     alice.permit(&peer).await.granted();
//!     permission.just_before().await;
//!     peer.sends(relayed, b"in time").await;
//!     alice.hears_data(&peer, b"in time");
//!     permission.just_after().await;
//!     peer.sends(relayed, b"late").await;
//!     alice.hears_nothing();
//! });
//! ```
//!
//! - `world` is a whole server, wired as the daemon wires it, over sockets that are queues. `Setup`
//!   says what it is like; `world.call()` is a client in a call with a peer, `call.goes_on()` shows
//!   that media flows both ways.
//! - Requests (`allocate`, `refresh`, `permit`, `bind`) return the answer, which is `.granted()` or
//!   `.refused(code)`. Data is sent with `says`, `sends_to`, `sends` and listened to with `hears…`.
//!   All of these let everybody act until nobody has anything left to do; `queues` does not.
//! - `Deadline::after(..)` stands before what starts a timer, `after(..)` lets time pass.
//! - `world.panic_in_session(&client)` and its like inject a fault and expect the log line of its
//!   repair; `network.sets(Trap::…)` makes the next call of a kind panic in its caller.
//! - `alone` has one actor at a time: `ear.hears().await` is the question a played neighbour is
//!   asked, `.answers(..)` what it says, dropping the question its death.
//!
//! At the end of each script nothing may be left that it did not mention: no datagram unheard, no
//! question unasked for, no warning in the log.

mod kit;

mod allocations_end;
mod alone;
mod bandwidth;
mod clients_leave;
mod conversation;
mod credentials;
mod drops;
mod hairpin;
mod healing;
mod icmp;
mod interleavings;
mod lifetimes;
mod ports;
mod quotas;
mod regressions;
mod sessions_restart;
mod shutdown;
mod stores;
mod tcp_relay;
mod usage;
