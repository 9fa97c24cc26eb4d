//! What clippy cannot check: RFC quotes, import direction, the form of files. One test for each
//! rule, over the whole repository; beside each rule stand samples that it must catch.
//!
//! `cargo test --test tidy -- --nocapture` also prints how many of the RFCs' requirements are
//! covered.

mod actor_rules;
mod code_rules;
mod coverage;
mod imports;
mod manifests;
mod quotes;
mod rfc;
mod rust_text;
mod shared_state;
mod text_rules;
mod tree;

use std::path::Path;
use std::sync::LazyLock;

use coverage::NotOurs;
use quotes::Quote;
use rfc::{Level, Rfc};
use tree::{File, Finding};

/// The least number of MUST sentences of RFC 8656, 8489 and 6062 that quotes in the code cover, and
/// that quotes in tests hold. Each only grows: whoever adds quotes runs this test with
/// `--nocapture`, reads the two numbers in its last line and writes them here.
const COVERED_AT_LEAST: usize = 101;
const TESTED_AT_LEAST: usize = 114;

/// The RFCs whose requirements are counted; the others are only quoted.
const COUNTED: [u32; 3] = [8656, 8489, 6062];

static FILES: LazyLock<Vec<File>> =
    LazyLock::new(|| tree::read(Path::new(env!("CARGO_MANIFEST_DIR"))));

fn each(rule: fn(&File) -> Vec<Finding>) {
    report(FILES.iter().flat_map(rule).collect());
}

fn report(mut findings: Vec<Finding>) {
    findings.sort();
    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(list.is_empty(), "{} findings\n{}", list.len(), list.join("\n"));
}

#[test]
fn the_rules_see_the_repository() {
    for path in ["Cargo.toml", "proto/src/lib.rs", "actors/src/lib.rs", "src/main.rs", "turn.yaml"]
    {
        assert!(FILES.iter().any(|file| file.path == path), "{path} is not among the files");
    }
}

#[test]
fn each_rfc_quote_stands_in_its_section() {
    let rfcs = Rfc::all(&FILES);
    report(FILES.iter().flat_map(|file| quotes::check(file, &rfcs).1).collect());
}

#[test]
fn the_coverage_of_the_rfcs_does_not_shrink() {
    let rfcs = Rfc::all(&FILES);
    let file = FILES.iter().find(|file| file.path == "tests/rfc/not-ours.txt");
    let file = file.expect("tests/rfc/not-ours.txt is part of the repository");
    let not_ours = NotOurs::read(file).unwrap_or_else(|finding| panic!("{finding}"));
    report(not_ours.check(file, &rfcs));
    // What the client does right says nothing about the server.
    let server = FILES.iter().filter(|f| !f.is_under("client") && !f.is_under("bench"));
    let quotes: Vec<Quote> = server.flat_map(|file| quotes::check(file, &rfcs).0).collect();
    let (mut covered, mut tested, mut ours) = (0, 0, 0);
    for number in COUNTED {
        for level in [Level::Must, Level::Should] {
            let count = coverage::count(&rfcs[&number], level, &quotes, &not_ours);
            print!("{}", coverage::report(number, level, &count));
            if level == Level::Must {
                covered += count.covered();
                tested += count.tested;
                ours += count.ours;
            }
        }
    }
    println!("MUST of all: {ours} ours, COVERED_AT_LEAST = {covered}, TESTED_AT_LEAST = {tested}");
    assert!(covered >= COVERED_AT_LEAST, "{covered} MUST covered, were {COVERED_AT_LEAST}");
    assert!(tested >= TESTED_AT_LEAST, "{tested} MUST tested, were {TESTED_AT_LEAST}");
}

#[test]
fn imports_point_one_way() {
    each(imports::check);
}

#[test]
fn unsafe_code_is_in_one_place() {
    each(code_rules::unsafe_code);
}

#[test]
fn functions_are_short() {
    each(code_rules::function_length);
}

#[test]
fn tests_have_no_bad_habits() {
    each(code_rules::test_habits);
}

#[test]
fn tests_open_no_fixed_ports() {
    each(code_rules::fixed_ports);
}

#[test]
fn actor_files_say_the_five_things() {
    report(actor_rules::headers(&FILES));
}

#[test]
fn actix_is_used_the_way_that_works() {
    each(actor_rules::actix_use);
}

#[test]
fn actors_are_started_by_supervision() {
    each(actor_rules::bare_starts);
}

#[test]
fn no_lock_and_no_shared_state_is_in_the_way_of_data() {
    report(shared_state::shared_state(&FILES));
}

#[test]
fn rust_files_begin_with_their_purpose() {
    each(text_rules::file_head);
}

#[test]
fn files_are_short() {
    each(text_rules::file_length);
}

#[test]
fn lines_are_short() {
    each(text_rules::line_length);
}

#[test]
fn comments_read_the_same_in_a_year() {
    each(text_rules::banned_words);
}

#[test]
fn no_machine_is_named() {
    each(text_rules::places);
}

#[test]
fn dependencies_have_reasons() {
    each(manifests::reasons);
}

#[test]
fn dependencies_point_one_way() {
    each(manifests::direction);
}

#[test]
fn panics_unwind() {
    each(manifests::panics);
}
