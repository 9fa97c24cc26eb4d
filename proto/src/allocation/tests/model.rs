//! An allocation and a model of it live through the same random life. The model keeps plain lists,
//! looks at all of them for every answer, and knows nothing of sweeping.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{channel, peer, peer6, relay_v4, relay_v6, rules, secs, terms};
use crate::address::{Family, PeerAddr};
use crate::allocation::{Allocation, Effect, Inbound, Refreshed, Relays, Terms};
use crate::channel_data::ChannelNumber;
use crate::drops::DropReason;
use crate::request::RefreshRequest;
use crate::stun::ErrorCode;
use crate::testing::epoch;

const QUARANTINE: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    CreatePermissions(Vec<PeerAddr>),
    BindChannel(ChannelNumber, PeerAddr),
    Refresh(RefreshRequest),
    HandleTimeout,
    /// Deny the host with this number, or nobody.
    Deny(Option<u8>),
}

fn any_peer() -> impl Strategy<Value = PeerAddr> {
    (1..=4_u8, 1..=2_u16, any::<bool>())
        .prop_map(|(host, port, is_v4)| if is_v4 { peer(host, port) } else { peer6(host, port) })
}

fn any_channel() -> impl Strategy<Value = ChannelNumber> {
    (0x4000..0x4005_u16).prop_map(channel)
}

fn step() -> impl Strategy<Value = Step> {
    let lifetime = prop_oneof![1 => Just(0_u64), 9 => 500..4000_u64];
    let family = prop::sample::select(vec![Family::V4, Family::V6]);
    let refresh = (prop::option::of(lifetime), prop::option::of(family))
        .prop_map(|(lifetime, family)| RefreshRequest { lifetime: lifetime.map(secs), family });
    prop_oneof![
        6 => (0..400_u64).prop_map(Step::Wait),
        4 => prop::collection::vec(any_peer(), 1..4).prop_map(Step::CreatePermissions),
        6 => (any_channel(), any_peer()).prop_map(|(number, peer)| Step::BindChannel(number, peer)),
        2 => refresh.prop_map(Step::Refresh),
        3 => Just(Step::HandleTimeout),
        1 => prop::option::of(1..=4_u8).prop_map(Step::Deny),
    ]
}

struct Pair {
    number: ChannelNumber,
    peer: PeerAddr,
    expires: Instant,
}

struct Model {
    now: Instant,
    halves: BTreeMap<u8, Instant>,
    permissions: BTreeMap<IpAddr, Instant>,
    pairs: Vec<Pair>,
    denied: Option<u8>,
    permissions_max: usize,
    channels_max: usize,
    effects: Vec<Effect>,
}

fn key(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

impl Model {
    fn new(relays: &Relays, lifetime: Duration, terms: &Terms) -> Model {
        let halves = [(4, relays.v4), (6, relays.v6)];
        Model {
            now: epoch(),
            halves: halves
                .into_iter()
                .filter_map(|(family, relay)| relay.map(|_| (family, epoch() + lifetime)))
                .collect(),
            permissions: BTreeMap::new(),
            pairs: Vec::new(),
            denied: None,
            permissions_max: terms.permissions_max,
            channels_max: terms.channels_max,
            effects: Vec::new(),
        }
    }

    /// Let everything end that does, second by second.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += secs(1);
            self.end_second();
        }
    }

    fn end_second(&mut self) {
        let now = self.now;
        let over: Vec<u8> =
            self.halves.iter().filter(|(_, at)| **at == now).map(|(half, _)| *half).collect();
        for half in over {
            self.remove(half);
            self.effects.push(match (self.halves.is_empty(), half) {
                (true, _) => Effect::Expired,
                (false, 4) => Effect::RelayExpired(Family::V4),
                (false, _) => Effect::RelayExpired(Family::V6),
            });
        }
        for pair in self.pairs.iter().filter(|pair| pair.expires == now) {
            self.effects.push(Effect::ChannelExpired(pair.number, pair.peer));
        }
        self.pairs.retain(|pair| pair.expires + QUARANTINE > now);
        for ip in self.permissions.iter().filter(|(_, at)| **at == now).map(|(ip, _)| *ip) {
            self.effects.push(Effect::PermissionExpired(ip));
        }
        self.permissions.retain(|_, expires| *expires > now);
    }

    fn remove(&mut self, half: u8) {
        self.halves.remove(&half);
        self.permissions.retain(|ip, _| key(*ip) != half);
        self.pairs.retain(|pair| key(pair.peer.0.ip()) != half);
    }

    fn is_denied(&self, ip: IpAddr) -> bool {
        self.denied.is_some_and(|host| ip == peer(host, 0).0.ip() || ip == peer6(host, 0).0.ip())
    }

    fn bound(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| pair.expires > self.now)
    }

    fn create_permissions(&mut self, peers: &[PeerAddr]) -> Result<(), ErrorCode> {
        if self.halves.is_empty() {
            return Err(ErrorCode::AllocationMismatch);
        }
        if peers.iter().any(|peer| !self.halves.contains_key(&key(peer.0.ip()))) {
            return Err(ErrorCode::PeerAddressFamilyMismatch);
        }
        if peers.iter().any(|peer| self.is_denied(peer.0.ip())) {
            return Err(ErrorCode::Forbidden);
        }
        let mut after = self.permissions.clone();
        after.extend(peers.iter().map(|peer| (peer.0.ip(), self.now + secs(300))));
        if after.len() > self.permissions.len() && after.len() > self.permissions_max {
            return Err(ErrorCode::InsufficientCapacity);
        }
        self.permissions = after;
        Ok(())
    }

    fn bind_channel(&mut self, number: ChannelNumber, peer: PeerAddr) -> Result<(), ErrorCode> {
        if self.halves.is_empty() {
            return Err(ErrorCode::AllocationMismatch);
        }
        if self.pairs.iter().any(|pair| (pair.number == number) != (pair.peer == peer)) {
            return Err(ErrorCode::BadRequest);
        }
        if !self.halves.contains_key(&key(peer.0.ip())) {
            return Err(ErrorCode::PeerAddressFamilyMismatch);
        }
        if self.is_denied(peer.0.ip()) {
            return Err(ErrorCode::Forbidden);
        }
        let refreshed = self.bound().any(|pair| pair.number == number);
        let known = self.pairs.iter().any(|pair| pair.number == number);
        let channels_full = self.bound().count() >= self.channels_max
            || !known && self.pairs.len() >= 2 * self.channels_max;
        let permissions_full = !self.permissions.contains_key(&peer.0.ip())
            && self.permissions.len() >= self.permissions_max;
        if !refreshed && (channels_full || permissions_full) {
            return Err(ErrorCode::InsufficientCapacity);
        }
        self.pairs.retain(|pair| pair.number != number);
        self.pairs.push(Pair { number, peer, expires: self.now + secs(600) });
        self.permissions.insert(peer.0.ip(), self.now + secs(300));
        Ok(())
    }

    fn refresh(&mut self, request: &RefreshRequest) -> Result<Refreshed, ErrorCode> {
        if self.halves.is_empty() {
            return Err(ErrorCode::AllocationMismatch);
        }
        let family = request.family.map(number_of);
        if family.is_some_and(|family| !self.halves.contains_key(&family)) {
            return Err(ErrorCode::PeerAddressFamilyMismatch);
        }
        let meant: Vec<u8> =
            self.halves.keys().copied().filter(|half| family.is_none_or(|f| f == *half)).collect();
        if request.lifetime == Some(Duration::ZERO) {
            meant.iter().for_each(|half| self.remove(*half));
            return Ok(match (self.halves.is_empty(), request.family) {
                (false, Some(family)) => Refreshed::RelayDeleted(family),
                (_, _) => Refreshed::Deleted,
            });
        }
        let granted = request.lifetime.unwrap_or_default().clamp(secs(600), secs(3600));
        for half in meant {
            self.halves.insert(half, self.now + granted);
        }
        Ok(Refreshed::Until(granted))
    }

    fn deny(&mut self, host: Option<u8>) {
        self.denied = host;
        let (now, denied) = (self.now, |model: &Model, ip| model.is_denied(ip));
        let refused: Vec<IpAddr> =
            self.permissions.keys().copied().filter(|ip| denied(self, *ip)).collect();
        for ip in refused {
            self.permissions.remove(&ip);
            self.effects.push(Effect::PermissionExpired(ip));
        }
        for index in 0..self.pairs.len() {
            let Pair { number, peer, expires } = self.pairs[index];
            if expires > now && denied(self, peer.0.ip()) {
                self.pairs[index].expires = now;
                self.effects.push(Effect::ChannelExpired(number, peer));
            }
        }
    }

    fn half(&self, peer: PeerAddr) -> Result<(), DropReason> {
        match self.halves.contains_key(&key(peer.0.ip())) {
            true => Ok(()),
            false if self.halves.is_empty() => Err(DropReason::NoAllocation),
            false => Err(DropReason::PeerFamily),
        }
    }

    fn permitted(&self, peer: PeerAddr) -> Result<(), DropReason> {
        self.half(peer)?;
        let permitted = self.permissions.contains_key(&peer.0.ip());
        permitted.then_some(()).ok_or(DropReason::NoPermission)
    }

    fn inbound(&self, peer: PeerAddr) -> Result<Inbound, DropReason> {
        self.permitted(peer)?;
        let channel = self.bound().find(|pair| pair.peer == peer);
        Ok(channel.map_or(Inbound::Indication(peer), |pair| Inbound::Channel(pair.number)))
    }

    fn channel_peer(&self, number: ChannelNumber) -> Result<PeerAddr, DropReason> {
        match self.bound().find(|pair| pair.number == number) {
            Some(pair) => Ok(pair.peer),
            None if self.halves.is_empty() => Err(DropReason::NoAllocation),
            None => Err(DropReason::UnboundChannel),
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let pairs = self.pairs.iter().map(|pair| match pair.expires > self.now {
            true => pair.expires,
            false => pair.expires + QUARANTINE,
        });
        self.halves.values().chain(self.permissions.values()).copied().chain(pairs).min()
    }
}

fn apply(step: Step, model: &mut Model, allocation: &mut Allocation) {
    let now = model.now;
    match step {
        Step::Wait(seconds) => model.wait(seconds),
        Step::CreatePermissions(peers) => {
            let created = allocation.create_permissions(&peers, now);
            assert_eq!(model.create_permissions(&peers), created.map_err(|error| error.code()));
        }
        Step::BindChannel(number, peer) => {
            let bound = allocation.bind_channel(number, peer, now);
            assert_eq!(model.bind_channel(number, peer), bound.map_err(|error| error.code()));
        }
        Step::Refresh(request) => {
            let refreshed = allocation.refresh(&request, now);
            assert_eq!(model.refresh(&request), refreshed.map_err(|error| error.code()));
        }
        Step::HandleTimeout => {
            allocation.handle_timeout(now);
            assert_eq!(model.next_timeout(), allocation.poll_timeout());
            assert!(allocation.poll_timeout().is_none_or(|timeout| timeout > now));
            assert_eq!(model.permissions.len(), allocation.permission_count());
            assert_eq!(model.bound().count(), allocation.channel_count());
        }
        Step::Deny(host) => {
            model.deny(host);
            allocation.set_terms(Arc::new(denying(host)), now);
        }
    }
}

fn denying(host: Option<u8>) -> Terms {
    let peers = host.into_iter().flat_map(|host| [peer(host, 0), peer6(host, 0)]);
    let denied: Vec<_> = peers.map(|peer| peer.0.ip().into()).collect();
    Terms { permissions_max: 5, channels_max: 3, rules: rules(&denied), ..terms() }
}

/// Whatever was swept, data gets the model's answer.
fn check_data(model: &Model, allocation: &Allocation) {
    for number in 0x4000..0x4006 {
        let number = channel(number);
        assert_eq!(model.channel_peer(number), allocation.channel_peer(number, model.now));
    }
    for host in 1..=4 {
        for port in 1..=2 {
            for peer in [peer(host, port), peer6(host, port)] {
                assert_eq!(model.inbound(peer), allocation.from_peer(peer, model.now));
                let permitted = model.permitted(peer).map(|()| peer);
                assert_eq!(permitted, allocation.indication_peer(peer, model.now));
                assert_eq!(permitted, allocation.from_icmp(peer, model.now));
            }
        }
    }
    assert_eq!(!model.halves.is_empty(), allocation.is_live(model.now));
    let remaining = model.halves.values().max().map(|last| *last - model.now);
    assert_eq!(remaining.unwrap_or_default(), allocation.remaining(model.now));
}

/// The same effects were reported, whichever of one moment came first.
fn check_effects(model: &mut Model, allocation: &mut Allocation) {
    allocation.handle_timeout(model.now);
    let sorted = |effects: Vec<Effect>| {
        let mut effects: Vec<String> = effects.iter().map(|effect| format!("{effect:?}")).collect();
        effects.sort_unstable();
        effects
    };
    let reported: Vec<Effect> = std::iter::from_fn(|| allocation.poll_effect()).collect();
    let end = reported.iter().position(|effect| *effect == Effect::Expired);
    assert!(end.is_none_or(|end| end + 1 == reported.len()), "nothing follows the end");
    assert_eq!(sorted(std::mem::take(&mut model.effects)), sorted(reported));
}

proptest! {
    #[test]
    fn an_allocation_does_what_its_model_does(
        is_dual in any::<bool>(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let v6 = is_dual.then(relay_v6);
        let relays = Relays { v4: Some(relay_v4()), v6 };
        let mut model = Model::new(&relays, secs(600), &denying(None));
        let mut allocation =
            Allocation::new(Arc::new(denying(None)), relays, secs(600), model.now);

        for step in steps {
            apply(step, &mut model, &mut allocation);
            check_data(&model, &allocation);
        }

        check_effects(&mut model, &mut allocation);
    }
}
