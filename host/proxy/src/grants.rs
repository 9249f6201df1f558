//! What a plugin is lent beside its component: stores, metrics, secrets.

use std::sync::Arc;

use witgate_runtime::{Component, CustomMetrics, KeyValueGrant, MetricsGrant, Plugin};

use crate::config::{self, Problem};
use crate::keyvalue::Stores;

/// What plugins are lent that outlives them.
pub(crate) struct Lendable<'g> {
    pub(crate) stores: &'g Stores,
    pub(crate) metrics: &'g Arc<CustomMetrics>,
}

impl Lendable<'_> {
    pub(crate) fn lend(&self, plugin: &config::Plugin, mut built: Plugin) -> Plugin {
        let grant = &plugin.grant;
        if let Some(keyvalue) = &grant.keyvalue
            && let Some(store) = self.stores.get(keyvalue.store())
        {
            let namespace = match &keyvalue.shared {
                Some(name) => format!("shared:{name}:"),
                None => format!("plugin:{}:", plugin.name),
            };
            built = built.with_keyvalue(KeyValueGrant {
                store,
                namespace: namespace.into(),
                value_size: keyvalue.value_size,
                read_only: keyvalue.read_only,
            });
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
pub(crate) fn missing(plugin: &config::Plugin, component: &Component) -> Vec<Problem> {
    let missing = |uses: bool, granted: bool, message: &str, help: &str| {
        (uses && !granted).then(|| {
            let key = format!("plugin.{}.component", plugin.name);
            Problem::warning(plugin.location.clone(), key, message).with_help(help)
        })
    };
    let grant = &plugin.grant;
    let requests = missing(
        component.sends_requests(),
        grant.http_client.is_some(),
        "the component sends requests of its own, and the plugin has no grant for any",
        "name the origins it may reach: grant.http-client = { origins = [\"http://127.0.0.1:8080\"] }, or [] for none",
    );
    let stores = missing(
        component.uses_stores(),
        grant.keyvalue.is_some(),
        "the component keeps values in a store, and the plugin has no grant for one",
        "lend it the one in memory: grant.keyvalue = {}, or name one: { store = \"NAME\" }",
    );
    let metrics = missing(
        component.counts_metrics(),
        grant.metrics.is_some(),
        "the component counts metrics of its own, and the plugin has no grant for any",
        "let it: grant.metrics = {}",
    );
    let secrets = missing(
        component.reads_secrets(),
        !grant.secrets.is_empty(),
        "the component asks for secrets, and the plugin was granted none",
        "name them: grant.secrets = { api-key = \"${file:/run/secrets/api-key}\" }",
    );
    [requests, stores, metrics, secrets]
        .into_iter()
        .flatten()
        .collect()
}
