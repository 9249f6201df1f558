//! Telling plugins of exchanges that are over.
//!
//! An exchange on a route with plugins keeps what its end is told with in [`Kept`], which its entry in the access log
//! holds too: the entry follows the exchange to its end, whatever becomes of it. Then it goes into the worker's queue
//! ([`Completions`]), so that no client waits for a completion hook.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::sync::{Semaphore, mpsc};
use witgate_runtime::{Exchange, ResponseHead, Summary, WorkerPlugin};

use crate::chain::Link;
use crate::worker::{Guard, Tasks};

/// Exchanges that may wait to be told of on one worker. Each keeps its heads, at most some 100 KiB; more than these
/// wait only where hooks take longer than exchanges.
const MOST_WAITING: usize = 1024;
/// Exchanges that are told of at once on one worker. More than one are only while hooks wait for requests of their own;
/// these are half of what `grant.http-client.concurrency` is by default, so that the other hooks have the other half.
const AT_ONCE: usize = 8;
/// How often it is said that exchanges were not told of.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// The plugins of a route that have a completion hook, and their places in its list; in the order of the response hooks.
pub(crate) type ToTell = Rc<[(usize, Rc<WorkerPlugin>)]>;

/// Whom of a chain to tell. `None` without plugins: then there is nothing to keep.
pub(crate) fn to_tell<'a>(chain: impl Iterator<Item = &'a Link>) -> Option<ToTell> {
    let mut chain = chain.map(|link| &link.plugin).enumerate().peekable();
    chain.peek()?;
    let told = chain.filter(|(_, plugin)| plugin.plugin().hooks().completion);
    let mut plugins: Vec<_> = told.map(|(at, plugin)| (at, plugin.clone())).collect();
    plugins.reverse();
    Some(plugins.into())
}

/// What an exchange leaves behind.
#[derive(Debug)]
pub(crate) struct Kept {
    plugins: ToTell,
    /// How many of the list were passed or answered.
    told: Cell<usize>,
    answered_by: RefCell<Option<Arc<str>>>,
    exchange: RefCell<Option<Box<Exchange>>>,
    queue: Rc<Completions>,
}

impl Kept {
    /// For an exchange on a route with these plugins to tell.
    pub(crate) fn new(plugins: &ToTell, queue: &Rc<Completions>) -> Rc<Self> {
        Rc::new(Self {
            plugins: plugins.clone(),
            told: Cell::new(0),
            answered_by: RefCell::default(),
            exchange: RefCell::default(),
            queue: queue.clone(),
        })
    }

    /// The first so many plugins of the list are to be told.
    pub(crate) fn tell_first(&self, count: usize) {
        self.told.set(count);
    }

    /// This plugin's reply is what is sent, as far as is known.
    pub(crate) fn answered_by(&self, plugin: &WorkerPlugin) {
        *self.answered_by.borrow_mut() = Some(plugin.plugin().name().clone());
    }

    /// The proxy's own words are sent, as far as is known.
    pub(crate) fn answered_by_nobody(&self) {
        self.answered_by.take();
    }

    /// Whether any plugin of the route has a completion hook.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.plugins.is_empty()
    }

    /// The instances that lived for this exchange end here, since a tunnel may go on for days; `on-complete` gets another.
    pub(crate) fn keep(&self, mut exchange: Box<Exchange>) {
        exchange.own_instances = Default::default();
        *self.exchange.borrow_mut() = Some(exchange);
    }

    /// The head of the response, as it is sent.
    pub(crate) fn note_response<B>(&self, response: &Response<B>) {
        if let Some(exchange) = self.exchange.borrow_mut().as_mut() {
            exchange.response = Some(ResponseHead {
                status: response.status(),
                headers: response.headers().clone(),
                end_connection: false,
            });
        }
    }

    /// The exchange is over. Told of are those that left their exchange here: it is gone with its instance when the
    /// client left while a hook waited.
    pub(crate) fn end(&self, summary: impl FnOnce(Option<Arc<str>>) -> Summary) {
        let told = self.told.get();
        let plugins = self.plugins.iter().filter(|(at, _)| *at < told);
        let plugins: Vec<_> = plugins.map(|(_, plugin)| plugin.clone()).collect();
        if plugins.is_empty() {
            return;
        }
        if let Some(exchange) = self.exchange.take() {
            let summary = summary(self.answered_by.take());
            self.queue.put(Ended {
                exchange,
                plugins,
                summary,
                _holds_up_a_stop: self.queue.tasks.guard(),
            });
        }
    }
}

/// An exchange on its way through the destination: kept also when its client leaves meanwhile.
pub(crate) struct Parked<'a> {
    exchange: Option<Box<Exchange>>,
    kept: Option<&'a Kept>,
}

impl<'a> Parked<'a> {
    pub(crate) fn new(exchange: Box<Exchange>, kept: Option<&'a Kept>) -> Self {
        let exchange = Some(exchange);
        Self { exchange, kept }
    }

    pub(crate) fn into_inner(mut self) -> Box<Exchange> {
        self.exchange.take().expect("only this takes it")
    }
}

impl Deref for Parked<'_> {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        self.exchange.as_ref().expect("it is taken at the end only")
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        if let (Some(exchange), Some(kept)) = (self.exchange.take(), self.kept) {
            kept.keep(exchange);
        }
    }
}

/// An exchange that is over and to be told of.
struct Ended {
    exchange: Box<Exchange>,
    plugins: Vec<Rc<WorkerPlugin>>,
    summary: Summary,
    _holds_up_a_stop: Guard,
}

/// The queue of a worker, of whichever generation.
#[derive(Debug)]
pub(crate) struct Completions {
    queue: mpsc::Sender<Ended>,
    tasks: Tasks,
    lost: Cell<u64>,
    said: Cell<Option<Instant>>,
}

impl Completions {
    /// Starts the task that empties the queue; it ends with the worker.
    pub(crate) fn start(tasks: &Tasks) -> Rc<Self> {
        let (queue, ended) = mpsc::channel(MOST_WAITING);
        tokio::task::spawn_local(tell_all(ended));
        Rc::new(Self {
            queue,
            tasks: tasks.clone(),
            lost: Cell::default(),
            said: Cell::default(),
        })
    }

    fn put(&self, ended: Ended) {
        let Err(refused) = self.queue.try_send(ended) else {
            return;
        };
        let (mpsc::error::TrySendError::Full(ended) | mpsc::error::TrySendError::Closed(ended)) =
            refused;
        self.lost.set(self.lost.get() + 1);
        let mut failures: Vec<_> = ended.plugins.iter().map(|p| p.not_told()).collect();
        let Some(failure) = failures.pop() else {
            return;
        };
        if self
            .said
            .get()
            .is_none_or(|said| said.elapsed() >= SAY_AGAIN)
        {
            self.said.set(Some(Instant::now()));
            let exchanges = self.lost.take();
            tracing::warn!(exchanges, kind = failure.kind.label(), "{failure}");
        }
    }
}

async fn tell_all(mut queue: mpsc::Receiver<Ended>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(ended) = queue.recv().await {
        let turn = turns.clone().acquire_owned().await;
        tokio::task::spawn_local(async move {
            let _turn = turn.expect("nobody closes it");
            ended.tell().await;
        });
    }
}

impl Ended {
    async fn tell(self) {
        let mut exchange = self.exchange;
        for plugin in &self.plugins {
            let told;
            (exchange, told) = plugin.on_complete(exchange, &self.summary).await;
            if let Err(failure) = told {
                let facts = &exchange.facts;
                tracing::warn!(
                    request_id = &*facts.id,
                    route = &*facts.route,
                    kind = failure.kind.label(),
                    "{failure}"
                );
            }
        }
    }
}
