//! What holds for actors: the head of their files, and what of actix they do without.

use crate::rust_text::{is_word, line_of, words};
use crate::tree::{File, Finding};

/// The five lines in the head of an actor's file, in this order.
const FIVE_LINES: [&str; 5] = ["Owns", "Started by", "Hears from", "Stops when", "If it panics"];

/// The actors of the system, each in `actors/src/NAME.rs` or `actors/src/NAME/mod.rs`.
const ACTORS: [&str; 9] = [
    "port_allocator",
    "listener",
    "session",
    "allocation",
    "authenticator",
    "connection_broker",
    "quota_keeper",
    "store_actor",
    "policy_keeper",
];

/// Every actor has its file, and each file with an actor in it says the five things.
pub(crate) fn headers(files: &[File]) -> Vec<Finding> {
    let named = |path: &str| {
        let rest = path.strip_prefix("actors/src/")?;
        let name = rest.strip_suffix("/mod.rs").or_else(|| rest.strip_suffix(".rs"))?;
        ACTORS.into_iter().find(|&actor| actor == name)
    };
    let mut findings = Vec::new();
    for actor in ACTORS {
        if !files.iter().any(|file| named(&file.path) == Some(actor)) {
            let (path, what) =
                (format!("actors/src/{actor}.rs"), "the actor's file is missing".into());
            findings.push(Finding { path, line: 1, rule: HEAD, what });
        }
    }
    for file in files.iter().filter(|file| file.is_under("actors/src") && !file.is_test()) {
        if named(&file.path).is_some() || implements_actor(file) {
            findings.extend(header(file));
        }
    }
    findings
}

fn implements_actor(file: &File) -> bool {
    let Some(rust) = file.rust() else {
        return false;
    };
    let code = rust.code.lines().enumerate();
    code.filter(|(index, _)| !rust.is_test_line(index + 1))
        .any(|(_, line)| line.starts_with("impl") && line.contains("Actor for "))
}

fn header(file: &File) -> Vec<Finding> {
    let head: Vec<(usize, &str)> =
        file.lines().map_while(|(n, line)| Some((n, line.strip_prefix("//!")?))).collect();
    let (mut findings, mut from) = (Vec::new(), 0);
    for title in FIVE_LINES {
        match head[from..].iter().position(|(_, line)| says(line, title)) {
            Some(offset) => from += offset + 1,
            None => {
                let what = format!("the head of an actor's file says, in its place: {title}: …");
                findings.push(file.finding(1, HEAD, what));
            }
        }
    }
    findings
}

/// Whether the line names the title, with list marks or emphasis around it, and text behind it.
fn says(line: &str, title: &str) -> bool {
    let marks = [':', '*', '_', ' '];
    let text = line.trim_start_matches(|c: char| !c.is_alphabetic());
    let rest = text.strip_prefix(title).filter(|rest| rest.starts_with(marks));
    rest.is_some_and(|rest| !rest.trim_matches(marks).is_empty())
}

/// What of actix is not used, and the ways around supervision.
pub(crate) fn actix_use(file: &File) -> Vec<Finding> {
    let Some(rust) = file.rust() else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (word, why) in [
        ("SystemService", "a global actor has no owner; pass addresses"),
        ("ArbiterService", "a global actor has no owner; pass addresses"),
        ("from_registry", "a global actor has no owner; pass addresses"),
    ] {
        let places = words(&rust.code, word);
        findings.extend(
            places.map(|at| file.finding(line_of(&rust.code, at), ACTIX, format!("{word}: {why}"))),
        );
    }
    let restarts = "actix's Supervisor restarts on stop, not on panic; use supervision.rs";
    for at in actix_supervisor(&rust.code) {
        findings.push(file.finding(line_of(&rust.code, at), ACTIX, restarts.into()));
    }
    let (dense, places) = without_space(&rust.code);
    for call in [".clone().try_send(", ".clone().do_send("] {
        for (at, _) in dense.match_indices(call) {
            let what =
                format!("{call}..): a fresh clone brings its own free slot, so no bound holds");
            findings.push(file.finding(line_of(&rust.code, places[at]), ACTIX, what));
        }
    }
    findings
}

/// Where `actix::Supervisor` is named, by its path or in an import from actix.
fn actix_supervisor(code: &str) -> Vec<usize> {
    let mut found: Vec<usize> = code.match_indices("actix::Supervisor").map(|(at, _)| at).collect();
    for (at, _) in code.match_indices("use actix::{") {
        let list = &code[at..at + code[at..].find('}').unwrap_or(0)];
        found.extend(words(list, "Supervisor").map(|inner| at + inner));
    }
    found
}

/// Actors live long and are started by supervision; a range has a `start()` of its own, and an
/// `end()` near it.
pub(crate) fn bare_starts(file: &File) -> Vec<Finding> {
    let ours = file.is_under("actors/src") || file.is_under("src");
    let supervision = file.path.starts_with("actors/src/supervision");
    let Some(rust) = file.rust().filter(|_| ours && !supervision && !file.is_test()) else {
        return Vec::new();
    };
    let (dense, places) = without_space(&rust.code);
    let mut findings = Vec::new();
    for call in
        [".start()", "Actor::start(", "Actor::create(", "start_in_arbiter(", "actix::spawn("]
    {
        for (at, _) in dense.match_indices(call) {
            let glued = rust.code[..places[at]].chars().next_back().is_some_and(is_word);
            if glued && !call.starts_with('.') {
                continue;
            }
            let line = line_of(&rust.code, places[at]);
            let range =
                call == ".start()" && dense.contains(&format!("{}.end()", receiver(&dense[..at])));
            if !range && !rust.is_test_line(line) {
                let what = format!("{call}: nobody watches what is started so; use supervision.rs");
                findings.push(file.finding(line, START, what));
            }
        }
    }
    findings
}

/// The expression that a method is called on, as far back as names and dots go.
fn receiver(before: &str) -> &str {
    let part = |c: char| is_word(c) || matches!(c, '.' | '(' | ')' | ':');
    let kept = before.trim_end_matches(part).len();
    before[kept..].trim_start_matches('(')
}

/// The code without white space, and where each byte of it was.
pub(crate) fn without_space(code: &str) -> (String, Vec<usize>) {
    let kept = code.char_indices().filter(|(_, c)| !c.is_whitespace());
    let (mut dense, mut places) = (String::new(), Vec::new());
    for (at, c) in kept {
        dense.push(c);
        places.extend(std::iter::repeat_n(at, c.len_utf8()));
    }
    (dense, places)
}

const HEAD: &str = "actor head";
const ACTIX: &str = "actix use";
const START: &str = "bare start";

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_SAMPLE: &str = "\
//! One session.
//!
//! - **Owns**: the conversation.
//! Started by: its listener
//!   (on its own arbiter).
//! Hears from: its listener.
//! Stops when: told to.
//! *If it panics*: it is restarted.
";

    fn head_faults(path: &str, text: &str) -> Vec<String> {
        let found = headers(&[File::new(path, text)]).into_iter();
        found.filter(|f| !f.what.contains("missing")).map(|f| f.what).collect()
    }

    #[test]
    fn an_actor_without_a_file_is_missed() {
        let there = ACTORS.into_iter().filter(|&actor| actor != "session");
        let there = there.map(|actor| if actor == "listener" { "listener/mod" } else { actor });
        let all: Vec<File> =
            there.map(|name| File::new(format!("actors/src/{name}.rs"), HEAD_SAMPLE)).collect();
        let found = headers(&all);
        assert_eq!(1, found.len());
        assert!(found[0].to_string().contains("actors/src/session.rs:1"), "{}", found[0]);
    }

    #[test]
    fn the_five_lines_are_asked_for_in_their_order() {
        assert_eq!(0, head_faults("actors/src/session.rs", HEAD_SAMPLE).len());
        for title in FIVE_LINES {
            let without = HEAD_SAMPLE.replace(title, "Other");
            let found = head_faults("actors/src/session.rs", &without);
            assert!(found.len() == 1 && found[0].contains(title), "{title}: {found:?}");
        }
        let empty = HEAD_SAMPLE.replace("told to.", "");
        assert_eq!(1, head_faults("actors/src/session.rs", &empty).len());
        let swapped =
            HEAD_SAMPLE.replace("Owns", "Stops when").replace("Stops when: told", "Owns: told");
        assert!(!head_faults("actors/src/session.rs", &swapped).is_empty());
    }

    #[test]
    fn any_file_with_an_actor_has_the_head() {
        let actor = "//! Doc.\nimpl Actor for Meter {}\n";
        assert_eq!(5, head_faults("actors/src/meter.rs", actor).len());
        let test = "//! Doc.\n#[cfg(test)]\nmod tests {\nimpl Actor for Meter {}\n}\n";
        assert_eq!(0, head_faults("actors/src/meter.rs", test).len());
        assert_eq!(0, head_faults("actors/src/clock.rs", "//! Doc.\n").len());
    }

    #[test]
    fn actix_has_no_supervisor_and_no_services_here() {
        for code in [
            "impl SystemService for A {}",
            "let a = A::from_registry();",
            "use actix::Supervisor;",
            "use actix::{\n    Actor, Supervisor,\n};",
            "fn f() { actix::Supervisor::start(|_| A); }",
            "addr.clone().try_send(m);",
            "self.addr\n    .clone()\n    .try_send(m);",
        ] {
            assert_eq!(1, actix_use(&File::new("actors/src/a.rs", code)).len(), "{code}");
        }
        for code in ["addr.try_send(m);", "// from_registry", "struct Supervisor;"] {
            assert_eq!(0, actix_use(&File::new("actors/src/a.rs", code)).len(), "{code}");
        }
    }

    #[test]
    fn an_actor_is_not_started_bare() {
        for code in [
            "let a = Session { core }.start();",
            "Session::new(core)\n    .start();",
            "Session::start_in_arbiter(&h, f);",
            "Actor::create(|ctx| Session);",
            "actix::spawn(async {});",
            "return Actor::start(session);",
        ] {
            assert_eq!(1, bare_starts(&File::new("actors/src/a.rs", code)).len(), "{code}");
            assert_eq!(
                0,
                bare_starts(&File::new("actors/src/supervision.rs", code)).len(),
                "{code}"
            );
            assert_eq!(0, bare_starts(&File::new("tests/scripted/a.rs", code)).len(), "{code}");
        }
    }

    #[test]
    fn a_range_and_a_server_may_start() {
        for code in [
            "let (a, b) = (*self.ports.start(), *self.ports.end());",
            "let n = config.ports().end() - config.ports().start();",
            "Server::start(config, log).await",
            "ListenerActor::start(seed, log)",
        ] {
            assert_eq!(0, bare_starts(&File::new("src/a.rs", code)).len(), "{code}");
        }
    }
}
