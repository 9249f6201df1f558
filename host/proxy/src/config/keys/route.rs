//! The keys of `[[route]]`.

use super::Default::{Is, Means, Required};
use super::Kind::{
    Boolean, Duration, Either, Integer, List, Name, Named, Pattern, Size, Table, Text, Words,
};
use super::{Key, Kind, ONE_OR_MANY, key};

pub(super) const ROUTE: &[Key] = &[
    key("name", Name, Means("`route-N`"), "unique; for the log"),
    key(
        "listener",
        Text,
        Means("the only one"),
        "the name of a listener",
    ),
    key(
        "host",
        ONE_OR_MANY,
        Means("any"),
        "a name or a list of names; `*.example.com` is any name below",
    ),
    key(
        "path",
        Pattern("^/"),
        Is("\"/*\""),
        "`/exact`, or `/prefix/*` for `/prefix` and all below it; `{name}` stands for one whole segment, whatever it is: `/users/{id}/posts`",
    ),
    key(
        "methods",
        List(&Text),
        Means("any"),
        "such as `[\"GET\", \"HEAD\"]`",
    ),
    key(
        "headers",
        Named(&CONDITION),
        Means("none"),
        "table of fields and what one of their values has to be; see [below](#fields-and-parameters)",
    ),
    key(
        "query",
        Named(&CONDITION),
        Means("none"),
        "the same of query parameters",
    ),
    key(
        "strip-prefix",
        Pattern("^/"),
        Means("none"),
        "taken off the path before any plugin sees it",
    ),
    key(
        "rewrite",
        Table(REWRITE),
        Means("none"),
        "one of the two; see [below](#rewrites-and-redirects)",
    ),
    key(
        "plugins",
        List(&Text),
        Is("[]"),
        "the chain: request hooks in this order, response hooks in reverse",
    ),
    key(
        "upstream",
        Either(&[Text, List(&Either(&[Text, Table(SHARE)]))]),
        Means(""),
        "name of an upstream, or a list of names to share the requests: `[{ name = \"a\", weight = 9 }, { name = \"b\" }]`",
    ),
    key(
        "sticky",
        Table(STICKY),
        Means("none"),
        "with a list of upstreams, one of the two: requests with the same value go to the same one",
    ),
    key(
        "component",
        Text,
        Means(""),
        "name of a plugin that is a [component of `wasi:http`](plugins.md#standard-components) and answers",
    ),
    key(
        "reply",
        Table(REPLY),
        Means(""),
        "a response that is always the same",
    ),
    key(
        "redirect",
        Table(REDIRECT),
        Means(""),
        "see [below](#rewrites-and-redirects)",
    ),
    key(
        "compress",
        Table(COMPRESS),
        Means("none"),
        "responses are compressed; `{}` for all defaults; see [below](#compression)",
    ),
    key(
        "access-log",
        Boolean,
        Is("true"),
        "`false`: exchanges of this route have no line in the access log",
    ),
    key("websocket", Table(WEBSOCKET), Means("none"), ""),
    key("timeouts", Table(TIMEOUTS), Means("those below"), ""),
    key("limits", Table(LIMITS), Means("none"), ""),
];

/// What one field or parameter has to be.
const CONDITION: Kind = Either(&[VALUE, List(&VALUE)]);

const VALUE: Kind = Either(&[Text, Boolean, Table(PART)]);

const PART: &[Key] = &[
    key("prefix", Text, Means("none"), "how the value begins"),
    key(
        "regex",
        Text,
        Means("none"),
        "what matches the value from its first to its last byte",
    ),
];

const REWRITE: &[Key] = &[
    key(
        "path",
        Pattern("^[/{]"),
        Means("none"),
        "what the path becomes before any plugin sees it: `\"/v2/{id}\"`",
    ),
    key(
        "prefix",
        Pattern("^[/{]"),
        Means("none"),
        "what comes in the place of all before `/*`",
    ),
];

const SHARE: &[Key] = &[
    key("name", Text, Required, "of an upstream"),
    key(
        "weight",
        Integer(0, 1_000_000),
        Is("1"),
        "its share beside the others",
    ),
];

const STICKY: &[Key] = &[
    key("cookie", Text, Means("none"), "the name of a cookie"),
    key("header", Text, Means("none"), "the name of a field"),
];

const REPLY: &[Key] = &[
    key("status", Integer(200, 599), Is("200"), ""),
    key(
        "headers",
        Named(&ONE_OR_MANY),
        Is("{}"),
        "fields, without those that frame a message; with a body, `content-type` is `text/plain; charset=utf-8` unless it is here",
    ),
    key("body", Text, Is("\"\""), "text"),
];

const REDIRECT: &[Key] = &[
    key(
        "to",
        Text,
        Required,
        "a URL or a path: `\"https://{host}{path}\"`",
    ),
    key(
        "status",
        Integer(301, 308),
        Is("308"),
        "301, 302, 303, 307 or 308; the last two keep method and body",
    ),
];

const COMPRESS: &[Key] = &[
    key(
        "algorithms",
        List(&Words(&["zstd", "br", "gzip"])),
        Is("[\"zstd\", \"br\", \"gzip\"]"),
        "what may be used; a client gets what it gives the most weight to (`Accept-Encoding`, with `q`), and of equals what stands first here",
    ),
    key(
        "types",
        List(&Pattern("^[^/]+/[^/]+$")),
        Means("text, JSON, XML, JavaScript, WebAssembly, SVG, plain fonts"),
        "media types: `\"text/html\"`, `\"text/*\"`, `\"application/*+json\"`",
    ),
    key(
        "min-size",
        Size,
        Is("\"1KiB\""),
        "shorter responses stay as they are, where their length is known beforehand",
    ),
    key(
        "level",
        Words(&["fast", "balanced", "small"]),
        Is("\"fast\""),
        "`\"fast\"` (zstd 1, brotli 1, gzip 1), `\"balanced\"` (3, 4, 5), `\"small\"` (7, 6, 7): from the least time to the smallest response",
    ),
];

const WEBSOCKET: &[Key] = &[
    key(
        "ping-interval",
        Duration,
        Required,
        "a WebSocket's client that is silent for so long is sent a ping; at least `\"100ms\"`; see [below](#websockets-that-are-watched)",
    ),
    key(
        "ping-timeout",
        Duration,
        Is("\"10s\""),
        "without any byte from it for so long after that, it is cut off; at least `\"100ms\"`",
    ),
];

const TIMEOUTS: &[Key] = &[
    key(
        "response",
        Duration,
        Means("the upstream's"),
        "from the request's last byte to the response's head; see [time](upstreams.md#time)",
    ),
    key(
        "idle",
        Duration,
        Means("the listener's"),
        "how long the response's body may pause",
    ),
    key(
        "total",
        Duration,
        Means("none"),
        "from the request's head to the response's last byte",
    ),
];

const LIMITS: &[Key] = &[
    key(
        "upgrades",
        Integer(1, 10_000_000),
        Means("none"),
        "upgraded connections open at once, over all workers; more are a 503; see [below](#limits-on-upgrades)",
    ),
    key(
        "upgrades-per-client",
        Integer(1, 10_000_000),
        Means("none"),
        "the same for one client address, as `trusted-proxies` tell it; more are a 429",
    ),
];
