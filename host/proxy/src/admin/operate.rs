//! What an operator may have done, which only the process as a whole can do.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::documents::seconds_since_1970;
use crate::config::{Change, Problems};
use crate::reload::Reloaded;

/// Something that takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the process can do when it is told to. Called from the admin listener's event loop, never from a worker's.
pub trait Operate: Send + Sync {
    /// What is logged now.
    fn log_filter(&self) -> String;

    /// Logs this from now on, until the process ends.
    ///
    /// # Errors
    ///
    /// Why it cannot be, for people.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;

    /// Stops, as at the first SIGTERM.
    fn drain(&self);

    /// Reads the configuration again. The report is also given to [`Status::note_reload`](super::Status::note_reload).
    ///
    /// # Errors
    ///
    /// When the process is stopping.
    fn reload(&self) -> Answer<'_, Result<std::sync::Arc<ReloadReport>, String>>;

    /// What is to be said of Chromium; `None` without one.
    fn browser(&self) -> Option<Value>;

    /// Takes a snapshot of Chromium's signed-in state now; `None` where there is none to be taken.
    fn harvest(&self) -> Option<Answer<'_, Result<Value, String>>>;
}

/// What a reload came to, for programs and people.
#[derive(Debug)]
pub struct ReloadReport {
    done: bool,
    document: Value,
}

impl ReloadReport {
    /// It went through. `waiting` are the keys that wait for a restart.
    pub fn done(
        cause: &str,
        took: Duration,
        reloaded: &Reloaded,
        warnings: &Problems,
        waiting: &[&str],
    ) -> Self {
        let changes = reloaded.changes.iter().map(|(part, name, change)| {
            let change = match change {
                Change::Added => "added",
                Change::Changed => "changed",
                Change::Removed => "removed",
            };
            json!({"part": part.to_string(), "name": &**name, "change": change})
        });
        let changes: Vec<_> = changes.collect();
        Self {
            done: true,
            document: json!({
                "done": true,
                "at": seconds_since_1970(SystemTime::now()),
                "cause": cause,
                "took_seconds": took.as_secs_f64(),
                "generation": reloaded.number,
                "changes": changes,
                "waiting_for_restart": waiting,
                "report": (!warnings.is_empty()).then(|| warnings.to_json()),
            }),
        }
    }

    /// It came to nothing, and what ran goes on.
    pub fn failed(cause: &str, took: Duration, problems: &Problems) -> Self {
        Self {
            done: false,
            document: json!({
                "done": false,
                "at": seconds_since_1970(SystemTime::now()),
                "cause": cause,
                "took_seconds": took.as_secs_f64(),
                "report": problems.to_json(),
            }),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn document(&self) -> &Value {
        &self.document
    }
}
