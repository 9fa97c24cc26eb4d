//! Rules about code: where `unsafe` may stand, how long a function is, what tests may not do.

use crate::actor_rules::without_space;
use crate::rust_text::{line_of, words};
use crate::tree::{File, Finding};

/// Lines of a function from its `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// The one place with `unsafe` in it; each block there says why it is sound.
const UNSAFE_FOLDER: &str = "actors/src/socket";

pub(crate) fn unsafe_code(file: &File) -> Vec<Finding> {
    let Some(rust) = file.rust().filter(|_| !file.is_under(UNSAFE_FOLDER)) else {
        return Vec::new();
    };
    let what = format!("only {UNSAFE_FOLDER} may");
    let places = words(&rust.code, "unsafe").map(|at| line_of(&rust.code, at));
    places.map(|line| file.finding(line, "unsafe", what.clone())).collect()
}

pub(crate) fn function_length(file: &File) -> Vec<Finding> {
    let functions = file.rust().map(|rust| rust.functions()).unwrap_or_default();
    let long = functions.into_iter().filter(|function| function.lines > FUNCTION_LINES);
    long.map(|f| {
        let what = format!("{} has {} lines, {FUNCTION_LINES} are allowed", f.name, f.lines);
        file.finding(f.line, "function length", what)
    })
    .collect()
}

/// Tests that do not run, that pass by a panic, that wait for real time.
pub(crate) fn test_habits(file: &File) -> Vec<Finding> {
    let Some(rust) = file.rust() else {
        return Vec::new();
    };
    let (dense, places) = without_space(&rust.code);
    let mut bans = vec![
        ("#[ignore", "a test that does not run tests nothing; mend it or remove it"),
        (",ignore)]", "a test that does not run tests nothing; mend it or remove it"),
        ("#[should_panic", "any panic would do; assert on what the call returns"),
    ];
    if file.is_under("tests/scripted") {
        bans.push(("thread::sleep(", "scripts run in virtual time; sleep on the paused runtime"));
        bans.push(("time::advance(", "timers fire late after a jump; sleep on the paused runtime"));
    }
    let mut findings = Vec::new();
    for (word, why) in bans {
        findings.extend(dense.match_indices(word).map(|(at, _)| {
            let line = line_of(&rust.code, places[at]);
            file.finding(line, "test habit", format!("{word}: {why}"))
        }));
    }
    findings
}

/// A socket of a test takes the port that the system gives it; a port of its own is taken already
/// where two tests, or two machines in one, run at a time. Addresses nobody opens may have any
/// port.
pub(crate) fn fixed_ports(file: &File) -> Vec<Finding> {
    let socket_tests = ["tests", "actors", "client", "bench"];
    let Some(rust) = file.rust().filter(|_| socket_tests.iter().any(|f| file.is_under(f))) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let mut start = 0;
    for statement in rust.code.split_inclusive([';', '{', '}']) {
        let (from, until) = (start, start + statement.len());
        start = until;
        // The texts share columns only by character, so the literals are taken by line.
        let (first, last) = (line_of(&rust.code, from), line_of(&rust.code, until));
        if !OPENING.iter().any(|word| statement.contains(word)) {
            continue;
        }
        let literals = rust.literals.iter().enumerate().skip(first - 1).take(last - first + 1);
        let in_text =
            literals.filter(|(_, text)| fixed_local_port(text)).map(|(index, _)| index + 1);
        let in_code = LOCAL_NAMES.iter().flat_map(|name| {
            let ports = statement.match_indices(name).filter(|(at, _)| {
                fixed(statement[at + name.len()..].trim_start_matches([')', ',', ' ']))
            });
            ports.map(|(at, _)| line_of(&rust.code, from + at))
        });
        for line in in_text.chain(in_code) {
            let what = "a test's socket binds port 0 and asks which one it got".to_owned();
            findings.push(file.finding(line, "fixed port", what));
        }
    }
    findings.dedup();
    findings
}

fn fixed_local_port(text: &str) -> bool {
    LOCAL_ADDRESSES.iter().any(|address| {
        text.match_indices(address).any(|(at, _)| fixed(&text[at + address.len()..]))
    })
}

/// Whether the text begins with a port other than zero.
fn fixed(text: &str) -> bool {
    let digits: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '_').collect();
    digits.chars().any(|c| ('1'..='9').contains(&c))
}

/// Words of a call that opens a socket.
const OPENING: [&str; 5] = ["bind(", "connect(", "listen:", "listen(", "Listener::"];
const LOCAL_ADDRESSES: [&str; 6] =
    ["127.0.0.1:", "0.0.0.0:", "[::1]:", "[::]:", "localhost:", "[::ffff:127.0.0.1]:"];
const LOCAL_NAMES: [&str; 2] = ["LOCALHOST", "UNSPECIFIED"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_stands_in_the_socket_module_alone() {
        let code = "fn f() {\n    unsafe { g() }\n}";
        assert_eq!(2, unsafe_code(&File::new("actors/src/session.rs", code))[0].line);
        assert_eq!(1, unsafe_code(&File::new("tests/wire/main.rs", code)).len());
        assert_eq!(0, unsafe_code(&File::new("actors/src/socket/batch.rs", code)).len());
        let words = "#![deny(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe\";";
        assert_eq!(0, unsafe_code(&File::new("src/main.rs", words)).len());
    }

    #[test]
    fn a_function_has_seventy_lines_and_no_more() {
        let of = |lines: usize| format!("fn f() {{\n{}}}\n", "    a();\n".repeat(lines - 2));
        assert_eq!(0, function_length(&File::new("src/a.rs", of(70))).len());
        let found = function_length(&File::new("src/a.rs", of(71)));
        assert_eq!(
            "src/a.rs:1: function length: f has 71 lines, 70 are allowed",
            found[0].to_string()
        );
    }

    #[test]
    fn tests_run_and_do_not_wait_for_a_panic() {
        for code in [
            "#[ignore]",
            "#[ignore = \"slow\"]",
            "#[cfg_attr(windows, ignore)]",
            "#[should_panic]",
            "#[should_panic(expected = \"x\")]",
        ] {
            assert_eq!(1, test_habits(&File::new("proto/src/a.rs", code)).len(), "{code}");
        }
        assert_eq!(0, test_habits(&File::new("src/a.rs", "// #[ignore]\n#[test]")).len());
    }

    #[test]
    fn scripts_do_not_sleep_on_real_time() {
        for code in ["std::thread::sleep(d);", "tokio::time::advance(d).await;"] {
            assert_eq!(1, test_habits(&File::new("tests/scripted/a.rs", code)).len(), "{code}");
        }
        assert_eq!(0, test_habits(&File::new("tests/scripted/a.rs", "sleep(d).await;")).len());
    }

    #[test]
    fn a_test_does_not_open_a_port_of_its_choice() {
        for code in [
            "let s = UdpSocket::bind(\"127.0.0.1:3478\");",
            "let s = UdpSocket::bind((Ipv4Addr::LOCALHOST, 3478));",
            "let s = UdpSocket::bind(\n    \"[::1]:5000\",\n);",
            "let c = ServerConfig {\n    listen: vec![\"0.0.0.0:3478\".parse().unwrap()] };",
        ] {
            assert_eq!(1, fixed_ports(&File::new("tests/wire/a.rs", code)).len(), "{code}");
        }
    }

    #[test]
    fn addresses_that_nobody_opens_have_any_port() {
        for code in [
            "let s = UdpSocket::bind(\"127.0.0.1:0\");",
            "let s = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));",
            "let peer = \"127.0.0.1:9\".parse();",
            "let client = \"192.0.2.1:50000\"; server.bind(client);",
            "/// Binds `127.0.0.1:3478`: bind(..)\nfn a() {}",
        ] {
            assert_eq!(0, fixed_ports(&File::new("tests/wire/a.rs", code)).len(), "{code}");
        }
        let config = "let c = listen(\"0.0.0.0:3478\");";
        assert_eq!(0, fixed_ports(&File::new("src/config.rs", config)).len());
    }
}
