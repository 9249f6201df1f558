//! Warns of what works and is weak: secrets that can be guessed or read, and doors that stand open.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::interpolate::{Kind, pieces};
use super::secret::is_secret;
use super::value::{Entry, Node, Value, join};
use super::{
    ComponentSource, Config, Destination, Location, OnFailure, Place, Plugin, Problem, Reader,
    Route, Upstream,
};

/// What is shorter can be tried out.
const SHORTEST_TOKEN: usize = 16;

/// Built-in plugins that decide who may pass.
const GATES: [&str; 5] = [
    "basic-auth",
    "bearer-auth",
    "forward-auth",
    "ip-allow",
    "jwt-auth",
];

/// Where a container's secrets are mounted, for its one user and with a mode that nobody chose.
const MOUNTED: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// Of a configuration without errors.
pub(super) fn warn(reader: &Reader<'_>, config: &Config) {
    readable_secrets(reader);
    believes_everybody(reader, config);
    admin_is_of_no_use(reader, config);
    for plugin in config.plugins.values() {
        short_tokens(reader, plugin);
        gate_fails_open(reader, plugin);
    }
}

/// Warns of listeners that let others than this machine drive a browser without asking who they are.
///
/// `port` is that of `[chrome]`. A route leads to a browser if its upstream is that port of this machine, or is asked for
/// `/json/…` to see whether it is well, or if plugins for the DevTools protocol stand before it.
pub fn warn_of_open_browsers(reader: &Reader<'_>, config: &Config, port: Option<u16>) {
    for (index, route) in config.routes.iter().enumerate() {
        let listener = &config.listeners[route.listener];
        let knows_clients = || {
            let index = route.listener.to_string();
            find(reader, &["listener", &index, "tls", "client-ca"]).is_some()
        };
        if listener.bind.is_local()
            || !leads_to_browser(config, route, port)
            || has_gate(config, route)
            || knows_clients()
        {
            continue;
        }
        let message = format!(
            "whoever reaches listener `{}` drives the browser, reads what it is signed in to and the files of its user",
            listener.name
        );
        let key = format!("route.{index}");
        let problem = Problem::warning(route.location.clone(), key, message);
        reader.report(
            problem
                .with_help(
                    "put a plugin that asks who it is into `plugins`, such as `builtin:bearer-auth` or `builtin:ip-allow`, \
                     ask for a certificate by `tls.client-ca`, or bind a loopback address",
                )
                .with_related(listener.bind_location.clone(), "others reach this address"),
        );
    }
}

fn leads_to_browser(config: &Config, route: &Route, port: Option<u16>) -> bool {
    let names: Vec<_> = match &route.destination {
        Destination::Upstream(name) => vec![name],
        Destination::Split(split) => split.shares.iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    };
    let mut upstreams = names.iter().filter_map(|name| config.upstreams.get(*name));
    let is_browser = |upstream: &Upstream| {
        let check = upstream.health.as_ref();
        check.is_some_and(|health| health.path.starts_with("/json/"))
            || upstream
                .endpoints
                .iter()
                .any(|endpoint| port.is_some_and(|port| is_here(&endpoint.place, port)))
    };
    let spoken = |plugin: &Plugin| {
        let builtin = builtin(plugin);
        builtin.is_some_and(|name| name.starts_with("cdp-"))
    };
    let mut chain = route
        .plugins
        .iter()
        .filter_map(|name| config.plugins.get(name));
    !names.is_empty() && (upstreams.any(is_browser) || chain.any(spoken))
}

fn is_here(place: &Place, port: u16) -> bool {
    match place {
        Place::Address(address) => address.ip().is_loopback() && address.port() == port,
        Place::Name { host, port: of } => &**host == "localhost" && *of == port,
        Place::Unix(_) => false,
    }
}

/// A component of the operator's own may be one.
fn has_gate(config: &Config, route: &Route) -> bool {
    let mut chain = route
        .plugins
        .iter()
        .filter_map(|name| config.plugins.get(name));
    chain.any(|plugin| builtin(plugin).is_none_or(|name| GATES.contains(&name)))
}

fn builtin(plugin: &Plugin) -> Option<&str> {
    match &plugin.component {
        ComponentSource::Builtin(name) => Some(name),
        ComponentSource::Path(_) => None,
    }
}

fn short_tokens(reader: &Reader<'_>, plugin: &Plugin) {
    if builtin(plugin) != Some("bearer-auth") {
        return;
    }
    let tokens = plugin.config["tokens"].as_array();
    for (index, token) in tokens.into_iter().flatten().enumerate() {
        let length = token["value"].as_str().map_or(0, str::len);
        // An empty one lets nobody in, and says so when it is asked for.
        if (1..SHORTEST_TOKEN).contains(&length) {
            let key = format!("tokens.{index}.value");
            let message = format!("a token of {length} bytes can be guessed");
            let key_in_file = format!("plugin.{}.config.{key}", plugin.name);
            let place = plugin.config_locations.locate(&key);
            let problem = Problem::warning(place, key_in_file, message);
            reader.report(problem.with_help(
                "make one with `openssl rand -hex 32` and name its file: \"${file:/run/secrets/token}\"",
            ));
        }
    }
}

fn gate_fails_open(reader: &Reader<'_>, plugin: &Plugin) {
    let is_gate = builtin(plugin).is_some_and(|name| GATES.contains(&name));
    if is_gate && plugin.on_failure == OnFailure::Open {
        let name = &plugin.name;
        let message = format!("while plugin `{name}` fails, everybody passes");
        let location = find(reader, &["plugin", name, "on-failure"]);
        let location = location.unwrap_or_else(|| plugin.location.clone());
        let problem = Problem::warning(location, format!("plugin.{name}.on-failure"), message);
        reader.report(
            problem.with_help("remove it: a plugin that decides who may pass fails closed"),
        );
    }
}

fn admin_is_of_no_use(reader: &Reader<'_>, config: &Config) {
    let Some(admin) = &config.admin else { return };
    if admin.token.is_none() && !admin.bind.is_local() {
        let message = "others reach this address, and without a token it shows nobody more than /health and /ready";
        let problem = Problem::warning(admin.bind_location.clone(), "admin.bind", message);
        reader.report(problem.with_help(
            "add `token = \"${file:/run/secrets/admin-token}\"`, or bind a loopback address",
        ));
    }
}

fn believes_everybody(reader: &Reader<'_>, config: &Config) {
    let networks = &config.server.trusted_proxies;
    let Some(index) = networks
        .iter()
        .position(|network| network.prefix_len() == 0)
    else {
        return;
    };
    let kind = match networks[index].addr() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let index = index.to_string();
    let location = find(reader, &["server", "trusted-proxies", &index]);
    let location = location.unwrap_or_else(|| config.location.clone());
    let message =
        format!("every client of {kind} is believed whatever address and scheme it claims to have");
    let problem = Problem::warning(location, format!("server.trusted-proxies.{index}"), message);
    reader.report(problem.with_help("name the proxies alone that stand before this one"));
}

/// Files that `${file:…}` names as secrets, and that everybody on this machine can read.
fn readable_secrets(reader: &Reader<'_>) {
    for Entry { key, node, .. } in &reader.document().root {
        // Their names are the operator's: a plugin called `token` has a `component`, which is none.
        let names = ["plugin", "upstream", "keyvalue"].contains(&key.as_str());
        match &node.value {
            Value::Table(named) if names => {
                for below in named {
                    look_into(reader, &join(key, &below.key), &below.node, false);
                }
            }
            _ => look_into(reader, key, node, is_secret(key)),
        }
    }
}

fn look_into(reader: &Reader<'_>, path: &str, node: &Node, is_hidden: bool) {
    match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                let is_hidden = is_hidden || is_secret(&entry.key);
                look_into(reader, &join(path, &entry.key), &entry.node, is_hidden);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look_into(reader, &join(path, &index.to_string()), item, is_hidden);
            }
        }
        Value::String(_) if is_hidden && node.interpolated => {
            let document = reader.document();
            let location = Location::new(&document.source, node.span.clone());
            for piece in pieces(location.text()) {
                let Kind::File(file) = piece.kind else {
                    continue;
                };
                if is_readable_by_all(&document.directory.join(file)) {
                    let message =
                        format!("everybody on this machine can read the secret in {file}");
                    let problem = Problem::warning(location.clone(), path, message);
                    reader.report(problem.with_help("chmod 600, and think of a new secret"));
                }
            }
        }
        _ => {}
    }
}

fn is_readable_by_all(path: &Path) -> bool {
    const READ_BY_OTHERS: u32 = 0o004;
    let is_mounted = MOUNTED.iter().any(|mount| path.starts_with(mount));
    let metadata = std::fs::metadata(path);
    !is_mounted && metadata.is_ok_and(|found| found.permissions().mode() & READ_BY_OTHERS != 0)
}

/// The place of a value, if it is there.
fn find(reader: &Reader<'_>, path: &[&str]) -> Option<Location> {
    let document = reader.document();
    let (first, rest) = path.split_first()?;
    let within = |entries: &'_ [Entry], key: &str| -> Option<usize> {
        entries.iter().position(|entry| entry.key == key)
    };
    let mut node = &document.root[within(&document.root, first)?].node;
    for part in rest {
        node = match &node.value {
            Value::Table(entries) => &entries[within(entries, part)?].node,
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(Location::new(&document.source, node.span.clone()))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use super::super::Document;
    use super::*;

    fn warnings(text: &str, port: Option<u16>) -> Vec<String> {
        warnings_at(Path::new("a.toml"), text, port)
    }

    fn warnings_at(file: &Path, text: &str, port: Option<u16>) -> Vec<String> {
        let document = Document::parse(file, text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        if let Some(config) = &config {
            warn_of_open_browsers(&reader, config, port);
        }
        let (_, warnings) = reader.finish(config).expect("it can be used");
        let shown = |problem: &Problem| {
            let line = problem.location.line().unwrap_or_default();
            format!("{line} {}: {}", problem.key, problem.message)
        };
        warnings.iter().map(shown).collect()
    }

    fn browser(bind: &str, plugins: &str, more: &str) -> String {
        format!(
            "[[listener]]\nname = 'cdp'\nbind = '{bind}'\n[[route]]\nplugins = [{plugins}]\nupstream = 'origin'\n\
             [upstream.origin]\nendpoints = ['http://127.0.0.1:9223']\n{more}"
        )
    }

    #[test]
    fn a_browser_that_anybody_may_drive_is_told_however_it_is_recognised() {
        let health = "health = { path = '/json/version' }";
        let urls = "[plugin.a]\ncomponent = 'builtin:cdp-urls'";
        for text in [
            (browser("0.0.0.0:1", "", ""), Some(9223)),
            (browser("[::]:1", "", health), None),
            (browser("10.0.0.1:1", "'a'", urls), None),
        ] {
            let found = warnings(&text.0, text.1);
            assert!(
                matches!(&found[..], [one] if one.starts_with("4 route.0: whoever reaches listener `cdp`")),
                "{text:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_browser_behind_a_gate_or_on_this_machine_alone_is_none_of_that() {
        let ip = "[plugin.a]\ncomponent = 'builtin:ip-allow'\nconfig.allow = ['10.0.0.0/8']";
        for (text, port) in [
            (browser("127.0.0.1:1", "", ""), Some(9223)),
            (browser("0.0.0.0:1", "", ""), Some(6667)),
            (browser("0.0.0.0:1", "'a'", ip), Some(9223)),
        ] {
            assert!(warnings(&text, port).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_told_and_other_files_are_not() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
            let path = directory.path().join(name);
            write(&path, "0123456789abcdef0123").expect("a written file");
            set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        }
        let text = "[[listener]]\nname = 'a'\nbind = '127.0.0.1:1'\n[[route]]\nplugins = ['token']\nreply.body = '${file:open}'\n\
                    [admin]\nbind = '127.0.0.1:2'\ntoken = '${file:FILE}'\n\
             [plugin.token]\ncomponent = 'builtin:a'\ngrant.secrets.key = '${file:FILE}'\n";
        let file = directory.path().join("a.toml");
        let open = warnings_at(&file, &text.replace("FILE", "open"), None);
        assert_eq!(
            open,
            [
                "9 admin.token: everybody on this machine can read the secret in open",
                "12 plugin.token.grant.secrets.key: everybody on this machine can read the secret in open",
            ]
        );
        let closed = warnings_at(&file, &text.replace("FILE", "closed"), None);
        assert!(closed.is_empty(), "{closed:?}");
    }
}
