//! The channel bindings of one allocation: channel number to peer and peer to channel number, both
//! in constant time, and for a while after expiry the memory of what was bound (RFC 8656 §12).

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::address::{Family, PeerAddr};
use crate::channel_data::ChannelNumber;

/// The bindings in one list. Most allocations have one or two, which are looked through; for more
/// there is an index.
#[derive(Debug, Default)]
pub(super) struct Channels {
    bindings: Vec<Binding>,
    index: Option<Box<Index>>,
    bound: usize,
}

/// The places of the bindings in their list, by each of the two ways to find them.
#[derive(Debug, Default)]
struct Index {
    by_number: HashTable<u16>,
    by_peer: HashTable<u16>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    peer: PeerAddr,
    number: ChannelNumber,
    /// Bound, or expired and remembered so that neither number nor peer gets into another pair.
    bound: bool,
    expires: Instant,
}

/// The number or the peer belongs to another pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    Number,
    Peer,
}

/// What a pair of number and peer is to the bindings there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Neither is in use.
    New,
    /// They are bound to each other.
    Bound,
    /// They were bound to each other a short while ago.
    Remembered,
}

impl Channels {
    /// How many channels are bound, the expired ones that are remembered not among them.
    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    /// How many bindings take up memory.
    pub(super) fn len(&self) -> usize {
        self.bindings.len()
    }

    /// The peer that `number` is bound to at `now`, whatever was swept.
    pub(super) fn peer_of(&self, number: ChannelNumber, now: Instant) -> Option<PeerAddr> {
        self.find_number(number).filter(|binding| binding.is_bound(now)).map(|binding| binding.peer)
    }

    /// The channel that is bound to `peer` at `now`, whatever was swept.
    pub(super) fn number_of(&self, peer: PeerAddr, now: Instant) -> Option<ChannelNumber> {
        self.find_peer(peer).filter(|binding| binding.is_bound(now)).map(|binding| binding.number)
    }

    /// Whether `number` and `peer` may be bound to each other.
    pub(super) fn standing(
        &self,
        number: ChannelNumber,
        peer: PeerAddr,
    ) -> Result<Standing, Conflict> {
        match (self.find_number(number), self.find_peer(peer)) {
            (None, None) => Ok(Standing::New),
            (Some(binding), _) if !same(binding.peer, peer) => Err(Conflict::Number),
            (_, Some(binding)) if binding.number != number => Err(Conflict::Peer),
            (Some(binding), _) | (None, Some(binding)) if binding.bound => Ok(Standing::Bound),
            (_, _) => Ok(Standing::Remembered),
        }
    }

    /// Bind a pair that has no conflict, or reset its time to expiry.
    pub(super) fn bind(&mut self, number: ChannelNumber, peer: PeerAddr, expires: Instant) {
        let place = match self.place_of(number) {
            Some(place) => place,
            None => self.insert(Binding { peer, number, bound: false, expires }),
        };
        let binding = &mut self.bindings[place];
        assert!(same(binding.peer, peer), "a channel is bound to one peer");
        self.bound += usize::from(!binding.bound);
        binding.bound = true;
        binding.expires = expires;
    }

    /// Unbind what is over at `now`, handing each to `unbound`, and forget what was remembered long
    /// enough.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        mut unbound: impl FnMut(ChannelNumber, PeerAddr, Instant),
    ) {
        for binding in &mut self.bindings {
            if binding.bound && binding.expires <= now {
                binding.bound = false;
                self.bound -= 1;
                unbound(binding.number, binding.peer, binding.expires);
            }
        }
        self.forget(|binding| binding.timeout() <= now);
    }

    /// Unbind those whose peer `refused` does not want any more; they count as expired at `now`.
    pub(super) fn unbind(
        &mut self,
        now: Instant,
        refused: impl Fn(PeerAddr) -> bool,
        mut unbound: impl FnMut(ChannelNumber, PeerAddr),
    ) {
        for binding in &mut self.bindings {
            if binding.bound && refused(binding.peer) {
                binding.bound = false;
                binding.expires = now;
                self.bound -= 1;
                unbound(binding.number, binding.peer);
            }
        }
    }

    pub(super) fn remove_family(&mut self, family: Family) {
        self.forget(|binding| Family::of(binding.peer.0.ip()) == family);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.bindings.iter().map(Binding::timeout).min()
    }

    fn find_number(&self, number: ChannelNumber) -> Option<&Binding> {
        self.place_of(number).map(|place| &self.bindings[place])
    }

    fn find_peer(&self, peer: PeerAddr) -> Option<&Binding> {
        let Some(index) = &self.index else {
            return self.bindings.iter().find(|binding| same(binding.peer, peer));
        };
        let hash = hash_peer(&index.hasher, peer);
        let is_it = |&place: &u16| same(self.bindings[usize::from(place)].peer, peer);
        index.by_peer.find(hash, is_it).map(|&place| &self.bindings[usize::from(place)])
    }

    fn place_of(&self, number: ChannelNumber) -> Option<usize> {
        let Some(index) = &self.index else {
            return self.bindings.iter().position(|binding| binding.number == number);
        };
        let hash = index.hasher.hash_one(number);
        let is_it = |&place: &u16| self.bindings[usize::from(place)].number == number;
        index.by_number.find(hash, is_it).map(|&place| usize::from(place))
    }

    fn insert(&mut self, binding: Binding) -> usize {
        // The first binding is often the only one, and a list grows to four by itself.
        if self.bindings.capacity() == 0 {
            self.bindings.reserve_exact(1);
        }
        let place = self.bindings.len();
        self.bindings.push(binding);
        match &mut self.index {
            Some(index) => index.insert(&self.bindings, place),
            None if place < FEW => {}
            None => {
                let mut index = Box::new(Index::default());
                (0..=place).for_each(|place| index.insert(&self.bindings, place));
                self.index = Some(index);
            }
        }
        place
    }

    /// Remove all that `gone` names, bound or not.
    fn forget(&mut self, gone: impl Fn(&Binding) -> bool) {
        let before = self.bindings.len();
        self.bindings.retain(|binding| !gone(binding));
        if self.bindings.len() != before {
            self.rebuild();
        }
    }

    /// Make the index and the count follow from the list.
    fn rebuild(&mut self) {
        for binding in std::mem::take(self).bindings {
            self.insert(binding);
            self.bound += usize::from(binding.bound);
        }
    }

    #[cfg(test)]
    pub(super) fn heap_size(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| {
            size_of::<Index>() + index.by_number.allocation_size() + index.by_peer.allocation_size()
        });
        self.bindings.capacity() * size_of::<Binding>() + index
    }
}

impl Index {
    /// Takes in the binding at `place`.
    fn insert(&mut self, bindings: &[Binding], place: usize) {
        let Index { by_number, by_peer, hasher } = self;
        let binding = &bindings[place];
        let entry = u16::try_from(place).expect("there are fewer channel numbers than u16 values");
        by_number.insert_unique(hasher.hash_one(binding.number), entry, |&place| {
            hasher.hash_one(bindings[usize::from(place)].number)
        });
        by_peer.insert_unique(hash_peer(hasher, binding.peer), entry, |&place| {
            hash_peer(hasher, bindings[usize::from(place)].peer)
        });
    }
}

impl Binding {
    fn is_bound(&self, now: Instant) -> bool {
        self.bound && now < self.expires
    }

    /// When this binding has to be looked at: to be unbound, or to be forgotten.
    fn timeout(&self) -> Instant {
        if self.bound { self.expires } else { self.expires + QUARANTINE }
    }
}

/// The same transport address. A received IPv6 address may have a flow label or a scope that the
/// one named by the client has not.
fn same(one: PeerAddr, other: PeerAddr) -> bool {
    one.0.port() == other.0.port() && one.0.ip() == other.0.ip()
}

fn hash_peer(hasher: &DefaultHashBuilder, peer: PeerAddr) -> u64 {
    let port = peer.0.port();
    match peer.0 {
        SocketAddr::V4(v4) => {
            hasher.hash_one((u64::from(v4.ip().to_bits()) << 16) | u64::from(port))
        }
        SocketAddr::V6(v6) => hasher.hash_one((v6.ip().to_bits(), port)),
    }
}

/// So many are looked through one by one, which costs no more than a hash.
const FEW: usize = 4;

/// How long an expired pair is remembered. A client has to wait this long before it binds either to
/// something else, so that data in flight does not end at the wrong peer; a server that enforces it
/// gives the same answer to a request and to its retransmission.
//= https://www.rfc-editor.org/rfc/rfc8656#section-12
//# To prevent race conditions, the client MUST wait 5
//# minutes after the channel binding expires before attempting to bind
//# the channel number to a different transport address or the transport
//# address to a different channel number.
pub(super) const QUARANTINE: Duration = Duration::from_secs(300);
