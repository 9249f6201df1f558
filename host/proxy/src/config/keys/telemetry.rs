//! The keys of `[log]` and `[telemetry]`.

use super::Default::{Is, Means, Required};
use super::Kind::{
    Boolean, Duration, Either, Integer, Named, Number, Pattern, Size, Table, Text, Words,
};
use super::{Key, PATH, key};

pub(super) const LOG: &[Key] = &[key("access", Table(ACCESS), Means("none"), "")];

const ACCESS: &[Key] = &[
    key(
        "to",
        Either(&[Words(&["stdout", "stderr"]), Table(PLACE)]),
        Required,
        "`\"stdout\"`, `\"stderr\"`, or a table with one of the two below",
    ),
    key(
        "format",
        Text,
        Is("\"json\""),
        "`\"json\"`, `\"common\"`, `\"combined\"`, or text with fields in braces",
    ),
    key(
        "buffer",
        Size,
        Is("\"4MiB\""),
        "lines that may wait to be written, `\"64KiB\"` to `\"1GiB\"`; those beyond are lost and counted",
    ),
];

const PLACE: &[Key] = &[
    key("file", PATH, Means(""), "a file, made with mode 0640"),
    key(
        "syslog",
        Text,
        Means(""),
        "the socket of a syslog daemon, `\"/dev/log\"`, or its address, `\"udp://192.0.2.1:514\"`",
    ),
];

pub(super) const TELEMETRY: &[Key] = &[key("traces", Table(TRACES), Means("none"), "")];

const TRACES: &[Key] = &[
    key(
        "endpoint",
        Pattern("^https?://"),
        Required,
        "the whole URL: `\"http://127.0.0.1:4318/v1/traces\"`",
    ),
    key(
        "ca",
        PATH,
        Means("the system's"),
        "a file of certificates that vouch for the collector",
    ),
    key(
        "headers",
        Named(&Text),
        Is("{}"),
        "sent with each batch: `{ authorization = \"${file:/run/secrets/collector}\" }`",
    ),
    key("sampled", PERCENT, Is("100"), SAMPLED),
    key(
        "parent-based",
        Boolean,
        Is("true"),
        "a trace that the caller began is recorded if the caller records it; `false`: `sampled` decides",
    ),
    key("service", Text, Is("\"witgate\""), "`service.name`"),
    key(
        "resource",
        Named(&Text),
        Is("{}"),
        "what else is said of this process: `{ \"deployment.environment.name\" = \"production\" }`",
    ),
    key(
        "queue",
        Integer(1, 1 << 20),
        Is("2048"),
        "exchanges that may wait to be sent; those beyond are lost and counted",
    ),
    key(
        "batch",
        Integer(1, 1 << 16),
        Is("512"),
        "spans that are sent at once",
    ),
    key(
        "interval",
        Duration,
        Is("\"5s\""),
        "how long spans wait for others",
    ),
    key(
        "timeout",
        Duration,
        Is("\"10s\""),
        "how long the collector may take for a batch, further attempts included",
    ),
];

/// How many of a hundred.
pub(super) const PERCENT: super::Kind = Number(0, 100);

const SAMPLED: &str =
    "how many of a hundred traces that begin here are recorded, or a part such as `0.1`";
