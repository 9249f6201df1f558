//! `witgate run`: from a configuration to a running service to its end.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use witgate_proxy::config::{Problem, Problems};
use witgate_proxy::{Server, StartError};

use crate::Ended;
use crate::args::Run;
use crate::chrome::Claimed;
use crate::load::{self, Loaded};
use crate::log;

pub(crate) fn run(args: &Run) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let loaded = load::read(&args.config)?;
    runtime()?.block_on(serve(loaded))
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

async fn serve(loaded: Loaded) -> Result<(), Ended> {
    let mut signals = Signals::new()?;
    let file = loaded.file;
    let chrome = loaded
        .chrome
        .map(|chrome| chrome.claim(&file))
        .transpose()?;
    let generation = load::build(&file, loaded.config).await?;
    let server = Server::start(Arc::new(generation)).map_err(|error| explain(&file, error))?;
    for listener in server.listeners() {
        tracing::info!(listener = &*listener.name, address = %listener.address, "listening");
    }
    let chrome = chrome.map(Chrome::start);
    let stopped = until_stopped(server, &mut signals).await;
    if let Some(chrome) = chrome {
        chrome.stop().await;
    }
    tracing::info!("stopped");
    stopped
}

/// Waits for a signal, then for the server to drain; a second signal cuts that short.
async fn until_stopped(server: Server, signals: &mut Signals) -> Result<(), Ended> {
    let stop = server.stop();
    let mut ended = tokio::task::spawn_blocking(move || server.join());
    let mut asked = false;
    loop {
        tokio::select! {
            joined = &mut ended => return joined.map_err(Ended::because)?.map_err(Ended::because),
            name = signals.next() => match asked {
                false => {
                    tracing::info!(signal = name, "stopping: nothing new is accepted, what is under way may end");
                    asked = true;
                    stop.drain();
                }
                true => {
                    tracing::warn!(signal = name, "stopping now");
                    stop.cut();
                }
            }
        }
    }
}

fn explain(file: &str, error: StartError) -> Ended {
    match &error {
        StartError::Bind { location, .. } => {
            let mut problems = Problems::new(file);
            problems.add(Problem::error(
                location.clone(),
                "listener.bind",
                error.to_string(),
            ));
            load::report(problems)
        }
        StartError::Worker(_) => Ended::because(error),
    }
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
