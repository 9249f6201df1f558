//! Which origins have local storage, and what it holds, from the profile on disk.
//!
//! Chromium tells over CDP only about origins that are open in some frame. The profile knows them all: a LevelDB in
//! `Default/Local Storage/leveldb`, to which Chromium writes up to 5 s late. Its keys are `META:KEY`,
//! `METAACCESS:KEY` and `_KEY\0NAME`; names and values start with a byte that gives their encoding, 0 for UTF-16LE
//! and 1 for Latin-1. `KEY` is a serialised storage key: an origin, or `origin/^0https://top.example` and the like for
//! storage partitioned by the top-level site.
//!
//! Only a copy is ever opened, since opening a LevelDB rotates and deletes files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusty_leveldb::{DB, LdbIterator, Options};
use tempfile::TempDir;

use crate::refusal::is_web_origin;
use crate::storage_state::Item;

/// How often a copy is begun anew because Chromium compacted the database meanwhile.
const ATTEMPTS: usize = 5;

/// How long Chromium is given to finish the compaction before the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// How the names of copies begin, in the directory for temporary files.
pub(crate) const COPY_PREFIX: &str = "witgate-local-storage-";

/// The local storage in a profile cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LocalStorageError {
    /// There is no such profile: a harvest would find nothing and call it everything.
    #[error("there is no profile at {}", path.display())]
    NoProfile {
        /// The directory.
        path: PathBuf,
    },
    /// The files could not be copied, or a directory of them not be listed.
    #[error("cannot read {}: {source}", path.display())]
    Copy {
        /// The directory or file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The browser rewrote the files during each of several attempts to copy them.
    #[error("{} changed during every attempt to copy it", path.display())]
    Changing {
        /// The directory.
        path: PathBuf,
    },
    /// The copy is no LevelDB that can be read.
    #[error("cannot read a copy of {}: {problem}", path.display())]
    Corrupt {
        /// The directory that was copied.
        path: PathBuf,
        /// The database's words.
        problem: String,
    },
}

/// A private copy of a profile's local storage, deleted when dropped. Blocks on the disk.
#[derive(Debug)]
pub(crate) struct LocalStorageCopy {
    source: PathBuf,
    /// Absent for a profile that never stored anything.
    copy: Option<TempDir>,
}

impl LocalStorageCopy {
    /// Copies the database of the profile in `user_data_dir`.
    pub(crate) fn take(user_data_dir: &Path) -> Result<Self, LocalStorageError> {
        if !user_data_dir.is_dir() {
            return Err(LocalStorageError::NoProfile {
                path: user_data_dir.to_owned(),
            });
        }
        let source = user_data_dir.join("Default/Local Storage/leveldb");
        // CURRENT is written last when a database is made: without it there is nothing to read yet.
        if !source.join("CURRENT").exists() {
            return Ok(Self { source, copy: None });
        }
        for _ in 0..ATTEMPTS {
            if let Some(copy) = copy_if_quiet(&source)? {
                return Ok(Self {
                    source,
                    copy: Some(copy),
                });
            }
            std::thread::sleep(PAUSE);
        }
        Err(LocalStorageError::Changing { path: source })
    }

    /// All http and https origins with unpartitioned local storage.
    pub(crate) fn origins(&self) -> Result<BTreeSet<String>, LocalStorageError> {
        let mut origins = BTreeSet::new();
        self.scan(|key, _value| {
            if let Some(origin) = storage_key(key).filter(|key| is_web_origin(key)) {
                origins.insert(origin.to_owned());
            }
        })?;
        Ok(origins)
    }

    /// The items of all http and https origins, as old as the last write to the disk.
    pub(crate) fn items(&self) -> Result<BTreeMap<String, Vec<Item>>, LocalStorageError> {
        let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        self.scan(|key, value| {
            let item = item(key, value);
            let Some(origin) = storage_key(key).filter(|key| is_web_origin(key)) else {
                return;
            };
            if let Some(item) = item {
                items.entry(origin.to_owned()).or_default().push(item);
            }
        })?;
        Ok(items)
    }

    fn scan(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), LocalStorageError> {
        let Some(copy) = &self.copy else {
            return Ok(());
        };
        let corrupt = |status: rusty_leveldb::Status| LocalStorageError::Corrupt {
            path: self.source.clone(),
            problem: status.to_string(),
        };
        let options = Options {
            create_if_missing: false,
            ..Options::default()
        };
        // The database reader asserts what a damaged file may break.
        let scanned = catch_unwind(AssertUnwindSafe(|| {
            let mut database = DB::open(copy.path(), options)?;
            let mut iterator = database.new_iter()?;
            while let Some((key, value)) = iterator.next() {
                visit(&key, &value);
            }
            Ok(())
        }));
        let problem = match scanned {
            Ok(result) => return result.map_err(corrupt),
            Err(_panic) => "it is damaged".to_owned(),
        };
        Err(LocalStorageError::Corrupt {
            path: self.source.clone(),
            problem,
        })
    }
}

/// Copies the files of `source`, unless the database was rewritten meanwhile: tables and logs come and go together
/// with an entry in the manifest, so a manifest of the same name and length means a consistent copy.
fn copy_if_quiet(source: &Path) -> Result<Option<TempDir>, LocalStorageError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LocalStorageError::Copy { path, source }
    };
    let copy = tempfile::Builder::new()
        .prefix(COPY_PREFIX)
        .tempdir()
        .map_err(failed(source))?;
    let before = manifest(source).map_err(failed(source))?;
    for entry in fs::read_dir(source).map_err(failed(source))? {
        let path = entry.map_err(failed(source))?.path();
        let Some(name) = path.file_name().filter(|name| *name != "LOCK") else {
            continue;
        };
        match fs::copy(&path, copy.path().join(name)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        }
    }
    let after = manifest(source).map_err(failed(source))?;
    Ok((before.is_some() && before == after).then_some(copy))
}

/// The current manifest's name and length; `None` at the moment in which it is being replaced.
fn manifest(source: &Path) -> io::Result<Option<(String, u64)>> {
    let name = fs::read_to_string(source.join("CURRENT"))?
        .trim_end()
        .to_owned();
    match fs::metadata(source.join(&name)) {
        Ok(metadata) => Ok(Some((name, metadata.len()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The storage key inside a database key.
fn storage_key(key: &[u8]) -> Option<&str> {
    let key = if let Some(rest) = key.strip_prefix(b"_") {
        &rest[..rest.iter().position(|byte| *byte == 0)?]
    } else {
        key.strip_prefix(b"METAACCESS:")
            .or_else(|| key.strip_prefix(b"META:"))?
    };
    std::str::from_utf8(key).ok()
}

/// The item of a database entry, if it is one.
fn item(key: &[u8], value: &[u8]) -> Option<Item> {
    let end_of_origin = key.strip_prefix(b"_")?.iter().position(|byte| *byte == 0)? + 1;
    Some(Item {
        name: decode(&key[end_of_origin + 1..])?,
        value: decode(value)?,
    })
}

/// A name or value in Chromium's encoding. Half surrogate pairs become U+FFFD.
fn decode(bytes: &[u8]) -> Option<String> {
    match bytes.split_first()? {
        (0, utf16) if utf16.len() % 2 == 0 => {
            let units = utf16
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            Some(
                char::decode_utf16(units)
                    .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            )
        }
        (1, latin1) => Some(latin1.iter().map(|byte| char::from(*byte)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(entries: &[(&[u8], &[u8])]) -> TempDir {
        let profile = tempfile::tempdir().unwrap();
        let path = profile.path().join("Default/Local Storage/leveldb");
        fs::create_dir_all(&path).unwrap();
        let mut database = DB::open(&path, Options::default()).unwrap();
        for (key, value) in entries {
            database.put(key, value).unwrap();
        }
        database.close().unwrap();
        profile
    }

    #[test]
    fn origins_are_listed_without_partitions_and_other_schemes() {
        let profile = profile(&[
            (b"VERSION", b"1"),
            (b"META:https://a.example", b""),
            (b"METAACCESS:http://b.example:8080", b""),
            (b"META:chrome://settings", b""),
            (b"META:https://c.example/^0https://top.example", b""),
            (b"_https://d.example\0\x01k", b"\x01v"),
        ]);
        let origins = LocalStorageCopy::take(profile.path())
            .unwrap()
            .origins()
            .unwrap();
        assert_eq!(
            Vec::from_iter(origins),
            [
                "http://b.example:8080",
                "https://a.example",
                "https://d.example"
            ]
        );
    }

    #[test]
    fn both_encodings_are_read() {
        let profile = profile(&[
            (b"_https://a\0\x01caf\xe9", b"\x01v"),
            (b"_https://a\0\x00\x3d\xd8\x00\xde", b"\x00\x00\xd8"),
            (b"_https://ab\0\x01other", b"\x01other"),
        ]);
        let items = LocalStorageCopy::take(profile.path())
            .unwrap()
            .items()
            .unwrap();
        assert_eq!(Vec::from_iter(items.keys()), ["https://a", "https://ab"]);
        let items: Vec<_> = items["https://a"]
            .iter()
            .map(|item| (item.name.as_str(), item.value.as_str()))
            .collect();
        assert_eq!(items, [("\u{1F600}", "\u{FFFD}"), ("caf\u{e9}", "v")]);
    }

    #[test]
    fn reading_leaves_the_profile_byte_for_byte_as_it_was() {
        let profile = profile(&[(b"META:https://a", b"")]);
        let listing = || {
            let mut files: Vec<_> =
                fs::read_dir(profile.path().join("Default/Local Storage/leveldb"))
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .map(|path| (fs::read(&path).unwrap(), path))
                    .collect();
            files.sort();
            files
        };
        let before = listing();
        LocalStorageCopy::take(profile.path())
            .unwrap()
            .origins()
            .unwrap();
        assert!(before == listing());
    }

    #[test]
    fn a_fresh_profile_has_no_origins() {
        let profile = tempfile::tempdir().unwrap();
        assert!(
            LocalStorageCopy::take(profile.path())
                .unwrap()
                .origins()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_damaged_database_is_an_error_that_names_it() {
        let profile = profile(&[(b"META:https://a", b"")]);
        let path = profile.path().join("Default/Local Storage/leveldb");
        fs::write(path.join("CURRENT"), "MANIFEST-000999\n").unwrap();
        let error = LocalStorageCopy::take(profile.path())
            .and_then(|copy| copy.origins())
            .unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}
