//! The straight-line forwarder: the floor under every relay.
//!
//! One thread, recvmmsg, one lookup, one send per packet. It checks what no relay may leave out:
//! the ChannelData length, the channel, and that a packet at a relay socket comes from the
//! permitted peer. There is no authentication, no lifetime, no header field copied, one channel per
//! client: what a relay costs beyond the floor is what these and its structure cost.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use hashbrown::HashMap;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, SockaddrIn, sendto, setsockopt, sockopt};

use crate::error::{BenchError, DuringExt};
use crate::floor_setup::{SETUP_BYTE, Setup};
use crate::mmsg::{BATCH, HEADROOM, Receiver};

/// Clients served at most; opening one more is refused.
pub const ROUTES_MAX: usize = 65_536;

/// Bytes asked for as receive buffer of the socket that all clients send to.
const CLIENTS_BUFFER: usize = 4 << 20;

/// The token of the clients' socket; every other token is an index into the routes.
const CLIENTS: u64 = u64::MAX;

/// What is kept for one client.
struct Route {
    client: SockaddrIn,
    relay: UdpSocket,
    channel: u16,
    /// `None` until bound: no peer is permitted then.
    peer: Option<SockaddrIn>,
}

/// The forwarder, ready to run.
pub struct Floor {
    clients: UdpSocket,
    epoll: Epoll,
    by_client: HashMap<u64, usize>,
    routes: Vec<Option<Route>>,
    free: Vec<usize>,
    receiver: Receiver,
    stopping: bool,
    dropped: u64,
}

impl Floor {
    /// Binds the socket that clients send to. Only loopback addresses are accepted, because setup
    /// is open to whoever reaches it.
    pub fn bind(listen: SocketAddrV4) -> Result<Floor, BenchError> {
        if !listen.ip().is_loopback() {
            let problem = format!("the floor listens on loopback only, not on {listen}");
            return Err(BenchError::Argument(problem));
        }
        let clients = UdpSocket::bind(listen).during(&format!("binding {listen}"))?;
        clients.set_nonblocking(true).during("non-blocking")?;
        // The system may cap or refuse this: a shorter buffer loses packets sooner, no more.
        let _ = setsockopt(&clients, sockopt::RcvBuf, &CLIENTS_BUFFER);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).during("epoll")?;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, CLIENTS);
        epoll.add(&clients, readable).during("epoll")?;
        Ok(Floor {
            clients,
            epoll,
            by_client: HashMap::new(),
            routes: Vec::new(),
            free: Vec::new(),
            receiver: Receiver::default(),
            stopping: false,
            dropped: 0,
        })
    }

    /// Where clients send to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.clients.local_addr()
    }

    /// Forwards until told to stop, or until nothing came for `idle`, so that a forgotten floor
    /// ends by itself. Returns how many packets were dropped.
    pub fn run(&mut self, idle: Duration) -> Result<u64, BenchError> {
        let timeout = EpollTimeout::try_from(idle)
            .map_err(|_| BenchError::Argument("the idle time is too long".to_owned()))?;
        let mut events = [EpollEvent::empty(); 256];
        while !self.stopping {
            let ready = match self.epoll.wait(&mut events, timeout) {
                Ok(0) => break,
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).during("epoll"),
            };
            for event in &events[..ready] {
                match event.data() {
                    CLIENTS => self.relay_from_clients(),
                    route => self.relay_from_peer(route as usize),
                }
            }
        }
        Ok(self.dropped)
    }

    fn relay_from_clients(&mut self) {
        let Ok(count) = self.receiver.receive(&self.clients, BATCH) else {
            return;
        };
        for index in 0..count {
            let (source, datagram) = self.receiver.datagram(index);
            if datagram.first() == Some(&SETUP_BYTE) {
                let setup = Setup::decode(datagram);
                self.set_up(source, setup);
            } else if !self.to_peer(source, datagram) {
                self.dropped += 1;
            }
        }
    }

    /// One packet from a client: ChannelData of its channel goes to its peer.
    fn to_peer(&self, source: SockaddrIn, datagram: &[u8]) -> bool {
        let Some((header, rest)) = datagram.split_first_chunk::<4>() else {
            return false;
        };
        let [channel_high, channel_low, len_high, len_low] = *header;
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let Some(data) = rest.get(..len) else {
            return false;
        };
        let Some(&route) = self.by_client.get(&key(source)) else {
            return false;
        };
        let Some(Some(route)) = self.routes.get(route) else {
            return false;
        };
        let Some(peer) = route.peer else {
            return false;
        };
        if route.channel != u16::from_be_bytes([channel_high, channel_low]) {
            return false;
        }
        send(&route.relay, data, &peer)
    }

    /// What waits at one relay socket: packets of its peer go to its client as ChannelData.
    fn relay_from_peer(&mut self, index: usize) {
        let Some(Some(route)) = self.routes.get(index) else {
            return;
        };
        let Ok(count) = self.receiver.receive(&route.relay, BATCH) else {
            return;
        };
        let [channel_high, channel_low] = route.channel.to_be_bytes();
        for index in 0..count {
            let (source, framed) = self.receiver.datagram_with_headroom(index);
            if route.peer.map(key) != Some(key(source)) {
                self.dropped += 1;
                continue;
            }
            // The receive buffer is shorter than 65,536 bytes.
            let [len_high, len_low] = ((framed.len() - HEADROOM) as u16).to_be_bytes();
            framed[..HEADROOM].copy_from_slice(&[channel_high, channel_low, len_high, len_low]);
            if !send(&self.clients, framed, &route.client) {
                self.dropped += 1;
            }
        }
    }

    fn set_up(&mut self, source: SockaddrIn, setup: Option<Setup>) {
        let answer = match setup {
            Some(Setup::Open) => self.open(source).ok(),
            Some(Setup::Bind { channel, peer }) => self.bind_channel(source, channel, peer),
            Some(Setup::Close) => self.close(source),
            Some(Setup::Stop) => {
                self.stopping = true;
                Some(Setup::Stopping)
            }
            // Answers are no questions, and neither is what is no setup datagram.
            Some(
                Setup::Opened { .. }
                | Setup::Bound
                | Setup::Closed
                | Setup::Stopping
                | Setup::Refused,
            )
            | None => return,
        };
        let answer = answer.unwrap_or(Setup::Refused).encode();
        send(&self.clients, &answer, &source);
    }

    /// A second Open of the same client gets the same relay: the first answer may have been lost.
    fn open(&mut self, source: SockaddrIn) -> Result<Setup, BenchError> {
        if let Some(&index) = self.by_client.get(&key(source))
            && let Some(Some(route)) = self.routes.get(index)
        {
            return opened(&route.relay);
        }
        if self.by_client.len() >= ROUTES_MAX {
            return Err(BenchError::Floor("has no room for another client"));
        }
        let SocketAddr::V4(listen) = self.address().during("own address")? else {
            return Err(BenchError::Floor("listens on IPv4"));
        };
        let relay = UdpSocket::bind((*listen.ip(), 0)).during("binding a relay socket")?;
        relay.set_nonblocking(true).during("non-blocking")?;
        let answer = opened(&relay)?;
        let index = self.free.pop().unwrap_or(self.routes.len());
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        self.epoll.add(&relay, readable).during("epoll")?;
        let route = Route { client: source, relay, channel: 0, peer: None };
        match self.routes.get_mut(index) {
            Some(slot) => *slot = Some(route),
            None => self.routes.push(Some(route)),
        }
        self.by_client.insert(key(source), index);
        Ok(answer)
    }

    fn bind_channel(
        &mut self,
        source: SockaddrIn,
        channel: u16,
        peer: SocketAddrV4,
    ) -> Option<Setup> {
        let index = *self.by_client.get(&key(source))?;
        let route = self.routes.get_mut(index)?.as_mut()?;
        route.channel = channel;
        route.peer = Some(peer.into());
        Some(Setup::Bound)
    }

    fn close(&mut self, source: SockaddrIn) -> Option<Setup> {
        let index = self.by_client.remove(&key(source))?;
        let route = self.routes.get_mut(index)?.take()?;
        // Closing the descriptor takes it out of the epoll set.
        drop(route);
        self.free.push(index);
        Some(Setup::Closed)
    }
}

/// An address as one number: cheaper to hash and to compare than its parts.
fn key(address: SockaddrIn) -> u64 {
    u64::from(u32::from(address.ip())) << 16 | u64::from(address.port())
}

/// A full send buffer or a refusing peer costs this packet and nothing else.
fn send(socket: &UdpSocket, datagram: &[u8], to: &SockaddrIn) -> bool {
    sendto(socket.as_raw_fd(), datagram, to, MsgFlags::MSG_DONTWAIT).is_ok()
}

fn opened(relay: &UdpSocket) -> Result<Setup, BenchError> {
    match relay.local_addr().during("the relayed address")? {
        SocketAddr::V4(relayed) => Ok(Setup::Opened { relayed }),
        SocketAddr::V6(_) => Err(BenchError::Floor("relays IPv4")),
    }
}

/// Asks a floor one thing and waits for its answer; tries again when nothing comes.
pub fn ask(socket: &UdpSocket, question: Setup) -> Result<Setup, BenchError> {
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(ANSWER_WAIT)).during("read time-out")?;
    for _ in 0..ASK_TRIES {
        // An error here is the ICMP answer to an earlier try: the floor is not up yet.
        if socket.send(&question.encode()).is_err() {
            crate::clock::sleep(ANSWER_WAIT);
            continue;
        }
        // Relayed packets still under way may come first; their number is bounded by a buffer.
        for _ in 0..STRAYS_MAX {
            let Ok(len) = socket.recv(&mut buffer) else {
                break;
            };
            match Setup::decode(&buffer[..len]) {
                Some(Setup::Refused) => return Err(BenchError::Floor("refused")),
                Some(answer) => return Ok(answer),
                None => {}
            }
        }
    }
    Err(BenchError::Floor("does not answer"))
}

const ANSWER_WAIT: Duration = Duration::from_millis(100);
const ASK_TRIES: usize = 10;
const STRAYS_MAX: usize = 10_000;

/// Where a floor listens unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3479);
