//! A plugin's instances on one worker, and the calls of its hooks.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::bindings::RawVerdict;
use crate::completion::Summary;
use crate::counts::{Hook, PluginCounts};
use crate::exchange::{Exchange, Step};
use crate::failure::{FailureKind, PluginFailure};
use crate::http_client::Outbound;
use crate::instance::Instance;
use crate::log_budget::LogBudget;
use crate::messages::MessageStream;
use crate::plugin::{Isolation, Plugin, StartError};
use crate::quarantine::Quarantine;
use crate::slot::{Slot, State};
use crate::transform::BodyTransform;
use crate::verdict::{Reply, Verdict};

mod ready;

/// Calls that may wait at once for an instance. Each keeps its exchange in memory; more than these would not be served
/// within `limits.wait` anyway.
pub(crate) const MAX_WAITING: usize = 1024;

/// A plugin's instances on one worker.
///
/// With [`Isolation::Worker`], one instance serves all exchanges, one call after the other. A call that takes long, or
/// waits in an import, lets others run, and these take another instance. With [`Isolation::Exchange`], each exchange has
/// its own.
#[derive(Debug)]
pub struct WorkerPlugin {
    plugin: Arc<Plugin>,
    outbound: Outbound,
    log: LogBudget,
    /// Whether its calls may wait for somebody on the network.
    waits_for_others: bool,
    slots: RefCell<Vec<Arc<Slot>>>,
    /// `limits.concurrency`, and those whose calls wait for requests of their own. A call takes one, or, with
    /// [`Isolation::Exchange`], an instance.
    places: Arc<Semaphore>,
    most: usize,
    /// For a place, or for an instance that is not in a call.
    waiting: Cell<usize>,
    /// Instances that are being made to be shared, and those that wait to hear that one was, or could not be.
    making: Cell<usize>,
    made: Notify,
    /// Ready for the next exchange; of [`Isolation::Exchange`].
    ready: RefCell<Vec<Instance>>,
    /// An exchange with an instance of its own is over, or this is.
    over: Arc<Notify>,
    quarantine: RefCell<Quarantine>,
    counts: Arc<PluginCounts>,
}

/// A call's turn, and until when it waits for what it needs. Both are kept when an instance fails that it waited for.
#[derive(Default)]
struct Turn<'a> {
    place: Option<SemaphorePermit<'a>>,
    until: Option<Instant>,
    /// The instance that is free most of the time was tried.
    guessed: bool,
}

impl WorkerPlugin {
    /// Makes the first instance on this worker and configures it.
    ///
    /// # Errors
    ///
    /// When the plugin refuses its configuration, traps or exceeds a limit.
    pub async fn start(plugin: Arc<Plugin>) -> Result<Self, StartError> {
        let outbound = plugin.outbound();
        let most = plugin.limits().concurrency.max(1) + outbound.most();
        let log = plugin.log_budget();
        let counts: Arc<PluginCounts> = Arc::default();
        let first = plugin.start(outbound.clone(), log.clone(), &counts).await?;
        let (slots, ready) = match plugin.isolation() {
            Isolation::Worker => (vec![Slot::new(first, None)], Vec::new()),
            Isolation::Exchange => (Vec::new(), vec![first]),
        };
        Ok(Self {
            places: Arc::new(Semaphore::new(most)),
            most,
            waiting: Cell::new(0),
            making: Cell::new(0),
            made: Notify::new(),
            waits_for_others: plugin.waits_for_others(),
            plugin,
            outbound,
            log,
            slots: RefCell::new(slots),
            ready: RefCell::new(ready),
            over: Arc::default(),
            quarantine: RefCell::default(),
            counts,
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
        let started = self.begin(Hook::Request, &exchange);
        let hook = async |instance: &mut Instance, exchange| instance.on_request(exchange).await;
        let called = self.call("on-request", exchange, hook, Self::verdict).await;
        self.judged(Hook::Request, started, called)
    }

    /// Calls `on-response`; as [`on_request`](Self::on_request).
    pub async fn on_response(
        self: &Rc<Self>,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Verdict, PluginFailure>) {
        let started = self.begin(Hook::Response, &exchange);
        let hook = async |instance: &mut Instance, exchange| instance.on_response(exchange).await;
        let called = self.call("on-response", exchange, hook, Self::verdict);
        self.judged(Hook::Response, started, called.await)
    }

    /// Calls `on-upgrade`; `None` when the component has no such hook, or does not want to see the messages. As
    /// [`on_request`](Self::on_request).
    pub async fn on_upgrade(
        self: &Rc<Self>,
        exchange: Box<Exchange>,
    ) -> (Box<Exchange>, Result<Option<MessageStream>, PluginFailure>) {
        let started = self.begin(Hook::Upgrade, &exchange);
        let hook = async |instance: &mut Instance, exchange| {
            let (exchange, inspection) = instance.on_upgrade(exchange).await;
            let death = instance.death();
            (
                exchange,
                inspection.map(|wanted| wanted.map(|wanted| (wanted, death))),
            )
        };
        let check = |plugin: &Rc<Self>, wanted, slot: &Arc<Slot>, exchange: &Exchange| {
            let of = Arc::new(exchange.into());
            Ok(MessageStream::new(plugin.clone(), slot.clone(), wanted, of))
        };
        let (exchange, asked) = self.call("on-upgrade", exchange, hook, check).await;
        let verdict = asked.as_ref().map(|inspected| match inspected {
            Some(_) => "inspect",
            None => "next",
        });
        self.end(Hook::Upgrade, started, &exchange, verdict);
        (exchange, asked)
    }

    /// Calls `on-complete`, if the component has that hook, of an exchange that is over. The exchange comes back for the
    /// next plugin.
    pub async fn on_complete(
        self: &Rc<Self>,
        exchange: Box<Exchange>,
        summary: &Summary,
    ) -> (Box<Exchange>, Result<(), PluginFailure>) {
        let started = self.begin(Hook::Completion, &exchange);
        let hook = async |instance: &mut Instance, exchange| {
            instance.on_complete(exchange, summary.into()).await
        };
        let check = |_: &Rc<Self>, (), _: &Arc<Slot>, _: &Exchange| Ok(());
        let (exchange, told) = self.call("on-complete", exchange, hook, check).await;
        let verdict = told.as_ref().map(|()| "next");
        self.end(Hook::Completion, started, &exchange, verdict);
        (exchange, told)
    }

    /// Counts a call; when it begins, if it is to be timed.
    fn begin(&self, hook: Hook, exchange: &Exchange) -> Option<Instant> {
        let timed = self.counts.called(hook);
        (timed || exchange.attributes.is_followed()).then(Instant::now)
    }

    /// A call that began then is over.
    fn end(
        &self,
        hook: Hook,
        began: Option<Instant>,
        exchange: &Exchange,
        verdict: Result<&'static str, &PluginFailure>,
    ) {
        let Some(began) = began else {
            return;
        };
        let took = began.elapsed();
        self.counts.took(hook, took);
        exchange.attributes.follow(Step {
            plugin: self.plugin.name().clone(),
            hook: hook.name(),
            began: began.into_std(),
            took,
            verdict: verdict.unwrap_or_else(|failure| failure.kind.label()),
        });
    }

    fn judged(
        &self,
        hook: Hook,
        began: Option<Instant>,
        (exchange, verdict): (Box<Exchange>, Result<Verdict, PluginFailure>),
    ) -> (Box<Exchange>, Result<Verdict, PluginFailure>) {
        if let Ok(verdict) = &verdict {
            self.counts.judged(verdict);
        }
        self.end(hook, began, &exchange, verdict.as_ref().map(Verdict::label));
        (exchange, verdict)
    }

    /// Counts an exchange of whose end the plugin was not told, because too many waited.
    pub fn not_told(&self) -> PluginFailure {
        self.failure("on-complete", FailureKind::NotTold)
    }

    /// Calls a hook of an instance that is free, and checks what it returned.
    async fn call<R, V>(
        self: &Rc<Self>,
        call: &'static str,
        mut exchange: Box<Exchange>,
        hook: impl AsyncFnOnce(&mut Instance, Box<Exchange>) -> (Box<Exchange>, Result<R, FailureKind>),
        check: impl FnOnce(&Rc<Self>, R, &Arc<Slot>, &Exchange) -> Result<V, FailureKind>,
    ) -> (Box<Exchange>, Result<V, PluginFailure>) {
        let own = self.plugin.isolation() == Isolation::Exchange;
        let mut before = exchange.own_instances.take(&self.plugin);
        let mut turn = Turn::default();
        loop {
            // What most calls need not wait for is boxed: it would be a part of each exchange.
            let slot = match own {
                true => match before.take() {
                    Some(slot) => Ok(slot),
                    None => Box::pin(self.own_slot()).await,
                },
                false => match self.guess(&mut turn) {
                    Some(slot) => Ok(slot),
                    None => Box::pin(self.shared_slot(&mut turn)).await,
                },
            };
            let slot = match slot {
                Ok(slot) => slot,
                Err(kind) => return (exchange, Err(self.failure(call, kind))),
            };
            let mut instance = match slot.try_take() {
                Some(instance) if own || instance.takes_calls() => instance,
                None if own => Box::pin(slot.take()).await,
                Some(_) | None => continue,
            };
            if slot.any_ended() {
                Box::pin(slot.drop_ended(self, &mut instance)).await;
            }
            // It may have failed in another exchange while this one waited for it.
            if !instance.is_usable() {
                continue;
            }
            let (mut exchange, result) = hook(&mut instance, exchange).await;
            drop(instance);
            let verdict = result.and_then(|verdict| check(self, verdict, &slot, &exchange));
            if own {
                exchange.own_instances.put(self.plugin.clone(), slot);
            }
            return (exchange, self.judge(call, verdict));
        }
    }

    fn verdict(
        self: &Rc<Self>,
        verdict: RawVerdict,
        slot: &Arc<Slot>,
        exchange: &Exchange,
    ) -> Result<Verdict, FailureKind> {
        let transform = |resource| {
            let slot = slot.clone();
            Box::new(BodyTransform::new(self.clone(), slot, resource, exchange))
        };
        match verdict {
            RawVerdict::Next => Ok(Verdict::Next),
            RawVerdict::Answer(reply) => match Reply::check(*reply) {
                Ok(reply) => Ok(Verdict::Answer(Box::new(reply))),
                Err(what) => Err(FailureKind::BadResult(what)),
            },
            RawVerdict::Transform(resource) => Ok(Verdict::Transform(transform(resource))),
            RawVerdict::Hold(resource) => Ok(Verdict::Hold(transform(resource))),
        }
    }

    /// The first answer of a turn, where nothing has to be waited for. It costs no lock, so that the instance may be busy,
    /// or take no more calls.
    fn guess<'a>(&'a self, turn: &mut Turn<'a>) -> Option<Arc<Slot>> {
        if turn.guessed || self.check_quarantine().is_err() {
            return None;
        }
        turn.guessed = true;
        turn.place = Some(self.places.try_acquire().ok()?);
        self.likely()
    }

    /// An instance that can be called, and the turn to call one: one that is free, a new one, or the first to become
    /// free.
    async fn shared_slot<'a>(&'a self, turn: &mut Turn<'a>) -> Result<Arc<Slot>, FailureKind> {
        self.check_quarantine()?;
        let Turn { place, until, .. } = turn;
        if place.is_none() {
            *place = Some(match self.places.try_acquire() {
                Ok(place) => place,
                Err(_) => {
                    let acquired = self.wait(until, self.places.acquire()).await?;
                    acquired.expect("nobody closes it")
                }
            });
        }
        loop {
            if let Some(slot) = self.free() {
                return Ok(slot);
            }
            if self.has_room() {
                return self.another().await;
            }
            // Bodies and messages are in them, which take no turns.
            self.wait(until, self.one_free()).await?;
        }
    }

    /// Whether one more instance may be made to be shared.
    fn has_room(&self) -> bool {
        self.slots.borrow().len() + self.making.get() < self.most
    }

    /// Waits until a call in one of the instances is over, or one more was made or could not be.
    async fn one_free(&self) {
        let slots = self.slots.borrow().clone();
        let mut over: Vec<_> = slots.iter().map(|slot| Box::pin(slot.over())).collect();
        let mut made = pin!(self.made.notified());
        poll_fn(|context| {
            let mut over = over.iter_mut();
            let is_over = over.any(|call| call.as_mut().poll(context).is_ready());
            match is_over || made.as_mut().poll(context).is_ready() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// The one that is not in a call, and takes calls, most of the time.
    fn likely(&self) -> Option<Arc<Slot>> {
        let slots = self.slots.borrow();
        let first = slots.first()?;
        (self.takes_others(slots.len()) || Arc::strong_count(first) == 1).then(|| first.clone())
    }

    /// Whether a call may go to an instance with bodies of others in it, when there are so many instances. A call whose
    /// client leaves costs its instance, which should not take the bodies of others with it.
    fn takes_others(&self, instances: usize) -> bool {
        !self.waits_for_others || instances + self.making.get() >= self.most
    }

    /// One that is not in a call. Those that take no more are let go; the bodies in them keep them until they end.
    fn free(&self) -> Option<Arc<Slot>> {
        let mut slots = self.slots.borrow_mut();
        let others = self.takes_others(slots.len());
        let mut at = 0;
        while let Some(slot) = slots.get(at) {
            match slot.state() {
                State::Free if others || Arc::strong_count(slot) == 1 => return Some(slot.clone()),
                State::Free | State::Busy => at += 1,
                State::Spent => drop(slots.remove(at)),
            }
        }
        None
    }

    async fn another(&self) -> Result<Arc<Slot>, FailureKind> {
        let _making = Making::begin(self);
        let slot = Slot::new(self.make().await?, None);
        self.slots.borrow_mut().push(slot.clone());
        Ok(slot)
    }

    async fn make(&self) -> Result<Instance, FailureKind> {
        match self
            .plugin
            .start(self.outbound.clone(), self.log.clone(), &self.counts)
            .await
        {
            Ok(instance) => {
                self.note_success("start");
                Ok(instance)
            }
            Err(error) => {
                self.note_fatal_failure("start");
                Err(FailureKind::Start(error.to_string()))
            }
        }
    }

    /// Waits for a place among the calls or instances that there may be at once, or for one of these. `until` is set
    /// when the call waits for the first time.
    async fn wait<T>(
        &self,
        until: &mut Option<Instant>,
        what: impl Future<Output = T>,
    ) -> Result<T, FailureKind> {
        let limits = self.plugin.limits();
        let busy = FailureKind::Busy(limits.concurrency);
        let Some(_waiting) = OneMore::of(&self.waiting, MAX_WAITING) else {
            return Err(busy);
        };
        let until = until.get_or_insert_with(|| Instant::now() + limits.wait);
        timeout_at(*until, what).await.map_err(|_| busy)
    }

    fn check_quarantine(&self) -> Result<(), FailureKind> {
        match self.quarantine.borrow().left() {
            Some(left) => Err(FailureKind::Quarantined(left)),
            None => Ok(()),
        }
    }

    /// A call cost an instance, or could not make one.
    pub(crate) fn note_fatal_failure(&self, call: &'static str) {
        let mut quarantine = self.quarantine.borrow_mut();
        quarantine.failed(call);
        self.counts.set_quarantined(quarantine.is_imposed());
    }

    /// A call went well.
    pub(crate) fn note_success(&self, call: &'static str) {
        let mut quarantine = self.quarantine.borrow_mut();
        if quarantine.succeeded(call) {
            self.counts.set_quarantined(quarantine.is_imposed());
        }
    }

    pub(crate) fn failure(&self, call: &'static str, kind: FailureKind) -> PluginFailure {
        let failure = PluginFailure {
            plugin: self.plugin.name().clone(),
            call,
            kind,
        };
        self.counts.failed(&failure);
        failure
    }

    /// Counts failures that cost an instance.
    pub(crate) fn judge<T>(
        &self,
        call: &'static str,
        result: Result<T, FailureKind>,
    ) -> Result<T, PluginFailure> {
        match &result {
            Err(kind) if kind.is_fatal() => self.note_fatal_failure(call),
            Err(_) => {}
            Ok(_) => self.note_success(call),
        }
        result.map_err(|kind| self.failure(call, kind))
    }
}

/// An instance that is being made, until it is there or could not be made.
struct Making<'a> {
    of: &'a WorkerPlugin,
    _counted: Option<OneMore<'a>>,
}

impl<'a> Making<'a> {
    fn begin(of: &'a WorkerPlugin) -> Self {
        Self {
            of,
            _counted: OneMore::of(&of.making, of.most),
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        // Who is told looks again only after this is gone.
        self.of.made.notify_waiters();
    }
}

/// Counts one more while it lives.
pub(crate) struct OneMore<'a>(&'a Cell<usize>);

impl<'a> OneMore<'a> {
    pub(crate) fn of(count: &'a Cell<usize>, most: usize) -> Option<Self> {
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Self(count)
        })
    }
}

impl Drop for OneMore<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
