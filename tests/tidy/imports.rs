//! Imports point one way: `src → stores → actors → proto`, and the client knows proto alone.

use crate::rust_text::{line_of, words};
use crate::tree::{File, Finding};

/// What the code under a folder must not name.
struct Ban {
    folder: &'static str,
    words: &'static [&'static str],
    /// Tests may: they need a moment to begin at, or a neighbour to talk to.
    tests_may: bool,
    why: &'static str,
}

const BANS: [Ban; 7] = [
    Ban {
        folder: "proto",
        words: &["actix", "actix_rt", "tokio", "mio", "socket2", "nix", "libc", "slog"],
        tests_may: false,
        why: "proto does no I/O and knows no runtime",
    },
    Ban {
        folder: "proto",
        words: &["UdpSocket", "TcpStream", "TcpListener", "ToSocketAddrs"],
        tests_may: false,
        why: "proto opens no socket",
    },
    Ban {
        folder: "proto",
        words: &["Instant::now", "SystemTime", "thread", "rand", "getrandom"],
        tests_may: true,
        why: "proto has no clock, no thread and no randomness of its own",
    },
    Ban {
        folder: "proto",
        words: &["sterna", "sterna_actors", "sterna_stores", "sterna_client", "sterna_bench"],
        tests_may: false,
        why: "proto imports none of our crates",
    },
    Ban {
        folder: "stores",
        words: &["sterna", "sterna_client", "sterna_bench", "actix", "actix_rt"],
        tests_may: false,
        why: "of our crates stores imports actors and proto, and it has no actors",
    },
    Ban {
        folder: "actors",
        words: &["sterna", "sterna_stores", "sterna_client", "sterna_bench", "sqlx", "redis"],
        tests_may: false,
        why: "of our crates actors imports proto alone",
    },
    Ban {
        folder: "client",
        words: &["sterna", "sterna_actors", "sterna_stores", "sterna_bench", "actix", "actix_rt"],
        tests_may: false,
        why: "of our crates client imports proto alone, and it has no actors",
    },
];

pub(crate) fn check(file: &File) -> Vec<Finding> {
    let Some(rust) = file.rust() else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for ban in BANS.iter().filter(|ban| file.is_under(ban.folder)) {
        for word in ban.words {
            for line in words(&rust.code, word)
                .filter(|&at| is_path(&rust.code, at, word))
                .map(|at| line_of(&rust.code, at))
            {
                if !(ban.tests_may && (file.is_test() || rust.is_test_line(line))) {
                    findings.push(file.finding(line, RULE, format!("{word}: {}", ban.why)));
                }
            }
        }
    }
    findings
}

/// Whether the word at `at` is a type or a call, begins a path, or is imported; a lower-case word
/// may be a variable as well, or a module of our own deeper in a path.
fn is_path(code: &str, at: usize, word: &str) -> bool {
    if word.chars().any(char::is_uppercase) {
        return true;
    }
    let before = code[..at].trim_end();
    let statement = before.rsplit([';', '}']).next().unwrap_or("").trim_start();
    let import = ["use ", "use", "pub use ", "pub(crate) use ", "extern crate"]
        .iter()
        .any(|start| statement.starts_with(start));
    let std_list = statement.contains("use std::{") && before.ends_with(['{', ',']);
    let first = before.ends_with("std::") || !before.ends_with("::");
    let imported = import
        && (std_list
            || before.ends_with("std::")
            || ["use", "extern crate"].iter().any(|word| before.ends_with(word)));
    first && (imported || code[at + word.len()..].trim_start().starts_with("::"))
}

const RULE: &str = "import";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, code: &str) -> usize {
        check(&File::new(path, code)).len()
    }

    #[test]
    fn proto_knows_neither_runtime_nor_socket_nor_clock() {
        for code in [
            "use tokio::sync::mpsc;",
            "use actix::Actor;",
            "use std::net::{SocketAddr, UdpSocket};",
            "fn f() { std::net::TcpStream::connect(a); }",
            "fn f() { let now = Instant::now(); }",
            "use std::thread;",
            "use std::{fmt, thread};",
            "use tokio;",
            "extern crate rand;",
            "fn f() { rand::random::<u8>(); }",
            "use sterna_actors::Server;",
        ] {
            assert_eq!(1, found("proto/src/allocation.rs", code), "{code}");
        }
    }

    #[test]
    fn words_that_only_look_like_it_pass() {
        for code in [
            "//! No tokio:: here.",
            "use std::net::{IpAddr, SocketAddr};",
            "fn f(now: Instant) -> u64 { let rand = 1; rand }",
            "const A: &str = \"tokio::spawn\";",
            "use crate::tokio_like::A;",
        ] {
            assert_eq!(0, found("proto/src/allocation.rs", code), "{code}");
        }
    }

    #[test]
    fn a_test_of_proto_may_ask_for_a_moment_and_no_more() {
        assert_eq!(0, found("proto/tests/nonce.rs", "fn f() { Instant::now(); }"));
        assert_eq!(
            0,
            found("proto/src/a.rs", "#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }")
        );
        assert_eq!(1, found("proto/tests/nonce.rs", "use tokio::time;"));
    }

    #[test]
    fn actors_and_client_do_not_reach_upwards() {
        assert_eq!(1, found("actors/src/session.rs", "use sterna::config::Config;"));
        assert_eq!(1, found("actors/src/session.rs", "use sterna_client::Client;"));
        assert_eq!(0, found("actors/src/session.rs", "use sterna_proto::stun::Message;"));
        assert_eq!(1, found("actors/src/session.rs", "use sterna_stores::StoreUrl;"));
        assert_eq!(1, found("stores/src/lib.rs", "use sterna::config::Config;"));
        assert_eq!(1, found("stores/src/lib.rs", "use actix::Actor;"));
        assert_eq!(0, found("stores/src/lib.rs", "use sterna_actors::clock;"));
        assert_eq!(1, found("client/src/lib.rs", "use sterna_actors::Server;"));
        assert_eq!(1, found("client/src/lib.rs", "use actix::Actor;"));
        assert_eq!(
            0,
            found("client/src/lib.rs", "use sterna_proto::stun::Message;\nuse tokio::net;")
        );
    }

    #[test]
    fn the_daemon_may_import_all() {
        assert_eq!(
            0,
            found("src/main.rs", "use sterna_actors::Server;\nuse tokio::net::UdpSocket;")
        );
    }
}
