//! What the caller can choose.

use std::fmt;
use std::time::Duration;

use sterna_proto::address::Family;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::stun::{EvenPort, ReservationToken};

/// User name and password of the long-term credential mechanism. Time-limited credentials are used
/// the same way.
#[derive(Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password, as the user types it.
    pub password: String,
}

impl Credentials {
    /// A pair of them.
    pub fn new(username: &str, password: &str) -> Credentials {
        Credentials { username: username.to_owned(), password: password.to_owned() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How often a request is sent before the client gives up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retransmission {
    /// RTO: what passes before the first retransmission; each further interval is twice the last.
    pub interval: Duration,
    /// Rc: how many times the request is sent at most.
    pub sends: u32,
    /// Rm: how many times `interval` is waited after the last.
    pub last_wait: u32,
}

impl Retransmission {
    /// The figures for the open Internet: seven sends, failed after 39.5 seconds.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //# In fixed-line
    //# access links, a value of 500 ms is RECOMMENDED.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //# Rc SHOULD be configurable and
    //# SHOULD have a default of 7.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //# Rm SHOULD be configurable and SHOULD have a default of 16.
    pub const INTERNET: Retransmission =
        Retransmission { interval: Duration::from_millis(500), sends: 7, last_wait: 16 };

    /// For a server on the same machine: four sends, failed after 3.9 seconds.
    pub const LOOPBACK: Retransmission =
        Retransmission { interval: Duration::from_millis(300), sends: 4, last_wait: 6 };

    /// How long is waited in all. Over a reliable transport that is Ti, for the one send there is.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.2
    //# Ti SHOULD be
    //# configurable and SHOULD have a default of 39.5 s.
    pub fn total(self) -> Duration {
        self.waits().fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long is waited after each send over an unreliable transport.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
    //# A client SHOULD retransmit a STUN request message starting with an
    //# interval of RTO ("Retransmission TimeOut"), doubling after each
    //# retransmission.
    pub fn waits(self) -> impl Iterator<Item = Duration> {
        let Retransmission { interval, sends, last_wait } = self;
        (0..sends).map(move |send| {
            let times = if send + 1 == sends {
                last_wait
            } else {
                1_u32.checked_shl(send).unwrap_or(u32::MAX)
            };
            interval.saturating_mul(times)
        })
    }
}

/// How the client behaves in all that it does.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What is shown when the server asks; without it a challenge is an error.
    pub credentials: Option<Credentials>,
    /// When requests are sent again.
    pub retransmission: Retransmission,
    /// The password algorithm to take where the server offers a choice. `None` takes the first one
    /// that the server lists.
    pub password_algorithm: Option<PasswordAlgorithm>,
    /// SOFTWARE in every request, if any.
    pub software: Option<String>,
    /// Whether requests carry FINGERPRINT.
    pub fingerprint: bool,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            credentials: None,
            retransmission: Retransmission::INTERNET,
            password_algorithm: None,
            software: None,
            fingerprint: false,
        }
    }
}

impl ClientOptions {
    /// The default with the short time-outs of [`Retransmission::LOOPBACK`].
    pub fn loopback() -> ClientOptions {
        ClientOptions { retransmission: Retransmission::LOOPBACK, ..ClientOptions::default() }
    }
}

/// What an Allocate request asks for beyond a relayed transport address for UDP.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocateOptions {
    /// LIFETIME; the server has a default.
    pub lifetime: Option<Duration>,
    /// REQUESTED-ADDRESS-FAMILY; the server's default is IPv4.
    pub family: Option<Family>,
    /// ADDITIONAL-ADDRESS-FAMILY: one address of each family.
    pub additional_family: bool,
    /// EVEN-PORT.
    pub even_port: Option<EvenPort>,
    /// RESERVATION-TOKEN of an earlier allocation.
    pub reservation: Option<ReservationToken>,
    /// DONT-FRAGMENT: fail where the server cannot set DF.
    pub dont_fragment: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_gives_up_after_thirty_nine_and_a_half_seconds() {
        //= https://www.rfc-editor.org/rfc/rfc8489#section-6.2.1
        //= type=test
        //# For example, assuming an
        //# RTO of 500 ms, requests would be sent at times 0 ms, 500 ms, 1500 ms,
        //# 3500 ms, 7500 ms, 15500 ms, and 31500 ms.  If the client has not
        //# received a response after 39500 ms, the client will consider the
        //# transaction to have timed out.
        let mut sent_at = Vec::new();
        let mut time = Duration::ZERO;
        for wait in Retransmission::INTERNET.waits() {
            sent_at.push(time.as_millis());
            time += wait;
        }
        assert_eq!(vec![0, 500, 1500, 3500, 7500, 15_500, 31_500], sent_at);
        assert_eq!(Duration::from_millis(39_500), time);
        assert_eq!(time, Retransmission::INTERNET.total());
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Credentials::new("alice", "secret"));
        assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }
}
