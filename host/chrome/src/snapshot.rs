//! A snapshot's life after it was taken.
//!
//! ```text
//! judge against the last good one ─ encrypt ─ replace the file ─ keep a copy in the history ─ report in the status
//! ```
//!
//! Everything lies beside the snapshot, readable by its owner alone:
//!
//! ```text
//! state.json               what is served
//! state.json.status.json   how the last harvests went: [`Status`]
//! state.json.history/      earlier generations, and suspicious ones that were not published: [`history`]
//! ```

pub mod comparison;
pub mod encryption;
pub mod entries;
pub mod history;
pub mod loss;
pub mod publish;
pub mod status;
pub mod summary;
pub mod timestamp;

pub use comparison::{Change, Difference};
pub use history::Generation;
pub use loss::LossLimit;
pub use publish::{Publication, PublishError};
pub use status::{Sightings, Status};
pub use summary::Summary;
pub use timestamp::Timestamp;

use std::time::SystemTime;

use tracing::warn;

use crate::harvest::{HarvestConfig, HarvestError, Harvested, harvest, on_blocking_thread};

/// Harvests as [`harvest`] does, and says in the status file how it went, if
/// [`Publication::status`](publish::Publication::status) asks for one.
///
/// A status that cannot be written is logged and fails nothing: the snapshot matters more.
///
/// # Errors
/// [`HarvestError`], as [`harvest`].
pub async fn take(config: &HarvestConfig) -> Result<Harvested, HarvestError> {
    let result = harvest(config).await;
    // A success was recorded together with its publication.
    if let Err(error) = &result
        && config.publication.status
    {
        let (at, said, suspicious) = (SystemTime::now(), error.to_string(), error.is_suspicious());
        record(config, move |status| {
            status.failed(at, said);
            if !suspicious {
                status.suspicious = None;
            }
        })
        .await;
    }
    result
}

/// Changes the status file, or logs why it cannot be changed.
pub(crate) async fn record(
    config: &HarvestConfig,
    change: impl FnOnce(&mut Status) + Send + 'static,
) {
    let file = config.file.clone();
    let recorded =
        on_blocking_thread::<_, crate::WriteError>(move || Status::update(&file, change)).await;
    if let Err(error) = recorded {
        warn!(%error, "the status of the snapshot is not recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_failure_of_another_kind_ends_a_row_of_suspicious_ones() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state.json");
        let seen = Sightings::one_more(None, SystemTime::now(), Duration::ZERO);
        Status::update(&file, |status| status.suspicious = Some(seen)).unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = HarvestConfig::new(closed.local_addr().unwrap(), None, file.clone());
        drop(closed);
        config.publication.status = true;
        let error = take(&config).await.unwrap_err();
        assert!(!error.is_suspicious(), "{error}");
        let status = Status::read(&file).unwrap().unwrap();
        assert_eq!((status.suspicious, status.failures_in_a_row), (None, 1));
    }
}
