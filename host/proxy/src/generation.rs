//! One immutable, fully built configuration: every component compiled, every plugin's configuration accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use witgate_runtime::{Component, HttpGrant, Limits, LoadError, Plugin, Runtime, StartError};

use crate::config::{self, Change, ComponentSource, Config, OnFailure, Part, Problem, Problems};
use crate::file::Mount;
use crate::outbound;
use crate::router::Router;
use crate::upgrade_limits::UpgradeLimits;
use crate::upstream::Shared;

/// The components that are compiled into the binary.
#[derive(Clone, Copy)]
pub struct Builtins {
    /// The `.wasm` bytes of `builtin:NAME`.
    pub find: fn(&str) -> Option<&'static [u8]>,
    /// All names, for messages.
    pub names: fn() -> Vec<&'static str>,
}

impl fmt::Debug for Builtins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.names)()).finish()
    }
}

/// A configuration in a form that serves. Shared by all workers.
#[derive(Debug)]
pub struct Generation {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) plugins: BTreeMap<Arc<str>, Loaded>,
    pub(crate) upstreams: BTreeMap<Arc<str>, Arc<Shared>>,
    /// By route.
    pub(crate) upgrades: Vec<Arc<UpgradeLimits>>,
    warnings: Problems,
    components: BTreeMap<Arc<str>, (ComponentSource, Arc<Component>)>,
    /// How many workers there are, whatever this configuration says: they are those of the first generation.
    workers: usize,
}

/// A plugin whose component fits and who took its configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) mounts: Arc<[Mount]>,
    pub(crate) on_failure: OnFailure,
}

impl Generation {
    /// Builds a generation: compiles components (in parallel, or takes them from the code cache), makes one instance
    /// of each plugin and configures it. Takes milliseconds from the cache and seconds without.
    ///
    /// Binds nothing. `file` is the configuration's name, for the report. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// All problems of all plugins in one report, each at the line that caused it.
    pub async fn build(
        file: &str,
        config: Config,
        runtime: &Runtime,
        builtins: Builtins,
    ) -> Result<Self, Problems> {
        Self::build_after(None, file, config, runtime, builtins).await
    }

    /// Builds the generation that is to follow this one, as [`build`](Self::build) does.
    ///
    /// What is the same in both is taken over: a component whose file has not changed is not compiled again; a plugin
    /// with the same component and table keeps its instances, and an upstream with the same table its connections
    /// and what is known of its health.
    ///
    /// # Errors
    ///
    /// As those of [`build`](Self::build). This generation is as it was.
    pub async fn build_next(
        &self,
        file: &str,
        config: Config,
        runtime: &Runtime,
        builtins: Builtins,
    ) -> Result<Self, Problems> {
        Self::build_after(Some(self), file, config, runtime, builtins).await
    }

    async fn build_after(
        previous: Option<&Self>,
        file: &str,
        config: Config,
        runtime: &Runtime,
        builtins: Builtins,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new(file);
        let mut plugins = BTreeMap::new();
        let mut used = BTreeMap::new();
        // Workers that serve already get their instances made; others make them side by side, of which one is made
        // here on trial.
        let (workers, instances) = match previous {
            Some(old) => (old.workers, old.workers),
            None => (config.server.workers, 1),
        };
        for (component, plugin) in components(previous, &config, runtime, builtins)
            .into_iter()
            .zip(config.plugins.values())
        {
            if let Ok(component) = &component {
                missing_grant(plugin, component)
                    .into_iter()
                    .for_each(|problem| problems.add(problem));
            }
            let loaded = match component {
                Ok(component) => {
                    let from = (plugin.component.clone(), component.clone());
                    used.insert(plugin.name.clone(), from);
                    match previous.and_then(|old| old.unchanged(&config, plugin, &component)) {
                        Some(running) => take_over(plugin, running),
                        None => load(plugin, component, instances).await,
                    }
                }
                Err(problem) => Err(vec![*problem]),
            };
            match loaded {
                Ok(loaded) => drop(plugins.insert(plugin.name.clone(), loaded)),
                Err(found) => found.into_iter().for_each(|problem| problems.add(problem)),
            }
        }
        if problems.has_errors() {
            return Err(problems);
        }
        let router = Router::new(config.listeners.len(), &config.routes);
        let upstreams = (config.upstreams.iter())
            .map(|(name, upstream)| {
                let same = previous.and_then(|old| old.unchanged_upstream(&config, name));
                let new = || Arc::new(Shared::new(name.clone(), upstream.clone()));
                (name.clone(), same.unwrap_or_else(new))
            })
            .collect();
        let upgrades = (config.routes.iter())
            .map(|route| {
                let same = previous.and_then(|old| old.same_upgrade_limits(route));
                same.unwrap_or_else(|| Arc::new(UpgradeLimits::new(route.limits)))
            })
            .collect();
        Ok(Self {
            config,
            router,
            plugins,
            upstreams,
            upgrades,
            warnings: problems,
            components: used,
            workers,
        })
    }

    /// What is perhaps not meant as it stands, for people; empty as a rule.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// The plugin as it runs now, if nothing about it is different in `config`.
    fn unchanged(
        &self,
        config: &Config,
        plugin: &config::Plugin,
        component: &Arc<Component>,
    ) -> Option<&Loaded> {
        let (_, running) = self.components.get(&plugin.name)?;
        let contents = &self.config.contents;
        let same = Arc::ptr_eq(running, component)
            && contents.agree_on(&config.contents, Part::Plugin, &plugin.name);
        self.plugins.get(&plugin.name).filter(|_| same)
    }

    fn unchanged_upstream(&self, config: &Config, name: &str) -> Option<Arc<Shared>> {
        let contents = &self.config.contents;
        let same = contents.agree_on(&config.contents, Part::Upstream, name);
        self.upstreams.get(name).filter(|_| same).cloned()
    }

    /// The limits of the route of that name, with what counts against them, if they are the same.
    fn same_upgrade_limits(&self, route: &config::Route) -> Option<Arc<UpgradeLimits>> {
        let mut routes = self.config.routes.iter().zip(&self.upgrades);
        let (_, upgrades) =
            routes.find(|(old, _)| old.name == route.name && old.limits == route.limits)?;
        Some(upgrades.clone())
    }

    /// A component that was loaded already, by where it is from.
    fn component(&self, source: &ComponentSource) -> Option<&Arc<Component>> {
        let mut components = self.components.values();
        components
            .find(|(other, _)| other == source)
            .map(|(_, component)| component)
    }

    /// What `next` changes, plugins with a new component file included.
    pub(crate) fn changes(&self, next: &Self) -> Vec<(Part, Arc<str>, Change)> {
        let mut changes = self.config.contents.changes(&next.config.contents);
        for (name, loaded) in &next.plugins {
            let listed = |(part, other, _): &(Part, Arc<str>, Change)| {
                *part == Part::Plugin && other == name
            };
            let running = self.plugins.get(name);
            if running.is_some_and(|running| !Arc::ptr_eq(&running.plugin, &loaded.plugin))
                && !changes.iter().any(listed)
            {
                changes.push((Part::Plugin, name.clone(), Change::Changed));
            }
        }
        changes
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Loads the components of all plugins, each file once, several at a time.
fn components(
    previous: Option<&Generation>,
    config: &Config,
    runtime: &Runtime,
    builtins: Builtins,
) -> Vec<Result<Arc<Component>, Box<Problem>>> {
    let mut sources: Vec<&ComponentSource> = Vec::new();
    for plugin in config.plugins.values() {
        if !sources.contains(&&plugin.component) {
            sources.push(&plugin.component);
        }
    }
    let loaded: Vec<Result<Arc<Component>, Unusable>> = std::thread::scope(|scope| {
        let threads: Vec<_> = sources
            .iter()
            .map(|source| scope.spawn(|| component(previous, source, runtime, builtins)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(Unusable::Panicked)))
            .collect()
    });
    let of = |plugin: &config::Plugin| {
        let at = sources
            .iter()
            .position(|source| **source == plugin.component)
            .expect("collected above");
        loaded[at]
            .clone()
            .map_err(|unusable| Box::new(unusable.problem(plugin, builtins)))
    };
    config.plugins.values().map(of).collect()
}

/// Why a component cannot be used, whichever plugin it is for.
#[derive(Debug, Clone)]
enum Unusable {
    NoSuchBuiltin,
    Unreadable(String),
    Unfit(Arc<LoadError>),
    Panicked,
}

fn component(
    previous: Option<&Generation>,
    source: &ComponentSource,
    runtime: &Runtime,
    builtins: Builtins,
) -> Result<Arc<Component>, Unusable> {
    let load = |bytes: &[u8]| {
        Component::load(runtime, bytes)
            .map(Arc::new)
            .map_err(|e| Unusable::Unfit(Arc::new(e)))
    };
    let running = previous.and_then(|old| old.component(source));
    match source {
        ComponentSource::Builtin(_) if let Some(running) = running => Ok(running.clone()),
        ComponentSource::Builtin(name) => {
            load((builtins.find)(name).ok_or(Unusable::NoSuchBuiltin)?)
        }
        ComponentSource::Path(path) => {
            let bytes = std::fs::read(path)
                .map_err(|e| Unusable::Unreadable(format!("{}: {e}", path.display())))?;
            match running.filter(|running| running.is_of(&bytes)) {
                Some(running) => Ok(running.clone()),
                None => load(&bytes),
            }
        }
    }
}

impl Unusable {
    fn problem(&self, plugin: &config::Plugin, builtins: Builtins) -> Problem {
        let key = format!("plugin.{}.component", plugin.name);
        let error = |message: String| Problem::error(plugin.location.clone(), key, message);
        match self {
            Self::NoSuchBuiltin => {
                let names = (builtins.names)();
                let help = match &plugin.component {
                    ComponentSource::Builtin(name) => {
                        config::did_you_mean(name, names.iter().copied())
                    }
                    ComponentSource::Path(_) => None,
                };
                let there_are =
                    format!("there are `{}`, each after `builtin:`", names.join("`, `"));
                error("there is no built-in plugin of this name".into())
                    .with_help(help.unwrap_or(there_are))
            }
            Self::Unreadable(why) => error(format!("the component cannot be read: {why}")),
            Self::Unfit(why) => error(why.to_string()),
            Self::Panicked => error(
                "the component makes the compiler fail; please report it with the file".into(),
            ),
        }
    }
}

/// A plugin that goes on as it is. Its directories are opened anew: others may stand at their paths by now.
fn take_over(plugin: &config::Plugin, running: &Loaded) -> Result<Loaded, Vec<Problem>> {
    Ok(Loaded {
        plugin: running.plugin.clone(),
        mounts: mounts(plugin)?.into(),
        on_failure: plugin.on_failure,
    })
}

async fn load(
    plugin: &config::Plugin,
    component: Arc<Component>,
    instances: usize,
) -> Result<Loaded, Vec<Problem>> {
    let mounts = mounts(plugin)?;
    let limits = Limits {
        deadline: plugin.limits.deadline,
        start: plugin.limits.start,
        memory: plugin.limits.memory,
        held_body: plugin.limits.held_body,
        log_lines: plugin.limits.log_lines,
        concurrency: plugin.limits.concurrency,
        wait: plugin.limits.wait,
        exchanges: plugin.limits.exchanges,
        recycle_memory: plugin.limits.recycle_memory,
    };
    let mut built = Plugin::new(
        plugin.name.clone(),
        component,
        plugin.config.to_string(),
        limits,
    )
    .with_isolation(plugin.isolation);
    if let Some(grant) = &plugin.grant.http_client {
        built = built.with_http_client(HttpGrant {
            client: Arc::new(outbound::Client),
            origins: grant.origins.clone(),
            timeout: grant.timeout,
            body_size: grant.body_size,
            concurrency: grant.concurrency,
        });
    }
    let built = Arc::new(built);
    // Now, so that a mistake is found before anything is bound or swapped.
    match built.prepare(instances).await {
        Ok(()) => Ok(Loaded {
            plugin: built,
            mounts: mounts.into(),
            on_failure: plugin.on_failure,
        }),
        Err(StartError::Config(errors)) => Err(errors
            .into_iter()
            .map(|error| {
                let dot = if error.path.is_empty() { "" } else { "." };
                let key = format!("plugin.{}.config{dot}{}", plugin.name, error.path);
                Problem::error(
                    plugin.config_locations.locate(&error.path),
                    key,
                    error.message,
                )
                .with_note(format!("plugin `{}` says so", plugin.name))
            })
            .collect()),
        Err(error @ StartError::Failed(_)) => {
            let key = format!("plugin.{}", plugin.name);
            Err(vec![Problem::error(
                plugin.location.clone(),
                key,
                error.to_string(),
            )])
        }
    }
}

/// A component that would send requests, and a plugin that may not: it works, perhaps, and not as meant.
fn missing_grant(plugin: &config::Plugin, component: &Component) -> Option<Problem> {
    let missing = component.sends_requests() && plugin.grant.http_client.is_none();
    missing.then(|| {
        Problem::warning(
            plugin.location.clone(),
            format!("plugin.{}.component", plugin.name),
            "the component sends requests of its own, and the plugin has no grant for any",
        )
        .with_help("name the origins it may reach: grant.http-client = { origins = [\"http://127.0.0.1:8080\"] }, or [] for none")
    })
}

fn mounts(plugin: &config::Plugin) -> Result<Vec<Mount>, Vec<Problem>> {
    let mut mounts = Vec::new();
    let mut problems = Vec::new();
    for grant in &plugin.grant.files {
        match Dir::open_ambient_dir(&grant.path, ambient_authority()) {
            Ok(directory) => {
                mounts.push(Mount {
                    path: grant.mount.trim_end_matches('/').into(),
                    directory,
                });
            }
            Err(error) => problems.push(Problem::error(
                grant.location.clone(),
                format!("plugin.{}.grant.files", plugin.name),
                format!(
                    "the directory {} cannot be opened: {error}",
                    grant.path.display()
                ),
            )),
        }
    }
    // The mount that is deepest is asked first.
    mounts.sort_by_key(|mount: &Mount| std::cmp::Reverse(mount.path.len()));
    if problems.is_empty() {
        Ok(mounts)
    } else {
        Err(problems)
    }
}
