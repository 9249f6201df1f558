//! `[chrome]` and `[chrome.snapshot]`: read from the configuration, checked, run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use witgate_chrome::snapshot::Publication;
use witgate_chrome::{
    BLOCKED_PORTS, ChromeConfig, ConfigError, HarvestConfig, HealthConfig, Schedule,
    ScheduleConfig, StartError, StorageLimits, Supervisor, schedule,
};
use witgate_proxy::config::shape::Located;
use witgate_proxy::config::{Item, Location, Problem, Problems, Section, shape};

use crate::Ended;
use crate::load::report;
use crate::snapshot_shape;
use crate::status::ChromeStatus;

/// Chromium as configured, with the places to name in a report.
pub(crate) struct Chrome {
    config: ChromeConfig,
    snapshot: Option<Snapshot>,
    places: Places,
}

struct Snapshot {
    file: PathBuf,
    /// `None`: harvests are somebody else's to start.
    schedule: Option<Schedule>,
    on_start: bool,
    contents: Contents,
    publication: Publication,
    location: Location,
}

/// What a snapshot holds besides cookies and local storage.
struct Contents {
    indexed_db: bool,
    opfs: bool,
    limits: StorageLimits,
}

struct Places {
    table: Location,
    binary: Option<Location>,
    profile: Option<Location>,
    port: Option<Location>,
    args: Option<Location>,
    sandbox: Option<Location>,
}

/// Reads the table. Relative paths start at the configuration's directory.
pub(crate) fn read(item: &Item<'_>) -> Option<Chrome> {
    shape::table(chrome)(item)
}

fn chrome(table: &mut Section<'_>) -> Option<Chrome> {
    let location = table.location();
    let profile = table.required("profile", "\"profile\"", shape::located(shape::path));
    let binary = table.optional("binary", shape::located(shape::path));
    let port = table.optional("port", shape::located(shape::integer(1..=65_535)));
    let headless = table.default("headless", true, shape::boolean);
    let sandbox = table.optional("sandbox", shape::located(shape::boolean));
    let args = table.optional("args", shape::located(shape::list(shape::string)));
    let allow_downgrade = table.default("allow-downgrade", false, shape::boolean);
    let start_timeout = table.optional("start-timeout", shape::positive_duration);
    let stop_timeout = table.optional("stop-timeout", shape::positive_duration);
    let health = table.optional("health", shape::or_false(shape::table(health)));
    let snapshot = table.optional("snapshot", shape::table(snapshot));
    let (profile, profile_location) = split(profile);
    let (binary, binary_location) = split(binary);
    if let Some(port) = port
        .as_ref()
        .filter(|port| !BLOCKED_PORTS.contains(&port.value))
    {
        warn_of_port(table, port);
    }
    let (port, port_location) = split(port);
    let (sandbox, sandbox_location) = split(sandbox);
    let (args, args_location) = split(args);
    let mut config = ChromeConfig::new(profile?);
    // A bare name would be looked up on PATH instead of beside the configuration.
    config.binary = binary.map(|path| std::path::absolute(&path).unwrap_or(path));
    config.port = port.unwrap_or(config.port);
    config.headless = headless;
    config.sandbox = sandbox.unwrap_or(config.sandbox);
    config.args = args.unwrap_or_default();
    config.allow_downgrade = allow_downgrade;
    config.start_timeout = start_timeout.unwrap_or(config.start_timeout);
    config.stop_timeout = stop_timeout.unwrap_or(config.stop_timeout);
    config.health = health.unwrap_or(config.health);
    let places = Places {
        table: location,
        binary: binary_location,
        profile: profile_location,
        port: port_location,
        args: args_location,
        sandbox: sandbox_location,
    };
    Some(Chrome {
        config,
        snapshot,
        places,
    })
}

/// A page that reaches the debugging port drives the browser.
fn warn_of_port(table: &Section<'_>, port: &Located<u16>) {
    let message = format!(
        "the pages in this browser can reach its debugging port {}",
        port.value
    );
    let problem = Problem::warning(port.location.clone(), &port.path, message);
    table.reader().report(problem.with_help(
        "take one that Chromium blocks, such as 6667, and name it in the upstream as well",
    ));
}

fn health(table: &mut Section<'_>) -> Option<HealthConfig> {
    let default = HealthConfig::default();
    Some(HealthConfig {
        interval: table.default("interval", default.interval, shape::positive_duration),
        timeout: table.default("timeout", default.timeout, shape::positive_duration),
        failures: table.default("failures", default.failures, shape::integer(1..=1000)),
    })
}

fn snapshot(table: &mut Section<'_>) -> Option<Snapshot> {
    let file = table.required(
        "file",
        "\"snapshots/storage-state.json\"",
        shape::located(shape::path),
    );
    let schedule = table.default("schedule", Some(hourly()), snapshot_shape::schedule);
    let on_start = table.default("on-start", true, shape::boolean);
    let contents = contents(table);
    let publication = snapshot_shape::publication(table, schedule.as_ref());
    let (file, location) = split(file);
    Some(Snapshot {
        file: file?,
        schedule,
        on_start,
        contents,
        publication,
        location: location?,
    })
}

fn contents(table: &mut Section<'_>) -> Contents {
    Contents {
        indexed_db: table.default("indexed-db", true, shape::boolean),
        opfs: table.default("opfs", false, shape::boolean),
        limits: table
            .optional("limits", shape::table(limits))
            .unwrap_or_default(),
    }
}

fn limits(table: &mut Section<'_>) -> Option<StorageLimits> {
    let usual = StorageLimits::default();
    Some(StorageLimits {
        origin_size: table.default("origin-size", usual.origin_size, shape::size),
        total_size: table.default("total-size", usual.total_size, shape::size),
    })
}

fn hourly() -> Schedule {
    "0 * * * *".parse().expect("a cron expression")
}

fn split<T>(located: Option<Located<T>>) -> (Option<T>, Option<Location>) {
    located.map_or((None, None), |located| {
        (Some(located.value), Some(located.location))
    })
}

impl Chrome {
    pub(crate) fn config(&self) -> &ChromeConfig {
        &self.config
    }

    /// Of the DevTools protocol.
    pub(crate) fn port(&self) -> u16 {
        self.config.port
    }

    /// What can be known without starting anything: that there is a browser, and that its arguments can work.
    pub(crate) fn check(&self, file: &str) -> Result<(), Problems> {
        self.config
            .check()
            .map_err(|error| self.problem(file, &StartError::Config(error)))?;
        self.check_snapshot(file)
    }

    /// Takes the profile and makes sure that snapshots can be written. Nothing is started yet.
    pub(crate) fn claim(&self, file: &str) -> Result<Claimed, Ended> {
        let (supervisor, state) = Supervisor::new(self.config.clone())
            .map_err(|error| report(self.problem(file, &error)))?;
        self.check_snapshot(file).map_err(report)?;
        let schedule = self.snapshot.as_ref().and_then(|snapshot| {
            Some(ScheduleConfig {
                on_start: snapshot.on_start,
                ..ScheduleConfig::new(
                    snapshot.schedule.clone()?,
                    self.harvest_config(snapshot.file.clone(), snapshot.publication.clone()),
                )
            })
        });
        Ok(Claimed {
            supervisor,
            state,
            schedule,
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.file.clone()),
        })
    }

    /// The `--user-data-dir`.
    pub(crate) fn profile(&self) -> &Path {
        &self.config.profile
    }

    /// How to harvest into `[chrome.snapshot] file`, if there is one. Another file gets a copy: what it held before
    /// counts for nothing, and there is neither history nor status.
    pub(crate) fn harvest(&self, file: Option<PathBuf>, accept: bool) -> Option<HarvestConfig> {
        let snapshot = self.snapshot.as_ref();
        let mut publication = snapshot.map_or_else(Publication::default, |snapshot| {
            snapshot.publication.clone()
        });
        if let Some(file) = file {
            let recipients = publication.recipients;
            let publication = Publication {
                recipients,
                ..Publication::default()
            };
            return Some(self.harvest_config(file, publication));
        }
        if accept {
            publication.loss = None;
        }
        Some(self.harvest_config(snapshot?.file.clone(), publication))
    }

    fn harvest_config(&self, file: PathBuf, publication: Publication) -> HarvestConfig {
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, self.config.port));
        let mut config = HarvestConfig {
            publication,
            ..HarvestConfig::new(endpoint, Some(self.config.profile.clone()), file)
        };
        if let Some(Snapshot { contents, .. }) = &self.snapshot {
            config.indexed_db = contents.indexed_db;
            config.opfs = contents.opfs;
            config.limits = contents.limits.clone();
        }
        config
    }

    fn check_snapshot(&self, file: &str) -> Result<(), Problems> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(());
        };
        let encrypted = !snapshot.publication.recipients.is_empty();
        if encrypted != snapshot.file.extension().is_some_and(|name| name == "age") {
            let (message, help) = match encrypted {
                true => (
                    "`encrypt-to` makes this an age file, and its name does not say so",
                    "let the name end in `.age`, and tell snapshot-server the same name",
                ),
                false => (
                    "the name says that this is an age file, and nothing encrypts it",
                    "add `encrypt-to = [\"age1…\"]`, or let the name end otherwise",
                ),
            };
            let at = snapshot.location.clone();
            return Err(self.report(file, at, "chrome.snapshot.file", message.into(), help));
        }
        witgate_chrome::file::check_writable(&snapshot.file).map_err(|error| {
            let help = "name a file in a directory that this user may write, and that is not for others to read";
            self.report(file, snapshot.location.clone(), "chrome.snapshot.file", error.to_string(), help)
        })
    }

    /// The report of a Chromium that cannot be run, at the line that decides it.
    fn problem(&self, file: &str, error: &StartError) -> Problems {
        let places = &self.places;
        let (place, key) = match error {
            StartError::Config(ConfigError::NoBinary | ConfigError::NotExecutable(_)) => {
                (&places.binary, "chrome.binary")
            }
            StartError::Config(ConfigError::RootWithSandbox) => (&places.sandbox, "chrome.sandbox"),
            StartError::Config(ConfigError::ReservedArgument { .. }) => {
                (&places.args, "chrome.args")
            }
            StartError::Config(ConfigError::NoPort)
            | StartError::PortTaken(_)
            | StartError::Port { .. } => (&places.port, "chrome.port"),
            StartError::Profile(_) => (&places.profile, "chrome.profile"),
        };
        let location = place.clone().unwrap_or_else(|| places.table.clone());
        self.report(file, location, key, error.to_string(), "")
    }

    fn report(
        &self,
        file: &str,
        location: Location,
        key: &str,
        message: String,
        help: &str,
    ) -> Problems {
        let mut problems = Problems::new(file);
        let problem = Problem::error(location, key, message);
        problems.add(if help.is_empty() {
            problem
        } else {
            problem.with_help(help)
        });
        problems
    }
}

/// A Chromium that can be started.
pub(crate) struct Claimed {
    supervisor: Supervisor,
    state: watch::Receiver<witgate_chrome::State>,
    schedule: Option<ScheduleConfig>,
    snapshot: Option<PathBuf>,
}

impl Claimed {
    /// How it and its harvests are doing, from now on.
    pub(crate) fn status(&self) -> ChromeStatus {
        ChromeStatus {
            state: self.state.clone(),
            counters: self.supervisor.counters(),
            snapshot: self.snapshot.clone(),
        }
    }

    /// Runs Chromium and its harvests until told to stop; returns when no process is left.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut harvests_stop = stop.clone();
        let harvests = async {
            if let Some(schedule) = self.schedule {
                schedule::run(schedule, self.state, told(&mut harvests_stop)).await;
            }
        };
        tokio::join!(self.supervisor.run(told(&mut stop)), harvests);
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever would tell is gone.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("chromium stops because nobody is left to stop it");
    }
}
