//! The loop that sends and receives.
//!
//! One thread does both, on a core that the server does not use. It never sleeps: a generator that
//! has to be woken would measure its own wake-ups as the relay's latency.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{SockaddrIn, setsockopt, sockopt};

use super::flow::Flow;
use super::{CHANNEL, Direction, LoadPlan};
use crate::clock::Clock;
use crate::error::{BenchError, DuringExt};
use crate::flood::Flooder;
use crate::histogram::Histogram;
use crate::mmsg::{BATCH, Receiver, Sender};
use crate::payload::Mark;
use crate::target::Path;

/// What was counted since the measurement started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// Arrived while packets were being sent.
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    /// Datagrams that are none of ours, or not in the form expected.
    pub(super) unexpected: u64,
    pub(super) latency: Histogram,
    /// How much later than planned packets were sent, with a rate.
    pub(super) behind: Histogram,
    pub(super) flood_sent: u64,
    pub(super) flood_answers: u64,
}

/// Where a flow's packets go in.
#[derive(Clone, Copy)]
enum Entry {
    /// As ChannelData through the client's socket.
    Client(usize),
    /// From the peer's socket to a relayed transport address.
    Peer(SockaddrIn),
}

/// What is known of the packets.
struct Books {
    flows: Vec<(Entry, Flow)>,
    counts: Counts,
}

pub(super) struct Engine<'a> {
    plan: &'a LoadPlan,
    paths: &'a mut [Path],
    peer: &'a UdpSocket,
    clock: Clock,
    epoll: Epoll,
    books: Books,
    flood: Option<Flooder>,
    /// The flow whose turn it is.
    turn: usize,
    due_nanos: u64,
    to_peers: Sender,
    to_relay: Sender,
    receiver: Receiver,
    lost_before: u64,
    late_before: u64,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        plan: &'a LoadPlan,
        paths: &'a mut [Path],
        peer: &'a UdpSocket,
    ) -> Result<Engine<'a>, BenchError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).during("epoll")?;
        let flows = flows(plan.direction, paths);
        watch(&epoll, peer, PEER)?;
        stamp(plan, peer)?;
        for (index, path) in paths.iter_mut().enumerate() {
            path.link().start()?;
            watch(&epoll, path.link().descriptor(), index as u64)?;
            stamp(plan, path.link().descriptor())?;
        }
        let sender = if plan.gso { Sender::segmented } else { Sender::new };
        let receiver = match plan.kernel_time {
            true => Receiver::with_arrival_times(),
            false => Receiver::default(),
        };
        Ok(Engine {
            plan,
            paths,
            peer,
            clock: Clock::start(),
            epoll,
            books: Books { flows, counts: Counts::default() },
            flood: plan.flood.as_ref().map(Flooder::open).transpose()?,
            turn: 0,
            due_nanos: 0,
            to_peers: sender(plan.payload + CHANNEL_DATA_HEADER),
            to_relay: sender(plan.payload),
            receiver,
            lost_before: 0,
            late_before: 0,
        })
    }

    /// Sends and receives for a while.
    pub(super) fn run_for(&mut self, duration: Duration) -> Result<(), BenchError> {
        let start = self.clock.nanos();
        let length = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let end = start.saturating_add(length);
        self.due_nanos = start;
        if let Some(flood) = &mut self.flood {
            flood.restart();
        }
        loop {
            let now = self.clock.nanos();
            if now >= end {
                return Ok(());
            }
            match self.plan.rate {
                None => self.fill_windows(now)?,
                Some(rate) => self.send_what_is_due(rate, now)?,
            }
            self.receive()?;
            if let Some(flood) = &mut self.flood {
                flood.pump(now - start)?;
            }
        }
    }

    /// What came so far was warm-up.
    pub(super) fn start_measuring(&mut self) {
        let Books { flows, counts } = &mut self.books;
        self.lost_before = flows.iter().map(|(_, flow)| flow.lost()).sum();
        self.late_before = flows.iter().map(|(_, flow)| flow.late()).sum();
        counts.sent = 0;
        counts.delivered = 0;
        counts.unexpected = 0;
        counts.latency.clear();
        counts.behind.clear();
    }

    /// Waits for what is under way and closes the books.
    pub(super) fn finish(mut self) -> Result<Counts, BenchError> {
        let delivered = self.books.counts.delivered;
        let (flood_sent, flood_answers) = self.flood.as_ref().map_or((0, 0), Flooder::counts);
        let end = self.clock.nanos() + DRAIN_NANOS;
        while self.clock.nanos() < end && self.books.under_way() {
            self.receive()?;
        }
        let now = self.clock.nanos();
        let Books { mut flows, mut counts } = self.books;
        for (_, flow) in &mut flows {
            flow.give_up(now);
        }
        let lost: u64 = flows.iter().map(|(_, flow)| flow.lost()).sum();
        let late: u64 = flows.iter().map(|(_, flow)| flow.late()).sum();
        (counts.flood_sent, counts.flood_answers) = (flood_sent, flood_answers);
        counts.delivered = delivered;
        counts.lost = lost.saturating_sub(self.lost_before);
        counts.late = late - self.late_before;
        Ok(counts)
    }

    /// One round over the flows, cut short after a batch so that what arrives is looked at.
    fn fill_windows(&mut self, now: u64) -> Result<(), BenchError> {
        let mut sent = 0;
        for _ in 0..self.books.flows.len() {
            if sent >= BATCH {
                break;
            }
            let (entry, flow) = &mut self.books.flows[self.turn];
            if flow.under_way() + self.plan.burst as u32 <= self.plan.window {
                self.send_burst(now)?;
                sent += self.plan.burst;
            } else {
                flow.give_up_when_stalled(now);
                if let Entry::Client(index) = *entry {
                    self.paths[index].link().flush()?;
                }
            }
            self.turn = (self.turn + 1) % self.books.flows.len();
        }
        self.flush_to_relay()
    }

    /// Each burst leaves at once and is stamped right before: what the generator is behind its plan
    /// is no latency of the relay.
    fn send_what_is_due(&mut self, rate: u32, now: u64) -> Result<(), BenchError> {
        let gap = self.plan.burst as u64 * 1_000_000_000 / u64::from(rate);
        let mut sent = 0;
        while self.due_nanos <= now && sent < BATCH {
            let at = self.clock.nanos();
            self.books.counts.behind.record(at.saturating_sub(self.due_nanos));
            self.send_burst(at)?;
            self.flush_to_relay()?;
            sent += self.plan.burst;
            self.turn = (self.turn + 1) % self.books.flows.len();
            self.due_nanos += gap;
        }
        Ok(())
    }

    /// The flow whose turn it is sends its burst. Bursts of the peer are gathered, as one socket
    /// sends to all relayed addresses; bursts of a client leave at once, and so do those that are
    /// one piece for the kernel to cut up.
    fn send_burst(&mut self, now: u64) -> Result<(), BenchError> {
        let (entry, flow) = &mut self.books.flows[self.turn];
        let entry = *entry;
        if matches!(entry, Entry::Peer(_)) && self.to_relay.len() + self.plan.burst > BATCH {
            self.flush_to_relay()?;
            return self.send_burst(now);
        }
        for packet in 0..self.plan.burst as u32 {
            let mark =
                Mark { flow: self.turn as u32, sequence: flow.next() + packet, sent_nanos: now };
            match entry {
                Entry::Client(_) => {
                    let frame = self.to_peers.push(None);
                    write_channel_data(frame, &mark);
                }
                Entry::Peer(relayed) => mark.write(self.to_relay.push(Some(relayed))),
            }
        }
        let taken = match entry {
            Entry::Client(index) => self.paths[index].link().send(&mut self.to_peers)?,
            Entry::Peer(_) => self.plan.burst,
        };
        if self.plan.gso {
            self.flush_to_relay()?;
        }
        let (_, flow) = &mut self.books.flows[self.turn];
        flow.sent(taken as u32, now);
        self.books.counts.sent += taken as u64;
        Ok(())
    }

    /// What the kernel does not take of the peer's batch stays in the books and counts as lost.
    fn flush_to_relay(&mut self) -> Result<(), BenchError> {
        self.to_relay.flush(self.peer).during("sending as the peer")?;
        Ok(())
    }

    fn receive(&mut self) -> Result<(), BenchError> {
        let mut events = [EpollEvent::empty(); BATCH];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO);
        let ready = ready.during("waiting for packets")?;
        for event in &events[..ready] {
            match event.data() {
                PEER => self.receive_at_peer(),
                client => self.receive_at_client(client as usize)?,
            }
        }
        Ok(())
    }

    fn receive_at_peer(&mut self) {
        // An error is the ICMP answer to an earlier packet; the loss shows in the sequence numbers.
        let count = self.receiver.receive(self.peer, BATCH).unwrap_or(0);
        let now = self.clock.nanos();
        for index in 0..count {
            let (_, payload) = self.receiver.datagram(index);
            let right = payload.len() == self.plan.payload;
            let mark = Mark::read(payload).filter(|_| right);
            let at = self.receiver.arrival_time(index);
            self.books.arrived(mark, at.map_or(now, |at| self.clock.at_time_of_day(at)));
        }
    }

    fn receive_at_client(&mut self, client: usize) -> Result<(), BenchError> {
        let Engine { paths, receiver, books, clock, plan, .. } = self;
        paths[client].link().receive(receiver, &mut |frame, at| {
            let at = at.map_or_else(|| clock.nanos(), |at| clock.at_time_of_day(at));
            books.arrived(read_channel_data(frame, plan.payload), at);
        })
    }
}

impl Books {
    fn under_way(&self) -> bool {
        self.flows.iter().any(|(_, flow)| flow.under_way() > 0)
    }

    fn arrived(&mut self, mark: Option<Mark>, now: u64) {
        let counted = mark.is_some_and(|mark| {
            let flow = self.flows.get_mut(mark.flow as usize);
            flow.is_some_and(|(_, flow)| flow.arrived(mark.sequence, now))
        });
        let Some(mark) = mark.filter(|_| counted) else {
            self.counts.unexpected += 1;
            return;
        };
        self.counts.delivered += 1;
        self.counts.latency.record(now.saturating_sub(mark.sent_nanos));
    }
}

fn flows(direction: Direction, paths: &[Path]) -> Vec<(Entry, Flow)> {
    let mut flows = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let client = Entry::Client(index);
        let peer = Entry::Peer(path.relayed().into());
        let entries: &[Entry] = match direction {
            Direction::ClientToPeer | Direction::ClientToClient => &[client],
            Direction::PeerToClient => &[peer],
            Direction::Both => &[client, peer],
        };
        flows.extend(entries.iter().map(|entry| (*entry, Flow::default())));
    }
    flows
}

/// Where latency is what is asked for, the kernel says when a packet arrived: the generator's own
/// delay in reading it is not counted. The stamp costs the sender some 50 ns, the relay, too.
fn stamp(plan: &LoadPlan, socket: impl AsFd) -> Result<(), BenchError> {
    if !plan.kernel_time {
        return Ok(());
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).during("asking for arrival times")
}

fn watch(epoll: &Epoll, socket: impl AsFd, token: u64) -> Result<(), BenchError> {
    let readable = EpollEvent::new(EpollFlags::EPOLLIN, token);
    epoll.add(socket, readable).during("epoll")
}

fn write_channel_data(frame: &mut [u8], mark: &Mark) {
    let (header, payload) = frame.split_at_mut(CHANNEL_DATA_HEADER);
    let [channel_high, channel_low] = CHANNEL.to_be_bytes();
    // The plan's payload is shorter than a datagram.
    let [len_high, len_low] = (payload.len() as u16).to_be_bytes();
    header.copy_from_slice(&[channel_high, channel_low, len_high, len_low]);
    mark.write(payload);
}

fn read_channel_data(frame: &[u8], payload_len: usize) -> Option<Mark> {
    let (header, payload) = frame.split_first_chunk::<CHANNEL_DATA_HEADER>()?;
    let [channel_high, channel_low, len_high, len_low] = *header;
    let channel = u16::from_be_bytes([channel_high, channel_low]);
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    if channel != CHANNEL || len != payload_len {
        return None;
    }
    Mark::read(payload.get(..len)?)
}

const CHANNEL_DATA_HEADER: usize = 4;

/// The token of the peer's socket; every other token is the index of a client.
const PEER: u64 = u64::MAX;

/// How long packets under way may still arrive after the last was sent.
const DRAIN_NANOS: u64 = 200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_data_is_read_as_it_was_written() {
        let mark = Mark { flow: 1, sequence: 2, sent_nanos: 3 };
        let mut frame = [0; CHANNEL_DATA_HEADER + 20];
        write_channel_data(&mut frame, &mark);
        assert_eq!(Some(mark), read_channel_data(&frame, 20));
        assert_eq!(None, read_channel_data(&frame, 19));
        assert_eq!(None, read_channel_data(&frame[..23], 20));
        frame[1] = 9;
        assert_eq!(None, read_channel_data(&frame, 20));
    }
}
