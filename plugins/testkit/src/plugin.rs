use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tracing::Dispatch;
use witgate_runtime::{
    CustomMetrics, CustomValue, HttpGrant, Limits, PluginFailure, StartError, Summary, WorkerPlugin,
};

use crate::grants::Grants;
use crate::log::Log;
use crate::{Exchange, LogLine, Messages, NotStarted, Verdict};

/// The name under which a plugin is started here; the namespace of its attributes.
pub const PLUGIN_NAME: &str = "under-test";

/// A started plugin.
#[derive(Clone)]
pub struct Plugin {
    worker: Rc<WorkerPlugin>,
    /// Fuel.
    started_for: u64,
    stage: Stage,
    metrics: Option<Arc<CustomMetrics>>,
}

/// Where a plugin's calls run: on the test's own thread, with what is logged collected.
#[derive(Clone)]
pub(crate) struct Stage {
    executor: Rc<Runtime>,
    dispatch: Dispatch,
    log: Log,
}

impl Plugin {
    pub(crate) fn start(
        component: Arc<witgate_runtime::Component>,
        config: &str,
        limits: Limits,
        http: Option<HttpGrant>,
        grants: &Grants,
    ) -> Result<Self, NotStarted> {
        let stage = Stage::new();
        let mut plugin =
            witgate_runtime::Plugin::new(PLUGIN_NAME.into(), component, config.to_owned(), limits)
                .with_clock(grants.clock());
        plugin = grants.lend(plugin);
        if let Some(grant) = http {
            plugin = plugin.with_http_client(grant);
        }
        match stage.run(WorkerPlugin::start(Arc::new(plugin))) {
            Ok(worker) => Ok(Self {
                started_for: worker.plugin().fuel(),
                worker: Rc::new(worker),
                stage,
                metrics: grants.metrics.clone(),
            }),
            Err(error) => Err(NotStarted {
                error,
                log: stage.log.lines().clone(),
            }),
        }
    }

    /// What its calls have cost since it was started, in fuel: about one for each instruction of WebAssembly. The same
    /// on every machine and in every run, for the same calls of the same component, so that a budget can be a test:
    ///
    /// ```
    /// # fn of(plugin: &witgate_testkit::Plugin, exchange: &mut witgate_testkit::Exchange) {
    /// let before = plugin.cost();
    /// plugin.on_request(exchange).expect_next();
    /// assert!(plugin.cost() - before < 50_000);
    /// # }
    /// ```
    pub fn cost(&self) -> u64 {
        self.worker.plugin().fuel().saturating_sub(self.started_for)
    }

    /// JSON Schema of its configuration, or the empty string.
    ///
    /// # Errors
    ///
    /// When the plugin traps or exceeds a limit.
    pub fn config_schema(&self) -> Result<String, StartError> {
        self.stage.run(self.worker.plugin().config_schema())
    }

    pub(crate) fn worker(&self) -> &Rc<WorkerPlugin> {
        &self.worker
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// What its start has cost, in fuel.
    pub fn start_cost(&self) -> u64 {
        self.started_for
    }

    /// Calls the request hook. Edits and notes are in the exchange afterwards.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn on_request(&self, exchange: &mut Exchange) -> Verdict {
        self.try_on_request(exchange)
            .unwrap_or_else(|failure| self.stage.fail(&failure))
    }

    /// Calls the request hook.
    ///
    /// # Errors
    ///
    /// When the plugin traps, exceeds a limit, returns a failure or what cannot be sent.
    pub fn try_on_request(&self, exchange: &mut Exchange) -> Result<Verdict, PluginFailure> {
        exchange.lend(
            |lent| self.stage.run(self.worker.on_request(lent)),
            &self.stage,
        )
    }

    /// Calls the response hook, for an exchange that has a response ([`Exchange::response`]).
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        self.try_on_response(exchange)
            .unwrap_or_else(|failure| self.stage.fail(&failure))
    }

    /// Calls the response hook.
    ///
    /// # Errors
    ///
    /// As [`try_on_request`](Self::try_on_request).
    pub fn try_on_response(&self, exchange: &mut Exchange) -> Result<Verdict, PluginFailure> {
        exchange.lend(
            |lent| self.stage.run(self.worker.on_response(lent)),
            &self.stage,
        )
    }

    /// Calls the hook for a granted WebSocket, for an exchange with a response of status 101. `None` when the plugin
    /// does not want to see its messages.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn on_upgrade(&self, exchange: &mut Exchange) -> Option<Messages> {
        self.try_on_upgrade(exchange)
            .unwrap_or_else(|failure| self.stage.fail(&failure))
    }

    /// Calls the hook for a granted WebSocket.
    ///
    /// # Errors
    ///
    /// As [`try_on_request`](Self::try_on_request).
    pub fn try_on_upgrade(
        &self,
        exchange: &mut Exchange,
    ) -> Result<Option<Messages>, PluginFailure> {
        let wanted = exchange.lend_to(|lent| self.stage.run(self.worker.on_upgrade(lent)))?;
        Ok(wanted.map(|stream| Messages::new(stream, self.stage.clone())))
    }

    /// Calls the completion hook.
    ///
    /// # Panics
    ///
    /// When the plugin fails.
    pub fn on_complete(&self, exchange: &mut Exchange, summary: &Summary) {
        self.try_on_complete(exchange, summary)
            .unwrap_or_else(|failure| self.stage.fail(&failure));
    }

    /// Calls the completion hook.
    ///
    /// # Errors
    ///
    /// As [`try_on_request`](Self::try_on_request).
    pub fn try_on_complete(
        &self,
        exchange: &mut Exchange,
        summary: &Summary,
    ) -> Result<(), PluginFailure> {
        exchange.lend_to(|lent| self.stage.run(self.worker.on_complete(lent, summary)))
    }

    /// Lets time pass for the plugin. Without this its clocks stand still, those of WASI as well; the time of day then is
    /// 2026-01-01T00:00:00Z.
    pub fn advance(&self, by: Duration) {
        self.worker.plugin().clock().advance(by);
    }

    /// What a metric of the plugin's has come to; `None` when it has not declared one of this name with these labels, or
    /// may not declare any. Plugins that were started from one [`Component`](crate::Component) count together.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<CustomValue> {
        let mut wanted: Vec<(Box<str>, Box<str>)> = Vec::new();
        wanted.extend(
            labels
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
        wanted.sort();
        let series = self.metrics.as_ref()?.series().into_iter();
        let mut found = series.filter(|one| *one.name == *name && one.labels == wanted);
        found.next().map(|one| one.value)
    }

    /// What the plugin has logged so far, of all levels.
    pub fn log(&self) -> Vec<LogLine> {
        self.stage.log.lines().clone()
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Stage {
    fn new() -> Self {
        let executor = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("an event loop without sockets starts");
        let log = Log::default();
        Self {
            executor: Rc::new(executor),
            dispatch: log.dispatch(),
            log,
        }
    }

    pub(crate) fn run<T>(&self, call: impl Future<Output = T>) -> T {
        tracing::dispatcher::with_default(&self.dispatch, || self.executor.block_on(call))
    }

    pub(crate) fn fail(&self, failure: &PluginFailure) -> ! {
        panic!("{failure}{}", self.log.told())
    }
}
