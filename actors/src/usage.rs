//! The usage reports: what one allocation has carried, in the lines that coturn's log tooling
//! reads.

use std::fmt;

use slog::{Logger, info};
use sterna_proto::account::Account;

use crate::session::SessionId;

/// Packets and bytes of one leg, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets received from the far end of the leg.
    pub received_packets: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Packets sent to the far end of the leg.
    pub sent_packets: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
}

impl Traffic {
    /// Counts what arrived.
    pub fn received(&mut self, packets: u64, bytes: u64) {
        self.received_packets += packets;
        self.received_bytes += bytes;
    }

    /// Counts what left.
    pub fn sent(&mut self, packets: u64, bytes: u64) {
        self.sent_packets += packets;
        self.sent_bytes += bytes;
    }

    pub(crate) fn packets(&self) -> u64 {
        self.received_packets + self.sent_packets
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &Traffic) {
        self.received(other.received_packets, other.received_bytes);
        self.sent(other.sent_packets, other.sent_bytes);
    }

    fn since(&self, earlier: &Traffic) -> Traffic {
        Traffic {
            received_packets: self.received_packets - earlier.received_packets,
            received_bytes: self.received_bytes - earlier.received_bytes,
            sent_packets: self.sent_packets - earlier.sent_packets,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
        }
    }
}

/// What an allocation has carried, and how much of it has been reported.
///
/// The client leg counts whole TURN messages, the peer leg application data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Between client and server.
    pub client: Traffic,
    /// Between server and peers.
    pub peer: Traffic,
    /// Packets that were dropped because a limit on bytes per second was reached.
    pub over_bandwidth: u64,
    /// Apart, since most allocations end before anything is reported.
    reported: Option<Box<Reported>>,
}

/// What has been reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reported {
    client: Traffic,
    peer: Traffic,
    over_bandwidth: u64,
}

impl Usage {
    /// Whether [`REPORT_EVERY`] packets have passed since the last report.
    pub fn is_due(&self) -> bool {
        let packets = self.client.packets() + self.peer.packets();
        let reported = self.reported.as_ref();
        let reported = reported.map_or(0, |said| said.client.packets() + said.peer.packets());
        packets - reported >= REPORT_EVERY
    }

    /// Logs what has been carried since the last report.
    pub fn report(&mut self, log: &Logger, session: SessionId, account: &Account) {
        let (realm, username) = (&*account.realm, &*account.username);
        let said = self.reported.as_deref().copied().unwrap_or_default();
        let over = self.over_bandwidth - said.over_bandwidth;
        let legs = [("usage", self.client, said.client), ("peer usage", self.peer, said.peer)];
        for (name, total, reported) in legs {
            let delta = total.since(&reported);
            info!(log, "{}", Report { session, name, realm, username, delta };
                "session" => %session, "report" => name, "realm" => %OneLine(realm),
                "username" => %OneLine(username),
                "rp" => delta.received_packets, "rb" => delta.received_bytes,
                "sp" => delta.sent_packets, "sb" => delta.sent_bytes,
                "bandwidth_exceeded" => over);
        }
        let (client, peer, over_bandwidth) = (self.client, self.peer, self.over_bandwidth);
        **self.reported.get_or_insert_default() = Reported { client, peer, over_bandwidth };
    }
}

/// One line of a usage report.
struct Report<'a> {
    session: SessionId,
    name: &'a str,
    realm: &'a str,
    username: &'a str,
    delta: Traffic,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "session {}: {}: realm=<{}>, username=<{}>, rp={}, rb={}, sp={}, sb={}",
            self.session,
            self.name,
            OneLine(self.realm),
            OneLine(self.username),
            self.delta.received_packets,
            self.delta.received_bytes,
            self.delta.sent_packets,
            self.delta.sent_bytes,
        )
    }
}

/// Text from outside, unable to break out of its line or its angle brackets.
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c.is_control() || matches!(c, '<' | '>' | '\u{2028}' | '\u{2029}') {
                true => write!(f, "{}", c.escape_unicode())?,
                false => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// Packets between two reports of one allocation.
pub const REPORT_EVERY: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_one_that_log_tooling_reads() {
        let delta = Traffic {
            received_packets: 1020,
            received_bytes: 903_980,
            sent_packets: 1028,
            sent_bytes: 907_260,
        };
        let session = SessionId::new(0, 1);
        let report =
            Report { session, name: "usage", realm: "north.gov", username: "alice", delta };

        assert_eq!(
            "session 000000000000000001: usage: realm=<north.gov>, username=<alice>, rp=1020, \
             rb=903980, sp=1028, sb=907260",
            report.to_string()
        );
    }

    #[test]
    fn a_name_cannot_break_out_of_its_line() {
        let text = OneLine("eve>, rp=0\nsession 2").to_string();

        assert_eq!("eve\\u{3e}, rp=0\\u{a}session 2", text);
    }

    #[test]
    fn a_report_is_due_each_4096_packets() {
        let mut usage = Usage::default();
        usage.client.received(4000, 4000);
        usage.peer.sent(95, 95);
        assert!(!usage.is_due());
        usage.peer.sent(1, 1);
        assert!(usage.is_due());

        let account = Account::lasting("r".into(), "u".into());
        usage.report(&Logger::root(slog::Discard, slog::o!()), SessionId::new(0, 1), &account);

        assert!(!usage.is_due());
    }
}
