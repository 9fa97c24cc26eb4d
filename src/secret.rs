//! What must not reach a log, a message or a screen.

use std::fmt;

/// A secret. Neither its `Debug` nor anything else here shows it, but [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Takes it into custody.
    pub fn new(secret: T) -> Secret<T> {
        Secret(secret)
    }

    /// The secret, for the place that signs or checks with it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

/// What stands in the place of a secret wherever one would be shown. Refused as a secret, so that a
/// printed configuration cannot be started with a password that everybody knows.
pub const SHOWN: &str = "<redacted>";
