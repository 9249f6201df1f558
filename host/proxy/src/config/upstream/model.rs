//! What a valid `[upstream.NAME]` is.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use crate::config::{Authorities, Location};

/// `[upstream.NAME]`
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `endpoints`: at least one.
    pub endpoints: Vec<Endpoint>,
    /// What speaks to the endpoints: there when they are `https`.
    pub tls: Option<UpstreamTls>,
    /// `protocol`: default `"http/1.1"`.
    pub protocol: Protocol,
    /// `balance`: which endpoint a request goes to. Default `"round-robin"`.
    pub balance: Balance,
    /// `connect-timeout`: until a connection can be used, TLS included. Default `5s`.
    pub connect_timeout: Duration,
    /// `response-timeout`: from the request's last byte to the response's head. Default `60s`, as nginx.
    pub response_timeout: Duration,
    /// `idle-connections`: kept open per worker and address. Default 64.
    pub idle_connections: usize,
    /// `idle-timeout`: how long an unused connection is kept. Default `60s`.
    pub idle_timeout: Duration,
    /// `health`: none by default.
    pub health: Option<HealthCheck>,
    /// `ejection`: none by default.
    pub ejection: Option<Ejection>,
    /// `slow-start`: how long an endpoint that comes back gets less than its share. Default `0s`: it gets it at once.
    pub slow_start: Duration,
    /// `dns`: how the names of endpoints are resolved.
    pub dns: Dns,
    /// `retry`: by default only what was not sent goes elsewhere.
    pub retry: Option<Retry>,
    /// `limits`: none by default.
    pub limits: UpstreamLimits,
    /// Where the upstream stands in the file.
    pub location: Location,
}

/// `protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `"http/1.1"`
    Http1,
    /// `"h2"`: HTTP/2, to `http` endpoints by prior knowledge.
    Http2,
    /// `"auto"`: whichever the server chooses by ALPN.
    Auto,
}

/// One of `endpoints`: a URL, or `{ url = "…", weight = 2 }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub place: Place,
    /// As written, for `Host`: `127.0.0.1:6667`; of a Unix socket `localhost`.
    pub authority: HeaderValue,
    /// `weight`: its share beside the others. 1 to 1000; default 1.
    pub weight: u32,
}

impl Endpoint {
    /// What a certificate has to be for.
    pub(crate) fn host(&self) -> String {
        match &self.place {
            Place::Address(address) => address.ip().to_string(),
            Place::Name { host, .. } => host.to_string(),
            Place::Unix(_) => "localhost".into(),
        }
    }
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `http://127.0.0.1:8080`. The port is 80 by default, with `https` 443.
    Address(SocketAddr),
    /// `http://origin:8080`: every address of the name.
    Name {
        /// The name.
        host: Arc<str>,
        /// As of an address.
        port: u16,
    },
    /// `unix:/run/origin.sock`
    Unix(Arc<Path>),
}

/// `balance`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// `"round-robin"`
    RoundRobin,
    /// `"least-request"`: of two at random the one with fewer requests under way from this worker.
    LeastRequest,
    /// `{ hash = "…" }`: requests with the same key go to the same endpoint.
    Hash(HashKey),
}

/// `balance.hash`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// `"header:NAME"`
    Header(HeaderName),
    /// `"cookie:NAME"`
    Cookie(Box<str>),
    /// `"client-address"`
    ClientAddress,
    /// `"path"`, without the query.
    Path,
}

/// `ejection`: an endpoint that fails is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// `failures`: in a row: 5xx, time-outs, broken and failed connections. Default 5.
    pub failures: u32,
    /// `time`: how long; twice that when it fails again soon, and so on up to ten times. Default `30s`.
    pub time: Duration,
    /// `max`: at most this share of the endpoints at once, in percent. Default `50%`.
    pub most: u8,
}

/// `dns`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// `min-ttl`: names are not asked for more often. Default `1s`.
    pub min_ttl: Duration,
    /// `max-ttl`: nor less often. Default `5m`.
    pub max_ttl: Duration,
    /// `servers`: in place of those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
}

/// `retry`: what is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// `attempts`: how many more, at most. 1 to 10; default 2.
    pub attempts: u32,
    /// `on`: after what. Default all but `"timeout"`.
    pub on: RetryOn,
    /// `budget`: retries for so many requests, in percent. Default `20%`.
    pub budget: u8,
    /// `back-off`: before the first retry, about; doubled before each further one. Default `25ms`.
    pub back_off: Duration,
}

/// `retry.on`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// `"connect"`: no endpoint could be connected to.
    pub connect: bool,
    /// `"reset"`: the connection ended before a response came.
    pub reset: bool,
    /// `"timeout"`: no response came in time.
    pub timeout: bool,
    /// `"502"`, `"503"`, `"504"`: it answered so.
    pub statuses: Vec<u16>,
}

/// `limits`: over all workers; more are a 503.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// `connections`: open at once, upgraded ones left out.
    pub connections: Option<u32>,
    /// `pending`: requests that wait for one of these connections, for up to `connect-timeout`. Default 100.
    pub pending: u32,
    /// `requests`: under way at once, until the end of the response.
    pub requests: Option<u32>,
    /// `retries`: under way at once.
    pub retries: Option<u32>,
}

/// `tls`: how the servers of `https` endpoints show who they are, and witgate to them.
#[derive(Clone, Default)]
pub struct UpstreamTls {
    /// `ca`: who vouches for the servers. Default: those that the system trusts.
    pub ca: Option<Authorities>,
    /// `certificate` and `key`: what is shown to a server that asks for a certificate. Default: nothing.
    pub identity: Option<Identity>,
    /// `server-name`: what is asked for (SNI) and what the certificate has to be for. Default: the endpoint's host.
    pub server_name: Option<ServerName<'static>>,
    /// `verify = false`: any certificate will do. Default `true`.
    pub verify: bool,
}

/// A certificate chain with the key to it.
#[derive(Clone)]
pub struct Identity(pub(crate) Arc<CertifiedKey>);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        // A new key comes with a new certificate, which says whose key it is for.
        self.0.cert == other.0.cert
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.ca == other.ca
            && self.identity == other.identity
            && self.server_name == other.server_name
            && self.verify == other.verify
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("ca", &self.ca)
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("verify", &self.verify)
            .finish()
    }
}

/// `health = { path = "/json/version", interval = "5s" }`
#[derive(Debug, Clone)]
pub struct HealthCheck {
    /// `path`: asked for with GET.
    pub path: Arc<str>,
    /// `interval`: default `5s`.
    pub interval: Duration,
    /// `timeout`: default `2s`.
    pub timeout: Duration,
    /// `expect`: a status or a class of them, or several. Default `["2xx", "3xx"]`.
    pub expect: Vec<RangeInclusive<u16>>,
    /// `healthy`: checks in a row that have to pass until an unhealthy endpoint is healthy. Default 1.
    pub healthy: u32,
    /// `unhealthy`: checks in a row that have to fail until a healthy endpoint is unhealthy. Default 1.
    pub unhealthy: u32,
}
