use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{env, fmt};

use bytes::Bytes;
use http::{Request, Response};
use witgate_build::Build;
use witgate_runtime::{
    ConfigError, Hooks, HttpGrant, Limits, LoadError, Runtime, SendError, StartError,
};

use crate::grants::Grants;
use crate::{LogLine, Plugin, Store, http_client};

/// Run time of one call unless a test sets another.
const PATIENT: Duration = Duration::from_secs(5);

/// A component, ready to be started as often as a test likes.
#[derive(Debug, Clone)]
pub struct Component {
    compiled: Arc<witgate_runtime::Component>,
    limits: Limits,
    http: Option<HttpGrant>,
    grants: Grants,
}

impl Component {
    /// The plugin of the package whose tests are running. See [`of_package`](Self::of_package).
    ///
    /// # Panics
    ///
    /// When the tests are not run by cargo, and when it cannot be built or loaded, with what cargo said.
    pub fn of_this_package(profile: &str) -> Self {
        let variable = |name| {
            env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run the tests by cargo"))
        };
        Self::of_package(
            &variable("CARGO_MANIFEST_DIR"),
            &variable("CARGO_PKG_NAME"),
            profile,
        )
    }

    /// The plugin that a package of the workspace around `directory` is, built for the purpose with this cargo profile
    /// (`release`, unless the workspace has one for plugins). Built once per test program.
    ///
    /// # Panics
    ///
    /// When it cannot be built or loaded, with what cargo said.
    pub fn of_package(directory: &str, package: &str, profile: &str) -> Self {
        static BUILT: OnceLock<Mutex<HashMap<[String; 3], Component>>> = OnceLock::new();
        // A test that failed to build has poisoned nothing: what is in the map was whole.
        let built = BUILT.get_or_init(Mutex::default).lock();
        let mut built = built.unwrap_or_else(PoisonError::into_inner);
        let key = [directory, package, profile].map(str::to_owned);
        if let Some(component) = built.get(&key) {
            return component.clone();
        }
        let build = Build::new(directory, target_dir())
            .package(package)
            .profile(profile);
        let components = build.run().unwrap_or_else(|error| panic!("{error}"));
        let component =
            Self::from_bytes(&components[0].bytes).unwrap_or_else(|error| panic!("{error}"));
        built.insert(key, component.clone());
        component
    }

    /// A component from its bytes.
    ///
    /// # Errors
    ///
    /// Those that an operator would get for it.
    ///
    /// # Panics
    ///
    /// When the sandbox cannot be set up on this machine.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        let runtime = RUNTIME
            .get_or_init(|| Runtime::metered(None).unwrap_or_else(|error| panic!("{error}")));
        Self::load(runtime, bytes)
    }

    /// A component from its bytes, in a runtime of the caller's, such as one with a code cache. Only one that is
    /// [metered](Runtime::metered) knows what calls [cost](Plugin::cost).
    ///
    /// # Errors
    ///
    /// Those that an operator would get for it.
    pub fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        let compiled = Arc::new(witgate_runtime::Component::load(runtime, bytes)?);
        let limits = Limits {
            deadline: PATIENT,
            ..Limits::default()
        };
        Ok(Self {
            compiled,
            limits,
            http: None,
            grants: Grants::default(),
        })
    }

    /// The same component under other limits. Unless set, those that an operator gets by default, except that a call may
    /// take 5 s: deadlines are of wall-clock time, and a busy machine would fail tests of a quick plugin.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Grants it requests to these origins (`http://127.0.0.1:6667`), which `answer` answers in place of a network: with
    /// a response, or with what kept one from coming. What the runtime refuses does not reach it.
    ///
    /// `answer` gets the request as it would be sent, the URI with path and query alone; the origin's
    /// [`Scheme`](crate::Scheme) is among its extensions. A response's body may have 1 MiB.
    ///
    /// # Panics
    ///
    /// When an origin is none.
    #[must_use]
    pub fn answering(
        mut self,
        origins: &[&str],
        answer: impl Fn(&Request<Bytes>) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static,
    ) -> Self {
        self.http = Some(http_client::grant(origins, answer));
        self
    }

    /// Grants it a store, whose clock is the plugin's from then on.
    #[must_use]
    pub fn keyvalue(mut self, store: &Store) -> Self {
        self.grants.store = Some(store.clone());
        self
    }

    /// Grants it metrics, of so many series. See [`Plugin::metric`].
    #[must_use]
    pub fn metrics(mut self, series: usize) -> Self {
        self.grants.metrics = Some(Arc::default());
        self.grants.series = series;
        self
    }

    /// Grants it these secrets, by name, and no others.
    #[must_use]
    pub fn secrets(mut self, secrets: &[(&str, &str)]) -> Self {
        self.grants.secrets = secrets.iter().copied().collect();
        self
    }

    /// What a component that imports `wasi:random` gets in place of random bytes, over and over: 1, 2, 3 and so on to 251
    /// unless a test says otherwise. No bytes at all for the system's.
    #[must_use]
    pub fn random(mut self, bytes: &[u8]) -> Self {
        self.grants.random = Some(bytes.to_vec());
        self
    }

    /// Which hooks it exports.
    pub fn hooks(&self) -> Hooks {
        self.compiled.hooks()
    }

    /// Starts it with a configuration: a JSON object.
    ///
    /// # Panics
    ///
    /// When the plugin refuses the configuration, traps or exceeds a limit.
    pub fn start(&self, config: &str) -> Plugin {
        self.try_start(config)
            .unwrap_or_else(|not_started| panic!("{not_started}"))
    }

    /// What the plugin has against a configuration.
    ///
    /// # Panics
    ///
    /// When it has nothing against it, traps or exceeds a limit.
    pub fn config_errors(&self, config: &str) -> Vec<ConfigError> {
        match self.try_start(config) {
            Ok(_) => panic!("the plugin takes the configuration {config}"),
            Err(not_started) => match not_started.mistakes() {
                [] => panic!("{not_started}"),
                mistakes => mistakes.to_vec(),
            },
        }
    }

    /// Starts it with a configuration: a JSON object.
    ///
    /// # Errors
    ///
    /// When the plugin refuses the configuration, traps or exceeds a limit.
    pub fn try_start(&self, config: &str) -> Result<Plugin, NotStarted> {
        Plugin::start(
            self.compiled.clone(),
            config,
            self.limits,
            self.http.clone(),
            &self.grants,
        )
    }
}

/// Why a plugin did not start, and what it logged until then.
#[derive(Debug)]
pub struct NotStarted {
    /// The reason.
    pub error: StartError,
    /// What it logged.
    pub log: Vec<LogLine>,
}

impl NotStarted {
    /// What the plugin has against its configuration; nothing when that is not the reason.
    pub fn mistakes(&self) -> &[ConfigError] {
        match &self.error {
            StartError::Config(mistakes) => mistakes,
            StartError::Failed(_) | StartError::Grant(_) => &[],
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        for mistake in self.mistakes() {
            // Without a path it is about the whole.
            let separator = if mistake.path.is_empty() { "" } else { ": " };
            write!(f, "\n  {}{separator}{}", mistake.path, mistake.message)?;
        }
        for line in &self.log {
            write!(f, "\n  the plugin logged: {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotStarted {}

/// Beside the test programs, so that cleaning the one cleans the other. Not their own target directory, which a cargo
/// that builds at the same time would lock.
fn target_dir() -> PathBuf {
    let program = env::current_exe().expect("a running program has a path");
    let deps = program.parent().expect("a program is in a directory");
    deps.with_file_name("witgate-plugins")
}
