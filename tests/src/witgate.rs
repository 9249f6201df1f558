//! The proxy under test: the real binary with a configuration of the test's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::process::{Ended, Process};
use crate::wait::PATIENCE;

/// How long a start may take: on a cold cache a debug build compiles components first.
const START: Duration = Duration::from_secs(90);

/// A running `witgate run` and the directory its configuration lies in. Dropping it stops it.
#[derive(Debug)]
pub struct Witgate {
    process: Process,
    listeners: BTreeMap<String, String>,
    setup: Setup,
}

/// A directory with files and an environment for `witgate` to run in.
#[derive(Debug)]
pub struct Setup {
    directory: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Setup {
    /// An empty directory.
    ///
    /// # Panics
    ///
    /// When there is nowhere to make it.
    #[must_use]
    pub fn new() -> Self {
        let directory =
            TempDir::with_prefix("witgate-test-").expect("the temporary directory can be written");
        Self {
            directory,
            environment: Vec::new(),
        }
    }

    /// Puts a file beside the configuration; directories on the way are made.
    #[must_use]
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        let parent = path
            .parent()
            .expect("a file beneath a directory has a parent");
        fs::create_dir_all(parent).expect("the test's directory can be written");
        fs::write(&path, content).expect("the test's directory can be written");
        self
    }

    /// As [`file`](Self::file), for nobody else to read.
    #[must_use]
    pub fn secret(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        let this = self.file(name, content);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        this
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command `witgate …` that runs in the directory.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.path());
        // One cache of compiled components for all tests; a proxy found in the caller's environment is not for us.
        command.env("XDG_CACHE_HOME", beside_tests().join("test-cache"));
        for name in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs `witgate …` to its end, which has to come within 90 s.
    #[must_use]
    #[track_caller]
    pub fn run_to_end(&self, arguments: &[&str]) -> Ended {
        let name = format!("witgate {}", arguments.join(" "));
        Process::start(&name, self.command(arguments)).wait(START)
    }

    /// Runs `witgate run` with this configuration, which has to fail, and gives what it printed.
    #[must_use]
    #[track_caller]
    pub fn run_and_fail(self, config: &str) -> Ended {
        let setup = self.file("witgate.toml", config);
        let ended = setup.run_to_end(&["run", "--config", "witgate.toml"]);
        assert!(
            !ended.status.success(),
            "it ended well:\n{}",
            ended.output()
        );
        ended
    }

    /// Starts `witgate run` with this configuration and waits until all its listeners listen.
    #[must_use]
    #[track_caller]
    pub fn start(self, config: &str) -> Witgate {
        self.start_by(config, |command| command)
    }

    /// As [`start`](Self::start), by the command that `change` makes of `witgate run …`.
    #[must_use]
    #[track_caller]
    pub fn start_by(self, config: &str, change: impl FnOnce(Command) -> Command) -> Witgate {
        let setup = self.file("witgate.toml", config);
        let arguments = ["run", "--config", "witgate.toml", "--log-format", "json"];
        let process = Process::start("witgate", change(setup.command(&arguments)));
        let expected = config
            .lines()
            .filter(|line| line.trim() == "[[listener]]")
            .count();
        let mut listeners = BTreeMap::new();
        let all = process.find_line(START, |line| {
            let (name, address) = as_listening(&serde_json::from_str(line).ok()?)?;
            listeners.insert(name, address);
            (listeners.len() == expected).then_some(())
        });
        assert!(
            all.is_some(),
            "witgate does not listen on its {expected} listener(s), but on {listeners:?}"
        );
        Witgate {
            process,
            listeners,
            setup,
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Witgate {
    /// Starts `witgate run` with this configuration and waits until all its listeners listen.
    ///
    /// # Panics
    ///
    /// When it does not within 90 s. What it printed is shown.
    #[must_use]
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Setup::new().start(config)
    }

    /// Where a listener listens, as seen from this machine: an unspecified address becomes the loopback's.
    ///
    /// # Panics
    ///
    /// When the configuration has no such listener.
    #[must_use]
    #[track_caller]
    pub fn address(&self, listener: &str) -> SocketAddr {
        let shown = self.listeners.get(listener);
        let shown = shown.unwrap_or_else(|| panic!("no listener {listener:?}"));
        let mut address: SocketAddr = shown.parse().expect("it listens on TCP");
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    }

    /// `GET path` from a listener, on a connection of its own.
    #[must_use]
    #[track_caller]
    pub fn get(&self, listener: &str, path: &str) -> http::Message {
        http::get(self.address(listener), path)
    }

    /// A connection to a listener.
    #[must_use]
    #[track_caller]
    pub fn connect(&self, listener: &str) -> http::Connection {
        http::Connection::open(self.address(listener))
    }

    /// Where it runs and its configuration lies, as `witgate.toml`; for other commands beside it.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The process.
    #[must_use]
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The first log line, of those written and those to come, that `find` takes.
    ///
    /// # Panics
    ///
    /// When none comes in time; `what` says what was looked for.
    #[track_caller]
    pub fn log_line(&self, what: &str, find: impl FnMut(&LogLine) -> bool) -> LogLine {
        self.log_line_within(PATIENCE, what, find)
    }

    /// As [`log_line`](Self::log_line), with a bound of its own.
    #[track_caller]
    pub fn log_line_within(
        &self,
        bound: Duration,
        what: &str,
        mut find: impl FnMut(&LogLine) -> bool,
    ) -> LogLine {
        let found = self
            .process
            .find_line(bound, |line| LogLine::parse(line).filter(|line| find(line)));
        found.unwrap_or_else(|| panic!("no log line for {what}"))
    }

    /// Every log line written up to now.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.process
            .lines()
            .iter()
            .filter_map(|line| LogLine::parse(line))
            .collect()
    }

    /// Asks it to stop (SIGTERM), waits for its end and gives what it printed.
    #[must_use]
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.stop_within(PATIENCE)
    }

    /// As [`stop`](Self::stop), with a bound of its own, for one that has a browser to end.
    #[must_use]
    #[track_caller]
    pub fn stop_within(self, bound: Duration) -> Ended {
        self.process.signal(Signal::TERM);
        self.process.wait(bound)
    }
}

/// One line of the log in JSON.
#[derive(Debug, Clone)]
pub struct LogLine(Value);

impl LogLine {
    fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line)
            .ok()
            .filter(Value::is_object)
            .map(Self)
    }

    /// A field of the event; `None` when the line does not have it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.0
            .get("fields")
            .and_then(|fields| fields.get(name))
            .or_else(|| self.0.get(name))
    }

    /// A field of the event that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(Value::as_str)
    }

    /// What the line says.
    #[must_use]
    pub fn message(&self) -> &str {
        self.text("message").unwrap_or_default()
    }

    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    #[must_use]
    pub fn level(&self) -> &str {
        self.text("level").unwrap_or_default()
    }
}

fn as_listening(line: &Value) -> Option<(String, String)> {
    let line = LogLine(line.clone());
    let address = (line.message() == "listening").then(|| line.text("address"))??;
    Some((line.text("listener")?.to_owned(), address.to_owned()))
}

/// The binary beside the test executables: `target/PROFILE/witgate`.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let binary = beside_tests().join("witgate");
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo build -p witgate` first",
        binary.display()
    );
    binary
}

fn beside_tests() -> PathBuf {
    let test = std::env::current_exe().expect("the system knows what it runs");
    let profile = test.parent().and_then(Path::parent);
    profile
        .expect("cargo puts test executables into target/PROFILE/deps")
        .to_owned()
}
