//! Another generation for a running server: all workers take it, or none.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Weak};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, oneshot, watch};

use crate::config::{Bind, Change, Listener, Part};
use crate::generation::Generation;
use crate::metrics::{Metrics, Served};
use crate::server::{BoundListener, Open, StartError, explain, open_logs};
use crate::sockets::{self, Address, Bound, Held, Inherited, InheritedSocket};
use crate::tls::acme::{Keeper, Managed};
use crate::worker::{Listening, Next};

/// Has a server serve another generation, from anywhere.
#[derive(Debug, Clone)]
pub struct Reload(Arc<Mutex<Running>>);

/// What a server serves now.
#[derive(Debug)]
struct Running {
    generation: watch::Sender<Arc<Generation>>,
    /// Of `generation`, from 1.
    number: u64,
    /// Those before it, some of whose exchanges may not have ended.
    older: Vec<Weak<Generation>>,
    listeners: Vec<RunningListener>,
    /// The sockets of `listeners`.
    open: Open,
    /// What no listener has taken.
    inherited: Inherited,
    workers: Vec<UnboundedSender<Next>>,
    metrics: Arc<Metrics>,
    keeper: Keeper,
}

/// A listener whose sockets are open.
#[derive(Debug, Clone)]
pub(crate) struct RunningListener {
    name: Arc<str>,
    /// As configured, perhaps with port 0.
    bind: Bind,
    address: Address,
    held: Arc<Held>,
    permits: Arc<Semaphore>,
    /// How many permits there are in all.
    connections: usize,
}

/// What a reload did.
#[derive(Debug)]
pub struct Reloaded {
    /// Of the generation that serves now: 1 is the one that the server was started with.
    pub number: u64,
    /// What is different, by kind and name.
    pub changes: Vec<(Part, Arc<str>, Change)>,
    /// The listeners that are new.
    pub opened: Vec<BoundListener>,
    /// The listeners that are no more.
    pub closed: Vec<BoundListener>,
    /// How many earlier generations still have exchanges under way.
    pub older: usize,
}

/// Where the sockets of a listener come from.
enum Source {
    Running(usize),
    Bound(Bound),
}

impl Reload {
    pub(crate) fn new(
        generation: Arc<Generation>,
        listeners: Vec<RunningListener>,
        open: Open,
        inherited: Inherited,
        workers: Vec<UnboundedSender<Next>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        open.set(listeners.iter().map(|one| one.held.clone()).collect());
        let upstreams = generation.upstreams.values().cloned();
        metrics.now_serves(listeners.iter().map(RunningListener::served), upstreams);
        metrics.shows(generation.custom_metrics.clone());
        let mut keeper = Keeper::default();
        keep_certificates(&mut keeper, &generation, &metrics);
        Self(Arc::new(Mutex::new(Running {
            generation: watch::Sender::new(generation),
            number: 1,
            older: Vec::new(),
            listeners,
            open,
            inherited,
            workers,
            metrics,
            keeper,
        })))
    }

    /// The generation that serves, and those that will.
    pub async fn generations(&self) -> watch::Receiver<Arc<Generation>> {
        self.0.lock().await.generation.subscribe()
    }

    /// Has all workers serve this generation, and returns when they do.
    ///
    /// A listener with an address that is bound already keeps its sockets, whatever else has changed; new ones are
    /// bound first; those that are no more accept nothing further and close their idle connections. A request that
    /// has come is served to its end by the generation that it came to, and the next one on the same connection by
    /// the new one. The number of workers stays.
    ///
    /// # Errors
    ///
    /// When a store or the access log cannot be opened, an address cannot be bound, or a worker cannot start a plugin: then
    /// nothing has changed. When a worker has ended, because the server is stopping.
    pub async fn to(&self, generation: Generation) -> Result<Reloaded, StartError> {
        let mut running = self.0.lock().await;
        let stores = generation.stores.clone();
        let opened = tokio::task::spawn_blocking(move || stores.open()).await;
        opened
            .map_err(|error| StartError::Worker(format!("opening the stores: {error}")))?
            .map_err(StartError::not_opened)?;
        open_logs(&generation, &running.metrics)?;
        let sources = running.sources(&generation)?;
        let listeners = running.listeners_after(&generation, &sources);
        let generation = Arc::new(generation);
        running.hand_out(&generation, sources).await?;
        Ok(running.now_serves(generation, listeners))
    }

    /// Opens the file of the access log again, after it was moved away.
    pub async fn reopen_logs(&self) {
        let running = self.0.lock().await;
        if let Some(log) = &running.generation.borrow().access_log {
            log.reopen();
        }
    }

    /// Begins to hand the listening sockets to another process. Reloads wait until that has come to its end.
    pub async fn hand_over(&self) -> HandOver {
        HandOver(self.0.clone().lock_owned().await)
    }

    /// The files of Unix sockets that were taken over are from now on removed by this process, at its end, and those of
    /// sockets that no listener took now: the one before it is about to go.
    pub async fn adopt_files(&self) {
        let mut running = self.0.lock().await;
        for listener in &running.listeners {
            listener.held.adopt(&listener.bind);
        }
        running.inherited.remove_files();
    }

    /// Writes down what the stores and the logs of the running generation have not. Blocks.
    pub(crate) fn flush(&self) {
        let generation = self.0.blocking_lock().generation.borrow().clone();
        generation.stores.flush();
        if let Some(log) = &generation.access_log {
            log.flush();
        }
        if let Some(traces) = &generation.traces {
            traces.flush();
        }
    }
}

/// A hand-over of all listening sockets to another process, under way. Dropped, this process keeps them.
#[derive(Debug)]
pub struct HandOver(OwnedMutexGuard<Running>);

impl HandOver {
    /// Each of the sockets once more.
    ///
    /// # Errors
    ///
    /// When no more files can be opened.
    pub fn sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        let mut copies = self.0.inherited.copies()?;
        for listener in &self.0.listeners {
            for socket in listener.held.copies()? {
                copies.push(InheritedSocket {
                    socket,
                    bind: listener.bind.to_string(),
                    listener: Some(listener.name.to_string()),
                    owns_file: listener.held.owns_file(),
                });
            }
        }
        Ok(copies)
    }

    /// The other process serves: files of sockets are left to it. The server is to be stopped next.
    pub fn complete(self) {
        for listener in &self.0.listeners {
            listener.held.leave();
        }
    }
}

impl Running {
    /// Finds the sockets of running listeners and binds the others.
    fn sources(&mut self, generation: &Generation) -> Result<Vec<Source>, StartError> {
        let mut inherited = std::mem::take(&mut self.inherited);
        let sources = self.sources_among(generation, &mut inherited);
        self.inherited = inherited;
        sources
    }

    fn sources_among(
        &self,
        generation: &Generation,
        inherited: &mut Inherited,
    ) -> Result<Vec<Source>, StartError> {
        let wanted = &generation.config.listeners;
        let kept = |listener: &Listener| {
            let same = |running: &RunningListener| running.is_for(listener);
            self.listeners.iter().position(same)
        };
        let mut source = |listener: &Listener| {
            match kept(listener) {
            Some(at) => Ok(Source::Running(at)),
            None => sockets::bind(listener, self.workers.len(), inherited)
                .map(Source::Bound)
                .map_err(|error| {
                    let ends = self.listeners.iter().find(|running| {
                        running.has_port_of(&listener.bind)
                            && !wanted.iter().any(|wanted| running.is_for(wanted))
                    });
                    let reason = match ends {
                        Some(ends) if error.kind() == ErrorKind::AddrInUse => format!(
                            "{error}; `{}` still has the port on {}: restart, or remove that with one reload and add this with another",
                            ends.name, ends.address
                        ),
                        _ => explain(&listener.bind, &error),
                    };
                    StartError::not_bound(listener, reason)
                }),
        }
        };
        wanted.iter().map(&mut source).collect()
    }

    fn listeners_after(&self, generation: &Generation, sources: &[Source]) -> Vec<RunningListener> {
        let after = |(listener, source): (&Listener, &Source)| match source {
            Source::Running(at) => RunningListener {
                name: listener.name.clone(),
                bind: listener.bind.clone(),
                connections: listener.limits.connections,
                ..self.listeners[*at].clone()
            },
            Source::Bound(bound) => RunningListener::new(listener, bound),
        };
        let listeners = &generation.config.listeners;
        std::iter::zip(listeners, sources).map(after).collect()
    }

    /// First all prepare, then all swap.
    async fn hand_out(
        &self,
        generation: &Arc<Generation>,
        mut sources: Vec<Source>,
    ) -> Result<(), StartError> {
        let ended = || StartError::Worker("it has ended, or is about to".into());
        let mut preparing = Vec::new();
        for worker in &self.workers {
            let (prepared, preparation) = oneshot::channel();
            let (all_can, go) = oneshot::channel();
            let next = Next {
                generation: generation.clone(),
                listeners: sources.iter_mut().map(Source::take).collect(),
                prepared,
                go,
            };
            worker.send(next).map_err(|_| ended())?;
            preparing.push((preparation, all_can));
        }
        let mut ready = Vec::new();
        for (preparation, all_can) in preparing {
            let prepared = preparation.await.map_err(|_| ended())?;
            prepared.map_err(StartError::Worker)?;
            ready.push(all_can);
        }
        let mut swapping = Vec::new();
        for all_can in ready {
            let (swapped, swap) = oneshot::channel();
            all_can.send(swapped).map_err(|_| ended())?;
            swapping.push(swap);
        }
        for swap in swapping {
            swap.await.map_err(|_| ended())?;
        }
        Ok(())
    }

    fn now_serves(
        &mut self,
        generation: Arc<Generation>,
        listeners: Vec<RunningListener>,
    ) -> Reloaded {
        let only_in = |these: &[RunningListener], those: &[RunningListener]| {
            let gone = |this: &&RunningListener| !those.iter().any(|that| that.is_same(this));
            these
                .iter()
                .filter(gone)
                .map(RunningListener::bound)
                .collect()
        };
        let opened = only_in(&listeners, &self.listeners);
        let closed = only_in(&self.listeners, &listeners);
        for listener in &listeners {
            let mut running = self.listeners.iter();
            if let Some(was) = running.find(|running| running.is_same(listener)) {
                limit(&listener.permits, was.connections, listener.connections);
                if was.bind != listener.bind {
                    listener.held.set_mode(&listener.bind);
                }
            }
        }
        let upstreams = generation.upstreams.values().cloned();
        let served = listeners.iter().map(RunningListener::served);
        self.metrics.now_serves(served, upstreams);
        keep_certificates(&mut self.keeper, &generation, &self.metrics);
        let plugins = &generation.plugins;
        let custom = &generation.custom_metrics;
        custom.retain(|plugin| plugins.contains_key(plugin));
        let old = self.generation.send_replace(generation.clone());
        let changes = old.changes(&generation);
        self.older.push(Arc::downgrade(&old));
        drop(old);
        self.older.retain(|older| older.strong_count() > 0);
        let held = listeners.iter().map(|one| one.held.clone());
        self.open.set(held.collect());
        self.listeners = listeners;
        self.number += 1;
        Reloaded {
            number: self.number,
            changes,
            opened,
            closed,
            older: self.older.len(),
        }
    }
}

impl Source {
    fn take(&mut self) -> Listening {
        match self {
            Self::Running(at) => Listening::Kept(*at),
            Self::Bound(bound) => {
                let (socket, permits) = bound.take();
                Listening::New(socket, permits)
            }
        }
    }
}

impl RunningListener {
    pub(crate) fn new(listener: &Listener, bound: &Bound) -> Self {
        Self {
            name: listener.name.clone(),
            bind: listener.bind.clone(),
            address: bound.address.clone(),
            held: bound.held.clone(),
            permits: bound.permits.clone(),
            connections: listener.limits.connections,
        }
    }

    /// Whether it has the sockets that this listener wants. Port 0 is no address to go by, so there the name decides.
    fn is_for(&self, listener: &Listener) -> bool {
        self.bind.is_same_place(&listener.bind)
            || (self.bind == listener.bind && self.name == listener.name)
    }

    fn has_port_of(&self, bind: &Bind) -> bool {
        let port = |address: Option<std::net::SocketAddr>| address.map(|address| address.port());
        match bind {
            Bind::Internet(wanted) => port(self.address.internet()) == port(Some(*wanted)),
            Bind::Unix(_) | Bind::Systemd(_) => false,
        }
    }

    /// What is shown of it.
    fn served(&self) -> Served {
        Served {
            name: self.name.clone(),
            address: self.address.clone(),
            permits: self.permits.clone(),
            most: self.connections,
        }
    }

    /// Whether both have the same sockets.
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.permits, &other.permits)
    }

    fn bound(&self) -> BoundListener {
        BoundListener {
            name: self.name.clone(),
            address: self.address.clone(),
        }
    }
}

/// Has the certificates renewed that this generation shows.
fn keep_certificates(keeper: &mut Keeper, generation: &Generation, metrics: &Metrics) {
    let mut managed: Vec<Arc<Managed>> = Vec::new();
    for listener in &generation.config.listeners {
        let of_listener = listener.tls.as_ref().and_then(|tls| tls.managed());
        if let Some(one) = of_listener
            && !managed.iter().any(|other| Arc::ptr_eq(other, one))
        {
            managed.push(one.clone());
        }
    }
    metrics.certificates(managed.clone());
    keeper.keep(managed);
}

/// Changes how many permits there are in all. Connections that are open beyond a lower limit stay; none is accepted
/// until enough of them have ended.
fn limit(permits: &Arc<Semaphore>, from: usize, to: usize) {
    match u32::try_from(from.saturating_sub(to)).unwrap_or(u32::MAX) {
        0 => permits.add_permits(to - from),
        fewer => {
            let permits = permits.clone();
            tokio::spawn(async move {
                match permits.acquire_many_owned(fewer).await {
                    Ok(taken) => taken.forget(),
                    Err(error) => tracing::debug!(%error, "the listener is gone"),
                }
            });
        }
    }
}
