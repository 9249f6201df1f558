//! Certificates that vouch for themselves, for development: made at the start, kept in memory, trusted by nobody.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Certificate;

/// The certificate for these names, which stays the same as long as the process lives, so that whoever has accepted it
/// need not do so again after a reload.
///
/// # Errors
///
/// When a name is none that a certificate can have.
pub(crate) fn self_signed(names: &[String]) -> Result<Certificate, String> {
    static MADE: OnceLock<Mutex<HashMap<Vec<String>, Certificate>>> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    // Each certificate is put in whole.
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(certificate) = made.get(names) {
        return Ok(certificate.clone());
    }
    let new = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    let key = PrivatePkcs8KeyDer::from(new.signing_key.serialize_der());
    let certificate = Certificate::new(vec![new.cert.der().clone()], PrivateKeyDer::from(key))
        .map_err(|unusable| format!("{unusable:?}"))?;
    made.insert(names.to_vec(), certificate.clone());
    Ok(certificate)
}

/// A certificate and its key, as they are in files.
#[cfg(test)]
pub(super) fn pem() -> (String, String) {
    let new = rcgen::generate_simple_self_signed(["a.example".into()]).expect("it can be made");
    (new.cert.pem(), new.signing_key.serialize_pem())
}
