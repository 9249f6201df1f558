//! One worker: a thread with its own event loop, sockets, upstream connections and plugin instances.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use socket2::Socket;
use tokio::runtime::LocalOptions;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use witgate_runtime::wasi_http::{HttpPlugin, WorkerHttpPlugin};
use witgate_runtime::{Isolation, StartError, WorkerPlugin};

use crate::access::WorkerLog;
use crate::body::Body;
use crate::chain::Link;
use crate::completion::{self, Completions, ToTell};
use crate::config::{
    self, Compress, Destination, Listener, PathPattern, Rewrite, RouteTimeouts, Server, Websocket,
};
use crate::connection::Connections;
use crate::generation::Generation;
use crate::health;
use crate::listener::WorkerListener;
use crate::metrics::{Metrics, RouteCounts};
use crate::pulse::Answers;
use crate::recent::Recent;
use crate::refusal::Refusals;
use crate::router::Router;
use crate::split::{Share, Split};
use crate::telemetry::WorkerTraces;
use crate::upgrade_limits::UpgradeLimits;
use crate::upstream::{Shared, WorkerUpstream, yield_connections};

mod tasks;

pub(crate) use tasks::{Guard, StopRequested, Tasks};

/// What one worker serves with: its part of a generation.
#[derive(Debug)]
pub(crate) struct Worker {
    generation: Arc<Generation>,
    routes: Vec<WorkerRoute>,
    /// By listener: what no route took.
    unrouted: Vec<Arc<RouteCounts>>,
    /// By listener: TLS handshakes that failed.
    failed_handshakes: Vec<Arc<AtomicU64>>,
    /// By listener: what clients were refused for.
    refusals: Vec<Arc<Refusals>>,
    upstreams: BTreeMap<Arc<str>, Rc<WorkerUpstream>>,
    plugins: BTreeMap<Arc<str>, Rc<WorkerPlugin>>,
    http_plugins: HttpPlugins,
    metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(crate) completions: Rc<Completions>,
    /// Those that are open.
    pub(crate) connections: Arc<Connections>,
    /// Exchanges for an operator who looks, where there is an admin listener to look with.
    pub(crate) recent: Option<Rc<Recent>>,
    /// Where exchanges are recorded, if they are.
    pub(crate) traces: Option<Rc<WorkerTraces>>,
    /// Where the lines of exchanges go, if not into the process's own log.
    pub(crate) access_log: Option<Rc<WorkerLog>>,
    ids: Rc<Ids>,
}

/// A route with this worker's own plugin instances and connections.
#[derive(Debug)]
pub(crate) struct WorkerRoute {
    pub(crate) name: Arc<str>,
    pub(crate) path: PathPattern,
    pub(crate) rewrite: Option<Rewrite>,
    /// The hook plugins before the first middleware, or all.
    chain: Vec<Link>,
    /// Each middleware with the hook plugins behind it.
    behind: Vec<(Rc<WorkerHttpPlugin>, Vec<Link>)>,
    /// Who is told of the end of its exchanges; `None` without plugins.
    pub(crate) to_tell: Option<ToTell>,
    pub(crate) component: Option<Rc<WorkerHttpPlugin>>,
    pub(crate) destination: Destination,
    upstream: Option<Rc<WorkerUpstream>>,
    /// In place of one upstream.
    split: Option<Split>,
    pub(crate) counts: Arc<RouteCounts>,
    pub(crate) access_log: bool,
    pub(crate) timeouts: RouteTimeouts,
    pub(crate) compress: Option<Compress>,
    pub(crate) websocket: Option<Websocket>,
    pub(crate) upgrades: Arc<UpgradeLimits>,
}

type HttpPlugins = BTreeMap<Arc<str>, Rc<WorkerHttpPlugin>>;

impl WorkerRoute {
    /// Where a request with these fields goes to.
    pub(crate) fn upstream(&self, headers: &HeaderMap) -> Option<&WorkerUpstream> {
        match &self.split {
            None => self.upstream.as_deref(),
            Some(split) => Some(split.choose(headers)),
        }
    }

    /// The chain in parts: how many hook plugins stand before this one, its own, and the middleware that ends it, if
    /// another one follows.
    pub(crate) fn part(&self, part: usize) -> (usize, &[Link], Option<&WorkerHttpPlugin>) {
        let next = self.behind.get(part).map(|(next, _)| &**next);
        let Some(at) = part.checked_sub(1) else {
            return (0, &self.chain, next);
        };
        let between = self.behind[..at].iter().map(|(_, links)| links.len());
        let before = self.chain.len() + between.sum::<usize>();
        (before, &self.behind[at].1, next)
    }
}

/// From the start to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Accept nothing yet.
    Start,
    Serve,
    /// Accept nothing; let what is under way end.
    Drain,
    /// End now.
    Cut,
}

/// What a worker is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) generation: Arc<Generation>,
    /// By listener.
    pub(crate) sockets: Vec<(Vec<Socket>, Arc<Semaphore>)>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) metrics: Arc<Metrics>,
    /// The generations that follow.
    pub(crate) next: mpsc::UnboundedReceiver<Next>,
    /// The one worker that watches the health of the upstreams for all.
    pub(crate) watches_health: bool,
    /// Tells that this worker lives.
    pub(crate) pulse: Answers,
}

/// A generation that is to follow, in two steps, so that all workers take it or none.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) generation: Arc<Generation>,
    /// By listener of this generation.
    pub(crate) listeners: Vec<Listening>,
    /// Hears whether this worker could serve it.
    pub(crate) prepared: oneshot::Sender<Result<(), String>>,
    /// Says that all can. Dropped, everything stays as it is. What it carries hears when this worker serves it.
    pub(crate) go: oneshot::Receiver<oneshot::Sender<()>>,
}

/// Where a listener's connections come from.
#[derive(Debug)]
pub(crate) enum Listening {
    /// The socket of a running listener, by its index.
    Kept(usize),
    New(Vec<Socket>, Arc<Semaphore>),
}

/// How often unused upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// A worker's life. `ready` hears once whether it could start.
pub(crate) fn run(start: Start, ready: impl FnOnce(Result<(), String>)) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime,
        Err(error) => return ready(Err(format!("no event loop: {error}"))),
    };
    runtime.block_on(serve(start, ready));
    // A plugin's call on a file that hangs must not hold up the end: nobody waits for its outcome any more.
    runtime.shutdown_background();
}

async fn serve(start: Start, ready: impl FnOnce(Result<(), String>)) {
    let mut phase = start.phase.clone();
    let tasks = Tasks::new(start.phase);
    let worker = match Worker::first(start.generation, tasks, start.metrics).await {
        Ok(worker) => Rc::new(worker),
        Err(error) => return ready(Err(error.to_string())),
    };
    if start.watches_health {
        worker.watch_health(None);
    }
    let open =
        |(index, (sockets, permits))| WorkerListener::open(&worker, index, sockets, &permits);
    let listeners = start.sockets.into_iter().enumerate().map(open).collect();
    let mut serving = Serving {
        worker,
        listeners,
        watches_health: start.watches_health,
    };
    tokio::task::spawn_local(start.pulse.answer());
    let mut next = start.next;
    ready(Ok(()));
    loop {
        tokio::select! {
            () = wait_for(&mut phase, Phase::Drain) => break,
            Some(next) = next.recv() => serving.follow(next).await,
        }
    }
    // Whoever has another generation to hand out hears that it is too late.
    drop(next);
    let worker = serving.worker;
    let grace = worker.server().shutdown_grace;
    tokio::select! {
        () = worker.tasks.ended() => {}
        () = wait_for(&mut phase, Phase::Cut) => {}
        () = tokio::time::sleep(grace) => {
            let left = worker.tasks.active();
            tracing::warn!(left, ?grace, "connections were cut off: they did not end within `shutdown-grace`");
        }
    }
}

async fn wait_for(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the server was dropped: then there is nobody left to serve for.
    if phase.wait_for(|now| *now >= wanted).await.is_err() {
        tracing::debug!("the server was dropped");
    }
}

/// Closes an upstream's unused connections in time, as long as a generation uses it.
async fn sweep(upstream: Weak<WorkerUpstream>) {
    let mut clock = tokio::time::interval(SWEEP);
    loop {
        clock.tick().await;
        match upstream.upgrade() {
            Some(upstream) => upstream.sweep(),
            None => return,
        }
    }
}

/// What a worker does at the moment.
struct Serving {
    worker: Rc<Worker>,
    /// In the order of the generation's.
    listeners: Vec<Rc<WorkerListener>>,
    watches_health: bool,
}

impl Serving {
    /// Takes the next generation, if all workers can. Exchanges under way keep what they have of the old one.
    async fn follow(&mut self, next: Next) {
        let worker = match self.worker.next(next.generation).await {
            Ok(worker) => Rc::new(worker),
            Err(error) => return tell(next.prepared, Err(error.to_string())),
        };
        tell(next.prepared, Ok(()));
        let Ok(done) = next.go.await else {
            return tracing::debug!("the next generation was given up");
        };
        if self.watches_health {
            worker.watch_health(Some(&self.worker));
        }
        self.swap(worker, next.listeners);
        tell(done, ());
    }

    fn swap(&mut self, worker: Rc<Worker>, listeners: Vec<Listening>) {
        let mut old: Vec<_> = self.listeners.drain(..).map(Some).collect();
        let take = |(index, listening)| match listening {
            Listening::Kept(at) => {
                let listener: Rc<WorkerListener> = old[at]
                    .take()
                    .expect("a running listener is kept as one listener at most");
                listener.serve_with(worker.clone(), index);
                listener
            }
            Listening::New(sockets, permits) => {
                WorkerListener::open(&worker, index, sockets, &permits)
            }
        };
        self.listeners = listeners.into_iter().enumerate().map(take).collect();
        old.iter().flatten().for_each(|removed| removed.close());
        self.worker = worker;
    }
}

fn tell<T>(whom: oneshot::Sender<T>, what: T) {
    if whom.send(what).is_err() {
        tracing::debug!("nobody waits for this worker any more");
    }
}

fn upstreams(
    generation: &Generation,
    previous: Option<&Worker>,
    metrics: &Metrics,
) -> BTreeMap<Arc<str>, Rc<WorkerUpstream>> {
    let upstream = |(name, shared): (&Arc<str>, &Arc<Shared>)| {
        let running = previous.and_then(|old| old.upstreams.get(name));
        let upstream = match running.filter(|running| running.is_of(shared)) {
            Some(running) => running.clone(),
            None => {
                let new = WorkerUpstream::new(shared.clone(), metrics.upstream(name));
                let new = Rc::new(new);
                tokio::task::spawn_local(sweep(Rc::downgrade(&new)));
                tokio::task::spawn_local(yield_connections(Rc::downgrade(&new)));
                new
            }
        };
        (name.clone(), upstream)
    };
    generation.upstreams.iter().map(upstream).collect()
}

async fn plugins(
    generation: &Generation,
    previous: Option<&Worker>,
    metrics: &Metrics,
) -> Result<BTreeMap<Arc<str>, Rc<WorkerPlugin>>, StartError> {
    let mut plugins = BTreeMap::new();
    for (name, loaded) in &generation.plugins {
        let running = previous.and_then(|old| old.plugins.get(name));
        let plugin = match running.filter(|running| Arc::ptr_eq(running.plugin(), &loaded.plugin)) {
            Some(running) => running.clone(),
            None => {
                let new = Rc::new(WorkerPlugin::start(loaded.plugin.clone()).await?);
                metrics.plugin(name, new.counts().clone());
                if loaded.plugin.isolation() == Isolation::Exchange {
                    tokio::task::spawn_local(WorkerPlugin::keep_ready(Rc::downgrade(&new)));
                }
                new
            }
        };
        plugins.insert(name.clone(), plugin);
    }
    Ok(plugins)
}

fn http_plugins(
    generation: &Generation,
    previous: Option<&Worker>,
    metrics: &Metrics,
) -> HttpPlugins {
    let plugin = |(name, shared): (&Arc<str>, &Arc<HttpPlugin>)| {
        let running = previous.and_then(|old| old.http_plugins.get(name));
        let plugin = match running.filter(|running| Arc::ptr_eq(running.plugin(), shared)) {
            Some(running) => running.clone(),
            None => {
                let new = WorkerHttpPlugin::new(shared.clone());
                metrics.plugin(name, new.counts().clone());
                Rc::new(new)
            }
        };
        (name.clone(), plugin)
    };
    generation.http_plugins.iter().map(plugin).collect()
}

fn divided(split: &config::Split, upstreams: &BTreeMap<Arc<str>, Rc<WorkerUpstream>>) -> Split {
    let shares = split.shares.iter();
    let share = |(name, weight): &(Arc<str>, u32)| {
        let upstream = upstreams.get(name)?.clone();
        Some(Share::new(upstream, *weight))
    };
    Split {
        shares: shares.filter_map(share).collect(),
        sticky: split.sticky.clone(),
    }
}

fn routes(
    generation: &Generation,
    upstreams: &BTreeMap<Arc<str>, Rc<WorkerUpstream>>,
    plugins: &BTreeMap<Arc<str>, Rc<WorkerPlugin>>,
    http_plugins: &HttpPlugins,
    metrics: &Metrics,
) -> Vec<WorkerRoute> {
    let link = |name: &Arc<str>| {
        let loaded = generation.plugins.get(name)?;
        Some(Link {
            plugin: plugins.get(name)?.clone(),
            on_failure: loaded.on_failure,
            mounts: loaded.mounts.clone(),
            files: Rc::default(),
        })
    };
    let divide = |names: &[Arc<str>]| {
        let mut parts = names.split(|name| http_plugins.contains_key(name));
        let first = parts.next().unwrap_or_default();
        let middleware = names.iter().filter_map(|name| http_plugins.get(name));
        let links = |part: &[Arc<str>]| part.iter().filter_map(link).collect::<Vec<_>>();
        let behind: Vec<_> = middleware.cloned().zip(parts.map(links)).collect();
        (links(first), behind)
    };
    let route = |(route, upgrades): (&config::Route, &Arc<UpgradeLimits>)| {
        let (chain, behind) = divide(&route.plugins);
        // All hook plugins of the chain, in their order.
        let links = chain
            .iter()
            .chain(behind.iter().flat_map(|(_, links)| links));
        WorkerRoute {
            name: route.name.clone(),
            path: route.path.clone(),
            rewrite: route.rewrite.clone(),
            to_tell: completion::to_tell(links),
            chain,
            behind,
            component: match &route.destination {
                Destination::Component { name, .. } => http_plugins.get(name).cloned(),
                _ => None,
            },
            destination: route.destination.clone(),
            upstream: match &route.destination {
                Destination::Upstream(name) => upstreams.get(name).cloned(),
                _ => None,
            },
            split: match &route.destination {
                Destination::Split(split) => Some(divided(split, upstreams)),
                _ => None,
            },
            counts: metrics.route(
                &generation.config.listeners[route.listener].name,
                &route.name,
            ),
            access_log: route.access_log,
            timeouts: route.timeouts,
            compress: route.compress.clone(),
            websocket: route.websocket,
            upgrades: upgrades.clone(),
        }
    };
    let routes = generation.config.routes.iter().zip(&generation.upgrades);
    routes.map(route).collect()
}

fn keeps_exchanges(generation: &Generation) -> bool {
    let admin = generation.config.admin.as_ref();
    admin.is_some_and(|admin| admin.exchanges)
}

impl Worker {
    async fn first(
        generation: Arc<Generation>,
        tasks: Tasks,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        Self::build(generation, None, tasks, metrics, Rc::new(Ids::new())).await
    }

    /// The same worker's part of the next generation, with what both have in common taken over.
    async fn next(&self, generation: Arc<Generation>) -> Result<Self, StartError> {
        let (tasks, metrics) = (self.tasks.clone(), self.metrics.clone());
        Self::build(generation, Some(self), tasks, metrics, self.ids.clone()).await
    }

    async fn build(
        generation: Arc<Generation>,
        previous: Option<&Self>,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        ids: Rc<Ids>,
    ) -> Result<Self, StartError> {
        let plugins = plugins(&generation, previous, &metrics).await?;
        let upstreams = upstreams(&generation, previous, &metrics);
        let http_plugins = http_plugins(&generation, previous, &metrics);
        let routes = routes(&generation, &upstreams, &plugins, &http_plugins, &metrics);
        let completions = match previous {
            Some(previous) => previous.completions.clone(),
            None => Completions::start(&tasks),
        };
        let connections = match previous {
            Some(previous) => previous.connections.clone(),
            None => metrics.connections_of_worker(),
        };
        let recent = match previous.and_then(|previous| previous.recent.clone()) {
            _ if !keeps_exchanges(&generation) => None,
            Some(recent) => Some(recent),
            None => Some(Recent::start(&metrics.looks)),
        };
        let unrouted = (generation.config.listeners.iter())
            .map(|listener| metrics.route(&listener.name, &Arc::from("")))
            .collect();
        let failed_handshakes = (generation.config.listeners.iter())
            .map(|listener| metrics.failed_handshakes(&listener.name))
            .collect();
        let refusals = (generation.config.listeners.iter())
            .map(|listener| metrics.refusals(&listener.name))
            .collect();
        let traces = generation.traces.as_ref();
        let traces = traces.and_then(|traces| traces.for_worker());
        let access_log = generation.access_log.clone().map(WorkerLog::new);
        Ok(Self {
            generation,
            routes,
            unrouted,
            failed_handshakes,
            refusals,
            metrics,
            upstreams,
            plugins,
            http_plugins,
            tasks,
            completions,
            connections,
            recent,
            traces,
            access_log,
            ids,
        })
    }

    /// Starts the health checks that `previous` does not run already.
    fn watch_health(&self, previous: Option<&Self>) {
        let runs = |shared: &Arc<Shared>| {
            let running = previous.and_then(|old| old.upstreams.get(&shared.name));
            running.is_some_and(|running| running.is_of(shared))
        };
        let upstreams = self.generation.upstreams.values();
        upstreams
            .filter(|shared| !runs(shared))
            .for_each(health::watch);
    }

    pub(crate) fn server(&self) -> &Server {
        &self.generation.config.server
    }

    pub(crate) fn listener(&self, index: usize) -> &Listener {
        &self.generation.config.listeners[index]
    }

    pub(crate) fn router(&self) -> &Router {
        &self.generation.router
    }

    /// Counts for what no route of the listener took.
    pub(crate) fn unrouted(&self, listener: usize) -> Arc<RouteCounts> {
        self.unrouted[listener].clone()
    }

    pub(crate) fn handshake_failed(&self, listener: usize) {
        self.failed_handshakes[listener].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refusals(&self, listener: usize) -> Arc<Refusals> {
        self.refusals[listener].clone()
    }

    pub(crate) fn route(&self, index: usize) -> &WorkerRoute {
        &self.routes[index]
    }

    /// Reads a request's body that nobody wants, beside what goes on.
    pub(crate) fn discard(&self, body: Body) {
        if !http_body::Body::is_end_stream(&body) {
            self.tasks.spawn(body.discard());
        }
    }

    pub(crate) fn next_id(&self) -> Arc<str> {
        self.ids.next()
    }

    /// A number that differs from all others, and need not be secret.
    pub(crate) fn random(&self) -> u64 {
        self.ids.random()
    }
}

/// Request ids: a random number of this worker and this start, then a count. 32 hex digits.
#[derive(Debug)]
struct Ids {
    random: u64,
    count: Cell<u64>,
    noise: Cell<u64>,
}

impl Ids {
    fn new() -> Self {
        // The standard library's hash keys are random; an id has to be unique, not secret.
        Self {
            random: RandomState::new().hash_one(std::process::id()),
            count: Cell::new(0),
            noise: Cell::new(RandomState::new().hash_one(std::process::id())),
        }
    }

    fn next(&self) -> Arc<str> {
        let count = self.count.get();
        self.count.set(count + 1);
        let mut digits = [0; 32];
        hex(self.random, &mut digits[..16]);
        hex(count, &mut digits[16..]);
        str::from_utf8(&digits)
            .expect("hex digits are ASCII")
            .into()
    }
}

impl Ids {
    /// SplitMix64: every number once before any of them comes again.
    fn random(&self) -> u64 {
        let state = self.noise.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.noise.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Every request gets an id, and `format!` would take longer than all else about it.
fn hex(number: u64, digits: &mut [u8]) {
    for (at, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * at)) as usize & 0xf];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_the_worker_drew_and_a_count_in_hex_digits() {
        let ids = Ids {
            random: 0x0123_4567_89ab_cdef,
            count: Cell::new(0xff),
            noise: Cell::new(0),
        };
        assert_eq!(&*ids.next(), "0123456789abcdef00000000000000ff");
        assert_eq!(&*ids.next(), "0123456789abcdef0000000000000100");
    }
}
