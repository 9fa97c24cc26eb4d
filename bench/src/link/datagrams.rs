//! Links over UDP: to a TURN server, and to the floor.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use sterna_client::Client;

use super::{Datagrams, Link, bind_turn};
use crate::error::BenchError;
use crate::floor;
use crate::floor_setup::Setup;
use crate::mmsg::{BATCH, Receiver, Sender};

/// A TURN client over UDP.
pub(crate) struct UdpLink(pub(crate) Client<Datagrams>);

/// A client of the floor.
pub(crate) struct FloorLink(pub(crate) UdpSocket);

impl UdpLink {
    fn socket(&self) -> &UdpSocket {
        &self.0.transport().0
    }
}

impl Link for UdpLink {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }

    fn bind_channel(&mut self, channel: u16, peer: SocketAddrV4) -> Result<(), BenchError> {
        bind_turn(&mut self.0, channel, peer)
    }

    fn start(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn send(&mut self, frames: &mut Sender) -> Result<usize, BenchError> {
        Ok(send(self.socket(), frames))
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn receive(
        &mut self,
        receiver: &mut Receiver,
        each: &mut dyn FnMut(&[u8], Option<u64>),
    ) -> Result<(), BenchError> {
        receive(self.socket(), receiver, each);
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<(), BenchError> {
        Ok(self.0.release()?)
    }
}

impl Link for FloorLink {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn bind_channel(&mut self, channel: u16, peer: SocketAddrV4) -> Result<(), BenchError> {
        floor::ask(&self.0, Setup::Bind { channel, peer })?;
        Ok(())
    }

    fn start(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn send(&mut self, frames: &mut Sender) -> Result<usize, BenchError> {
        Ok(send(&self.0, frames))
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn receive(
        &mut self,
        receiver: &mut Receiver,
        each: &mut dyn FnMut(&[u8], Option<u64>),
    ) -> Result<(), BenchError> {
        receive(&self.0, receiver, each);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), BenchError> {
        floor::ask(&self.0, Setup::Close)?;
        Ok(())
    }
}

/// A refused port is the relay gone or restarting: it shows as a stalled flow.
fn send(socket: &UdpSocket, frames: &mut Sender) -> usize {
    frames.flush(socket).unwrap_or(0)
}

fn receive(socket: &UdpSocket, receiver: &mut Receiver, each: &mut dyn FnMut(&[u8], Option<u64>)) {
    // An error is the ICMP answer to an earlier packet; the loss shows in the sequence numbers.
    let count = receiver.receive(socket, BATCH).unwrap_or(0);
    for index in 0..count {
        each(receiver.datagram(index).1, receiver.arrival_time(index));
    }
}
