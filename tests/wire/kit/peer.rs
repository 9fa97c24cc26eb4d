//! A peer: a plain UDP socket that sees the IP headers of what it gets.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use super::{PATIENCE, at};

/// One datagram and what its IP header said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) data: Vec<u8>,
    /// TTL or hop limit.
    pub(crate) hop_limit: i32,
    /// DSCP and ECN.
    pub(crate) traffic_class: i32,
}

/// See the head of this file.
pub(crate) struct Peer(pub(crate) UdpSocket);

impl Peer {
    pub(crate) fn new(ip: IpAddr) -> Peer {
        let socket = UdpSocket::bind(at(ip, 0)).expect("a port is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Peer(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("the socket is bound")
    }

    pub(crate) fn tell(&self, relayed: SocketAddr, data: &[u8]) {
        self.0.send_to(data, relayed).expect("loopback takes it");
    }

    /// The next datagram and where it comes from.
    pub(crate) fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut room = vec![0; 65_536];
        let (length, from) = self.0.recv_from(&mut room).expect("something arrives");
        room.truncate(length);
        (room, from)
    }
}

/// Sends datagrams, of which all but the last have one length, as one send.
pub(crate) fn burst(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
    let all = datagrams.concat();
    let length = u16::try_from(datagrams[0].len()).expect("the datagrams are short");
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(&all)],
        &[ControlMessage::UdpGsoSegments(&length)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(to)),
    );
    assert_eq!(Ok(all.len()), sent);
}

/// Sets TTL or hop limit, DSCP and ECN of what a socket sends.
pub(crate) fn set_headers(socket: &UdpSocket, hop_limit: u8, traffic_class: u8) {
    let (hops, class) = (i32::from(hop_limit), i32::from(traffic_class));
    let is_v4 = socket.local_addr().expect("the socket is bound").is_ipv4();
    if is_v4 {
        setsockopt(socket, sockopt::Ipv4Ttl, &hops).expect("TTL can be set");
        setsockopt(socket, sockopt::Ipv4Tos, &class).expect("TOS can be set");
    } else {
        setsockopt(socket, sockopt::Ipv6Ttl, &hops).expect("the hop limit can be set");
        setsockopt(socket, sockopt::Ipv6TClass, &class).expect("the class can be set");
    }
}

impl Arrived {
    /// Asks for the headers of what arrives at `socket` from here on.
    pub(crate) fn watch(socket: &UdpSocket) {
        if socket.local_addr().expect("the socket is bound").is_ipv4() {
            setsockopt(socket, sockopt::Ipv4RecvTtl, &true).expect("TTL can be asked for");
            setsockopt(socket, sockopt::IpRecvTos, &true).expect("TOS can be asked for");
        } else {
            setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true).expect("it can be asked for");
            setsockopt(socket, sockopt::Ipv6RecvTClass, &true).expect("it can be asked for");
        }
    }

    /// The next datagram at `socket`.
    pub(crate) fn at(socket: &UdpSocket) -> Arrived {
        let mut room = vec![0; 65_536];
        let mut control = nix::cmsg_space!(i32, i32);
        let mut slices = [IoSliceMut::new(&mut room)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let message = message.expect("something arrives");
        let (mut hop_limit, mut traffic_class) = (-1, -1);
        for field in message.cmsgs().expect("the control messages are whole") {
            match field {
                ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                    hop_limit = value;
                }
                ControlMessageOwned::Ipv4Tos(value) => traffic_class = i32::from(value),
                ControlMessageOwned::Ipv6TClass(value) => traffic_class = value,
                _ => {}
            }
        }
        let length = message.bytes;
        room.truncate(length);
        Arrived { data: room, hop_limit, traffic_class }
    }
}
