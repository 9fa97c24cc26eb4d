//! The repository's files as the rules see them: what would be committed, with its text.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::rust_text::RustText;

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.what)
    }
}

/// A text file, its path relative to the root with forward slashes.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    rust: Option<RustText>,
    declared_test: bool,
}

impl File {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> File {
        let (path, text) = (path.into(), text.into());
        let rust = path.ends_with(".rs").then(|| RustText::read(&text));
        File { path, text, rust, declared_test: false }
    }

    /// Code, comments and literals of a Rust file; `None` for every other kind.
    pub(crate) fn rust(&self) -> Option<&RustText> {
        self.rust.as_ref()
    }

    /// The lines with their numbers, which count from one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub(crate) fn is_under(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether the whole file is test code. A module inside a file is asked of `RustText`.
    pub(crate) fn is_test(&self) -> bool {
        self.declared_test || self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// Where the files of the modules declared in this one lie.
    fn module_folder(&self) -> &str {
        let folder = self.path.strip_suffix(self.name()).unwrap_or("").trim_end_matches('/');
        match self.name() {
            "lib.rs" | "main.rs" | "mod.rs" => folder,
            _ => self.path.trim_end_matches(".rs"),
        }
    }

    pub(crate) fn finding(&self, line: usize, rule: &'static str, what: String) -> Finding {
        Finding { path: self.path.clone(), line, rule, what }
    }
}

/// Every text file below `root`, in the order of the paths.
pub(crate) fn read(root: &Path) -> Vec<File> {
    let mut files = Vec::new();
    walk(root, "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    mark_test_modules(&mut files);
    files
}

/// A file is test code when the module that declares it says `#[cfg(test)]`.
fn mark_test_modules(files: &mut [File]) {
    let declared = |file: &File| {
        let modules = file.rust().map(RustText::test_modules).unwrap_or_default();
        let path = |name: &&str| format!("{}/{name}", file.module_folder());
        modules.iter().map(path).collect::<Vec<_>>()
    };
    let modules: Vec<String> = files.iter().flat_map(declared).collect();
    for file in files {
        let own = file.path.strip_suffix(".rs").unwrap_or(&file.path).to_owned();
        file.declared_test = modules.iter().any(|module| own == *module || file.is_under(module));
    }
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.map(|entry| entry.expect("a folder that opened can be listed")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().expect("an entry has a kind");
        if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
            walk(&entry.path(), &path, files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.push(File::new(path, text));
        }
    }
}

/// What version control does not hold: itself, build results, what a fuzzer or an interpreter
/// makes.
const NOT_OURS: [&str; 6] =
    [".git", "target", "artifacts", "corpus", "__pycache__", "node_modules"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_known_by_its_folder_or_its_declaration() {
        let declares = "mod a;\n#[cfg(test)]\nmod checks;\n";
        let mut files: Vec<File> =
            ["proto/src/lib.rs", "proto/src/nonce.rs", "proto/src/stun/mod.rs"]
                .map(|path| File::new(path, declares))
                .into();
        let tests = [
            "tests/wire/main.rs",
            "proto/tests/vectors.rs",
            "proto/src/checks.rs",
            "proto/src/nonce/checks.rs",
            "proto/src/stun/checks/one.rs",
        ];
        let others = ["proto/src/a.rs", "proto/src/stun/nonce/checks.rs", "actors/src/tests.rs"];
        files.extend(tests.iter().chain(&others).map(|path| File::new(*path, "")));
        mark_test_modules(&mut files);
        let found: Vec<&str> =
            files.iter().filter(|file| file.is_test()).map(|file| file.path.as_str()).collect();
        assert_eq!(tests.to_vec(), found);
    }

    #[test]
    fn a_folder_is_not_a_prefix_of_a_name() {
        assert!(File::new("proto/src/lib.rs", "").is_under("proto"));
        assert!(!File::new("prototype/src/lib.rs", "").is_under("proto"));
    }

    #[test]
    fn a_finding_reads_as_place_rule_and_fault() {
        let finding = File::new("src/main.rs", "").finding(7, "unsafe", "not here".into());
        assert_eq!("src/main.rs:7: unsafe: not here", finding.to_string());
    }
}
