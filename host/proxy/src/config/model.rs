//! What a valid configuration is: resolved values, every reference already checked.
//!
//! Nothing here can be wrong in itself; what can be wrong is found while a [`Document`](super::Document) is read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use witgate_runtime::{Isolation, Origin, WasiDirectory};

use super::shape::Located;
use super::{
    Authorities, Bind, Compress, Conditions, Contents, Location, PathPattern, Template, Upstream,
};
pub use crate::access::{LineField, LineFormat, LinePiece};
pub use crate::tls::Tls;

/// A whole configuration file, without the parts that other crates own (`[chrome]`).
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[[listener]]`, in file order; at least one.
    pub listeners: Vec<Listener>,
    /// `[[route]]`, in file order.
    pub routes: Vec<Route>,
    /// `[upstream.NAME]`
    pub upstreams: BTreeMap<Arc<str>, Upstream>,
    /// `[keyvalue.NAME]`, and `default`, which needs no table.
    pub stores: BTreeMap<Arc<str>, KeyValueStore>,
    /// `[plugin.NAME]`
    pub plugins: BTreeMap<Arc<str>, Plugin>,
    /// `[log.access]`: absent, lines are part of the process's own log.
    pub access_log: Option<AccessLog>,
    /// `[telemetry.traces]`: absent, nothing is recorded.
    pub traces: Option<Traces>,
    /// `[admin]`: absent, there is no admin listener.
    pub admin: Option<Admin>,
    /// What every part of the file says, to be compared with the next configuration.
    pub contents: Contents,
    /// The file as a whole.
    pub location: Location,
}

/// `[log.access]`: where a line for each exchange goes.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// `to`
    pub to: AccessLogTo,
    /// `format`: `json` (default), `common`, `combined`, or text with `{fields}` in it.
    pub format: LineFormat,
    /// `buffer`: bytes of lines that may wait to be written; those beyond are lost. Default 4 MiB.
    pub buffer: usize,
    /// Where the table stands in the file, for the message when the file cannot be opened.
    pub location: Location,
}

/// `log.access.to`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTo {
    /// `"stdout"`
    Stdout,
    /// `"stderr"`
    Stderr,
    /// `{ file = "…" }`: made with mode 0640, appended to, and opened again when it was moved away.
    File(PathBuf),
    /// `{ syslog = "/dev/log" }`
    SyslogSocket(PathBuf),
    /// `{ syslog = "udp://…" }`
    SyslogUdp(SocketAddr),
}

/// `[telemetry.traces]`: where spans go.
#[derive(Debug, Clone)]
pub struct Traces {
    /// `sampled` and `parent-based`
    pub context: TraceContext,
    /// `endpoint`
    pub collector: Collector,
    /// `ca`: who vouches for the collector, in place of those that the system trusts.
    pub ca: Option<Authorities>,
    /// `headers`: sent with each batch.
    pub headers: BTreeMap<String, Secret>,
    /// `service`: `service.name`. Default `witgate`.
    pub service: String,
    /// `resource`: what else is said of this process.
    pub resource: BTreeMap<String, String>,
    /// `queue`: exchanges that may wait to be sent; those beyond are lost. Default 2048.
    pub queue: usize,
    /// `batch`: spans that are sent at once. Default 512.
    pub batch: usize,
    /// `interval`: how long spans wait for others. Default `5s`.
    pub interval: Duration,
    /// `timeout`: how long the collector may take, further attempts included. Default `10s`.
    pub timeout: Duration,
}

/// `telemetry.traces.endpoint`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// The whole URL.
    pub url: Box<str>,
    /// Of the URL.
    pub origin: Origin,
}

/// `[admin]`: what the process shows of itself.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `bind`: as of a listener.
    pub bind: Bind,
    /// Where `bind` stands in the file, for the message when the address cannot be bound.
    pub bind_location: Location,
    /// `token`: what a scraper of `/metrics` has to show. At least 16 characters.
    pub token: Option<Secret>,
    /// `exchanges`: whether some of the exchanges that ended are kept to be looked at. Default `true`.
    pub exchanges: bool,
}

/// A secret of the configuration, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The secret itself: compare it in constant time, and write it nowhere.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[server]`: what holds for the whole process.
#[derive(Debug, Clone)]
pub struct Server {
    /// `workers`: threads that serve, each with its own event loop. Default: one per core this process may use.
    pub workers: usize,
    /// `trusted-proxies`: peers whose `X-Forwarded-For`, `-Proto` and `-Host` are believed. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// `"unix:"` among `trusted-proxies`: whoever may connect to our Unix sockets is believed as well.
    pub trusts_unix: bool,
    /// `forwarded`: upstreams are told of the client by `Forwarded` (RFC 7239) as well. Default `false`.
    pub forwarded: bool,
    /// `via`: our name in `Via`. Default: there is none, and the field goes through as it is.
    pub via: Option<Via>,
    /// `trace-context`: default: the fields go through as they are.
    pub trace_context: Option<TraceContext>,
    /// `shutdown-grace`: how long in-flight exchanges may take to end after a stop was asked for. Default `30s`.
    pub shutdown_grace: Duration,
    /// `drain-delay`: how long `/ready` says no, after a stop was asked for, before listeners close. Long enough for
    /// whoever balances the load to notice. Default `0s`.
    pub drain_delay: Duration,
    /// `restart-timeout`: how long a process that is to take over may take until it serves. Default `2m`: it may have to
    /// compile its components first.
    pub restart_timeout: Duration,
    /// `code-cache`: directory of compiled components. Default `$XDG_CACHE_HOME/witgate`; `false` turns it off.
    pub code_cache: CodeCache,
}

/// `server.via`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// A pseudonym (RFC 9110 §7.6.3): a request that has it already goes in a circle.
    pub name: Box<str>,
}

/// `server.trace-context`: `traceparent` and `tracestate` by the W3C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// `begin`: a request without a trace becomes the first of one. Default `true`.
    pub begin: bool,
    /// `sampled`: how many of a million traces that begin here are recorded; the file says how many of a hundred. Default all.
    pub sampled: u32,
    /// `parent-based`: a trace that the caller records is recorded, and no other that it began. Default `true`.
    pub parent_based: bool,
}

/// `server.code-cache`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeCache {
    /// Not set: the user's cache directory.
    Default,
    /// `false`
    Off,
    /// A directory, created with mode 0700 when it is missing.
    Directory(PathBuf),
}

/// `[[listener]]`
#[derive(Debug, Clone)]
pub struct Listener {
    /// `name`: unique.
    pub name: Arc<str>,
    /// `bind`: address and port, a Unix socket, or one of systemd's.
    pub bind: Bind,
    /// `protocols`: what clients may speak. Default `["http/1.1"]`, with `tls` both.
    pub protocols: Protocols,
    /// `proxy-protocol = "require"`: connections come from load balancers among [`Server::trusted_proxies`] and begin by
    /// saying whom they are from. Default: they do not.
    pub proxy_protocol: bool,
    /// `tls`: none by default.
    pub tls: Option<Tls>,
    /// `limits`
    pub limits: ListenerLimits,
    /// Where `bind` stands in the file, for the message when the address cannot be bound.
    pub bind_location: Location,
}

/// `protocols`: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// `"http/1.1"`
    pub http1: bool,
    /// `"h2"`: HTTP/2, without TLS by prior knowledge.
    pub http2: bool,
}

/// `[listener.limits]`: what one client may ask for.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// `connections`: open at once, over all workers. More wait in the kernel's queue. Default 10,000.
    pub connections: usize,
    /// `header-count`: fields in one request head. Default 100, as nginx and Apache allow; more is a 431.
    pub header_count: usize,
    /// `header-size`: bytes of one request head. Default `64KiB`; more is a 431.
    pub header_size: usize,
    /// `header-timeout`: from a connection's first byte to the end of the head. Default `10s`.
    pub header_timeout: Duration,
    /// `idle-timeout`: how long a kept-alive connection may stay without a request. Default `75s`, as nginx.
    pub idle_timeout: Duration,
    /// `body-size`: bytes of one request body; more is a 413. Default `none`: unlimited, since bodies are streamed.
    pub body_size: Option<u64>,
    /// `body-timeout`: how long a body, either way, may stay without a byte moving. Default `60s`.
    pub body_timeout: Duration,
    /// `requests`: on one connection, which then ends. Default `none`: a connection costs no more the longer it lives.
    pub requests: Option<u64>,
    /// `streams`: of one connection of HTTP/2, open at once. Default 100, the least that RFC 9113 §6.5.2 recommends; as
    /// many as a browser needs. Each holds an exchange.
    pub streams: u32,
}

/// `[[route]]`
#[derive(Debug, Clone)]
pub struct Route {
    /// `name`: unique. Default: `route-N` by position, from 1.
    pub name: Arc<str>,
    /// Index into [`Config::listeners`].
    pub listener: usize,
    /// `host`: names the client may have used, without port, lower case. Empty: any.
    pub hosts: Vec<HostPattern>,
    /// `path`: `/exact`, or `/prefix/*` which matches `/prefix`, `/prefix/` and all below; either may hold
    /// `{placeholders}`. Default `/*`.
    pub path: PathPattern,
    /// `methods`, `headers` and `query`
    pub conditions: Conditions,
    /// `strip-prefix` or `rewrite`: what becomes of the path before any plugin sees it.
    pub rewrite: Option<Rewrite>,
    /// `plugins`: the chain, by name, each one present in [`Config::plugins`].
    pub plugins: Vec<Arc<str>>,
    /// Where each name of `plugins` stands in the file.
    pub plugin_locations: Vec<Location>,
    /// `upstream`, `component` or `reply`; [`Destination::Plugins`] when there is none and a plugin has to answer.
    pub destination: Destination,
    /// `compress`: by default responses go out as they are.
    pub compress: Option<Compress>,
    /// `access-log`: whether its exchanges have lines in the access log. Default `true`.
    pub access_log: bool,
    /// `websocket`: by default the bytes of a WebSocket are not looked at.
    pub websocket: Option<Websocket>,
    /// `timeouts`
    pub timeouts: RouteTimeouts,
    /// `limits`
    pub limits: RouteLimits,
    /// Where the route's header stands in the file.
    pub location: Location,
}

/// `websocket = { ping-interval = "10s", ping-timeout = "10s" }`: the proxy asks the clients of WebSockets whether they
/// still live, and cuts off those that do not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Websocket {
    /// `ping-interval`: how long a client may be silent before it is sent a ping. At least `100ms`; required.
    pub ping_interval: Duration,
    /// `ping-timeout`: how long it may take until any byte comes from the client. At least `100ms`; default `10s`.
    pub ping_timeout: Duration,
}

/// `timeouts`: in place of the upstream's and the listener's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// `response`: from the request's last byte to the response's head. Default: the upstream's `response-timeout`.
    pub response: Option<Duration>,
    /// `idle`: how long the response's body may pause. Default: the listener's `limits.body-timeout`.
    pub idle: Option<Duration>,
    /// `total`: from the request's head to the response's last byte. Default: none.
    pub total: Option<Duration>,
}

/// `[route.limits]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// `upgrades`: upgraded connections open at once, over all workers; more are a 503. Default: unlimited.
    pub upgrades: Option<usize>,
    /// `upgrades-per-client`: the same for one client address; more are a 429. Default: unlimited.
    pub upgrades_per_client: Option<usize>,
}

/// One entry of `host`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `example.com`, `192.0.2.1`, `[2001:db8::1]`
    Exact(Box<str>),
    /// `*.example.com`: any name below, at any depth; holds `.example.com`.
    Below(Box<str>),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

/// Where a route ends.
#[derive(Debug, Clone)]
pub enum Destination {
    /// `upstream = "NAME"`, present in [`Config::upstreams`].
    Upstream(Arc<str>),
    /// `component = "NAME"`, present in [`Config::plugins`].
    Component {
        /// NAME
        name: Arc<str>,
        /// Where it stands in the file.
        location: Location,
    },
    /// `upstream = [{ name = "NAME", weight = 9 }, …]`
    Split(Split),
    /// `redirect = { to = "https://{host}{path}", status = 308 }`
    Redirect(Redirect),
    /// `reply = { status = 200, headers = { … }, body = "…" }`
    Reply(FixedReply),
    /// None of them: the last plugin has to answer; a request that none answers is a 404.
    Plugins,
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// `strip-prefix`: taken off. Every path that the route matches starts with it, at the boundary of a segment: `/api`
    /// for `path = "/api/*"` or `"/api/v1/*"`.
    Strip(Arc<str>),
    /// `rewrite.path`: in place of the whole path.
    Path(Template),
    /// `rewrite.prefix`: in place of all before `/*`.
    Prefix(Template),
}

/// `upstream` with weights.
#[derive(Debug, Clone)]
pub struct Split {
    /// Each present in [`Config::upstreams`], with its weight; not all of them are 0.
    pub shares: Vec<(Arc<str>, u32)>,
    /// `sticky`: what keeps a client with one of them. Default: nothing.
    pub sticky: Option<Sticky>,
}

/// `sticky`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sticky {
    /// `{ cookie = "NAME" }`: the value of a cookie.
    Cookie(Box<str>),
    /// `{ header = "NAME" }`: the value of a field.
    Header(HeaderName),
}

/// `redirect`
#[derive(Debug, Clone)]
pub struct Redirect {
    /// `to`: a URL, or a path on the same host.
    pub to: Template,
    /// `status`: 301, 302, 303, 307 or 308. Default 308, which keeps method and body.
    pub status: StatusCode,
}

/// `reply`
#[derive(Debug, Clone)]
pub struct FixedReply {
    /// `status`: 200..=599. Default 200.
    pub status: StatusCode,
    /// `headers`; framing headers are refused. With a body, `content-type` defaults to `text/plain; charset=utf-8`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `body`: text. Default empty.
    pub body: bytes::Bytes,
}

/// `[plugin.NAME]`. Its `Debug` leaves `config` out.
#[derive(Clone)]
pub struct Plugin {
    /// NAME
    pub name: Arc<str>,
    /// `component`
    pub component: ComponentSource,
    /// `component.sha256`: the one file that it may be.
    pub pin: Option<Pin>,
    /// `watch`: the component is swapped when its file changes. Default `false`.
    pub watch: bool,
    /// `config` as JSON, with `${…}` replaced. Holds secrets: never log it.
    pub config: serde_json::Value,
    /// Where each key of `config` stands in the file.
    pub config_locations: ConfigLocations,
    /// `grant`
    pub grant: Grant,
    /// `limits`
    pub limits: PluginLimits,
    /// `isolation`: `"worker"` (default) or `"exchange"`.
    pub isolation: Isolation,
    /// `on-failure`: `"closed"` (default) or `"open"`.
    pub on_failure: OnFailure,
    /// Where `component` stands in the file.
    pub location: Location,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plugin")
            .field("name", &self.name)
            .field("component", &self.component)
            .field("pin", &self.pin)
            .field("watch", &self.watch)
            .field("config", &format_args!("<redacted>"))
            .field("grant", &self.grant)
            .field("limits", &self.limits)
            .field("isolation", &self.isolation)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

/// `component`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentSource {
    /// `builtin:NAME`; whether there is one is for the binary to say.
    Builtin(Arc<str>),
    /// A path; a relative one starts at the configuration file's directory. The file exists.
    Path(PathBuf),
}

/// `sha256` of `component = { path = "x.wasm", sha256 = "…" }`
#[derive(Debug, Clone)]
pub struct Pin {
    /// What the file's SHA-256 has to be.
    pub digest: [u8; 32],
    /// Where it stands in the file.
    pub location: Location,
}

/// Finds the line of a plugin's configuration key.
#[derive(Debug, Clone)]
pub struct ConfigLocations {
    table: Location,
    by_path: BTreeMap<String, Location>,
}

impl ConfigLocations {
    /// Of a configuration without any key so far; `table` is where it stands, or would.
    pub fn new(table: Location) -> Self {
        Self {
            table,
            by_path: BTreeMap::new(),
        }
    }

    /// Writes down where a key's value stands. `path` is dotted, list items by index from 0: `tokens.0.value`.
    pub fn insert(&mut self, path: String, location: Location) {
        self.by_path.insert(path, location);
    }

    /// Where the value at `path` stands; when there is none, the closest table or list around it. The empty path is
    /// the whole configuration.
    pub fn locate(&self, path: &str) -> Location {
        let mut path = path;
        loop {
            if let Some(location) = self.by_path.get(path) {
                return location.clone();
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return self.table.clone(),
            }
        }
    }
}

/// `[plugin.NAME.grant]`: nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// `files = [{ path = "state", as = "/snapshots" }]`: directories that `file` replies may come from.
    pub files: Vec<FileGrant>,
    /// `http-client = { origins = ["http://127.0.0.1:6667"] }`: origins that it may send requests to.
    pub http_client: Option<HttpClientGrant>,
    /// `wasi = { env = { … }, directories = [ … ], config = { … } }`
    pub wasi: WasiGrant,
    /// `keyvalue = { store = "NAME" }`: a store that it may use.
    pub keyvalue: Option<KeyValueGrant>,
    /// `metrics = { series = 100 }`: numbers that it may count.
    pub metrics: Option<CustomMetricsGrant>,
    /// `secrets = { NAME = "${file:…}" }`: what it may ask for by name.
    pub secrets: Vec<(Box<str>, Secret)>,
    /// The keys that are written, dotted (`http-client`, `wasi.env`), with their places: to compare them with what the
    /// component imports.
    pub written: Vec<(String, Location)>,
}

/// `grant.wasi`: what a component that imports WASI finds there. Its `Debug` shows names and no values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WasiGrant {
    /// `env`: environment variables. Values may be secrets.
    pub environment: Vec<(String, String)>,
    /// `directories`
    pub directories: Vec<WasiDirectory>,
    /// `config`: what `wasi:config/store` holds. Values may be secrets.
    pub config: Vec<(String, String)>,
}

impl fmt::Debug for WasiGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        formatter
            .debug_struct("WasiGrant")
            .field("environment", &names(&self.environment))
            .field("directories", &self.directories)
            .field("config", &names(&self.config))
            .finish()
    }
}

/// One entry of `grant.files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// `path`: a directory of the host. A relative one starts at the configuration file's directory.
    pub path: PathBuf,
    /// `as`: absolute path under which the plugin knows it.
    pub mount: Box<str>,
    /// Where it stands in the file.
    pub location: Location,
}

/// `grant.http-client`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpClientGrant {
    /// `origins`: where to, each a scheme, a host and a port.
    pub origins: Vec<Origin>,
    /// `timeout`: for all requests of one hook call together. Default `2s`.
    pub timeout: Duration,
    /// `body-size`: bytes of a request's and of a response's body. Default `1MiB`.
    pub body_size: usize,
    /// `concurrency`: requests under way at once, on each worker, and as many again that wait. Default 16.
    pub concurrency: usize,
    /// `ca`: who vouches for the servers of `https` origins. Default: those that the system trusts.
    pub ca: Option<Authorities>,
}

/// `grant.keyvalue`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueGrant {
    /// `store`: a name of [`Config::stores`], and its place. Default: the one in memory.
    pub store: Option<Located<String>>,
    /// `shared`: keys are those of all plugins with the same name here, and not the plugin's own.
    pub shared: Option<Arc<str>>,
    /// `value-size`: bytes of a value. Default `64KiB`, at most `1MiB`.
    pub value_size: usize,
    /// `operations`: `"read-write"` (default) or `"read"`.
    pub read_only: bool,
}

/// `grant.metrics`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomMetricsGrant {
    /// `series`: how many series it may have, over all workers. Default 100.
    pub series: usize,
}

/// `[keyvalue.NAME]`
#[derive(Debug, Clone)]
pub struct KeyValueStore {
    /// `kind`, with its keys.
    pub kind: KeyValueKind,
    /// Where the table stands in the file.
    pub location: Location,
}

/// `kind`
#[derive(Debug, Clone)]
pub enum KeyValueKind {
    /// `"memory"`: gone with the process.
    Memory {
        /// `size`: bytes. Default `64MiB`.
        size: usize,
    },
    /// `"file"`: outlives the process.
    File {
        /// `path`: a relative one starts at the configuration file's directory. Made when it is missing.
        path: PathBuf,
        /// `size`: bytes, which are also held in memory. Default `64MiB`.
        size: usize,
    },
    /// `"redis"`: shared with other machines.
    Redis(Box<RedisStore>),
}

impl KeyValueKind {
    /// Who vouches for its server, where that is said.
    pub(crate) fn ca(&self) -> Option<&Authorities> {
        match self {
            Self::Redis(redis) => redis.ca.as_ref(),
            Self::Memory { .. } | Self::File { .. } => None,
        }
    }
}

/// A store in Redis or Valkey. Its `Debug` leaves the connection out.
#[derive(Clone)]
pub struct RedisStore {
    /// `url`, `username` and `password`. Holds secrets: never log it.
    pub connection: redis::ConnectionInfo,
    /// `ca`: who vouches for the server of a `rediss://` URL. Default: those that the system trusts.
    pub ca: Option<Authorities>,
    /// `timeout`: for all calls of one hook call together, and for a connection. Default `1s`.
    pub timeout: Duration,
    /// `prefix`: what every key there starts with. Default `witgate`.
    pub prefix: Arc<str>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("timeout", &self.timeout)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// `[plugin.NAME.limits]`
#[derive(Debug, Clone)]
pub struct PluginLimits {
    /// `deadline`: run time of one hook or transform call. Default `50ms`.
    pub deadline: Duration,
    /// `start`: run time of instantiation and `configure`. Default `5s`.
    pub start: Duration,
    /// `memory`: linear memory of one instance. Default `64MiB`.
    pub memory: usize,
    /// `held-body`: bytes of a body that is held back. Default `1MiB`.
    pub held_body: usize,
    /// `message`: bytes of one message of a WebSocket. Default `16MiB`.
    pub message: usize,
    /// `log-lines`: per second and worker. Default 100.
    pub log_lines: u32,
    /// `concurrency`: calls on one worker under way at once, default 16; with `isolation = "exchange"`, exchanges,
    /// default 256.
    pub concurrency: usize,
    /// `wait`: how long a call waits for its turn when there are as many. Default `1s`.
    pub wait: Duration,
    /// `exchanges`: after which an instance is replaced. None by default.
    pub exchanges: Option<u64>,
    /// `recycle-memory`: bytes of memory after which an instance is replaced. By default halfway from what it had when
    /// it was configured to `memory`.
    pub recycle_memory: Option<usize>,
    /// What a component of `wasi:http` has instead of `deadline`, `start` and `held-body`.
    pub wasi_http: WasiHttpLimits,
}

/// The keys of `[plugin.NAME.limits]` that are about components of `wasi:http`, and no hooks.
#[derive(Debug, Clone)]
pub struct WasiHttpLimits {
    /// `first-byte`: from the request to the head of the response. Default `30s`.
    pub first_byte: Duration,
    /// `processor`: time of a processor that one exchange may take. Default `10s`.
    pub processor: Duration,
    /// `concurrency`: exchanges at once on each worker. Default 64.
    pub concurrency: usize,
    /// The first key that stands in the file of these, and of those that are about hooks.
    pub given: (Option<Location>, Option<Location>),
}

/// `on-failure`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The exchange ends with 500.
    Closed,
    /// The plugin is skipped.
    Open,
}
