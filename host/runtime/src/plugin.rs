//! A configured plugin, and its instances on one worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;
use wasmtime::component::ResourceAny;

use crate::bindings::RawVerdict;
use crate::component::{Component, Hooks};
use crate::exchange::Exchange;
use crate::failure::{FailureKind, PluginFailure};
use crate::instance::{ConfigError, Instance};
use crate::verdict::{Reply, Verdict};

/// What one plugin may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Run time of one hook or transform call.
    pub deadline: Duration,
    /// Run time of instantiation and of `configure`.
    pub start: Duration,
    /// Bytes of each linear memory of one instance.
    pub memory: usize,
    /// Bytes of a body that is held back.
    pub held_body: usize,
    /// Log lines a second on each worker.
    pub log_lines: u32,
}

impl Default for Limits {
    /// 50 ms a call: a hundred times what a slow hook needs, and still no outage. 5 s for a start: Python and
    /// JavaScript take 0.02 s, a large configuration perhaps 1 s. 64 MiB: three times what a Python instance takes.
    /// 1 MiB held. 100 lines.
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            start: Duration::from_secs(5),
            memory: 64 << 20,
            held_body: 1 << 20,
            log_lines: 100,
        }
    }
}

/// A component with its configuration and limits, under the name that the operator gave it. Immutable and shared by
/// all workers.
#[derive(Debug)]
pub struct Plugin {
    name: Arc<str>,
    component: Arc<Component>,
    config: Secret,
    limits: Limits,
}

/// A configuration may hold tokens; it never shows in a log.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Why an instance could not be made ready.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The plugin refuses its configuration.
    #[error("the plugin refuses its configuration")]
    Config(Vec<ConfigError>),
    /// It failed on the way.
    #[error("{}", started(.0))]
    Failed(FailureKind),
}

fn started(kind: &FailureKind) -> String {
    match kind {
        FailureKind::Trap { message } => format!("it trapped while it was started: {message}"),
        FailureKind::Deadline(limit) => {
            format!("it was not ready within its `limits.start` of {limit:?}")
        }
        FailureKind::Memory(limit) => {
            format!("it wanted more than its `limits.memory` of {limit} bytes to start")
        }
        other => format!("it failed while it was started ({})", other.label()),
    }
}

impl Plugin {
    /// Puts a plugin together. `config` is a JSON object. Nothing runs yet: see [`WorkerPlugin::start`].
    pub fn new(name: Arc<str>, component: Arc<Component>, config: String, limits: Limits) -> Self {
        Self {
            name,
            component,
            config: Secret(config),
            limits,
        }
    }

    /// The name in the operator's configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Which hooks will be called.
    pub fn hooks(&self) -> Hooks {
        self.component.hooks()
    }

    /// The component.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// JSON Schema (draft 2020-12) of the configuration, or the empty string. Makes an instance for it.
    ///
    /// # Errors
    ///
    /// When the plugin traps or exceeds a limit.
    pub async fn config_schema(&self) -> Result<String, StartError> {
        Instance::new(self).await?.config_schema().await
    }

    async fn start(&self) -> Result<Instance, StartError> {
        let mut instance = Instance::new(self).await?;
        instance.configure(&self.config.0).await?;
        Ok(instance)
    }
}

/// Instances that one plugin may have on one worker. More than one are in use only while calls wait in WASI.
const MAX_INSTANCES: usize = 16;

/// A plugin's instances on one worker.
///
/// A call runs to its end before the next one is made, so one instance serves all exchanges; only a guest that waits
/// in an import makes the worker take another.
#[derive(Debug)]
pub struct WorkerPlugin {
    plugin: Arc<Plugin>,
    slots: RefCell<Vec<Rc<Slot>>>,
    quarantine: RefCell<Quarantine>,
}

/// An instance and the transforms in it whose bodies are over, to be dropped before the next call.
struct Slot {
    instance: Mutex<Instance>,
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
        let first = Rc::new(Slot::new(plugin.start().await?));
        Ok(Self {
            plugin,
            slots: RefCell::new(vec![first]),
            quarantine: RefCell::default(),
        })
    }

    /// What all workers share of it.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Calls `on-request`; [`Verdict::Next`] when the component has no such hook. The exchange comes back whatever
    /// happened, with the edits made until then.
    pub async fn on_request(
        self: &Rc<Self>,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Verdict, PluginFailure>) {
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
        let transform = |resource| BodyTransform {
            plugin: self.clone(),
            slot: slot.clone(),
            resource,
            body_of: (exchange.facts.route.clone(), exchange.facts.id.clone()),
        };
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
            let free = slots.iter().find(|slot| state(slot) == Some(true));
            (free.cloned(), slots.len())
        };
        match free {
            Some(slot) => Ok(slot),
            None if count < MAX_INSTANCES => self.another().await,
            None => Ok(self.slots.borrow()[0].clone()),
        }
    }

    async fn another(&self) -> Result<Rc<Slot>, FailureKind> {
        let slot = match self.plugin.start().await {
            Ok(instance) => Rc::new(Slot::new(instance)),
            Err(error) => {
                self.quarantine.borrow_mut().failed();
                return Err(FailureKind::Start(error.to_string()));
            }
        };
        self.slots.borrow_mut().push(slot.clone());
        Ok(slot)
    }

    fn failure(&self, call: &'static str, kind: FailureKind) -> PluginFailure {
        PluginFailure {
            plugin: self.plugin.name.clone(),
            call,
            kind,
        }
    }

    /// Counts failures that cost an instance.
    fn judge<T>(
        &self,
        call: &'static str,
        result: Result<T, FailureKind>,
    ) -> Result<T, PluginFailure> {
        match &result {
            Err(kind) if kind.is_fatal() => self.quarantine.borrow_mut().failed(),
            Err(_) => {}
            Ok(_) => self.quarantine.borrow_mut().succeeded(),
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

/// One body's way through a plugin.
#[derive(Debug)]
pub struct BodyTransform {
    plugin: Rc<WorkerPlugin>,
    slot: Rc<Slot>,
    resource: ResourceAny,
    body_of: (Arc<str>, Arc<str>),
}

/// Largest piece that is handed to a guest at once (`transform.push`).
const MAX_CHUNK: usize = 65_536;

impl BodyTransform {
    /// Passes a piece of the body through the plugin; the result may be empty.
    ///
    /// # Errors
    ///
    /// When the plugin fails; the body cannot be continued then.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<Bytes, PluginFailure> {
        if bytes.len() <= MAX_CHUNK {
            return self.push_chunk(bytes).await;
        }
        let mut out = Vec::with_capacity(bytes.len());
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK));
            out.extend_from_slice(&self.push_chunk(chunk).await?);
        }
        Ok(out.into())
    }

    async fn push_chunk(&mut self, chunk: Bytes) -> Result<Bytes, PluginFailure> {
        if chunk.is_empty() {
            return Ok(chunk);
        }
        let mut instance = self.slot.instance.lock().await;
        let pushed = match instance.is_usable() {
            true => instance.push(self.resource, chunk, &self.body_of).await,
            false => Err(FailureKind::LostInstance),
        };
        self.plugin.judge("transform.push", pushed)
    }

    /// The body has ended: what is still to be sent.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub async fn finish(self) -> Result<Bytes, PluginFailure> {
        let mut instance = self.slot.instance.lock().await;
        let finished = match instance.is_usable() {
            true => instance.finish(self.resource, &self.body_of).await,
            false => Err(FailureKind::LostInstance),
        };
        drop(instance);
        self.plugin.judge("transform.finish", finished)
    }

    /// Bytes of a body that may be held back for this plugin.
    pub fn held_body_limit(&self) -> usize {
        self.plugin.plugin.limits.held_body
    }

    /// The failure of a held body that grew over its limit.
    pub fn held_body_exceeded(&self) -> PluginFailure {
        self.plugin.failure(
            "transform.push",
            FailureKind::HeldBody(self.held_body_limit()),
        )
    }
}

impl Drop for BodyTransform {
    fn drop(&mut self) {
        // The guest may be in another call right now; its destructor runs before the next one.
        self.slot.ended.borrow_mut().push(self.resource);
    }
}

/// Consecutive failures after which a plugin is left alone for a while.
const PATIENCE: u32 = 5;
/// How long at first; doubles with each further failure.
const FIRST_QUARANTINE: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(60);

/// Keeps a plugin that fails again and again from costing a new instance per exchange.
#[derive(Debug, Default)]
struct Quarantine {
    failures: u32,
    until: Option<Instant>,
}

impl Quarantine {
    fn left(&self) -> Option<Duration> {
        self.until?
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if let Some(beyond) = self.failures.checked_sub(PATIENCE) {
            let time = FIRST_QUARANTINE
                .saturating_mul(1 << beyond.min(6))
                .min(LONGEST_QUARANTINE);
            self.until = Some(Instant::now() + time);
        }
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            *self = Self::default();
        }
    }
}
