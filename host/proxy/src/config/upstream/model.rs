//! What a valid `[upstream.NAME]` is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use crate::config::{Authorities, Location};

/// `[upstream.NAME]`
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `endpoints`: at least one, used in turn.
    pub endpoints: Vec<Endpoint>,
    /// What speaks to the endpoints: there when they are `https`.
    pub tls: Option<UpstreamTls>,
    /// `connect-timeout`: until a connection can be used, TLS included. Default `5s`.
    pub connect_timeout: Duration,
    /// `response-timeout`: from the request's last byte to the response's head. Default `60s`, as nginx.
    pub response_timeout: Duration,
    /// `idle-connections`: kept open per worker and endpoint. Default 64.
    pub idle_connections: usize,
    /// `idle-timeout`: how long an unused connection is kept. Default `60s`.
    pub idle_timeout: Duration,
    /// `health`: none by default.
    pub health: Option<HealthCheck>,
    /// Where the upstream stands in the file.
    pub location: Location,
}

/// One of `endpoints`: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address to connect to, without brackets.
    pub host: Arc<str>,
    /// Default 80, with `https` 443.
    pub port: u16,
    /// As written, for `Host`: `127.0.0.1:6667`.
    pub authority: HeaderValue,
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
    /// `path`: asked for with GET; 200..=399 is healthy.
    pub path: Arc<str>,
    /// `interval`: default `5s`.
    pub interval: Duration,
    /// `timeout`: default `2s`.
    pub timeout: Duration,
}
