//! How much one upstream is asked for at once, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::config::UpstreamLimits;

/// What is left of each limit. One that is not set costs nothing.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) connections: Option<Connections>,
    requests: Option<Arc<Semaphore>>,
    retries: Option<Arc<Semaphore>>,
}

/// Permits for open connections, and who waits for one.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) permits: Arc<Semaphore>,
    waiting: AtomicU32,
    most_waiting: u32,
    /// Somebody began to wait: unused connections may go.
    pub(super) wanted: Notify,
}

/// Gives back what was taken when the last copy is dropped. Without a limit it holds nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permit(
    #[expect(dead_code, reason = "held for its end")] Option<Arc<OwnedSemaphorePermit>>,
);

/// One more is not possible now.
#[derive(Debug)]
pub(super) struct Exhausted;

/// Waits for a connection as long as it exists.
pub(super) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limits {
    pub(super) fn new(limits: &UpstreamLimits) -> Self {
        let permits = |most: u32| Arc::new(Semaphore::new(most as usize));
        Self {
            connections: limits.connections.map(|most| Connections {
                permits: permits(most),
                waiting: AtomicU32::new(0),
                most_waiting: limits.pending,
                wanted: Notify::new(),
            }),
            requests: limits.requests.map(permits),
            retries: limits.retries.map(permits),
        }
    }

    pub(super) fn admit_request(&self) -> Result<Permit, Exhausted> {
        take(self.requests.as_ref())
    }

    pub(super) fn admit_retry(&self) -> Result<Permit, Exhausted> {
        take(self.retries.as_ref())
    }
}

fn take(permits: Option<&Arc<Semaphore>>) -> Result<Permit, Exhausted> {
    let Some(permits) = permits else {
        return Ok(Permit(None));
    };
    let permit = permits.clone().try_acquire_owned();
    permit
        .map(|permit| Permit(Some(Arc::new(permit))))
        .map_err(|_| Exhausted)
}

impl Connections {
    /// Joins those that wait, if there are not too many.
    pub(super) fn wait(&self) -> Result<Waiting<'_>, Exhausted> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            return Err(Exhausted);
        }
        self.wanted.notify_waiters();
        Ok(waiting)
    }

    pub(super) fn are_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}
