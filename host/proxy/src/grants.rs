//! What a plugin is lent beside its component: stores, metrics, secrets.

use std::sync::Arc;

use witgate_runtime::{Component, CustomMetrics, KeyValueGrant, MetricsGrant, Plugin};

use crate::components::Code;
use crate::config::{self, Problem};
use crate::keyvalue::Stores;

/// What plugins are lent that outlives them.
pub(crate) struct Lendable<'g> {
    pub(crate) stores: &'g Stores,
    pub(crate) metrics: &'g Arc<CustomMetrics>,
}

impl Lendable<'_> {
    /// The store that a plugin is granted, and which keys there are its own.
    pub(crate) fn store(&self, plugin: &config::Plugin) -> Option<KeyValueGrant> {
        let keyvalue = plugin.grant.keyvalue.as_ref()?;
        let namespace = match &keyvalue.shared {
            Some(name) => format!("shared:{name}:"),
            None => format!("plugin:{}:", plugin.name),
        };
        Some(KeyValueGrant {
            store: self.stores.get(keyvalue.store())?,
            name: keyvalue.store().into(),
            namespace: namespace.into(),
            value_size: keyvalue.value_size,
            read_only: keyvalue.read_only,
        })
    }

    /// All that a plugin with hooks is lent.
    pub(crate) fn lend(&self, plugin: &config::Plugin, mut built: Plugin) -> Plugin {
        let grant = &plugin.grant;
        if let Some(store) = self.store(plugin) {
            built = built.with_keyvalue(store);
        }
        if let Some(metrics) = &grant.metrics {
            built = built.with_metrics(MetricsGrant {
                metrics: self.metrics.clone(),
                plugin: plugin.name.clone(),
                series: metrics.series,
            });
        }
        let secrets = grant.secrets.iter();
        built.with_secrets(
            secrets
                .map(|(name, secret)| (&**name, secret.reveal()))
                .collect(),
        )
    }
}

/// What a component would use and the plugin was not granted: it works, perhaps, and not as meant.
pub(crate) fn missing(plugin: &config::Plugin, code: &Code) -> Vec<Problem> {
    match code {
        Code::Hooks(component) => missing_at_hooks(plugin, component),
        // All else its toolchain adds to those that never use it.
        Code::WasiHttp(component) => {
            let problem = missing_store(plugin, component.uses_stores());
            problem.into_iter().collect()
        }
    }
}

fn missing_at_hooks(plugin: &config::Plugin, component: &Component) -> Vec<Problem> {
    let grant = &plugin.grant;
    let requests = problem(
        plugin,
        component.sends_requests() && grant.http_client.is_none(),
        "the component sends requests of its own, and the plugin has no grant for any",
        "name the origins it may reach: grant.http-client = { origins = [\"http://127.0.0.1:8080\"] }, or [] for none",
    );
    let metrics = problem(
        plugin,
        component.counts_metrics() && grant.metrics.is_none(),
        "the component counts metrics of its own, and the plugin has no grant for any",
        "let it: grant.metrics = {}",
    );
    let secrets = problem(
        plugin,
        component.reads_secrets() && grant.secrets.is_empty(),
        "the component asks for secrets, and the plugin was granted none",
        "name them: grant.secrets = { api-key = \"${file:/run/secrets/api-key}\" }",
    );
    let stores = missing_store(plugin, component.uses_stores());
    [requests, stores, metrics, secrets]
        .into_iter()
        .flatten()
        .collect()
}

fn missing_store(plugin: &config::Plugin, uses_stores: bool) -> Option<Problem> {
    problem(
        plugin,
        uses_stores && plugin.grant.keyvalue.is_none(),
        "the component keeps values in a store, and the plugin has no grant for one",
        "lend it the one in memory: grant.keyvalue = {}, or name one: { store = \"NAME\" }",
    )
}

fn problem(
    plugin: &config::Plugin,
    is_missing: bool,
    message: &str,
    help: &str,
) -> Option<Problem> {
    is_missing.then(|| {
        let key = format!("plugin.{}.component", plugin.name);
        Problem::warning(plugin.location.clone(), key, message).with_help(help)
    })
}
