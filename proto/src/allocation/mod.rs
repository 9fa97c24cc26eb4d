//! The pure state of one allocation: its relayed transport addresses, permissions, channels and
//! their lifetimes (RFC 8656 §6). Requests change it, data asks it, time empties it.
//!
//! What is over at `now` is over whether or not [`Allocation::handle_timeout`] has run: data looks
//! at the dates, and requests sweep first.

mod channels;
mod connections;
mod errors;
mod expiry;
mod permissions;
mod relays;
mod requests;
mod terms;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::address::{Family, PeerAddr};
use crate::channel_data::ChannelNumber;
use crate::drops::DropReason;
use crate::peer_rules::{Denied, PeerLayers};
use crate::stun::ConnectionId;

use channels::Channels;
use connections::Connections;
use permissions::Permissions;
use relays::{Half, Halves};

pub use errors::{
    ChannelBindError, ConnectError, ConnectionBindError, CreatePermissionError, RefreshError,
};
pub use relays::{Relay, Relays};
pub use requests::Refreshed;
pub use terms::{Lifetimes, Terms};

/// Why data is not relayed.
pub type Dropped = DropReason;

/// One allocation.
#[derive(Debug)]
pub struct Allocation {
    terms: Arc<Terms>,
    /// Whose it is, where the rules and the end depend on that.
    account: Option<Arc<Account>>,
    /// What the lists of its user and its realm say besides the terms.
    layers: PeerLayers,
    /// When its credential ends it, whatever lifetime it has.
    ends: Option<Instant>,
    halves: Halves,
    permissions: Permissions,
    channels: Channels,
    /// Where TCP is relayed.
    connections: Option<Box<Connections>>,
    effects: VecDeque<Effect>,
    /// The earliest moment at which something here expires.
    timeout: Option<Instant>,
}

/// In which form data from a peer goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// As ChannelData on this channel.
    Channel(ChannelNumber),
    /// As a Data indication with this XOR-PEER-ADDRESS: the peer as the client knows it.
    Indication(PeerAddr),
}

/// What time, or a change of the terms, has ended. Peers are given by their internal addresses.
///
/// The end of a relayed transport address is the end of its permissions and channels; those that
/// lasted until then are not reported one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The permission for this IP address is gone.
    PermissionExpired(IpAddr),
    /// The channel is not bound to the peer any more.
    ChannelExpired(ChannelNumber, PeerAddr),
    /// The TCP connection was not made or bound in time, or the rules refuse its peer.
    ConnectionClosed(ConnectionId, PeerAddr),
    /// The relayed transport address of this family has expired; the other one lives.
    RelayExpired(Family),
    /// The allocation has expired. Nothing follows.
    Expired,
    /// Its credential has ended it. Nothing follows.
    CredentialExpired,
}

impl Allocation {
    /// A new allocation without permissions and channels, which lasts for `lifetime` (see
    /// [`Lifetimes::grant`]).
    pub fn new(terms: Arc<Terms>, relays: Relays, lifetime: Duration, now: Instant) -> Allocation {
        assert!(relays.v4.is_some() || relays.v6.is_some(), "an allocation has a relayed address");
        let mut allocation = Allocation {
            terms,
            account: None,
            layers: PeerLayers::NONE,
            ends: None,
            halves: Halves::new(relays, now + lifetime),
            permissions: Permissions::default(),
            channels: Channels::default(),
            connections: None,
            effects: VecDeque::new(),
            timeout: None,
        };
        allocation.rearm();
        allocation
    }

    /// The same for one that relays TCP: it has connections, and neither channels nor datagrams.
    pub fn new_tcp(
        terms: Arc<Terms>,
        relays: Relays,
        lifetime: Duration,
        now: Instant,
    ) -> Allocation {
        let connections = Some(Box::default());
        Allocation { connections, ..Allocation::new(terms, relays, lifetime, now) }
    }

    /// The same for this user: what it and its realm allow and deny counts besides the terms, and
    /// the allocation is over when its credential says so (see [`Account::allocation_ends`]).
    pub fn belonging_to(mut self, account: Arc<Account>, ends: Option<Instant>) -> Allocation {
        self.layers = self.terms.layers_of(&account);
        self.account = Some(account);
        self.end_by(ends);
        self
    }

    /// The credential that holds from here on ends the allocation then, or does not end it.
    pub fn end_by(&mut self, ends: Option<Instant>) {
        self.ends = ends;
        if let Some(ends) = ends {
            self.halves.shorten(ends);
        }
        self.rearm();
    }

    /// The peer to which ChannelData on `number` goes.
    ///
    /// The binding is what counts here: RFC 8656 §12.6 asks for no permission on the way out (it is
    /// the way in that permissions guard), and a client that keeps its channel alive but lets the
    /// permission lapse may still send.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //# If the ChannelData message is received on a channel that is not bound
    //# to any peer, then the message is silently discarded.
    pub fn channel_peer(&self, number: ChannelNumber, now: Instant) -> Result<PeerAddr, Dropped> {
        let bound = self.channels.peer_of(number, now);
        match bound.filter(|&peer| self.live_half(peer, now).is_ok()) {
            Some(peer) => Ok(peer),
            None if self.is_live(now) => Err(DropReason::UnboundChannel),
            None => Err(DropReason::NoAllocation),
        }
    }

    /// The address to which a Send indication for `peer` goes.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
    //# The server also checks that there is a permission installed for the
    //# IP address contained in the XOR-PEER-ADDRESS attribute.  If no such
    //# permission exists, the message is discarded.
    pub fn indication_peer(&self, peer: PeerAddr, now: Instant) -> Result<PeerAddr, Dropped> {
        if peer.0.port() == 0 {
            return Err(DropReason::PeerPortZero);
        }
        // Silently discarded: the control connection of a TCP allocation carries no application
        // data (RFC 6062 §3).
        if self.connections.is_some() {
            return Err(DropReason::TcpAllocation);
        }
        let peer = self.terms.rules.external().internal(peer);
        self.live_half(peer, now)?;
        self.permitted(peer, now)?;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-11.2
        //# The server MAY impose restrictions on the IP address and port values
        //# allowed in the XOR-PEER-ADDRESS attribute; if a value is not allowed,
        //# the server silently discards the Send indication.
        self.check(peer).map_err(|_| DropReason::PeerDenied)?;
        Ok(peer)
    }

    /// How data from `peer`, come in at the relayed transport address of its family, goes to the
    /// client.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-9
    //# If no match is found, relaying is not permitted
    //# and the server silently discards the UDP datagram.
    pub fn from_peer(&self, peer: PeerAddr, now: Instant) -> Result<Inbound, Dropped> {
        self.live_half(peer, now)?;
        self.permitted(peer, now)?;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.5
        //# The server, on the other hand, MUST
        //# use the ChannelData message if a channel has been bound to the peer.
        if let Some(number) = self.channels.number_of(peer, now) {
            return Ok(Inbound::Channel(number));
        }
        // A permission has no port, so that it may cover a port of this server that is no peer.
        self.check(peer).map_err(|_| DropReason::PeerDenied)?;
        Ok(Inbound::Indication(self.terms.rules.external().known_as(peer)))
    }

    /// The XOR-PEER-ADDRESS under which the client hears of an ICMP packet about a datagram that
    /// was sent to `destination`.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-11.5
    //# For ICMP packets,
    //# the source IP address MUST NOT be checked against the permissions
    //# list as it would be for UDP packets.
    pub fn from_icmp(&self, destination: PeerAddr, now: Instant) -> Result<PeerAddr, Dropped> {
        self.live_half(destination, now)?;
        self.permitted(destination, now)?;
        Ok(self.terms.rules.external().known_as(destination))
    }

    /// Live by other terms from `now` on. What was granted by the old ones lasts until its date,
    /// but permissions, channels and connections to peers that the new rules refuse end at once, so
    /// that data on a channel needs no look at the rules.
    pub fn set_terms(&mut self, terms: Arc<Terms>, now: Instant) {
        self.sweep(now);
        self.terms = terms;
        if let Some(account) = &self.account {
            self.layers = self.terms.layers_of(account);
        }
        let (rules, layers, effects) = (&self.terms.rules, &self.layers, &mut self.effects);
        self.permissions.retain(
            |ip, _| rules.check_ip_within(ip, layers).is_ok(),
            |ip, _| effects.push_back(Effect::PermissionExpired(ip)),
        );
        self.channels.unbind(
            now,
            |peer| rules.check_within(peer, layers).is_err(),
            |number, peer| effects.push_back(Effect::ChannelExpired(number, peer)),
        );
        if let Some(connections) = &mut self.connections {
            connections.refuse(
                |peer| rules.check_within(peer, layers).is_err(),
                |id, peer| effects.push_back(Effect::ConnectionClosed(id, peer)),
            );
        }
        self.rearm();
    }

    /// The terms in force.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// The relayed transport addresses that have neither been deleted nor seen to expire.
    pub fn relays(&self) -> Relays {
        self.halves.relays()
    }

    /// Whether any relayed transport address is left at `now`.
    pub fn is_live(&self, now: Instant) -> bool {
        self.halves.iter().any(|half| now < half.expires)
    }

    /// The time until the allocation expires: until its last relayed transport address does.
    pub fn remaining(&self, now: Instant) -> Duration {
        let last = self.halves.iter().map(|half| half.expires).max();
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(now))
    }

    /// How many permissions are held. Expired ones count until they are swept.
    pub fn permission_count(&self) -> usize {
        self.permissions.len()
    }

    /// How many channels are bound. Expired ones count until they are swept.
    pub fn channel_count(&self) -> usize {
        self.channels.bound()
    }

    /// Judges a peer by the rules of all layers.
    fn check(&self, peer: PeerAddr) -> Result<(), Denied> {
        self.terms.rules.check_within(peer, &self.layers)
    }

    /// The half through which `peer` is reached.
    fn live_half(&self, peer: PeerAddr, now: Instant) -> Result<&Half, Dropped> {
        match self.halves.live(Family::of(peer.0.ip()), now) {
            Some(half) => Ok(half),
            None if self.is_live(now) => Err(DropReason::PeerFamily),
            None => Err(DropReason::NoAllocation),
        }
    }

    fn permitted(&self, peer: PeerAddr, now: Instant) -> Result<(), Dropped> {
        match self.permissions.allows(peer.0.ip(), now) {
            true => Ok(()),
            false => Err(DropReason::NoPermission),
        }
    }
}

#[cfg(test)]
mod tests;
