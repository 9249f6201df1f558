//! Earlier generations of a snapshot, and suspicious ones that were not published, in `NAME.history/` beside it.
//!
//! `TIME-DIGEST.json`, `TIME-DIGEST.suspicious.json`, with `.age` behind when encrypted. The digest is that of the
//! content before encryption, so that equal content is seen to be equal although its key cannot be had.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::file::{WriteError, beside, create_private_directory, write_atomically};

use super::encryption::is_encrypted;
use super::timestamp::Timestamp;

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// When it was written.
    pub taken: Timestamp,
    /// The beginning of the SHA-256 of its content before encryption: 16 hexadecimal digits.
    pub digest: String,
    /// Whether it was kept aside instead of being published.
    pub suspicious: bool,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// The directory of a snapshot's history.
pub fn directory(file: &Path) -> PathBuf {
    beside(file, ".history")
}

/// All generations of a snapshot, the newest first. Files of other names are passed over.
///
/// # Errors
/// The directory cannot be read. One that is not there holds no generations.
pub fn list(file: &Path) -> io::Result<Vec<Generation>> {
    let entries = match fs::read_dir(directory(file)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut generations = Vec::new();
    for entry in entries {
        let entry = entry?;
        generations.extend(generation(&entry.path(), entry.metadata()?.len()));
    }
    generations.sort_by(|a, b| b.taken.cmp(&a.taken).then_with(|| b.path.cmp(&a.path)));
    Ok(generations)
}

fn generation(path: &Path, bytes: u64) -> Option<Generation> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".age").unwrap_or(name);
    let stem = stem.strip_suffix(".json")?;
    let (stem, suspicious) = match stem.strip_suffix(".suspicious") {
        Some(stem) => (stem, true),
        None => (stem, false),
    };
    let (time, digest) = stem.split_once('-')?;
    let hexadecimal = digest.len() == 16 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    Some(Generation {
        taken: Timestamp::from_compact(time)?,
        digest: hexadecimal.then(|| digest.to_owned())?,
        suspicious,
        bytes,
        path: path.to_owned(),
    })
}

/// What tells one content from another.
pub(crate) fn digest(plain: &[u8]) -> String {
    let digest = Sha256::digest(plain);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Keeps `content` as the newest generation of its kind, unless the newest has the same digest, and removes those of
/// its kind beyond the newest `limit`, never the one that holds the content. Those of a time that is yet to come, from
/// a clock that was ahead, count as the oldest. Gives the time of the generation that holds the content.
pub(crate) fn keep(
    file: &Path,
    content: &[u8],
    digest: &str,
    now: Timestamp,
    suspicious: bool,
    limit: usize,
) -> Result<Timestamp, WriteError> {
    let directory = directory(file);
    let read = |source| WriteError::new("read the directory", &directory, source);
    create_private_directory(&directory)?;
    let of_kind = || -> Result<Vec<Generation>, WriteError> {
        let mut all = list(file).map_err(read)?;
        all.retain(|generation| generation.suspicious == suspicious);
        all.sort_by_key(|generation| generation.taken > now);
        Ok(all)
    };
    let taken = match of_kind()?.first() {
        Some(newest) if newest.digest == digest => newest.taken,
        _ => {
            let kind = if suspicious { ".suspicious" } else { "" };
            let age = if is_encrypted(content) { ".age" } else { "" };
            let name = format!("{}-{digest}{kind}.json{age}", now.compact());
            write_atomically(&directory.join(name), content)?;
            now
        }
    };
    let mut others = of_kind()?;
    others.retain(|generation| generation.taken != taken || generation.digest != digest);
    for old in others.into_iter().skip(limit.saturating_sub(1)) {
        fs::remove_file(&old.path)
            .map_err(|source| WriteError::new("remove", &old.path, source))?;
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn at(second: u32) -> Timestamp {
        Timestamp::from_unix(f64::from(1_767_225_600 + second)).unwrap()
    }

    fn keep_text(file: &Path, text: &str, second: u32, suspicious: bool) -> Timestamp {
        let digest = digest(text.as_bytes());
        keep(file, text.as_bytes(), &digest, at(second), suspicious, 2).unwrap()
    }

    #[test]
    fn the_newest_are_kept_privately_and_equal_content_once() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        assert_eq!(list(&file).unwrap(), []);
        for (second, text) in ["a", "b", "b", "c"].into_iter().enumerate() {
            keep_text(&file, text, second as u32, false);
        }
        let kept = list(&file).unwrap();
        let content: Vec<_> = kept
            .iter()
            .map(|g| fs::read_to_string(&g.path).unwrap())
            .collect();
        assert_eq!(content, ["c", "b"]);
        assert_eq!((kept[0].taken, kept[1].taken), (at(3), at(1)));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&kept[0].path), 0o600);
        assert_eq!(mode(&directory(&file)), 0o700);
        assert_eq!(
            keep_text(&file, "c", 9, false),
            at(3),
            "the generation that holds it"
        );
    }

    #[test]
    fn generations_from_a_clock_that_was_ahead_do_not_push_the_new_one_out() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        for second in [1_000, 1_001] {
            keep_text(&file, &second.to_string(), second, false);
        }
        for (second, text) in [(1, "a"), (2, "b"), (2, "c")] {
            assert_eq!(keep_text(&file, text, second, false), at(second));
            let kept = list(&file).unwrap();
            let digest = digest(text.as_bytes());
            assert!(
                kept.iter().any(|g| g.digest == digest),
                "{text} is not in {kept:?}"
            );
        }
        let kept: Vec<_> = list(&file).unwrap().iter().map(|g| g.taken).collect();
        assert_eq!(kept, [at(2), at(2)]);
    }

    #[test]
    fn suspicious_ones_do_not_push_good_ones_out_and_other_files_stay() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        keep_text(&file, "good", 0, false);
        fs::write(directory(&file).join("notes.json"), "mine").unwrap();
        for second in 1..5 {
            keep_text(&file, &second.to_string(), second, true);
        }
        let kept = list(&file).unwrap();
        let kinds: Vec<_> = kept.iter().map(|g| g.suspicious).collect();
        assert_eq!(kinds, [true, true, false]);
        assert!(directory(&file).join("notes.json").exists());
    }
}
