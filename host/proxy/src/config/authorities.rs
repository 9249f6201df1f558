//! Reads `ca`: a file with the certificates of those who vouch for a server.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Item;
use super::interpolate::{looked_at, read_text};
use super::shape::path;

/// A bundle of all the authorities of the web is a quarter of it.
const LARGEST_FILE: u64 = 1 << 20;

/// `ca`: the authorities whose certificates count, in place of those that the system trusts.
#[derive(Clone)]
pub struct Authorities {
    pem: Arc<str>,
    roots: Arc<RootCertStore>,
}

impl Authorities {
    /// What the file holds.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificates.
    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// At least one certificate, and none that is damaged.
    fn parse(pem: String) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        match roots.is_empty() {
            true => Err("there is no certificate in it".into()),
            false => Ok(Self {
                pem: pem.into(),
                roots: Arc::new(roots),
            }),
        }
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.roots.len())
    }
}

/// The path of a file in PEM, which is watched as one that holds a secret is.
pub(super) fn read(item: &Item<'_>) -> Option<Authorities> {
    let path = path(item)?;
    item.reader().watch(path.clone());
    let read = read_text(&path, LARGEST_FILE).map_err(|error| error.to_string());
    match read.and_then(Authorities::parse) {
        Ok(authorities) => Some(authorities),
        Err(why) => {
            let problem = item.problem(format!("cannot use {}: {why}", item.shown()));
            item.reader().report(match item.is_interpolated() {
                true => problem.with_help("correct what the reference stands for"),
                false => problem.with_help(format!(
                    "name a file of certificates in PEM; {}",
                    looked_at(&path)
                )),
            });
            None
        }
    }
}
