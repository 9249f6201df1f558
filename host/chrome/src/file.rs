//! Files that are either the old one or the new one, never half of either, and readable by their owner alone.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How the names of temporary files end, which tells them from locks and the like.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A file could not be replaced. The file that was there before is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct WriteError {
    /// What was attempted, as a verb phrase: `write`, `create the directory`, …
    pub action: &'static str,
    /// The file or directory it was attempted on.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl WriteError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Replaces `path` by `bytes`, whole or not at all.
///
/// The bytes go to a temporary file of mode 0600 in the same directory (`.NAME.XXXXXX.tmp`), are flushed to the disk, and are then renamed
/// over `path`; a reader therefore sees the old content or the new one. A missing parent directory is created with
/// mode 0700. A symbolic link at `path` is replaced, not followed. Blocks on the disk: call it from a thread that may.
///
/// # Errors
/// [`WriteError`]; `path` is then as it was, unless the very last step failed (making the rename durable), in which
/// case it already holds the new content.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let directory = create_parent(path)?;
    let write = |source| WriteError::new("write", path, source);
    let mut temporary = tempfile::Builder::new()
        .prefix(&hidden_prefix(path))
        .suffix(TEMPORARY)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(|source| WriteError::new("create a file in", directory, source))?;
    temporary.write_all(bytes).map_err(write)?;
    temporary.as_file().sync_all().map_err(write)?;
    temporary
        .persist(path)
        .map_err(|failed| write(failed.error))?;
    // A rename is durable only once the directory is on the disk too.
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| WriteError::new("flush the directory", directory, source))
}

/// Whether [`write_atomically`] could replace `path` now. Creates a missing parent directory, and leaves no file behind.
///
/// # Errors
/// [`WriteError`], as `write_atomically` would give it.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    let directory = create_parent(path)?;
    tempfile::tempfile_in(directory)
        .map(drop)
        .map_err(|source| WriteError::new("create a file in", directory, source))
}

/// The directory of `path`, created with mode 0700 (like every missing one above it) unless it is there.
pub(crate) fn create_parent(path: &Path) -> Result<&Path, WriteError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_private_directory(directory)?;
    Ok(directory)
}

/// Creates `directory` with mode 0700 (like every missing one above it) unless it is there.
pub(crate) fn create_private_directory(directory: &Path) -> Result<(), WriteError> {
    let created = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    created.map_err(|source| {
        // "file exists" would be the truth, and of no help.
        let source = match source.kind() {
            io::ErrorKind::AlreadyExists => io::Error::from(io::ErrorKind::NotADirectory),
            _ => source,
        };
        WriteError::new("create the directory", directory, source)
    })
}

/// `path` with `suffix` behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A name beside `path` that a directory listing does not show and that says whose it is, should it be left behind.
pub(crate) fn hidden_prefix(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    format!(".{name}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_private_and_so_is_its_new_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/state.json");
        write_atomically(&path, b"{}").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&root.path().join("a/b")), 0o700);
        assert_eq!(mode(&root.path().join("a")), 0o700);
    }

    #[test]
    fn replacing_tightens_the_mode_and_leaves_no_temporary_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state.json");
        std::fs::write(&path, b"old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_directory_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, b"not a directory").unwrap();
        let error = write_atomically(&file.join("state.json"), b"new").unwrap_err();
        assert!(
            error.to_string().contains(&file.display().to_string()),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_in_the_place_of_the_file_is_an_error_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state.json");
        std::fs::create_dir(&path).unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
