//! The log, kept: scripts ask for what has to stand in it, and nothing that warns may be left over.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use slog::{Drain, KV, Key, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// All records of a script.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    pub(crate) fn logger(&self) -> Logger {
        Logger::root(self.clone().fuse(), o!())
    }

    /// Takes out the first record of this level with this text in its message; there has to be one.
    pub(crate) fn expects(&self, level: Level, text: &str) -> Line {
        let mut lines = self.lines();
        let place =
            lines.iter().position(|line| line.level == level && line.message.contains(text));
        let place = place.unwrap_or_else(|| panic!("no {level} says {text:?}: {lines:#?}"));
        lines.remove(place)
    }

    /// Somebody at this address has failed to log in, which is told in the words that others read.
    pub(crate) fn expects_failed_login(&self, user: &str, client: SocketAddr, reason: &str) {
        let realm = super::REALM;
        let text = format!(
            "auth failed: realm=<{realm}> username=<{user}> client=<{client}> reason=<{reason}>"
        );
        self.expects(Level::Warning, &text);
    }

    /// Takes out the messages with this text in them, in their order.
    pub(crate) fn takes(&self, text: &str) -> Vec<String> {
        let mut lines = self.lines();
        lines.extract_if(.., |line| line.message.contains(text)).map(|line| line.message).collect()
    }

    /// All records that are left, but for those at debug level and below.
    pub(crate) fn above_debug(&self) -> Vec<Line> {
        let mut lines = self.lines().clone();
        lines.retain(|line| line.level.is_at_least(Level::Info));
        lines
    }

    /// Nobody has warned of anything that the script did not expect.
    pub(crate) fn is_calm(&self) {
        let mut alarms = self.lines();
        alarms.retain(|line| line.level.is_at_least(Level::Warning));
        assert!(alarms.is_empty(), "unexpected: {alarms:#?}");
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drain for Log {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut fields = Fields(BTreeMap::new());
        // Keeping text in a map does not fail.
        let _ = record.kv().serialize(record, &mut fields);
        let _ = values.serialize(record, &mut fields);
        let message = record.msg().to_string();
        self.lines().push(Line { level: record.level(), message, fields: fields.0 });
        Ok(())
    }
}

struct Fields(BTreeMap<String, String>);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }
}
