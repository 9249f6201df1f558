//! The running proxy: workers, and how they are started and stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use crate::config::Location;
use crate::generation::Generation;
use crate::keyvalue::Unopened;
use crate::listener::{self, Bound};
use crate::metrics::Metrics;
use crate::reload::{Reload, RunningListener};
use crate::worker::{self, Phase, Start};

/// A running proxy. Dropped, it cuts everything off.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<BoundListener>,
    workers: Vec<JoinHandle<()>>,
    stop: Stop,
    metrics: Arc<Metrics>,
    reload: Reload,
}

/// A listener that accepts.
#[derive(Debug, Clone)]
pub struct BoundListener {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The address, with the port that the kernel chose if the configuration says 0.
    pub address: SocketAddr,
}

/// Why the proxy could not be started, or could not take another generation. Nothing has changed: what was not
/// bound before is not bound now.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("listener `{name}` cannot be bound to {address}: {reason}")]
    Bind {
        /// The listener.
        name: Arc<str>,
        /// Its `bind`.
        address: SocketAddr,
        /// What the system says, and what to do.
        reason: String,
        /// Where `bind` stands in the configuration.
        location: Location,
    },
    /// A key-value store cannot be opened.
    #[error("the store `{name}` cannot be opened: {reason}")]
    Store {
        /// The store.
        name: Arc<str>,
        /// What is wrong, and what to do.
        reason: String,
        /// Where its table stands in the configuration.
        location: Location,
    },
    /// The access log cannot be written to.
    #[error("the access log cannot be opened: {reason}")]
    AccessLog {
        /// What the system says.
        reason: String,
        /// Where its table stands in the configuration.
        location: Location,
    },
    /// A worker could not be started.
    #[error("a worker could not be started: {0}")]
    Worker(String),
}

/// Stops a server, from anywhere.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<Phase>>);

impl Stop {
    /// Accepts nothing more and lets what is under way end, for at most `server.shutdown-grace`.
    pub fn drain(&self) {
        self.reach(Phase::Drain);
    }

    /// Ends everything now.
    pub fn cut(&self) {
        self.reach(Phase::Cut);
    }

    fn reach(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let further = *now < phase;
            if further {
                *now = phase;
            }
            further
        });
    }
}

impl Server {
    /// Binds all listeners, then starts the workers and waits until each can serve.
    ///
    /// # Errors
    ///
    /// When a store cannot be opened, an address cannot be bound or a worker cannot be started.
    pub fn start(generation: Arc<Generation>) -> Result<Self, StartError> {
        generation.stores.open().map_err(StartError::not_opened)?;
        let metrics = Arc::new(Metrics::default());
        open_logs(&generation, &metrics)?;
        let config = &generation.config;
        let workers = config.server.workers;
        let mut bound = config
            .listeners
            .iter()
            .map(|l| bind(l, workers))
            .collect::<Result<Vec<_>, _>>()?;
        let named = config.listeners.iter().zip(&bound);
        let listeners: Vec<_> = named
            .map(|(l, bound)| BoundListener {
                name: l.name.clone(),
                address: bound.address,
            })
            .collect();
        let stop = Stop(Arc::new(watch::Sender::new(Phase::Serve)));
        let (following, next): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        let running = std::iter::zip(&config.listeners, &bound)
            .map(|(listener, bound)| RunningListener::new(listener, bound))
            .collect();
        let reload = Reload::new(generation.clone(), running, following, metrics.clone());
        let mut server = Self {
            listeners,
            workers: Vec::with_capacity(workers),
            stop,
            metrics,
            reload,
        };
        let (ready, readiness) = mpsc::channel();
        for (number, next) in next.into_iter().enumerate() {
            let start = Start {
                generation: generation.clone(),
                sockets: sockets(&mut bound),
                phase: server.stop.0.subscribe(),
                metrics: server.metrics.clone(),
                next,
                watches_health: number == 0,
            };
            server.workers.push(spawn(number, start, ready.clone())?);
        }
        drop(ready);
        for _ in 0..workers {
            let started = readiness
                .recv()
                .unwrap_or_else(|_| Err("it ended at once".into()));
            started.map_err(StartError::Worker)?;
        }
        Ok(server)
    }

    /// The listeners that it was started with, in the order of the configuration.
    pub fn listeners(&self) -> &[BoundListener] {
        &self.listeners
    }

    /// What the workers count.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A handle that has this server serve another generation.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// A handle that stops this server.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until all workers have ended and stores are written down. Blocks, and must not be called from a task.
    ///
    /// # Errors
    ///
    /// When a worker panicked.
    pub fn join(mut self) -> Result<(), StartError> {
        for worker in self.workers.drain(..) {
            worker
                .join()
                .map_err(|_| StartError::Worker("it panicked; its last words are above".into()))?;
        }
        self.reload.flush();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cut();
    }
}

fn spawn(
    number: usize,
    start: Start,
    ready: mpsc::Sender<Result<(), String>>,
) -> Result<JoinHandle<()>, StartError> {
    let tell = move |started| {
        // Nobody listens any more once another worker has failed.
        if ready.send(started).is_err() {
            tracing::debug!(number, "the start was given up");
        }
    };
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || worker::run(start, tell))
        .map_err(|error| StartError::Worker(error.to_string()))
}

/// Opens where lines and spans of this generation go.
pub(crate) fn open_logs(generation: &Generation, metrics: &Metrics) -> Result<(), StartError> {
    if let Some(traces) = &generation.traces {
        let opened = traces.open(&metrics.spans);
        opened.map_err(|error| StartError::Worker(format!("no thread for traces: {error}")))?;
    }
    let Some(log) = &generation.access_log else {
        return Ok(());
    };
    log.open(&metrics.lines)
        .map_err(|error| StartError::AccessLog {
            reason: error.to_string(),
            location: log.config.location.clone(),
        })
}

fn bind(listener: &crate::config::Listener, workers: usize) -> Result<Bound, StartError> {
    listener::bind(listener, workers)
        .map_err(|error| StartError::not_bound(listener, explain(&error)))
}

impl StartError {
    pub(crate) fn not_opened(unopened: Unopened) -> Self {
        Self::Store {
            name: unopened.name,
            reason: unopened.reason,
            location: unopened.location,
        }
    }

    pub(crate) fn not_bound(listener: &crate::config::Listener, reason: String) -> Self {
        Self::Bind {
            name: listener.name.clone(),
            address: listener.bind,
            reason,
            location: listener.bind_location.clone(),
        }
    }
}

/// Why an address cannot be bound, and what to do about it.
pub(crate) fn explain(error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another process has it (`ss -ltnp` says which): stop that, or choose another port"
        }
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        std::io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
        _ => "",
    };
    format!("{error}{remedy}")
}

fn sockets(bound: &mut [Bound]) -> Vec<(std::net::TcpListener, Arc<tokio::sync::Semaphore>)> {
    bound.iter_mut().map(Bound::take).collect()
}
