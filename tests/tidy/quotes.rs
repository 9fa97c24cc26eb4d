//! RFC quotes in comments: how they are written, and that each says what the RFC says.
//!
//! A quote is a block of comment lines, the place first:
//!
//! ```text
//! //= https://www.rfc-editor.org/rfc/rfcNNNN#section-7.2
//! //= type=exception
//! //= reason=One sentence, which may go on
//! //= in a line of this form.
//! //# The words of the RFC, broken into lines
//! //# wherever it suits.
//! ```
//!
//! Without a type the code below fulfils the words; `type=test` marks a test of them;
//! `type=exception` a deliberate deviation, and needs the reason.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rfc::{Rfc, fold};
use crate::tree::{File, Finding};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Implementation,
    Test,
    Exception,
}

/// A quote that stands in its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) rfc: u32,
    pub(crate) section: String,
    pub(crate) kind: Kind,
    /// Where in the section's folded text.
    pub(crate) range: Range<usize>,
}

/// A block as written.
#[derive(Default)]
struct Block {
    line: usize,
    target: String,
    kind: Option<String>,
    reason: Option<String>,
    quote: String,
    open: Option<Open>,
    stray: Option<String>,
}

#[derive(Clone, Copy)]
enum Open {
    Reason,
    Other,
}

/// The quotes of one Rust file, and what is wrong with the others.
pub(crate) fn check(file: &File, rfcs: &BTreeMap<u32, Rfc>) -> (Vec<Quote>, Vec<Finding>) {
    let (mut quotes, mut findings) = (Vec::new(), Vec::new());
    for block in blocks(file) {
        match verify(file, &block, rfcs) {
            Ok(quote) => quotes.push(quote),
            Err(what) => findings.push(file.finding(block.line, RULE, what)),
        }
    }
    (quotes, findings)
}

fn blocks(file: &File) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut running = false;
    let comments = file.rust().map_or(&[][..], |rust| &rust.comments);
    for (index, line) in comments.iter().enumerate() {
        let line = line.trim();
        let (key, rest) = match (line.strip_prefix("//="), line.strip_prefix("//#")) {
            (Some(rest), _) => (true, rest.trim()),
            (_, Some(rest)) => (false, rest.trim()),
            (None, None) => {
                running = false;
                continue;
            }
        };
        let begins = key && rest.contains("://");
        if begins || !running {
            blocks.push(Block { line: index + 1, ..Block::default() });
            running = true;
        }
        let block = blocks.last_mut().expect("a block was begun above");
        if key { block.key(rest) } else { block.quote(rest) }
    }
    blocks
}

impl Block {
    fn key(&mut self, rest: &str) {
        if let Some(kind) = rest.strip_prefix("type=") {
            self.kind = Some(kind.to_owned());
            self.open = Some(Open::Other);
        } else if let Some(reason) = rest.strip_prefix("reason=") {
            self.reason = Some(reason.to_owned());
            self.open = Some(Open::Reason);
        } else if rest.contains("://") {
            self.target = rest.to_owned();
            self.open = Some(Open::Other);
        } else if let (Some(Open::Reason), Some(reason)) = (self.open, &mut self.reason) {
            *reason = format!("{reason} {rest}");
        } else {
            self.stray = Some(rest.to_owned());
        }
    }

    fn quote(&mut self, rest: &str) {
        self.open = Some(Open::Other);
        self.quote = format!("{} {rest}", self.quote);
    }
}

fn verify(file: &File, block: &Block, rfcs: &BTreeMap<u32, Rfc>) -> Result<Quote, String> {
    if let Some(stray) = &block.stray {
        return Err(format!("neither a place nor type= nor reason=: {stray}"));
    }
    let (number, id) = target(&block.target)?;
    let rfc = rfcs.get(&number).ok_or(format!("tests/rfc has no RFC {number}"))?;
    let section = rfc.sections.get(&id).ok_or(format!("RFC {number} has no section {id}"))?;
    let kind = kind(file, block)?;
    let quote = fold(&block.quote);
    if quote.split(' ').count() < SHORTEST {
        return Err(format!("a quote has at least {SHORTEST} words: {quote:?}"));
    }
    match section.find(&quote) {
        Some(range) => Ok(Quote { rfc: number, section: id, kind, range }),
        None => Err(format!("RFC {number} §{id} does not say {quote:?}")),
    }
}

fn target(url: &str) -> Result<(u32, String), String> {
    let form = || format!("expected {PREFIX}NNNN#section-X, found {url:?}");
    let (number, anchor) =
        url.strip_prefix(PREFIX).and_then(|rest| rest.split_once('#')).ok_or_else(form)?;
    let id = anchor.strip_prefix("section-").or_else(|| anchor.strip_prefix("appendix-"));
    let number = number.parse().map_err(|_| form())?;
    Ok((number, id.ok_or_else(form)?.to_owned()))
}

fn kind(file: &File, block: &Block) -> Result<Kind, String> {
    let in_test = file.is_test() || file.rust().is_some_and(|r| r.is_test_line(block.line));
    let reason = block.reason.as_deref().unwrap_or("").trim();
    match block.kind.as_deref() {
        Some("test") if !in_test => Err("type=test outside of test code".into()),
        Some("test") => Ok(Kind::Test),
        _ if in_test => Err("a quote in test code has type=test".into()),
        Some("exception") if reason.split(' ').count() < SHORTEST => {
            Err("type=exception needs a reason, a sentence of it".into())
        }
        Some("exception") => Ok(Kind::Exception),
        Some(other) => Err(format!("type={other} is none of test and exception")),
        None if block.reason.is_some() => Err("a reason belongs to type=exception".into()),
        None => Ok(Kind::Implementation),
    }
}

const RULE: &str = "rfc quote";
const PREFIX: &str = "https://www.rfc-editor.org/rfc/rfc";
/// Words in the shortest quote and in the shortest reason; fewer could stand anywhere.
const SHORTEST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const RFC: &str = "\
7.2.  Receiving an Allocate Request

   The server MUST check the MESSAGE-
   INTEGRITY of it.

7.3.  Other

   The server MUST do nothing else.
";

    fn run(path: &str, comment: &str) -> Result<Quote, String> {
        let rfcs = BTreeMap::from([(8656, Rfc::read(8656, RFC))]);
        let (quotes, findings) = check(&File::new(path, comment), &rfcs);
        match findings.first() {
            Some(finding) => Err(finding.what.clone()),
            None => Ok(quotes.first().expect("a quote or a finding").clone()),
        }
    }

    fn implemented(keys: &str, quote: &str) -> Result<Quote, String> {
        run("proto/src/a.rs", &format!("    //= {PREFIX}8656#{keys}\n    //# {quote}\nfn a() {{}}"))
    }

    fn refused(keys: &str, quote: &str) -> String {
        implemented(keys, quote).expect_err("the quote must be refused")
    }

    #[test]
    fn a_quote_may_break_its_lines_anywhere() {
        let quote = "The server\n    //# MUST check the MESSAGE-INTEGRITY\n    //# of it.";
        let found = implemented("section-7.2", quote).unwrap();
        assert_eq!((8656, "7.2", Kind::Implementation), (found.rfc, &*found.section, found.kind));
    }

    #[test]
    fn a_word_changed_is_refused() {
        assert!(refused("section-7.2", "The server MUST see the").contains("does not say"));
    }

    #[test]
    fn the_words_of_another_section_are_refused() {
        assert!(refused("section-7.2", "The server MUST do nothing").contains("does not say"));
    }

    #[test]
    fn unknown_places_are_refused() {
        let quote = "The server MUST check the";
        assert_eq!("RFC 8656 has no section 7", refused("section-7", quote));
        assert!(refused("7.2", quote).contains("expected"));
        let other = run("src/a.rs", &format!("//= {PREFIX}1#section-1\n//# {quote}"));
        assert_eq!(Err("tests/rfc has no RFC 1".into()), other);
        let no_place = run("src/a.rs", &format!("//# {quote}"));
        assert!(no_place.unwrap_err().contains("expected"));
    }

    #[test]
    fn a_quote_is_long_enough_to_mean_something() {
        assert!(refused("section-7.2", "MUST").contains("at least"));
        assert!(run("src/a.rs", &format!("//= {PREFIX}8656#section-7.2")).is_err());
    }

    #[test]
    fn an_exception_has_a_reason() {
        let quote = "The server MUST check the";
        assert!(refused("section-7.2\n//= type=exception", quote).contains("reason"));
        let keys = "section-7.2\n//= type=exception\n//= reason=Nobody ever\n//= asked for it.";
        assert_eq!(Ok(Kind::Exception), implemented(keys, quote).map(|q| q.kind));
        let idle = "section-7.2\n//= reason=Nobody ever asked for it.";
        assert!(refused(idle, quote).contains("belongs"));
    }

    #[test]
    fn only_the_known_types_pass() {
        let quote = "The server MUST check the";
        for word in ["todo", "TODO", "implication"] {
            let keys = format!("section-7.2\n//= type={word}");
            assert!(refused(&keys, quote).contains("is none of"), "{word}");
        }
        assert!(refused("section-7.2\n//= note=x", quote).contains("neither"));
    }

    #[test]
    fn tests_and_only_tests_are_marked_as_tests() {
        let block = |kind: &str| {
            format!("//= {PREFIX}8656#section-7.2\n{kind}//# The server MUST check the")
        };
        let (plain, test) = (block(""), block("//= type=test\n"));
        assert!(run("tests/wire/a.rs", &plain).is_err());
        assert!(run("proto/src/a.rs", &test).is_err());
        assert_eq!(Ok(Kind::Test), run("tests/wire/a.rs", &test).map(|q| q.kind));
        let inside = format!("#[cfg(test)]\nmod tests {{\n{test}\n}}\n");
        assert_eq!(Ok(Kind::Test), run("proto/src/a.rs", &inside).map(|q| q.kind));
    }

    #[test]
    fn two_blocks_in_a_row_are_two_quotes() {
        let block = format!("//= {PREFIX}8656#section-7.2\n//# The server MUST check the\n");
        let rfcs = BTreeMap::from([(8656, Rfc::read(8656, RFC))]);
        let (quotes, findings) = check(&File::new("src/a.rs", block.repeat(2)), &rfcs);
        assert_eq!((2, 0), (quotes.len(), findings.len()));
    }

    #[test]
    fn a_sample_in_a_string_is_no_quote() {
        let rfcs = BTreeMap::new();
        let file = File::new("src/a.rs", "const A: &str = \"//= https://x\n//# words\";");
        let (quotes, findings) = check(&file, &rfcs);
        assert_eq!((0, 0), (quotes.len(), findings.len()));
    }
}
