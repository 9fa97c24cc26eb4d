//! The free ports of one relay IP address.
//!
//! Ports are picked at random among all that are free, so that nobody can foresee the next relayed
//! transport address (RFC 6056, and RFC 8656 §21.1.7 on loops). Every operation takes constant
//! time: a set of ports is a dense list plus the place of each port in it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Which port an allocation asks for (RFC 8656 §7.2, EVEN-PORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parity {
    /// Any free port.
    Any,
    /// A free even port.
    Even,
    /// A free even port whose next higher port is free too; both are taken.
    EvenWithNext,
}

/// The ports of one relay IP address: which are free, which are taken, and which another program on
/// this machine was seen to hold.
#[derive(Debug)]
pub struct PortPool {
    first: u16,
    states: Vec<State>,
    even: PortSet,
    odd: PortSet,
    /// Even ports that are free together with their next higher port.
    pairs: PortSet,
    busy: BTreeSet<(Instant, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Taken,
    Busy,
}

impl PortPool {
    /// A pool with every port of `ports` free. Port 0 names no port and is left out; a range that
    /// ends before it starts is an empty pool.
    pub fn new(ports: RangeInclusive<u16>) -> PortPool {
        let (first, last) = (*ports.start().max(&1), *ports.end());
        let size = usize::from(last).saturating_sub(usize::from(first) - 1);
        let mut pool = PortPool {
            first,
            states: vec![State::Taken; size],
            even: PortSet::new(first, size),
            odd: PortSet::new(first, size),
            pairs: PortSet::new(first, size),
            busy: BTreeSet::new(),
        };
        for port in first..=last {
            pool.set_free(port);
        }
        pool
    }

    /// Take a port of the wanted parity. `random` decides which: it has to be unpredictable.
    ///
    /// `EvenWithNext` takes two ports and returns the even one; each goes back by its own
    /// [`PortPool::release`].
    pub fn take(&mut self, parity: Parity, random: u64) -> Option<u16> {
        let port = match parity {
            Parity::Any => self.pick_any(random)?,
            Parity::Even => self.even.pick(random)?,
            Parity::EvenWithNext => self.pairs.pick(random)?,
        };
        self.set(port, State::Taken);
        if parity == Parity::EvenWithNext {
            self.set(port + 1, State::Taken);
        }
        Some(port)
    }

    /// Take this very port, if it is free.
    pub fn take_exact(&mut self, port: u16) -> bool {
        let free = self.state(port) == Some(State::Free);
        if free {
            self.set(port, State::Taken);
        }
        free
    }

    /// Give a taken port back. Anything else is left as it is, so that a port that was found busy
    /// stays so, and nothing outside the range gets in.
    pub fn release(&mut self, port: u16) {
        if self.state(port) == Some(State::Taken) {
            self.set_free(port);
        }
    }

    /// Another program holds `port` (binding it failed): leave it alone until `until`. A port that
    /// is already known to be busy gets the new date.
    pub fn mark_busy(&mut self, port: u16, until: Instant) {
        match self.state(port) {
            None => return,
            Some(State::Busy) => self.busy.retain(|&(_, busy)| busy != port),
            Some(State::Free | State::Taken) => self.set(port, State::Busy),
        }
        self.busy.insert((until, port));
    }

    /// Free the ports whose time as busy is over at `now`.
    pub fn tick(&mut self, now: Instant) {
        while let Some(&(until, port)) = self.busy.first() {
            if until > now {
                return;
            }
            self.busy.pop_first();
            self.set_free(port);
        }
    }

    /// The moment at which [`PortPool::tick`] has the next port to free.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.busy.first().map(|&(until, _)| until)
    }

    /// How many ports are free.
    pub fn free(&self) -> usize {
        self.even.len() + self.odd.len()
    }

    /// How many ports the pool was made of.
    pub fn size(&self) -> usize {
        self.states.len()
    }

    fn pick_any(&self, random: u64) -> Option<u16> {
        let chosen = scale(random, self.free())?;
        match chosen.checked_sub(self.even.len()) {
            None => self.even.nth(chosen),
            Some(odd) => self.odd.nth(odd),
        }
    }

    fn place(&self, port: u16) -> Option<usize> {
        let place = usize::from(port.checked_sub(self.first)?);
        (place < self.states.len()).then_some(place)
    }

    fn state(&self, port: u16) -> Option<State> {
        self.place(port).map(|place| self.states[place])
    }

    fn set_free(&mut self, port: u16) {
        self.set(port, State::Free);
    }

    /// The only place where a port changes its state: the three sets follow from the states.
    fn set(&mut self, port: u16, state: State) {
        let Some(place) = self.place(port) else { return };
        self.states[place] = state;
        let parity = if port.is_multiple_of(2) { &mut self.even } else { &mut self.odd };
        parity.set(port, state == State::Free);
        let even = port & !1;
        let paired = self.state(even) == Some(State::Free)
            && even.checked_add(1).and_then(|next| self.state(next)) == Some(State::Free);
        self.pairs.set(even, paired);
    }
}

/// A set of ports of one range with constant-time insert, remove and pick.
#[derive(Debug)]
struct PortSet {
    first: u16,
    members: Vec<u16>,
    /// Where in `members` each port of the range stands; `ABSENT` if it does not.
    places: Vec<u16>,
}

impl PortSet {
    fn new(first: u16, size: usize) -> PortSet {
        PortSet { first, members: Vec::new(), places: vec![ABSENT; size] }
    }

    fn len(&self) -> usize {
        self.members.len()
    }

    fn nth(&self, n: usize) -> Option<u16> {
        self.members.get(n).copied()
    }

    fn pick(&self, random: u64) -> Option<u16> {
        self.nth(scale(random, self.len())?)
    }

    fn set(&mut self, port: u16, present: bool) {
        let Some(at) = port.checked_sub(self.first).map(usize::from) else { return };
        let Some(&place) = self.places.get(at) else { return };
        match (present, place) {
            (true, ABSENT) => {
                self.places[at] =
                    u16::try_from(self.len()).expect("a set holds at most 65,535 ports");
                self.members.push(port);
            }
            (false, place) if place != ABSENT => {
                self.members.swap_remove(usize::from(place));
                if let Some(&moved) = self.members.get(usize::from(place)) {
                    self.places[usize::from(moved - self.first)] = place;
                }
                self.places[at] = ABSENT;
            }
            (true | false, _) => {}
        }
    }
}

/// `random`, which is even over all of u64, brought down to `0..len`.
fn scale(random: u64, len: usize) -> Option<usize> {
    let len = u128::try_from(len).expect("a usize fits u128");
    let scaled = (u128::from(random) * len) >> u64::BITS;
    (len > 0).then(|| usize::try_from(scaled).expect("it is below len, which is a usize"))
}

/// No place in a list: a range has at most 65,535 ports, so that no port stands there.
const ABSENT: u16 = u16::MAX;

#[cfg(test)]
mod tests;
