//! Fits a configuration to the machine: what "one per core" and "every address" mean here.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use sterna_actors::config::{self as actors, Listen};
use sterna_actors::tls::TlsTerms;
use sterna_proto::allocation;
use tokio::sync::watch;

use super::Fault;
use super::checked::{Config, Limits, RelayAddresses, Workers};
use super::policy::Sources;
use crate::machine::Machine;

/// A configuration in the terms of one machine.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// Where clients arrive. Never empty.
    pub listen: Vec<Listen>,
    /// Arbiters. At least one.
    pub workers: usize,
    /// Addresses to relay from. Never empty.
    pub relay_addresses: Vec<IpAddr>,
    /// What was left out, one line each.
    pub warnings: Vec<String>,
}

/// Fits `config` to `machine`, or says which key asks for what the machine has not.
pub fn resolve(config: Config, machine: &Machine) -> Result<Resolved, Fault> {
    let mut warnings = Vec::new();
    let listen = listeners(&config, machine, &mut warnings)?;
    let relay_addresses = relay_addresses(&config, &listen, machine)?;
    if let Some((private, _)) =
        config.relay.external.iter().find(|(private, _)| !relay_addresses.contains(private))
    {
        let relayed = list(&relay_addresses);
        let why = format!("{private} is none of the relay addresses, which are {relayed}");
        return Err(Fault::new("relay.external", &why));
    }
    if let Some(device) = &config.relay.device
        && !machine.devices.contains(device)
    {
        let devices = machine.devices.iter().cloned().collect::<Vec<_>>().join(", ");
        let why = format!("{device:?} is no device of this machine, which has {devices}");
        return Err(Fault::new("relay.device", &why));
    }
    let workers = match config.workers {
        Workers::PerCore => machine.cores.max(1),
        Workers::Fixed(workers) => workers,
    };
    Ok(Resolved { config, listen, workers, relay_addresses, warnings })
}

impl Resolved {
    /// Says which relay address this machine cannot bind a socket to.
    pub fn check_relay_addresses(&self) -> Result<(), Fault> {
        for &ip in &self.relay_addresses {
            if let Err(cause) = UdpSocket::bind((ip, 0)) {
                return Err(Fault::new(
                    "relay.addresses",
                    &format!("{ip} cannot be bound: {cause}"),
                ));
            }
        }
        Ok(())
    }

    /// `bound` as clients use it: for a wildcard the addresses of this machine that they can reach,
    /// and each as it looks from outside.
    pub fn as_clients_see(&self, bound: &Listen, machine: &Machine) -> Vec<Listen> {
        let ip = bound.address.ip();
        let local: Vec<IpAddr> = match ip.is_unspecified() {
            true => machine.reachable(ip, machine.is_alone()).collect(),
            false => vec![ip],
        };
        let external = &self.config.relay.external;
        let outside = |ip: IpAddr| {
            external.iter().find(|(private, _)| *private == ip).map_or(ip, |&(_, public)| public)
        };
        let at = |ip| SocketAddr::new(outside(ip), bound.address.port());
        local.into_iter().map(|ip| Listen { address: at(ip), ..bound.clone() }).collect()
    }

    /// What the actors are started with. `sources` is what was opened and read for it; `tls` is
    /// what is kept in step with the certificate files.
    pub fn server_config(
        &self,
        sources: &Sources,
        tls: Option<watch::Receiver<Arc<TlsTerms>>>,
    ) -> actors::ServerConfig {
        let config = &self.config;
        actors::ServerConfig {
            listen: self.listen.clone(),
            tls,
            workers: self.workers,
            wake_interval: config.wake_interval,
            software: config.stun.software.clone(),
            relay: actors::RelayConfig {
                tcp: config.relay.tcp,
                addresses: self.relay_addresses.clone(),
                external: config.relay.external.clone(),
                ports: config.relay.ports.clone(),
                device: config.relay.device.clone(),
            },
            lifetimes: allocation::Lifetimes {
                allocation: config.lifetimes.allocation,
                allocation_max: config.lifetimes.allocation_max,
                permission: config.lifetimes.permission,
                channel: config.lifetimes.channel,
            },
            nonce_lifetime: config.lifetimes.nonce,
            reservation: config.lifetimes.reservation,
            limits: limits(&config.limits),
            rfc5766_channel_numbers: config.stun.rfc5766_channel_numbers,
            policy: self.policy(sources),
        }
    }
}

fn listeners(
    config: &Config,
    machine: &Machine,
    warnings: &mut Vec<String>,
) -> Result<Vec<Listen>, Fault> {
    let mut listen = config.listen.clone();
    if !machine.has_ipv6 {
        // "Every IPv6 address" is none here. An address by name is wanted and fails when it is
        // bound.
        listen.retain(|l| !(l.address.is_ipv6() && l.address.ip().is_unspecified()));
    }
    if listen.is_empty() {
        return Err(Fault::new("listen", "names only [::], and this machine has no IPv6"));
    }
    if listen.len() < config.listen.len() {
        warnings.push("listen: this machine has no IPv6; [::] is left out".to_owned());
    }
    Ok(listen)
}

fn relay_addresses(
    config: &Config,
    listen: &[Listen],
    machine: &Machine,
) -> Result<Vec<IpAddr>, Fault> {
    if let RelayAddresses::Named(addresses) = &config.relay.addresses {
        return Ok(addresses.clone());
    }
    let alone = machine.is_alone();
    let mut addresses = Vec::new();
    for listener in listen {
        let listener = listener.address;
        let found: Vec<IpAddr> = match listener.ip().is_unspecified() {
            true => machine.reachable(listener.ip(), alone).collect(),
            false => vec![listener.ip()],
        };
        for ip in found {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    if addresses.is_empty() {
        let why = "no interface has an address of the listeners' families; name some";
        return Err(Fault::new("relay.addresses", why));
    }
    Ok(addresses)
}

fn limits(limits: &Limits) -> actors::Limits {
    actors::Limits {
        sessions_per_listener: limits.sessions_per_listener,
        permissions_per_allocation: limits.permissions_per_allocation,
        channels_per_allocation: limits.channels_per_allocation,
        connections_per_allocation: limits.connections_per_allocation,
        unauthenticated_answers_per_second: limits.unauthenticated_answers_per_second,
        failed_logins_per_minute: limits.failed_logins_per_minute,
        connections_per_listener: limits.connections_per_listener,
        unproved_connections_per_listener: limits.unproved_connections_per_listener,
        unproved_connections_per_source: limits.unproved_connections_per_source,
        connection_setup: limits.connection_setup,
        stream_buffer: limits.stream_buffer,
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
