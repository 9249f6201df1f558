//! Small files that plugins answer with again and again, kept as they were read.
//!
//! What is kept is served only while the file's directory entry still says the same of it, so that a file that is replaced
//! or written is read anew: one `statx` stands for an open, two of these, a read and a close.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cap_std::fs::{Metadata, MetadataExt as _};
use http::{HeaderMap, HeaderValue, header};

use super::{Mount, Version};

/// Bytes of one file, and of all files of a plugin on one worker. What is larger takes longer to send than to read.
const LARGEST: usize = 256 << 10;
const MOST: usize = 1 << 20;
/// Files of a plugin on one worker; they are searched one by one.
const FILES: usize = 16;
/// How long ago a file was changed that is kept. The clock of a file system may stand still for so long (2 s in FAT), and
/// another change within that time would not show.
const SETTLED: Duration = Duration::from_secs(3);

/// The files of one plugin on one worker.
#[derive(Debug, Default)]
pub(crate) struct FileCache(RefCell<VecDeque<Rc<Kept>>>);

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Kept {
    /// As the plugin names it.
    path: Box<str>,
    state: State,
    pub(super) bytes: Bytes,
    etag: HeaderValue,
    modified: HeaderValue,
}

/// A state of a file. The time of the inode's change, which nobody can set, is in it: that of its bytes can be set back.
#[derive(Debug, PartialEq, Eq)]
struct State {
    version: Version,
    device: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for State {
    fn from(metadata: &Metadata) -> Self {
        Self {
            version: metadata.into(),
            device: metadata.dev(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl State {
    /// Whether the file has stood still for a while.
    fn is_settled(&self) -> bool {
        let last = self.changed.0.max(self.version.modified.0);
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(last).unwrap_or(0));
        SystemTime::now()
            .duration_since(last)
            .is_ok_and(|age| age > SETTLED)
    }
}

/// What the directory says of a file, links not followed.
fn state_of(mount: &Mount, relative: &str) -> Option<State> {
    let metadata = mount.directory.symlink_metadata(Path::new(relative)).ok()?;
    metadata.is_file().then(|| (&metadata).into())
}

impl FileCache {
    /// The file, if it is kept and has not changed.
    pub(super) fn get(&self, mount: &Mount, relative: &str, path: &str) -> Option<Rc<Kept>> {
        let kept = {
            let files = self.0.borrow();
            files.iter().find(|kept| *kept.path == *path)?.clone()
        };
        if state_of(mount, relative).is_some_and(|state| state == kept.state) {
            return Some(kept);
        }
        self.0
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &kept));
        None
    }

    /// Keeps a file that was read whole in this version, if it is small and not about to change.
    pub(super) fn put(
        &self,
        mount: &Mount,
        relative: &str,
        path: &str,
        version: &Version,
        bytes: &Bytes,
    ) {
        if bytes.len() > LARGEST {
            return;
        }
        let state = state_of(mount, relative).filter(|state| {
            // Another one, behind a link or in its place by now, is not what was read.
            state.version == *version && state.is_settled()
        });
        let Some(state) = state else {
            return;
        };
        let mut described = HeaderMap::new();
        version.describe(&mut described);
        let (Some(etag), Some(modified)) = (
            described.remove(header::ETAG),
            described.remove(header::LAST_MODIFIED),
        ) else {
            return;
        };
        let mut files = self.0.borrow_mut();
        files.retain(|kept| *kept.path != *path);
        files.push_back(Rc::new(Kept {
            path: path.into(),
            state,
            bytes: bytes.clone(),
            etag,
            modified,
        }));
        while files.len() > FILES || files.iter().map(|kept| kept.bytes.len()).sum::<usize>() > MOST
        {
            files.pop_front();
        }
    }
}

impl Kept {
    pub(super) fn version(&self) -> &Version {
        &self.state.version
    }

    /// As [`Version::describe`].
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::LAST_MODIFIED, self.modified.clone());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::ambient_authority;
    use cap_std::fs::Dir;

    use super::*;

    /// A mount with one file in it, written an hour ago; the time of its inode's change is now.
    fn mount(directory: &Path) -> Mount {
        fs::write(directory.join("f"), "first").expect("it is ours");
        Mount {
            path: "/files".into(),
            directory: Dir::open_ambient_dir(directory, ambient_authority()).expect("it is there"),
        }
    }

    fn keep(cache: &FileCache, mount: &Mount, text: &'static [u8]) {
        let state = state_of(mount, "f").expect("it is a file");
        cache.0.borrow_mut().push_back(Rc::new(Kept {
            path: "/files/f".into(),
            state,
            bytes: Bytes::from_static(text),
            etag: HeaderValue::from_static("\"\""),
            modified: HeaderValue::from_static(""),
        }));
    }

    #[test]
    fn a_file_that_was_changed_a_moment_ago_is_not_kept() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mount = mount(directory.path());
        let cache = FileCache::default();
        let mut state = state_of(&mount, "f").expect("it is a file");
        let bytes = Bytes::from_static(b"first");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = i64::try_from(now.expect("after 1970").as_secs()).expect("not that late");
        state.changed.0 = now;
        assert!(!state.is_settled());
        state.version.modified.0 = now - 3600;
        state.changed.0 = now - 3600;
        assert!(state.is_settled());
        // Of another version than the directory's.
        cache.put(&mount, "f", "/files/f", &state.version, &bytes);
        assert!(cache.get(&mount, "f", "/files/f").is_none());
    }

    #[test]
    fn what_is_kept_is_served_until_the_file_is_written_replaced_or_gone() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mount = mount(directory.path());
        let file = directory.path().join("f");
        let cache = FileCache::default();
        let get = || cache.get(&mount, "f", "/files/f");

        keep(&cache, &mount, b"first");
        assert_eq!(get().expect("nothing changed").bytes, "first");
        fs::write(&file, "longer").expect("it is ours");
        assert!(get().is_none(), "it was written");

        keep(&cache, &mount, b"longer");
        assert!(get().is_some());
        let other = directory.path().join("g");
        fs::write(&other, "longer").expect("it is ours");
        fs::rename(&other, &file).expect("it is ours");
        assert!(
            get().is_none(),
            "another file of the same size is in its place"
        );

        keep(&cache, &mount, b"longer");
        fs::remove_file(&file).expect("it is ours");
        assert!(get().is_none(), "it is gone");
        std::os::unix::fs::symlink("/etc/passwd", &file).expect("it is ours");
        assert!(get().is_none(), "a link is no file");
        assert!(cache.0.borrow().is_empty(), "what has changed is not kept");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mount = mount(directory.path());
        let cache = FileCache::default();
        for _ in 0..FILES {
            keep(&cache, &mount, b"first");
        }
        let state = state_of(&mount, "f").expect("it is a file");
        let large = Bytes::from(vec![0; LARGEST + 1]);
        cache.put(&mount, "f", "/files/g", &state.version, &large);
        assert_eq!(cache.0.borrow().len(), FILES);
    }
}
