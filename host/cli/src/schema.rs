//! `witgate schema`: what a configuration may hold, for editors.

use serde_json::Value;
use witgate_proxy::config::{CodeCache, PluginSchema, schema};
use witgate_runtime::{Component, Runtime};

use crate::load::BUILTINS;
use crate::{Ended, chrome_keys, load, output};

/// Prints JSON Schema of the whole file, with what each built-in plugin takes.
pub(crate) fn print() -> Result<(), Ended> {
    let runtime = load::runtime(&CodeCache::Default)?;
    let names = (BUILTINS.names)();
    let plugins = names.into_iter().filter_map(|name| {
        let bytes = (BUILTINS.find)(name)?;
        let schema = of_component(&runtime, &format!("builtin:{name}"), bytes).transpose()?;
        Some(schema.map(|schema| PluginSchema {
            name: name.to_owned(),
            schema,
        }))
    });
    let plugins: Vec<_> = plugins.collect::<Result<_, Ended>>()?;
    output::line(format_args!("{:#}", schema(chrome_keys::KEYS, &plugins)))
}

/// Loads a component, which says why it is none of this witgate's, and asks it for the schema of its configuration.
/// `None` when it has none.
pub(crate) fn of_component(
    runtime: &Runtime,
    name: &str,
    bytes: &[u8],
) -> Result<Option<Value>, Ended> {
    let because = |error: &dyn std::fmt::Display| Ended::because(format!("{name}: {error}"));
    let component = Component::load(runtime, bytes).map_err(|error| because(&error))?;
    let plugin = witgate_runtime::Plugin::new(
        "inspected".into(),
        component.into(),
        "{}".into(),
        witgate_runtime::Limits::default(),
    );
    let schema = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(Ended::because)?
        .block_on(plugin.config_schema())
        .map_err(|error| because(&error))?;
    if schema.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&schema)
        .map(Some)
        .map_err(|error| because(&format!("its configuration's schema is no JSON: {error}")))
}
