//! One wrong key or value.

use std::fmt;

/// What is wrong with the configuration: the key and, in one sentence, why and what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    key: String,
    why: String,
}

impl Fault {
    /// A fault of one key.
    pub fn new(key: &str, why: &str) -> Fault {
        Fault { key: key.to_owned(), why: one_line(why) }
    }

    /// A fault of the file as a whole.
    pub fn whole(why: &str) -> Fault {
        Fault::new("", why)
    }

    /// The full path of the key, empty where the whole file is at fault.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return f.write_str(&self.why);
        }
        // A key can be a user name of anybody's choice, with line breaks in it.
        write!(f, "{}: {}", self.key.escape_debug(), self.why)
    }
}

impl std::error::Error for Fault {}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
