//! Why a measurement could not be made.

use std::io;

/// What stops a benchmark program, in words for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A socket, process or file of ours failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The relay refused or did not answer while allocations were set up.
    #[error("setting up the relay: {0}")]
    Relay(#[from] sterna_client::ClientError),
    /// The floor refused or did not answer.
    #[error("the floor: {0}")]
    Floor(&'static str),
    /// An argument does not make sense.
    #[error("{0}")]
    Argument(String),
    /// A plot could not be drawn.
    #[error("drawing: {0}")]
    Drawing(String),
    /// A program started by `compare` did not do its part.
    #[error("{program}: {problem}")]
    Program {
        /// Which one.
        program: String,
        /// What happened.
        problem: String,
    },
}

/// Says what was being done when a system call failed.
pub trait DuringExt<T> {
    /// Names the activity.
    fn during(self, what: &str) -> Result<T, BenchError>;
}

impl<T, E: Into<io::Error>> DuringExt<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, BenchError> {
        self.map_err(|source| BenchError::Io { what: what.to_owned(), source: source.into() })
    }
}
