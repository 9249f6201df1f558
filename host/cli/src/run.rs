//! `witgate run`: from a configuration to a running service to its end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use witgate_proxy::config::{Location, Problem, Problems};
use witgate_proxy::{Admin, Generation, Inherited, Metrics, Reload, Server, StartError, Status};

use crate::Ended;
use crate::args::Run;
use crate::chrome::Claimed;
use crate::hand_over::{self, Predecessor, Restart, Successor};
use crate::load::{self, Loaded};
use crate::log;
use crate::open_files;
use crate::operator::{Operator, reload_requests};
use crate::progress::Progress;
use crate::reload::{self, Fixed, Reloads, Watched};
use crate::service;

pub(crate) fn run(args: &Run) -> Result<(), Ended> {
    // First, while nothing else knows the environment or opens files.
    let (inherited, predecessor) = hand_over::inherited()?;
    let served = served(args, Inherited::new(inherited), predecessor.as_ref());
    if let (Err(why), Some(predecessor)) = (&served, &predecessor) {
        predecessor.tell_failed(why);
    }
    served
}

fn served(
    args: &Run,
    inherited: Inherited,
    predecessor: Option<&Predecessor>,
) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let loaded = load::read(&args.config)?;
    open_files::raise_limit(&loaded.config);
    runtime()?.block_on(serve(args, loaded, inherited, predecessor))
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
pub(crate) async fn serve(
    args: &Run,
    loaded: Loaded,
    mut inherited: Inherited,
    predecessor: Option<&Predecessor>,
) -> Result<(), Ended> {
    let mut signals = Signals::new()?;
    let hangups = reload::hangups()?;
    let restarts = hand_over::signals()?;
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
    let admin = admin
        .map(|admin| Admin::bind(admin, &mut inherited))
        .transpose();
    let admin = admin.map_err(|error| explain(&file, error))?;
    let server = Server::start_with(Arc::new(generation), inherited)
        .map_err(|error| explain(&file, error))?;
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
    let restart = Restart {
        server: server.reload(),
        admin: admin.as_ref().map(Admin::socket),
        has_browser: chrome.is_some(),
    };
    if let Some(predecessor) = predecessor {
        predecessor.succeed().await;
        restart.adopt_files().await;
    }
    server.serve();
    let (leave_admin, left) = oneshot::channel();
    let mut admin_served = None;
    if let Some(admin) = admin {
        tracing::info!(address = %admin.address(), "admin listening");
        let serve = admin.serve(status.clone(), generations.clone(), is_left(left));
        admin_served = Some(tokio::spawn(serve));
    }
    let reopening = tokio::spawn(reopen_logs(server.reload())?);
    service::ready(&format!("serving {} listeners", server.listeners().len()));
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
        watchdog: tokio::spawn(service::watch(server.pulse())),
        restart,
        restarts,
        leave_admin: Some(leave_admin),
        admin_served,
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

async fn is_left(left: oneshot::Receiver<()>) {
    // Without anybody who could say so, it is served to the end.
    if left.await.is_err() {
        std::future::pending().await
    }
}

/// What changes when a stop is asked for, before the listeners close.
struct End {
    watchdog: JoinHandle<()>,
    restart: Restart,
    /// SIGUSR2
    restarts: Signal,
    /// Another process answers there.
    leave_admin: Option<oneshot::Sender<()>>,
    admin_served: Option<JoinHandle<()>>,
    status: Arc<Status>,
    generations: watch::Receiver<Arc<Generation>>,
    /// An operator asks for a stop.
    drain: Arc<Notify>,
    reloads: JoinHandle<()>,
}

impl End {
    /// Another process takes over.
    fn hand_over(&mut self, successor: Successor) -> Result<(), String> {
        let process = successor.complete()?;
        self.watchdog.abort();
        self.reloads.abort();
        if let Some(leave) = self.leave_admin.take()
            && leave.send(()).is_err()
        {
            tracing::debug!("there is no admin listener");
        }
        tracing::info!(
            process,
            "another process serves from now on; what is under way here may end"
        );
        service::succeeded_by(process);
        Ok(())
    }
}

impl End {
    /// After a hand-over, those who asked the admin listener are answered, but for who stays to be told of what happens.
    async fn await_admin(&mut self) {
        if self.leave_admin.is_none()
            && let Some(served) = self.admin_served.take()
            && tokio::time::timeout(FAREWELL, served).await.is_err()
        {
            tracing::debug!("somebody still asked the admin listener");
        }
    }
}

/// How long those have who ask the admin listener when another process takes over.
const FAREWELL: Duration = Duration::from_secs(5);

/// An attempt to have another process take over.
type Attempt = Pin<Box<dyn Future<Output = Result<Successor, String>>>>;

async fn outcome(attempt: &mut Option<Attempt>) -> Result<Successor, String> {
    match attempt {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

fn progress(metrics: Arc<Metrics>) -> Progress {
    Progress::start(move || {
        format!(
            "draining: {} connections are open",
            metrics.open_connections()
        )
    })
}

/// Waits for a signal, then for the server to drain; a second signal cuts that short.
async fn until_stopped(server: Server, signals: &mut Signals, mut end: End) -> Result<(), Ended> {
    let stop = server.stop();
    let metrics = server.metrics().clone();
    let mut ended = tokio::task::spawn_blocking(move || server.join());
    let mut asked = false;
    let mut drain = pin!(tokio::time::sleep(Duration::MAX));
    let mut draining = None;
    let mut attempt: Option<Attempt> = None;
    loop {
        tokio::select! {
            joined = &mut ended => {
                end.await_admin().await;
                return joined.map_err(Ended::because)?.map_err(Ended::because);
            }
            () = drain.as_mut(), if asked && draining.is_none() => {
                tracing::info!("draining: nothing new is accepted, what is under way may end");
                let metrics = metrics.clone();
                draining = Some(progress(metrics));
                stop.drain();
            }
            attempted = outcome(&mut attempt) => {
                attempt = None;
                match attempted.and_then(|successor| end.hand_over(successor)) {
                    Ok(()) => {
                        asked = true;
                        draining = Some(progress(metrics.clone()));
                        stop.drain();
                    }
                    Err(why) => {
                        tracing::error!(why, "the restart failed, and nothing has changed");
                        service::status("a restart failed: this process goes on");
                    }
                }
            }
            _ = end.restarts.recv() => match (asked, &attempt) {
                (true, _) => tracing::info!("SIGUSR2: not restarted, since this process is about to end"),
                (false, Some(_)) => tracing::info!("SIGUSR2: a restart is under way already"),
                (false, None) => {
                    let limit = end.generations.borrow().config().server.restart_timeout;
                    tracing::info!(cause = "SIGUSR2", "restarting: another process is started, to take over");
                    attempt = Some(Box::pin(end.restart.clone().attempt(limit)));
                }
            },
            name = signals.next_or(&end.drain) => match asked {
                false => {
                    // Whoever was to take over is not wanted any more.
                    attempt = None;
                    let drain_delay = end.generations.borrow().config().server.drain_delay;
                    tracing::info!(cause = name, ?drain_delay, "stopping: not ready any more");
                    service::stopping();
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
