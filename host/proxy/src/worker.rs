//! One worker: a thread with its own event loop, sockets, upstream connections and plugin instances.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::LocalSet;
use witgate_runtime::{StartError, WorkerPlugin};

use crate::body::Body;
use crate::chain::Link;
use crate::config::{Destination, Listener, Server, Websocket};
use crate::generation::Generation;
use crate::health;
use crate::listener;
use crate::metrics::{Metrics, RouteCounts};
use crate::router::Router;
use crate::upgrade_limits::UpgradeLimits;
use crate::upstream::WorkerUpstream;

/// What one worker serves with.
#[derive(Debug)]
pub(crate) struct Worker {
    generation: Arc<Generation>,
    routes: Vec<WorkerRoute>,
    /// By listener: what no route took.
    unrouted: Vec<Arc<RouteCounts>>,
    pub(crate) tasks: Tasks,
    ids: Ids,
}

/// A route with this worker's own plugin instances and connections.
#[derive(Debug)]
pub(crate) struct WorkerRoute {
    pub(crate) name: Arc<str>,
    pub(crate) strip_prefix: Option<Arc<str>>,
    pub(crate) chain: Vec<Link>,
    pub(crate) destination: Destination,
    pub(crate) upstream: Option<Rc<WorkerUpstream>>,
    pub(crate) counts: Arc<RouteCounts>,
    pub(crate) websocket: Option<Websocket>,
    pub(crate) upgrades: Arc<UpgradeLimits>,
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
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
    pub(crate) sockets: Vec<(TcpListener, Arc<Semaphore>)>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) metrics: Arc<Metrics>,
    /// The one worker that watches the health of the upstreams for all.
    pub(crate) watches_health: bool,
}

/// How often unused upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// A worker's life. `ready` hears once whether it could start.
pub(crate) fn run(start: Start, ready: impl FnOnce(Result<(), String>)) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return ready(Err(format!("no event loop: {error}"))),
    };
    LocalSet::new().block_on(&runtime, serve(start, ready));
}

async fn serve(start: Start, ready: impl FnOnce(Result<(), String>)) {
    let mut phase = start.phase.clone();
    let upstreams: BTreeMap<_, _> = (start.generation.upstreams.iter())
        .map(|(name, shared)| {
            let counts = start.metrics.upstream(name);
            let upstream = WorkerUpstream::new(shared.clone(), counts);
            (name.clone(), Rc::new(upstream))
        })
        .collect();
    let routes = match routes(&start.generation, &upstreams, &start.metrics).await {
        Ok(routes) => routes,
        Err(error) => return ready(Err(error.to_string())),
    };
    if start.watches_health {
        start.generation.upstreams.values().for_each(health::watch);
    }
    tokio::task::spawn_local(sweep(upstreams.into_values().collect()));
    let tasks = Tasks::new(start.phase);
    let unrouted = (start.generation.config.listeners.iter())
        .map(|listener| start.metrics.route(&listener.name, &Arc::from("")))
        .collect();
    let worker = Rc::new(Worker {
        generation: start.generation,
        routes,
        unrouted,
        tasks,
        ids: Ids::new(),
    });
    for (index, (socket, permits)) in start.sockets.into_iter().enumerate() {
        worker
            .tasks
            .spawn(listener::accept(worker.clone(), index, socket, permits));
    }
    ready(Ok(()));
    wait_for(&mut phase, Phase::Drain).await;
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

async fn sweep(upstreams: Vec<Rc<WorkerUpstream>>) {
    let mut clock = tokio::time::interval(SWEEP);
    loop {
        clock.tick().await;
        upstreams.iter().for_each(|upstream| upstream.sweep());
    }
}

async fn routes(
    generation: &Generation,
    upstreams: &BTreeMap<Arc<str>, Rc<WorkerUpstream>>,
    metrics: &Metrics,
) -> Result<Vec<WorkerRoute>, StartError> {
    let mut links = BTreeMap::new();
    for (name, loaded) in &generation.plugins {
        let plugin = Rc::new(WorkerPlugin::start(loaded.plugin.clone()).await?);
        metrics.plugin(name, plugin.counts().clone());
        let link = Link {
            plugin,
            on_failure: loaded.on_failure,
            mounts: loaded.mounts.clone(),
        };
        links.insert(name.clone(), link);
    }
    let route = |(route, upgrades): (&crate::config::Route, &Arc<UpgradeLimits>)| WorkerRoute {
        name: route.name.clone(),
        strip_prefix: route.strip_prefix.clone(),
        chain: route
            .plugins
            .iter()
            .filter_map(|name| links.get(name).cloned())
            .collect(),
        destination: route.destination.clone(),
        upstream: match &route.destination {
            Destination::Upstream(name) => upstreams.get(name).cloned(),
            Destination::Reply(_) | Destination::Plugins => None,
        },
        counts: metrics.route(
            &generation.config.listeners[route.listener].name,
            &route.name,
        ),
        websocket: route.websocket,
        upgrades: upgrades.clone(),
    };
    let routes = generation.config.routes.iter().zip(&generation.upgrades);
    Ok(routes.map(route).collect())
}

impl Worker {
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
}

/// Request ids: a random number of this worker and this start, then a count. 32 hex digits.
#[derive(Debug)]
struct Ids {
    random: u64,
    count: Cell<u64>,
}

impl Ids {
    fn new() -> Self {
        // The standard library's hash keys are random; an id has to be unique, not secret.
        Self {
            random: RandomState::new().hash_one(std::process::id()),
            count: Cell::new(0),
        }
    }

    fn next(&self) -> Arc<str> {
        let count = self.count.get();
        self.count.set(count + 1);
        format!("{:016x}{count:016x}", self.random).into()
    }
}

/// The tasks of a worker that a stop waits for.
#[derive(Debug)]
pub(crate) struct Tasks {
    active: Rc<Active>,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug, Default)]
struct Active {
    count: Cell<usize>,
    changed: Notify,
}

struct Guard(Rc<Active>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.changed.notify_waiters();
    }
}

impl Tasks {
    fn new(phase: watch::Receiver<Phase>) -> Self {
        Self {
            active: Rc::default(),
            phase,
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.active.count.set(self.active.count.get() + 1);
        let guard = Guard(self.active.clone());
        tokio::task::spawn_local(async move {
            let _ends_with_the_task = guard;
            task.await;
        });
    }

    pub(crate) fn stop_requested(&self) -> StopRequested {
        StopRequested(self.phase.clone())
    }

    fn active(&self) -> usize {
        self.active.count.get()
    }

    async fn ended(&self) {
        while self.active() > 0 {
            self.active.changed.notified().await;
        }
    }
}

/// Tells a task when to come to an end.
pub(crate) struct StopRequested(watch::Receiver<Phase>);

impl StopRequested {
    pub(crate) async fn requested(&mut self) {
        wait_for(&mut self.0, Phase::Drain).await;
    }
}
