//! Where the server listens: which sockets that takes, and how they are bound.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use socket2::Socket;
use sterna_proto::address::TransportProtocol;

use crate::config::Listen;
use crate::socket::{BindError, ListenOptions, StreamListenSocket, UdpListenSocket};

/// An address to listen on with one socket for each worker, whatever is spoken there.
pub(crate) struct Place {
    listen: Vec<Listen>,
    carrier: Carrier,
}

/// What carries the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// UDP and DTLS.
    Datagrams {
        /// See [`Listen::proxy`].
        proxy: Option<Vec<IpNet>>,
    },
    /// TCP and TLS.
    Streams {
        /// See [`Listen::proxy`].
        proxy: Option<Vec<IpNet>>,
    },
}

/// A place whose sockets are bound.
pub(crate) struct Bound {
    /// What is spoken there, with the real port.
    pub(crate) listen: Vec<Listen>,
    pub(crate) carrier: Carrier,
    /// The realm whose users are asked for there.
    pub(crate) realm: Option<Arc<str>>,
    /// One for each worker.
    pub(crate) sockets: Vec<Socket>,
}

impl Carrier {
    fn of(listen: &Listen) -> Carrier {
        match listen.protocol {
            TransportProtocol::Udp | TransportProtocol::Dtls => {
                Carrier::Datagrams { proxy: listen.proxy.clone() }
            }
            TransportProtocol::Tcp | TransportProtocol::Tls => {
                Carrier::Streams { proxy: listen.proxy.clone() }
            }
        }
    }

    fn is_stream(&self) -> bool {
        matches!(self, Carrier::Streams { .. })
    }
}

impl Place {
    /// The places of all that is to be listened on: two protocols of one address that the first
    /// bytes tell apart share a socket.
    ///
    /// # Errors
    /// Where one of two such expects PROXY headers and the other does not, or has another realm.
    pub(crate) fn all(listen: &[Listen]) -> Result<Vec<Place>, BindError> {
        let mut places: Vec<Place> = Vec::new();
        for listen in listen {
            let carrier = Carrier::of(listen);
            match places.iter_mut().find(|place| place.takes_in(listen, &carrier)) {
                None => places.push(Place { listen: vec![listen.clone()], carrier }),
                Some(place) if place.carrier == carrier && place.realm() == listen.realm => {
                    place.listen.push(listen.clone());
                }
                Some(place) => {
                    let &Listen { protocol, address, .. } = listen;
                    let why = match place.carrier == carrier {
                        true => "the same socket cannot have two realms of its own",
                        false => "the same socket cannot expect PROXY headers and expect none",
                    };
                    let cause = io::Error::new(io::ErrorKind::InvalidInput, why);
                    return Err(BindError { protocol, address, cause });
                }
            }
        }
        Ok(places)
    }

    fn realm(&self) -> Option<Arc<str>> {
        self.listen.first().and_then(|listen| listen.realm.clone())
    }

    /// Whether both are one socket. Port 0 is a port of its own each time.
    fn takes_in(&self, listen: &Listen, carrier: &Carrier) -> bool {
        let same = |own: &Listen| own.address == listen.address;
        listen.address.port() != 0
            && self.carrier.is_stream() == carrier.is_stream()
            && self.listen.iter().all(same)
            && self.listen.iter().all(|own| own.protocol != listen.protocol)
    }

    /// Binds a socket for each of `workers`.
    pub(crate) fn bind(self, workers: usize) -> Result<Bound, BindError> {
        let realm = self.realm();
        let Place { mut listen, carrier } = self;
        // Sockets that share a port also share it with another process of the same user, which
        // would take half of the clients: one that shares nothing tells whether the address is
        // free.
        let Some(first) = listen.first().cloned() else {
            return Ok(Bound { listen, carrier, realm, sockets: Vec::new() });
        };
        let alone = bind(&carrier, &first, first.address, ListenOptions { share_port: false })?;
        let local = alone.local_addr().ok().and_then(|local| local.as_socket());
        let address = local.unwrap_or(first.address);
        let sockets = if workers > 1 {
            drop(alone);
            let options = ListenOptions { share_port: true };
            let sockets = (0..workers).map(|_| bind(&carrier, &first, address, options));
            sockets.collect::<Result<_, BindError>>()?
        } else {
            vec![alone]
        };
        listen.iter_mut().for_each(|listen| listen.address = address);
        Ok(Bound { listen, carrier, realm, sockets })
    }
}

fn bind(
    carrier: &Carrier,
    listen: &Listen,
    address: SocketAddr,
    options: ListenOptions,
) -> Result<Socket, BindError> {
    match carrier {
        Carrier::Datagrams { .. } => UdpListenSocket::bind(address, options),
        Carrier::Streams { .. } => StreamListenSocket::bind(listen.protocol, address, options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(url: &str) -> Listen {
        let (protocol, address) = url.split_once("://").expect("an URL");
        let protocol = match protocol {
            "udp" => TransportProtocol::Udp,
            "dtls" => TransportProtocol::Dtls,
            "tcp" => TransportProtocol::Tcp,
            _ => TransportProtocol::Tls,
        };
        Listen::direct(protocol, address.parse().expect("an address"))
    }

    fn shown(urls: &[&str]) -> Vec<String> {
        let listen: Vec<Listen> = urls.iter().map(|url| listen(url)).collect();
        let places = Place::all(&listen).expect("they go together");
        let show = |place: &Place| {
            place.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        places.iter().map(show).collect()
    }

    #[test]
    fn protocols_that_the_first_bytes_tell_apart_share_a_socket() {
        let places = shown(&[
            "udp://192.0.2.1:3478",
            "tcp://192.0.2.1:3478",
            "tls://192.0.2.1:3478",
            "dtls://192.0.2.1:3478",
            "tls://192.0.2.1:5349",
        ]);
        let expected = [
            "udp://192.0.2.1:3478 dtls://192.0.2.1:3478",
            "tcp://192.0.2.1:3478 tls://192.0.2.1:3478",
            "tls://192.0.2.1:5349",
        ];
        assert_eq!(expected, *places);
    }

    #[test]
    fn any_port_is_another_each_time() {
        assert_eq!(2, shown(&["tcp://192.0.2.1:0", "tls://192.0.2.1:0"]).len());
    }

    #[test]
    fn one_socket_has_one_realm() {
        let of_realm = Listen { realm: Some("south.gov".into()), ..listen("tls://192.0.2.1:443") };
        let refused = Place::all(&[listen("tcp://192.0.2.1:443"), of_realm]);
        let fault = refused.err().expect("they do not go together").to_string();
        assert!(fault.contains("two realms"), "{fault}");
    }

    #[test]
    fn one_socket_expects_proxy_headers_or_none() {
        let proxied = Listen { proxy: Some(Vec::new()), ..listen("tls://192.0.2.1:443") };
        let refused = Place::all(&[listen("tcp://192.0.2.1:443"), proxied]);
        let fault = refused.err().expect("they do not go together").to_string();
        assert!(fault.contains("tls://192.0.2.1:443"), "{fault}");
    }
}
