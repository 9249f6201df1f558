//! One instance of a component: a sandbox with its own memory, and the calls into it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::{ComponentNamedList, Lift, Lower, ResourceAny, ResourceTable, TypedFunc};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfig;

use crate::bindings::{Inspection, RawVerdict, completion_hook, messages};
use crate::calls::{Calls, flatten};
use crate::clock::Clock;
use crate::component::Ready;
use crate::counts::PluginCounts;
use crate::death::{Danger, Death};
use crate::exchange::{Exchange, Passing};
use crate::failure::FailureKind;
use crate::http_client::Outbound;
use crate::keyvalue;
use crate::log_budget::{LogBudget, LogShare};
use crate::memory_limit::MemoryLimit;
use crate::metrics;
use crate::plugin::{Isolation, Limits, Plugin, StartError};
use crate::secrets::Secrets;
use crate::stdio::LogStream;
use crate::stopwatch::{FIRST_SLICE, Stopwatch};
use crate::trailers::Ending;
use crate::wasi::{self, WasiGrant};

/// A mistake in a plugin's configuration, as the plugin itself found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted path from the plugin's `config` table; empty for the table itself.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// What the host keeps for an instance, and its imports work on.
pub(crate) struct State {
    pub(crate) plugin: Arc<str>,
    pub(crate) phase: Phase,
    /// The exchange whose body is being transformed, or whose message is looked at.
    pub(crate) passing: Option<Arc<Passing>>,
    /// The body whose end the instance is told of.
    pub(crate) ending: Option<Ending>,
    pub(crate) log: LogShare,
    pub(crate) clock: Clock,
    pub(crate) outbound: Outbound,
    /// What the requests of the present call took.
    pub(crate) requests_waited: Duration,
    pub(crate) keyvalue: keyvalue::Lent,
    pub(crate) metrics: metrics::Lent,
    pub(crate) secrets: Secrets,
    pub(crate) stopwatch: Arc<Stopwatch>,
    memory: MemoryLimit,
    /// Only for a component that imports it: making one costs more than all the rest of an instance.
    wasi: Option<WasiCtx>,
    wasi_grant: Arc<WasiGrant>,
    table: ResourceTable,
    meter: Option<Meter>,
}

/// Which call the instance is in.
pub(crate) enum Phase {
    /// `on-request`, or the end of a request body that is held back.
    Request(Box<Exchange>),
    /// `on-response`, or the end of a response body that is held back.
    Response(Box<Exchange>),
    /// `on-upgrade`
    Upgrade(Box<Exchange>),
    /// `on-complete`
    Completion(Box<Exchange>),
    /// A call without a current exchange; its name.
    Other(&'static str),
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: (self.wasi.as_mut()).expect("only what a component imports is called"),
            table: &mut self.table,
        }
    }
}

pub(crate) struct Instance {
    store: Store<State>,
    stopwatch: Arc<Stopwatch>,
    calls: Calls,
    limits: Limits,
    death: Arc<Death>,
    /// Exchanges that it has taken.
    exchanges: u64,
    /// Bytes of memory after which it is replaced.
    recycle_memory: usize,
}

/// Counts the fuel of an instance's calls.
struct Meter {
    total: Arc<AtomicU64>,
    /// What the store had when it was last counted.
    left: u64,
}

/// No instance ever uses this up, so that fuel is counted and never runs out.
const FUEL: u64 = u64::MAX;

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("usable", &self.is_usable())
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Makes an instance that is not configured yet.
    pub(crate) async fn new(plugin: &Plugin, outbound: Outbound) -> Result<Self, StartError> {
        let component = plugin.component();
        let ordinary = &component.ready;
        let pooled = match plugin.isolation() {
            Isolation::Worker => None,
            Isolation::Exchange => component.pooled(),
        };
        let (mut store, mut made) = make(plugin, outbound, pooled.unwrap_or(ordinary)).await?;
        if made.as_ref().is_err_and(is_pool_full) {
            let outbound = store.into_data().outbound;
            (store, made) = make(plugin, outbound, ordinary).await?;
        }
        let limits = plugin.limits();
        match made {
            Ok(calls) => {
                count_fuel(&mut store);
                Ok(Self {
                    stopwatch: store.data().stopwatch.clone(),
                    store,
                    calls,
                    limits,
                    death: Arc::default(),
                    exchanges: 0,
                    recycle_memory: usize::MAX,
                })
            }
            Err(error) => Err(StartError::Failed(explain(
                &error,
                limits.start,
                &store.data().memory,
            ))),
        }
    }

    /// Lends it what its worker's instances share to send requests, to write to the log and to be counted.
    pub(crate) fn lend(&mut self, outbound: Outbound, log: LogBudget, counts: Arc<PluginCounts>) {
        let state = self.store.data_mut();
        state.memory.show_in(counts);
        state.outbound = outbound;
        state.log.lend(log);
    }

    /// Gives the instance its configuration: a JSON object.
    pub(crate) async fn configure(&mut self, config: &str) -> Result<(), StartError> {
        let configure = self.calls.configure;
        let phase = Phase::Other("configure");
        let (_, result) = self
            .call(&configure, (config.to_owned(),), phase, self.limits.start)
            .await;
        let errors = match result {
            Ok((Ok(()),)) => {
                self.bound_growth();
                return Ok(());
            }
            Ok((Err(errors),)) => errors,
            Err(kind) => return Err(StartError::Failed(kind)),
        };
        let errors = errors.into_iter().map(|e| ConfigError {
            path: e.path,
            message: e.message,
        });
        Err(StartError::Config(errors.collect()))
    }

    /// The JSON Schema of the configuration, or the empty string.
    pub(crate) async fn config_schema(&mut self) -> Result<String, StartError> {
        let schema = self.calls.config_schema;
        let (_, result) = self
            .call(
                &schema,
                (),
                Phase::Other("config-schema"),
                self.limits.start,
            )
            .await;
        result.map(|(schema,)| schema).map_err(StartError::Failed)
    }

    /// Bytes of its linear memories.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().memory.used
    }

    /// A guest that never gives memory back, as all that leak, would sooner or later fail an exchange for it.
    fn bound_growth(&mut self) {
        let (most, used) = (self.limits.memory, self.store.data().memory.used);
        let halfway = most - most.saturating_sub(used) / 2;
        // One that has more from its start takes calls as well: another in its place would have as much.
        let most = self.limits.recycle_memory.unwrap_or(halfway);
        self.recycle_memory = most.max(used);
    }

    /// Whether another call may be made.
    pub(crate) fn is_usable(&self) -> bool {
        !self.death.is()
    }

    /// Whether it has a hook that has counted an exchange before its upgrade and its end.
    fn has_exchange_hook(&self) -> bool {
        self.calls.on_request.is_some() || self.calls.on_response.is_some()
    }

    /// Whether it may be called for another exchange.
    pub(crate) fn takes_calls(&self) -> bool {
        self.is_usable()
            && (self.limits.exchanges).is_none_or(|most| self.exchanges < most)
            && self.store.data().memory.used <= self.recycle_memory
    }

    pub(crate) async fn on_request(
        &mut self,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<RawVerdict, FailureKind>) {
        let Some(hook) = self.calls.on_request else {
            return (exchange, Ok(RawVerdict::Next));
        };
        self.exchanges += 1;
        let (phase, result) = self
            .call(&hook, (), Phase::Request(exchange), self.limits.deadline)
            .await;
        (phase.into_exchange(), flatten(result).map(RawVerdict::from))
    }

    pub(crate) async fn on_response(
        &mut self,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<RawVerdict, FailureKind>) {
        let Some(hook) = self.calls.on_response else {
            return (exchange, Ok(RawVerdict::Next));
        };
        // Where there are both hooks, the other one has counted it.
        self.exchanges += u64::from(self.calls.on_request.is_none());
        let (phase, result) = self
            .call(&hook, (), Phase::Response(exchange), self.limits.deadline)
            .await;
        (phase.into_exchange(), flatten(result).map(RawVerdict::from))
    }

    pub(crate) async fn push(
        &mut self,
        transform: ResourceAny,
        chunk: Bytes,
        of: &Arc<Passing>,
    ) -> Result<Bytes, FailureKind> {
        let Some(push) = self.calls.push else {
            return Err(no_transform());
        };
        self.store.data_mut().passing = Some(of.clone());
        let phase = Phase::Other("transform.push");
        let (_, result) = self
            .call(&push, (transform, chunk), phase, self.limits.deadline)
            .await;
        flatten(result)
    }

    /// Tells a transform that its body has ended, and gives back what the phase and the ending hold by then.
    pub(crate) async fn finish(
        &mut self,
        transform: ResourceAny,
        of: &Arc<Passing>,
        phase: Phase,
        ending: Ending,
    ) -> (Phase, Result<(Bytes, Ending), FailureKind>) {
        let Some(finish) = self.calls.finish else {
            return (phase, Err(no_transform()));
        };
        let state = self.store.data_mut();
        state.passing = Some(of.clone());
        state.ending = Some(ending);
        let (phase, result) = self
            .call(&finish, (transform,), phase, self.limits.deadline)
            .await;
        let ending = self.store.data_mut().ending.take();
        let ending = ending.expect("imports leave it where it is");
        (phase, flatten(result).map(|bytes| (bytes, ending)))
    }

    pub(crate) async fn on_complete(
        &mut self,
        exchange: Box<Exchange>,
        summary: completion_hook::Summary,
    ) -> (Box<Exchange>, Result<(), FailureKind>) {
        let Some(hook) = self.calls.on_complete else {
            return (exchange, Ok(()));
        };
        self.exchanges += u64::from(!self.has_exchange_hook());
        let phase = Phase::Completion(exchange);
        let (phase, result) = self
            .call(&hook, (summary,), phase, self.limits.deadline)
            .await;
        (phase.into_exchange(), flatten(result))
    }

    pub(crate) async fn on_upgrade(
        &mut self,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Option<Inspection>, FailureKind>) {
        let Some(hook) = self.calls.on_upgrade else {
            return (exchange, Ok(None));
        };
        // The end of this exchange is one of those that are counted.
        let counted = self.has_exchange_hook() || self.calls.on_complete.is_some();
        self.exchanges += u64::from(!counted);
        let (phase, result) = self
            .call(&hook, (), Phase::Upgrade(exchange), self.limits.deadline)
            .await;
        (phase.into_exchange(), flatten(result))
    }

    pub(crate) async fn on_message(
        &mut self,
        messages: ResourceAny,
        direction: messages::Direction,
        message: messages::Message,
        size: usize,
        of: &Arc<Passing>,
    ) -> Result<messages::MessageVerdict, FailureKind> {
        let Some(on_message) = self.calls.on_message else {
            let what = "messages to be called, without exporting the interface `messages`";
            return Err(FailureKind::BadResult(what.into()));
        };
        self.store.data_mut().passing = Some(of.clone());
        let phase = Phase::Other("messages.on-message");
        // Whoever sends much may cost much.
        let begun = u32::try_from(size >> 20)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let deadline = self.limits.deadline.saturating_mul(begun);
        let (_, result) = self
            .call(&on_message, (messages, direction, message), phase, deadline)
            .await;
        flatten(result)
    }

    /// Knows when this instance is lost.
    pub(crate) fn death(&self) -> Arc<Death> {
        self.death.clone()
    }

    /// Ends the life of a transform whose body is over.
    pub(crate) async fn drop_transform(
        &mut self,
        transform: ResourceAny,
    ) -> Result<(), FailureKind> {
        let deadline = self.limits.deadline;
        let danger = Danger::new(&self.death);
        enter(&mut self.store, Phase::Other("transform.drop"), deadline);
        let dropped = {
            let dropping = pin!(transform.resource_drop_async(&mut self.store));
            self.stopwatch.bound(dropping).await
        };
        leave(&mut self.store, danger, dropped, deadline).1
    }

    /// Calls the guest in a phase, and gives back what the phase held.
    async fn call<P, R>(
        &mut self,
        function: &TypedFunc<P, R>,
        params: P,
        phase: Phase,
        deadline: Duration,
    ) -> (Phase, Result<R, FailureKind>)
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let danger = Danger::new(&self.death);
        enter(&mut self.store, phase, deadline);
        let called = {
            let calling = pin!(function.call_async(&mut self.store, params));
            self.stopwatch.bound(calling).await
        };
        leave(&mut self.store, danger, called, deadline)
    }
}

/// A call begins.
fn enter(store: &mut Store<State>, phase: Phase, deadline: Duration) {
    store.set_epoch_deadline(FIRST_SLICE);
    let state = store.data_mut();
    state.stopwatch.start(deadline);
    state.phase = phase;
    state.keyvalue.begin();
    state.requests_waited = Duration::ZERO;
    state.memory.exceeded = false;
}

fn count_fuel(store: &mut Store<State>) {
    if store.data().meter.is_none() {
        return;
    }
    let left = store.get_fuel().unwrap_or_default();
    if let Some(meter) = &mut store.data_mut().meter {
        let used = meter.left.saturating_sub(left);
        meter.total.fetch_add(used, Ordering::Relaxed);
        meter.left = left;
    }
}

/// A call is over, well or not.
fn leave<R>(
    store: &mut Store<State>,
    danger: Danger<'_>,
    called: wasmtime::Result<R>,
    deadline: Duration,
) -> (Phase, Result<R, FailureKind>) {
    count_fuel(store);
    let state = store.data_mut();
    let phase = std::mem::replace(&mut state.phase, Phase::Other("no call"));
    state.passing = None;
    let result = called.map_err(|error| explain(&error, deadline, &state.memory));
    if result.is_ok() {
        danger.survived();
    }
    (phase, result)
}

/// A new store with an instance in it.
async fn make(
    plugin: &Plugin,
    outbound: Outbound,
    ready: &Ready,
) -> Result<(Store<State>, wasmtime::Result<Calls>), StartError> {
    let limits = plugin.limits();
    let stopwatch = Arc::new(Stopwatch::new());
    let state = State::new(plugin, outbound, stopwatch.clone()).map_err(StartError::Grant)?;
    let mut store = Store::new(ready.pre.engine(), state);
    store.limiter(|state| &mut state.memory);
    if store.data().meter.is_some() {
        store
            .set_fuel(FUEL)
            .expect("the engine of a metered component counts fuel");
    }
    store.set_epoch_deadline(FIRST_SLICE);
    store.epoch_deadline_callback(|store| Ok(store.data().stopwatch.slice_over()));
    stopwatch.start(limits.start);
    // On a fiber, as every call, so that a guest that takes its time can let others run.
    let calls = {
        let instantiating = pin!(ready.instantiate(&mut store));
        stopwatch.bound(instantiating).await
    };
    Ok((store, calls))
}

fn is_pool_full(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>()
}

impl State {
    fn new(plugin: &Plugin, outbound: Outbound, stopwatch: Arc<Stopwatch>) -> Result<Self, String> {
        let limits = plugin.limits();
        let wasi_grant = plugin.wasi().clone();
        let log = LogShare::new(limits.log_lines);
        let wasi = match plugin.component().wasi {
            true => {
                let log = |stream| LogStream {
                    plugin: plugin.name().clone(),
                    stream,
                    log: log.clone(),
                    exchange: None,
                };
                Some(wasi_grant.context(log, |context| plugin.fake(context))?)
            }
            false => None,
        };
        Ok(Self {
            plugin: plugin.name().clone(),
            phase: Phase::Other("start"),
            passing: None,
            ending: None,
            log,
            clock: plugin.clock().clone(),
            outbound,
            requests_waited: Duration::ZERO,
            keyvalue: keyvalue::Lent::new(plugin.keyvalue().cloned()),
            metrics: metrics::Lent::new(plugin.metrics().cloned()),
            secrets: plugin.secrets().clone(),
            stopwatch,
            memory: MemoryLimit::new(limits.memory),
            wasi,
            wasi_grant,
            table: wasi::table(),
            meter: plugin.meter().map(|total| Meter { total, left: FUEL }),
        })
    }

    /// What the guest keeps by `wasi:keyvalue`.
    pub(crate) fn wasi_keyvalue(&mut self) -> keyvalue::standard::View<'_> {
        keyvalue::standard::View {
            out_of_place: self.without_stores(),
            lent: &mut self.keyvalue,
            table: &mut self.table,
            stopwatch: Some(self.stopwatch.clone()),
        }
    }

    /// What the guest reads by `wasi:config`.
    pub(crate) fn wasi_config(&mut self) -> WasiConfig<'_> {
        WasiConfig::new(self.wasi_grant.variables())
    }
}

impl Phase {
    /// Its name, for messages.
    pub(crate) fn call(&self) -> &'static str {
        match self {
            Self::Request(_) => "on-request",
            Self::Response(_) => "on-response",
            Self::Upgrade(_) => "on-upgrade",
            Self::Completion(_) => "on-complete",
            Self::Other(call) => call,
        }
    }

    pub(crate) fn into_exchange(self) -> Box<Exchange> {
        match self {
            Self::Request(exchange)
            | Self::Response(exchange)
            | Self::Upgrade(exchange)
            | Self::Completion(exchange) => exchange,
            Self::Other(call) => unreachable!("{call} was not entered with an exchange"),
        }
    }
}

fn no_transform() -> FailureKind {
    FailureKind::BadResult("a transform, without exporting the interface `transform`".into())
}

/// Tells the three ways to be stopped apart.
fn explain(error: &wasmtime::Error, deadline: Duration, memory: &MemoryLimit) -> FailureKind {
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return FailureKind::Deadline(deadline);
    }
    if memory.exceeded {
        return FailureKind::Memory(memory.bytes);
    }
    FailureKind::Trap {
        message: format!("{error:#}"),
    }
}
