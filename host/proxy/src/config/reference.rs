//! The keys that are known are those that are read: none is forgotten in the schema and the documentation, and none of
//! them is gone.

use std::collections::BTreeSet;

use super::keys::{KEYS, Key, Kind};
use super::{Config, Document};

/// Has every table that a key can lie in. What is not there is asked for as well, as long as its table is.
const EVERY_TABLE: &str = r#"
[server]
trace-context = {}

[admin]
bind = "127.0.0.1:1"

[log.access]
to = { file = "/dev/null" }

[telemetry.traces]
endpoint = "http://127.0.0.1:4318/v1/traces"

[[listener]]
name = "main"
bind = "127.0.0.1:0"
limits = {}

[[listener]]
name = "encrypted"
bind = "127.0.0.1:0"
tls = { certificates = [{ cert = "CERT", key = "KEY" }], acme = { domains = ["a.example"], terms-agreed = true, storage = "acme" } }

[[route]]
listener = "main"
path = "/a/{id}"
headers = { a = { regex = "b" } }
query = { a = { regex = "b" } }
rewrite = { path = "/{id}" }
upstream = [{ name = "origin", weight = 1 }]
sticky = { cookie = "a" }
plugins = ["hooks"]
websocket = { ping-interval = "1s" }
timeouts = {}
limits = {}
compress = {}

[[route]]
listener = "main"
path = "/b"
reply = {}

[[route]]
listener = "encrypted"
path = "/c"
redirect = { to = "/a" }

[upstream.origin]
endpoints = ["http://127.0.0.1:1", { url = "http://127.0.0.1:2" }]
balance = { hash = "path" }
health = { path = "/" }
ejection = {}
retry = {}
limits = {}
dns = {}

[upstream.encrypted]
endpoints = ["https://127.0.0.1:1"]
tls = {}

[plugin.hooks]
component = "builtin:hooks"
limits = {}

[plugin.pinned]
component = { path = "CERT", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }

[plugin.hooks.grant]
files = [{ path = ".", as = "/a" }]
http-client = { origins = ["http://127.0.0.1:1"] }
keyvalue = {}
metrics = {}
wasi = { directories = [{ path = ".", as = "/a" }] }

[keyvalue.memory]
kind = "memory"

[keyvalue.file]
kind = "file"
path = "counters.redb"

[keyvalue.redis]
kind = "redis"
url = "redis://127.0.0.1"
"#;

/// Every key below a table, tables within included: `route.rewrite.path`.
fn known(keys: &[Key], path: &str, found: &mut BTreeSet<String>) {
    for key in keys {
        let path = match path {
            "" => key.name.to_owned(),
            path => format!("{path}.{}", key.name),
        };
        below(key.kind, &path, found);
        found.insert(path);
    }
}

fn below(kind: Kind, path: &str, found: &mut BTreeSet<String>) {
    match kind {
        Kind::Table(keys) => known(keys, path, found),
        Kind::List(kind) => below(*kind, path, found),
        Kind::Named(kind) => below(*kind, &format!("{path}.*"), found),
        Kind::Either(kinds) => {
            for kind in kinds {
                below(*kind, path, found);
            }
        }
        _ => {}
    }
}

/// The path of a key that was asked for, as [`known`] writes it: without indices, and `*` for a name that an operator
/// chooses. `None` if there is no such key.
fn found(path: &str) -> Option<String> {
    let mut written = Vec::new();
    let mut kinds = vec![Kind::Table(KEYS)];
    for part in path.split('.') {
        kinds = kinds.into_iter().flat_map(alternatives).collect();
        if part.parse::<usize>().is_ok() {
            kinds.retain(|kind| matches!(kind, Kind::List(_)));
            kinds = kinds.into_iter().flat_map(inner).collect();
            if kinds.is_empty() {
                return None;
            }
            continue;
        }
        if let Some(Kind::Named(each)) = kinds.iter().find(|kind| matches!(kind, Kind::Named(_))) {
            written.push("*");
            kinds = vec![**each];
            continue;
        }
        let tables = kinds.iter().filter_map(|kind| match kind {
            Kind::Table(keys) => Some(*keys),
            _ => None,
        });
        let key = tables.flatten().find(|key| key.name == part)?;
        written.push(key.name);
        kinds = vec![key.kind];
    }
    Some(written.join("."))
}

fn alternatives(kind: Kind) -> Vec<Kind> {
    match kind {
        Kind::Either(kinds) => kinds.iter().copied().flat_map(alternatives).collect(),
        kind => vec![kind],
    }
}

fn inner(kind: Kind) -> Vec<Kind> {
    match kind {
        Kind::List(kind) => alternatives(*kind),
        _ => Vec::new(),
    }
}

#[test]
fn every_key_that_is_read_is_known_and_every_known_one_is_read() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a written file");
    };
    write("CERT", pair.cert.pem());
    write("KEY", pair.signing_key.serialize_pem());
    let file = directory.path().join("every-table.toml");
    let document = Document::parse(file, EVERY_TABLE).expect("this is TOML");
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    root.finish();
    let asked = reader.asked();
    let (_, _warnings) = reader.finish(config).expect("the configuration is valid");

    let mut read = BTreeSet::new();
    let mut unknown = Vec::new();
    for path in &asked {
        match found(path) {
            Some(path) => {
                read.insert(path);
            }
            None => unknown.push(path),
        }
    }
    assert!(
        unknown.is_empty(),
        "these keys are read: add them to `config/keys`, of which the schema and docs/configuration.md are made: \
         {unknown:#?}"
    );
    let mut all = BTreeSet::new();
    known(KEYS, "", &mut all);
    let gone: Vec<_> = all.difference(&read).collect();
    assert!(
        gone.is_empty(),
        "nobody reads these keys of `config/keys`, or no table of this test can hold them: {gone:#?}"
    );
}
