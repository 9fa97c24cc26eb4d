//! A log that is kept, for tests of what stands in it.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use slog::{Drain, KV, Key, Logger, Never, OwnedKVList, Record, Serializer, o};

/// The records of one server, a line each, at every level.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn logger(&self) -> Logger {
        Logger::root(self.clone().fuse(), o!())
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no writer panics").clone()
    }

    /// Whether any record has `text` in it.
    pub(crate) fn have(&self, text: &str) -> bool {
        self.all().iter().any(|line| line.contains(text))
    }
}

impl Drain for Lines {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut line = format!("{} {}", record.level().as_short_str(), record.msg());
        // Writing into a string does not fail.
        let _ = record.kv().serialize(record, &mut Fields(&mut line));
        let _ = values.serialize(record, &mut Fields(&mut line));
        self.0.lock().expect("no writer panics").push(line);
        Ok(())
    }
}

struct Fields<'a>(&'a mut String);

impl Serializer for Fields<'_> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}
