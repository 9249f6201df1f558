//! What a harvest that was killed left behind. It holds sign-ins, and nobody else would ever remove it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use crate::file::{TEMPORARY, hidden_prefix};
use crate::local_storage::COPY_PREFIX;
use crate::snapshot::history;

/// What is younger may be in use, by another process or another snapshot's harvest: none takes nearly as long.
const AGE: Duration = Duration::from_secs(60 * 60);

/// Removes temporary files of the snapshot `file`, its status and its history, and copies of a profile's local storage
/// in the directory for temporary files, that are older than an hour and belong to this user. The caller holds the
/// harvest's lock. What cannot be removed is logged, and tried again by the next harvest.
pub(crate) fn remove(file: &Path) {
    let of_file = hidden_prefix(file);
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty());
    let places = [
        (directory.unwrap_or(Path::new(".")), &*of_file, TEMPORARY),
        (&history::directory(file), ".", TEMPORARY),
        (&std::env::temp_dir(), COPY_PREFIX, ""),
    ];
    for (directory, prefix, suffix) in places {
        if let Err(error) = remove_from(directory, prefix, suffix) {
            let directory = directory.display();
            warn!(%error, %directory, "what earlier harvests left behind is not removed");
        }
    }
}

fn remove_from(directory: &Path, prefix: &str, suffix: &str) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let ours = |name: &str| name.starts_with(prefix) && name.ends_with(suffix);
        if !name.to_str().is_some_and(ours) {
            continue;
        }
        match remove_if_old(&entry.path()) {
            // Another harvest removed it first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn remove_if_old(path: &Path) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    let age = SystemTime::now().duration_since(metadata.modified()?);
    let old = age.is_ok_and(|age| age > AGE);
    if !old || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    match metadata.is_dir() {
        true => fs::remove_dir_all(path)?,
        false => fs::remove_file(path)?,
    }
    info!(path = %path.display(), "removed what a harvest that was killed left behind");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn make_old(path: &Path) {
        let then = SystemTime::now() - AGE - Duration::from_secs(60);
        File::open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn old_temporary_files_of_the_snapshot_are_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let history = history::directory(&file);
        fs::create_dir(&history).unwrap();
        let left_behind = [
            root.path().join(".state.json.a1B2c3.tmp"),
            root.path().join(".state.json.status.json.a1B2c3.tmp"),
            history.join(".20260101T000000Z-0123456789abcdef.json.a1B2c3.tmp"),
        ];
        let others = [
            file.clone(),
            root.path().join(".state.json.lock"),
            root.path().join(".state.json.pulled"),
            root.path().join(".other.json.a1B2c3.tmp"),
            history.join("20260101T000000Z-0123456789abcdef.json"),
        ];
        for path in left_behind.iter().chain(&others) {
            fs::write(path, "").unwrap();
            make_old(path);
        }
        let in_use = root.path().join(".state.json.d4E5f6.tmp");
        fs::write(&in_use, "").unwrap();
        remove(&file);
        assert!(left_behind.iter().all(|path| !path.exists()));
        assert!(others.iter().all(|path| path.exists()) && in_use.exists());
    }

    #[test]
    fn old_copies_of_local_storage_are_removed_and_a_link_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let copy = |name: &str| {
            let path = root.path().join(format!("{COPY_PREFIX}{name}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("000003.log"), "").unwrap();
            path
        };
        let (old, in_use) = (copy("old"), copy("new"));
        make_old(&old);
        let elsewhere = tempfile::tempdir().unwrap();
        make_old(elsewhere.path());
        let link = root.path().join(format!("{COPY_PREFIX}link"));
        std::os::unix::fs::symlink(elsewhere.path(), link).unwrap();
        remove_from(root.path(), COPY_PREFIX, "").unwrap();
        assert!(!old.exists() && in_use.exists() && elsewhere.path().exists());
    }
}
