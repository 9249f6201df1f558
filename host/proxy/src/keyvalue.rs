//! The stores that plugins may be granted: in memory, in a file, in Redis or Valkey.
//!
//! A store is made with a configuration and opened when that is to be served, so that `witgate check` touches neither file
//! nor network. It goes on from one configuration to the next as long as its table stays the same; one in a file as long
//! as its path does.

mod file;
mod redis;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use witgate_runtime::{Clock, KeyValue, MemoryStore};

use self::file::FileStore;
use self::redis::RedisStore;
use crate::config::{Config, KeyValueKind, Location, Part, Problem, Problems};

/// The stores of a configuration, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stores(BTreeMap<Arc<str>, Stored>);

#[derive(Debug, Clone)]
struct Stored {
    store: Store,
    location: Location,
}

#[derive(Debug, Clone)]
enum Store {
    Memory(Arc<MemoryStore>),
    File(Arc<FileStore>),
    Redis(Arc<RedisStore>),
}

/// Why a store cannot be opened.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) name: Arc<str>,
    pub(crate) location: Location,
    pub(crate) reason: String,
}

impl Stores {
    /// Makes the stores of a configuration, or takes them over from the one before.
    pub(crate) fn new(config: &Config, previous: Option<(&Config, &Self)>) -> Self {
        let store = |(name, wanted): (&Arc<str>, &crate::config::KeyValueStore)| {
            let running = previous.and_then(|(old, stores)| {
                let same = old.contents.agree_on(&config.contents, Part::Store, name);
                let trusts = old.stores.get(name)?.kind.ca() == wanted.kind.ca();
                let stored = stores.0.get(name).filter(|_| same && trusts)?;
                Some(stored.store.clone())
            });
            let made = || match &wanted.kind {
                KeyValueKind::Memory { size } => {
                    Store::Memory(Arc::new(MemoryStore::new(*size, Clock::default())))
                }
                KeyValueKind::File { path, size } => {
                    let running = previous.and_then(|(_, stores)| stores.on_file(path));
                    let new = || Arc::new(FileStore::new(path.clone(), *size));
                    Store::File(running.unwrap_or_else(new))
                }
                KeyValueKind::Redis(settings) => Store::Redis(Arc::new(RedisStore::new(
                    name.clone(),
                    (**settings).clone(),
                ))),
            };
            let stored = Stored {
                store: running.unwrap_or_else(made),
                location: wanted.location.clone(),
            };
            (name.clone(), stored)
        };
        Self(config.stores.iter().map(store).collect())
    }

    /// The store that is granted under this name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn KeyValue>> {
        Some(match &self.0.get(name)?.store {
            Store::Memory(store) => store.clone(),
            Store::File(store) => store.clone(),
            Store::Redis(store) => store.clone(),
        })
    }

    /// Whether both have the same store under this name.
    pub(crate) fn agree_on(&self, other: &Self, name: &str) -> bool {
        match (self.0.get(name), other.0.get(name)) {
            (Some(one), Some(other)) => one.store.is(&other.store),
            (None, None) => true,
            _ => false,
        }
    }

    /// Opens those that are not open. Reads files, and so takes its time; waits for no network.
    pub(crate) fn open(&self) -> Result<(), Unopened> {
        for (name, stored) in &self.0 {
            let opened = match &stored.store {
                Store::Memory(_) => Ok(()),
                Store::File(store) => store.open(),
                Store::Redis(store) => store.open(),
            };
            opened.map_err(|reason| Unopened {
                name: name.clone(),
                location: stored.location.clone(),
                reason,
            })?;
        }
        Ok(())
    }

    /// Writes down what is not yet. Blocks.
    pub(crate) fn flush(&self) {
        for stored in self.0.values() {
            if let Store::File(store) = &stored.store {
                store.flush();
            }
        }
    }

    /// Reports files whose size is another in this configuration than they were opened with.
    pub(crate) fn report_waiting(&self, config: &Config, problems: &mut Problems) {
        for (name, wanted) in &config.stores {
            let stored = self.0.get(name).map(|stored| &stored.store);
            if let (KeyValueKind::File { size, .. }, Some(Store::File(store))) =
                (&wanted.kind, stored)
                && store.size() != *size
            {
                let message = "the size of a store in a file that is open waits for a restart";
                let key = format!("keyvalue.{name}.size");
                problems.add(Problem::warning(wanted.location.clone(), key, message));
            }
        }
    }

    fn on_file(&self, path: &Path) -> Option<Arc<FileStore>> {
        self.0.values().find_map(|stored| match &stored.store {
            Store::File(store) if store.path() == path => Some(store.clone()),
            _ => None,
        })
    }
}

impl Store {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(one), Self::Memory(other)) => Arc::ptr_eq(one, other),
            (Self::File(one), Self::File(other)) => Arc::ptr_eq(one, other),
            (Self::Redis(one), Self::Redis(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
