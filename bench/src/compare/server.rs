//! A relay started for a measurement and stopped after it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;
use sterna_client::{Client, ClientOptions, Retransmission};

use super::{ComparePlan, json_of};
use crate::clock::{Clock, sleep};
use crate::error::{BenchError, DuringExt};
use crate::floor;
use crate::floor_setup::Setup;
use crate::pin::{pin_to, raise_descriptor_limit};
use crate::target::{Kind, Transport};

/// A relay that can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// The straight-line forwarder.
    Floor,
    /// This project's server.
    Sterna,
    /// coturn's `turnserver`.
    Coturn,
}

impl Program {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Program::Floor => "floor",
            Program::Sterna => "sterna",
            Program::Coturn => "coturn",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Program::Floor => Kind::Floor,
            Program::Sterna | Program::Coturn => Kind::Turn,
        }
    }
}

/// A relay and where its program is.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Which one.
    pub program: Program,
    /// The executable.
    pub path: PathBuf,
}

/// A running relay; dropping it ends the process and removes its files.
pub(super) struct Server {
    child: Child,
    kind: Kind,
    address: SocketAddrV4,
    folder: PathBuf,
}

impl Server {
    /// Starts the relay on its core and waits until it answers.
    pub(super) fn start(contender: &Contender, plan: &ComparePlan) -> Result<Server, BenchError> {
        let name = contender.program.name();
        let folder = format!("sterna-bench-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).during(&folder.display().to_string())?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, plan.port);
        let log_path = folder.join("output");
        let log = File::create(&log_path).during(&log_path.display().to_string())?;
        let errors = log.try_clone().during("the log file")?;
        if plan.transports.contains(&Transport::Tls) {
            write_certificate(&folder)?;
        }
        let mut command = command(contender, address, &folder, &plan.transports)?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);

        // A child inherits its core and its descriptor limit: no thread of it ever runs elsewhere.
        raise_descriptor_limit(DESCRIPTORS)?;
        pin_to(plan.server_core)?;
        let child = command.spawn().during(&contender.path.display().to_string());
        pin_to(plan.load_core)?;
        let kind = contender.program.kind();
        let mut server = Server { child: child?, kind, address, folder };
        server.wait_until_it_answers(name, &log_path)?;
        Ok(server)
    }

    /// How it is spoken to.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Runs a measuring program that makes allocations at this relay, and reads its report.
    pub(super) fn run_turn<R: DeserializeOwned>(
        &self,
        mut command: Command,
        transport: Transport,
        core: usize,
    ) -> Result<R, BenchError> {
        let kind = match self.kind {
            Kind::Floor => "floor",
            Kind::Turn => "turn",
        };
        command.args(["--kind", kind]).args(["--transport", transport.name()]).args([
            "--user",
            USER,
            "--password",
            PASSWORD,
        ]);
        self.run(command, transport, core)
    }

    /// Runs a measuring program against this relay and reads its report.
    pub(super) fn run<R: DeserializeOwned>(
        &self,
        mut command: Command,
        transport: Transport,
        core: usize,
    ) -> Result<R, BenchError> {
        command
            .args(["--server", &address_over(transport, self.address).to_string()])
            .args(["--pid", &self.child.id().to_string()])
            .args(["--core", &core.to_string()]);
        json_of(command)
    }

    fn wait_until_it_answers(&mut self, name: &str, log: &Path) -> Result<(), BenchError> {
        let clock = Clock::start();
        let problem = loop {
            if let Some(status) = self.child.try_wait().during(name)? {
                break format!("ended at once ({status})");
            }
            if answers(self.kind, self.address) {
                return Ok(());
            }
            if clock.elapsed() > START_WAIT {
                break format!("does not answer at {}", self.address);
            }
            sleep(POLL);
        };
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(BenchError::Program { program: name.to_owned(), problem: format!("{problem}\n{said}") })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// TLS has the port above the others'.
fn address_over(transport: Transport, address: SocketAddrV4) -> SocketAddrV4 {
    match transport {
        Transport::Udp | Transport::Tcp => address,
        Transport::Tls => SocketAddrV4::new(*address.ip(), address.port() + 1),
    }
}

/// A certificate and its key, ECDSA with P-256 as the authorities of the web sign.
fn write_certificate(folder: &Path) -> Result<(), BenchError> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let rcgen::CertifiedKey { cert, signing_key } =
        made.map_err(|error| BenchError::Argument(format!("making a certificate: {error}")))?;
    fs::write(folder.join(CERTIFICATE), cert.pem()).during(CERTIFICATE)?;
    fs::write(folder.join(KEY), signing_key.serialize_pem()).during(KEY)
}

fn answers(kind: Kind, address: SocketAddrV4) -> bool {
    match kind {
        Kind::Turn => {
            let options = ClientOptions {
                retransmission: Retransmission { interval: POLL, sends: 1, last_wait: 4 },
                ..ClientOptions::default()
            };
            let client = Client::connect(SocketAddr::V4(address), options);
            client.is_ok_and(|mut client| client.binding().is_ok())
        }
        Kind::Floor => {
            let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else {
                return false;
            };
            let opened =
                socket.connect(address).is_ok() && floor::ask(&socket, Setup::Open).is_ok();
            opened && floor::ask(&socket, Setup::Close).is_ok()
        }
    }
}

fn command(
    contender: &Contender,
    address: SocketAddrV4,
    folder: &Path,
    transports: &[Transport],
) -> Result<Command, BenchError> {
    let mut command = Command::new(&contender.path);
    match contender.program {
        Program::Floor => {
            command.args(["--listen", &address.to_string()]);
        }
        Program::Sterna => {
            let file = folder.join("turn.yaml");
            fs::write(&file, turn_yaml(address, folder, transports))
                .during(&file.display().to_string())?;
            command.arg("serve").arg("-c").arg(&file);
            // Whatever the server keeps between runs belongs to this run.
            command.current_dir(folder).env("STATE_DIRECTORY", folder);
        }
        Program::Coturn => {
            command.args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech"]);
            if transports.contains(&Transport::Tls) {
                let port = address_over(Transport::Tls, address).port();
                command.arg(format!("--tls-listening-port={port}"));
                command.arg(format!("--cert={}", folder.join(CERTIFICATE).display()));
                command.arg(format!("--pkey={}", folder.join(KEY).display()));
            } else {
                command.arg("--no-tls");
            }
            command.args(["--allow-loopback-peers", "--relay-threads=1", "--simple-log"]);
            command.arg(format!("--user={USER}:{PASSWORD}"));
            command.args(["--realm=bench", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"]);
            command.arg(format!("--listening-port={}", address.port()));
            command.arg(format!("--min-port={PORTS_FIRST}"));
            command.arg(format!("--max-port={PORTS_LAST}"));
            command.arg(format!("--userdb={}", folder.join("turndb").display()));
            command.arg(format!("--pidfile={}", folder.join("pid").display()));
            command.arg(format!("--log-file={}", folder.join("log").display()));
        }
    }
    Ok(command)
}

/// Every relay listens for UDP, by which it is known to be ready.
fn turn_yaml(address: SocketAddrV4, folder: &Path, transports: &[Transport]) -> String {
    let mut listen = vec![format!("\"udp://{address}\"")];
    let streams = transports.iter().filter(|transport| **transport != Transport::Udp);
    listen.extend(streams.map(|transport| {
        format!("\"{}://{}\"", transport.name(), address_over(*transport, address))
    }));
    let mut tls = String::new();
    if transports.contains(&Transport::Tls) {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        let (certificate, key) = (certificate.display(), key.display());
        tls = format!("tls: {{certificates: [{{certificate: {certificate}, key: {key}}}]}}\n");
    }
    format!(
        "{tls}realm: bench\n\
         listen: [{}]\n\
         workers: 1\n\
         relay: {{addresses: [\"127.0.0.1\"], ports: \"{PORTS_FIRST}-{PORTS_LAST}\"}}\n\
         auth: {{users: {{{USER}: {PASSWORD}}}}}\n\
         peers: {{allow: [\"127.0.0.0/8\"]}}\n\
         log: {{level: warning}}\n",
        listen.join(", ")
    )
}

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

const USER: &str = "u";
const PASSWORD: &str = "p";

/// Below the ports that the system gives to the generator's own sockets.
const PORTS_FIRST: u16 = 10_000;
const PORTS_LAST: u16 = 31_999;

/// Enough for the relay sockets of the memory row.
const DESCRIPTORS: u64 = 65_536;

const START_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
