//! What a record looks like, and that none is lost.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use slog::{debug, info, warn};

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(level: Level, format: LogFormat, write: impl FnOnce(&Logger)) -> Vec<String> {
    let out = Shared::default();
    let log = start_on(&LogConfig { level, format }, out.clone());
    write(&log.logger);
    drop(log);
    let bytes = out.0.lock().expect("no writer panics").clone();
    String::from_utf8(bytes).expect("the log is UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn text_is_time_level_message_and_fields_in_their_order() {
    let lines = logged(Level::Info, LogFormat::Text, |log| {
        info!(log, "allocation made"; "session" => 7, "relayed" => "192.0.2.1:50000");
    });

    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let (time, rest) = line.split_at(24);
    assert!(time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok(), "{line}");
    assert_eq!(" INFO allocation made, session: 7, relayed: 192.0.2.1:50000", rest);
}

#[test]
fn json_is_flat_and_one_object_a_line() {
    let lines = logged(Level::Info, LogFormat::Json, |log| {
        let log = log.new(o!("realm" => "r"));
        warn!(log, "a \"quoted\"\nmessage"; "packets" => 4096_u64, "user" => "eve\n");
    });

    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let object: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
    assert_eq!(object["level"], "WARN");
    assert_eq!(object["message"], "a \"quoted\"\nmessage");
    assert_eq!(object["packets"], 4096);
    assert_eq!(object["user"], "eve\n");
    assert_eq!(object["realm"], "r");
    let time = object["time"].as_str().expect("the time is text");
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
}

#[test]
fn a_value_cannot_write_a_line_of_its_own() {
    let lines = logged(Level::Info, LogFormat::Text, |log| {
        let user = "eve\n2026-01-01T00:00:00.000Z CRIT all is lost\u{1b}[2J\u{2028}";
        info!(log, "refused\r"; "user" => user);
    });

    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.contains(r"refused\r, user: eve\n2026-01-01"), "{line}");
    assert!(line.ends_with(r"\u{1b}[2J\u{2028}"), "{line}");
}

#[test]
fn less_severe_records_are_not_shown() {
    let lines = logged(Level::Info, LogFormat::Text, |log| {
        debug!(log, "not shown");
        info!(log, "shown");
    });

    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.ends_with(" INFO shown"), "{line}");
}

#[test]
fn what_was_logged_is_written_before_the_log_ends() {
    let records = QUEUE / 2;
    let lines = logged(Level::Info, LogFormat::Text, |log| {
        for number in 0..records {
            info!(log, "record"; "number" => number);
        }
    });

    assert_eq!(records, lines.len());
}

/// Writes when the gate is open, as a pipe does whose reader sleeps at times; tells of each record.
struct Gated(Shared, Arc<Mutex<()>>, mpsc::Sender<()>);

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.1.lock().expect("the gate's keeper does not panic");
        let written = self.0.write(bytes)?;
        for _ in bytes.iter().take(written).filter(|byte| **byte == b'\n') {
            // Nobody listens any more when the test has seen enough.
            let _ = self.2.send(());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_find_the_queue_full_are_dropped_and_counted() {
    let (out, gate, (told, written)) = (Shared::default(), Arc::default(), mpsc::channel());
    let config = LogConfig { level: Level::Info, format: LogFormat::Text };
    let log = start_on(&config, Gated(out.clone(), Arc::clone(&gate), told));
    let closed = gate.lock().expect("nobody has it yet");
    for _ in 0..2 * QUEUE {
        info!(log.logger, "record");
    }
    drop(closed);
    for _ in 0..QUEUE {
        written.recv_timeout(Duration::from_secs(60)).expect("the open gate lets the queue out");
    }
    info!(log.logger, "next");
    drop(log);

    let bytes = out.0.lock().expect("no writer panics").clone();
    let text = String::from_utf8(bytes).expect("the log is UTF-8");
    let written = text.matches(" INFO record\n").count();
    // The thread holds some that are in the queue no more: one, and what it has gathered until it
    // found the gate closed. A report takes the place of a record.
    let gathered = GATHERED_MAX / " INFO record\n".len();
    assert!((QUEUE - 1..=QUEUE + 1 + gathered).contains(&written), "{written}");
    assert!(written < 2 * QUEUE, "{written}");
    let count = |line: &str| {
        line.split_once("log records were dropped, dropped: ")?.1.parse::<usize>().ok()
    };
    let reported: usize = text.lines().filter_map(count).sum();
    assert_eq!(2 * QUEUE - written, reported);
    assert!(text.ends_with(" INFO next\n"));
}
