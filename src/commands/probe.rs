//! `sterna probe`: relays packets through a server to itself.
//!
//! Two allocations on the server, each the other's peer: a packet leaves by the first, crosses both
//! relayed transport addresses, and comes back by the second. What is measured is what two clients
//! behind this relay would see, less their own way to it.

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sterna_actors::clock;
use sterna_client::{
    AllocateOptions, Client, ClientError, ClientOptions, Credentials, Incoming, Protocol,
    Retransmission, TlsOptions, Transport, Trust,
};
use sterna_proto::address::{PeerAddr, RelayedAddr};
use sterna_proto::channel_data::ChannelNumber;

use super::{load, minting_secret, print};
use crate::cli::{FAILED, ProbeArgs};
use crate::config::UserSecret;
use crate::credential::{Algorithm, mint};
use crate::secret::Secret;
use crate::state;

mod report;
mod target;

use report::{Measured, Report};
use target::{Scheme, Target};

/// A client over whichever transport the URL asks for.
type AnyClient = Client<Box<dyn Transport>>;

pub(crate) fn run(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let target: Target = args.url.parse().map_err(anyhow::Error::msg)?;
    if args.interval * args.count > LONGEST {
        bail!("--count times --interval is more than {}", humantime::format_duration(LONGEST));
    }
    let protocol = protocol(&target, args)?;
    let credentials = credentials(args)?;
    let server = match resolve(&target) {
        Ok(server) => server,
        Err(error) => return failed(&args.url, &format!("{error:#}")),
    };
    match probe(server, &protocol, credentials, args) {
        Ok(report) => {
            print(&if args.json { report.to_json() } else { report.to_string() })
                .context("standard output")?;
            let is_good = report.loss_percent() <= f64::from(args.loss);
            Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
        }
        Err(error) => failed(&args.url, &error.to_string()),
    }
}

fn failed(url: &str, why: &str) -> anyhow::Result<ExitCode> {
    eprintln!("sterna: probe: {url}: {why}");
    Ok(ExitCode::from(FAILED))
}

fn resolve(target: &Target) -> anyhow::Result<SocketAddr> {
    let mut addresses = (target.host.as_str(), target.port).to_socket_addrs()?;
    addresses.next().context("the host has no address")
}

fn protocol(target: &Target, args: &ProbeArgs) -> anyhow::Result<Protocol> {
    let trust = match (&args.ca, args.insecure) {
        (Some(path), _) => Trust::File(path.clone()),
        (None, true) => Trust::Anyone,
        (None, false) => Trust::System,
    };
    match target.scheme {
        Scheme::Udp | Scheme::Tcp if trust != Trust::System => {
            bail!("--ca and --insecure are about the certificate of a turns: server")
        }
        Scheme::Udp => Ok(Protocol::Udp),
        Scheme::Tcp => Ok(Protocol::Tcp),
        Scheme::Tls => Ok(Protocol::Tls(TlsOptions::new(&target.host, &trust)?)),
    }
}

fn credentials(args: &ProbeArgs) -> anyhow::Result<Credentials> {
    if let Some(path) = &args.path {
        return configured_credentials(args, path);
    }
    let password = match (&args.password_file, std::env::var(PASSWORD_VARIABLE)) {
        (Some(path), _) => state::secret_file(path).context("--password-file")?.0,
        (None, Ok(password)) => Secret::new(password),
        (None, Err(_)) => ask_password()?,
    };
    Ok(Credentials::new(&args.user, password.expose()))
}

/// The static user's password, or a time-limited credential for any other name.
fn configured_credentials(args: &ProbeArgs, path: &std::path::Path) -> anyhow::Result<Credentials> {
    let loaded = load(Some(path))?;
    match loaded.config.auth.users.get(&args.user).map(|user| &user.secret) {
        Some(UserSecret::Password(password)) => Ok(Credentials::new(&args.user, password.expose())),
        Some(UserSecret::Keys { .. }) => {
            bail!(
                "{}: auth.users.{}: keeps keys only; give the password",
                path.display(),
                args.user
            )
        }
        None => {
            let secret = minting_secret(&loaded, &loaded.config.realm)?;
            let (now, ttl) = (clock::unix_now(), longest(args));
            let credential = mint(&secret, Algorithm::Sha1, &args.user, now, ttl);
            Ok(Credentials::new(&credential.username, credential.password.expose()))
        }
    }
}

/// More than the probe can take, so that its credential does not end before it.
fn longest(args: &ProbeArgs) -> Duration {
    args.interval * args.count + args.timeout * EXCHANGES_MAX + Duration::from_secs(60)
}

fn ask_password() -> anyhow::Result<Secret> {
    if io::stdin().is_terminal() {
        return Ok(Secret::new(rpassword::prompt_password("Password: ").context("password")?));
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("password from standard input")?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => bail!(
            "no password: not in {PASSWORD_VARIABLE}, --password-file, -c or on standard input"
        ),
        password => Ok(Secret::new(password.to_owned())),
    }
}

fn probe(
    server: SocketAddr,
    protocol: &Protocol,
    credentials: Credentials,
    args: &ProbeArgs,
) -> Result<Report, ClientError> {
    let options = ClientOptions {
        credentials: Some(credentials),
        retransmission: retransmission(args.timeout),
        ..ClientOptions::default()
    };
    let started = clock::now();
    let mut here = Client::dial(server, protocol, options.clone())?;
    let from = here.allocate(&AllocateOptions::default())?.relayed;
    let allocate = clock::now() - started;
    let mut there = Client::dial(server, protocol, options)?;
    let measured = match there.allocate(&AllocateOptions::default()) {
        Ok(allocated) => {
            let measured = cross(&mut here, from, &mut there, allocated.relayed, args);
            // A failing release is no finding: the allocation ends by itself.
            let _ = there.release();
            measured.map(|measured| (allocated.relayed, measured))
        }
        Err(error) => Err(error),
    };
    let _ = here.release();
    let (to, measured) = measured?;
    Ok(Report { server, allocate, relayed: [from, to], measured })
}

/// Makes each allocation the other's peer, and sends packets from the first to the second.
fn cross(
    here: &mut AnyClient,
    from: RelayedAddr,
    there: &mut AnyClient,
    to: RelayedAddr,
    args: &ProbeArgs,
) -> Result<Measured, ClientError> {
    let channel = ChannelNumber::new(CHANNEL).expect("it is in the range of channel numbers");
    there.bind_channel(channel, PeerAddr(from.0))?;
    here.bind_channel(channel, PeerAddr(to.0))?;
    let mut flight = Flight::new(args);
    for number in 0..args.count {
        let packet = flight.packet(number);
        here.send_channel_data(channel, &packet)?;
        let next = clock::now() + args.interval;
        flight.receive_until(there, next)?;
    }
    flight.receive_until(there, clock::now() + args.timeout)?;
    Ok(flight.measured)
}

/// The packets under way.
struct Flight {
    mark: [u8; 8],
    size: usize,
    sent: Vec<Instant>,
    arrived: Vec<bool>,
    measured: Measured,
}

impl Flight {
    fn new(args: &ProbeArgs) -> Flight {
        // Tells this probe's packets from what else may reach the relayed address. Not a secret,
        // but two probes at a time must differ.
        let mark =
            clock::unix_now().as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(32);
        Flight {
            mark: mark.to_be_bytes(),
            size: usize::from(args.size),
            sent: Vec::new(),
            arrived: vec![false; args.count as usize],
            measured: Measured::default(),
        }
    }

    fn packet(&mut self, number: u32) -> Vec<u8> {
        let mut packet = [&self.mark[..], &number.to_be_bytes()].concat();
        packet.resize(self.size, 0);
        self.measured.sent += 1;
        self.sent.push(clock::now());
        packet
    }

    fn receive_until(&mut self, client: &mut AnyClient, end: Instant) -> Result<(), ClientError> {
        while self.measured.round_trips.len() < self.arrived.len() {
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            match client.receive(left)? {
                Some(Incoming::ChannelData { data, .. }) => self.landed(&data),
                Some(Incoming::Data { .. } | Incoming::Icmp { .. }) | None => {}
            }
        }
        Ok(())
    }

    fn landed(&mut self, packet: &[u8]) {
        let now = clock::now();
        let number = packet
            .strip_prefix(&self.mark)
            .and_then(<[u8]>::first_chunk)
            .map(|number| u32::from_be_bytes(*number) as usize);
        let Some(number) = number else { return };
        let (Some(sent), Some(arrived)) = (self.sent.get(number), self.arrived.get_mut(number))
        else {
            return;
        };
        if !std::mem::replace(arrived, true) {
            self.measured.round_trips.push(now - *sent);
        }
    }
}

/// Three tries that end within `timeout`: after one, three and ten tenths of it.
fn retransmission(timeout: Duration) -> Retransmission {
    Retransmission { interval: timeout / 10, sends: 3, last_wait: 7 }
}

/// The first of RFC 8656.
const CHANNEL: u16 = 0x4000;

/// What may each wait for the time-out: two connections with their handshakes, two Allocates with
/// their challenge, two ChannelBinds, two Refreshes, the last packet, and some requests that are
/// made twice for a stale nonce.
const EXCHANGES_MAX: u32 = 20;

/// Shorter than a permission, so that none has to be refreshed on the way.
const LONGEST: Duration = Duration::from_secs(240);

const PASSWORD_VARIABLE: &str = "STERNA_PASSWORD";
