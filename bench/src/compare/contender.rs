//! Who takes part: which program, which version, what it is told besides.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::target::Kind;

/// A relay that can be measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// The straight-line forwarder.
    Floor,
    /// This project's server.
    Sterna,
    /// coturn's `turnserver`.
    Coturn,
    /// The crate `turn-server`. It has no relay sockets: it hands on what one of its clients sends
    /// to another, and nothing else.
    TurnServer,
}

impl Program {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Program::Floor => "floor",
            Program::Sterna => "sterna",
            Program::Coturn => "coturn",
            Program::TurnServer => "turn-server",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Program::Floor => Kind::Floor,
            Program::Sterna | Program::Coturn | Program::TurnServer => Kind::Turn,
        }
    }
}

/// A relay, where its program is, and what the tables call it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contender {
    /// The head of its column.
    pub name: String,
    /// Which one.
    pub program: Program,
    /// The executable.
    pub path: PathBuf,
    /// Variables for its environment: Sterna's keys, by which two of it may differ.
    pub settings: Vec<(String, String)>,
    /// The numbers of its version, for telling the newest.
    pub version: Vec<u32>,
}

impl Contender {
    /// A relay called after its program and its version.
    pub fn new(program: Program, path: PathBuf) -> Contender {
        let said = if program == Program::Floor { None } else { version_of(&path) };
        let name = match &said {
            Some(version) => format!("{} {version}", program.name()),
            None => program.name().to_owned(),
        };
        let version = said.as_deref().map(numbers).unwrap_or_default();
        Contender { name, program, path, settings: Vec::new(), version }
    }

    /// Another Sterna, from `NAME=PATH[,KEY=VALUE…]`: `RELAY__PORTS=…` is the variable
    /// `STERNA__RELAY__PORTS`.
    pub fn variant(text: &str) -> Result<Contender, BenchError> {
        let bad = || BenchError::Argument(format!("{text}: not NAME=PATH[,KEY=VALUE…]"));
        let mut parts = text.split(',');
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').ok_or_else(bad)?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let (name, path) = pair(parts.next().unwrap_or_default())?;
        if name.is_empty() || path.is_empty() {
            return Err(bad());
        }
        let settings = parts
            .map(|part| pair(part).map(|(key, value)| (format!("STERNA__{key}"), value)))
            .collect::<Result<_, BenchError>>()?;
        let (program, path) = (Program::Sterna, PathBuf::from(path));
        Ok(Contender { name, program, path, settings, version: Vec::new() })
    }

    /// The most allocations that it can hold: turn-server gives each a port of one range.
    pub(super) fn allocations_max(&self) -> usize {
        match self.program {
            Program::TurnServer => TURN_SERVER_PORTS,
            Program::Floor | Program::Sterna | Program::Coturn => usize::MAX,
        }
    }
}

/// The newest coturn: what the goals are set against.
pub(super) fn reference(contenders: &[Contender]) -> Option<&Contender> {
    let coturns = contenders.iter().filter(|contender| contender.program == Program::Coturn);
    coturns.max_by(|one, other| one.version.cmp(&other.version))
}

/// The program of this name in the search path.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut candidates = env::split_paths(&path).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// The program of this name where `cargo install` puts it.
pub fn installed_by_cargo(name: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin").join(name)).filter(|path| path.is_file())
}

fn version_of(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

/// The first word that begins like a version.
fn version_in(text: &str) -> Option<String> {
    let digit = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let mut words = text.split_whitespace();
    words.find(|word| digit(word) && word.contains('.')).map(str::to_owned)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// A few less than the ports from 49152 up.
const TURN_SERVER_PORTS: usize = 16_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn coturn(version: &str) -> Contender {
        let version = numbers(version);
        let (program, path) = (Program::Coturn, PathBuf::from("turnserver"));
        Contender { name: String::new(), program, path, settings: Vec::new(), version }
    }

    #[test]
    fn a_version_is_found_in_what_programs_say_of_themselves() {
        assert_eq!(Some("4.17.1".to_owned()), version_in("4.17.1\n"));
        assert_eq!(Some("0.1.0".to_owned()), version_in("sterna 0.1.0\n"));
        assert_eq!(None, version_in("no version at 12 o'clock\n"));
    }

    #[test]
    fn the_newest_coturn_is_the_reference() {
        let contenders = [coturn("4.6.1"), coturn("4.17.1"), coturn("4.9")];
        assert_eq!(Some(&contenders[1]), reference(&contenders));
        assert_eq!(None, reference(&[]));
    }

    #[test]
    fn a_variant_has_a_name_a_path_and_settings() {
        let variant = Contender::variant("eager=/a/sterna,WORKERS=2,RELAY__TCP=false").unwrap();
        assert_eq!(("eager", Program::Sterna), (variant.name.as_str(), variant.program));
        assert_eq!(PathBuf::from("/a/sterna"), variant.path);
        let settings = [("STERNA__WORKERS", "2"), ("STERNA__RELAY__TCP", "false")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(settings.to_vec(), variant.settings);
        for wrong in ["", "name", "=path", "name=", "name=path,KEY"] {
            assert!(Contender::variant(wrong).is_err(), "{wrong}");
        }
    }
}
