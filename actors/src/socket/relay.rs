//! The kernel's sockets at relayed transport addresses.

use std::io;

use sterna_proto::address::RelayedAddr;

use super::options::RelayOptions;
use super::tcp_relay::TcpRelayListener;
use super::udp::UdpRelaySocket;
use crate::transport::{RelayListener, RelaySocket, RelaySockets};

/// Binds UDP sockets and listens for TCP peers.
#[derive(Debug)]
pub struct KernelRelaySockets {
    options: RelayOptions,
}

impl KernelRelaySockets {
    /// Relay sockets that all have these options.
    pub fn new(options: RelayOptions) -> KernelRelaySockets {
        KernelRelaySockets { options }
    }
}

impl RelaySockets for KernelRelaySockets {
    fn bind(&self, address: RelayedAddr) -> io::Result<Box<dyn RelaySocket>> {
        Ok(Box::new(UdpRelaySocket::bind(address, &self.options)?))
    }

    fn listen(&self, address: RelayedAddr) -> io::Result<Box<dyn RelayListener>> {
        Ok(Box::new(TcpRelayListener::listen(address, &self.options)?))
    }
}
