//! Secrets that a plugin was granted by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use wasmtime::Result;

use crate::bindings::secrets::{Error, Host};
use crate::instance::State;

/// `grant.secrets`: what is in it shows in no log. Cheap to clone.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<Box<str>, Box<str>>>);

impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(secrets: I) -> Self {
        let secrets = secrets.into_iter();
        Self(Arc::new(
            secrets
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        ))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Host for State {
    fn get(&mut self, name: String) -> Result<Result<Vec<u8>, Error>> {
        let secret = self.secrets.0.get(&*name).ok_or(Error::NotGranted);
        Ok(secret.map(|secret| secret.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_shown() {
        let secrets: Secrets = [("api-key", "s3cret")].into_iter().collect();
        assert_eq!(format!("{secrets:?}"), "{\"api-key\"}");
    }
}
