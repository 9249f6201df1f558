//! Notices that files have changed: those that hold secrets, components with `watch = true`, and with `--watch` the
//! configuration and all components.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are looked at. What has changed has to look the same twice, so that neither a file that is
/// still being written nor one of several that are replaced together is read too early.
const INTERVAL: Duration = Duration::from_secs(1);

/// After so many looks a change is reported even though files still change.
const MOST_LOOKS: u32 = 10;

/// What tells a file's content from its next one, without reading it. Symbolic links are followed: a file counts as
/// changed when the link that leads to it, or the directory above it, is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    /// Also moves when a modification time is set back, as copying tools do.
    changed: (i64, i64),
}

type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Files to be noticed.
#[derive(Debug)]
pub(crate) struct Watch {
    interval: Duration,
    /// As they were when they were read.
    known: Stamps,
    /// As they were last seen, if that was different, and how often they have been by now.
    unsettled: Option<(Stamps, u32)>,
}

impl Watch {
    /// From how these files are now.
    pub(crate) fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            interval: INTERVAL,
            known: stamps(files),
            unsettled: None,
        }
    }

    /// Waits until at least one has changed, and gives those that have. It may be called off and called again.
    pub(crate) async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            tokio::time::sleep(self.interval).await;
            let files: Vec<_> = self.known.keys().cloned().collect();
            // A file system that hangs must not hold up signals.
            let now = match tokio::task::spawn_blocking(move || stamps(files)).await {
                Ok(now) => now,
                Err(error) => {
                    tracing::error!(%error, "files cannot be watched for now");
                    continue;
                }
            };
            if let Some(changed) = self.look(now) {
                return changed;
            }
        }
    }

    fn look(&mut self, now: Stamps) -> Option<Vec<PathBuf>> {
        if now == self.known {
            self.unsettled = None;
            return None;
        }
        let looks = match &self.unsettled {
            Some((before, looks)) if *before != now && *looks < MOST_LOOKS => looks + 1,
            None => 1,
            Some(_) => {
                let is_new = |(file, stamp): &(&PathBuf, &Option<Stamp>)| {
                    self.known.get(*file) != Some(*stamp)
                };
                let changed = now.iter().filter(is_new).map(|(file, _)| file.clone());
                return Some(changed.collect());
            }
        };
        self.unsettled = Some((now, looks));
        None
    }

    /// These files are about to be read: what changes from now on is a change.
    pub(crate) fn about_to_read(&mut self) {
        self.known = stamps(std::mem::take(&mut self.known).into_keys());
        self.unsettled = None;
    }

    /// As [`about_to_read`](Self::about_to_read), for these files and no others.
    pub(crate) fn about_to_read_only(&mut self, files: &[PathBuf]) {
        for (file, known) in &mut self.known {
            if files.contains(file) {
                *known = stamp(file);
            }
        }
        self.unsettled = None;
    }

    /// These are the files from now on. Those that were watched before are so still, as they were when they were read.
    pub(crate) fn set_files(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.known);
        let stamp = |file: PathBuf| {
            let stamp = before.remove(&file).unwrap_or_else(|| stamp(&file));
            (file, stamp)
        };
        self.known = files.into_iter().map(stamp).collect();
    }
}

fn stamps(files: impl IntoIterator<Item = PathBuf>) -> Stamps {
    let stamped = files.into_iter().map(|file| {
        let stamp = stamp(&file);
        (file, stamp)
    });
    stamped.collect()
}

/// `None` while there is no such file: a state like any other, so that its coming back is noticed.
fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(Stamp {
        file: (metadata.dev(), metadata.ino()),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn directory() -> TempDir {
        let directory = TempDir::new().expect("a scratch directory");
        fs::write(directory.path().join("token"), "one").expect("a written file");
        directory
    }

    fn watch<const N: usize>(files: [&PathBuf; N]) -> Watch {
        Watch {
            interval: Duration::from_millis(5),
            ..Watch::new(files.into_iter().cloned())
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed_once() {
        let directory = directory();
        let (token, other) = (directory.path().join("token"), directory.path().join("new"));
        let mut watch = watch([&token]);

        fs::write(&other, "two").expect("a written file");
        fs::rename(&other, &token).expect("a renamed file");

        let changed = watch.changed().await;
        assert!(changed == [&*token], "{changed:?}");
        watch.about_to_read();
        assert_eq!(watch.look(stamps([token])), None);
    }

    #[tokio::test]
    async fn a_link_far_above_that_leads_elsewhere_is_noticed() {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        for (version, token) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(at(version)).expect("a directory");
            fs::write(at(version).join("token"), token).expect("a written file");
        }
        // As Kubernetes mounts a secret: token -> data/token, data -> v1.
        symlink("v1", at("data")).expect("a link");
        fs::remove_file(at("token")).expect("it was there");
        symlink("data/token", at("token")).expect("a link");
        let mut watch = watch([&at("token")]);

        symlink("v2", at("data.new")).expect("a link");
        fs::rename(at("data.new"), at("data")).expect("a renamed link");

        assert_eq!(watch.changed().await, [at("token")]);
    }

    #[tokio::test]
    async fn a_file_that_goes_and_one_that_comes_are_noticed() {
        let directory = directory();
        let (token, later) = (
            directory.path().join("token"),
            directory.path().join("later"),
        );
        let mut watch = watch([&later, &token]);

        fs::write(&later, "here").expect("a written file");
        assert_eq!(watch.changed().await, [later]);
        watch.about_to_read();
        fs::remove_file(&token).expect("it was there");
        assert_eq!(watch.changed().await, [token]);
    }

    #[test]
    fn nothing_is_reported_while_files_still_change_but_not_for_ever() {
        let directory = directory();
        let token = directory.path().join("token");
        let mut watch = watch([&token]);
        for length in 1..=MOST_LOOKS as usize {
            fs::write(&token, "x".repeat(10 + length)).expect("a written file");
            assert_eq!(watch.look(stamps([token.clone()])), None, "{length}");
        }
        fs::write(&token, "the last").expect("a written file");
        assert_eq!(watch.look(stamps([token.clone()])), Some(vec![token]));
    }

    #[test]
    fn what_is_read_alone_leaves_the_changes_of_other_files_to_be_noticed() {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        let (token, other) = (at("token"), at("other"));
        let mut watch = watch([&token, &other]);
        for file in [&token, &other] {
            fs::write(file, "another").expect("a written file");
        }

        watch.about_to_read_only(std::slice::from_ref(&token));

        let now = || stamps([token.clone(), other.clone()]);
        assert_eq!(watch.look(now()), None, "it has to settle");
        assert_eq!(watch.look(now()), Some(vec![other.clone()]));
    }

    #[test]
    fn a_change_that_is_taken_back_is_none() {
        let directory = directory();
        let (token, kept) = (
            directory.path().join("token"),
            directory.path().join("kept"),
        );
        let mut watch = watch([&token]);
        let before = stamps([token.clone()]);
        fs::rename(&token, &kept).expect("a renamed file");
        assert_eq!(watch.look(stamps([token.clone()])), None);

        assert_eq!(watch.look(before), None);

        assert_eq!(
            watch.look(stamps([token.clone()])),
            None,
            "it has to settle anew"
        );
        assert_eq!(watch.look(stamps([token.clone()])), Some(vec![token]));
    }
}
