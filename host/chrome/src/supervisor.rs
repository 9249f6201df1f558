//! Chromium's life: start, ready, and again after a crash, until it is told to stop.
//!
//! ```text
//! Starting ──► Ready ──► Unhealthy ──► (ended) ──► BackingOff ──► Starting …          any state ──► Stopped
//!     └────────────┴─────────────────────────────────────▲
//! ```
//!
//! Ready means that `/json/version` is answered, and by this very browser: its WebSocket URL is the one that the
//! started process announced on its standard error. (A Chromium that finds 127.0.0.1:PORT taken listens on \[::1\]
//! instead and says nothing of it.) From then on [`crate::health`] probes whether pages can be opened; a browser that
//! opens none for too long is ended and started anew.
//!
//! When the supervising process itself is killed, Chromium goes on running; the next supervisor of the profile ends
//! it before it starts its own. (Tying a child's life to its parent's needs code between fork and exec, which cannot
//! be had without unsafe.)
//!
//! Chromium writes cookies to the disk up to 30 s late and local storage up to 5 s late. An orderly stop loses
//! nothing; a crash loses what is younger.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::{ChromeConfig, CommandLine, ConfigError};
use crate::endpoint::{self, EndpointError, Version};
use crate::health::{self, Counters};
use crate::process::Process;
use crate::profile::{Profile, ProfileError};
use crate::version;

/// How long one answer of `/json/version` may take while waiting to be ready.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// How often `/json/version` is asked again while it is not answered.
const PROBE_POLL: Duration = Duration::from_millis(50);

/// What is said of a browser that runs on a profile of a newer one.
const OLDER: &str = "chromium is older than the one that last used this profile, and may take what that one wrote for \
                     damaged and discard it: stop, install that version or a later one, or restore a backup that \
                     was taken with this one";

/// How Chromium is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Being started, and not ready yet.
    Starting,
    /// Answers `/json/version`.
    Ready(Ready),
    /// Runs, but opens no pages any more: so many probes in a row failed. It is being ended, which takes no longer
    /// than [`ChromeConfig::stop_timeout`] and a few seconds, and will be started again.
    Unhealthy {
        /// Since when it is given up.
        since: SystemTime,
        /// What the last probe met with, for people.
        reason: String,
    },
    /// Ended or did not start; another attempt follows.
    BackingOff {
        /// When it will be started again.
        until: Instant,
        /// What happened, for people.
        reason: String,
    },
    /// Ended because it was told to; nothing follows.
    Stopped,
}

/// A Chromium that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The browser process, which is also the id of its process group.
    pub pid: i32,
    /// Product and version: `Chrome/156.0.8078.79`.
    pub browser: String,
    /// Path of the browser's WebSocket, `/devtools/browser/GUID`; another one after every start.
    pub websocket_path: String,
    /// Since when.
    pub since: SystemTime,
}

impl State {
    /// The details of a ready Chromium.
    pub fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Ready(ready) => Some(ready),
            _ => None,
        }
    }
}

/// Chromium cannot be supervised: nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The profile cannot be had.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Somebody else listens on the debugging port.
    #[error("port {0} of 127.0.0.1 is taken: stop what listens there, or choose another `port`")]
    PortTaken(u16),
    /// The debugging port cannot be listened on for another reason.
    #[error("cannot listen on port {port} of 127.0.0.1: {source}")]
    Port {
        /// The port.
        port: u16,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// Why one run of Chromium came to nothing. The messages end up in [`State::BackingOff`] and in the log.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot run {binary}: {source}")]
    Spawn { binary: String, source: io::Error },
    #[error("chromium ended ({status}) {when}{last_words}")]
    Exited {
        status: ExitStatus,
        when: &'static str,
        last_words: String,
    },
    #[error("chromium was not ready within {limit:?}{last_words}")]
    NotReady { limit: Duration, last_words: String },
    #[error("{0}")]
    Unhealthy(String),
    #[error("cannot wait for chromium: {0}")]
    Wait(io::Error),
    #[error("port {port} of 127.0.0.1 is taken: another browser answers there")]
    ForeignBrowser { port: u16 },
    #[error(
        "chromium was not started: {binary} is version {version}, older than the {last} that last used the profile, and \
         may take what that one wrote for damaged and discard it; install {last} or later, restore a backup that was \
         taken with {version} or earlier, or set `allow-downgrade = true` in [chrome]"
    )]
    Older {
        binary: String,
        version: String,
        last: String,
    },
}

/// How a run ended, unless by an error.
struct Stopped;

/// Keeps one Chromium running on one profile.
#[derive(Debug)]
pub struct Supervisor {
    config: ChromeConfig,
    command_line: CommandLine,
    profile: Profile,
    address: SocketAddr,
    state: watch::Sender<State>,
    /// The browser of the current run, once it was ready.
    ready: Option<Ready>,
    counters: Arc<Counters>,
}

impl Supervisor {
    /// Checks all that can be known before a start, and takes the profile. Nothing is started.
    ///
    /// The receiver sees [`State::Starting`] until [`Supervisor::run`] is under way. When the supervisor is dropped,
    /// it sees [`State::Stopped`] last.
    ///
    /// # Errors
    /// [`StartError`]: no browser to run, a configuration that it would refuse, a profile or a port in use.
    pub fn new(config: ChromeConfig) -> Result<(Self, watch::Receiver<State>), StartError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let root = rustix::process::geteuid().is_root();
        let mut command_line = CommandLine::new(&config, root, &path)?;
        let profile = Profile::claim(&config.profile)?;
        command_line.set_profile(profile.path());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        if !profile.is_left_running() {
            check_port(address)?;
        }
        let (state, receiver) = watch::channel(State::Starting);
        Ok((
            Self {
                config,
                command_line,
                profile,
                address,
                state,
                ready: None,
                counters: Arc::default(),
            },
            receiver,
        ))
    }

    /// Where the browser's DevTools endpoint is: 127.0.0.1 and the configured port.
    pub fn endpoint(&self) -> SocketAddr {
        self.address
    }

    /// What happens to the browser, counted; to be had before [`Supervisor::run`] takes the supervisor.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs Chromium, again and again, until `stop` is done; then ends it and returns with no process left.
    ///
    /// A crash, a failed start, a start that takes too long and a browser that opens no pages any more are logged at warn level and followed by another
    /// start, after a wait that doubles each time. Dropping the future kills Chromium.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut backoff = Backoff::new(&self.config);
        loop {
            self.state.send_replace(State::Starting);
            let error = match self.run_once(stop.as_mut()).await {
                Ok(Stopped) => break,
                Err(error) => error,
            };
            let ready_for = self.ready_for();
            let delay = backoff.after(&error, ready_for);
            let delay_ms = delay.as_millis() as u64;
            warn!(reason = %error, ready_ms = ready_for.as_millis() as u64, delay_ms, "chromium is started again");
            self.state.send_replace(State::BackingOff {
                until: Instant::now() + delay,
                reason: error.to_string(),
            });
            tokio::select! {
                () = stop.as_mut() => break,
                () = sleep(delay) => self.counters.count_restart(),
            }
        }
        info!("chromium stopped");
    }

    /// One run, from clearing the way to the last helper process.
    async fn run_once(
        &mut self,
        mut stop: impl Future<Output = ()> + Unpin,
    ) -> Result<Stopped, RunError> {
        self.ready = None;
        tokio::select! {
            () = &mut stop => return Ok(Stopped),
            prepared = self.profile.prepare(self.config.stop_timeout) => prepared.map_err(StartError::from)?,
        }
        check_port(self.address)?;
        let last_version = version::of_profile(self.profile.path());
        tokio::select! {
            () = &mut stop => return Ok(Stopped),
            checked = self.check_version(last_version.as_deref()) => checked?,
        }
        let mut process = Process::spawn(&self.command_line).map_err(|source| RunError::Spawn {
            binary: self.command_line.binary.display().to_string(),
            source,
        })?;
        info!(pid = process.pid(), binary = %self.command_line.binary.display(), endpoint = %self.address, "chromium started");
        if let Err(error) = self.profile.record(process.pid()) {
            warn!(%error, "cannot note which chromium was started: a later witgate would not end it");
        }
        let end = tokio::select! {
            () = &mut stop => Ok(Stopped),
            error = self.until_ended(&mut process, last_version.as_deref()) => Err(error),
        };
        match &end {
            Ok(Stopped) | Err(RunError::Unhealthy(_)) => {
                let path = self.ready.as_ref().map(|ready| &*ready.websocket_path);
                let endpoint = path.map(|path| (self.address, path));
                process.stop(endpoint, self.config.stop_timeout).await;
            }
            Err(RunError::NotReady { .. } | RunError::ForeignBrowser { .. }) => {
                process.stop(None, self.config.stop_timeout).await;
            }
            Err(_) => process.sweep().await,
        }
        end
    }

    /// Refuses a browser that is older than the profile: what it discards at its start is gone before anybody is
    /// warned. A fresh profile needs no question, and a browser whose version is not to be had is let through.
    async fn check_version(&self, last: Option<&str>) -> Result<(), RunError> {
        let binary = &self.command_line.binary;
        let Some(last) = last.filter(|_| !self.config.allow_downgrade) else {
            return Ok(());
        };
        match version::of_binary(binary).await {
            Some(version) if version::is_older(&version, last) => Err(RunError::Older {
                binary: binary.display().to_string(),
                version,
                last: last.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Waits for readiness and then for the end, whichever way it comes.
    async fn until_ended(&mut self, process: &mut Process, last: Option<&str>) -> RunError {
        let started = Instant::now();
        let version = match self.until_ready(process).await {
            Ok(version) => version,
            Err(error) => return error,
        };
        let took_ms = started.elapsed().as_millis() as u64;
        let ready = Ready {
            pid: process.pid(),
            browser: version.browser,
            websocket_path: version.websocket_path,
            since: SystemTime::now(),
        };
        info!(pid = ready.pid, browser = ready.browser, endpoint = %self.address, took_ms, "chromium is ready");
        if let Some(last) = last.filter(|last| version::is_older(&ready.browser, last)) {
            warn!(browser = ready.browser, profile = last, "{OLDER}");
        }
        self.ready = Some(ready.clone());
        self.state.send_replace(State::Ready(ready.clone()));
        tokio::select! {
            exit = process.exited() => ended(exit, "by itself", process),
            reason = self.unhealthy(&ready) => {
                self.state.send_replace(State::Unhealthy {
                    since: SystemTime::now(),
                    reason: reason.clone(),
                });
                RunError::Unhealthy(reason)
            }
        }
    }

    /// Waits until the started browser is ready, for as long as it may take.
    async fn until_ready(&self, process: &mut Process) -> Result<Version, RunError> {
        let mut announced = process.announced();
        let ready = async {
            // A closed channel means that standard error was closed: what ends there is seen by its exit.
            let url = announced
                .wait_for(Option::is_some)
                .await
                .map(|url| url.clone());
            match url {
                Ok(url) => self.answered(&url.unwrap_or_default()).await,
                Err(_closed) => std::future::pending().await,
            }
        };
        let version = tokio::select! {
            exit = process.exited() => return Err(ended(exit, "before it was ready", process)),
            ready = timeout(self.config.start_timeout, ready) => ready,
        };
        version.unwrap_or_else(|_elapsed| {
            Err(RunError::NotReady {
                limit: self.config.start_timeout,
                last_words: last_words(process),
            })
        })
    }

    /// Waits until the browser is of no use any more, and tells why.
    async fn unhealthy(&self, ready: &Ready) -> String {
        match &self.config.health {
            Some(config) => {
                let path = &ready.websocket_path;
                health::until_unhealthy(config, self.address, path, &self.counters).await
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until `/json/version` is answered by the browser that announced `url`.
    async fn answered(&self, url: &str) -> Result<Version, RunError> {
        let foreign = || RunError::ForeignBrowser {
            port: self.config.port,
        };
        if !url.starts_with(&format!("ws://{}/", self.address)) {
            return Err(foreign());
        }
        let own = endpoint::websocket_path(url);
        loop {
            match endpoint::version(self.address, PROBE_LIMIT).await {
                Ok(version) if Some(version.websocket_path.as_str()) == own => return Ok(version),
                Ok(_) | Err(EndpointError::Foreign { .. }) => return Err(foreign()),
                Err(EndpointError::Unreachable { .. } | EndpointError::Timeout { .. }) => {
                    sleep(PROBE_POLL).await
                }
            }
        }
    }

    fn ready_for(&self) -> Duration {
        self.ready
            .as_ref()
            .and_then(|ready| ready.since.elapsed().ok())
            .unwrap_or_default()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.state.send_replace(State::Stopped);
    }
}

/// Whether the debugging port can be had. Chromium would not say so itself.
fn check_port(address: SocketAddr) -> Result<(), StartError> {
    match TcpListener::bind(address) {
        Ok(_listener) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(StartError::PortTaken(address.port()))
        }
        Err(source) => Err(StartError::Port {
            port: address.port(),
            source,
        }),
    }
}

fn ended(exit: io::Result<ExitStatus>, when: &'static str, process: &Process) -> RunError {
    match exit {
        Ok(status) => RunError::Exited {
            status,
            when,
            last_words: last_words(process),
        },
        Err(error) => RunError::Wait(error),
    }
}

fn last_words(process: &Process) -> String {
    let words = process.last_words();
    if words.is_empty() {
        words
    } else {
        format!("; its last words: {words}")
    }
}

/// The wait before the next start.
#[derive(Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    reset: Duration,
    next: Duration,
}

impl Backoff {
    fn new(config: &ChromeConfig) -> Self {
        let (min, max) = (
            config.min_backoff,
            config.max_backoff.max(config.min_backoff),
        );
        Self {
            min,
            max,
            reset: config.backoff_reset,
            next: min,
        }
    }

    /// How long to wait after a run that was ready for so long and ended so. One that had to be given up was of no use
    /// for the last part of that time, which alone may be longer than the reset: it never counts as a good one.
    fn after(&mut self, error: &RunError, ready_for: Duration) -> Duration {
        if ready_for >= self.reset && !matches!(error, RunError::Unhealthy(_)) {
            self.next = self.min;
        }
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_starts_over_after_a_long_run() {
        let mut backoff = Backoff::new(&ChromeConfig::new("/p".into()));
        let crash = RunError::ForeignBrowser { port: 6667 };
        let mut after = |seconds| {
            let delay = backoff.after(&crash, Duration::from_secs(seconds));
            delay.as_millis()
        };
        let delays = [(); 8].map(|()| after(0));
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(after(59), 30000);
        assert_eq!(after(60), 500);
    }

    #[test]
    fn the_wait_goes_on_doubling_for_a_browser_that_wedges_again_and_again() {
        let mut backoff = Backoff::new(&ChromeConfig::new("/p".into()));
        let wedged = RunError::Unhealthy("chromium opens no pages any more".into());
        // Longer than the reset, as every run is that is given up with default limits.
        let delays = [(); 4].map(|()| backoff.after(&wedged, Duration::from_secs(90)).as_millis());
        assert_eq!(delays, [500, 1000, 2000, 4000]);
        let crash = RunError::ForeignBrowser { port: 6667 };
        assert_eq!(
            backoff.after(&crash, Duration::from_secs(90)).as_millis(),
            500
        );
    }
}
