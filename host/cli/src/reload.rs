//! A new configuration without a restart: on SIGHUP, when a secret is replaced, and with `--watch` on every edit.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use witgate_proxy::config::{
    Change, CodeCache, Config, Contents, Location, Part, Problem, Problems,
};
use witgate_proxy::{Generation, Reload, Reloaded};
use witgate_runtime::Runtime;

use crate::Ended;
use crate::args::Run;
use crate::load::{self, BUILTINS, Files, Loaded};
use crate::run;
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
    pub(crate) watched: Watched,
    pub(crate) started_with: Fixed,
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
            false => secrets.cloned().collect(),
        }
    }

    /// A configuration was read from these, and those that could not be read for their errors may still matter.
    fn read(&mut self, mut files: Files, failed: bool) {
        if failed {
            files.secrets.append(&mut self.files.secrets);
            files.components.append(&mut self.files.components);
        }
        self.files = files;
        self.watch.set_files(self.paths());
    }
}

/// What the process is started with, and no reload changes.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    contents: Contents,
    admin: Option<SocketAddr>,
    workers: usize,
    code_cache: CodeCache,
}

impl Fixed {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            contents: config.contents.clone(),
            admin: config.admin.as_ref().map(|admin| admin.bind),
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
    fixed: Fixed,
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
            let cause = tokio::select! {
                _ = self.hangups.recv() => "SIGHUP".to_owned(),
                changed = self.watched.watch.changed() => {
                    let names: Vec<_> = changed.iter().map(|file| file.display().to_string()).collect();
                    format!("{} changed", shortened(&names))
                }
            };
            self.reload(&cause).await;
        }
    }

    async fn reload(&mut self, cause: &str) {
        let started = Instant::now();
        self.watched.watch.about_to_read();
        let attempt = self.attempt().await;
        self.watched.read(attempt.files, attempt.outcome.is_err());
        let done = match attempt.outcome {
            Ok(built) => self.take(built).await,
            Err(problems) => Err(problems),
        };
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match done {
            Ok(reloaded) => tell(&reloaded, cause, took_ms),
            Err(mut problems) => {
                problems.set_outcome("the configuration that runs stays as it is");
                let count = problems.len();
                let report = problems.render(false);
                tracing::warn!(
                    cause,
                    problems = count,
                    took_ms,
                    "reload failed, nothing has changed\n{report}"
                );
            }
        }
    }

    /// Reads and builds on a thread of its own: compiling takes seconds, and signals are heard meanwhile.
    async fn attempt(&self) -> Attempt {
        let (path, runtime) = (self.watched.path.clone(), self.runtime.clone());
        let running = self.server.generations().await.borrow().clone();
        let (done, outcome) = oneshot::channel();
        let main_loop = Handle::current();
        let build = move || {
            let attempt = main_loop.block_on(attempt(&path, &runtime, &running));
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

    /// Has the server take it.
    async fn take(&self, built: Built) -> Result<Reloaded, Problems> {
        let file = self.watched.path.display().to_string();
        let reloaded = self
            .server
            .to(built.generation)
            .await
            .map_err(|error| run::problems(&file, &error))?;
        if !built.warnings.is_empty() {
            let report = built.warnings.render(false);
            tracing::warn!("the new configuration has warnings\n{report}");
        }
        let waiting = self.started_with.waiting(&built.fixed);
        if !waiting.is_empty() {
            let what = waiting.join(", ");
            tracing::warn!(
                what,
                "some of the new configuration waits for a restart of witgate; the rest is in effect"
            );
        }
        Ok(reloaded)
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
            fixed,
        })
    };
    let outcome = outcome.await;
    Attempt { files, outcome }
}

fn tell(reloaded: &Reloaded, cause: &str, took_ms: u64) {
    for listener in &reloaded.opened {
        tracing::info!(listener = &*listener.name, address = %listener.address, "listening");
    }
    for listener in &reloaded.closed {
        tracing::info!(listener = &*listener.name, address = %listener.address, "no longer listening");
    }
    tracing::info!(
        generation = reloaded.number,
        cause,
        took_ms,
        changes = changes(&reloaded.changes),
        older_generations = reloaded.older,
        "reloaded"
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
