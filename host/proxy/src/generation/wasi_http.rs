//! Plugins that are components of `wasi:http`: what they may be configured with, and where they may stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use witgate_runtime::wasi_http::{HttpComponent, HttpLimits, HttpPlugin, OutgoingGrant};
use witgate_runtime::{Isolation, WasiGrant};

use crate::components::Code;
use crate::config::{self, ComponentSource, Config, Destination, Location, OnFailure};
use crate::config::{Problem, Problems};
use crate::grants::Lendable;

/// Puts the plugin together and tries it out, so that a mistake is found before anything is bound or swapped.
pub(super) async fn load(
    plugin: &config::Plugin,
    component: Arc<HttpComponent>,
    lent: &Lendable<'_>,
) -> Result<Arc<HttpPlugin>, Vec<Problem>> {
    let mut problems = unfit_keys(plugin);
    let settings = settings(plugin, &component).unwrap_or_else(|found| {
        problems.extend(found);
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let (limits, own) = (&plugin.limits, &plugin.limits.wasi_http);
    let limits = HttpLimits {
        first_byte: own.first_byte,
        processor: own.processor,
        memory: limits.memory,
        concurrency: own.concurrency,
        log_lines: limits.log_lines,
    };
    let grant = &plugin.grant.wasi;
    let settings = grant.config.iter().cloned().chain(settings);
    let (environment, directories) = (grant.environment.clone(), grant.directories.clone());
    let wasi = WasiGrant::new(environment, directories, settings);
    let mut built = HttpPlugin::new(plugin.name.clone(), component, limits).with_wasi(wasi);
    if let Some(store) = lent.store(plugin) {
        built = built.with_keyvalue(store);
    }
    if let Some(grant) = &plugin.grant.http_client {
        built = built.with_outgoing(OutgoingGrant {
            client: super::client(plugin, grant)?,
            origins: grant.origins.clone(),
            timeout: grant.timeout,
            body_size: grant.body_size,
            concurrency: grant.concurrency,
        });
    }
    match built.try_out().await {
        Ok(()) => Ok(Arc::new(built)),
        Err(kind) => {
            let message = witgate_runtime::StartError::Failed(kind).to_string();
            let key = format!("plugin.{}", plugin.name);
            Err(vec![Problem::error(plugin.location.clone(), key, message)])
        }
    }
}

/// Keys that only mean something for hooks.
fn unfit_keys(plugin: &config::Plugin) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unfit = |location: &Location, key: &str, message: &str, help: &str| {
        let key = format!("plugin.{}.{key}", plugin.name);
        problems.push(Problem::error(location.clone(), key, message).with_help(help));
    };
    if let Some(location) = &plugin.limits.wasi_http.given.1 {
        unfit(
            location,
            "limits",
            "`deadline`, `start`, `held-body`, `message`, `wait`, `exchanges` and `recycle-memory` are about hooks, and this component of `wasi:http` has none",
            "bound it by `first-byte`, `processor`, `concurrency` and `memory`",
        );
    }
    if let Some(grant) = plugin.grant.files.first() {
        unfit(
            &grant.location,
            "grant.files",
            "a component of `wasi:http` has no file replies",
            "remove the grant",
        );
    }
    if plugin.isolation == Isolation::Exchange {
        unfit(
            &plugin.location,
            "isolation",
            "a component of `wasi:http` has an instance for each exchange as it is",
            "remove `isolation`",
        );
    }
    if plugin.on_failure == OnFailure::Open {
        unfit(
            &plugin.location,
            "on-failure",
            "a component of `wasi:http` cannot be skipped: it is what answers",
            "remove `on-failure`",
        );
    }
    problems
}

/// The configuration as `wasi:config/store` gives it: a text for each key.
fn settings(
    plugin: &config::Plugin,
    component: &HttpComponent,
) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let no_keys = serde_json::Map::new();
    let table = plugin.config.as_object().unwrap_or(&no_keys);
    let problem = |path: &str, message: &str, help: &str| {
        let dot = if path.is_empty() { "" } else { "." };
        let key = format!("plugin.{}.config{dot}{path}", plugin.name);
        Problem::error(plugin.config_locations.locate(path), key, message).with_help(help)
    };
    if !table.is_empty() && !component.reads_settings() {
        return Err(vec![problem(
            "",
            "this component of `wasi:http` does not read a configuration: it does not import `wasi:config/store`",
            "remove `config`, or have the component import it",
        )]);
    }
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in table {
        match value {
            Value::String(text) => settings.push((key.clone(), text.clone())),
            Value::Bool(_) | Value::Number(_) => settings.push((key.clone(), value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => problems.push(problem(
                key,
                "`wasi:config/store` holds one text for each key",
                "write a string, a number or a boolean",
            )),
        }
    }
    match problems.is_empty() {
        true => Ok(settings),
        false => Err(problems),
    }
}

/// Each name in a route stands for something that can stand there; and limits are those of what they are about.
pub(super) fn check_routes(
    config: &Config,
    components: &BTreeMap<Arc<str>, (ComponentSource, Code)>,
    problems: &mut Problems,
) {
    let code = |name| components.get(name).map(|(_, code)| code);
    for (at, route) in config.routes.iter().enumerate() {
        for (name, location) in route.plugins.iter().zip(&route.plugin_locations) {
            if let Some(Code::WasiHttp(component)) = code(name)
                && !component.is_middleware()
            {
                let message = format!(
                    "plugin `{name}` answers every request itself: it is a component of `wasi:http` and no middleware"
                );
                let key = format!("route.{at}.plugins");
                problems.add(
                    Problem::error(location.clone(), key, message).with_help(format!(
                        "make it the end of the route: component = \"{name}\""
                    )),
                );
            }
        }
        let Destination::Component { name, location } = &route.destination else {
            continue;
        };
        let (message, help) = match code(name) {
            Some(Code::Hooks(_)) => (
                format!("plugin `{name}` is called at hooks, and is no component of `wasi:http`"),
                format!("list it in `plugins`: plugins = [\"{name}\"]"),
            ),
            Some(Code::WasiHttp(component)) if component.is_middleware() => (
                format!("plugin `{name}` is a middleware, which needs something behind it"),
                format!(
                    "list it in `plugins`, and end the route in something else: plugins = [\"{name}\"]"
                ),
            ),
            Some(Code::WasiHttp(_)) | None => continue,
        };
        let key = format!("route.{at}.component");
        problems.add(Problem::error(location.clone(), key, message).with_help(help));
    }
    for (name, plugin) in &config.plugins {
        if let (Some(Code::Hooks(_)), Some(location)) =
            (code(name), &plugin.limits.wasi_http.given.0)
        {
            let key = format!("plugin.{name}.limits");
            let message = "`first-byte` and `processor` are about components of `wasi:http`, and this plugin is called at hooks";
            problems.add(
                Problem::error(location.clone(), key, message)
                    .with_help("bound it by `deadline`, `start` and `memory`"),
            );
        }
    }
}
