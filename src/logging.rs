//! The log: structured, asynchronous, on standard error.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use slog::{
    Drain, FnValue, Level, LevelFilter, Logger, Never, OwnedKVList, PushFnValue, Record, b, o,
    record,
};
use slog_async::{AsyncCore, AsyncGuard};
use slog_json::Json;
use slog_term::{Decorator, FullFormat, RecordDecorator};
use sterna_actors::clock::unix_now;

use crate::config::{LogConfig, LogFormat};

/// A running log. What was logged is written out when this is dropped.
pub struct Log {
    /// Where to log to.
    pub logger: Logger,
    /// How long dropping this waits for the log to be written: nobody may be reading it.
    pub flush_within: Duration,
    guard: Option<AsyncGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.guard.take();
        let (done, written) = mpsc::channel();
        thread::spawn(move || {
            // Joins the log's thread, which first empties its queue.
            drop(guard);
            // Nobody waits any more where this took too long.
            let _ = done.send(());
        });
        // What could not be written in time is lost, as it is where the pipe is closed.
        let _ = written.recv_timeout(self.flush_within);
    }
}

/// Starts the log on standard error.
pub fn start(config: &LogConfig) -> Log {
    start_on(config, io::stderr())
}

fn start_on(config: &LogConfig, out: impl Write + Send + 'static) -> Log {
    let out = Gathered::new(out);
    let written = match config.format {
        LogFormat::Text => asynchronous(text(out.clone()), out),
        LogFormat::Json => asynchronous(json(out.clone()), out),
    };
    let (queued, guard) = written;
    // Filtered on this side of the queue, so that what nobody wants to see takes no room in it.
    // Records that come after the log's end are lost: an actor must not fail because it logs.
    let drain = LevelFilter::new(queued, config.level).ignore_res();
    Log { logger: Logger::root(drain, o!()), flush_within: FLUSH_WITHIN, guard: Some(guard) }
}

fn asynchronous<W: Write + Send + 'static>(
    drain: impl Drain<Ok = (), Err = io::Error> + Send + 'static,
    out: Gathered<W>,
) -> (Queue, AsyncGuard) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let writer = Writer { drain, out, waiting: waiting.clone() };
    // A log that cannot be written, because its pipe is closed, must not end the calls.
    let (queue, guard) = AsyncCore::custom(writer.ignore_res())
        .chan_size(QUEUE)
        .thread_name("sterna-log".to_owned())
        .build_with_guard();
    (Queue { queue, waiting, dropped: AtomicU64::new(0) }, guard)
}

/// Writes on the log's thread. What waits together is written in one call, and before the last of
/// it is, what comes meanwhile has some time: waking this thread for each line and writing it alone
/// would cost those who log a good part of what an allocation costs.
struct Writer<D, W: Write> {
    drain: D,
    out: Gathered<W>,
    waiting: Arc<AtomicUsize>,
}

impl<D: Drain<Ok = (), Err = io::Error>, W: Write> Drain for Writer<D, W> {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> io::Result<()> {
        let gathered = self.drain.log(record, values);
        if self.waiting.fetch_sub(1, Ordering::AcqRel) > 1 {
            return gathered;
        }
        // Bad news is written at once.
        if !record.level().is_at_least(Level::Warning) {
            #[expect(clippy::disallowed_methods, reason = "the log's thread serves nobody")]
            thread::sleep(GATHER_FOR);
        }
        gathered.and(self.out.inner().flush())
    }
}

/// The log's output, which the [`Writer`] alone flushes.
struct Gathered<W: Write>(Arc<Mutex<BufWriter<W>>>);

impl<W: Write> Gathered<W> {
    fn new(out: W) -> Gathered<W> {
        Gathered(Arc::new(Mutex::new(BufWriter::with_capacity(GATHERED_MAX, out))))
    }

    fn inner(&self) -> MutexGuard<'_, BufWriter<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Clone for Gathered<W> {
    fn clone(&self) -> Gathered<W> {
        Gathered(self.0.clone())
    }
}

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The queue to the log's thread. It makes nobody wait: what finds it full is dropped and counted.
///
/// `slog_async::Async` does the same, but counts a record twice that finds a report of earlier
/// drops in its way.
struct Queue {
    queue: AsyncCore,
    /// Records in the queue, those that are about to be included.
    waiting: Arc<AtomicUsize>,
    dropped: AtomicU64,
}

impl Drain for Queue {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.report_dropped(values);
        if !self.takes(record, values) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Queue {
    fn takes(&self, record: &Record<'_>, values: &OwnedKVList) -> bool {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let taken = self.queue.log(record, values).is_ok();
        if !taken {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }

    fn report_dropped(&self, values: &OwnedKVList) {
        if self.dropped.load(Ordering::Relaxed) == 0 {
            return;
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let message = format_args!("log records were dropped");
        let fields = b!("dropped" => dropped);
        if !self.takes(&record!(Level::Warning, "", &message, fields), values) {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }
}

fn text(out: impl Write + Send + 'static) -> impl Drain<Ok = (), Err = io::Error> + Send {
    FullFormat::new(OneLine::new(out))
        .use_custom_timestamp(|out: &mut dyn Write| out.write_all(timestamp().as_bytes()))
        .use_original_order()
        .build()
}

fn json(out: impl Write + Send + 'static) -> impl Drain<Ok = (), Err = io::Error> + Send {
    Json::new(out)
        .add_key_value(o!(
            "message" => PushFnValue(|record: &Record<'_>, value| value.emit(record.msg())),
            "level" => FnValue(|record: &Record<'_>| record.level().as_short_str()),
            "time" => FnValue(|_: &Record<'_>| timestamp()),
        ))
        .build()
}

fn timestamp() -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + unix_now()).to_string()
}

/// Writes a record as one line, whatever is in it.
///
/// User names, realms and SOFTWARE come from the network. With a line break in one of them, a
/// client could otherwise write log lines of its own; with an escape sequence, talk to the reader's
/// terminal.
struct OneLine<W>(Mutex<W>);

impl<W: Write> OneLine<W> {
    fn new(out: W) -> OneLine<W> {
        OneLine(Mutex::new(out))
    }
}

impl<W: Write> Decorator for OneLine<W> {
    fn with_record<F>(&self, _: &Record<'_>, _: &OwnedKVList, write: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        let mut line = Line(Vec::new());
        write(&mut line)?;
        let mut escaped = escape(String::from_utf8_lossy(&line.0).trim_end_matches('\n'));
        escaped.push('\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(escaped.as_bytes())?;
        out.flush()
    }
}

struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RecordDecorator for Line {
    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        // Line and paragraph separators are no control characters, but some viewers break at them.
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Records that wait to be written. Further ones are dropped, counted, and the count is logged.
const QUEUE: usize = 8192;

/// How long lines wait for others. Their times are those of this thread and may be so much late.
const GATHER_FOR: Duration = Duration::from_millis(2);

/// Bytes of the log that wait to be written together.
const GATHERED_MAX: usize = 64 << 10;

/// Time enough for a full queue and a slow disk.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
