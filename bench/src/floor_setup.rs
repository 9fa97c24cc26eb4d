//! The few datagrams that set up the floor.
//!
//! A setup datagram has ten bytes: `0xF1`, the operation, a channel number, an IPv4 address and a
//! port, all big-endian. The first byte is neither STUN's (0 to 3) nor ChannelData's (64 to 79), so
//! it cannot be mistaken for either. The answer has the same form and the operation's top bit set.
//!
//! | operation | asks for | answer carries |
//! |---|---|---|
//! | 1 open | a relay socket for the sender's address | the relayed transport address |
//! | 2 bind | channel and peer of the sender's relay | the same |
//! | 3 close | the sender's relay to be given back | nothing |
//! | 4 stop | the floor to end | nothing |
//! | `0xFF` (answers only) | – | the floor refused |
//!
//! This is no protocol for a network: anybody who can send to the floor can stop it. The floor
//! therefore listens on loopback addresses only.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Length of every setup datagram.
pub const SETUP_LEN: usize = 10;

/// The first byte of every setup datagram.
pub const SETUP_BYTE: u8 = 0xF1;

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// What the load generator asks of the floor, and the floor's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setup {
    /// A relay socket is wanted.
    Open,
    /// The relay's one channel and its one peer.
    Bind {
        /// The channel that stands for the peer.
        channel: u16,
        /// Whom to forward to and whom to listen to.
        peer: SocketAddrV4,
    },
    /// The relay is given back.
    Close,
    /// The floor ends.
    Stop,
    /// Answer to [`Setup::Open`].
    Opened {
        /// Where peers send to.
        relayed: SocketAddrV4,
    },
    /// Answer to [`Setup::Bind`].
    Bound,
    /// Answer to [`Setup::Close`].
    Closed,
    /// Answer to [`Setup::Stop`].
    Stopping,
    /// Answer to anything that the floor will not do.
    Refused,
}

impl Setup {
    /// The datagram that says this.
    pub fn encode(&self) -> [u8; SETUP_LEN] {
        let (operation, channel, address) = match *self {
            Setup::Open => (1, 0, NOWHERE),
            Setup::Bind { channel, peer } => (2, channel, peer),
            Setup::Close => (3, 0, NOWHERE),
            Setup::Stop => (4, 0, NOWHERE),
            Setup::Opened { relayed } => (0x81, 0, relayed),
            Setup::Bound => (0x82, 0, NOWHERE),
            Setup::Closed => (0x83, 0, NOWHERE),
            Setup::Stopping => (0x84, 0, NOWHERE),
            Setup::Refused => (0xFF, 0, NOWHERE),
        };
        let [high, low] = channel.to_be_bytes();
        let [a, b, c, d] = address.ip().octets();
        let [port_high, port_low] = address.port().to_be_bytes();
        [SETUP_BYTE, operation, high, low, a, b, c, d, port_high, port_low]
    }

    /// What a datagram says; `None` when it is no setup datagram.
    pub fn decode(datagram: &[u8]) -> Option<Setup> {
        let bytes: &[u8; SETUP_LEN] = datagram.try_into().ok()?;
        let [first, operation, high, low, a, b, c, d, port_high, port_low] = *bytes;
        if first != SETUP_BYTE {
            return None;
        }
        let port = u16::from_be_bytes([port_high, port_low]);
        let address = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port);
        match operation {
            1 => Some(Setup::Open),
            2 => Some(Setup::Bind { channel: u16::from_be_bytes([high, low]), peer: address }),
            3 => Some(Setup::Close),
            4 => Some(Setup::Stop),
            0x81 => Some(Setup::Opened { relayed: address }),
            0x82 => Some(Setup::Bound),
            0x83 => Some(Setup::Closed),
            0x84 => Some(Setup::Stopping),
            0xFF => Some(Setup::Refused),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setup_datagram_is_read_as_it_was_written() {
        let address = SocketAddrV4::new(Ipv4Addr::new(127, 1, 2, 3), 0x1234);
        let all = [
            Setup::Open,
            Setup::Bind { channel: 0x4001, peer: address },
            Setup::Close,
            Setup::Stop,
            Setup::Opened { relayed: address },
            Setup::Bound,
            Setup::Closed,
            Setup::Stopping,
            Setup::Refused,
        ];
        for setup in all {
            assert_eq!(Some(setup), Setup::decode(&setup.encode()));
        }
    }

    #[test]
    fn other_datagrams_set_up_nothing() {
        let mut datagram = Setup::Stop.encode();
        assert_eq!(None, Setup::decode(&datagram[..9]));
        datagram[1] = 5;
        assert_eq!(None, Setup::decode(&datagram));
        datagram[..2].copy_from_slice(&[0x40, 4]);
        assert_eq!(None, Setup::decode(&datagram));
    }
}
