//! Secrets that the operator granted by name, apart from the configuration:
//! `grant.secrets = { api-key = "${file:/run/secrets/api-key}" }`.

use std::error;
use std::fmt;

use crate::bindings::witgate::plugin::secrets as wit;

/// The secret of this name. It stays the same for as long as the instance lives; keep it out of log lines.
///
/// # Errors
///
/// When the operator has not granted one of this name.
pub fn get(name: &str) -> Result<Vec<u8>, NotGranted> {
    wit::get(name).map_err(|wit::Error::NotGranted| NotGranted {
        name: name.to_owned(),
    })
}

/// The operator has not granted a secret of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGranted {
    name: String,
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        write!(
            f,
            "the secret `{name}` is not granted; add it to `grant.secrets`"
        )
    }
}

impl error::Error for NotGranted {}
