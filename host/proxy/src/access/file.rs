//! A log file that others may move away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// How often it is looked whether the file is still there under its name.
const LOOK: Duration = Duration::from_secs(1);

/// A file that lines are appended to.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl LogFile {
    /// Makes it, with mode 0640, when it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            looked: Instant::now(),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    /// Opens it again under its name; where that fails, the one that is open stays. Whether it did.
    pub(super) fn reopen(&mut self) -> bool {
        self.looked = Instant::now();
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                true
            }
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the access log cannot be opened again; the open file is kept");
                false
            }
        }
    }

    /// Opens it again when another file, or none, has its name by now. Whether it did.
    pub(super) fn follow_name(&mut self) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let Ok(open) = self.file.metadata() else {
            return false;
        };
        let named = std::fs::metadata(&self.path);
        let is_same =
            named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino()));
        !is_same && self.reopen()
    }
}

/// Waits for nobody: a pipe that nobody reads cannot be opened.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags)
        .open(path)
}
