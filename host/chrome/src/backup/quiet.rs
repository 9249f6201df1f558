//! A copy of files as they were at one moment, while their owner goes on writing to them.
//!
//! Chromium holds its databases locked all the time, so that nobody can ask them to hold still. What can be seen is
//! that none of a group's files changed from before the first byte was read until after the last one: then the copy
//! is what a power cut at that moment would have left, which SQLite and LevelDB are made to recover from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use tempfile::SpooledTempFile;

use super::contents::{self, Group};

/// How long a moment of rest is waited for. Chromium writes in bursts of some milliseconds, seconds apart.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long before the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// How long ago the last write must be. The clock of time stamps ticks every 1 to 10 ms: two writes in one tick look
/// like one.
const REST: Duration = Duration::from_millis(30);

/// How much of a group is held in memory; a larger one goes to a nameless file in the system's temporary directory.
const IN_MEMORY: usize = 32 << 20;

/// What shows that a file was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The copy of a group.
pub(crate) struct Copy {
    /// Path, length, and when it was last modified (seconds since 1970), in the order of [`Copy::contents`].
    pub(crate) files: Vec<(PathBuf, u64, u64)>,
    /// The files' contents, one after the other, from the beginning.
    pub(crate) contents: SpooledTempFile,
    /// Whether it is that of one moment.
    pub(crate) at_rest: bool,
}

/// Copies a group, at rest if it comes to rest in time.
pub(crate) fn copy(profile: &Path, group: &Group) -> io::Result<Copy> {
    let started = Instant::now();
    loop {
        let last_attempt = started.elapsed() >= PATIENCE;
        let before = stamps(profile, group)?;
        if last_attempt || rests(&before) {
            let mut copy = copy_once(profile, &before)?;
            copy.at_rest &= rests(&before) && before == stamps(profile, group)?;
            if copy.at_rest || last_attempt {
                copy.contents.rewind()?;
                return Ok(copy);
            }
        }
        sleep(PAUSE);
    }
}

fn stamps(profile: &Path, group: &Group) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut stamps = BTreeMap::new();
    for path in contents::files(profile, group)? {
        match fs::symlink_metadata(profile.join(&path)) {
            Ok(metadata) => {
                let stamp = Stamp {
                    inode: metadata.ino(),
                    size: metadata.size(),
                    modified: (metadata.mtime(), metadata.mtime_nsec()),
                    changed: (metadata.ctime(), metadata.ctime_nsec()),
                };
                stamps.insert(path, stamp);
            }
            // It went after it was listed; the next look will not list it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stamps)
}

/// Whether the last write is long enough ago. One in the future is a matter of clocks, not of writes.
fn rests(stamps: &BTreeMap<PathBuf, Stamp>) -> bool {
    let now = SystemTime::now();
    stamps.values().all(|stamp| {
        let (Ok(seconds), Ok(nanoseconds)) =
            (stamp.changed.0.try_into(), stamp.changed.1.try_into())
        else {
            return true;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        now.duration_since(changed).is_ok_and(|age| age >= REST) || now < changed
    })
}

fn copy_once(profile: &Path, stamps: &BTreeMap<PathBuf, Stamp>) -> io::Result<Copy> {
    let mut copy = Copy {
        files: Vec::new(),
        contents: SpooledTempFile::new(IN_MEMORY),
        at_rest: true,
    };
    for (path, stamp) in stamps {
        match File::open(profile.join(path)) {
            Ok(file) => {
                // No further than it was: a log that grows all the time would have no end.
                let length = io::copy(&mut file.take(stamp.size), &mut copy.contents)?;
                let modified = u64::try_from(stamp.modified.0).unwrap_or_default();
                copy.files.push((path.clone(), length, modified));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => copy.at_rest = false,
            Err(error) => return Err(error),
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn group(names: &[&str]) -> Group {
        Group {
            roots: names.iter().map(PathBuf::from).collect(),
        }
    }

    fn text(copy: &mut Copy) -> String {
        let mut text = String::new();
        copy.contents.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_of_a_group_are_copied_one_after_the_other_and_missing_ones_are_none() {
        let profile = tempfile::tempdir().unwrap();
        fs::write(profile.path().join("a"), "one").unwrap();
        fs::write(profile.path().join("a-wal"), "two").unwrap();
        let mut copy = copy(profile.path(), &group(&["a", "a-journal", "a-wal"])).unwrap();
        assert!(copy.at_rest);
        assert_eq!(text(&mut copy), "onetwo");
        let lengths: Vec<_> = copy
            .files
            .iter()
            .map(|(path, length, _)| (path.to_str().unwrap(), *length))
            .collect();
        assert_eq!(lengths, [("a", 3), ("a-wal", 3)]);
    }

    #[test]
    fn a_copy_of_two_files_that_are_written_in_bursts_is_that_of_one_moment() {
        let profile = tempfile::tempdir().unwrap();
        let paths = [profile.path().join("a"), profile.path().join("a-journal")];
        // Both always get the same number, one after the other: a copy with two numbers is torn. Eight digits over
        // eight digits, so that no file is ever shorter.
        let write = |number: u32| {
            let started = Instant::now();
            for path in &paths {
                let mut file = File::options().write(true).open(path).unwrap();
                file.write_all(format!("{number:08}").as_bytes()).unwrap();
            }
            started.elapsed()
        };
        for path in &paths {
            fs::write(path, "00000000").unwrap();
        }
        let done = AtomicBool::new(false);
        let (took, copies) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut took = vec![Duration::ZERO];
                while !done.load(Ordering::Relaxed) {
                    let number = took.len() as u32;
                    took.push(write(number));
                    // The pause between two bursts, in which there is a moment of rest.
                    sleep(if number.is_multiple_of(20) {
                        REST * 3
                    } else {
                        Duration::from_millis(1)
                    });
                }
                took
            });
            let copies = [(); 5].map(|()| {
                let copied = copy(profile.path(), &group(&["a", "a-journal"]));
                copied.map(|mut copy| (copy.at_rest, text(&mut copy)))
            });
            done.store(true, Ordering::Relaxed);
            (writer.join().unwrap(), copies)
        });
        for copy in copies {
            let (at_rest, text) = copy.unwrap();
            assert_eq!(text.len(), 16, "{text}");
            let [first, second] = [&text[..8], &text[8..]].map(|number| number.parse().unwrap());
            let later: usize = std::cmp::max(first, second);
            // On a machine so busy that no rest was seen, the copy must own up to it. Where the writer itself was held
            // up between the two files, that was a moment of rest for whoever looks from outside.
            let held_up = took[later] >= REST / 2;
            assert!(!at_rest || first == second || held_up, "{text}");
        }
    }

    #[test]
    fn what_was_written_just_now_does_not_rest_and_what_is_from_the_future_does() {
        let written = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let time = (since.as_secs() as i64, i64::from(since.subsec_nanos()));
            let stamp = Stamp {
                inode: 1,
                size: 1,
                modified: time,
                changed: time,
            };
            BTreeMap::from([(PathBuf::from("a"), stamp)])
        };
        let hour = Duration::from_secs(3600);
        assert!(rests(&written(SystemTime::now() - hour)));
        assert!(rests(&written(SystemTime::now() + hour)));
        let ago = |age: Duration| rests(&written(SystemTime::now() - age));
        // The clock goes on while the test runs: one of many looks is quick enough.
        assert!((0..1000).any(|_| !ago(Duration::ZERO)));
    }

    #[test]
    fn a_file_that_goes_while_it_is_copied_is_not_hushed_up() {
        let profile = tempfile::tempdir().unwrap();
        fs::write(profile.path().join("a"), "x").unwrap();
        let stamps = stamps(profile.path(), &group(&["a"])).unwrap();
        fs::remove_file(profile.path().join("a")).unwrap();
        assert!(!copy_once(profile.path(), &stamps).unwrap().at_rest);
    }

    #[test]
    fn a_log_that_grows_is_copied_up_to_where_it_was() {
        let profile = tempfile::tempdir().unwrap();
        let path = profile.path().join("a");
        fs::write(&path, "one").unwrap();
        let stamps = stamps(profile.path(), &group(&["a"])).unwrap();
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"two")
            .unwrap();
        let copy = copy_once(profile.path(), &stamps).unwrap();
        assert_eq!(copy.files[0].1, 3);
    }
}
