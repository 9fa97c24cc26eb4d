//! How a connection ends.

use std::fmt;
use std::io;

use sterna_proto::drops::DropReason;

/// How a connection has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client has closed it.
    ByClient,
    /// The network has.
    Broken(io::Error),
    /// The server has, for a reason that is counted.
    Refused(DropReason),
    /// The server has, for a reason that is counted, and this is what the client did.
    Faulty(DropReason, String),
    /// The server stops.
    Stopping,
}

impl Ended {
    /// What it is counted as.
    pub(super) fn reason(&self) -> Option<DropReason> {
        match self {
            Ended::Refused(reason) | Ended::Faulty(reason, _) => Some(*reason),
            Ended::ByClient | Ended::Broken(_) | Ended::Stopping => None,
        }
    }
}

impl From<io::Error> for Ended {
    /// What a read or a write says.
    fn from(error: io::Error) -> Ended {
        match error.kind() {
            // A TLS client that goes without a close_notify has gone all the same: messages say
            // themselves where they end.
            io::ErrorKind::UnexpectedEof => Ended::ByClient,
            _ => Ended::Broken(error),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::ByClient => f.write_str("closed by the client"),
            Ended::Broken(error) => error.fmt(f),
            Ended::Refused(reason) => reason.fmt(f),
            Ended::Faulty(reason, what) => write!(f, "{reason}: {what}"),
            Ended::Stopping => f.write_str("the server stops"),
        }
    }
}
