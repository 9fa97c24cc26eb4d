//! Which addresses may be peers, and by which address a relayed transport address of ours is known.
//!
//! A relay sits inside the operator's network and sends where clients tell it to. What it must not
//! reach is decided here, by one function for CreatePermission, ChannelBind, Send and incoming
//! data.

mod embedded;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::address::{PeerAddr, RelayedAddr};

pub use embedded::canonical;

/// The rules by which an address is accepted or refused as a peer.
///
/// The first that matches decides: an explicit deny, an address of the server's own, an explicit
/// allow, a relayed transport address of this server, the built-in deny list. What none of them
/// names is permitted. An IPv6 address that carries IPv4 addresses is judged by itself and by each
/// of these; one refusal refuses it.
///
/// Lists come in layers: the server's, the realm's, the user's. Within all of them a deny wins over
/// an allow, so that no layer opens what another has closed on purpose.
#[derive(Clone, Debug)]
pub struct PeerRules {
    lists: PeerLists,
    own: Vec<SocketAddr>,
    relay: RelayAddresses,
    external: External,
}

/// Networks whose addresses may be peers, and networks whose addresses may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLists {
    /// Wins over the built-in deny list.
    pub allow: Vec<IpNet>,
    /// Wins over everything.
    pub deny: Vec<IpNet>,
}

/// The lists of a user and its realm, which count besides the server's.
#[derive(Clone, Debug, Default)]
pub struct PeerLayers {
    /// Those of the user alone.
    pub user: Option<Arc<PeerLists>>,
    /// Those of all users of its realm.
    pub realm: Option<Arc<PeerLists>>,
}

impl PeerLayers {
    /// No lists besides the server's.
    pub const NONE: PeerLayers = PeerLayers { user: None, realm: None };
}

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The user's.
    User,
    /// Its realm's.
    Realm,
    /// The server's.
    Server,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::User => "user",
            Layer::Realm => "realm",
            Layer::Server => "server",
        })
    }
}

/// Where this server's relayed transport addresses lie.
#[derive(Clone, Debug)]
pub struct RelayAddresses {
    /// The IP addresses that relay sockets are bound to.
    pub ips: Vec<IpAddr>,
    /// The ports that allocations get.
    pub ports: RangeInclusive<u16>,
}

/// The rule that refuses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The deny list of this layer has this network.
    Listed(Layer, IpNet),
    /// This is a listening or admin address of the server.
    Own(SocketAddr),
    /// The built-in list refuses this kind of address.
    BuiltIn(&'static str),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Listed(layer, network) => write!(f, "{layer}: deny {network}"),
            Denied::Own(address) => write!(f, "own address {address}"),
            Denied::BuiltIn(kind) => write!(f, "built-in: {kind}"),
        }
    }
}

impl std::error::Error for Denied {}

impl PeerRules {
    /// Rules from the operator's lists and what the server knows of itself.
    ///
    /// `own` are the listening and admin addresses, refused by IP address and port. One with the
    /// wildcard address stands for its port on every address of this host that the rules know:
    /// loopback, the relay addresses, their external addresses and the others in `own`.
    pub fn new(
        lists: PeerLists,
        own: Vec<SocketAddr>,
        relay: RelayAddresses,
        external: External,
    ) -> PeerRules {
        PeerRules { lists, own, relay, external }
    }

    /// Judge an IP address without a port, as a permission has none. A relay address of this server
    /// passes: which of its ports are peers is for [`PeerRules::check`] to say.
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), Denied> {
        self.check_ip_within(ip, &PeerLayers::NONE)
    }

    /// The same for a user who has `layers`.
    pub fn check_ip_within(&self, ip: IpAddr, layers: &PeerLayers) -> Result<(), Denied> {
        Judging { rules: self, layers }.judge(ip, None)
    }

    /// Judge a transport address.
    pub fn check(&self, peer: PeerAddr) -> Result<(), Denied> {
        self.check_within(peer, &PeerLayers::NONE)
    }

    /// The same for a user who has `layers`.
    pub fn check_within(&self, peer: PeerAddr, layers: &PeerLayers) -> Result<(), Denied> {
        Judging { rules: self, layers }.judge(peer.0.ip(), Some(peer.0.port()))
    }

    /// Whether `peer`, as the relay reaches it, may be a relayed transport address of this server.
    pub fn may_be_relayed(&self, peer: PeerAddr) -> bool {
        self.is_relayed(peer.0.ip(), Some(peer.0.port()))
    }

    /// How relayed transport addresses are known outside.
    pub fn external(&self) -> &External {
        &self.external
    }

    /// An address of ours as it is on this host and as the world knows it: a rule may name either.
    fn names(&self, ip: IpAddr) -> [IpAddr; 2] {
        let internal = self.external.internal_ip(ip);
        [internal, self.external.public_ip(internal)]
    }

    fn own_address(&self, names: &[IpAddr], port: u16) -> Option<SocketAddr> {
        let matches = |own: &&SocketAddr| {
            own.port() == port
                && match own.ip().is_unspecified() {
                    true => names.iter().any(|&ip| self.is_this_host(ip)),
                    false => names.contains(&own.ip()),
                }
        };
        self.own.iter().find(matches).copied()
    }

    fn is_this_host(&self, ip: IpAddr) -> bool {
        ip.is_loopback()
            || ip.is_unspecified()
            || self.relay.ips.contains(&ip)
            || self.external.has(ip)
            || self.own.iter().any(|own| own.ip() == ip)
    }

    fn is_relayed(&self, ip: IpAddr, port: Option<u16>) -> bool {
        self.relay.ips.contains(&ip) && port.is_none_or(|port| self.relay.ports.contains(&port))
    }
}

/// The rules as they are for one user.
struct Judging<'a> {
    rules: &'a PeerRules,
    layers: &'a PeerLayers,
}

impl Judging<'_> {
    fn judge(&self, ip: IpAddr, port: Option<u16>) -> Result<(), Denied> {
        self.judge_form(ip, port)?;
        let IpAddr::V6(ip) = ip else { return Ok(()) };
        for embedded in embedded::embedded(ip) {
            self.judge_form(IpAddr::V4(embedded), port)?;
        }
        // Who allows the prefix of a translator means what it translates to, but no more than its
        // deny list leaves, whichever way the address is read.
        let readings = embedded::other_readings(ip).into_iter();
        let denied = readings.map(IpAddr::V4).find_map(|ip| self.denied_by(&self.rules.names(ip)));
        denied.map_or(Ok(()), Err)
    }

    fn judge_form(&self, ip: IpAddr, port: Option<u16>) -> Result<(), Denied> {
        let names = self.rules.names(ip);
        let [internal, _] = names;

        if let Some(denied) = self.denied_by(&names) {
            return Err(denied);
        }
        if let Some(own) = port.and_then(|port| self.rules.own_address(&names, port)) {
            return Err(Denied::Own(own));
        }
        let allowed = self.lists().any(|(_, lists)| find(&lists.allow, &names).is_some());
        if allowed || self.rules.is_relayed(internal, port) {
            return Ok(());
        }
        match names.into_iter().find_map(built_in) {
            Some(kind) => Err(Denied::BuiltIn(kind)),
            None => Ok(()),
        }
    }

    fn denied_by(&self, names: &[IpAddr]) -> Option<Denied> {
        self.lists().find_map(|(layer, lists)| {
            find(&lists.deny, names).map(|network| Denied::Listed(layer, network))
        })
    }

    /// From the nearest to the widest, so that a refusal names the nearest.
    fn lists(&self) -> impl Iterator<Item = (Layer, &PeerLists)> {
        let user = self.layers.user.as_deref().map(|lists| (Layer::User, lists));
        let realm = self.layers.realm.as_deref().map(|lists| (Layer::Realm, lists));
        user.into_iter().chain(realm).chain([(Layer::Server, &self.rules.lists)])
    }
}

/// The relay addresses that the world knows by another address, because a 1:1 NAT stands between.
#[derive(Clone, Debug, Default)]
pub struct External {
    /// (private, public)
    pairs: Vec<(IpAddr, IpAddr)>,
}

impl External {
    /// A map from private to public addresses.
    pub fn new(pairs: Vec<(IpAddr, IpAddr)>) -> External {
        External { pairs }
    }

    /// The relayed transport address as clients are to tell it to their peers.
    pub fn advertise(&self, relayed: RelayedAddr) -> RelayedAddr {
        RelayedAddr(SocketAddr::new(self.public_ip(relayed.0.ip()), relayed.0.port()))
    }

    /// The address to send to for a peer that a client names: our own public addresses do not come
    /// back through every NAT, so that they are reached by the private one.
    pub fn internal(&self, peer: PeerAddr) -> PeerAddr {
        match self.internal_ip(peer.0.ip()) {
            ip if ip == peer.0.ip() => peer,
            ip => PeerAddr(SocketAddr::new(ip, peer.0.port())),
        }
    }

    /// The address by which the client knows the peer that data came from.
    pub fn known_as(&self, peer: PeerAddr) -> PeerAddr {
        match self.public_ip(peer.0.ip()) {
            ip if ip == peer.0.ip() => peer,
            ip => PeerAddr(SocketAddr::new(ip, peer.0.port())),
        }
    }

    fn internal_ip(&self, ip: IpAddr) -> IpAddr {
        self.pairs.iter().find(|(_, public)| *public == ip).map_or(ip, |(private, _)| *private)
    }

    fn public_ip(&self, ip: IpAddr) -> IpAddr {
        self.pairs.iter().find(|(private, _)| *private == ip).map_or(ip, |(_, public)| *public)
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.pairs.iter().any(|&(private, public)| ip == private || ip == public)
    }
}

/// Whether `ip` is at the far end of an automatic tunnel. Data that goes there comes out of the
/// tunnel as whatever its sender has put in, and may come here again.
//= https://www.rfc-editor.org/rfc/rfc8656#section-21.4
//# In particular, a TURN server MUST NOT accept Teredo
//# or 6to4 addresses in these requests.
pub fn is_tunneled(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => SIX_TO_FOUR.contains(&ip) || TEREDO.contains(&ip),
    }
}

fn find(networks: &[IpNet], names: &[IpAddr]) -> Option<IpNet> {
    networks.iter().find(|network| names.iter().any(|ip| network.contains(ip))).copied()
}

fn built_in(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => {
            DENIED_V4.iter().find(|(net, _)| net.contains(&ip)).map(|(_, kind)| *kind)
        }
        IpAddr::V6(ip) => {
            DENIED_V6.iter().find(|(net, _)| net.contains(&ip)).map(|(_, kind)| *kind)
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, third: u16, last: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, last), prefix)
}

/// What no peer on the public Internet has as its address, and what inside the operator's network
/// is nobody's business: the cloud's metadata service is link-local, databases and consoles are
/// private.
const DENIED_V4: [(Ipv4Net, &str); 10] = [
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(100, 64, 0, 0, 10), "shared address space"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// The same for IPv6. A translation prefix of local use (RFC 8215) leads wherever its operator
/// wants.
const DENIED_V6: [(Ipv6Net, &str); 9] = [
    (v6(0, 0, 0, 0, 128), "unspecified"),
    (v6(0, 0, 0, 1, 128), "loopback"),
    (v6(0xfe80, 0, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 0, 10), "site-local"),
    (v6(0xfc00, 0, 0, 0, 7), "unique local"),
    (v6(0xff00, 0, 0, 0, 8), "multicast"),
    (v6(0x64, 0xff9b, 1, 0, 48), "local translation"),
    (SIX_TO_FOUR, "6to4"),
    (TEREDO, "Teredo"),
];

const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 0, 16);
const TEREDO: Ipv6Net = v6(0x2001, 0, 0, 0, 32);

#[cfg(test)]
mod tests;
