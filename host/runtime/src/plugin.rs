//! A configured plugin: what all workers share of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime_wasi::WasiCtxBuilder;

use crate::clock::Clock;
use crate::component::{Component, Hooks};
use crate::counts::PluginCounts;
use crate::failure::FailureKind;
use crate::http_client::{HttpGrant, Outbound};
use crate::instance::{ConfigError, Instance};
use crate::keyvalue::KeyValueGrant;
use crate::log_budget::LogBudget;
use crate::metrics::MetricsGrant;
use crate::secrets::Secrets;
use crate::wasi::{FixedRandom, WasiGrant};

/// What one plugin may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Run time of one hook or transform call.
    pub deadline: Duration,
    /// Run time of instantiation and of `configure`.
    pub start: Duration,
    /// Bytes of all linear memories of one instance together.
    pub memory: usize,
    /// Bytes of a body that is held back.
    pub held_body: usize,
    /// Bytes of one message of a WebSocket, joined.
    pub message: usize,
    /// Log lines a second on each worker.
    pub log_lines: u32,
    /// Calls on one worker that may be under way at once, each in an instance; with [`Isolation::Exchange`], exchanges.
    /// At least 1.
    pub concurrency: usize,
    /// How long a call waits for its turn when there are as many.
    pub wait: Duration,
    /// Exchanges after which an instance is replaced.
    pub exchanges: Option<u64>,
    /// Bytes of memory after which an instance is replaced. `None`: halfway from what it had when it was configured to
    /// `memory`.
    pub recycle_memory: Option<usize>,
}

/// How far exchanges are kept from one another within one plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// An instance serves the exchanges of its worker, one call after the other.
    #[default]
    Worker,
    /// Each exchange has an instance of its own, for its hooks and bodies; `on-complete`, which is called when it is over,
    /// has another.
    Exchange,
}

impl Default for Limits {
    /// 50 ms a call: long for a hook, and short for the other connections of a worker that wait meanwhile. 5 s for a
    /// start: instances of large language runtimes and their configuration take their time. 64 MiB. 1 MiB held. A
    /// message of 16 MiB: a guest that looks at one has room for it, and for what it makes of it, in its memory. 100
    /// lines. 16 calls at once on one worker: only those that wait or compute for milliseconds are under way together,
    /// and each costs an instance's memory. One second for a turn: a client would rather be refused than wait longer.
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            start: Duration::from_secs(5),
            memory: 64 << 20,
            held_body: 1 << 20,
            message: 16 << 20,
            log_lines: 100,
            concurrency: 16,
            wait: Duration::from_secs(1),
            exchanges: None,
            recycle_memory: None,
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
    isolation: Isolation,
    clock: Clock,
    random: Option<FixedRandom>,
    http: Option<HttpGrant>,
    wasi: Arc<WasiGrant>,
    keyvalue: Option<KeyValueGrant>,
    metrics: Option<MetricsGrant>,
    secrets: Secrets,
    prepared: Prepared,
    fuel: Arc<AtomicU64>,
}

/// Configured instances that no worker has taken yet. Locked when a worker makes an instance, and never in a call.
#[derive(Default)]
struct Prepared(Mutex<Vec<Instance>>);

impl Prepared {
    fn lock(&self) -> MutexGuard<'_, Vec<Instance>> {
        // Instances are only put in and taken out, so they are whole even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} instances", self.lock().len())
    }
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
    /// What the operator lends cannot be had.
    #[error("{0}")]
    Grant(String),
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
    /// Puts a plugin together. `config` is a JSON object. Nothing runs yet: see [`WorkerPlugin::start`](crate::WorkerPlugin::start).
    pub fn new(name: Arc<str>, component: Arc<Component>, config: String, limits: Limits) -> Self {
        Self {
            name,
            component,
            config: Secret(config),
            limits,
            isolation: Isolation::default(),
            clock: Clock::default(),
            random: None,
            http: None,
            wasi: Arc::default(),
            keyvalue: None,
            metrics: None,
            secrets: Secrets::default(),
            prepared: Prepared::default(),
            fuel: Arc::default(),
        }
    }

    /// Keeps exchanges further from one another than [`Isolation::Worker`] does.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How far exchanges are kept from one another.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Gives its instances another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Gives what its instances import of `wasi:random` these bytes, over and over, in place of random ones. For tests; no
    /// bytes at all change nothing.
    #[must_use]
    pub fn with_fixed_random(mut self, bytes: &[u8]) -> Self {
        self.random = FixedRandom::new(bytes);
        self
    }

    /// Puts what a test moves and chooses in place of the system's clocks and random numbers.
    pub(crate) fn fake(&self, context: &mut WasiCtxBuilder) {
        self.clock.lend(context);
        if let Some(random) = &self.random {
            random.lend(context);
        }
    }

    /// The clock that its instances read.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Lets it send requests of its own (`grant.http-client`). Without, every one is refused.
    #[must_use]
    pub fn with_http_client(mut self, grant: HttpGrant) -> Self {
        self.http = Some(grant);
        self
    }

    /// Lends it variables, directories and a table of strings (`grant.wasi`). Without, they are empty; clocks and random
    /// numbers are there for all.
    #[must_use]
    pub fn with_wasi(mut self, grant: WasiGrant) -> Self {
        self.wasi = Arc::new(grant);
        self
    }

    /// What it is lent of WASI.
    pub(crate) fn wasi(&self) -> &Arc<WasiGrant> {
        &self.wasi
    }

    /// Lends it a store (`grant.keyvalue`). Without, every call is refused.
    #[must_use]
    pub fn with_keyvalue(mut self, grant: KeyValueGrant) -> Self {
        self.keyvalue = Some(grant);
        self
    }

    /// Lets it count (`grant.metrics`). Without, no metric can be declared.
    #[must_use]
    pub fn with_metrics(mut self, grant: MetricsGrant) -> Self {
        self.metrics = Some(grant);
        self
    }

    /// Lends it secrets (`grant.secrets`).
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    pub(crate) fn keyvalue(&self) -> Option<&KeyValueGrant> {
        self.keyvalue.as_ref()
    }

    pub(crate) fn metrics(&self) -> Option<&MetricsGrant> {
        self.metrics.as_ref()
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Whether a call may wait for somebody on the network, so that it may be given up half-way.
    pub(crate) fn waits_for_others(&self) -> bool {
        let remote_store = self.component.uses_stores() && self.has_remote_store();
        self.component.sends_requests() || remote_store
    }

    fn has_remote_store(&self) -> bool {
        let waits = |grant: &KeyValueGrant| grant.store.timeout().is_some();
        self.keyvalue.as_ref().is_some_and(waits)
    }

    /// Makes and configures so many instances for workers to take, so that a worker that serves already is not held
    /// up by it, and so that a mistake is found before anything depends on the plugin.
    ///
    /// # Errors
    ///
    /// When the plugin refuses its configuration, traps or exceeds a limit.
    pub async fn prepare(&self, instances: usize) -> Result<(), StartError> {
        for _ in 0..instances {
            let instance = self.make().await?;
            self.prepared.lock().push(instance);
        }
        Ok(())
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
        let mut instance = Instance::new(self, Outbound::new(None)).await?;
        instance.config_schema().await
    }

    /// Bytes of the linear memories of a configured instance. Makes one for it.
    ///
    /// # Errors
    ///
    /// When the plugin refuses its configuration, traps or exceeds a limit.
    pub async fn instance_memory(&self) -> Result<usize, StartError> {
        Ok(self.make().await?.memory())
    }

    /// What all calls of its instances have cost up to now, their starts included, in the fuel of a
    /// [metered](crate::Runtime::metered) runtime; 0 in any other.
    pub fn fuel(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    /// Where its instances count their fuel.
    pub(crate) fn meter(&self) -> Option<Arc<AtomicU64>> {
        self.component.is_metered().then(|| self.fuel.clone())
    }

    /// What the instances of one worker share to send requests.
    pub(crate) fn outbound(&self) -> Outbound {
        Outbound::new(self.http.clone())
    }

    /// What the instances of one worker share to write to the log.
    pub(crate) fn log_budget(&self) -> LogBudget {
        LogBudget::new(self.limits.log_lines)
    }

    /// A configured instance that sends its requests through `outbound` and is counted in `counts`: one that was prepared, or a new one.
    pub(crate) async fn start(
        &self,
        outbound: Outbound,
        log: LogBudget,
        counts: &Arc<PluginCounts>,
    ) -> Result<Instance, StartError> {
        let prepared = self.prepared.lock().pop();
        let mut instance = match prepared {
            Some(instance) => instance,
            None => self.make().await?,
        };
        instance.lend(outbound, log, counts.clone());
        Ok(instance)
    }

    /// A configured instance that may not send anything yet.
    async fn make(&self) -> Result<Instance, StartError> {
        let mut instance = Instance::new(self, Outbound::new(None)).await?;
        instance.configure(&self.config.0).await?;
        Ok(instance)
    }
}
