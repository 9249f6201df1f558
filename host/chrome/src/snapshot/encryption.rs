//! Snapshots at rest in the age format (`age-encryption.org/v1`): encrypted to public keys, so that the machine that
//! writes them cannot read them.

use std::io::{self, Read, Write};

use crate::keys::{HEADER, Identities, Recipient};

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
    let keys = identities.keys();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{IdentityError, generate};

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
        assert!(encrypt(b"", &[]).is_err());
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
}
