//! Reads `[plugin.NAME]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Number};
use witgate_runtime::Isolation;

use super::interpolate::{describe, looked_at};
use super::model::{
    ConfigLocations, FileGrant, Grant, OnFailure, Plugin, PluginLimits, WasiGrant, WasiHttpLimits,
};
use super::shape::{
    Located, boolean, integer, list, located, path, positive_duration, size_within, table, word,
};
use super::value::{Value, join};
use super::{Item, Location, Section, component, wasi_grant};

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            start: Duration::from_secs(5),
            memory: 64 << 20,
            held_body: 1 << 20,
            message: 16 << 20,
            log_lines: 100,
            concurrency: 16,
            wait: Duration::from_secs(1),
            exchanges: None,
            recycle_memory: None,
            wasi_http: WasiHttpLimits::default(),
        }
    }
}

pub(super) fn read(name: &str, section: &mut Section<'_>) -> Option<Plugin> {
    let component = section.required("component", "\"builtin:host-rewrite\"", component::read);
    let watch = section.optional("watch", located(boolean));
    let (config, config_locations) = read_config(section);
    let grant = section
        .optional("grant", table(read_grant))
        .unwrap_or_default();
    let isolations = [
        ("worker", Isolation::Worker),
        ("exchange", Isolation::Exchange),
    ];
    let isolation = section.default("isolation", Isolation::Worker, word(&isolations));
    let limits = section
        .optional("limits", table(|section| read_limits(section, isolation)))
        .unwrap_or_else(|| default_limits(isolation));
    let policies = [("closed", OnFailure::Closed), ("open", OnFailure::Open)];
    let on_failure = section.default("on-failure", OnFailure::Closed, word(&policies));
    let component = component?;
    if let Some(watch) = watch.as_ref().filter(|watch| watch.value) {
        component::check_watch(section.reader(), &component, watch);
    }
    Some(Plugin {
        name: name.into(),
        component: component.source,
        pin: component.pin,
        watch: watch.is_some_and(|watch| watch.value),
        config,
        config_locations,
        grant,
        limits,
        isolation,
        on_failure,
        location: component.location,
    })
}

/// Whether there is a file or directory at `path`; reports when there is not. A path with a replaced reference in it
/// is not shown.
pub(super) fn existing(
    item: &Item<'_>,
    path: &Path,
    is_kind: impl Fn(&std::fs::Metadata) -> bool,
    kind: &str,
) -> bool {
    let reason = match std::fs::metadata(path) {
        Ok(metadata) if is_kind(&metadata) => return true,
        Ok(_) => format!("it is no {kind}"),
        Err(error) => describe(&error),
    };
    let message = format!("cannot use {}: {reason}", item.shown());
    let problem = item.problem(message);
    item.reader().report(match item.is_interpolated() {
        true => problem.with_help("correct what the reference stands for"),
        false => problem.with_help(looked_at(path)),
    });
    false
}

fn default_limits(isolation: Isolation) -> PluginLimits {
    let default = PluginLimits::default();
    match isolation {
        Isolation::Worker => default,
        // One for each exchange that is under way, most of which wait for the upstream.
        Isolation::Exchange => PluginLimits {
            concurrency: 256,
            ..default
        },
    }
}

fn read_limits(section: &mut Section<'_>, isolation: Isolation) -> Option<PluginLimits> {
    let default = default_limits(isolation);
    let memory = size_within(64 << 10..=4 << 30);
    let held_body = size_within(0..=1 << 30);
    let message = size_within(0..=1 << 30);
    let concurrency = section.optional("concurrency", integer(1..=65_536));
    Some(PluginLimits {
        deadline: section.default("deadline", default.deadline, positive_duration),
        start: section.default("start", default.start, positive_duration),
        memory: section.default("memory", default.memory, memory),
        held_body: section.default("held-body", default.held_body, held_body),
        message: section.default("message", default.message, message),
        log_lines: section.default("log-lines", default.log_lines, integer(0..=1_000_000)),
        concurrency: concurrency.unwrap_or(default.concurrency),
        wait: section.default("wait", default.wait, positive_duration),
        exchanges: section.optional("exchanges", integer(1..=i64::MAX)),
        recycle_memory: section.optional("recycle-memory", size_within(64 << 10..=4 << 30)),
        wasi_http: super::wasi_http_limits::read(section, concurrency),
    })
}

fn read_grant(section: &mut Section<'_>) -> Option<Grant> {
    let mut files: Vec<FileGrant> = Vec::new();
    let grants = section.default("files", Vec::new(), list(table(read_file_grant)));
    for (grant, mount) in grants {
        match files.iter().find(|earlier| earlier.mount == grant.mount) {
            None => files.push(grant),
            Some(earlier) => section.reader().report(
                super::Problem::error(
                    mount.location,
                    mount.path,
                    format!("`{}` is mounted twice", mount.value),
                )
                .with_help("give each directory a path of its own")
                .with_related(earlier.location.clone(), "mounted here first"),
            ),
        }
    }
    let http_client = section.optional("http-client", table(super::http_grant::read));
    let wasi = section.default("wasi", WasiGrant::default(), table(wasi_grant::read));
    let written = written(section);
    Some(Grant {
        files,
        http_client,
        keyvalue: section.optional("keyvalue", table(super::keyvalue::read_grant)),
        metrics: section.optional("metrics", table(super::metrics_grant::read)),
        secrets: section.default("secrets", Vec::new(), table(super::secrets_grant::read)),
        wasi,
        written,
    })
}

/// The grants by name; of `wasi` each of its parts, since a component may need one and not the others.
fn written(section: &Section<'_>) -> Vec<(String, Location)> {
    let mut written = Vec::new();
    for grant in section.entries() {
        match (grant.name(), grant.value()) {
            ("wasi", Value::Table(_)) => {
                let parts = grant.section("a table").into_iter();
                let parts = parts.flat_map(|section| section.entries());
                written.extend(
                    parts.map(|part| (format!("wasi.{}", part.name()), part.name_location())),
                );
            }
            (name, _) => written.push((name.to_owned(), grant.name_location())),
        }
    }
    written
}

fn read_file_grant(section: &mut Section<'_>) -> Option<(FileGrant, Located<String>)> {
    let path = section.required("path", "\"state\"", directory);
    let mount = section.required("as", "\"/state\"", located(mount));
    let (path, mount) = path.zip(mount)?;
    let grant = FileGrant {
        path,
        mount: mount.value.as_str().into(),
        location: section.location(),
    };
    Some((grant, mount))
}

pub(super) fn directory(item: &Item<'_>) -> Option<PathBuf> {
    let path = path(item)?;
    existing(item, &path, std::fs::Metadata::is_dir, "directory").then_some(path)
}

pub(super) fn mount(item: &Item<'_>) -> Option<String> {
    let text = item.text("an absolute path, such as \"/state\"")?;
    let normal = text == "/"
        || text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|segment| !["", ".", ".."].contains(&segment) && !segment.contains('\0'))
        });
    if normal {
        return Some(text.to_owned());
    }
    item.reject(
        format!("{} is no absolute path", item.shown()),
        "the plugin sees the directory at a path such as \"/state\": with a `/` before, none behind, without `.` and `..`",
    )
}

/// Reads a plugin's configuration, the table `config`: as the plugin gets it, and where each of its keys stands. An empty
/// one when there is none.
pub fn read_config(section: &mut Section<'_>) -> (serde_json::Value, ConfigLocations) {
    let empty = || serde_json::Value::Object(Map::new());
    let Some(item) = section.item("config") else {
        return (empty(), ConfigLocations::new(section.location()));
    };
    let mut locations = ConfigLocations::new(item.location());
    let config = if item.is_table() {
        json(&item, "", &mut locations)
    } else {
        item.mismatch("a table, such as { host = \"example.com\" }")
    };
    (config.unwrap_or_else(empty), locations)
}

/// The value as JSON; each key in it is written down with its place.
fn json(item: &Item<'_>, path: &str, locations: &mut ConfigLocations) -> Option<serde_json::Value> {
    locations.insert(path.to_owned(), item.location());
    Some(match item.value() {
        Value::String(text) | Value::Datetime(text) => text.as_str().into(),
        Value::Unresolved => return None,
        Value::Boolean(boolean) => (*boolean).into(),
        Value::Integer(Some(integer)) => (*integer).into(),
        Value::Integer(None) => {
            return item.reject(
                "this integer does not fit 64 bits",
                "write it as a string, if the plugin takes one",
            );
        }
        Value::Float(float) => match Number::from_f64(*float) {
            Some(number) => number.into(),
            None => {
                let message = format!("{} cannot be given to a plugin", item.shown());
                return item.reject(
                    message,
                    "a plugin's configuration is JSON, which has no such number",
                );
            }
        },
        Value::Array(_) => item
            .elements("a list")?
            .iter()
            .enumerate()
            .filter_map(|(index, element)| {
                json(element, &join(path, &index.to_string()), locations)
            })
            .collect(),
        Value::Table(_) => {
            let mut object = Map::new();
            for entry in item.section("a table")?.items() {
                if let Some(value) = json(&entry, &join(path, entry.name()), locations) {
                    object.insert(entry.name().to_owned(), value);
                }
            }
            object.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use serde_json::json;

    use super::super::Document;
    use super::super::model::ComponentSource;
    use super::super::shape::named;
    use super::*;

    fn plugin_at(file: &Path, text: &str) -> Result<Plugin, String> {
        let environment = |name: &str| (name == "TOKEN").then(|| OsString::from("s3cret"));
        let document = Document::parse_with(file, text, &environment).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let plugins = root.required("plugin", "", named("plugin", read));
        root.finish();
        reader
            .finish(plugins.and_then(|mut plugins| plugins.pop()))
            .map(|(plugin, _)| plugin)
            .map_err(|problems| problems.to_string())
    }

    fn plugin(text: &str) -> Result<Plugin, String> {
        plugin_at(
            Path::new("a.toml"),
            &format!("[plugin.x]\ncomponent = 'builtin:y'\n{text}"),
        )
    }

    #[test]
    fn the_configuration_can_be_written_in_three_ways() {
        let expected = json!({ "a": { "b": [1, 2.5, true, "c", "2020-01-01"] } });
        for text in [
            "config = { a = { b = [1, 2.5, true, 'c', 2020-01-01] } }",
            "config.a.b = [1, 2.5, true, 'c', 2020-01-01]",
            "[plugin.x.config.a]\nb = [1, 2.5, true, 'c', 2020-01-01]",
        ] {
            assert_eq!(plugin(text).expect(text).config, expected);
        }
        assert_eq!(plugin("").expect("it may be left out").config, json!({}));
    }

    #[test]
    fn a_key_of_the_configuration_is_found_on_its_line() {
        let plugin =
            plugin("config.tokens = [\n  { name = 'a', value = 'b' },\n]").expect("it is valid");
        for (path, place) in [
            ("tokens.0.value", "a.toml:4:25"),
            ("tokens.0", "a.toml:4:3"),
            ("tokens.0.value.more", "a.toml:4:25"),
            ("tokens.0.missing", "a.toml:4:3"),
            ("tokens.1", "a.toml:3:17"),
            ("token", "a.toml:3:1"),
            ("", "a.toml:3:1"),
        ] {
            assert_eq!(
                plugin.config_locations.locate(path).to_string(),
                place,
                "{path}"
            );
        }
    }

    #[test]
    fn without_a_configuration_its_keys_are_at_the_plugins_header() {
        let plugin = plugin("").expect("it is valid");
        assert_eq!(
            plugin.config_locations.locate("host").to_string(),
            "a.toml:1:1"
        );
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for text in ["nan", "inf", "-inf", "99999999999999999999"] {
            assert!(plugin(&format!("config.a = [{text}]")).is_err(), "{text}");
        }
        assert!(plugin("config = 3").is_err());
    }

    #[test]
    fn a_secret_reaches_the_plugin_and_not_the_debug_output() {
        let plugin = plugin("config.token = '${env:TOKEN}'").expect("it is valid");
        assert_eq!(plugin.config, json!({ "token": "s3cret" }));
        let debug = format!("{plugin:?}");
        assert!(
            !debug.contains("s3cret") && debug.contains("config: <redacted>"),
            "{debug}"
        );
    }

    #[test]
    fn a_component_is_built_in_or_a_file_beside_the_configuration() {
        assert_eq!(
            plugin("").expect("it is valid").component,
            ComponentSource::Builtin("y".into())
        );
        let directory = tempfile::tempdir().expect("a scratch directory");
        let wasm = directory.path().join("x.wasm");
        std::fs::write(&wasm, "").expect("a written file");
        let read = |component: &str| {
            let text = format!("[plugin.x]\ncomponent = '{component}'");
            plugin_at(&directory.path().join("a.toml"), &text).map(|plugin| plugin.component)
        };
        assert_eq!(read("x.wasm"), Ok(ComponentSource::Path(wasm)));
        for (component, message) in [
            ("y.wasm", "cannot use 'y.wasm': no such file or directory"),
            (".", "cannot use '.': it is no file"),
            ("https://a/b.wasm", "components are not fetched"),
            ("builtin:", "`builtin:` without a name"),
        ] {
            let report = read(component).expect_err(component);
            assert!(report.contains(message), "{report}");
        }
    }

    #[test]
    fn files_are_granted_from_directories_that_exist() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir(directory.path().join("state")).expect("a new directory");
        let read = |files: &str| {
            let text = format!("[plugin.x]\ncomponent = 'builtin:y'\ngrant.files = [{files}]");
            plugin_at(&directory.path().join("a.toml"), &text).map(|plugin| plugin.grant.files)
        };
        let files = read("{ path = 'state', as = '/s' }").expect("the directory exists");
        assert_eq!(files[0].path, directory.path().join("state"));
        assert_eq!(&*files[0].mount, "/s");
        for (text, message) in [
            (
                "{ path = 'missing', as = '/s' }",
                "cannot use 'missing': no such file or directory",
            ),
            ("{ path = 'state', as = 's' }", "'s' is no absolute path"),
            (
                "{ path = 'state', as = '/s/../t' }",
                "'/s/../t' is no absolute path",
            ),
            ("{ path = 'state' }", "`as` is missing"),
            (
                "{ path = 'state', as = '/s' }, { path = '.', as = '/s' }",
                "`/s` is mounted twice",
            ),
        ] {
            let report = read(text).expect_err(text);
            assert!(report.contains(message), "{report}");
        }
    }

    #[test]
    fn limits_and_policy_have_defaults_and_can_be_set() {
        let default = plugin("").expect("it is valid");
        assert_eq!(default.limits.deadline, Duration::from_millis(50));
        assert_eq!(default.on_failure, OnFailure::Closed);
        let set = plugin("on-failure = 'open'\nlimits = { memory = '1MiB', log-lines = 0 }")
            .expect("it is valid");
        assert_eq!((set.limits.memory, set.limits.log_lines), (1 << 20, 0));
        assert_eq!(set.on_failure, OnFailure::Open);
    }
}
