//! The texts of the RFCs in `tests/rfc`, by section, and the requirements they hold.
//!
//! Texts and quotes are compared *folded*: white space is one space, and none after a hyphen, since
//! an RFC breaks `MESSAGE-INTEGRITY` at a line's end and a quote may break elsewhere.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rust_text::words;
use crate::tree::File;

/// One RFC. A section's text is its own: a subsection is a section beside it.
pub(crate) struct Rfc {
    pub(crate) number: u32,
    pub(crate) sections: BTreeMap<String, Section>,
}

pub(crate) struct Section {
    /// The folded text.
    pub(crate) text: String,
    pub(crate) requirements: Vec<Requirement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// MUST, MUST NOT, SHALL, SHALL NOT, REQUIRED.
    Must,
    /// SHOULD, SHOULD NOT, RECOMMENDED, NOT RECOMMENDED; a sentence with a MUST too is a MUST.
    Should,
}

/// A sentence with a key word of RFC 2119 in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    pub(crate) level: Level,
    pub(crate) sentence: String,
    /// Where each key word of that level stands in the section's folded text.
    pub(crate) key_words: Vec<Range<usize>>,
}

impl Rfc {
    /// Every `rfcNNNN.txt` of `tests/rfc`.
    pub(crate) fn all(files: &[File]) -> BTreeMap<u32, Rfc> {
        let number =
            |file: &File| file.name().strip_prefix("rfc")?.strip_suffix(".txt")?.parse().ok();
        let texts = files.iter().filter(|file| file.is_under("tests/rfc"));
        texts.filter_map(|file| number(file).map(|n| (n, Rfc::read(n, &file.text)))).collect()
    }

    pub(crate) fn read(number: u32, text: &str) -> Rfc {
        let mut raw: Vec<(String, String)> = Vec::new();
        for line in text.lines().filter(|line| !is_page_furniture(number, line)) {
            match (heading(line), raw.last_mut()) {
                (Some(id), _) => raw.push((id, String::new())),
                (None, Some((_, body))) => {
                    body.push_str(content(line));
                    body.push('\n');
                }
                (None, None) => {}
            }
        }
        let section = |(id, body): (String, String)| (id, Section::read(&body));
        Rfc { number, sections: raw.into_iter().map(section).collect() }
    }
}

impl Section {
    fn read(body: &str) -> Section {
        let text = fold(body);
        let (mut requirements, mut from) = (Vec::new(), 0);
        for sentence in sentences(body) {
            let start =
                from + text[from..].find(&sentence).expect("a sentence is part of its text");
            from = start + sentence.len();
            for level in [Level::Must, Level::Should] {
                let key_words = key_words(&sentence, level, start);
                if !key_words.is_empty() {
                    requirements.push(Requirement { level, sentence, key_words });
                    break;
                }
            }
        }
        Section { text, requirements }
    }

    /// Where a folded quote stands in the section, as whole words.
    pub(crate) fn find(&self, quote: &str) -> Option<Range<usize>> {
        let whole = |&at: &usize| {
            let before = self.text[..at].chars().next_back();
            let after = self.text[at + quote.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        };
        let mut hits = self.text.match_indices(quote).map(|(at, _)| at);
        hits.find(whole).map(|at| at..at + quote.len())
    }
}

/// White space as one space, and none after a hyphen.
pub(crate) fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("- ", "-")
}

/// `7.2.  Receiving an Allocate Request` begins section `7.2`, `Appendix B.  Test Vectors` `B`.
fn heading(line: &str) -> Option<String> {
    let line = line.strip_prefix("Appendix ").unwrap_or(line);
    let (id, title) = line.split_once("  ")?;
    let id = id.strip_suffix('.')?;
    let mut parts = id.split('.');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let first = parts.next()?;
    let letter = first.len() == 1 && first.bytes().all(|b| b.is_ascii_uppercase());
    let known = (digits(first) || letter) && parts.all(digits) && !title.trim().is_empty();
    known.then(|| id.to_owned())
}

/// The words of a line without the frame that tables and asides have around them.
fn content(line: &str) -> &str {
    let line = line.trim_start_matches('\x0c').trim_end();
    let frame = line.trim().chars().all(|c| "+-=|".contains(c));
    let inner = line.trim_start().strip_prefix("| ").unwrap_or(line);
    if frame { "" } else { inner.strip_suffix(" |").unwrap_or(inner) }
}

/// The foot and the head of a page, which stand in the middle of sentences.
fn is_page_furniture(number: u32, line: &str) -> bool {
    let line = line.trim_start_matches('\x0c');
    let foot = line.ends_with(']') && line.contains("  [Page ");
    let head = line.starts_with(&format!("RFC {number}  "))
        && line.split_whitespace().next_back().is_some_and(|year| year.len() == 4);
    foot || head
}

/// The sentences of a section, folded. A sentence ends at a full stop before two spaces, before a
/// line's end with a capital after it, or at the end of its paragraph.
fn sentences(body: &str) -> Vec<String> {
    let mut found = Vec::new();
    for paragraph in body.split("\n\n") {
        let mut from = 0;
        for end in sentence_ends(paragraph) {
            found.push(fold(&paragraph[from..end]));
            from = end;
        }
        found.push(fold(&paragraph[from..]));
    }
    found.retain(|sentence| !sentence.is_empty());
    found
}

fn sentence_ends(paragraph: &str) -> Vec<usize> {
    let stops = paragraph.match_indices(['.', '?', '!']).map(|(at, _)| at + 1);
    let ends = |&at: &usize| {
        let rest = paragraph[at..].trim_start_matches([')', '"']);
        let word = paragraph[..at].split_whitespace().next_back().unwrap_or("");
        let capital = rest.trim_start().starts_with(|c: char| c.is_uppercase() || c == '[');
        let gap = rest.starts_with("  ") || (rest.starts_with('\n') && capital);
        gap && !ABBREVIATIONS.contains(&word.trim_start_matches('('))
    };
    stops.filter(ends).collect()
}

fn key_words(sentence: &str, level: Level, start: usize) -> Vec<Range<usize>> {
    let wanted: &[&str] = match level {
        Level::Must => &["MUST", "SHALL", "REQUIRED"],
        Level::Should => &["SHOULD", "RECOMMENDED"],
    };
    let quoted = |at: usize, len: usize| {
        sentence[..at].ends_with('"') || sentence[at + len..].starts_with('"')
    };
    let mut found: Vec<Range<usize>> = wanted
        .iter()
        .flat_map(|word| words(sentence, word).map(|at| (at, word.len())))
        .filter(|&(at, len)| !quoted(at, len))
        .map(|(at, len)| start + at..start + at + len)
        .collect();
    found.sort_by_key(|range| range.start);
    found
}

const ABBREVIATIONS: [&str; 4] = ["e.g.", "i.e.", "vs.", "etc."];

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
Table of Contents

   1.  First ....................1

1.  First

   A server MUST NOT use the MESSAGE-
   INTEGRITY attribute (e.g.
   This one).  It SHOULD be silent, and a 420 is
   sent.

Reddy, et al.                Standards Track                    [Page 9]
\x0c
RFC 8656                          TURN                     February 2020

   Last, in section
   1.1 of this.

1.1.  Second

   A \"MUST\" or \"NOT RECOMMENDED\" in quotes is none.
   The client MUST wait.
   It MUST and it SHOULD act.

Appendix B.  Vectors

B.1.  Sample
   00 01
";

    fn sample() -> Rfc {
        Rfc::read(8656, SAMPLE)
    }

    #[test]
    fn sections_are_found_by_their_headings_only() {
        let rfc = sample();
        let ids: Vec<&str> = rfc.sections.keys().map(String::as_str).collect();
        assert_eq!(vec!["1", "1.1", "B", "B.1"], ids);
        assert!(rfc.sections["1"].find("Last, in section 1.1 of this.").is_some());
        assert!(rfc.sections["1"].find("The client MUST wait.").is_none());
    }

    #[test]
    fn page_breaks_and_line_breaks_do_not_part_a_sentence() {
        let rfc = sample();
        let quote = fold("use the MESSAGE-INTEGRITY attribute");
        assert!(rfc.sections["1"].find(&quote).is_some());
        assert!(rfc.sections["1"].find(&fold("420 is\n sent. Last, in")).is_some());
    }

    #[test]
    fn a_quote_is_whole_words() {
        assert!(sample().sections["1"].find("erver MUST NOT use").is_none());
    }

    #[test]
    fn requirements_are_sentences_with_key_words() {
        let rfc = sample();
        let of = |id: &str| {
            let found = &rfc.sections[id].requirements;
            found.iter().map(|r| (r.level, r.sentence.as_str())).collect::<Vec<_>>()
        };
        let must = "A server MUST NOT use the MESSAGE-INTEGRITY attribute (e.g. This one).";
        let should = "It SHOULD be silent, and a 420 is sent.";
        assert_eq!(vec![(Level::Must, must), (Level::Should, should)], of("1"));
        let both = "It MUST and it SHOULD act.";
        assert_eq!(vec![(Level::Must, "The client MUST wait."), (Level::Must, both)], of("1.1"));
    }

    #[test]
    fn tables_and_asides_lose_their_frames() {
        let table = "\
1.  Table

   +--------+---------+
   | Others | MUST be |
   |        | dropped |
   +--------+---------+

      |  It is SHALL
      |  here.
";
        let rfc = Rfc::read(8656, table);
        let found: Vec<&str> =
            rfc.sections["1"].requirements.iter().map(|r| r.sentence.as_str()).collect();
        assert_eq!(vec!["Others | MUST be | dropped", "It is SHALL here."], found);
    }

    #[test]
    fn key_words_are_placed_in_the_text_of_the_section() {
        let section = &sample().sections["1.1"];
        for range in section.requirements.iter().flat_map(|r| &r.key_words) {
            assert_eq!("MUST", &section.text[range.clone()]);
        }
    }
}
