//! Traces: what an exchange went through, as spans for a collector (OTLP over HTTP).
//!
//! ```text
//! head (the trace is joined) ── Traced (attempts) ──┐
//! hooks (steps of the attributes) ──────────────────┴─► Finished ── queue ──► thread: spans, batches, collector
//! ```
//!
//! Nothing of this is there for an exchange that is not recorded. What does not fit the queue, and what the collector does
//! not take, is lost and counted.

mod export;
mod spans;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use tokio::sync::mpsc;
use witgate_runtime::{ClientAddress, Scheme, Step};

use crate::access;
use crate::config;
use crate::head::trace::{Joined, TRACEPARENT};
use crate::outbound;

/// Attempts that are kept of one exchange.
const MOST_ATTEMPTS: usize = 16;

/// How long a stop waits for spans to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// What became of spans, over all collectors that there were.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    pub(crate) exported: AtomicU64,
    /// They did not fit the queue.
    pub(crate) crowded_out: AtomicU64,
    /// The collector did not take them.
    pub(crate) unexported: AtomicU64,
}

/// The traces of a generation, and of those that follow with the same table.
#[derive(Debug)]
pub(crate) struct Traces {
    config: config::Traces,
    client: outbound::Client,
    queue: OnceLock<WorkerTraces>,
}

/// How a worker hands over what is recorded.
#[derive(Debug, Clone)]
pub(crate) struct WorkerTraces {
    queue: mpsc::Sender<Message>,
    counts: Arc<SpanCounts>,
}

enum Message {
    Ended(Box<Finished>),
    /// Hears when all before it was sent.
    Flush(SyncSender<()>),
}

impl Traces {
    /// # Errors
    ///
    /// When nobody would vouch for the collector, in words.
    pub(crate) fn new(config: config::Traces) -> Result<Self, String> {
        let client = outbound::Client::to(&config.collector.origin, config.ca.as_ref())?;
        Ok(Self {
            config,
            client,
            queue: OnceLock::new(),
        })
    }

    /// Starts the thread that exports, unless that was done before.
    ///
    /// # Errors
    ///
    /// When there can be no further thread.
    pub(crate) fn open(&self, counts: &Arc<SpanCounts>) -> io::Result<()> {
        if self.queue.get().is_some() {
            return Ok(());
        }
        let (queue, ended) = mpsc::channel(self.config.queue);
        let (config, client) = (self.config.clone(), self.client.clone());
        let counts = counts.clone();
        let counted = counts.clone();
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || export::run(&config, client, ended, &counted))?;
        self.queue.get_or_init(|| WorkerTraces { queue, counts });
        Ok(())
    }

    /// For a worker; `None` before it was opened.
    pub(crate) fn for_worker(&self) -> Option<Rc<WorkerTraces>> {
        self.queue.get().cloned().map(Rc::new)
    }

    /// Waits, but not for long, until what has ended is sent.
    pub(crate) fn flush(&self) {
        let Some(WorkerTraces { queue, .. }) = self.queue.get() else {
            return;
        };
        let (done, is_done) = sync_channel(1);
        // A full queue is one whose collector hangs.
        let sent = queue.try_send(Message::Flush(done));
        if sent.is_err() || is_done.recv_timeout(FLUSH).is_err() {
            tracing::warn!("the last spans were not taken by the collector within {FLUSH:?}");
        }
    }
}

impl WorkerTraces {
    fn put(&self, finished: Finished) {
        let spans = finished.spans() as u64;
        if self
            .queue
            .try_send(Message::Ended(Box::new(finished)))
            .is_err()
            && self.counts.crowded_out.fetch_add(spans, Ordering::Relaxed) == 0
        {
            tracing::warn!(
                "spans are lost: the collector takes them slower than they come, and `telemetry.traces.queue` is full; \
                 further ones are only counted (witgate_trace_spans_dropped_total)"
            );
        }
    }
}

/// An exchange that is recorded.
#[derive(Debug)]
pub(crate) struct Traced {
    traces: Rc<WorkerTraces>,
    joined: Joined,
    request: Asked,
    attempts: RefCell<Vec<Attempt>>,
    /// The span that the upstream is told: that of the attempt.
    current: Cell<u64>,
}

/// What a span says of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) scheme: Scheme,
    pub(crate) version: &'static str,
    pub(crate) user_agent: Option<Box<str>>,
}

impl Asked {
    pub(crate) fn by(scheme: Scheme, parts: &http::request::Parts) -> Self {
        let agent = parts.headers.get(http::header::USER_AGENT);
        Self {
            scheme,
            version: match parts.version {
                Version::HTTP_2 => "2",
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
            user_agent: agent.map(access::shortened),
        }
    }
}

/// One attempt to send a request upstream.
#[derive(Debug, Clone)]
struct Attempt {
    span: u64,
    endpoint: Arc<str>,
    began: Instant,
    /// `None` while it is under way.
    took: Option<Duration>,
    status: Option<StatusCode>,
    error: Option<&'static str>,
}

impl Traced {
    pub(crate) fn new(traces: &Rc<WorkerTraces>, joined: Joined, request: Asked) -> Rc<Self> {
        Rc::new(Self {
            traces: traces.clone(),
            current: Cell::new(joined.span),
            joined,
            request,
            attempts: RefCell::default(),
        })
    }

    /// An attempt to send the request to this endpoint begins.
    pub(crate) fn attempt(&self, endpoint: &Arc<str>) {
        let mut attempts = self.attempts.borrow_mut();
        let span = derived(self.joined.span, attempts.len());
        self.current.set(span);
        if attempts.len() < MOST_ATTEMPTS {
            attempts.push(Attempt {
                span,
                endpoint: endpoint.clone(),
                began: Instant::now(),
                took: None,
                status: None,
                error: None,
            });
        }
    }

    /// The last attempt has ended: with the head of an answer, or with a failure.
    pub(crate) fn attempted(&self, outcome: Result<StatusCode, &'static str>) {
        if let Some(last) = self.attempts.borrow_mut().last_mut()
            && last.took.is_none()
        {
            last.took = Some(last.began.elapsed());
            last.status = outcome.ok();
            last.error = outcome.err();
        }
    }

    /// Says the span of the attempt in place of the exchange's, unless a plugin says something else.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(field) = headers.get_mut(TRACEPARENT) {
            let of_ours = field.as_bytes().get(3..35) == Some(self.joined.trace.as_bytes());
            if of_ours {
                *field = self.joined.field(self.current.get());
            }
        }
    }

    /// Hands the exchange over, which has ended.
    pub(crate) fn end(self: Rc<Self>, ended: Ended) {
        let attempts = self.attempts.take();
        let (scheme, version) = (self.request.scheme, self.request.version);
        self.traces.put(Finished {
            trace: self.joined.trace.clone(),
            span: self.joined.span,
            parent: self.joined.parent,
            scheme,
            version,
            user_agent: self.request.user_agent.clone(),
            at: SystemTime::now(),
            now: Instant::now(),
            attempts,
            ended,
        });
    }
}

/// What the log knows of an exchange that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) started: Instant,
    pub(crate) duration: Duration,
    pub(crate) request_id: Arc<str>,
    pub(crate) listener: Arc<str>,
    pub(crate) route: Arc<str>,
    pub(crate) client: ClientAddress,
    pub(crate) method: Method,
    pub(crate) host: Arc<str>,
    pub(crate) path: Box<str>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Whose fault it is that it failed.
    pub(crate) fault: &'static str,
    pub(crate) reason: Box<str>,
    /// What plugins noted: `PLUGIN.NOTE` and the value.
    pub(crate) notes: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
}

/// A recorded exchange on its way to the thread that exports.
#[derive(Debug)]
struct Finished {
    trace: Arc<str>,
    span: u64,
    parent: Option<u64>,
    scheme: Scheme,
    version: &'static str,
    user_agent: Option<Box<str>>,
    /// The same moment by both clocks.
    at: SystemTime,
    now: Instant,
    attempts: Vec<Attempt>,
    ended: Ended,
}

impl Finished {
    fn spans(&self) -> usize {
        1 + self.attempts.len() + self.ended.steps.len()
    }
}

/// The id of an exchange's span number `number`, made of that of its own.
fn derived(span: u64, number: usize) -> u64 {
    let state = span.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).max(1)
}

/// `traceparent` with this span in it.
pub(crate) fn traceparent(trace: &str, span: u64, flags: u8) -> HeaderValue {
    let field = format!("00-{trace}-{span:016x}-{flags:02x}");
    HeaderValue::try_from(field).expect("hex digits and dashes are visible ASCII")
}
