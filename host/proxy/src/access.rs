//! The access log: one line per exchange, whatever became of it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use witgate_runtime::{Attributes, End, Exchange, FaultySide, Summary};

use crate::body::{Body, BodyError, Progress};
use crate::completion::Kept;
use crate::connection::Busy;
use crate::failure::{Failure, Side};
use crate::head::Received;
use crate::metrics::{Ended, RouteCounts};
use crate::recent::{self, Past, Recent};
use crate::refusal::Reason;

/// What is known of an exchange. The line is written when this is dropped: after the last byte of the response, at
/// the end of the tunnel, or when the client went away.
#[derive(Debug)]
pub(crate) struct Entry {
    started: Instant,
    method: Method,
    pub(crate) listener: Arc<str>,
    pub(crate) request_id: Arc<str>,
    /// Of the trace that the exchange is part of, 32 hex digits, where traces are looked at.
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) client: IpAddr,
    pub(crate) host: Arc<str>,
    /// The query is not logged: it may hold secrets.
    target: Option<PathAndQuery>,
    pub(crate) route: Arc<str>,
    /// `host:port` of the endpoint, once one was chosen.
    pub(crate) upstream: Option<Arc<str>>,
    /// From the request's start to the head of the upstream's response.
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) received: Rc<Progress>,
    pub(crate) sent: Progress,
    /// What the plugins note, also when the client leaves while one of them has the exchange.
    pub(crate) attributes: Attributes,
    pub(crate) outcome: Outcome,
    /// Where the exchange is counted: with its listener, until it has a route.
    pub(crate) counts: Arc<RouteCounts>,
    /// What the exchange leaves behind, where plugins saw it.
    pub(crate) kept: Option<Rc<Kept>>,
    /// Where it is kept for an operator who looks.
    recent: Option<Rc<Recent>>,
    is_upgraded: bool,
    /// The connection is in use as long as this is open.
    busy: Busy,
}

/// How an exchange ended.
#[derive(Debug, Default)]
pub(crate) enum Outcome {
    /// The client went away before its response was complete.
    #[default]
    Aborted,
    /// All was sent.
    Complete,
    /// Ended by one side's fault; the reason.
    Failed(&'static str, Cow<'static, str>),
}

impl Outcome {
    /// What it is called, whose fault it is, and why.
    fn words(&self) -> (&'static str, &'static str, Cow<'_, str>) {
        match self {
            Self::Complete => ("complete", "", "".into()),
            Self::Aborted => ("aborted", "client", "the client went away".into()),
            Self::Failed(side, reason) => ("failed", side, Cow::Borrowed(reason)),
        }
    }
}

impl Entry {
    pub(crate) fn new(
        method: Method,
        listener: Arc<str>,
        client: IpAddr,
        counts: Arc<RouteCounts>,
        busy: Busy,
    ) -> Self {
        Self {
            started: Instant::now(),
            method,
            listener,
            request_id: Arc::default(),
            trace: None,
            client,
            host: Arc::default(),
            target: None,
            route: Arc::default(),
            upstream: None,
            upstream_time: None,
            status: None,
            received: Rc::default(),
            sent: Progress::default(),
            attributes: Attributes::default(),
            outcome: Outcome::default(),
            counts,
            kept: None,
            recent: None,
            is_upgraded: false,
            busy,
        }
    }

    /// Shows the exchange, once it is over, to who looks at them there.
    pub(crate) fn show_in(&mut self, recent: &Option<Rc<Recent>>) {
        if let Some(recent) = recent {
            if recent.is_watched() {
                self.attributes = Attributes::followed();
            }
            self.recent = Some(recent.clone());
        }
    }

    /// What is kept of it.
    fn past(&self, number: u64, duration: Duration) -> Past {
        let (outcome, fault, reason) = self.outcome.words();
        Past {
            number,
            at: SystemTime::now(),
            started: self.started,
            duration,
            request_id: self.request_id.clone(),
            listener: self.listener.clone(),
            route: self.route.clone(),
            client: self.client,
            method: self.method.clone(),
            host: self.host.clone(),
            path: recent::shortened(self.path()),
            status: self.status,
            upstream: self.upstream.clone(),
            upstream_time: self.upstream_time,
            received: self.received.bytes(),
            sent: self.sent.bytes(),
            outcome,
            fault,
            reason: reason.into_owned().into(),
            attributes: self.attributes.clone(),
            steps: self.attributes.take_steps(),
        }
    }

    /// Takes over what the head said.
    pub(crate) fn note_head(&mut self, received: &Received, parts: &http::request::Parts) {
        self.request_id = received.id.clone();
        self.client = received.client;
        self.host = received.authority.clone();
        self.target = parts.uri.path_and_query().cloned();
    }

    fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }

    /// How long ago the exchange began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The client's connection is a tunnel from now on.
    pub(crate) fn upgraded(&mut self) {
        // A copy, since it is a part of the buffer that the head was read into, which would stay as long as the tunnel.
        self.target = self.target.take().map(|target| {
            PathAndQuery::try_from(target.as_str()).expect("what was a target is one")
        });
        self.is_upgraded = true;
        self.counts.upgraded(1);
    }

    /// Keeps the exchange for those that are told of its end.
    pub(crate) fn keep(&mut self, exchange: Box<Exchange>) {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.is_wanted()) {
            kept.keep(exchange);
        }
    }

    /// What the completion hooks are told.
    fn summary(&self, duration: Duration, answered_by: Option<Arc<str>>) -> Summary {
        Summary {
            end: match &self.outcome {
                Outcome::Complete => End::Complete,
                Outcome::Aborted => End::ClientLeft,
                Outcome::Failed(side, reason) => {
                    End::Failed(faulty(side), reason.clone().into_owned())
                }
            },
            status: self.status,
            received: self.received.bytes(),
            sent: self.sent.bytes(),
            duration,
            upstream_time: self.upstream_time,
            upstream: self.upstream.clone(),
            answered_by,
        }
    }

    /// Notes the failure and answers it.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        if let Some(reason) = Reason::of(failure) {
            self.busy.refused(reason);
        }
        self.outcome = Outcome::Failed(failure.side.as_str(), failure.reason.clone());
    }

    /// Writes a line of its own for a connection that was just upgraded: that of the exchange comes at the end, which
    /// may be days away.
    pub(crate) fn log_upgrade(&self) {
        tracing::info!(
            target: "access",
            request_id = &*self.request_id,
            trace_id = self.trace.as_deref(),
            listener = &*self.listener,
            route = &*self.route,
            client = %self.client,
            host = &*self.host,
            path = self.path(),
            upstream = self.upstream.as_deref().unwrap_or(""),
            attributes = self.attributes(),
            "upgraded"
        );
    }

    fn attributes(&self) -> String {
        let mut text = String::new();
        self.attributes.for_each(|plugin, note, value| {
            let separator = if text.is_empty() { "" } else { " " };
            text.push_str(&format!(
                "{separator}{plugin}.{note}={}",
                value.escape_debug()
            ));
        });
        text
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.counts.ended(&Ended {
            status: self.status,
            received: self.received.bytes(),
            sent: self.sent.bytes(),
            duration,
        });
        if self.is_upgraded {
            self.counts.upgraded(-1);
        }
        if let Some(recent) = &self.recent {
            let failed = matches!(self.outcome, Outcome::Failed(..));
            recent.ended(failed, |number| self.past(number, duration));
        }
        let (outcome, fault, reason) = self.outcome.words();
        tracing::info!(
            target: "access",
            request_id = &*self.request_id,
            trace_id = self.trace.as_deref(),
            listener = &*self.listener,
            route = &*self.route,
            client = %self.client,
            host = &*self.host,
            method = %self.method,
            path = self.path(),
            status = self.status.map_or(0, |status| status.as_u16()),
            upstream = self.upstream.as_deref().unwrap_or(""),
            bytes_received = self.received.bytes(),
            bytes_sent = self.sent.bytes(),
            duration_ms = milliseconds(duration),
            upstream_ms = self.upstream_time.map(milliseconds),
            attributes = self.attributes(),
            outcome,
            fault,
            reason = &*reason,
            "exchange"
        );
        if let Some(kept) = &self.kept {
            kept.end(|answered_by| self.summary(duration, answered_by));
        }
    }
}

fn faulty(side: &str) -> FaultySide {
    let side = Side::ALL.into_iter().find(|this| this.as_str() == side);
    match side.unwrap_or(Side::Host) {
        Side::Client => FaultySide::Client,
        Side::Plugin => FaultySide::Plugin,
        Side::Upstream => FaultySide::Upstream,
        Side::Host => FaultySide::Host,
    }
}

/// With microseconds behind the point.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A response body that knows its entry.
#[derive(Debug)]
pub(crate) struct Accounted {
    body: Body,
    /// Why the body ended early, until the server is told.
    broken: Option<Box<BodyError>>,
    entry: Option<Box<Entry>>,
}

impl Accounted {
    /// Nothing, of which nothing is logged.
    pub(crate) fn without_entry() -> Self {
        Self {
            body: Body::empty(),
            broken: None,
            entry: None,
        }
    }

    /// When it has to be over.
    pub(crate) fn end(&self) -> Option<tokio::time::Instant> {
        self.body.end()
    }

    pub(crate) fn new(body: Body, mut entry: Box<Entry>) -> Self {
        if body.is_end_stream() && matches!(entry.outcome, Outcome::Aborted) {
            entry.outcome = Outcome::Complete;
        }
        Self {
            body,
            broken: None,
            entry: Some(entry),
        }
    }
}

impl http_body::Body for Accounted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Some(entry) = &mut this.entry else {
            return polled;
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => entry
                .sent
                .add(frame.data_ref().map_or(0, |data| data.len() as u64)),
            Poll::Ready(Some(Err(error))) => entry.fail(&Failure::response_body(error)),
            Poll::Ready(None) | Poll::Pending => {}
        }
        if let Poll::Ready(Some(Err(error))) = polled {
            // hyper closes the connection at once when it is told, with what it has not sent yet; a piece, or the head,
            // can have come in this same moment.
            this.broken = Some(Box::new(error));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Nobody asks for more once the trailers are there.
        let trailers = matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers());
        let ended = trailers || matches!(polled, Poll::Ready(None)) || this.body.is_end_stream();
        if ended && matches!(entry.outcome, Outcome::Aborted) {
            entry.outcome = Outcome::Complete;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
