//! A plugin's instances on one worker, and the calls of its hooks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use wasmtime::component::ResourceAny;

use crate::bindings::RawVerdict;
use crate::counts::{Hook, PluginCounts};
use crate::exchange::Exchange;
use crate::failure::{FailureKind, PluginFailure};
use crate::http_client::Outbound;
use crate::instance::Instance;
use crate::plugin::{Plugin, StartError};
use crate::quarantine::Quarantine;
use crate::transform::BodyTransform;
use crate::verdict::{Reply, Verdict};

/// Instances that one plugin may have on one worker, beside those whose calls wait for requests of their own. More than
/// one are in use only while calls wait in an import.
const MAX_INSTANCES: usize = 16;

/// A plugin's instances on one worker.
///
/// A call runs to its end before the next one is made, so one instance serves all exchanges; only a guest that waits
/// in an import makes the worker take another.
#[derive(Debug)]
pub struct WorkerPlugin {
    plugin: Arc<Plugin>,
    outbound: Outbound,
    slots: RefCell<Vec<Rc<Slot>>>,
    /// A hook call that may wait takes one, so that it finds an instance that is free, and not the one whose call
    /// happens to take longest.
    calls: Semaphore,
    most: usize,
    quarantine: RefCell<Quarantine>,
    counts: Arc<PluginCounts>,
}

/// An instance and the transforms in it whose bodies are over, to be dropped before the next call.
pub(crate) struct Slot {
    pub(crate) instance: Mutex<Instance>,
    ended: RefCell<Vec<ResourceAny>>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("ended", &self.ended.borrow().len())
            .finish_non_exhaustive()
    }
}

impl WorkerPlugin {
    /// Makes the first instance on this worker and configures it.
    ///
    /// # Errors
    ///
    /// When the plugin refuses its configuration, traps or exceeds a limit.
    pub async fn start(plugin: Arc<Plugin>) -> Result<Self, StartError> {
        let outbound = plugin.outbound();
        let most = MAX_INSTANCES + outbound.most();
        let first = Rc::new(Slot::new(plugin.start(outbound.clone()).await?));
        Ok(Self {
            calls: Semaphore::new(most),
            most,
            plugin,
            outbound,
            slots: RefCell::new(vec![first]),
            quarantine: RefCell::default(),
            counts: Arc::default(),
        })
    }

    /// What all workers share of it.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// What it did on this worker.
    pub fn counts(&self) -> &Arc<PluginCounts> {
        &self.counts
    }

    /// Calls `on-request`; [`Verdict::Next`] when the component has no such hook. The exchange comes back whatever
    /// happened, with the edits made until then.
    pub async fn on_request(
        self: &Rc<Self>,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Verdict, PluginFailure>) {
        self.counts.called(Hook::Request);
        self.call("on-request", exchange, async |instance, exchange| {
            instance.on_request(exchange).await
        })
        .await
    }

    /// Calls `on-response`; as [`on_request`](Self::on_request).
    pub async fn on_response(
        self: &Rc<Self>,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Verdict, PluginFailure>) {
        self.counts.called(Hook::Response);
        self.call("on-response", exchange, async |instance, exchange| {
            instance.on_response(exchange).await
        })
        .await
    }

    async fn call(
        self: &Rc<Self>,
        call: &'static str,
        exchange: Box<Exchange>,
        hook: impl AsyncFnOnce(
            &mut Instance,
            Box<Exchange>,
        ) -> (Box<Exchange>, Result<RawVerdict, FailureKind>),
    ) -> (Box<Exchange>, Result<Verdict, PluginFailure>) {
        let _turn = match self.plugin.component().waits {
            true => Some(self.calls.acquire().await.expect("nobody closes it")),
            false => None,
        };
        loop {
            let slot = match self.slot().await {
                Ok(slot) => slot,
                Err(kind) => return (exchange, Err(self.failure(call, kind))),
            };
            let mut instance = slot.instance.lock().await;
            slot.drop_ended(&mut instance).await;
            // It may have failed in another exchange while this one waited for it.
            if !instance.is_usable() {
                continue;
            }
            let (exchange, result) = hook(&mut instance, exchange).await;
            let verdict = result.and_then(|verdict| self.verdict(verdict, &slot, &exchange));
            return (exchange, self.judge(call, verdict));
        }
    }

    fn verdict(
        self: &Rc<Self>,
        verdict: RawVerdict,
        slot: &Rc<Slot>,
        exchange: &Exchange,
    ) -> Result<Verdict, FailureKind> {
        let body_of = (exchange.facts.route.clone(), exchange.facts.id.clone());
        let transform =
            |resource| BodyTransform::new(self.clone(), slot.clone(), resource, body_of);
        match verdict {
            RawVerdict::Next => Ok(Verdict::Next),
            RawVerdict::Answer(reply) => match Reply::check(reply) {
                Ok(reply) => Ok(Verdict::Answer(reply)),
                Err(what) => Err(FailureKind::BadResult(what)),
            },
            RawVerdict::Transform(resource) => Ok(Verdict::Transform(transform(resource))),
            RawVerdict::Hold(resource) => Ok(Verdict::Hold(transform(resource))),
        }
    }

    /// An instance that can be called: one that is free, a new one, or the first to become free.
    async fn slot(&self) -> Result<Rc<Slot>, FailureKind> {
        if let Some(left) = self.quarantine.borrow().left() {
            return Err(FailureKind::Quarantined(left));
        }
        let state = |slot: &Rc<Slot>| slot.instance.try_lock().ok().map(|i| i.is_usable());
        let (free, count) = {
            let mut slots = self.slots.borrow_mut();
            slots.retain(|slot| state(slot) != Some(false));
            let mut free = slots.iter().filter(|slot| state(slot) == Some(true));
            // A call whose client leaves costs its instance, which should not take the bodies of others with it.
            let whole = !self.plugin.component().sends_requests() || slots.len() >= self.most;
            let spare = |slot: &&Rc<Slot>| whole || Rc::strong_count(slot) == 1;
            (free.find(spare).cloned(), slots.len())
        };
        match free {
            Some(slot) => Ok(slot),
            None if count < self.most => self.another().await,
            None => Ok(self.slots.borrow()[0].clone()),
        }
    }

    async fn another(&self) -> Result<Rc<Slot>, FailureKind> {
        let slot = match self.plugin.start(self.outbound.clone()).await {
            Ok(instance) => Rc::new(Slot::new(instance)),
            Err(error) => {
                self.note_fatal_failure();
                return Err(FailureKind::Start(error.to_string()));
            }
        };
        self.slots.borrow_mut().push(slot.clone());
        Ok(slot)
    }

    fn note_fatal_failure(&self) {
        let mut quarantine = self.quarantine.borrow_mut();
        quarantine.failed();
        self.counts.set_quarantined(quarantine.is_imposed());
    }

    pub(crate) fn failure(&self, call: &'static str, kind: FailureKind) -> PluginFailure {
        self.counts.failed(&kind);
        PluginFailure {
            plugin: self.plugin.name().clone(),
            call,
            kind,
        }
    }

    /// Counts failures that cost an instance.
    pub(crate) fn judge<T>(
        &self,
        call: &'static str,
        result: Result<T, FailureKind>,
    ) -> Result<T, PluginFailure> {
        match &result {
            Err(kind) if kind.is_fatal() => self.note_fatal_failure(),
            Err(_) => {}
            Ok(_) => {
                let mut quarantine = self.quarantine.borrow_mut();
                if quarantine.is_imposed() {
                    self.counts.set_quarantined(false);
                }
                quarantine.succeeded();
            }
        }
        result.map_err(|kind| self.failure(call, kind))
    }
}

impl Slot {
    fn new(instance: Instance) -> Self {
        Self {
            instance: Mutex::new(instance),
            ended: RefCell::default(),
        }
    }

    /// A body is over. The guest may be in another call right now; its destructor runs before the next one.
    pub(crate) fn end(&self, transform: ResourceAny) {
        self.ended.borrow_mut().push(transform);
    }

    async fn drop_ended(&self, instance: &mut Instance) {
        loop {
            let next = self.ended.borrow_mut().pop();
            let Some(transform) = next.filter(|_| instance.is_usable()) else {
                return;
            };
            if let Err(kind) = instance.drop_transform(transform).await {
                tracing::warn!(target: "plugin", ?kind, "a transform failed while it was dropped");
            }
        }
    }
}
