//! `NAME.status.json` beside a snapshot: how the last harvests went, for people, probes and the next harvest.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::file::{self, WriteError, beside, write_atomically};
use crate::harvest::Harvested;

use super::timestamp::Timestamp;

/// The document. Holds counts, times and the last error, and nothing of what was harvested.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// When the content of the snapshot first was as it is: names its generation in the history.
    pub generation: Option<Timestamp>,
    /// The last harvest that was published.
    pub last_success: Option<Success>,
    /// The last harvest.
    pub last_attempt: Option<Attempt>,
    /// Harvests that failed since the last success.
    pub failures_in_a_row: u32,
    /// Harvests that lost suspiciously much, one after the other. `None`: the last one did not.
    pub suspicious: Option<Sightings>,
    /// When the schedule harvests next, be it to try again.
    pub next_due: Option<Timestamp>,
}

/// A harvest that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// When it ended.
    pub at: Timestamp,
    /// What it brought in.
    #[serde(flatten)]
    pub harvested: Harvested,
}

/// A harvest, published or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// What went wrong, if something did.
    pub error: Option<String>,
}

/// Harvests in a row that lost suspiciously much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sightings {
    /// The first of them.
    pub since: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u32,
}

impl Sightings {
    /// One more at `now`, or the first if the last is longer ago than `gap`.
    pub(crate) fn one_more(before: Option<Self>, now: SystemTime, gap: Duration) -> Self {
        let last = now.into();
        match before.filter(|before| before.last.age(now) <= gap) {
            Some(Self { since, count, .. }) => Self {
                since,
                last,
                count: count.saturating_add(1),
            },
            None => Self {
                since: last,
                last,
                count: 1,
            },
        }
    }
}

/// Where the status of a snapshot is.
pub fn path(file: &Path) -> PathBuf {
    beside(file, ".status.json")
}

impl Status {
    /// Reads the status of a snapshot. `None`: nothing was recorded yet, or what is there is no status.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(file: &Path) -> io::Result<Option<Self>> {
        let path = path(file);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&bytes) {
            Ok(status) => Ok(Some(status)),
            Err(error) => {
                warn!(%error, file = %path.display(), "no status of a snapshot: it is begun anew");
                Ok(None)
            }
        }
    }

    /// Reads, changes and replaces the status of a snapshot; several processes take turns.
    ///
    /// # Errors
    /// [`WriteError`]; the file is then as it was.
    pub fn update(file: &Path, change: impl FnOnce(&mut Self)) -> Result<(), WriteError> {
        let path = path(file);
        let directory = file::create_parent(file)?;
        let lock = directory.join(format!("{}lock", file::hidden_prefix(&path)));
        let failed = |source| WriteError::new("lock", &lock, source);
        let held = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(failed)?;
        // Held by whoever writes a few hundred bytes, and let go with the file.
        held.lock().map_err(failed)?;
        let read = Self::read(file).map_err(|source| WriteError::new("read", &path, source))?;
        let mut status = read.unwrap_or_default();
        change(&mut status);
        let mut json = serde_json::to_vec_pretty(&status)
            .expect("times, numbers and texts always have a JSON form");
        json.push(b'\n');
        write_atomically(&path, &json)
    }

    pub(crate) fn succeeded(&mut self, at: SystemTime, harvested: Harvested) {
        let at = at.into();
        self.failures_in_a_row = 0;
        self.suspicious = None;
        self.last_success = Some(Success { at, harvested });
        self.last_attempt = Some(Attempt { at, error: None });
    }

    pub(crate) fn failed(&mut self, at: SystemTime, error: String) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.last_attempt = Some(Attempt {
            at: at.into(),
            error: Some(error),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_failure_keeps_the_last_success_in_a_private_file() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        assert_eq!(Status::read(&file).unwrap(), None);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let harvested = Harvested {
            cookies: 3,
            duration: Duration::from_millis(1_500),
            ..Harvested::default()
        };
        Status::update(&file, |status| status.succeeded(start, harvested.clone())).unwrap();
        let later = start + Duration::from_secs(60);
        for _ in 0..2 {
            Status::update(&file, |status| status.failed(later, "no browser".into())).unwrap();
        }
        let status = Status::read(&file).unwrap().unwrap();
        let success = status.last_success.unwrap();
        assert_eq!((success.at, success.harvested), (start.into(), harvested));
        assert_eq!(
            status.last_attempt.unwrap().error.as_deref(),
            Some("no browser")
        );
        assert_eq!(status.failures_in_a_row, 2);
        let path = path(&file);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["last_success"]["at"], "2026-01-01T00:00:00Z");
        assert_eq!(json["last_success"]["duration_seconds"], 1.5);
    }

    #[test]
    fn what_is_no_status_is_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        fs::write(path(&file), "half a docu").unwrap();
        assert_eq!(Status::read(&file).unwrap(), None);
        Status::update(&file, |status| status.failures_in_a_row = 1).unwrap();
        assert_eq!(Status::read(&file).unwrap().unwrap().failures_in_a_row, 1);
    }
}
