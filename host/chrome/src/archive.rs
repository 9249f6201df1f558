//! The shape of a profile's backup: `tar`, compressed by zstd, and by choice encrypted by age.
//!
//! The first entry is a label that tells it apart from any other archive. The others are regular files with paths
//! below the profile. zstd's checksum covers all of it, and an archive that is cut short does not decompress.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::keys::{HEADER, Identities, IdentityError, Recipient};

/// The label's name in the archive. No file of a profile is called so.
pub(crate) const LABEL: &str = "witgate-profile-backup.json";

/// The one format there is.
pub(crate) const FORMAT: u32 = 1;

/// How UTC times are written in names: they sort by time, and no file system minds them.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// What an archive says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) format: u32,
    /// When it was begun, as in its name.
    pub(crate) taken: String,
    /// The version of the Chromium that last used the profile.
    pub(crate) chromium: Option<String>,
}

/// `time` in UTC, to the second, as part of a name.
pub(crate) fn time_in_name(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format(TIME).to_string()
}

/// How the name of an archive begins in which a file may be torn. What looks for `profile-*` finds only others.
pub(crate) const TORN: &str = "torn-";

/// The name of an archive that was begun at `time`.
pub(crate) fn name(time: SystemTime, encrypted: bool, torn: bool) -> String {
    let begin = if torn { TORN } else { "" };
    let end = if encrypted { ".age" } else { "" };
    format!("{begin}profile-{}.tar.zst{end}", time_in_name(time))
}

/// When an archive of this name was begun, torn or not; `None` for a file of another kind.
pub(crate) fn time_of(name: &str) -> Option<SystemTime> {
    let rest = name.strip_prefix(TORN).unwrap_or(name);
    let rest = rest.strip_prefix("profile-")?;
    let time = rest
        .strip_suffix(".tar.zst")
        .or_else(|| rest.strip_suffix(".tar.zst.age"))?;
    let time = NaiveDateTime::parse_from_str(time, TIME).ok()?.and_utc();
    let seconds = u64::try_from(time.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Where an archive's bytes go.
pub(crate) enum Sink {
    Plain(BufWriter<File>),
    Encrypted(StreamWriter<BufWriter<File>>),
}

impl Sink {
    /// Encrypts for `recipients`, if there are any.
    pub(crate) fn new(file: File, recipients: &[Recipient]) -> io::Result<Self> {
        let file = BufWriter::new(file);
        if recipients.is_empty() {
            return Ok(Self::Plain(file));
        }
        let recipients = recipients.iter().map(|recipient| &recipient.0 as _);
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        Ok(Self::Encrypted(encryptor.wrap_output(file)?))
    }

    /// Writes what is still on its way.
    pub(crate) fn finish(self) -> io::Result<()> {
        let mut file = match self {
            Self::Plain(file) => file,
            Self::Encrypted(stream) => stream.finish()?,
        };
        file.flush()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}

/// An archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("it is encrypted: give the file with its secret key by --identity")]
    NoIdentity,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("it cannot be decrypted: {0}")]
    Decrypt(#[from] DecryptError),
}

/// Opens an archive, to read the `tar` in it. `identity` is a file as `age-keygen` writes it.
pub(crate) fn open(path: &Path, identity: Option<&Path>) -> Result<Box<dyn Read>, OpenError> {
    let mut file = BufReader::new(File::open(path)?);
    // A regular file's first read gives more than this, unless it is shorter.
    if !file.fill_buf()?.starts_with(HEADER) {
        return Ok(Box::new(zstd::Decoder::with_buffer(file)?));
    }
    let identities = Identities::read(identity.ok_or(OpenError::NoIdentity)?)?;
    let stream = Decryptor::new_buffered(file)?.decrypt(identities.keys())?;
    Ok(Box::new(zstd::Decoder::new(stream)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_time_and_sort_by_it() {
        let early = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let late = early + Duration::from_secs(86_400);
        let whole = |time, encrypted| name(time, encrypted, false);
        assert_eq!(whole(early, false), "profile-20231114T221320Z.tar.zst");
        assert_eq!(whole(early, true), "profile-20231114T221320Z.tar.zst.age");
        let torn = name(early, false, true);
        assert_eq!(torn, "torn-profile-20231114T221320Z.tar.zst");
        assert!(whole(early, false) < whole(late, false));
        for (encrypted, torn) in [(false, false), (true, false), (false, true), (true, true)] {
            assert_eq!(time_of(&name(late, encrypted, torn)), Some(late));
        }
        for other in [
            "profile-20231114T221320Z.tar",
            "profile-yesterday.tar.zst",
            "notes",
        ] {
            assert_eq!(time_of(other), None, "{other}");
        }
    }
}
