//! One immutable, fully built configuration: every component compiled, every plugin's configuration accepted.

mod wasi_http;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use witgate_runtime::wasi_http::HttpPlugin;
use witgate_runtime::{
    Component, CustomMetrics, HttpGrant, Limits, Plugin, Runtime, StartError, WasiGrant,
};

use crate::access::Sink;
use crate::components::{Code, Loader, Reread};
use crate::config::{self, Change, ComponentSource, Config, HttpClientGrant, OnFailure, Part};
use crate::config::{Problem, Problems};
use crate::file::Mount;
use crate::grants::{self, Lendable};
use crate::imports::{self, PluginReport};
use crate::keyvalue::Stores;
use crate::outbound;
use crate::router::Router;
use crate::telemetry::Traces;
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
    /// Those that are components of `wasi:http`.
    pub(crate) http_plugins: BTreeMap<Arc<str>, Arc<HttpPlugin>>,
    pub(crate) upstreams: BTreeMap<Arc<str>, Arc<Shared>>,
    /// By route.
    pub(crate) upgrades: Vec<Arc<UpgradeLimits>>,
    pub(crate) stores: Stores,
    /// `[telemetry.traces]`
    pub(crate) traces: Option<Arc<Traces>>,
    /// `[log.access]`
    pub(crate) access_log: Option<Arc<Sink>>,
    /// What plugins count, of this generation and all others.
    pub(crate) custom_metrics: Arc<CustomMetrics>,
    warnings: Problems,
    components: BTreeMap<Arc<str>, (ComponentSource, Code)>,
    /// How many workers there are, whatever this configuration says: they are those of the first generation.
    workers: usize,
}

/// A plugin whose component fits and who took its configuration.
#[derive(Debug, Clone)]
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
        let loader = Loader {
            previous: None,
            runtime,
            builtins,
        };
        Self::build_after(file, config, loader, Reread::All).await
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
        let loader = Loader {
            previous: Some(self),
            runtime,
            builtins,
        };
        Self::build_after(file, config, loader, Reread::All).await
    }

    /// Builds the generation that has this one's configuration and the component files of these plugins as they are
    /// now. Everything else is taken over, also where another file has changed.
    ///
    /// # Errors
    ///
    /// As those of [`build`](Self::build). This generation is as it was.
    pub async fn build_swap(
        &self,
        file: &str,
        plugins: &BTreeSet<Arc<str>>,
        runtime: &Runtime,
        builtins: Builtins,
    ) -> Result<Self, Problems> {
        let loader = Loader {
            previous: Some(self),
            runtime,
            builtins,
        };
        let config = self.config.clone();
        Self::build_after(file, config, loader, Reread::Only(plugins)).await
    }

    /// The plugins with `watch = true` whose component is one of these files.
    pub fn watching(&self, files: &[PathBuf]) -> BTreeSet<Arc<str>> {
        let is_watching = |plugin: &&config::Plugin| {
            let of = |path| files.contains(path);
            plugin.watch && matches!(&plugin.component, ComponentSource::Path(path) if of(path))
        };
        let plugins = self.config.plugins.values().filter(is_watching);
        plugins.map(|plugin| plugin.name.clone()).collect()
    }

    async fn build_after(
        file: &str,
        config: Config,
        loader: Loader<'_>,
        reread: Reread<'_>,
    ) -> Result<Self, Problems> {
        let previous = loader.previous;
        let mut problems = Problems::new(file);
        let stores = Stores::new(&config, previous.map(|old| (&old.config, &old.stores)));
        stores.report_waiting(&config, &mut problems);
        let custom_metrics = previous.map_or_else(Arc::default, |old| old.custom_metrics.clone());
        let lent = Lendable {
            stores: &stores,
            metrics: &custom_metrics,
        };
        let mut plugins = BTreeMap::new();
        let mut http_plugins = BTreeMap::new();
        let mut used = BTreeMap::new();
        // Workers that serve already get their instances made; others make them side by side, of which one is made
        // here on trial.
        let (workers, instances) = match previous {
            Some(old) => (old.workers, old.workers),
            None => (config.server.workers, 1),
        };
        for (component, plugin) in loader
            .load(&config, reread)
            .into_iter()
            .zip(config.plugins.values())
        {
            let code = match component {
                Ok(code) => code,
                Err(problem) => {
                    problems.add(*problem);
                    continue;
                }
            };
            let before = previous.and_then(|old| old.component_of(&plugin.name));
            // What a swap leaves as it is has been said before.
            if !before.is_some_and(|before| before.is(&code)) || matches!(reread, Reread::All) {
                about_grants(plugin, &code, before)
                    .into_iter()
                    .for_each(|problem| problems.add(problem));
            }
            let from = (plugin.component.clone(), code.clone());
            used.insert(plugin.name.clone(), from);
            let running = previous.filter(|old| old.unchanged(&config, plugin, &code, &stores));
            let name = plugin.name.clone();
            let loaded = match code {
                Code::Hooks(component) => {
                    let running = running.and_then(|old| old.plugins.get(&name));
                    let loaded = match (running, reread) {
                        (Some(running), Reread::Only(_)) => Ok(running.clone()),
                        (Some(running), Reread::All) => take_over(plugin, running),
                        (None, _) => load(plugin, component, instances, &lent).await,
                    };
                    loaded.map(|loaded| drop(plugins.insert(name, loaded)))
                }
                Code::WasiHttp(component) => {
                    let running = running.and_then(|old| old.http_plugins.get(&name));
                    let loaded = match running {
                        Some(running) => Ok(running.clone()),
                        None => wasi_http::load(plugin, component, &lent).await,
                    };
                    loaded.map(|loaded| drop(http_plugins.insert(name, loaded)))
                }
            };
            if let Err(found) = loaded {
                found.into_iter().for_each(|problem| problems.add(problem));
            }
        }
        wasi_http::check_routes(&config, &used, &mut problems);
        let upstreams = take_upstreams(&config, previous, &mut problems);
        let traces = take_traces(&config, previous, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        let router = Router::new(config.listeners.len(), &config.routes);
        let upgrades = (config.routes.iter())
            .map(|route| {
                let same = previous.and_then(|old| old.same_upgrade_limits(route));
                same.unwrap_or_else(|| Arc::new(UpgradeLimits::new(route.limits)))
            })
            .collect();
        let access_log = take_access_log(&config, previous);
        Ok(Self {
            config,
            router,
            plugins,
            http_plugins,
            upstreams,
            upgrades,
            stores,
            traces,
            access_log,
            custom_metrics,
            warnings: problems,
            components: used,
            workers,
        })
    }

    /// What is perhaps not meant as it stands, for people; empty as a rule.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// Whether both say the same of a table.
    fn agrees_on(&self, config: &Config, table: &str) -> bool {
        (self.config.contents).agree_on(&config.contents, Part::Table, table)
    }

    /// Whether nothing about a plugin is different in `config`.
    fn unchanged(
        &self,
        config: &Config,
        plugin: &config::Plugin,
        code: &Code,
        stores: &Stores,
    ) -> bool {
        let contents = &self.config.contents;
        let store = plugin.grant.keyvalue.as_ref();
        let running = self.components.get(&plugin.name);
        let old = self.config.plugins.get(&plugin.name);
        store.is_none_or(|grant| self.stores.agree_on(stores, grant.store()))
            && running.is_some_and(|(_, running)| running.is(code))
            && contents.agree_on(&config.contents, Part::Plugin, &plugin.name)
            // The file of a `ca` may hold something else by now.
            && old.is_some_and(|old| old.grant.http_client == plugin.grant.http_client)
    }

    fn unchanged_upstream(&self, config: &Config, name: &str) -> Option<Arc<Shared>> {
        let contents = &self.config.contents;
        let tls = |config: &Config| Some(config.upstreams.get(name)?.tls.clone());
        let same = contents.agree_on(&config.contents, Part::Upstream, name)
            // Its files may hold something else by now.
            && tls(&self.config) == tls(config);
        self.upstreams.get(name).filter(|_| same).cloned()
    }

    /// The limits of the route of that name, with what counts against them, if they are the same.
    fn same_upgrade_limits(&self, route: &config::Route) -> Option<Arc<UpgradeLimits>> {
        let mut routes = self.config.routes.iter().zip(&self.upgrades);
        let (_, upgrades) =
            routes.find(|(old, _)| old.name == route.name && old.limits == route.limits)?;
        Some(upgrades.clone())
    }

    /// What each plugin's component imports, beside what it is granted.
    pub fn imports(&self) -> Vec<PluginReport> {
        let plugins = self.config.plugins.values();
        let report = |plugin: &config::Plugin| {
            Some(imports::report(plugin, self.component_of(&plugin.name)?))
        };
        plugins.filter_map(report).collect()
    }

    /// The component that a plugin runs with.
    pub(crate) fn component_of(&self, plugin: &str) -> Option<&Code> {
        self.components.get(plugin).map(|(_, component)| component)
    }

    /// The components that were loaded from there: more than one, when a plugin was swapped and another was not.
    pub(crate) fn components_from(&self, source: &ComponentSource) -> impl Iterator<Item = &Code> {
        let components = self.components.values();
        components
            .filter(move |(other, _)| other == source)
            .map(|(_, component)| component)
    }

    /// What `next` changes, plugins with a new component file included.
    pub(crate) fn changes(&self, next: &Self) -> Vec<(Part, Arc<str>, Change)> {
        let mut changes = self.config.contents.changes(&next.config.contents);
        for (name, (_, code)) in &next.components {
            let listed = |(part, other, _): &(Part, Arc<str>, Change)| {
                *part == Part::Plugin && other == name
            };
            let running = self.components.get(name);
            if running.is_some_and(|(_, running)| !running.is(code)) && !changes.iter().any(listed)
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

/// Those that are exported already, where nothing about them is different.
fn take_traces(
    config: &Config,
    previous: Option<&Generation>,
    problems: &mut Problems,
) -> Option<Arc<Traces>> {
    let wanted = config.traces.as_ref()?;
    if let Some(old) = previous
        && let Some(running) = &old.traces
        && old.agrees_on(config, "telemetry")
        // Its file may hold something else by now.
        && old.config.traces.as_ref().is_some_and(|was| was.ca == wanted.ca)
    {
        return Some(running.clone());
    }
    match Traces::new(wanted.clone()) {
        Ok(traces) => Some(Arc::new(traces)),
        Err(why) => {
            let location = config.location.clone();
            problems.add(Problem::error(location, "telemetry.traces.endpoint", why));
            None
        }
    }
}

/// The one that is written already, where nothing about it is different.
fn take_access_log(config: &Config, previous: Option<&Generation>) -> Option<Arc<Sink>> {
    let wanted = config.access_log.as_ref()?;
    let running = previous.and_then(|old| old.access_log.as_ref());
    let same = running.filter(|_| previous.is_some_and(|old| old.agrees_on(config, "log")));
    Some(same.map_or_else(|| Arc::new(Sink::new(wanted.clone())), Arc::clone))
}

/// A plugin that goes on as it is. Its directories are opened anew: others may stand at their paths by now.
/// The upstreams of a configuration; of those that are the same, what the generation before has.
fn take_upstreams(
    config: &Config,
    previous: Option<&Generation>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Arc<Shared>> {
    let mut upstreams = BTreeMap::<Arc<str>, _>::new();
    for (name, upstream) in config.upstreams.iter() {
        let same = previous.and_then(|old| old.unchanged_upstream(config, name));
        let shared = match same {
            Some(same) => Ok(same),
            None => Shared::new(name.clone(), upstream.clone()).map(Arc::new),
        };
        match shared {
            Ok(shared) => drop(upstreams.insert(name.clone(), shared)),
            Err(why) => {
                let (location, key) = (upstream.location.clone(), format!("upstream.{name}"));
                let problem = Problem::error(location, key, format!("no TLS is possible: {why}"));
                problems.add(
                    problem.with_help("name the file of an authority: tls = { ca = \"ca.pem\" }"),
                );
            }
        }
    }
    upstreams
}

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
    lent: &Lendable<'_>,
) -> Result<Loaded, Vec<Problem>> {
    let mounts = mounts(plugin)?;
    let limits = Limits {
        deadline: plugin.limits.deadline,
        start: plugin.limits.start,
        memory: plugin.limits.memory,
        held_body: plugin.limits.held_body,
        message: plugin.limits.message,
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
            client: client(plugin, grant)?,
            origins: grant.origins.clone(),
            timeout: grant.timeout,
            body_size: grant.body_size,
            concurrency: grant.concurrency,
        });
    }
    let wasi = &plugin.grant.wasi;
    built = built.with_wasi(WasiGrant::new(
        wasi.environment.clone(),
        wasi.directories.clone(),
        wasi.config.clone(),
    ));
    let built = Arc::new(lent.lend(plugin, built));
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
        Err(error @ (StartError::Failed(_) | StartError::Grant(_))) => {
            let key = format!("plugin.{}", plugin.name);
            Err(vec![Problem::error(
                plugin.location.clone(),
                key,
                error.to_string(),
            )])
        }
    }
}

/// What sends a plugin's requests.
fn client(
    plugin: &config::Plugin,
    grant: &HttpClientGrant,
) -> Result<Arc<outbound::Client>, Vec<Problem>> {
    let new = outbound::Client::new(grant);
    new.map(Arc::new).map_err(|why| {
        let key = format!("plugin.{}.grant.http-client", plugin.name);
        let help = "install the system's certificates, or name a file of some: ca = \"ca.pem\"";
        vec![Problem::error(plugin.location.clone(), key, why).with_help(help)]
    })
}

/// What does not fit between a component and its plugin's grants, or is new about it.
fn about_grants(plugin: &config::Plugin, code: &Code, before: Option<&Code>) -> Vec<Problem> {
    let more = before.and_then(|before| imports::wants_more(plugin, before, code));
    let missing = grants::missing(plugin, code);
    let unneeded = imports::unneeded(plugin, code);
    missing.into_iter().chain(unneeded).chain(more).collect()
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
