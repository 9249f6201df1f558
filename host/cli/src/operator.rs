//! What an operator may have this process do, through the admin listener.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use witgate_chrome::HarvestConfig;
use witgate_proxy::{Answer, Operate, ReloadReport};

use crate::log;
use crate::status::ChromeStatus;

/// Reloads that were asked for and have not begun.
const WAITING: usize = 4;

/// Somebody wants a reload, and to hear what it came to.
pub(crate) type AskedReload = oneshot::Sender<Arc<ReloadReport>>;

pub(crate) struct Operator {
    pub(crate) drain: Arc<Notify>,
    pub(crate) reloads: mpsc::Sender<AskedReload>,
    pub(crate) chrome: Option<ChromeStatus>,
    /// One harvest at a time.
    pub(crate) harvest: Option<Mutex<HarvestConfig>>,
}

/// Where reloads are asked for, and where that is heard.
pub(crate) fn reload_requests() -> (mpsc::Sender<AskedReload>, mpsc::Receiver<AskedReload>) {
    mpsc::channel(WAITING)
}

impl Operate for Operator {
    fn log_filter(&self) -> String {
        log::filter()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        log::set_filter(filter)
    }

    fn drain(&self) {
        self.drain.notify_one();
    }

    fn reload(&self) -> Answer<'_, Result<Arc<ReloadReport>, String>> {
        Box::pin(async {
            let stopping = || "witgate is stopping".to_owned();
            let (done, report) = oneshot::channel();
            self.reloads.send(done).await.map_err(|_| stopping())?;
            report.await.map_err(|_| stopping())
        })
    }

    fn browser(&self) -> Option<Value> {
        self.chrome.as_ref().map(ChromeStatus::document)
    }

    fn harvest(&self) -> Option<Answer<'_, Result<Value, String>>> {
        let config = self.harvest.as_ref()?;
        Some(Box::pin(async {
            let busy = |_| "a harvest is under way already".to_owned();
            let config = config.try_lock().map_err(busy)?;
            let harvested = witgate_chrome::snapshot::take(&config).await;
            let harvested = harvested.map_err(|error| error.to_string())?;
            tracing::info!(
                cookies = harvested.cookies,
                origins = harvested.origins,
                "harvested, as an operator asked"
            );
            Ok(json!({
                "cookies": harvested.cookies,
                "origins": harvested.origins,
                "left_out": harvested.left_out,
                "bytes": harvested.bytes,
                "took_seconds": harvested.duration.as_secs_f64(),
            }))
        }))
    }
}
