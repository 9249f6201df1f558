//! A new configuration without a restart: on SIGHUP, when a secret is replaced, and with `--watch` on every edit. A new
//! component alone, where a plugin says `watch = true`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use witgate_proxy::config::{
    Bind, Change, CodeCache, Config, Contents, Location, Part, Problem, Problems,
};
use witgate_proxy::{Generation, Reload, ReloadReport, Reloaded, Status};
use witgate_runtime::Runtime;

use crate::Ended;
use crate::args::Run;
use crate::load::{self, BUILTINS, Files, Loaded};
use crate::operator::AskedReload;
use crate::run;
use crate::service;
use crate::watch::Watch;

/// Names in one log line, for each kind of change.
const MOST_NAMES: usize = 8;

/// Takes SIGHUP from now on, which would end the process otherwise.
pub(crate) fn hangups() -> Result<Signal, Ended> {
    signal(SignalKind::hangup())
        .map_err(|error| Ended::because(format!("signals cannot be received: {error}")))
}

/// What is needed to serve another configuration.
pub(crate) struct Reloads {
    pub(crate) runtime: Runtime,
    pub(crate) server: Reload,
    pub(crate) hangups: Signal,
    /// By an operator, through the admin listener.
    pub(crate) asked: mpsc::Receiver<AskedReload>,
    pub(crate) watched: Watched,
    pub(crate) started_with: Fixed,
    /// Shows what the last reload came to.
    pub(crate) status: Arc<Status>,
    /// What is shown is a swap that failed.
    pub(crate) shows_failed_swap: bool,
}

/// The files that are watched.
pub(crate) struct Watched {
    /// The configuration.
    path: PathBuf,
    /// `--watch`: all of them, not only secrets.
    all: bool,
    files: Files,
    watch: Watch,
}

impl Watched {
    /// From how they are now.
    pub(crate) fn new(args: &Run, files: Files) -> Self {
        let mut watched = Self {
            path: args.config.clone(),
            all: args.watch,
            files,
            watch: Watch::new([]),
        };
        watched.watch.set_files(watched.paths());
        watched
    }

    fn paths(&self) -> Vec<PathBuf> {
        let secrets = self.files.secrets.iter();
        let others = self.files.components.iter().chain([&self.path]);
        match self.all {
            true => secrets.chain(others).cloned().collect(),
            false => secrets.chain(&self.files.watched).cloned().collect(),
        }
    }

    /// A configuration was read from these, and those that could not be read for their errors may still matter.
    fn read(&mut self, mut files: Files, failed: bool) {
        if failed {
            files.secrets.append(&mut self.files.secrets);
            files.components.append(&mut self.files.components);
            files.watched.append(&mut self.files.watched);
        }
        self.files = files;
        self.watch.set_files(self.paths());
    }
}

/// What the process is started with, and no reload changes.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    contents: Contents,
    admin: Option<Bind>,
    workers: usize,
    code_cache: CodeCache,
}

impl Fixed {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            contents: config.contents.clone(),
            admin: config.admin.as_ref().map(|admin| admin.bind.clone()),
            workers: config.server.workers,
            code_cache: config.server.code_cache.clone(),
        }
    }

    /// What is different in `next` and waits for a restart.
    fn waiting(&self, next: &Self) -> Vec<&'static str> {
        let same_table = |name| self.contents.agree_on(&next.contents, Part::Table, name);
        let parts = [
            ("[chrome]", same_table("chrome")),
            ("admin.bind", self.admin == next.admin),
            ("server.workers", self.workers == next.workers),
            ("server.code-cache", self.code_cache == next.code_cache),
        ];
        let different = parts.into_iter().filter(|(_, same)| !same);
        different.map(|(name, _)| name).collect()
    }
}

/// A generation that is built but does not serve yet.
struct Built {
    generation: Generation,
    warnings: Problems,
    /// Of a configuration that was read anew.
    fixed: Option<Fixed>,
}

/// What the next generation is made of.
#[derive(Debug, Clone)]
enum Next {
    /// The configuration as it is on disk now.
    Configuration(PathBuf),
    /// The one that serves, with the components of these plugins as they are on disk now.
    Components(BTreeSet<Arc<str>>),
}

/// A generation that serves.
struct Taken {
    reloaded: Reloaded,
    warnings: Problems,
    /// Keys that wait for a restart.
    waiting: Vec<&'static str>,
}

impl Taken {
    fn report(&self, cause: &str, started: Instant) -> ReloadReport {
        let took = started.elapsed();
        ReloadReport::done(cause, took, &self.reloaded, &self.warnings, &self.waiting)
    }
}

/// What reading a configuration came to.
struct Attempt {
    /// The files that it names, as far as it could be read.
    files: Files,
    outcome: Result<Built, Problems>,
}

impl Reloads {
    /// Reloads whenever there is a reason to. Dropping the future ends that; a reload under way then still goes
    /// through, or not, on all workers alike.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                _ = self.hangups.recv() => drop(self.reload("SIGHUP").await),
                Some(asked) = self.asked.recv() => {
                    let report = self.reload("POST /reload").await;
                    if asked.send(report).is_err() {
                        tracing::debug!("who asked for the reload has gone");
                    }
                }
                changed = self.watched.watch.changed() => self.take_up(&changed).await,
            }
        }
    }

    /// Files have changed: components that are watched for themselves are swapped, everything else is a reload.
    async fn take_up(&mut self, changed: &[PathBuf]) {
        let names: Vec<_> = changed
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let cause = format!("{} changed", shortened(&names));
        let running = self.server.generations().await.borrow().clone();
        let plugins = running.watching(changed);
        // So that it does not count as one that still serves.
        drop(running);
        let only_components = changed
            .iter()
            .all(|file| self.watched.files.watched.contains(file));
        if only_components && !plugins.is_empty() {
            self.swap(&cause, changed, plugins).await;
        } else {
            self.reload(&cause).await;
        }
    }

    async fn reload(&mut self, cause: &str) -> Arc<ReloadReport> {
        let started = Instant::now();
        service::reloading();
        self.watched.watch.about_to_read();
        let next = Next::Configuration(self.watched.path.clone());
        let attempt = self.attempt(next).await;
        self.watched.read(attempt.files, attempt.outcome.is_err());
        let done = match attempt.outcome {
            Ok(built) => self.take(built, "configuration").await,
            Err(problems) => Err(problems),
        };
        let report = match done {
            Ok(taken) => {
                tell("reloaded", &taken.reloaded, cause, started);
                service::reloaded(&format!("serving generation {}", taken.reloaded.number));
                taken.report(cause, started)
            }
            Err(problems) => {
                service::reloaded("the last reload failed: what runs stays as it is");
                tell_problems("reload", "configuration", problems, cause, started)
            }
        };
        let report = Arc::new(report);
        self.shows_failed_swap = false;
        self.status.note_reload(report.clone());
        report
    }

    async fn swap(&mut self, cause: &str, changed: &[PathBuf], plugins: BTreeSet<Arc<str>>) {
        let started = Instant::now();
        self.watched.watch.about_to_read_only(changed);
        let attempt = self.attempt(Next::Components(plugins)).await;
        let done = match attempt.outcome {
            Ok(built) => self.take(built, "component").await,
            Err(problems) => Err(problems),
        };
        let failed = done.is_err();
        let report = match done {
            Ok(taken) => {
                tell("plugin swapped", &taken.reloaded, cause, started);
                taken.report(cause, started)
            }
            Err(problems) => tell_problems("plugin swap", "component", problems, cause, started),
        };
        // A swap that went well mends no configuration: what is wrong with that is still shown.
        if failed || self.shows_failed_swap {
            self.status.note_reload(Arc::new(report));
            self.shows_failed_swap = failed;
        }
    }

    /// Reads and builds on a thread of its own: compiling takes seconds, and signals are heard meanwhile.
    async fn attempt(&self, next: Next) -> Attempt {
        let (path, runtime) = (self.watched.path.clone(), self.runtime.clone());
        let running = self.server.generations().await.borrow().clone();
        let (done, outcome) = oneshot::channel();
        let main_loop = Handle::current();
        let build = move || {
            let attempt = main_loop.block_on(async {
                match next {
                    Next::Configuration(path) => attempt(&path, &runtime, &running).await,
                    Next::Components(plugins) => swap(&path, &plugins, &runtime, &running).await,
                }
            });
            // So that it does not count as one that still serves.
            drop(running);
            if done.send(attempt).is_err() {
                tracing::debug!("the reload was given up");
            }
        };
        let spawned = std::thread::Builder::new()
            .name("reload".into())
            .spawn(build);
        let failed = |why: String| Attempt {
            files: Files::default(),
            outcome: Err(self.problem(format!("the next generation could not be built: {why}"))),
        };
        match spawned {
            Ok(_) => outcome
                .await
                .unwrap_or_else(|_| failed("building it panicked; please report it".into())),
            Err(error) => failed(format!("no thread for it: {error}")),
        }
    }

    /// Has the server take it. `what` is new about it.
    async fn take(&self, built: Built, what: &str) -> Result<Taken, Problems> {
        let file = self.watched.path.display().to_string();
        let reloaded = self
            .server
            .to(built.generation)
            .await
            .map_err(|error| run::problems(&file, &error))?;
        if !built.warnings.is_empty() {
            let report = built.warnings.render(false);
            tracing::warn!("the new {what} has warnings\n{report}");
        }
        let fixed = built.fixed.iter();
        let waiting: Vec<_> = fixed
            .flat_map(|next| self.started_with.waiting(next))
            .collect();
        if !waiting.is_empty() {
            let what = waiting.join(", ");
            tracing::warn!(
                what,
                "some of the new configuration waits for a restart of witgate; the rest is in effect"
            );
        }
        Ok(Taken {
            reloaded,
            warnings: built.warnings,
            waiting,
        })
    }

    fn problem(&self, message: String) -> Problems {
        let file = self.watched.path.display().to_string();
        let mut problems = Problems::new(&file);
        problems.add(Problem::error(Location::of_file(file), "", message));
        problems
    }
}

async fn attempt(path: &Path, runtime: &Runtime, running: &Arc<Generation>) -> Attempt {
    let mut files = Files::default();
    let outcome = async {
        let (loaded, mut warnings) = load::try_read(path, &mut files)?;
        let Loaded { file, config, .. } = loaded;
        let fixed = Fixed::of(&config);
        let generation = running.build_next(&file, config, runtime, BUILTINS).await?;
        warnings.append(generation.warnings().clone());
        Ok(Built {
            generation,
            warnings,
            fixed: Some(fixed),
        })
    };
    let outcome = outcome.await;
    Attempt { files, outcome }
}

async fn swap(
    path: &Path,
    plugins: &BTreeSet<Arc<str>>,
    runtime: &Runtime,
    running: &Generation,
) -> Attempt {
    let file = path.display().to_string();
    let swapped = running.build_swap(&file, plugins, runtime, BUILTINS).await;
    Attempt {
        files: Files::default(),
        outcome: swapped.map(|generation| Built {
            warnings: generation.warnings().clone(),
            generation,
            fixed: None,
        }),
    }
}

fn took_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `what` (a reload, a plugin swap) came to nothing because of what is wrong with the new `part`.
fn tell_problems(
    what: &str,
    part: &str,
    mut problems: Problems,
    cause: &str,
    started: Instant,
) -> ReloadReport {
    problems.set_outcome(format!("the {part} that runs stays as it is"));
    let report = problems.render(false);
    tracing::warn!(
        cause,
        problems = problems.len(),
        took_ms = took_ms(started),
        "{what} failed, nothing has changed\n{report}"
    );
    ReloadReport::failed(cause, started.elapsed(), &problems)
}

fn tell(what: &str, reloaded: &Reloaded, cause: &str, started: Instant) {
    for listener in &reloaded.opened {
        tracing::info!(listener = &*listener.name, address = %listener.address, "listening");
    }
    for listener in &reloaded.closed {
        tracing::info!(listener = &*listener.name, address = %listener.address, "no longer listening");
    }
    tracing::info!(
        generation = reloaded.number,
        cause,
        took_ms = took_ms(started),
        changes = changes(&reloaded.changes),
        older_generations = reloaded.older,
        "{what}"
    );
}

/// `listener added: a, b; plugin changed: token`
fn changes(changes: &[(Part, Arc<str>, Change)]) -> String {
    let mut groups: Vec<(Part, Change, Vec<String>)> = Vec::new();
    for (part, name, change) in changes {
        match groups.iter_mut().find(|(p, c, _)| (p, c) == (part, change)) {
            Some((_, _, names)) => names.push(name.to_string()),
            None => groups.push((*part, *change, vec![name.to_string()])),
        }
    }
    groups.sort_by_key(|(part, change, _)| (*part, *change));
    let groups: Vec<_> = groups
        .iter()
        .map(|(part, change, names)| {
            let change = match change {
                Change::Added => "added",
                Change::Changed => "changed",
                Change::Removed => "removed",
            };
            format!("{part} {change}: {}", shortened(names))
        })
        .collect();
    match groups.is_empty() {
        true => "none".into(),
        false => groups.join("; "),
    }
}

fn shortened(names: &[String]) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown = names[..names.len() - more].join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_grouped_and_long_lists_cut() {
        let many = (0..10).map(|n| (Part::Route, format!("r{n}").into(), Change::Added));
        let mut list = vec![
            (Part::Plugin, "token".into(), Change::Changed),
            (Part::Plugin, "old".into(), Change::Removed),
            (Part::Plugin, "host".into(), Change::Changed),
        ];
        list.extend(many);
        assert_eq!(
            changes(&list),
            "route added: r0, r1, r2, r3, r4, r5, r6, r7 and 2 more; \
             plugin changed: token, host; plugin removed: old"
        );
        assert_eq!(changes(&[]), "none");
    }
}
