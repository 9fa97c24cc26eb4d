//! The commands that change users, secrets and realms in a store, and that look at sessions.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::ConfigArg;
use crate::config::cli_values::{self, Limit};

/// Which store, and whose.
#[derive(Args)]
pub(crate) struct StoreArgs {
    /// The store, by a URL without a password [default: the first of auth.stores]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}

/// Which realm.
#[derive(Args)]
pub(crate) struct RealmArg {
    /// The realm [default: the configuration's]
    #[arg(long, value_name = "REALM", value_parser = cli_values::realm)]
    pub(crate) realm: Option<String>,
}

/// Manage the users of a store
#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user. The password is asked for twice, or read from standard input or a file; keys
    /// that follow from it are kept, not the password itself
    Add(UserAddArgs),
    /// List users with their limits, never their keys
    List(UserListArgs),
    /// Give a user another password, asked for as by `user add`; its sessions end
    Password(UserPasswordArgs),
    /// Change what a user may have; what is not named stays
    Limit(UserLimitArgs),
    /// Remove a user; its sessions end within a second
    Remove(UserRemoveArgs),
}

/// What `sterna user add` is told.
#[derive(Args)]
pub(crate) struct UserAddArgs {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = cli_values::user_name)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) password: PasswordArg,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Where a password comes from.
#[derive(Args)]
pub(crate) struct PasswordArg {
    /// Read the password from this file's first line
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// What a user may have.
#[derive(Args)]
pub(crate) struct LimitArgs {
    /// Allocations at once: a number, `any`, or `realm` for what the realm gives
    #[arg(long, value_name = "N", value_parser = cli_values::user_allocations)]
    pub(crate) allocations: Option<Limit<u32>>,
    /// In each direction for all its allocations: as 8Mbit/s, `any`, or `realm`
    #[arg(long, value_name = "RATE", value_parser = cli_values::user_rate)]
    pub(crate) bandwidth: Option<Limit<u64>>,
    /// In each direction for each of its allocations: as 2Mbit/s, `any`, or `realm`
    #[arg(long, value_name = "RATE", value_parser = cli_values::user_rate)]
    pub(crate) bandwidth_per_allocation: Option<Limit<u64>>,
    /// When the user ends: as 2027-01-01, 2027-01-01T08:00:00Z or `never`
    #[arg(long, value_name = "DATE", value_parser = cli_values::expiry)]
    pub(crate) expires: Option<cli_values::Expiry>,
}

/// What `sterna user list` is told.
#[derive(Args)]
pub(crate) struct UserListArgs {
    /// Only those of this realm
    #[arg(long, value_name = "REALM", value_parser = cli_values::realm)]
    pub(crate) realm: Option<String>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna user password` is told.
#[derive(Args)]
pub(crate) struct UserPasswordArgs {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = cli_values::known_user)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) password: PasswordArg,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna user limit` is told.
#[derive(Args)]
pub(crate) struct UserLimitArgs {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = cli_values::known_user)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna user remove` is told.
#[derive(Args)]
pub(crate) struct UserRemoveArgs {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = cli_values::known_user)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Manage the secrets of time-limited credentials in a store
#[derive(Subcommand)]
pub(crate) enum SecretCommand {
    /// Add a secret: from a file, from standard input, or with --random one that is printed
    Add(SecretAddArgs),
    /// Add a secret and remove those before it, but for the newest
    Rotate(SecretRotateArgs),
    /// List secrets by their fingerprints, never by their text
    List(SecretListArgs),
    /// Remove a secret; sessions that live on it end within a second
    Remove(SecretRemoveArgs),
}

/// Where a secret comes from.
#[derive(Args)]
pub(crate) struct SecretArg {
    /// Read the secret from this file's first line
    #[arg(long, value_name = "FILE", conflicts_with = "random")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Make one, and print it on standard output
    #[arg(long)]
    pub(crate) random: bool,
}

/// What `sterna secret add` is told.
#[derive(Args)]
pub(crate) struct SecretAddArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArg,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna secret rotate` is told.
#[derive(Args)]
pub(crate) struct SecretRotateArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArg,
    /// How many of the secrets before it stay good
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(0..=16))]
    pub(crate) keep: u8,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna secret list` is told.
#[derive(Args)]
pub(crate) struct SecretListArgs {
    /// Only those of this realm
    #[arg(long, value_name = "REALM", value_parser = cli_values::realm)]
    pub(crate) realm: Option<String>,
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna secret remove` is told.
#[derive(Args)]
pub(crate) struct SecretRemoveArgs {
    /// The fingerprint that `secret list` shows, or how it begins
    #[arg(value_name = "FINGERPRINT")]
    pub(crate) fingerprint: String,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Manage the realms of a store: their limits, origins and peers
#[derive(Subcommand)]
pub(crate) enum RealmCommand {
    /// List realms with their limits, origins and peers
    List(RealmListArgs),
    /// Make a realm, or change its limits; what is not named stays
    Set(RealmSetArgs),
    /// Remove a realm's limits, origins and peers; its users and secrets stay
    Remove(RealmRemoveArgs),
    /// Let clients of pages with this origin be asked for the realm
    Origin(RealmOriginArgs),
    /// Let a realm's users, or one of them, relay to peers that the built-in rules refuse
    Allow(RealmPeerArgs),
    /// Refuse peers to a realm's users, or to one of them
    Deny(RealmPeerArgs),
}

/// What `sterna realm list` is told.
#[derive(Args)]
pub(crate) struct RealmListArgs {
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna realm set` is told.
#[derive(Args)]
pub(crate) struct RealmSetArgs {
    /// The realm
    #[arg(value_name = "REALM", value_parser = cli_values::realm)]
    pub(crate) realm: String,
    /// Allocations at once; 0 for what turn.yaml says
    #[arg(long, value_name = "N", value_parser = cli_values::allocations)]
    pub(crate) allocations: Option<Limit<u32>>,
    /// Those of one user; 0 for what turn.yaml says
    #[arg(long, value_name = "N", value_parser = cli_values::allocations)]
    pub(crate) allocations_per_user: Option<Limit<u32>>,
    /// Those from one IP address; 0 for what turn.yaml says
    #[arg(long, value_name = "N", value_parser = cli_values::allocations)]
    pub(crate) allocations_per_source: Option<Limit<u32>>,
    /// In each direction for everybody together: as 1Gbit/s; 0 for what turn.yaml says
    #[arg(long, value_name = "RATE", value_parser = cli_values::rate)]
    pub(crate) bandwidth: Option<Limit<u64>>,
    /// In each direction for one user: as 8Mbit/s; 0 for what turn.yaml says
    #[arg(long, value_name = "RATE", value_parser = cli_values::rate)]
    pub(crate) bandwidth_per_user: Option<Limit<u64>>,
    /// In each direction for one allocation: as 2Mbit/s; 0 for what turn.yaml says
    #[arg(long, value_name = "RATE", value_parser = cli_values::rate)]
    pub(crate) bandwidth_per_allocation: Option<Limit<u64>>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna realm remove` is told.
#[derive(Args)]
pub(crate) struct RealmRemoveArgs {
    /// The realm
    #[arg(value_name = "REALM")]
    pub(crate) realm: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna realm origin` is told.
#[derive(Args)]
pub(crate) struct RealmOriginArgs {
    /// The realm
    #[arg(value_name = "REALM", value_parser = cli_values::realm)]
    pub(crate) realm: String,
    /// The origin, as in https://app.example.org
    #[arg(value_name = "ORIGIN", value_parser = cli_values::origin)]
    pub(crate) origin: String,
    /// Take it away
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna realm allow` and `sterna realm deny` are told.
#[derive(Args)]
pub(crate) struct RealmPeerArgs {
    /// The realm
    #[arg(value_name = "REALM", value_parser = cli_values::realm)]
    pub(crate) realm: String,
    /// The network or address, as in 10.1.0.0/16
    #[arg(value_name = "NETWORK", value_parser = cli_values::network)]
    pub(crate) network: IpNet,
    /// For this user of the realm alone
    #[arg(long, value_name = "NAME", value_parser = cli_values::known_user)]
    pub(crate) user: Option<String>,
    /// Take the rule away
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Manage the keys of access tokens in a store
#[derive(Subcommand)]
pub(crate) enum TokenKeyCommand {
    /// Add a key, or replace the one of that name: base64 of 32 bytes (A256GCM) or 16 (A128GCM)
    /// from a file or standard input, or with --random one that is printed
    Add(TokenKeyAddArgs),
    /// List keys by their names, never the keys themselves
    List(TokenKeyListArgs),
    /// Remove a key
    Remove(TokenKeyRemoveArgs),
}

/// What `sterna token-key add` is told.
#[derive(Args)]
pub(crate) struct TokenKeyAddArgs {
    /// The key's name (kid), which clients send as their user name
    #[arg(value_name = "KID", value_parser = cli_values::user_name)]
    pub(crate) kid: String,
    /// Read the key from this file's first line
    #[arg(long, value_name = "FILE", conflicts_with = "random")]
    pub(crate) key_file: Option<PathBuf>,
    /// Make one of 32 bytes, and print it on standard output
    #[arg(long)]
    pub(crate) random: bool,
    /// From when it is good, as in 2026-01-01 or 2026-01-01T08:00:00Z
    #[arg(long, value_name = "DATE", value_parser = cli_values::moment)]
    pub(crate) valid_from: Option<u64>,
    /// Until when
    #[arg(long, value_name = "DATE", value_parser = cli_values::moment)]
    pub(crate) valid_until: Option<u64>,
    #[command(flatten)]
    pub(crate) realm: RealmArg,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna token-key list` is told.
#[derive(Args)]
pub(crate) struct TokenKeyListArgs {
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What `sterna token-key remove` is told.
#[derive(Args)]
pub(crate) struct TokenKeyRemoveArgs {
    /// The key's name
    #[arg(value_name = "KID", value_parser = cli_values::known_user)]
    pub(crate) kid: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Look at the sessions of the running server, or end one
#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions that have an allocation
    List(SessionListArgs),
    /// End a session and its allocation
    End(SessionEndArgs),
}

/// What `sterna session list` is told.
#[derive(Args)]
pub(crate) struct SessionListArgs {
    /// As one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}

/// What `sterna session end` is told.
#[derive(Args)]
pub(crate) struct SessionEndArgs {
    /// The session, as `session list` and the log name it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
}
