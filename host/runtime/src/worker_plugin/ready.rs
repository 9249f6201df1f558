//! Instances that live for one exchange, and those that are made before it comes.

use std::rc::Weak;
use std::sync::Arc;

use tokio::task::yield_now;

use super::WorkerPlugin;
use crate::failure::FailureKind;
use crate::slot::{Own, Slot};

/// Instances that wait on each worker for exchanges to come: one for the next, and one for another that comes meanwhile. All
/// of them are out of use most of the time, and have the memory that `configure` took.
const READY: usize = 2;

impl WorkerPlugin {
    /// An instance for one exchange.
    pub(super) async fn own_slot(&self) -> Result<Arc<Slot>, FailureKind> {
        self.check_quarantine()?;
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let place = self.places.clone().acquire_owned();
                let acquired = self.wait(&mut None, place).await?;
                acquired.expect("nobody closes it")
            }
        };
        let ready = self.ready.borrow_mut().pop();
        let instance = match ready {
            Some(instance) => instance,
            None => self.make().await?,
        };
        let own = Own::new(place, self.over.clone());
        Ok(Slot::new(instance, Some(own)))
    }

    /// Makes instances for exchanges to come whenever one with an instance of its own is over, so that they need not wait
    /// for it, until the plugin is gone. For each plugin with [`Isolation::Exchange`](crate::Isolation::Exchange), its worker runs this beside the
    /// exchanges; without, every exchange but the first makes its own.
    pub async fn keep_ready(plugin: Weak<Self>) {
        while let Some(over) = plugin.upgrade().map(|plugin| plugin.over.clone()) {
            over.notified().await;
            while let Some(plugin) = plugin.upgrade()
                && plugin.make_ready().await
            {
                // The exchanges of others first.
                yield_now().await;
            }
        }
    }

    /// Makes one more, unless there are enough or it fails.
    async fn make_ready(&self) -> bool {
        if self.ready.borrow().len() >= READY || self.check_quarantine().is_err() {
            return false;
        }
        match self.make().await {
            Ok(instance) => {
                self.ready.borrow_mut().push(instance);
                true
            }
            Err(kind) => {
                let failure = self.failure("start", kind);
                tracing::warn!(target: "plugin", kind = failure.kind.label(), "{failure}");
                false
            }
        }
    }
}

impl Drop for WorkerPlugin {
    fn drop(&mut self) {
        // Whoever keeps instances ready has nobody left to keep them for.
        self.over.notify_one();
    }
}
