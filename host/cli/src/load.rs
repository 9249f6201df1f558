//! A configuration file, read for both the proxy and Chromium, into one report of all problems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use witgate_proxy::config::{
    CodeCache as CodeCacheSetting, ComponentSource, Config, Document, Problems,
    warn_of_open_browsers,
};
use witgate_proxy::{Builtins, Generation};
use witgate_runtime::{CodeCache, Runtime};

use crate::Ended;
use crate::chrome::{self, Chrome};
use crate::log::color;
use crate::progress::Progress;

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
    /// What else it depends on.
    pub(crate) files: Files,
    pub(crate) config: Config,
    pub(crate) chrome: Option<Chrome>,
}

/// The files that a configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// By `${file:…}`.
    pub(crate) secrets: BTreeSet<PathBuf>,
    /// Of plugins.
    pub(crate) components: BTreeSet<PathBuf>,
    /// Of plugins with `watch = true`.
    pub(crate) watched: BTreeSet<PathBuf>,
}

impl Files {
    fn add_components(&mut self, config: &Config) {
        for plugin in config.plugins.values() {
            let ComponentSource::Path(path) = &plugin.component else {
                continue;
            };
            self.components.insert(path.clone());
            if plugin.watch {
                self.watched.insert(path.clone());
            }
        }
    }
}

/// Reads a configuration. Warnings go to standard error.
pub(crate) fn read(path: &Path) -> Result<Loaded, Ended> {
    let (loaded, warnings) = try_read(path, &mut Files::default()).map_err(report)?;
    if !warnings.is_empty() {
        eprint!("{}", warnings.render(color()));
    }
    Ok(loaded)
}

/// Reads a configuration, and gives the warnings with it. `files` gets all that it depends on as soon as that is
/// known, so that they can be watched even when there is an error in one.
pub(crate) fn try_read(path: &Path, files: &mut Files) -> Result<(Loaded, Problems), Problems> {
    let document = Document::read(path)?;
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    let chrome = root.optional("chrome", chrome::read);
    root.finish();
    let secrets = document.files().into_iter().filter(|file| *file != path);
    files.secrets.extend(secrets);
    if let Some(config) = &config {
        files.add_components(config);
    }
    if let Some(config) = &config {
        let port = chrome.as_ref().map(Chrome::port);
        warn_of_open_browsers(&reader, config, port);
    }
    let (config, warnings) = reader.finish(config)?;
    let loaded = Loaded {
        file: path.display().to_string(),
        files: files.clone(),
        config,
        chrome,
    };
    Ok((loaded, warnings))
}

/// The report of what is wrong, as the end of a command.
pub(crate) fn report(problems: Problems) -> Ended {
    Ended(problems.render(color()).trim_end().to_owned())
}

/// Builds the generation that will serve.
pub(crate) async fn build(file: &str, config: Config) -> Result<Generation, Ended> {
    let runtime = runtime(&config.server.code_cache)?;
    build_in(&runtime, file, config).await
}

/// As [`build`], in a sandbox that is there already.
pub(crate) async fn build_in(
    runtime: &Runtime,
    file: &str,
    config: Config,
) -> Result<Generation, Ended> {
    let generation = try_build(runtime, file, config).await.map_err(report)?;
    if !generation.warnings().is_empty() {
        eprint!("{}", generation.warnings().render(color()));
    }
    Ok(generation)
}

/// As [`build_in`], and prints nothing.
pub(crate) async fn try_build(
    runtime: &Runtime,
    file: &str,
    config: Config,
) -> Result<Generation, Problems> {
    let progress = Progress::start(|| {
        "compiling components and making their instances; the code cache keeps the code for the next start".into()
    });
    let (begun, plugins) = (Instant::now(), config.plugins.len());
    let built = Generation::build(file, config, runtime, BUILTINS).await;
    drop(progress);
    if built.is_ok() {
        tracing::info!(plugins, took = ?begun.elapsed(), "components are ready");
    }
    built
}

/// Sets up the sandbox.
pub(crate) fn runtime(setting: &CodeCacheSetting) -> Result<Runtime, Ended> {
    Runtime::new(code_cache(setting)).map_err(Ended::because)
}

/// Where compiled code is kept. One that cannot be used is no reason not to start.
pub(crate) fn code_cache(setting: &CodeCacheSetting) -> Option<CodeCache> {
    cache_directory(setting).and_then(|directory| match CodeCache::open(&directory) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "no code cache; components are compiled at each start");
            None
        }
    })
}

/// Where it would be kept, whether it can be or not.
pub(crate) fn cache_directory(setting: &CodeCacheSetting) -> Option<PathBuf> {
    match setting {
        CodeCacheSetting::Off => None,
        CodeCacheSetting::Directory(directory) => Some(directory.clone()),
        CodeCacheSetting::Default => default_cache(),
    }
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
