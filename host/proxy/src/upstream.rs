//! Upstreams on one worker: choose an endpoint, take or make a connection, send, retry what is safe.

mod connection;
mod socket;
mod tls;

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::body::{Body, BodyError, Progress};
use crate::config::{Endpoint, Upstream};
use crate::failure::Failure;
use crate::listener;
use crate::metrics::UpstreamCounts;
use crate::trailers;

pub(crate) use connection::Lease;
use connection::{Connection, Pool, Unanswered};
pub(crate) use socket::Socket;
use tls::Tls;

/// An upstream's configuration and the health of its endpoints. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: Upstream,
    tls: Option<Tls>,
    pub(crate) healthy: Box<[AtomicBool]>,
}

impl Shared {
    /// # Errors
    ///
    /// When nobody would vouch for its servers, in words.
    pub(crate) fn new(name: Arc<str>, config: Upstream) -> Result<Self, String> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        // Believed healthy until a check says otherwise, so that a start needs no waiting.
        let healthy = config
            .endpoints
            .iter()
            .map(|_| AtomicBool::new(true))
            .collect();
        Ok(Self {
            name,
            config,
            tls,
            healthy,
        })
    }

    /// Opens a connection that is ready to be spoken HTTP on. Whoever waits bounds the time.
    ///
    /// # Errors
    ///
    /// In words, for the log.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Socket, String> {
        let stream = dial(endpoint).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        match &self.tls {
            None => Ok(Socket::Tcp(stream)),
            Some(tls) => {
                let stream = tls.handshake(endpoint, stream).await?;
                Ok(Socket::Tls(Box::new(stream)))
            }
        }
    }

    /// Each endpoint's authority, and whether it is believed healthy.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&str, bool)> {
        let endpoints = self.config.endpoints.iter().zip(&self.healthy);
        endpoints.map(|(endpoint, healthy)| {
            let authority = endpoint.authority.to_str().unwrap_or_default();
            (authority, healthy.load(Ordering::Relaxed))
        })
    }
}

/// An upstream on this worker.
#[derive(Debug)]
pub(crate) struct WorkerUpstream {
    shared: Arc<Shared>,
    next: Cell<usize>,
    pools: Box<[Rc<Pool>]>,
    counts: Arc<UpstreamCounts>,
}

/// What to send. Kept until an endpoint has answered, so that it can be sent again.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) head: &'a http::request::Parts,
    pub(crate) use_upstream_authority: bool,
    /// Protocol to upgrade to.
    pub(crate) upgrade: Option<&'a str>,
    /// Taken once it is sent; what could not be sent at all stays.
    pub(crate) body: &'a mut Body,
    /// While the client's body still moves, or is waited for, the upstream is not slow.
    pub(crate) progress: Rc<Progress>,
    /// How long the response's body may pause.
    pub(crate) pause: Duration,
}

/// A request that is counted when it has ended, also when the client did not wait for that.
struct Counted<'a> {
    counts: &'a UpstreamCounts,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counts.ended(self.status, self.started.elapsed());
    }
}

/// How one attempt failed.
enum Attempt {
    /// Nothing was sent; the request is whole and may go elsewhere.
    Unsent(Box<Request<Body>>),
    /// It was sent, or may have been.
    Failed(Failure),
    /// The connection was an old one that ended without a word: the peer's idle timeout crossed our request.
    Stale(Failure),
}

impl WorkerUpstream {
    pub(crate) fn new(shared: Arc<Shared>, counts: Arc<UpstreamCounts>) -> Self {
        let pool = |endpoint: &Endpoint| {
            let name = format!("{}:{}", endpoint.host, endpoint.port).into();
            let config = &shared.config;
            Rc::new(Pool::new(
                name,
                config.idle_connections,
                config.idle_timeout,
            ))
        };
        let pools = shared.config.endpoints.iter().map(pool).collect();
        Self {
            shared,
            next: Cell::new(0),
            pools,
            counts,
        }
    }

    /// Whether it is this worker's part of that upstream.
    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// An endpoint that cannot be connected to is passed over for the next one. A request that an old connection
    /// swallowed is sent again when that is safe: an idempotent method (RFC 9110 §9.2.2) without a body.
    ///
    /// # Errors
    ///
    /// The upstream's fault (502, 504), or the client's when its body cannot be read (400, 408, 413).
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing<'_>,
        chosen: &mut Option<Arc<str>>,
    ) -> Result<Response<Body>, Failure> {
        let mut counted = Counted {
            counts: &self.counts,
            started: Instant::now(),
            status: None,
        };
        let sent = self.send_to_one(outgoing, chosen).await;
        counted.status = sent.as_ref().ok().map(Response::status);
        sent
    }

    async fn send_to_one(
        &self,
        outgoing: Outgoing<'_>,
        chosen: &mut Option<Arc<str>>,
    ) -> Result<Response<Body>, Failure> {
        let Outgoing {
            head,
            use_upstream_authority,
            upgrade,
            body: place,
            progress,
            pause,
        } = outgoing;
        let mut body = std::mem::replace(place, Body::empty());
        let replayable = is_idempotent(&head.method) && http_body::Body::is_end_stream(&body);
        let mut last = Failure::bad_gateway("there is no endpoint");
        for at in self.order() {
            *chosen = Some(self.pools[at].name.clone());
            let make = |body| {
                request(
                    head,
                    use_upstream_authority,
                    upgrade,
                    self.endpoint(at),
                    body,
                )
            };
            // An old connection first. One that turns out dead costs nothing, and the next one is tried.
            while let Some(connection) = self.pools[at].take() {
                match self
                    .attempt(at, connection, true, make(body), &progress, pause)
                    .await
                {
                    Ok(response) => return Ok(response),
                    Err(Attempt::Unsent(request)) => body = request.into_body(),
                    // Sent again once, on a new connection: a request that ends its upstream must not go through
                    // all of them.
                    Err(Attempt::Stale(_)) if replayable => {
                        body = Body::empty();
                        break;
                    }
                    Err(Attempt::Stale(failure) | Attempt::Failed(failure)) => return Err(failure),
                }
            }
            let connection = match Box::pin(self.connect(at)).await {
                Ok(connection) => connection,
                Err(failure) => {
                    last = failure;
                    continue;
                }
            };
            match self
                .attempt(at, connection, false, make(body), &progress, pause)
                .await
            {
                Ok(response) => return Ok(response),
                Err(Attempt::Unsent(request)) => {
                    body = request.into_body();
                    let name = &self.pools[at].name;
                    last = Failure::bad_gateway(format!(
                        "{name}: it closed the new connection at once"
                    ));
                }
                Err(Attempt::Stale(failure) | Attempt::Failed(failure)) => return Err(failure),
            }
        }
        *place = body;
        Err(last)
    }

    fn endpoint(&self, at: usize) -> &Endpoint {
        &self.shared.config.endpoints[at]
    }

    /// The healthy endpoints in turn. When none is, all of them: a check may be wrong, and an answer is better than
    /// none.
    fn order(&self) -> impl Iterator<Item = usize> {
        let count = self.pools.len();
        let start = self.next.get();
        self.next.set((start + 1) % count);
        let healthy = |at: usize| self.shared.healthy[at].load(Ordering::Relaxed);
        let any = (0..count).any(healthy);
        (0..count)
            .map(move |n| (start + n) % count)
            .filter(move |at| !any || healthy(*at))
    }

    async fn connect(&self, at: usize) -> Result<Connection, Failure> {
        let endpoint = self.endpoint(at);
        let limit = self.shared.config.connect_timeout;
        let name = &self.pools[at].name;
        let socket = match timeout(limit, self.shared.connect(endpoint)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => return Err(Failure::bad_gateway(format!("{name}: {why}"))),
            Err(_) => {
                return Err(Failure::gateway_timeout(format!(
                    "{name}: no connection within {limit:?}"
                )));
            }
        };
        Connection::new(socket)
            .await
            .map_err(|error| Failure::bad_gateway(format!("{name}: {error}")))
    }

    async fn attempt(
        &self,
        at: usize,
        mut connection: Connection,
        reused: bool,
        request: Request<Body>,
        progress: &Progress,
        pause: Duration,
    ) -> Result<Response<Body>, Attempt> {
        let pool = &self.pools[at];
        let limit = self.shared.config.response_timeout;
        let is_whole = http_body::Body::is_end_stream(request.body());
        let is_clients = request.body().is_of_a_connection();
        match connection.send(request, progress, limit).await {
            Ok(response) => {
                let sent = is_whole || (is_clients && progress.has_ended());
                if !sent || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    connection.detach();
                }
                let pool = pool.clone();
                let lease = Lease { pool, connection };
                Ok(response.map(|incoming| Body::response(incoming, pause, lease)))
            }
            Err(Unanswered::InTime) => {
                let reason = format!("{}: no response within {limit:?}", pool.name);
                Err(Attempt::Failed(Failure::gateway_timeout(reason)))
            }
            Err(Unanswered::Broken(mut error)) => match error.take_message() {
                Some(request) => Err(Attempt::Unsent(Box::new(request))),
                None => Err(explain(error.into_error(), reused, &pool.name)),
            },
        }
    }

    /// Closes connections that were unused for too long.
    pub(crate) fn sweep(&self) {
        for pool in &self.pools {
            pool.sweep();
        }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The request as this endpoint gets it: one `Host`, always HTTP/1.1.
fn request(
    head: &http::request::Parts,
    use_upstream_authority: bool,
    upgrade: Option<&str>,
    endpoint: &Endpoint,
    body: Body,
) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let headers = request.headers_mut();
    if use_upstream_authority || !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, endpoint.authority.clone());
    }
    let body = request.body();
    let unknown = !http_body::Body::is_end_stream(body) && body.exact_size().is_none();
    let headers = request.headers_mut();
    if unknown && !headers.contains_key(header::CONTENT_LENGTH) {
        // Said outright: a GET would otherwise be sent without its body.
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    } else {
        headers.remove(header::TRAILER);
    }
    if upgrade.is_none() && trailers::are_taken(&head.extensions) {
        trailers::ask(headers);
    }
    if let Some(protocol) = upgrade.and_then(|protocol| HeaderValue::from_str(protocol).ok()) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    request
}

fn explain(error: hyper::Error, reused: bool, endpoint: &str) -> Attempt {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            return Attempt::Failed(Failure::request_body(body));
        }
        source = cause.source();
    }
    let reason = match std::error::Error::source(&error) {
        Some(cause) => format!("{endpoint}: {error}: {cause}"),
        None => format!("{endpoint}: {error}"),
    };
    let failure = Failure::bad_gateway(reason);
    match reused && (error.is_incomplete_message() || error.is_canceled() || is_reset(&error)) {
        true => Attempt::Stale(failure),
        false => Attempt::Failed(failure),
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    })
}

/// Opens a connection. An address is used as it stands, a name is resolved each time.
async fn dial(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, endpoint.port)).await?,
        Err(_) => TcpStream::connect((&*endpoint.host, endpoint.port)).await?,
    };
    listener::tune(&stream)?;
    Ok(stream)
}
