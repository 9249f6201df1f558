//! Snapshots at rest in the age format (`age-encryption.org/v1`): encrypted to public keys, so that the machine that
//! writes them cannot read them.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What every age file starts with.
const HEADER: &[u8] = b"age-encryption.org/v1\n";

/// Whose key reads an encrypted snapshot: an X25519 public key, `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

/// Text that is no recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no age recipient")]
pub struct InvalidRecipient;

impl FromStr for Recipient {
    type Err = InvalidRecipient;

    fn from_str(text: &str) -> Result<Self, InvalidRecipient> {
        text.parse().map(Self).map_err(|_| InvalidRecipient)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Encrypts to all of `recipients`: any of them can read the result alone.
///
/// # Errors
/// Without recipients, and when the system has no randomness.
pub fn encrypt(bytes: &[u8], recipients: &[Recipient]) -> io::Result<Vec<u8>> {
    let keys = recipients.iter().map(|key| &key.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(keys).map_err(io::Error::other)?;
    let mut encrypted = Vec::with_capacity(bytes.len() + 1024);
    let mut writer = encryptor.wrap_output(&mut encrypted)?;
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(encrypted)
}

/// Whether this is an age file, by its first line.
pub fn is_encrypted(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADER)
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

/// An age file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// Encrypted to other keys.
    #[error("none of the identities is one of its recipients")]
    NoMatchingKey,
    /// Not whole, or changed.
    #[error("the encrypted file is cut short or damaged")]
    Damaged,
    /// Decrypts to more than the limit.
    #[error("it decrypts to over {0} bytes")]
    TooLarge(u64),
}

/// Decrypts to at most `limit` bytes, in memory.
///
/// # Errors
/// [`DecryptError`].
pub fn decrypt(bytes: &[u8], identities: &Identities, limit: u64) -> Result<Vec<u8>, DecryptError> {
    let decryptor = age::Decryptor::new(bytes).map_err(|_| DecryptError::Damaged)?;
    let keys = identities.0.iter().map(|key| &**key);
    let reader = decryptor.decrypt(keys).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => DecryptError::NoMatchingKey,
        _ => DecryptError::Damaged,
    })?;
    let mut plain = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut plain)
        .map_err(|_| DecryptError::Damaged)?;
    if plain.len() as u64 > limit {
        return Err(DecryptError::TooLarge(limit));
    }
    Ok(plain)
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
    fn each_recipient_reads_it_alone_and_nobody_else_does() {
        let keys: Vec<_> = (0..3).map(|_| generate()).collect();
        let recipients: Vec<Recipient> =
            keys[..2].iter().map(|key| key.1.parse().unwrap()).collect();
        let encrypted = encrypt(b"secret", &recipients).unwrap();
        assert!(is_encrypted(&encrypted) && !is_encrypted(b"{}"));
        assert!(!encrypted.windows(6).any(|window| window == b"secret"));
        for (identity, _) in &keys[..2] {
            let commented = format!("# created: today\n{identity}");
            let identities = identities(&commented).unwrap();
            assert_eq!(decrypt(&encrypted, &identities, 6).unwrap(), b"secret");
            assert_eq!(
                decrypt(&encrypted, &identities, 5),
                Err(DecryptError::TooLarge(5))
            );
        }
        let stranger = identities(&keys[2].0).unwrap();
        assert_eq!(
            decrypt(&encrypted, &stranger, 6),
            Err(DecryptError::NoMatchingKey)
        );
    }

    #[test]
    fn what_is_cut_short_or_changed_is_damaged() {
        let (identity, recipient) = generate();
        let encrypted = encrypt(b"secret", &[recipient.parse().unwrap()]).unwrap();
        let identities = identities(&identity).unwrap();
        let mut changed = encrypted.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [
            &encrypted[..encrypted.len() - 1],
            &encrypted[..30],
            &changed,
        ] {
            assert_eq!(
                decrypt(damaged, &identities, 100),
                Err(DecryptError::Damaged)
            );
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        let (identity, recipient) = generate();
        assert_eq!("age1nonsense".parse::<Recipient>(), Err(InvalidRecipient));
        assert!(identity.trim().parse::<Recipient>().is_err());
        assert!(encrypt(b"", &[]).is_err());
        for text in ["", "hunter2", &recipient] {
            let error = identities(text).unwrap_err().to_string();
            assert!(
                error.contains("age-keygen") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
