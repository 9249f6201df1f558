//! The last step of a harvest: publishing what it brought in, or keeping it aside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use crate::file::{WriteError, write_atomically};
use crate::harvest::Harvested;

use super::encryption::encrypt;
use super::history;
use super::loss::{Counts, Loss, LossLimit};
use super::status::{Sightings, Status};
use super::summary::Summary;
use super::timestamp::Timestamp;
use crate::keys::Recipient;

/// Two may be the two ends of one bad hour.
const SIGHTINGS: u32 = 3;

/// How a snapshot is published. The default replaces the file and does nothing else.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// What it may lose against the last good one. `None`: everything.
    pub loss: Option<LossLimit>,
    /// How many generations are kept, the published one included; as many suspicious ones besides. 0: none.
    pub history: usize,
    /// Who can read it. Empty: it is not encrypted.
    pub recipients: Vec<Recipient>,
    /// Whether the status file is kept.
    pub status: bool,
}

/// A snapshot was taken and not published. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It lost too much.
    #[error(
        "suspicious: {loss}; the last good snapshot stays at least until {until} and the third harvest like it, \
         unless one brings in more or `witgate harvest --accept` takes it as it is{}",
        kept(aside)
    )]
    Suspicious {
        /// What was lost.
        loss: Loss,
        /// From when on the like of it is accepted, as the third in a row or a later one.
        until: Timestamp,
        /// Where it is kept.
        aside: Option<PathBuf>,
    },
    /// It cannot be encrypted.
    #[error("the snapshot cannot be encrypted: {0}")]
    Encrypt(#[source] io::Error),
    /// The file cannot be replaced.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn kept(aside: &Option<PathBuf>) -> String {
    match aside {
        Some(directory) => format!("; it is kept in {}", directory.display()),
        None => String::new(),
    }
}

impl Publication {
    /// Publishes `plain`, which holds what `harvested` says, as `file`, and records it in the status. Blocks on the
    /// disk; the caller holds the harvest's lock. Gives `harvested` with the file's size.
    pub(crate) fn publish(
        &self,
        file: &Path,
        plain: &[u8],
        harvested: Harvested,
    ) -> Result<Harvested, PublishError> {
        self.publish_at(SystemTime::now(), file, plain, harvested)
    }

    fn publish_at(
        &self,
        now: SystemTime,
        file: &Path,
        plain: &[u8],
        mut harvested: Harvested,
    ) -> Result<Harvested, PublishError> {
        let encrypted = match &*self.recipients {
            [] => None,
            recipients => Some(encrypt(plain, recipients).map_err(PublishError::Encrypt)?),
        };
        let content = encrypted.as_deref().unwrap_or(plain);
        let status = self.last_status(file);
        if let Some((loss, seen)) = self.suspicion(file, &harvested, &status, now) {
            return Err(self.set_aside(file, plain, content, loss, seen, now));
        }
        write_atomically(file, content)?;
        harvested.bytes = content.len();
        let generation = self.keep(file, plain, content, now, false);
        if self.status {
            let published = Status::update(file, |status| {
                status.generation = Some(generation.unwrap_or_else(|| now.into()));
                status.succeeded(now, harvested.clone());
            });
            if let Err(error) = published {
                warn!(%error, "the status of the snapshot is not recorded");
            }
        }
        Ok(harvested)
    }

    fn last_status(&self, file: &Path) -> Status {
        Status::read(file)
            .unwrap_or_else(|error| {
                warn!(%error, "the status of the snapshot cannot be read");
                None
            })
            .unwrap_or_default()
    }

    /// What was lost and how often that was seen, unless it has to be taken for the truth by now.
    fn suspicion(
        &self,
        file: &Path,
        harvested: &Harvested,
        status: &Status,
        now: SystemTime,
    ) -> Option<(Loss, Sightings)> {
        let limit = self.loss?;
        let loss = limit.exceeded(last_counts(file, status)?, counts(harvested))?;
        let seen = Sightings::one_more(status.suspicious, now, limit.gap);
        if seen.count >= SIGHTINGS && seen.since.age(now) >= limit.accept_after {
            let (since, harvests) = (seen.since, seen.count);
            warn!(%loss, %since, harvests, "harvests agree on the loss: it is accepted");
            return None;
        }
        Some((loss, seen))
    }

    fn set_aside(
        &self,
        file: &Path,
        plain: &[u8],
        content: &[u8],
        loss: Loss,
        seen: Sightings,
        now: SystemTime,
    ) -> PublishError {
        let aside = self.keep(file, plain, content, now, true);
        let recorded = Status::update(file, |status| status.suspicious = Some(seen));
        if let Err(error) = recorded {
            return error.into();
        }
        let after = self.loss.unwrap_or_default().accept_after;
        PublishError::Suspicious {
            loss,
            until: (SystemTime::from(seen.since) + after).into(),
            aside: aside.map(|_| history::directory(file)),
        }
    }

    /// Keeps a generation. That it cannot be kept is no reason to withhold the snapshot.
    fn keep(
        &self,
        file: &Path,
        plain: &[u8],
        content: &[u8],
        now: SystemTime,
        suspicious: bool,
    ) -> Option<Timestamp> {
        if self.history == 0 {
            return None;
        }
        let digest = history::digest(plain);
        let kept = history::keep(file, content, &digest, now.into(), suspicious, self.history);
        kept.inspect_err(|error| warn!(%error, "the snapshot is not kept in the history"))
            .ok()
    }
}

fn counts(harvested: &Harvested) -> Counts {
    Counts {
        cookies: harvested.cookies,
        origins: harvested.origins,
    }
}

/// What the last good snapshot held, by its status or, without one, by itself.
fn last_counts(file: &Path, status: &Status) -> Option<Counts> {
    if !file.exists() {
        return None;
    }
    if let Some(last) = &status.last_success {
        return Some(counts(&last.harvested));
    }
    let summary = Summary::of(&fs::read(file).ok()?, SystemTime::now()).ok()?;
    Some(Counts {
        cookies: summary.cookies.total,
        origins: summary.origins.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::encryption::decrypt;
    use super::*;
    use crate::keys::{Identities, generate};
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn state(cookies: usize) -> (Vec<u8>, Harvested) {
        let cookies: Vec<_> = (0..cookies)
            .map(|n| serde_json::json!({"name": format!("c{n}"), "value": "v", "domain": "a.example", "path": "/"}))
            .collect();
        let harvested = Harvested {
            cookies: cookies.len(),
            ..Harvested::default()
        };
        (
            serde_json::to_vec(&serde_json::json!({"cookies": cookies})).unwrap(),
            harvested,
        )
    }

    fn careful(accept_after: Duration) -> Publication {
        Publication {
            loss: Some(LossLimit {
                percent: 80,
                accept_after,
                gap: HOUR,
            }),
            history: 3,
            recipients: vec![],
            status: true,
        }
    }

    fn publish(how: &Publication, file: &Path, cookies: usize) -> Result<usize, PublishError> {
        publish_at(SystemTime::now(), how, file, cookies)
    }

    fn publish_at(
        now: SystemTime,
        how: &Publication,
        file: &Path,
        cookies: usize,
    ) -> Result<usize, PublishError> {
        let (bytes, harvested) = state(cookies);
        Ok(how.publish_at(now, file, &bytes, harvested)?.bytes)
    }

    #[test]
    fn a_suspicious_snapshot_is_kept_aside_and_the_last_good_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let how = careful(Duration::from_secs(3600));
        publish(&how, &file, 10).unwrap();
        let good = fs::read(&file).unwrap();
        let error = publish(&how, &file, 0).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("of 10 cookies 0 are left") && said.contains("--accept"),
            "{said}"
        );
        publish(&how, &file, 1).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), good);
        let kept = history::list(&file).unwrap();
        assert_eq!(kept.iter().filter(|g| g.suspicious).count(), 2);
        assert!(
            Status::read(&file)
                .unwrap()
                .unwrap()
                .suspicious
                .is_some_and(|seen| seen.count == 2)
        );

        publish(&how, &file, 9).unwrap();
        assert_eq!(fs::read(&file).unwrap(), state(9).0);
        assert_eq!(Status::read(&file).unwrap().unwrap().suspicious, None);
    }

    #[test]
    fn a_loss_that_lasts_is_accepted_and_so_is_one_that_is_meant() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let how = careful(Duration::ZERO);
        publish(&how, &file, 10).unwrap();
        publish(&how, &file, 0).unwrap_err();
        publish(&how, &file, 0).unwrap_err();
        publish(&how, &file, 0).unwrap();
        assert_eq!(fs::read(&file).unwrap(), state(0).0);

        publish(&how, &file, 10).unwrap();
        let accepting = Publication { loss: None, ..how };
        publish(&accepting, &file, 0).unwrap();
    }

    #[test]
    fn a_loss_is_accepted_by_the_third_harvest_in_a_row_that_sees_it_and_not_across_a_gap() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let how = careful(2 * HOUR);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let at = |hours: u32, cookies| publish_at(start + hours * HOUR, &how, &file, cookies);
        at(0, 10).unwrap();
        at(1, 0).unwrap_err();
        // Nothing is known of the time in between: this is the first again.
        for hour in [3, 4] {
            at(hour, 0).unwrap_err();
        }
        at(5, 0).unwrap();

        at(6, 10).unwrap();
        for hour in [7, 8] {
            at(hour, 0).unwrap_err();
        }
        at(9, 10).unwrap();
        for hour in [10, 11] {
            at(hour, 0).unwrap_err();
        }
        let (soon, later) = (
            start + 12 * HOUR - Duration::from_secs(60),
            start + 12 * HOUR,
        );
        publish_at(soon, &how, &file, 0).expect_err("the third, and not 2 h after the first");
        publish_at(later, &how, &file, 0).unwrap();
    }

    #[test]
    fn what_is_published_is_recorded_with_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let (bytes, harvested) = state(7);
        let how = careful(HOUR);
        let published = how.publish(&file, &bytes, harvested).unwrap();
        assert_eq!(published.bytes, bytes.len());
        let status = Status::read(&file).unwrap().unwrap();
        assert_eq!(status.last_success.unwrap().harvested, published);
        assert_eq!(status.last_attempt.unwrap().error, None);
        assert!(status.generation.is_some());
    }

    #[test]
    fn without_a_status_the_file_itself_tells_what_was() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        write_atomically(&file, &state(10).0).unwrap();
        publish(&careful(Duration::from_secs(3600)), &file, 0).unwrap_err();
    }

    #[test]
    fn an_encrypted_snapshot_and_its_history_are_read_by_the_recipient_alone() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json.age");
        let (identity, recipient) = generate();
        let how = Publication {
            recipients: vec![recipient.parse().unwrap()],
            ..careful(Duration::from_secs(3600))
        };
        publish(&how, &file, 10).unwrap();
        // Encrypted anew, with other padding.
        let size = publish(&how, &file, 10).unwrap();
        publish(&how, &file, 0).unwrap_err();
        let content = fs::read(&file).unwrap();
        assert_eq!(content.len(), fs::metadata(&file).unwrap().len() as usize);
        assert_eq!(content.len(), size);
        let key = root.path().join("key");
        fs::write(&key, identity).unwrap();
        let identities = Identities::read(&key).unwrap();
        assert_eq!(
            decrypt(&content, &identities, 1 << 20).unwrap(),
            state(10).0
        );
        let kept = history::list(&file).unwrap();
        assert_eq!(kept.len(), 2, "equal content is kept once: {kept:?}");
        for generation in kept {
            let bytes = fs::read(&generation.path).unwrap();
            decrypt(&bytes, &identities, 1 << 20).unwrap();
        }
    }

    #[test]
    fn the_default_leaves_nothing_but_the_file() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let (bytes, harvested) = state(1);
        Publication::default()
            .publish(&file, &bytes, harvested)
            .unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
