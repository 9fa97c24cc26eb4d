//! A certificate and its key, read from PEM and held against each other.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use sterna_actors::tls::Identity;

use super::Facts;
use crate::config::CertificateFiles;

/// A certificate and its key.
pub(super) struct Pair {
    pub(super) facts: Facts,
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) identity: Identity,
}

/// Reads a pair from the PEM texts of its files, or says which file is of no use and why.
pub(super) fn read(files: &CertificateFiles, chain: Vec<u8>, key: Vec<u8>) -> Result<Pair, String> {
    let facts = leaf_facts(&files.certificate, &chain)?;
    let at = |path: &Path, why: &str| format!("{}: {why}", path.display());
    let certificates = certificates(&chain).map_err(|why| at(&files.certificate, &why))?;
    let signing = signing_key(&key).map_err(|why| at(&files.key, &why))?;
    let certified = CertifiedKey::new(certificates, signing);
    match certified.keys_match() {
        // A key that cannot say which public key it belongs to is not held against it.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            let certificate = files.certificate.display();
            return Err(at(
                &files.key,
                &format!(
                    "is not the key of the first certificate in {certificate}; the server's own \
                     certificate comes first"
                ),
            ));
        }
        Err(cause) => return Err(at(&files.certificate, &format!("cannot be used: {cause}"))),
    }
    Ok(Pair { facts, certified: Arc::new(certified), identity: Identity { chain, key } })
}

/// The names and dates of the first certificate in a PEM text.
pub(super) fn leaf_facts(path: &Path, chain: &[u8]) -> Result<Facts, String> {
    let at = |why: &str| format!("{}: {why}", path.display());
    let certificates = certificates(chain).map_err(|why| at(&why))?;
    let leaf = certificates.first().ok_or_else(|| at(NO_CERTIFICATE))?;
    Facts::of(path.to_owned(), leaf).ok_or_else(|| at("the certificate in it does not parse"))
}

/// The certificates of a PEM text; at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|e| no_pem(&e))?;
    if certificates.is_empty() {
        return Err(NO_CERTIFICATE.to_owned());
    }
    Ok(certificates)
}

fn signing_key(text: &[u8]) -> Result<Arc<dyn SigningKey>, String> {
    let is_encrypted = ENCRYPTED.iter().any(|mark| {
        let mut windows = text.windows(mark.len());
        windows.any(|window| window == mark.as_bytes())
    });
    if is_encrypted {
        return Err("the key is encrypted, and nobody is there to type its passphrase; \
                    write it out with: openssl pkey"
            .to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => "holds no private key in PEM".to_owned(),
        error => no_pem(&error),
    })?;
    // The cause would say no more than this.
    aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|_| {
        "its key is neither RSA of 2048 bits or more, nor ECDSA, nor Ed25519".to_owned()
    })
}

fn no_pem(error: &pem::Error) -> String {
    format!("is damaged: {error}")
}

const NO_CERTIFICATE: &str = "holds no certificate in PEM";

/// How PEM says that a key is encrypted: PKCS #8, and OpenSSL's older way.
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
