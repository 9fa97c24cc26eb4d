//! One client's way to the relay: what differs between datagrams and streams.

mod datagrams;
mod offers;
mod stream;

use std::net::SocketAddrV4;
use std::os::fd::BorrowedFd;

use sterna_client::{Client, ClientOptions, Credentials, Transport};
use sterna_proto::address::PeerAddr;
use sterna_proto::channel_data::ChannelNumber;

use crate::error::BenchError;
use crate::mmsg::{Receiver, Sender};
pub(crate) use datagrams::{FloorLink, UdpLink};
pub(crate) use offers::Datagrams;
pub(crate) use stream::{StreamLink, connect_tcp, connect_tls, tls_options};

/// A client's connection to the relay, with an allocation.
pub trait Link: Send {
    /// What becomes readable when a frame arrives.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Binds a channel, and with it permits the peer.
    fn bind_channel(&mut self, channel: u16, peer: SocketAddrV4) -> Result<(), BenchError>;

    /// From here on [`Link::send`] and [`Link::receive`] are called, which never block.
    fn start(&mut self) -> Result<(), BenchError>;

    /// Sends the frames that wait in `frames`, and returns how many left or will leave. The others
    /// are forgotten.
    fn send(&mut self, frames: &mut Sender) -> Result<usize, BenchError>;

    /// Sends what an earlier call had to leave behind.
    fn flush(&mut self) -> Result<(), BenchError>;

    /// Hands over each ChannelData message that has arrived, and when the kernel had it if the
    /// receiver asks for that.
    fn receive(
        &mut self,
        receiver: &mut Receiver,
        each: &mut dyn FnMut(&[u8], Option<u64>),
    ) -> Result<(), BenchError>;

    /// Gives the allocation back.
    fn close(self: Box<Self>) -> Result<(), BenchError>;
}

/// Who the client is and how long it waits.
pub(crate) fn client_options(user: &str, password: &str) -> ClientOptions {
    ClientOptions {
        credentials: Some(Credentials::new(user, password)),
        ..ClientOptions::loopback()
    }
}

fn bind_turn<T: Transport>(
    client: &mut Client<T>,
    channel: u16,
    peer: SocketAddrV4,
) -> Result<(), BenchError> {
    let Some(number) = ChannelNumber::new(channel) else {
        let problem = format!("{channel:#06x} is no channel number");
        return Err(BenchError::Argument(problem));
    };
    Ok(client.bind_channel(number, PeerAddr(peer.into()))?)
}
