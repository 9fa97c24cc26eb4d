//! The socket by which commands talk to the running server: a Unix socket in the state folder, for
//! the server's own user and root.
//!
//! A connection is one question and its answer, each line a JSON object: the answer's last one has
//! `done` or `error`.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slog::{Logger, debug, info, warn};
use sterna_actors::session::SessionId;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// What a command asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Question {
    /// Which sessions have an allocation.
    ListSessions,
    /// End one of them.
    EndSession {
        /// Its name in the log.
        session: String,
    },
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// A session.
    Session(SessionLine),
    /// All went well. For a session that was to be ended: whether it was there.
    Done {
        /// Whether something was done.
        done: bool,
    },
    /// The question was not understood or the server is about to stop.
    Error {
        /// Why.
        error: String,
    },
}

/// A session as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SessionLine {
    /// Its name in the log.
    pub(crate) session: String,
    /// The realm of its user.
    pub(crate) realm: String,
    /// Its user.
    pub(crate) username: String,
    /// The client's address.
    pub(crate) client: String,
    /// How long it has had its allocation, in seconds.
    pub(crate) age: u64,
}

/// Who knows the sessions.
pub(crate) trait Sessions {
    /// Those that have an allocation; `None` once nobody knows.
    async fn list(&self) -> Option<Vec<SessionLine>>;

    /// Ends one, and says whether it was there; `None` once nobody knows.
    async fn end(&self, session: SessionId) -> Option<bool>;
}

/// The socket, which is gone from the folder when this is dropped.
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Whose process this is.
    owner: u32,
}

impl Drop for Control {
    fn drop(&mut self) {
        // A file that stays is found to be nobody's by the next server.
        let _ = fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens in `folder`, unless another server does.
    pub(crate) fn open(folder: &Path) -> io::Result<Control> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = path_in(folder);
        // It is bound under another name and moved, so that nobody finds it with wider permissions
        // than it ends up with; who found the other name is turned away when accepted.
        let unfinished = folder.join(format!(".{SOCKET}.{}", std::process::id()));
        if StdStream::connect(&path).is_ok() {
            let why = "another server listens there; give each a state_folder of its own";
            return Err(io::Error::new(ErrorKind::AddrInUse, why));
        }
        let listener = StdListener::bind(&unfinished)?;
        let placed = fs::set_permissions(&unfinished, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&unfinished, &path));
        if let Err(cause) = placed {
            let _ = fs::remove_file(&unfinished);
            return Err(cause);
        }
        let owner = fs::metadata(&path)?.uid();
        listener.set_nonblocking(true)?;
        Ok(Control { listener: UnixListener::from_std(listener)?, path, owner })
    }

    /// Answers questions, one after the other.
    pub(crate) async fn serve(&self, sessions: &impl Sessions, log: &Logger) -> Infallible {
        loop {
            let served = match self.listener.accept().await {
                Ok((stream, _)) if !self.may_ask(&stream) => {
                    debug!(log, "control connection of another user refused");
                    continue;
                }
                Ok((stream, _)) => timeout(QUESTION_MAX, serve(stream, sessions, log)).await,
                Err(cause) => {
                    warn!(log, "control socket"; "cause" => %cause);
                    // Out of descriptors, most likely; trying at once would find none either.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            match served {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => debug!(log, "control connection ended"; "cause" => %cause),
                Err(_) => debug!(log, "control connection took too long"),
            }
        }
    }
}

impl Control {
    /// The file's mode says the same, but for the moment before it has that.
    fn may_ask(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid(), self.owner))
    }
}

fn is_trusted(peer: u32, owner: u32) -> bool {
    peer == owner || peer == ROOT
}

async fn serve(stream: UnixStream, sessions: &impl Sessions, log: &Logger) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let bounded = tokio::io::BufReader::new(reader.take(LINE_MAX));
    let mut bounded = bounded;
    bounded.read_line(&mut line).await?;
    let mut answer = String::new();
    for line in answer_to(&line, sessions, log).await {
        answer.push_str(&serde_json::to_string(&line)?);
        answer.push('\n');
    }
    writer.write_all(answer.as_bytes()).await?;
    writer.shutdown().await
}

async fn answer_to(line: &str, sessions: &impl Sessions, log: &Logger) -> Vec<Line> {
    let error = |why: &str| vec![Line::Error { error: why.to_owned() }];
    match serde_json::from_str(line) {
        Err(cause) => error(&format!("not understood: {cause}")),
        Ok(Question::ListSessions) => match sessions.list().await {
            None => error(STOPPING),
            Some(listed) => {
                let lines = listed.into_iter().map(Line::Session);
                lines.chain([Line::Done { done: true }]).collect()
            }
        },
        Ok(Question::EndSession { session }) => {
            let Ok(id) = session.parse::<SessionId>() else {
                return error("that is no session; `sterna session list` names them");
            };
            info!(log, "told to end a session"; "session" => %id);
            match sessions.end(id).await {
                Some(done) => vec![Line::Done { done }],
                None => error(STOPPING),
            }
        }
    }
}

/// Asks the server whose state folder this is.
pub(crate) fn ask(folder: &Path, question: &Question) -> io::Result<Vec<Line>> {
    let mut stream = StdStream::connect(path_in(folder))?;
    stream.set_read_timeout(Some(QUESTION_MAX))?;
    stream.set_write_timeout(Some(QUESTION_MAX))?;
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        lines.push(serde_json::from_str(&line?)?);
    }
    Ok(lines)
}

/// Where the socket is.
pub(crate) fn path_in(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

const ROOT: u32 = 0;

const SOCKET: &str = "control.sock";

const STOPPING: &str = "the server is about to stop";

/// A question names one session at most.
const LINE_MAX: u64 = 4096;

/// What a question and its answer may take; the next one waits for so long.
const QUESTION_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
