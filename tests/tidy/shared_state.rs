//! No lock and no shared state between the client's socket and the peer's: what belongs to an actor
//! is its own, and others ask by message. In `proto` and `actors` nothing is named that two threads
//! could meet at, but for the exceptions below.
//!
//! What this cannot see is what libraries do inside. actix counts a mailbox with atomics, and
//! whoever reads it spins while a sender on another thread is in the middle of a push; tokio has a
//! lock for each socket and for its timers, which no other thread of ours asks for.
//! `tests/wire/alone.rs` shows that data waits for no other thread.

use std::collections::BTreeSet;

use crate::rust_text::{is_word, line_of, words};
use crate::tree::{File, Finding};

/// Where data passes, and all that stands beside it.
const FOLDERS: [&str; 2] = ["proto/src", "actors/src"];

/// All that may be named of a module `sync`, whether of std, of tokio or of another crate: what is
/// shared and never changed, and a box with one owner.
const OF_SYNC: [&str; 3] = ["Arc", "Weak", "ReusableBoxFuture"];

/// What is refused wherever it comes from.
const REFUSED: [&str; 30] = [
    // Locks, and what waits.
    "Mutex",
    "RwLock",
    "ReentrantLock",
    "Condvar",
    "Barrier",
    "Semaphore",
    "parking_lot",
    "spin",
    // What is shared for reading and changes behind the reader.
    "arc_swap",
    "ArcSwap",
    "left_right",
    "UnsafeCell",
    "SyncUnsafeCell",
    // Counts that other threads change.
    "strong_count",
    "weak_count",
    // Maps that several threads write.
    "dashmap",
    "DashMap",
    "flurry",
    "papaya",
    "scc",
    "moka",
    "sharded_slab",
    "crossbeam",
    // Globals.
    "OnceLock",
    "LazyLock",
    "OnceCell",
    "LazyCell",
    "once_cell",
    "lazy_static",
    "thread_local",
];

/// A file that names one of these things, and why no packet waits for it.
struct Exception {
    path: &'static str,
    names: &'static [&'static str],
    /// Stands here to be read: an exception without a reason is none.
    _why: &'static str,
}

const EXCEPTIONS: [Exception; 12] = [
    Exception { path: "actors/src/config.rs", names: &["watch"], _why: CERTIFICATES },
    Exception { path: "actors/src/socket/stream/shared.rs", names: &["watch"], _why: CERTIFICATES },
    Exception { path: "actors/src/socket/dtls/listen.rs", names: &["watch"], _why: CERTIFICATES },
    Exception { path: "actors/src/server.rs", names: &["mpsc", "oneshot"], _why: START_AND_END },
    Exception { path: "actors/src/listener.rs", names: &["oneshot"], _why: START_AND_END },
    Exception { path: "actors/src/listener/ending.rs", names: &["oneshot"], _why: START_AND_END },
    Exception {
        path: "actors/src/allocation/tcp_relay.rs",
        names: &["oneshot", "watch"],
        _why: "the one gives up connecting; of the other see below",
    },
    Exception { path: "actors/src/peer_connection.rs", names: &["watch"], _why: PACED },
    Exception { path: "actors/src/peer_connection/pace.rs", names: &["watch"], _why: PACED },
    Exception {
        path: "actors/src/port_allocator/directory.rs",
        names: &["strong_count", "AtomicUsize", "atomic"],
        _why: "whether a lease has ended and how much waits behind it; nobody waits for either",
    },
    Exception {
        path: "actors/src/socket/proxied.rs",
        names: &["strong_count"],
        _why: "of an Rc, which is one thread's",
    },
    Exception {
        path: "actors/src/pacing.rs",
        names: &["AtomicU64", "atomic"],
        _why: "one for each arbiter, which no other thread reads or writes",
    },
];

const CERTIFICATES: &str = "certificates: looked at when a client connects, written at a renewal";
const START_AND_END: &str = "an arbiter starts, a listener has ended or has failed too often";
const PACED: &str = "a client's data connection may be on another worker than its allocation, which \
                     says here when its bytes become limited, and that it has ended; bytes that \
                     pass look whether the word is another one, and that takes no lock";

/// Each thing in `proto` and `actors` that threads could meet at, and each exception for nothing.
pub(crate) fn shared_state(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let checked = |file: &&File| FOLDERS.iter().any(|f| file.is_under(f)) && !file.is_test();
    for file in files.iter().filter(checked) {
        let excepted = |name: &str| exceptions_of(file).any(|excepted| excepted == name);
        let named = named_in(file).into_iter().filter(|(_, name)| !excepted(name));
        findings.extend(named.map(|(line, name)| {
            let what = format!("{name}: state belongs to one actor, and others ask by message");
            file.finding(line, RULE, what)
        }));
    }
    for exception in &EXCEPTIONS {
        let Some(file) = files.iter().find(|file| file.path == exception.path) else {
            let what = "an exception for a file that is not there".into();
            findings.push(Finding { path: exception.path.into(), line: 1, rule: RULE, what });
            continue;
        };
        let named = named_in(file);
        let idle = |name: &&&str| !named.iter().any(|(_, other)| other == **name);
        findings.extend(exception.names.iter().filter(idle).map(|name| {
            file.finding(1, RULE, format!("{name}: an exception that is not made use of"))
        }));
    }
    findings
}

fn exceptions_of(file: &File) -> impl Iterator<Item = &'static str> {
    let of_file = EXCEPTIONS.iter().filter(|exception| exception.path == file.path);
    of_file.flat_map(|exception| exception.names.iter().copied())
}

/// What the code of a file names of these things, and where; its tests may.
fn named_in(file: &File) -> BTreeSet<(usize, String)> {
    let Some(rust) = file.rust() else { return BTreeSet::new() };
    let code = rust.code.as_str();
    let mut found: Vec<(usize, String)> = of_sync(code);
    for word in REFUSED {
        found.extend(words(code, word).map(|at| (at, word.to_owned())));
    }
    found.extend(identifiers(code).filter(|(_, name)| name.starts_with("Atomic")).map(owned));
    found.extend(statics(code).map(|at| (at, "static".to_owned())));
    found.extend(shared_cells(code).map(|at| (at, "Arc<Cell>".to_owned())));
    for marker in ["Send", "Sync"] {
        let places = words(code, marker).filter(|at| is_promised(&code[..*at]));
        found.extend(places.map(|at| (at, format!("unsafe impl {marker}"))));
    }
    let lines = found.into_iter().map(|(at, name)| (line_of(code, at), name));
    lines.filter(|(line, _)| !rust.is_test_line(*line)).collect()
}

/// What is taken out of a module `sync`, one thing or a list of them.
fn of_sync(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "sync") {
        let rest = code[at + "sync".len()..].trim_start();
        let Some(rest) = rest.strip_prefix("::").map(str::trim_start) else {
            // The module itself, by whatever name it goes on.
            if code[..at].trim_end().ends_with("::") {
                found.push((at, "sync".to_owned()));
            }
            continue;
        };
        let names = match rest.strip_prefix('{') {
            Some(list) => names_of_list(list),
            None => vec![first_name(rest)],
        };
        let refused = names.into_iter().filter(|name| !OF_SYNC.contains(name));
        found.extend(refused.map(|name| (at, name.to_owned())));
    }
    found
}

/// The first name of each part of an import list, whose opening brace has been read.
fn names_of_list(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut names) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(first_name(list[from..at].trim_start()));
                from = at + 1;
            }
            _ => continue,
        }
        if c == '}' && from > at {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The name at the start of the text, or the character that stands in its place.
fn first_name(text: &str) -> &str {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let first = text.chars().next().map_or(0, char::len_utf8);
    &text[..end.max(first)]
}

fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut before = ' ';
    let starts = code.char_indices().filter(move |&(_, c)| {
        let start = is_word(c) && !is_word(before);
        before = c;
        start
    });
    starts.map(|(at, _)| (at, first_name(&code[at..])))
}

fn owned((at, name): (usize, &str)) -> (usize, String) {
    (at, name.to_owned())
}

/// Statics: a `const` has no address for threads to meet at. A lifetime is none.
fn statics(code: &str) -> impl Iterator<Item = usize> {
    words(code, "static").filter(|at| !code[..*at].ends_with('\''))
}

/// Where an `Arc` holds a cell, at whatever depth.
fn shared_cells(code: &str) -> impl Iterator<Item = usize> {
    words(code, "Arc").filter(|at| {
        let held = code[at + "Arc".len()..].trim_start().trim_start_matches("::").trim_start();
        held.starts_with('<')
            && identifiers(&held[..within_angles(held)]).any(|(_, name)| name.ends_with("Cell"))
    })
}

/// How far what begins with an angle bracket goes.
fn within_angles(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            ';' | '{' => return at,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Whether the code ends in an `unsafe impl`, which would let threads share what cannot be shared.
fn is_promised(before: &str) -> bool {
    let item = before.rsplit([';', '{', '}']).next().unwrap_or("");
    let mut promised = item.split_whitespace().skip_while(|word| *word != "unsafe");
    promised.next().is_some() && promised.next().is_some_and(|word| word.starts_with("impl"))
}

const RULE: &str = "shared state";

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, code: &str) -> Vec<String> {
        named_in(&File::new(path, code)).into_iter().map(|(_, name)| name).collect()
    }

    fn found(path: &str, code: &str) -> usize {
        let findings = shared_state(&[File::new(path, code)]);
        findings.iter().filter(|f| f.path == path && !f.what.contains("exception")).count()
    }

    #[test]
    fn what_threads_meet_at_is_seen() {
        for (name, code) in [
            ("Mutex", "use std::sync::Mutex;"),
            ("Mutex", "use std::sync::{Arc, Mutex as Guarded};"),
            ("Mutex", "use tokio::{net::UdpSocket, sync::{Mutex, oneshot}};"),
            ("Mutex", "let table = parking_lot::Mutex::new(1);"),
            ("RwLock", "struct A { table: Arc<RwLock<u8>> }"),
            ("parking_lot", "use parking_lot::FairMutex as M;"),
            ("dashmap", "fn f(map: &dashmap::DashMap<u8, u8>) {}"),
            ("mpsc", "let (a, b) = std::sync::mpsc::channel();"),
            ("watch", "use tokio::sync::\n    {oneshot, watch};"),
            ("Notify", "use tokio::sync::Notify;"),
            ("*", "use tokio::sync::*;"),
            ("sync", "use std::sync as s;"),
            ("self", "use std::sync::{self, Arc};"),
            ("atomic", "use std::sync::{Arc, atomic::{AtomicU64, Ordering}};"),
            ("AtomicU64", "use core::sync::atomic::AtomicU64 as Number;"),
            ("AtomicWaker", "use futures_util::task::AtomicWaker;"),
            ("OnceLock", "fn f() { static ONE: OnceLock<u8> = OnceLock::new(); }"),
            ("LazyLock", "use std::sync::LazyLock;"),
            ("static", "static mut COUNT: u8 = 0;"),
            ("static", "pub static TABLE: Table = Table::new();"),
            ("thread_local", "thread_local! { static A: Cell<u8> = const { Cell::new(0) }; }"),
            ("Arc<Cell>", "struct A(Arc<Cell<u8>>);"),
            ("Arc<Cell>", "fn f(a: Arc<HashMap<u8, RefCell<u8>>>) {}"),
            ("Arc<Cell>", "let a = Arc::<RefCell<u8>>::default();"),
            ("unsafe impl Sync", "unsafe impl Sync for Table {}"),
            ("unsafe impl Send", "unsafe impl<T: Copy> Send for Table<T> {}"),
        ] {
            let seen = named("actors/src/a.rs", code);
            assert!(seen.iter().any(|seen| seen == name), "{code}: {seen:?}");
            for folder in ["actors/src", "proto/src/stun"] {
                assert_ne!(0, found(&format!("{folder}/a.rs"), code), "{code}");
            }
        }
    }

    #[test]
    fn what_one_thread_has_is_its_own() {
        for code in [
            "use std::sync::Arc;",
            "use std::sync::{Arc, Weak};",
            "use std::{rc::Rc, sync::Arc};",
            "fn f(name: &'static str) -> Box<dyn Future + Send + 'static> {}",
            "struct A { table: Rc<RefCell<HashMap<u8, u8>>>, names: Arc<str> }",
            "fn f(a: Arc<str>, b: &Cell<u8>) {}",
            "let f: Arc<dyn Fn(u8) -> u8> = g; let c = Cell::new(0);",
            "self.link.watch(waker); file.sync();",
            "// A Mutex would do.\nlet text = \"static Mutex\";",
            "unsafe { recvmmsg(fd) }; fn f<T: Send + Sync>() {}",
            "#[cfg(test)]\nmod tests {\n    use std::sync::Mutex;\n}\n",
        ] {
            assert_eq!(Vec::<String>::new(), named("actors/src/a.rs", code), "{code}");
        }
    }

    #[test]
    fn other_layers_and_tests_may() {
        let code = "use std::sync::Mutex;";
        for path in ["src/logging.rs", "stores/src/pool.rs", "actors/src/socket/tests/a.rs"] {
            assert_eq!(0, found(path, code), "{path}");
        }
    }

    #[test]
    fn an_exception_is_for_one_name_in_one_file_and_not_for_nothing() {
        let path = EXCEPTIONS[0].path;
        assert_eq!(0, found(path, "use tokio::sync::watch;"));
        assert_eq!(1, found(path, "use tokio::sync::{watch, Notify};"));
        assert_eq!(1, found("actors/src/clock.rs", "use tokio::sync::watch;"));
        for files in [vec![], vec![File::new(path, "use std::sync::Arc;")]] {
            let findings = shared_state(&files);
            assert!(findings.iter().any(|f| f.path == path && f.what.contains("exception")));
        }
    }
}
