//! The running proxy: workers, and how they are started and stopped.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use socket2::Socket;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use crate::config::{Bind, Listener, Location};
use crate::generation::Generation;
use crate::keyvalue::Unopened;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::reload::{Reload, RunningListener};
use crate::sockets::{self, Address, Bound, Held, Inherited};
use crate::worker::{self, Phase, Start};

/// A running proxy. Dropped, it cuts everything off.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<BoundListener>,
    workers: Vec<JoinHandle<()>>,
    stop: Stop,
    metrics: Arc<Metrics>,
    reload: Reload,
    pulse: Pulse,
}

/// A listener that accepts.
#[derive(Debug, Clone)]
pub struct BoundListener {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The address, with the port that the kernel chose if the configuration says 0.
    pub address: Address,
}

/// Why the proxy could not be started, or could not take another generation. Nothing has changed: what was not
/// bound before is not bound now.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error("listener `{name}` cannot be bound to {bind}: {reason}")]
    Bind {
        /// The listener.
        name: Arc<str>,
        /// Its `bind`.
        bind: Bind,
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
pub struct Stop {
    phase: Arc<Progress>,
    open: Open,
}

/// The sockets of all listeners that there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open(Arc<Mutex<Vec<Arc<Held>>>>);

impl Open {
    pub(crate) fn set(&self, held: Vec<Arc<Held>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    fn close(&self) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().for_each(|held| held.close());
    }
}

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
        self.phase.further(phase);
        self.open.close();
    }
}

/// How far the server is, as all its workers see it.
#[derive(Debug)]
struct Progress(watch::Sender<Phase>);

impl Progress {
    fn further(&self, phase: Phase) {
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
    /// Binds all listeners, starts the workers, waits until each can serve, and serves.
    ///
    /// # Errors
    ///
    /// When a store cannot be opened, an address cannot be bound or a worker cannot be started.
    pub fn start(generation: Arc<Generation>) -> Result<Self, StartError> {
        let server = Self::start_with(generation, Inherited::default())?;
        server.serve();
        Ok(server)
    }

    /// As [`start`](Self::start), with listening sockets that are open already, and accepts nothing before
    /// [`serve`](Self::serve). Those sockets that no listener has now wait for a reload.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_with(
        generation: Arc<Generation>,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        generation.stores.open().map_err(StartError::not_opened)?;
        let metrics = Arc::new(Metrics::default());
        open_logs(&generation, &metrics)?;
        let config = &generation.config;
        let workers = config.server.workers;
        let mut bound = config
            .listeners
            .iter()
            .map(|l| bind(l, workers, &mut inherited))
            .collect::<Result<Vec<_>, _>>()?;
        inherited.keep_systemds();
        let named = config.listeners.iter().zip(&bound);
        let listeners: Vec<_> = named
            .map(|(l, bound)| BoundListener {
                name: l.name.clone(),
                address: bound.address.clone(),
            })
            .collect();
        let stop = Stop {
            phase: Arc::new(Progress(watch::Sender::new(Phase::Start))),
            open: Open::default(),
        };
        let (following, next): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        let running = std::iter::zip(&config.listeners, &bound)
            .map(|(listener, bound)| RunningListener::new(listener, bound))
            .collect();
        let reload = Reload::new(
            generation.clone(),
            running,
            stop.open.clone(),
            inherited,
            following,
            metrics.clone(),
        );
        let mut server = Self {
            listeners,
            workers: Vec::with_capacity(workers),
            stop,
            metrics,
            reload,
            pulse: Pulse::new(workers),
        };
        let (ready, readiness) = mpsc::channel();
        for (number, next) in next.into_iter().enumerate() {
            let start = Start {
                generation: generation.clone(),
                sockets: sockets(&mut bound),
                phase: server.stop.phase.0.subscribe(),
                metrics: server.metrics.clone(),
                next,
                watches_health: number == 0,
                pulse: server.pulse.answers(number),
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

    /// Accepts connections from now on.
    pub fn serve(&self) {
        self.stop.phase.further(Phase::Serve);
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

    /// Asks the workers whether they live.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
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

fn bind(
    listener: &Listener,
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Bound, StartError> {
    sockets::bind(listener, workers, inherited)
        .map_err(|error| StartError::not_bound(listener, explain(&listener.bind, &error)))
}

impl StartError {
    pub(crate) fn not_opened(unopened: Unopened) -> Self {
        Self::Store {
            name: unopened.name,
            reason: unopened.reason,
            location: unopened.location,
        }
    }

    pub(crate) fn not_bound(listener: &Listener, reason: String) -> Self {
        Self::Bind {
            name: listener.name.clone(),
            bind: listener.bind.clone(),
            reason,
            location: listener.bind_location.clone(),
        }
    }
}

/// Why an address cannot be bound, and what to do about it.
pub(crate) fn explain(bind: &Bind, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::NotFound if matches!(bind, Bind::Unix(_)) => {
            "; its directory has to be there (`RuntimeDirectory=` in a unit makes one)"
        }
        std::io::ErrorKind::PermissionDenied if matches!(bind, Bind::Unix(_)) => {
            "; the process has to be allowed to write to its directory, and be in the `group`"
        }
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

fn sockets(bound: &mut [Bound]) -> Vec<(Vec<Socket>, Arc<tokio::sync::Semaphore>)> {
    bound.iter_mut().map(Bound::take).collect()
}
