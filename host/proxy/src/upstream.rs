//! Upstreams on one worker: choose a target, take or make a connection, send, retry what is safe.

mod attempt;
mod balance;
mod bells;
mod connection;
mod http2;
mod limits;
mod names;
mod opening;
mod pool;
mod request;
mod retry;
mod shared;
mod socket;
mod target;
mod tls;
mod waits;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use tokio::sync::watch;
use tokio::time::sleep;
use witgate_runtime::ClientAddress;

use crate::body::{Body, Progress};
use crate::config::Protocol;
use crate::failure::Failure;
use crate::metrics::{Incident, Refused, UpstreamCounts};
use crate::telemetry::Traced;

use attempt::{Attempt, attempt, begin};
use balance::{Chooser, Tried};
pub(crate) use http2::OnWorker;
use limits::{Exhausted, Permit};
pub(crate) use names::watch as watch_names;
pub(crate) use opening::yield_connections;
use opening::{Opened, Unconnected};
pub(crate) use pool::Lease;
use pool::{Used, WorkerTarget};
use request::{is_idempotent, request, request_http2};
use retry::{Budget, Outcome};
pub(crate) use shared::{Shared, Targets};
pub(crate) use socket::Socket;
pub(crate) use target::Target;
pub(crate) use waits::Waits;

/// An upstream on this worker.
#[derive(Debug)]
pub(crate) struct WorkerUpstream {
    shared: Arc<Shared>,
    targets: RefCell<(watch::Receiver<Arc<Targets>>, WorkerTargets)>,
    chooser: Chooser,
    budget: Budget,
    counts: Arc<UpstreamCounts>,
}

type WorkerTargets = Rc<[Rc<WorkerTarget>]>;

/// What to send. Kept until a target has answered, so that it can be sent again.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) head: &'a http::request::Parts,
    /// Whom `balance` may go by.
    pub(crate) client: ClientAddress,
    pub(crate) use_upstream_authority: bool,
    /// Protocol to upgrade to.
    pub(crate) upgrade: Option<&'a str>,
    /// Taken once it is sent; what could not be sent at all stays.
    pub(crate) body: &'a mut Body,
    /// While the client's body still moves, or is waited for, the upstream is not slow.
    pub(crate) progress: Rc<Progress>,
    /// Where its attempts are recorded, if they are.
    pub(crate) traced: Option<Rc<Traced>>,
    pub(crate) waits: Waits,
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

/// How often a request that the other side did not look at is sent again.
const MOST_UNPROCESSED: u32 = 3;

/// What is left to try.
#[derive(Default)]
struct Tries {
    tried: Tried,
    retries: u32,
    /// Before the next retry.
    pause: Duration,
    /// How often it was sent for nothing.
    unprocessed: u32,
    /// Of `limits.retries`, while one is under way.
    retrying: Option<Permit>,
}

impl WorkerUpstream {
    pub(crate) fn new(shared: Arc<Shared>, counts: Arc<UpstreamCounts>) -> Self {
        let mut targets = shared.watch_targets();
        let list = worker_targets(&shared, &targets.borrow_and_update(), &[]);
        Self {
            targets: RefCell::new((targets, list)),
            chooser: Chooser::new(),
            budget: Budget::new(),
            shared,
            counts,
        }
    }

    /// Whether it is this worker's part of that upstream.
    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// `response-timeout`
    pub(crate) fn response_timeout(&self) -> Duration {
        self.shared.config.response_timeout
    }

    /// Where requests may go now. A target that stays keeps its connections.
    fn targets(&self) -> WorkerTargets {
        let mut targets = self.targets.borrow_mut();
        let (seen, list) = &mut *targets;
        // An error would mean that the upstream is gone, which this holds.
        if seen.has_changed().unwrap_or(false) {
            let now = seen.borrow_and_update();
            *list = worker_targets(&self.shared, &now, list);
        }
        list.clone()
    }

    /// Waits until the names of an upstream that has nothing else were looked up for the first time.
    async fn first_targets(&self) -> Result<WorkerTargets, Failure> {
        let limit = self.shared.config.connect_timeout;
        let mut seen = self.shared.watch_targets();
        let known = |targets: &Arc<Targets>| !targets.list.is_empty() || targets.pending == 0;
        let name = &self.shared.name;
        let targets = match tokio::time::timeout(limit, seen.wait_for(known)).await {
            Ok(Ok(targets)) => targets.clone(),
            Ok(Err(_)) | Err(_) => {
                let why =
                    format!("upstream `{name}`: its names were not resolved within {limit:?}");
                return Err(Failure::gateway_timeout(why));
            }
        };
        match &targets.failure {
            Some(why) if targets.list.is_empty() => {
                Err(Failure::bad_gateway(format!("upstream `{name}`: {why}")))
            }
            _ => Ok(self.targets()),
        }
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// A target that cannot be connected to is passed over for the next one. A request that an old connection
    /// swallowed is sent again when that is safe: an idempotent method (RFC 9110 §9.2.2) without a body. What else is
    /// sent again, `retry` says.
    ///
    /// # Errors
    ///
    /// The upstream's fault (502, 504), a limit of it (503), or the client's when its body cannot be read (400, 408,
    /// 413).
    pub(crate) async fn send(
        &self,
        mut outgoing: Outgoing<'_>,
        chosen: &mut Option<Arc<str>>,
    ) -> Result<Response<Body>, Failure> {
        let request = self.shared.limits.admit_request();
        let request = request.map_err(|Exhausted| self.refused(Refused::Requests))?;
        let mut counted = Counted {
            counts: &self.counts,
            started: Instant::now(),
            status: None,
        };
        let sent = self.send_to_any(&mut outgoing, chosen, request).await;
        counted.status = sent.as_ref().ok().map(Response::status);
        sent
    }

    fn refused(&self, limit: Refused) -> Failure {
        self.counts.refused(limit);
        let (name, limit) = (&self.shared.name, limit.as_str());
        let why = format!("upstream `{name}`: its `limits.{limit}` is reached");
        Failure::host(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    async fn send_to_any(
        &self,
        outgoing: &mut Outgoing<'_>,
        chosen: &mut Option<Arc<str>>,
        permit: Permit,
    ) -> Result<Response<Body>, Failure> {
        let mut targets = self.targets();
        if targets.is_empty() {
            targets = Box::pin(self.first_targets()).await?;
        }
        let (config, mut tries) = (&self.shared.config, Tries::default());
        let key = balance::key(&config.balance, outgoing.head, outgoing.client);
        if let Some(retry) = &config.retry {
            self.budget.earn(retry.budget);
        }
        let mut unsent: Option<Failure> = None;
        loop {
            let Some(at) = self.next(&targets, key, &tries) else {
                // Each was tried, and nothing was sent.
                if self.may_retry(outgoing, Outcome::Unsent, &mut tries) {
                    Box::pin(sleep(tries.pause)).await;
                    tries.tried.unsent.clear();
                    continue;
                }
                return Err(unsent.unwrap_or_else(|| Failure::bad_gateway("there is no endpoint")));
            };
            let target = &targets[at];
            *chosen = Some(target.shared.name.clone());
            let body = std::mem::replace(outgoing.body, Body::empty());
            let mut spare = body.again();
            if let Some(traced) = &outgoing.traced {
                traced.attempt(&target.shared.name);
            }
            let sent = self.send_to(target, outgoing, body, &permit).await;
            if let Some(traced) = &outgoing.traced {
                traced.attempted(attempt::in_short(&sent));
            }
            let (outcome, response) = match sent {
                Ok(response) => {
                    let status = response.status();
                    self.note(target, !status.is_server_error());
                    (Outcome::Answered(status), Ok(response))
                }
                Err(Attempt::Unsent(body, failure)) => {
                    *outgoing.body = body;
                    self.counts.happened(Incident::Unconnected);
                    target.shared.avoid();
                    self.note(target, false);
                    unsent = Some(match unsent {
                        Some(earlier) => both(earlier, failure),
                        None => failure,
                    });
                    tries.tried.unsent.push(at);
                    continue;
                }
                Err(Attempt::Overloaded(body, failure)) => {
                    *outgoing.body = body;
                    return Err(failure);
                }
                Err(Attempt::Refused(failure)) => return Err(failure),
                Err(Attempt::Unprocessed(failure)) => {
                    if tries.unprocessed < MOST_UNPROCESSED
                        && let Some(spare) = spare.take()
                    {
                        tries.unprocessed += 1;
                        *outgoing.body = spare;
                        continue;
                    }
                    (Outcome::Reset, Err(failure))
                }
                Err(Attempt::Broken(failure) | Attempt::Stale(failure)) => {
                    self.note(target, false);
                    (Outcome::Reset, Err(failure))
                }
                Err(Attempt::Late(failure)) => {
                    self.note(target, false);
                    (Outcome::Late, Err(failure))
                }
            };
            let Some(spare) = spare.filter(|_| self.may_retry(outgoing, outcome, &mut tries))
            else {
                return response;
            };
            drop(response);
            tries.tried.answered.push(at);
            Box::pin(sleep(tries.pause)).await;
            *outgoing.body = spare;
        }
    }

    /// The target for the next attempt, by its place.
    fn next(&self, targets: &WorkerTargets, key: Option<u64>, tries: &Tries) -> Option<usize> {
        let config = &self.shared.config;
        let by = (&config.balance, key);
        let choice = (self.chooser).choose(targets, config.slow_start, by, &tries.tried)?;
        self.shared.note_choice(choice.good);
        if !choice.good {
            self.counts.happened(Incident::AllBad);
        }
        Some(choice.at)
    }

    /// Whether one more attempt is wanted, safe and possible; then it is counted. Nothing of a request that went unsent
    /// was seen by anybody, so that it may be any.
    fn may_retry(&self, outgoing: &Outgoing<'_>, outcome: Outcome, tries: &mut Tries) -> bool {
        let Some(retry) = &self.shared.config.retry else {
            return false;
        };
        let safe = outcome == Outcome::Unsent
            || is_idempotent(&outgoing.head.method) && outgoing.upgrade.is_none();
        if !safe || !retry::is_named(&retry.on, outcome) || tries.retries >= retry.attempts {
            return false;
        }
        let pause = retry::back_off(retry, tries.retries, self.chooser.random());
        if outgoing.waits.are_over_in(pause) {
            return false;
        }
        if !self.budget.spend() {
            self.counts.refused(Refused::Budget);
            return false;
        }
        if tries.retrying.is_none() {
            match self.shared.limits.admit_retry() {
                Ok(permit) => tries.retrying = Some(permit),
                Err(Exhausted) => {
                    self.counts.refused(Refused::Retries);
                    return false;
                }
            }
        }
        tries.retries += 1;
        tries.pause = pause;
        self.counts.happened(Incident::Retried);
        true
    }

    /// What passive ejection goes by.
    fn note(&self, target: &WorkerTarget, well: bool) {
        match well {
            true => target.shared.succeeded(),
            false if self.shared.failed(&target.shared) => self.counts.happened(Incident::Ejected),
            false => {}
        }
    }

    /// One attempt, by whichever version the target speaks.
    async fn send_to(
        &self,
        target: &Rc<WorkerTarget>,
        outgoing: &Outgoing<'_>,
        body: Body,
        permit: &Permit,
    ) -> Result<Response<Body>, Attempt> {
        match (self.shared.config.protocol, outgoing.upgrade) {
            (Protocol::Http1, _) | (Protocol::Auto, Some(_)) => {}
            (Protocol::Auto, None) if target.speaks_http1.get() => {}
            (Protocol::Http2, Some(_)) => {
                let why = "an upgrade is of HTTP/1.1, and the upstream has `protocol = \"h2\"`";
                return Err(Attempt::Overloaded(body, Failure::bad_gateway(why)));
            }
            (Protocol::Http2 | Protocol::Auto, None) => {
                return Box::pin(self.send_http2(target, outgoing, body, permit)).await;
            }
        }
        self.send_http1(target, outgoing, body, permit).await
    }

    /// One attempt by HTTP/2: a place on a connection that is there, or a new one.
    async fn send_http2(
        &self,
        target: &Rc<WorkerTarget>,
        outgoing: &Outgoing<'_>,
        mut body: Body,
        permit: &Permit,
    ) -> Result<Response<Body>, Attempt> {
        let (endpoint, encrypted) = (&target.shared.endpoint, self.shared.config.tls.is_some());
        let name = &target.shared.name;
        loop {
            let (used, reused) = match target.stream() {
                Some(stream) => (Used::Stream(stream), true),
                None => match self.open_http2(target, outgoing).await {
                    Ok(opened) => opened,
                    Err(Unconnected::Failed(why)) => return Err(Attempt::Unsent(body, why)),
                    Err(Unconnected::Refused(why)) => return Err(Attempt::Overloaded(body, why)),
                },
            };
            let request = match &used {
                Used::Stream(_) => request_http2(outgoing, endpoint, encrypted, body),
                Used::Whole(_) => request(outgoing, endpoint, body),
            };
            let lease = Lease::new(target.clone(), used, permit.clone());
            match attempt(begin(lease, request), false, outgoing, name).await {
                // The connection ended before; with each of these there is one less.
                Err(Attempt::Unsent(whole, _)) if reused => body = whole,
                sent => return sent,
            }
        }
    }

    /// One attempt by HTTP/1.1: an old connection, or a new one.
    async fn send_http1(
        &self,
        target: &Rc<WorkerTarget>,
        outgoing: &Outgoing<'_>,
        mut body: Body,
        permit: &Permit,
    ) -> Result<Response<Body>, Attempt> {
        let (endpoint, name) = (&target.shared.endpoint, &target.shared.name);
        let replayable = is_idempotent(&outgoing.head.method)
            && outgoing.upgrade.is_none()
            && http_body::Body::is_end_stream(&body);
        // An old connection first. One that turns out dead costs nothing, and the next one is tried.
        while let Some(connection) = target.take() {
            let lease = Lease::new(target.clone(), Used::Whole(connection), permit.clone());
            let going = begin(lease, request(outgoing, endpoint, body));
            match attempt(going, true, outgoing, name).await {
                Err(Attempt::Unsent(whole, _)) => body = whole,
                // Sent again once, on a new connection: a request that ends its upstream must not go through all of
                // them.
                Err(Attempt::Stale(_)) if replayable => {
                    body = Body::empty();
                    break;
                }
                sent => return sent,
            }
        }
        let used = match Box::pin(self.connect(target, outgoing, true)).await {
            Ok(Opened::Http1(connection)) => Used::Whole(connection),
            Ok(Opened::Http2(connection)) => Used::Stream(target.keep(connection)),
            Err(Unconnected::Failed(failure)) => return Err(Attempt::Unsent(body, failure)),
            Err(Unconnected::Refused(failure)) => return Err(Attempt::Overloaded(body, failure)),
        };
        let lease = Lease::new(target.clone(), used, permit.clone());
        let going = begin(lease, request(outgoing, endpoint, body));
        attempt(going, false, outgoing, name).await
    }

    /// Closes connections that were unused for too long.
    pub(crate) fn sweep(&self) {
        self.targets().iter().for_each(|target| target.sweep());
    }
}

/// What this worker has of each target, taken over where it has it already.
fn worker_targets(
    shared: &Shared,
    targets: &Targets,
    before: &[Rc<WorkerTarget>],
) -> WorkerTargets {
    let config = &shared.config;
    let target = |target: &Arc<Target>| {
        let same = before.iter().find(|old| Arc::ptr_eq(&old.shared, target));
        same.cloned().unwrap_or_else(|| {
            let (most, longest) = (config.idle_connections, config.idle_timeout);
            Rc::new(WorkerTarget::new(target.clone(), most, longest))
        })
    };
    targets.list.iter().map(target).collect()
}

/// What is said when several targets could not be connected to: the first reasons, since they are seldom the same.
fn both(earlier: Failure, later: Failure) -> Failure {
    /// Enough for a few targets.
    const LONGEST: usize = 500;
    let reason = match earlier.reason.len() {
        LONGEST.. => earlier.reason,
        _ => format!("{}; {}", earlier.reason, later.reason).into(),
    };
    Failure { reason, ..later }
}
