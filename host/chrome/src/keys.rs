//! Keys of age (<https://age-encryption.org>): for whom snapshots and backups are encrypted, and with what they are
//! read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What every age file starts with.
pub(crate) const HEADER: &[u8] = b"age-encryption.org/v1\n";

/// Whom a snapshot or a backup is encrypted for: an X25519 public key, `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(pub(crate) age::x25519::Recipient);

/// Text that is no recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key of age: write one that starts with age1, as age-keygen prints it")]
pub struct InvalidRecipient;

impl FromStr for Recipient {
    type Err = InvalidRecipient;

    fn from_str(text: &str) -> Result<Self, InvalidRecipient> {
        text.parse().map(Self).map_err(|_| InvalidRecipient)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// Secret keys, `AGE-SECRET-KEY-1…`.
pub struct Identities(Vec<Box<dyn age::Identity>>);

/// A file does not hold secret keys. Never quotes it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct IdentityError {
    path: PathBuf,
    problem: String,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl Identities {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|key| &**key)
    }

    /// Reads a file as `age-keygen` writes it: one key a line, comments start with `#`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let error = |problem: String| IdentityError {
            path: path.to_owned(),
            problem,
        };
        let text = std::fs::read(path).map_err(|e| error(e.to_string()))?;
        // The parser's own message may quote the line.
        let keys = age::IdentityFile::from_buffer(&*text)
            .ok()
            .and_then(|file| file.into_identities().ok())
            .filter(|keys| !keys.is_empty());
        keys.map(Self).ok_or_else(|| {
            error("this holds no age identities; a line is AGE-SECRET-KEY-1…, as age-keygen writes it".into())
        })
    }
}

/// A fresh pair of keys: a line for an identity file, and its recipient.
pub fn generate() -> (String, String) {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    let line = format!("{}\n", identity.to_string().expose_secret());
    (line, identity.to_public().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(text: &str) -> Result<Identities, IdentityError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Identities::read(file.path())
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let (identity, recipient) = generate();
        assert_eq!("age1nonsense".parse::<Recipient>(), Err(InvalidRecipient));
        assert!(identity.trim().parse::<Recipient>().is_err());
        for text in ["", "hunter2", &recipient] {
            let error = identities(text).unwrap_err().to_string();
            assert!(
                error.contains("age-keygen") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
