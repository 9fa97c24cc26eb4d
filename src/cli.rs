//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::store::Failed;
use crate::commands::{check, credential, probe, realm, secret, serve, session, token_key, user};
use crate::credential::Algorithm;

pub(crate) mod stores;

use stores::{RealmCommand, SecretCommand, SessionCommand, TokenKeyCommand, UserCommand};

/// A TURN and STUN server.
#[derive(Parser)]
#[command(name = "sterna", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ConfigArg,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay (also without a command)
    Serve(ConfigArg),
    /// Read and check the configuration, and print it as resolved on this machine
    Check(ConfigArg),
    /// Mint a time-limited credential, as JSON for RTCPeerConnection
    Credential(CredentialArgs),
    /// Add, list and remove users in a store
    #[command(subcommand)]
    User(UserCommand),
    /// Add, rotate, list and remove the secrets of time-limited credentials in a store
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Manage the realms of a store: limits, origins, peers
    #[command(subcommand)]
    Realm(RealmCommand),
    /// Add, list and remove keys of access tokens (RFC 7635) in a store
    #[command(subcommand)]
    TokenKey(TokenKeyCommand),
    /// List the sessions of the running server, or end one
    #[command(subcommand)]
    Session(SessionCommand),
    /// Relay packets through a TURN server to oneself, and report round trip and loss
    Probe(ProbeArgs),
}

/// Which configuration.
#[derive(Args)]
pub(crate) struct ConfigArg {
    /// The configuration [default: ./turn.yaml, else /etc/sterna/turn.yaml, else built-in defaults]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) path: Option<PathBuf>,
}

/// What `sterna credential` is told.
#[derive(Args)]
pub(crate) struct CredentialArgs {
    /// The user's name, for logs and quotas
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// How long the credential is good for
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = ttl)]
    pub(crate) ttl: Duration,
    /// The realm [default: the configuration's]
    #[arg(long, value_name = "REALM", value_parser = crate::config::cli_values::realm)]
    pub(crate) realm: Option<String>,
    /// What signs it
    #[arg(long, value_enum, value_name = "ALGORITHM", default_value_t)]
    pub(crate) algorithm: Algorithm,
    /// Read the secret from this file's first line instead of the configuration or its stores
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// The URL to hand out, any number of times [default: the configured listeners]
    #[arg(long = "url", value_name = "URL", value_parser = turn_url)]
    pub(crate) urls: Vec<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}

/// What `sterna probe` is told.
#[derive(Args)]
pub(crate) struct ProbeArgs {
    /// The server, as in turn:HOST:PORT, turn:HOST:PORT?transport=tcp or turns:HOST:PORT
    #[arg(value_name = "URL", value_parser = turn_url)]
    pub(crate) url: String,
    /// The user's name. Without a password from STERNA_PASSWORD, --password-file or -c, it is asked
    /// for, or read from standard input where that is no terminal
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// Read the password from this file's first line
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub(crate) password_file: Option<PathBuf>,
    /// The authorities that may have signed a turns: server's certificate, in PEM [default: those
    /// that this system trusts]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate of a turns: server
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Packets to send
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,
    /// Bytes in each packet
    #[arg(long, value_name = "BYTES", default_value_t = 160,
          value_parser = clap::value_parser!(u16).range(16..=1200))]
    pub(crate) size: u16,
    /// Time between packets
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Time to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout)]
    pub(crate) timeout: Duration,
    /// Loss in percent that still counts as success
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) loss: u8,
    /// Report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Mint the credential with the secret of this configuration
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) path: Option<PathBuf>,
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Credential(args) => credential::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::User(command) => user::run(&command),
        Command::Secret(command) => secret::run(&command),
        Command::Realm(command) => realm::run(&command),
        Command::TokenKey(command) => token_key::run(&command),
        Command::Session(command) => session::run(&command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("sterna: {error:#}");
        let code = if error.is::<Failed>() { FAILED } else { UNUSABLE };
        ExitCode::from(code)
    })
}

/// The exit code of a command that was asked for something that cannot be: wrong usage, a wrong
/// configuration, an address that is taken.
pub(crate) const UNUSABLE: u8 = 2;

/// The exit code of a command that failed at what it was asked for.
pub(crate) const FAILED: u8 = 1;

fn ttl(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1), TEN_YEARS)
}

fn interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1), Duration::from_secs(10))
}

fn timeout(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100), Duration::from_secs(60))
}

fn duration(text: &str, low: Duration, high: Duration) -> Result<Duration, String> {
    let Ok(duration) = humantime::parse_duration(text) else {
        return Err("not a duration; write it as in 90s, 10m or 24h".to_owned());
    };
    if (low..=high).contains(&duration) {
        return Ok(duration);
    }
    let show = humantime::format_duration;
    Err(format!("not from {} to {}", show(low), show(high)))
}

fn turn_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("turn:").or_else(|| text.strip_prefix("turns:"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("not a TURN URL; write it as in turn:relay.example.org:3478".to_owned()),
    }
}

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
