//! Reads `[keyvalue.NAME]` and `grant.keyvalue`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use witgate_runtime::MAX_VALUE;

use super::model::{KeyValueGrant, KeyValueKind, KeyValueStore, Plugin, RedisStore};
use super::shape::{Located, located, name, path, positive_duration, size_within, string, word};
use super::suggest::{did_you_mean, enumerate};
use super::{Item, Problem, Reader, Section, authorities};

/// The store of a grant that names none; there without a table, in memory.
pub(super) const DEFAULT_STORE: &str = "default";

/// 64 MiB: some hundred thousand counters, and not missed on a machine that runs a browser.
const DEFAULT_SIZE: usize = 64 << 20;

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    File,
    Redis,
}

const KINDS: [(&str, Kind); 3] = [
    ("memory", Kind::Memory),
    ("file", Kind::File),
    ("redis", Kind::Redis),
];

pub(super) fn default_kind() -> KeyValueKind {
    KeyValueKind::Memory { size: DEFAULT_SIZE }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<KeyValueStore> {
    let kind = match section.required("kind", "\"memory\"", word(&KINDS))? {
        Kind::Memory => Some(KeyValueKind::Memory {
            size: read_size(section),
        }),
        Kind::File => {
            let size = read_size(section);
            let path = section.required("path", "\"state/counters.redb\"", file);
            path.map(|path| KeyValueKind::File { path, size })
        }
        Kind::Redis => read_redis(section).map(|redis| KeyValueKind::Redis(Box::new(redis))),
    };
    Some(KeyValueStore {
        kind: kind?,
        location: section.location(),
    })
}

fn read_size(section: &mut Section<'_>) -> usize {
    section.default("size", DEFAULT_SIZE, size_within(4 << 20..=64 << 30))
}

fn file(item: &Item<'_>) -> Option<PathBuf> {
    let path = path(item)?;
    let directory = path.parent().unwrap_or(&path);
    if path.is_dir() {
        return item.reject("this is a directory", "name a file in it");
    }
    match directory.as_os_str().is_empty() || directory.is_dir() {
        true => Some(path),
        false => item.reject(
            format!("the directory of {} is not there", item.shown()),
            "make it first; the file itself is made with mode 0600",
        ),
    }
}

/// 1 s: a client waits for it, and a store in the same network answers in a thousandth of that.
fn read_redis(section: &mut Section<'_>) -> Option<RedisStore> {
    let url = section.required("url", "\"redis://127.0.0.1:6379/0\"", url);
    let username = section.optional("username", string);
    let password = section.optional("password", string);
    let ca = section.optional("ca", located(authorities::read));
    let timeout = section.default("timeout", Duration::from_secs(1), positive_duration);
    let prefix = section.default("prefix", "witgate".to_owned(), name);
    let info = url?;
    if let Some(ca) = &ca
        && !matches!(info.addr(), ConnectionAddr::TcpTls { .. })
    {
        let message = "`ca` is for a store by TLS, and this one is not";
        let problem = Problem::error(ca.location.clone(), &ca.path, message);
        section
            .reader()
            .report(problem.with_help("remove it, or write `rediss://` in `url`"));
    }
    let mut settings = info.redis_settings().clone();
    if let Some(username) = username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Some(RedisStore {
        connection: info.set_redis_settings(settings),
        ca: ca.map(|ca| ca.value),
        timeout,
        prefix: prefix.into(),
    })
}

fn url(item: &Item<'_>) -> Option<ConnectionInfo> {
    const HELP: &str =
        "write `redis://host:port/database`, or `rediss://` for TLS: \"redis://127.0.0.1:6379/0\"";
    let text = item.text("a URL, such as \"redis://127.0.0.1:6379/0\"")?;
    // What stands behind a `#` would ask for a server that shows no certificate.
    let is_store =
        matches!(text.split_once("://"), Some(("redis" | "rediss", rest)) if !rest.contains('#'));
    if !is_store {
        return item.reject(format!("{} is no URL of a store", item.shown()), HELP);
    }
    if text.contains('@') {
        return item.reject(
            "the URL of a store holds no user name and password",
            "set `username` and `password = \"${file:/run/secrets/redis}\"` instead",
        );
    }
    match text.into_connection_info() {
        Ok(info) => Some(info),
        // What is wrong with it could show the password.
        Err(_) => item.reject(format!("{} is no URL of a store", item.shown()), HELP),
    }
}

pub(super) fn read_grant(section: &mut Section<'_>) -> Option<KeyValueGrant> {
    let store = section.optional("store", located(name));
    let value_size = size_within(1..=MAX_VALUE as u64);
    let operations = [("read-write", false), ("read", true)];
    Some(KeyValueGrant {
        store,
        shared: section.optional("shared", name).map(Arc::from),
        value_size: section.default("value-size", 64 << 10, value_size),
        read_only: section.default("operations", false, word(&operations)),
    })
}

impl KeyValueGrant {
    /// The name of the store.
    pub fn store(&self) -> &str {
        let named = self.store.as_ref();
        named.map_or(DEFAULT_STORE, |store: &Located<String>| &store.value)
    }
}

/// Reports grants of stores that there are not, and stores that share a file.
pub(super) fn check(
    reader: &Reader<'_>,
    stores: &[(String, Option<KeyValueStore>)],
    plugins: &[(String, Option<Plugin>)],
) {
    let names = || stores.iter().map(|(name, _)| name.as_str());
    let grants = plugins
        .iter()
        .filter_map(|(_, plugin)| plugin.as_ref()?.grant.keyvalue.as_ref());
    for store in grants.filter_map(|grant| grant.store.as_ref()) {
        let name = store.value.as_str();
        if name == DEFAULT_STORE || names().any(|there| there == name) {
            continue;
        }
        let problem = Problem::error(
            store.location.clone(),
            &store.path,
            format!("there is no store `{name}`"),
        );
        reader.report(match did_you_mean(name, names()) {
            Some(suggestion) => problem.with_help(suggestion),
            None if stores.is_empty() => problem.with_help(format!(
                "add `[keyvalue.{name}]`, or leave `store` out for the one in memory"
            )),
            None => problem.with_help(format!("there are {}", enumerate(names()))),
        });
    }
    let mut files: BTreeMap<&PathBuf, &KeyValueStore> = BTreeMap::new();
    for (name, store) in stores {
        let Some(store) = store else { continue };
        let KeyValueKind::File { path, .. } = &store.kind else {
            continue;
        };
        if let Some(first) = files.insert(path, store) {
            let message = "two stores cannot have the same file";
            let problem =
                Problem::error(store.location.clone(), format!("keyvalue.{name}"), message);
            reader.report(
                problem
                    .with_help("give each a file of its own, or grant one store to both plugins")
                    .with_related(first.location.clone(), "the first one"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::super::shape::{named, table};
    use super::*;

    fn stores(text: &str) -> Result<Vec<KeyValueKind>, String> {
        let document = Document::parse("a.toml", text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let stores = root.required(
            "keyvalue",
            "",
            named("keyvalue", |_, section| read(section)),
        );
        root.finish();
        let stores = stores.map(|stores| stores.into_iter().map(|store| store.kind).collect());
        reader
            .finish(stores)
            .map(|(stores, _)| stores)
            .map_err(|problems| problems.to_string())
    }

    fn grant(text: &str) -> Result<KeyValueGrant, String> {
        let document = Document::parse("a.toml", text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let grant = root.required("grant", "", table(read_grant));
        root.finish();
        reader
            .finish(grant)
            .map(|(grant, _)| grant)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn each_kind_has_its_keys_and_defaults() {
        let found = stores(
            "[keyvalue.a]\nkind = 'memory'\n[keyvalue.b]\nkind = 'file'\npath = 'b.redb'\nsize = '4MiB'\n\
             [keyvalue.c]\nkind = 'redis'\nurl = 'redis://cache:6380/3'\npassword = 's3cret'\n",
        )
        .expect("all are valid");
        let [
            KeyValueKind::Memory { size },
            KeyValueKind::File {
                path,
                size: bounded,
            },
            KeyValueKind::Redis(redis),
        ] = &found[..]
        else {
            panic!("{found:?}");
        };
        assert_eq!((*size, *bounded), (64 << 20, 4 << 20));
        assert!(path.ends_with("b.redb"));
        assert_eq!(
            (redis.timeout, &*redis.prefix),
            (Duration::from_secs(1), "witgate")
        );
        let settings = redis.connection.redis_settings();
        assert_eq!((settings.db(), settings.password()), (3, Some("s3cret")));
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }

    #[test]
    fn what_is_no_store_is_refused_with_what_would_be_right() {
        for (table, message) in [
            ("", "`kind` is missing"),
            ("kind = 'disk'", "expected one of"),
            ("kind = 'memory'\npath = 'a'", "unknown key `path`"),
            ("kind = 'memory'\nsize = '1MiB'", "out of range"),
            ("kind = 'file'", "`path` is missing"),
            (
                "kind = 'file'\npath = 'no/such/directory/a'",
                "is not there",
            ),
            ("kind = 'file'\npath = '.'", "this is a directory"),
            ("kind = 'redis'", "`url` is missing"),
            (
                "kind = 'redis'\nurl = 'rediss://a#insecure'",
                "is no URL of a store",
            ),
            (
                "kind = 'redis'\nurl = 'redis://a'\nca = 'src/lib.rs'",
                "there is no certificate in it",
            ),
            ("kind = 'redis'\nurl = 'http://a'", "is no URL of a store"),
            (
                "kind = 'redis'\nurl = 'redis://:pw@a'",
                "holds no user name",
            ),
            (
                "kind = 'redis'\nurl = 'redis://a:b:c'",
                "is no URL of a store",
            ),
        ] {
            let report = stores(&format!("[keyvalue.a]\n{table}")).expect_err(table);
            assert!(report.contains(message), "{report}");
        }
    }

    #[test]
    fn a_grant_needs_nothing_and_is_for_the_default_store() {
        let found = grant("grant = {}").expect("valid");
        assert_eq!((found.store(), found.value_size), ("default", 64 << 10));
        assert_eq!((found.shared.clone(), found.read_only), (None, false));
        let set =
            "grant = { store = 'a', shared = 'both', value-size = '1MiB', operations = 'read' }";
        let found = grant(set).expect("valid");
        assert_eq!((found.store(), found.value_size), ("a", 1 << 20));
        assert_eq!(
            (found.shared.as_deref(), found.read_only),
            (Some("both"), true)
        );
        assert!(grant("grant = { value-size = '2MiB' }").is_err());
    }
}
