//! Requests that a plugin sends itself: what it may send, and where to.
//!
//! This crate knows no socket. It checks a request against the grant, keeps its time, and hands it to the
//! [`HttpClient`] that the grant came with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wasmtime::{Result, bail};

use crate::bindings::http_client::{self, Error};
use crate::bindings::types::{HeadError, Header};
use crate::exchange::{HeadLimits, Scheme};
use crate::head::{self, Edit};
use crate::imports::is_path_with_query;
use crate::instance::{Phase, State};
use crate::origin::Origin;
use crate::stopwatch::Stopwatch;

/// What a request of a plugin may hold; the same as what a listener takes from a client.
const HEAD_LIMITS: HeadLimits = HeadLimits {
    count: 100,
    size: 64 << 10,
};

/// More than a worker has use for, and few enough to be counted.
const MAX_CONCURRENCY: usize = 65_536;

/// Sends requests over a network. One for all workers; a call runs on the worker whose exchange it is for.
pub trait HttpClient: fmt::Debug + Send + Sync {
    /// Sends a request to this origin and reads the whole response. The URI is in origin form, `Host` is there, the
    /// framing is up to the client. Dropping the future ends the request at once.
    ///
    /// There is no limit on the time: the caller has one. `body_size` is that of the response, in bytes.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    fn send(&self, origin: Origin, request: Request<Bytes>, body_size: usize) -> Sending;
}

/// A request under way.
pub type Sending = Pin<Box<dyn Future<Output = Result<Response<Bytes>, SendError>> + Send>>;

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// No connection, or none that is who it should be, so nothing was sent.
    Connect(String),
    /// No connection in the time that the caller had for it, so nothing was sent.
    ConnectTimeout,
    /// The head of the response did not come in the time that the caller had for it.
    FirstByteTimeout,
    /// The server cannot show by its certificate that it is who it should be. Nothing was sent.
    Certificate(String),
    /// The connection broke, or what came is no HTTP response.
    Broken(String),
    /// The response's body is over the limit.
    TooLarge,
}

/// `grant.http-client`: leave to send requests.
#[derive(Debug, Clone)]
pub struct HttpGrant {
    /// What sends them.
    pub client: Arc<dyn HttpClient>,
    /// Where to; a request to any other origin is refused.
    pub origins: Vec<Origin>,
    /// For all requests of one hook call together.
    pub timeout: Duration,
    /// Bytes of a request's and of a response's body.
    pub body_size: usize,
    /// Requests of one plugin on one worker that are under way at once, and as many again that wait for their turn.
    pub concurrency: usize,
}

/// The grant as one instance has it.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    grant: Option<HttpGrant>,
    /// `concurrency` of them, shared by the plugin's instances on this worker.
    turns: Arc<Semaphore>,
    /// For those under way and those that wait for a turn. Each keeps an instance, which calls that send nothing are
    /// not to run out of.
    places: Arc<Semaphore>,
    most: usize,
}

/// A request that may be sent.
struct Checked {
    origin: Origin,
    request: Request<Bytes>,
}

impl http_client::Host for State {
    async fn send(
        &mut self,
        request: http_client::Request,
    ) -> Result<Result<http_client::Response, Error>> {
        if let Phase::Other(call) = self.phase {
            bail!("requests are sent in hooks only, not in {call}");
        }
        let (stopwatch, waited) = (&self.stopwatch, &mut self.requests_waited);
        Ok(self.outbound.send(request, stopwatch, waited).await)
    }
}

impl Outbound {
    pub(crate) fn new(grant: Option<HttpGrant>) -> Self {
        let concurrency = grant.as_ref().map_or(0, |grant| grant.concurrency);
        let concurrency = concurrency.min(MAX_CONCURRENCY);
        let most = 2 * concurrency;
        Self {
            grant,
            turns: Arc::new(Semaphore::new(concurrency)),
            places: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// How many calls may wait in here at once on this worker.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// `waited` is what the requests of this call have taken until now.
    async fn send(
        &self,
        request: http_client::Request,
        stopwatch: &Arc<Stopwatch>,
        waited: &mut Duration,
    ) -> Result<http_client::Response, Error> {
        let wanted = request.timeout.map(|ms| Duration::from_millis(ms.into()));
        let (grant, checked) = self.check(request)?;
        let left = grant.timeout.saturating_sub(*waited);
        if left.is_zero() {
            return Err(Error::Timeout);
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Error::Busy);
        };
        let started = Instant::now();
        let until = started + wanted.map_or(left, |wanted| wanted.min(left));
        let sent = {
            let _time_stands_still = stopwatch.wait();
            self.send_until(until, grant, checked).await
        };
        *waited += started.elapsed();
        sent
    }

    async fn send_until(
        &self,
        until: Instant,
        grant: &HttpGrant,
        Checked { origin, request }: Checked,
    ) -> Result<http_client::Response, Error> {
        let _turn = match timeout_at(until, self.turns.acquire()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return Err(Error::Busy),
        };
        let sending = grant.client.send(origin, request, grant.body_size);
        match timeout_at(until, sending).await {
            Ok(Ok(response)) => Ok(into_wit(response)),
            Ok(Err(SendError::Connect(why) | SendError::Certificate(why))) => {
                Err(Error::Connect(why))
            }
            Ok(Err(SendError::Broken(why))) => Err(Error::Broken(why)),
            Ok(Err(SendError::TooLarge)) => Err(too_large(grant)),
            Ok(Err(SendError::ConnectTimeout | SendError::FirstByteTimeout)) | Err(_) => {
                Err(Error::Timeout)
            }
        }
    }

    /// Nothing that is refused has reached the network, not even its resolver.
    fn check(&self, request: http_client::Request) -> Result<(&HttpGrant, Checked), Error> {
        let (origin, target) = destination(&request.url)?;
        let granted = (self.grant.as_ref()).filter(|grant| grant.origins.contains(&origin));
        let Some(grant) = granted else {
            return Err(Error::NotGranted(origin.to_string()));
        };
        let method = match Method::from_bytes(request.method.as_bytes()) {
            Ok(method) if method != Method::CONNECT => method,
            _ => return Err(Error::InvalidMethod),
        };
        let mut headers = HeaderMap::with_capacity(request.headers.len().min(HEAD_LIMITS.count));
        for Header { name, value } in &request.headers {
            head::write(&mut headers, HEAD_LIMITS, Edit::Append, name, value)
                .map_err(|error| Error::InvalidHeader(format!("{name:?}: {}", explain(&error))))?;
        }
        let host = origin.authority().try_into();
        headers.insert(http::header::HOST, host.expect("a checked authority"));
        if request.body.len() > grant.body_size {
            return Err(too_large(grant));
        }
        let mut checked = Request::new(Bytes::from(request.body));
        *checked.method_mut() = method;
        *checked.uri_mut() = target;
        *checked.headers_mut() = headers;
        let request = checked;
        Ok((grant, Checked { origin, request }))
    }
}

/// What a URL names: an origin, and there a path and query.
fn destination(url: &str) -> Result<(Origin, Uri), Error> {
    let invalid = |why: &str| Error::InvalidUrl(why.to_owned());
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(invalid("it has no scheme; write `http://host:port/path`"));
    };
    let Some(known) = Scheme::parse(scheme) else {
        let scheme: String = scheme.chars().filter(char::is_ascii_graphic).collect();
        return Err(Error::UnsupportedScheme(scheme));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let origin = Origin::parse(known, authority).ok_or_else(|| {
        invalid("what stands before the path is no host and port, or more than that")
    })?;
    let target = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    if target.len() > HEAD_LIMITS.size || !is_path_with_query(&target) {
        return Err(invalid(
            "its path and query hold what has to be percent-encoded, or a fragment, or are over 64 KiB",
        ));
    }
    match target.try_into() {
        Ok(target) => Ok((origin, target)),
        Err(_) => Err(invalid("its path and query are not legal")),
    }
}

fn too_large(grant: &HttpGrant) -> Error {
    Error::TooLarge(grant.body_size.try_into().unwrap_or(u64::MAX))
}

fn explain(error: &HeadError) -> &'static str {
    match error {
        HeadError::InvalidName => "not a legal name",
        HeadError::InvalidValue => "not a legal value",
        HeadError::Forbidden => "the host owns this field",
        HeadError::TooLarge => "one header too many, or too large",
    }
}

fn into_wit(response: Response<Bytes>) -> http_client::Response {
    let (head, body) = response.into_parts();
    let headers = head.headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_vec(),
    });
    http_client::Response {
        status: head.status.as_u16(),
        headers: headers.collect(),
        body: body.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_in_one_way_or_not_at_all() {
        for (url, origin, target) in [
            (
                "http://127.0.0.1:9223/json/version?x=/?",
                "http://127.0.0.1:9223",
                "/json/version?x=/?",
            ),
            ("HTTP://A.Example", "http://a.example", "/"),
            ("http://[::1]:81?a", "http://[::1]:81", "/?a"),
            ("http://a:80/%2e//", "http://a", "/%2e//"),
            ("Https://A:443/?", "https://a", "/?"),
            ("https://a:80/", "https://a:80", "/"),
        ] {
            let (found, path) = destination(url).unwrap_or_else(|e| panic!("{url}: {e:?}"));
            assert_eq!(
                (found.to_string().as_str(), path.to_string().as_str()),
                (origin, target)
            );
        }
        for url in [
            "",
            "/json",
            "127.0.0.1:80/",
            "http:///json",
            "http://user@a/",
            "http://a:b/",
            "http://granted\\@b/",
            "http://a /",
            "http://a/ b",
            "http://a/\r\nHost: b",
            "http://a/#fragment",
            "http://a\t/",
            "http://a:80:80/",
            "http://ä/",
        ] {
            let refused = destination(url);
            assert!(
                matches!(refused, Err(Error::InvalidUrl(_))),
                "{url:?}: {refused:?}"
            );
        }
        for url in ["wss://a/", "ws://a/", "file:///etc/passwd"] {
            let refused = destination(url);
            assert!(
                matches!(refused, Err(Error::UnsupportedScheme(_))),
                "{url:?}: {refused:?}"
            );
        }
    }
}
