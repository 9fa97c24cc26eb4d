//! Runs the binary in an empty home, with an empty environment, and never for longer than
//! [`PATIENCE`].

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Far longer than anything here takes on a machine that does nothing else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a stop may take: the two seconds that are promised, and a busy machine's slowness.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(8);

/// A folder of the test's own, which is home and working directory of what runs in it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        Home(tempfile::tempdir().expect("the test may make folders"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("the folder is the test's own");
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.args(arguments).current_dir(self.path());
        command.env_clear().env("HOME", self.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        run(self.command(arguments), "")
    }

    /// Starts a relay with this turn.yaml, and waits until it is ready.
    pub(crate) fn serve(&self, yaml: &str) -> Daemon {
        let path = self.write("turn.yaml", yaml);
        let mut command = self.command(&["serve", "-c"]);
        command.arg(path);
        let mut daemon = Daemon::spawn(command);
        daemon.wait_for("ready");
        daemon
    }
}

/// What a command that came to its end left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    /// The one line on standard error.
    pub(crate) fn error_line(&self) -> &str {
        let mut lines = self.err.lines();
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with("sterna: "), "{self:?}");
        assert_eq!(None, lines.next(), "{self:?}");
        line
    }
}

pub(crate) fn run(mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that reads nothing may be gone before all of it is written.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let out = collect(child.stdout.take().expect("it is piped"));
    let err = collect(child.stderr.take().expect("it is piped"));
    let status = Exit::of(child).wait(PATIENCE);
    let text = |from: Receiver<String>| from.recv_timeout(PATIENCE).expect("the stream ended");
    Finished { code: status.code(), out: text(out), err: text(err) }
}

fn collect(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, text) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = tell.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    text
}

/// The end of a process, which a thread of its own waits for.
pub(crate) struct Exit {
    pid: Pid,
    status: Receiver<ExitStatus>,
}

impl Exit {
    pub(crate) fn of(mut child: Child) -> Exit {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32"));
        let (tell, status) = mpsc::channel();
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = tell.send(status);
            }
        });
        Exit { pid, status }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the process is there");
    }

    /// The status, if the process ends in time.
    pub(crate) fn within(&self, time: Duration) -> Option<ExitStatus> {
        self.status.recv_timeout(time).ok()
    }

    pub(crate) fn wait(&self, time: Duration) -> ExitStatus {
        self.within(time).unwrap_or_else(|| {
            let _ = kill(self.pid, Signal::SIGKILL);
            panic!("the process did not end within {time:?}")
        })
    }
}

/// A running relay.
pub(crate) struct Daemon {
    exit: Exit,
    out: Receiver<String>,
    err: Receiver<String>,
    /// What it has logged as far as somebody waited for it.
    pub(crate) log: Vec<String>,
    is_over: bool,
}

impl Daemon {
    pub(crate) fn spawn(mut command: Command) -> Daemon {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let out = lines(child.stdout.take().expect("it is piped"));
        let err = lines(child.stderr.take().expect("it is piped"));
        Daemon { exit: Exit::of(child), out, err, log: Vec::new(), is_over: false }
    }

    /// Waits for a line of the log that has `text` in it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.err.recv_timeout(PATIENCE) else {
                panic!("no {text:?} in {:#?}", self.log);
            };
            self.log.push(line.clone());
            if says(&line, text) {
                return line;
            }
        }
    }

    /// The next line of standard output.
    pub(crate) fn out_line(&self) -> Option<String> {
        self.out.recv_timeout(PATIENCE).ok()
    }

    /// The address that the log says is listened on for UDP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of("udp")
    }

    /// The first address that the log says is listened on for `scheme`.
    pub(crate) fn address_of(&self, scheme: &str) -> SocketAddr {
        let ready = self.log.iter().find(|line| says(line, "ready")).expect("it is ready");
        let url = format!("{scheme}://");
        ready
            .split([' ', ',', '"'])
            .find_map(|word| word.strip_prefix(&url)?.parse().ok())
            .unwrap_or_else(|| panic!("no {url} in {ready}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.exit.signal(signal);
    }

    /// The process alone, where its end is all that counts.
    pub(crate) fn into_exit(mut self) -> Exit {
        self.is_over = true;
        let pid = self.exit.pid;
        let (_, never) = mpsc::channel();
        std::mem::replace(&mut self.exit, Exit { pid, status: never })
    }

    /// Waits for the end and takes what is left of the log.
    pub(crate) fn finish(&mut self) -> ExitStatus {
        let status = self.exit.wait(STOP_WITHIN);
        self.is_over = true;
        self.log.extend(self.err.iter());
        status
    }

    /// TERM, and the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let status = self.finish();
        assert_eq!(None, status.signal(), "it ends by itself");
        status.code()
    }
}

// A test that fails half-way leaves no relay behind.
impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = kill(self.exit.pid, Signal::SIGKILL);
        }
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Whether `text` is in the line, and does not begin within a word: who is known already is not
/// ready.
fn says(line: &str, text: &str) -> bool {
    let begins_a_word =
        |at| line.get(..at).is_some_and(|head| !head.ends_with(char::is_alphabetic));
    line.match_indices(text).any(|(at, _)| begins_a_word(at))
}
