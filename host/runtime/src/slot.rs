//! An instance and what lives in it beyond a call.

use std::sync::{Arc, Mutex as Lock, PoisonError};

use tokio::sync::{Mutex, OwnedSemaphorePermit};
use wasmtime::component::ResourceAny;

use crate::instance::Instance;
use crate::plugin::Plugin;
use crate::worker_plugin::WorkerPlugin;

/// The call of a destructor, as messages name it.
const DROP: &str = "transform.drop";

/// An instance and the transforms in it whose bodies are over, to be dropped before the next call.
pub(crate) struct Slot {
    pub(crate) instance: Mutex<Instance>,
    /// Locked for a moment by the one thread that has it; a lock only because exchanges, which hold slots, are sent to
    /// instances.
    ended: Lock<Vec<ResourceAny>>,
    /// Of an exchange's own instance: its place among those that there may be.
    _place: Option<OwnedSemaphorePermit>,
}

/// Whether an instance can take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// In a call.
    Busy,
    /// It takes no further calls, or none but those of the bodies in it.
    Spent,
}

/// Instances of plugins with `isolation = "exchange"`: each lives as long as its exchange and the bodies in it.
#[derive(Debug, Default)]
pub struct OwnInstances(Vec<(Arc<Plugin>, Arc<Slot>)>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Slot {
    pub(crate) fn new(instance: Instance, place: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        Arc::new(Self {
            instance: Mutex::new(instance),
            ended: Lock::default(),
            _place: place,
        })
    }

    pub(crate) fn state(&self) -> State {
        match self.instance.try_lock() {
            Ok(instance) if instance.takes_calls() => State::Free,
            Ok(_) => State::Spent,
            Err(_) => State::Busy,
        }
    }

    /// Waits until the call that the instance is in is over.
    pub(crate) async fn over(slot: &Arc<Self>) {
        drop(slot.instance.lock().await);
    }

    /// A body is over. The guest may be in another call right now; its destructor runs before the next one.
    pub(crate) fn end(&self, transform: ResourceAny) {
        self.ended().push(transform);
    }

    pub(crate) async fn drop_ended(&self, plugin: &WorkerPlugin, instance: &mut Instance) {
        loop {
            let next = self.ended().pop();
            let Some(transform) = next.filter(|_| instance.is_usable()) else {
                return;
            };
            match instance.drop_transform(transform).await {
                Ok(()) => plugin.note_success(DROP),
                Err(kind) => {
                    plugin.note_fatal_failure(DROP);
                    let failure = plugin.failure(DROP, kind);
                    // Nobody's exchange fails for it: the body it belonged to is over.
                    tracing::warn!(target: "plugin", kind = failure.kind.label(), "{failure}");
                }
            }
        }
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Vec<ResourceAny>> {
        // Handles are only put in and taken out, so the list is whole even after a panic.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnInstances {
    pub(crate) fn take(&mut self, plugin: &Arc<Plugin>) -> Option<Arc<Slot>> {
        let at = (self.0.iter()).position(|(owner, _)| Arc::ptr_eq(owner, plugin))?;
        Some(self.0.swap_remove(at).1)
    }

    pub(crate) fn put(&mut self, plugin: Arc<Plugin>, slot: Arc<Slot>) {
        self.0.push((plugin, slot));
    }
}
