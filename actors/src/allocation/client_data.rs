//! What a client has sent, on its way from the listener to the allocation.

use actix::prelude::*;
use smallvec::SmallVec;

use crate::transport::HeaderFields;

/// Relay what the client sent: ChannelData and Send indications, in order of arrival.
#[derive(Debug, Default, Message)]
#[rtype(result = "()")]
pub struct ClientData {
    pub(super) bytes: Vec<u8>,
    datagrams: SmallVec<[ClientDatagram; 8]>,
}

#[derive(Clone, Copy, Debug)]
struct ClientDatagram {
    end: usize,
    fields: HeaderFields,
}

impl ClientData {
    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Appends one datagram of the client.
    pub fn push(&mut self, bytes: &[u8], fields: HeaderFields) {
        self.bytes.extend_from_slice(bytes);
        self.datagrams.push(ClientDatagram { end: self.bytes.len(), fields });
    }

    /// How many datagrams it carries.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether it carries none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The datagrams in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], HeaderFields)> {
        let mut start = 0;
        self.datagrams.iter().filter_map(move |datagram| {
            let bytes = self.bytes.get(start..datagram.end)?;
            start = datagram.end;
            Some((bytes, datagram.fields))
        })
    }
}
