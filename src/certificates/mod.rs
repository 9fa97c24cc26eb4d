//! Certificates: read from files, checked, chosen by name, and renewed while the server runs.
//!
//! `pair` reads a certificate and its key, `by_name` chooses one for each client, `terms` makes of
//! them what the server shows, `renewal` keeps that in step with the files, and `self_signed` makes
//! the certificate of a first run.

mod by_name;
mod facts;
mod pair;
mod renewal;
mod self_signed;
mod terms;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sterna_actors::tls::TlsTerms;

use crate::config::{CertificateFiles, Fault};

pub use facts::{Facts, Name};
pub(crate) use renewal::{LOOK_EVERY, Look, Renewal, start, tell};
pub(crate) use self_signed::{Kept, keep, kept_at};

/// The files that the terms of TLS and DTLS are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Certificates and their keys; the first is shown to whoever names no other. Never empty.
    pub pairs: Vec<CertificateFiles>,
    /// The authorities of client certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether DTLS is asked for, so that the first certificate has to be of use for it as well.
    pub serves_dtls: bool,
}

/// What was in the files at one moment, or why they could not be read. Comparing contents sees
/// every way in which files are replaced: in place, by renaming, and by symbolic links along the
/// path, as certbot's are and those of Kubernetes' volumes.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    pairs: Vec<(FileText, FileText)>,
    client_ca: Option<FileText>,
}

type FileText = Result<Vec<u8>, String>;

/// Terms, and what their certificates say of themselves.
pub struct Loaded {
    /// What clients are shown.
    pub terms: TlsTerms,
    /// The certificates in the order of their sources.
    pub certificates: Vec<Facts>,
}

impl Sources {
    /// Reads the files. It blocks for as long as the disk does.
    pub fn read(&self) -> Contents {
        let pair =
            |files: &CertificateFiles| (read_file(&files.certificate), read_file(&files.key));
        Contents {
            pairs: self.pairs.iter().map(pair).collect(),
            client_ca: self.client_ca.as_deref().map(read_file),
        }
    }

    /// Makes terms of what was in the files.
    ///
    /// # Errors
    /// The first file that is of no use: its key in the configuration, its path, and why.
    pub fn load(&self, contents: &Contents) -> Result<Loaded, Fault> {
        let mut pairs = Vec::new();
        for (files, (certificate, key)) in self.pairs.iter().zip(&contents.pairs) {
            let text = |path: &Path, text: &FileText| match text {
                Ok(text) => Ok(text.clone()),
                Err(cause) => Err(format!("{}: {cause}", path.display())),
            };
            let pair = text(&files.certificate, certificate)
                .and_then(|chain| Ok((chain, text(&files.key, key)?)))
                .and_then(|(chain, key)| pair::read(files, chain, key))
                .map_err(|why| Fault::new("tls.certificates", &why))?;
            pairs.push(pair);
        }
        let authorities = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(text)) => Some(terms::authorities(path, text)?),
            (Some(_), None) | (None, _) => None,
        };
        let (terms, certificates) = terms::of(pairs, authorities)?;
        if self.serves_dtls {
            let path = self.pairs.first().map(|files| files.certificate.display().to_string());
            serve_dtls(&terms).map_err(|cause| {
                let path = path.unwrap_or_default();
                Fault::new("tls.certificates", &format!("{path}: is of no use for DTLS: {cause}"))
            })?;
        }
        Ok(Loaded { terms, certificates })
    }
}

/// Holds the first certificate against the library that DTLS is made with, whose taste is its own.
#[cfg(feature = "dtls")]
fn serve_dtls(terms: &TlsTerms) -> Result<(), sterna_actors::socket::IdentityError> {
    sterna_actors::socket::IdentityError::check(&terms.datagrams)
}

/// `dtls://` is refused before this is asked.
#[cfg(not(feature = "dtls"))]
fn serve_dtls(_: &TlsTerms) -> Result<(), std::convert::Infallible> {
    Ok(())
}

/// The names and dates of the certificate at `path`, where it can be read: for addresses to hand
/// out, which need no key.
pub(crate) fn facts_at(path: &Path) -> Option<Facts> {
    let text = read_file(path).ok()?;
    pair::leaf_facts(path, &text).ok()
}

fn read_file(path: &Path) -> FileText {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) if text.len() as u64 > FILE_MAX => {
            Err(format!("is larger than {FILE_MAX} bytes, which no PEM file of a certificate is"))
        }
        Ok(text) => Ok(text),
        Err(cause) => Err(cause.to_string()),
    }
}

/// A log or a device that is named by mistake is not read to its end, every few seconds.
const FILE_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
