//! A relay started for a measurement and stopped after it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;
use sterna_client::{Client, ClientOptions, Retransmission};

use super::contender::{Contender, Program};
use super::{ComparePlan, json_of};
use crate::clock::{Clock, sleep};
use crate::error::{BenchError, DuringExt};
use crate::floor;
use crate::floor_setup::Setup;
use crate::pin::{pin_to, pin_to_any, raise_descriptor_limit};
use crate::target::{Kind, Transport};

/// How a relay is started, where measurements differ in it.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Threads that serve. With more than one the relay may use the generator's core, too.
    pub(super) workers: usize,
    /// Addresses to relay from.
    pub(super) relay: Vec<Ipv4Addr>,
}

impl Setting {
    /// One address to relay from.
    pub(super) fn with_workers(workers: usize) -> Setting {
        Setting { workers, relay: vec![Ipv4Addr::LOCALHOST] }
    }
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
    pub(super) fn start(
        contender: &Contender,
        plan: &ComparePlan,
        setting: &Setting,
    ) -> Result<Server, BenchError> {
        let name = contender.name.as_str();
        let program = contender.program.name();
        let folder = format!("sterna-bench-{}-{program}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).during(&folder.display().to_string())?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, plan.port);
        claim(address)?;
        let log_path = folder.join("output");
        let log = File::create(&log_path).during(&log_path.display().to_string())?;
        let errors = log.try_clone().during("the log file")?;
        if plan.transports.contains(&Transport::Tls) {
            write_certificate(&folder)?;
        }
        let mut command = command(contender, address, &folder, plan, setting)?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);

        // A child inherits its core and its descriptor limit: no thread of it ever runs elsewhere.
        let idle = plan.idle.unwrap_or_default() as u64;
        raise_descriptor_limit(DESCRIPTORS.max(idle + super::DESCRIPTORS_BESIDE))?;
        match setting.workers {
            1 => pin_to(plan.server_core)?,
            _ => pin_to_any(&[plan.server_core, plan.load_core])?,
        }
        let child = command.spawn().during(&contender.path.display().to_string());
        pin_to(plan.load_core)?;
        let kind = contender.program.kind();
        let mut server = Server { child: child?, kind, address, folder };
        server.wait_until_it_answers(name, &log_path)?;
        Ok(server)
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

/// Two servers that share a port (`SO_REUSEPORT`) would share the packets, and nobody would see it.
fn claim(address: SocketAddrV4) -> Result<(), BenchError> {
    let doing = format!("taking {address} (another --port may be free)");
    UdpSocket::bind(address).map(drop).during(&doing)
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
    plan: &ComparePlan,
    setting: &Setting,
) -> Result<Command, BenchError> {
    let mut command = Command::new(&contender.path);
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).during(&file.display().to_string()).map(|()| file)
    };
    match contender.program {
        Program::Floor => {
            command.args(["--listen", &address.to_string()]);
        }
        Program::Sterna => {
            let text = turn_yaml(address, folder, &plan.transports, setting);
            command.arg("serve").arg("-c").arg(write("turn.yaml", text)?);
            command.envs(contender.settings.iter().map(|(key, value)| (key, value)));
            // Whatever the server keeps between runs belongs to this run.
            command.current_dir(folder).env("STATE_DIRECTORY", folder);
        }
        Program::Coturn => {
            coturn_arguments(&mut command, address, folder, &plan.transports, setting);
        }
        Program::TurnServer => {
            let text = turn_server_toml(address, setting.workers);
            command.arg(format!("--config={}", write("turn-server.toml", text)?.display()));
        }
    }
    Ok(command)
}

/// Its defaults, but for what the machine of a measurement needs, and its log once, not twice.
fn coturn_arguments(
    command: &mut Command,
    address: SocketAddrV4,
    folder: &Path,
    transports: &[Transport],
    setting: &Setting,
) {
    command.args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech"]);
    if transports.contains(&Transport::Tls) {
        let port = address_over(Transport::Tls, address).port();
        command.arg(format!("--tls-listening-port={port}"));
        command.arg(format!("--cert={}", folder.join(CERTIFICATE).display()));
        command.arg(format!("--pkey={}", folder.join(KEY).display()));
    } else {
        command.arg("--no-tls");
    }
    command.arg(format!("--relay-threads={}", setting.workers));
    command.args(["--allow-loopback-peers", "--simple-log", "--no-stdout-log"]);
    command.arg(format!("--user={USER}:{PASSWORD}"));
    command.args([format!("--realm={REALM}"), format!("--listening-ip={}", address.ip())]);
    command.args(setting.relay.iter().map(|relay| format!("--relay-ip={relay}")));
    command.arg(format!("--listening-port={}", address.port()));
    command.arg(format!("--min-port={PORTS_FIRST}"));
    command.arg(format!("--max-port={PORTS_LAST}"));
    command.arg(format!("--userdb={}", folder.join("turndb").display()));
    command.arg(format!("--pidfile={}", folder.join("pid").display()));
    command.arg(format!("--log-file={}", folder.join("log").display()));
}

/// Every relay listens for UDP, by which it is known to be ready.
fn turn_yaml(
    address: SocketAddrV4,
    folder: &Path,
    transports: &[Transport],
    setting: &Setting,
) -> String {
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
    let relay: Vec<String> = setting.relay.iter().map(|relay| format!("\"{relay}\"")).collect();
    format!(
        "{tls}realm: {REALM}\n\
         listen: [{}]\n\
         workers: {}\n\
         relay: {{addresses: [{}], ports: \"{PORTS_FIRST}-{PORTS_LAST}\"}}\n\
         auth: {{users: {{{USER}: {PASSWORD}}}}}\n\
         peers: {{allow: [\"127.0.0.0/8\"]}}\n",
        listen.join(", "),
        setting.workers,
        relay.join(", "),
    )
}

/// Its idle time-out is longer than its default of 20 s, as idle allocations send nothing.
fn turn_server_toml(address: SocketAddrV4, workers: usize) -> String {
    format!(
        "[server]\n\
         max-threads = {workers}\n\
         realm = \"{REALM}\"\n\
         [[server.interfaces]]\n\
         transport = \"udp\"\n\
         listen = \"{address}\"\n\
         external = \"{address}\"\n\
         idle-timeout = 600\n\
         [auth.static-credentials]\n\
         {USER} = \"{PASSWORD}\"\n"
    )
}

const REALM: &str = "bench";

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

const USER: &str = "u";
const PASSWORD: &str = "p";

/// Below the ports that the system gives to the generator's own sockets.
const PORTS_FIRST: u16 = 10_000;
const PORTS_LAST: u16 = 31_999;

/// What relays get at least; those that take memory by it take the same.
const DESCRIPTORS: u64 = 65_536;

/// coturn writes down every port of every relay address first, which takes it seconds.
const START_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_not_taken() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else {
            unreachable!("bound to an IPv4 address");
        };
        assert!(claim(address).is_err());
        drop(socket);
        assert!(claim(address).is_ok());
    }

    #[test]
    fn sterna_is_told_its_workers_and_where_to_relay_from() {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3490);
        let relay = vec![Ipv4Addr::new(127, 0, 2, 1), Ipv4Addr::new(127, 0, 2, 2)];
        let setting = Setting { workers: 2, relay };
        let text = turn_yaml(address, Path::new("/f"), &[Transport::Udp], &setting);
        assert!(text.contains("listen: [\"udp://127.0.0.1:3490\"]"), "{text}");
        assert!(text.contains("workers: 2\n"), "{text}");
        assert!(text.contains("addresses: [\"127.0.2.1\", \"127.0.2.2\"]"), "{text}");
    }
}
