//! The certificate of a first run, signed by itself.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::DnsName;
use time::OffsetDateTime;

use super::pair;
use crate::state;

/// A certificate in the state folder.
pub(crate) struct Kept {
    /// The file that holds it and its key.
    pub(crate) path: PathBuf,
    /// Whether it was not there, or was over.
    pub(crate) is_made: bool,
}

/// Where the certificate of a first run is, or will be.
pub(crate) fn kept_at(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// The certificate in `folder`, made for `realm` and `addresses` where there is none or it is about
/// to be over at `now`, a time since 1970.
pub(crate) fn keep(
    folder: &Path,
    realm: &str,
    addresses: &[IpAddr],
    now: Duration,
) -> anyhow::Result<Kept> {
    let path = kept_at(folder);
    let is_good = match fs::read(&path) {
        // One that does not parse is not ours to replace: the start says what is wrong with it.
        Ok(text) => pair::leaf_facts(&path, &text)
            .map_or(true, |facts| !facts.is_expired(now.saturating_add(REMADE_BEFORE))),
        Err(cause) if cause.kind() == ErrorKind::NotFound => false,
        Err(cause) => return Err(cause).with_context(|| path.display().to_string()),
    };
    if is_good {
        refuse_if_public(&path)?;
        return Ok(Kept { path, is_made: false });
    }
    let text = make(realm, addresses, now).context("tls.self_signed")?;
    state::replace_private(folder, FILE, &text).with_context(|| {
        let folder = folder.display();
        format!("tls.self_signed: no certificate can be kept in state_folder {folder}")
    })?;
    Ok(Kept { path, is_made: true })
}

fn refuse_if_public(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    if metadata.permissions().mode() & state::OF_OTHERS != 0 {
        let path = path.display();
        bail!("{path}: others may read this key; chmod 600 it, or remove it to get another");
    }
    Ok(())
}

/// Certificate and key as one PEM text, so that a file holds both or neither.
fn make(realm: &str, addresses: &[IpAddr], now: Duration) -> anyhow::Result<String> {
    // A realm may be any text; only one that is a host name can be connected to.
    let host = DnsName::try_from(realm).ok().map(|_| realm.to_owned());
    let names: Vec<String> =
        host.into_iter().chain(addresses.iter().map(IpAddr::to_string)).collect();
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, SUBJECT);
    params.distinguished_name = subject;
    let begin = OffsetDateTime::from_unix_timestamp(i64::try_from(now.as_secs())?)?;
    // A client's clock may be behind ours.
    params.not_before = begin - Duration::from_secs(24 * 60 * 60);
    params.not_after = begin + GOOD_FOR;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// The file's name in the state folder.
const FILE: &str = "self_signed.pem";

/// Shown by whoever displays the certificate; clients look at the other names.
const SUBJECT: &str = "sterna, signed by itself";

/// Some clients refuse server certificates that are good for more than 825 days, accepted or not.
const GOOD_FOR: Duration = Duration::from_secs(800 * 24 * 60 * 60);

/// A start replaces a certificate that would end so soon: the next one may be far away.
const REMADE_BEFORE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
