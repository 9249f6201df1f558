//! What an operator decides about Chromium, and the command line that follows from it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::health::HealthConfig;

/// Names under which distributions install Chromium, in the order in which they are looked for.
pub const BINARY_NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Ports above 1023 that Chromium lets no page reach (`net::ERR_UNSAFE_PORT`), the default first. A page that reached the
/// debugging port could connect to it, since it takes connections of its own pages, and send any command.
pub const BLOCKED_PORTS: [u16; 19] = [
    6667, 6665, 6666, 6668, 6669, 6679, 6697, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 10080,
];

/// How to run Chromium.
#[derive(Debug, Clone)]
pub struct ChromeConfig {
    /// The browser's program. Default: the first of [`BINARY_NAMES`] on `PATH`.
    pub binary: Option<PathBuf>,
    /// The `--user-data-dir`: cookies, local storage and all else that is to last. Created with mode 0700 if missing.
    pub profile: PathBuf,
    /// The debugging port, on 127.0.0.1 alone. Default 6667: one of [`BLOCKED_PORTS`].
    pub port: u16,
    /// Without a window (`--headless=new`). Default true.
    pub headless: bool,
    /// Chromium's own sandbox around its page processes. Default true; Chromium refuses to start as root with it.
    pub sandbox: bool,
    /// Further arguments: switches, or URLs to open instead of an empty page. Those that the supervisor decides on are
    /// refused. Worth knowing: `--disable-dev-shm-usage` where `/dev/shm` is small, as in many containers, and
    /// `--restore-last-session`, which keeps tabs and session cookies over a restart.
    pub args: Vec<String>,
    /// Start a Chromium that is older than the one which last used the profile. It may take what that one wrote for
    /// damaged and discard it. Default false: it is not started.
    pub allow_downgrade: bool,
    /// How long Chromium may take to be ready. Default 30 s.
    pub start_timeout: Duration,
    /// How long Chromium may take to end when asked to, before it is killed. Default 10 s.
    pub stop_timeout: Duration,
    /// The wait before the first restart; it doubles with every further one. Default 500 ms.
    pub min_backoff: Duration,
    /// The longest wait before a restart. Default 30 s.
    pub max_backoff: Duration,
    /// How long Chromium must have been ready for the wait to start from [`ChromeConfig::min_backoff`] again, unless
    /// it was given up as wedged. Default 60 s.
    pub backoff_reset: Duration,
    /// When a browser that runs is given up as wedged. `None`: only a browser that ended is started again.
    pub health: Option<HealthConfig>,
}

impl ChromeConfig {
    /// A headless Chromium with default limits.
    pub fn new(profile: PathBuf) -> Self {
        Self {
            binary: None,
            profile,
            port: BLOCKED_PORTS[0],
            headless: true,
            sandbox: true,
            args: Vec::new(),
            allow_downgrade: false,
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            backoff_reset: Duration::from_secs(60),
            health: Some(HealthConfig::default()),
        }
    }

    /// The program that would be started.
    ///
    /// # Errors
    /// [`ConfigError`], if there is none.
    pub fn program(&self) -> Result<PathBuf, ConfigError> {
        let path = env::var_os("PATH").unwrap_or_default();
        program(self, &path)
    }

    /// Whether Chromium could run with this, as far as that shows without starting it or touching the profile.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn check(&self) -> Result<(), ConfigError> {
        let path = env::var_os("PATH").unwrap_or_default();
        CommandLine::new(self, rustix::process::geteuid().is_root(), &path).map(drop)
    }
}

/// A configuration with which Chromium could never run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to run.
    #[error(
        "no Chromium found: looked for {} on PATH; install it (Debian: apt-get install chromium) or give its path as \
         `binary`",
        BINARY_NAMES.join(", ")
    )]
    NoBinary,
    /// The configured program does not exist or is not executable.
    #[error("no Chromium at {}: it is not an executable file; correct `binary` or leave it out", .0.display())]
    NotExecutable(PathBuf),
    /// Chromium would refuse to start.
    #[error(
        "Chromium does not run as root with its sandbox: run as another user, or set `sandbox = false`"
    )]
    RootWithSandbox,
    /// An argument that the supervisor itself decides on.
    #[error("the argument {argument} cannot be given: {remedy}")]
    ReservedArgument {
        /// As given.
        argument: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Port 0, on which Chromium would choose one that nobody knows.
    #[error("the port cannot be 0: choose the one that the upstream names")]
    NoPort,
}

/// Switches that are ours: their beginnings, and what to do instead.
const RESERVED: [(&str, &str); 9] = [
    ("user-data-dir", "set `profile`"),
    (
        "profile-directory",
        "the profile directory has one profile, named Default",
    ),
    ("temp-profile", "set `profile`"),
    ("remote-debugging-port", "set `port`"),
    (
        "remote-debugging-",
        "the debugging port is on 127.0.0.1 alone",
    ),
    (
        "remote-allow-origins",
        "it would let every web page drive the browser",
    ),
    (
        "explicitly-allowed-ports",
        "it would let web pages reach ports that Chromium blocks, the debugging port for one",
    ),
    ("headless", "set `headless`"),
    ("no-sandbox", "set `sandbox = false`"),
];

/// What every start gets, each for a reason that holds for any browser that programs and people share.
const ALWAYS: [&str; 13] = [
    // Nobody is there to answer the questions of a first start.
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-search-engine-choice-screen",
    "--noerrdialogs",
    // No "restore pages?" bubble over the page after a crash.
    "--hide-crash-restore-bubble",
    // Cookies are encrypted with a key of the profile, not of a desktop keyring: that may be locked, or be another one
    // after a restart, and every log-in would be lost.
    "--password-store=basic",
    // No traffic that no client asked for: field trials, component and extension updates, crash uploads.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--disable-default-apps",
    // A client's tab works at full speed whichever tab another client has brought to the front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// A configuration that was found to be runnable, with the program chosen.
#[derive(Debug, Clone)]
pub(crate) struct CommandLine {
    pub(crate) binary: PathBuf,
    pub(crate) args: Vec<OsString>,
}

impl CommandLine {
    /// Checks a configuration, for a process that is root or not and finds programs in `path`.
    pub(crate) fn new(
        config: &ChromeConfig,
        root: bool,
        path: &OsStr,
    ) -> Result<Self, ConfigError> {
        for argument in &config.args {
            check_argument(argument)?;
        }
        if config.port == 0 {
            return Err(ConfigError::NoPort);
        }
        let binary = program(config, path)?;
        if root && config.sandbox {
            return Err(ConfigError::RootWithSandbox);
        }
        Ok(Self {
            binary,
            args: arguments(config),
        })
    }

    /// Puts the profile's real path in the place of the configured one, which may be relative or a link.
    pub(crate) fn set_profile(&mut self, path: &Path) {
        self.args[0] = user_data_dir(path);
    }
}

fn arguments(config: &ChromeConfig) -> Vec<OsString> {
    let mut args = vec![
        user_data_dir(&config.profile),
        format!("--remote-debugging-port={}", config.port).into(),
    ];
    args.extend(ALWAYS.map(OsString::from));
    if config.headless {
        args.push("--headless=new".into());
    }
    if !config.sandbox {
        args.push("--no-sandbox".into());
    }
    args.extend(config.args.iter().map(OsString::from));
    // Otherwise Chromium opens its new-tab page, which talks to a search engine.
    if config.args.iter().all(|argument| argument.starts_with('-')) {
        args.push("about:blank".into());
    }
    args
}

fn user_data_dir(path: &Path) -> OsString {
    let mut argument = OsString::from("--user-data-dir=");
    argument.push(path);
    argument
}

fn check_argument(argument: &str) -> Result<(), ConfigError> {
    // Chromium takes one dash for two.
    let Some(switch) = argument.strip_prefix('-') else {
        return Ok(());
    };
    let switch = switch.strip_prefix('-').unwrap_or(switch);
    match RESERVED
        .iter()
        .find(|(reserved, _)| switch.starts_with(reserved))
    {
        Some((_, remedy)) => Err(ConfigError::ReservedArgument {
            argument: argument.to_owned(),
            remedy,
        }),
        None => Ok(()),
    }
}

fn program(config: &ChromeConfig, path: &OsStr) -> Result<PathBuf, ConfigError> {
    match &config.binary {
        Some(binary) if is_executable(binary) => Ok(binary.clone()),
        Some(binary) => Err(ConfigError::NotExecutable(binary.clone())),
        None => find(path).ok_or(ConfigError::NoBinary),
    }
}

fn find(path: &OsStr) -> Option<PathBuf> {
    BINARY_NAMES.iter().find_map(|name| {
        env::split_paths(path)
            .map(|dir| dir.join(name))
            .find(|file| is_executable(file))
    })
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_binary() -> ChromeConfig {
        ChromeConfig {
            binary: Some("/bin/sh".into()),
            ..ChromeConfig::new("/profile".into())
        }
    }

    fn checked(config: &ChromeConfig) -> Result<CommandLine, ConfigError> {
        CommandLine::new(config, false, OsStr::new(""))
    }

    #[test]
    fn without_a_browser_the_error_says_what_was_looked_for_and_what_to_do() {
        let error = checked(&ChromeConfig::new("/profile".into())).unwrap_err();
        assert_eq!(error, ConfigError::NoBinary);
        let text = error.to_string();
        assert!(
            text.contains("google-chrome") && text.contains("install") && text.contains("`binary`"),
            "{text}"
        );
    }

    #[test]
    fn the_browser_is_found_on_the_path_by_its_first_name() {
        let bin = tempfile::tempdir().unwrap();
        for name in ["google-chrome", "chromium-browser", "chromium"] {
            std::fs::write(bin.path().join(name), "").unwrap();
        }
        let executable = |name: &str| {
            let file = bin.path().join(name);
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            file
        };
        executable("google-chrome");
        let expected = executable("chromium-browser");
        let found = CommandLine::new(
            &ChromeConfig::new("/p".into()),
            false,
            bin.path().as_os_str(),
        )
        .unwrap();
        assert_eq!(found.binary, expected);
    }

    #[test]
    fn a_configured_binary_must_be_executable() {
        let config = ChromeConfig {
            binary: Some("/nonexistent".into()),
            ..with_binary()
        };
        assert_eq!(
            checked(&config).unwrap_err(),
            ConfigError::NotExecutable("/nonexistent".into())
        );
    }

    #[test]
    fn root_needs_the_sandbox_switched_off() {
        let root = |config: &ChromeConfig| CommandLine::new(config, true, OsStr::new(""));
        assert_eq!(
            root(&with_binary()).unwrap_err(),
            ConfigError::RootWithSandbox
        );
        let args = root(&ChromeConfig {
            sandbox: false,
            ..with_binary()
        })
        .unwrap()
        .args;
        assert!(args.contains(&"--no-sandbox".into()));
    }

    #[test]
    fn arguments_that_the_supervisor_decides_on_are_refused_with_one_dash_or_two() {
        for argument in [
            "--user-data-dir=/x",
            "-remote-debugging-port=1",
            "--remote-debugging-pipe",
            "-remote-debugging-address=0.0.0.0",
            "--remote-allow-origins=http://a.example",
            "--explicitly-allowed-ports=6667",
            "--headless=old",
        ] {
            let config = ChromeConfig {
                args: vec![argument.into()],
                ..with_binary()
            };
            let error = checked(&config).unwrap_err();
            assert!(
                matches!(error, ConfigError::ReservedArgument { .. }),
                "{argument}: {error}"
            );
        }
        let config = ChromeConfig {
            args: vec!["--remote-allow-origins=*".into()],
            ..with_binary()
        };
        assert!(
            checked(&config)
                .unwrap_err()
                .to_string()
                .contains("every web page")
        );
    }

    #[test]
    fn no_page_reaches_the_port_that_is_the_default() {
        // The `kRestrictedPorts` of Chromium's net/base/port_util.cc, which the real browser is asked about elsewhere.
        assert_eq!(ChromeConfig::new("/profile".into()).port, 6667);
        assert!(BLOCKED_PORTS.contains(&6667) && !BLOCKED_PORTS.contains(&9223));
    }

    #[test]
    fn the_command_line_ends_in_the_operators_arguments_and_an_empty_page() {
        let args = checked(&ChromeConfig {
            args: vec!["--lang=de".into()],
            ..with_binary()
        })
        .unwrap()
        .args;
        assert_eq!(
            args[..2],
            ["--user-data-dir=/profile", "--remote-debugging-port=6667"]
        );
        assert_eq!(args[args.len() - 2..], ["--lang=de", "about:blank"]);
        let args = checked(&ChromeConfig {
            args: vec!["https://a.example".into()],
            ..with_binary()
        })
        .unwrap()
        .args;
        assert_eq!(args.last().unwrap(), "https://a.example");
    }
}
