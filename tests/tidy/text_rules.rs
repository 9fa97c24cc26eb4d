//! Rules about text: heads of files, lengths, words that age, names of machines.

use crate::rust_text::words;
use crate::tree::{File, Finding};

/// Characters in a line and lines in a file.
const LINE_LENGTH: usize = 100;
const FILE_LINES: usize = 700;

/// What is written by hand and reads as code: Rust, configuration, scripts.
fn is_code(file: &File) -> bool {
    let name = file.name();
    let ending = [".rs", ".toml", ".yaml", ".yml", ".py", ".sh", ".js"];
    ending.iter().any(|e| name.ends_with(e)) || file.text.starts_with("#!")
}

fn is_prose(file: &File) -> bool {
    file.name().ends_with(".md")
}

/// Every Rust file begins by saying what it is for.
pub(crate) fn file_head(file: &File) -> Vec<Finding> {
    let bare = file.rust().is_some() && !file.text.starts_with("//! ");
    let what = "a file begins with a `//!` line that says what it is for".to_owned();
    if bare { vec![file.finding(1, "file head", what)] } else { Vec::new() }
}

pub(crate) fn file_length(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().count();
    let what = format!("{lines} lines, {} are allowed: split it by idea", FILE_LINES - 1);
    let long = is_code(file) && lines >= FILE_LINES;
    if long { vec![file.finding(lines, "file length", what)] } else { Vec::new() }
}

/// Two kinds of lines may be longer: one with an URL in it, which cannot be broken, and in test
/// code one that lies in a literal from its first column to its last, as captures and vectors do.
pub(crate) fn line_length(file: &File) -> Vec<Finding> {
    let in_literal = |number: usize, line: &str| {
        file.rust().is_some_and(|rust| {
            let literal = rust.literals.get(number - 1).map_or("", String::as_str);
            let test = file.is_test() || rust.is_test_line(number);
            test && literal.trim_end().chars().count() == line.trim_end().chars().count()
        })
    };
    let long = |&(number, line): &(usize, &str)| {
        line.chars().count() > LINE_LENGTH && !line.contains("://") && !in_literal(number, line)
    };
    let lines = file.lines().filter(|_| is_code(file)).filter(long);
    lines
        .map(|(number, line)| {
            let what = format!("{} characters, {LINE_LENGTH} are allowed", line.chars().count());
            file.finding(number, "line length", what)
        })
        .collect()
}

/// Words in comments and prose that promise, apologise, or tell history. The change log is history,
/// and an RFC's words are the RFC's.
pub(crate) fn banned_words(file: &File) -> Vec<Finding> {
    if file.name() == "CHANGELOG.md" || file.is_under("tests/rfc") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        let said = commentary(file, number, line).to_lowercase();
        if said.trim_start().starts_with("//#") || said.trim_start().starts_with("//=") {
            continue;
        }
        for word in BANNED {
            let whole = words(&said, word);
            let ages = |&at: &usize| !said[at + word.len()..].starts_with(" than");
            findings.extend(whole.filter(ages).map(|_| {
                let what =
                    format!("{word:?}: say what is, and why; it must read the same in a year");
                file.finding(number, "banned word", what)
            }));
        }
        if AUTHORSHIP.iter().any(|mark| said.contains(mark)) {
            let what = "files name no author; version control does".to_owned();
            findings.push(file.finding(number, "banned word", what));
        }
    }
    findings
}

/// What the line says to its reader, apart from its code.
fn commentary<'a>(file: &'a File, number: usize, line: &'a str) -> &'a str {
    match file.rust() {
        Some(rust) => rust.comments.get(number - 1).map_or("", String::as_str),
        None if is_prose(file) || line.starts_with("authors") => line,
        None if is_code(file) => line.find('#').map_or("", |at| &line[at..]),
        None => "",
    }
}

/// Files name no package registry and no place on somebody's machine.
pub(crate) fn places(file: &File) -> Vec<Finding> {
    if file.name().ends_with(".lock") || file.is_under("tests/rfc") {
        return Vec::new();
    }
    let test = file.is_test() || file.path.starts_with(".ci/");
    let paths = MACHINE_PATHS.iter().filter(|path| !(test && **path == TEMPORARY));
    let banned: Vec<&str> = REGISTRIES.iter().chain(paths).copied().collect();
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for name in banned.iter().filter(|name| names(line, name)) {
            let what =
                format!("{name} is a place on one machine or network, not part of the project");
            findings.push(file.finding(number, "place", what));
        }
    }
    findings
}

/// Whether the line holds the name, and not as the end of a longer path.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !name.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
    })
}

const BANNED: [&str; 11] = [
    concat!("to", "do"),
    concat!("fix", "me"),
    concat!("ha", "ck"),
    concat!("ha", "cky"),
    concat!("x", "xx"),
    concat!("for ", "now"),
    concat!("no ", "longer"),
    concat!("new ", "way"),
    concat!("old ", "way"),
    concat!("used to ", "be"),
    concat!("work", "around for"),
];
const AUTHORSHIP: [&str; 4] = [
    concat!("auth", "or:"),
    concat!("auth", "ors:"),
    concat!("@auth", "or"),
    concat!("auth", "ors ="),
];
const REGISTRIES: [&str; 7] = [
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("proxy.golang", ".org"),
];
const TEMPORARY: &str = concat!("/tm", "p/");
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), TEMPORARY];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_begins_with_what_it_is_for() {
        for text in ["use std::io;\n", "\n//! Late.\n", "// Not a head.\n", "//!\n", ""] {
            assert_eq!(1, file_head(&File::new("src/a.rs", text)).len(), "{text:?}");
        }
        assert_eq!(0, file_head(&File::new("src/a.rs", "//! Says it.\n")).len());
        assert_eq!(0, file_head(&File::new("turn.yaml", "realm: a\n")).len());
    }

    #[test]
    fn a_file_has_less_than_seven_hundred_lines() {
        assert_eq!(1, file_length(&File::new("src/a.rs", "a\n".repeat(700))).len());
        assert_eq!(0, file_length(&File::new("src/a.rs", "a\n".repeat(699))).len());
        assert_eq!(0, file_length(&File::new("README.md", "a\n".repeat(700))).len());
    }

    #[test]
    fn a_line_has_a_hundred_characters() {
        let long = format!("// {}\n", "é".repeat(98));
        assert_eq!(1, line_length(&File::new("src/a.rs", &*long)).len());
        assert_eq!(0, line_length(&File::new("src/a.rs", "é".repeat(100))).len());
        assert_eq!(1, line_length(&File::new("turn.yaml", &*long)).len());
        assert_eq!(0, line_length(&File::new("Cargo.lock", &*long)).len());
        let url = format!("//! <https://example.org/{}>\n", "a".repeat(90));
        assert_eq!(0, line_length(&File::new("src/a.rs", url)).len());
    }

    #[test]
    fn a_vector_in_a_test_may_be_long() {
        let vector = format!("const A: &str = \"\n{}\n\";\n", "0".repeat(120));
        assert_eq!(0, line_length(&File::new("tests/wire/a.rs", &*vector)).len());
        assert_eq!(1, line_length(&File::new("src/a.rs", &*vector)).len());
        let code = format!("const A: &str = \"{}\";\n", "0".repeat(120));
        assert_eq!(1, line_length(&File::new("tests/wire/a.rs", code)).len());
    }

    #[test]
    fn each_banned_word_is_found_in_comments_and_prose() {
        for word in BANNED {
            let said = format!("//! Head.\n/// It {word} is.\nfn a() {{}}\n");
            assert_eq!(1, banned_words(&File::new("src/a.rs", said)).len(), "{word}");
            let prose = format!("It is {word}.\n");
            assert_eq!(1, banned_words(&File::new("README.md", &*prose)).len(), "{word}");
            assert_eq!(0, banned_words(&File::new("CHANGELOG.md", prose)).len(), "{word}");
            let key = format!("a: 1 # {}\n", word.to_uppercase());
            assert_eq!(1, banned_words(&File::new("turn.yaml", key)).len(), "{word}");
        }
        for mark in AUTHORSHIP {
            let said = format!("// {mark} somebody\n");
            assert_eq!(1, banned_words(&File::new("src/a.rs", said)).len(), "{mark}");
        }
        let manifest = format!("{} [\"somebody\"]\n", AUTHORSHIP[3]);
        assert_eq!(1, banned_words(&File::new("Cargo.toml", manifest)).len());
    }

    #[test]
    fn the_same_words_elsewhere_pass() {
        let [word, longer] = [BANNED[0], BANNED[6]];
        for text in [
            format!("//# the nonce is {longer} valid\n"),
            format!("// A reason is {longer} than 127 characters.\n"),
            format!("const A: &str = \"{word}\";\n"),
            format!("// {word}s and mas{word}ns\n"),
            "// The authority is written by the peer.\n".to_owned(),
        ] {
            assert_eq!(0, banned_words(&File::new("src/a.rs", &*text)).len(), "{text}");
        }
    }

    #[test]
    fn no_place_of_one_machine_is_named() {
        for name in REGISTRIES.iter().chain(&MACHINE_PATHS) {
            let text = format!("a = \"{name}a\"\n");
            assert_eq!(1, places(&File::new("turn.yaml", &*text)).len(), "{name}");
            assert_eq!(0, places(&File::new("Cargo.lock", text)).len(), "{name}");
        }
        let temporary = format!("let a = \"{TEMPORARY}a\";\n");
        assert_eq!(0, places(&File::new("tests/wire/a.rs", &*temporary)).len());
        let inside =
            format!("let a = \"$dir{TEMPORARY}a\"; let b = \"net{}\";\n", MACHINE_PATHS[0]);
        assert_eq!(0, places(&File::new("tests/wire/a.rs", inside)).len());
    }
}
