//! Why a packet went no further: one list for the whole server, so that every counter, log line and
//! test speaks of the same reasons by the same names.

use std::fmt;

/// Lists the reasons once: the enum, its names and its order all come from the same lines.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident = $name:literal,)+) => {
        /// Why a packet was discarded without an answer, or a connection closed. Silence is a
        /// decision: each is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $reason,)+
        }

        impl DropReason {
            /// Every reason, in the order of [`DropReason::index`].
            pub const ALL: [DropReason; DropReason::COUNT] = [$(DropReason::$reason,)+];

            /// How many reasons there are: the length of an array of counters.
            pub const COUNT: usize = [$(DropReason::$reason,)+].len();

            /// The reason's name in logs and counters. Names are an interface: they stay.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$reason => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The first byte belongs to no protocol served here.
    NotStun = "not_stun",
    /// The STUN header or the attribute framing is broken.
    Malformed = "malformed",
    /// FINGERPRINT is present and wrong.
    BadFingerprint = "bad_fingerprint",
    /// A response, or an indication of a method that has none.
    UnexpectedClass = "unexpected_class",
    /// A method this server does not know, in a message that gets no answer.
    UnknownMethod = "unknown_method",
    /// Data from a 5-tuple without a session.
    NoSession = "no_session",
    /// Data from a 5-tuple without an allocation, or for one that has ended.
    NoAllocation = "no_allocation",
    /// ChannelData on a channel that is not bound.
    UnboundChannel = "unbound_channel",
    /// No permission is installed for the peer's IP address.
    NoPermission = "no_permission",
    /// Data as for UDP peers, from the client of an allocation that relays TCP.
    TcpAllocation = "tcp_allocation",
    /// A peer's TCP connection beyond what the allocation may have.
    PeerConnectionsFull = "peer_connections_full",
    /// The allocation has no relayed transport address of the peer's family.
    PeerFamily = "peer_family",
    /// The peer rules refuse the address.
    PeerDenied = "peer_denied",
    /// Data for port 0, where nobody can listen.
    PeerPortZero = "peer_port_zero",
    /// ChannelData that is shorter than its length field claims.
    MalformedChannelData = "malformed_channel_data",
    /// A Send indication without a usable XOR-PEER-ADDRESS or DATA.
    MalformedIndication = "malformed_indication",
    /// An indication with an unknown comprehension-required attribute.
    UnknownAttribute = "unknown_attribute",
    /// The source has used up its unauthenticated answers for this second.
    RateLimited = "rate_limited",
    /// A limit on bytes per second is reached: the allocation's, the user's, the realm's or the
    /// server's.
    BandwidthExceeded = "bandwidth_exceeded",
    /// The receiving actor's mailbox is full.
    MailboxFull = "mailbox_full",
    /// The packet has passed as many relays and routers as it may.
    TtlExpired = "ttl_expired",
    /// The operating system refused the datagram.
    SendFailed = "send_failed",
    /// The socket's send buffer is full.
    SocketFull = "socket_full",
    /// The datagram did not fit the receive buffer.
    Truncated = "truncated",
    /// The payload does not fit the frame it would be relayed in.
    Oversized = "oversized",
    /// The listener serves as many sessions as it may.
    SessionsFull = "sessions_full",
    /// A request whose transaction is over.
    Replayed = "replayed",
    /// A record of DTLS from a client without a session of DTLS.
    NoDtlsSession = "no_dtls_session",
    /// A record of DTLS that its session may not see: broken, or not authenticated.
    BadDtlsRecord = "bad_dtls_record",
    /// A DTLS hello that is not gone into: its source has had its handshakes of this second, this
    /// wake-up has, or another handshake of its 5-tuple has just begun.
    HandshakesLimited = "handshakes_limited",
    /// An ICMP packet that says nothing about a datagram of ours.
    UnusableIcmp = "unusable_icmp",
    /// The server is stopping.
    ShuttingDown = "shutting_down",
    /// A connection beyond the limit of its listener.
    ConnectionsFull = "connections_full",
    /// A connection beyond the limit of those whose clients have proved nothing, in all or from one
    /// source; or the oldest of them, which has had its time, in a newcomer's favour.
    UnprovedFull = "unproved_full",
    /// A connection whose client has not proved itself, or asked for anything, in time.
    SetupTimeout = "setup_timeout",
    /// A connection on which a message did not come to its end in time.
    SlowWriter = "slow_writer",
    /// A connection whose client does not read what it has asked for.
    SlowReader = "slow_reader",
    /// A connection that continues with neither STUN nor ChannelData.
    BadFraming = "bad_framing",
    /// A connection that speaks HTTP.
    HttpRequest = "http_request",
    /// A connection whose TLS handshake failed.
    TlsFailed = "tls_failed",
    /// A TLS connection to a server without a certificate.
    TlsNotServed = "tls_not_served",
    /// A connection in plain TCP to a listener where clients have to show a certificate.
    PlainRefused = "plain_refused",
    /// A connection or datagram whose PROXY header is missing, malformed or impossible.
    ProxyHeader = "proxy_header",
    /// A connection or datagram from a source that is no trusted proxy.
    ProxyUntrusted = "proxy_untrusted",
    /// A connection in whose place a newer one of the same 5-tuple has come.
    ConnectionReplaced = "connection_replaced",
    /// A connection that the system could not hand over.
    AcceptFailed = "accept_failed",
    /// A connection that ended by a panic.
    ConnectionPanicked = "connection_panicked",
}

impl DropReason {
    /// The reason's place in an array of [`DropReason::COUNT`] counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::DropReason;

    #[test]
    fn every_reason_has_its_own_index_and_name() {
        let names: BTreeSet<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();

        assert_eq!(DropReason::COUNT, names.len());
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(place, reason.index());
        }
    }

    #[test]
    fn names_are_lower_snake_case() {
        for reason in DropReason::ALL {
            let name = reason.to_string();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        }
    }
}
