//! The requests that change an allocation: Refresh, CreatePermission and ChannelBind, each with the
//! checks of its section of RFC 8656.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::channels::{Conflict, Standing};
use super::{Allocation, ChannelBindError, CreatePermissionError, Halves, RefreshError};
use crate::address::{Family, PeerAddr};
use crate::channel_data::ChannelNumber;
use crate::request::RefreshRequest;

/// What a Refresh has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// What was asked for lasts this long from the moment of the request on.
    Until(Duration),
    /// The relayed transport address of this family is deleted, with its permissions and channels;
    /// the other one lives.
    RelayDeleted(Family),
    /// The allocation is deleted.
    Deleted,
}

impl Allocation {
    /// Refresh or delete the allocation, or one address of a dual allocation.
    pub fn refresh(
        &mut self,
        request: &RefreshRequest,
        now: Instant,
    ) -> Result<Refreshed, RefreshError> {
        self.sweep(now);
        if self.halves.is_empty() {
            return Err(RefreshError::NoAllocation);
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
        //# If the server receives a Refresh Request with a REQUESTED-ADDRESS-
        //# FAMILY attribute and the attribute value does not match the address
        //# family of the allocation, the server MUST reply with a 443 (Peer
        //# Address Family Mismatch) Refresh error response.
        if request.family.is_some_and(|family| self.halves.of(family).is_none()) {
            return Err(RefreshError::FamilyMismatch);
        }
        let refreshed = match request.lifetime {
            Some(Duration::ZERO) => self.delete(request.family),
            lifetime => self.extend(request.family, lifetime, now),
        };
        self.rearm();
        Ok(refreshed)
    }

    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
    //# If the "desired lifetime" is non-zero, then the request succeeds
    //# and the allocation's time-to-expiry is set to the "desired
    //# lifetime".
    fn extend(
        &mut self,
        family: Option<Family>,
        lifetime: Option<Duration>,
        now: Instant,
    ) -> Refreshed {
        let granted = self.terms.lifetimes.grant(lifetime);
        let granted = match self.ends {
            Some(ends) => granted.min(ends.saturating_duration_since(now)),
            None => granted,
        };
        for each in [Family::V4, Family::V6] {
            if family.is_none_or(|family| family == each) {
                self.halves.extend(each, now + granted);
            }
        }
        Refreshed::Until(granted)
    }

    //= https://www.rfc-editor.org/rfc/rfc8656#section-8.2
    //# If the "desired lifetime" is zero, then the request succeeds and
    //# the allocation is deleted.
    fn delete(&mut self, family: Option<Family>) -> Refreshed {
        if let Some(family) = family {
            self.remove_half(family);
        } else {
            self.halves = Halves::none();
        }
        match family {
            Some(family) if !self.halves.is_empty() => Refreshed::RelayDeleted(family),
            _ => {
                self.clear();
                Refreshed::Deleted
            }
        }
    }

    /// Install or refresh a permission for the IP address of each peer, or none at all.
    pub fn create_permissions(
        &mut self,
        peers: &[PeerAddr],
        now: Instant,
    ) -> Result<(), CreatePermissionError> {
        self.sweep(now);
        if self.halves.is_empty() {
            return Err(CreatePermissionError::NoAllocation);
        }
        let mut ips: SmallVec<[IpAddr; 8]> =
            peers.iter().map(|&peer| self.internal(peer).0.ip()).collect();
        ips.sort_unstable();
        ips.dedup();

        //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
        //# If an XOR-PEER-ADDRESS attribute contains an address of an address
        //# family that is not the same as that of a relayed transport address
        //# for the allocation, the server MUST generate an error response with
        //# the 443 (Peer Address Family Mismatch) response code.
        if ips.iter().any(|&ip| self.halves.of(Family::of(ip)).is_none()) {
            return Err(CreatePermissionError::PeerFamily);
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
        //# The server MAY impose restrictions on the IP address allowed in the
        //# XOR-PEER-ADDRESS attribute; if a value is not allowed, the server
        //# rejects the request with a 403 (Forbidden) error.
        for &ip in &ips {
            let judged = self.terms.rules.check_ip_within(ip, &self.layers);
            judged.map_err(|rule| CreatePermissionError::Forbidden { peer: ip, rule })?;
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-10.2
        //# If the request is valid, but the server is unable to
        //# satisfy the request due to some capacity limit or similar, then a 508
        //# (Insufficient Capacity) error is returned.
        let added = ips.iter().filter(|&&ip| !self.permissions.contains(ip)).count();
        if added > 0 && self.permissions.len() + added > self.terms.permissions_max {
            return Err(CreatePermissionError::Full);
        }
        for ip in ips {
            self.permissions.install(ip, now + self.terms.lifetimes.permission);
        }
        self.rearm();
        Ok(())
    }

    /// Bind `number` and `peer` to each other, or refresh the binding; either way with the
    /// permission for the peer, which lasts as long as any permission and not as long as the
    /// channel.
    pub fn bind_channel(
        &mut self,
        number: ChannelNumber,
        peer: PeerAddr,
        now: Instant,
    ) -> Result<(), ChannelBindError> {
        self.sweep(now);
        if self.halves.is_empty() {
            return Err(ChannelBindError::NoAllocation);
        }
        // A channel carries data on the control connection, which a TCP allocation's does not
        // (RFC 6062 §3). The request is well-formed and will never be granted.
        if self.connections.is_some() {
            return Err(ChannelBindError::TcpAllocation);
        }
        let peer = self.internal(peer);
        let standing = self.channels.standing(number, peer).map_err(|conflict| match conflict {
            //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
            //# The channel number is not currently bound to a different transport
            //# address (same transport address is OK);
            Conflict::Number => ChannelBindError::NumberInUse,
            //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
            //# The transport address is not currently bound to a different
            //# channel number.
            Conflict::Peer => ChannelBindError::PeerInUse,
        })?;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
        //# If the XOR-PEER-ADDRESS attribute contains an
        //# address of an address family that is not the same as that of a
        //# relayed transport address for the allocation, the server MUST
        //# generate an error response with the 443 (Peer Address Family
        //# Mismatch) response code.
        if self.halves.of(Family::of(peer.0.ip())).is_none() {
            return Err(ChannelBindError::PeerFamily);
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
        //# The server MAY impose restrictions on the IP address and port values
        //# allowed in the XOR-PEER-ADDRESS attribute; if a value is not allowed,
        //# the server rejects the request with a 403 (Forbidden) error.
        self.check(peer).map_err(ChannelBindError::Forbidden)?;
        self.room_for_channel(standing, peer)?;

        self.channels.bind(number, peer, now + self.terms.lifetimes.channel);
        //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
        //# The server also installs or refreshes a
        //# permission for the IP address in the XOR-PEER-ADDRESS attribute as
        //# described in Section 9.
        self.permissions.install(peer.0.ip(), now + self.terms.lifetimes.permission);
        self.rearm();
        Ok(())
    }

    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.2
    //# If the request is valid, but the server is unable to fulfill the
    //# request due to some capacity limit or similar, the server replies
    //# with a 508 (Insufficient Capacity) error.
    fn room_for_channel(&self, standing: Standing, peer: PeerAddr) -> Result<(), ChannelBindError> {
        // A bound channel is refreshed whatever else there is: its permission may exceed the limit,
        // by one for each channel at most.
        if standing == Standing::Bound {
            return Ok(());
        }
        let (channels, permissions) = (&self.channels, &self.permissions);
        let max = self.terms.channels_max;
        // Remembered pairs take memory too. Channels that live longer than they are remembered
        // never reach the second limit before the first.
        let remembered_too_many =
            standing == Standing::New && channels.len() >= max.saturating_mul(2);
        if channels.bound() >= max || remembered_too_many {
            return Err(ChannelBindError::ChannelsFull);
        }
        if !permissions.contains(peer.0.ip()) && permissions.len() >= self.terms.permissions_max {
            return Err(ChannelBindError::PermissionsFull);
        }
        Ok(())
    }

    fn internal(&self, peer: PeerAddr) -> PeerAddr {
        self.terms.rules.external().internal(peer)
    }
}
