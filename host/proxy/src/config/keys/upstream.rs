//! The keys of `[upstream.NAME]`.

use super::Default::{Is, Means, Required};
use super::Kind::{Boolean, Duration, Either, Integer, List, Pattern, Percent, Table, Text, Words};
use super::{ADDRESS, Key, Kind, PATH, key};

pub(super) const UPSTREAM: &[Key] = &[
    key(
        "endpoints",
        List(&Either(&[ENDPOINT, Table(WEIGHTED)])),
        Required,
        "`http://host:port` and `unix:/path`, or `https://host:port`; alone, or each with a weight: `{ url = \"…\", weight = 2 }`",
    ),
    key(
        "protocol",
        Words(&["http/1.1", "h2", "auto"]),
        Is("\"http/1.1\""),
        "`\"auto\"` only with `https`: [HTTP/2](upstreams.md#http2)",
    ),
    key(
        "balance",
        Either(&[Words(&["round-robin", "least-request"]), Table(BALANCE)]),
        Is("\"round-robin\""),
        "[which endpoint](upstreams.md#which-endpoint)",
    ),
    key(
        "tls",
        Table(TLS),
        Means("none"),
        "[who vouches for the servers](upstreams.md#tls), and what they are shown",
    ),
    key(
        "connect-timeout",
        Duration,
        Is("\"5s\""),
        "until a connection can be used, TLS included",
    ),
    key(
        "response-timeout",
        Duration,
        Is("\"60s\""),
        "from the request's last byte to the response's head",
    ),
    key(
        "idle-connections",
        Integer(0, 65_536),
        Is("64"),
        "kept per worker and address",
    ),
    key(
        "idle-timeout",
        Duration,
        Is("\"60s\""),
        "how long an unused connection is kept",
    ),
    key(
        "health",
        Table(HEALTH),
        Means("none"),
        "endpoints are [asked whether they are well](upstreams.md#which-endpoint)",
    ),
    key(
        "ejection",
        Table(EJECTION),
        Means("none"),
        "endpoints that fail are [left alone for a while](upstreams.md#which-endpoint); `{}` for all defaults",
    ),
    key(
        "slow-start",
        Duration,
        Is("\"0s\""),
        "how long an endpoint that comes back gets less than its share",
    ),
    key(
        "retry",
        Table(RETRY),
        Means("none"),
        "[what is sent again](upstreams.md#what-is-sent-again); `{}` for all defaults",
    ),
    key(
        "limits",
        Table(LIMITS),
        Means("none"),
        "[over all workers](upstreams.md#limits); more are a 503",
    ),
    key(
        "dns",
        Table(DNS),
        Means("those below"),
        "how [names](upstreams.md#endpoints) are resolved",
    ),
];

const ENDPOINT: Kind = Pattern("^([Hh][Tt][Tt][Pp][Ss]?://.|unix:/)");

const WEIGHTED: &[Key] = &[
    key("url", ENDPOINT, Required, "the endpoint"),
    key(
        "weight",
        Integer(1, 1000),
        Is("1"),
        "its share beside the others",
    ),
];

const BALANCE: &[Key] = &[key(
    "hash",
    Pattern("^(header:.|cookie:.|client-address$|path$)"),
    Required,
    "requests with the same key go to the same endpoint: `\"header:NAME\"`, `\"cookie:NAME\"`, `\"client-address\"` or `\"path\"`",
)];

const TLS: &[Key] = &[
    key(
        "ca",
        PATH,
        Means("the system's"),
        "a file in PEM with the certificates of those who vouch for the servers",
    ),
    key(
        "certificate",
        PATH,
        Means("none"),
        "a file in PEM: what is shown to a server that asks for a certificate",
    ),
    key("key", PATH, Means("none"), "a file in PEM: the key to it"),
    key(
        "server-name",
        Text,
        Means("the endpoint's host"),
        "what is asked for (SNI), and what the certificate has to be for",
    ),
    key(
        "verify",
        Boolean,
        Is("true"),
        "`false`: any certificate will do, and whoever stands between reads and changes everything",
    ),
];

/// A status, or a class of them.
const STATUS: Kind = Either(&[Integer(200, 599), Words(&["2xx", "3xx", "4xx", "5xx"])]);

const HEALTH: &[Key] = &[
    key("path", Pattern("^/"), Required, "asked for by GET"),
    key(
        "interval",
        Duration,
        Is("\"5s\""),
        "from one check to the next",
    ),
    key("timeout", Duration, Is("\"2s\""), "of one check"),
    key(
        "expect",
        Either(&[STATUS, List(&STATUS)]),
        Is("[\"2xx\", \"3xx\"]"),
        "what passes",
    ),
    key(
        "healthy",
        Integer(1, 100),
        Is("1"),
        "how many checks in a row have to pass",
    ),
    key(
        "unhealthy",
        Integer(1, 100),
        Is("1"),
        "how many in a row have to fail",
    ),
];

const EJECTION: &[Key] = &[
    key(
        "failures",
        Integer(1, 1000),
        Is("5"),
        "in a row: 5xx, time-outs, broken and failed connections",
    ),
    key(
        "time",
        Duration,
        Is("\"30s\""),
        "how long; twice that when it fails again soon, and so on up to ten times",
    ),
    key(
        "max",
        Percent,
        Is("\"50%\""),
        "at most this share of the endpoints at once",
    ),
];

const RETRY: &[Key] = &[
    key(
        "attempts",
        Integer(1, 10),
        Is("2"),
        "how many more, at most",
    ),
    key(
        "on",
        List(&Words(&[
            "connect", "reset", "timeout", "502", "503", "504",
        ])),
        Is("[\"connect\", \"reset\", \"502\", \"503\", \"504\"]"),
        "after what",
    ),
    key(
        "budget",
        Percent,
        Is("\"20%\""),
        "retries for so many requests",
    ),
    key(
        "back-off",
        Duration,
        Is("\"25ms\""),
        "before the first retry, about; doubled before each further one",
    ),
];

const LIMITS: &[Key] = &[
    key(
        "connections",
        Integer(1, 1_000_000),
        Means("none"),
        "open at once, upgraded ones left out",
    ),
    key(
        "pending",
        Integer(0, 1_000_000),
        Means("100"),
        "with `connections`: requests that wait for one of them, for up to `connect-timeout`",
    ),
    key(
        "requests",
        Integer(1, 1_000_000),
        Means("none"),
        "under way at once, until the end of the response",
    ),
    key(
        "retries",
        Integer(1, 1_000_000),
        Means("none"),
        "under way at once",
    ),
];

const DNS: &[Key] = &[
    key(
        "min-ttl",
        Duration,
        Is("\"1s\""),
        "names are not asked for more often",
    ),
    key("max-ttl", Duration, Is("\"5m\""), "nor less often"),
    key(
        "servers",
        List(&Either(&[ADDRESS, Text])),
        Means("the system's"),
        "addresses of name servers",
    ),
];
