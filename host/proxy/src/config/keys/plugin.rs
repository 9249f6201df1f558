//! The keys of `[plugin.NAME]` and `[keyvalue.NAME]`.

use super::Default::{Is, Means, Required};
use super::Kind::{
    Boolean, Config, Duration, Either, Integer, List, Name, Named, Pattern, Size, Table, Text,
    Words,
};
use super::{Key, PATH, key};

pub(super) const PLUGIN: &[Key] = &[
    key(
        "component",
        Either(&[Text, Table(COMPONENT)]),
        Required,
        "`\"builtin:NAME\"`, the path of a `.wasm` component, or `{ path = \"x.wasm\", sha256 = \"…\" }`: that file and no other",
    ),
    key(
        "watch",
        Boolean,
        Is("false"),
        "swaps the component when its file changes; see [operating](operating.md#components)",
    ),
    key(
        "config",
        Config,
        Is("{}"),
        "the plugin's own; see the [catalogue](plugin-catalogue.md), or `witgate plugin inspect FILE --schema`",
    ),
    key("grant", Table(GRANT), Means("none"), ""),
    key("limits", Table(LIMITS), Means("those below"), ""),
    key(
        "isolation",
        Words(&["worker", "exchange"]),
        Is("\"worker\""),
        "`\"exchange\"` gives each exchange an [instance of its own](plugins.md#isolation)",
    ),
    key(
        "on-failure",
        Words(&["closed", "open"]),
        Is("\"closed\""),
        "`\"open\"` skips the plugin when it fails",
    ),
];

const COMPONENT: &[Key] = &[
    key("path", PATH, Required, "of a `.wasm` component"),
    key(
        "sha256",
        Pattern("^[0-9A-Fa-f]{64}$"),
        Means("any"),
        "of the file, as `sha256sum` prints it",
    ),
];

const GRANT: &[Key] = &[
    key(
        "files",
        List(&Table(FILES)),
        Is("[]"),
        "directories that the plugin may answer with",
    ),
    key(
        "http-client",
        Table(HTTP_CLIENT),
        Means("none"),
        "where it may [send requests](plugins.md#http-client), by `http` or `https`",
    ),
    key(
        "keyvalue",
        Table(STORE),
        Means("none"),
        "a [store](plugins.md#keyvalue) that it may use",
    ),
    key(
        "metrics",
        Table(METRICS),
        Means("none"),
        "[metrics of its own](plugins.md#metrics)",
    ),
    key(
        "secrets",
        Named(&Text),
        Means("none"),
        "`{ NAME = \"${file:…}\" }`: [secrets](plugins.md#secrets) that it may ask for by name; at most 64 KiB each",
    ),
    key(
        "wasi",
        Table(WASI),
        Means("none"),
        "for a component that imports WASI; see [below](#wasi)",
    ),
];

const FILES: &[Key] = &[
    key("path", PATH, Required, "of a directory that is there"),
    key("as", Pattern("^/"), Required, "where the plugin finds it"),
];

const HTTP_CLIENT: &[Key] = &[
    key(
        "origins",
        List(&Text),
        Required,
        "such as `[\"http://127.0.0.1:6667\"]`",
    ),
    key("timeout", Duration, Is("\"2s\""), "of one request"),
    key("body-size", Size, Is("\"1MiB\""), "of an answer"),
    key(
        "concurrency",
        Integer(1, 1024),
        Is("16"),
        "requests under way at once on each worker",
    ),
    key(
        "ca",
        PATH,
        Means("the system's"),
        "a PEM file with the certificates of those who vouch for the servers, and nobody else does",
    ),
];

const STORE: &[Key] = &[
    key("store", Name, Is("\"default\""), "a `[keyvalue.NAME]`"),
    key(
        "shared",
        Name,
        Means("its own"),
        "keys are those of all plugins with the same name here",
    ),
    key("value-size", Size, Is("\"64KiB\""), "at most `\"1MiB\"`"),
    key(
        "operations",
        Words(&["read-write", "read"]),
        Is("\"read-write\""),
        "what it may do",
    ),
];

const METRICS: &[Key] = &[key(
    "series",
    Integer(1, 10_000),
    Is("100"),
    "how many there are at most",
)];

const WASI: &[Key] = &[
    key(
        "env",
        Named(&Text),
        Is("{}"),
        "environment variables; the process's own are not inherited",
    ),
    key(
        "config",
        Named(&Text),
        Is("{}"),
        "what `wasi:config/store` holds, text by key",
    ),
    key(
        "directories",
        List(&Table(DIRECTORY)),
        Is("[]"),
        "that it may open",
    ),
];

const DIRECTORY: &[Key] = &[
    key("path", PATH, Required, "of a directory that is there"),
    key("as", Pattern("^/"), Required, "where the plugin finds it"),
    key("write", Boolean, Is("false"), "whether it may write there"),
];

const LIMITS: &[Key] = &[
    key("deadline", Duration, Is("\"50ms\""), "run time of one call"),
    key(
        "start",
        Duration,
        Is("\"5s\""),
        "run time of instantiation and configuration",
    ),
    key(
        "memory",
        Size,
        Is("\"64MiB\""),
        "of one instance, `\"64KiB\"` to `\"4GiB\"`",
    ),
    key(
        "held-body",
        Size,
        Is("\"1MiB\""),
        "of a body that is held back, at most `\"1GiB\"`",
    ),
    key(
        "message",
        Size,
        Is("\"16MiB\""),
        "of a message of a WebSocket that the plugin looks at, or makes; a longer one ends the WebSocket with 1009",
    ),
    key(
        "log-lines",
        Integer(0, 1_000_000),
        Is("100"),
        "a second, on each worker; of a component of `wasi:http` for each exchange",
    ),
    key(
        "concurrency",
        Integer(1, 65_536),
        Means("16; with `isolation = \"exchange\"` 256; of `wasi:http` 64"),
        "calls under way at once on each worker; with `isolation = \"exchange\"` and of `wasi:http` exchanges, each with an instance of its own",
    ),
    key(
        "wait",
        Duration,
        Is("\"1s\""),
        "for a turn, when there are as many; then it is a 503",
    ),
    key(
        "exchanges",
        Integer(1, i64::MAX),
        Means("none"),
        "after so many, an instance is replaced",
    ),
    key(
        "recycle-memory",
        Size,
        Means("see [isolation](plugins.md#isolation)"),
        "an instance that has taken more is replaced",
    ),
    key(
        "first-byte",
        Duration,
        Means("`\"30s\"`"),
        "of `wasi:http`: from the request to the head of its response, whether it computes or waits",
    ),
    key(
        "processor",
        Duration,
        Means("`\"10s\"`"),
        "of `wasi:http`: time of a processor that one exchange may take; waiting does not count",
    ),
];

pub(super) const KEYVALUE: &[Key] = &[
    key(
        "kind",
        Words(&["memory", "file", "redis"]),
        Required,
        "`\"memory\"`: gone with the process; `\"file\"`: outlives it; `\"redis\"`: shared by several machines",
    ),
    key(
        "size",
        Size,
        Means("`\"64MiB\"`"),
        "of keys and values, with 128 bytes more for each; at least `\"4MiB\"`. Full, a store in memory forgets what was not used for longest, and one in a file refuses",
    ),
    key(
        "path",
        PATH,
        Means("required for `\"file\"`"),
        "made with mode 0600; one process at a time has it",
    ),
    key(
        "url",
        Pattern("^rediss?://"),
        Means("required for `\"redis\"`"),
        "`\"redis://host:port/database\"`, Redis or Valkey; `rediss://` for TLS",
    ),
    key(
        "ca",
        PATH,
        Means("the system's"),
        "`\"redis\"` by TLS: a PEM file with the certificates of those who vouch for the server",
    ),
    key("username", Text, Means("none"), "`\"redis\"`"),
    key(
        "password",
        Text,
        Means("none"),
        "`\"redis\"`: `password = \"${file:/run/secrets/redis}\"`",
    ),
    key(
        "timeout",
        Duration,
        Means("`\"1s\"`"),
        "`\"redis\"`: for all calls of one hook call together, and for a connection",
    ),
    key(
        "prefix",
        Name,
        Means("`\"witgate\"`"),
        "`\"redis\"`: what every key there starts with: `PREFIX:plugin:NAME:KEY` or `PREFIX:shared:NAME:KEY`",
    ),
];
