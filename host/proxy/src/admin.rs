//! The admin listener: whether the process lives, whether it is ready, and what it counted.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200 while the process serves |
//! | `/ready` | 200, or 503 with the reasons, as JSON |
//! | `/metrics` | OpenMetrics text; a bearer token where one is configured |
//!
//! Served beside the workers, never on them: a scrape takes nothing from a request. The counts of all workers are put
//! together when they are asked for. `/health` and whether it is ready are open, because those who ask (a kubelet, a
//! load balancer) have nothing to show. `/metrics` and the reasons behind `/ready` name routes, upstreams and what is
//! wrong with them, so on an address that is not the loopback they are for the bearer of the token and nobody else. The
//! token is that of the generation that serves.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::config::Admin as Config;
use crate::generation::Generation;
use crate::metrics::Metrics;
use crate::server::{StartError, explain};

/// Connections served at once: a few probes and scrapers. More wait in the kernel.
const CONNECTIONS: usize = 32;

/// From a connection's first byte to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that lives longer is ended: no probe and no scrape takes so long, and each is served one request, so
/// that nobody keeps the places of others.
const LONGEST: Duration = Duration::from_secs(30);

/// How long accepting pauses after an error such as having no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// What the process shows of itself.
pub struct Status {
    metrics: Arc<Metrics>,
    registry: Registry,
    checks: Vec<(&'static str, Check)>,
    draining: AtomicBool,
}

/// Whether a part is ready; the error says why not, for people.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks: Vec<_> = self.checks.iter().map(|(name, _)| name).collect();
        f.debug_struct("Status")
            .field("checks", &checks)
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

impl Status {
    /// The status of a proxy with these metrics, of this version.
    pub fn new(metrics: Arc<Metrics>, version: &'static str) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(metrics.clone()));
        registry.register_collector(Box::new(Process {
            version,
            started: SystemTime::now(),
        }));
        Self {
            metrics,
            registry,
            checks: Vec::new(),
            draining: AtomicBool::new(false),
        }
    }

    /// Shows further metrics.
    pub fn add_metrics(&mut self, collector: Box<dyn Collector>) {
        self.registry.register_collector(collector);
    }

    /// Is not ready unless this is as well. The name stands beside the reason.
    pub fn add_check(&mut self, name: &'static str, check: Check) {
        self.checks.push((name, check));
    }

    /// From now on not ready: the process was asked to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether all parts are ready; with `details`, why not and what else should be known.
    fn ready(&self, details: bool) -> (StatusCode, serde_json::Value) {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push(json!({"part": "proxy", "reason": "it was asked to stop"}));
        }
        for (part, check) in &self.checks {
            match check() {
                Ok(()) => {}
                Err(reason) if details => reasons.push(json!({"part": part, "reason": reason})),
                Err(_) => reasons.push(json!({"part": part})),
            }
        }
        let status = if reasons.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let mut body = json!({"ready": reasons.is_empty(), "reasons": reasons});
        if details {
            body["notes"] = self.metrics.notes().into();
        }
        (status, body)
    }
}

/// What is known of the process itself.
#[derive(Debug)]
struct Process {
    version: &'static str,
    started: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "The version that runs";
        encoder
            .encode_descriptor("witgate_build", help, None, MetricType::Info)?
            .encode_info(&[("version", self.version)])?;
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let help = "When the process started, in seconds since 1970";
        encoder
            .encode_descriptor(
                "process_start_time",
                help,
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&since.unwrap_or_default().as_secs_f64())
    }
}

/// The admin listener, bound.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds it. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let bound = std::net::TcpListener::bind(config.bind).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((TcpListener::from_std(listener)?, address))
        });
        let (listener, address) = bound.map_err(|error| StartError::Bind {
            name: "admin".into(),
            address: config.bind,
            reason: explain(&error),
            location: config.bind_location.clone(),
        })?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that the kernel chose if the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped. The last of `generations` has the token.
    pub async fn serve(
        self,
        status: Arc<Status>,
        generations: watch::Receiver<Arc<Generation>>,
    ) -> Infallible {
        let shown = Arc::new(Shown {
            status,
            generations,
            is_loopback: self.address.ip().is_loopback(),
        });
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        // They end with the listener.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                unreachable!("nobody closes the semaphore");
            };
            while connections.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let shown = shown.clone();
                    connections.spawn(async move {
                        let _held_to_the_end = permit;
                        if tokio::time::timeout(LONGEST, connection(stream, shown))
                            .await
                            .is_err()
                        {
                            tracing::debug!("an admin connection was ended after {LONGEST:?}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener pauses");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

struct Shown {
    status: Arc<Status>,
    generations: watch::Receiver<Arc<Generation>>,
    is_loopback: bool,
}

/// What one who asks may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    All,
    /// There is a token, and it was not shown.
    NeedsToken,
    /// There is no token that could be shown, and the address is not the loopback.
    Never,
}

async fn connection(stream: TcpStream, shown: Arc<Shown>) {
    let service = service_fn(|request| {
        let shown = shown.clone();
        async move { Ok::<_, Infallible>(shown.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection broke");
    }
}

type Answer = Response<Full<Bytes>>;

impl Shown {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(header::ALLOW, allow);
            return answer;
        }
        match request.uri().path() {
            "/health" => text(StatusCode::OK, "ok\n"),
            "/ready" => {
                let (status, body) = self.status.ready(self.access(request) == Access::All);
                answer(status, "application/json", format!("{body}\n"))
            }
            "/metrics" => match self.access(request) {
                Access::All => self.metrics().await,
                Access::NeedsToken => needs_token(),
                Access::Never => text(
                    StatusCode::FORBIDDEN,
                    "metrics are shown on a loopback address, or to the bearer of `admin.token`, which is not set\n",
                ),
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /health, /ready and /metrics\n",
            ),
        }
    }

    async fn metrics(&self) -> Answer {
        let status = self.status.clone();
        // What Chromium's harvests came to is read from a file.
        let written = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &status.registry).map(|()| text)
        });
        let why = match written.await {
            Ok(Ok(text)) => {
                let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                return answer(StatusCode::OK, openmetrics, text);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(why, "the metrics cannot be written");
        text(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n")
    }

    fn access(&self, request: &Request<Incoming>) -> Access {
        let generation = self.generations.borrow();
        let admin = generation.config().admin.as_ref();
        match admin.and_then(|admin| admin.token.as_ref()) {
            Some(token) => {
                let given = bearer(request.headers()).unwrap_or_default();
                match bool::from(given.ct_eq(token.reveal().as_bytes())) {
                    true => Access::All,
                    false => Access::NeedsToken,
                }
            }
            // A generation without `[admin]`, whose listener is to go with the next start, says nothing of a token.
            None if self.is_loopback && admin.is_some() => Access::All,
            None => Access::Never,
        }
    }
}

fn needs_token() -> Answer {
    let mut refusal = text(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
    let challenge = HeaderValue::from_static("Bearer realm=\"witgate admin\"");
    refusal
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    refusal
}

/// The credentials of `Authorization: Bearer …` (RFC 6750 §2.1), when there is exactly one such field.
fn bearer(headers: &http::HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (field, None) = (fields.next()?.as_bytes(), fields.next()) else {
        return None;
    };
    let (scheme, credentials) = field.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| credentials.trim_ascii())
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", body.into())
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
