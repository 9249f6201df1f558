//! The server's ETag of a file that was pulled, so that the same is not transferred again.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use witgate_chrome::write_atomically;

/// Which version the file holds: kept in `.NAME.pulled` beside it, and believed only for the same address and only as
/// long as nobody else changed the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Validator {
    url: String,
    etag: String,
    sha256: String,
}

impl Validator {
    pub(crate) fn new(url: &str, etag: String, content: &[u8]) -> Self {
        Self {
            url: url.to_owned(),
            etag,
            sha256: digest(content),
        }
    }

    /// What is known of the file, if that still holds.
    pub(crate) fn known(url: &str, file: &Path) -> Option<Self> {
        let known: Self = serde_json::from_slice(&fs::read(path(file)?).ok()?).ok()?;
        let same = known.url == url && known.sha256 == digest(&fs::read(file).ok()?);
        same.then_some(known)
    }

    pub(crate) fn etag(&self) -> &str {
        &self.etag
    }

    /// Keeps it for the next time. Without it the next pull transfers everything, and is as good.
    pub(crate) fn keep(&self, file: &Path) {
        let json = serde_json::to_vec(self).expect("three strings always have a JSON form");
        let kept = path(file).map(|path| write_atomically(&path, &json));
        if let Some(Err(error)) = kept {
            eprintln!("witgate: the next pull cannot tell what is there already: {error}");
        }
    }
}

fn path(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?.to_string_lossy();
    Some(file.with_file_name(format!(".{name}.pulled")))
}

fn digest(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
