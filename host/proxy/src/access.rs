//! The access log: one line per exchange, whatever became of it.
//!
//! Without `[log.access]` it is part of the process's own log; with it, lines are composed here and written elsewhere:
//!
//! ```text
//! entry ── line (json, common, combined, fields) ── sink (queue) ──► thread ── file | stream | syslog
//! ```

mod accounted;
mod line;
mod sink;

mod file;
mod syslog;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use witgate_runtime::{Attributes, ClientAddress, End, Exchange, FaultySide, Scheme, Summary};

use crate::body::Progress;
use crate::completion::Kept;
use crate::connection::Busy;
use crate::failure::{Failure, Side};
use crate::head::Received;
use crate::head::trace::Joined;
use crate::metrics::{Ended, RouteCounts};
use crate::recent::{self, Past, Recent};
use crate::refusal::Reason;
use crate::telemetry::{self, Asked, Traced, WorkerTraces};

pub(crate) use accounted::Accounted;
pub(crate) use line::shortened;
use line::{Line, Said};
pub use line::{LineField, LineFormat, LinePiece};
pub(crate) use sink::{LineCounts, Sink};

/// The access log, as one worker has it: nothing that the workers share is counted for each exchange.
#[derive(Debug)]
pub(crate) struct WorkerLog(Arc<Sink>);

impl WorkerLog {
    pub(crate) fn new(sink: Arc<Sink>) -> Rc<Self> {
        Rc::new(Self(sink))
    }
}

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
    pub(crate) client: ClientAddress,
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
    /// Where its line goes, if not into the process's own log.
    log: Option<Rc<WorkerLog>>,
    /// Whether there is a line of it at all.
    pub(crate) is_logged: bool,
    /// Where it is recorded, if it is.
    pub(crate) traced: Option<Rc<Traced>>,
    /// For a line that shows it.
    said: Option<Box<Said>>,
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
        client: ClientAddress,
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
            log: None,
            is_logged: true,
            traced: None,
            said: None,
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

    /// Has its line written there.
    pub(crate) fn log_to(&mut self, log: &Option<Rc<WorkerLog>>) {
        self.log.clone_from(log);
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
        if let Some(WorkerLog(sink)) = self.log.as_deref()
            && sink.config.format.asks_for_client()
        {
            self.said = Some(Box::new(Said::by(parts.version, &parts.headers)));
        }
    }

    /// The exchange is part of this trace.
    pub(crate) fn join(
        &mut self,
        joined: Joined,
        traces: Option<&Rc<WorkerTraces>>,
        scheme: Scheme,
        parts: &http::request::Parts,
    ) {
        self.trace = Some(joined.trace.clone());
        if let Some(traces) = traces
            && joined.is_sampled()
        {
            self.attributes.follow_calls();
            let asked = Asked::by(scheme, parts);
            self.traced = Some(Traced::new(traces, joined, asked));
        }
    }

    /// Hands over what is recorded.
    fn end_trace(&self, traced: Rc<Traced>, duration: Duration) {
        let (_, fault, reason) = self.outcome.words();
        let mut notes = Vec::new();
        self.attributes.for_each(|plugin, note, value| {
            notes.push((format!("{plugin}.{note}"), value.to_owned()));
        });
        traced.end(telemetry::Ended {
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
            received: self.received.bytes(),
            sent: self.sent.bytes(),
            fault,
            reason: (*reason).into(),
            notes,
            steps: self.attributes.steps(),
        });
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
        self.busy.set_tunnel(true);
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
        if !self.is_logged {
            return;
        }
        if let Some(WorkerLog(sink)) = self.log.as_deref() {
            return self.write_line(sink, "upgraded", None);
        }
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

    fn write_line(&self, sink: &Sink, event: &'static str, duration: Option<Duration>) {
        let line = Line {
            entry: self,
            event,
            at: SystemTime::now(),
            duration,
        };
        if let Some(line) = line.written(&sink.config.format) {
            sink.put(line);
        }
    }

    /// Writes the line of an exchange that is over.
    fn log_end(&self, duration: Duration) {
        if !self.is_logged {
            return;
        }
        if let Some(WorkerLog(sink)) = self.log.as_deref() {
            return self.write_line(sink, "exchange", Some(duration));
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
            self.busy.set_tunnel(false);
            self.counts.upgraded(-1);
        }
        if let Some(traced) = self.traced.take() {
            self.end_trace(traced, duration);
        }
        if let Some(recent) = &self.recent {
            let failed = matches!(self.outcome, Outcome::Failed(..));
            recent.ended(failed, |number| self.past(number, duration));
        }
        self.log_end(duration);
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
