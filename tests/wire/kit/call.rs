//! A client and a peer in the middle of a call, to be disturbed.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};

use sterna_proto::address::Family;
use sterna_proto::stun::RequestedAddressFamily;

use super::{Arrived, Carrier, Client, Heard, Peer, V4, V6};

/// A client with an allocation and a channel to a peer.
pub(crate) struct Call<C = UdpSocket> {
    pub(crate) client: Client<C>,
    pub(crate) relayed: SocketAddr,
    pub(crate) peer: Peer,
}

impl Call {
    /// A call through `server` with a peer on its own host.
    pub(crate) fn through(server: SocketAddr) -> Call {
        let mut client = Client::new(server);
        let relayed = client.allocate();
        Call::with(client, relayed)
    }
}

impl Call {
    /// A call with a peer of the family, both ends of which see headers.
    pub(crate) fn with_headers(server: SocketAddr, family: Family) -> Call {
        let mut client = Client::new(server);
        let relayed = client
            .allocate_with(|writer| _ = writer.attribute(&RequestedAddressFamily(family)))
            .relayed()[0];
        let call = Call::with(client, relayed);
        Arrived::watch(&call.client.socket);
        Arrived::watch(&call.peer.0);
        call
    }
}

impl Call {
    pub(crate) const CHANNEL: u16 = 0x4FFF;
}

impl<C: Carrier> Call<C> {
    /// A call over the allocation that the client has already.
    pub(crate) fn with(mut client: Client<C>, relayed: SocketAddr) -> Call<C> {
        let peer = Peer::new(if relayed.is_ipv4() { V4 } else { V6 });
        assert_eq!(0, client.bind(Call::CHANNEL, peer.address()));
        Call { client, relayed, peer }
    }

    /// Shows that data still flows both ways, and that nothing else did since the last time.
    pub(crate) fn goes_on(&self) {
        let word = WORDS.fetch_add(1, Ordering::Relaxed).to_string().into_bytes();
        self.client.say(Call::CHANNEL, &word);
        assert_eq!((word.clone(), self.relayed), self.peer.hear());
        self.peer.tell(self.relayed, &word);
        assert_eq!(Heard::Channel(Call::CHANNEL, word), self.client.hear());
    }

    /// Another peer, with a permission for its IP address.
    pub(crate) fn another_peer(&mut self, ip: IpAddr) -> Peer {
        let peer = Peer::new(ip);
        assert_eq!(0, self.client.permit(&[peer.address()]));
        peer
    }
}

static WORDS: AtomicU64 = AtomicU64::new(0);
