//! The keys of `[server]`, `[admin]` and `[[listener]]`.

use super::Default::{Is, Means, Required};
use super::Kind::{
    Boolean, Duration, Either, False, Integer, List, Name, Number, Size, Table, Text, Words,
};
use super::{BIND, Key, PATH, key};

pub(super) const SERVER: &[Key] = &[
    key(
        "workers",
        Integer(1, 1024),
        Means("cores"),
        "threads that serve, each with its own event loop",
    ),
    key(
        "trusted-proxies",
        List(&Text),
        Is("[]"),
        "peers (addresses, CIDR blocks, or `\"unix:\"` for whoever may connect to our [Unix sockets](#unix-sockets-and-sockets-of-systemd)) whose `X-Forwarded-For`, `-Proto`, `-Host` and `X-Request-Id` are believed",
    ),
    key(
        "forwarded",
        Boolean,
        Is("false"),
        "upstreams are told of the client by `Forwarded` (RFC 7239) as well; see [below](#what-upstreams-are-told)",
    ),
    key(
        "via",
        Name,
        Means("none"),
        "our name in `Via`; a request that has it already is answered 508",
    ),
    key("trace-context", Table(TRACE_CONTEXT), Means("none"), ""),
    key(
        "shutdown-grace",
        Duration,
        Is("\"30s\""),
        "how long what is under way may take to end",
    ),
    key(
        "drain-delay",
        Duration,
        Is("\"0s\""),
        "after a stop was asked for, how long `/ready` says no before the listeners close",
    ),
    key(
        "restart-timeout",
        Duration,
        Is("\"2m\""),
        "how long a process that is to [take over](operating.md#restart-without-losing-a-connection) may take until it serves",
    ),
    key(
        "code-cache",
        Either(&[PATH, False]),
        Means("the user's cache"),
        "directory of compiled components; `false`: none",
    ),
];

const TRACE_CONTEXT: &[Key] = &[
    key(
        "begin",
        Boolean,
        Is("true"),
        "with a table `trace-context`, a request without a `traceparent` that can be read begins a trace",
    ),
    key(
        "sampled",
        Number(0, 100),
        Is("100"),
        "how many of a hundred traces that begin here are said to be recorded, or a part such as `0.1`",
    ),
];

/// Of a file, in octal digits.
const MODE: super::Kind = super::Kind::Pattern("^0?[0-7]{3}$");

const ABOUT_MODE: &str =
    "of a Unix socket's file, whatever the umask: who may write to it may connect";

const ABOUT_GROUP: &str = "of a Unix socket's file, by name or number";

pub(super) const ADMIN: &[Key] = &[
    key(
        "bind",
        BIND,
        Required,
        "such as `\"127.0.0.1:9901\"` or `\"unix:/run/witgate/admin.sock\"`; see [listeners](#listener)",
    ),
    key("mode", MODE, Is("\"0660\""), ABOUT_MODE),
    key("group", Text, Means("the process's"), ABOUT_GROUP),
    key(
        "token",
        Text,
        Means("none"),
        "what everything but `/health`, `/ready` without its details and the files of the dashboard asks for, as a bearer token of at least 16 characters; without one it is shown on a loopback address only",
    ),
    key(
        "exchanges",
        Boolean,
        Is("true"),
        "whether some of the exchanges that ended are kept to be looked at",
    ),
];

pub(super) const LISTENER: &[Key] = &[
    key("name", Name, Required, "unique"),
    key(
        "bind",
        BIND,
        Required,
        "`\"0.0.0.0:80\"`, `\"[::1]:8080\"`; port 0 lets the kernel choose; `\"unix:/path\"` and `\"systemd:NAME\"`: see [below](#unix-sockets-and-sockets-of-systemd)",
    ),
    key("mode", MODE, Is("\"0660\""), ABOUT_MODE),
    key("group", Text, Means("the process's"), ABOUT_GROUP),
    key(
        "protocols",
        List(&Words(&["http/1.1", "h2"])),
        Means("`[\"http/1.1\"]`, with `tls` also `\"h2\"`"),
        "what clients may speak; see [HTTP/2](#http2)",
    ),
    key("tls", Table(TLS), Means("none"), "see [TLS](#tls)"),
    key(
        "proxy-protocol",
        Words(&["require"]),
        Means("none"),
        "see [the PROXY protocol](#the-proxy-protocol)",
    ),
    key("limits", Table(LIMITS), Means("those below"), ""),
];

const TLS: &[Key] = &[
    key(
        "certificates",
        List(&Table(CERTIFICATE)),
        Means("none"),
        "required, unless there is `acme`, or one is `self-signed`. Each client is shown the one that names the host it asks for (SNI), exactly or by `*.`; of several, the first whose kind of key it knows; otherwise the first of the list",
    ),
    key(
        "acme",
        Table(ACME),
        Means("none"),
        "a certificate from an authority, instead of these or beside them; see [below](#certificates-by-acme)",
    ),
    key(
        "self-signed",
        Either(&[Boolean, List(&Text)]),
        Is("false"),
        "`true`, or a list of names: a certificate that vouches for itself, in place of `certificates`, for development; `true` is for `localhost`, `127.0.0.1` and `::1`. It lives in memory, as long as the process",
    ),
    key(
        "min-version",
        Words(&["1.2", "1.3"]),
        Is("\"1.2\""),
        "of TLS",
    ),
    key(
        "client-ca",
        PATH,
        Means("none"),
        "a file in PEM with the authorities of clients' certificates",
    ),
    key(
        "client-auth",
        Words(&["require", "request"]),
        Means("`\"require\"` with `client-ca`"),
        "`\"request\"` also lets in clients without a certificate; one of a stranger is refused all the same",
    ),
];

const ACME: &[Key] = &[
    key(
        "domains",
        List(&Text),
        Required,
        "up to 100 names, all in one certificate; no addresses, and no wildcards, which need a change of the zone (`dns-01`)",
    ),
    key(
        "terms-agreed",
        Boolean,
        Required,
        "`true`: you have read the authority's terms, and agree",
    ),
    key(
        "storage",
        PATH,
        Required,
        "a directory for the account's key and the certificate; made with mode 0700 when it is not there, each file in it 0600",
    ),
    key(
        "challenge",
        Words(&["tls-alpn-01", "http-01"]),
        Is("\"tls-alpn-01\""),
        "how the authority sees that the names are yours: by a handshake with this listener, as port 443; or by a request to any listener without `tls`, as port 80, answered before any route",
    ),
    key(
        "contact",
        List(&Text),
        Is("[]"),
        "`mailto:` addresses for the authority",
    ),
    key(
        "directory",
        Text,
        Means("Let's Encrypt's"),
        "URL of the authority's directory; `https://acme-staging-v02.api.letsencrypt.org/directory` to try things out",
    ),
    key(
        "ca",
        PATH,
        Means("the system's"),
        "a file in PEM with the one who vouches for the directory, for an authority of your own",
    ),
];

const CERTIFICATE: &[Key] = &[
    key(
        "cert",
        PATH,
        Required,
        "a file in PEM: the server's certificate, then those between it and the authority",
    ),
    key(
        "key",
        PATH,
        Required,
        "a file in PEM: its key, not encrypted",
    ),
];

const LIMITS: &[Key] = &[
    key(
        "connections",
        Integer(1, 10_000_000),
        Is("10000"),
        "open at once; more wait in the kernel",
    ),
    key(
        "header-count",
        Integer(1, 10_000),
        Is("100"),
        "fields in a request head; more is a 431",
    ),
    key(
        "header-size",
        Size,
        Is("\"64KiB\""),
        "bytes of a request head, `\"1KiB\"` to `\"16MiB\"`; more is a 431",
    ),
    key(
        "header-timeout",
        Duration,
        Is("\"10s\""),
        "until a request's head is whole",
    ),
    key(
        "idle-timeout",
        Duration,
        Is("\"75s\""),
        "a kept-alive connection without a request",
    ),
    key(
        "body-size",
        Either(&[Size, Words(&["none"])]),
        Is("\"none\""),
        "bytes of a request body; more is a 413",
    ),
    key(
        "body-timeout",
        Duration,
        Is("\"60s\""),
        "a body, either way, without a byte moving",
    ),
    key(
        "requests",
        Either(&[Integer(1, 1_000_000_000_000), Words(&["none"])]),
        Is("\"none\""),
        "requests on one connection; the last one's response ends it",
    ),
    key(
        "streams",
        Integer(1, 10_000),
        Is("100"),
        "requests that one connection of HTTP/2 may have open at once",
    ),
];
