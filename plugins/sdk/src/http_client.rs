//! Requests that a plugin sends itself, to the origins that the operator granted it.
//!
//! ```no_run
//! use witgate_plugin::http_client::{Error, Request};
//!
//! fn version() -> Result<Vec<u8>, Error> {
//!     let response = Request::get("http://127.0.0.1:6667/json/version").send()?;
//!     Ok(response.into_body())
//! }
//! ```
//!
//! Sending waits for the whole response, and holds up nobody else meanwhile. It is for hooks: in [`Plugin::new`] and in
//! a body's transform it traps. The operator grants it by
//! `grant.http-client = { origins = ["http://127.0.0.1:6667"] }`.
//!
//! [`Plugin::new`]: crate::Plugin::new

use std::error;
use std::fmt;
use std::time::Duration;

use crate::bindings::witgate::plugin::http_client as wit;
use crate::bindings::witgate::plugin::types::Header;

/// A request to send.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent until `send`"]
pub struct Request(wit::Request);

impl Request {
    /// A request with this method for `http://host:port/path?query` or `https://…`, without headers and with an empty body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self(wit::Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        })
    }

    /// [`new`](Self::new) with the method GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Adds a header; a name may occur several times. `Host` and the framing are the host's.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.0.headers.push(Header {
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// Sets the body, without a `Content-Type`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self
    }

    /// Waits no longer than this for the last byte of the response, counted in whole milliseconds. The requests of one
    /// hook call have the grant's `timeout` together (2 s by default), which this cannot extend.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = Some(timeout.as_millis().try_into().unwrap_or(u32::MAX));
        self
    }

    /// Sends it and waits for the whole response. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`].
    pub fn send(self) -> Result<Response, Error> {
        wit::send(&self.0).map(Response).map_err(Error::new)
    }
}

/// What came back: a whole response of any status.
#[derive(Debug, Clone)]
pub struct Response(wit::Response);

impl Response {
    /// 200..=599
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The first value of a header. Names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.0.headers.iter();
        let found = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(&found.value)
    }

    /// All headers in order, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.0.headers.iter();
        headers.map(|header| (header.name.as_str(), header.value.as_slice()))
    }

    /// The body, content codings not undone.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The body alone.
    pub fn into_body(self) -> Vec<u8> {
        self.0.body
    }
}

/// A request without a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    detail: String,
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operator has not granted the origin. Nothing was sent, as with all kinds up to [`Connect`](Self::Connect).
    NotGranted,
    /// Not an absolute `http://` or `https://` URL.
    InvalidUrl,
    /// A scheme other than `http` and `https`.
    UnsupportedScheme,
    /// Not a method, or `CONNECT`.
    InvalidMethod,
    /// A header that cannot be sent.
    InvalidHeader,
    /// The grant's `concurrency` requests did not end in time for this one, or as many wait already.
    Busy,
    /// No connection, or a server whose certificate is not accepted. Try again later, or answer 503.
    Connect,
    /// No whole response in time. The request may have been acted on.
    Timeout,
    /// The connection broke, or what came is no HTTP response. The request may have been acted on.
    Broken,
    /// A body over the grant's `body-size`: the request's, which was not sent then, or the response's.
    TooLarge,
}

impl Error {
    /// What to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn new(error: wit::Error) -> Self {
        let (kind, detail) = match error {
            wit::Error::NotGranted(origin) => (ErrorKind::NotGranted, origin),
            wit::Error::InvalidUrl(why) => (ErrorKind::InvalidUrl, why),
            wit::Error::UnsupportedScheme(scheme) => (ErrorKind::UnsupportedScheme, scheme),
            wit::Error::InvalidMethod => (ErrorKind::InvalidMethod, String::new()),
            wit::Error::InvalidHeader(why) => (ErrorKind::InvalidHeader, why),
            wit::Error::TooLarge(limit) => (ErrorKind::TooLarge, limit.to_string()),
            wit::Error::Busy => (ErrorKind::Busy, String::new()),
            wit::Error::Timeout => (ErrorKind::Timeout, String::new()),
            wit::Error::Connect(why) => (ErrorKind::Connect, why),
            wit::Error::Broken(why) => (ErrorKind::Broken, why),
        };
        Self { kind, detail }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = &self.detail;
        match self.kind {
            ErrorKind::NotGranted => write!(
                f,
                "{detail} is not granted; name it in `grant.http-client.origins`"
            ),
            ErrorKind::InvalidUrl => write!(f, "the URL of a request is not legal: {detail}"),
            ErrorKind::UnsupportedScheme => {
                write!(f, "requests go by http or https, not by `{detail}`")
            }
            ErrorKind::InvalidMethod => f.write_str("the method of a request is not legal"),
            ErrorKind::InvalidHeader => write!(f, "a request cannot have the header {detail}"),
            ErrorKind::TooLarge => write!(
                f,
                "a body is over the {detail} bytes of `grant.http-client.body-size`"
            ),
            ErrorKind::Busy => f.write_str(
                "too many requests are under way; raise `grant.http-client.concurrency` if there should be more",
            ),
            ErrorKind::Timeout => f.write_str("no whole response came in time"),
            ErrorKind::Connect => write!(f, "no connection to {detail}"),
            ErrorKind::Broken => write!(f, "no whole response: {detail}"),
        }
    }
}

impl error::Error for Error {}
