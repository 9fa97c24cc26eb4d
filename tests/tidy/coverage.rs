//! How much of RFC 8656, 8489 and 6062 the code and its tests quote: conformance as a number.
//!
//! A requirement is a sentence with a key word of RFC 2119. It is *implemented* when quotes in the
//! code hold all its key words, *excepted* when exceptions help to that, *tested* when quotes in
//! tests hold them. What the server does not do at all is named in `tests/rfc/not-ours.txt`, with a
//! reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::quotes::{Kind, Quote};
use crate::rfc::{Level, Requirement, Rfc};
use crate::tree::{File, Finding};

/// Requirements and how many of them are met, for one RFC and one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) not_ours: usize,
    pub(crate) ours: usize,
    pub(crate) implemented: usize,
    pub(crate) excepted: usize,
    pub(crate) tested: usize,
    /// Ours, neither implemented nor excepted: section and sentence.
    pub(crate) uncovered: Vec<(String, String)>,
    /// Implemented, but without a test: section and sentence.
    pub(crate) untested: Vec<(String, String)>,
}

impl Count {
    pub(crate) fn covered(&self) -> usize {
        self.implemented + self.excepted
    }
}

pub(crate) fn count(rfc: &Rfc, level: Level, quotes: &[Quote], not_ours: &NotOurs) -> Count {
    let mut count = Count::default();
    for (id, section) in &rfc.sections {
        let here: Vec<&Quote> =
            quotes.iter().filter(|q| q.rfc == rfc.number && q.section == *id).collect();
        for requirement in section.requirements.iter().filter(|r| r.level == level) {
            if not_ours.holds(rfc.number, id, requirement) {
                count.not_ours += 1;
                continue;
            }
            count.ours += 1;
            let place = (id.clone(), requirement.sentence.clone());
            let tested = held(requirement, &here, &[Kind::Test]);
            count.tested += usize::from(tested);
            if held(requirement, &here, &[Kind::Implementation]) {
                count.implemented += 1;
            } else if held(requirement, &here, &[Kind::Implementation, Kind::Exception]) {
                count.excepted += 1;
            } else {
                count.uncovered.push(place);
                continue;
            }
            if !tested {
                count.untested.push(place);
            }
        }
    }
    count
}

/// Whether quotes of these kinds hold every key word of the requirement.
fn held(requirement: &Requirement, quotes: &[&Quote], kinds: &[Kind]) -> bool {
    let mut words = requirement.key_words.iter();
    words.all(|word| {
        let holds = |q: &&&Quote| q.range.start <= word.start && word.end <= q.range.end;
        quotes.iter().filter(|q| kinds.contains(&q.kind)).any(|q| holds(&q))
    })
}

/// The table that `cargo test --test tidy -- --nocapture` prints.
pub(crate) fn report(rfc: u32, level: Level, count: &Count) -> String {
    let name = match level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
    };
    let mut text = format!(
        "RFC {rfc} {name}: {} ours ({} not ours), covered {} ({} implemented, {} excepted), \
         tested {}, uncovered {}\n",
        count.ours,
        count.not_ours,
        count.covered(),
        count.implemented,
        count.excepted,
        count.tested,
        count.uncovered.len(),
    );
    for (title, list) in [("uncovered", &count.uncovered), ("untested", &count.untested)] {
        for (section, sentence) in list {
            let _ = writeln!(text, "  {title} §{section}: {sentence}");
        }
    }
    text
}

/// What is not asked of this server.
pub(crate) struct NotOurs {
    entries: Vec<Entry>,
}

struct Entry {
    line: usize,
    rfc: u32,
    section: String,
    /// How the sentence begins; `None` for the whole section.
    beginning: Option<String>,
    reason: String,
}

impl NotOurs {
    /// Lines of `NNNN section | reason` and `NNNN section | beginning of a sentence | reason`.
    pub(crate) fn read(file: &File) -> Result<NotOurs, Finding> {
        let mut entries = Vec::new();
        for (number, line) in file.lines() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = Entry::read(number, line)
                .ok_or_else(|| file.finding(number, RULE, format!("not an entry: {line}")))?;
            entries.push(entry);
        }
        Ok(NotOurs { entries })
    }

    fn holds(&self, rfc: u32, section: &str, requirement: &Requirement) -> bool {
        self.entries.iter().any(|entry| entry.names(rfc, section, requirement))
    }

    /// Entries without a reason, and those that do not name exactly what they should.
    pub(crate) fn check(&self, file: &File, rfcs: &BTreeMap<u32, Rfc>) -> Vec<Finding> {
        let fault = |entry: &Entry| {
            let section = rfcs.get(&entry.rfc).and_then(|rfc| rfc.sections.get(&entry.section));
            let requirements = section.map_or(&[][..], |section| &section.requirements);
            let named =
                requirements.iter().filter(|r| entry.names(entry.rfc, &entry.section, r)).count();
            match (&entry.beginning, named) {
                _ if entry.reason.split(' ').count() < 3 => Some("no reason".to_owned()),
                (_, 0) => Some("names no requirement".to_owned()),
                (Some(_), 2..) => Some(format!("names {named} requirements, one is meant")),
                _ => None,
            }
        };
        let faulty = |entry: &Entry| fault(entry).map(|what| file.finding(entry.line, RULE, what));
        self.entries.iter().filter_map(faulty).collect()
    }
}

impl Entry {
    fn read(line: usize, text: &str) -> Option<Entry> {
        let mut fields = text.split(" | ").map(str::trim);
        let (rfc, section) = fields.next()?.split_once(' ')?;
        let rest: Vec<&str> = fields.collect();
        let (beginning, reason) = match rest[..] {
            [reason] => (None, reason),
            [beginning, reason] => (Some(beginning.to_owned()), reason),
            _ => return None,
        };
        let (section, reason) = (section.to_owned(), reason.to_owned());
        Some(Entry { line, rfc: rfc.parse().ok()?, section, beginning, reason })
    }

    fn names(&self, rfc: u32, section: &str, requirement: &Requirement) -> bool {
        let sentence = requirement.sentence.trim_start_matches(|c: char| !c.is_alphabetic());
        let sentence = sentence.strip_prefix("o ").unwrap_or(sentence);
        let begins = |beginning: &String| sentence.starts_with(beginning.as_str());
        self.rfc == rfc && self.section == section && self.beginning.as_ref().is_none_or(begins)
    }
}

const RULE: &str = "not-ours";

#[cfg(test)]
mod tests {
    use super::*;

    const RFC: &str = "\
1.  One

   The server MUST listen.  The client MUST speak.  It MUST this and
   it MUST that.  It SHOULD smile.

2.  Two

   o  The client MUST go.
";

    fn rfc() -> Rfc {
        Rfc::read(1, RFC)
    }

    fn quote(kind: Kind, words: &str) -> Quote {
        let range = rfc().sections["1"].find(words).expect("the words are in the sample");
        Quote { rfc: 1, section: "1".into(), kind, range }
    }

    fn not_ours(text: &str) -> NotOurs {
        NotOurs::read(&File::new("tests/rfc/not-ours.txt", text)).map_err(|f| f.what).unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        let file = File::new("tests/rfc/not-ours.txt", text);
        let found = not_ours(text).check(&file, &BTreeMap::from([(1, rfc())]));
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn nothing_quoted_is_nothing_covered() {
        let none = count(&rfc(), Level::Must, &[], &not_ours(""));
        assert_eq!((4, 0, 0, 4), (none.ours, none.covered(), none.tested, none.uncovered.len()));
        assert_eq!(1, count(&rfc(), Level::Should, &[], &not_ours("")).ours);
    }

    #[test]
    fn quotes_cover_what_they_hold_by_their_kind() {
        let quotes = [
            quote(Kind::Implementation, "The server MUST listen."),
            quote(Kind::Test, "The server MUST listen."),
            quote(Kind::Exception, "The client MUST speak."),
        ];
        let found = count(&rfc(), Level::Must, &quotes, &not_ours(""));
        assert_eq!((1, 1, 1), (found.implemented, found.excepted, found.tested));
        assert_eq!((2, 1), (found.uncovered.len(), found.untested.len()));
    }

    #[test]
    fn half_a_sentence_is_not_the_sentence() {
        let half = [quote(Kind::Implementation, "It MUST this and")];
        assert_eq!(0, count(&rfc(), Level::Must, &half, &not_ours("")).covered());
        let [first] = half;
        let both = [first, quote(Kind::Implementation, "it MUST that.")];
        assert_eq!(1, count(&rfc(), Level::Must, &both, &not_ours("")).covered());
    }

    #[test]
    fn the_words_of_one_section_do_not_cover_another() {
        let range = rfc().sections["2"].find("The client MUST go.").unwrap();
        let quote = Quote { rfc: 1, section: "2".into(), kind: Kind::Implementation, range };
        let found = count(&rfc(), Level::Must, &[quote], &not_ours(""));
        assert_eq!(1, found.covered());
        assert!(found.uncovered.iter().all(|(section, _)| section == "1"));
    }

    #[test]
    fn what_is_not_ours_is_not_counted() {
        let list =
            not_ours("# why\n\n1 2 | What a client does.\n1 1 | The client MUST | By a client.\n");
        let found = count(&rfc(), Level::Must, &[], &list);
        assert_eq!((2, 2), (found.not_ours, found.ours));
    }

    #[test]
    fn a_list_that_no_longer_fits_is_found() {
        assert_eq!(vec!["names no requirement"], faults("1 3 | There is no such section."));
        assert_eq!(vec!["names no requirement"], faults("1 1 | The peer | There is no such one."));
        assert_eq!(vec!["names 2 requirements, one is meant"], faults("1 1 | It | It is two."));
        assert_eq!(vec!["no reason"], faults("1 2 | Client."));
        assert_eq!(Vec::<String>::new(), faults("1 2 | What a client does."));
        let file = File::new("tests/rfc/not-ours.txt", "1 1");
        assert!(NotOurs::read(&file).is_err_and(|finding| finding.line == 1));
    }

    #[test]
    fn the_report_names_the_uncovered() {
        let found = count(&rfc(), Level::Must, &[], &not_ours(""));
        let text = report(1, Level::Must, &found);
        assert!(text.starts_with("RFC 1 MUST: 4 ours (0 not ours), covered 0"), "{text}");
        assert!(text.contains("uncovered §1: The server MUST listen."), "{text}");
    }
}
