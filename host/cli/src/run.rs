//! `witgate run`: from a configuration to a running service to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use witgate_proxy::config::{Location, Problem, Problems};
use witgate_proxy::{Admin, Generation, Reload, Server, StartError, Status};

use crate::Ended;
use crate::args::Run;
use crate::chrome::Claimed;
use crate::load::{self, Loaded};
use crate::log;
use crate::open_files;
use crate::operator::{Operator, reload_requests};
use crate::progress::Progress;
use crate::reload::{self, Fixed, Reloads, Watched};

pub(crate) fn run(args: &Run) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let loaded = load::read(&args.config)?;
    open_files::raise_limit(&loaded.config);
    runtime()?.block_on(serve(args, loaded))
}

/// The event loop beside the workers: signals, Chromium, harvests.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Ended> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .enable_all()
        .thread_name("main-loop")
        .build()
        .map_err(Ended::because)
}

/// Serves a configuration until a signal.
pub(crate) async fn serve(args: &Run, loaded: Loaded) -> Result<(), Ended> {
    let mut signals = Signals::new()?;
    let hangups = reload::hangups()?;
    let watched = Watched::new(args, loaded.files);
    let file = loaded.file;
    let harvest = loaded.chrome.as_ref();
    let harvest = harvest.and_then(|chrome| chrome.harvest(None, false));
    let chrome = loaded
        .chrome
        .map(|chrome| chrome.claim(&file))
        .transpose()?;
    let sandbox = load::runtime(&loaded.config.server.code_cache)?;
    let started_with = Fixed::of(&loaded.config);
    let generation = load::build_in(&sandbox, &file, loaded.config).await?;
    let admin = generation.config().admin.as_ref();
    let admin = admin.map(Admin::bind).transpose();
    let admin = admin.map_err(|error| explain(&file, error))?;
    let server = Server::start(Arc::new(generation)).map_err(|error| explain(&file, error))?;
    for listener in server.listeners() {
        tracing::info!(listener = &*listener.name, address = %listener.address, "listening");
    }
    let mut status = Status::new(server.metrics().clone(), env!("CARGO_PKG_VERSION"));
    let (ask_reload, asked) = reload_requests();
    let mut operator = Operator {
        drain: Arc::default(),
        reloads: ask_reload,
        chrome: None,
        harvest: harvest.map(Mutex::new),
    };
    if let Some(chrome) = &chrome {
        let chrome = chrome.status();
        status.add_check("chromium", chrome.check());
        status.add_metrics(Box::new(chrome.clone()));
        operator.chrome = Some(chrome);
    }
    let drain = operator.drain.clone();
    status.set_operate(Box::new(operator));
    let status = Arc::new(status);
    let generations = server.reload().generations().await;
    if let Some(admin) = admin {
        tracing::info!(address = %admin.address(), "admin listening");
        tokio::spawn(admin.serve(status.clone(), generations.clone()));
    }
    let reopening = tokio::spawn(reopen_logs(server.reload())?);
    let chrome = chrome.map(Chrome::start);
    let reloads = Reloads {
        runtime: sandbox,
        server: server.reload(),
        hangups,
        asked,
        watched,
        started_with,
        status: status.clone(),
        shows_failed_swap: false,
    };
    let end = End {
        status,
        generations,
        drain,
        reloads: tokio::spawn(reloads.run()),
    };
    let stopped = until_stopped(server, &mut signals, end).await;
    reopening.abort();
    if let Some(chrome) = chrome {
        chrome.stop().await;
    }
    tracing::info!("stopped");
    stopped
}

/// What changes when a stop is asked for, before the listeners close.
struct End {
    status: Arc<Status>,
    generations: watch::Receiver<Arc<Generation>>,
    /// An operator asks for a stop.
    drain: Arc<Notify>,
    reloads: JoinHandle<()>,
}

/// Waits for a signal, then for the server to drain; a second signal cuts that short.
async fn until_stopped(server: Server, signals: &mut Signals, end: End) -> Result<(), Ended> {
    let stop = server.stop();
    let metrics = server.metrics().clone();
    let mut ended = tokio::task::spawn_blocking(move || server.join());
    let mut asked = false;
    let mut drain = pin!(tokio::time::sleep(Duration::MAX));
    let mut draining = None;
    loop {
        tokio::select! {
            joined = &mut ended => return joined.map_err(Ended::because)?.map_err(Ended::because),
            () = drain.as_mut(), if asked && draining.is_none() => {
                tracing::info!("draining: nothing new is accepted, what is under way may end");
                let metrics = metrics.clone();
                draining = Some(Progress::start(move || {
                    format!("draining: {} connections are open", metrics.open_connections())
                }));
                stop.drain();
            }
            name = signals.next_or(&end.drain) => match asked {
                false => {
                    let drain_delay = end.generations.borrow().config().server.drain_delay;
                    tracing::info!(cause = name, ?drain_delay, "stopping: not ready any more");
                    asked = true;
                    end.status.drain();
                    end.reloads.abort();
                    drain.as_mut().reset(Instant::now() + drain_delay);
                }
                // Asking twice does not make it urgent.
                true if name == OPERATOR => {}
                true => {
                    tracing::warn!(cause = name, "stopping now");
                    stop.cut();
                }
            }
        }
    }
}

fn explain(file: &str, error: StartError) -> Ended {
    match &error {
        StartError::Bind { .. } | StartError::Store { .. } | StartError::AccessLog { .. } => {
            load::report(problems(file, &error))
        }
        StartError::Worker(_) => Ended::because(error),
    }
}

/// Why a generation cannot be served, at the line that decides it.
pub(crate) fn problems(file: &str, error: &StartError) -> Problems {
    let (location, key) = match error {
        StartError::Bind { location, .. } => (location.clone(), "listener.bind"),
        StartError::Store { location, .. } => (location.clone(), "keyvalue"),
        StartError::AccessLog { location, .. } => (location.clone(), "log.access"),
        StartError::Worker(_) => (Location::of_file(file), ""),
    };
    let mut problems = Problems::new(file);
    problems.add(Problem::error(location, key, error.to_string()));
    problems
}

/// SIGUSR1 asks for log files to be opened again, as others know it from nginx.
fn reopen_logs(reload: Reload) -> Result<impl Future<Output = ()>, Ended> {
    let mut asked = signal(SignalKind::user_defined1())
        .map_err(|error| Ended::because(format!("signals cannot be received: {error}")))?;
    Ok(async move {
        while asked.recv().await.is_some() {
            tracing::info!("log files are opened again");
            reload.reopen_logs().await;
        }
    })
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Ended> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Ended::because(format!("signals cannot be received: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What asks for a stop besides signals.
const OPERATOR: &str = "POST /drain";

impl Signals {
    /// The next signal, or an operator's wish.
    async fn next_or(&mut self, drain: &Notify) -> &'static str {
        tokio::select! {
            name = self.next() => name,
            () = drain.notified() => OPERATOR,
        }
    }
}

/// Chromium, running.
struct Chrome {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Chrome {
    fn start(claimed: Claimed) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self {
            stop,
            task: tokio::spawn(claimed.run(stopped)),
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "chromium's supervisor failed");
        }
    }
}
