//! Keeps the code cache from growing for ever: every new build of a plugin and every new version of the program leaves
//! entries behind that nobody asks for again.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::ComponentDigest;

/// An entry that was not used for so long is removed. A month covers a service that is started anew with every update
/// of its machine; whoever comes later compiles once.
pub(super) const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Bytes of all entries; beyond, those that were not used for longest are removed. A plugin in Rust takes some hundred
/// KiB, one with a language runtime in it some ten MiB, so this is room for dozens of the largest.
pub(super) const MAX_SIZE: u64 = 1 << 30;

/// What a process left behind that ended while it wrote. Writing takes less than a second.
const MAX_WRITING: Duration = Duration::from_secs(60 * 60);

/// An entry counts as used at its modification time, which is moved on when that is so long ago.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Hexadecimal digits of a component's digest, with which the names of entries begin.
const DIGEST: usize = 2 * size_of::<ComponentDigest>();

struct Entry {
    path: PathBuf,
    used: SystemTime,
    size: u64,
}

/// Notes that an entry was used, once a day: a read-only cache is none the worse for not being told.
pub(super) fn note_use(file: &fs::File, last: io::Result<SystemTime>) {
    let now = SystemTime::now();
    let long_ago = last.is_ok_and(|last| age(last, now) > DAY);
    if long_ago && let Err(error) = file.set_modified(now) {
        tracing::debug!(%error, "a use of the code cache could not be noted");
    }
}

/// Removes what is old or too much. Several processes may do so at once.
pub(super) fn prune(directory: &Path, now: SystemTime, max_size: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let Some((entry, is_whole)) = of_the_cache(&entry?) else {
            continue;
        };
        let limit = if is_whole { MAX_AGE } else { MAX_WRITING };
        if age(entry.used, now) > limit {
            remove(&entry.path)?;
        } else if is_whole {
            entries.push(entry);
        }
    }
    entries.sort_by_key(|entry| entry.used);
    let mut size: u64 = entries.iter().map(|entry| entry.size).sum();
    for entry in entries {
        if size <= max_size {
            break;
        }
        remove(&entry.path)?;
        size -= entry.size;
    }
    Ok(())
}

/// An entry, and whether it is whole. Other files in the directory are not ours to remove.
fn of_the_cache(entry: &DirEntry) -> Option<(Entry, bool)> {
    let path = entry.path();
    let (digest, _) = path.file_name()?.to_str()?.split_once('-')?;
    if digest.len() != DIGEST || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let is_whole = match path.extension()?.to_str()? {
        "cwasm" => true,
        "tmp" => false,
        _ => return None,
    };
    // One that is gone by now was removed by another process.
    let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
    let entry = Entry {
        used: metadata.modified().ok()?,
        size: metadata.len(),
        path,
    };
    Some((entry, is_whole))
}

/// Zero for what is of the future, by a clock that was set back.
fn age(then: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of so many bytes that was used so long ago.
    fn file(directory: &Path, name: &str, size: usize, ago: Duration) {
        let path = directory.join(name);
        fs::write(&path, vec![0; size]).expect("a written file");
        let file = fs::File::options().append(true).open(&path);
        let file = file.expect("it was just written");
        file.set_modified(SystemTime::now() - ago)
            .expect("it is ours");
    }

    /// The name of an entry that ends like this.
    fn entry(end: &str) -> String {
        format!("{:064x}-{end}", 1)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("it is there");
        let name = |entry: io::Result<DirEntry>| {
            let name = entry.expect("an entry").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_old_goes_and_what_is_not_of_the_cache_stays() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let at = directory.path();
        file(at, &entry("old.cwasm"), 1, MAX_AGE + DAY);
        file(at, &entry("used.cwasm"), 1, MAX_AGE - DAY);
        file(at, &entry("left.1-0.tmp"), 1, MAX_WRITING + DAY);
        file(at, &entry("writing.1-1.tmp"), 1, Duration::ZERO);
        let others = ["README", "notes.tmp", "other-1.cwasm"];
        for name in others {
            file(at, name, 1, 2 * MAX_AGE);
        }

        prune(at, SystemTime::now(), MAX_SIZE).expect("it can be read and written");

        let (used, writing) = (entry("used.cwasm"), entry("writing.1-1.tmp"));
        let [readme, notes, other] = others;
        assert_eq!(names(at), [&used, &writing, readme, notes, other]);
    }

    #[test]
    fn beyond_the_size_those_unused_for_longest_go_first() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let at = directory.path();
        for (name, days) in [
            ("c.cwasm", 3),
            ("a.cwasm", 1),
            ("b.cwasm", 2),
            ("d.cwasm", 4),
        ] {
            file(at, &entry(name), 10, days * DAY);
        }
        prune(at, SystemTime::now(), 25).expect("it can be read and written");
        assert_eq!(names(at), [entry("a.cwasm"), entry("b.cwasm")]);
    }

    #[test]
    fn a_use_counts_from_now() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let at = directory.path();
        file(at, &entry("a.cwasm"), 1, MAX_AGE + DAY);
        let opened = fs::File::open(at.join(entry("a.cwasm"))).expect("it is there");
        note_use(
            &opened,
            opened.metadata().and_then(|metadata| metadata.modified()),
        );
        prune(at, SystemTime::now(), MAX_SIZE).expect("it can be read and written");
        assert_eq!(names(at), [entry("a.cwasm")]);
    }
}
