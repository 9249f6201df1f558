//! The admin listener: whether the process lives, whether it is ready, what it does and what it counted; and what an
//! operator may have done to it.
//!
//! ```text
//! accept → gate (token, host, own header) → api (one table of operations) → documents | metrics | operate | events
//!                                                                                     └ pages: the dashboard
//! ```
//!
//! Served beside the workers, never on them: whoever looks takes nothing from a request. What the workers count is put
//! together when it is asked for.

mod api;
mod body;
mod documents;
mod events;
mod gate;
mod operate;
mod pages;
mod process;

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::config::{Admin as Config, Bind};
use crate::connection::Socket;
use crate::generation::Generation;
use crate::listener::Acceptor;
use crate::metrics::Metrics;
use crate::server::{StartError, explain};
use crate::sockets::{self, Address, Held, Inherited, InheritedSocket};

use process::Process;

pub use operate::{Answer, Operate, ReloadReport};

/// Connections served at once: a few probes, scrapers and people. More wait in the kernel.
const CONNECTIONS: usize = 32;

/// From a connection's first byte to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that lives longer is ended, unless it is one of [`events`]: no probe and no scrape takes so long, and
/// each is served one request, so that nobody keeps the places of others.
const LONGEST: Duration = Duration::from_secs(30);

/// How long accepting pauses after an error such as having no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is noticed that nobody looks at exchanges any more.
const SETTLE: Duration = Duration::from_secs(5);

/// What the process shows of itself.
pub struct Status {
    metrics: Arc<Metrics>,
    registry: Registry,
    checks: Vec<(&'static str, Check)>,
    version: &'static str,
    started: SystemTime,
    draining: AtomicBool,
    /// What the last reload came to, if there was one.
    reload: Mutex<Option<Arc<ReloadReport>>>,
    operate: Option<Box<dyn Operate>>,
}

/// Whether a part is ready; the error says why not, for people.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks: Vec<_> = self.checks.iter().map(|(name, _)| name).collect();
        f.debug_struct("Status")
            .field("checks", &checks)
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

impl Status {
    /// The status of a proxy with these metrics, of this version.
    pub fn new(metrics: Arc<Metrics>, version: &'static str) -> Self {
        let started = SystemTime::now();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics.clone()));
        registry.register_collector(Box::new(Process { version, started }));
        Self {
            metrics,
            registry,
            checks: Vec::new(),
            version,
            started,
            draining: AtomicBool::new(false),
            reload: Mutex::default(),
            operate: None,
        }
    }

    /// Shows further metrics.
    pub fn add_metrics(&mut self, collector: Box<dyn Collector>) {
        self.registry.register_collector(collector);
    }

    /// Is not ready unless this is as well. The name stands beside the reason.
    pub fn add_check(&mut self, name: &'static str, check: Check) {
        self.checks.push((name, check));
    }

    /// Lets operators do what this can do. Without it they can only look.
    pub fn set_operate(&mut self, operate: Box<dyn Operate>) {
        self.operate = Some(operate);
    }

    /// Shows what a reload came to, until the next one.
    pub fn note_reload(&self, report: Arc<ReloadReport>) {
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    fn last_reload(&self) -> Option<Arc<ReloadReport>> {
        let reload = self.reload.lock();
        reload.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on not ready: the process was asked to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether all parts are ready; with `details`, why not and what else should be known.
    fn ready(&self, details: bool) -> (bool, Value) {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push(json!({"part": "proxy", "reason": "it was asked to stop"}));
        }
        for (part, check) in &self.checks {
            match check() {
                Ok(()) => {}
                Err(reason) if details => reasons.push(json!({"part": part, "reason": reason})),
                Err(_) => reasons.push(json!({"part": part})),
            }
        }
        let ready = reasons.is_empty();
        let mut body = json!({"ready": ready, "reasons": reasons});
        if details {
            body["notes"] = self.metrics.notes().into();
        }
        (ready, body)
    }
}

/// The admin listener, bound.
#[derive(Debug)]
pub struct Admin {
    acceptor: Acceptor,
    address: Address,
    held: AdminSocket,
}

/// The admin listener's socket, held beside the listener. Dropped, it is closed.
#[derive(Debug, Clone)]
pub struct AdminSocket {
    bind: Bind,
    held: Arc<Held>,
}

/// What the admin listener is called where listeners have names, in messages and among sockets.
const NAME: &str = "[admin]";

impl AdminSocket {
    /// The socket once more, for another process.
    ///
    /// # Errors
    ///
    /// When no more files can be opened.
    pub fn copies(&self) -> std::io::Result<Vec<InheritedSocket>> {
        let copy = |socket| InheritedSocket {
            socket,
            bind: self.bind.to_string(),
            listener: Some(NAME.to_owned()),
            owns_file: self.held.owns_file(),
        };
        Ok(self.held.copies()?.into_iter().map(copy).collect())
    }

    /// The file of a Unix socket that was taken over is from now on removed by this process, at its end.
    pub fn adopt_file(&self) {
        self.held.adopt(&self.bind);
    }

    /// Another process serves it.
    pub fn leave(&self) {
        self.held.leave();
    }
}

impl Admin {
    /// Binds it. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn bind(config: &Config, inherited: &mut Inherited) -> Result<Self, StartError> {
        let bound = sockets::open(NAME, &config.bind, 1, CONNECTIONS, inherited);
        let opened =
            bound.and_then(|bound| Ok((single(bound.sockets)?, bound.address, bound.held)));
        let (acceptor, address, held) = opened.map_err(|error| StartError::Bind {
            name: "admin".into(),
            bind: config.bind.clone(),
            reason: explain(&config.bind, &error),
            location: config.bind_location.clone(),
        })?;
        let bind = config.bind.clone();
        Ok(Self {
            acceptor,
            address,
            held: AdminSocket { bind, held },
        })
    }

    /// The address, with the port that the kernel chose if the configuration says 0.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its socket, to be handed over.
    pub fn socket(&self) -> AdminSocket {
        self.held.clone()
    }

    /// Serves until `left` or until dropped; then those who ask are served to their end, and nobody else. The last of
    /// `generations` has the token.
    pub async fn serve(
        self,
        status: Arc<Status>,
        generations: watch::Receiver<Arc<Generation>>,
        left: impl Future<Output = ()>,
    ) {
        let shown = Arc::new(Shown {
            status,
            generations,
            is_loopback: self.address.is_local(),
            streams: Arc::new(Semaphore::new(events::STREAMS)),
        });
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let settling = shown.clone();
        let mut others = tokio::task::JoinSet::new();
        others.spawn(async move {
            loop {
                tokio::time::sleep(SETTLE).await;
                settling.status.metrics.looks.settle();
            }
        });
        // They end with the listener.
        let mut connections = tokio::task::JoinSet::new();
        let mut left = std::pin::pin!(left);
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                unreachable!("nobody closes the semaphore");
            };
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = self.acceptor.accept() => accepted,
                () = left.as_mut() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let shown = shown.clone();
                    connections.spawn(async move {
                        let _held_to_the_end = permit;
                        connection(stream, shown).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(self);
        while connections.join_next().await.is_some() {}
    }
}

fn single(sockets: Vec<Vec<socket2::Socket>>) -> std::io::Result<Acceptor> {
    let mut sockets = sockets.into_iter().flatten();
    match (sockets.next(), sockets.next()) {
        (Some(socket), None) => Acceptor::new(socket),
        _ => Err(std::io::Error::other("it takes exactly one socket")),
    }
}

struct Shown {
    status: Arc<Status>,
    generations: watch::Receiver<Arc<Generation>>,
    is_loopback: bool,
    /// For those who stay to be told of what happens.
    streams: Arc<Semaphore>,
}

async fn connection(stream: Socket, shown: Arc<Shown>) {
    let stays = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let (shown, stays) = (shown.clone(), &stays);
        async move {
            let answer = shown.answer(request).await;
            stays.store(answer.body().stays(), Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let too_long = async {
        tokio::time::sleep(LONGEST).await;
        if stays.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    };
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "an admin connection broke");
        },
        () = too_long => tracing::debug!("an admin connection was ended after {LONGEST:?}"),
    }
}
