//! Ports and sockets for an Allocate request: asked for one after the other, given back by Drop
//! where the request fails in the end.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use smallvec::SmallVec;
use sterna_proto::account::Account;
use sterna_proto::address::{Family, RelayTransport, RelayedAddr};
use sterna_proto::allocation::{Relay, Relays, Terms};
use sterna_proto::port_pool::Parity;
use sterna_proto::request::{AllocateRequest, Families, PortWish};
use sterna_proto::session::Allocated;
use sterna_proto::stun::{ErrorCode, ReservationToken};

use super::SessionNeighbours;
use crate::allocation::TcpSeed;
use crate::connection_broker::NameConnection;
use crate::port_allocator::{ClaimReservation, LeasePort, PortLease};
use crate::transport::{RelayListener, RelaySocket};

/// Ports and sockets in the making.
pub(super) struct Gathering {
    pub(super) neighbours: Arc<SessionNeighbours>,
    pub(super) transport: RelayTransport,
    pub(super) prefer: IpAddr,
    pub(super) user: Arc<Account>,
}

/// Ports and sockets of an allocation that can be started.
pub(super) struct Gathered {
    ports: SmallVec<[(PortLease, RelayEnd); 2]>,
    missing: Option<(Family, ErrorCode)>,
}

/// What peers reach at a relayed transport address.
enum RelayEnd {
    Datagrams(Box<dyn RelaySocket>),
    Connections(Box<dyn RelayListener>),
}

/// The same, sorted for the allocation.
pub(super) struct RelayEnds {
    pub(super) leases: Vec<PortLease>,
    pub(super) sockets: SmallVec<[Box<dyn RelaySocket>; 1]>,
    pub(super) tcp: Option<TcpSeed>,
}

impl Gathering {
    pub(super) async fn gather(self, request: AllocateRequest) -> Result<Gathered, ErrorCode> {
        let mut gathered = Gathered { ports: SmallVec::new(), missing: None };
        if let PortWish::Reserved(token) = request.port {
            gathered.ports.push(self.claim(token).await?);
            return Ok(gathered);
        }
        let parity = match request.port {
            PortWish::Any | PortWish::Reserved(_) => Parity::Any,
            PortWish::Even => Parity::Even,
            PortWish::EvenAndReserve => Parity::EvenWithNext,
        };
        let families: &[Family] = match request.families {
            Families::One(Family::V4) | Families::AsReserved => &[Family::V4],
            Families::One(Family::V6) => &[Family::V6],
            Families::Both => &[Family::V4, Family::V6],
            Families::Half(family) => {
                let other = (family.other(), ErrorCode::AddressFamilyNotSupported);
                gathered.missing = Some(other);
                if family == Family::V4 { &[Family::V4] } else { &[Family::V6] }
            }
        };
        for &family in families {
            match self.lease(family, parity).await {
                Ok(port) => gathered.ports.push(port),
                //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
                //# If the server can partially meet the request, i.e., if it can only
                //# allocate one relayed transport address of a specific address
                //# type, then it includes ADDRESS-ERROR-CODE attribute in the
                //# success response to inform the client the reason for partial
                //# failure of the request.
                Err(code) => gathered.missing = Some((family, code)),
            }
        }
        match gathered.missing {
            Some((_, code)) if gathered.ports.is_empty() => Err(code),
            _ => Ok(gathered),
        }
    }

    async fn claim(&self, token: ReservationToken) -> Result<(PortLease, RelayEnd), ErrorCode> {
        let claim = ClaimReservation { token, user: self.user.clone() };
        let claimed = self.neighbours.claim_reservation.send(claim).await;
        //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
        //# If
        //# the token is not valid for some reason, the server rejects the
        //# request with a 508 (Insufficient Capacity) error.
        let lease = claimed
            .map_err(|_| ErrorCode::ServerError)?
            .map_err(|_| ErrorCode::InsufficientCapacity)?;
        match self.open(lease.address()) {
            Ok(socket) => Ok((lease, socket)),
            Err(_) => {
                lease.held_elsewhere();
                Err(ErrorCode::InsufficientCapacity)
            }
        }
    }

    /// Leases ports until one can be bound: another program may hold those that are free for us.
    async fn lease(
        &self,
        family: Family,
        parity: Parity,
    ) -> Result<(PortLease, RelayEnd), ErrorCode> {
        for _ in 0..BIND_ATTEMPTS {
            let wanted = LeasePort {
                transport: self.transport,
                family,
                prefer: self.prefer,
                parity,
                user: self.user.clone(),
            };
            let leased = self.neighbours.lease_port.send(wanted).await;
            let lease = leased
                .map_err(|_| ErrorCode::ServerError)?
                .map_err(|_| ErrorCode::InsufficientCapacity)?;
            match self.open(lease.address()) {
                Ok(socket) => return Ok((lease, socket)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => lease.held_elsewhere(),
                Err(_) => return Err(ErrorCode::InsufficientCapacity),
            }
        }
        Err(ErrorCode::InsufficientCapacity)
    }

    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
    //# A TCP relayed transport address MUST be allocated instead of a
    //# UDP one.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
    //# If all checks pass, the server MUST start accepting incoming TCP
    //# connections on the relayed transport address.
    fn open(&self, address: RelayedAddr) -> io::Result<RelayEnd> {
        let sockets = &self.neighbours.relay_sockets;
        match self.transport {
            RelayTransport::Udp => sockets.bind(address).map(RelayEnd::Datagrams),
            RelayTransport::Tcp => sockets.listen(address).map(RelayEnd::Connections),
        }
    }
}

impl Gathered {
    /// What the allocation is to own. No TCP port is ever reserved for a later allocation.
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.1
    //# The RESERVATION-TOKEN attribute MUST NOT be present in the
    //# success response.
    pub(super) fn ends(self, name_connection: &Recipient<NameConnection>) -> RelayEnds {
        let mut listeners = SmallVec::new();
        let mut ends = RelayEnds { leases: Vec::new(), sockets: SmallVec::new(), tcp: None };
        for (lease, end) in self.ports {
            ends.leases.push(lease);
            match end {
                RelayEnd::Datagrams(socket) => ends.sockets.push(socket),
                RelayEnd::Connections(listener) => listeners.push(listener),
            }
        }
        if !listeners.is_empty() {
            let name_connection = name_connection.clone();
            ends.tcp = Some(TcpSeed { listeners, name_connection });
        }
        ends
    }

    pub(super) fn relays(&self, terms: &Terms) -> Relays {
        let relay = |family| {
            let mut addresses = self.ports.iter().map(|(lease, _)| lease.address());
            let relayed = addresses.find(|address| Family::of(address.0.ip()) == family)?;
            Some(Relay { relayed, advertised: terms.rules.external().advertise(relayed) })
        };
        Relays { v4: relay(Family::V4), v6: relay(Family::V6) }
    }

    pub(super) fn allocated(&self, relays: &Relays, lifetime: Duration) -> Allocated {
        let relays = [&relays.v4, &relays.v6];
        let relayed: SmallVec<[RelayedAddr; 2]> =
            relays.into_iter().flatten().map(|relay| relay.advertised).collect();
        Allocated {
            relayed,
            lifetime,
            reservation: self.ports.iter().find_map(|(lease, _)| lease.reservation()),
            missing: self.missing,
        }
    }
}

/// Ports tried for one relayed transport address.
const BIND_ATTEMPTS: usize = 16;
