//! Questions as bytes over the socket.

use std::io::Read;
use std::sync::mpsc;

use slog::{Discard, o};

use super::*;

struct Two;

impl Sessions for Two {
    async fn list(&self) -> Option<Vec<SessionLine>> {
        let line = |session: &str| SessionLine {
            session: session.to_owned(),
            realm: "north".to_owned(),
            username: "bob".to_owned(),
            client: "192.0.2.1:5".to_owned(),
            age: 7,
        };
        Some(vec![line("000000000000000001"), line("000000000000000002")])
    }

    async fn end(&self, session: SessionId) -> Option<bool> {
        Some(session == SessionId::new(0, 1))
    }
}

/// Runs `test` on a thread while a server over [`Two`] answers in `folder`.
fn while_served<T: Send + 'static>(folder: &Path, test: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the test may have a runtime").block_on(async {
        let control = Control::open(folder).expect("the folder is ours");
        let (tell, told) = mpsc::channel();
        let testing = tokio::task::spawn_blocking(move || drop(tell.send(test())));
        let log = Logger::root(Discard, o!());
        tokio::select! {
            never = control.serve(&Two, &log) => match never {},
            done = testing => done.expect("the test does not panic"),
        }
        told.recv().expect("the test has told")
    })
}

#[test]
fn sessions_are_listed_and_ended() {
    let folder = tempfile::tempdir().expect("the test may make folders");
    let path = folder.path().to_owned();
    let end = |session: &str| Question::EndSession { session: session.to_owned() };

    let (listed, ended, missing, wrong) = while_served(folder.path(), move || {
        let ask = |question| ask(&path, &question).expect("the server answers");
        let ended = ask(end("000000000000000001"));
        (ask(Question::ListSessions), ended, ask(end("9")), ask(end("x")))
    });

    assert_eq!(3, listed.len());
    assert!(matches!(&listed[0], Line::Session(line) if line.session == "000000000000000001"));
    assert_eq!(vec![Line::Done { done: true }], ended);
    assert_eq!(vec![Line::Done { done: false }], missing);
    assert!(matches!(&wrong[..], [Line::Error { error }] if error.contains("no session")));
}

#[test]
fn what_is_no_question_is_answered_with_an_error() {
    let folder = tempfile::tempdir().expect("the test may make folders");
    let path = path_in(folder.path());

    let answers = while_served(folder.path(), move || {
        let ask = |bytes: &[u8]| {
            let mut stream = StdStream::connect(&path).expect("the server listens");
            let _ = stream.write_all(bytes);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        [ask(b"{}\n"), ask(b"\n"), ask(&[b'x'; 8192]), ask(&[0xff, b'\n'])]
    });

    assert!(answers[0].starts_with(r#"{"error":"not understood"#), "{answers:?}");
    assert!(answers[1].starts_with(r#"{"error":"not understood"#), "{answers:?}");
}

#[test]
fn the_socket_is_the_servers_own_and_the_only_one() {
    let folder = tempfile::tempdir().expect("the test may make folders");
    // What a server left behind that was killed.
    drop(StdListener::bind(path_in(folder.path())).expect("the folder is ours"));
    let path = folder.path().to_owned();

    let (mode, second) = while_served(folder.path(), move || {
        let mode = fs::metadata(path_in(&path)).expect("it is there").permissions().mode();
        (mode & 0o777, Control::open(&path).map(|_| ()).map_err(|cause| cause.kind()))
    });

    assert_eq!(0o600, mode);
    assert_eq!(Err(ErrorKind::AddrInUse), second);
    assert!(!path_in(folder.path()).exists(), "it is taken away at the end");
}

#[test]
fn the_servers_user_and_root_may_ask() {
    for (peer, owner, expected) in [(7, 7, true), (0, 7, true), (8, 7, false), (8, 0, false)] {
        assert_eq!(expected, is_trusted(peer, owner), "{peer} {owner}");
    }
}
