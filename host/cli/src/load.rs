//! A configuration file, read for both the proxy and Chromium, into one report of all problems.

use std::path::{Path, PathBuf};

use witgate_proxy::config::{CodeCache as CodeCacheSetting, Config, Document, Problems};
use witgate_proxy::{Builtins, Generation};
use witgate_runtime::{CodeCache, Runtime};

use crate::Ended;
use crate::chrome::{self, Chrome};
use crate::log::color;

/// The components of the binary.
pub(crate) const BUILTINS: Builtins = Builtins {
    find: |name| witgate_builtin::find(name).map(|builtin| builtin.component),
    names: || {
        witgate_builtin::all()
            .iter()
            .map(|builtin| builtin.name)
            .collect()
    },
};

/// A configuration whose text is valid.
pub(crate) struct Loaded {
    /// The file's name, for further reports.
    pub(crate) file: String,
    pub(crate) config: Config,
    pub(crate) chrome: Option<Chrome>,
}

/// Reads a configuration. Warnings go to standard error.
pub(crate) fn read(path: &Path) -> Result<Loaded, Ended> {
    let document = Document::read(path).map_err(report)?;
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    let chrome = root.optional("chrome", chrome::read);
    root.finish();
    let (config, warnings) = reader.finish(config).map_err(report)?;
    if !warnings.is_empty() {
        eprint!("{}", warnings.render(color()));
    }
    Ok(Loaded {
        file: path.display().to_string(),
        config,
        chrome,
    })
}

/// The report of what is wrong, as the end of a command.
pub(crate) fn report(problems: Problems) -> Ended {
    Ended(problems.render(color()).trim_end().to_owned())
}

/// Builds the generation that will serve.
pub(crate) async fn build(file: &str, config: Config) -> Result<Generation, Ended> {
    let runtime = runtime(&config.server.code_cache)?;
    let generation = Generation::build(file, config, &runtime, BUILTINS)
        .await
        .map_err(report)?;
    if !generation.warnings().is_empty() {
        eprint!("{}", generation.warnings().render(color()));
    }
    Ok(generation)
}

/// Sets up the sandbox. A code cache that cannot be used is no reason not to start.
fn runtime(setting: &CodeCacheSetting) -> Result<Runtime, Ended> {
    let directory = match setting {
        CodeCacheSetting::Off => None,
        CodeCacheSetting::Directory(directory) => Some(directory.clone()),
        CodeCacheSetting::Default => default_cache(),
    };
    let cache = directory.and_then(|directory| match CodeCache::open(&directory) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "no code cache; components are compiled at each start");
            None
        }
    });
    Runtime::new(cache).map_err(Ended::because)
}

fn default_cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let user = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(user?.join("witgate"))
}
