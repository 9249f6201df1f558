//! Loads the components of a configuration's plugins: each file once, several at a time, and never what runs already.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, available_parallelism};

use witgate_runtime::wasi_http::{HttpComponent, is_wasi_http};
use witgate_runtime::{Component, LoadError, Runtime, digest_of};

use crate::config::{self, ComponentSource, Config, Problem};
use crate::generation::{Builtins, Generation};

/// Whose component files are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reread<'a> {
    /// Those of all plugins.
    All,
    /// Those of these plugins; the others keep what they run with, whatever their files say by now.
    Only(&'a BTreeSet<Arc<str>>),
}

/// Where components come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loader<'a> {
    pub(crate) previous: Option<&'a Generation>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) builtins: Builtins,
}

/// A compiled component, by what it exports.
#[derive(Debug, Clone)]
pub(crate) enum Code {
    Hooks(Arc<Component>),
    WasiHttp(Arc<HttpComponent>),
}

impl Code {
    fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        match is_wasi_http(bytes) {
            true => HttpComponent::load(runtime, bytes).map(|it| Self::WasiHttp(Arc::new(it))),
            false => Component::load(runtime, bytes).map(|it| Self::Hooks(Arc::new(it))),
        }
    }

    pub(crate) fn digest(&self) -> &[u8; 32] {
        match self {
            Self::Hooks(component) => component.digest(),
            Self::WasiHttp(component) => component.digest(),
        }
    }

    /// The interfaces that it imports, with their versions.
    pub(crate) fn imports(&self) -> &[String] {
        match self {
            Self::Hooks(component) => component.imports(),
            Self::WasiHttp(component) => component.imports(),
        }
    }

    /// Whether both are one, loaded once.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hooks(this), Self::Hooks(other)) => Arc::ptr_eq(this, other),
            (Self::WasiHttp(this), Self::WasiHttp(other)) => Arc::ptr_eq(this, other),
            (Self::Hooks(_), Self::WasiHttp(_)) | (Self::WasiHttp(_), Self::Hooks(_)) => false,
        }
    }
}

/// A component to be loaded. Plugins that want the same share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted<'a> {
    source: &'a ComponentSource,
    digest: Option<&'a [u8; 32]>,
}

/// Why a component cannot be used, whichever plugin it is for.
#[derive(Debug, Clone)]
enum Unusable {
    NoSuchBuiltin,
    Unreadable(String),
    OtherDigest([u8; 32]),
    Unfit(Arc<LoadError>),
    Panicked,
}

impl Loader<'_> {
    /// The components of all plugins, in their order.
    pub(crate) fn load(
        &self,
        config: &Config,
        reread: Reread<'_>,
    ) -> Vec<Result<Code, Box<Problem>>> {
        let kept = |plugin: &config::Plugin| match reread {
            Reread::Only(these) if !these.contains(&plugin.name) => {
                self.previous?.component_of(&plugin.name).cloned()
            }
            _ => None,
        };
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        for plugin in config.plugins.values() {
            let want = Wanted::by(plugin);
            if kept(plugin).is_none() && !wanted.contains(&want) {
                wanted.push(want);
            }
        }
        let loaded = in_parallel(&wanted, |wanted| self.component(wanted));
        let of = |plugin: &config::Plugin| {
            if let Some(kept) = kept(plugin) {
                return Ok(kept);
            }
            let want = Wanted::by(plugin);
            let at = wanted.iter().position(|wanted| *wanted == want);
            loaded[at.expect("collected above")]
                .clone()
                .unwrap_or(Err(Unusable::Panicked))
                .map_err(|unusable| Box::new(unusable.problem(plugin, self.builtins)))
        };
        config.plugins.values().map(of).collect()
    }

    fn component(&self, wanted: &Wanted<'_>) -> Result<Code, Unusable> {
        let load = |bytes: &[u8]| {
            Code::load(self.runtime, bytes).map_err(|e| Unusable::Unfit(Arc::new(e)))
        };
        let previous = self.previous.into_iter();
        let mut running = previous.flat_map(|old| old.components_from(wanted.source));
        match wanted.source {
            ComponentSource::Builtin(name) => match running.next() {
                Some(running) => Ok(running.clone()),
                None => load((self.builtins.find)(name).ok_or(Unusable::NoSuchBuiltin)?),
            },
            ComponentSource::Path(path) => {
                let bytes = read(path)?;
                let found = digest_of(&bytes);
                // Before it is compiled: what is not the file that was meant is not even looked at.
                if wanted.digest.is_some_and(|wanted| *wanted != found) {
                    return Err(Unusable::OtherDigest(found));
                }
                match running.find(|running| *running.digest() == found) {
                    Some(running) => Ok(running.clone()),
                    None => load(&bytes),
                }
            }
        }
    }
}

impl<'a> Wanted<'a> {
    fn by(plugin: &'a config::Plugin) -> Self {
        Self {
            source: &plugin.component,
            digest: plugin.pin.as_ref().map(|pin| &pin.digest),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(path).map_err(|e| Unusable::Unreadable(format!("{}: {e}", path.display())))
}

/// Does the work on as many threads as there are cores. `None` stands for work that panicked.
fn in_parallel<T: Sync, R: Send + Sync>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let done: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let take = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((item, done)) = items.get(at).zip(done.get(at)) else {
                return;
            };
            // What a panic leaves behind is thrown away with the item.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(item))) {
                done.get_or_init(|| result);
            }
        }
    };
    let cores = available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 1..cores.min(items.len()) {
            scope.spawn(take);
        }
        take();
    });
    done.into_iter().map(OnceLock::into_inner).collect()
}

impl Unusable {
    fn problem(&self, plugin: &config::Plugin, builtins: Builtins) -> Problem {
        let key = format!("plugin.{}.component", plugin.name);
        let error = |message: String| Problem::error(plugin.location.clone(), key.clone(), message);
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
            Self::OtherDigest(found) => {
                let place = plugin
                    .pin
                    .as_ref()
                    .map_or(&plugin.location, |pin| &pin.location);
                let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
                let message = "the component's file is not the one that is pinned here";
                Problem::error(place.clone(), format!("{key}.sha256"), message).with_help(format!(
                    "put the pinned file back, or pin the one that is there: sha256 = \"{found}\""
                ))
            }
            Self::Unfit(why) => error(why.to_string()),
            Self::Panicked => error(
                "the component makes the compiler fail; please report it with the file".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_in_parallel_in_order_and_a_panic_costs_one_item() {
        let items: Vec<u32> = (0..50).collect();
        let results = in_parallel(&items, |&item| {
            assert_ne!(item, 7, "on purpose");
            item * 2
        });
        let expected: Vec<_> = items.iter().map(|&i| (i != 7).then_some(i * 2)).collect();
        assert_eq!(results, expected);
        assert_eq!(in_parallel(&[0; 0], |_| ()), []);
    }
}
