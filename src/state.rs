//! What the daemon makes itself and keeps between starts: the secret of a first run, and files
//! that only their owner may read.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::StateFolder;
use crate::secret::Secret;

/// Where state is kept: the configured folder; else systemd's `STATE_DIRECTORY`, else `sterna` in
/// `XDG_STATE_HOME`, else in `~/.local/state`. `variable` reads the environment.
pub fn folder(
    configured: &StateFolder,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    if let StateFolder::Named(folder) = configured {
        return Some(folder.clone());
    }
    // A relative path in these is invalid by their specification, and so is ignored.
    let absolute = |name: &str| {
        let text = variable(name)?.into_string().ok()?;
        // systemd lists several folders with colons between them; the first is the unit's main one.
        let first = PathBuf::from(text.split(':').next().unwrap_or_default());
        first.is_absolute().then_some(first)
    };
    absolute("STATE_DIRECTORY")
        .or_else(|| Some(absolute("XDG_STATE_HOME")?.join("sterna")))
        .or_else(|| Some(absolute("HOME")?.join(".local/state/sterna")))
}

/// The kept secret, or `None` where none was made yet.
pub fn read_rest_secret(folder: &Path) -> anyhow::Result<Option<Secret>> {
    let path = folder.join(REST_SECRET);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause).with_context(|| path.display().to_string()),
    };
    let mode = file.metadata().with_context(|| path.display().to_string())?.permissions().mode();
    if mode & OF_OTHERS != 0 {
        let path = path.display();
        bail!("{path}: others may read this secret; chmod 600 it, or remove it to get another");
    }
    secret_in(file, &path).map(Some)
}

/// The kept secret, made from the operating system's random numbers where there is none.
pub fn keep_rest_secret(folder: &Path) -> anyhow::Result<Secret> {
    if let Some(secret) = read_rest_secret(folder)? {
        return Ok(secret);
    }
    let make = || make_rest_secret(folder);
    make().with_context(|| {
        let folder = folder.display();
        format!("no credentials are configured and none can be kept in state_folder {folder}")
    })?;
    // Another process may have made one at the same moment; the file says which of them it is.
    match read_rest_secret(folder)? {
        Some(secret) => Ok(secret),
        None => bail!("{}: vanished", folder.join(REST_SECRET).display()),
    }
}

/// A secret that an operator keeps in a file: its first line. The flag says that others may read
/// it.
pub fn secret_file(path: &Path) -> anyhow::Result<(Secret, bool)> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let metadata = file.metadata().with_context(|| path.display().to_string())?;
    Ok((secret_in(file, path)?, metadata.permissions().mode() & READABLE_BY_ALL != 0))
}

fn secret_in(file: File, path: &Path) -> anyhow::Result<Secret> {
    let mut text = String::new();
    file.take(SECRET_MAX).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    match text.lines().next().map(str::trim) {
        None | Some("") => bail!("{}: holds no secret", path.display()),
        Some(secret) => Ok(Secret::new(secret.to_owned())),
    }
}

/// 32 bytes of the operating system's random numbers.
pub(crate) fn random_bytes() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The same as text.
pub(crate) fn random_secret() -> io::Result<Secret> {
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random_bytes()?)))
}

fn make_rest_secret(folder: &Path) -> io::Result<()> {
    let secret = format!("{}\n", random_secret()?.expose());
    write_whole(folder, REST_SECRET, &secret, |unfinished, path| {
        match fs::hard_link(unfinished, path) {
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    })
}

/// Puts a file that only its owner may read in the place of the one that may be there.
pub(crate) fn replace_private(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    write_whole(folder, name, text, |unfinished, path| fs::rename(unfinished, path))
}

/// Makes a file whole or not at all: a start that is cut short must not leave half of it.
fn write_whole(
    folder: &Path,
    name: &str,
    text: &str,
    place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = folder.join(format!(".{name}.{}", process::id()));
    let placed =
        write_private(&unfinished, text).and_then(|()| place(&unfinished, &folder.join(name)));
    match fs::remove_file(&unfinished) {
        // It has been renamed.
        Err(cause) if cause.kind() == ErrorKind::NotFound => placed,
        removed => placed.and(removed),
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The file's name in the state folder.
pub const REST_SECRET: &str = "rest_secret";

/// Longer than any secret; a device or a log that is named by mistake is not read to its end.
const SECRET_MAX: u64 = 4096;

/// What nobody but the owner may have of a file with a secret in it.
pub(crate) const OF_OTHERS: u32 = 0o077;

/// What everybody may have of a file with a secret in it: nothing.
pub(crate) const OF_ALL: u32 = 0o007;

const READABLE_BY_ALL: u32 = 0o004;

#[cfg(test)]
mod tests;
