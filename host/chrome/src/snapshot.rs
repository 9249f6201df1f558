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
pub use status::Status;
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
    if config.publication.status {
        let at = SystemTime::now();
        let outcome = result.as_ref().cloned().map_err(ToString::to_string);
        record(config, move |status| status.record(at, outcome)).await;
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
