//! A standard component on one worker, and the calls of its handler.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use http::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::WasiBody;

use super::body::HttpBody;
use super::call::Call;
use super::onward::{MOST_WAITING, Next, Onward};
use super::outgoing::Outgoing;
use super::plugin::HttpPlugin;
use crate::counts::{Hook, PluginCounts};
use crate::failure::{FailureKind, PluginFailure};
use crate::worker_plugin::{MAX_WAITING, OneMore};

/// A standard component on one worker: a bound on its instances, and counts.
#[derive(Debug)]
pub struct WorkerHttpPlugin {
    plugin: Arc<HttpPlugin>,
    outgoing: Outgoing,
    turns: Arc<Semaphore>,
    /// For a turn.
    waiting: Cell<usize>,
    counts: Arc<PluginCounts>,
}

/// The exchange that a call is for, for the log.
#[derive(Debug, Clone)]
pub struct About {
    /// Name of the route.
    pub route: Arc<str>,
    /// Request id.
    pub id: Arc<str>,
}

impl WorkerHttpPlugin {
    /// Makes nothing yet: every exchange has an instance of its own.
    pub fn new(plugin: Arc<HttpPlugin>) -> Self {
        Self {
            outgoing: Outgoing::new(plugin.grant()),
            turns: Arc::new(Semaphore::new(plugin.limits().concurrency)),
            waiting: Cell::new(0),
            counts: Arc::default(),
            plugin,
        }
    }

    /// What all workers share of it.
    pub fn plugin(&self) -> &Arc<HttpPlugin> {
        &self.plugin
    }

    /// What went wrong with it on this worker. Its calls are not hooks, and are counted with its routes.
    pub fn counts(&self) -> &Arc<PluginCounts> {
        &self.counts
    }

    /// Lets a middleware have its requests passed on: give [`Self::handle`] the first, and serve what comes out of the
    /// second while that waits.
    pub fn next() -> (mpsc::Sender<Onward>, Next) {
        mpsc::channel(MOST_WAITING)
    }

    /// Makes an instance and has it handle a request. The URI is in absolute form: scheme and authority are what the
    /// component sees of them. Hop-by-hop fields are the caller's to remove, from both heads.
    ///
    /// The response comes when its head is there; the instance goes on as long as the body needs it, ends when that is
    /// dropped before its end, and may do what it likes for ten seconds after the end of one that was read. Dropping
    /// the future ends the instance. Has to be called on a [`LocalSet`](tokio::task::LocalSet), where the instance runs.
    ///
    /// # Errors
    ///
    /// When no instance may be made in time, or it traps, returns without a response or with an error, or exceeds a
    /// limit. The same, later, is an error of
    /// the body.
    pub async fn handle(
        &self,
        request: Request<WasiBody>,
        about: About,
        next: Option<mpsc::Sender<Onward>>,
    ) -> Result<Response<HttpBody>, PluginFailure> {
        let failed: Arc<OnceLock<FailureKind>> = Arc::default();
        let began = self.counts.called(Hook::Handle).then(Instant::now);
        let handled = self.try_handle(request, about, next, failed.clone()).await;
        if let Some(began) = began {
            self.counts.took(Hook::Handle, began.elapsed());
        }
        handled.map_err(|kind| {
            let failure = PluginFailure {
                plugin: self.plugin.name().clone(),
                call: "handle",
                kind,
            };
            // What ended the instance was counted there.
            if failed.get().is_none() {
                self.counts.failed(&failure);
            }
            failure
        })
    }

    /// Waits for room for one more instance.
    async fn turn(&self, until: Instant) -> Result<OwnedSemaphorePermit, FailureKind> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let busy = FailureKind::Busy(self.plugin.limits().concurrency);
        let Some(_waiting) = OneMore::of(&self.waiting, MAX_WAITING) else {
            return Err(busy);
        };
        match timeout_at(until, self.turns.clone().acquire_owned()).await {
            Ok(turn) => Ok(turn.expect("nobody closes it")),
            Err(_) => Err(busy),
        }
    }

    async fn try_handle(
        &self,
        request: Request<WasiBody>,
        about: About,
        next: Option<mpsc::Sender<Onward>>,
        failed: Arc<OnceLock<FailureKind>>,
    ) -> Result<Response<HttpBody>, FailureKind> {
        let limit = self.plugin.limits().first_byte;
        let until = Instant::now() + limit;
        let late = |_| FailureKind::FirstByte(limit);
        let turn = self.turn(until).await?;
        let (head, answered) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let call = Call {
            plugin: self.plugin.clone(),
            outgoing: self.outgoing.clone(),
            failed: failed.clone(),
            counts: self.counts.clone(),
            about,
            next,
            turn,
        };
        tokio::task::spawn_local(call.run(request, head, left));
        let Ok(answered) = timeout_at(until, answered).await.map_err(late)? else {
            let silent = || FailureKind::Error("it ended without a response".into());
            return Err(failed.get().cloned().unwrap_or_else(silent));
        };
        let response = answered?;
        // RFC 9110 §15: what is below is not final, and what is above means nothing.
        if !(StatusCode::OK.as_u16()..=599).contains(&response.status().as_u16()) {
            let status = response.status().as_u16();
            return Err(FailureKind::BadResult(format!("a status of {status}")));
        }
        let name = self.plugin.name().clone();
        Ok(response.map(|body| HttpBody::new(body, name, failed, leave)))
    }
}
