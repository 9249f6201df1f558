//! What components import, beside what their plugins are granted.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::components::Code;
use crate::config::{self, ComponentSource, Problem};

/// A plugin's component, and what becomes of its imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginReport {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// `builtin:NAME` or the file.
    pub component: String,
    /// The hooks that will be called, as the contract calls them: `request-hook`; of a standard component `wasi:http` or
    /// `middleware`.
    pub hooks: Vec<String>,
    /// In alphabetical order.
    pub imports: Vec<Import>,
}

/// An interface that a component imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// With its version: `witgate:plugin/log@0.1.0`.
    pub name: String,
    /// What it gets.
    pub standing: Standing,
}

/// What a plugin gets of an interface that its component imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It needs no grant.
    Free,
    /// `grant.…` lends it.
    Granted(&'static str),
    /// `grant.…` would lend it; without, it is empty or refuses.
    Missing(&'static str),
    /// Nobody gets it: every call is refused.
    Refused,
}

/// What an interface needs to be of use, by the start of its name. All others need nothing.
const NEEDS: [(&str, Need); 11] = [
    ("witgate:plugin/http-client@", Need::Grant("http-client")),
    ("witgate:plugin/keyvalue@", Need::Grant("keyvalue")),
    ("witgate:plugin/metrics@", Need::Grant("metrics")),
    ("witgate:plugin/secrets@", Need::Grant("secrets")),
    ("wasi:cli/environment@", Need::Grant("wasi.env")),
    ("wasi:config/", Need::Grant("wasi.config")),
    ("wasi:filesystem/", Need::Grant("wasi.directories")),
    ("wasi:keyvalue/", Need::Grant("keyvalue")),
    ("wasi:http/client@", Need::Grant("http-client")),
    ("wasi:http/outgoing-handler@", Need::Grant("http-client")),
    ("wasi:sockets/", Need::Refused),
];

/// What it takes for an imported interface to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A key of `[plugin.NAME.grant]`.
    Grant(&'static str),
    /// Nothing helps: every call is refused.
    Refused,
}

/// What an interface that a component imports needs, by its name; `None` for one that everybody gets.
pub fn need(import: &str) -> Option<Need> {
    let mut needs = NEEDS.iter();
    needs
        .find(|(start, _)| import.starts_with(start))
        .map(|(_, need)| *need)
}

fn standing(import: &str, plugin: &config::Plugin, component: &Code) -> Standing {
    // What a standard component reads there is its `config`.
    if matches!(component, Code::WasiHttp(_)) && import.starts_with("wasi:config/") {
        return Standing::Free;
    }
    let granted = |key: &str| {
        plugin
            .grant
            .written
            .iter()
            .any(|(written, _)| written == key)
    };
    match need(import) {
        None => Standing::Free,
        Some(Need::Grant(key)) if granted(key) => Standing::Granted(key),
        Some(Need::Grant(key)) => Standing::Missing(key),
        Some(Need::Refused) => Standing::Refused,
    }
}

/// The report on one plugin.
pub(crate) fn report(plugin: &config::Plugin, component: &Code) -> PluginReport {
    let names: BTreeSet<_> = component.imports().iter().collect();
    PluginReport {
        plugin: plugin.name.clone(),
        component: match &plugin.component {
            ComponentSource::Builtin(name) => format!("builtin:{name}"),
            ComponentSource::Path(path) => path.display().to_string(),
        },
        hooks: match component {
            Code::Hooks(component) => component.hook_names().map(str::to_owned).collect(),
            Code::WasiHttp(component) if component.is_middleware() => vec!["middleware".into()],
            Code::WasiHttp(_) => vec!["wasi:http".into()],
        },
        imports: names
            .into_iter()
            .map(|name| Import {
                name: name.clone(),
                standing: standing(name, plugin, component),
            })
            .collect(),
    }
}

/// Grants for interfaces that the component does not import, and so cannot use. Whether it answers with files
/// (`grant.files`) does not show in its imports.
pub(crate) fn unneeded(plugin: &config::Plugin, component: &Code) -> Vec<Problem> {
    let needed = |key: &str| {
        let mut imports = component.imports().iter();
        imports.any(|name| matches!(need(name), Some(Need::Grant(needed)) if needed == key))
    };
    let is_for_an_import = |key: &str| {
        let mut needs = NEEDS.iter();
        needs.any(|(_, need)| matches!(need, Need::Grant(grant) if *grant == key))
    };
    let written = plugin.grant.written.iter();
    let unneeded = written.filter(|(key, _)| is_for_an_import(key) && !needed(key));
    let warning = |(key, location): &(String, config::Location)| {
        let message = format!("the component imports nothing that `grant.{key}` is for");
        let path = format!("plugin.{}.grant.{key}", plugin.name);
        Problem::warning(location.clone(), path, message)
            .with_help("leave the grant out: a later version of the component might use it")
    };
    unneeded.map(warning).collect()
}

/// What a component could do, given the grant, that the one before it could not. A later version of the same interface
/// is nothing new, and what needs no grant is nobody's worry.
pub(crate) fn wants_more(plugin: &config::Plugin, before: &Code, now: &Code) -> Option<Problem> {
    let had: BTreeSet<_> = before
        .imports()
        .iter()
        .map(|name| interface(name))
        .collect();
    let more: BTreeSet<_> = now.imports().iter().collect();
    let more: Vec<_> = more
        .into_iter()
        .filter(|name| !had.contains(interface(name)))
        .filter_map(|name| match standing(name, plugin, now) {
            Standing::Free => None,
            Standing::Granted(key) => Some(format!("`{name}` (granted by `grant.{key}`)")),
            Standing::Missing(key) => Some(format!("`{name}` (not granted: `grant.{key}`)")),
            Standing::Refused => Some(format!("`{name}` (always refused)")),
        })
        .collect();
    if more.is_empty() {
        return None;
    }
    let message = format!(
        "the new component wants more than the one before it: {}",
        more.join(", ")
    );
    let key = format!("plugin.{}.component", plugin.name);
    let problem = Problem::warning(plugin.location.clone(), key, message);
    Some(
        problem
            .with_help("leave it so, grant what it is to have, or go back to the component before"),
    )
}

/// The name without its version.
fn interface(import: &str) -> &str {
    import.split_once('@').map_or(import, |(name, _)| name)
}
