//! Peer addresses as stores spell them: one address, a network, or a first and a last address.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// The networks that a text names; `None` if it names none.
pub(crate) fn networks(text: &str) -> Option<Vec<IpNet>> {
    let text = text.trim();
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(vec![network.trunc()]);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(vec![ip.into()]);
    }
    let (first, last) = text.split_once('-')?;
    match (first.trim().parse().ok()?, last.trim().parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Some(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Some(Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str) -> Option<Vec<String>> {
        networks(text).map(|networks| networks.iter().map(IpNet::to_string).collect())
    }

    #[test]
    fn an_address_a_network_and_a_range_are_networks() {
        for (text, wanted) in [
            ("192.0.2.1", vec!["192.0.2.1/32"]),
            ("192.0.2.7/24", vec!["192.0.2.0/24"]),
            ("123::45", vec!["123::45/128"]),
            ("192.0.2.4-192.0.2.7", vec!["192.0.2.4/30"]),
            ("192.0.2.1 - 192.0.2.4", vec!["192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/32"]),
            ("0.0.0.0-255.255.255.255", vec!["0.0.0.0/0"]),
            ("::-::3", vec!["::/126"]),
        ] {
            assert_eq!(Some(wanted.iter().map(|w| w.to_string()).collect()), spelled(text));
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "any", "192.0.2.9-192.0.2.1", "192.0.2.1-::1", "192.0.2.0/33", "1-2-3"] {
            assert_eq!(None, spelled(text), "{text}");
        }
    }
}
