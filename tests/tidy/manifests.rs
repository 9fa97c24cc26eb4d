//! Rules about `Cargo.toml` files: reasons for dependencies, the direction of path dependencies,
//! and a panic that unwinds.

use crate::tree::{File, Finding};

/// A line of a manifest that names a dependency: its number, its name and its section.
struct Dependency<'a> {
    line: usize,
    name: &'a str,
    section: &'a str,
}

fn is_manifest(file: &File) -> bool {
    file.name() == "Cargo.toml"
}

/// Directly above each dependency a comment says what it is for.
pub(crate) fn reasons(file: &File) -> Vec<Finding> {
    let lines: Vec<&str> = file.text.lines().collect();
    let explained = |line: usize| {
        let above = line.checked_sub(2).and_then(|index| lines.get(index)).unwrap_or(&"");
        let text = above.strip_prefix('#').unwrap_or("").trim();
        text.split_whitespace().count() >= 2 && text.ends_with('.')
    };
    let bare = dependencies(file).into_iter().filter(|dependency| !explained(dependency.line));
    bare.map(|dependency| {
        let what = format!("{}: a comment above says what it is for", dependency.name);
        file.finding(dependency.line, "dependency reason", what)
    })
    .collect()
}

/// Our crates depend on each other in one direction, and proto on nothing with I/O in it.
pub(crate) fn direction(file: &File) -> Vec<Finding> {
    let banned: &[&str] = match file.path.as_str() {
        "proto/Cargo.toml" => &[
            "actix",
            "actix-rt",
            "tokio",
            "mio",
            "socket2",
            "nix",
            "libc",
            "slog",
            "rand",
            "getrandom",
            "sterna",
            "sterna-actors",
            "sterna-stores",
            "sterna-client",
            "sterna-bench",
        ],
        "stores/Cargo.toml" => &["actix", "actix-rt", "sterna", "sterna-client", "sterna-bench"],
        "actors/Cargo.toml" => &["sterna", "sterna-stores", "sterna-client", "sterna-bench"],
        "client/Cargo.toml" => {
            &["actix", "actix-rt", "sterna", "sterna-actors", "sterna-stores", "sterna-bench"]
        }
        _ => &[],
    };
    let wrong = dependencies(file).into_iter().filter(|d| banned.contains(&d.name));
    wrong
        .map(|dependency| {
            let what = format!("{} does not belong in [{}]", dependency.name, dependency.section);
            file.finding(dependency.line, "dependency direction", what)
        })
        .collect()
}

/// The root says for both profiles that a panic unwinds, and nobody says otherwise.
pub(crate) fn panics(file: &File) -> Vec<Finding> {
    let pin = |section: &str| {
        let mut lines = file.text.lines().skip_while(|line| line.trim() != section).skip(1);
        lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| line == UNWIND)
    };
    let mut findings = Vec::new();
    for section in ["[profile.release]", "[profile.dev]"] {
        if file.path == "Cargo.toml" && !pin(section) {
            let what = format!("{section} pins {UNWIND}: supervision catches panics");
            findings.push(file.finding(1, "panic", what));
        }
    }
    let other = |line: &str| line.starts_with("panic") && line != UNWIND;
    for (number, line) in file.lines().filter(|(_, line)| is_manifest(file) && other(line)) {
        findings.push(file.finding(
            number,
            "panic",
            format!("{line}: supervision needs unwinding"),
        ));
    }
    findings
}

fn dependencies(file: &File) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let (mut section, mut depth) = ("", 0_usize);
    for (line, text) in file.lines().filter(|_| is_manifest(file)) {
        let text = text.split('#').next().unwrap_or("").trim();
        if depth == 0 && text.starts_with('[') {
            section = text.trim_matches(['[', ']']);
            if let Some((above, name)) = section.rsplit_once('.').filter(|(s, _)| holds_names(s)) {
                found.push(Dependency { line, name, section: above });
            }
            continue;
        }
        let name = text.split(['=', '.', ' ']).next().unwrap_or("").trim_matches('"');
        if depth == 0 && holds_names(section) && !name.is_empty() {
            found.push(Dependency { line, name, section });
        }
        depth += text.matches(['[', '{']).count();
        depth -= text.matches([']', '}']).count().min(depth);
    }
    found
}

fn holds_names(section: &str) -> bool {
    section.rsplit('.').next().is_some_and(|last| last.ends_with("dependencies"))
}

const UNWIND: &str = "panic = \"unwind\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> Vec<usize> {
        reasons(&File::new("proto/Cargo.toml", text)).into_iter().map(|f| f.line).collect()
    }

    #[test]
    fn a_dependency_has_its_reason_above_it() {
        assert_eq!(vec![2], bare("[dependencies]\nbytes = \"1\"\n"));
        assert_eq!(vec![3], bare("[dev-dependencies]\n\nbytes.workspace = true\n"));
        assert_eq!(vec![3], bare("[target.'cfg(unix)'.dependencies]\n# Bytes.\nbytes = \"1\"\n"));
        assert_eq!(vec![4], bare("[dependencies]\n# The codec.\na = \"1\"\nb = \"1\"\n"));
        assert_eq!(vec![1], bare("[dependencies.bytes]\nversion = \"1\"\n"));
        assert_eq!(vec![2], bare("[workspace.dependencies]\nbytes = \"1\"\n"));
    }

    #[test]
    fn what_is_no_dependency_needs_no_reason() {
        let text = "[package]\nname = \"a\"\n[dependencies]\n# The codec.\n\
                    a = { version = \"1\", features = [\n\
                    \x20   \"net\",\n] }\n[lints]\nworkspace = true\n";
        assert_eq!(Vec::<usize>::new(), bare(text));
    }

    #[test]
    fn manifests_point_the_way_imports_do() {
        let of = |path: &str, name: &str| {
            direction(&File::new(path, format!("[dependencies]\n{name} = \"1\"\n"))).len()
        };
        assert_eq!(1, of("proto/Cargo.toml", "tokio"));
        assert_eq!(1, of("proto/Cargo.toml", "sterna-actors"));
        assert_eq!(1, of("actors/Cargo.toml", "sterna-client"));
        assert_eq!(1, of("client/Cargo.toml", "sterna-actors"));
        assert_eq!(0, of("actors/Cargo.toml", "sterna-proto"));
        assert_eq!(0, of("Cargo.toml", "sterna-actors"));
    }

    #[test]
    fn the_root_pins_unwinding() {
        let whole = format!("[profile.release]\n{UNWIND}\n\n[profile.dev]\n{UNWIND}\n");
        assert_eq!(0, panics(&File::new("Cargo.toml", &*whole)).len());
        assert_eq!(2, panics(&File::new("Cargo.toml", "[package]\n")).len());
        let half = format!("[profile.release]\nlto = true\n[profile.dev]\n{UNWIND}\n");
        assert_eq!(1, panics(&File::new("Cargo.toml", half)).len());
        let abort = "[profile.release]\npanic = \"abort\"\n";
        assert_eq!(1, panics(&File::new("fuzz/Cargo.toml", abort)).len());
    }
}
