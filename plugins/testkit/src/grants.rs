//! What a test lends a plugin: stores, metrics, secrets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use witgate_runtime::{
    Answer, Clock, CustomMetrics, KeyValue, KeyValueError, KeyValueGrant, MemoryStore,
    MetricsGrant, Secrets,
};

use crate::PLUGIN_NAME;

/// A store that a test lends to plugins and looks into: the one in memory that operators get, with a clock that stands
/// still until [`Plugin::advance`](crate::Plugin::advance) moves it. Several plugins may be started with one; their keys
/// are then the same, as if they were granted as `shared`.
#[derive(Debug, Clone)]
pub struct Store {
    store: Arc<dyn KeyValue>,
    pub(crate) clock: Clock,
}

/// What stands before each key.
const NAMESPACE: &str = "plugin:under-test:";

/// As an operator's grant has by default.
const VALUE_SIZE: usize = 64 << 10;

impl Store {
    /// An empty store of 64 MiB.
    pub fn new() -> Self {
        let clock = Clock::standing();
        let store = Arc::new(MemoryStore::new(64 << 20, clock.clone()));
        Self { store, clock }
    }

    /// A store whose every call fails as one does that cannot be reached.
    pub fn unavailable() -> Self {
        Self {
            store: Arc::new(Unavailable),
            clock: Clock::standing(),
        }
    }

    /// What the plugin finds under a key.
    ///
    /// # Panics
    ///
    /// When the store is [unavailable](Self::unavailable), as the others here.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        at_once(self.store.get(&named(key))).map(Vec::from)
    }

    /// Sets a key of the plugin's.
    pub fn set(&self, key: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        at_once(self.store.set(&named(key), value.into(), None));
    }

    pub(crate) fn grant(&self) -> KeyValueGrant {
        KeyValueGrant {
            store: self.store.clone(),
            name: "default".into(),
            namespace: NAMESPACE.into(),
            value_size: VALUE_SIZE,
            read_only: false,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

fn named(key: &str) -> String {
    format!("{NAMESPACE}{key}")
}

fn at_once<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Now(answer) => answer.unwrap_or_else(|error| panic!("{error}")),
        Answer::Later(_) => unreachable!("no store of the kit waits"),
    }
}

/// Everything that a component may be lent by a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    pub(crate) store: Option<Store>,
    pub(crate) metrics: Option<Arc<CustomMetrics>>,
    /// Series.
    pub(crate) series: usize,
    pub(crate) secrets: Secrets,
    /// `None`: the usual bytes.
    pub(crate) random: Option<Vec<u8>>,
}

impl Grants {
    pub(crate) fn clock(&self) -> Clock {
        let lent = self.store.as_ref();
        lent.map_or_else(Clock::standing, |store| store.clock.clone())
    }

    pub(crate) fn lend(&self, mut plugin: witgate_runtime::Plugin) -> witgate_runtime::Plugin {
        if let Some(store) = &self.store {
            plugin = plugin.with_keyvalue(store.grant());
        }
        if let Some(metrics) = &self.metrics {
            plugin = plugin.with_metrics(MetricsGrant {
                metrics: metrics.clone(),
                plugin: PLUGIN_NAME.into(),
                series: self.series,
            });
        }
        plugin = match &self.random {
            Some(bytes) => plugin.with_fixed_random(bytes),
            // As many as a prime number: draws of the usual lengths do not come to the same place soon.
            None => plugin.with_fixed_random(&(1..=251).collect::<Vec<u8>>()),
        };
        plugin.with_secrets(self.secrets.clone())
    }
}

struct Unavailable;

impl fmt::Debug for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unavailable")
    }
}

impl Unavailable {
    fn answer<T>() -> Answer<T> {
        let why = "the test says so".to_owned();
        Answer::Now(Err(KeyValueError::Unavailable(why)))
    }
}

impl KeyValue for Unavailable {
    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn get(&self, _: &str) -> Answer<Option<Bytes>> {
        Self::answer()
    }

    fn set(&self, _: &str, _: Bytes, _: Option<Duration>) -> Answer<()> {
        Self::answer()
    }

    fn delete(&self, _: &str) -> Answer<bool> {
        Self::answer()
    }

    fn increment(&self, _: &str, _: i64, _: Option<Duration>) -> Answer<i64> {
        Self::answer()
    }

    fn compare_and_set(
        &self,
        _: &str,
        _: Option<Bytes>,
        _: Bytes,
        _: Option<Duration>,
    ) -> Answer<bool> {
        Self::answer()
    }
}
