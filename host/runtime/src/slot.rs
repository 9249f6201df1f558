//! An instance and what lives in it beyond a call.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};

use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, MutexGuard, Notify, OwnedSemaphorePermit};
use wasmtime::component::ResourceAny;

use crate::instance::Instance;
use crate::plugin::Plugin;
use crate::worker_plugin::WorkerPlugin;

/// The call of a destructor, as messages name it.
const DROP: &str = "transform.drop";

/// An instance and the transforms in it whose bodies are over, to be dropped before the next call.
pub(crate) struct Slot {
    instance: Mutex<Instance>,
    /// Told when a call in the instance is over that somebody waits for.
    over: Notify,
    /// Whether anybody does: most of the time nobody, and no lock is taken to tell nobody.
    is_awaited: AtomicBool,
    /// Locked for a moment by the one thread that has it; a lock only because exchanges, which hold slots, are sent to
    /// instances.
    ended: Lock<Vec<ResourceAny>>,
    /// Whether there may be any of them: most of the time there are none, and no lock is taken to see it.
    any_ended: AtomicBool,
    /// Of an instance that is an exchange's own.
    _own: Option<Own>,
}

/// What an exchange's own instance has, until it is gone.
pub(crate) struct Own {
    /// Among those that there may be.
    _place: OwnedSemaphorePermit,
    over: Arc<Notify>,
}

impl Own {
    /// `over` is told when the instance is gone.
    pub(crate) fn new(place: OwnedSemaphorePermit, over: Arc<Notify>) -> Self {
        Self {
            _place: place,
            over,
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.over.notify_one();
    }
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
    pub(crate) fn new(instance: Instance, own: Option<Own>) -> Arc<Self> {
        Arc::new(Self {
            instance: Mutex::new(instance),
            over: Notify::new(),
            is_awaited: AtomicBool::new(false),
            ended: Lock::default(),
            any_ended: AtomicBool::new(false),
            _own: own,
        })
    }

    pub(crate) fn state(&self) -> State {
        match self.instance.try_lock() {
            Ok(instance) if instance.takes_calls() => State::Free,
            Ok(_) => State::Spent,
            Err(_) => State::Busy,
        }
    }

    /// The instance, if it is in no call.
    pub(crate) fn try_take(&self) -> Option<Taken<'_>> {
        let instance = self.instance.try_lock().ok()?;
        Some(Taken::new(self, instance))
    }

    /// The instance, in one's turn.
    pub(crate) async fn take(&self) -> Taken<'_> {
        // Whoever gives the wait up may have been given the instance already, with those told who found it taken.
        let mut passed_on = PassedOn(Some(self));
        let instance = self.instance.lock().await;
        passed_on.0 = None;
        Taken::new(self, instance)
    }

    /// Waits until a call that the instance is in is over. Takes no turn: of several that wait, each may then find that
    /// another was faster.
    pub(crate) fn over(&self) -> Notified<'_> {
        self.is_awaited.store(true, Ordering::Relaxed);
        self.over.notified()
    }

    fn tell_over(&self) {
        if self.is_awaited.load(Ordering::Relaxed) {
            self.is_awaited.store(false, Ordering::Relaxed);
            self.over.notify_waiters();
        }
    }

    /// A body is over. The guest may be in another call right now; its destructor runs before the next one.
    pub(crate) fn end(&self, transform: ResourceAny) {
        self.ended().push(transform);
        self.any_ended.store(true, Ordering::Relaxed);
    }

    /// Whether bodies are over whose transforms are still there.
    pub(crate) fn any_ended(&self) -> bool {
        self.any_ended.load(Ordering::Relaxed)
    }

    pub(crate) async fn drop_ended(&self, plugin: &WorkerPlugin, instance: &mut Instance) {
        while self.any_ended() {
            let next = self.ended().pop();
            let Some(transform) = next.filter(|_| instance.is_usable()) else {
                self.any_ended.store(false, Ordering::Relaxed);
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

/// Tells of an instance that is free again, unless it was taken.
struct PassedOn<'a>(Option<&'a Slot>);

impl Drop for PassedOn<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.tell_over();
        }
    }
}

/// An instance for a call.
pub(crate) struct Taken<'a> {
    slot: &'a Slot,
    /// `None` once it is given back.
    instance: Option<MutexGuard<'a, Instance>>,
}

impl<'a> Taken<'a> {
    fn new(slot: &'a Slot, instance: MutexGuard<'a, Instance>) -> Self {
        let instance = Some(instance);
        Self { slot, instance }
    }
}

impl Deref for Taken<'_> {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        self.instance.as_ref().expect("it is given back at the end")
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("it is given back at the end")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // First of all, so that those who are told find it free.
        self.instance = None;
        self.slot.tell_over();
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
