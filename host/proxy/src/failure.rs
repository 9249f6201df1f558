//! Why an exchange ended otherwise than planned, and the status that follows from it. The one table.
//!
//! | side | what | status |
//! |---|---|---|
//! | client | malformed, ambiguous or unsupported request | 400, 405, 408, 413, 414, 417 |
//! | client | a request that goes in a circle (`server.via`) | 508 |
//! | client | no route, or none that answers | 404 |
//! | client | more upgraded connections than one may have | 429 |
//! | plugin | trap, limit, error value, impossible result | 500 |
//! | plugin | quarantined, or all its calls are taken | 503 |
//! | upstream | no connection, or a broken response | 502 |
//! | upstream | too slow to connect or to answer | 504 |
//! | host | a limit of the upstream is reached | 503 |
//! | host | a file that cannot be read, or keeps changing | 500, 503 |
//! | host | all upgraded connections of the route are taken | 503 |
//!
//! The client learns the status and its standard words, never the reason; the reason goes to the log.

use std::borrow::Cow;

use http::{HeaderValue, Response, StatusCode, header};
use witgate_runtime::{FailureKind, PluginFailure};

use crate::body::{Body, BodyError};

/// Seconds after which a client that was turned away for now may come again (RFC 9110 §10.2.3). When it will be let in
/// nobody knows; this keeps it from asking many times a second.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A failed exchange: whose fault, what the client is told, what the operator is told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) side: Side,
    pub(crate) status: StatusCode,
    pub(crate) reason: Cow<'static, str>,
    /// It is what a request's body was, not its head.
    pub(crate) is_of_body: bool,
}

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Plugin,
    Upstream,
    Host,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Plugin, Self::Upstream, Self::Host];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
            Self::Upstream => "upstream",
            Self::Host => "host",
        }
    }
}

impl Failure {
    pub(crate) fn client(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            side: Side::Client,
            status,
            reason: reason.into(),
            is_of_body: false,
        }
    }

    pub(crate) fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::client(StatusCode::BAD_REQUEST, reason)
    }

    pub(crate) fn bad_gateway(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            side: Side::Upstream,
            status: StatusCode::BAD_GATEWAY,
            reason: reason.into(),
            is_of_body: false,
        }
    }

    pub(crate) fn gateway_timeout(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            side: Side::Upstream,
            status: StatusCode::GATEWAY_TIMEOUT,
            reason: reason.into(),
            is_of_body: false,
        }
    }

    pub(crate) fn plugin(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            side: Side::Plugin,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            reason: reason.into(),
            is_of_body: false,
        }
    }

    pub(crate) fn host(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            side: Side::Host,
            status,
            reason: reason.into(),
            is_of_body: false,
        }
    }

    /// What the client gets. Its connection ends when the request may not have been read to its end, or could be
    /// read in two ways.
    pub(crate) fn response(&self) -> Response<Body> {
        let words = self
            .status
            .canonical_reason()
            .unwrap_or("error")
            .to_ascii_lowercase();
        let mut response = Response::new(Body::full(format!("{words}\n")));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(OfFailure);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.side == Side::Client && self.status != StatusCode::NOT_FOUND {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// In the extensions of a response that nobody but the proxy made, because of a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfFailure;

impl From<PluginFailure> for Failure {
    fn from(failure: PluginFailure) -> Self {
        let status = match failure.kind {
            FailureKind::Quarantined(_) | FailureKind::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            side: Side::Plugin,
            status,
            reason: failure.to_string().into(),
            is_of_body: false,
        }
    }
}

impl Failure {
    /// A request body that could not be read to its end.
    pub(crate) fn request_body(error: &BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => Self::client(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the request body is over the listener's `limits.body-size` of {limit} bytes"
                ),
            ),
            BodyError::Stalled(limit) => Self::client(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the client sent nothing of its body for {limit:?} (`limits.body-timeout`)"
                ),
            ),
            BodyError::Plugin(failure) => held(failure, Side::Client),
            BodyError::Read(error) => Self {
                is_of_body: true,
                ..Self::bad_request(format!("the request body is malformed or cut off: {error}"))
            },
            BodyError::File(error) => {
                Self::host(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            // The limit is on responses alone.
            BodyError::Late => Self::client(StatusCode::REQUEST_TIMEOUT, error.to_string()),
            BodyError::Onward(error) => Self::plugin(format!(
                "a middleware did not pass a whole request body on: {error}"
            )),
        }
    }

    /// A response body that could not be read to its end before the head was sent.
    pub(crate) fn response_body(error: &BodyError) -> Self {
        match error {
            BodyError::Stalled(limit) => Self::gateway_timeout(format!(
                "the upstream sent nothing of its body for {limit:?}"
            )),
            BodyError::Late => Self::gateway_timeout(error.to_string()),
            BodyError::Plugin(failure) => held(failure, Side::Upstream),
            BodyError::File(error) => {
                Self::host(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            BodyError::Read(_) | BodyError::TooLarge(_) | BodyError::Onward(_) => {
                Self::bad_gateway(format!(
                    "the upstream's body is malformed or cut off: {error}"
                ))
            }
        }
    }
}

/// A body too large to be held back is the fault of who sent it, not of the plugin.
fn held(failure: &PluginFailure, sender: Side) -> Failure {
    let mut this = Failure::from(failure.clone());
    if matches!(failure.kind, FailureKind::HeldBody(_)) {
        this.side = sender;
        this.status = match sender {
            Side::Client => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_GATEWAY,
        };
    }
    this
}
